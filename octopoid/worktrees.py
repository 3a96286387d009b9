"""One worktree of ours: proving, mending, making, filling, removing it. The steps in `workspace` are made of these.

Nothing runs in a worktree that was not proven first, by files and then by git: in one that lost its `.git` file git
operates on the user's checkout, which contains it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from octopoid import durable, git, locks
from octopoid.errors import Contained, GitError
from octopoid.gitfiles import MARK, common_dir, git_dir, is_sha, line, sites
from octopoid.layout import Layout

ADDING = 300.0
"""Seconds to wait while somebody else makes a worktree: 16 s were seen for 20,000 files on a busy disk (PERF.md)."""

HALF = f"{MARK}.half"
"""The name of MARK while the worktree is moved or removed: who finds it so may throw the worktree away.

Names, not contents: a file system keeps the order of renames through a power cut, so none of this needs an fsync.
"""

# Post-checkout hooks run when a worktree is made, as by hand, but not each time we put a commit there for checks.
_NO_HOOKS = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")
# What a killed or unfinished git leaves in a worktree's git directory.
_UNFINISHED = (
    *("rebase-merge", "rebase-apply", "sequencer", "MERGE_HEAD", "MERGE_MODE", "MERGE_MSG", "AUTO_MERGE", "SQUASH_MSG"),
    *("CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD", "BISECT_LOG", "BISECT_START", "BISECT_NAMES", "BISECT_TERMS"),
    *("BISECT_EXPECTED_REV", "BISECT_ANCESTORS_OK", "BISECT_FIRST_PARENT", "BISECT_RUN", "refs/bisect"),
)


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


def site(root: Path, place: Path) -> Path:
    """The git directory of our worktree at `place`, proven by files alone. Raises Contained."""
    common = common_dir(root)

    def no(why: str) -> Contained:
        return Contained(f"{place} is not a worktree of {root}: {why}")

    try:
        if not stat.S_ISDIR(place.lstat().st_mode):
            raise no("it is not a folder")
        if not stat.S_ISREG((place / ".git").lstat().st_mode):
            raise no("its .git is not the file that `git worktree` made")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise no(f"{error.filename} is gone") from error
    gitdir = git_dir(place)
    if gitdir.parent != common / "worktrees" or not (gitdir / "HEAD").exists():
        raise no(f"its .git file leads to {gitdir}")
    if os.path.realpath(gitdir / line(gitdir / "commondir")) != str(common):
        raise no(f"{gitdir} belongs to another repository")
    if os.path.realpath(gitdir / line(gitdir / "gitdir")) != f"{_real(place)}/.git":
        raise no(f"{gitdir} belongs to {line(gitdir / 'gitdir')}")
    return gitdir


def ask(root: Path, place: Path, *revisions: str) -> list[str]:
    """What `git rev-parse` says about `revisions` in the worktree, which this proves on the way: by files, then by git.

    Raises Contained; GitError when a revision does not exist.
    """
    site(root, place)
    top = os.path.realpath(place) + "\n"
    answer = git.run(place, "rev-parse", "--show-toplevel", *revisions, ok=(0, 128))
    if answer.status and not revisions:
        raise Contained(f"git does not take {place} for a worktree: {answer.err.strip()}")
    if not answer.out.startswith(top):
        raise Contained(f"git takes {answer.out.strip() or 'nothing'} for the top of {place}")
    if answer.status:
        raise GitError(("rev-parse", *revisions), answer.status, answer.err)
    return answer.out.removeprefix(top).split()


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
        return (gitdir / MARK).exists() and (str(top) == _real(place) or (top.name == place.name and not top.exists()))

    known = [gitdir for gitdir, top in sites(root) if fits(gitdir, top)]
    if len(known) != 1:
        return False
    durable.write(known[0] / "gitdir", os.fsencode(f"{_real(place)}/.git\n"))
    durable.write(dotgit, os.fsencode(f"gitdir: {known[0]}\n"))
    say(f"octopoid: mended the link between {place} and {known[0]}")
    return True


def branch(root: Path, place: Path) -> str:
    """The full ref that HEAD is attached to, "" when it is detached."""
    if (common_dir(root) / "reftable").is_dir():
        return git.run(place, "symbolic-ref", "--quiet", "HEAD", ok=(0, 1)).out.strip()
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
        git.run(place, *_NO_HOOKS, "update-ref", "--no-deref", "-m", "octopoid: detach", "HEAD", at)
    return ref


def drop_locks(gitdir: Path) -> None:
    """Remove the lock files that a killed git left in the git directory of a worktree of ours, where nobody works."""
    for folder, _, names in os.walk(gitdir):
        for name in names:
            if name.endswith(".lock"):
                Path(folder, name).unlink(missing_ok=True)
                say(f"octopoid: removed the stale {folder}/{name}")


def uncommitted(place: Path) -> list[str]:
    """Paths that differ from HEAD, staged or not, untracked ones included; a folder of untracked files is one path."""
    out = git.run(place, *_NO_HOOKS, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=normal").out
    return [entry[3:] for entry in out.split("\0") if entry]


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
    if _half_made(gitdir) or not (marked or line(gitdir / "HEAD") == base_sha):
        return False
    drop_locks(gitdir)
    left = detach(root, place, base_sha)
    if left:
        say(f"octopoid: {place} was on {left}; its HEAD is detached now")
    (gitdir / MARK).touch()  # it lacks only where we were killed between `worktree add` and the mark
    return True


def _half_made(gitdir: Path) -> bool:
    """Killed in the middle of our move or removal, or of `git worktree add`."""
    return (gitdir / HALF).exists() or line(gitdir / "locked") == "initializing"


def _real(place: Path) -> str:
    """The path of a worktree as git writes it down; `place` itself must not be a link."""
    return f"{os.path.realpath(place.parent)}/{place.name}"


def _registered(root: Path, place: Path) -> list[Path]:
    """The git directories (none or one, as a rule) that claim `place`."""
    return [gitdir for gitdir, top in sites(root) if str(top) == _real(place) and gitdir != common_dir(root)]


def make_room(root: Path, place: Path) -> str:
    """Free the path `place`. A half-made worktree is removed; anything else may be somebody's work and is set aside.

    The commit at which a worktree of ours was that has lost its folder or `.git`, "" without one: work goes on there.
    """
    known, former = _registered(root, place), ""
    if any(_half_made(gitdir) for gitdir in known) or (place.is_dir() and not any(place.iterdir())):
        delete(place)
    elif os.path.lexists(place):
        number = 1
        while os.path.lexists(aside := place.with_name(f".aside-{place.name}-{number}")):
            number += 1
        place.rename(aside)
        say(f"octopoid: {place} is no worktree of ours; it was set aside as {aside}")
        if (aside / ".git").is_file() and git_dir(aside) in known:
            durable.write(git_dir(aside) / "gitdir", os.fsencode(f"{_real(aside)}/.git\n"))
            known.remove(git_dir(aside))
    for gitdir in known:
        last = line(gitdir / "HEAD")
        if (gitdir / MARK).exists() and git.commit_exists(root, last):
            former = last
            say(f"octopoid: the worktree {place} was lost; it begins again at its last commit, {last}")
        delete(gitdir)
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
        if private or not (gitdir / MARK).exists():
            say(f"octopoid: {old} is not reused: {' '.join(private) or 'it is not a whole one of ours'}")
            return False
        place.parent.mkdir(parents=True, exist_ok=True)
        # What `git worktree move` does in 6 ms, as gitrepository-layout(5) allows: the folder, then the file naming it
        (gitdir / MARK).rename(gitdir / HALF)
        try:
            old.rename(place)
        except OSError:  # another file system
            (gitdir / HALF).rename(gitdir / MARK)
            raise
        durable.write(gitdir / "gitdir", os.fsencode(f"{_real(place)}/.git\n"), sync=False)
        ask(root, place)
        put(root, place, start, clean=True)
        (gitdir / HALF).rename(gitdir / MARK)
    except (Contained, GitError, OSError) as error:
        say(f"octopoid: {old} is not reused: {error}")
        make_room(root, place)
        return False
    return True


def add(root: Path, place: Path, start: str) -> None:
    """Make a new worktree at `place`, detached at `start`. Raises GitError, Conflict.

    One at a time: git reads the files of every other worktree, and one that is being made at that moment has not all of
    them yet ("failed to read .git/worktrees/x/commondir: Success", 2.39). The user's own may be, so it is tried twice.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    argv = ("worktree", "add", "--quiet", "--detach", "--force", "--", str(place), start)
    turns = Layout(root).run
    turns.mkdir(parents=True, exist_ok=True)
    with locks.waiting(turns / "worktree.lock", ADDING):
        answer = git.run(root, *argv, ok=tuple(range(256)), show=True)
        if answer.status == 128 and not os.path.lexists(place):
            answer = git.run(root, *argv, ok=tuple(range(256)), show=True)
    try:
        gitdir = site(root, place)
    except Contained as error:
        raise GitError(argv, answer.status, f"no worktree was made (exit status {answer.status}): {error}") from error
    if answer.status and (_half_made(gitdir) or line(gitdir / "HEAD") != start):
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
    argv = (*_NO_HOOKS, "checkout", "--quiet", "--force", "--detach", commit, "--")
    answer = git.run(place, *argv, ok=(0, 1, 128))
    if answer.status:
        if git.run(place, *_NO_HOOKS, "ls-files", "-z", ok=(0, 128)).status == 0:
            raise GitError(argv[4:], answer.status, answer.err)
        (gitdir / "index").unlink()  # torn by a power cut, or of a version that this git cannot read
        git.run(place, *argv)
    if clean:
        _clean(place)


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
    answer = git.run(place, *_NO_HOOKS, "ls-files", "-v", "-z", ok=(0, 128))
    return any(entry[:1] in ("S", "s") for entry in answer.out.split("\0"))


def _clean(place: Path) -> None:
    """Remove what is untracked and not ignored, repositories inside included. `git clean` ends with 0: all is gone."""
    for _ in range(3):
        if git.run(place, *_NO_HOOKS, "clean", "-ffdq", ok=(0, 1)).status == 0:
            return
        left = git.run(place, *_NO_HOOKS, "ls-files", "-z", "--others", "--directory", "--exclude-standard").out
        for name in left.split("\0")[:-1]:
            delete(place / name)  # it is in a folder without write permission
    raise GitError(("clean", "-ffd"), 1, f"{place} does not become clean")


def delete(path: Path) -> None:
    """Remove a file or a whole folder, read-only ones too; follows no symbolic link. Nothing there: fine."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISDIR(mode):
        path.unlink(missing_ok=True)
        return
    if mode & 0o700 != 0o700:
        path.chmod(0o700)
    with os.scandir(path) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                delete(Path(entry.path))
            else:
                Path(entry.path).unlink(missing_ok=True)
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
    if any(not (gitdir / MARK).exists() and not _half_made(gitdir) for gitdir in known):
        raise Contained(f"{worktree} is a worktree that octopoid did not make")
    for gitdir in known:
        (gitdir / HALF).touch()  # killed in the middle, it is not taken for whole
    delete(worktree)
    for gitdir in known:
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
