"""What `doctor --fix` does. Each looks again first, and says what it did; "" when there was nothing to do any more.

Nothing here deletes work: what is removed was never begun or never complete, the rest is renamed or written anew.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from octopoid import (
    attempts,
    cleaning,
    closing,
    durable,
    fold,
    git,
    gitfiles,
    lifecycle,
    locks,
    look,
    merging,
    policyfile,
    setup,
    steer,
    stopping,
    store,
    worktrees,
)
from octopoid.doctor.finding import STALE, Case, Repair
from octopoid.doctor.landed import is_on_a_branch
from octopoid.doctor.leftovers import is_temporary
from octopoid.doctor.trees import can_mend, is_safe, kept, ours
from octopoid.errors import Invalid
from octopoid.layout import Layout
from octopoid.states import ACTIVE, State

QUIET = frozenset(("moving", "pid", "heal", "close", "last-good", "detach"))
"""Repairs that are a running scheduler's own business."""


class Mend(NamedTuple):
    """One kind of repair. `would`: what it does, for a preview, with {path}, {name} and {task}."""

    would: str
    do: Callable[[Case, Repair], str]


def do(case: Case, repair: Repair) -> str:
    """Carry out one repair. Raises OctopoidError and OSError as its parts do."""
    return REPAIRS[repair.kind].do(case, repair)


def would(layout: Layout, repair: Repair) -> str:
    """What that repair is about to do, for a preview."""
    path = layout.short(repair.target)
    return f"would {REPAIRS[repair.kind].would.format(path=path, name=repair.target.name, task=repair.task)}"


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


def _number(case: Case, repair: Repair) -> str:
    """An entry whose number is written in another way is the entry of that number, if there is no other."""
    if not repair.target.is_dir():
        return ""
    place = repair.target.with_name(f"{int(repair.target.name):03d}")
    durable.rename(repair.target, place)
    os.utime(repair.target.parent)
    return f"renamed {case.short(repair.target)} to {place.name}"


def _close(case: Case, repair: Repair) -> str:
    """As the scheduler closes what was left open about a task that left the active folders."""
    number, found = int(repair.target.name), store.find(case.layout, repair.task)
    if case.config is None or found is None or found[0] in ACTIVE or locks.is_held(repair.target / "lock"):
        return ""
    entry = attempts.read_one(case.layout, repair.task, number)
    if entry.outcome is not None:
        return ""
    if not closing.close_stray(case.layout, repair.task, entry, found[0].value, case.config, case.now):
        return ""
    return f"closed entry {number} of {repair.task}, uncharged"


def _heal(case: Case, repair: Repair) -> str:
    found = store.find(case.layout, repair.task)
    unmoved = fold.fold(attempts.read(case.layout, repair.task)).unmoved
    if found is None or unmoved is None or locks.is_held(repair.target / "lock"):
        return ""
    if lifecycle.heal(case.layout, repair.task, found[0], unmoved, case.now):
        return f"finished the move of {repair.task} that was interrupted"
    return f"wrote down that {repair.task} was moved by hand"


def _keep(case: Case, repair: Repair) -> str:
    candidate = fold.fold(attempts.read(case.layout, repair.task)).candidate
    if not candidate or git.ref_sha(case.root, merging.ref_of(repair.task)) == candidate:
        return ""
    merging.keep_ref(case.root, repair.task, candidate)
    return f"{merging.ref_of(repair.task)} keeps {candidate[:12]}"


def _ref(case: Case, repair: Repair) -> str:
    ref = os.path.relpath(repair.target, gitfiles.common_dir(case.root))
    sha = git.ref_sha(case.root, ref)
    if sha is None or not is_on_a_branch(case, sha):
        return ""
    git.run(case.root, "update-ref", "-d", ref, sha)
    return f"removed {ref}; {sha[:12]} is on a branch"


def _apart(case: Case, repair: Repair) -> str:
    path = repair.target
    # As every move: a file that is renamed away in between must not be made again (LESSONS 1).
    with locks.waiting(case.layout.run / "moving.lock", store.MOVING, 0.001):
        facts = path.lstat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink < 2:
            return ""
        durable.write(path, store.read(path), times=(facts.st_atime_ns, facts.st_mtime_ns))
    return f"{case.short(path)} is a file of its own now"


def _mode(case: Case, repair: Repair) -> str:
    before = repair.target.lstat().st_mode
    if stat.S_ISLNK(before) or not before & stat.S_IWOTH:
        return ""
    repair.target.chmod(stat.S_IMODE(before) & ~stat.S_IWOTH)
    after = repair.target.lstat().st_mode  # there are disks on which everything is everybody's
    return "" if after & stat.S_IWOTH else f"only its owner and group may write to {case.short(repair.target)}"


def _last_good(case: Case, repair: Repair) -> str:
    policyfile.Policy(case.layout, lambda _text: None).current()
    return f"copied the policy to {case.short(repair.target)}"


def _pause(case: Case, repair: Repair) -> str:
    if not repair.target.is_file() or repair.target.stat().st_size:
        return ""
    repair.target.unlink()
    return f"removed {case.short(repair.target)}"


def _scratch(_case: Case, repair: Repair) -> str:
    if repair.target.lstat().st_uid != os.getuid():
        return ""
    worktrees.delete(repair.target)
    return f"removed {repair.target}"


def _detach(case: Case, repair: Repair) -> str:
    if stopping.live(case.layout, repair.task) or worktrees.is_attached(case.root, repair.target):
        return ""
    at = git.ref_sha(case.root, worktrees.branch(case.root, repair.target))
    ref = worktrees.detach(case.root, repair.target, at) if at else ""
    return f"took the worktree of {repair.task} off {ref}, at the same commit" if ref else ""


def _orphan(case: Case, repair: Repair) -> str:
    place = repair.target
    if store.find(case.layout, worktrees.owner(place.name)) is not None or kept(case.layout, place):
        return ""
    used = worktrees.idle_size(place)
    if not cleaning.remove(case.layout, cleaning.Worktree(place.name, place, used, ""), forced=False):
        return ""
    return f"removed the worktree {case.short(place)}: all that was in it is on a branch"


def _removal(case: Case, repair: Repair) -> str:
    rest = cleaning.half_removed(case.layout, case.worktrees, case.look.ids)
    if repair.target not in rest:
        return ""
    worktrees.finish_removal(case.root, rest[repair.target], repair.target)
    return f"removed what was left of {case.short(repair.target)}"


REPAIRS: Mapping[str, Mend] = {
    "folder": Mend("make {path}", _folder),
    "mode": Mend("take from everybody else the right to write to {path}", _mode),
    "gitignore": Mend("write {path}", _gitignore),
    "last-good": Mend("copy the policy to {path}", _last_good),
    "breakers": Mend("set {path} aside", _breakers),
    "pause": Mend("remove {path}, which is empty", _pause),
    "pid": Mend("remove {path}", _pid),
    "number": Mend("give {path} its name as an entry", _number),
    "moving": Mend("finish the move of {task}, or put its file back", _moving),
    "heal": Mend("finish the move of {task} that its entry {name} carries", _heal),
    "close": Mend("close entry {name} of {task}, uncharged", _close),
    "apart": Mend("make {path} a file of its own", _apart),
    "file": Mend("remove {path}", _file),
    "entry": Mend("remove {path}", _entry),
    "scratch": Mend("remove {path}", _scratch),
    "lock": Mend("remove {path}", _lock),
    "link": Mend("mend the link of {path}", _link),
    "detach": Mend("take the worktree of {task} off its branch, at the same commit", _detach),
    "forget": Mend("make git forget the worktree {path}, which is gone", _forget),
    "removal": Mend("remove what is left of {path}", _removal),
    "orphan": Mend("remove the worktree {path}: all that is in it is on a branch", _orphan),
    "keep": Mend("keep the commit that {task} submitted by a ref", _keep),
    "ref": Mend("remove the ref of {name}: what it names is on a branch", _ref),
}
"""In the order in which they are done."""
