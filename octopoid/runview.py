"""A program at work, as it is shown: what its entry, the disk and its log say about it. Pure: they are arguments."""

from __future__ import annotations

from typing import NamedTuple

from octopoid import clock
from octopoid.model import Entry, Item, Usage


class RunView(NamedTuple):
    """A program at work. `silent_s`: seconds since its last output.

    `usd`: what its task cost so far, this attempt included, as far as that is known; `estimated`: from prices.
    `turns`, `input_tokens`, `output_tokens`: of this attempt. `doing`: the last that is known of it. `retrying`: the
    model does not answer, and why. `sandbox`: what shuts it in, None = nothing; `exposed`: why not, where it should be.
    """

    task: str
    agent: str | None
    role: str | None
    attempt: int
    pid: int | None
    started: str
    elapsed_s: float
    silent_s: float | None
    usd: float | None
    gate: str | None
    entry: int
    estimated: bool
    model: str | None
    turns: int | None
    input_tokens: int | None
    output_tokens: int | None
    doing: str
    retrying: str
    sandbox: str | None
    exposed: str


class Signs(NamedTuple):
    """What the disk says about an open entry: its agent's (else its supervisor's) pid, the time of its last output.

    `alive`: somebody holds its lock. `sandbox`, `exposed`: as in RunView.
    """

    alive: bool
    pid: int | None
    output_at: float | None
    sandbox: str = ""
    exposed: str = ""


class Progress(NamedTuple):
    """How far a running agent came, from its log. None = unknown.

    `doing`: its last call of a tool or message. `retrying`: why the model does not answer, "" where it does.
    """

    turns: int | None = None
    usage: Usage = Usage()
    model: str = ""
    doing: str = ""
    retrying: str = ""


def running(item: Item, entry: Entry, signs: Signs, now: float, at: Progress = Progress()) -> RunView | None:
    """The program at work for `item` in its open `entry`; None when nobody holds the lock of that."""
    if not signs.alive:
        return None
    opening = entry.opening
    return RunView(
        task=item.id,
        agent=opening.agent or None,
        role=opening.role or None,
        attempt=opening.attempt,
        pid=signs.pid,
        started=clock.iso(opening.at),
        elapsed_s=round(max(0.0, now - opening.at), 1),
        silent_s=round(max(0.0, now - signs.output_at), 1) if signs.output_at is not None else None,
        usd=_total(item.ledger.usd, at.usage.usd),
        gate=opening.gate or (opening.kind if opening.kind == "landing" else None),
        entry=entry.number,
        estimated=bool(at.usage.priced),
        model=at.model or None,
        turns=at.turns,
        input_tokens=at.usage.input_tokens,
        output_tokens=at.usage.output_tokens,
        doing=at.doing,
        retrying=at.retrying,
        sandbox=signs.sandbox or None,
        exposed=signs.exposed,
    )


def _total(before: float | None, now: float | None) -> float | None:
    return None if before is None and now is None else (before or 0.0) + (now or 0.0)
