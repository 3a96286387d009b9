"""What people and programs are shown about one task's evidence: entries, verdicts, guards. Pure, like `views`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from octopoid import clock
from octopoid.model import Entry, Usage, Verdict
from octopoid.plans import Guard


class EntryView(NamedTuple):
    """One entry of a task's evidence. `usd`, tokens and turns are None while they are unknown.

    `priced`: the day of the price table that `usd` comes from, None where the program said it. `cached_tokens`: of
    `input_tokens`.
    """

    number: int
    kind: str
    role: str | None
    agent: str | None
    gate: str | None
    attempt: int
    by: str
    started: str
    ended: str | None
    class_: str | None
    charged: bool
    reason: str
    detail: str
    candidate: str | None
    verdict: str | None
    text: str
    usd: float | None
    priced: str | None
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    model: str | None
    turns: int | None
    path: str


class DocumentView(NamedTuple):
    """The newest version of a document: the entry that wrote it, and where people find it."""

    name: str
    entry: int
    path: str


class VerdictView(NamedTuple):
    """A gate's answer."""

    gate: str
    verdict: str
    candidate: str
    tree: str | None
    by: str
    at: str
    entry: int
    feedback: str


class GuardView(NamedTuple):
    """One condition in front of a task's next step, the command that changes it, and when time alone will."""

    name: str
    ok: bool
    text: str
    command: str | None
    until: str | None


class WhyView(NamedTuple):
    """Why a task does what it does."""

    task: str
    headline: str
    command: str | None
    guards: tuple[GuardView, ...]


def entry(one: Entry, folder: Path) -> EntryView:
    """An entry as it is shown; `folder` is where its evidence is."""
    opening, outcome = one.opening, one.outcome
    usage = outcome.usage if outcome else Usage()
    return EntryView(
        number=one.number,
        kind=opening.kind,
        role=opening.role or None,
        agent=opening.agent or None,
        gate=opening.gate or None,
        attempt=opening.attempt,
        by=opening.by,
        started=clock.iso(opening.at),
        ended=clock.iso(outcome.ended) if outcome else None,
        class_=(outcome.class_ or None) if outcome else None,
        charged=outcome.charged if outcome else False,
        reason=outcome.reason if outcome else "",
        detail=outcome.detail if outcome else one.waits,
        candidate=(outcome.candidate if outcome else "") or opening.candidate or None,
        verdict=(outcome.verdict or None) if outcome else None,
        text=opening.text,
        usd=usage.usd,
        priced=usage.priced or None,
        input_tokens=usage.input_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        model=(outcome.model or None) if outcome else None,
        turns=outcome.turns if outcome else None,
        path=str(folder),
    )


def verdict(one: Verdict) -> VerdictView:
    """A verdict as it is shown."""
    word = "accept" if one.yes else "reject"
    return VerdictView(
        one.gate, word, one.candidate, one.tree or None, one.by, clock.iso(one.at), one.entry, one.feedback
    )


def guard(one: Guard) -> GuardView:
    """A guard as it is shown."""
    return GuardView(one.name, one.ok, one.text, one.command or None, clock.iso(one.until) if one.until else None)
