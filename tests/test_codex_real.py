"""The real Codex, started and read by its adapter, against a scripted model server on loopback; then the whole loop."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from harness import MARKS, PROJECT, Repo, drop, eventually, git, landed, marked, state_of, told, write_config
from modelserver import ModelServer, Step, error, hang, text, tool
from modelserver import drop as cut
from openaiserver import OpenAIServer
from test_claude_real import claude  # noqa: F401 - the fixture that installs it

from octopoid import jsontext
from octopoid.adapters import ADAPTERS, Evidence, Reading, Request
from octopoid.adapters.codex import _SCHEMAS
from octopoid.model import Choice, Finding, Outcome, Result, Subtask, Usage
from octopoid.results import parse_mapping
from octopoid.settings import Agent, Role
from octopoid.states import State

IMPLEMENTER = Role("implementer", "")
GATEKEEPER = Role("gatekeeper", "", produces="verdict", writes=False)
TESTER = GATEKEEPER._replace(name="tester", tools=("Bash", "Read"))
PLANNER = Role("planner", "", produces="document", writes=False, tools=("Bash", "Read"))
BREAKDOWN = Role("breakdown", "", produces="tasks", writes=False)
KEY = {"FAKE_KEY": "dummy"}
YOLO = "--dangerously-bypass-approvals-and-sandbox"
SOON = 30.0
"""Seconds in which a run has to end that cannot get anywhere."""


def provider(base: str, retries: int = 0) -> tuple[str, ...]:
    """What a user writes into `args:` for a model of their own."""
    fields = f'name="fake",base_url="{base}",env_key="FAKE_KEY",wire_api="responses"'
    fields += f",request_max_retries={retries},stream_max_retries={retries}"
    return ("-c", "model_provider=fake", "-c", "model=gpt-5.5-codex", "-c", f"model_providers.fake={{{fields}}}")


@pytest.fixture(scope="session")
def codex(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The binary that scripts/install-agents installs; one worker installs, the others wait for it."""
    with (tmp_path_factory.getbasetemp().parent / "install-agents.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        argv = [PROJECT / "scripts/install-agents", "codex"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


class Ran(NamedTuple):
    """One run: how it was read, the server's calls, how long it took, what it printed."""

    reading: Reading
    server: OpenAIServer
    seconds: float
    log: str

    @property
    def told(self) -> str:
        """What the model was told by its tools."""
        bodies = [call.body["input"] for call in self.server.of("script")]
        return "\n".join(str(item["output"]) for item in bodies[-1] if str(item.get("type")).endswith("_output"))


@pytest.fixture
def worktree(repo: Repo) -> Path:
    """A linked worktree with a detached HEAD that was moved since, as octopoid reuses them."""
    path = repo.layout.home / "worktrees/t"
    git(repo, "worktree", "add", "-q", "--detach", path.with_name("an-older-task"))
    git(repo, "worktree", "move", path.with_name("an-older-task"), path)
    return path


@pytest.fixture
def run(codex: Path, repo: Repo, worktree: Path) -> Any:
    """Run Codex as its adapter starts it: `run(steps, role=…, env=…, prompt=…, session=…, **agent)` → Ran."""

    def go(
        steps: Sequence[Step],
        role: Role = IMPLEMENTER,
        env: Mapping[str, str] = KEY,
        prompt: str = "Do what the script says.",
        session: str = "",
        entry: Path = repo.layout.entry("t", 1),
        args: tuple[str, ...] = (),
        fake: tuple[str, ...] | None = None,
        ended_by: str = "exit",
        stop: Path | None = None,
        **given: Any,
    ) -> Ran:
        (entry / "artifacts").mkdir(parents=True, exist_ok=True)
        entry.with_name("scratch").mkdir(exist_ok=True)
        prompt_file, log_file = entry / "prompt.md", entry / "output.log"
        prompt_file.write_text(f"{prompt}\n[[script]]\n", encoding="utf-8")
        began = time.monotonic()
        with OpenAIServer({"script": steps}) as server, log_file.open("wb") as log, prompt_file.open("rb") as stdin:
            args = (*(provider(server.base) if fake is None else fake), *args)
            agent = Agent("worker", role.name, "codex", **{"command": (str(codex),), "args": args, **given})
            launch = ADAPTERS["codex"].launch(Request(agent, role, entry, prompt_file, repo.root, session))
            assert launch.stdin == str(prompt_file)
            mine = {"OCTOPOID_ATTEMPT_DIR": str(entry), "OCTOPOID_ARTIFACTS": str(entry / "artifacts")}
            # as `octopoid run` gives it one: below a home in $TMPDIR Codex makes no helper for a bwrap on PATH (0.169)
            mine["TMPDIR"] = str(entry.with_name("scratch"))
            process = subprocess.Popen(
                launch.argv,
                cwd=worktree,
                env={**repo.env, **mine, "OCTOPOID_RESULT_FILE": str(entry / "result.json"), **env},
                stdin=stdin,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            if stop is not None:
                eventually(stop.exists, 20, "Codex did not begin")
                os.killpg(process.pid, signal.SIGTERM)
            status = process.wait(60)
        seconds = time.monotonic() - began
        known = (status, None) if status >= 0 else (None, -status)
        evidence = Evidence(*known, ended_by, log_file, 0, log_file.stat().st_size)
        return Ran(ADAPTERS["codex"].read(agent, evidence), server, seconds, log_file.read_text("utf-8"))

    return go


def bash(command: str, **more: Any) -> Step:
    return tool("exec_command", cmd=command, **more)


def edit(path: str, line: str) -> Step:
    return tool("apply_patch", patch=f"*** Begin Patch\n*** Add File: {path}\n+{line}\n*** End Patch\n")


def say(**word: Any) -> Step:
    return text(json.dumps(word))


def shown(log: str) -> str:
    """The log as `octopoid log` shows it."""
    lines = ((line, told("codex", line.encode())) for line in log.splitlines())
    return "\n".join(line if said is None else said for line, said in lines if said != "")


def test_it_edits_and_commits_and_the_users_branches_stay(run: Any, repo: Repo, worktree: Path) -> None:
    """With a prompt that no argv could carry (E2BIG from 128 KiB on: LESSONS 6)."""
    git(repo, "branch", "mine")
    ran = run(
        [
            edit("hello.py", "print('hello')"),
            bash("git add -A && git commit -q -m 'Say hello' && git log --oneline | wc -l"),
            bash("git branch -D mine; git update-ref refs/heads/main HEAD; git config user.name Eve"),
            bash(
                "all=$(git rev-parse --git-common-dir); touch $all/hooks/pre-commit /tmp/by-codex; mktemp; ls -A $all"
            ),
            text("I wrote hello.py.", usage=(7, 3)),
        ],
        prompt="Background: " + "lorem ipsum " * 25_600,
    )
    assert (ran.reading.class_, ran.reading.detail) == ("ok", "")
    assert ran.reading.result == Result(summary="I wrote hello.py.")
    assert ran.reading.usage == Usage(47, 23, None, 0), "money it does not tell"
    assert len(ran.reading.session) == 36
    assert git(repo, "log", "-1", "--format=%an %s", at=worktree) == "Ada Tester Say hello"
    assert git(repo, "status", "--porcelain", "--ignored", at=worktree) == ""
    assert git(repo, "log", "--format=%s", "main") == git(repo, "log", "--format=%s", "mine") == "First commit"
    assert git(repo, "config", "user.name") == "Ada Tester"
    assert not (repo.root / ".git/hooks/pre-commit").exists()
    assert ran.told.count("Read-only file system") >= 4
    assert f"{repo.layout.entry('t', 1)}/tmp/tmp." in ran.told, "a place for temporary files of its own"
    assert ".codex" not in ran.told, "nor does codex put its empty folders anywhere but into the worktree"
    log = shown(ran.log)
    assert f"codex, session {ran.reading.session}" in log and f"> edit: add {worktree}/hello.py" in log
    assert "> shell: git add -A && git commit -q -m 'Say hello'" in log and "\n  2\n" in log
    assert log.endswith("I wrote hello.py.\n= 47 tokens in, 23 out")


def test_it_can_rebase_and_pick_in_its_sandbox(run: Any, repo: Repo, worktree: Path) -> None:
    """Both delete refs, and git locks `packed-refs` of the whole repository for that."""
    (repo.root / "a").write_text("theirs\n")
    git(repo, "add", "a")
    git(repo, "commit", "-q", "-m", "Theirs")
    ran = run(
        [
            bash("echo ours > a && git add a && git commit -q -m Ours && git rebase main; git status"),
            bash("echo both > a && git add a && GIT_EDITOR=true git rebase --continue"),
            bash(
                "echo 1 > b; git add b; git commit -q -m B && git reset -q --hard HEAD~1 && git cherry-pick ORIG_HEAD"
            ),
            text("Rebased."),
        ]
    )
    assert ran.reading.class_ == "ok"
    assert "rebase in progress" in ran.told and "Unable to create" not in ran.told
    assert git(repo, "log", "--format=%s", at=worktree).splitlines() == ["B", "Ours", "Theirs", "First commit"]
    assert "Not currently on any branch.\nnothing to commit" in git(repo, "status", at=worktree)


def test_a_question_by_result_file_and_its_answer_in_the_same_session(run: Any, repo: Repo) -> None:
    """What the session cost before is not paid for twice: codex adds it all up."""
    word = json.dumps({"outcome": "question", "questions": ["Which colour?"]})
    first = run([bash(f"echo '{word}' > $OCTOPOID_RESULT_FILE"), text("I have to ask: which colour?")], prompt="Paint.")
    entry = repo.layout.entry("t", 1)
    assert json.loads((entry / "result.json").read_text())["questions"] == ["Which colour?"]
    assert first.reading.usage == Usage(20, 10, None, 0)
    outcome = Outcome("attempt", "task", False, "question", "", 1.0, usage=first.reading.usage)
    (entry / "outcome.json").write_bytes(jsontext.dump(outcome._replace(session=first.reading.session)))
    next_entry = repo.layout.entry("t", 2)
    again = run([text("Red it is.")], prompt="Red.", session=first.reading.session, entry=next_entry)
    assert (again.reading.class_, again.reading.session) == ("ok", first.reading.session)
    heard = json.dumps(again.server.of("script")[0].body["input"])
    assert heard.index("Paint.") < heard.index("which colour?") < heard.index("Red.")
    assert again.reading.usage == Usage(10, 5, None, 0)


def test_a_lost_session_is_ours(run: Any) -> None:
    lost = run([text("never asked")], session="01a1fee1-3e53-7823-ab50-df1afda119a6")
    assert (lost.reading.class_, lost.reading.reason, lost.reading.session) == ("ours", "session lost", "")
    assert lost.server.calls == []


def trust(repo: Repo, worktree: Path, place: Path) -> None:
    """The user trusts this repository, and its candidate makes use of that."""
    home = Path(repo.env["HOME"]) / ".codex"
    home.mkdir()
    trusted = "".join(f'[projects."{one}"]\ntrust_level="trusted"\n' for one in (repo.root, worktree))
    (home / "config.toml").write_text(f'sandbox_mode = "danger-full-access"\n{trusted}')
    (worktree / ".codex").mkdir()
    server = f'[mcp_servers.evil]\ncommand = "touch"\nargs = ["{place}"]\n'
    (worktree / ".codex/config.toml").write_text(f'sandbox_mode = "danger-full-access"\n{server}')
    git(repo, "add", "-A", at=worktree)
    git(repo, "commit", "-q", "-m", "Settings", at=worktree)


def test_a_reviewer_cannot_write_and_gives_its_verdict(run: Any, repo: Repo, worktree: Path, tmp_path: Path) -> None:
    """Also not if the user's own settings allow it, `args` free others, and the candidate brings a program along."""
    trust(repo, worktree, tmp_path / "evil")
    finding = {"file": "a", "line": 1, "severity": None, "message": "wrong"}
    ran = run(
        [
            edit("by-patch", "1"),
            bash(f"touch {worktree}/by-touch /tmp/by-codex {repo.root}/by-touch $OCTOPOID_ARTIFACTS/x"),
            bash("touch by-escalation", sandbox_permissions="require_escalated", justification="please"),
            bash("git commit -q --allow-empty -m x; git log -1 --format=%s; cat README.md"),
            say(outcome="reject", summary="Looked.", feedback="Take it out.", findings=[finding]),
        ],
        role=GATEKEEPER,
        args=(YOLO,),
    )
    assert ran.reading.class_ == "ok"
    assert ran.reading.result == Result("reject", "Looked.", "Take it out.", findings=(Finding("a", 1, "", "wrong"),))
    assert ran.reading.detail == "tool calls were denied: edit (1), command (1)"
    assert ran.told.count("Read-only file system") >= 5
    assert "Settings" in ran.told and "# A project" in ran.told
    assert git(repo, "status", "--porcelain", "--ignored", at=worktree) == ""
    assert git(repo, "log", "-1", "--format=%s", at=worktree) == "Settings"
    assert not (tmp_path / "evil").exists()
    asked = ran.server.of("script")[0].body["text"]["format"]
    assert asked["strict"] and asked["schema"]["properties"]["outcome"]["enum"] == ["accept", "reject"]
    assert list((Path(repo.env["HOME"]) / ".codex/sessions").rglob("*.jsonl")) == [], "its session is nobody's"


def test_a_document_role_writes_its_document_and_nothing_else(
    run: Any, repo: Repo, worktree: Path, tmp_path: Path
) -> None:
    trust(repo, worktree, tmp_path / "evil")
    entry = repo.root.parent / "an (odd) 'place'" / "001"
    choice = {"problem": "Where?", "chosen": "here", "variants": ["here", "there"], "why": None}
    ran = run(
        [
            bash('echo Plan > "$OCTOPOID_ARTIFACTS/plan.md" && git log -1 --format=%s'),
            bash("touch by-touch; touch $OCTOPOID_ATTEMPT_DIR/x; git commit --allow-empty -m x"),
            say(outcome="done", summary="A plan.", questions=None, decisions=[choice], discovered=[]),
        ],
        role=PLANNER,
        entry=entry,
    )
    assert (entry / "artifacts/plan.md").read_text(encoding="utf-8") == "Plan\n"
    assert sorted(path.name for path in (entry / "artifacts").iterdir()) == ["plan.md"]
    assert git(repo, "status", "--porcelain", "--ignored", at=worktree) == "" and "Settings" in ran.told
    assert not (entry / "x").exists() and not (tmp_path / "evil").exists()
    assert (ran.reading.class_, ran.reading.result) == (
        "ok",
        Result("done", "A plan.", decisions=(Choice("Where?", "here", ("here", "there")),)),
    )


def test_a_tester_runs_and_writes_tests_but_commits_nothing(run: Any, repo: Repo, worktree: Path) -> None:
    command = "printf 'test -s README.md' > test.sh && sh test.sh && echo passed; git add -A; git commit -qm x"
    ran = run([bash(command), say(outcome="accept", summary="1 passed.")], role=TESTER)
    assert ran.reading.result == Result("accept", "1 passed.") and "passed" in ran.told
    assert git(repo, "status", "--porcelain", at=worktree) == "?? test.sh"
    assert git(repo, "log", "--format=%s", at=worktree) == "First commit"


def test_a_breakdown_gives_tasks_and_a_word_that_is_wrong_is_a_bad_result(run: Any) -> None:
    part = {"key": "a", "title": "One line", "body": None, "priority": "P1", "criteria": ["it works :: true"]}
    ran = run([say(outcome="done", summary="Tasks.", subtasks=[part])], role=BREAKDOWN)
    made = Subtask("a", "One line", priority=1, criteria=("it works :: true",))
    assert ran.reading.result == Result("done", "Tasks.", subtasks=(made,))
    ran = run([say(outcome="done", summary="Tasks.", subtasks=[{"title": "Two\nlines"}])], role=BREAKDOWN)
    assert (ran.reading.class_, ran.reading.reason) == ("task", "bad result")
    ran = run([text("Looks good to me!")], role=GATEKEEPER)
    assert ran.reading.result == Result(summary="Looks good to me!"), "prose is no verdict"


def test_the_network_is_for_who_is_given_it(run: Any) -> None:
    connect = [bash("exec 3<>/dev/tcp/127.0.0.1/9"), text("Done.")]
    assert "not permitted" in run(connect).told
    assert "refused" in run(connect, args=("-c", "permissions.octopoid.network.enabled=true")).told


def test_args_free_who_writes(run: Any, repo: Repo, worktree: Path) -> None:
    ran = run([bash("git branch mine && echo wrote"), text("Done.")], args=(YOLO,))
    assert ran.reading.class_ == "ok" and "wrote" in ran.told
    assert git(repo, "branch", "--list", "mine")


def limited(**more: Any) -> Step:
    return error(429, message=json.dumps({"error": {"type": "usage_limit_reached", "message": "x", **more}}))


FAILURES = {
    "wrong key": ([error(401, message="invalid key")], "environment", "not logged in", "invalid key"),
    "forbidden": ([error(403)], "environment", "not logged in", "403"),
    "rate limit": ([error(429)], "environment", "rate limit", "429"),
    "quota": ([error(429, message='{"error":{"type":"insufficient_quota"}}')], "environment", "no credit", "Quota"),
    "no model": ([error(404, message="no such model")], "environment", "configuration", "no such model"),
    "overload": ([error(500)], "environment", "no answer", "high demand"),
    "unavailable": ([error(503)], "environment", "no answer", "503"),
    "dropped": ([cut()], "environment", "no answer", "stream disconnected"),
    "bad request": ([error(400, message="bad thing")], "task", "refused by the API", "bad thing"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_what_the_api_says(run: Any, case: str) -> None:
    steps, class_, reason, said = FAILURES[case]
    ran = run(steps)
    assert (ran.reading.class_, ran.reading.reason) == (class_, reason), ran.log
    assert said in ran.reading.detail and ran.reading.usage == Usage()
    owner = "agent:worker" if reason == "configuration" else "codex"
    assert ran.reading.breaker == (owner if class_ == "environment" else "")
    assert ran.seconds < SOON and "\n= ended\n! " in shown(ran.log)


@pytest.mark.parametrize("hours", [1, 72])
def test_a_spent_subscription_says_when_it_comes_back(run: Any, hours: int) -> None:
    """LESSONS 22. Today it tells the time, later the day too; both to the minute."""
    ran = run([limited(plan_type="plus", resets_at=int(time.time()) + hours * 3600)])
    assert (ran.reading.class_, ran.reading.reason) == ("environment", "rate limit")
    tomorrow = time.localtime().tm_hour + hours >= 24 and hours < 24
    assert tomorrow or hours * 3600 - 60 < ran.reading.retry_after <= hours * 3600 + 60, ran.reading.detail


def test_no_key_at_all_and_a_flag_it_does_not_know(run: Any, repo: Repo) -> None:
    ran = run([text("never asked")], env={})
    assert (ran.reading.class_, ran.reading.reason) == ("environment", "not logged in")
    assert "FAKE_KEY" in ran.reading.detail and "CODEX_API_KEY" in ran.reading.fix and ran.server.calls == []
    ran = run([], args=("--nonsense",))
    assert (ran.reading.class_, ran.reading.reason) == ("environment", "configuration")
    assert ran.reading.breaker == "agent:worker"
    ran = run([], entry=repo.layout.entry("[t]", 1))
    assert (ran.reading.class_, ran.reading.reason) == ("environment", "configuration"), "its rules are patterns"
    assert "glob path" in ran.reading.detail
    ran = run([], command=("/no/such/codex",))
    assert (ran.reading.class_, ran.reading.reason, ran.reading.breaker) == ("environment", "missing", "agent:worker")


def test_openais_own_address_takes_the_key_of_the_environment(run: Any) -> None:
    with OpenAIServer({"script": [text("Hello.")]}) as server:
        fake = ("-c", f'openai_base_url="{server.base}"')
        ran = run([], fake=fake, env={"CODEX_API_KEY": "sk-dummy"})
        (asked,) = server.of("script")
    assert ran.reading.result == Result(summary="Hello.") and asked.headers["authorization"] == "Bearer sk-dummy"


def test_a_network_that_is_down_does_not_hold_it_for_ever(run: Any) -> None:
    """Without a setting of ours codex 0.169.0 waits on, and says so ever less often."""
    ran = run([], fake=provider("http://127.0.0.1:9/v1", retries=1))
    assert (ran.reading.class_, ran.reading.reason) == ("environment", "no answer")
    assert "Connection failed" in ran.reading.detail and ran.seconds < SOON


def test_an_api_that_comes_back_is_asked_again(run: Any) -> None:
    base = [error(500, times=1), text("here I am")]
    with OpenAIServer({"script": base}) as server:
        ran = run([], fake=provider(server.base, retries=1))
    assert (ran.reading.class_, ran.reading.result) == ("ok", Result(summary="here I am"))


def test_time_that_went_by_without_a_model_is_nobodys_failure(run: Any, tmp_path: Path) -> None:
    """Ended at its time limit while it tried to reach the model: not the task's fault."""
    begun = tmp_path / "begun"
    waits = [bash(f"touch {begun}; sleep 60"), text("never")]
    ran = run(waits, ended_by="timeout", stop=begun, args=(YOLO,))
    assert (ran.reading.class_, ran.reading.reason) == ("task", "timeout")
    log = tmp_path / "output.log"
    line = {"type": "error", "message": "Reconnecting... 2/5 (stream disconnected before completion)"}
    log.write_text(json.dumps(line) + "\n")
    evidence = Evidence(None, 15, "timeout", log, 0, log.stat().st_size)
    reading = ADAPTERS["codex"].read(Agent("worker", "implementer", "codex", timeout=3), evidence)
    assert (reading.class_, reading.reason, reading.breaker) == ("environment", "no answer", "codex")
    assert "time limit of 3 s: Reconnecting... 2/5" in reading.detail


@pytest.mark.parametrize("name", ["TERM", "KILL"])
def test_a_signal_that_nobody_of_us_sent(run: Any, name: str) -> None:
    """In the middle of a tool, which asks for it."""
    ran = run([bash(f"kill -{name} $PPID; sleep 60"), text("never")], args=(YOLO,))
    assert (ran.reading.class_, ran.reading.reason) == ("task", f"killed by SIG{name}")
    assert ran.reading.usage == Usage() and len(ran.reading.session) == 36


def test_the_model_server_speaks_chat_completions_too() -> None:
    """The server itself, for other programs: hurdles first, then turn by turn, streamed and not."""
    script = [error(500, times=1), tool("bash", command="ls"), text("fine", usage=(3, 4))]
    with OpenAIServer({"s": script}) as server:
        history: list[dict[str, Any]] = [{"role": "user", "content": "[[s]]"}]
        tools = [{"type": "function", "function": {"name": "bash"}}]

        def ask(**more: Any) -> bytes:
            body = json.dumps({"model": "m", "tools": tools, "messages": history, **more}).encode()
            asked = urllib.request.Request(f"{server.base}/chat/completions", body, method="POST")  # noqa: S310 - loopback
            with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310 - loopback
                return bytes(answer.read())

        with pytest.raises(urllib.error.HTTPError, match="500"):
            ask()
        message = json.loads(ask())["choices"][0]["message"]
        assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"command": "ls"}
        history += [message, {"role": "tool", "tool_call_id": "x", "content": "README.md"}]
        lines = [line.removeprefix("data: ") for line in ask(stream=True).decode().split("\n") if line]
    first, last, usage = (json.loads(line) for line in lines[:-1])
    assert (first["choices"][0]["delta"]["content"], last["choices"][0]["finish_reason"]) == ("fine", "stop")
    assert usage["usage"]["total_tokens"] == 7 and lines[-1] == "[DONE]"
    assert [call.turn for call in server.of("s")] == [0, 0, 1]


@pytest.mark.parametrize("produces", ["verdict", "document", "tasks"])
def test_the_schemas_are_as_strict_as_the_api_wants_them(produces: str) -> None:
    """Every property required and none besides; what may be left out is null, which a result takes as left out."""
    schema = json.loads((_SCHEMAS / f"{produces}.json").read_text(encoding="utf-8"))

    def objects(one: Any) -> Iterator[dict[str, Any]]:
        if isinstance(one, dict):
            yield from [one] if "properties" in one else []
            for value in one.values():
                yield from objects(value)

    for one in objects(schema):
        assert one["required"] == list(one["properties"]) and one["additionalProperties"] is False
    nothing = {key: None for key, field in schema["properties"].items() if "null" in field["type"]}
    (least, *_) = schema["properties"]["outcome"]["enum"]
    assert parse_mapping({**nothing, "outcome": least, "summary": "s"}) == Result(least, "s")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"type":"turn.started"}', ""),
        ('{"type":"item.started","item":{"type":"web_search","query":"x"}}', ""),
        ('{"type":"item.completed","item":{"type":"web_search","query":"x"}}', "> web search: x"),
        ('{"type":"item.completed","item":{"type":"reasoning","text":"a\\nb"}}', "~ a\n~ b"),
        (
            '{"type":"item.started","item":{"type":"mcp_tool_call","server":"s","tool":"t","arguments":{"a":1}}}',
            '> s.t: {"a": 1}',
        ),
        (
            '{"type":"item.completed","item":{"type":"mcp_tool_call","error":{"message":"no"}}}',
            '! {"message": "no"}',
        ),
        (
            '{"type":"item.updated","item":{"type":"todo_list","items":[{"text":"a","completed":true},{"text":"b"}]}}',
            "* [x] a\n  [ ] b",
        ),
        ('{"type":"item.completed","item":{"type":"command_execution","exit_code":3}}', "! exit status 3"),
        ('{"type":"item.started","item":{"type":"command_execution","command":"it\'s"}}', "> shell: it's"),
        ('{"type":"item.completed","item":{"type":"error","message":"a\\nb"}}', "! a\n  b"),
        (
            '{"type":"error","message":"Reconnecting... 2/5 (stream disconnected (x))"}',
            "! the model did not answer (try 2 of 5: stream disconnected (x))",
        ),
        ('{"type":"error","message":"Reconnecting... 2/5"}', "! the model did not answer (try 2 of 5: no answer)"),
        ('{"type":"error","message":"Reconnecting... soon"}', "! the model did not answer (Reconnecting... soon)"),
        ('{"type":"item.completed","item":{"type":"agent_message","text":"{\\"a\\": 1}"}}', '{\n "a": 1\n}'),
        ('{"type":"turn.completed","usage":{"input_tokens":9,"cached_input_tokens":4,"output_tokens":2}}',
         "= 9 tokens in (4 from the cache), 2 out"),
        ('{"type":"item.completed","item":{"type":"something_new"}}', None),
        ('{"type":"something_new"}', None),
        ("{broken", None),
        ("plain", None),
    ],
)  # fmt: skip
def test_lines_that_the_real_runs_do_not_bring(line: str, text: str | None) -> None:
    assert told("codex", line.encode()) == text


# --- the whole loop ----------------------------------------------------------------------------------------------


class User(NamedTuple):
    """Somebody with a repository, Codex and Claude Code on PATH, and two keys."""

    repo: Repo
    openai: OpenAIServer
    anthropic: ModelServer
    env: dict[str, str]

    def octopoid(self, *args: str, ok: Sequence[int] = (0,)) -> str:
        answer = self.repo.octopoid(*args, ok=ok, env=self.env)
        return answer.out + answer.err

    def policy(self, **policy: Any) -> None:
        worker = {"role": "implementer", "adapter": "codex", "env": ["FAKE_KEY"], "args": provider(self.openai.base)}
        names = ["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "CLAUDE_CODE_MAX_RETRIES"]
        judge = {"role": "gatekeeper", "adapter": "claude", "env": names}
        agents = {"worker": {**worker, **policy.pop("worker", {})}, "judge": judge}
        usual = {"version": 1, "base": "main", "gates": [], "agents": agents}
        write_config(self.repo, json.dumps(usual | policy))

    def show(self, name: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.repo.octopoid("show", name, "--json").json()
        return shown


@pytest.fixture
def user(codex: Path, claude: Path, repo: Repo) -> Iterator[User]:  # noqa: F811 - the fixture
    with OpenAIServer({}) as openai, ModelServer({}) as anthropic:
        path = os.pathsep.join((str(codex.parent), str(claude.parent), repo.env["PATH"]))
        env = {"PATH": path, "FAKE_KEY": "dummy", "ANTHROPIC_API_KEY": "dummy", "ANTHROPIC_BASE_URL": anthropic.url}
        yield User(repo, openai, anthropic, {**env, "CLAUDE_CODE_MAX_RETRIES": "0"})


def test_codex_does_a_task_after_a_question_and_claude_reviews_it(user: User) -> None:
    """Two programs on one task: asked, answered in the same session, refused never, landed."""
    user.policy(gates=["gatekeeper"])
    builtin = (PROJECT / "octopoid/roles/implementer.md").read_text(encoding="utf-8")
    user.repo.layout.roles.mkdir(exist_ok=True)
    (user.repo.layout.roles / "implementer.md").write_text(f"{builtin}\n[[codex-{{{{ attempt }}}}]]\n")
    word = json.dumps({"outcome": "question", "questions": ["British or American?"]})
    user.openai.scripts |= {
        "codex-1": [bash(f"echo '{word}' > $OCTOPOID_RESULT_FILE"), text("I have to ask.")],
        "codex-2": [bash("echo colour > word.txt && git add -A && git commit -qm 'Spell it'"), text("British it is.")],
    }
    look = tool("Bash", command="git log -1 --stat", description="scripted")
    accept = tool("StructuredOutput", outcome="accept", summary="As asked.")
    user.anthropic.scripts["spell"] = [look, accept]
    drop(user.repo, "spell", "# Fix the spelling\n\nAs scripted. [[spell]]\n")
    user.octopoid("run", "--until-empty", ok=(6,))
    assert state_of(user.repo, "spell") is State.BLOCKED and "British or American?" in user.octopoid("status")
    user.octopoid("answer", "spell", "-m", "British, please.")
    user.octopoid("run", "--until-empty")
    assert landed(user.repo) == ("spell",) and git(user.repo, "show", "main:word.txt") == "colour"
    assert git(user.repo, "log", "--no-merges", "-1", "--format=%an %s") == "Ada Tester Spell it"
    assert git(user.repo, "status", "--porcelain") == "?? .octopoid/"
    heard = json.dumps(user.openai.of("codex-2")[0].body["input"])
    assert heard.index("I have to ask.") < heard.index("British, please."), "the same session goes on"
    ends = [json.loads(one.read_bytes()) for one in sorted(user.repo.layout.entries("spell").glob("*/outcome.json"))]
    spent = [one["usage"]["input_tokens"] for one in ends if one["kind"] == "attempt" and one["usage"]]
    assert spent == [20, 20], "the second attempt pays for itself alone"
    assert [one["by"] for one in user.show("spell")["verdicts"] if one["gate"] == "gatekeeper"] == ["judge"]
    log = user.octopoid("log", "spell", "--attempt", "1")
    assert "\nI have to ask.\n= 20 tokens in, 10 out" in log and '{"type"' not in log


def test_a_wrong_key_no_change_and_a_time_limit(user: User) -> None:
    """Back in `incoming` and uncharged; failed for nothing done; ended with all that it had started."""
    user.policy(
        limits={"attempts": 1},
        grace=2,
        worker={"args": [*provider(user.openai.base), YOLO], "timeout": 4, "instances": 3},
    )
    begun = user.repo.root.parent / "begun"
    hanging = f"touch {begun}; setsid sleep 601 & (nohup sleep 602 &) ; sleep 603"
    user.openai.scripts |= {
        "idle": [text("All done, it works great!")],
        "silent": [hang()],
        "busy": [bash(hanging), text("Slept.")],
        "refused": [error(401, message="invalid key")],
    }
    for name in ("idle", "silent", "busy"):
        drop(user.repo, name, f"# Do {name}\n\nAs scripted. [[{name}]]\n")
    user.octopoid("run", "--until-empty", ok=(6,))
    details = {name: user.show(name)["task"] for name in ("idle", "silent", "busy")}
    assert {one["reason"] for one in details.values()} == {"failed"} and begun.exists()
    assert "no changes" in details["idle"]["detail"]
    assert "time limit" in details["silent"]["detail"] and "time limit" in details["busy"]["detail"]
    eventually(lambda: not marked(user.repo.root.parent, MARKS[:2]), 3, "something survived")
    drop(user.repo, "refused", "# Do refused\n\nAs scripted. [[refused]]\n")
    began = time.monotonic()
    user.octopoid("run", "--until-empty", ok=(6,))
    assert time.monotonic() - began < SOON and state_of(user.repo, "refused") is State.INCOMING
    why = user.octopoid("why", "refused")
    assert "breaker" in why and "set the right FAKE_KEY" in why and "octopoid resume --agent worker" in why
