"""How far a running agent came: what its log tells while it is written. The log is the only source, and only read.

Whole logs are not understood: a search finds the few lines that can tell of tokens, and what it does now stands at the
end. A log of 5 MB costs `status` some 15 ms that way, twice as much if it were read line by line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from octopoid import regular
from octopoid.adapters import ADAPTERS, base
from octopoid.adapters.events import MESSAGE, NOTE, RETRY, STARTED, TOOL, USAGE, Hear, at_home
from octopoid.results import clean
from octopoid.runview import Progress
from octopoid.tally import Tally

LONGEST = 64 << 20
"""Bytes of a log that are searched for tokens; of a longer one nobody knows the sum."""
TAIL = 1 << 20
"""Bytes at its end in which stands what the agent does."""
HEAD = 64 << 10
"""Bytes at its beginning in which the program says what it is."""
DOING = 60
"""Characters."""
_NEEDLE = b"oken"
"""What every record contains that tells of tokens, whatever program it is of."""


def progress(log: Path, adapter: str, model: str = "", home: str = "") -> Progress:
    """How far the agent came that writes `log`; nothing is known where there is none, or nobody can read it.

    `model`: the one that it was started with, "" = let its log say so. `home`: its worktree; paths are told from there.
    """
    hear = partial(base.hear, ADAPTERS[adapter]) if adapter in ADAPTERS else _text
    try:
        with regular.opened(log) as file:
            long = os.fstat(file.fileno()).st_size > LONGEST
            data = file.read(HEAD if long else -1)
            if long:
                file.seek(-TAIL, os.SEEK_END)
            end = file.read() if long else data
    except OSError:
        return Progress()
    tally = Tally(model)
    for line in _telling(data):
        for event in hear(line) or ():
            tally.add(event, len(line) + 1)
    doing, retrying = _now(end, hear, home)
    if long:
        return Progress(model=tally.model, doing=doing, retrying=retrying)
    return Progress(tally.turns, tally.usage(), tally.model, doing, retrying)


def _telling(data: bytes) -> Iterator[bytes]:
    """The lines at its beginning, then those that may tell of tokens."""
    head = data.rfind(b"\n", 0, HEAD) + 1
    yield from data[:head].splitlines()
    at = data.find(_NEEDLE, head)
    while at >= 0 and (end := data.find(b"\n", at)) >= 0:  # the last line may be half written
        yield data[data.rfind(b"\n", 0, at) + 1 : end]
        at = data.find(_NEEDLE, end)


def _now(data: bytes, hear: Hear, home: str) -> tuple[str, str]:
    """What it does, and why the model does not answer ("" where it does): the last words about that."""
    retrying, text, said, answered = "", "", "", False
    for line in _backwards(data):
        events = hear(line)
        if events is None:
            text = text or _short(line.decode("utf-8", "replace"))
        for event in reversed(events or ()):
            if said and event.kind not in (MESSAGE, USAGE):
                return _short(said), retrying
            if event.kind == RETRY and not answered:
                wait = f", waits {event.wait:.0f} s" if event.wait >= 1 else ""
                retrying = (_short(event.text) or "no answer") + wait
            if event.kind == TOOL:
                asked = at_home(event, home).text
                return _short(f"{event.name}: {asked}" if event.name else asked), retrying
            if event.kind == MESSAGE:
                said = event.text + said
                if not event.part:
                    return _short(said), retrying
            answered = answered or event.kind not in (NOTE, STARTED)
    return _short(said) or text, retrying


def _backwards(data: bytes) -> Iterator[bytes]:
    """Whole lines from the end on."""
    end = data.rfind(b"\n")
    least = max(0, end - TAIL)
    while end > least:
        begin = data.rfind(b"\n", 0, end) + 1
        yield data[begin:end]
        end = begin - 1


def _short(said: str) -> str:
    """The first line that says something."""
    first = next((line.strip() for line in clean(said[: 4 * DOING]).splitlines() if line.strip()), "")
    return first if len(first) <= DOING else f"{first[: DOING - 1]}…"


def _text(_line: bytes) -> None:
    """What a program prints that nobody knows is text."""
