"""What a kill left lying around, that nobody reads and nobody will finish."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from octopoid import attempts, locks, store
from octopoid.doctor.entries import is_small
from octopoid.doctor.finding import INFO, STALE, Case, Finding, Repair
from octopoid.states import State

_TEMPORARY = re.compile(r"\.tmp-[0-9a-f]{12}\Z|\..+\.md\.new\Z")
"""What `durable.write` and `store.add` call a file that is not complete yet."""

_COPIES = (".last-good.new", ".last-good.old")
"""What `policyfile` calls a copy of the policy that it is about to put in place, and the one before."""

_SCRATCH = re.compile(r"octopoid-[0-9]+-[0-9a-f]{16}\Z")


def check_leftovers(case: Case) -> Iterator[Finding]:
    """Half-written files and entries."""
    fix = "octopoid doctor --fix removes it"
    for path in _old(_temporary_files(case), case.now):
        yield Finding("leftover-file", INFO, "was never written completely", fix, path, Repair("file", path))
    for path in _old(_fresh_entries(case), case.now):
        if not locks.is_held(path / "lock"):
            message = "an entry that was never begun"
            yield Finding("leftover-entry", INFO, message, fix, path, Repair("entry", path))


def is_temporary(path: Path) -> bool:
    """Has `path` a name that only our own half-written files have?"""
    return bool(_TEMPORARY.match(path.name)) or path.name in _COPIES


def _temporary_files(case: Case) -> Iterator[Path]:
    layout = case.layout
    folders = (layout.home, layout.run, layout.drafts, layout.pause, layout.schedule, layout.moving)
    for folder in (*folders, *(layout.folder(state) for state in State)):
        if folder.is_dir():
            names = sorted(store.durable_names(folder))
            yield from (folder / name for name in names if name[0] == "." and _TEMPORARY.match(name))
    yield from (
        layout.entries(one.task) / name for one in case.evidence.folders for name in one.fresh if name[1] == "t"
    )
    if is_small(case.evidence.folders):
        for one in case.evidence.folders:
            for number in one.numbers:
                entry = layout.entry(one.task, number)
                yield from (entry / name for name in store.durable_names(entry) if _TEMPORARY.match(name))
    if layout.last_good.is_dir():  # without it the older copy is the one that counts
        yield from (layout.run / name for name in _COPIES)


def _fresh_entries(case: Case) -> Iterator[Path]:
    for one in case.evidence.folders:
        yield from (case.layout.entries(one.task) / name for name in one.fresh if name.startswith(".new-"))


def check_scratch(case: Case) -> Iterator[Finding]:
    """Folders for temporary files go when their entry is closed. Those of other repositories are theirs."""
    found = {path.name: path for path in _scratch_folders(case)}
    if not found:
        return
    home = str(case.layout.attempts)
    for folder in case.evidence.folders:
        for number in folder.numbers:
            place = found.get(attempts.scratch_name(f"{home}/{folder.task}/{number:03d}"))
            if place is None:
                continue
            entry = case.layout.entry(folder.task, number)
            if (entry / "outcome.json").exists() and not locks.is_held(entry / "lock"):
                message = f"temporary files of an attempt of {folder.task} that is over"
                fix, repair = "octopoid doctor --fix removes it", Repair("scratch", place, folder.task)
                yield Finding("leftover-scratch", INFO, message, fix, place, repair)


def _scratch_folders(case: Case) -> Iterator[Path]:
    for place in dict.fromkeys((case.env.get("TMPDIR") or "/tmp", "/tmp")):  # noqa: S108 - as attempts.scratch_place
        try:
            with os.scandir(place) as found:
                mine = [Path(one.path) for one in found if _SCRATCH.match(one.name)]
        except OSError:
            continue
        yield from (path for path in mine if path.name.startswith(f"octopoid-{os.getuid()}-"))


def _old(paths: Iterable[Path], now: float) -> Iterator[Path]:
    yield from (path for path in paths if (age := _age(path, now)) is not None and age > STALE)


def _age(path: Path, now: float) -> float | None:
    """Seconds since it was written; None when it is gone."""
    try:
        return now - path.lstat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None
