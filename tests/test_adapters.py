"""How agent programs are started and read. The streams are what Claude Code 2.1.197 and 2.1.328 were seen to print."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from harness import told

from octopoid import schemas
from octopoid.adapters import ADAPTERS, Evidence, Reading, Request
from octopoid.adapters.aiderflags import EVENTS
from octopoid.adapters.base import DETAIL, tail
from octopoid.adapters.claude import RETRIES
from octopoid.model import Finding, Result, Usage
from octopoid.settings import Agent, Role

IMPLEMENTER = Role("implementer", "")
GATEKEEPER = Role("gatekeeper", "", produces="verdict", writes=False)
TESTER = GATEKEEPER._replace(name="tester", tools=("Bash", "Read"))
PLANNER = Role("planner", "", produces="document", writes=False, tools=("Bash", "WebFetch", "Write"))
BREAKDOWN = Role("breakdown", "", produces="tasks", writes=False)
LOST_SESSION = "No conversation found with session ID: d6e3873d-758f-44c6-9c18-4105bd25e1f8"
HOSTILE = "$(touch /tmp/x); `id` --dangerously-skip-permissions"


def agent(adapter: str, **given: Any) -> Agent:
    return Agent("worker", "implementer", adapter, **{"timeout": 60.0, "silence": 30.0, **given})


def evidence(
    folder: Path, log: bytes | str = b"", status: int | None = 0, ended_by: str = "exit", signal: int | None = None
) -> Evidence:
    """An output.log in which the agent's part stands between other steps' output."""
    data = log.encode() if isinstance(log, str) else log
    before, after = b"preparing the worktree\n", b"checks: exit status 9\n"
    path = folder / "output.log"
    path.write_bytes(before + data + after)
    return Evidence(status, signal, ended_by, path, len(before), len(before) + len(data))


def launch(one: Agent, role: Role = IMPLEMENTER, root: Path = Path("/root of it"), session: str = "") -> Any:
    entry = root / ".octopoid/attempts/t/001"
    return ADAPTERS[one.adapter].launch(Request(one, role, entry, entry / "prompt.md", root, session))


def read(one: Agent, found: Evidence) -> Reading:
    return ADAPTERS[one.adapter].read(one, found)


# --- the contract, over every adapter ---

EVERY = (
    agent("command", command=("./scripts/codemod.sh", "-v")),
    agent("command", command="codemod --all | tee log"),
    agent("scripted", script="script.yaml"),
    agent("claude"),
    agent("claude", command="nvm exec 20 claude"),
    agent("anthropic"),
    agent("codex"),
    agent("gemini"),
    agent("opencode"),
    agent("mini-swe-agent"),
    agent("aider"),
)


BEGAN = {
    "aider": "Aider v0.86.2\nModel: openai/m with whole edit format\nTokens: 1.2k sent, 34 received.\n",
    "codex": '{"type":"thread.started","thread_id":"s-1"}\n',
    "gemini": '{"type":"init","session_id":"s-1","model":"m"}\n',
    "mini-swe-agent": '{"type": "started", "version": "2.4.6", "model": "m"}\n',
    "opencode": '{"type":"step_start","sessionID":"s-1","part":{}}\n',
}
"""What a program prints first that is read differently where it never came so far."""


def begin(one: Agent, folder: Path) -> bytes:
    """The beginning of its log. Aider says in a file of its own that it has asked its model."""
    if one.adapter == "aider":
        (folder / "aider").mkdir()
        (folder / "aider" / EVENTS).write_text('{"event": "message_send_starting", "properties": {}}\n')
    return BEGAN.get(one.adapter, "").encode()


@pytest.mark.parametrize("one", EVERY, ids=lambda one: f"{one.adapter}-{type(one.command).__name__}")
class TestEvery:
    def test_the_prompt_comes_on_stdin_and_nothing_of_it_in_argv(self, one: Agent) -> None:
        said = launch(one, Role("implementer", HOSTILE, description=HOSTILE))
        assert said.stdin == "/root of it/.octopoid/attempts/t/001/prompt.md"
        assert not any(HOSTILE in word for word in said.argv)
        program, (first, *rest) = ADAPTERS[one.adapter].program(one), said.argv
        named = rf"(?<![\w./-]){re.escape(program)} "
        assert first == program or (first == "sh" and rest[0] == "-c" and re.search(named, rest[1]))

    def test_a_missing_program_is_the_environment(self, one: Agent, tmp_path: Path) -> None:
        reading = read(one, evidence(tmp_path, status=None, ended_by="missing"))
        assert (reading.class_, reading.reason, reading.breaker) == ("environment", "missing", "agent:worker")
        assert "the program of agent worker could not be started" in reading.detail
        assert reading.fix.endswith("mend `command:` of agent worker")

    @pytest.mark.parametrize("status", [None, 0, 143])
    @pytest.mark.parametrize(
        ("ended_by", "class_", "reason", "detail"),
        [
            ("timeout", "task", "timeout", "ended after its time limit of 60 s"),
            ("silence", "task", "silence", "ended after 30 s without output"),
            ("stop", "environment", "stopped", "stopped from outside"),
        ],
    )
    def test_that_we_ended_it_wins(
        self, one: Agent, status: int | None, ended_by: str, class_: str, reason: str, detail: str, tmp_path: Path
    ) -> None:
        reading = read(one, evidence(tmp_path, stream(result()), status=status, ended_by=ended_by, signal=15))
        assert (reading.class_, reading.reason, reading.result, reading.breaker) == (class_, reason, None, "")
        assert reading.detail.startswith(detail)

    def test_killed_from_outside(self, one: Agent, tmp_path: Path) -> None:
        reading = read(one, evidence(tmp_path, "half a l", status=None, signal=9))
        assert reading == Reading("task", "killed by SIGKILL", "half a l")

    def test_a_failure_shows_the_end_of_its_own_output(self, one: Agent, tmp_path: Path) -> None:
        reading = read(
            one, evidence(tmp_path, begin(one, tmp_path) + b"x" * 9000 + b"\n\x1b[31mTraceback\x1b[0m \xff\n", status=3)
        )
        assert (reading.class_, reading.reason) == ("task", "exit status 3")
        assert "Traceback" in reading.detail and "\x1b" not in reading.detail
        assert "preparing" not in reading.detail and "checks" not in reading.detail
        assert len(reading.detail) <= DETAIL + 50

    def test_a_lost_log_is_not_the_end(self, one: Agent, tmp_path: Path) -> None:
        begin(one, tmp_path)
        found = Evidence(1, None, "exit", tmp_path / "none.log", 0, 100)
        assert read(one, found) == Reading("task", "exit status 1")


# --- command, scripted ---


def test_a_list_is_argv_and_a_text_is_the_shells() -> None:
    assert launch(EVERY[0]).argv == ("./scripts/codemod.sh", "-v")
    assert launch(EVERY[1]).argv == ("sh", "-c", "codemod --all | tee log", "sh")
    assert launch(agent("command", command=("a",), args=("b c",))).argv == ("a", "b c")


def test_status_decides(tmp_path: Path) -> None:
    one = EVERY[0]
    assert read(one, evidence(tmp_path, "fine")) == Reading("ok")
    for status in (126, 127):
        reading = read(one, evidence(tmp_path, "sh: 1: codemod: not found\n", status=status))
        assert (reading.class_, reading.reason, reading.breaker) == ("environment", "missing", "agent:worker")
        assert reading.detail.endswith("could not be started: codemod: not found")


def test_a_script_is_a_path_from_the_root(tmp_path: Path) -> None:
    assert launch(EVERY[2]).argv[-1] == "/root of it/script.yaml"
    assert "-S" in launch(agent("scripted", script="/abs/a.json")).argv
    assert launch(agent("scripted", script="/abs/a.json")).argv[-1] == "/abs/a.json"
    reading = read(EVERY[2], evidence(tmp_path, "scripted agent: script.yaml: unknown action `x`\n", status=2))
    assert (reading.class_, reading.reason, reading.breaker) == ("environment", "broken script", "agent:worker")
    assert reading.fix == "mend the script of agent worker"
    assert read(EVERY[2], evidence(tmp_path, "said", status=0)) == Reading("ok")


def test_the_tail_keeps_whole_lines(tmp_path: Path) -> None:
    lines = "".join(f"line {i:04d}\n" for i in range(1000))
    said = tail(evidence(tmp_path, lines), 100)
    assert said.splitlines()[0] in lines.splitlines()
    assert said.endswith("line 0999") and len(said) <= 100
    assert tail(evidence(tmp_path, "é" * 500), 100) == "é" * 100


# --- claude: starting ---


def flags(argv: tuple[str, ...]) -> dict[str, str]:
    return {
        word: after if not after.startswith("--") else ""
        for word, after in zip(argv, (*argv[1:], "--"), strict=True)
        if word.startswith("-")
    }


def test_claude_works_headless_for_root_too() -> None:
    said = launch(agent("claude"))
    assert said.argv[:5] == ("claude", "-p", "--output-format", "stream-json", "--verbose")
    given = flags(said.argv)
    assert given["--permission-mode"] == "acceptEdits"
    assert {"Bash", "Edit", "Write"} <= set(given["--allowedTools"].split(","))
    assert not {"--model", "--max-turns", "--json-schema", "--tools"} & set(given)
    assert dict(said.env)["CLAUDE_CODE_MAX_RETRIES"] == str(RETRIES)
    assert dict(said.env)["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] == "1"


def test_claude_takes_what_the_policy_says() -> None:
    tools = ("Bash(npm test:*)", "Read", "Edit", "mcp__db__query")
    role = IMPLEMENTER._replace(tools=tools, model="haiku", max_turns=9)
    given = flags(launch(agent("claude", max_turns=7), role).argv)
    assert (given["--model"], given["--max-turns"]) == ("haiku", "7")
    assert flags(launch(agent("claude"), role).argv)["--max-turns"] == "9"
    assert given["--allowedTools"] == "Bash(npm test:*),Read,Edit,mcp__db__query"
    assert given["--tools"] == "Bash,Read,Edit"
    said = launch(agent("claude", model="opus", args=("--effort", "high"), env=("CLAUDE_CODE_MAX_RETRIES",)), role)
    assert flags(said.argv)["--model"] == "opus"
    assert said.argv[-2:] == ("--effort", "high")
    assert "CLAUDE_CODE_MAX_RETRIES" not in dict(said.env)


def test_another_way_to_start_claude() -> None:
    assert launch(agent("claude", command=("/opt/claude", "--x"))).argv[:3] == ("/opt/claude", "--x", "-p")
    assert launch(EVERY[4]).argv[:5] == ("sh", "-c", 'nvm exec 20 claude "$@"', "claude", "-p")


def test_a_reviewer_only_looks() -> None:
    given = flags(launch(agent("claude"), GATEKEEPER).argv)
    assert given["--tools"] == "Read,Glob,Grep,Bash"
    assert "Write" not in given["--allowedTools"] and "Bash," not in given["--allowedTools"] + ","
    assert {"Write", "Edit"} <= set(given["--disallowedTools"].split(","))
    assert (given["--permission-mode"], given["--setting-sources"]) == ("default", "user")
    assert json.loads(given["--json-schema"])["properties"]["outcome"] == {"enum": ["accept", "reject"]}
    writing = flags(launch(agent("claude"), GATEKEEPER._replace(tools=("Read", "Write"))).argv)
    assert "Write" in writing["--disallowedTools"].split(",")


def rules(role: Role, flag: str, root: str = "/r") -> set[str]:
    """The rules behind `flag`, which are separated by commas (and by blanks outside of brackets)."""
    return set(flags(launch(agent("claude"), role, Path(root)).argv).get(flag, "").split(","))


def test_a_document_is_written_where_it_belongs_and_nowhere_else() -> None:
    place = "(//r/.octopoid/attempts/t/001/artifacts/**)"
    assert rules(PLANNER, "--allowedTools") == {"Bash", "WebFetch", f"Edit{place}", f"Read{place}"}
    assert rules(PLANNER, "--tools") == {"Bash", "WebFetch", "Read", "Edit", "Write"}
    assert {"Edit(./**)", "NotebookEdit"} <= rules(PLANNER, "--disallowedTools")
    assert not {"Edit", "Write"} & rules(PLANNER, "--disallowedTools")
    (awkward,) = (one for one in rules(PLANNER, "--allowedTools", "/my (own) [x]*") if one.startswith("Edit"))
    assert awkward == "Edit(//my ?own? ?x??/.octopoid/attempts/t/001/artifacts/**)", "`) ` would end the rule"


def test_a_tester_runs_what_it_likes_in_a_checkout_that_is_thrown_away() -> None:
    assert rules(TESTER, "--allowedTools") == rules(TESTER, "--tools") == {"Bash", "Read"}
    assert not [one for one in rules(TESTER, "--disallowedTools") if "(" in one]


@pytest.mark.parametrize("role", [GATEKEEPER, TESTER, PLANNER, BREAKDOWN], ids=lambda role: role.name)
def test_who_does_not_write_is_not_bent_by_the_work_or_its_own_tools(role: Role) -> None:
    given = flags(launch(agent("claude"), role).argv)
    assert (given["--setting-sources"], given["--permission-mode"]) == ("user", "default")
    assert "--strict-mcp-config" in given
    wishes = role._replace(tools=("Read", "Edit(src/**)", "Write", "NotebookEdit", "EnterWorktree"))
    assert not {"Edit(src/**)", "Write", "NotebookEdit", "EnterWorktree"} & rules(wishes, "--allowedTools")
    assert {"NotebookEdit", "EnterWorktree"} <= rules(wishes, "--disallowedTools")
    assert not {"NotebookEdit", "EnterWorktree"} & rules(wishes, "--tools")
    assert ("Write" in rules(wishes, "--tools")) is (role is PLANNER)


def test_a_session_goes_on() -> None:
    assert flags(launch(agent("claude"), session="s-1").argv)["--resume"] == "s-1"
    assert "--resume" not in flags(launch(agent("claude")).argv)


def words(role: Role) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(flags(launch(agent("claude"), role).argv)["--json-schema"])
    return said


def test_who_does_not_write_gives_its_word_as_structured_output() -> None:
    document, tasks, verdict = words(PLANNER), words(BREAKDOWN), words(GATEKEEPER)
    common = {"outcome", "summary"}
    assert set(verdict["properties"]) == {*common, "feedback", "findings"}
    assert set(document["properties"]) == {*common, "questions", "handoff_to", "decisions", "discovered"}
    assert set(tasks["properties"]) == {*common, "questions", "subtasks", "decisions", "discovered"}
    assert document["properties"]["outcome"] == {"enum": ["done", "failed", "question", "handoff"]}
    assert tasks["properties"]["outcome"] == {"enum": ["done", "failed", "question"]}
    for schema in (document, tasks, verdict):
        assert schema["required"] == ["outcome", "summary"]
        assert not {"anyOf", "oneOf", "allOf"} & set(schema), "the API refuses such a tool"
        narrower(schema, schemas.of("result"))


def narrower(one: dict[str, Any], other: dict[str, Any]) -> None:
    """`one` asks for nothing that `other`, the contract, does not have."""
    assert set(one.get("enum", ())) <= set(other.get("enum", ()))
    assert one.get("type") == other.get("type")
    assert set(other.get("required", ())) <= set(one.get("required", ()))
    assert one.get("maxItems", 0) <= other.get("maxItems", 50)
    assert one.get("additionalProperties") == other.get("additionalProperties")
    for name, schema in one.get("properties", {}).items():
        narrower(schema, other["properties"][name])
    if "items" in one:
        narrower(one["items"], other["items"])


def test_what_a_subtask_may_say_is_all_in_there() -> None:
    subtask = words(BREAKDOWN)["properties"]["subtasks"]["items"]
    assert set(subtask["properties"]) == set(schemas.of("result")["properties"]["subtasks"]["items"]["properties"])


# --- claude: reading ---

INIT = {"type": "system", "subtype": "init", "cwd": "/w", "session_id": "s-1", "tools": ["Bash"], "model": "m"}
SAID = {"type": "assistant", "message": {"content": [{"type": "text", "text": 'not a "result"'}]}, "session_id": "s-1"}


def result(**given: Any) -> dict[str, Any]:
    """A result line of a good run, with `given` changed."""
    return {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "api_error_status": None,
        "num_turns": 3,
        "result": "all done",
        "session_id": "s-1",
        "total_cost_usd": 0.25,
        "usage": {"input_tokens": 1, "output_tokens": 2},
        "modelUsage": {
            "a": {"inputTokens": 10, "outputTokens": 5, "cacheReadInputTokens": 100, "cacheCreationInputTokens": 7},
            "b": {"inputTokens": 3, "outputTokens": 1, "costUSD": 0.01},
        },
        "permission_denials": [],
        "terminal_reason": "completed",
        **given,
    }


def api_error(status: int | None, text: str, **given: Any) -> dict[str, Any]:
    return result(is_error=True, api_error_status=status, result=text, total_cost_usd=0, modelUsage={}, **given)


def stream(*lines: dict[str, Any] | str) -> str:
    return "".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in (INIT, SAID, *lines))


def retry(attempt: int, status: int) -> dict[str, Any]:
    return {"type": "system", "subtype": "api_retry", "attempt": attempt, "max_retries": 3, "error_status": status}


def test_a_good_run(tmp_path: Path) -> None:
    assert read(agent("claude"), evidence(tmp_path, stream(result()))) == Reading(
        "ok", usage=Usage(120, 6, 0.25, 100), result=Result(summary="all done"), session="s-1", model="b", turns=3
    )


def test_the_last_result_wins_whatever_stands_around_it(tmp_path: Path) -> None:
    last = json.dumps(result(result="second", total_cost_usd=0.5))
    reordered = json.dumps(dict(sorted(json.loads(last).items(), reverse=True)))  # 2.1.328: `type` is not first
    log = stream(result(result="first"), "(node) warning", '["result"]', '{"type": "result"', f"no newline {reordered}")
    reading = read(agent("claude"), evidence(tmp_path, log + "\0\xff\n"))
    assert (reading.class_, reading.usage.usd) == ("ok", 0.5)
    assert reading.result == Result(summary="second")


def test_unknown_is_not_zero(tmp_path: Path) -> None:
    line = {"type": "result", "subtype": "success", "is_error": False, "result": None, "total_cost_usd": "free"}
    reading = read(agent("claude"), evidence(tmp_path, stream(line)))
    assert (reading.class_, reading.usage, reading.session) == ("ok", Usage(None, None, None), "")
    usage = {"input_tokens": 4, "cache_read_input_tokens": 6, "output_tokens": 2}
    assert read(agent("claude"), evidence(tmp_path, stream({**line, "usage": usage}))).usage == Usage(10, 2, None, 6)


def test_denied_tools_are_told_and_the_facts_decide(tmp_path: Path) -> None:
    denials = [{"tool_name": "Write"}, {"tool_name": "Bash"}, {"tool_name": "Write"}, {}]
    reading = read(agent("claude"), evidence(tmp_path, stream(result(permission_denials=denials))))
    assert (reading.class_, reading.detail) == ("ok", "tool calls were denied: Write (2), Bash (1), ? (1)")
    files = [*(f"/w/{name}.md" for name in "aabcdefg"), "/w/new\nline"]
    denials = [{"tool_name": "Edit", "tool_input": {"file_path": one}} for one in files]
    denials += [{"tool_name": "NotebookEdit", "tool_input": {"notebook_path": "/w/x.ipynb"}}]
    denials += [{"tool_name": "Bash", "tool_input": {"command": "touch\nx"}}]
    line = result(permission_denials=denials)
    reading = read(agent("claude"), evidence(tmp_path, stream(line)))
    said = "Edit (9: a.md, b.md, c.md, d.md, e.md, …), NotebookEdit (1: x.ipynb), Bash (1)"
    assert reading.detail == f"tool calls were denied: {said}"
    shown = told("claude", json.dumps(line).encode())
    assert shown is not None
    assert "\n! denied: Edit: /w/g.md\n" in shown and "\n! denied: Bash: touch\n  x\n= 3 turns" in shown


def test_an_error_of_a_tool_is_told_without_its_tags() -> None:
    said = {"type": "tool_result", "is_error": True, "content": "<tool_use_error>No such tool</tool_use_error>"}
    assert told("claude", json.dumps({"type": "user", "message": {"content": [said]}}).encode()) == "! No such tool"


@pytest.mark.parametrize("said", [LOST_SESSION, "Error: --resume requires a valid session ID or session title when …"])
def test_a_lost_session_is_not_the_tasks_fault(said: str, tmp_path: Path) -> None:
    line = result(subtype="error_during_execution", is_error=True, errors=[said], num_turns=0, total_cost_usd=0)
    reading = read(agent("claude"), evidence(tmp_path, f"{said}\n{stream(line)}", status=1))
    assert (reading.class_, reading.reason, reading.detail) == ("ours", "session lost", said)
    assert (reading.session, reading.breaker) == ("", "")


def test_words_about_a_lost_session_are_no_lost_session(tmp_path: Path) -> None:
    line = result(subtype="error_during_execution", is_error=True, errors=["aborted"], result=LOST_SESSION)
    assert read(agent("claude"), evidence(tmp_path, stream(line), status=1)).reason == "interrupted"


def test_a_verdict(tmp_path: Path) -> None:
    verdict = {"outcome": "reject", "summary": "s", "feedback": "f", "findings": [{"message": "m", "line": 2}]}
    reading = read(agent("claude"), evidence(tmp_path, stream(result(structured_output=verdict))))
    assert reading.result == Result("reject", "s", "f", findings=(Finding("", 2, "", "m"),))
    reading = read(agent("claude"), evidence(tmp_path, stream(result(structured_output={"outcome": "yes"}))))
    assert (reading.class_, reading.reason, reading.result) == ("task", "bad result", None)
    assert reading.detail == "structured output: unknown outcome `yes`"


NO_LOGIN, LIMIT, DEAD = "not logged in", "rate limit", "no answer"
LOG_IN = "run `claude` and log in, or name ANTHROPIC_API_KEY in `env:` of agent worker"


@pytest.mark.parametrize(
    ("line", "class_", "reason", "breaker"),
    [
        (api_error(401, "Failed to authenticate. API Error: 401 x"), "environment", NO_LOGIN, "claude"),
        (api_error(403, "API Error: 403"), "environment", NO_LOGIN, "claude"),
        (api_error(None, "Not logged in · Please run /login"), "environment", NO_LOGIN, "claude"),
        (api_error(None, "Invalid API key · Please run /login"), "environment", NO_LOGIN, "claude"),
        (api_error(429, "API Error: Request rejected (429) · x"), "environment", LIMIT, "claude"),
        (api_error(None, "You've hit your session limit · resets 1:31pm (UTC)"), "environment", LIMIT, "claude"),
        (api_error(500, "API Error: 500"), "environment", DEAD, "claude"),
        (api_error(529, "API Error: 529 overloaded"), "environment", DEAD, "claude"),
        (api_error(None, "API Error: Connection error."), "environment", DEAD, "claude"),
        (api_error(400, "Credit balance is too low"), "environment", "no credit", "claude"),
        (api_error(404, "There's an issue with the selected model"), "environment", "configuration", "agent:worker"),
        (api_error(400, "Prompt is too long"), "task", "refused by the API", ""),
        (api_error(413, "Request too large"), "task", "refused by the API", ""),
        (result(subtype="error_max_turns", is_error=True, errors=["turns (2)"]), "task", "turn limit", ""),
        (result(subtype="error_max_budget_usd", is_error=True, errors=["$1"]), "task", "budget", ""),
        (result(subtype="error_during_execution", is_error=True, errors=["x"]), "task", "interrupted", ""),
        (result(subtype="error_max_structured_output_retries", is_error=True), "task", "no result", ""),
        (result(subtype="error_of_tomorrow", is_error=True), "task", "error", ""),
    ],
)
def test_how_claude_fails(line: dict[str, Any], class_: str, reason: str, breaker: str, tmp_path: Path) -> None:
    reading = read(agent("claude"), evidence(tmp_path, stream(line), status=1))
    assert (reading.class_, reading.reason, reading.breaker, reading.result) == (class_, reason, breaker, None)
    assert reading.detail == (line.get("errors") or [line["result"]])[0]
    assert (LOG_IN if reason == NO_LOGIN else "") in reading.fix and bool(reading.fix) == (class_ == "environment")
    assert reading.usage.usd == line["total_cost_usd"]


def test_an_interrupted_run_may_end_with_status_0(tmp_path: Path) -> None:
    """SIGINT while it streams: status 0 (both versions)."""
    line = result(subtype="error_during_execution", is_error=True, errors=["aborted"])
    assert read(agent("claude"), evidence(tmp_path, stream(line))).class_ == "task"
    reading = read(agent("claude"), evidence(tmp_path, stream()))
    assert (reading.class_, reading.reason) == ("task", "no result")
    assert read(agent("claude"), evidence(tmp_path, stream(result()), status=143)).reason == "exit status 143"


def test_retries_and_resets_are_told(tmp_path: Path) -> None:
    log = stream(retry(1, 500), retry(2, 500), retry(3, 500), api_error(500, "API Error: 500"))
    assert read(agent("claude"), evidence(tmp_path, log, status=1)).detail == "API Error: 500 (gave up after 3 retries)"
    info = {"status": "rejected", "resetsAt": 4_000_000_000, "rateLimitType": "five_hour"}
    log = stream({"type": "rate_limit_event", "rate_limit_info": info}, api_error(429, "You've hit your limit"))
    found = evidence(tmp_path, log, status=1)
    os.utime(found.log, (3_999_996_400, 3_999_996_400))
    assert read(agent("claude"), found).retry_after == 3600
    os.utime(found.log, (4_000_000_001, 4_000_000_001))
    assert read(agent("claude"), found).retry_after == 0
    allowed = stream(
        {"type": "rate_limit_event", "rate_limit_info": {**info, "status": "allowed"}}, api_error(429, "x")
    )
    assert read(agent("claude"), evidence(tmp_path, allowed, status=1)).retry_after == 0


def test_a_breaker_is_about_a_credential(tmp_path: Path) -> None:
    one = agent("claude", env=("FOO", "ANTHROPIC_API_KEY"))
    log = stream(api_error(401, "x"))
    reading = read(one, evidence(tmp_path, log, status=1))
    assert (reading.breaker, reading.detail) == ("ANTHROPIC_API_KEY", "x")
    assert reading.fix == "set the right ANTHROPIC_API_KEY where `octopoid run` is started, and start it again"
    reading = read(agent("codex", env=("FOO", "MY_KEY")), evidence(tmp_path, "401 Unauthorized\n", status=1))
    assert reading.breaker == "codex"
    assert reading.fix.startswith(
        "set the right MY_KEY where `octopoid run` is started, or run `codex login`, or name "
    )


@pytest.mark.parametrize(
    ("said", "reason", "breaker"),
    [
        (
            "--dangerously-skip-permissions cannot be used with root/sudo privileges for ...",
            "configuration",
            "agent:worker",
        ),
        ("error: unknown option '--nonsense'", "configuration", "agent:worker"),
        ("Error: When using --print, --output-format=stream-json requires --verbose", "configuration", "agent:worker"),
        ("Invalid API key · Please run /login", NO_LOGIN, "claude"),
    ],
)
def test_without_a_result_stderr_speaks(said: str, reason: str, breaker: str, tmp_path: Path) -> None:
    reading = read(agent("claude"), evidence(tmp_path, f"{said}\n", status=1))
    assert (reading.class_, reading.reason, reading.breaker, reading.detail) == ("environment", reason, breaker, said)
    assert reading.fix == LOG_IN if reason == NO_LOGIN else reading.fix.startswith("mend agent worker in ")


def test_what_the_work_is_about_does_not_classify_it(tmp_path: Path) -> None:
    """A task about a login page is no broken login (LESSONS 37)."""
    tool = {"type": "user", "message": {"content": [{"type": "tool_result", "content": "Please run /login first"}]}}
    assert read(agent("claude"), evidence(tmp_path, stream(tool), status=1)).class_ == "task"
    done = stream(result(result="Invalid API key · Please run /login is now shown on the page"))
    assert read(agent("claude"), evidence(tmp_path, done)).class_ == "ok"


def test_what_it_cost_is_known_even_if_we_ended_it(tmp_path: Path) -> None:
    """2.1.197 answers cheerfully and with status 0 after our SIGTERM: the time limit still wins."""
    reading = read(agent("claude"), evidence(tmp_path, stream(result(result="Slept.")), ended_by="timeout"))
    assert (reading.class_, reading.reason, reading.result) == ("task", "timeout", None)
    assert (reading.usage, reading.session) == (Usage(120, 6, 0.25, 100), "s-1")


def test_a_wrapper_that_does_not_find_claude(tmp_path: Path) -> None:
    reading = read(EVERY[4], evidence(tmp_path, "sh: 1: nvm: not found\n", status=127))
    assert (reading.class_, reading.reason, reading.breaker) == ("environment", "missing", "agent:worker")
