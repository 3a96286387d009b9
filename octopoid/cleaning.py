"""What `clean` may take away, and taking it away: finished tasks out of sight, worktrees whose work is safe, old logs.

Nothing is decided by age or name alone: a worktree goes only when git says that everything in it is somewhere else
(invariant 9), and nothing of the user's own is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from octopoid import attempts, fold, git, gitfiles, lifecycle, locks, store, worktrees
from octopoid.errors import Contained, GitError, Invalid, NotFound, OctopoidError
from octopoid.layout import Layout
from octopoid.states import State

ASIDE = ".aside-"
"""How `worktrees.make_room` calls what it found in the place of a worktree."""

FINISHED = (State.DONE, State.ARCHIVED, State.CANCELLED)


class Worktree(NamedTuple):
    """A task's worktree that nobody needs any more. `keeps`: why it must stay all the same, "" when it may go."""

    task: str
    path: Path
    size: int
    keeps: str


class Log(NamedTuple):
    """The output of an entry."""

    task: str
    path: Path
    size: int


class Plan(NamedTuple):
    """What would be done. Sizes are bytes on the disk."""

    archive: tuple[str, ...]
    remove: tuple[Worktree, ...]
    keep: tuple[Worktree, ...]
    logs: tuple[Log, ...]


def plan(
    layout: Layout, folder: Path, *, older_than: float, logs_older_than: float | None, forced: Iterable[str], now: float
) -> Plan:
    """What can go. `folder`: where the worktrees are. Ages in seconds; `logs_older_than` None: no logs.

    `forced`: tasks whose worktrees go with the unlanded work in them. Raises NotFound for one that has no worktree, and
    OctopoidError for one that is still being worked on.
    """
    ids = store.every_id(layout)
    forced = frozenset(forced)
    found = tuple(_worktrees(layout, folder, ids, forced))
    for task in sorted(forced - {one.task for one in found}):
        raise _no_force(layout, folder, task, ids)
    return Plan(
        archive=tuple(sorted(_old(layout, State.DONE, older_than, now))),
        remove=tuple(one for one in found if not one.keeps),
        keep=tuple(one for one in found if one.keeps),
        logs=() if logs_older_than is None else tuple(_logs(layout, logs_older_than, now)),
    )


def archive(layout: Layout, task: str, now: float) -> None:
    """Move a finished task out of sight. Raises LostRace."""
    lifecycle.archive(layout, task, now)


def remove(layout: Layout, one: Worktree, forced: bool) -> bool:
    """Remove a worktree, after asking git once more. False: by now it must stay. Raises GitError, Contained."""
    found = store.find(layout, one.task)
    if found is not None and found[0] not in FINISHED:
        return False
    if not forced and (one.task.startswith(ASIDE) or keeps(layout, one.task, one.path)):
        return False
    worktrees.remove(layout.root, one.path)
    return True


def half_removed(layout: Layout, folder: Path, ids: Mapping[str, State]) -> dict[Path, Path]:
    """What a kill in the middle of a removal left, by what it is to a person: the git directory to each.

    `folder`: where the worktrees are; `ids`: every task there is. Where work goes on, the next attempt sees to it.
    """
    found = worktrees.half_removed(layout.root, folder)
    return {top: gitdir for gitdir, top in found if top == gitdir or _is_over(layout, ids, worktrees.owner(top.name))}


def _is_over(layout: Layout, ids: Mapping[str, State], task: str) -> bool:
    return ids.get(task, State.DONE) in FINISHED and not _alive(layout, task)


def remove_log(one: Log) -> None:
    """Delete the output of an entry; what came of it stays in the entry."""
    one.path.unlink(missing_ok=True)


def _worktrees(layout: Layout, folder: Path, ids: Mapping[str, State], forced: frozenset[str]) -> Iterable[Worktree]:
    """Those of tasks that are finished or gone, each with the reason why it must stay, if any."""
    yield from _aside(folder, forced)
    real = os.path.realpath(folder)
    for gitdir, top in gitfiles.sites(layout.root):
        if os.path.realpath(top.parent) != real or not top.is_dir() or top.name.startswith(ASIDE):
            continue
        state = ids.get(worktrees.owner(top.name))
        if state is None or state in FINISHED:
            may = top.name in forced or (gitdir / worktrees.REMOVED).exists()
            why = _alive(layout, worktrees.owner(top.name)) or ("" if may else keeps(layout, top.name, top))
            yield Worktree(top.name, top, worktrees.idle_size(top), why)


def _aside(folder: Path, forced: frozenset[str]) -> Iterable[Worktree]:
    """What stood where a worktree had to be, and was set aside: whose it is, nobody knows, so naming it is a must."""
    for name in sorted(store.durable_names(folder)):
        if name.startswith(ASIDE):
            why = "" if name in forced else "was in the way of a worktree and set aside: look through it"
            yield Worktree(name, folder / name, worktrees.idle_size(folder / name), why)


def _no_force(layout: Layout, folder: Path, task: str, ids: Mapping[str, State]) -> OctopoidError:
    if task in ids and ids[task] not in FINISHED:
        return OctopoidError(f"{task} is in {ids[task].value}: its worktree is needed", f"octopoid show {task}")
    return NotFound(f"there is no worktree of {task} in {layout.short(folder)}")


def _alive(layout: Layout, task: str) -> str:
    names = store.durable_names(layout.entries(task))
    if any(locks.is_held(layout.entries(task) / name / "lock") for name in names if name.isdecimal()):
        return "something still runs for it"
    return "a person is in it (octopoid attach)" if locks.is_held(layout.attach_lock(task)) else ""


def keeps(layout: Layout, task: str, place: Path) -> str:
    """Why this worktree holds something that is nowhere else; "" when all of it is safe. Doubt is a reason."""
    try:
        gitdir = worktrees.site(layout.root, place)
        going_on = gitfiles.going_on(gitdir)
        if going_on:
            return f"a {going_on} is in progress there"
        changed = worktrees.uncommitted(layout.root, place)
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            return f"uncommitted work: {changed[0]}{more}"
        submodules = worktrees.inside(layout.root, place)
        if submodules or (gitdir / "modules").exists():  # `git worktree remove` refuses here, too
            return (
                f"{', '.join(submodules[:3]) or 'submodules'}: what is in a repository inside cannot be told from here"
            )
        return _unlanded(layout, task, worktrees.head(layout.root, place))
    except (GitError, Contained, OSError) as error:
        return f"what is in it cannot be told: {error}"


def _unlanded(layout: Layout, task: str, head: str) -> str:
    """Is the commit `head` part of a branch, or is what it brings there in another shape (squash, rebase)?"""
    if _in_a_branch(layout, head):
        return ""
    try:
        entries = attempts.read(layout, task)
    except Invalid as error:
        return f"whether its work has landed cannot be told: {error.message}"
    # what the checks ran on is a commit of our own making: the candidate on top of a base that has moved since
    made = {entry.opening.result_sha: entry.opening.candidate for entry in entries if entry.opening.candidate}
    work = made.get(head, head)
    if work != head and _in_a_branch(layout, work):
        return ""
    ledger = fold.fold(entries)
    landed = ledger.landed and ledger.candidate and git.commit_exists(layout.root, ledger.landed)
    if landed and git.is_ancestor(layout.root, work, ledger.candidate) and _in_a_branch(layout, ledger.landed):
        return ""
    return f"commits that have not landed ({work[:12]})"


def _in_a_branch(layout: Layout, commit: str) -> bool:
    """Does a branch of this repository, octopoid's published ones included, contain `commit`?"""
    argv = ("for-each-ref", f"--contains={gitfiles.sha(commit)}", "--count=1", "--format=%(refname)", "refs/heads")
    return bool(git.run(layout.root, *argv).out.split())


def _old(layout: Layout, state: State, age: float, now: float) -> Iterable[str]:
    """Tasks that have been in `state` for `age` seconds: a rename sets the ctime of a file."""
    for task in store.ids_in(layout.folder(state)):
        try:
            since = layout.task_file(state, task).stat(follow_symlinks=False).st_ctime
        except FileNotFoundError:
            continue
        if now - since >= age:
            yield task


def _logs(layout: Layout, age: float, now: float) -> Iterable[Log]:
    """The output of old entries of tasks that are in the archive."""
    for state in (State.ARCHIVED, State.CANCELLED):
        for task in sorted(store.ids_in(layout.folder(state))):
            folder = layout.entries(task)
            for name in sorted(store.durable_names(folder)):
                path = folder / name / "output.log"
                try:
                    facts = path.stat(follow_symlinks=False)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                if now - facts.st_mtime >= age and not locks.is_held(folder / name / "lock"):
                    yield Log(task, path, facts.st_blocks * 512)
