"""How the queue stood at an earlier time: folders from the journal, what ran and why things waited from the entries.

What only a task file says (title, priority, what it depends on) is not known of the past: files keep no history here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from octopoid import attempts, journal, store
from octopoid.errors import Invalid, UsageError
from octopoid.fold import PROGRAMS, fold
from octopoid.journal import Event
from octopoid.layout import Layout
from octopoid.model import Entry, Ledger
from octopoid.states import ACTIVE, State

_AGO = re.compile(r"-?(\d{1,6})([smhdw])")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DAYS = {"today": 0, "yesterday": 1}
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
_EXAMPLES = "write it like 2026-11-21T10:00, 10:00, -2h or 'yesterday 18:00'"


class Then(NamedTuple):
    """A task as it was: its folder, and what its entries said by then."""

    id: str
    state: State
    ledger: Ledger


class Run(NamedTuple):
    """A program that was at work for a task."""

    task: str
    entry: Entry
    usd: float | None


class Past(NamedTuple):
    """The queue at `at` (seconds since the epoch). `begins`: when the journal begins; None: there is none.

    `tasks`: those in the active folders; of the others only the number is in `counts`. `landed`: the lines of what came
    into `done`, the newest first.
    """

    at: float
    begins: float | None
    counts: Mapping[str, int]
    tasks: tuple[Then, ...]
    running: tuple[Run, ...]
    landed: tuple[Event, ...]

    @property
    def known(self) -> bool:
        """The journal reaches back to this time."""
        return self.begins is not None and self.begins <= self.at


def at(layout: Layout, when: float) -> Past:
    """The queue as it was at `when`. Reads only."""
    begins: float | None = None
    folders: dict[str, str] = {}
    landed: list[Event] = []
    for event in journal.read(layout):
        begins = event.at if begins is None else min(begins, event.at)
        if event.at > when or not (event.leaves or event.enters):
            continue
        folders[event.task] = event.enters
        if event.enters == State.DONE and event.event != "undo":
            landed.append(event)
    names = {state.value: state for state in State}
    places = {task: names[folder] for task, folder in folders.items() if folder in names}
    counts = {state.value: list(places.values()).count(state) for state in (*ACTIVE, State.DONE)}
    tasks = tuple(Then(task, state, _ledger(layout, task, when)) for task, state in places.items() if state in ACTIVE)
    done = [one for one in reversed(landed) if places.get(one.task) in (State.DONE, State.ARCHIVED)]
    return Past(when, begins, counts, tasks, tuple(_running(layout, when)), tuple(done))


def moment(text: str, now: float) -> float:
    """The time that a person means: seconds since the epoch, not after `now`. Local time unless it has an offset.

    `10:00` is the last time that a clock showed that. Raises UsageError.
    """
    found = _moment(text.strip().lower(), now)
    if found is None:
        raise UsageError(f"`{text}` is not a time", _EXAMPLES)
    if found > now:
        raise UsageError(f"{text} is still to come", _EXAMPLES)
    return found


def _moment(text: str, now: float) -> float | None:
    if text == "now":
        return now
    if ago := _AGO.fullmatch(text):
        return now - int(ago[1]) * _UNITS[ago[2]]
    day, _, clock = text.partition(" ")
    today = datetime.fromtimestamp(now).astimezone().replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    if day in _DAYS:
        return _of_day(today - timedelta(days=_DAYS[day]), clock.strip() or "0:00")
    if _CLOCK.fullmatch(text):
        found = _of_day(today, text)
        return _of_day(today - timedelta(days=1), text) if found is not None and found > now else found
    try:
        return datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _of_day(day: datetime, clock: str) -> float | None:
    """The time `clock` of a day (local, without a zone)."""
    match = _CLOCK.fullmatch(clock)
    if match is None:
        return None
    try:
        return day.replace(hour=int(match[1]), minute=int(match[2]), second=int(match[3] or 0)).timestamp()
    except ValueError:
        return None


def _ledger(layout: Layout, task: str, when: float) -> Ledger:
    """What the entries of `task` said by then."""
    try:
        return fold(_until(attempts.read(layout, task), when))
    except Invalid as error:
        return Ledger(trouble=error.message)


def _until(entries: Iterable[Entry], when: float) -> Iterator[Entry]:
    """The entries as they were: those that had begun, without what came of them later."""
    for entry in entries:
        if entry.opening.at > when:
            continue
        over = entry.outcome is not None and entry.outcome.ended <= when
        yield entry if over or entry.outcome is None else entry._replace(outcome=None, exited=False, waits="")


def _running(layout: Layout, when: float) -> Iterator[Run]:
    """The programs that were at work. An entry that never got an end counts as long as it is the newest of its task."""
    for task in sorted(store.durable_names(layout.attempts)):
        if task[0] == "." or not _since(layout, task, when):
            continue
        try:
            entries = attempts.read(layout, task)
        except Invalid:
            continue
        usd = fold(_until(entries, when)).usd
        for entry in entries:
            if entry.opening.kind in PROGRAMS and entry.started and _at_work(entry, when):
                yield Run(task, entry, usd)


def _since(layout: Layout, task: str, when: float) -> bool:
    """Did anything about `task` change after `when`? Otherwise nothing of it can have been at work then and be over."""
    try:
        return layout.entries(task).stat().st_mtime >= when
    except FileNotFoundError:
        return False


def _at_work(entry: Entry, when: float) -> bool:
    return entry.opening.at <= when and (entry.outcome is None or entry.outcome.ended > when)
