"""From one look at the queue to the Snapshot that `plan` decides from. Reads only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from octopoid import attempts, budgets, closing, costs, credentials, locks, sections, steer, store
from octopoid.errors import Invalid
from octopoid.fold import Spending
from octopoid.layout import Layout
from octopoid.look import Look, Observer
from octopoid.model import Breaker, Entry, Item
from octopoid.plans import Live, Snapshot, Spent
from octopoid.projecting import Projector
from octopoid.ready import is_on_its_way, settled_at
from octopoid.settings import Config
from octopoid.states import State


class Pulse(NamedTuple):
    """What the kernel says: about each task's own entry, about each reviewer at work, about people in worktrees."""

    live: Mapping[str, Live]
    panel: Mapping[tuple[str, int], Live]
    attached: Mapping[str, int]


class Surveyor:
    """Makes snapshots, and remembers what spares work at the next one."""

    def __init__(
        self, layout: Layout, observer: Observer, *, project: bool = True, env: Mapping[str, str] | None = None
    ) -> None:
        """`project`: compute what landing would give. That writes git objects, so a reading command does without.

        `env`: the scheduler's environment. A reading command has another one, and takes breakers as they stand.
        """
        self._env = env
        self.layout = layout
        self.observer = observer
        self._projector = Projector(layout)
        self._project = project
        self._midnight = 0.0
        self._costs: dict[str, dict[str, Spending]] = {}
        self._stale: set[str] = set()

    def snapshot(
        self, look: Look, config: Config, landing_retry: dict[str, float], closed: str, now: float
    ) -> Snapshot:
        """Everything that plan decides from. `closed`: why nothing may start, "" when it may."""
        breakers: dict[str, Breaker] = {}
        spent: dict[str, Spent] = {}
        try:
            breakers = self._breakers(config, now)
            spent = self._spent_today(config, now)
        except Invalid as error:
            closed = closed or error.message
        live, panel, attached = self.pulse(look)
        pauses = steer.pauses(self.layout)._replace(attached=attached)
        bases = self._projector.bases(look.items, config)
        return Snapshot(
            items=look.items,
            ids=look.ids,
            live=live,
            panel=panel,
            projections=self._projector.project(look.items, config, bases, pauses, now) if self._project else {},
            trouble=self._projector.trouble,
            bases=bases,
            pauses=pauses,
            breakers=breakers,
            answered=frozenset(item.id for item in look.items if _answered(item, now)),
            strays=self._strays(look),
            moving=frozenset(item.id for item in look.items if self._is_moving(item)),
            occupied={item.id: taken for item in look.items if (taken := self._occupied(item))},
            landing_retry={task: until for task, until in landing_retry.items() if until > now},
            slots=_slots(look, live, panel),
            spent=spent,
            closed=closed,
        )

    def _breakers(self, config: Config, now: float) -> dict[str, Breaker]:
        """The open ones. Where an agent comes with something new (a key, a login, its program) one try is due now."""
        found = {name: steer.current(one, now) for name, one in steer.breakers(self.layout).items()}
        if self._env is None:
            return found
        for name, one in found.items():
            pools = [agent for agent in config.agents.values() if name in agent.breakers]
            if one.marks and any(credentials.mark(agent, self._env) not in one.marks for agent in pools):
                found[name] = one._replace(until=one.since)
        return found

    def live(self, task: str, entry: Entry) -> Live:
        """What the kernel says about an open entry."""
        held = locks.is_held(self.layout.entry(task, entry.number) / "lock")
        return closing.liveness(self.layout, task, entry, held)

    def pulse(self, look: Look) -> Pulse:
        """What the kernel says about everything open: a supervisor that was killed tells nobody."""
        live = {item.id: self.live(item.id, item.ledger.open) for item in look.items if item.ledger.open is not None}
        reviews = ((item.id, entry) for item in look.items for entry in item.ledger.reviews)
        panel = {(task, entry.number): self.live(task, entry) for task, entry in reviews}
        return Pulse(live, panel, steer.attached(self.layout))

    def running(self, look: Look) -> list[tuple[str, Entry]]:
        """The open entries in which somebody is at work."""
        entries = [(item.id, item.ledger.open) for item in look.items if item.ledger.open is not None]
        entries += [(item.id, entry) for item in look.items for entry in item.ledger.reviews]
        return [(task, entry) for task, entry in entries if self.live(task, entry).held]

    def spent(self, task: str) -> None:
        """An attempt on it ends, which may have cost something."""
        self._stale.add(task)

    def _is_moving(self, item: Item) -> bool:
        unmoved = item.ledger.unmoved
        return unmoved is not None and locks.is_held(self.layout.entry(item.id, unmoved.number) / "lock")

    def _occupied(self, item: Item) -> str:
        """Why the move of a closed entry is not made: an editor saved behind it, so its target name is taken."""
        if item.ledger.unmoved is None and not is_on_its_way(item):
            return ""
        home = self.layout.task_file(item.state, item.id)
        if is_on_its_way(item) and os.path.lexists(home):
            return store.occupied(self.layout, item.path, home)
        outcome = item.ledger.unmoved.outcome if item.ledger.unmoved else None
        if outcome is None or item.state.value != outcome.leaves:
            return ""
        source = self.layout.task_file(item.state, item.id)
        target = self.layout.task_file(State(outcome.enters), item.id)
        return store.occupied(self.layout, source, target) if os.path.lexists(target) else ""

    def _strays(self, look: Look) -> tuple[str, ...]:
        """Tasks that left the active folders while something about them was open."""
        flagged = attempts.flagged(self.layout)
        if not flagged:
            return ()
        active = {item.id for item in look.items}
        return tuple(task for task in flagged if task not in active and self._is_open(task))

    def _is_open(self, task: str) -> bool:
        ledger = self.observer.ledger(task)
        return ledger.open is not None or bool(ledger.reviews)

    def _spent_today(self, config: Config, now: float) -> dict[str, Spent]:
        """By role: what attempts cost that ended since midnight (local time). Read once a day, then where one ended.

        Raises Invalid when an entry cannot be read: a budget that cannot be read does not pass.
        """
        if not budgets.limited(config.limits):
            return {}
        midnight = costs.midnight(now)
        if midnight != self._midnight or self._stale:
            kept = self._costs if midnight == self._midnight else {}
            fresh = {task: one for task, one in kept.items() if task not in self._stale}
            self._costs = costs.today(self.layout, now, fresh)
            self._midnight, self._stale = midnight, set()
        return budgets.by_role(self._costs.values(), config.limits)


def _answered(item: Item, now: float) -> bool:
    """A person filled in every answer, and is done writing."""
    if item.state is not State.BLOCKED or item.ledger.reason != "question" or item.problem:
        return False
    try:
        return settled_at(item, now) <= now and sections.mentions_answers(store.read(item.path))
    except (FileNotFoundError, Invalid):
        return False


def _slots(look: Look, live: Mapping[str, Live], panel: Mapping[tuple[str, int], Live]) -> frozenset[int]:
    entries = [item.ledger.open for item in look.items if item.ledger.open and live[item.id].held]
    reviews = [(item.id, entry) for item in look.items for entry in item.ledger.reviews]
    entries += [entry for task, entry in reviews if panel[task, entry.number].held]
    return frozenset(entry.opening.slot for entry in entries if entry.opening.slot >= 0)
