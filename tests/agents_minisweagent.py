"""The real mini-swe-agent, started and read by its adapter, against a scripted model server on loopback.

Not collected by default: `scripts/test-agents`, or `pytest tests/agents_minisweagent.py`.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from chatserver import ChatServer
from harness import MARKS, PROJECT, Repo, eventually, git, marked
from modelserver import Step, drop, error, hang, several, text, tool

from octopoid.adapters import Evidence, Reading, Request
from octopoid.adapters.base import Adapter
from octopoid.adapters.minisweagent import MiniSweAgent
from octopoid.settings import Agent, Role

IMPLEMENTER = Role("implementer", "")
GATEKEEPER = Role("gatekeeper", "", produces="verdict", writes=False)
MODEL = "openai/fake-model"
KEY = {"OPENAI_API_KEY": "dummy"}


class Ran(NamedTuple):
    """One run: how it was read, the server, how long it took, what it printed, the attempt's folder."""

    reading: Reading
    server: ChatServer
    seconds: float
    log: str
    entry: Path


def installed(name: str, base: Path) -> Path:
    """The program that scripts/install-agents installs; one worker installs, the others wait for it."""
    with (base.parent / "install-agents.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        argv = [PROJECT / "scripts/install-agents", name]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def linked(repo: Repo) -> Path:
    """A linked worktree with a detached HEAD."""
    path = repo.layout.home / "worktrees/t"
    git(repo, "worktree", "add", "-q", "--detach", path)
    return path


class Job(NamedTuple):
    """What one run is about. `hold`: end the run with `signals` once this file is there."""

    role: Role = IMPLEMENTER
    env: Mapping[str, str] = KEY
    prompt: str = "Do what the script says."
    ended_by: str = "exit"
    signals: int = signal.SIGTERM
    hold: Path | None = None
    seconds: float = 60.0
    base: str | None = None


def go(adapter: Adapter, repo: Repo, worktree: Path, server: ChatServer, agent: Agent, job: Job) -> Ran:
    """Run the program as octopoid starts it."""
    entry = repo.layout.entry("t", 1)
    (entry / "artifacts").mkdir(parents=True, exist_ok=True)
    (entry / "tmp").mkdir(exist_ok=True)
    prompt, log_file = entry / "prompt.md", entry / "output.log"
    prompt.write_text(f"{job.prompt}\n[[script]]\n", encoding="utf-8")
    began = time.monotonic()
    launch = adapter.launch(Request(agent, job.role, entry, prompt, repo.root))
    assert launch.stdin == str(prompt)
    mine = {
        "OCTOPOID_ATTEMPT_DIR": str(entry),
        "OCTOPOID_ARTIFACTS": str(entry / "artifacts"),
        "OCTOPOID_RESULT_FILE": str(entry / "result.json"),
        "OCTOPOID_BASE_SHA": git(repo, "rev-parse", "main"),
        "TMPDIR": str(entry / "tmp"),
    }
    with log_file.open("wb") as log, prompt.open("rb") as stdin:
        process = subprocess.Popen(
            launch.argv,
            cwd=worktree,
            env={**repo.env, **mine, **dict(launch.env), **job.env},
            stdin=stdin,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        if job.hold is not None:
            eventually(job.hold.exists, job.seconds, "it did not begin")
            os.killpg(process.pid, job.signals)
        status = process.wait(job.seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        status = process.wait(10)
    seconds = time.monotonic() - began
    known = (status, None) if status >= 0 else (None, -status)
    evidence = Evidence(*known, job.ended_by, log_file, 0, log_file.stat().st_size)
    return Ran(adapter.read(agent, evidence), server, seconds, log_file.read_text("utf-8", "replace"), entry)


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program."""
    return installed("mini-swe-agent", tmp_path_factory.getbasetemp())


@pytest.fixture
def worktree(repo: Repo) -> Path:
    """The task's worktree."""
    return linked(repo)


@pytest.fixture
def run(mini: Path, repo: Repo, worktree: Path) -> Any:
    """Run mini as its adapter starts it: `run(steps, Job(…), **agent)` → Ran."""

    def one(steps: Sequence[Step], job: Job = Job(), **given: Any) -> Ran:
        with ChatServer({"script": steps}) as server:
            base = server.base if job.base is None else job.base
            fields = {"command": (str(mini),), "model": MODEL, "base_url": base, "retries": 0, **given}
            agent = Agent("worker", job.role.name, "mini-swe-agent", **fields)
            return go(MiniSweAgent(), repo, worktree, server, agent, job)

    return one


def bash(command: str, **more: Any) -> Step:
    return tool("bash", command=command, **more)


def finish(said: str = "") -> Step:
    return bash(f"echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT; printf %s '{said}'")


def told(ran: Ran) -> str:
    """What a person sees of its log."""
    from octopoid.adapters.events import told as shown

    lines = ran.log.encode().splitlines()
    found = ((line, MiniSweAgent().hear(line)) for line in lines)
    said = (line.decode() if one is None else "\n".join(map(shown, one)) for line, one in found)
    return "\n".join(text for text in said if text)


def test_work_is_committed_and_everything_is_told(run: Any, repo: Repo, worktree: Path) -> None:
    work = several(text("I edit it."), bash("echo 2 >app.py; git add app.py; git commit -qm Work; seq 3"))
    ran = run([work._replace(usage=(1000, 50), cache=(400, 0)), finish()], max_turns=5)
    assert ran.reading.class_ == "ok", ran.log
    assert git(repo, "log", "-1", "--format=%an <%ae> %s", at=worktree) == "Ada Tester <ada@example.org> Work"
    assert git(repo, "status", "--porcelain", at=worktree) == ""
    usage = ran.reading.usage
    assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens) == (1410, 55, 400)
    assert usage.usd is None  # nobody knows what this model costs
    assert (ran.reading.model, ran.reading.turns) == (MODEL, 2)
    assert told(ran).splitlines()[:5] == [
        "mini-swe-agent 2.4.6, model openai/fake-model",
        "I edit it.",
        "> bash: echo 2 >app.py; git add app.py; git commit -qm Work; seq 3",
        "  1",
        "  2",
    ]
    assert (ran.entry / "mini/trajectory.json").exists()
    assert not list((repo.root.parent / "home").rglob("last_mini_run*"))


def test_a_known_price_is_told_and_a_budget_ends_the_run(run: Any) -> None:
    steps = [bash("true", usage=(100_000, 10))] * 3
    ran = run(steps, max_usd=0.2, model="openai/gpt-4o")
    assert (ran.reading.class_, ran.reading.reason) == ("task", "budget"), ran.log
    assert ran.reading.usage.usd == pytest.approx(0.25, rel=0.1)
    assert ran.reading.turns == 1


def test_a_budget_needs_a_price(run: Any) -> None:
    ran = run([bash("true"), finish()], max_usd=1.0)
    assert (ran.reading.class_, ran.reading.reason) == ("environment", "configuration"), ran.log
    assert ran.reading.breaker == "agent:worker"
    assert "no known price" in ran.reading.detail


def test_turn_limit(run: Any) -> None:
    ran = run([bash("true")] * 9, max_turns=3)
    assert (ran.reading.class_, ran.reading.reason, ran.reading.turns) == ("task", "turn limit", 3), ran.log
    assert ran.reading.detail == "turn limit: ended after 3 turns"


def test_the_word_is_a_file_or_its_last_output(run: Any, worktree: Path) -> None:
    ran = run([bash("""echo '{"outcome": "accept"}' >"$OCTOPOID_RESULT_FILE" """), finish()], Job(GATEKEEPER))
    assert json.loads((ran.entry / "result.json").read_text())["outcome"] == "accept"
    said = json.dumps({"outcome": "reject", "summary": "no", "feedback": "mend it"})
    ran = run([finish(said)], Job(GATEKEEPER))
    assert ran.reading.result is not None
    assert (ran.reading.result.outcome, ran.reading.result.feedback) == ("reject", "mend it")


def test_nothing_stops_a_reviewer_from_writing(run: Any, repo: Repo, worktree: Path) -> None:
    ran = run([bash("echo x >README.md"), finish()], Job(GATEKEEPER))
    assert ran.reading.class_ == "ok"
    assert git(repo, "status", "--porcelain", at=worktree) == " M README.md"  # octopoid throws it away and reports it


def test_a_model_that_calls_no_tool(run: Any) -> None:
    ran = run([text("done")] * 5)
    assert (ran.reading.class_, ran.reading.reason, ran.reading.turns) == ("task", "no tool calls", 3), ran.log


FAILURES = {
    "401": (error(401, message="Incorrect API key provided"), "environment", "not logged in"),
    "403": (error(403, message="forbidden"), "environment", "not logged in"),
    "402": (error(402, message="pay first"), "environment", "no credit"),
    "404": (error(404, message="The model `fake` does not exist"), "environment", "configuration"),
    "400": (error(400, message="no such parameter"), "task", "refused by the API"),
    "429": (error(429, message="Rate limit reached", retry_after="37"), "environment", "rate limit"),
    "quota": (
        error(429, message='{"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}'),
        "environment",
        "no credit",
    ),
    "500": (error(500), "environment", "no answer"),
    "503": (error(503), "environment", "no answer"),
    "529": (error(529), "environment", "no answer"),
    "dropped": (drop(), "environment", "no answer"),
    "too long": (
        error(
            400,
            message='{"error": {"message": "This model\'s maximum context length is 10 tokens. However",'
            ' "code": "context_length_exceeded"}}',
        ),
        "task",
        "context window",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_the_model_does_not_answer(run: Any, case: str) -> None:
    step, class_, reason = FAILURES[case]
    ran = run([step])
    assert (ran.reading.class_, ran.reading.reason) == (class_, reason), ran.log
    assert len(ran.server.calls) == 1
    assert ran.seconds < 30
    assert "Traceback" not in told(ran) or len(told(ran)) < 2000
    if case == "429":
        assert ran.reading.retry_after == 37
    if reason == "not logged in":
        assert ran.reading.breaker.startswith("mini-swe-agent@127.0.0.1")


def test_retries_are_told_and_counted(run: Any) -> None:
    ran = run([error(500, times=1), finish()], retries=1)
    assert ran.reading.class_ == "ok", ran.log
    assert "! the model did not answer" in told(ran)
    assert len(ran.server.calls) == 2


def test_nobody_is_there(run: Any) -> None:
    ran = run([], Job(base="http://127.0.0.1:9/v1"))
    assert (ran.reading.class_, ran.reading.reason) == ("environment", "no answer"), ran.log
    assert ran.seconds < 30


def test_no_key(run: Any) -> None:
    ran = run([], Job(env={}))
    assert (ran.reading.class_, ran.reading.reason) == ("environment", "not logged in"), ran.log


def test_no_model(run: Any) -> None:
    ran = run([], model="")
    assert (ran.reading.class_, ran.reading.reason) == ("environment", "configuration"), ran.log


def test_a_model_without_a_provider(run: Any) -> None:
    ran = run([], model="nonsense")
    assert (ran.reading.class_, ran.reading.reason) == ("environment", "configuration"), ran.log


def test_hang_and_our_timeout(run: Any) -> None:
    ran = run([hang()], Job(seconds=12, ended_by="timeout"))
    assert (ran.reading.class_, ran.reading.reason) == ("task", "timeout"), ran.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ended_from_outside_in_a_tool(run: Any, repo: Repo, worktree: Path, number: int) -> None:
    begun = worktree / "begun"
    ran = run([bash("touch begun; sleep 300", usage=(70, 7)), finish()], Job(hold=begun, signals=number))
    assert ran.reading.class_ == "task"
    assert ran.reading.reason == f"killed by {signal.Signals(number).name}"
    assert ran.reading.usage.input_tokens == 70
    left = marked(repo.root.parent, MARKS)
    assert any("sleep 300" in one for one in left.values())  # a session of its own: octopoid ends it by its mark
    for pid in left:
        os.kill(pid, signal.SIGKILL)


def test_a_long_prompt_arrives_as_it_is(run: Any) -> None:
    prompt = "Grüße \U0001f419 \x07 {{ task }} {% raw %} 'a' \"b\" \\n\u2028\x85: - #\n" + "x" * 300 * 1024
    ran = run([finish()], Job(prompt=prompt))
    assert ran.reading.class_ == "ok", ran.log[-3000:]
    assert prompt in ran.server.calls[0].body["messages"][1]["content"]
    assert len(ran.log) < 10_000


def test_unknown_flag_and_missing_program(run: Any) -> None:
    ran = run([], args=("--nonsense",))
    assert (ran.reading.class_, ran.reading.reason) == ("environment", "configuration"), ran.log
    assert "nonsense" in ran.reading.detail
    ran = run([], command=("/nowhere/mini",))
    assert (ran.reading.class_, ran.reading.reason) == ("environment", "missing"), ran.log


def test_its_commands_see_nothing_of_ours(run: Any) -> None:
    ran = run([bash('echo "path=$PYTHONPATH stdin=$(cat)"'), finish()])
    (_, second) = ran.server.of("script")
    assert "path= stdin=\n" in second.body["messages"][-1]["content"]


def test_a_configuration_in_the_worktree_does_not_count(run: Any, worktree: Path) -> None:
    (worktree / "mini.yaml").write_text("model: {model_kwargs: {api_base: http://127.0.0.1:9}}\n")
    assert run([finish()]).reading.class_ == "ok"
