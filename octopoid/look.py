"""One look at the queue: every task where it is, what it says, what its entries say. Reads only (invariant 11).

`status`, `why` and the scheduler see the same thing: this. The scheduler keeps its Observer, which remembers what did
not change; a reading command makes a new one.
"""

from __future__ import annotations

import os
import time
from collections import ChainMap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from octopoid import attempts, store, taskfile
from octopoid.errors import Invalid
from octopoid.fold import fold
from octopoid.hints import nearest
from octopoid.layout import Layout
from octopoid.model import Entry, Item, Ledger, Problem, Task
from octopoid.states import RANK, State

_RACY = 0.1
"""Seconds. A folder's time moves in steps of some ms, so a folder changed this recently may change again unseen."""


_TRIES = 5


class Look(NamedTuple):
    """What one look found. `items`: the tasks in the active folders. `ids`: every id there is, with its folder."""

    items: tuple[Item, ...]
    problems: tuple[Problem, ...]
    ids: Mapping[str, State]

    def get(self, task: str) -> Item | None:
        """The active task with this id."""
        return next((item for item in self.items if item.id == task), None)


class _Read(NamedTuple):
    stamp: tuple[int, int, int]
    path: Path
    task: Task | None
    problems: tuple[Problem, ...]


class _Ledgers(NamedTuple):
    stamp: int
    entries: tuple[Entry, ...]
    ledger: Ledger


class Observer:
    """Looks, and remembers what cannot have changed since."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._attempts = f"{layout.attempts}/"
        self._read: dict[str, _Read] = {}
        self._names: dict[Path, tuple[int, frozenset[str]]] = {}
        self._finished: tuple[tuple[int, ...], dict[str, State]] = ((), {})
        self._ledgers: dict[str, _Ledgers] = {}
        self._asked: set[str] = set()

    def look(self) -> Look:
        """The queue now. The evidence of tasks that nobody has asked for since the last look is forgotten."""
        self._ledgers = {task: kept for task, kept in self._ledgers.items() if task in self._asked}
        self._asked.clear()
        scan = self._steady_scan()
        finished = self._finished_ids(scan)
        real, duplicates = _of_each_id(scan.places, finished)
        ids = ChainMap({place.id: place.state for place in real.values()}, finished)
        problems = [*scan.strays, *duplicates]
        self._read = {place.path: self._parsed(place) for place in real.values()}
        items = []
        for place in real.values():
            read = self._read[place.path]
            problems.extend(read.problems)
            problem = next(iter(read.problems), None)
            ledger = self.ledger(place.id)
            items.append(Item(place.id, place.state, read.path, _age(place), read.task, problem, ledger))
        items, wrong = _check_dependencies(items, ids)
        problems.extend(wrong)
        problems.extend(_trouble(self.layout, item) for item in items if item.ledger.trouble)
        return Look(tuple(sorted(items, key=_order)), tuple(sorted(problems)), ids)

    def _finished_ids(self, scan: store.Scan) -> dict[str, State]:
        """The ids in `done` and the archive; made again only when one of these folders changed."""
        same = tuple(id(names) for names in scan.finished.values())
        if self._finished[0] != same:
            found: dict[str, State] = {}
            for state in sorted(scan.finished, key=lambda one: RANK[one]):
                found.update(dict.fromkeys(scan.finished[state], state))
            self._finished = (same, found)
        return self._finished[1]

    def _steady_scan(self) -> store.Scan:
        """A scan during which no folder changed: a file on its way between two folders is not missed."""
        before = self.stamps()
        for _ in range(_TRIES):
            scan = store.scan(self.layout, self._ids_in)
            after = self.stamps()
            if after == before:
                break
            before = after
        return scan

    def stamps(self) -> tuple[int, ...]:
        """The folders' times of change in ns: equal as long as no file came, went or was replaced."""
        return (*(time_of(self.layout.folder(state)) for state in State), time_of(self.layout.moving))

    def ledger(self, task: str) -> Ledger:
        """The fold of the entries of `task`; unreadable evidence gives a ledger that says so and lets nothing pass."""
        return self._evidence(task).ledger

    def entries(self, task: str) -> tuple[Entry, ...]:
        """The entries of `task`."""
        return self._evidence(task).entries

    def _evidence(self, task: str) -> _Ledgers:
        self._asked.add(task)
        try:
            stamp = os.stat(self._attempts + task).st_mtime_ns  # noqa: PTH116 - for every task at every look
        except (FileNotFoundError, NotADirectoryError):
            return _Ledgers(0, (), Ledger())
        kept = self._ledgers.get(task)
        if kept and kept.stamp == stamp and all(attempts.finished(entry) for entry in kept.entries):
            return kept
        known = {entry.number: entry for entry in kept.entries} if kept else {}
        try:
            entries = attempts.read(self.layout, task, known)
        except Invalid as error:
            return _Ledgers(0, (), Ledger(trouble=error.message))
        fresh = time.time() - stamp / 1e9 < _RACY
        kept = _Ledgers(0 if fresh else stamp, entries, fold(entries))
        self._ledgers[task] = kept
        return kept

    def _ids_in(self, folder: Path) -> frozenset[str]:
        try:
            stamp = folder.stat().st_mtime_ns
        except FileNotFoundError:
            return frozenset()
        kept = self._names.get(folder)
        if kept and kept[0] == stamp:
            return kept[1]
        names = store.ids_in(folder)
        fresh = time.time() - stamp / 1e9 < _RACY
        self._names[folder] = (0 if fresh else stamp, names)
        return names

    def _parsed(self, place: store.Place) -> _Read:
        kept = self._read.get(place.path)
        return kept if kept is not None and kept.stamp == place.stamp else _parse(place)


def time_of(path: Path) -> int:
    """When a file or folder changed (ns), 0 when it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _parse(place: store.Place) -> _Read:
    path = Path(place.path)
    try:
        return _Read(place.stamp, path, taskfile.parse(store.read(path), path.with_name(f"{place.id}.md")), ())
    except FileNotFoundError:
        return _Read(place.stamp, path, None, (Problem(path, 0, 0, "moved while it was read", "look again"),))
    except Invalid as error:
        # In `.moving` the file has another name than the person knows it by.
        return _Read(place.stamp, path, None, tuple(problem._replace(path=path) for problem in error.problems))


def _of_each_id(
    places: Iterable[store.Place], finished: Mapping[str, State]
) -> tuple[dict[str, store.Place], list[Problem]]:
    """The file furthest along of each id is the task; every other one is a duplicate (DESIGN §3)."""
    real: dict[str, store.Place] = {}
    problems = []
    for place in sorted(places, key=lambda one: (RANK[one.state], one.moving), reverse=True):
        if place.id in finished:
            queue = Path(place.path).parents[1]
            problems.append(_duplicate(place, queue / finished[place.id].value / f"{place.id}.md"))
        elif place.id in real:
            problems.append(_duplicate(place, Path(real[place.id].path)))
        else:
            real[place.id] = place
    return real, problems


def _duplicate(place: store.Place, real: Path) -> Problem:
    folder = real.parent.name
    path = Path(place.path)
    hint = f"keep it as a task of its own with: mv -n {path} {path.with_name(f'{place.id}-2.md')}"
    return Problem(path, 0, 0, f"duplicate: the task {place.id} is in {folder} ({real})", hint)


def _age(place: store.Place) -> float:
    """The mtime; one in the future would never settle, so there the kernel's own time of the change counts."""
    return place.mtime if place.mtime <= place.ctime + 1.0 else place.ctime


def _order(item: Item) -> tuple[int, float, str]:
    return (item.task.priority if item.task else 9, item.mtime, item.id)


def _trouble(layout: Layout, item: Item) -> Problem:
    return Problem(layout.entries(item.id), 0, 0, item.ledger.trouble, "octopoid doctor tells what can be done")


def _check_dependencies(items: list[Item], ids: Mapping[str, State]) -> tuple[list[Item], list[Problem]]:
    """Unknown dependencies and circles make a task invalid where it is."""
    # A parent waits for its subtasks. Where that closes a circle with dependencies nobody would ever begin.
    edges = {item.id: (*item.task.depends_on, *item.ledger.children) for item in items if item.task}
    checked, problems = [], []
    for item in items:
        problem = _wrong_dependency(item, edges, ids) if item.task and item.task.depends_on else None
        if problem:
            problems.append(problem)
            item = item._replace(problem=problem)
        checked.append(item)
    return checked, problems


def _wrong_dependency(item: Item, edges: Mapping[str, tuple[str, ...]], ids: Mapping[str, State]) -> Problem | None:
    for one in item.task.depends_on if item.task else ():
        if one not in ids:
            line, column = _place_of(item.path, one)
            hint = f"{nearest(one, ids)} or remove it" if ids else "remove it"
            return Problem(item.path, line, column, f"depends on `{one}`, which does not exist", hint.lstrip())
    circle = _circle(item.id, edges)
    if circle:
        line, column = _place_of(item.path, circle[1])
        return Problem(
            item.path, line, column, f"dependencies go in a circle: {' → '.join(circle)}", "remove one of them"
        )
    return None


def _circle(start: str, edges: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The way from `start` along dependencies back to itself, or []."""
    back: dict[str, str] = {}
    todo = [start]
    while todo:
        here = todo.pop()
        for after in edges.get(here, ()):
            if after == start:
                way = [start]
                while here != start:
                    way.append(here)
                    here = back[here]
                return [*way[:1], *reversed(way[1:]), start]
            if after not in back:
                back[after] = here
                todo.append(after)
    return []


def _place_of(path: Path, word: str) -> tuple[int, int]:
    """The line and column (from 1) of a word in the front matter; (0, 0) when the file went away."""
    try:
        text = store.read(path).decode("utf-8", "replace")
    except (FileNotFoundError, Invalid):
        return 0, 0
    for number, line in enumerate(text.splitlines(), start=1):
        if word in line:
            return number, line.index(word) + 1
    return 0, 0
