"""`octopoid log`."""

from __future__ import annotations

import codecs
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from octopoid import clock, lifecycle, locks
from octopoid.adapters import ADAPTERS
from octopoid.adapters.events import Hear, told
from octopoid.cli import common, reading
from octopoid.errors import NotFound
from octopoid.layout import Layout
from octopoid.model import Entry

cli = typer.Typer()

_CHUNK = 64 * 1024
_POLL = 0.1
_LONGEST_LINE = 64 * 1024
"""Characters that are held back at most until a line is complete."""
_LONGEST_RECORD = 8 * 1024 * 1024
"""Bytes that are held back at most until a record of a program is complete."""


@cli.command(
    epilog=common.examples("octopoid log add-dark-mode", "octopoid log -f add-d", "octopoid log add-d --attempt 2")
)
def log(
    word: common.Id,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the attempt is over.")] = False,
    number: Annotated[
        int | None,
        typer.Option("--attempt", "-n", min=1, help="This entry (octopoid show lists them), not the newest."),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Every byte as its program printed it.")] = False,
) -> None:
    """Print what an attempt or a gate's run printed: the newest one, unless you say which.

    What an agent program prints for programs is shown as text, the same for every one of them. On a terminal escapes
    and control characters are taken out.
    """
    layout = common.layout()
    task = lifecycle.resolve(layout, word)
    entry = _entry(layout, task, number) if number else _newest(layout, task, follow)
    folder = layout.entry(task, entry.number)
    common.say(f"{layout.short(folder / 'output.log')}: {_about(entry)}{_others(layout, task, entry)}")
    write = _raw if raw or not common.terminal() else _clean()
    adapter = ADAPTERS.get(entry.opening.adapter)
    if adapter and not raw:
        write = _told(adapter.hear, write)
    for data in _follow(folder) if follow else _read(folder / "output.log"):
        write(data)
    write(b"")
    if follow:
        entry = _entry(layout, task, entry.number)
        common.say(_about(entry))
    common.next_step(f"octopoid log -f {task}" if entry.outcome is None else f"octopoid show {task}")


def _newest(layout: Layout, task: str, follow: bool) -> Entry:
    """The newest entry in which a program ran; with `follow` the first one is waited for."""
    told = False
    while True:
        logged = [one for one in reading.entries(layout, task) if _log_of(layout, task, one).exists()]
        if logged:
            return logged[-1]
        if not follow:
            raise NotFound(f"nothing ran for {task} yet", f"octopoid why {task}")
        if not told:
            common.say(f"nothing ran for {task} yet: waiting for its first attempt (octopoid why {task})")
            told = True
        time.sleep(_POLL)


def _entry(layout: Layout, task: str, number: int) -> Entry:
    entries = reading.entries(layout, task)
    found = next((one for one in entries if one.number == number), None)
    if found is None or not _log_of(layout, task, found).exists():
        known = ", ".join(str(one.number) for one in entries if _log_of(layout, task, one).exists())
        raise NotFound(f"{task} has no log {number}", f"there are: {known}" if known else f"octopoid why {task}")
    return found


def _log_of(layout: Layout, task: str, entry: Entry) -> Path:
    return layout.entry(task, entry.number) / "output.log"


def _others(layout: Layout, task: str, shown: Entry) -> str:
    """The other logs of the task, by their numbers."""
    logged = [one for one in reading.entries(layout, task) if _log_of(layout, task, one).exists()]
    others = [f"{one.number} ({_what(one)})" for one in logged if one.number != shown.number]
    return f"; with --attempt: {', '.join(others)}" if others else ""


def _what(entry: Entry) -> str:
    opening = entry.opening
    return opening.gate or f"{opening.kind} {opening.attempt or entry.number}"


def _about(entry: Entry) -> str:
    opening, outcome = entry.opening, entry.outcome
    who = f" by {opening.agent}" if opening.agent else ""
    if outcome is None:
        return f"{_what(entry)}{who}, since {clock.iso(opening.at)}"
    end = outcome.verdict or outcome.reason or outcome.class_ or "ended"
    detail = f": {common.one_line(outcome.detail)}" if outcome.detail else ""
    return f"{_what(entry)}{who}, {end}{detail}"


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            yield data


def _follow(folder: Path) -> Iterator[bytes]:
    """What is in the log and what is still written to it, until the entry is closed or nobody holds its lock."""
    with (folder / "output.log").open("rb") as file:
        while True:
            over = (folder / "outcome.json").exists() or not locks.is_held(folder / "lock")
            data = file.read(_CHUNK)
            if data:
                yield data
                sys.stdout.flush()
            elif over:
                return
            else:
                time.sleep(_POLL)


def _raw(data: bytes) -> None:
    sys.stdout.buffer.write(data)


def _told(hear: Hear, onward: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """A writer that hands whole lines on as people read them; b"" hands on what is left."""
    held = b""

    def write(data: bytes) -> None:
        nonlocal held
        *lines, held = (held + data).split(b"\n")
        if held and (not data or len(held) > _LONGEST_RECORD):
            lines, held = [*lines, held], b""
        for line in lines:
            events = hear(line)
            if events is None:
                onward(line + b"\n")
                continue
            for text in filter(None, map(told, events)):
                onward(text.encode("utf-8", "replace") + b"\n")
        if not data:
            onward(b"")

    return write


def _clean() -> Callable[[bytes], None]:
    """A writer for terminals: whole lines, so that no escape sequence is cut in two; b"" writes what is left."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    held = ""

    def write(data: bytes) -> None:
        nonlocal held
        held += decoder.decode(data, final=not data)
        end = len(held) if not data or len(held) > _LONGEST_LINE else held.rfind("\n") + 1
        text, held = held[:end], held[end:]
        sys.stdout.write(common.clean_text(text.replace("\r\n", "\n").replace("\r", "\n")))

    return write
