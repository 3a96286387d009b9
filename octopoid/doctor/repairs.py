"""What `doctor --fix` does. Each looks again first, and says what it did; "" when there was nothing to do any more.

Nothing here deletes work: what is removed was never begun or never complete, the rest is renamed or written anew.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from octopoid import durable, lifecycle, locks, look, setup, steer, stopping, store, worktrees
from octopoid.doctor.finding import STALE, Case, Repair
from octopoid.doctor.queues import is_temporary
from octopoid.doctor.trees import can_mend, is_safe, ours
from octopoid.errors import Invalid
from octopoid.states import State

QUIET = frozenset(("moving", "pid"))
"""Repairs that are a running scheduler's own business."""


def do(case: Case, repair: Repair) -> str:
    """Carry out one repair. Raises OctopoidError and OSError as its parts do."""
    return REPAIRS[repair.kind](case, repair)


def _folder(case: Case, repair: Repair) -> str:
    if os.path.lexists(repair.target):
        return ""
    repair.target.mkdir(parents=True)
    durable.sync_folder(repair.target.parent)
    return f"made {case.short(repair.target)}"


def _gitignore(case: Case, repair: Repair) -> str:
    return f"wrote {case.short(repair.target)}" if setup.make_file(repair.target, setup.GITIGNORE) else ""


def _breakers(case: Case, repair: Repair) -> str:
    try:
        steer.breakers(case.layout)
    except Invalid:
        aside = repair.target.with_name(f".broken-{repair.target.name}-{secrets.token_hex(3)}")
        durable.rename(repair.target, aside)
        return f"set {case.short(repair.target)} aside as {aside.name}"
    return ""


def _pid(case: Case, repair: Repair) -> str:
    repair.target.unlink(missing_ok=True)
    return f"removed {case.short(repair.target)}"


def _moving(case: Case, repair: Repair) -> str:
    """As the scheduler would: finish what the last entry says, else put the file back."""
    task, source = repair.task, State[repair.target.name.partition("+")[0]]
    unmoved = look.Observer(case.layout).ledger(task).unmoved
    if unmoved is not None and lifecycle.heal(case.layout, task, source, unmoved, case.now):
        return f"finished the move of {task} that was interrupted"
    if store.put_back(case.layout, task, source):
        return f"put {task} back into {source.value}"
    return ""


def _file(case: Case, repair: Repair) -> str:
    path = repair.target
    if not is_temporary(path) or not _is_stale(path, case.now):
        return ""
    worktrees.delete(path)
    return f"removed {case.short(path)}"


def _entry(case: Case, repair: Repair) -> str:
    path = repair.target
    if not path.name.startswith(".new-") or not _is_stale(path, case.now) or locks.is_held(path / "lock"):
        return ""
    worktrees.delete(path)
    return f"removed {case.short(path)}"


def _lock(case: Case, repair: Repair) -> str:
    if stopping.live(case.layout, repair.task) or not _is_stale(repair.target, case.now):
        return ""
    repair.target.unlink(missing_ok=True)
    return f"removed {case.short(repair.target)}"


def _link(case: Case, repair: Repair) -> str:
    with contextlib.redirect_stdout(sys.stderr):  # worktrees speak to an attempt's log
        mended = can_mend(repair.target) and worktrees.mend(case.root, repair.target)
    return f"mended the link of {case.short(repair.target)}" if mended else ""


def _forget(case: Case, repair: Repair) -> str:
    known = [gitdir for gitdir, top in ours(case.root, case.worktrees) if top == repair.target]
    if repair.target.exists() or not known or not all(is_safe(case.layout, repair.task, gitdir) for gitdir in known):
        return ""
    worktrees.remove(case.root, repair.target)
    return f"git forgot the worktree {case.short(repair.target)}, which is gone"


def _is_stale(path: Path, now: float) -> bool:
    try:
        return now - path.lstat().st_mtime > STALE
    except FileNotFoundError:
        return False


REPAIRS: Mapping[str, Callable[[Case, Repair], str]] = {
    "folder": _folder,
    "gitignore": _gitignore,
    "breakers": _breakers,
    "pid": _pid,
    "moving": _moving,
    "file": _file,
    "entry": _entry,
    "lock": _lock,
    "link": _link,
    "forget": _forget,
}
"""In the order in which they are done."""
