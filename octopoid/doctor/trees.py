"""The worktrees of tasks: whether each is what git and octopoid think it is. Work in them is never touched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from octopoid import attempts, cleaning, fold, git, gitfiles, locks, stopping, store, worktrees
from octopoid.doctor.finding import INFO, STALE, WARNING, Case, Finding, Repair, size
from octopoid.errors import Contained, Invalid, NotFound
from octopoid.layout import Layout

MUCH = 1 << 30
"""Bytes of finished worktrees that are worth a word."""


def check_worktrees(case: Case) -> Iterator[Finding]:
    """Those that git knows, as far as octopoid made them; then folders that git does not know."""
    known, rest = set(), cleaning.half_removed(case.layout, case.worktrees, case.look.ids)
    yield from map(_half_removed, rest)
    for gitdir, top in ours(case.root, case.worktrees):
        place = top
        if case.worktrees / top.name != top and (case.worktrees / top.name).is_dir():
            place = case.worktrees / top.name  # the repository was moved, or copied
        known.add(os.path.realpath(place))
        if top not in rest:
            yield from _tree(case, gitdir, top, place)
    for name in sorted(store.durable_names(case.worktrees)):
        place = case.worktrees / name
        if place.is_dir() and os.path.realpath(place) not in known:
            yield _unknown(case, place)


def _half_removed(place: Path) -> Finding:
    fix, repair = "octopoid doctor --fix finishes it; so do octopoid run and octopoid clean", Repair("removal", place)
    return Finding("worktree-removal", INFO, "a kill cut the removal of a worktree short", fix, place, repair)


def ours(root: Path, folder: Path) -> Iterator[tuple[Path, Path]]:
    """(git directory, top) of the worktrees that octopoid made. Whatever else the user has is theirs."""
    real = os.path.realpath(folder)
    for gitdir, top in gitfiles.sites(root):
        made = (gitdir / gitfiles.MARK).exists() or os.path.realpath(top.parent) == real
        if made and gitdir != gitfiles.common_dir(root):
            yield gitdir, top


def _tree(case: Case, gitdir: Path, top: Path, place: Path) -> Iterator[Finding]:
    if not place.is_dir():
        yield _gone(case, gitdir, top)
        return
    try:
        worktrees.site(case.root, place)
    except Contained as error:
        yield _broken(place, error)
        return
    if place.name.startswith(cleaning.ASIDE):
        yield _aside(place)
        return
    task = worktrees.owner(place.name)
    if not stopping.live(case.layout, task) and not locks.is_held(case.layout.attach_lock(task)):
        yield from _locks(case, gitdir, place)
        yield from _state(case, gitdir, place)
    if task not in case.look.ids:
        yield _orphan(case, place)


def _gone(case: Case, gitdir: Path, top: Path) -> Finding:
    task, head = top.name, gitfiles.line(gitdir / "HEAD")
    if case.look.get(worktrees.owner(task)):
        message = f"the worktree of {task} was deleted"
        fix = f"nothing: its next attempt begins again at its last commit, {head[:12]}"
        return Finding("worktree-gone", INFO, message, fix, top)
    if is_safe(case.layout, task, gitdir):
        message = f"the worktree of {task} was deleted; git still lists it, and its work is on a branch"
        fix, repair = "octopoid doctor --fix makes git forget it", Repair("forget", top, task)
        return Finding("worktree-gone", WARNING, message, fix, top, repair)
    message = f"the worktree of {task} was deleted, and its last commit {head[:12]} is on no branch"
    return Finding("worktree-gone", WARNING, message, f"keep the work: git branch rescued-{task} {head}", top)


def is_safe(layout: Layout, task: str, gitdir: Path) -> bool:
    """Is what the worktree's HEAD is at part of a branch or tag, or of what landed in its place? Doubt means no."""
    head = gitfiles.line(gitdir / "HEAD")
    if not gitfiles.is_sha(head) or not git.commit_exists(layout.root, head):
        return False
    if _is_on_a_branch(layout.root, head):
        return True
    try:
        ledger = fold.fold(attempts.read(layout, task))
    except Invalid:
        return False
    known = ledger.landed and ledger.candidate and git.commit_exists(layout.root, ledger.candidate)
    return bool(
        known
        and git.is_ancestor(layout.root, head, ledger.candidate)
        and git.commit_exists(layout.root, ledger.landed)
        and _is_on_a_branch(layout.root, ledger.landed)
    )


def _is_on_a_branch(root: Path, commit: str) -> bool:
    argv = ("for-each-ref", f"--contains={gitfiles.sha(commit)}", "--count=1", "--format=%(refname)")
    return bool(git.run(root, *argv, "refs/heads", "refs/tags", "refs/remotes").out.strip())


def _broken(place: Path, error: Contained) -> Finding:
    if can_mend(place):
        message = "the link between this worktree and the repository is broken (was the repository moved?)"
        fix, repair = "octopoid doctor --fix mends it", Repair("link", place)
        return Finding("worktree-link", WARNING, message, fix, place, repair)
    message = f"this is not the worktree that git has for it: {error.message}"
    fix = "its next attempt sets the folder aside and makes a new one; nothing in it is lost"
    return Finding("worktree-link", WARNING, message, fix, place)


def can_mend(place: Path) -> bool:
    """Does `.git` lead nowhere, so that writing it anew takes nothing away from anybody?"""
    dotgit = place / ".git"
    if place.is_symlink() or dotgit.is_symlink():
        return False
    try:
        return not dotgit.exists() or (dotgit.is_file() and not gitfiles.git_dir(place).exists())
    except NotFound:
        return False


def _locks(case: Case, gitdir: Path, place: Path) -> Iterator[Finding]:
    task = worktrees.owner(place.name)
    for path in stale_locks(gitdir, case.now):
        message = f"a killed git left this lock in the worktree of {task}"
        fix = "octopoid doctor --fix removes it; so does the next attempt"
        yield Finding("stale-lock", WARNING, message, fix, path, Repair("lock", path, task))


def stale_locks(gitdir: Path, now: float) -> list[Path]:
    """Lock files in the git directory of a worktree that are older than any git command there runs."""
    found = []
    for folder, _, names in os.walk(gitdir):
        found += [Path(folder, name) for name in names if name.endswith(".lock")]
    return sorted(path for path in found if path.exists() and now - path.lstat().st_mtime > STALE)


def _state(case: Case, gitdir: Path, place: Path) -> Iterator[Finding]:
    """What an agent or a kill left it in. Asked only where nobody works."""
    task = worktrees.owner(place.name)
    if worktrees.is_half_made(gitdir):
        message = f"a kill cut the making or the removal of this worktree of {task} short: it is not whole"
        yield Finding("worktree-half", INFO, message, "nothing: the next attempt makes it anew", place)
        return
    on = worktrees.branch(case.root, place)
    if on:
        message = f"an agent of {task} left this worktree on {on}, which nobody else can check out now"
        fix, repair = (
            "octopoid doctor --fix takes it off (no file and no commit changes)",
            Repair("detach", place, task),
        )
        yield Finding("worktree-branch", WARNING, message, fix, place, repair)
    busy = gitfiles.going_on(gitdir)
    if busy not in ("", "index.lock"):
        message = f"a {busy} was left in progress in the worktree of {task}"
        fix = f"nothing: the next attempt goes on from there; to end it yourself: octopoid attach {task}"
        yield Finding("worktree-busy", INFO, message, fix, place)


def _orphan(case: Case, place: Path) -> Finding:
    used = size(worktrees.idle_size(place))
    why = kept(case.layout, place)
    if why:
        message = f"there is no task {place.name}, and its worktree ({used}) has work that is nowhere else: {why}"
        fix = f"look: git -C {case.short(place)} status; octopoid clean keeps it"
        return Finding("worktree-orphan", WARNING, message, fix, place)
    message = f"there is no task {place.name} any more; its worktree ({used}) has nothing that is not on a branch"
    fix, repair = "octopoid doctor --fix removes it; so does octopoid clean", Repair("orphan", place, place.name)
    return Finding("worktree-orphan", INFO, message, fix, place, repair)


def kept(layout: Layout, place: Path) -> str:
    """Why `clean` would not remove this worktree; "" when everything in it is somewhere else."""
    task = worktrees.owner(place.name)
    if stopping.live(layout, task) or locks.is_held(layout.attach_lock(task)):
        return "somebody works in it"
    return cleaning.keeps(layout, place.name, place)


def check_room(case: Case, much: int = MUCH) -> Iterator[Finding]:
    """Worktrees of finished tasks take little room: no more than `much` bytes."""
    finished = [
        place
        for name in sorted(store.durable_names(case.worktrees) if case.worktrees.is_dir() else ())
        if case.look.ids.get(worktrees.owner(name)) in cleaning.FINISHED and (place := case.worktrees / name).is_dir()
    ]
    used = _used(finished, much)
    if used > much:
        message = f"{len(finished)} worktrees of finished tasks take {size(used)} and more"
        fix = "octopoid clean removes those whose work is safe; `worktrees: {reuse: true}` uses them again"
        yield Finding("worktrees-large", INFO, message, fix, case.worktrees)


def _used(places: list[Path], much: int) -> int:
    """Bytes, counted until there are enough of them."""
    total = 0
    for place in places:
        total += worktrees.idle_size(place)
        if total > much:
            break
    return total


def _aside(place: Path) -> Finding:
    used = size(worktrees.idle_size(place))
    message = f"set aside, because it was no worktree of octopoid's ({used})"
    return Finding("worktree-aside", INFO, message, "look through it; nobody else will", place)


def _unknown(case: Case, place: Path) -> Finding:
    used = size(worktrees.idle_size(place))
    if can_mend(place) and any(top.name == place.name for _, top in ours(case.root, case.worktrees)):
        return _broken(place, Contained(""))
    if place.name.startswith(cleaning.ASIDE):
        return _aside(place)
    message = f"a folder among the worktrees that git does not know ({used})"
    return Finding(
        "worktree-unknown", WARNING, message, "move it elsewhere; a task of that name would set it aside", place
    )
