"""`plan(snapshot, config, now) → Plan`: every scheduling decision. Pure: no disk, no clock, no process.

`why ID` and `run --dry-run` print what this says. Read it from top to bottom: a task is decided by the folder it is in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from octopoid import gates
from octopoid.fold import candidate_verdict
from octopoid.gating import DEATHS, base_now, equipped, given_up, over_task, provisional, stopped
from octopoid.guards import (
    Load,
    Scene,
    attached,
    before_claim,
    before_review,
    first_stop,
    free_agent,
    free_slot,
    load_of,
)
from octopoid.model import Entry, Item
from octopoid.order import fair, judged_flow, landing_first
from octopoid.plans import (
    Action,
    Block,
    Close,
    Decision,
    End,
    Finish,
    GiveBack,
    Guard,
    Heal,
    Land,
    MakeBase,
    NoteMove,
    Plan,
    Refuse,
    Release,
    Snapshot,
    Spawn,
    Start,
    StartChecks,
    StartProbe,
    StartReview,
    TakeBranch,
)
from octopoid.ready import dead_dependency, is_on_its_way, settled_at
from octopoid.settings import Config, Flow, Stage
from octopoid.states import State

MOVING = 1.0
"""Seconds until a task is looked at again that somebody's command is moving; the command wakes us when it is done."""


def plan(snapshot: Snapshot, config: Config, now: float) -> Plan:
    """What to do now. Tasks are decided in their order (priority, age, id); each start counts against the next."""
    load = load_of(snapshot)
    decisions: dict[str, Decision] = {}
    for item in sorted(snapshot.items, key=fair if snapshot.breakers else landing_first):
        decision = decide(item, Scene(snapshot, config, now, load))
        load = _after(load, decision.action, now)
        decisions[item.id] = decision
    ends = [End(task, "its task is not being worked on any more") for task in snapshot.strays]
    actions = [decision.action for decision in decisions.values() if decision.action is not None]
    return Plan(tuple(sorted([*ends, *actions], key=lambda one: _ORDER[type(one)])), decisions)


def decide(item: Item, scene: Scene) -> Decision:
    """What this one task does now."""
    live = scene.snapshot.live.get(item.id)
    occupied = scene.snapshot.occupied.get(item.id)
    if occupied and (live is None or not live.held):
        return Decision(waits="occupied", text=occupied, command=f"octopoid show {item.id}")
    if item.id in scene.snapshot.moving:
        return Decision(waits="running", text="a command is moving it", until=scene.now + MOVING)
    healing = _heal(item)
    if healing:
        return healing
    if item.ledger.trouble:
        return Decision(waits="evidence", text=item.ledger.trouble, command="octopoid doctor")
    if item.ledger.spawn and not item.ledger.awaiting:
        return Decision(Spawn(item.id, item.ledger.spawn[0]))
    reviewing = _reviewing(item, scene.snapshot)
    if reviewing:
        return reviewing
    running = _running(item, scene.snapshot, scene.config)
    if running and not (running.action is None and _checked(item)):
        return running
    return _FOLDERS[item.state](item, scene)


def next_time(plan: Plan) -> float:
    """When time alone will change a decision (seconds since the epoch); 0 when it will not."""
    return min((decision.until for decision in plan.decisions.values() if decision.until), default=0.0)


def explain(item: Item, scene: Scene) -> tuple[Guard, ...]:
    """The whole chain of guards in front of what the task would do next, for `why`."""
    if item.state is State.INCOMING:
        return tuple(before_claim(item, scene))
    flow = judged_flow(item, scene.config)
    waiting = gates.open_gates(item, flow, scene.config) if flow else ()
    passed = [] if flow is None else [_answered(gate, item) for gate in _passed(item, flow, waiting)]
    if item.ledger.awaiting and flow is not None:
        command = f"octopoid approve {item.id}"
        return (*passed, Guard(f"stage {item.ledger.awaiting}", False, "waits for your yes or no", command))
    opened = item.ledger.open
    if opened is not None and opened.waits:
        passed.append(Guard("checkout", False, opened.waits.splitlines()[0], "git status"))
    taken = attached(item, scene.snapshot)
    if taken:
        passed.append(taken)
    if not waiting:
        return tuple(passed)
    command = f"octopoid approve {item.id}" if waiting[0] == "human" else ""
    asked = Guard(f"gate {waiting[0]}", False, "did not say yes yet", command)
    if waiting[0] in ("human", "checks"):
        return (*passed, asked)
    return (*passed, *before_review(waiting[0], item, scene), asked)


def _passed(item: Item, flow: Flow, waiting: tuple[str, ...]) -> list[str]:
    return [gate.name for group in gates.groups_of(item, flow) for gate in group if gate.name not in waiting]


def _answered(gate: str, item: Item) -> Guard:
    """What a gate said that is passed: an advisory one may have said no."""
    verdict = candidate_verdict(item.ledger, gate)
    if verdict is not None and not verdict.yes:
        return Guard(f"gate {gate}", True, "said no; it is advisory")
    unasked = verdict is None and gate != "checks"
    return Guard(f"gate {gate}", True, "gave no answer; it is advisory" if unasked else "said yes")


def name_of(action: Action) -> str:
    """The action in a word, for people."""
    return _NAMES[type(action)]


def _after(load: Load, action: Action | None, now: float) -> Load:
    if isinstance(action, Start):
        return load.with_agent(action.agent.name, action.role, action.slot, now).with_claim()
    if isinstance(action, StartReview):
        return load.with_agent(action.agent.name, action.gate, action.slot, now)
    if isinstance(action, StartProbe):
        return load.with_checks().with_claim()
    return load.with_checks() if isinstance(action, StartChecks) else load


def _heal(item: Item) -> Decision | None:
    """Unfinished verbs first, then a person's `mv`."""
    ledger = item.ledger
    if ledger.unmoved is not None or is_on_its_way(item):
        return Decision(Heal(item.id))
    if not ledger.expected or ledger.expected == item.state.value:
        return None
    if item.state is State.CLAIMED and ledger.open is not None and ledger.open.opening.kind == "attempt":
        return None  # killed between the claim's rename and its marker: no person's `mv`, which would renew budgets
    if item.state is State.CLAIMED:
        return Decision(GiveBack(item.id, item.state, "moved into claimed by hand; only the scheduler claims"))
    if item.state is State.PROVISIONAL and not ledger.candidate:
        return Decision(GiveBack(item.id, item.state, "moved into provisional by hand without a candidate"))
    return Decision(NoteMove(item.id, ledger.expected, item.state))


def _reviewing(item: Item, snapshot: Snapshot) -> Decision | None:
    """A reviewer that has ended, or that is not wanted any more."""
    for entry in item.ledger.reviews:
        live = snapshot.panel.get((item.id, entry.number))
        wanted = item.state is State.PROVISIONAL and entry.opening.candidate == item.ledger.candidate
        if live is None or not live.held:
            return Decision(Close(item.id, entry=entry.number))
        if not live.runner:
            return Decision(End(item.id, "its supervisor is gone", gently=False, entry=entry.number))
        if live.stopping or not wanted:  # asked again and again: a signal may have come before its runner could hear
            return Decision(End(item.id, f"its task is in {item.state.value}", entry=entry.number))
    return None


def _checked(item: Item) -> bool:
    """The checks are at work: whoever is to be asked at the same time may be."""
    entry: Entry | None = item.ledger.open
    return item.state is State.PROVISIONAL and entry is not None and entry.opening.gate == "checks"


def _running(item: Item, snapshot: Snapshot, config: Config) -> Decision | None:
    """An open entry: let it work, end it where its task is not being worked on, or close it."""
    entry = item.ledger.open
    if entry is None:
        return None
    live = snapshot.live.get(item.id)
    at_home = item.state is (State.CLAIMED if entry.opening.kind == "attempt" else State.PROVISIONAL)
    landing = entry.opening.kind == "landing"
    if live is not None and live.held:
        if landing:  # git is never killed, wherever a person moved the file meanwhile
            return Decision(waits="running", text="it is landing", command=f"octopoid log {item.id}")
        if not live.runner:
            return Decision(End(item.id, "its supervisor is gone", gently=False))
        if live.stopping or not at_home:  # asked again and again: a signal may have come before its runner could hear
            return Decision(End(item.id, f"its task is in {item.state.value}"))
        who = entry.opening.agent or entry.opening.gate or entry.opening.kind
        return Decision(waits="running", text=f"{who} is at work", command=f"octopoid log -f {item.id}")
    if at_home and item.problem:
        return Decision(waits="invalid", text=str(item.problem), command=f"octopoid edit {item.id}")
    if landing and at_home and _still_asked(item, config):
        return Decision(Close(item.id, drop=True))
    taken = attached(item, snapshot)
    if landing and at_home and taken:
        return stopped(taken)
    later = snapshot.landing_retry.get(item.id, 0.0)
    if at_home and later:
        return Decision(
            waits="checkout", text=entry.waits or "the base cannot move yet", command="git status", until=later
        )
    return Decision(Close(item.id))


def _still_asked(item: Item, config: Config) -> bool:
    """A gate came into the policy while the landing waited."""
    flow = judged_flow(item, config)
    return flow is not None and not set(gates.open_gates(item, flow, config)) <= {"checks"}


def _claimed(item: Item, _scene: Scene) -> Decision:
    return Decision(GiveBack(item.id, item.state, "claimed, but nothing works on it"))


def _blocked(item: Item, scene: Scene) -> Decision:
    if item.id in scene.snapshot.answered and not item.problem:
        return Decision(Release(item.id))
    reason = item.ledger.reason or "parked"
    detail = item.ledger.detail or "put into blocked by hand"
    verb = "answer" if reason == "question" else "retry"
    command = f"octopoid {verb} {item.id}"
    if reason == "question" and settled_at(item, scene.now) > scene.now:
        return Decision(waits="not settled", text="somebody is writing the answer", until=settled_at(item, scene.now))
    return Decision(waits="person", text=f"{reason}: {detail}", command=command)


def _incoming(item: Item, scene: Scene) -> Decision:
    """The guards before a claim, cheapest first; the claim comes last (DESIGN §7)."""
    config = scene.config
    if item.task and not item.problem and (dead := dead_dependency(item.task, scene.snapshot.ids)):
        return Decision(Block(item.id, item.state, "dependency", f"{dead} was cancelled, so it will never be done"))
    if item.ledger.deaths >= DEATHS:
        return Decision(given_up(item))
    stop = first_stop(before_claim(item, scene))
    if stop and stop.name == "no document":  # nothing but a person can change that
        return Decision(Block(item.id, item.state, "failed", stop.text))
    if stop:
        return (_no_base(item, scene) if stop.name == "no base" else None) or stopped(stop)
    flow = gates.flow_of(item.task, config) if item.task else None
    if item.task is None or flow is None:
        return Decision(waits="invalid", text="the file cannot be read")
    if spent := over_task(item, scene):
        return Decision(Block(item.id, item.state, "budget", spent))
    stage = gates.stage_of(item.ledger, flow)
    if stage.run:
        return _RUNS[stage.run](item, stage, scene)
    role = gates.role_of(item, stage, flow, config)
    agent = free_agent(role, scene)
    if agent is None:
        return Decision(waits="no agent", text="no agent is free")
    agent = equipped(agent, role, item, scene)
    return Decision(Start(item.id, agent, free_slot(scene.load), base_now(item, scene), stage, role))


def _no_base(item: Item, scene: Scene) -> Decision | None:
    """The first task of a project makes its branch."""
    name, task = gates.base_of(item, scene.config), item.task
    begins = scene.snapshot.bases.get(gates.root_base(task, scene.config))
    if task is None or name != f"{gates.PROJECT}{task.project}" or begins is None or begins.sha is None:
        return None
    return Decision(MakeBase(item.id, name, begins.sha))


def _probe(item: Item, stage: Stage, scene: Scene) -> Decision:
    """The task's own commands run on the base, where they must fail."""
    checks = gates.commands_of(item.task, ()) if item.task else ()
    if not checks:
        detail = "its flow begins with a command that fails, and the task has none: write `- [ ] text :: command`"
        return Decision(Block(item.id, item.state, "failed", detail))
    if scene.load.checks >= scene.config.max_checks:
        return Decision(waits="checks full", text=f"{scene.load.checks} runs of checks are at work (max_checks)")
    return Decision(StartProbe(item.id, stage, checks, base_now(item, scene)))


def _take_branch(item: Item, stage: Stage, scene: Scene) -> Decision:
    """What the tasks of a project left on its branch."""
    if item.task is None or not item.task.project:
        detail = "its flow lands a project, and it names none: write `project: NAME`"
        return Decision(Block(item.id, item.state, "failed", detail))
    name = f"{gates.PROJECT}{item.task.project}"
    branch = scene.snapshot.bases.get(name)
    if branch is None or branch.sha is None:
        detail = f"there is no branch {name}: no task of the project has begun"
        return Decision(Block(item.id, item.state, "failed", detail))
    return Decision(TakeBranch(item.id, stage, base_now(item, scene), branch.sha))


_RUNS: Mapping[str, Callable[[Item, Stage, Scene], Decision]] = {gates.REPRODUCE: _probe, gates.BRANCH: _take_branch}
"""What a stage without an agent does."""


_FOLDERS: Mapping[State, Callable[[Item, Scene], Decision]] = {
    State.INCOMING: _incoming,
    State.CLAIMED: _claimed,
    State.PROVISIONAL: provisional,
    State.BLOCKED: _blocked,
}

_ORDER: Mapping[type, int] = {
    Heal: 0,
    NoteMove: 0,
    GiveBack: 0,
    Spawn: 0,
    Close: 1,
    End: 2,
    Refuse: 3,
    Land: 4,
    Finish: 4,
    StartChecks: 5,
    StartReview: 5,
    Block: 6,
    Release: 6,
    MakeBase: 6,
    TakeBranch: 7,
    StartProbe: 7,
    Start: 7,
}
"""The order of a tick: heal, close, stop, land, gates, release, start (DESIGN §7)."""

_NAMES: Mapping[type, str] = {
    Heal: "finish a move",
    NoteMove: "note a move by hand",
    GiveBack: "put it back into incoming",
    Close: "read what its last run left",
    End: "end its run",
    Refuse: "send it back with the feedback",
    Land: "land it",
    Finish: "call it done",
    StartChecks: "run its checks",
    StartReview: "start its reviewer",
    Block: "block it",
    Release: "take up the answers",
    MakeBase: "make the branch of its project",
    TakeBranch: "take up the branch of the project",
    StartProbe: "run its own commands, which must fail before the work",
    Start: "start an agent on it",
    Spawn: "make the tasks that it asks for",
}
