"""What `octopoid log` makes of the bytes of a log: text for people, the same for every program, or JSON for programs.

A writer takes the bytes as they come; b"" says that this was all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from octopoid.adapters.events import (
    DENIED,
    ENDED,
    NOTE,
    RESULT,
    RETRY,
    STARTED,
    THINKING,
    TOOL,
    USAGE,
    Event,
    Hear,
    at_home,
    spent,
    told,
)
from octopoid.cli import speak
from octopoid.credentials import Secret, hidden
from octopoid.model import Usage
from octopoid.tally import Tally

Write = Callable[[bytes], None]

LONGEST_TEXT = 64 * 1024
"""Bytes that are held back at most until a line is complete."""
LONGEST_RECORD = 8 * 1024 * 1024
"""Bytes that are held back at most until a record of a program is complete."""
OFTEN = 10
"""After that many answers of the model a line tells what was used so far."""

_BOLD, _DIM, _YELLOW, _CYAN, _RESET = "\x1b[1m", "\x1b[2m", "\x1b[33m", "\x1b[36m", "\x1b[0m"
_STYLES = {STARTED: _BOLD, THINKING: _DIM, RESULT: _DIM, RETRY: _YELLOW, DENIED: _YELLOW, NOTE: _DIM, ENDED: _BOLD}


def raw(data: bytes) -> None:
    """Every byte."""
    sys.stdout.buffer.write(data)


def hiding(write: Write, known: tuple[Secret, ...]) -> Write:
    """`write` without these secrets. It gets whole lines: a secret has none in it, and a piece of one is not found."""
    if not known:
        return write

    held = b""

    def hide(data: bytes) -> None:
        nonlocal held
        held += data
        end = held.rfind(b"\n") + 1 if data and len(held) < LONGEST_RECORD else len(held)
        text, held = held[:end].decode("utf-8", "surrogateescape"), held[end:]
        if text:
            write(hidden(text, known).encode("utf-8", "surrogateescape"))
        if not data:
            write(b"")

    return hide


def plain() -> Write:
    """For a terminal: whole lines, without escapes and control characters."""
    return _by_line(lambda line: _put(_readable(line) + "\n"), LONGEST_TEXT)


def as_json(hear: Hear) -> Write:
    """One object a line: what the program tells, and any other line as `text`."""

    def take(line: bytes) -> None:
        events = hear(line)
        if events is None:
            emit({"kind": "text", "text": line.decode("utf-8", "replace")})
        for event in events or ():
            emit(record(event))

    return _by_line(take, LONGEST_RECORD)


def emit(fields: dict[str, Any]) -> None:
    """One object as a line of its own."""
    sys.stdout.buffer.write(speak.json_text(fields).encode("utf-8", "replace") + b"\n")


def record(event: Event) -> dict[str, Any]:
    """An event as JSON: without the fields that say nothing."""
    said = {name: value for name, value in event._asdict().items() if value != Event._field_defaults.get(name)}
    if "usage" in said:
        known = event.usage._asdict().items()
        said["usage"] = {name: value for name, value in known if value != Usage._field_defaults[name]}
    return said


def as_text(hear: Hear, home: str) -> Write:
    """What the program tells as people read it, in colour where that may be; any other line as it stands.

    `home`: the agent's worktree; paths in it are told from there.
    """
    view = _View(hear, home)
    by_line = _by_line(view.take, LONGEST_RECORD)

    def write(data: bytes) -> None:
        by_line(data)
        if not data:
            view.end()

    return write


class _View:
    """What was written last decides how it goes on: deltas are joined, and a sum is told now and then."""

    def __init__(self, hear: Hear, home: str) -> None:
        self._hear = hear
        self._home = home
        self._color = speak.color()
        self._tally = Tally()
        self._told = 0  # answers that the last sum was about
        self._over = True
        self._goes_on = ("", False)  # the kind of message whose end is not there yet, and who says it

    def take(self, line: bytes) -> None:
        """A line of the log."""
        events = self._hear(line)
        if events is None:
            self._close()
            _put(_readable(line) + "\n") if speak.terminal() else raw(line + b"\n")
        for event in events or ():
            self._tally.add(event, len(line) + 1)
            if event.kind in (USAGE, ENDED):
                self._over = event.kind == ENDED
                self._told = 0 if self._over else self._told
            if event.part and event.text:
                self._part(event)
            else:
                self._whole(self._summed(event))

    def end(self) -> None:
        """That was all."""
        self._close()
        if not self._over:
            self._so_far()

    def _whole(self, event: Event) -> None:
        text = told(at_home(event, self._home))
        if text:
            self._close()
            _put(self._painted(event, speak.clean_text(text)) + "\n")
        if event.kind == RESULT and self._tally.answers >= self._told + OFTEN:
            self._so_far()

    def _part(self, event: Event) -> None:
        """A piece of a message: the first one begins a line, the others go on where it stopped."""
        begins = self._goes_on != (event.kind, event.inside)
        lead = ("  | " if event.inside else "") + ("~ " if event.kind == THINKING else "")
        text = speak.clean_text(event.text)
        if begins:
            self._close()
            self._goes_on = (event.kind, event.inside)
            text = text.lstrip()
        text = (lead if begins else "") + text.replace("\n", f"\n{lead}")
        _put(self._styled(text, _STYLES.get(event.kind, "")))

    def _close(self) -> None:
        if self._goes_on[0]:
            _put("\n")
            self._goes_on = ("", False)

    def _summed(self, event: Event) -> Event:
        """The end of a run whose program does not add up what it used."""
        if event.kind != ENDED or event.usage != Usage():
            return event
        return event._replace(
            usage=self._tally.usage(), turns=self._tally.turns if event.turns is None else event.turns
        )

    def _so_far(self) -> None:
        self._told = self._tally.answers
        said = spent(self._summed(Event(ENDED)))
        if said:
            _put(self._styled(f"= so far: {said}", _DIM) + "\n")

    def _painted(self, event: Event, text: str) -> str:
        if event.kind == TOOL:
            name = f"> {speak.clean_text(event.name)}"
            return text.replace(name, self._styled(name, _CYAN), 1)
        if event.kind == RESULT and event.error:
            mark, _, rest = text.partition("!")
            return mark + self._styled("!", _YELLOW) + self._styled(rest, _DIM)
        if event.kind == ENDED and event.error:
            first, _, rest = text.partition("\n")
            return "\n".join((self._styled(first, _BOLD), *([self._styled(rest, _YELLOW)] if rest else ())))
        return self._styled(text, _YELLOW if event.kind == NOTE and event.error else _STYLES.get(event.kind, ""))

    def _styled(self, text: str, style: str) -> str:
        """Each line for itself, as pagers want it."""
        if not (self._color and style):
            return text
        return "\n".join(f"{style}{line}{_RESET}" if line else line for line in text.split("\n"))


def _by_line(take: Callable[[bytes], None], longest: int) -> Write:
    """A writer that hands on whole lines, without their ends."""
    held = b""

    def write(data: bytes) -> None:
        nonlocal held
        *lines, held = (held + data).split(b"\n")
        if held and (not data or len(held) > longest):
            lines, held = [*lines, held], b""
        for line in lines:
            take(line)

    return write


def _readable(line: bytes) -> str:
    """A line of anybody's for a terminal."""
    text = line.decode("utf-8", "replace").removesuffix("\r")
    return speak.clean_text(text.replace("\r", "\n"))


def _put(text: str) -> None:
    if speak.terminal():
        sys.stdout.write(text)
    else:
        sys.stdout.buffer.write(text.encode("utf-8", "replace"))
