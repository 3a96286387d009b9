"""One worktree of ours: proving, mending, making, filling, removing it. The steps in `workspace` are made of these.

Nothing runs in a worktree that was not proven first, by files and then by git: in one that lost its `.git` file git
operates on the user's checkout, which contains it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from octopoid import durable, git, locks
from octopoid.confined import NO_HOOKS, ask, inside, real, run, site, uncommitted
from octopoid.errors import Contained, GitError
from octopoid.gitfiles import MARK, common_dir, git_dir, is_sha, is_tied, line, own_dir, sites
from octopoid.layout import Layout

ADDING = 300.0
"""Seconds to wait while somebody else makes a worktree: 16 s were seen for 20,000 files on a busy disk (PERF.md)."""

HALF = f"{MARK}.half"
"""The name of MARK while the worktree is moved: who finds it so may throw the worktree away.

Names, not contents: a file system keeps the order of renames through a power cut, so none of this needs an fsync.
"""

REMOVED = f"{MARK}.removed"
"""A file in the git directory of a worktree that is being removed: who finds it finishes that."""

TRASH = "removed-"
"""How a git directory is called, among what is ours, once git does not know it any more and it is being deleted."""

# What a killed or unfinished git leaves in a worktree's git directory.
_UNFINISHED = (
    *("rebase-merge", "rebase-apply", "sequencer", "MERGE_HEAD", "MERGE_MODE", "MERGE_MSG", "AUTO_MERGE", "SQUASH_MSG"),
    *("CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD", "BISECT_LOG", "BISECT_START", "BISECT_NAMES", "BISECT_TERMS"),
    *("BISECT_EXPECTED_REV", "BISECT_ANCESTORS_OK", "BISECT_FIRST_PARENT", "BISECT_RUN", "refs/bisect"),
)


__all__ = ["ask", "inside", "site", "uncommitted"]


def say(text: str) -> None:
    """A line for the attempt's log."""
    print(text, flush=True)


# --- names ---


def apart(task: str, gate: str) -> str:
    """The name of the checkout in which `gate` looks at `task` while others do, too. No id contains a `+`."""
    return f"{task}+{gate}"


def owner(name: str) -> str:
    """The task that the worktree of this name belongs to."""
    return name.partition("+")[0]


# --- proof ---


def mend(root: Path, place: Path) -> bool:
    """Write the two files that tie `place` to its git directory, when one was deleted or the repository was moved.

    Only for a worktree of ours, and only when there is no doubt which one it is. True when something was mended.
    """
    dotgit = place / ".git"
    if not place.is_dir() or place.is_symlink() or dotgit.is_symlink():
        return False
    if dotgit.exists() and (dotgit.is_dir() or git_dir(place).exists()):
        return False

    def fits(gitdir: Path, top: Path) -> bool:
        return (gitdir / MARK).exists() and (str(top) == real(place) or (top.name == place.name and not top.exists()))

    known = [gitdir for gitdir, top in sites(root) if fits(gitdir, top)]
    if len(known) != 1:
        return False
    durable.write(known[0] / "gitdir", os.fsencode(f"{real(place)}/.git\n"))
    durable.write(dotgit, os.fsencode(f"gitdir: {known[0]}\n"))
    say(f"octopoid: mended the link between {place} and {known[0]}")
    return True


def branch(root: Path, place: Path) -> str:
    """The full ref that HEAD is attached to, "" when it is detached."""
    if (common_dir(root) / "reftable").is_dir():
        return run(root, place, "symbolic-ref", "--quiet", "HEAD", ok=(0, 1)).out.strip()
    found = line(site(root, place) / "HEAD")
    return found.removeprefix("ref:").strip() if found.startswith("ref:") else ""


def head(root: Path, place: Path) -> str:
    """The commit that the detached HEAD of a worktree of ours is at."""
    found = line(site(root, place) / "HEAD")
    return found if is_sha(found) else ask(root, place, "HEAD")[0]


def detach(root: Path, place: Path, fallback: str) -> str:
    """Take HEAD off its branch at the same commit (unborn: at `fallback`); touches no file. The ref that it was on."""
    ref = branch(root, place)
    if ref:
        ask(root, place)
        at = git.ref_sha(root, ref) or fallback
        run(root, place, "update-ref", "--no-deref", "-m", "octopoid: detach", "HEAD", at)
    return ref


def drop_locks(gitdir: Path) -> None:
    """Remove the lock files that a killed git left in the git directory of a worktree of ours, where nobody works."""
    for folder, _, names in os.walk(gitdir):
        for name in names:
            if name.endswith(".lock"):
                Path(folder, name).unlink(missing_ok=True)
                say(f"octopoid: removed the stale {folder}/{name}")


# --- making one ---


def keep(root: Path, place: Path, base_sha: str) -> bool:
    """Is the task's worktree there? Then it is made usable, and nothing in it changes."""
    if not os.path.lexists(place):
        return False
    mend(root, place)
    try:
        gitdir = site(root, place)
    except Contained as error:
        say(f"octopoid: {error}")
        return False
    marked = (gitdir / MARK).exists()
    if is_half_made(gitdir) or not (marked or line(gitdir / "HEAD") == base_sha):
        return False
    drop_locks(gitdir)
    left = detach(root, place, base_sha)
    if left:
        say(f"octopoid: {place} was on {left}; its HEAD is detached now")
    (gitdir / MARK).touch()  # it lacks only where we were killed between `worktree add` and the mark
    return True


def is_half_made(gitdir: Path) -> bool:
    """Killed in the middle of our move or removal, or of `git worktree add`."""
    return any((gitdir / name).exists() for name in (HALF, REMOVED)) or line(gitdir / "locked") == "initializing"


def _registered(root: Path, place: Path) -> list[Path]:
    """The git directories (none or one, as a rule) that claim `place`."""
    return [gitdir for gitdir, top in sites(root) if str(top) == real(place) and gitdir != common_dir(root)]


def _on_its_way(root: Path, place: Path) -> list[Path]:
    """The git directory (none or one) of an idle worktree whose move to `place` was cut short: it claims the old place,
    where nothing is any more.
    """
    return [
        gitdir
        for gitdir, top in sites(root)
        if (gitdir / HALF).exists() and not top.exists() and is_tied(gitdir, place)
    ]


def make_room(root: Path, place: Path) -> str:
    """Free the path `place`. A half-made worktree is removed; anything else may be somebody's work and is set aside.

    The commit at which a worktree of ours was that has lost its folder or `.git`, "" without one: work goes on there.
    """
    known, former = [*_registered(root, place), *_on_its_way(root, place)], ""
    if any(is_half_made(gitdir) for gitdir in known) or (place.is_dir() and not any(place.iterdir())):
        delete(place)
    elif os.path.lexists(place):
        number = 1
        while os.path.lexists(aside := place.with_name(f".aside-{place.name}-{number}")):
            number += 1
        place.rename(aside)
        say(f"octopoid: {place} is no worktree of ours; it was set aside as {aside}")
        if (aside / ".git").is_file() and git_dir(aside) in known:
            durable.write(git_dir(aside) / "gitdir", os.fsencode(f"{real(aside)}/.git\n"))
            known.remove(git_dir(aside))
    for gitdir in known:
        last = line(gitdir / "HEAD")
        if (gitdir / MARK).exists() and git.commit_exists(root, last):
            former = last
            say(f"octopoid: the worktree {place} was lost; it begins again at its last commit, {last}")
        _forget(root, gitdir)
    return former


def is_attached(root: Path, place: Path) -> bool:
    """Is a person in this worktree of ours (`octopoid attach`)?"""
    return locks.is_held(Layout(root).attach_lock(owner(place.name)))


def take_over(root: Path, place: Path, old: Path, start: str) -> bool:
    """Move the idle worktree `old` to `place` and put `start` there. False: it cannot be used (and may be gone)."""
    if is_attached(root, old):
        say(f"octopoid: {old} is not reused: a person is in it")
        return False
    try:
        gitdir = site(root, old)
        private = [name for name in ("config.worktree", "locked", "modules") if (gitdir / name).exists()]
        if private or not (gitdir / MARK).exists() or is_half_made(gitdir):
            say(f"octopoid: {old} is not reused: {' '.join(private) or 'it is not a whole one of ours'}")
            return False
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What `git worktree move` does in 6 ms, as gitrepository-layout(5) allows: the folder, then the file naming it
        (gitdir / MARK).rename(gitdir / HALF)
        try:
            old.rename(place)
        except OSError:  # another file system
            (gitdir / HALF).rename(gitdir / MARK)
            raise
        durable.write(gitdir / "gitdir", os.fsencode(f"{real(place)}/.git\n"), sync=False)
        ask(root, place)
        put(root, place, start, clean=True)
        (gitdir / HALF).rename(gitdir / MARK)
    except (Contained, GitError, OSError) as error:
        say(f"octopoid: {old} is not reused: {error}")
        make_room(root, place)
        return False
    return True


def add(root: Path, place: Path, start: str, hooks: bool = True) -> None:
    """Make a new worktree at `place`, detached at `start`. Raises GitError, Conflict.

    One at a time: git reads the files of every other worktree, and one that is being made at that moment has not all of
    them yet ("failed to read .git/worktrees/x/commondir: Success", 2.39). The user's own may be, so it is tried twice.
    """
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    quiet = () if hooks else NO_HOOKS
    argv = (*quiet, "worktree", "add", "--quiet", "--detach", "--force", "--", str(place), start)
    turns = Layout(root).run
    turns.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locks.waiting(turns / "worktree.lock", ADDING):
        answer = git.run(root, *argv, ok=tuple(range(256)), show=True)
        if answer.status == 128 and not os.path.lexists(place):
            answer = git.run(root, *argv, ok=tuple(range(256)), show=True)
    try:
        gitdir = site(root, place)
    except Contained as error:
        raise GitError(argv, answer.status, f"no worktree was made (exit status {answer.status}): {error}") from error
    if answer.status and (is_half_made(gitdir) or line(gitdir / "HEAD") != start):
        raise GitError(argv, answer.status, "")
    if answer.status:
        say(f"octopoid: a post-checkout hook said no (exit status {answer.status}); the worktree is whole")
    (gitdir / MARK).touch()


def put(root: Path, place: Path, commit: str, clean: bool) -> None:
    """Make a proven worktree of ours hold exactly `commit` (ignored files stay), whatever is in it. Raises GitError.

    Two scans, measured on 20,000 files: `checkout -f` compares and mends every tracked file, `clean` says what is
    left over. `reset --hard` is half as slow again, and `status` as proof costs as much as `checkout`.
    """
    gitdir = site(root, place)
    drop_locks(gitdir)
    for name in _UNFINISHED:
        delete(gitdir / name)
    if _hides(root, place, gitdir):
        (gitdir / "index").unlink()
    argv = ("checkout", "--quiet", "--force", "--detach", commit, "--")
    answer = run(root, place, *argv, ok=(0, 1, 128))
    if answer.status:
        if run(root, place, "ls-files", "-z", ok=(0, 128)).status == 0:
            raise GitError(argv, answer.status, answer.err)
        (gitdir / "index").unlink()  # torn by a power cut, or of a version that this git cannot read
        run(root, place, *argv)
    if clean:
        _clean(root, place)


def _hides(root: Path, place: Path, gitdir: Path) -> bool:
    """Are there files that git was told not to look at (skip-worktree)? `checkout -f` would leave them as they are.

    An index of version 2 cannot say so; others are asked. A sparse checkout that the user has is not the agent's doing.
    """
    if (common_dir(root) / "info/sparse-checkout").exists() or not (gitdir / "index").exists():
        return False
    (gitdir / "info/sparse-checkout").unlink(missing_ok=True)
    with (gitdir / "index").open("rb") as file:
        version_2 = file.read(8)[4:] == b"\0\0\0\2"
    if version_2 and not any(name.startswith("sharedindex.") for name in os.listdir(gitdir)):
        return False
    answer = run(root, place, "ls-files", "-v", "-z", ok=(0, 128))
    return any(entry[:1] in ("S", "s") for entry in answer.out.split("\0"))


def _clean(root: Path, place: Path) -> None:
    """Remove what is untracked and not ignored, repositories inside included. `git clean` ends with 0: all is gone."""
    for _ in range(3):
        if run(root, place, "clean", "-ffdq", ok=(0, 1)).status == 0:
            return
        left = run(root, place, "ls-files", "-z", "--others", "--directory", "--exclude-standard").out
        for name in left.split("\0")[:-1]:
            delete(place / name)  # it is in a folder without write permission
    raise GitError(("clean", "-ffd"), 1, f"{place} does not become clean")


def delete(path: Path) -> None:
    """Remove a file or a whole folder, read-only ones too; follows no symbolic link. Nothing there, or not any more
    (two at once: a person's `clean`, and another): fine.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        mode = path.lstat().st_mode
        if not stat.S_ISDIR(mode):
            path.unlink()
            return
        if mode & 0o700 != 0o700:
            path.chmod(0o700)
        with os.scandir(path) as entries:
            found = list(entries)
        for entry in found:
            delete(Path(entry.path))
        path.rmdir()


def remove(root: Path, worktree: Path) -> None:
    """Remove a worktree of ours, folder and registration. Whether its work has landed is the caller's business.

    Raises Contained for the main checkout, what contains it, a worktree that we did not make or that a person is in;
    OSError.
    """
    if is_attached(root, worktree):
        raise Contained(f"a person is in {worktree} (octopoid attach)")
    known = _registered(root, worktree)
    if worktree == root or worktree in root.parents:
        raise Contained(f"{worktree} holds the user's checkout")
    if any(not (gitdir / MARK).exists() and not is_half_made(gitdir) for gitdir in known):
        raise Contained(f"{worktree} is a worktree that octopoid did not make")
    for gitdir in known:
        (gitdir / REMOVED).touch()  # killed in the middle, it is not taken for whole
    _delete_top(worktree)
    for gitdir in known:
        _forget(root, gitdir)


def _delete_top(top: Path) -> None:
    """Its `.git` goes last: as long as anything is there, it says whose it is."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if not top.is_symlink():
            for name in os.listdir(top):
                if name != ".git":
                    delete(top / name)
    delete(top)


def _forget(root: Path, gitdir: Path) -> None:
    """Take a worktree's git directory out of git's sight by one rename, then delete it: git never sees half of one."""
    own_dir(root).mkdir(mode=0o700, exist_ok=True)
    trash = own_dir(root) / f"{TRASH}{secrets.token_hex(6)}"
    with contextlib.suppress(FileNotFoundError):  # somebody else forgot it
        gitdir.rename(trash)
        delete(trash)


def half_removed(root: Path, folder: Path) -> Iterator[tuple[Path, Path]]:
    """(git directory, what it is to a person) of the worktrees in `folder` whose removal a kill cut short.

    What the git directory says is an agent's word: its folder must be in ours and say the same, or be empty or gone.
    """
    wanted = os.path.realpath(folder)
    for gitdir, top in sites(root):
        begun = (gitdir / REMOVED).exists() and os.path.realpath(top.parent) == wanted
        if begun and (is_tied(gitdir, top) or not top.is_dir() or not os.listdir(top)):
            yield gitdir, top
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(own_dir(root)):
            if name.startswith(TRASH):
                yield own_dir(root) / name, own_dir(root) / name


def finish_removal(root: Path, gitdir: Path, top: Path) -> None:
    """Remove what `half_removed` found. Raises OSError."""
    if top != gitdir:
        _delete_top(top)
        _forget(root, gitdir)
    delete(gitdir)


def idle_size(path: Path) -> int:
    """Bytes on the disk below `path`, links not followed. What vanishes meanwhile counts nothing."""
    total, todo = 0, [os.fspath(path)]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
    return total
