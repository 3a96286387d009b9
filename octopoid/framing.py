"""What the policy says about a run that ended, and the task files that it asks for. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from octopoid import breakdown, gates
from octopoid.deliverables import Frame
from octopoid.model import Entry, Item, Opening, Outcome, Result
from octopoid.settings import Config


class Family(NamedTuple):
    """What is known of other tasks. `ids`: all there are. `depth`: of this one below the one that a person wrote."""

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
    if flow is None:
        return made
    if opening.kind == "gate":
        return made._replace(required=gates.is_required(opening.gate, item, flow))
    stage = next((one for one in flow.stages if one.name == opening.stage), None)
    if stage is None:
        return made
    after = gates.after(item.ledger, stage, flow)
    done = item._replace(
        ledger=item.ledger._replace(handoff="", conflict=False, stages=(*item.ledger.stages, stage.name))
    )
    helper = item.ledger.handoff == opening.role and opening.produces != gates.produces(stage.role, stage, config)
    return made._replace(
        next_stage=after.name if after else "",
        next_role=gates.role_of(done, after, flow, config) if after else "",
        approval=stage.approval,
        returns_to=stage.role if helper else "",
    )


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
    if not outcome.approval:  # no agent chooses its own judges
        children = tuple(one if _as_strict(one.flow, config) else one._replace(flow="") for one in children)
    origin = f"Noticed by {opening.role} while working on `{item.id}` (attempt {opening.attempt})."
    extra = breakdown.mend(
        (*(asked if proposes else ()), *word.discovered), roles=playable(config), flows=usable(config), ids=ids
    )
    return (
        *breakdown.make(item.task, entry.number, children, commands=outcome.approval, proposal=False, origin=""),
        *breakdown.make(item.task, entry.number, extra, commands=False, proposal=True, origin=origin),
    )


def _as_strict(flow: str, config: Config) -> bool:
    """Does this flow ask everybody that the default one asks?"""
    named, usual = config.flows.get(flow), config.flows.get("default")
    if not flow or named is None or usual is None:
        return not flow
    asked = {gate.name for group in named.gates for gate in group if gate.required}
    return asked >= {gate.name for group in usual.gates for gate in group if gate.required}
