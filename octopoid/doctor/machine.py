"""The machine: Python, git, locks, the disk, limits. Checks without a Case need no queue."""

from __future__ import annotations

import os
import re
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from octopoid import git, locks
from octopoid.doctor.finding import ERROR, WARNING, Case, Finding, size
from octopoid.errors import GitError

PYTHON = (3, 11)
LITTLE_SPACE = 1 << 30
FEW_INODES = 20_000
"""Files. One worktree may have as many."""

FEW_FILES = 256
"""Open files. A scheduler needs some twenty, and so does every agent; agent programs ask for more."""

_REMOTE = re.compile(r"nfs|cifs|smb|9p|drvfs|vboxsf|prl_fs|ceph|lustre|gluster|afs|fuse\.(sshfs|rclone|s3fs)")
_ESCAPE = re.compile(r"\\([0-7]{3})")


def git_version() -> tuple[tuple[int, int, int] | None, Finding | None]:
    """The version of git if it can be used, and what is wrong with it."""
    try:
        found = git.version()
    except (GitError, IndexError):
        return None, Finding("git-missing", ERROR, "there is no git that can be started", "install git 2.38 or newer")
    wrong = old_git(found)
    return (None, wrong) if wrong else (found, None)


def old_git(version: tuple[int, ...]) -> Finding | None:
    """git is older than what landing needs (`merge-tree --write-tree`)."""
    if version >= git.MINIMUM:
        return None
    found, wanted = (".".join(map(str, one[:2])) for one in (version, git.MINIMUM))
    return Finding("git-old", ERROR, f"git is version {found}, {wanted} is needed", f"install git {wanted} or newer")


def old_python(version: tuple[int, ...]) -> Finding | None:
    """This Python is older than octopoid is written for."""
    if version >= PYTHON:
        return None
    found, wanted = (".".join(map(str, one[:2])) for one in (version, PYTHON))
    message = f"this is Python {found}, {wanted} or newer is needed"
    return Finding("python-old", ERROR, message, f"install octopoid with Python {wanted} or newer")


def check_python() -> Iterator[Finding]:
    """Python is new enough."""
    wrong = old_python(sys.version_info[:3])
    if wrong:
        yield wrong


def check_open_files() -> Iterator[Finding]:
    """The limit of open files leaves room."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft != resource.RLIM_INFINITY and soft < FEW_FILES:
        message = f"a process may have {soft} files open, which is little for several agents"
        yield Finding("open-files", WARNING, message, "ulimit -n 4096, in the shell that starts octopoid")


def check_identity(case: Case) -> Iterator[Finding]:
    """git knows who commits."""
    if case.git and git.identity(case.root) is None:
        message = "git has no user.name and user.email here, so no work could be committed"
        yield Finding("git-identity", ERROR, message, git.NO_IDENTITY)


def check_disk(case: Case) -> Iterator[Finding]:
    """There is room for work."""
    for place in dict.fromkeys((case.layout.home, case.worktrees)):
        if place.is_dir():
            free, few = shutil.disk_usage(place).free, os.statvfs(place)
            fix = "make room: octopoid clean removes the worktrees of finished tasks"
            if free < LITTLE_SPACE:
                yield Finding("disk-space", WARNING, f"only {size(free)} are free here", fix, place)
                return
            if few.f_files and few.f_favail < FEW_INODES:
                message = f"only {few.f_favail} more files can be made here (the disk has no inodes left)"
                yield Finding("disk-space", WARNING, message, fix, place)
                return


def check_flock(case: Case) -> Iterator[Finding]:
    """Locks work where the queue is. Probes a file that is there already: looking writes nothing."""
    files = (case.layout.scheduler_lock, case.layout.agents_yaml, case.layout.home / ".gitignore")
    probe = next((one for one in files if one.is_file()), None)
    if probe:
        try:
            locks.is_held(probe)
        except PermissionError:
            pass  # told by the check of the folders
        except OSError as error:
            message = f"locks do not work on this file system ({error.strerror}), so the scheduler refuses to start"
            yield Finding("flock", ERROR, message, "move the repository to a local disk", case.layout.home)


def check_mount(case: Case) -> Iterator[Finding]:
    """The queue is on a disk of this machine."""
    try:
        table = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    kind = remote_kind(os.path.realpath(case.layout.home), table)
    if kind:
        message = f"this is on a network or shared file system ({kind}), where locks and renames may not hold"
        yield Finding("network-disk", WARNING, message, "move the repository to a local disk", case.layout.home)


def remote_kind(path: str, mounts: str) -> str:
    """The kind of file system that `path` is on, by the text of /proc/self/mounts, if it is a remote one; else ""."""
    best, kind = "", ""
    for row in mounts.splitlines():
        words = row.split(" ")
        if len(words) < 3:
            continue
        place = _ESCAPE.sub(lambda code: chr(int(code[1], 8)), words[1])
        if (f"{path}/").startswith(f"{place.rstrip('/')}/") and len(place) >= len(best):
            best, kind = place, words[2]
    return kind if _REMOTE.match(kind) else ""
