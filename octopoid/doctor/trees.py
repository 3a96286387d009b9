"""The worktrees of tasks: whether each is what git and octopoid think it is. Work in them is never touched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from octopoid import attempts, fold, git, gitfiles, stopping, store, worktrees
from octopoid.doctor.finding import INFO, STALE, WARNING, Case, Finding, Repair, size
from octopoid.errors import Contained, Invalid, NotFound
from octopoid.layout import Layout


def check_worktrees(case: Case) -> Iterator[Finding]:
    """Those that git knows, as far as octopoid made them; then folders that git does not know."""
    known = set()
    for gitdir, top in ours(case.root, case.worktrees):
        place = top
        if case.worktrees / top.name != top and (case.worktrees / top.name).is_dir():
            place = case.worktrees / top.name  # the repository was moved, or copied
        known.add(os.path.realpath(place))
        yield from _tree(case, gitdir, top, place)
    for name in sorted(store.durable_names(case.worktrees)):
        place = case.worktrees / name
        if place.is_dir() and os.path.realpath(place) not in known:
            yield _unknown(case, place)


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
    yield from _locks(case, gitdir, place)
    if worktrees.owner(place.name) not in case.look.ids:
        yield _orphan(case, gitdir, place)


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
    if stopping.live(case.layout, task):
        return
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


def _orphan(case: Case, gitdir: Path, place: Path) -> Finding:
    used = size(worktrees.idle_size(place))
    if _is_dirty(place) or not is_safe(case.layout, place.name, gitdir):
        message = f"there is no task {place.name}, and its worktree ({used}) has work that is on no branch"
        fix = f"look: git -C {case.short(place)} status; octopoid clean keeps it"
        return Finding("worktree-orphan", WARNING, message, fix, place)
    message = f"there is no task {place.name} any more; its worktree ({used}) has nothing that is not on a branch"
    return Finding("worktree-orphan", INFO, message, "octopoid clean removes it", place)


def _is_dirty(place: Path) -> bool:
    """Uncommitted work? Asked so that git does not even refresh its index: looking writes nothing."""
    argv = ("--no-optional-locks", "status", "--porcelain", "-z", "--untracked-files=normal")
    return bool(git.run(place, *argv).out)


def _unknown(case: Case, place: Path) -> Finding:
    used = size(worktrees.idle_size(place))
    if can_mend(place) and any(top.name == place.name for _, top in ours(case.root, case.worktrees)):
        return _broken(place, Contained(""))
    if place.name.startswith(".aside-"):
        message = f"set aside, because it was no worktree of octopoid's ({used})"
        return Finding("worktree-aside", INFO, message, "look through it; nobody else will", place)
    message = f"a folder among the worktrees that git does not know ({used})"
    return Finding(
        "worktree-unknown", WARNING, message, "move it elsewhere; a task of that name would set it aside", place
    )
