"""How the roles do: attempts, first yes, rounds, cost, time. Counted from the entries of every task there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from octopoid import attempts, store
from octopoid.errors import Invalid
from octopoid.fold import fold
from octopoid.layout import Layout
from octopoid.model import Entry, Problem

_RUNS = ("attempt", "gate")


class RoleStats(NamedTuple):
    """What one role did. What is not known is None, which is never shown as zero.

    `attempts`: started ones. `succeeded`: they did their work; of a gate: they gave a verdict. `judged`: tasks whose
    first candidate of this role was refused or landed; of a gate: its verdicts. `passed`: those never refused; of a
    gate: its yeses. `first_pass`: the share. `rounds`: refusals of this role's work. `failures`: charged attempts.
    `usd`: what is known; `usd_unknown`: attempts whose cost is not. `mean_s`: seconds of an attempt that ended.
    """

    role: str
    attempts: int
    succeeded: int
    judged: int
    passed: int
    first_pass: float | None
    rounds: int
    failures: int
    usd: float | None
    usd_unknown: int
    mean_s: float | None


class _Tally:
    """The counters of one role while the tasks are gone through."""

    def __init__(self) -> None:
        self.attempts = self.succeeded = self.judged = self.passed = self.rounds = self.failures = self.unknown = 0
        self.usd: list[float] = []
        self.seconds: list[float] = []

    def run(self, entry: Entry) -> None:
        """A run of this role, gate or not."""
        self.attempts += 1
        outcome = entry.outcome
        if outcome is None:
            return
        self.seconds.append(max(0.0, outcome.ended - entry.opening.at))
        self.failures += outcome.charged
        if outcome.usage.usd is None:
            self.unknown += 1
        else:
            self.usd.append(outcome.usage.usd)
        if entry.opening.kind == "gate":
            self.succeeded += bool(outcome.verdict)
            self.judge(outcome.verdict == "accept", known=bool(outcome.verdict))
        else:
            self.succeeded += outcome.class_ == "ok"

    def judge(self, yes: bool, known: bool = True) -> None:
        """A verdict of this role, or about its first candidate of a task."""
        self.judged += known
        self.passed += known and yes

    def total(self, role: str) -> RoleStats:
        return RoleStats(
            role=role,
            attempts=self.attempts,
            succeeded=self.succeeded,
            judged=self.judged,
            passed=self.passed,
            first_pass=self.passed / self.judged if self.judged else None,
            rounds=self.rounds,
            failures=self.failures,
            usd=sum(self.usd) if self.usd else None,
            usd_unknown=self.unknown,
            mean_s=sum(self.seconds) / len(self.seconds) if self.seconds else None,
        )


def read(layout: Layout) -> tuple[dict[str, tuple[Entry, ...]], tuple[Problem, ...]]:
    """The entries of every task, the archive included; and what is wrong with the evidence that cannot be read."""
    found: dict[str, tuple[Entry, ...]] = {}
    problems: list[Problem] = []
    for task in sorted(store.every_id(layout)):
        try:
            found[task] = attempts.read(layout, task)
        except Invalid as error:
            problems += error.problems or (Problem(layout.entries(task), 0, 0, error.message, error.hint),)
    return found, tuple(problems)


def of(tasks: Mapping[str, Sequence[Entry]], since: float = 0.0) -> tuple[RoleStats, ...]:
    """The numbers of every role that ran, by name. `since` (seconds since the epoch): only what began at or after it.

    A task whose evidence began before counts with what was done since.
    """
    tallies: dict[str, _Tally] = {}
    for entries in tasks.values():
        for entry in entries:
            if entry.started and entry.opening.role and entry.opening.kind in _RUNS and entry.opening.at >= since:
                tallies.setdefault(entry.opening.role, _Tally()).run(entry)
        _work(entries, tallies, since)
    return tuple(tallies[role].total(role) for role in sorted(tallies))


def _work(entries: Sequence[Entry], tallies: Mapping[str, _Tally], since: float) -> None:
    """What became of the candidates of one task, counted for the roles that made them."""
    refused = fold(entries).refused
    makers: dict[str, str] = {}
    first: set[str] = set()
    for number, entry in enumerate(entries):
        opening, outcome = entry.opening, entry.outcome
        if opening.kind == "attempt" and outcome and outcome.class_ == "ok" and outcome.candidate:
            makers.setdefault(outcome.candidate, opening.role)
            if opening.at >= since and opening.role in tallies and opening.role not in first:
                no = outcome.candidate in refused
                tallies[opening.role].judge(not no, known=no or _over(entries[number + 1 :]))
            first.add(opening.role)
        maker = tallies.get(makers.get(opening.candidate, ""))
        if maker and opening.at >= since and _refuses(entry):
            maker.rounds += 1


def _refuses(entry: Entry) -> bool:
    """Does this entry send a candidate back, or to a person after the last round?"""
    if entry.opening.kind == "reject":
        return True
    outcome = entry.outcome
    return entry.opening.kind == "gate" and outcome is not None and outcome.verdict == "reject" and bool(outcome.verb)


def _over(later: Sequence[Entry]) -> bool:
    """Did the work land, or finish, or did a person say that it is done?"""
    return any(
        (one.outcome is not None and one.outcome.verb in ("land", "finish"))
        or (one.opening.kind == "move" and one.opening.to == "done")
        for one in later
    )
