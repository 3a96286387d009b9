"""The scripted agent as a program, in real repositories; the example of its page is what it says it is."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from harness import PROJECT, Repo, eventually, git

from octopoid import scripted_agent
from octopoid.adapters import ADAPTERS, Request
from octopoid.settings import Agent, Role

PAGE = PROJECT / "docs/scripted-agent.md"
ROLE = Role("implementer", "")


def start(
    repo: Repo, script: Path, task: str = "t", role: str = "implementer", attempt: int = 1, **env: str
) -> subprocess.Popen[str]:
    """The agent, as its adapter starts it, in the user's checkout."""
    agent = Agent("implementer", role, "scripted", script=str(script))
    entry = repo.root.parent
    launch = ADAPTERS["scripted"].launch(Request(agent, ROLE, entry, entry / "prompt.md", repo.root))
    variables = {
        "OCTOPOID_TASK_ID": task,
        "OCTOPOID_ROLE": role,
        "OCTOPOID_ATTEMPT": str(attempt),
        "OCTOPOID_RESULT_FILE": str(entry / "result.json"),
        **env,
    }
    return subprocess.Popen(
        launch.argv,
        cwd=repo.root,
        env={**repo.env, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        start_new_session=True,
    )


def run(repo: Repo, script: Path, **given: Any) -> tuple[int, str]:
    """Status and output of one attempt."""
    agent = start(repo, script, **given)
    out, _ = agent.communicate(timeout=30)
    return agent.returncode, out


def steps(repo: Repo, *actions: Any) -> Path:
    """A JSON script that does `actions` for every task and role."""
    return put(repo, {"tasks": {"default": {"default": [list(actions)]}}})


def put(repo: Repo, value: Any) -> Path:
    path = repo.root.parent / "script.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def result(repo: Repo) -> Any:
    return json.loads((repo.root.parent / "result.json").read_text(encoding="utf-8"))


@pytest.fixture
def example(repo: Repo) -> Path:
    """The example of the page, as a file outside the worktree."""
    block = next(one for one in re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.S) if "\ntasks:" in one)
    path = repo.root.parent / "script.yaml"
    path.write_text(block, encoding="utf-8")
    return path


def test_the_example_of_the_page(repo: Repo, example: Path) -> None:
    assert run(repo, example, task="add-greeting-7f3k") == (0, "committed: Add a greeting\n")
    assert (repo.root / "src/greeting.py").read_text() == "def greet():\n    return 'helo'\n"
    assert run(repo, example, task="add-greeting-7f3k", role="gatekeeper") == (0, "")
    assert result(repo) == {"outcome": "reject", "feedback": "It says `helo`."}
    status, out = run(repo, example, task="add-greeting-7f3k", attempt=2)
    assert (status, out.splitlines()[-1]) == (0, "committed: Mend the greeting")
    assert "src/greeting.py | 2 +-" in out
    assert (repo.root / "src/greeting.py").read_text() == "def greet():\n    return 'hello'\n"
    run(repo, example, task="add-greeting-7f3k", role="gatekeeper", attempt=5)
    assert result(repo) == {"outcome": "accept", "summary": "Reads well."}
    assert run(repo, example, task="ask-first") == (0, "")
    assert result(repo) == {"outcome": "question", "questions": ["Which colour?"]}
    assert run(repo, example, task="something-else")[0] == 0
    assert (repo.root / "notes/something-else.md").read_text() == "Worked on by implementer.\n"
    run(repo, example, task="something-else", role="critic")
    assert result(repo) == {"outcome": "accept", "summary": "Fine."}
    subjects = git(repo, "log", "--format=%s").splitlines()
    assert subjects[:3] == ["Note about something-else", "Mend the greeting", "Add a greeting"]


def test_the_page_names_every_action() -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = " ".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`([a-z_]+)", table)) == set(scripted_agent._ACTIONS)


TASKS = {
    "add": {"implementer": [["a"]]},
    "add-login": {"implementer": [["b"], ["c"]], "default": [["d"]]},
    "default": {"implementer": [["e"]], "gatekeeper": [["f"]]},
}


@pytest.mark.parametrize(
    ("task", "role", "attempt", "chosen"),
    [
        ("add", "implementer", "1", "a"),
        ("add-7f3k", "implementer", "9", "a"),
        ("add-login", "implementer", "1", "b"),
        ("add-login-7f3k", "implementer", "2", "c"),
        ("add-login-7f3k", "implementer", "3", "c"),
        ("add-login", "gatekeeper", "1", "d"),
        ("add", "gatekeeper", "1", "f"),
        ("adder", "implementer", "1", "e"),
    ],
)
def test_which_actions(task: str, role: str, attempt: str, chosen: str) -> None:
    env = {"OCTOPOID_TASK_ID": task, "OCTOPOID_ROLE": role, "OCTOPOID_ATTEMPT": attempt}
    assert scripted_agent.choose(TASKS, env) == [chosen]


@pytest.mark.parametrize(
    ("actions", "status", "output"),
    [
        ([{"say": "hello"}, {"exit": 7}, {"say": "never"}], 7, "hello\n"),
        ([{"fail": "no idea"}], 1, "no idea\n"),
        ([{"run": ["sh", "-c", "echo $0 $1", "a b", "$HOME"]}], 0, "a b $HOME\n"),
        ([{"run": "echo $OCTOPOID_TASK_ID"}], 0, "t\n"),
        ([{"run": ["echo", "${OCTOPOID_TASK_ID}"]}], 0, "t\n"),
        ([{"run": "exit 3"}], 1, "run: sh ended with 3\n"),
        ([{"run": ["no-such-program"]}], 1, "run: no-such-program: No such file or directory\n"),
        ([{"commit": "nothing"}], 1, None),
        (
            [{"replace": {"path": "README.md", "old": "zzz", "new": ""}}],
            1,
            "replace: README.md does not contain 'zzz'\n",
        ),
        ([{"replace": {"path": "none", "old": "a", "new": ""}}], 1, "replace: none: No such file or directory\n"),
        ([{"delete": "none"}], 1, "delete: none: No such file or directory\n"),
        ([{"env": ["OCTOPOID_TASK_ID", "NOT_THERE"]}], 0, "OCTOPOID_TASK_ID=t\nNOT_THERE is not set\n"),
        ([{"env": "OCTOPOID_TASK_ID"}], 0, "OCTOPOID_TASK_ID=t\n"),
        ([{"sleep": 0}, "ignore_sigterm", {"say": "$HOME {x} ${HOME}"}], 0, "$HOME {x} ${HOME}\n"),
    ],
)
def test_actions(repo: Repo, actions: Sequence[Any], status: int, output: str | None) -> None:
    ended, out = run(repo, steps(repo, *actions))
    assert ended == status
    assert out == output or output is None


def test_files(repo: Repo) -> None:
    status, out = run(
        repo,
        steps(
            repo,
            {"write": {"path": "a/b/c.txt", "text": "one\r\n"}},
            {"append": {"path": "a/b/c.txt", "text": "two é\n"}},
            {"replace": {"path": "a/b/c.txt", "old": "one", "new": "1"}},
            {"delete": "README.md"},
            {"touch": str(repo.root.parent / "here")},
            {"wait_for": str(repo.root.parent / "here")},
        ),
    )
    assert (status, out) == (0, "")
    assert (repo.root / "a/b/c.txt").read_bytes() == "1\r\ntwo é\n".encode()
    assert git(repo, "status", "--porcelain") == " D README.md\n?? a/"


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", ".git/config", "."])
def test_a_write_stays_in_the_worktree(repo: Repo, path: str) -> None:
    status, out = run(repo, steps(repo, {"write": {"path": path, "text": ""}}))
    assert status == scripted_agent.BROKEN
    assert "inside the worktree" in out


def test_results(repo: Repo) -> None:
    run(repo, steps(repo, {"result": {"outcome": "done", "summary": "of ${OCTOPOID_TASK_ID}"}}))
    assert result(repo) == {"outcome": "done", "summary": "of t"}
    run(repo, steps(repo, {"result": "not json"}))
    assert (repo.root.parent / "result.json").read_text() == "not json"


def test_spew_writes_that_much(repo: Repo) -> None:
    status, out = run(repo, steps(repo, {"spew": 200_001}))
    assert (status, len(out)) == (0, 200_001)


def test_crash_hang_and_deafness(repo: Repo) -> None:
    assert run(repo, steps(repo, "crash"))[0] == -signal.SIGKILL
    agent = start(repo, steps(repo, "ignore_sigterm", {"say": "deaf"}, "hang"))
    assert agent.stdout is not None and agent.stdout.readline() == "deaf\n"
    agent.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        agent.wait(0.2)
    agent.kill()
    assert agent.wait(10) == -signal.SIGKILL
    agent.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_orphan_lives_in_a_session_of_its_own(repo: Repo) -> None:
    agent = start(repo, steps(repo, "spawn_orphan"))
    assert agent.stdout is not None
    pid = int(agent.stdout.readline().removeprefix("orphan "))
    try:
        assert agent.wait(10) == 0
        assert os.getsid(pid) not in (agent.pid, os.getsid(0))
    finally:
        os.kill(pid, signal.SIGKILL)
        agent.stdout.close()
    eventually(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text())


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            {"tasks": {"default": {"default": [["wirte"]]}}},
            "tasks.default.default[0][0]: unknown action `wirte` (did you",
        ),
        (
            {"tasks": {"x": {"y": [[], [{"comit": "x"}]]}}},
            "tasks.x.y[1][0]: unknown action `comit` (did you mean `commit`",
        ),
        ({"task": {}}, "unknown key `task` in the script (did you mean `tasks`?)"),
        ({"tasks": {}}, "tasks must be a mapping with something in it"),
        ({"tasks": {"x": {"y": [{"say": "x"}]}}}, "tasks.x.y must be a list of attempts, each a list of actions"),
        ({"tasks": {"x": {"y": [[{"say": "x", "exit": 1}]]}}}, "tasks.x.y[0][0] must be one action"),
        ({"tasks": {"x": {"y": [[{"say": 3}]]}}}, "`say` takes text"),
        ({"tasks": {"x": {"y": [[{"exit": 2}]]}}}, "`exit` takes a status from 0 to 255 (but 2"),
        ({"tasks": {"x": {"y": [[{"sleep": -1}]]}}}, "`sleep` takes a number from 0"),
        ({"tasks": {"x": {"y": [[{"hang": 3}]]}}}, "`hang` takes no value"),
        ({"tasks": {"x": {"y": [[{"write": {"path": "a"}}]]}}}, "tasks.x.y[0][0].write: `text` must be given, as text"),
        (
            {"tasks": {"x": {"y": [[{"write": {"pat": "a"}}]]}}},
            "unknown key `pat` in tasks.x.y[0][0].write (did you mean",
        ),
        ({"tasks": {"x": {"y": [["crash"]]}}}, "nothing to do for task t, role implementer (add `tasks.default.implem"),
        ({"tasks": {"t": {"default": [[{"say": "${OCTOPOID_NO}"}]]}}}, "${OCTOPOID_NO} is not in the environment"),
        ("{", "is not JSON: "),
        ("[]", "the script must be a mapping"),
    ],
)
def test_a_broken_script_says_where(repo: Repo, script: Any, said: str) -> None:
    path = put(repo, script)
    status, out = run(repo, path)
    assert (status, out.count("\n")) == (scripted_agent.BROKEN, 1)
    assert out.startswith(f"scripted agent: {path}: ")
    assert said in out


def test_broken_yaml_and_no_file(repo: Repo) -> None:
    path = repo.root.parent / "script.yaml"
    path.write_text("tasks:\n  a: {}\n  a: {}\n", encoding="utf-8")
    assert "line 3: duplicate key `a` (first on line 2)" in run(repo, path)[1]
    status, out = run(repo, repo.root.parent / "none.json")
    assert (status, "No such file" in out) == (scripted_agent.BROKEN, True)


def test_started_by_hand_it_says_what_it_needs(repo: Repo) -> None:
    path = steps(repo, {"say": "x"})
    assert "OCTOPOID_TASK_ID must be set" in run(repo, path, task="")[1]
    argv = [sys.executable, "-m", "octopoid.scripted_agent"]
    done = subprocess.run(argv, cwd=repo.root, env=repo.env, capture_output=True, text=True, check=False)
    assert (done.returncode, "expected one argument" in done.stderr) == (scripted_agent.BROKEN, True)
    env = {**repo.env, "OCTOPOID_TASK_ID": "t"}
    done = subprocess.run([*argv, str(path)], cwd=repo.root, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "x\n")


def test_a_json_script_loads_nothing_slow() -> None:
    code = f"import sys; sys.path.insert(0, {str(PROJECT)!r}); import octopoid.scripted_agent; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"typing", "subprocess", "pathlib", "yaml", "difflib", "dataclasses"}


def test_the_worktree_cannot_change_what_the_agent_imports(repo: Repo) -> None:
    (repo.root / "json.py").write_text("raise SystemExit('hijacked')\n", encoding="utf-8")
    assert run(repo, steps(repo, {"say": "fine"})) == (0, "fine\n")
