"""The evidence on the disk: what lies in `attempts/`, how it is numbered, and what nobody closed or moved.

Of tasks that are active the look has read every entry. Of finished ones as much is read as a queue of 10,000 tasks
allows: all up to `THOROUGH` entries; above that the newest entry of each, and of the others whether they were closed.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from octopoid import attempts, fold, locks, regular
from octopoid.doctor.finding import INFO, WARNING, Case, Evidence, Finding, Folder, Landed, Repair, some
from octopoid.errors import Invalid
from octopoid.layout import Layout
from octopoid.model import ELSEWHERE, Entry, Problem
from octopoid.ready import is_on_its_way
from octopoid.states import ACTIVE, State

THOROUGH = 5000
"""Entries of finished tasks that are all read: half a second."""

_SMALL = 40
"""Bytes. No complete record is as short as this."""

_BROKEN = ".broken-"


def survey(layout: Layout, ids: Mapping[str, State]) -> Evidence:
    """Look through `attempts/`. Raises OSError."""
    folders, strange = _folders(layout)
    finished = [one for one in folders if ids.get(one.task, State.INCOMING) not in ACTIVE]
    thorough = is_small(finished)
    unread: list[Problem] = []
    left: list[tuple[str, Entry]] = []
    landed: dict[str, Landed] = {}
    top = str(layout.attempts)
    for folder in finished:
        home = f"{top}/{folder.task}"
        for number in folder.numbers:
            newest = number == folder.numbers[-1]
            if not newest and not thorough and _was_closed(f"{home}/{number:03d}"):
                continue
            record = _glance(f"{home}/{number:03d}")
            if newest and record is not None and record.sha:
                landed[folder.task] = record
            if record is None:
                try:
                    entry = attempts.read_one(layout, folder.task, number)
                except Invalid as error:
                    unread.extend(error.problems)
                    continue
                if not attempts.finished(entry):
                    left.append((folder.task, entry))
    return Evidence(tuple(folders), tuple(strange), landed, tuple(unread), tuple(left))


def is_small(folders: Iterable[Folder]) -> bool:
    """Are there so few entries that every one of them can be looked at?"""
    return sum(len(one.numbers) for one in folders) <= THOROUGH


def _folders(layout: Layout) -> tuple[list[Folder], list[Path]]:
    folders: list[Folder] = []
    strange: list[Path] = []
    try:
        with os.scandir(layout.attempts) as found:
            for one in found:
                if one.is_dir(follow_symlinks=False):
                    if one.name[0] != ".":
                        folders.append(_folder(one.path, one.name))
                elif one.name[0] != ".":
                    strange.append(Path(one.path))
    except FileNotFoundError:
        return [], []
    return sorted(folders), sorted(strange)


def _folder(path: str, task: str) -> Folder:
    names = os.listdir(path)
    numbers = sorted(int(name) for name in names if name.isdecimal() and name == f"{int(name):03d}")
    odd = sorted(name for name in names if name.isdecimal() and name != f"{int(name):03d}")
    aside = [name.removeprefix(_BROKEN) for name in names if name.startswith(_BROKEN)]
    fresh = tuple(sorted(name for name in names if name.startswith((".new-", ".tmp-"))))
    return Folder(task, tuple(numbers), tuple(odd), frozenset(int(name) for name in aside if name.isdecimal()), fresh)


def _was_closed(entry: str) -> bool:
    """By a look from outside: its last file is there."""
    try:
        facts = os.lstat(f"{entry}/outcome.json")
    except OSError:
        return False
    return stat.S_ISREG(facts.st_mode) and facts.st_size > _SMALL


def _glance(entry: str) -> Landed | None:
    """What an entry that is over says of its landing (no sha: it is none); None: it must be read closely."""
    try:
        opening = json.loads(regular.read(f"{entry}/attempt.json"))
        outcome = json.loads(regular.read(f"{entry}/outcome.json"))
        if outcome.get("verb") and not os.path.lexists(f"{entry}/moved-{outcome['enters'].replace('/', '-')}"):
            return None
        if outcome.get("children") or outcome.get("proposals") or not outcome.get("ended"):
            return None
        sha = str(opening.get("result_sha", "")) if opening["kind"] == "landing" else ""
        return Landed(str(opening.get("base", "")), sha, str(opening.get("candidate", "")))
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return None


def check_numbers(case: Case) -> Iterator[Finding]:
    """Entries are numbered one after the other, each number once, in a folder for each task."""
    for path in case.evidence.strange:
        kind = "a link" if path.is_symlink() else "not a folder"
        message = f"this is {kind}: what happened to {path.name} is looked for here, and cannot be written down"
        fix = f"mv -n {case.short(path)} {case.short(path.with_name(f'.strange-{path.name}'))}"
        yield Finding("entry-folder", WARNING, message, fix, path)
    for folder in case.evidence.folders:
        if folder.odd or folder.numbers[-1:] != (len(folder.numbers),)[: len(folder.numbers)]:
            yield from _numbers(case, folder)


def _numbers(case: Case, folder: Folder) -> Iterator[Finding]:
    home = case.layout.entries(folder.task)
    for name in folder.odd:
        place = home / f"{int(name):03d}"
        if os.path.lexists(place):
            message = f"two entries of {folder.task} have the number {int(name)}; only {place.name} is read"
            short = case.short(home)
            fix = f"look into both; the one that is wrong: mv -n {short}/{name} {short}/.twice-{name}"
            yield Finding("entry-number", WARNING, message, fix, home / name)
        else:
            message = f"an entry of {folder.task} is called {name} and not {place.name}, so it cannot be read"
            fix, repair = "octopoid doctor --fix gives it its name", Repair("number", home / name, folder.task)
            yield Finding("entry-number", WARNING, message, fix, home / name, repair)
    top = max(folder.numbers, default=0)
    gaps = sorted(set(range(1, top + 1)) - set(folder.numbers) - folder.aside - {int(name) for name in folder.odd})
    if gaps:
        missing = some([f"{number:03d}" for number in gaps])
        message = f"of {folder.task} the entries {missing} are gone: what they said counts no longer"
        fix = "put them back if you have them; otherwise nothing, numbers are not used again"
        yield Finding("entry-gap", INFO, message, fix, home)


def check_vanished(case: Case) -> Iterator[Finding]:
    """There is a task for all evidence."""
    gone = [one.task for one in case.evidence.folders if one.task not in case.look.ids]
    if gone and not case.scheduler:
        message = f"there is evidence of {some(gone)}, and no file in the queue: vanished tasks count as cancelled"
        fix = "nothing: octopoid run sets it aside; if you want a task back, put its file into queue/incoming first"
        yield Finding("entry-vanished", INFO, message, fix, case.layout.entries(gone[0]))


def check_finished(case: Case) -> Iterator[Finding]:
    """Evidence of finished tasks can be read, and nothing of it was left open."""
    for task, group in _grouped(case.evidence.unread).items():
        message = f"{group[0].message} ({task} is finished, so nothing waits for it; what it cost is not counted)"
        home = case.short(case.layout.entries(task))
        number = group[0].path.parent.name
        fix = f"mend the file; if it is lost: mv -n {home}/{number} {home}/.broken-{number}"
        yield Finding("evidence", WARNING, message, fix, group[0].path)
    for task, entry in case.evidence.left:
        state = case.look.ids.get(task)
        if state is not None:
            yield from _left(case, task, state, entry)


def check_active(case: Case) -> Iterator[Finding]:
    """Of active tasks every entry that is over was closed, and says one thing about where its task went."""
    for item in case.look.items:
        if item.ledger.trouble:
            continue
        for entry in attempts.read(case.layout, item.id) if item.ledger.next_number > 1 else ():
            if not attempts.finished(entry) and not is_on_its_way(item):  # that is told as `moving`
                yield from _left(case, item.id, item.state, entry)
            yield from _contradiction(case, item.id, entry)


def _left(case: Case, task: str, state: State, entry: Entry) -> Iterator[Finding]:
    """An entry about which something is unfinished, and nobody is at it."""
    folder = case.layout.entry(task, entry.number)
    if case.scheduler or locks.is_held(folder / "lock"):
        return
    active = state in ACTIVE
    again = "octopoid run: its first look does that"
    if entry.outcome is None:
        if active and state is State.CLAIMED:
            return  # told as `claimed-idle`
        what = f"entry {entry.number} of {task} ({entry.opening.kind}) was begun and has no end: everything was killed"
        if active:
            yield Finding("entry-open", INFO, f"{what}; it is taken in, or closed uncharged", again, folder)
        else:
            fix, repair = "octopoid doctor --fix closes it, uncharged", Repair("close", folder, task)
            yield Finding("entry-open", WARNING, f"{what}; the task is in {state.value}", fix, folder, repair)
    elif entry.outcome.verb and not entry.is_moved:
        if not _is_unmoved(case, task, entry):
            return  # a later entry has said where the task went
        verb, enters = entry.outcome.verb, entry.outcome.enters
        message = f"entry {entry.number} of {task} ({verb}, to {enters}) does not say that its move was made"
        fix, repair = (
            f"octopoid doctor --fix finishes it; so does {again.partition(':')[0]}",
            Repair("heal", folder, task),
        )
        yield Finding("entry-unmoved", INFO, message, fix, folder, repair)
    elif active:
        message = f"entry {entry.number} of {task} asks for tasks that were not all made yet"
        yield Finding("entry-spawn", INFO, message, again, folder)


def _is_unmoved(case: Case, task: str, entry: Entry) -> bool:
    try:
        unmoved = fold.fold(attempts.read(case.layout, task)).unmoved
    except Invalid:
        return False  # told
    return unmoved is not None and unmoved.number == entry.number


def _contradiction(case: Case, task: str, entry: Entry) -> Iterator[Finding]:
    known = {"claimed", ELSEWHERE, entry.outcome.enters if entry.outcome else ""}
    for word in sorted(entry.moved - known):
        path = case.layout.entry(task, entry.number) / f"moved-{word.replace('/', '-')}"
        said = f"its outcome says {entry.outcome.enters or 'nothing'}" if entry.outcome else "it has no outcome"
        message = f"entry {entry.number} of {task} claims a move to {word}, and {said}: the outcome counts"
        fix = f"mv -n {case.short(path)} {case.short(path.with_name(f'.broken-{path.name}'))}"
        yield Finding("entry-moved", WARNING, message, fix, path)


def _grouped(problems: Iterable[Problem]) -> dict[str, list[Problem]]:
    found: dict[str, list[Problem]] = {}
    for one in problems:
        found.setdefault(one.path.parent.parent.name, []).append(one)
    return found
