"""A policy that arrives by clone runs nothing before the user said so, once per root (docs/security.md)."""

from __future__ import annotations

import json
import os
import pty
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from harness import OCTOPOID, Repo, commit, drop, environment, eventually, git, landed, make_repo

from octopoid import setup, trust
from octopoid.layout import Layout
from octopoid.settings import Agent, Check, Config, Schedule, Worktrees
from octopoid.trust import Runs


class Clone(NamedTuple):
    """A clone of somebody's repository whose every command makes `canary`."""

    repo: Repo
    canary: Path


def policy(canary: Path) -> str:
    touch = f"touch {canary}"
    implementer = {"role": "implementer", "adapter": "command", "command": touch, "pre_check": touch, "env": ["MY_KEY"]}
    said = {
        "version": 1,
        "base": "main",
        "checks": [{"name": "tests", "run": touch}],
        "gates": ["checks"],
        "worktrees": {"setup": touch},
        "notify": {"command": ["touch", str(canary)]},
        "schedule": {"nightly": {"cron": "* * * * *", "title": "Nightly", "pre_check": touch}},
        "agents": {"implementer": implementer},
    }
    return json.dumps(said, indent=1)


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    """The other's repository is `origin`; the user has only cloned it."""
    origin, canary = make_repo(tmp_path, "origin"), tmp_path / "canary"
    commit(origin, {".octopoid/agents.yaml": policy(canary), ".octopoid/templates/t.md": template(canary)})
    git(origin, "clone", "-q", origin.root, tmp_path / "clone")
    repo = Repo(tmp_path / "clone", environment(tmp_path / "home"))
    for key, value in (("user.name", "Bo"), ("user.email", "bo@example.org"), ("gc.auto", "0")):
        git(repo, "config", key, value)
    yield Clone(repo, canary)


def template(canary: Path) -> str:
    return f"# T\n\n## Acceptance criteria\n- [ ] x :: touch {canary}\n"


def untrusted(repo: Repo) -> None:
    """As it is after `git init`, and right after the upgrade from an octopoid that knew no marks."""
    shutil.rmtree(trust.mark_file(repo.root).parent)


def test_init_in_a_repository_without_a_policy_is_the_yes(repo: Repo) -> None:
    untrusted(repo)
    repo.octopoid("init", "-y")
    mark = repo.root / ".git/octopoid/trusted"
    said = json.loads(mark.read_text())
    assert said["root"] == str(repo.root) and said["trusted"].startswith("20")
    assert stat.S_IMODE(mark.stat().st_mode) == 0o600 and stat.S_IMODE(mark.parent.stat().st_mode) == 0o700
    assert "trust" not in {need["reason"] for need in repo.octopoid("status", "--json").json()["needs_you"]}


def test_a_clone_runs_nothing(clone: Clone) -> None:
    repo, canary = clone
    answer = repo.octopoid("init", "-y")
    assert "octopoid trust" in answer.err and f"touch {canary}" in answer.err, "-y is no yes to this"
    drop(repo, "first", "# First\n")
    for verb in (["run"], ["run", "--once"], ["attach", "first"], ["service", "install"]):
        answer = repo.octopoid(*verb, ok=(4,))
        assert "check tests: touch" in answer.err and "agent implementer" in answer.err, verb
        assert "next: octopoid trust" in answer.err.splitlines()[-1]
    status = repo.octopoid("status", "--json").json()
    assert [(one["reason"], one["command"]) for one in status["needs_you"]][:1] == [("trust", "octopoid trust --show")]
    for verb in (["list"], ["show", "first"], ["why", "first"], ["config", "check"], ["doctor"]):
        repo.octopoid(*verb, ok=(0, 1))
    for verb in (["run", "--dry-run"], ["enqueue", "Two"], ["cancel", "first"]):
        repo.octopoid(*verb)
    assert not canary.exists() and not trust.is_trusted(repo.root)


def test_trust_shows_every_command_and_remembers_the_yes(clone: Clone) -> None:
    repo, canary = clone
    repo.octopoid("init", "-y")
    shown = repo.octopoid("trust", "--show")
    whats = [line.partition("  ")[0] for line in shown.out.splitlines()]
    assert whats == [
        *("check tests", "setup of worktrees", "agent implementer", "agent implementer, before it", "notify"),
        *("schedule nightly", "schedule nightly, before it", "criterion of template t"),
    ]
    assert "is given MY_KEY" in shown.out and "is not trusted" in shown.err and not trust.is_trusted(repo.root)
    said = repo.octopoid("trust", "--json").json()
    assert said["trusted"] is True and len(said["runs"]) == len(whats)
    drop(repo, "first", "# First\n")
    repo.octopoid("run", "--once")
    eventually(canary.exists, 20)
    assert "is not trusted any more" in repo.octopoid("trust", "--revoke").err
    assert repo.octopoid("run", "--once", ok=None).status == 4


def test_the_yes_goes_with_the_repository_and_not_with_home(clone: Clone, tmp_path: Path) -> None:
    repo, _ = clone
    repo.octopoid("init", "-y")
    repo.octopoid("trust")
    moved = tmp_path / "moved here"
    shutil.move(repo.root, moved)
    other = tmp_path / "other home"
    other.mkdir()
    there = Repo(moved, environment(other))
    there.octopoid("run", "--once")
    assert not (there.layout.run / "crash.log").exists()


def test_somebody_at_a_terminal_is_asked(clone: Clone) -> None:
    repo, canary = clone
    for said, trusted in (("n", False), ("y", True)):
        master, slave = pty.openpty()
        argv = [str(OCTOPOID), "init"]
        program = subprocess.Popen(argv, cwd=repo.root, env=repo.env, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        seen = b""
        while b"May it run these?" not in seen:
            seen += os.read(master, 4096)
        os.write(master, f"{said}\n".encode())
        assert program.wait(20) == 0
        os.close(master)
        assert f"touch {canary}".encode() in seen and trust.is_trusted(repo.root) is trusted


def test_a_root_that_worked_before_goes_on(repo: Repo) -> None:
    repo.octopoid("init", "-y")
    repo.layout.agents_yaml.write_text(
        'version: 1\nbase: main\ngates: []\nagents: {a: {role: implementer, adapter: command, command: "true"}}\n'
    )
    commit(repo, {".octopoid/agents.yaml": repo.layout.agents_yaml.read_text()})
    untrusted(repo)
    assert repo.octopoid("run", "--once", ok=None).status == 4
    repo.octopoid("trust")
    repo.octopoid("run", "--once")
    untrusted(repo)  # as it is right after the upgrade
    repo.octopoid("run", "--once")
    assert trust.is_trusted(repo.root)
    untrusted(repo)
    git(repo, "add", "-f", ".octopoid/run/last-good/agents.yaml")
    assert repo.octopoid("run", "--once", ok=None).status == 4, "what is in git may have come by a clone"


@pytest.mark.parametrize("name", [".octopoid/agents.yaml", ".OctoPoid/agents.yaml", ".octopoid/roles/x.md"])
def test_what_git_knows_is_never_the_users_own(repo: Repo, name: str) -> None:
    """On a Mac `.OctoPoid` is `.octopoid`."""
    untrusted(repo)
    blob = git(repo, "rev-parse", "HEAD:README.md")
    git(repo, "update-index", "--add", "--cacheinfo", f"100644,{blob},{name}")
    assert setup.tracked(repo.layout) == (name,)
    repo.octopoid("init", "-y", "--base", "main")
    assert not trust.is_trusted(repo.root)


def test_an_agent_cannot_say_yes(clone: Clone) -> None:
    repo, _ = clone
    repo.octopoid("init", "-y")
    entry = repo.layout.entry("first", 1)
    entry.mkdir(parents=True)
    for verb in (["trust"], ["trust", "--revoke"]):
        answer = repo.octopoid(*verb, ok=(5,), env={"OCTOPOID_ATTEMPT_DIR": str(entry)})
        assert "a person's command" in answer.err
    assert not trust.is_trusted(repo.root)


def test_evidence_that_came_by_clone_is_not_taken_over(clone: Clone) -> None:
    """Somebody else's `approve` would let their candidate land."""
    repo, _ = clone
    commit(repo, {".octopoid/queue/provisional/evil.md": "# Evil\n", ".octopoid/attempts/evil/001/attempt.json": "{}"})
    answer = repo.octopoid("trust", ok=(5,))
    assert "nobody's to bring" in answer.err and not trust.is_trusted(repo.root)


def test_a_link_is_no_yes(repo: Repo, tmp_path: Path) -> None:
    untrusted(repo)
    (tmp_path / "elsewhere").write_text("{}")
    trust.mark_file(repo.root).parent.mkdir()
    trust.mark_file(repo.root).symlink_to(tmp_path / "elsewhere")
    assert not trust.is_trusted(repo.root)
    assert trust.mark(repo.root, time.time()) and trust.is_trusted(repo.root)
    assert (tmp_path / "elsewhere").read_text() == "{}"


def test_policy_files_that_are_links_are_named(clone: Clone) -> None:
    repo, _ = clone
    repo.octopoid("init", "-y")
    (repo.layout.roles / "leak.md").symlink_to("/etc/hostname")
    notes = repo.octopoid("trust", "--show", "--json", ok=(0, 4))
    assert notes.status == 4 or any("is a link to /etc/hostname" in one for one in notes.json()["notes"])


def test_everything_that_a_policy_can_run_is_listed() -> None:
    agent = Agent("a", "implementer", "claude", model="m", args=("--x", "a b"), base_url="https://evil", env=("K",))
    config = Config(
        "main",
        {"a": agent, "b": Agent("b", "r", "command", command=("./x", ""), pre_check=("true",))},
        {},
        {},
        checks=(Check("c", "make"),),
        worktrees=Worktrees(setup=("npm", "ci")),
        notify=("n",),
        schedule={"s": Schedule("s", "* * * * *", pre_check="p")},
    )
    assert list(trust.commands(config)) == [
        Runs("check c", "make"),
        Runs("setup of worktrees", "npm ci"),
        Runs("agent a", 'the program of `claude`, model m, --x "a b", asks https://evil; is given K'),
        Runs("agent b", './x ""'),
        Runs("agent b, before it", "true"),
        Runs("notify", "n"),
        Runs("schedule s", "a task at * * * * *"),
        Runs("schedule s, before it", "p"),
    ]


def test_the_mark_of_a_repository_with_its_git_directory_elsewhere(repo: Repo, tmp_path: Path) -> None:
    git(repo, "init", "-q", f"--separate-git-dir={tmp_path / 'apart'}")
    layout = Layout(repo.root)
    trust.gitfiles.common_dir.cache_clear()
    assert trust.mark_file(layout.root) == tmp_path / "apart/octopoid/trusted"
    assert landed(repo) == ()
