"""`octopoid init`: what it makes, what it leaves alone, what it finds out."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
from pathlib import Path

import pytest
from harness import OCTOPOID, PACKAGE, PROJECT, Repo, commit, git

from octopoid import config, detect
from octopoid.adapters import ADAPTERS
from octopoid.states import State


def files(repo: Repo) -> dict[str, tuple[bytes, int]]:
    """Every file of `.octopoid` with its content and time."""
    found = (path for path in repo.layout.home.rglob("*") if path.is_file())
    return {str(path.relative_to(repo.layout.home)): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


def checks_of(repo: Repo) -> list[str]:
    return [str(check.run) for check in config.load(repo.layout.home).checks]


def test_it_makes_a_policy_and_an_empty_queue_and_commits_nothing(repo: Repo) -> None:
    before = git(repo, "rev-parse", "HEAD")
    answer = repo.octopoid("init", "-y")
    assert set(files(repo)) == {"agents.yaml", ".gitignore"}
    assert all(repo.layout.folder(state).is_dir() for state in State)
    assert config.load(repo.layout.home).base == "main"
    assert git(repo, "rev-parse", "HEAD") == before
    assert git(repo, "status", "--porcelain", "-uall").split() == [
        *("??", ".octopoid/.gitignore"),
        *("??", ".octopoid/agents.yaml"),
    ]
    assert "git clean -fdx" in answer.err
    assert "octopoid enqueue" in answer.err.splitlines()[-1]


def test_a_second_run_changes_nothing_and_says_so(repo: Repo) -> None:
    repo.octopoid("init", "-y")
    repo.layout.agents_yaml.write_text(repo.layout.agents_yaml.read_text() + "# mine\n")
    before = files(repo)
    assert "nothing to do" in repo.octopoid("init", "-y", "--adapter", "command", "--base", "main").out
    assert files(repo) == before


def test_a_second_run_says_what_it_does_not_apply(repo: Repo) -> None:
    repo.octopoid("init", "-y")
    git(repo, "branch", "develop")
    answer = repo.octopoid("init", "-y", "--adapter", "command", "--base", "develop")
    assert "its base is main, not develop" in answer.err
    assert "its adapter is claude, not command" in answer.err


def test_what_is_missing_is_restored_and_nothing_else_is_touched(repo: Repo) -> None:
    repo.octopoid("init", "-y")
    repo.layout.folder(State.BLOCKED).rmdir()
    (repo.layout.home / ".gitignore").unlink()
    policy = files(repo)["agents.yaml"]
    answer = repo.octopoid("init", "-y")
    assert "restored" in answer.out and ".gitignore" in answer.out and "queue/blocked/" in answer.out
    assert repo.layout.folder(State.BLOCKED).is_dir()
    assert files(repo)["agents.yaml"] == policy


def test_a_fresh_clone_has_the_policy_and_gets_its_queue(repo: Repo, tmp_path: Path) -> None:
    repo.octopoid("init", "-y")
    git(repo, "add", ".octopoid")
    git(repo, "commit", "-qm", "Policy")
    git(repo, "clone", "-q", str(repo.root), str(tmp_path / "clone"))
    clone = Repo(tmp_path / "clone", repo.env)
    task = clone.octopoid("enqueue", "Works at once").out.strip()
    assert clone.layout.task_file(State.INCOMING, task).is_file()
    assert git(clone, "status", "--porcelain") == ""


def test_without_an_agent_program_it_succeeds_and_says_so(repo: Repo) -> None:
    assert "there is no `claude` on PATH" in repo.octopoid("init", "-y").out
    assert "claude was not found" in repo.layout.agents_yaml.read_text()


def test_with_an_agent_program_it_names_it(repo: Repo, tmp_path: Path) -> None:
    program = tmp_path / "bin/claude"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{repo.env['PATH']}"
    assert f"agent: claude ({program})" in repo.octopoid("init", "-y", env={"PATH": path}).out
    assert config.load(repo.layout.home).agents["implementer"].adapter == "claude"


@pytest.mark.parametrize("adapter", sorted(ADAPTERS))
def test_the_policy_of_every_adapter_is_valid(repo: Repo, adapter: str) -> None:
    repo.octopoid("init", "-y", "--adapter", adapter)
    assert config.load(repo.layout.home).agents["implementer"].adapter == adapter


def test_a_wrong_adapter_makes_nothing_and_names_the_nearest(repo: Repo) -> None:
    answer = repo.octopoid("init", "-y", "--adapter", "cluade", ok=[2])
    assert "did you mean `claude`?" in answer.err
    assert not repo.layout.home.exists()


def test_the_base_is_the_branch_that_is_checked_out(repo: Repo) -> None:
    git(repo, "switch", "-qc", "develop")
    repo.octopoid("init", "-y")
    assert config.load(repo.layout.home).base == "develop"


def test_base_names_another_branch_which_must_exist(repo: Repo) -> None:
    assert "there is no branch `stable`" in repo.octopoid("init", "-y", "--base", "stable", ok=[3]).err
    assert not repo.layout.home.exists()
    git(repo, "branch", "stable")
    repo.octopoid("init", "-y", "--base", "stable")
    assert config.load(repo.layout.home).base == "stable"


def test_a_detached_head_without_a_usual_branch_needs_a_word(repo: Repo) -> None:
    git(repo, "switch", "-q", "--detach")
    git(repo, "branch", "-m", "main", "trunk")
    assert "octopoid init --base BRANCH" in repo.octopoid("init", "-y", ok=[2]).err
    repo.octopoid("init", "-y", "--base", "trunk")


def test_in_a_linked_worktree_it_works_on_the_main_one(repo: Repo, tmp_path: Path) -> None:
    git(repo, "worktree", "add", "-q", "--detach", tmp_path / "linked")
    answer = repo.octopoid("init", "-y", cwd=tmp_path / "linked")
    assert repo.layout.agents_yaml.is_file()
    assert not (tmp_path / "linked/.octopoid").exists()
    assert f"cd {repo.root}" in answer.err


def test_from_a_subfolder_and_with_root(repo: Repo, tmp_path: Path) -> None:
    (repo.root / "deep/er").mkdir(parents=True)
    repo.octopoid("init", "-y", cwd=repo.root / "deep/er")
    assert "nothing to do" in repo.octopoid("--root", repo.root, "init", "-y", cwd=tmp_path).out


def test_where_it_cannot_work_it_says_why(repo: Repo, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    assert "git init" in repo.octopoid("init", "-y", cwd=outside, ok=[3]).err
    git(repo, "init", "-q", "--bare", tmp_path / "bare.git")
    assert "bare repository" in repo.octopoid("init", "-y", cwd=tmp_path / "bare.git", ok=[2]).err
    repo.layout.home.write_text("a file of the user's\n")
    assert "is not a folder" in repo.octopoid("init", "-y", ok=[5]).err
    assert repo.layout.home.read_text() == "a file of the user's\n"


def test_an_empty_repository_works_and_needs_a_first_commit(repo: Repo, tmp_path: Path) -> None:
    git(repo, "init", "-q", "-b", "trunk", tmp_path / "empty")
    empty = Repo(tmp_path / "empty", repo.env)
    assert "trunk has no commit yet" in empty.octopoid("init", "-y").err
    assert config.load(empty.layout.home).base == "trunk"


def test_nobody_s_identity_is_missed_before_an_agent_is_paid(repo: Repo) -> None:
    git(repo, "config", "--unset", "user.email")
    git(repo, "config", "user.useConfigOnly", "true")
    assert "user.email" in repo.octopoid("init", "-y").err


def test_a_check_is_found_and_a_project_without_one_is_told_so(repo: Repo) -> None:
    answer = repo.octopoid("init", "-y")
    assert "check: none found" in answer.out and "nothing but you stands before landing" in answer.err
    assert checks_of(repo) == []
    repo.layout.agents_yaml.unlink()
    commit(repo, PACKAGE)
    assert "-m pytest -q (because of tests/test_calc.py" in repo.octopoid("init", "-y").out
    assert checks_of(repo)[0].endswith("-m pytest -q")


DETECTED = (
    ({"pyproject.toml": "[tool.pytest.ini_options]\n"}, ["python -m pytest -q"]),
    ({"pytest.ini": "[pytest]\n", "uv.lock": ""}, ["uv run python -m pytest -q"]),
    ({"setup.cfg": "[tool:pytest]\n"}, ["python -m pytest -q"]),
    ({"tox.ini": "[tox]\n", "tests/test_a.py": ""}, ["tox -q"]),
    ({"noxfile.py": ""}, ["nox"]),
    ({"pkg/tests/test_a.py": "import unittest\n"}, ["python -m unittest discover"]),
    ({"test_a.py": "def test_it(): pass\n"}, ["python -m pytest -q"]),
    ({"node_modules/x/test_a.py": "", ".venv/test_b.py": ""}, []),
    ({"package.json": '{"scripts": {"test": "vitest run"}}'}, ["npm test"]),
    ({"package.json": '{"scripts": {"test": "jest"}}', "pnpm-lock.yaml": ""}, ["pnpm test"]),
    ({"package.json": '{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}'}, []),
    ({"package.json": "{broken"}, []),
    ({"package.json": "[]", "pyproject.toml": "= broken"}, []),
    ({"Cargo.toml": "[package]\n"}, ["cargo test"]),
    ({"go.mod": "module x\n"}, ["go test ./..."]),
    ({"Makefile": "all:\n\ntest: all\n\ttrue\n"}, ["make test"]),
    ({"Makefile": "test := 1\ntests:\n"}, []),
    ({"Makefile": "test:\n", "go.mod": ""}, ["go test ./..."]),
    ({"go.mod": "", "package.json": '{"scripts": {"test": "x"}}'}, ["npm test", "go test ./..."]),
    ({}, []),
)


@pytest.mark.parametrize(("project", "commands"), DETECTED, ids=lambda value: " ".join(value) if value else "-")
def test_how_a_project_is_tested(tmp_path: Path, project: dict[str, str], commands: list[str]) -> None:
    for name, text in project.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = detect.checks(tmp_path, lambda name: f"/usr/bin/{name}")
    assert [one.run for one in found] == commands
    assert len({one.name for one in found}) == len(found)


def test_python_is_called_as_the_machine_calls_it(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").touch()
    (found,) = detect.checks(tmp_path, lambda name: None if name == "python" else f"/usr/bin/{name}")
    assert found.run == "python3 -m pytest -q"


def answer_on_terminal(repo: Repo, *args: str, replies: tuple[str, ...]) -> tuple[int, str]:
    """Run octopoid on a terminal of its own; each reply goes out when the program asks (a line that ends in `: `)."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [str(OCTOPOID), *args], cwd=repo.root, env={**repo.env, "TERM": "dumb"}, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    seen, left = "", list(replies)
    while process.poll() is None or select.select([master], [], [], 0.05)[0]:
        if select.select([master], [], [], 0.05)[0]:
            try:
                seen += os.read(master, 4096).decode()
            except OSError:  # EIO: the other end is closed
                break
            if left and seen.endswith("]: "):
                os.write(master, f"{left.pop(0)}\n".encode())
    os.close(master)
    return process.wait(10), seen


def test_on_a_terminal_it_asks_and_every_question_has_a_default(repo: Repo) -> None:
    git(repo, "branch", "develop")
    replies = ("nowhere", "develop", "comand", "command", "./agent --yes", "make check", "")
    status, seen = answer_on_terminal(repo, "init", replies=replies)
    assert status == 0, seen
    assert "there is no branch `nowhere`" in seen and "did you mean `command`?" in seen
    policy = config.load(repo.layout.home)
    assert policy.base == "develop" and policy.agents["implementer"].command == "./agent --yes"
    assert checks_of(repo) == ["make check"]
    repo.layout.agents_yaml.unlink()
    status, seen = answer_on_terminal(repo, "init", replies=("", "", "", ""))
    assert status == 0, seen
    assert config.load(repo.layout.home).base == "main"
    assert checks_of(repo) == []


# --- the quick start says the truth ---

GUIDE = PROJECT / "docs/quickstart.md"


def blocks(heading: str) -> list[str]:
    """The shell code of a section of the quick start."""
    section = GUIDE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


def test_the_quick_start_works_line_by_line(repo: Repo) -> None:
    text = "\n".join(["set -eu", *blocks("With any program")])
    place = repo.root.parent / "elsewhere"
    place.mkdir()
    user = {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org"}
    user |= {"GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org"}
    done = subprocess.run(
        ["sh"], input=text, cwd=place, env={**repo.env, **user}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (place / "hello/greetings.txt").read_text() == "Hello, world.\n"
    assert "Greet the world" in done.stdout


def test_every_command_of_the_quick_start_exists(repo: Repo) -> None:
    lines = re.findall(r"^octopoid ([a-z]+)(.*)$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) > 15
    for verb, rest in lines:
        words = rest.partition("#")[0]
        options = re.findall(r"(?<=\s)--?[a-z-]+", re.sub(r'"[^"]*"', "", words))
        text = repo.octopoid(verb, "--help").out
        assert all(option in text for option in options), (verb, options)
