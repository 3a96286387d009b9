"""`octopoid demo`: see it work, in a scratch repository."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from octopoid import daemon, demo, git
from octopoid.cli import common, overview
from octopoid.daemon import INTERRUPTED
from octopoid.layout import Layout
from octopoid.scheduler import Tick
from octopoid.states import State

cli = typer.Typer()

_LOOK = (
    (f"octopoid show {demo.SENT_BACK}", "its text, its attempts, its verdicts"),
    (f"octopoid log {demo.SENT_BACK}", "what its last attempt printed"),
    ("octopoid diff add-slugify", "what a task changed"),
    ("octopoid events", "everything that happened"),
    (f"octopoid edit {demo.INVALID}", "mend it, then: octopoid run --until-empty"),
)


class Display(NamedTuple):
    """Where the progress goes: lines that stay, and one that is drawn again and again (on a terminal only)."""

    line: Callable[[str], None]
    footer: Callable[[str], None]


@cli.command(
    epilog=common.examples("octopoid demo", "octopoid demo --dir /tmp/try-octopoid", "octopoid demo --no-keep")
)
def _demo(
    context: typer.Context,
    keep: Annotated[
        bool, typer.Option("--keep/--no-keep", help="Leave the scratch repository there, to look around in it.")
    ] = True,
    folder: Annotated[
        str, typer.Option("--dir", metavar="DIR", help="Make it in this new or empty folder, not in a temporary one.")
    ] = "",
) -> None:
    """Watch task files become commits, in a scratch repository, in about ten seconds.

    Task files, git, tests and scheduler are real; the agent follows a script, so it needs neither a key nor a network.
    Nothing outside the scratch repository is written.
    """
    began = time.monotonic()
    place = demo.find_place(folder)
    layout = demo.make(place)
    _introduce(place)
    demo.enqueue(layout, common.now())
    status = _run(layout, began)
    if status == INTERRUPTED:
        common.say(f"interrupted; what there is by now is in {place}")
        raise typer.Exit(INTERRUPTED)
    ending = demo.ending(layout)
    _show(layout, ending, str(context.find_root().params["color"]))
    _sum_up(ending, time.monotonic() - began)
    if ending.wrong or keep:
        _where_to_look(place)
    else:
        shutil.rmtree(place)
        common.say(f"{place} is removed again")
    raise typer.Exit(1 if ending.wrong else 0)


def _introduce(place: Path) -> None:
    runner = "pytest" if "pytest" in demo.test_command() else "unittest"
    common.say(f"A scratch repository: {place}")
    common.say(f"In it: textkit, a small Python package with a test suite, run by {runner}.")
    common.say(f"{len(demo.STORY)} task files for .octopoid/queue/incoming:")
    width = max(map(len, demo.STORY))
    for task, what in demo.STORY.items():
        common.say(f"  {task:{width}}  {what}")
    common.say("")


def _run(layout: Layout, began: float) -> int:
    """The scheduler, told line by line; one task is written into its folder while it works."""
    late = [True]
    with display() as shown:

        def say(text: str) -> None:
            lines = common.clean_text(text).splitlines() or [""]
            shown.line(f"{time.monotonic() - began:5.1f} s  {lines[0]}")
            for line in lines[1:]:
                shown.line(f"         {line}")

        def progress(tick: Tick) -> None:
            if late and late.pop():
                demo.drop(layout)
                say(f"{demo.LATE}: written into .octopoid/queue/incoming; it settles for 2 s")
            done = sum(1 for state in tick.look.ids.values() if state is State.DONE)
            at_work = sum(1 for item in tick.look.items if item.ledger.open)
            shown.footer(f"{done} of {len(demo.STORY) - 1} landed, {at_work} at work")

        return daemon.run(layout, until_empty=True, say=say, progress=progress)


@contextmanager
def display() -> Iterator[Display]:
    """Where to show the progress: a last line that is alive, on a terminal that may have colours."""
    if not (common.terminal() and sys.stderr.isatty() and common.color()):
        yield Display(common.say, lambda _: None)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False, markup=False)
    with console.status("", refresh_per_second=4) as status:
        yield Display(
            lambda line: console.print(Text(line), no_wrap=True, overflow="ellipsis"),
            lambda text: status.update(Text(text)),
        )


def _show(layout: Layout, ending: demo.Ending, color: str) -> None:
    """The board and the history, as the commands that are named show them; what was sent back; what is invalid."""
    told = demo.sent_back(layout)
    if told:
        common.say(f"\nThe checks sent {demo.SENT_BACK} back; the end of their output:")
        for line in told:
            common.say(f"  | {common.one_line(line)}")
    _heading("octopoid status")
    common.choose(str(layout.root), color)
    overview.show()
    _heading("git log --graph --oneline")
    common.out(git.log_graph(layout.root, 40, common.color()).rstrip())
    if ending.problem:
        common.say(f"\n{layout.short(ending.problem.path)} stays where it is, untouched:")
        common.say(f"  line {ending.problem.line}, column {ending.problem.column}: {ending.problem.message}")
        common.say(f"  {ending.problem.hint}")


def _heading(command: str) -> None:
    common.out(f"\n$ {command}")


def _sum_up(ending: demo.Ending, seconds: float) -> None:
    again = [f"{task} ({count} attempts)" for task, count in ending.attempts.items() if count > 1]
    common.say(f"\n{len(ending.commits)} tasks landed in {seconds:.1f} s.")
    common.say(f"Sent back and mended: {', '.join(again)}.")
    for sentence in ending.wrong:
        common.say(f"WRONG: {common.one_line(sentence)}")


def _where_to_look(place: Path) -> None:
    common.say("\nWhere to look:")
    common.say(f"  cd {shlex.quote(str(place))}")
    width = max(len(command) for command, _ in _LOOK)
    for command, what in _LOOK:
        common.say(f"  {command:{width}}  {what}")
    common.next_step("in a repository of yours: octopoid init")
