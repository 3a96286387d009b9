"""`octopoid events`."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import Annotated

import typer

from octopoid import journal
from octopoid.cli import common
from octopoid.layout import Layout

cli = typer.Typer()

_POLL = 0.2


@cli.command(epilog=common.examples("octopoid events", "octopoid events -f --json", "octopoid events --since 120"))
def events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    since: Annotated[int, typer.Option("--since", min=0, metavar="N", help="Only those after number N.")] = 0,
    as_json: common.Json = False,
) -> None:
    """Print what happened, one line per transition, the oldest first.

    --json prints one object; with -f one object per line, as it happens. --since 0 with -f begins at the beginning.
    """
    layout = common.layout()
    if as_json and not follow:
        common.emit("events", events=[journal.plain(one) for one in journal.read(layout, since)])
        return
    last = _print(layout, since, as_json)
    while follow:
        sys.stdout.flush()
        size = _size(layout)
        while _size(layout) == size:
            time.sleep(_POLL)
        last = _print(layout, last, as_json)
    common.next_step("octopoid events -f" if last else 'octopoid enqueue "What is to be done"')


def _print(layout: Layout, since: int, as_json: bool) -> int:
    """Print what came after number `since`; the number of the last one."""
    for one in journal.read(layout, since):
        since = one.seq
        common.data(common.json_text(journal.plain(one))) if as_json else common.out(_line(one))
    return since


def _line(one: journal.Event) -> str:
    moment = datetime.fromtimestamp(one.at).astimezone().strftime("%m-%d %H:%M:%S") if common.terminal() else ""
    record = journal.plain(one)
    way = f"{one.leaves or '·'} → {one.enters or '·'}" if one.leaves or one.enters else "·"
    detail = common.one_line(one.detail)
    task = f"{one.task or '-':<24}"
    return f"{one.seq:>5}  {moment or record['at']}  {one.event:<8}  {task}  {way}  {one.by}  {detail}".rstrip()


def _size(layout: Layout) -> int:
    try:
        return layout.events.stat().st_size
    except FileNotFoundError:
        return 0
