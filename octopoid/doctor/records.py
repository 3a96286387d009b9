"""What octopoid writes down beside the queue: the journal, the last good policy, the time of its last look."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from octopoid import clock, config, look, store
from octopoid.doctor.files import AHEAD
from octopoid.doctor.finding import ERROR, INFO, WARNING, Case, Finding, Repair, size, some
from octopoid.errors import Invalid
from octopoid.states import State

LARGE = 256 << 20
"""Bytes of the journal. Nothing breaks; reading it takes seconds."""

TAIL = 2 << 20
"""Bytes at the end of the journal that are compared with the folders: some 10,000 moves."""


def check_journal(case: Case) -> Iterator[Finding]:
    """The journal can be written, and its lines are whole."""
    path = case.layout.events
    try:
        facts = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISREG(facts.st_mode):
        return  # told with the other files that must be regular
    if not os.access(path, os.W_OK):
        message = "the journal cannot be written to, so every move says that it failed although it was made"
        yield Finding(
            "journal-closed", ERROR, message, f"ls -l {case.short(path)}: chmod u+w, or become its owner", path
        )
    if facts.st_size > LARGE:
        message = f"the journal has {size(facts.st_size)}; nothing breaks, but reading it takes its time"
        aside = path.with_name(f"events-until-{clock.iso(case.now)[:10]}.jsonl")
        yield Finding("journal-large", INFO, message, f"mv -n {case.short(path)} {case.short(aside)}", path)
    lines, torn = _tail(path, facts.st_size)
    if torn:
        lines_ = "a line" if torn == 1 else f"{torn} lines"
        message = f"{lines_} of the journal cannot be read: cut short by a kill or a full disk"
        yield Finding(
            "journal-torn", INFO, message, "nothing: such lines are passed over, and the next one begins anew", path
        )
    yield from _behind(case, path, lines)


def _tail(path: Path, length: int) -> tuple[dict[str, str], int]:
    """The last folder that the journal names for each task it speaks of at its end, and how many lines are torn."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, length - TAIL))
            data = file.read(length)
    except OSError:  # told above
        return {}, 0
    rows = data.split(b"\n")
    if length > TAIL:
        del rows[0]
    last, torn = {}, 0
    for row in rows:
        if not row:
            continue
        try:
            record = json.loads(row)
            task, enters = record.get("task"), record.get("to")
        except (ValueError, AttributeError, RecursionError):
            torn += 1
            continue
        if task and enters:
            last[task] = enters
    return last, torn


def _behind(case: Case, path: Path, last: dict[str, str]) -> Iterator[Finding]:
    """A move that the journal does not know: a crash before its last line, or a hand `mv` that nobody noted yet."""
    if case.scheduler:
        return  # it may be in the middle of a move
    known = {state.value for state in State}
    wrong = sorted(task for task, place in last.items() if place in known and case.look.ids.get(task, place) != place)
    if wrong:
        first = f"{wrong[0]} is in {case.look.ids[wrong[0]].value}, its last line says {last[wrong[0]]}"
        message = f"the journal is not up to date about {some(wrong)}: {first}. The folders are right"
        yield Finding(
            "journal-behind", INFO, message, "octopoid run: its looks write down what was moved by hand", path
        )


def check_last_good(case: Case) -> Iterator[Finding]:
    """The copy of the last valid policy can be read: it is what counts after a bad edit."""
    home = case.layout.last_good
    if case.policy or not home.is_dir():
        return
    try:
        config.load(home)
    except (Invalid, OSError):
        message = "the copy of the last good policy cannot be read: after a bad edit nothing would be in force"
        fix, repair = "octopoid doctor --fix copies the present one; so does octopoid run", Repair("last-good", home)
        yield Finding("last-good", WARNING, message, fix, home, repair)


def check_clock(case: Case) -> Iterator[Finding]:
    """Nothing of ours was written in the future: then the clock was set back."""
    layout = case.layout
    places = (layout.last_tick, layout.events, layout.attempts, *(layout.entries(item.id) for item in case.look.items))
    times = {place: look.time_of(place) / 1e9 for place in places}
    newest = max(times, key=lambda place: times[place])
    ahead = times[newest] - case.now
    if ahead > AHEAD:
        message = f"this was written {_span(ahead)} from now: the clock was set back since, or was wrong then"
        fix = "date: is it right? Backoffs and `not_before` wait until then; octopoid retry ID does not"
        yield Finding("clock-back", WARNING, message, fix, newest)


def _span(seconds: float) -> str:
    return f"{seconds / 86400:.0f} days" if seconds > 2 * 86400 else f"{seconds / 60:.0f} minutes"


def check_pause_names(case: Case) -> Iterator[Finding]:
    """Every pause is of something that there is."""
    agents = set(case.config.agents) if case.config else None
    for name in sorted(store.durable_names(case.layout.pause)) if case.layout.pause.is_dir() else ():
        if name[0] == ".":
            continue
        kind, _, rest = name.partition("-")
        if name == "all" or (kind == "task" and rest in case.look.ids):
            continue
        if kind == "agent" and (agents is None or rest in agents):
            continue
        path = case.layout.pause / name
        lift = {"task": f"octopoid resume {rest}", "agent": f"octopoid resume --agent {rest}"}.get(kind)
        message = "a pause of a task or an agent that there is not" if lift else "this is no pause that octopoid made"
        fix, repair = lift or "octopoid doctor --fix removes it, if it is empty", None
        if lift is None and path.is_file() and not path.stat().st_size:
            repair = Repair("pause", path)
        yield Finding("pause-unknown", INFO, message, fix, path, repair)


def check_pause_folder(case: Case) -> Iterator[Finding]:
    """Pauses have a folder."""
    path = case.layout.pause
    if os.path.lexists(path) and not path.is_dir():
        fix = f"mv -n {case.short(path)} {case.short(path.with_name('.strange-pause'))}"
        yield Finding("not-regular", ERROR, "this is not a folder, so no pause can be set or lifted", fix, path)
