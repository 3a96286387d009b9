"""The files of the queue as the disk has them: kinds, names, owners, permissions, times."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from octopoid import setup, store
from octopoid.doctor.finding import ERROR, INFO, WARNING, Case, Finding, Repair, some
from octopoid.states import ACTIVE, State

AHEAD = 60.0
"""Seconds that a time may be in the future without meaning anything."""


def check_kinds(case: Case) -> Iterator[Finding]:
    """Every task is a plain file of its own, written in the past."""
    future: list[str] = []
    for state in State:
        for entry in _files(case.layout.folder(state)):
            facts = entry.stat(follow_symlinks=False)
            if facts.st_nlink == 1 and stat.S_ISREG(facts.st_mode) and facts.st_mtime <= case.now + AHEAD:
                continue
            path = Path(entry.path)
            if not stat.S_ISREG(facts.st_mode):
                if state not in ACTIVE:  # elsewhere the file is invalid, which is told with all the others
                    message = f"this is {_kind(facts.st_mode)}, not a file, and still counts as a task in {state.value}"
                    fix = f"if it is no task: mv -n {case.short(path)} {case.short(case.layout.home)}/"
                    yield Finding("not-regular", WARNING, message, fix, path)
                continue
            if facts.st_nlink > 1:
                message = "this file has another name elsewhere (a hard link): whoever writes there changes the task"
                fix, repair = "octopoid doctor --fix makes it a file of its own", Repair("apart", path)
                yield Finding("hard-link", WARNING, message, fix, path, repair)
            if state in ACTIVE and facts.st_mtime > case.now + AHEAD:
                future.append(case.short(path))
    if future:
        message = f"written in the future ({some(future)}): the order of tasks goes by these times"
        yield Finding("future-time", INFO, message, f"touch {' '.join(future[:5])}", case.root / future[0])


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISLNK, "a link"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    )
    return next((word for test, word in kinds if test(mode)), "a device")


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            yield from (entry for entry in found if entry.name.endswith(".md") and entry.name[0] != ".")
    except (FileNotFoundError, NotADirectoryError):
        return


def check_collisions(case: Case) -> Iterator[Finding]:
    """No two names differ in case alone: on a Mac's disk or a stick they would be one file."""
    folders = {folder: os.listdir(folder) for state in State if (folder := case.layout.folder(state)).is_dir()}
    names = {name for found in folders.values() for name in found if name.endswith(".md") and name[0] != "."}
    if len({name.casefold() for name in names}) == len(names):
        return
    seen: dict[str, list[Path]] = {}
    for folder, found in folders.items():
        for name in names.intersection(found):
            seen.setdefault(name.casefold(), []).append(folder / name)
    for paths in sorted(seen.values()):
        names = {path.name for path in paths}
        if len(names) > 1:
            odd = next(path for path in paths if path.name != path.name.casefold())
            message = f"{' and '.join(sorted(names))} are one name on a disk where capitals are small letters, too"
            fix = f"mv -n {case.short(odd)} {case.short(odd.with_name(f'{odd.stem.casefold()}-2.md'))}"
            yield Finding("same-name", WARNING, message, fix, odd)


def check_access(case: Case) -> Iterator[Finding]:
    """The queue and the policy belong to whoever runs octopoid, and nobody else may write there."""
    layout, mine = case.layout, os.geteuid()
    folders = [*setup.folders(layout), layout.queue, layout.flows, layout.moving, layout.pause]
    policy = [layout.agents_yaml, *_policy(layout.roles), *_policy(layout.flows)]
    for path in dict.fromkeys([*folders, *policy]):
        try:
            facts = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISLNK(facts.st_mode):
            continue  # a folder that is a link is refused by every command; what the policy links to is the user's
        if facts.st_uid != mine:
            message = f"belongs to {_owner(facts.st_uid)}, and octopoid runs as {_owner(mine)}: files get two owners"
            fix = f"run octopoid as {_owner(facts.st_uid)}, or give all of .octopoid to one of them (chown)"
            yield Finding("other-owner", WARNING, message, fix, path)
        if facts.st_mode & stat.S_IWOTH:
            message = "everybody on this machine can write here, and so have commands run in your name"
            fix, repair = "octopoid doctor --fix takes that right away (chmod o-w)", Repair("mode", path)
            yield Finding("open-to-all", WARNING, message, fix, path, repair)


def _policy(folder: Path) -> list[Path]:
    return [folder / name for name in sorted(store.durable_names(folder))] if folder.is_dir() else []


def _owner(uid: int) -> str:
    return "root" if uid == 0 else f"user {uid}"


def check_records(case: Case) -> Iterator[Finding]:
    """What a command reads at its start is no pipe, on which it would wait for ever."""
    layout = case.layout
    for path in (layout.events, layout.breakers, layout.scheduler_pid, layout.last_tick, layout.scheduler_lock):
        try:
            mode = path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISREG(mode):
            message = f"this is {_kind(mode)} where octopoid has a file of its own"
            fix = f"mv -n {case.short(path)} {case.short(path.with_name(f'.strange-{path.name}'))}"
            yield Finding("not-regular", ERROR, message, fix, path)
