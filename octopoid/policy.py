"""`plan(snapshot, config, now) → Plan`: every scheduling decision. Pure: no disk, no clock, no process.

`why ID` and `run --dry-run` print what this says. Read it from top to bottom: a task is decided by the folder it is in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from octopoid import gates
from octopoid.fold import candidate_verdict, checks_failed_once
from octopoid.guards import (
    Load,
    Scene,
    backed_off,
    based,
    before_claim,
    before_review,
    first_stop,
    free_agent,
    free_slot,
    load_of,
    not_paused,
)
from octopoid.model import Item
from octopoid.order import fair, judged_flow, landing_first
from octopoid.plans import (
    Action,
    Base,
    Block,
    Close,
    Decision,
    End,
    Finish,
    GiveBack,
    Guard,
    Heal,
    Land,
    NoteMove,
    Plan,
    Refuse,
    Release,
    Snapshot,
    Start,
    StartChecks,
    StartReview,
)
from octopoid.ready import dead_dependency, settled_at
from octopoid.settings import Config, Flow
from octopoid.states import State

DEATHS = 5
"""Attempts in a row that died without an exit record before a person is asked (DESIGN §5)."""


def plan(snapshot: Snapshot, config: Config, now: float) -> Plan:
    """What to do now. Tasks are decided in their order (priority, age, id); each start counts against the next."""
    load = load_of(snapshot)
    decisions: dict[str, Decision] = {}
    for item in sorted(snapshot.items, key=fair if snapshot.breakers else landing_first):
        decision = decide(item, Scene(snapshot, config, now, load))
        load = _after(load, decision.action)
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
    healing = _heal(item)
    if healing:
        return healing
    if item.ledger.trouble:
        return Decision(waits="evidence", text=item.ledger.trouble, command="octopoid doctor")
    running = _running(item, scene.snapshot, scene.config)
    if running:
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
    answered = [] if flow is None else [gate for gate in gates.gates_of(item, flow) if gate not in waiting]
    passed = [Guard(f"gate {gate}", True, "said yes") for gate in answered]
    opened = item.ledger.open
    if opened is not None and opened.waits:
        passed.append(Guard("checkout", False, opened.waits.splitlines()[0], "git status"))
    if not waiting:
        return tuple(passed)
    command = f"octopoid approve {item.id}" if waiting[0] == "human" else ""
    asked = Guard(f"gate {waiting[0]}", False, "did not say yes yet", command)
    if waiting[0] in ("human", "checks"):
        return (*passed, asked)
    return (*passed, *before_review(waiting[0], item, scene), asked)


def name_of(action: Action) -> str:
    """The action in a word, for people."""
    return _NAMES[type(action)]


def _after(load: Load, action: Action | None) -> Load:
    if isinstance(action, Start):
        return load.with_agent(action.agent.name, action.slot)
    if isinstance(action, StartReview):
        return load.with_agent(action.agent.name, action.slot)
    return load.with_checks() if isinstance(action, StartChecks) else load


def _stopped(guard: Guard) -> Decision:
    return Decision(waits=guard.name, text=guard.text, command=guard.command, until=guard.until)


def _turn(text: str) -> Decision:
    return Decision(waits="turn", text=text)


def _heal(item: Item) -> Decision | None:
    """Unfinished verbs first, then a person's `mv`."""
    ledger = item.ledger
    if ledger.unmoved is not None or item.path.parent.name == ".moving":
        return Decision(Heal(item.id))
    if not ledger.expected or ledger.expected == item.state.value:
        return None
    if item.state is State.CLAIMED:
        return Decision(GiveBack(item.id, item.state, "moved into claimed by hand; only the scheduler claims"))
    if item.state is State.PROVISIONAL and not ledger.candidate:
        return Decision(GiveBack(item.id, item.state, "moved into provisional by hand without a candidate"))
    return Decision(NoteMove(item.id, ledger.expected, item.state))


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
    if reason == "question" and settled_at(item) > scene.now:
        return Decision(waits="not settled", text="somebody is writing the answer", until=settled_at(item))
    return Decision(waits="person", text=f"{reason}: {detail}", command=command)


def _provisional(item: Item, scene: Scene) -> Decision:
    if item.problem or item.task is None:
        return Decision(waits="invalid", text=str(item.problem), command=f"octopoid edit {item.id}")
    if not item.ledger.candidate:
        return Decision(GiveBack(item.id, item.state, "in provisional without a candidate"))
    flow = gates.flow_of(item.task, scene.config)
    if flow is None:
        return Decision(waits="flow", text=f"there is no flow {item.task.flow}", command=f"octopoid edit {item.id}")
    if item.ledger.deaths >= DEATHS:
        return Decision(_given_up(item))
    base = based(item, scene)
    if not base.ok:
        return _stopped(base)
    for gate in gates.gates_of(item, flow):
        decision = _gate(gate, item, flow, scene)
        if decision is not None:
            return decision
    return _land(item, flow, scene)


def _given_up(item: Item) -> Block:
    detail = f"{item.ledger.deaths} runs in a row ended without an answer, the last one: {item.ledger.detail}"
    return Block(item.id, item.state, "failed", detail)


def _gate(gate: str, item: Item, flow: Flow, scene: Scene) -> Decision | None:
    """None: this gate said yes (the checks: once, on some tree)."""
    if gate == "checks":
        asked = gate in gates.open_gates(item, flow, scene.config) and not _verified(item, flow, scene)
        return _checks(item, flow, scene) if asked else None
    verdict = candidate_verdict(item.ledger, gate)
    if verdict is not None and verdict.yes:
        return None
    if verdict is not None:
        return Decision(Refuse(item.id, gate, f"{gate} refused this candidate before", verdict.feedback))
    if gate == "human":
        command = f"octopoid approve {item.id}"
        return Decision(waits="human", text="waits for your yes or no; octopoid diff shows the work", command=command)
    return _review(gate, item, scene)


def _review(gate: str, item: Item, scene: Scene) -> Decision:
    stop = first_stop(before_review(gate, item, scene))
    if stop:
        return _stopped(stop)
    agent = free_agent(gate, scene)
    if agent is None:
        return Decision(waits="no agent", text=f"no {gate} is free")
    return Decision(StartReview(item.id, gate, agent, free_slot(scene.load), _base(item, scene)))


def _verified(item: Item, flow: Flow, scene: Scene) -> bool:
    """The checks said yes about exactly the projected tree, whichever candidate it came from."""
    projection = scene.snapshot.projections.get(item.id)
    if projection is None or projection.conflicts:
        return False
    verdict = gates.exact_verdict(item, gates.checks_for(item, flow, scene.config), projection)
    return verdict is not None and verdict.yes


def _checks(item: Item, flow: Flow, scene: Scene) -> Decision:
    """Have the checks say something about exactly the projected tree, or act on what they said."""
    projection = scene.snapshot.projections.get(item.id)
    if projection is None:
        return _unprojected(item, scene)
    if projection.conflicts:
        return _turn("waits for the task that lands before it") if projection.ahead else _conflict(item, scene)
    checks = gates.checks_for(item, flow, scene.config)
    verdict = gates.exact_verdict(item, checks, projection)
    if projection.ahead and checks_failed_once(item.ledger, gates.checks_key(checks)):
        return _turn("its checks failed on a tree that may not land; waits for the task that lands before it")
    if verdict is not None:
        detail = "the checks failed on exactly this tree"
        return Decision(Refuse(item.id, "checks", detail, verdict.feedback, projection.tree))
    stop = first_stop((not_paused(item, scene), backed_off(item, scene)))
    if stop:
        return _stopped(stop)
    if scene.load.checks >= scene.config.max_checks:
        return Decision(waits="checks full", text=f"{scene.load.checks} runs of checks are at work (max_checks)")
    return Decision(StartChecks(item.id, checks, projection))


def _unprojected(item: Item, scene: Scene) -> Decision:
    trouble = scene.snapshot.trouble.get(item.id)
    if trouble:
        return Decision(waits="git", text=trouble, command="octopoid doctor")
    return _turn("waits for its turn to land")


def _conflict(item: Item, scene: Scene) -> Decision:
    projection = scene.snapshot.projections[item.id]
    files = ", ".join(projection.conflicts[:5]) + (" …" if len(projection.conflicts) > 5 else "")
    feedback = (
        f"Your work conflicts with what landed on the base branch meanwhile, in: {files}. Your commits are kept.\n"
        f"Merge commit {projection.onto} into your work, keep the intent of both sides, and commit.\n\n"
        f"{projection.detail}"
    )
    return Decision(Refuse(item.id, "merge", f"conflicts with the base branch in {files}", feedback))


def _land(item: Item, flow: Flow, scene: Scene) -> Decision:
    """Every gate but the checks on the exact tree said yes."""
    projection = scene.snapshot.projections.get(item.id)
    if projection is None:
        return _unprojected(item, scene)
    checks = gates.checks_for(item, flow, scene.config)
    if projection.conflicts:
        return _checks(item, flow, scene)
    if checks and not _verified(item, flow, scene):
        return _checks(item, flow, scene)
    if projection.ahead:
        return _turn("verified; waits for the task that lands before it")
    if projection.empty:
        return Decision(Finish(item.id, "every gate said yes; the base branch has all of it already"))
    if flow.land == "none":
        detail = f"every gate said yes; the work is at branch octopoid/{item.id}"
        return Decision(Finish(item.id, detail, publish=item.ledger.candidate))
    base = _base(item, scene)
    if base.waits:
        return Decision(waits="checkout", text=base.waits, command="git status")
    return Decision(Land(item.id, base.name, projection))


def _base(item: Item, scene: Scene) -> Base:
    name = gates.base_of(item, scene.config)
    return scene.snapshot.bases.get(name, Base(name, None))


def _incoming(item: Item, scene: Scene) -> Decision:
    """The guards before a claim, cheapest first; the claim comes last (DESIGN §7)."""
    config = scene.config
    if item.task and not item.problem and (dead := dead_dependency(item.task, scene.snapshot.ids)):
        return Decision(Block(item.id, item.state, "dependency", f"{dead} was cancelled, so it will never be done"))
    if item.ledger.deaths >= DEATHS:
        return Decision(_given_up(item))
    stop = first_stop(before_claim(item, scene))
    if stop:
        return _stopped(stop)
    flow = gates.flow_of(item.task, config) if item.task else None
    if item.task is None or flow is None:
        return Decision(waits="invalid", text="the file cannot be read")
    limit, spent = config.limits.usd_per_task, item.ledger.usd
    if limit and spent is not None and spent >= limit:
        detail = f"${spent:.2f} of ${limit:.2f} are spent (usd_per_task)"
        return Decision(Block(item.id, item.state, "budget", detail))
    agent = free_agent(gates.role_of(item.task, flow), scene)
    if agent is None:
        return Decision(waits="no agent", text="no agent is free")
    return Decision(Start(item.id, agent, free_slot(scene.load), _base(item, scene)))


_FOLDERS: Mapping[State, Callable[[Item, Scene], Decision]] = {
    State.INCOMING: _incoming,
    State.CLAIMED: _claimed,
    State.PROVISIONAL: _provisional,
    State.BLOCKED: _blocked,
}

_ORDER: Mapping[type, int] = {
    Heal: 0,
    NoteMove: 0,
    GiveBack: 0,
    Close: 1,
    End: 2,
    Refuse: 3,
    Land: 4,
    Finish: 4,
    StartChecks: 5,
    StartReview: 5,
    Block: 6,
    Release: 6,
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
    Start: "start an agent on it",
}
