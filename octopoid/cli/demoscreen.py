"""What the demos share: how one is told, line by line, with a last line that is alive on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from octopoid import demo, git
from octopoid.cli import common, group
from octopoid.layout import Layout


class Tale(NamedTuple):
    """One of the demos. `run`, from the moment `began` (monotonic): the exit status of the scheduler.

    `show`: the result, in the colours of `--color`; what is wrong with it. `look`: commands to go on with, each with
    what it shows.
    """

    make: Callable[[Path], Layout]
    introduce: Callable[[Layout], None]
    run: Callable[[Layout, float], int]
    show: Callable[[Layout, float, str], tuple[str, ...]]
    look: Callable[[Layout], Mapping[str, str]]


class Display(NamedTuple):
    """Where the progress goes: lines that stay, and one that is drawn again and again (on a terminal only)."""

    line: Callable[[str], None]
    footer: Callable[[str], None]


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


def told(shown: Display, began: float) -> Callable[[str], None]:
    """How the scheduler speaks: each text with its time since `began` (monotonic), further lines below it."""

    def say(text: str) -> None:
        lines = common.clean_text(text).splitlines() or [""]
        shown.line(f"{time.monotonic() - began:5.1f} s  {lines[0]}")
        for line in lines[1:]:
            shown.line(f"         {line}")

    return say


def scratch(layout: Layout) -> None:
    """Say what there is to begin with."""
    runner = "pytest" if "pytest" in demo.test_command() else "unittest"
    common.say(f"A scratch repository: {layout.root}")
    common.say(f"In it: textkit, a small Python package with a test suite, run by {runner}.")


def steps(rows: Mapping[str, str]) -> None:
    """Say what comes, a line for each."""
    width = max(map(len, rows))
    for name, what in rows.items():
        common.say(f"  {name:{width}}  {what}")
    common.say("")


def board(layout: Layout, color: str) -> None:
    """The board and the history."""
    command(layout, color, "status")
    common.out("\n$ git log --graph --oneline")
    common.data(git.log_graph(layout.root, 40, common.color()).rstrip())


def command(layout: Layout, color: str, *words: str) -> None:
    """Run a command of ours in the scratch repository, named as a person would type it there."""
    common.out(f"\n$ octopoid {' '.join(words)}")
    group.run(["--root", str(layout.root), "--color", color, *words])
