"""What an attempt used, as far as anybody knows: its program's report, its own word, the records in its log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from octopoid import prices, regular
from octopoid.adapters import ADAPTERS, Reading
from octopoid.adapters.base import hear
from octopoid.evidence import Exit
from octopoid.model import Opening, Result, Usage
from octopoid.settings import Config
from octopoid.tally import Tally, plausible

MAX_LOG = 64 << 20
"""Bytes of an agent's output that are gone through for its records; of more than that nobody knows the sum."""
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
    told = Used(plausible(reading.usage), reading.model, reading.turns) if reading else Used()
    reported = told.usage != Usage()
    if not reported:
        span = (step.log_start, step.log_end) if step else (0, _size(folder))
        told = heard(folder / "output.log", *span, opening, config)
    model = told.model or opening.model
    known = prices.estimate(told.usage, model, config.prices)
    if reported and known.usd is not None:
        return told._replace(usage=known, model=model)
    own = prices.estimate(plausible(word.usage), model, config.prices)
    return told._replace(usage=_said(own, known), model=model)


def heard(log: Path, start: int, end: int, opening: Opening, config: Config) -> Used:
    """The sum of the answers that a log tells of: of a run that was ended, or whose supervisor died."""
    adapter = ADAPTERS.get(opening.adapter)
    if adapter is None or end - start > MAX_LOG:
        return Used()
    tally = Tally(own=config.prices)
    for line in _lines(log, start, end):
        for event in hear(adapter, line.rstrip(b"\n")) or ():
            tally.add(event, len(line))
    return Used(tally.usage(), tally.model, tally.turns)


def _lines(log: Path, start: int, end: int) -> Iterator[bytes]:
    try:
        with regular.opened(log) as file:
            file.seek(start)
            while (left := end - file.tell()) > 0 and (line := file.readline(left)):
                yield line
    except OSError:
        return


def _size(folder: Path) -> int:
    try:
        return (folder / "output.log").stat().st_size
    except OSError:
        return 0


def _said(own: Usage, program: Usage) -> Usage:
    """The agent's own word counts before its program's records, tokens and money each for itself.

    But money never for less than is known otherwise: no agent talks itself out of its budget.
    """
    tokens = own if own.input_tokens is not None or own.output_tokens is not None else program
    money = own if own.usd is not None and own.usd >= (program.usd or 0.0) else program
    return tokens._replace(usd=money.usd, priced=money.priced)
