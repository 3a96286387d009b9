"""The guards before anything starts, each with a name that `why` prints (DESIGN §7). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from octopoid import budgets, clock, gates
from octopoid.fold import BACKOFF_CAP
from octopoid.hints import nearest
from octopoid.model import Breaker, Item, Opening, Task
from octopoid.plans import Base, Guard, Snapshot
from octopoid.ready import approval_text, attached_text, settled_at, waiting_on
from octopoid.settings import Agent, Config, Flow, Stage
from octopoid.states import State


class Load(NamedTuple):
    """What runs already, counted before anything is started: by agent, by role; and the tasks in each folder.

    `since`: each agent at work, and when it began.
    """

    agents: Mapping[str, int]
    checks: int
    provisional: int
    slots: frozenset[int]
    roles: Mapping[str, int] = {}
    folders: Mapping[str, int] = {}
    since: tuple[tuple[str, float], ...] = ()

    @property
    def total(self) -> int:
        """Agents of all pools."""
        return sum(self.agents.values())

    def with_agent(self, name: str, role: str, slot: int, now: float) -> Load:
        """After one more start."""
        counts = {**self.agents, name: self.agents.get(name, 0) + 1}
        roles = {**self.roles, role: self.roles.get(role, 0) + 1}
        since = (*self.since, (name, now))
        return self._replace(agents=counts, roles=roles, slots=self.slots | {slot}, since=since)

    def with_claim(self) -> Load:
        """After one more claim."""
        claimed = State.CLAIMED.value
        return self._replace(folders={**self.folders, claimed: self.folders.get(claimed, 0) + 1})

    def with_checks(self) -> Load:
        """After one more run of checks."""
        return self._replace(checks=self.checks + 1)


_COUNTED = (State.CLAIMED.value, State.PROVISIONAL.value, State.BLOCKED.value)
"""Folders that may have a limit of their own."""


class Scene(NamedTuple):
    """What a decision about one task is made from. `now`: seconds since the epoch."""

    snapshot: Snapshot
    config: Config
    now: float
    load: Load


def load_of(snapshot: Snapshot) -> Load:
    """What is running, by agent."""
    counts: dict[str, int] = {}
    checks = 0
    roles: dict[str, int] = {}
    since: list[tuple[str, float]] = []
    for opening in _at_work(snapshot):
        if opening.agent:
            since.append((opening.agent, opening.at))
            counts[opening.agent] = counts.get(opening.agent, 0) + 1
            roles[opening.role] = roles.get(opening.role, 0) + 1
        elif opening.checks:
            checks += 1
    active = {item.id for item in snapshot.items}
    folders: dict[str, int] = {}
    for item in snapshot.items:
        if not gates.unfinished(item.ledger, active):  # who waits for subtasks takes nobody's place
            folders[item.state.value] = folders.get(item.state.value, 0) + 1
    provisional = folders.get(State.PROVISIONAL.value, 0)
    return Load(counts, checks, provisional, snapshot.slots, roles, folders, tuple(since))


def _at_work(snapshot: Snapshot) -> Iterator[Opening]:
    """What the entries are about in which somebody is at work."""
    for item in snapshot.items:
        live = snapshot.live.get(item.id)
        if item.ledger.open is not None and live is not None and live.held:
            yield item.ledger.open.opening
        for entry in item.ledger.reviews:
            live = snapshot.panel.get((item.id, entry.number))
            if live is not None and live.held:
                yield entry.opening


def first_stop(chain: Iterable[Guard]) -> Guard | None:
    """The first guard that does not let the task pass."""
    return next((guard for guard in chain if not guard.ok), None)


def before_claim(item: Item, scene: Scene) -> Iterator[Guard]:
    """The guards between a task in `incoming` and its claim, in order, cheapest first, whether they pass or not.

    Lazily: a tick stops at the first that does not pass, `why` prints them all.
    """
    yield not_paused(item, scene)
    yield _settled(item, scene)
    yield _valid(item)
    task = item.task
    if task is None or item.problem:
        return
    flow = gates.flow_of(task, scene.config)
    yield _approved(item)
    yield _ready(task, scene)
    yield _due(task, scene)
    yield backed_off(item, scene)
    yield _flow(task, flow, scene.config)
    if flow is None or gates.lacks_of(task, flow, scene.config):
        return
    stage = gates.stage_of(item.ledger, flow)
    role = gates.role_of(item, stage, flow, scene.config)
    if role:
        yield from pool(role, scene)
        yield _wip(role, scene)
    yield _room(scene)
    yield from _folders(scene)
    yield based(item, scene)
    yield _needs(item, stage)
    yield from _money(role, scene)
    yield _old(item)


def before_review(role: str, item: Item, scene: Scene) -> Iterator[Guard]:
    """The guards between a candidate and its reviewer."""
    yield not_paused(item, scene)
    yield backed_off(item, scene)
    yield from pool(role, scene)
    yield _wip(role, scene)
    yield from _money(role, scene)


def hopeless(item: Item, config: Config) -> Guard | None:
    """What keeps a task from going on until a person changes its file or the policy; None where nothing does."""
    task, flow = item.task, gates.flow_of(item.task, config) if item.task else None
    if task is None or item.problem or item.state is State.BLOCKED:
        return None
    if flow is None or item.state is not State.INCOMING:
        return None if flow else _flow(task, flow, config)
    stage = gates.stage_of(item.ledger, flow)
    role = gates.role_of(item, stage, flow, config)
    idle = role and not gates.players(role, config)
    chain = (_flow(task, flow, config), *([_nobody(role, config)] if idle else []), _needs(item, stage))
    return first_stop(chain)


def not_paused(item: Item, scene: Scene) -> Guard:
    """Nothing that may start is paused, and every limit can be read."""
    snapshot = scene.snapshot
    if snapshot.closed:
        return Guard("closed", False, snapshot.closed, "octopoid doctor")
    if snapshot.pauses.all:
        return Guard("paused", False, "everything is paused", "octopoid resume")
    if item.id in snapshot.pauses.tasks:
        return Guard("paused", False, "this task is paused", f"octopoid resume {item.id}")
    return attached(item, snapshot) or Guard("paused", True, "nothing is paused")


def attached(item: Item, snapshot: Snapshot) -> Guard | None:
    """A person is in its worktree: nothing starts there, and nothing lands. None: nobody is."""
    pid = snapshot.pauses.attached.get(item.id)
    return None if pid is None else Guard("attached", False, attached_text(pid))


def backed_off(item: Item, scene: Scene) -> Guard:
    """The pause after a failure is over."""
    until = item.ledger.retry_at
    # No pause is longer than the cap: a later time was written by a clock that has been set back since.
    if scene.now < until <= scene.now + BACKOFF_CAP:
        text = f"waits until {clock.local(until)} after: {item.ledger.detail}"
        return Guard("backoff", False, text, f"octopoid retry {item.id}", until)
    return Guard("backoff", True, "no backoff")


def pool(role: str, scene: Scene) -> list[Guard]:
    """The guards about agents: one exists, one is awake, one is free, the machine has room, its breaker is closed."""
    agents = gates.players(role, scene.config)
    names = ", ".join(agent.name for agent in agents)
    if not agents:
        return [_nobody(role, scene.config)]
    chain = [Guard("no agent", True, f"role {role}: {names}")]
    awake = [agent for agent in agents if agent.name not in scene.snapshot.pauses.agents]
    if not awake:
        return [*chain, Guard("paused", False, f"{names} is paused", f"octopoid resume --agent {agents[0].name}")]
    load, limit = scene.load, scene.config.max_agents
    room, free = sum(agent.instances for agent in awake), sum(_free(agent, load) for agent in awake)
    chain.append(Guard("pool full", free > 0, f"{room - free} of {room} {role} agents are at work"))
    chain.append(Guard("machine full", load.total < limit, f"{load.total} of {limit} agents are at work (max_agents)"))
    return [*chain, _breaker(awake, scene)]


def _nobody(role: str, config: Config) -> Guard:
    if role not in config.roles:
        text = f"no file defines the role {role} {nearest(role, config.roles)}".strip()
        return Guard("no agent", False, text, "octopoid roles")
    return Guard("no agent", False, f"no agent in agents.yaml has the role {role}", "octopoid config check")


def free_agent(role: str, scene: Scene) -> Agent | None:
    """The first agent of the role that is awake, not full, and whose breaker lets one through."""
    for agent in gates.players(role, scene.config):
        awake = agent.name not in scene.snapshot.pauses.agents
        if awake and _free(agent, scene.load) and not _opens_at(agent, scene):
            return agent
    return None


def free_slot(load: Load) -> int:
    """The smallest number no running attempt on this root has."""
    return next(number for number in range(len(load.slots) + 1) if number not in load.slots)


def _settled(item: Item, scene: Scene) -> Guard:
    until = settled_at(item, scene.now)
    if until > scene.now:
        return Guard("not settled", False, "the file changed a moment ago; it may still be written", "", until)
    return Guard("not settled", True, "the file is written completely")


def _valid(item: Item) -> Guard:
    if item.problem:
        return Guard("invalid", False, str(item.problem), f"octopoid edit {item.id}")
    return Guard("invalid", True, "the file is valid")


def _ready(task: Task, scene: Scene) -> Guard:
    missing = waiting_on(task, scene.snapshot.ids)
    if missing:
        return Guard("dependencies", False, f"waiting on {', '.join(missing)}", f"octopoid why {missing[0]}")
    return Guard("dependencies", True, "every dependency is done" if task.depends_on else "depends on nothing")


def _due(task: Task, scene: Scene) -> Guard:
    if task.not_before > scene.now:
        text = f"not before {clock.local(task.not_before)}"
        return Guard("not before", False, text, f"octopoid edit {task.id}", task.not_before)
    return Guard("not before", True, "its start time is past" if task.not_before else "no start time is set")


def _flow(task: Task, flow: Flow | None, config: Config) -> Guard:
    if flow is None:
        return Guard("no flow", False, f"there is no flow {task.flow}", "octopoid flows")
    lacks = gates.lacks_of(task, flow, config)
    if lacks:
        text = f"flow {flow.name} needs an agent for: {', '.join(lacks)}"
        return Guard("no flow", False, text, f"octopoid flows show {flow.name}")
    return Guard("no flow", True, f"flow {flow.name}")


def _approved(item: Item) -> Guard:
    stage = item.ledger.awaiting
    if stage:
        return Guard("human", False, approval_text(item), f"octopoid approve {item.id}")
    return Guard("human", True, "no stage waits for your yes")


def _needs(item: Item, stage: Stage) -> Guard:
    missing = [name for name in stage.needs if name not in item.ledger.artifacts]
    if missing:
        text = f"stage {stage.name} needs {', '.join(missing)}, and no stage has written it"
        return Guard("no document", False, text, f"octopoid flows show {item.task.flow if item.task else ''}".strip())
    return Guard("no document", True, f"stage {stage.name}")


def _wip(role: str, scene: Scene) -> Guard:
    limit, count = scene.config.limits.wip.get(role, 0), scene.load.roles.get(role, 0)
    text = f"{count} of {limit} tasks have {role} at work (limits.wip)"
    return Guard("wip", not limit or count < limit, text if limit else "no limit for the role", "octopoid status")


def _folders(scene: Scene) -> Iterator[Guard]:
    for folder, limit in scene.config.limits.wip.items():
        if folder in _COUNTED:
            count = scene.load.folders.get(folder, 0)
            text = f"{count} of {limit} tasks are in {folder} (limits.wip)"
            yield Guard("wip", count < limit, text, "octopoid status")


def _free(agent: Agent, load: Load) -> int:
    return max(0, agent.instances - load.agents.get(agent.name, 0))


def _breaker(awake: list[Agent], scene: Scene) -> Guard:
    closed = [agent for agent in awake if not _opens_at(agent, scene)]
    if closed:
        known = any(name in scene.snapshot.breakers for agent in closed for name in agent.breakers)
        return Guard("breaker", True, "one attempt may try what did not work" if known else "no breaker is open")
    first = min(awake, key=lambda agent: _opens_at(agent, scene))
    breaker = max(_open(first, scene), key=lambda one: one.until)
    until = breaker.until if breaker.until > scene.now else 0.0  # over: a probe is out, and its end wakes us
    when = f"tried again at {clock.local(until)}" if until else "one attempt tries it now"
    text = "; ".join(part for part in (breaker.why, breaker.fix, when) if part)
    command = "" if breaker.passing else f"octopoid resume --agent {first.name}"
    return Guard("breaker", False, text, command, until)


def _opens_at(agent: Agent, scene: Scene) -> float:
    """0 when the agent may start; else when it may: after `until` one probe goes out at a time."""
    return max((one.until for one in _open(agent, scene)), default=0.0)


def _open(agent: Agent, scene: Scene) -> list[Breaker]:
    """The breakers that keep the agent from starting: their time is not over, or somebody is trying it just now."""
    found = [scene.snapshot.breakers[name] for name in agent.breakers if name in scene.snapshot.breakers]
    return [one for one in found if one.until > scene.now or _is_tried(one, scene)]


def _is_tried(breaker: Breaker, scene: Scene) -> bool:
    """An agent that needs it began after it was opened. Who began before tells nothing new."""
    agents = scene.config.agents
    needing = (name for name, at in scene.load.since if at >= breaker.since and name in agents)
    return any(breaker.name in agents[name].breakers for name in needing)


def _room(scene: Scene) -> Guard:
    limit, waiting = scene.config.limits.max_provisional, scene.load.provisional
    text = f"{waiting} of {limit} tasks wait for their gates (max_provisional)"
    return Guard("provisional full", not limit or waiting < limit, text, "octopoid status")


def based(item: Item, scene: Scene) -> Guard:
    """The branch the task lands on exists."""
    name = gates.base_of(item, scene.config)
    base = scene.snapshot.bases.get(name, Base(name, None))
    if base.sha is None:
        return Guard("no base", False, f"there is no branch {name or '(none is set)'} with a commit", "octopoid doctor")
    return Guard("no base", True, f"base {name}")


def _money(role: str, scene: Scene) -> Iterator[Guard]:
    """The budgets of the day that the role draws on; that of the task blocks it, see `over_task`."""
    found = budgets.before(role, scene.config.limits, scene.snapshot.spent)
    for one in found:
        yield Guard("budget", not one.over, one.text, "octopoid config check")
    if not found:
        yield Guard("budget", True, "no limit for the day")


def _old(item: Item) -> Guard:
    runs = item.ledger.open is not None or bool(item.ledger.reviews)
    return Guard("old attempt", not runs, "something of an earlier run is there" if runs else "nothing runs for it")
