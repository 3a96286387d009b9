"""What a run used, added up from its events: while it goes on (`status`, `log`), and when it was cut off. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from octopoid import prices
from octopoid.adapters.events import ENDED, STARTED, USAGE, Event
from octopoid.model import Usage
from octopoid.prices import Price
from octopoid.results import MAX_MONEY

MAX_COUNT = 10**12
"""Tokens of one attempt: what says more than that is no count but nonsense."""
BYTES = 4
"""Bytes of an answer's records for a token that the model wrote, where that is not told (Claude Code's stream)."""


class Tally:
    """Adds up the events of a run. What the program says of the whole run counts before the sum of its answers."""

    def __init__(self, model: str = "", own: Mapping[str, Price] | None = None) -> None:
        """`model`: the one that it was started with, "" = let the events say so. `own`: the user's prices."""
        self._model = model
        self._own = own
        self._whole = Event(ENDED)
        self._seen: set[str] = set()
        self._answers: dict[str, tuple[Event, int]] = {}

    @property
    def answers(self) -> int:
        """How often the model answered the agent itself since the last sum that the program told."""
        return sum(one.turns or int(not one.inside) for one, _ in self._answers.values())

    @property
    def turns(self) -> int | None:
        """How often it answered in the whole run; None = never, or nobody tells."""
        return (self._whole.turns or 0) + self.answers or None

    @property
    def model(self) -> str:
        """The model that did most of it, as far as is known."""
        return self._model or next((one.model for one, _ in self._answers.values() if one.model), "")

    def add(self, event: Event, size: int = 0) -> None:
        """Take one more event into account; most say nothing about what was used. `size`: bytes of its record."""
        if event.kind == STARTED:
            self._model = event.model or self._model
        elif event.kind == USAGE:
            answer = event.answer or f" {len(self._answers)}"
            if answer not in self._seen:
                before = self._answers[answer][1] if answer in self._answers else 0
                self._answers[answer] = (event._replace(usage=plausible(event.usage)), before + size)
        elif event.kind == ENDED and event.usage != Usage():
            self._whole = event._replace(usage=plausible(event.usage))
            self._seen |= self._answers.keys()
            self._answers = {}

    def usage(self) -> Usage:
        """All of it. Where one part is unknown, so is the sum; money that is not told is estimated by prices."""
        parts = [self._priced(*one) for one in self._answers.values()]
        parts += [self._priced(self._whole, 0)] if self._whole.usage != Usage() else []
        money = bool(parts) and all(one.usd is not None for one in parts)
        return Usage(
            _sum([one.input_tokens for one in parts]),
            _sum([one.output_tokens for one in parts]),
            sum(one.usd or 0.0 for one in parts) if money else None,
            _sum([one.cached_tokens for one in parts]),
            next((one.priced for one in parts if one.priced), "") if money else "",
        )

    def _priced(self, event: Event, size: int) -> Usage:
        """Of what the model wrote the `size` of its records may be all that is told."""
        used = event.usage
        whole = used if used.output_tokens is not None else used._replace(output_tokens=size // BYTES)
        found = prices.estimate(whole, event.model or self.model, self._own, one=event.kind == USAGE)
        return used._replace(usd=found.usd, priced=found.priced)


def plausible(told: Usage) -> Usage:
    """Without what is no count of anything: that is unknown."""
    counts = (told.input_tokens, told.output_tokens, told.cached_tokens)
    read, written, cached = (one if one is not None and 0 <= one <= MAX_COUNT else None for one in counts)
    money = told.usd is not None and 0 <= told.usd <= MAX_MONEY
    return Usage(read, written, told.usd if money else None, cached, told.priced if money else "")


def _sum(each: list[int | None]) -> int | None:
    return None if not each or None in each else sum(filter(None, each))
