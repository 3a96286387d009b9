"""observe → plan → apply. One tick does everything that is due now; between ticks nothing is remembered but caches."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from octopoid import clock, closing, durable, policy, process, steer, steps
from octopoid.applying import Hands, Moment
from octopoid.bookkeeping import Bookkeeper
from octopoid.guards import Scene, load_of
from octopoid.housekeeping import Housekeeper
from octopoid.layout import Layout
from octopoid.look import Look, Observer, time_of
from octopoid.observing import Pulse, Surveyor
from octopoid.plans import Action, Close, Guard, Plan, Start, StartReview
from octopoid.policyfile import Policy
from octopoid.settings import Config
from octopoid.standingwork import Standing

PASSES = 100
"""Plan and apply are repeated while something is due; a bug must not make that an endless loop."""


class Tick(NamedTuple):
    """What a tick did, and the plan that was left with nothing to do.

    `until`: when it is worth looking again though nothing changes. `stamps`, `live`: what the last look saw of the
    folders and of what runs; whatever differs from them happened later.
    """

    plan: Plan
    look: Look
    acted: int
    until: float
    stamps: tuple[int, ...]
    live: Pulse


class Explanation(NamedTuple):
    """For `why`: one sentence, the command that changes it, and the chain of guards."""

    headline: str
    command: str
    guards: tuple[Guard, ...]


class Scheduler:
    """One scheduler of one root. The caller holds the scheduler lock. `env`: what attempts may be given of it."""

    def __init__(self, layout: Layout, env: Mapping[str, str], say: Callable[[str], None]) -> None:
        self.layout = layout
        self.env = env
        self.closed = ""
        """Why nothing more is started, "" as long as it is."""
        self.policy = Policy(layout, say)
        self.observer = Observer(layout)
        self.surveyor = Surveyor(layout, self.observer, env=env)
        self.hands = Hands(layout, env, self.observer, self.surveyor, say)
        self.housekeeper = Housekeeper(layout, self.observer, say)
        self.standing = Standing(layout, say)
        self.books = Bookkeeper(layout)

    def tick(self, now: Callable[[], float] = time.time) -> Tick:
        """Do everything that is due, until nothing is. Raises Invalid when there is no policy to work with."""
        hands, acted = self.hands, 0
        hands.children -= process.reap(hands.children)
        config = self.policy.current()
        standing = self._standing_work(config, now())
        for _ in range(PASSES):
            stamps = self.stamps()
            look = self.observer.look()
            self.books.look(look, now())
            snapshot = self.surveyor.snapshot(look, config, hands.landing_retry, self.closed, now())
            plan = policy.plan(snapshot, config, now())
            due = _at_once([action for action in plan.actions if hands.may(action, now())])
            if not due:
                break
            for action in due:
                hands.apply(action, Moment(look, config, now()))
            acted += len(due)
            if self.layout.stop_request.exists():  # on a busy queue there is always more to do
                break
        if snapshot.breakers:
            steer.forget(self.layout, {name for agent in config.agents.values() for name in agent.breakers})
        self.housekeeper.tidy(look, steps.worktrees_folder(self.layout, config), now())
        hands.children |= self.housekeeper.notify(plan, config, self.env)
        durable.write(self.layout.last_tick, clock.iso(now()).encode() + b"\n", sync=False)
        times = [one for one in (policy.next_time(plan), hands.wait_until(now()), standing) if one]
        pulse = Pulse(snapshot.live, snapshot.panel, snapshot.pauses.attached)
        return Tick(plan, look, acted, min(times, default=0.0), stamps, pulse)

    def _standing_work(self, config: Config, now: float) -> float:
        """Make the tasks whose time has come; when the next one will (0: never)."""
        if self.closed:
            return 0.0
        look = self.observer.look() if config.schedule else Look((), (), {})
        return self.standing.tick(config, look, now)

    def stamps(self) -> tuple[int, ...]:
        """Times of change (ns) of everything whose change is worth a tick; taken in some 30 µs."""
        layout = self.layout
        policy_files = (layout.agents_yaml, layout.roles, layout.flows, layout.claude_agents)
        paths = (layout.wake, layout.stop_request, layout.pause, layout.breakers, *policy_files)
        return (*self.observer.stamps(), *(time_of(path) for path in paths))

    def end_all(self, why: str) -> int:
        """Ask every running attempt to end; how many there are."""
        running = self.surveyor.running(self.observer.look())
        for task, entry in running:
            if entry.opening.kind != "landing":  # git is never killed
                closing.end(self.layout, task, entry, why, gently=True)
        return len(running)


def _at_once(due: list[Action]) -> list[Action]:
    """What may be done without another look.

    No agent is started in the look that closes a run: how that one ended may open a breaker, spend the rest of a budget
    or fill the gates.
    """
    if not any(isinstance(action, Close) for action in due):
        return due
    return [action for action in due if not isinstance(action, Start | StartReview)]


def forecast(layout: Layout, now: float) -> tuple[Look, Plan]:
    """What the scheduler would do now, without doing any of it. Raises Invalid."""
    look, scene = _scene(layout, now)
    return look, policy.plan(scene.snapshot, scene.config, now)


def explain(layout: Layout, task: str, now: float) -> Explanation:
    """Why a task does what it does: the same plan that the scheduler makes. Reads only. Raises Invalid."""
    look, scene = _scene(layout, now)
    item = look.get(task)
    if item is None:
        state = look.ids.get(task)
        where = f"it is in {state.value}" if state else "there is no such task"
        return Explanation(where, f"octopoid show {task}", ())
    decision = policy.plan(scene.snapshot, scene.config, now).decisions[task]
    guards = policy.explain(item, scene)
    if decision.action is not None:
        headline = f"nothing holds it: the next look of a scheduler will {policy.name_of(decision.action)}"
        return Explanation(headline, "octopoid run", guards)
    if decision.waits == "turn":
        headline = "its gates have nothing against it; the scheduler's next look checks the result and lands it"
        return Explanation(headline, "octopoid run", guards)
    said = decision.waits in ("person", "not before", "human")  # there the text says it all
    return Explanation(decision.text if said else f"{decision.waits}: {decision.text}", decision.command, guards)


def _scene(layout: Layout, now: float) -> tuple[Look, Scene]:
    observer = Observer(layout)
    look = observer.look()
    config = Policy(layout, lambda _text: None, keep=False).current()
    held = {one.id: now + 1 for one in look.items if one.ledger.open and one.ledger.open.waits}
    snapshot = Surveyor(layout, observer, project=False).snapshot(look, config, held, "", now)
    return look, Scene(snapshot, config, now, load_of(snapshot))
