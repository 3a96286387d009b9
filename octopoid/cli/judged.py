"""The few questions of the reading commands that need the policy, apart because loading it costs as much as they do."""

from __future__ import annotations

from collections.abc import Iterable

from octopoid import config, gates
from octopoid.errors import Invalid
from octopoid.layout import Layout
from octopoid.model import Item
from octopoid.settings import Config


def policy(layout: Layout) -> Config | None:
    """The policy in force: the present one, else the last good one; None where there is neither."""
    for home in (layout.home, layout.last_good):
        try:
            return config.load(home, templates=False)
        except Invalid:
            continue
    return None


def waiting(layout: Layout, items: Iterable[Item]) -> frozenset[str]:
    """The ids of those that wait for a person's yes or no."""
    known = policy(layout)
    return frozenset(item.id for item in items if known and gates.waits_for_human(item, known))


def problem(layout: Layout) -> str | None:
    """The first thing that is wrong with the present policy."""
    try:
        config.load(layout.home)
    except Invalid as error:
        return str(error.problems[0]) if error.problems else error.message
    return None
