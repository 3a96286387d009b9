"""`octopoid wait`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from octopoid import look, needs, store, views
from octopoid.cli import common, reading
from octopoid.errors import BudgetSpent, NeedsPerson, TimedOut
from octopoid.layout import Layout
from octopoid.model import Pauses
from octopoid.states import SATISFYING, State

cli = typer.Typer()

_POLL = 0.1
_NET = 1.0
"""Seconds. The times of folders move in steps; this often everything is looked at in any case."""


@cli.command(epilog=common.examples("octopoid wait add-dark-mode", "octopoid wait a b c --any --timeout 600"))
def wait(
    words: common.Ids,
    first: Annotated[bool, typer.Option("--any", help="Until one of them is done or stuck, not all.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=0, metavar="S", help="Seconds; 0 = for ever.")] = 0.0,
) -> None:
    """Wait until tasks are done. Prints each one's end as it comes.

    Exit code 0: done. 6: one failed, was cancelled, or needs a person. 7: nothing but a spent budget holds them.
    124: the time is over. 3: no such task.
    """
    layout = common.layout()
    ids = common.resolve(layout, words)
    observer = look.Observer(layout)
    ended: dict[str, str] = {}
    deadline = time.monotonic() + timeout
    while True:
        before = _stamps(layout, ids)
        for task, reason, detail in _ends(layout, observer, [one for one in ids if one not in ended]):
            ended[task] = reason
            common.out(f"{task}  {reason}: {common.one_line(detail)}" if detail else f"{task}  {reason}")
            sys.stdout.flush()
        if len(ended) == len(ids) or (first and ended):
            break
        _sleep(layout, ids, before, deadline if timeout else None)
    stuck = {task: reason for task, reason in ended.items() if reason != "done"}
    if stuck:
        error = BudgetSpent if {*stuck.values()} == {"budget"} else NeedsPerson
        raise error(f"not done: {', '.join(stuck)}", f"octopoid why {next(iter(stuck))}")
    common.next_step(f"octopoid diff {next(iter(ended))}")


def _ends(layout: Layout, observer: look.Observer, ids: list[str]) -> Iterable[tuple[str, str, str]]:
    """The tasks that will not go on by themselves, each with `done` or a word and a sentence: why it does not."""
    looked = observer.look()
    found = reading.Found(observer, looked)
    waits = reading.waits(layout, found)
    for task in ids:
        state, item = looked.ids.get(task), looked.get(task)
        if state in SATISFYING:
            yield task, "done", ""
        elif state is State.CANCELLED:
            yield task, "cancelled", ""
        elif state is None and _vanished(layout, task):
            yield task, "gone", "its file vanished"
        elif item is None:
            continue
        elif needs.stuck(item, waits) or needs.stuck_subtask(item, looked, waits):
            yield task, *views.why(item, looked, 0.0, Pauses(), waits)


def _vanished(layout: Layout, task: str) -> bool:
    """It is nowhere, also not on its way from one folder to another."""
    for _ in range(3):
        if store.find(layout, task) is not None:
            return False
        time.sleep(_POLL)
    return True


def _sleep(layout: Layout, ids: list[str], before: list[int], deadline: float | None) -> None:
    """Until something changed, or it is time to look in any case. Raises TimedOut."""
    net = time.monotonic() + _NET
    while _stamps(layout, ids) == before and time.monotonic() < net:
        if deadline is not None and time.monotonic() >= deadline:
            raise TimedOut("the time is over", f"octopoid why {ids[0]}")
        time.sleep(_POLL if deadline is None else max(0.0, min(_POLL, deadline - time.monotonic())))


def _stamps(layout: Layout, ids: list[str]) -> list[int]:
    """The times of the queue's folders and of the evidence of `ids`."""
    folders = [layout.folder(state) for state in State]
    for task in ids:
        entries = layout.entries(task)
        folders.append(entries)
        folders += sorted(entries.glob("[0-9]*"), key=lambda one: int(one.name))[-1:]
    return [_time(folder) for folder in folders]


def _time(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0
