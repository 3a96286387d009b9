"""`doctor`: git, Python, disks, locks."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from harness import Repo, drop
from ruins import (
    doctor,
    found,
    healthy,
    in_namespace,
    wrapped,
)

from octopoid.doctor import machine, queues
from octopoid.states import State

# --- the machine ---


def test_no_git_and_an_old_git(repo: Repo) -> None:
    healthy(repo)
    tools = repo.root.parent / "tools"
    tools.mkdir()
    assert doctor(repo, env={"PATH": str(tools)}).codes() == {"git-missing"}
    (tools / "git").write_text("#!/bin/sh\necho git version 2.30.1\n", encoding="utf-8")
    (tools / "git").chmod(0o755)
    assert doctor(repo, env={"PATH": f"{tools}:{repo.env['PATH']}"}).codes() == {"git-old"}


def test_versions() -> None:
    assert machine.old_python((3, 10, 9)) is not None
    assert machine.old_python((3, 11, 0)) is None
    assert machine.old_git((2, 37, 4)) is not None
    assert machine.old_git((2, 38, 0)) is None


def test_few_open_files(repo: Repo) -> None:
    healthy(repo)
    assert found(wrapped(repo, ["sh", "-c", 'ulimit -n 100; exec "$@"', "-"])).codes() == {"open-files"}


def test_a_disk_without_flock(repo: Repo) -> None:
    healthy(repo)
    trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:error=ENOLCK"]
    if shutil.which("strace") is None or subprocess.run([*trace, "true"], check=False).returncode:
        pytest.skip("strace cannot trace here")
    assert "flock" in found(wrapped(repo, trace)).codes()


def test_a_folder_on_another_disk(repo: Repo) -> None:
    healthy(repo)
    seen = in_namespace(repo, "mount -t tmpfs -o size=4m tmpfs .octopoid/queue/done")
    assert seen.one("other-device")["path"] == str(repo.layout.folder(State.DONE))


def test_a_disk_that_is_full(repo: Repo) -> None:
    healthy(repo)
    (repo.layout.home / "worktrees").mkdir()
    seen = in_namespace(repo, "mount -t tmpfs -o size=4m tmpfs .octopoid/worktrees")
    assert seen.codes() == {"disk-space"}


def test_a_queue_that_is_read_only(repo: Repo) -> None:
    healthy(repo)
    seen = in_namespace(
        repo, "mount --bind .octopoid/run .octopoid/run; mount -o remount,ro,bind .octopoid/run", "--fix"
    )
    assert seen.one("not-writable")["path"] == str(repo.layout.run)


def test_remote_file_systems() -> None:
    mounts = (
        "/dev/sda1 / ext4 rw 0 0\nnas:/home /home nfs4 rw 0 0\n/dev/sdb /home/me/local\\040disk ext4 rw 0 0\n"
        "me@host: /home/me/sshfs fuse.sshfs rw 0 0\nbroken\n"
    )
    assert machine.remote_kind("/srv/project", mounts) == ""
    assert machine.remote_kind("/home/me/project", mounts) == "nfs4"
    assert machine.remote_kind("/home/me/local disk/project", mounts) == ""
    assert machine.remote_kind("/home/me/sshfs/project", mounts) == "fuse.sshfs"
    assert machine.remote_kind("/homeless", mounts) == ""


def test_devices() -> None:
    home, done = Path("/q"), Path("/q/done")
    assert queues.apart({home: 1, done: 1}, home) == []
    assert queues.apart({home: 1, done: 2}, home) == [done]


def test_what_cannot_be_checked_is_said(repo: Repo) -> None:
    """A git that fails in the middle: the check says so, the others go on."""
    healthy(repo)
    drop(repo, "bad", "---\nnope: 1\n---\n")
    tools = repo.root.parent / "tools"
    tools.mkdir()
    real = shutil.which("git", path=repo.env["PATH"])
    lines = f'#!/bin/sh\ncase "$*" in *ls-files*) echo broken >&2; exit 128;; esac\nexec {real} "$@"\n'
    (tools / "git").write_text(lines, encoding="utf-8")
    (tools / "git").chmod(0o755)
    seen = doctor(repo, env={"PATH": f"{tools}:{repo.env['PATH']}"})
    assert seen.codes() == {"unchecked", "invalid"}
