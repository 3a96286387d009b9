"""How far a running agent came: what its log tells while it is written. The log is the only source, and only read.

Whole logs are not understood: a search finds the few lines that can tell of tokens, and what it does now stands at the
end. A log of 5 MB costs `status` some 15 ms that way, twice as much if it were read line by line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from octopoid import prices
from octopoid.adapters import ADAPTERS, base
from octopoid.adapters.events import ENDED, MESSAGE, NOTE, RETRY, STARTED, TOOL, USAGE, Event, Hear, at_home
from octopoid.model import Usage
from octopoid.results import clean
from octopoid.runview import Progress

LONGEST = 64 << 20
"""Bytes of a log that are searched for tokens; of a longer one nobody knows the sum."""
TAIL = 1 << 20
"""Bytes at its end in which stands what the agent does."""
HEAD = 64 << 10
"""Bytes at its beginning in which the program says what it is."""
DOING = 60
"""Characters."""
_NEEDLE = b"oken"
"""What a record contains that tells of tokens."""
_NEEDLES = {"mini-swe-agent": b'"usage"'}
"""Of programs whose records do not."""

Cost = Callable[[str, Usage], float | None]


def priced(model: str, used: Usage) -> float | None:
    """What one answer cost: what the program says, else by the table of prices; None = unknown."""
    return prices.estimate(used, model, one=True).usd


class Tally:
    """Adds up the events of a run. What the program says of the whole run counts before the sum of its answers."""

    def __init__(self, model: str = "", cost: Cost = priced) -> None:
        self.model = model
        self._cost = cost
        self._whole = Event(ENDED)
        self._seen: set[str] = set()
        self._answers: dict[str, Event] = {}

    @property
    def answers(self) -> int:
        """How often the model answered the agent itself since the last sum that the program told."""
        return sum(one.turns or int(not one.inside) for one in self._answers.values())

    def add(self, event: Event) -> None:
        """Take one more event into account; most say nothing about what was used."""
        if event.kind == STARTED:
            self.model = event.model or self.model
        elif event.kind == USAGE:
            answer = event.answer or f" {len(self._answers)}"
            if answer not in self._seen:
                self._answers[answer] = event
        elif event.kind == ENDED and event.usage != Usage():
            self._whole = event
            self._seen |= self._answers.keys()
            self._answers = {}

    def sum(self) -> Progress:
        """What is known so far. `least`: of some answer it is not told how much the model wrote."""
        each = [self._whole.usage, *(one.usage for one in self._answers.values())]
        known = [one for one in each if one != Usage()]
        costs = [self._of(one) for one in self._answers.values()]
        costs += [self._of(self._whole)] if self._whole.usage != Usage() else []
        turns = (self._whole.turns or 0) + self.answers
        return Progress(
            turns or None,
            _sum([one.input_tokens for one in known]),
            _sum([one.output_tokens for one in known]),
            _sum([one.cached_tokens for one in known]),
            None if not costs or None in costs else sum(filter(None, costs)),
            least=any(one.usd is None and one.output_tokens is None for one in known),
            model=self.model or next((one.model for one in self._answers.values() if one.model), ""),
        )

    def _of(self, event: Event) -> float | None:
        used = event.usage if event.usage.output_tokens is not None else event.usage._replace(output_tokens=0)
        return used.usd if used.usd is not None else self._cost(event.model or self.model, used)


def progress(log: Path, adapter: str, model: str = "", cost: Cost = priced, home: str = "") -> Progress:
    """How far the agent came that writes `log`; nothing is known where there is none, or nobody can read it.

    `model`: the one that it was started with, "" = let its log say so. `home`: its worktree; paths are told from there.
    """
    hear = partial(base.hear, ADAPTERS[adapter]) if adapter in ADAPTERS else _text
    try:
        with log.open("rb") as file:
            long = os.fstat(file.fileno()).st_size > LONGEST
            data = file.read(HEAD if long else -1)
            if long:
                file.seek(-TAIL, os.SEEK_END)
            end = file.read() if long else data
    except OSError:
        return Progress()
    tally = Tally(model, cost)
    for line in _telling(data, _NEEDLES.get(adapter, _NEEDLE)):
        for event in hear(line) or ():
            tally.add(event)
    found = Progress(model=tally.model) if long else tally.sum()
    doing, retrying = _now(end, hear, home)
    return found._replace(doing=doing, retrying=retrying)


def _telling(data: bytes, needle: bytes) -> Iterator[bytes]:
    """The lines at its beginning, then those that may tell of tokens."""
    head = data.rfind(b"\n", 0, HEAD) + 1
    yield from data[:head].splitlines()
    at = data.find(needle, head)
    while at >= 0 and (end := data.find(b"\n", at)) >= 0:  # the last line may be half written
        yield data[data.rfind(b"\n", 0, at) + 1 : end]
        at = data.find(needle, end)


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


def _sum(each: list[int | None]) -> int | None:
    """Where one of them is unknown, so is the sum."""
    return None if not each or None in each else sum(filter(None, each))


def _text(_line: bytes) -> None:
    """What a program prints that nobody knows is text."""
