"""What an attempt used, as far as anybody knows: its program's report, its own word, the records in its log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from octopoid import prices
from octopoid.adapters import ADAPTERS, Reading
from octopoid.adapters.base import hear
from octopoid.adapters.events import STARTED, USAGE, Event
from octopoid.evidence import Exit
from octopoid.model import Opening, Result, Usage
from octopoid.results import MAX_MONEY
from octopoid.settings import Config

MAX_LOG = 64 << 20
"""Bytes of an agent's output that are gone through for its records; of more than that nobody knows the sum."""
MAX_COUNT = 10**12
"""Tokens of one attempt: what says more than that is no count but nonsense."""
BYTES = 4
"""Bytes of an answer's records for a token that the model wrote, where that is not told (Claude Code's stream)."""
NOTHING = Usage(0, 0, 0.0)
"""Of an attempt whose agent never began."""


class Used(NamedTuple):
    """What is known. `model`: the one that most of it is for, "" = unknown."""

    usage: Usage = Usage()
    model: str = ""
    turns: int | None = None


def used(
    folder: Path, opening: Opening, exit_: Exit | None, reading: Reading | None, word: Result, config: Config
) -> Used:
    """What the attempt in `folder` used. Money that is not told comes from the price of the model, where it has one."""
    if not opening.role:
        return Used()
    step = exit_.step("agent") if exit_ else None
    if exit_ is not None and step is None:
        return Used(NOTHING)
    told = Used(_plausible(reading.usage), reading.model, reading.turns) if reading else Used()
    reported = told.usage != Usage()
    if not reported:
        span = (step.log_start, step.log_end) if step else (0, _size(folder))
        told = heard(folder / "output.log", *span, opening.adapter, config)
    model = told.model or opening.model
    known = prices.estimate(told.usage, model, config.prices)
    own = (
        Usage() if reported and known.usd is not None else prices.estimate(_plausible(word.usage), model, config.prices)
    )
    return told._replace(usage=_said(own, known), model=model)


def heard(log: Path, start: int, end: int, adapter: str, config: Config) -> Used:
    """The sum of the answers that a log tells of: of a run that was ended, or whose supervisor died."""
    if adapter not in ADAPTERS or end - start > MAX_LOG:
        return Used()
    answers: dict[str, tuple[Event, int]] = {}
    model, turns = "", 0
    for event, size in _events(log, start, end, adapter):
        if event.kind == STARTED:
            model = event.model or model
        elif event.kind == USAGE:
            turns += not event.inside and event.answer not in answers
            key = event.answer or f" {len(answers)}"
            event = event._replace(usage=_plausible(event.usage))
            answers[key] = (event, size + (answers[key][1] if key in answers else 0))
    model = model or next((event.model for event, _ in answers.values()), "")
    each = [_priced(event.usage, size, event.model or model, config) for event, size in answers.values()]
    return Used(_sum(each), model, turns or None)


def _priced(usage: Usage, size: int, model: str, config: Config) -> Usage:
    """Money for one answer whose records have `size` bytes: of what it wrote they may be all that is told."""
    whole = usage if usage.output_tokens is not None else usage._replace(output_tokens=size // BYTES)
    found = prices.estimate(whole, model, config.prices, one=True)
    return usage._replace(usd=found.usd, priced=found.priced)


def _events(log: Path, start: int, end: int, adapter: str) -> Iterator[tuple[Event, int]]:
    """Each with the bytes of its line."""
    try:
        with log.open("rb") as file:
            file.seek(start)
            while (left := end - file.tell()) > 0 and (line := file.readline(left)):
                yield from ((event, len(line)) for event in hear(ADAPTERS[adapter], line.rstrip(b"\n")) or ())
    except FileNotFoundError:
        return


def _plausible(told: Usage) -> Usage:
    """Without what is no count of anything: that is unknown."""
    counts = (told.input_tokens, told.output_tokens, told.cached_tokens)
    read, written, cached = (one if one is not None and 0 <= one <= MAX_COUNT else None for one in counts)
    money = told.usd is not None and 0 <= told.usd <= MAX_MONEY
    return Usage(read, written, told.usd if money else None, cached, told.priced if money else "")


def _size(folder: Path) -> int:
    try:
        return (folder / "output.log").stat().st_size
    except FileNotFoundError:
        return 0


def _said(own: Usage, program: Usage) -> Usage:
    """The agent's own word counts before its program's records, tokens and money each for itself.

    But money never for less than is known otherwise: no agent talks itself out of its budget.
    """
    tokens = own if own.input_tokens is not None or own.output_tokens is not None else program
    money = own if own.usd is not None and own.usd >= (program.usd or 0.0) else program
    return tokens._replace(usd=money.usd, priced=money.priced)


def _sum(each: list[Usage]) -> Usage:
    """All of them; money only where that of every one is known."""
    if not each:
        return Usage()
    unknown = any(one.usd is None for one in each)
    return Usage(
        _known(one.input_tokens for one in each),
        _known(one.output_tokens for one in each),
        None if unknown else sum(one.usd or 0.0 for one in each),
        _known(one.cached_tokens for one in each),
        "" if unknown else next((one.priced for one in each if one.priced), ""),
    )


def _known(counts: Iterator[int | None]) -> int | None:
    known = [one for one in counts if one is not None]
    return sum(known) if known else None
