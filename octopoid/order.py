"""Who comes first: the order in which tasks are decided, and the train in which they land. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from octopoid import gates
from octopoid.model import Item
from octopoid.settings import Config, Flow
from octopoid.states import State

AHEAD = 3
"""How many tasks of a train move: the one whose turn it is, and those whose checks may run ahead."""

RECHECKS = 3
"""After so many re-checks of one task on a busy base, the landings of the others wait for it (DESIGN §8)."""


def train(items: Iterable[Item], config: Config) -> dict[str, list[Item]]:
    """Per base branch: the provisional tasks that only the checks keep from landing, in the order they will land.

    A task that was re-checked three times goes first: on a busy base it would never get its turn. One that waits for
    the user's checkout is not among them: it holds up nobody.
    """
    lines: dict[str, list[Item]] = {}
    found = sorted(items, key=landing_first)
    active = {item.id for item in found}
    for item in found:
        flow = judged_flow(item, config)
        landing = item.ledger.open is not None and item.ledger.open.opening.kind == "landing"
        if flow is None or landing or item.ledger.awaiting or gates.unfinished(item.ledger, active):
            continue
        if set(gates.open_gates(item, flow, config)) <= {"checks"}:
            lines.setdefault(gates.base_of(item, config), []).append(item)
    return {base: sorted(line, key=lambda item: item.ledger.rechecks < RECHECKS) for base, line in lines.items()}


def needs_first_checks(item: Item, config: Config) -> bool:
    """The task's turn is not near, but the checks are asked now: they run on the base as it is."""
    flow = judged_flow(item, config)
    if flow is None or item.ledger.awaiting:
        return False
    now = {gate.name for gate in gates.open_group(item, flow, config)}
    return "checks" in now and len(gates.open_gates(item, flow, config)) > 1


def judged_flow(item: Item, config: Config) -> Flow | None:
    """The flow of a task whose candidate is being judged; None for every other task."""
    if item.state is not State.PROVISIONAL or item.problem or item.task is None or not item.ledger.candidate:
        return None
    return gates.flow_of(item.task, config)


def landing_first(item: Item) -> tuple[bool, int, float, str]:
    """What is judged before what waits, then priority, age and id."""
    return (item.state is State.INCOMING, item.task.priority if item.task else 9, item.mtime, item.id)


def fair(item: Item) -> tuple[int, tuple[bool, int, float, str]]:
    """The order while a breaker is known: who failed the last probes is not the next one, whatever its priority."""
    return (item.ledger.setbacks if item.state is State.INCOMING else 0, landing_first(item))
