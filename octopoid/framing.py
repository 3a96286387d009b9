"""What the policy says about a run that ended, and the task files that it asks for. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from octopoid import breakdown, gates
from octopoid.deliverables import Frame
from octopoid.model import Entry, Item, Opening, Outcome, Result, Subtask
from octopoid.settings import Config, Flow, Stage


class Family(NamedTuple):
    """What is known of other tasks. `ids`: those that one may wait for. `depth`: below the one that a person wrote."""

    ids: Collection[str] = ()
    depth: int = 0


def rounds(item: Item, config: Config) -> int:
    """After so many refusals a person is asked."""
    flow = gates.flow_of(item.task, config) if item.task else None
    return (flow.rounds if flow else 0) or config.limits.rounds


def playable(config: Config) -> tuple[str, ...]:
    """The roles that some agent plays."""
    return tuple(role for role in config.roles if any(agent.plays(role) for agent in config.agents.values()))


def helpers(role: str, config: Config) -> tuple[str, ...]:
    """Whom `role` may hand its work to: those that do work. To judge it is what the gates are for."""
    kinds = {name: config.roles[name].produces for name in playable(config) if name != role}
    return tuple(name for name, made in kinds.items() if made in ("commits", "document", "any"))


def usable(config: Config) -> tuple[str, ...]:
    """The flows that a new task may name: no agent is missing for them, and they do not take up a branch."""
    return tuple(name for name, flow in config.flows.items() if not flow.lacks and not gates.is_branch(flow))


def frame(item: Item, opening: Opening, config: Config, family: Family) -> Frame:
    """What follows the run that `opening` began. A flow that is gone since has no further stages."""
    made = Frame(
        config.limits,
        rounds(item, config),
        roles=frozenset(playable(config)),
        helpers=frozenset(helpers(opening.role, config)) if opening.kind == "attempt" and opening.role else frozenset(),
        flows=frozenset(usable(config)),
        depth=family.depth,
        ids=family.ids,
    )
    flow = gates.flow_of(item.task, config) if item.task else None
    if flow is None:  # nobody knows what comes next: it waits in `incoming` until there is such a flow again
        return made._replace(next_stage=opening.stage)
    if opening.kind == "gate":
        return made._replace(required=gates.is_required(opening.gate, item, flow))
    ledger = item.ledger
    # A stage that is not in the flow any more is followed by the first that is there and not done.
    after = gates.after(ledger, opening.stage, flow)
    done = item._replace(ledger=ledger._replace(handoff="", conflict=False, stages=(*ledger.stages, opening.stage)))
    stage = next((one for one in flow.stages if one.name == opening.stage), None)
    return made._replace(
        next_stage=after.name if after else "",
        next_role=gates.role_of(done, after, flow, config) if after else "",
        approval=stage is not None and stage.approval,
        returns_to=_returns_to(item, opening, stage, flow, config) if stage else "",
    )


def _returns_to(item: Item, opening: Opening, stage: Stage, flow: Flow, config: Config) -> str:
    """Whose stage it is, where another role was asked to help and left something else than the stage is for."""
    if item.ledger.handoff != opening.role:
        return ""
    own = gates.role_of(item._replace(ledger=item.ledger._replace(handoff="")), stage, flow, config)
    wanted = (gates.produces(own, stage, config), gates.artifact_of(own, stage, config))
    return own if own != opening.role and (opening.produces, opening.artifact) != wanted else ""


def tasks(
    item: Item, entry: Entry, word: Result, outcome: Outcome, config: Config, ids: Collection[str]
) -> tuple[breakdown.Made, ...]:
    """The task files that an agent asks for: subtasks of its own breakdown, and proposals of what it noticed.

    Commands that an agent wrote become executable criteria only where a person says yes to them first.
    """
    if item.task is None:
        return ()
    opening = entry.opening
    known = config.roles.get(opening.role)
    asked = word.subtasks if opening.produces == "tasks" and outcome.class_ == "ok" else ()
    proposes = known is not None and known.proposals
    children = () if proposes else asked
    if not outcome.approval:
        children = _usually_judged(children, config)
    origin = f"Noticed by {opening.role} while working on `{item.id}` (attempt {opening.attempt})."
    extra = breakdown.mend(
        (*(asked if proposes else ()), *word.discovered), roles=playable(config), flows=usable(config), ids=ids
    )
    return (
        *breakdown.make(item.task, entry.number, children, commands=outcome.approval, proposal=False, origin=""),
        *breakdown.make(
            item.task,
            entry.number,
            _usually_judged(extra, config),
            commands=False,
            proposal=True,
            origin=origin,
        ),
    )


def _usually_judged(wanted: tuple[Subtask, ...], config: Config) -> tuple[Subtask, ...]:
    """No agent chooses its own judges: a flow that asks fewer of them is left out."""
    return tuple(one if _as_strict(one.flow, config) else one._replace(flow="") for one in wanted)


def _as_strict(flow: str, config: Config) -> bool:
    """Does this flow ask everybody that the default one asks?"""
    named, usual = config.flows.get(flow), config.flows.get("default")
    if not flow or named is None or usual is None:
        return not flow
    asked = {gate.name for group in named.gates for gate in group if gate.required}
    return asked >= {gate.name for group in usual.gates for gate in group if gate.required}
