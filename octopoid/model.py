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
    project: str | None = None
    parent: str | None = None


class Usage(NamedTuple):
    """What an attempt cost. None = unknown, which is never shown as zero.

    `input_tokens`: all that went in, `cached_tokens` of them from the cache. `priced`: the day of the price table where
    `usd` was computed from it; "" = the program said so itself.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    usd: float | None = None
    cached_tokens: int | None = None
    priced: str = ""


class Finding(NamedTuple):
    """One remark of a reviewer."""

    file: str
    line: int
    severity: str
    message: str


class Subtask(NamedTuple):
    """A task that an agent asks for. `key`: how its siblings name it in `depends_on`; ids of tasks may stand there too.

    `criteria`: as they stand behind `- [ ]` in a task file.
    """

    key: str
    title: str
    body: str = ""
    role: str = ""
    flow: str = ""
    priority: int = 2
    depends_on: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    criteria: tuple[str, ...] = ()


class Choice(NamedTuple):
    """A decision that an agent took: between which variants, for what, and why."""

    problem: str
    chosen: str
    variants: tuple[str, ...] = ()
    why: str = ""


class Result(NamedTuple):
    """The optional word of an agent (`$OCTOPOID_RESULT_FILE`), after the facts."""

    outcome: str = ""
    summary: str = ""
    feedback: str = ""
    questions: tuple[str, ...] = ()
    handoff_to: str = ""
    findings: tuple[Finding, ...] = ()
    usage: Usage = Usage()
    subtasks: tuple[Subtask, ...] = ()
    discovered: tuple[Subtask, ...] = ()
    decisions: tuple[Choice, ...] = ()


class Opening(NamedTuple):
    """`attempt.json`: what an entry is about, written before anything happens.

    `produces`: what the role is to leave. `artifact`: the document it is to write. `session`: the one it goes on with.
    `artifacts`: documents that a person changed and that this entry holds. `model`: the one that was asked for.
    `undoes`: the entry that counts no longer (`undo`); without one `key` is the time of the move that was taken back.
    """

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
    produces: str = ""
    artifact: str = ""
    session: str = ""
    artifacts: tuple[str, ...] = ()
    model: str = ""
    undoes: int = 0


class Outcome(NamedTuple):
    """`outcome.json`: how an entry ended, written once. `class_` is `class` on disk.

    `verb`, `leaves` and `enters` are the move that this entry carries, if any; `moved-<enters>` says it was made.
    `artifacts`: documents that this entry holds a new version of. `children`, `proposals`: ids of the tasks that are to
    be made from its `children.json`; the marker `spawned` says that they were. `approval`: a person must say yes first.
    `next_stage`, `next_role`: where the task stands after this. `session`: what its agent can be resumed with. `bare`:
    the candidate brings no work of its own, it only says where documents, a verdict or tasks come from. `model`,
    `turns`: what the program said that it used. `began`: its agent was started, so its work is in the worktree.
    `seized`: the commit that it moved the base to, which nobody has judged.
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
    artifacts: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    proposals: tuple[str, ...] = ()
    approval: bool = False
    next_stage: str = ""
    next_role: str = ""
    session: str = ""
    bare: bool = False
    model: str = ""
    turns: int | None = None
    began: bool = False
    seized: str = ""


ELSEWHERE = "elsewhere"
"""In `moved-elsewhere`: the move that an entry carries will never be made, since a person moved the file before it."""


class Entry(NamedTuple):
    """One numbered directory of evidence. `moved`: what its markers `moved-…` say."""

    number: int
    opening: Opening
    started: bool = False
    exited: bool = False
    outcome: Outcome | None = None
    moved: frozenset[str] = frozenset()
    waits: str = ""
    spawned: bool = False

    @property
    def is_moved(self) -> bool:
        """Was the move that it carries made, or overtaken?"""
        return self.outcome is not None and bool(self.moved & {self.outcome.enters, ELSEWHERE})


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
    refusals by any gate since then. `deaths`: runner deaths in a row, of the role that died most; `died`: of each.
    `judged`: a gate used the worktree last. `setbacks`: environment failures in a row. `base`: the branch that the
    candidate was made for. `usd` is None while nothing is known.
    `open`: the entry that has the task's worktree to itself; `reviews`: reviewers at work, each in a place of its own.
    `stages`: those that are done; `work`: the first of them that brought a candidate, where rework begins again;
    `work_role`: who did it.
    `stage`, `role`: where the task stands, as its last attempt said ("" = at its beginning). `awaiting`: the stage that
    waits for a person's yes. `handoff`: the role that was asked to take over; `handoffs`: how often. `conflict`: the
    candidate did not merge. `artifacts`: document → number of the entry with its newest version. `children`: ids of its
    subtasks. `spawn`: numbers of the entries whose tasks are not all made yet. `sessions`: agent and role → what it can
    be resumed with, after a question or after it was cut off; `cuts`: how that was, and how often in a row it was in
    that session before. `bare`: there is nothing to land, so no gate is asked about it. `usd_before`: what of `usd` was
    spent before the last reset; `unpriced`: adapter → attempts since then whose cost is not known. `bases`: the commits
    of the base that its work was begun on.
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
    usd_before: float = 0.0
    unpriced: Mapping[str, int] = {}
    landed: str = ""
    policy: bool = False
    judged: bool = False
    setbacks: int = 0
    trouble: str = ""
    reviews: tuple[Entry, ...] = ()
    stages: tuple[str, ...] = ()
    stage: str = ""
    role: str = ""
    work: str = ""
    work_role: str = ""
    awaiting: str = ""
    handoff: str = ""
    handoffs: int = 0
    conflict: bool = False
    artifacts: Mapping[str, int] = {}
    children: tuple[str, ...] = ()
    spawn: tuple[int, ...] = ()
    sessions: Mapping[str, str] = {}
    cuts: Mapping[str, tuple[str, int]] = {}
    died: Mapping[str, int] = {}
    bare: bool = False
    bases: tuple[str, ...] = ()


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
    """Who starts nothing: everything, some tasks, some agents.

    `attached`: tasks in whose worktree a person is (`octopoid attach`), with the pid of their shell, 0 = unknown.
    """

    all: bool = False
    tasks: frozenset[str] = frozenset()
    agents: frozenset[str] = frozenset()
    attached: Mapping[str, int] = {}


class Breaker(NamedTuple):
    """Something in the environment does not work. Nothing that needs it starts before `until`, then one try.

    `name`: a credential, or `agent:NAME`. `fix`: what a person can do. `agents`: who cannot start because of it.
    `marks`: what each of them was tried with; who comes with anything else is tried at once. `passing`: nobody has to
    do anything, it passes by itself.
    """

    name: str
    why: str
    since: float
    until: float
    trips: int
    fix: str = ""
    agents: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    passing: bool = False
