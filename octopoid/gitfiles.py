"""What the files of a repository say, read without a process: 20 µs where git costs 2–3 ms.

Only what gitrepository-layout(5) documents: refs, HEAD, worktrees, states in progress, loose commits. `git.py` asks git
where these files do not answer (reftable, packed commits, symbolic refs).
"""

from __future__ import annotations

import functools
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from octopoid.errors import NotFound, UsageError

HEADS = "refs/heads/"

MARK = "octopoid"
"""A file of this name in a worktree's git directory says that we made the worktree. It moves and goes with it."""

# What git leaves in a worktree's git directory while something is going on, and our word for it. index.lock comes last.
_BUSY = (
    ("rebase-merge", "rebase"),
    ("rebase-apply", "rebase"),
    ("MERGE_HEAD", "merge"),
    ("CHERRY_PICK_HEAD", "cherry-pick"),
    ("REVERT_HEAD", "revert"),
    ("sequencer", "cherry-pick"),
    ("BISECT_LOG", "bisect"),
    ("index.lock", "index.lock"),
)


class Commit(NamedTuple):
    """A commit's tree and parents."""

    tree: str
    parents: tuple[str, ...]


def is_branch_name(name: str) -> bool:
    """Could git have a branch of this name? The rules of git-check-ref-format(1)."""
    if not name or name == "@" or name.startswith("-") or name.endswith((".", "/")) or name == "HEAD":
        return False
    if any(ord(char) <= 32 or ord(char) == 127 or char in "~^:?*[\\" for char in name):
        return False
    parts = name.split("/")
    return ".." not in name and "@{" not in name and not any(_bad_component(part) for part in parts)


def _bad_component(part: str) -> bool:
    return not part or part.startswith(".") or part.endswith(".lock")


def head_ref(branch: str) -> str:
    """`refs/heads/<branch>`. Raises UsageError when that cannot be a branch."""
    if not is_branch_name(branch):
        raise UsageError(f"{branch!r} cannot be the name of a branch", "see `git help check-ref-format`")
    return HEADS + branch


def is_sha(text: str) -> bool:
    """A full object name: 40 hex digits, or 64 in a SHA-256 repository."""
    return len(text) in (40, 64) and all(char in "0123456789abcdef" for char in text)


def sha(text: str) -> str:
    """`text` if it is a full object name. Raises UsageError: whatever else it is, it might begin with a dash."""
    if not is_sha(text):
        raise UsageError(f"{text!r} is not a full object name", "use `git rev-parse` to get one")
    return text


def git_dir(top: Path) -> Path:
    """The git directory of the worktree whose top is `top`. Raises NotFound when `top` is not the top of one."""
    dotgit = top / ".git"
    try:
        if dotgit.is_dir():
            return dotgit
        text = _read(dotgit)
    except OSError as error:
        raise NotFound(f"{top} is not the top of a git worktree ({error.strerror})") from error
    return Path(os.path.realpath(top / text.removeprefix("gitdir:").lstrip(" ").rstrip("\r\n")))


@functools.lru_cache(maxsize=64)
def common_dir(root: Path) -> Path:
    """Where refs and objects of the repository at `root` are: `.git`, as a real path."""
    own = git_dir(root)
    shared = line(own / "commondir")
    return Path(os.path.realpath(own / shared if shared else own))


def own_dir(root: Path) -> Path:
    """What octopoid keeps in the git directory of the repository at `root`: no clone brings it along."""
    return common_dir(root) / "octopoid"


def line(path: Path) -> str:
    """The one line that a small file of git holds, "" when there is no such file."""
    try:
        return _read(path).rstrip("\n")
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _read(path: Path) -> str:
    """A small file, "" for what is none: an agent can put a pipe there, and to open that would be to wait for ever."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        data = os.read(fd, 1 << 20) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        os.close(fd)
    return data.decode("utf-8", "surrogateescape")


def packed(common: Path, ref: str) -> str:
    """What `packed-refs` says about the full name `ref`, or ""."""
    try:
        text = (common / "packed-refs").read_bytes()
    except FileNotFoundError:
        return ""
    at = text.find(b" " + os.fsencode(ref) + b"\n")
    return os.fsdecode(text[text.rfind(b"\n", 0, at) + 1 : at]) if at >= 0 else ""


def sites(root: Path) -> Iterator[tuple[Path, Path]]:
    """(git directory, top) of every worktree: the main one first, then the linked ones."""
    common = common_dir(root)
    yield common, root
    try:
        names = sorted(os.listdir(common / "worktrees"))
    except FileNotFoundError:
        return
    for name in names:
        gitdir = common / "worktrees" / name
        back = line(gitdir / "gitdir")
        if back:
            yield gitdir, (gitdir / back).parent  # git ≥ 2.48 may write it relative


def is_tied(gitdir: Path, top: Path) -> bool:
    """Does `.git` of the linked worktree at `top` lead to its git directory? Otherwise git there is somewhere else."""
    try:
        return git_dir(top) == gitdir
    except NotFound:
        return False


def going_on(gitdir: Path) -> str:
    """What is in progress in the worktree with this git directory: "" or a word of `Checkout.busy`."""
    return next((word for name, word in _BUSY if os.path.lexists(gitdir / name)), "")


def works_on(gitdir: Path, ref: str) -> bool:
    """Is this (detached) worktree rebasing or bisecting `ref`, and will it write or check it out at the end?"""
    names = os.listdir(gitdir)
    for name in ("rebase-merge", "rebase-apply"):
        if name in names and ref == line(gitdir / name / "head-name"):
            return True
    if "rebase-merge" in names and ref in line(gitdir / "rebase-merge/update-refs").splitlines():  # --update-refs
        return True
    return "BISECT_START" in names and HEADS + line(gitdir / "BISECT_START").removeprefix(HEADS) == ref


def loose_commit(common: Path, commit: str) -> Commit | None:
    """A commit (full sha) that lies alone in its file, as new ones do; None for a packed one or none at all."""
    try:
        data = (common / "objects" / sha(commit)[:2] / commit[2:]).read_bytes()
        kind, _, body = zlib.decompress(data).partition(b"\0")
    except (FileNotFoundError, zlib.error):
        return None
    return parse_commit(body.decode("utf-8", "replace")) if kind.startswith(b"commit ") else None


def parse_commit(text: str) -> Commit:
    """A commit object as `git cat-file commit` prints it."""
    words = [header.split(" ") for header in text.partition("\n\n")[0].split("\n")]
    return Commit(words[0][1], tuple(word[1] for word in words[1:] if word[0] == "parent"))
