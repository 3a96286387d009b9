"""Standing work: the tasks that the schedules of `agents.yaml` make, each exactly once.

A task's id says which schedule made it and for which time. The task comes first, then the note in `run/schedule/<name>`
that this time is dealt with: a scheduler that is killed in between finds the id taken and only writes the note.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import NamedTuple

from octopoid import clock, durable, lifecycle, regular, standing, store, taskfile, templating
from octopoid.breakdown import PROPOSAL
from octopoid.errors import Conflict, Invalid, OctopoidError
from octopoid.layout import Layout
from octopoid.look import Look
from octopoid.model import Problem, Task
from octopoid.settings import Config, Schedule
from octopoid.states import ACTIVE, State

RETRY = 60.0
"""Seconds until a schedule that is in trouble is looked at again."""

FUTURE = 86400.0
"""Seconds. A note that is further ahead than this was written under a wrong clock; to wait for it may take years."""

BY = "schedule"
"""Who made its tasks, in the journal."""

_TROUBLE, _HELD = "trouble", "held"


class Note(NamedTuple):
    """What is remembered of a schedule: the last of its times that was dealt with, and of which cron line it was."""

    at: float
    cron: str


class Seen(NamedTuple):
    """When a schedule was looked at, and until when there is nothing to do about it (infinity: for ever)."""

    schedule: Schedule
    since: float
    until: float


class Standing:
    """Makes the tasks of all schedules. The caller holds the scheduler lock."""

    def __init__(self, layout: Layout, say: Callable[[str], None]) -> None:
        self.layout = layout
        self._say = say
        self._seen: dict[str, Seen] = {}
        self._told: dict[tuple[str, str], str] = {}
        self._names: frozenset[str] | None = None

    def tick(self, config: Config, look: Look, now: float) -> float:
        """Make what is due. When the next time comes (seconds since the epoch), 0.0 where there is none."""
        names = frozenset(config.schedule)
        if names != self._names:
            self._forget_others(names)
        soonest = min((self._once(one, config, look, now) for one in config.schedule.values()), default=inf)
        return soonest if soonest < inf else 0.0

    def _once(self, schedule: Schedule, config: Config, look: Look, now: float) -> float:
        """Look at one schedule; what is wrong with it is said once and stops only itself."""
        name = schedule.name
        seen = self._seen.get(name)
        if seen and seen.schedule == schedule and seen.since <= now < seen.until:
            return seen.until
        try:
            last = self._deal(schedule, config, look, now)
            until = standing.next_time(schedule, last, now) or inf
            self._told.pop((name, _TROUBLE), None)
        except (OctopoidError, OSError) as error:
            self._tell(name, _TROUBLE, f"{_said(error)}; it makes no task until that is mended")
            until = now + RETRY
        self._seen[name] = Seen(schedule, now, until)
        return until

    def _deal(self, schedule: Schedule, config: Config, look: Look, now: float) -> float:
        """Make the task if its time has come; the last time that was dealt with."""
        name = schedule.name
        note = self._read(name)
        if note is None or (note.cron and note.cron != schedule.cron):
            return self._remember(schedule, now)
        if note.at > now + FUTURE:
            self._tell(name, _HELD, "its last time is far ahead, so the clock was wrong; it counts from now on")
            return self._remember(schedule, now)
        at = standing.due(schedule, note.at, now)
        if at is None:
            return note.at
        # Taken: it was made before we were killed, or this is the second pass of the hour that comes twice.
        if store.find(self.layout, standing.task_id(name, at)) is None:
            self._make(schedule, at, config, look, now)
        return self._remember(schedule, at)

    def _make(self, schedule: Schedule, at: float, config: Config, look: Look, now: float) -> None:
        name, task = schedule.name, standing.task_id(schedule.name, at)
        data = text(self.layout, schedule, at)
        what = taskfile.parse(data, self.layout.task_file(State.INCOMING, task))
        why = _held(schedule, what, config, look)
        if why:
            self._tell(name, _HELD, why)
            return
        self._told.pop((name, _HELD), None)
        with suppress(Conflict):  # a person's file of that name came in between: it is the task
            lifecycle.enqueue(self.layout, task, data, now, by=BY)

    # --- what is remembered ---

    def _read(self, name: str) -> Note | None:
        """None for a schedule that was never seen. Raises Invalid: what cannot be read stops (invariant 8)."""
        path = self.layout.schedule / name
        try:
            at, _, cron = regular.read(path).decode().strip().partition(" ")
            return Note(clock.parse(at), cron)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no time in it"
            hint = f"remove it, and {name} counts from then on"
            problem = Problem(path, 0, 0, f"cannot be read: {reason}", hint)
            raise Invalid(f"{problem}; {hint}", (problem,), hint) from None

    def _remember(self, schedule: Schedule, at: float) -> float:
        self.layout.schedule.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.write(self.layout.schedule / schedule.name, f"{clock.iso(at)} {schedule.cron}\n".encode())
        return at

    def _forget_others(self, names: frozenset[str]) -> None:
        """A schedule that is taken out of the policy begins anew if it ever comes back."""
        for name in set(store.durable_names(self.layout.schedule)) - names:
            with suppress(OSError):  # it is only litter
                (self.layout.schedule / name).unlink()
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}
        self._told = {about: said for about, said in self._told.items() if about[0] in names}
        self._names = names

    def _tell(self, name: str, kind: str, said: str) -> None:
        if self._told.get((name, kind)) != said:
            self._told[name, kind] = said
            self._say(f"schedule {name}: {said}")


def _said(error: OctopoidError | OSError) -> str:
    return error.message if isinstance(error, OctopoidError) else f"{error.filename}: {error.strerror}"


def text(layout: Layout, schedule: Schedule, at: float) -> bytes:
    """The task file for the time `at`. Raises NotFound (no such template), Invalid, UsageError."""
    suffix = f" ({standing.day(at)})"
    role, flow = schedule.role or None, schedule.flow or None
    if schedule.template:
        options = templating.Options(role=role, flow=flow)
        return templating.render(layout, schedule.template, schedule.title, "", options, suffix)
    title = f"{schedule.title[: templating.MAX_TITLE - len(suffix)].rstrip()}{suffix}"
    return taskfile.compose(title=title, role=role, flow=flow or "default")


def _held(schedule: Schedule, what: Task, config: Config, look: Look) -> str:
    """Why this time passes without a task, or ""."""
    mine = [one for one, state in look.ids.items() if state in ACTIVE and standing.is_of(schedule.name, one)]
    if len(mine) >= schedule.max_open:
        told = f"{mine[0]} is" if len(mine) == 1 else f"{len(mine)} of its tasks are"
        return f"{told} still open, so its time passes without another (max_open: {schedule.max_open})"
    waiting = [one for one in look.items if one.state is State.BLOCKED and one.task and PROPOSAL in one.task.labels]
    limit = config.limits.proposals
    if len(waiting) < limit or not _proposes(what, config):
        return ""
    return f"{len(waiting)} proposals wait for a person, so its time passes without more (limits.proposals: {limit})"


def _proposes(what: Task, config: Config) -> bool:
    """Does the first who works on it leave tasks that a person must accept, one by one?"""
    flow = config.flows.get(what.flow)
    first = what.role or (flow.stages[0].role if flow and flow.stages else "")
    role = config.roles.get(first)
    return role is not None and role.proposals
