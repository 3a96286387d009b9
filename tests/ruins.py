"""What the tests of `doctor` stand on: a healthy queue, what doctor says, what changed on the disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from harness import OCTOPOID, Answer, Repo, git, script

from octopoid import locks, setup, worktrees

TASK = "# Something to do\n"
OLD = 7200.0


class Found(NamedTuple):
    """What doctor said, and what it did."""

    answer: Answer
    findings: list[dict[str, Any]]
    fixed: list[dict[str, Any]]

    def codes(self) -> set[str]:
        return {one["code"] for one in self.findings}

    def of(self, code: str) -> list[dict[str, Any]]:
        return [one for one in self.findings if one["code"] == code]

    def one(self, code: str) -> dict[str, Any]:
        assert len(self.of(code)) == 1, (code, self.findings)
        return self.of(code)[0]

    def repaired(self) -> set[str]:
        return {one["code"] for one in self.fixed}


def found(answer: Answer) -> Found:
    record = answer.json()
    assert record["kind"] == "doctor"
    errors = [one for one in record["findings"] if one["severity"] == "error"]
    assert answer.status == (1 if errors else 0), answer
    for one in record["findings"]:
        assert set(one) == {"code", "severity", "message", "fix", "path"}
        assert one["fix"], one
    return Found(answer, record["findings"], record["fixed"])


def doctor(repo: Repo, *words: str, env: dict[str, str] | None = None) -> Found:
    return found(repo.octopoid("doctor", "--json", *words, ok=None, env=env))


def healthy(repo: Repo, **policy: Any) -> Repo:
    """A queue in which nothing is wrong."""
    setup.make_folders(repo.layout)
    setup.make_file(setup.gitignore(repo.layout), setup.GITIGNORE)
    script(repo, {"steps": []}, **policy)
    return repo


def snapshot(repo: Repo) -> dict[str, str]:
    """Everything below the repository's parent: kind, mode, content, time of change. Journal and locks apart."""
    top, seen = repo.root.parent, {}
    for folder, folders, names in os.walk(top):
        for name in (*folders, *names):
            path = Path(folder, name)
            facts = path.lstat()
            kind = "link" if path.is_symlink() else stat.filemode(facts.st_mode)
            data = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(facts.st_mode) else ""
            seen[str(path.relative_to(top))] = f"{kind} {data} {facts.st_mtime_ns}"
    return seen


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Names that came, went or changed; of folders only those that came or went."""
    both = {name for name in before.keys() & after.keys() if before[name] != after[name]}
    return {name for name in both if not before[name].startswith("d")} | (before.keys() ^ after.keys())


def age(path: Path, seconds: float = OLD) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then), follow_symlinks=False)


@contextlib.contextmanager
def scheduler(repo: Repo) -> Iterator[None]:
    """Somebody holds the scheduler's lock."""
    lock = locks.take(repo.layout.scheduler_lock)
    assert lock is not None
    try:
        yield
    finally:
        os.close(lock)


def tree(repo: Repo, task: str) -> Path:
    """A worktree of ours, as an attempt makes it."""
    place = repo.layout.home / "worktrees" / task
    with contextlib.redirect_stdout(sys.stderr):
        worktrees.add(repo.root, place, git(repo, "rev-parse", "HEAD"))
    return place


def work(repo: Repo, place: Path) -> str:
    git(repo, "commit", "-q", "--allow-empty", "-m", "Work", at=place)
    return git(repo, "rev-parse", "HEAD", at=place)


def wrapped(repo: Repo, argv: list[str], *words: str) -> Answer:
    """`octopoid doctor` started by another program."""
    done = subprocess.run(
        [*argv, str(OCTOPOID), "doctor", "--json", *words],
        cwd=repo.root,
        env=dict(repo.env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def in_namespace(repo: Repo, script: str, *words: str) -> Found:
    """`doctor` where `script` has mounted something, which nobody else sees."""
    if os.geteuid() or not shutil.which("unshare") or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("no mount namespaces here")
    return found(wrapped(repo, ["unshare", "-m", "sh", "-c", f'set -e; {script}; exec "$@"', "-"], *words))
