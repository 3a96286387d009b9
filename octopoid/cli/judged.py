"""The few questions of the reading commands that need the policy, apart because loading it costs as much as they do."""

from __future__ import annotations

from collections.abc import Sequence

from octopoid import config, gates, guards, views
from octopoid.errors import Invalid
from octopoid.layout import Layout
from octopoid.model import Item
from octopoid.order import train
from octopoid.projecting import Projector
from octopoid.settings import Config


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
    return views.Waits(human, {task: why for task, why in held.items() if why}, first=first, lost=lost)


def problem(layout: Layout) -> str | None:
    """The first thing that is wrong with the present policy."""
    try:
        config.load(layout.home)
    except Invalid as error:
        return str(error.problems[0]) if error.problems else error.message
    return None
