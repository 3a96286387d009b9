"""Frozen values of a tick: what was observed, and what shall be done about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from octopoid.model import Breaker, Item, Pauses
from octopoid.settings import Agent, Check, Stage
from octopoid.states import State


class Live(NamedTuple):
    """What the kernel says about an open entry: `held`, somebody has its lock; `runner`, its supervisor lives."""

    held: bool
    runner: bool
    stopping: bool = False


class Projection(NamedTuple):
    """What landing a candidate would give: `tree` on top of `onto`. `ahead`: `onto` is itself not landed yet.

    `empty`: the tree is the one `onto` has already, so there is nothing to land. `lost`: the commit that the work was
    begun on, where the base has lost it since.
    """

    onto: str
    tree: str
    result_sha: str
    conflicts: tuple[str, ...] = ()
    detail: str = ""
    ahead: bool = False
    empty: bool = False
    lost: str = ""


class Base(NamedTuple):
    """A base branch: where it is (None: it does not exist), and why landing there must wait ("" = it need not)."""

    name: str
    sha: str | None
    waits: str = ""


class Spent(NamedTuple):
    """US dollars that are known, and what the `unknown` attempts are taken to have cost of which nobody knows."""

    usd: float = 0.0
    unknown: int = 0
    assumed: float = 0.0

    @property
    def total(self) -> float:
        """What counts towards a budget."""
        return self.usd + self.assumed

    def plus(self, other: Spent) -> Spent:
        """Both together."""
        return Spent(self.usd + other.usd, self.unknown + other.unknown, self.assumed + other.assumed)


class Snapshot(NamedTuple):
    """Everything a tick decides from. Times: seconds since the epoch."""

    items: tuple[Item, ...]
    ids: Mapping[str, State]
    live: Mapping[str, Live] = {}
    """About the open entry of each task."""
    panel: Mapping[tuple[str, int], Live] = {}
    """About the reviewers at work: task and number of the entry."""
    projections: Mapping[str, Projection] = {}
    bases: Mapping[str, Base] = {}
    pauses: Pauses = Pauses()
    breakers: Mapping[str, Breaker] = {}
    answered: frozenset[str] = frozenset()
    strays: tuple[str, ...] = ()
    trouble: Mapping[str, str] = {}
    """Tasks whose result git cannot compute, with what it said."""
    moving: frozenset[str] = frozenset()
    """Tasks that a living command is about to move: nothing for healing."""
    occupied: Mapping[str, str] = {}
    """Tasks whose move is not made because the name is taken there, with what a person can do."""
    landing_retry: Mapping[str, float] = {}
    slots: frozenset[int] = frozenset()
    spent: Mapping[str, Spent] = {}
    """Today, by role; nothing where no budget needs it."""
    closed: str = ""
    """Why nothing may start at all: a limit or breaker that cannot be read (invariant 8)."""


class Heal(NamedTuple):
    """Finish a verb that lacks its marker."""

    task: str


class NoteMove(NamedTuple):
    """A person moved the file; write that down."""

    task: str
    leaves: str
    enters: State


class GiveBack(NamedTuple):
    """Put a file back into `incoming` that cannot stay where it is."""

    task: str
    leaves: State
    detail: str


class Close(NamedTuple):
    """Read what a finished attempt, gate or landing left, and close its entry. `drop`: a landing is not wanted now.

    `entry`: the number of a reviewer's entry, 0 = the one that has the worktree.
    """

    task: str
    drop: bool = False
    entry: int = 0


class End(NamedTuple):
    """End everything that still runs for an entry; its closing follows when the kernel says nobody is left."""

    task: str
    detail: str
    gently: bool = True
    entry: int = 0


class Refuse(NamedTuple):
    """Back to `incoming` without a run: a conflict, or a verdict that is known about exactly this tree."""

    task: str
    gate: str
    detail: str
    feedback: str
    tree: str = ""


class StartChecks(NamedTuple):
    """Run these commands on exactly the projected tree."""

    task: str
    checks: tuple[Check, ...]
    projection: Projection


class StartReview(NamedTuple):
    """Ask this agent about the candidate; `gate` is its role. The base is where it is now.

    `apart`: in a checkout of its own, because others are asked at the same time.
    """

    task: str
    gate: str
    agent: Agent
    slot: int
    base: Base
    apart: bool = False


class Land(NamedTuple):
    """Move the base to this result."""

    task: str
    base: str
    projection: Projection


class Finish(NamedTuple):
    """Every gate said yes and there is nothing to land. `publish`: the commit for branch `octopoid/<id>`, or ""."""

    task: str
    detail: str
    publish: str = ""


class Block(NamedTuple):
    """A person is needed."""

    task: str
    leaves: State
    reason: str
    detail: str


class Release(NamedTuple):
    """A person wrote the answers into the file."""

    task: str


class Start(NamedTuple):
    """Claim the task and start this agent, as `role`, on its next stage, from where the base is now."""

    task: str
    agent: Agent
    slot: int
    base: Base
    stage: Stage
    role: str


class StartProbe(NamedTuple):
    """Claim the task and run its own commands on the base: they must fail before the work, and pass after it."""

    task: str
    stage: Stage
    checks: tuple[Check, ...]
    base: Base


class TakeBranch(NamedTuple):
    """What is on a project's branch is the candidate: claim and submit it."""

    task: str
    stage: Stage
    base: Base
    candidate: str


class MakeBase(NamedTuple):
    """A project begins: make its branch, at this commit."""

    task: str
    name: str
    sha: str


class Spawn(NamedTuple):
    """Make the tasks that entry `entry` of this one asks for."""

    task: str
    entry: int


Action = (
    Heal
    | NoteMove
    | GiveBack
    | Close
    | End
    | Refuse
    | StartChecks
    | StartReview
    | Land
    | Finish
    | Block
    | Release
    | Start
    | StartProbe
    | TakeBranch
    | MakeBase
    | Spawn
)


class Guard(NamedTuple):
    """One condition: its name, whether it lets the task pass, what a person can do about it, when it will pass.

    `until` (seconds since the epoch) is 0 where time alone changes nothing.
    """

    name: str
    ok: bool
    text: str
    command: str = ""
    until: float = 0.0


class Decision(NamedTuple):
    """What a task does now: at most one action, or what it waits for. `until`: when time alone changes it."""

    action: Action | None = None
    waits: str = ""
    text: str = ""
    command: str = ""
    until: float = 0.0


class Plan(NamedTuple):
    """What shall be done, in the order of a tick, and the decision about every task."""

    actions: tuple[Action, ...]
    decisions: Mapping[str, Decision]
