"""The times of standing work: cron lines in local time, and the names of the tasks they make. Pure but for the zone.

cronsim keeps to Debian's cron. A line with fixed hours runs once a day: a time that the clock skips in spring comes at
the first minute after the gap, one that it repeats in autumn is its first. A line with `*` for minutes or hours follows
real time; the two times of the repeated hour then have one name, so that one task is made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, takewhile
from math import floor

from octopoid.settings import Schedule

_STEPS = 200
"""Times that are looked at in a row: more than those of an hour that the clock repeats, by far."""


class _Local(tzinfo):
    """The zone of this machine (or of TZ). zoneinfo wants its name, which no system tells reliably."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        """How far local time is ahead of UTC at `moment`; its `fold` says which of two equal times is meant."""
        naive = moment.replace(tzinfo=None) if moment else _naive(0.0)
        return naive - datetime.fromtimestamp(naive.timestamp(), UTC).replace(tzinfo=None)

    def dst(self, _moment: datetime | None) -> timedelta | None:
        """Not known; nothing here asks."""
        return None

    def tzname(self, _moment: datetime | None) -> str:
        """A word for people."""
        return "local"

    def fromutc(self, moment: datetime) -> datetime:
        """Local time of a moment in UTC, with its `fold`."""
        return _naive(moment.replace(tzinfo=UTC).timestamp()).replace(tzinfo=self)


LOCAL = _Local()
"""The zone of this machine."""


def due(schedule: Schedule, last: float, now: float) -> float | None:
    """The newest time of `schedule` after `last` and up to `now` (seconds since the epoch), None if there is none.

    Missed times are one. Where `now` is before `last` (a clock that was set back) nothing is due.
    """
    if now <= last:
        return None
    before = next(_times(schedule, floor(now) + 1, reverse=True), 0.0)
    # Backwards cronsim knows nothing of an hour that comes twice: from the second one it passes over the first.
    found = max(before, *takewhile(lambda one: one <= now, _after(schedule, before)), before)
    return found if last < found <= now else None


def next_time(schedule: Schedule, last: float, now: float) -> float:
    """The first time of `schedule` after both `last` and `now`; 0.0 if there is none in the next fifty years."""
    after = max(last, now)
    return next((one for one in _after(schedule, after) if one > after), 0.0)


def task_id(name: str, at: float) -> str:
    """The id of the task that the schedule `name` makes for its time `at`."""
    return f"{name}-{_naive(at):%Y%m%d-%H%M}"


def day(at: float) -> str:
    """The local date, such as 2026-11-21."""
    return f"{_naive(at):%Y-%m-%d}"


def is_of(name: str, task: str) -> bool:
    """Is `task` the id of a task that the schedule `name` made?"""
    return task.startswith(f"{name}-") and re.fullmatch(r"[0-9]{8}-[0-9]{4}", task[len(name) + 1 :]) is not None


def made_by(schedules: Mapping[str, Schedule], task: str) -> Schedule | None:
    """The schedule that made the task with this id, None for the task of anybody else."""
    return next((one for name, one in schedules.items() if is_of(name, task)), None)


def _after(schedule: Schedule, at: float) -> Iterator[float]:
    return islice(_times(schedule, floor(at), reverse=False), _STEPS)


def _times(schedule: Schedule, start: int, *, reverse: bool) -> Iterator[float]:
    """The times after `start`, or those before it, the nearest first."""
    from cronsim import CronSim

    moment = datetime.fromtimestamp(start, LOCAL)
    return (one.timestamp() for one in CronSim(schedule.cron, moment, reverse=reverse))


def _naive(at: float) -> datetime:
    """Local time without a zone, its `fold` set where that time comes twice."""
    return datetime.fromtimestamp(at)  # noqa: DTZ006 - cron lines are in the machine's own time
