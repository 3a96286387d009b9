"""The few questions of the reading commands that need the policy, apart because loading it costs as much as they do."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from octopoid import budgets, config, costs, gates, guards, steer, views
from octopoid.errors import Invalid
from octopoid.layout import Layout
from octopoid.model import Item
from octopoid.order import train
from octopoid.projecting import Projector
from octopoid.settings import Config
from octopoid.states import State


def policy(layout: Layout) -> Config | None:
    """The policy in force: the present one, else the last good one; None where there is neither."""
    for home in (layout.home, layout.last_good):
        try:
            return config.load(home, templates=False)
        except Invalid:
            continue
    return None


def waits(layout: Layout, items: Sequence[Item], others: Sequence[Item] = ()) -> views.Waits:
    """Who waits for a person's yes or no, whose landing waits for the user's checkout, and who cannot go on at all.

    `items`: whose gates are asked; `others`: every task. Starts no process.
    """
    known = policy(layout)
    if known is None:
        return views.Waits()
    human = frozenset(item.id for item in items if gates.waits_for_human(item, known))
    bases = Projector(layout).bases(items, known)
    held = {item.id: bases[name].waits for name, line in train(items, known).items() if name in bases for item in line}
    first = {name: (flow.stages[0].name, flow.stages[0].role) for name, flow in known.flows.items()}
    lost = {item.id: guard for item in others if (guard := guards.hopeless(item, known))}
    held = {task: why for task, why in held.items() if why}
    now, roles = time.time(), _roles(others, known)
    broken, spent = _broken(layout, roles, known, now), _spent(layout, roles, known, now)
    return views.Waits(human, held, first=first, lost=lost, broken=broken, spent=spent)


def _roles(items: Sequence[Item], known: Config) -> dict[str, str]:
    """The role that each task in `incoming` is started in next, by id."""
    found: dict[str, str] = {}
    for item in items:
        flow = gates.flow_of(item.task, known) if item.task else None
        if item.state is State.INCOMING and flow is not None:
            found[item.id] = gates.role_of(item, gates.stage_of(item.ledger, flow), flow, known)
    return found


def _spent(layout: Layout, roles: Mapping[str, str], known: Config, now: float) -> dict[str, str]:
    """The tasks that a budget of today keeps from being started, with what is spent of it."""
    if not roles or not budgets.limited(known.limits):
        return {}
    try:
        today = budgets.by_role(costs.today(layout, now, {}).values(), known.limits)
    except Invalid as error:  # then nothing starts (invariant 8)
        return dict.fromkeys(roles, f"what was spent today cannot be told: {error.message}")
    found: dict[str, str] = {}
    for task, role in roles.items():
        over = next((one for one in budgets.before(role, known.limits, today) if one.over), None)
        if over is not None:
            found[task] = f"{over.text}; it goes on after midnight, or when the limit in agents.yaml is raised"
    return found


def _broken(layout: Layout, roles: Mapping[str, str], known: Config, now: float) -> dict[str, str]:
    """The tasks whose every agent is kept from starting by a breaker, with what that says."""
    try:
        known_ones = {name: steer.current(one, now) for name, one in steer.breakers(layout).items()}
    except Invalid as error:  # then nothing starts (invariant 8)
        return dict.fromkeys(roles, error.message)
    trips = {name: one for name, one in known_ones.items() if one.until > now}
    found: dict[str, str] = {}
    for task, role in roles.items() if trips else ():
        pools = gates.players(role, known)
        why = [next((trips[name] for name in agent.breakers if name in trips), None) for agent in pools]
        if why and all(why):
            found[task] = "; ".join(dict.fromkeys(f"agent {', '.join(one.agents)}: {one.why}" for one in why if one))
    return found


def problem(layout: Layout) -> str | None:
    """The first thing that is wrong with the present policy."""
    try:
        config.load(layout.home)
    except Invalid as error:
        return str(error.problems[0]) if error.problems else error.message
    return None
