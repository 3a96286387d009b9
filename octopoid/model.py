"""Frozen values about tasks and their evidence: what every look at the queue needs.

NamedTuples, not dataclasses: a dataclass costs 0.6 ms to define and a NamedTuple 0.15, and `status` defines them all at
every start. Times are seconds since the epoch, money is US dollars, durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from octopoid.states import State


class Problem(NamedTuple):
    """Why a file is not valid. `line` and `column` count from 1; 0 = the whole file."""

    path: Path
    line: int
    column: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}:{self.column}" if self.line else str(self.path)
        return f"{place}: {self.message}"


class Criterion(NamedTuple):
    """One `- [ ]` line under "Acceptance criteria". With a `command` octopoid runs it on what is to land."""

    text: str
    command: str | None
    checked: bool
    line: int


class Task(NamedTuple):
    """What the user asked for: one valid task file."""

    id: str
    title: str
    body: str = ""
    priority: int = 2
    role: str | None = None
    flow: str = "default"
    depends_on: tuple[str, ...] = ()
    base: str | None = None
    labels: tuple[str, ...] = ()
    not_before: float = 0.0
    criteria: tuple[Criterion, ...] = ()


class Usage(NamedTuple):
    """What an attempt cost. None = unknown, which is never shown as zero."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    usd: float | None = None


class Finding(NamedTuple):
    """One remark of a reviewer."""

    file: str
    line: int
    severity: str
    message: str


class Result(NamedTuple):
    """The optional word of an agent (`$OCTOPOID_RESULT_FILE`), after the facts."""

    outcome: str = ""
    summary: str = ""
    feedback: str = ""
    questions: tuple[str, ...] = ()
    handoff_to: str = ""
    findings: tuple[Finding, ...] = ()
    usage: Usage = Usage()


class Opening(NamedTuple):
    """`attempt.json`: what an entry is about, written before anything happens."""

    kind: str
    at: float
    by: str = "scheduler"
    role: str = ""
    agent: str = ""
    adapter: str = ""
    stage: str = ""
    gate: str = ""
    attempt: int = 0
    base: str = ""
    base_sha: str = ""
    candidate: str = ""
    onto: str = ""
    tree: str = ""
    key: str = ""
    result_sha: str = ""
    slot: int = -1
    checks: tuple[str, ...] = ()
    text: str = ""
    to: str = ""


class Outcome(NamedTuple):
    """`outcome.json`: how an entry ended, written once. `class_` is `class` on disk.

    `verb`, `leaves` and `enters` are the move that this entry carries, if any; `moved-<enters>` says it was made.
    """

    kind: str
    class_: str
    charged: bool
    reason: str
    detail: str
    ended: float
    start_sha: str = ""
    base_sha: str = ""
    candidate: str = ""
    verdict: str = ""
    feedback: str = ""
    summary: str = ""
    questions: tuple[str, ...] = ()
    breaker: str = ""
    policy: bool = False
    usage: Usage = Usage()
    verb: str = ""
    leaves: str = ""
    enters: str = ""


class Entry(NamedTuple):
    """One numbered directory of evidence."""

    number: int
    opening: Opening
    started: bool = False
    exited: bool = False
    outcome: Outcome | None = None
    moved: frozenset[str] = frozenset()
    waits: str = ""


class Verdict(NamedTuple):
    """A gate's answer. Of checks: about `tree` under the commands `key`; of a role or a person: about `candidate`."""

    gate: str
    yes: bool
    candidate: str
    tree: str
    key: str
    at: float
    by: str
    entry: int
    feedback: str


class Feedback(NamedTuple):
    """What somebody said about earlier work, for the next prompt."""

    source: str
    text: str
    at: float


class Ledger(NamedTuple):
    """Everything that entries say about a task: the result of `fold`, never stored.

    `tries`: started attempts per role, ever. `charged`: charged failures per role since the last reset. `rounds`:
    refusals by any gate since then. `deaths`: runner deaths in a row.
    `judged`: a gate used the worktree last. `setbacks`: environment failures in a row. `base`: the branch that the
    candidate was made for. `usd` is None while nothing is known.
    """

    expected: str = ""
    unmoved: Entry | None = None
    open: Entry | None = None
    last: Entry | None = None
    next_number: int = 1
    tries: Mapping[str, int] = {}
    charged: Mapping[str, int] = {}
    rounds: int = 0
    deaths: int = 0
    rechecks: int = 0
    retry_at: float = 0.0
    candidate: str = ""
    base: str = ""
    start_sha: str = ""
    refused: frozenset[str] = frozenset()
    verdicts: tuple[Verdict, ...] = ()
    reason: str = ""
    detail: str = ""
    summary: str = ""
    feedback: tuple[Feedback, ...] = ()
    questions: tuple[str, ...] = ()
    usd: float | None = None
    landed: str = ""
    policy: bool = False
    judged: bool = False
    setbacks: int = 0
    trouble: str = ""


class Item(NamedTuple):
    """One task as a look finds it: where its file is, what it says, what its entries say."""

    id: str
    state: State
    path: Path
    mtime: float
    task: Task | None
    problem: Problem | None
    ledger: Ledger


class Pauses(NamedTuple):
    """Who starts nothing: everything, some tasks, some agents."""

    all: bool = False
    tasks: frozenset[str] = frozenset()
    agents: frozenset[str] = frozenset()


class Breaker(NamedTuple):
    """Something in the environment does not work. Nothing that needs it starts before `until`, then one try."""

    name: str
    why: str
    since: float
    until: float
    trips: int
