"""The queue: its folders, its files, the scheduler, moves that were cut short."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from octopoid import budgets, clock, costs, ending, process, regular, setup, stopping, store
from octopoid.doctor.finding import ERROR, INFO, WARNING, Case, Finding, Repair
from octopoid.doctor.leftovers import is_temporary
from octopoid.errors import Invalid
from octopoid.model import Problem
from octopoid.states import State

SILENT = 600.0
"""Seconds. A scheduler looks at least once a minute."""

MOVING = 0.5
"""Seconds that a move gets to end while we look. It takes milliseconds."""


def check_folders(case: Case) -> Iterator[Finding]:
    """Every folder is there, and can be written to."""
    for folder in setup.folders(case.layout):
        if not folder.is_dir() and not os.path.lexists(folder):
            fix, repair = "octopoid doctor --fix makes it", Repair("folder", folder)
            yield Finding("folder-missing", ERROR, "this folder is missing", fix, folder, repair)
        elif not folder.is_dir():
            yield Finding("folder-missing", ERROR, "this is not a folder", "move what is there elsewhere", folder)
        elif not os.access(folder, os.W_OK | os.X_OK):
            message = "cannot be written to: the permissions, or a file system that is mounted read-only"
            yield Finding("not-writable", ERROR, message, f"ls -ld {case.short(folder)}; mount", folder)


def check_device(case: Case) -> Iterator[Finding]:
    """A task moves by one rename, which cannot cross a mount."""
    folders = [case.layout.folder(state) for state in State] + [case.layout.moving]
    devices = {folder: folder.stat().st_dev for folder in (case.layout.queue, *folders) if folder.is_dir()}
    for folder in apart(devices, case.layout.queue):
        message = "is on another file system than the rest of the queue: no task can be moved there"
        fix = "keep the whole of .octopoid/queue on one file system"
        yield Finding("other-device", ERROR, message, fix, folder)


def apart(devices: Mapping[Path, int], home: Path) -> list[Path]:
    """The folders whose device is not that of `home`."""
    return [folder for folder, device in devices.items() if device != devices.get(home, device)]


def check_files(case: Case) -> Iterator[Finding]:
    """Every file in the queue is a task, and every task's evidence can be read."""
    tasks = {item.path: item.id for item in case.look.items}
    for one in case.look.problems:
        place = f"line {one.line}, column {one.column}: " if one.line else ""
        code = _code(one, tasks, case.layout.attempts)
        fix = one.hint or "make it a plain markdown file"
        if code == "invalid":
            fix += f"; octopoid edit {tasks[one.path]}"
        elif code == "evidence":
            fix = _about_evidence(case, one)
        yield Finding(code, ERROR, place + one.message, fix, one.path)
    yield from _unknown_spending(case, {one.path for one in case.look.problems})


def _unknown_spending(case: Case, told: Collection[Path]) -> Iterator[Finding]:
    """With a budget for a day what is archived or gone counts as well, and stops everything where it cannot be read."""
    if case.config is None or not budgets.limited(case.config.limits):
        return
    try:
        costs.today(case.layout, case.now, {})
    except Invalid as error:
        for one in error.problems:
            folder = one.path.parent.parent
            if folder not in told:
                message = f"{one.message}; until then nothing starts, because there is a budget for the day"
                yield Finding("evidence", ERROR, message, _about_evidence(case, one._replace(path=folder)), one.path)


def _code(one: Problem, tasks: Mapping[Path, str], attempts: Path) -> str:
    if one.path in tasks:
        return "invalid"
    if one.path.parent == attempts:
        return "evidence"
    return "duplicate" if one.path.suffix == ".md" else "stray"


def _about_evidence(case: Case, one: Problem) -> str:
    """Entries carry counters and verdicts: a machine does not decide that they count no longer."""
    folder = case.short(one.path)
    aside = f"mv -n {folder}/NNN {folder}/.broken-NNN"
    return f"mend the file; if it is lost, set its entry aside, then it counts no longer: {aside}"


def check_scheduler(case: Case) -> Iterator[Finding]:
    """One runs and looks, or none runs and nobody waits for it."""
    layout = case.layout
    if case.scheduler:
        silent = case.now - _last_tick(layout.last_tick)
        if silent > SILENT:
            message = f"a scheduler holds the lock (pid {stopping.holder(layout) or 'unknown'}), but has not looked"
            fix = "octopoid stop, then octopoid run"
            yield Finding(
                "scheduler-silent", WARNING, f"{message} for {silent / 60:.0f} minutes", fix, layout.last_tick
            )
        return
    if layout.scheduler_pid.exists():
        message, fix = "left by a scheduler that was killed", "octopoid doctor --fix removes it; so does the next start"
        yield Finding("scheduler-pid", INFO, message, fix, layout.scheduler_pid, Repair("pid", layout.scheduler_pid))
    waiting = [item for item in case.look.items if item.state is not State.BLOCKED and not item.problem]
    if waiting:
        message = f"no scheduler runs, and {len(waiting)} {'task waits' if len(waiting) == 1 else 'tasks wait'} for one"
        yield Finding("scheduler-off", INFO, message, "octopoid run, or octopoid service install")


def _last_tick(path: Path) -> float:
    """When the scheduler looked last; the file's own time where it says nothing."""
    try:
        return clock.parse(regular.read(path).decode().strip())
    except ValueError:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def check_claims(case: Case) -> Iterator[Finding]:
    """What is claimed is worked on, and whoever works has a supervisor."""
    for item in case.look.items:
        live = stopping.live(case.layout, item.id)
        if item.state is State.CLAIMED and not live and not case.scheduler:
            message = f"{item.id} is claimed, and nothing works on it"
            fix = "octopoid run: its first look takes in what is there, or puts the task back, uncharged"
            yield Finding("claimed-idle", INFO, message, fix, item.path)
        for entry in live:
            yield from _supervised(case, item.id, entry)


def _supervised(case: Case, task: str, entry: Path) -> Iterator[Finding]:
    record = process.read_pid(str(entry))
    runner = record.get("runner_pid")
    if runner is None or process.start_time(runner) == record.get("runner_start"):
        return
    pids = ", ".join(map(str, sorted(ending.marked(str(entry))))) or "unknown"
    message = f"the supervisor of {task} is gone, what it started is not (pid {pids})"
    when = "its next look" if case.scheduler else "octopoid run: its first look"
    yield Finding("no-supervisor", WARNING, message, f"{when} ends them and closes the attempt, uncharged", entry)


def check_moving(case: Case) -> Iterator[Finding]:
    """Moves that a kill interrupted. A running scheduler finishes them by itself."""
    for path in _stuck(case.layout.moving):
        name = path.name
        source, _, rest = name.partition("+")
        if not rest.endswith(".md") or source not in State.__members__:
            fix = f"is it a task? then: mv {case.short(path)} {case.short(case.layout.queue)}/incoming/"
            yield Finding("moving", WARNING, "nobody knows what this file is or where it belongs", fix, path)
            continue
        task = rest.removesuffix(".md")
        fix, repair = "the scheduler finishes it at its next look", None
        if not case.scheduler:
            fix, repair = "octopoid doctor --fix finishes it; so does octopoid run", Repair("moving", path, task)
        home = case.layout.task_file(State[source], task)
        if os.path.lexists(home):
            fix, repair = f"keep both with: mv {case.short(home)} {case.short(home.with_stem(f'{task}-2'))}", None
        yield Finding(
            "moving", WARNING, f"the move of {task} out of {State[source].value} was interrupted", fix, path, repair
        )


def _stuck(folder: Path) -> list[Path]:
    """What is in `.moving` and stays there."""
    names, deadline = set(store.durable_names(folder)), time.monotonic() + MOVING
    while (names := names & set(store.durable_names(folder))) and time.monotonic() < deadline:
        time.sleep(0.02)
    return [folder / name for name in sorted(names) if not is_temporary(folder / name)]
