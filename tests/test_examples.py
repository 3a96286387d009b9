"""docs/examples: every configuration as its README says, with scripted agents in the place of Claude Code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from harness import PACKAGE, PROJECT, Repo, commit, git, landed, make_repo
from test_docs import _simple, _wrong

from octopoid import attempts, clock, taskfile
from octopoid.states import State

EXAMPLES = PROJECT / "docs/examples"
NAMES = ("solo-claude", "team-review", "feature-flow", "nightly-updates", "codemod")
DAY = 86400.0

Actions = list[Any]


@pytest.fixture
def mine(tmp_path: Path) -> Repo:
    """The user's repository where the pages say it is, ~/my-project: a package with its tests."""
    repo = make_repo(tmp_path, "home/my-project")
    commit(repo, PACKAGE, "A package")
    return repo


def follow(repo: Repo, example: str, **roles: Sequence[Actions]) -> None:
    """Do what the page says up to the sample task, `adapter: claude` replaced by a scripted agent on the way."""
    page = (EXAMPLES / example / "README.md").read_text(encoding="utf-8")
    block = re.search(r"## Use it\n.*?```sh\n(.*?)```", page, re.DOTALL)
    assert block is not None
    # what runs for ever, and what writes to the user's system
    lines = [one for one in block[1].splitlines() if not re.match(r"octopoid (run|service)", one)]
    script = repo.root.parent / "scripted.json"
    actions = {name.replace("_", "-"): list(attempts) for name, attempts in roles.items()}
    script.write_text(json.dumps({"tasks": {"default": actions or {"default": [["hang"]]}}}), encoding="utf-8")
    rehearse = f"{sys.executable} -c '{_REHEARSE}' {script}"
    at = lines.index(next(one for one in lines if one.startswith("octopoid config check")))
    program = "\n".join(["set -e", *lines[: at + 1], rehearse, *lines[at:]])
    done = subprocess.run(["sh", "-c", program], cwd=PROJECT, env=repo.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{program}\n{done.stdout}{done.stderr}"


_REHEARSE = """
import re, sys
path = ".octopoid/agents.yaml"
text = open(path).read()
text = re.sub(r"^( +)adapter: claude$", rf"\\1adapter: scripted\\n\\1script: {sys.argv[1]}", text, flags=re.M)
open(path, "w").write(text)
"""
"""All that is changed in a configuration before it is executed."""


def write(path: str, text: str = "x\n") -> Actions:
    return [{"write": {"path": path, "text": text}}, {"commit": f"Add {path}"}]


def document(name: str) -> Actions:
    return [{"run": f'echo "All about it" > "$OCTOPOID_ARTIFACTS/{name}"'}]


def only(repo: Repo, state: State) -> str:
    (path,) = repo.layout.folder(state).glob("*.md")
    return path.stem


def entry_of(repo: Repo, task: str, gate: str) -> list[str]:
    """What a gate said, each time."""
    said = attempts.read(repo.layout, task)
    return [one.outcome.verdict for one in said if one.outcome and one.opening.gate == gate and one.started]


YES: Actions = [{"accept": "Good."}]


def test_one_claude_and_you(mine: Repo) -> None:
    follow(mine, "solo-claude", implementer=[write("CONTRIBUTING.md", ""), write("CONTRIBUTING.md", "Run pytest.\n")])
    mine.octopoid("run", "--until-empty", ok=(6,))
    task = only(mine, State.PROVISIONAL)
    assert task.startswith("say-how"), "as the page calls it"
    assert entry_of(mine, task, "checks") == ["reject", "accept"], "the task's own command is a check"
    mine.octopoid("approve", "say-how")
    mine.octopoid("run", "--until-empty")
    assert landed(mine) == (task,)
    assert (mine.root / "CONTRIBUTING.md").read_text(encoding="utf-8") == "Run pytest.\n"


def test_a_team_reviews_from_three_sides(mine: Repo) -> None:
    no = {"outcome": "reject", "summary": "No entry in the changelog.", "feedback": "The changelog does not say so."}
    follow(
        mine,
        "team-review",
        implementer=[
            write("tests/test_edge.py", "def test_edge() -> None:\n    assert True\n"),
            [{"run": 'grep -q "changelog" "$OCTOPOID_PROMPT_FILE"'}, *write("CHANGELOG.md")],
        ],
        reviewer=[[{"reject": "Not the changelog again."}], YES],
        security_reviewer=[YES],
        api_reviewer=[[{"run": 'grep -q "from outside" "$OCTOPOID_PROMPT_FILE"'}, {"result": no}]],
        gatekeeper=[YES],
    )
    mine.octopoid("run", "--until-empty")
    task = only(mine, State.DONE)
    assert task.startswith("test-an") and landed(mine) == (task,)
    assert entry_of(mine, task, "reviewer") == ["reject", "accept"]
    assert entry_of(mine, task, "api-reviewer") == ["reject", "reject"], "advisory: it refuses nothing"
    assert (mine.root / "CHANGELOG.md").exists(), "all that was found goes back"


def test_a_feature_from_research_to_documentation(mine: Repo) -> None:
    follow(
        mine,
        "feature-flow",
        researcher=[document("research.md")],
        planner=[[{"question": ["Which command?"]}], document("plan.md")],
        implementer=[write("calc/version.py", "VERSION = '1'\n")],
        reviewer=[YES],
        security_reviewer=[YES],
        tester=[YES],
        gatekeeper=[YES],
        documenter=[write("VERSION.md")],
    )
    mine.octopoid("run", "--until-empty", ok=(6,))
    assert "Which command?" in mine.octopoid("inbox").out
    mine.octopoid("answer", "tell-the", "-m", "calc --version")
    mine.octopoid("run", "--until-empty", ok=(6,))
    assert landed(mine) == ()
    mine.octopoid("approve", "tell-the")
    mine.octopoid("run", "--until-empty")
    first, second = landed(mine)
    assert first.startswith("tell-the") and second.startswith("document-tell-the-version")
    assert {"research.md", "plan.md"} <= set(os.listdir(mine.layout.artifacts(first)))
    for gate in ("checks", "reviewer", "security-reviewer", "tester", "gatekeeper"):
        assert entry_of(mine, first, gate) == ["accept"]


@pytest.mark.parametrize("changed_days_ago", [30, 1])
def test_dependencies_are_updated_at_night_when_they_are_due(mine: Repo, changed_days_ago: int) -> None:
    then = f"{int(time.time() - changed_days_ago * DAY)} +0000"
    past = mine._replace(env={**mine.env, "GIT_COMMITTER_DATE": then, "GIT_AUTHOR_DATE": then})
    commit(past, {"requirements.txt": "one==1.0\n"}, "Pin")
    update = [{"run": 'grep -q "up to date" "$OCTOPOID_PROMPT_FILE"'}, *write("requirements.txt", "one==1.1\n")]
    follow(mine, "nightly-updates", implementer=[update], reviewer=[YES])
    mine.octopoid("run", "--once")
    assert not list(mine.layout.folder(State.INCOMING).iterdir()), "a new schedule makes nothing for the past"
    note = mine.layout.schedule / "updates"
    cron = note.read_text(encoding="utf-8").partition(" ")[2]
    note.write_text(f"{clock.iso(time.time() - 2 * DAY)} {cron}", encoding="utf-8")  # the machine was off for two days
    mine.octopoid("run", "--once")
    mine.octopoid("run", "--until-empty")
    task = only(mine, State.DONE)
    assert re.fullmatch(r"updates-\d{8}-0300", task)
    mine.octopoid("run", "--once")
    assert only(mine, State.DONE) == task, "once for all the nights that were missed"
    due = changed_days_ago > 6
    assert landed(mine) == ((task,) if due else ())
    assert ("nothing to do" in mine.octopoid("thread", task).out) == (not due)


def test_a_codemod_changes_many_files_without_a_model(mine: Repo) -> None:
    places = [f"src/{folder}/part{number}.py" for folder in "abcd" for number in range(10)]
    uses = "".join(f"from src.{folder}.part0 import fetch_user as {folder}\n" for folder in "abcd")
    files = dict.fromkeys(places, "def fetch_user() -> str:\n    return 'prefetch_users'\n")
    commit(mine, {**files, "tests/test_users.py": f"{uses}\n\ndef test_it() -> None:\n    assert a() == b()\n"}, "Many")
    follow(mine, "codemod")
    mine.octopoid("run", "--until-empty")
    (task,) = landed(mine)
    assert task.startswith("call-it")
    assert all("def load_user()" in (mine.root / place).read_text(encoding="utf-8") for place in places)
    assert "prefetch_users" in (mine.root / places[0]).read_text(encoding="utf-8"), "whole words"
    assert len(git(mine, "diff", "--name-only", "HEAD^1", "HEAD").splitlines()) == len(places) + 1


def test_a_codemod_in_pieces(mine: Repo) -> None:
    """The loop of the page; a piece that cannot be done is blocked and holds up nobody."""
    files = {f"src/{folder}/one.py": "fetch_user = 1\n" for folder in "abc"}
    commit(mine, {**files, "src/d/one.py": "other = 1\n"}, "Four folders")
    page = (EXAMPLES / "codemod/README.md").read_text(encoding="utf-8")
    follow(mine, "codemod")
    mine.octopoid("cancel", "call-it")
    (loop,) = (one for one in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if one.startswith("for "))
    subprocess.run(["sh", "-ec", loop], cwd=mine.root, env=mine.env, capture_output=True, check=False)
    assert len(landed(mine)) == 3
    assert only(mine, State.BLOCKED).startswith("call-it-load-user-in-src-d")
    assert all((mine.root / name).read_text(encoding="utf-8") == "load_user = 1\n" for name in files)


# --- the pages ---


def test_every_example_is_listed_and_tested() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert sorted(NAMES) == sorted(one.name for one in EXAMPLES.iterdir() if one.is_dir())
    assert all(f"({name}/README.md)" in listed for name in NAMES)


def test_git_keeps_the_examples() -> None:
    """What is below `.octopoid` is ignored in many repositories; here it is the point."""
    files = [str(one.relative_to(PROJECT)) for one in EXAMPLES.rglob("*") if one.is_file() and one.suffix != ".pyc"]
    argv = ["git", "check-ignore", "--no-index", *files]
    done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode in (1, 128), done.stdout  # 128: not in a repository, as in an sdist


@pytest.mark.parametrize("page", ["README.md", *(f"{name}/README.md" for name in NAMES)])
def test_commands_of_the_examples_exist(page: str) -> None:
    text = (EXAMPLES / page).read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", "").splitlines()
    spans = [one for one in re.findall(r"`(octopoid [^`]+)`", text) if "…" not in one]
    said = [one for line in (*blocks, *spans) for one in _simple(line)]
    assert said and not [wrong for one in said if (wrong := _wrong(one))]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/tasks/*.md")), ids=lambda path: path.stem)
def test_sample_tasks_are_valid(path: Path) -> None:
    assert taskfile.parse(path.read_bytes(), path).criteria
