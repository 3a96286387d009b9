"""Queues of every version that there was, the format's number, and an upgrade while agents work."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from harness import PROJECT, Repo, drop, environment, eventually, landed, script, state_of

from octopoid.formats import FORMAT
from octopoid.states import State

QUEUES = sorted((PROJECT / "tests/queues").glob("*.tar.gz"))
STATES = {
    "landed": State.DONE,
    "archived": State.ARCHIVED,
    "given-up": State.CANCELLED,
    "asks": State.BLOCKED,
    "breaks": State.BLOCKED,
    "waits": State.INCOMING,
    "killed": State.CLAIMED,
}


def unpacked(queue: Path, tmp_path: Path) -> Repo:
    """The repository in it, in another place than the one in which it was made."""
    home = tmp_path / "home"
    home.mkdir()
    with tarfile.open(queue) as tar:
        tar.extractall(tmp_path, filter="data")
    return Repo(tmp_path / "project", environment(home))


def test_there_is_a_queue_of_every_version() -> None:
    assert len(QUEUES) >= 3


@pytest.mark.parametrize("queue", QUEUES, ids=lambda path: path.name)
def test_a_queue_of_every_version_loads_and_goes_on(queue: Path, tmp_path: Path) -> None:
    repo = unpacked(queue, tmp_path)
    status = repo.octopoid("status", "--json").json()
    assert status["invalid"] == [] and {one["task"] for one in status["needs_you"]} >= {"asks", "breaks"}
    assert {task: state_of(repo, task) for task in STATES} == STATES
    for task in STATES:
        assert repo.octopoid("show", task, "--json").json()["task"]["id"] == task
        repo.octopoid("why", task)
    before = landed(repo)

    repo.octopoid("answer", "asks", "-m", "Blue.")
    repo.octopoid("run", "--until-empty", ok=(6,))
    assert repo.layout.format.read_text() == f"{FORMAT}\n"
    assert set(landed(repo)) - set(before) >= {"asks", "waits", "killed"} and len(set(landed(repo))) == len(
        landed(repo)
    )
    assert state_of(repo, "breaks") is State.BLOCKED, "its budget was spent, and is"
    found = repo.octopoid("doctor", "--json", ok=None).json()["findings"]
    assert [one for one in found if one["severity"] == "error"] == []


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of everything there."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
    }


def test_there_and_back(tmp_path: Path) -> None:
    repo = unpacked(QUEUES[-1], tmp_path)
    home = repo.layout.home
    before = files(home)
    assert "format 1 would become 2" in repo.octopoid("migrate", "--dry-run").err
    assert files(home) == before

    assert "format 1 is now 2" in repo.octopoid("migrate").err
    assert repo.layout.format.read_text() == f"{FORMAT}\n"
    again = repo.octopoid("migrate", "--json").json()
    assert (again["found"], again["steps"], again["done"]) == (FORMAT, 0, [])
    repo.octopoid("answer", "asks", "-m", "Blue.")
    assert "answer of asks" in repo.octopoid("undo").err
    back = repo.octopoid("migrate", "--back", "1")
    assert ".octopoid/attempts/asks/" in back.out and "shows this task as unreadable" in back.out
    assert not repo.layout.format.exists()
    assert {task: state_of(repo, task) for task in STATES} == STATES
    told = [json.loads(line)["event"] for line in repo.layout.events.read_text().splitlines()]
    assert told.count("migrate") == 2
    assert "there is no format 99" in repo.octopoid("migrate", "--back", "99", ok=(2,)).err


@pytest.mark.parametrize("said", ["3", "9999", "", "two", "-1", "2.5", "9" * 5000])
def test_what_another_version_wrote_is_left_alone(repo: Repo, said: str) -> None:
    drop(repo, "work", "# Work\n")
    repo.layout.run.mkdir(exist_ok=True)
    repo.layout.format.write_text(said)
    before = files(repo.layout.home)
    for verb in (("status",), ("list",), ("enqueue", "More"), ("run", "--once"), ("cancel", "work"), ("migrate",)):
        answer = repo.octopoid(*verb, ok=(4,))
        assert "format" in answer.err and "next: " in answer.err
    assert files(repo.layout.home) == before
    repo.octopoid("paths")


def test_an_upgrade_while_an_agent_works(repo: Repo, tmp_path: Path) -> None:
    """The supervisor of a running agent is old code; what it still loads is new. The package is replaced in place."""
    package = tmp_path / "site" / "octopoid"
    shutil.copytree(PROJECT / "octopoid", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__init__.py").write_text('__version__ = "0.0.9"\n')
    go = tmp_path / "go"
    wait = {"run": f"touch {go}.ready; while [ ! -e {go} ]; do sleep 0.05; done"}
    work = [wait, {"write": {"path": "a.txt", "text": "work\n"}}, {"commit": "Work"}]
    script(repo, {"tasks": {"default": {"implementer": [work]}}}, checks=[])
    drop(repo, "work", "# Work\n")
    env = {**repo.env, "PYTHONPATH": str(package.parent)}
    old = subprocess.Popen([sys.executable, "-m", "octopoid", "run"], cwd=repo.root, env=env)
    eventually(Path(f"{go}.ready").exists)
    old.kill()
    old.wait()
    shutil.rmtree(package)
    shutil.copytree(PROJECT / "octopoid", package, ignore=shutil.ignore_patterns("__pycache__"))
    go.touch()
    repo.octopoid("run", "--until-empty")
    assert landed(repo) == ("work",)
    shown = repo.octopoid("show", "work", "--json").json()
    assert [one["kind"] for one in shown["entries"]].count("attempt") == 1
