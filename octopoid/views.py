"""What people and programs are shown: plain values from a look. The same values become text, a table or JSON.

Pure: a look, the pauses and the time come in as arguments. The names of the fields are those of the JSON (DESIGN §10).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from octopoid import clock
from octopoid.look import Look
from octopoid.model import Breaker, Entry, Item, Pauses, Problem, Task
from octopoid.ready import approval_text, attached_text, settled_at, subtasks_text, waiting_on
from octopoid.runview import RunView
from octopoid.states import ACTIVE, SATISFYING, State

TYPE_CHECKING = False
if TYPE_CHECKING:  # `status` needs no plan, and the values of one cost it 4 ms
    from octopoid.plans import Guard

ROLE, STAGE = "implementer", "implement"
"""The stage of the built-in flow: what a task goes through that names no role (a test compares with `config`)."""

STATE_NAMES: Mapping[State, str] = {
    State.INCOMING: "incoming",
    State.CLAIMED: "claimed",
    State.PROVISIONAL: "provisional",
    State.BLOCKED: "blocked",
    State.DONE: "done",
    State.ARCHIVED: "archived",
    State.CANCELLED: "cancelled",
}

REASONS = ("question", "failed", "rejected", "conflict", "budget", "dependency", "parked")


class TaskView(NamedTuple):
    """One task. `reason` is the word for why it does not go on, `detail` the sentence; both "" when it does."""

    id: str
    title: str
    state: str
    path: str
    role: str | None
    flow: str | None
    stage: str | None
    priority: str | None
    labels: tuple[str, ...]
    depends_on: tuple[str, ...]
    waiting_on: tuple[str, ...]
    ready: bool
    reason: str
    detail: str
    attempts: int
    rounds: int
    created: str
    updated: str
    base: str | None
    candidate: str | None
    landed_commit: str | None
    usd: float | None
    project: str | None
    parent: str | None
    children: tuple[str, ...]
    artifacts: tuple[str, ...]


class ProblemView(NamedTuple):
    """Why a file is not valid; line and column from 1, 0 = the whole file."""

    path: str
    line: int
    column: int
    message: str
    hint: str


class NeedView(NamedTuple):
    """Something that does not go on without a person, and the command that changes it.

    `blocks`: how many other tasks wait for this one, directly or behind others.
    """

    task: str | None
    reason: str
    detail: str
    command: str
    since: str | None
    blocks: int = 0


class LandedView(NamedTuple):
    """A task that came into `done`."""

    task: str
    at: str
    event: str


class BreakerView(NamedTuple):
    """Something in the environment that does not work, what a person can do, and when it is tried again."""

    name: str
    why: str
    fix: str
    agents: tuple[str, ...]
    since: str
    until: str
    trips: int
    passing: bool


class SchedulerView(NamedTuple):
    """The scheduler, and what keeps it from starting anything."""

    running: bool
    pid: int | None
    last_tick: str | None
    paused: bool
    paused_tasks: tuple[str, ...]
    paused_agents: tuple[str, ...]
    config_problem: str | None
    breakers: tuple[BreakerView, ...]


class StatusView(NamedTuple):
    """The whole of `octopoid status`."""

    counts: Mapping[str, int]
    needs_you: tuple[NeedView, ...]
    running: tuple[RunView, ...]
    waiting: tuple[TaskView, ...]
    landed: tuple[LandedView, ...]
    invalid: tuple[ProblemView, ...]
    scheduler: SchedulerView


class Waits(NamedTuple):
    """What only the policy can tell: who waits for a person's yes or no; whose landing waits for the user's checkout.

    `held`: why, by id. `over`: whose run has ended, and nobody has taken in yet what it did. `first`: of flows that
    tasks name, the first stage and its role. `lost`: what keeps a task from going on until the policy or its file is
    changed, by id. `broken`: of tasks that wait for agents which cannot start now, why not. `spent`: of those that wait
    for money, which of today's budgets is spent.
    """

    human: frozenset[str] = frozenset()
    held: Mapping[str, str] = {}
    over: frozenset[str] = frozenset()
    first: Mapping[str, tuple[str, str]] = {}
    lost: Mapping[str, Guard] = {}
    broken: Mapping[str, str] = {}
    spent: Mapping[str, str] = {}


def plain(value: Any) -> Any:
    """`value` as JSON knows it: NamedTuples are objects (`class_` is `class`), tuples are lists."""
    if isinstance(value, tuple):
        fields = getattr(value, "_fields", None)
        if fields is None:
            return [plain(one) for one in value]
        return {name.rstrip("_"): plain(one) for name, one in zip(fields, value, strict=True)}
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    return value


# --- a task ---


def task(
    item: Item, look: Look, now: float, pauses: Pauses = Pauses(), waits: Waits = Waits(), base: str = ""
) -> TaskView:
    """`item` as it is shown. `base`: the branch of the policy, "" where nobody asked for it (text shows none)."""
    ledger, what = item.ledger, item.task
    reason, detail = why(item, look, now, pauses, waits)
    role = current_role(item, waits)
    return TaskView(
        id=item.id,
        title=what.title if what else item.id,
        state=STATE_NAMES[item.state],
        path=str(item.path),
        role=role if what else None,
        flow=what.flow if what else None,
        stage=current_stage(item, waits) if what else None,
        priority=f"P{what.priority}" if what else None,
        labels=what.labels if what else (),
        depends_on=what.depends_on if what else (),
        waiting_on=waiting_on(what, look.ids) if what and item.state in (State.INCOMING, State.BLOCKED) else (),
        ready=is_ready(item, look, now) and not any(item.id in one for one in (waits.lost, waits.broken, waits.spent)),
        reason=reason,
        detail=detail,
        attempts=ledger.tries.get(role, 0),
        rounds=ledger.rounds,
        created=clock.iso(item.mtime),
        updated=clock.iso(max(item.mtime, last_change(ledger.last))),
        base=_base(item, base),
        candidate=ledger.candidate or None,
        landed_commit=ledger.landed or None,
        usd=ledger.usd,
        project=what.project if what else None,
        parent=what.parent if what else None,
        children=ledger.children,
        artifacts=tuple(ledger.artifacts),
    )


def _base(item: Item, policy: str) -> str | None:
    """The branch that the task lands on: its own, else the policy's. Where it is finished: the one it landed on."""
    task = item.task
    together = f"project/{task.project}" if task and task.project and task.flow != "project" else ""
    own = together or (task.base if task else None) or ""
    was = item.ledger.last.opening.base if item.ledger.last else ""
    if item.state in SATISFYING:
        return was or own or policy or None
    return own or (policy if item.task else "") or was or None


def current_role(item: Item, waits: Waits = Waits()) -> str:
    """The role that works on the task now or next."""
    opening = item.ledger.open.opening if item.ledger.open else None
    if opening and opening.kind == "attempt" and opening.role:
        return opening.role
    stands = item.ledger.handoff or item.ledger.role or item.ledger.work_role
    return stands or (item.task.role if item.task else None) or waits.first.get(_flow(item), (STAGE, ROLE))[1]


def current_stage(item: Item, waits: Waits = Waits()) -> str:
    """The stage that the task is at, or that it comes to next; what is judged is past the last one."""
    ledger = item.ledger
    now = ledger.open.opening.stage if ledger.open else ""
    return now or ledger.stage or ledger.work or waits.first.get(_flow(item), (STAGE, ROLE))[0]


def _flow(item: Item) -> str:
    return item.task.flow if item.task else ""


def is_ready(item: Item, look: Look, now: float) -> bool:
    """In `incoming`, valid, every dependency met, `not_before` and the backoff past."""
    if item.state is not State.INCOMING or item.task is None or item.problem or item.ledger.trouble:
        return False
    if item.ledger.awaiting:
        return False
    return not waiting_on(item.task, look.ids) and item.task.not_before <= now and item.ledger.retry_at <= now


def why(item: Item, look: Look, now: float, pauses: Pauses, waits: Waits) -> tuple[str, str]:
    """The word and the sentence for why a task does not go on; the words of guards are those of `octopoid why`."""
    if item.problem:
        return "invalid", place(item.problem)
    if item.ledger.trouble:
        return "evidence", item.ledger.trouble
    if item.ledger.awaiting and item.state in (State.INCOMING, State.PROVISIONAL):
        return "human", approval_text(item)
    if item.id in waits.lost:
        return waits.lost[item.id].name, waits.lost[item.id].text
    if item.id in pauses.attached and item.state in (State.INCOMING, State.PROVISIONAL):
        return "attached", attached_text(pauses.attached[item.id])
    if item.state is State.INCOMING and item.task:
        reason, detail = _why_incoming(item, item.task, look, now, pauses)
        return (reason, detail) if reason else _why_not_started(item, waits)
    if item.state is State.BLOCKED:
        return item.ledger.reason or "parked", item.ledger.detail or "put into blocked by hand"
    if item.state in (State.CLAIMED, State.PROVISIONAL):
        return _why_at_work(item, look, waits)
    return "", ""


def _why_incoming(item: Item, what: Task, look: Look, now: float, pauses: Pauses) -> tuple[str, str]:
    if pauses.all or item.id in pauses.tasks:
        return "paused", "everything is paused" if pauses.all else "this task is paused"
    missing = waiting_on(what, look.ids)
    if missing:
        return "dependencies", f"waiting on {', '.join(missing)}"
    if what.not_before > now:
        return "not before", f"not before {clock.local(what.not_before)}"
    if item.ledger.retry_at > now:
        after = f" after: {item.ledger.detail}" if item.ledger.detail else ""
        return "backoff", f"waits until {clock.local(item.ledger.retry_at)}{after}"
    if settled_at(item, now) > now:
        return "not settled", "the file changed a moment ago; it may still be written"
    return "", ""


def _why_not_started(item: Item, waits: Waits) -> tuple[str, str]:
    if item.id in waits.broken:
        return "breaker", waits.broken[item.id]
    return ("budget", waits.spent[item.id]) if item.id in waits.spent else ("", "")


def _why_at_work(item: Item, look: Look, waits: Waits) -> tuple[str, str]:
    entry = item.ledger.open
    if entry is None and item.ledger.reviews:
        names = ", ".join(one.opening.gate for one in item.ledger.reviews)
        return "running", f"{names} {'is' if len(item.ledger.reviews) == 1 else 'are'} at work"
    if entry is not None:
        opening = entry.opening
        if opening.kind == "landing":
            return "landing", entry.waits or "the base branch is being moved"
        who = opening.agent or opening.gate or opening.role
        turn = f" (attempt {opening.attempt})" if opening.attempt else ""
        if item.id in waits.over:
            return "running", f"{who}{turn}: ended; the scheduler takes in what it did"
        return "running", f"{who} {'are' if who == 'checks' else 'is'} at work{turn}"
    if item.id in waits.human:
        return "human", "waits for your yes or no"
    subtasks = subtasks_text(item, look.items, look.ids)
    if subtasks:
        return "subtasks", subtasks
    if item.id in waits.held:
        return "landing", waits.held[item.id]
    if item.state is State.PROVISIONAL:
        return "gates", "waits for its gates, or for its turn to land"
    return "claimed", "claimed, and nothing runs for it: the scheduler puts it back"


def last_change(entry: Entry | None) -> float:
    """When this entry ended, or began; seconds since the epoch, 0 without one."""
    if entry is None:
        return 0.0
    return entry.outcome.ended if entry.outcome else entry.opening.at


# --- problems ---


def place(problem: Problem) -> str:
    """The message with its line and column, without the path."""
    return f"line {problem.line}, column {problem.column}: {problem.message}" if problem.line else problem.message


def problem(one: Problem) -> ProblemView:
    """A Problem as it is shown."""
    return ProblemView(str(one.path), one.line, one.column, one.message, one.hint)


# --- status ---


def counts(look: Look) -> dict[str, int]:
    """Files by folder; `incoming` and the others include the invalid ones that are in them."""
    found = dict.fromkeys(("incoming", "claimed", "provisional", "done", "blocked"), 0)
    found["done"] = list(look.ids.values()).count(State.DONE)
    for item in look.items:
        if item.state in ACTIVE:  # what comes back from the archive is on its way, and counts when it is there
            found[STATE_NAMES[item.state]] += 1
    tasks = {item.path for item in look.items}
    wrong = {one.path for one in look.problems}
    for path in wrong - tasks:  # copies and files that are no tasks at all
        if path.parent.name in found and path.parent.parent.name == "queue":
            found[path.parent.name] += 1
    found["invalid"] = len(wrong)
    return found


def breaker(one: Breaker) -> BreakerView:
    """An open breaker as it is shown."""
    since, until = clock.iso(one.since), clock.iso(one.until)
    return BreakerView(one.name, one.why, one.fix, one.agents, since, until, one.trips, one.passing)
