"""What was spent: of every task there is or was, by role, model, task, day, agent or program. Reads the entries."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from octopoid import attempts
from octopoid.budgets import Budget
from octopoid.errors import Invalid
from octopoid.fold import Spending, is_paid, is_unpriced, spending
from octopoid.layout import Layout
from octopoid.model import Entry, Outcome, Problem

MARGIN = 2 * 86400.0
"""Seconds. A folder's time is that of its newest entry; an attempt that began before midnight may end after it."""


class Row(NamedTuple):
    """What some attempts used. What is not known is None, which is never shown as zero.

    `key` None: that is not known either (a model). `attempts`: those that are over. `usd`: what is known. `unknown`:
    attempts whose cost is not. `priced`: attempts whose cost comes from a table of prices, not from their program.
    """

    key: str | None
    attempts: int
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    usd: float | None
    unknown: int
    priced: int


class BudgetRow(NamedTuple):
    """A budget of today. `spent` includes `assumed`: what attempts of unknown cost count. All in US dollars."""

    limit: str
    of: float
    spent: float
    assumed: float
    left: float


class Paid(NamedTuple):
    """An attempt that is over."""

    task: str
    entry: Entry
    outcome: Outcome


def _day(one: Paid) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(one.outcome.ended))


WAYS: Mapping[str, Callable[[Paid], str]] = {
    "role": lambda one: one.entry.opening.role,
    "model": lambda one: one.outcome.model,
    "task": lambda one: one.task,
    "day": _day,
    "agent": lambda one: one.entry.opening.agent,
    "adapter": lambda one: one.entry.opening.adapter,
}
"""What a table can be made by; a day is the one on which an attempt ended, in local time."""


def read(layout: Layout) -> tuple[tuple[Paid, ...], tuple[Problem, ...]]:
    """Every attempt that is over, also of tasks that are archived, cancelled or gone; and what cannot be read."""
    found: list[Paid] = []
    problems: list[Problem] = []
    for name in sorted(touched(layout, 0.0)):
        try:
            entries = attempts.read(layout, name)
        except Invalid as error:
            problems += error.problems or (Problem(layout.entries(name), 0, 0, error.message, error.hint),)
            continue
        task = name.removeprefix(attempts.GONE).rpartition("-")[0] if name.startswith(attempts.GONE) else name
        found += (Paid(task, one, one.outcome) for one in entries if one.outcome and is_paid(one))
    return tuple(found), tuple(problems)


def rows(paid: Iterable[Paid], by: str, since: float = 0.0) -> tuple[tuple[Row, ...], Row]:
    """A row for each key of WAYS[by], the dearest first (days in their order), and the sum of all of them.

    `since` (seconds since the epoch): only what ended at or after it.
    """
    groups: dict[str, list[Paid]] = {}
    for one in paid:
        if one.outcome.ended >= since:
            groups.setdefault(WAYS[by](one), []).append(one)
    made = [_row(key or None, group) for key, group in sorted(groups.items())]
    if by != "day":
        made.sort(key=lambda row: -1.0 if row.usd is None else row.usd, reverse=True)
    return tuple(made), _row("total", [one for group in groups.values() for one in group])


def budget(one: Budget) -> BudgetRow:
    """A budget as it is shown."""
    return BudgetRow(one.limit, one.of, one.spent.total, one.spent.assumed, one.left)


def midnight(now: float) -> float:
    """When today began, in local time (seconds since the epoch)."""
    return time.mktime(time.strptime(time.strftime("%Y-%m-%d", time.localtime(now)), "%Y-%m-%d"))


def touched(layout: Layout, since: float) -> list[str]:
    """Folders of evidence that changed since then, also of tasks whose file is gone: their money is spent."""
    try:
        with os.scandir(layout.attempts) as found:
            return [one.name for one in found if one.is_dir() and one.stat().st_mtime >= since]
    except FileNotFoundError:
        return []


def today(layout: Layout, now: float, known: Mapping[str, Mapping[str, Spending]]) -> dict[str, dict[str, Spending]]:
    """What was spent since midnight: by folder of evidence, then by role. Those in `known` are not read again.

    Raises Invalid when an entry cannot be read: a budget that cannot be read does not pass.
    """
    began = midnight(now)
    return {
        name: dict(known[name]) if name in known else spending(attempts.read(layout, name), began)
        for name in touched(layout, began - MARGIN)
    }


def _row(key: str | None, paid: Sequence[Paid]) -> Row:
    used = [one.outcome.usage for one in paid]
    usd = [one.usd for one in used if one.usd is not None]
    return Row(
        key,
        len(paid),
        _sum(one.input_tokens for one in used),
        _sum(one.cached_tokens for one in used),
        _sum(one.output_tokens for one in used),
        sum(usd) if usd else None,
        sum(is_unpriced(one.entry) for one in paid),
        sum(bool(one.priced) for one in used),
    )


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [one for one in counts if one is not None]
    return sum(known) if known else None
