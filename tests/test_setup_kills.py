"""SIGKILL of the commands that set a queue up, before every operation of theirs: said again, they finish it.

What works in a queue is killed in `test_kills`; these are commands that a person gives once. Every seventh operation,
and with `-m deep` every one.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from harness import OCTOPOID, PROJECT, Repo, commit, environment, git, make_repo
from killhook import WIDTH
from kills import hooked

from octopoid import trust
from octopoid.formats import FORMAT

QUEUE = max((PROJECT / "tests/queues").glob("*.tar.gz"))


class Setup(NamedTuple):
    """A command: what it begins with, what is so when it is done, and how many operations it has at least."""

    prepare: Callable[[Path], Repo]
    argv: tuple[str, ...]
    is_done: Callable[[Repo], bool]
    least: int


def untouched(place: Path) -> Repo:
    """A repository without a queue."""
    repo = make_repo(place)
    trust.mark_file(repo.root).unlink()
    return repo


def cloned(place: Path) -> Repo:
    """Somebody else's queue."""
    origin = make_repo(place, "origin")
    commit(origin, {".octopoid/agents.yaml": (PROJECT / "agents.yaml.example").read_text(encoding="utf-8")})
    git(origin, "clone", "-q", origin.root, place / "project")
    repo = Repo(place / "project", origin.env)
    repo.octopoid("init", "-y")
    return repo


def trusted(place: Path) -> Repo:
    repo = cloned(place)
    repo.octopoid("trust")
    return repo


def old(place: Path) -> Repo:
    """A queue of an earlier version."""
    with tarfile.open(QUEUE) as tar:
        tar.extractall(place, filter="data")
    (place / "home").mkdir(exist_ok=True)
    return Repo(place / "project", environment(place / "home"))


def migrated(place: Path) -> Repo:
    repo = old(place)
    repo.octopoid("migrate")
    return repo


def is_trusted(repo: Repo) -> bool:
    return trust.is_trusted(repo.root)


SETUPS = {
    "init": Setup(untouched, ("init", "-y"), is_trusted, 20),
    "trust": Setup(cloned, ("trust",), is_trusted, 3),
    "trust-revoke": Setup(trusted, ("trust", "--revoke"), lambda repo: not is_trusted(repo), 3),
    "migrate": Setup(old, ("migrate",), lambda repo: repo.layout.format.read_text() == f"{FORMAT}\n", 5),
    "migrate-back": Setup(migrated, ("migrate", "--back", "1"), lambda repo: not repo.layout.format.exists(), 5),
}


@pytest.mark.parametrize("name", SETUPS)
@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.deep)])
@pytest.mark.timeout(300)
def test_said_again_after_a_kill_it_is_done(name: str, step: int, tmp_path: Path) -> None:
    setup, told = SETUPS[name], tmp_path / "told"
    repo = setup.prepare(tmp_path)
    watched = repo.env | hooked(tmp_path, told)
    kept = tmp_path / "kept"
    shutil.copytree(repo.root, kept, symlinks=True)

    def run(at: int) -> int:
        """Killed before operation `at`, if there is one."""
        told.unlink(missing_ok=True)
        env = watched | {"KILL_AT": str(at)}
        done = subprocess.run([OCTOPOID, *setup.argv], cwd=repo.root, env=env, capture_output=True, check=False)
        return done.returncode

    assert run(0) == 0 and setup.is_done(repo)
    made, operations = ours(repo), told.stat().st_size // WIDTH
    assert operations >= setup.least
    for at in range(1, operations + 1, step):
        shutil.rmtree(repo.root)
        shutil.copytree(kept, repo.root, symlinks=True)
        assert run(at) == -9, at
        again = repo.octopoid(*setup.argv, ok=None)
        assert again.status == 0 and setup.is_done(repo), f"killed before {at}: {again}"
        assert ours(repo) == made, at


def ours(repo: Repo) -> dict[str, int | bytes]:
    """What octopoid has there: mode and content; of what tells a time, that it is there.

    What a kill left half written goes by `doctor --fix`, when it is old.
    """
    tops = (repo.layout.home, repo.root / ".git/octopoid", repo.root / ".git/info")
    paths = (path for top in tops for path in top.rglob("*") if not path.name.startswith(".tmp-"))
    return {str(path.relative_to(repo.root)): _content(path) for path in paths}


def _content(path: Path) -> int | bytes:
    timed = path.name in ("events.jsonl", "trusted")
    return path.lstat().st_mode if timed or not path.is_file() else path.read_bytes()
