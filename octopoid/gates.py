"""What must say yes before a task lands, and what is known of it. Pure."""

from __future__ import annotations

import hashlib

from octopoid.fold import candidate_verdict, checks_passed_once, checks_verdict
from octopoid.model import Item, Task, Verdict
from octopoid.plans import Projection
from octopoid.settings import Check, Config, Flow

CRITERION_TIMEOUT = 1200.0


def flow_of(task: Task, config: Config) -> Flow | None:
    """The flow a task names; None when the policy has none of that name."""
    return config.flows.get(task.flow)


def role_of(task: Task, flow: Flow) -> str:
    """The role of the task's next attempt."""
    return task.role or flow.stages[0].role


def base_of(item: Item, config: Config) -> str:
    """The branch the task lands on. Work in flight lands on the one it was made for, whatever was edited since."""
    if item.ledger.candidate and item.ledger.base:
        return item.ledger.base
    return (item.task.base if item.task and item.task.base else "") or config.base


def gates_of(item: Item, flow: Flow) -> tuple[str, ...]:
    """The gates of this task, in order.

    Criteria with a command are checks even where the flow has none; a candidate that touches the policy always needs a
    person (DESIGN §2, §3).
    """
    gates = flow.gates
    if item.task and commands_of(item.task, ()) and "checks" not in gates:
        gates = ("checks", *gates)
    if item.ledger.policy and "human" not in gates:
        gates = (*gates, "human")
    return gates


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
    return commands_of(item.task, config.checks if "checks" in flow.gates else ())


def checks_key(checks: tuple[Check, ...]) -> str:
    """Changes when any of the commands does: a verdict is about a tree under these commands."""
    return hashlib.sha256(repr(checks).encode()).hexdigest()[:16]


def open_gates(item: Item, flow: Flow, config: Config) -> tuple[str, ...]:
    """The gates that did not say yes to the present candidate yet (the checks: on any tree), in order."""
    ledger = item.ledger
    checks = checks_for(item, flow, config)

    def passed(gate: str) -> bool:
        if gate == "checks":
            return not checks or checks_passed_once(ledger, checks_key(checks))
        verdict = candidate_verdict(ledger, gate)
        return verdict is not None and verdict.yes

    return tuple(gate for gate in gates_of(item, flow) if not passed(gate))


def exact_verdict(item: Item, checks: tuple[Check, ...], projection: Projection) -> Verdict | None:
    """What the checks said about exactly the tree of `projection`."""
    return checks_verdict(item.ledger, projection.tree, checks_key(checks))


def waits_for_human(item: Item, config: Config) -> bool:
    """Every gate before `human` said yes, and the person did not answer yet."""
    flow = flow_of(item.task, config) if item.task else None
    if flow is None or not item.ledger.candidate or item.problem:
        return False
    waiting = open_gates(item, flow, config)
    return bool(waiting) and waiting[0] == "human" and candidate_verdict(item.ledger, "human") is None
