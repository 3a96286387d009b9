"""observe → plan → apply. One tick does everything that is due now; between ticks nothing is remembered but caches."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from octopoid import (
    attempts,
    clock,
    closing,
    durable,
    gates,
    landing,
    launching,
    lifecycle,
    locks,
    policy,
    process,
    sections,
    steer,
    store,
    workspace,
)
from octopoid.errors import Invalid, LostRace, OctopoidError
from octopoid.fold import spending
from octopoid.guards import Scene, load_of
from octopoid.layout import Layout
from octopoid.look import Look, Observer
from octopoid.model import Entry, Item
from octopoid.plans import (
    Action,
    Block,
    Close,
    End,
    Finish,
    GiveBack,
    Guard,
    Heal,
    Land,
    Live,
    NoteMove,
    Plan,
    Refuse,
    Release,
    Snapshot,
    Start,
    StartGate,
)
from octopoid.policyfile import Policy
from octopoid.projecting import Projector
from octopoid.settings import Config
from octopoid.states import SATISFYING, State

PASSES = 100
"""Plan and apply are repeated while something is due; a bug must not make that an endless loop."""

STUMBLE = 30.0
"""Seconds that a task is left alone after an action on it raised an error of ours."""

LANDING_RETRY = 3.0
"""Seconds between tries to land on a checkout that is not free."""

CENSUS = 60.0
"""Seconds between looks for entries whose task vanished."""

UNFLAG = 5.0


class Tick(NamedTuple):
    """What a tick did, and the plan that was left with nothing to do."""

    plan: Plan
    look: Look
    acted: int


class Explanation(NamedTuple):
    """For `why`: one sentence and the chain of guards."""

    headline: str
    command: str
    guards: tuple[Guard, ...]


class Scheduler:
    """One scheduler of one root. The caller holds the scheduler lock. `env`: what attempts may be given of it."""

    def __init__(self, layout: Layout, env: Mapping[str, str], say: Callable[[str], None]) -> None:
        self.layout = layout
        self.env = env
        self.say = say
        self.starting = True
        self.policy = Policy(layout, say)
        self.observer = Observer(layout)
        self.projector = Projector(layout)
        self.children: set[int] = set()
        self._idle: list[Path] | None = None
        self._retry: dict[str, float] = {}
        self._stumbled: dict[str, float] = {}
        self._next_census = 0.0
        self._day = ""
        self._usd = 0.0
        self._told: set[tuple[str, str]] = set()

    def tick(self, now: Callable[[], float] = time.time) -> Tick:
        """Do everything that is due, until nothing is. Raises Invalid when there is no policy to work with."""
        acted = 0
        self.children -= process.reap(self.children)
        config = self.policy.current()
        for _ in range(PASSES):
            look = self.observer.look()
            plan = policy.plan(self.snapshot(look, config, now()), config, now())
            due = [action for action in plan.actions if self._stumbled.get(action.task, 0.0) <= now()]
            if not due:
                break
            for action in due:
                self._apply(action, look, config, now())
            acted += len(due)
        self._notify(plan, config)
        durable.write(self.layout.last_tick, clock.iso(now()).encode() + b"\n", sync=False)
        return Tick(plan, look, acted)

    def snapshot(self, look: Look, config: Config, now: float) -> Snapshot:
        """Everything that plan decides from."""
        closed = ""
        breakers = {}
        try:
            breakers = steer.breakers(self.layout)
            usd_today = self._spent_today(config, now)
        except Invalid as error:
            closed, usd_today = error.message, 0.0
        live = self._live(look)
        bases = self.projector.bases(look.items, config)
        if not self.starting:
            closed = closed or "the scheduler is stopping"
        return Snapshot(
            items=look.items,
            ids=look.ids,
            live=live,
            projections=self.projector.project(look.items, config, bases, now),
            bases=bases,
            pauses=steer.pauses(self.layout),
            breakers=breakers,
            answered=frozenset(item.id for item in look.items if _answered(item, now)),
            strays=self._strays(look, now),
            landing_retry={task: until for task, until in self._retry.items() if until > now},
            slots=_slots(look, live),
            usd_today=usd_today,
            closed=closed,
        )

    def running(self, look: Look) -> list[tuple[str, Entry]]:
        """The open entries in which somebody is at work."""
        live = self._live(look)
        return [
            (item.id, item.ledger.open)
            for item in look.items
            if item.ledger.open is not None and item.id in live and live[item.id].held
        ]

    def end_all(self, why: str) -> int:
        """Ask every running attempt to end; how many there are."""
        running = self.running(self.observer.look())
        for task, entry in running:
            closing.end(self.layout, task, entry, why, gently=True)
        return len(running)

    def _live(self, look: Look) -> dict[str, Live]:
        found = {}
        for item in look.items:
            entry = item.ledger.open
            if entry is not None:
                held = locks.is_held(self.layout.entry(item.id, entry.number) / "lock")
                found[item.id] = closing.liveness(self.layout, item.id, entry, held)
        return found

    def _apply(self, action: Action, look: Look, config: Config, now: float) -> None:
        """One action. The other edge at which anything is caught: a bug about one task must not stop the others."""
        try:
            _ACTIONS[type(action)](self, action, look, config, now)
        except LostRace as error:
            self.say(f"{action.task}: {error.message}")
            self._stumbled[action.task] = now + 1.0
        except OctopoidError as error:
            self.say(f"{action.task}: {error.message}")
            self._stumbled[action.task] = now + STUMBLE
        except Exception:
            self.say(
                f"{action.task}: {type(action).__name__} failed; this is a bug in octopoid\n{traceback.format_exc()}"
            )
            self._stumbled[action.task] = now + STUMBLE

    def _heal(self, action: Heal, look: Look, config: Config, now: float) -> None:
        item = _item(look, action.task)
        if item.ledger.unmoved is not None:
            lifecycle.heal(self.layout, item.id, item.state, item.ledger.unmoved, now)
        else:
            store.put_back(self.layout, item.id, item.state)

    def _note_move(self, action: NoteMove, look: Look, config: Config, now: float) -> None:
        lifecycle.note_move(self.layout, action.task, action.leaves, action.enters, now)

    def _give_back(self, action: GiveBack, look: Look, config: Config, now: float) -> None:
        lifecycle.give_back(self.layout, action.task, action.leaves, action.detail, now)

    def _close(self, action: Close, look: Look, config: Config, now: float) -> None:
        item = _item(look, action.task)
        entry = _open(item)
        if entry.opening.kind == "landing" and item.state is State.PROVISIONAL:
            self._landed(item, landing.resume(self.layout, item, entry, now), now)
            return
        outcome = closing.close(self.layout, item, entry, config, now)
        if outcome is None:
            raise OctopoidError("something of its last attempt still runs and could not be ended; trying again")
        self._usd += outcome.usage.usd or 0.0
        what = outcome.verb or outcome.verdict or outcome.reason
        self.say(f"{item.id}: {entry.opening.agent or entry.opening.gate} ended: {what} {outcome.detail}".rstrip())

    def _end(self, action: End, look: Look, config: Config, now: float) -> None:
        item = look.get(action.task)
        ledger = item.ledger if item else self.observer.ledger(action.task)
        entry = ledger.open
        if entry is None:
            return
        held = locks.is_held(self.layout.entry(action.task, entry.number) / "lock")
        if held or item is not None:
            closing.end(self.layout, action.task, entry, action.detail, action.gently)
            self._stumbled[action.task] = now + 1.0  # its end wakes us; asking again at once helps nobody
        elif not closing.close_stray(self.layout, action.task, entry, str(look.ids.get(action.task, "nowhere")), now):
            self._stumbled[action.task] = now + 1.0

    def _refuse(self, action: Refuse, look: Look, config: Config, now: float) -> None:
        item = _item(look, action.task)
        closing.refuse(self.layout, item, action.gate, action.detail, action.feedback, action.tree, config.limits, now)
        self.say(f"{item.id}: refused by {action.gate}: {action.detail}")

    def _start_gate(self, action: StartGate, look: Look, config: Config, now: float) -> None:
        item, site = _item(look, action.task), self._site(config)
        flow = config.flows[item.task.flow] if item.task else None
        if action.agent is None:
            assert flow is not None and action.projection is not None
            checks = gates.checks_for(item, flow, config)
            started = launching.start_checks(site, item, checks, action.projection, now)
        else:
            base = gates.base_of(item.task, config)
            sha = self.projector.bases(look.items, config)[base].sha or ""
            started = launching.start_review(site, item, action.agent, action.slot, base, sha, now)
        self.children.add(started.pid)
        self.say(f"{item.id}: {action.gate} started")

    def _land(self, action: Land, look: Look, config: Config, now: float) -> None:
        item = _item(look, action.task)
        base = gates.base_of(item.task, config)
        self._landed(item, landing.land(self.layout, item, base, action.projection, now), now)

    def _landed(self, item: Item, landed: landing.Landed, now: float) -> None:
        if landed.done:
            self._retry.pop(item.id, None)
            self._free_worktree(item.id)
            self.say(f"{item.id}: landed")
        elif landed.waits:
            self._retry[item.id] = now + LANDING_RETRY
            self.say(f"{item.id}: landing waits: {landed.waits}")

    def _finish(self, action: Finish, look: Look, config: Config, now: float) -> None:
        item = _item(look, action.task)
        flow = config.flows[item.task.flow] if item.task else None
        publish = item.ledger.candidate if flow and flow.land == "none" else ""
        landing.finish(self.layout, item, action.detail, publish, now)
        self._free_worktree(item.id)
        self.say(f"{item.id}: done, nothing to land")

    def _block(self, action: Block, look: Look, config: Config, now: float) -> None:
        lifecycle.block(self.layout, action.task, action.leaves, action.reason, action.detail, now)
        self.say(f"{action.task}: blocked ({action.reason}): {action.detail}")

    def _release(self, action: Release, look: Look, config: Config, now: float) -> None:
        item = _item(look, action.task)
        lifecycle.answer(self.layout, item.id, sections.answers(store.read(item.path)), now)
        self.say(f"{item.id}: answered")

    def _start(self, action: Start, look: Look, config: Config, now: float) -> None:
        item, site = _item(look, action.task), self._site(config)
        assert item.task is not None
        flow, base = config.flows[item.task.flow], gates.base_of(item.task, config)
        sha = self.projector.bases([item], config)[base].sha
        assert sha is not None
        reuse = self._take_idle(config, look) if not site.worktree(item.id).exists() else None
        started = launching.start_attempt(site, item, flow, action.agent, action.slot, base, sha, reuse, now)
        self.children.add(started.pid)
        self.say(f"{item.id}: {action.agent.name} started (attempt {started.number})")

    def _site(self, config: Config) -> launching.Site:
        return launching.Site(self.layout, config, self.env)

    def _take_idle(self, config: Config, look: Look) -> Path | None:
        """A worktree of a task that landed, for the next task; the list is made once and kept."""
        if not config.worktrees.reuse:
            return None
        if self._idle is None:
            folder = launching.worktrees_folder(self.layout, config)
            self._idle = [folder / name for name in store.durable_names(folder) if self._is_idle(name, look)]
        while self._idle:
            path = self._idle.pop()
            if path.is_dir() and self._is_idle(path.name, look):
                return path
        return None

    def _is_idle(self, task: str, look: Look) -> bool:
        """Landed, and nothing of it is unfinished. A task that a person moved into done may have unlanded work."""
        ledger = self.observer.ledger(task)
        return look.ids.get(task) in SATISFYING and ledger.expected == "done" and closing.ledger_is_clean(ledger)

    def _free_worktree(self, task: str) -> None:
        config = self.policy.current()
        path = launching.worktrees_folder(self.layout, config) / task
        if not config.worktrees.reuse and path.exists():
            workspace.remove(self.layout.root, path)
        elif self._idle is not None:
            self._idle.append(path)

    def _strays(self, look: Look, now: float) -> tuple[str, ...]:
        """Tasks that left the active folders with something open; what is clean is forgotten, what vanished set aside."""
        active = {item.id for item in look.items}
        strays = []
        for task, flagged in attempts.flagged(self.layout).items():
            ledger = self.observer.ledger(task)
            if task not in active and ledger.open is not None:
                strays.append(task)
            elif task not in active and ledger.unmoved is not None and (state := look.ids.get(task)):
                lifecycle.heal(self.layout, task, state, ledger.unmoved, now)
            elif ledger.open is None and ledger.unmoved is None and now - flagged > UNFLAG:
                attempts.unflag(self.layout, task)
        if now >= self._next_census:
            self._next_census = now + CENSUS
            self._census(look)
        return tuple(strays)

    def _census(self, look: Look) -> None:
        """Entries of a task whose file vanished are set aside, so that a new file of that name inherits nothing."""
        for name in store.durable_names(self.layout.attempts):
            if name[0] == "." or name in look.ids or store.find(self.layout, name) is not None:
                continue
            if self.observer.ledger(name).open is None and attempts.set_aside(self.layout, name):
                self.say(f"{name}: its file is gone; its entries are set aside")

    def _spent_today(self, config: Config, now: float) -> float:
        """Dollars of attempts that ended since midnight (local time). Read from the entries once a day, then kept."""
        if not config.limits.usd_per_day:
            return 0.0
        today = time.strftime("%Y-%m-%d", time.localtime(now))
        if today != self._day:
            midnight = time.mktime(time.strptime(today, "%Y-%m-%d"))
            with os.scandir(self.layout.attempts) as found:
                touched = [one.name for one in found if one.name[0] != "." and one.stat().st_mtime >= midnight]
            self._usd = sum(spending(attempts.read(self.layout, task), midnight).usd for task in touched)
            self._day = today
        return self._usd

    def _notify(self, plan: Plan, config: Config) -> None:
        """Tell the user's own program what began to wait for a person since the last tick."""
        if not config.notify:
            return
        waiting = {
            (task, decision.waits): decision
            for task, decision in plan.decisions.items()
            if decision.waits in ("person", "human", "checkout", "invalid")
        }
        for (task, waits), decision in waiting.items():
            if (task, waits) not in self._told:
                event = {"TASK": task, "KIND": waits, "TEXT": decision.text, "ROOT": str(self.layout.root)}
                env = {**self.env, **{f"OCTOPOID_EVENT_{name}": value for name, value in event.items()}}
                self._tell(config.notify, env)
        self._told = set(waiting)

    def _tell(self, argv: tuple[str, ...], env: Mapping[str, str]) -> None:
        with open(os.devnull, "wb") as output:
            try:
                self.children.add(process.start(argv, env=env, output=output.fileno()))
            except (OSError, ValueError) as error:
                self.say(f"notify: {process.why_not_started(argv, None, error)}")


def explain(layout: Layout, task: str, now: float) -> Explanation:
    """Why a task does what it does: the same plan that the scheduler makes, without doing any of it."""
    scheduler = Scheduler(layout, {}, lambda _text: None)
    look = scheduler.observer.look()
    item = look.get(task)
    if item is None:
        state = look.ids.get(task)
        where = f"it is in {state.value}" if state else "there is no such task"
        return Explanation(where, f"octopoid show {task}", ())
    config = scheduler.policy.current()
    snapshot = scheduler.snapshot(look, config, now)
    decision = policy.plan(snapshot, config, now).decisions[task]
    if decision.action is not None:
        headline = f"the next look does: {type(decision.action).__name__}"
        return Explanation(
            headline, "octopoid run", policy.explain(item, Scene(snapshot, config, now, load_of(snapshot)))
        )
    guards = policy.explain(item, Scene(snapshot, config, now, load_of(snapshot)))
    return Explanation(f"{decision.waits}: {decision.text}", decision.command, guards)


def _item(look: Look, task: str) -> Item:
    item = look.get(task)
    if item is None:
        raise LostRace(f"{task} is not in the queue any more")
    return item


def _open(item: Item) -> Entry:
    if item.ledger.open is None:
        raise LostRace(f"{item.id} has nothing open any more")
    return item.ledger.open


def _answered(item: Item, now: float) -> bool:
    """A person filled in every answer, and is done writing."""
    if item.state is not State.BLOCKED or item.ledger.reason != "question" or item.problem:
        return False
    try:
        return item.mtime + store.SETTLE <= now and sections.mentions_answers(store.read(item.path))
    except (FileNotFoundError, Invalid):
        return False


def _slots(look: Look, live: Mapping[str, Live]) -> frozenset[int]:
    entries = [item.ledger.open for item in look.items if item.ledger.open and live[item.id].held]
    return frozenset(entry.opening.slot for entry in entries if entry.opening.slot >= 0)


_ACTIONS: Mapping[type, Callable[..., None]] = {
    Heal: Scheduler._heal,
    NoteMove: Scheduler._note_move,
    GiveBack: Scheduler._give_back,
    Close: Scheduler._close,
    End: Scheduler._end,
    Refuse: Scheduler._refuse,
    StartGate: Scheduler._start_gate,
    Land: Scheduler._land,
    Finish: Scheduler._finish,
    Block: Scheduler._block,
    Release: Scheduler._release,
    Start: Scheduler._start,
}
