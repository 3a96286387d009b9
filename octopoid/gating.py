"""What a task does whose work is being judged: its subtasks, its gates group by group, then its landing. Pure."""

from __future__ import annotations

from octopoid import budgets, gates
from octopoid.fold import candidate_verdict, checks_failed_once
from octopoid.guards import (
    Scene,
    attached,
    backed_off,
    based,
    before_review,
    first_stop,
    free_agent,
    free_slot,
    not_paused,
)
from octopoid.model import Entry, Item, Verdict
from octopoid.plans import (
    Base,
    Block,
    Decision,
    Finish,
    GiveBack,
    Guard,
    Land,
    Projection,
    Refuse,
    StartChecks,
    StartReview,
)
from octopoid.ready import approval_text, subtasks_text
from octopoid.results import bounded, clean
from octopoid.settings import Agent, Flow, Gate
from octopoid.states import SATISFYING, State

MAX_TEXT = 8 << 10
"""Characters of one piece of feedback that prompts and task files have room for."""
_HEADING = 100

DEATHS = 5
"""Runs in a row that died without an exit record before a person is asked (DESIGN §5)."""


def provisional(item: Item, scene: Scene) -> Decision:
    """What a task in `provisional` does now."""
    if item.problem or item.task is None:
        return Decision(waits="invalid", text=str(item.problem), command=f"octopoid edit {item.id}")
    if not item.ledger.candidate:
        return Decision(GiveBack(item.id, item.state, "in provisional without a candidate"))
    flow = gates.flow_of(item.task, scene.config)
    if flow is None:
        return Decision(waits="flow", text=f"there is no flow {item.task.flow}", command=f"octopoid edit {item.id}")
    if item.ledger.awaiting:
        return Decision(waits="human", text=approval_text(item), command=f"octopoid approve {item.id}")
    children = _children(item, scene)
    if children:
        return children
    if item.ledger.deaths >= DEATHS and item.ledger.open is None and not item.ledger.reviews:
        return Decision(given_up(item))
    base = based(item, scene)
    if not base.ok:
        return stopped(base)
    for group in gates.groups_of(item, flow):
        decision = _group(group, item, flow, scene)
        if decision is not None:
            return decision
    return _land(item, flow, scene)


def over_task(item: Item, scene: Scene) -> str:
    """The sentence about the task's own budget, where nothing is left of it: a person gives it more."""
    budget = budgets.of_task(item.ledger, scene.config.limits)
    return budget.text if budget is not None and budget.over else ""


def equipped(agent: Agent, role: str, item: Item, scene: Scene) -> Agent:
    """The agent with what is left of every budget as the limit of this attempt, where its program can keep one."""
    limits, known = scene.config.limits, scene.config.roles.get(role)
    own = budgets.of_task(item.ledger, limits)
    found = (*budgets.before(role, limits, scene.snapshot.spent), *((own,) if own else ()))
    return budgets.equipped(agent, agent.model or (known.model if known else ""), found, scene.config.prices)


def given_up(item: Item) -> Block:
    """So many runs in a row died that a person is asked."""
    detail = f"{item.ledger.deaths} runs in a row ended without an answer, the last one: {item.ledger.detail}"
    return Block(item.id, item.state, "failed", detail)


def stopped(guard: Guard) -> Decision:
    """The task waits for what the guard says."""
    return Decision(waits=guard.name, text=guard.text, command=guard.command, until=guard.until)


def base_now(item: Item, scene: Scene) -> Base:
    """Where the branch is that the task lands on."""
    name = gates.base_of(item, scene.config)
    return scene.snapshot.bases.get(name, Base(name, None))


def _children(item: Item, scene: Scene) -> Decision | None:
    """Its subtasks are at work; a failed one is named here, on its parent."""
    active = {one.id: one for one in scene.snapshot.items}
    left = gates.unfinished(item.ledger, active)
    if not left:
        return None
    first = next((one for one in left if one in active and active[one].state is State.BLOCKED), left[0])
    text = subtasks_text(item, active.values(), scene.snapshot.ids)
    return Decision(waits="subtasks", text=text, command=f"octopoid why {first}")


# --- a group of gates ---


def _group(group: tuple[Gate, ...], item: Item, flow: Flow, scene: Scene) -> Decision | None:
    """None: every gate of the group said yes (the checks: once, on some tree). The first thing to do comes first.

    Once a required gate said no nobody more is asked, and who is at work is waited for: their findings go along.
    """
    said = {gate.name: candidate_verdict(item.ledger, gate.name) for gate in group if gate.name != "checks"}
    refused = [gate for gate in group if gate.required and _is_no(said.get(gate.name))]
    at_work = _at_work(item)
    waiting: Decision | None = None
    for gate in group:
        if gate.name in at_work:
            waiting = _running(item, gate.name)  # a person beside it is shown their turn, and nobody leaves for that
        elif not refused and gates.is_open(gate, item, flow, scene.config):
            decision = _ask(gate, item, flow, scene) or waiting
            if decision is not None and decision.action is not None:
                return decision
            waiting = decision if waiting is None or waiting.waits == "human" else waiting
    if waiting is not None:
        return waiting
    return _refuse(group, refused, item, said) if refused else None


def _at_work(item: Item) -> set[str]:
    """The gates that are answering now."""
    opened = [item.ledger.open] if item.ledger.open else []
    return {entry.opening.gate for entry in (*opened, *item.ledger.reviews)}


def _running(item: Item, gate: str) -> Decision:
    who = f"{gate} {'are' if gate == 'checks' else 'is'} at work"
    return Decision(waits="running", text=who, command=f"octopoid log -f {item.id}")


def _is_no(verdict: Verdict | None) -> bool:
    return verdict is not None and not verdict.yes


def _ask(gate: Gate, item: Item, flow: Flow, scene: Scene) -> Decision | None:
    if gate.name == "checks":
        return None if _verified(item, flow, scene) else _checks(item, flow, scene)
    if gate.name == "human":
        command = f"octopoid approve {item.id}"
        return Decision(waits="human", text="waits for your yes or no; octopoid diff shows the work", command=command)
    return _review(gate.name, item, flow, scene)


def _apart(gate: str, item: Item, flow: Flow) -> bool:
    """It is asked in a checkout of its own, because other roles are asked at the same time."""
    groups = ({one.name for one in group} for group in gates.groups_of(item, flow))
    return any(gate in names and len(names - {"checks", "human"}) > 1 for names in groups)


def _in_worktree(item: Item, flow: Flow) -> Entry | None:
    """Who uses the task's own worktree: also a reviewer that is asked alone."""
    alone = (one for one in item.ledger.reviews if not _apart(one.opening.gate, item, flow))
    return item.ledger.open or next(alone, None)


def _review(gate: str, item: Item, flow: Flow, scene: Scene) -> Decision:
    stop = first_stop(before_review(gate, item, scene))
    if stop:
        return stopped(stop)
    agent = free_agent(gate, scene)
    if agent is None:
        return Decision(waits="no agent", text=f"no {gate} is free")
    apart, user = _apart(gate, item, flow), _in_worktree(item, flow)
    if not apart and user is not None:
        return _running(item, user.opening.gate)
    if spent := over_task(item, scene):
        idle = item.ledger.open is None and not item.ledger.reviews  # what is at work is paid for already
        return Decision(Block(item.id, item.state, "budget", spent)) if idle else Decision(waits="budget", text=spent)
    agent = equipped(agent, gate, item, scene)
    return Decision(StartReview(item.id, gate, agent, free_slot(scene.load), base_now(item, scene), apart))


def _refuse(group: tuple[Gate, ...], refused: list[Gate], item: Item, said: dict[str, Verdict | None]) -> Decision:
    """Back with what every gate of the group found, in one text."""
    heard = [(gate, verdict) for gate in group if (verdict := said.get(gate.name)) is not None and verdict.feedback]
    names = ", ".join(gate.name for gate in refused)
    alone = len(heard) == 1
    share = MAX_TEXT // max(1, len(heard)) - _HEADING  # what is longer loses its middle: that must not be a whole gate
    parts = [
        verdict.feedback if alone else f"## {_heading(gate, verdict)}\n\n{bounded(verdict.feedback, share)}"
        for gate, verdict in heard
    ]
    first = said[refused[0].name]
    why = next((line for line in (first.feedback if first else "").splitlines() if line.strip()), "no reason given")
    return Decision(Refuse(item.id, refused[0].name, f"{names}: {why}"[:300], "\n\n".join(parts)))


def _heading(gate: Gate, verdict: Verdict) -> str:
    word = "accepts, with remarks" if verdict.yes else "refuses"
    return f"{gate.name} {word}{'' if gate.required else ' (advisory)'}"


# --- the checks ---


def _verified(item: Item, flow: Flow, scene: Scene) -> bool:
    """The checks said yes about exactly the projected tree, whichever candidate it came from."""
    projection = scene.snapshot.projections.get(item.id)
    if projection is None or projection.conflicts:
        return False
    verdict = gates.exact_verdict(item, gates.checks_for(item, flow, scene.config), projection)
    return verdict is not None and verdict.yes


def _checks(item: Item, flow: Flow, scene: Scene) -> Decision:
    """Have the checks say something about exactly the projected tree, or act on what they said."""
    user = _in_worktree(item, flow)
    if user is not None:
        return _running(item, user.opening.gate)
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
        if item.ledger.bare:  # there is no work to send back: what was asked for is not met, and a person decides
            return Decision(Block(item.id, item.state, "rejected", f"{detail}: {_first_line(verdict.feedback)}"))
        return Decision(Refuse(item.id, "checks", detail, verdict.feedback, projection.tree))
    stop = first_stop((not_paused(item, scene), backed_off(item, scene)))
    if stop:
        return stopped(stop)
    if scene.load.checks >= scene.config.max_checks:
        return Decision(waits="checks full", text=f"{scene.load.checks} runs of checks are at work (max_checks)")
    return Decision(StartChecks(item.id, checks, projection))


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "")[:200]


def _turn(text: str) -> Decision:
    return Decision(waits="turn", text=text)


def _unprojected(item: Item, scene: Scene) -> Decision:
    trouble = scene.snapshot.trouble.get(item.id)
    if trouble:
        return Decision(waits="git", text=trouble, command="octopoid doctor")
    return _turn("waits for its turn to land")


def _conflict(item: Item, scene: Scene) -> Decision:
    projection = scene.snapshot.projections[item.id]
    if projection.lost:
        return _rewritten(item, scene, projection)
    files = clean(", ".join(projection.conflicts[:5])) + (" …" if len(projection.conflicts) > 5 else "")
    feedback = (
        f"Your work conflicts with what landed on the base branch meanwhile, in: {files}. Your commits are kept.\n"
        f"Merge commit {projection.onto} into your work, keep the intent of both sides, and commit.\n\n"
        f"{clean(projection.detail)}"
    )
    return Decision(Refuse(item.id, "merge", f"conflicts with the base branch in {files}", feedback))


def _rewritten(item: Item, scene: Scene, projection: Projection) -> Decision:
    """The base was set back or written anew: to land the work would bring back what somebody took off it."""
    base = base_now(item, scene).name
    feedback = (
        f"The branch {base} was rewritten: it does not contain commit {projection.lost} any more, on which your work"
        f" was begun, and your work would bring back what was taken off it. Your commits are kept.\n"
        f"Move your own commits over, and only these: git rebase --onto {projection.onto} {projection.lost}"
    )
    detail = f"{base} was rewritten: it has lost {projection.lost[:12]}, on which this work was begun"
    return Decision(Refuse(item.id, "merge", detail, feedback))


# --- landing ---


def _land(item: Item, flow: Flow, scene: Scene) -> Decision:
    """Every gate but the checks on the exact tree said yes."""
    if item.ledger.open is not None:
        return _running(item, item.ledger.open.opening.gate)
    projection, base = scene.snapshot.projections.get(item.id), base_now(item, scene)
    if projection is None and base.waits and flow.land != "none":  # what reads only computes no projections
        return Decision(waits="checkout", text=base.waits, command="git status")
    if projection is None:
        return _unprojected(item, scene)
    checks = gates.checks_for(item, flow, scene.config)
    if projection.conflicts:
        return _checks(item, flow, scene)
    if checks and not _verified(item, flow, scene):
        return _checks(item, flow, scene)
    if projection.ahead:
        return _turn("verified; waits for the task that lands before it")
    taken = attached(item, scene.snapshot)
    if taken:
        return stopped(taken)
    if projection.empty or item.ledger.bare:  # also where the base was set back since: nothing of that is its work
        return Decision(Finish(item.id, _nothing_to_land(item, scene)))
    if flow.land == "none":
        detail = f"every gate said yes; the work is at branch octopoid/{item.id}"
        return Decision(Finish(item.id, detail, publish=item.ledger.candidate))
    if base.waits:
        return Decision(waits="checkout", text=base.waits, command="git status")
    return Decision(Land(item.id, base.name, projection))


def _nothing_to_land(item: Item, scene: Scene) -> str:
    ledger = item.ledger
    if ledger.children:
        done = sum(1 for one in ledger.children if scene.snapshot.ids.get(one) in SATISFYING)
        return f"{done} of its {len(ledger.children)} subtasks are done, and none is open"
    if ledger.artifacts:
        return f"written: {', '.join(ledger.artifacts)}"
    return "every gate said yes; the base branch has all of it already"
