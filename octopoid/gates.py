"""Where a task stands in its flow, what must say yes before it lands, and what is known of it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from octopoid.fold import candidate_verdict, checks_passed_once, checks_verdict
from octopoid.model import Item, Ledger, Task, Verdict
from octopoid.plans import Projection
from octopoid.settings import Agent, Check, Config, Flow, Gate, Stage

CRITERION_TIMEOUT = 1200.0
BRANCH, REPRODUCE = "branch", "reproduce"
"""Stages without an agent: what is on a branch is the candidate; the task's own commands must fail before the work."""

PROJECT = "project/"
"""Where the branches of projects are."""

_CHECKS, _HUMAN = Gate("checks"), Gate("human")

# --- stages ---


def flow_of(task: Task, config: Config) -> Flow | None:
    """The flow a task names; None when the policy has none of that name."""
    return config.flows.get(task.flow)


def stage_of(ledger: Ledger, flow: Flow) -> Stage:
    """The stage that comes next. Where all are done the one that made the work: it is to be done again."""
    undone = next((stage for stage in flow.stages if stage.name not in ledger.stages), None)
    return undone or next((stage for stage in flow.stages if stage.name == ledger.work), flow.stages[-1])


def after(ledger: Ledger, done: str, flow: Flow) -> Stage | None:
    """The stage that comes when `done` is done, too; None when that was the last."""
    return next((one for one in flow.stages if one.name not in (*ledger.stages, done)), None)


def players(role: str, config: Config) -> tuple[Agent, ...]:
    """The agents that can be asked for `role`; none where no file defines it, even for one that plays all."""
    if role not in config.roles:
        return ()
    return tuple(agent for agent in config.agents.values() if agent.plays(role))


def role_of(item: Item, stage: Stage, flow: Flow, config: Config) -> str:
    """Who does `stage`: who was asked to take over, who resolves conflicts, whom the task names, or as flows say."""
    ledger = item.ledger
    if stage.run:
        return ""
    if ledger.handoff and players(ledger.handoff, config):
        return ledger.handoff
    if ledger.conflict and flow.conflicts:
        return flow.conflicts
    own = item.task.role if item.task else None
    return own if own and stage == _stage_for(own, flow, config) else stage.role


def produces(role: str, stage: Stage, config: Config) -> str:
    """What `role` is to leave: commits, a document, a verdict or tasks."""
    known = config.roles.get(role)
    return stage.produces if known is None or known.produces == "any" else known.produces


def artifact_of(role: str, stage: Stage, config: Config) -> str:
    """The name of the document that `role` is to write in `stage`, "" when it writes none."""
    made = produces(role, stage, config)
    if made not in ("document", "verdict"):
        return ""
    known = config.roles.get(role)
    own = known.artifact if known else ""
    return (stage.artifact if role == stage.role else "") or own or f"{role}.md"


def _stage_for(role: str, flow: Flow, config: Config) -> Stage:
    """The stage that a role named by the task takes over: the first that leaves the same thing, else the first."""
    known = config.roles.get(role)
    same = (stage for stage in flow.stages if not stage.run and known and stage.produces == known.produces)
    return next(same, next((stage for stage in flow.stages if not stage.run), flow.stages[0]))


def lacks_of(task: Task, flow: Flow, config: Config) -> tuple[str, ...]:
    """The roles that this task needs in its flow and that no agent plays: the task's own role spares its stage's."""
    if not task.role or not flow.lacks:
        return flow.lacks
    stage = _stage_for(task.role, flow, config)
    others = {one.role for one in flow.stages if one != stage} | {gate.name for group in flow.gates for gate in group}
    return tuple(role for role in flow.lacks if role != stage.role or role in others)


def is_branch(flow: Flow | None) -> bool:
    """Is the flow's work the branch of a project?"""
    return flow is not None and any(stage.run == BRANCH for stage in flow.stages)


def base_of(item: Item, config: Config) -> str:
    """The branch the task lands on. Work in flight lands on the one it was made for, whatever was edited since."""
    if item.ledger.candidate and item.ledger.base:
        return item.ledger.base
    task = item.task
    if task and task.project and not is_branch(flow_of(task, config)):
        return f"{PROJECT}{task.project}"
    return root_base(task, config)


def root_base(task: Task | None, config: Config) -> str:
    """The branch of the user's: where a project begins, and where it lands."""
    return (task.base if task and task.base else "") or config.base


def unfinished(ledger: Ledger, active: Collection[str]) -> tuple[str, ...]:
    """The subtasks that the task still waits for; `active`: the ids in the folders that are worked on."""
    return tuple(one for one in ledger.children if one in active or ledger.spawn)


# --- gates ---


def groups_of(item: Item, flow: Flow) -> tuple[tuple[Gate, ...], ...]:
    """The gates of this task: groups in order, the gates of one group at the same time.

    Criteria with a command are checks even where the flow has none; a candidate that touches the policy always needs a
    person (DESIGN §2, §3). Where nothing is to land (documents, verdicts, tasks) nobody is asked about it.
    """
    groups = () if item.ledger.bare else flow.gates
    names = {gate.name for group in groups for gate in group}
    if item.task and commands_of(item.task, ()) and "checks" not in names:
        groups = ((_CHECKS,), *groups)
    if item.ledger.policy and "human" not in names:
        groups = (*groups, (_HUMAN,))
    return groups


def has_checks(flow: Flow) -> bool:
    """Are the project's own commands a gate of this flow?"""
    return any(gate.name == "checks" for group in flow.gates for gate in group)


def commands_of(task: Task, checks: tuple[Check, ...]) -> tuple[Check, ...]:
    """Everything octopoid runs on the tree that is to land: the project's checks, then the task's criteria."""
    criteria = [
        Check(f"criterion {number}", one.command, CRITERION_TIMEOUT)
        for number, one in enumerate(task.criteria, start=1)
        if one.command
    ]
    return (*checks, *criteria)


def checks_for(item: Item, flow: Flow, config: Config) -> tuple[Check, ...]:
    """The commands of the `checks` gate of this task."""
    if item.task is None:
        return ()
    return commands_of(item.task, config.checks if has_checks(flow) and not item.ledger.bare else ())


def checks_key(checks: tuple[Check, ...]) -> str:
    """Changes when any of the commands does: a verdict is about a tree under these commands."""
    return hashlib.sha256(repr(checks).encode()).hexdigest()[:16]


def is_open(gate: Gate, item: Item, flow: Flow, config: Config) -> bool:
    """The gate is still to be asked, or it said no and must not.

    An advisory one is done with when it answered at all, or failed to as often as it may.
    """
    ledger = item.ledger
    if gate.name == "checks":
        checks = checks_for(item, flow, config)
        return bool(checks) and not checks_passed_once(ledger, checks_key(checks))
    verdict = candidate_verdict(ledger, gate.name)
    if not gate.required:
        tried = max(ledger.charged.get(gate.name, 0), ledger.died.get(gate.name, 0))
        return verdict is None and tried < config.limits.attempts
    return verdict is None or not verdict.yes


def open_gates(item: Item, flow: Flow, config: Config) -> tuple[str, ...]:
    """The gates that the present candidate has not passed yet (the checks: on any tree), in order."""
    return tuple(gate.name for group in groups_of(item, flow) for gate in group if is_open(gate, item, flow, config))


def open_group(item: Item, flow: Flow, config: Config) -> tuple[Gate, ...]:
    """The gates of the first group that has not been passed, all of them; () when every group has."""
    groups = groups_of(item, flow)
    return next((group for group in groups if any(is_open(gate, item, flow, config) for gate in group)), ())


def is_required(gate: str, item: Item, flow: Flow) -> bool:
    """May this gate refuse the candidate?"""
    return any(one.name == gate and one.required for group in groups_of(item, flow) for one in group)


def exact_verdict(item: Item, checks: tuple[Check, ...], projection: Projection) -> Verdict | None:
    """What the checks said about exactly the tree of `projection`."""
    return checks_verdict(item.ledger, projection.tree, checks_key(checks))


def waits_for_human(item: Item, config: Config) -> bool:
    """It is a person's turn: a stage waits for their yes, or their gate does and all before it said yes."""
    if item.problem:
        return False
    if item.ledger.awaiting:
        return True
    flow = flow_of(item.task, config) if item.task else None
    if flow is None or not item.ledger.candidate:
        return False
    return _HUMAN.name in {gate.name for gate in open_group(item, flow, config)} and not candidate_verdict(
        item.ledger, "human"
    )
