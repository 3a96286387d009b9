"""Reading what Gemini CLI left, and what it is started with. The real program runs in tests/agents_gemini.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from harness import told

from octopoid.adapters import ADAPTERS, Evidence, Reading, Request, geminihome
from octopoid.model import Result, Usage
from octopoid.settings import Agent, Role

GEMINI = ADAPTERS["gemini"]
# Verbatim from 0.61.0, against tests/geminiserver.py; times and paths shortened.
INIT = '{"type":"init","timestamp":"T","session_id":"f01af133-d9fb-4086-8554-a67031a54b06","model":"gemini-2.5-pro"}'
PROMPT = '{"type":"message","timestamp":"T","role":"user","content":"Do it.\\n"}'
USE = (
    '{"type":"tool_use","timestamp":"T","tool_name":"run_shell_command","tool_id":"run_shell_command__run_shell_'
    'command_1795285670620_0","parameters":{"command":"echo hi"}}'
)
DONE = (
    '{"type":"tool_result","timestamp":"T","tool_id":"run_shell_command__run_shell_command_1795285670620_0",'
    '"status":"success","output":"hi"}'
)
DENIED = (
    '{"type":"tool_result","timestamp":"T","tool_id":"write_file__write_file_1795285670620_0","status":"error","output":'
    '"Tool execution denied by policy. This role only looks.","error":{"type":"policy_violation","message":"Tool '
    'execution denied by policy. This role only looks."}}'
)
SAID = '{"type":"message","timestamp":"T","role":"assistant","content":"All ","delta":true}'
MORE = '{"type":"message","timestamp":"T","role":"assistant","content":"done.","delta":true}'
STATS = (
    '"stats":{"total_tokens":32,"input_tokens":17,"output_tokens":8,"cached":5,"input":12,"duration_ms":427,'
    '"tool_calls":1,"models":{"gemini-2.5-pro":{"total_tokens":32,"input_tokens":17,"output_tokens":8,"cached":5,'
    '"input":12}}}}'
)
NOBODY = (
    '"stats":{"total_tokens":0,"input_tokens":0,"output_tokens":0,"cached":0,"input":0,"duration_ms":0,"tool_calls":0,'
    '"models":{"gemini-2.5-pro":{"total_tokens":0,"input_tokens":0,"output_tokens":0,"cached":0,"input":0}}}}'
)
ENDED = f'{{"type":"result","timestamp":"T","status":"success",{STATS}'
RETRY = (
    'Attempt 1 failed with status 500. Retrying with backoff... _ApiError: {"error":{"code":500,"message":"scripted '
    'error","status":"INTERNAL"}}'
)
QUOTA = (
    "Attempt 1 failed: You exceeded your current quota. Please retry in 30s.\n"
    "Suggested retry after 30s.. Retrying after 33291ms..."
)


def failed(message: str) -> str:
    error = json.dumps({"type": "unknown", "message": message})
    return f'{{"type":"result","timestamp":"T","status":"error","error":{error},{NOBODY}'


def read(place: Path, *lines: str, status: int | None = 0, ended_by: str = "exit", **given: Any) -> Reading:
    log = place / "output.log"
    log.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    evidence = Evidence(status, None if status is not None else 9, ended_by, log, 0, log.stat().st_size)
    return GEMINI.read(Agent("worker", "implementer", "gemini", **{"timeout": 3.0, "silence": 2.0, **given}), evidence)


def test_a_good_end_and_tokens_of_thinking(tmp_path: Path) -> None:
    reading = read(tmp_path, "YOLO mode is enabled. All…", INIT, PROMPT, USE, DONE, SAID, MORE, ENDED)
    assert (reading.class_, reading.result) == ("ok", Result(summary="All done."))
    assert reading.usage == Usage(17, 15, None, 5), "the total knows of tokens that no other field has"
    assert (reading.model, reading.session[:8], reading.turns) == ("gemini-2.5-pro", "f01af133", None)


def test_its_word_is_a_json_object_at_the_end_and_nothing_else(tmp_path: Path) -> None:
    def said(text: str) -> Reading:
        message = json.dumps({"type": "message", "role": "assistant", "content": text, "delta": True})
        return read(tmp_path, INIT, SAID, USE, DENIED, message.replace(": ", ":").replace(", ", ","), ENDED)

    accept = said('{"outcome":"accept","summary":"s"}')
    assert accept.result == Result("accept", "s") and accept.detail == "tool calls were denied: write_file (1)"
    assert said('So:\n```json\n{"outcome":"reject"}\n```').result == Result("reject")
    assert said('I would say {"outcome":"accept"} but no').result == Result(
        summary='I would say {"outcome":"accept"} but no'
    )
    wrong = said('{"outcome":"question"}')
    assert (wrong.class_, wrong.reason) == ("task", "bad result")


@pytest.mark.parametrize(
    ("lines", "status", "class_", "reason"),
    [
        ((failed('[API Error: {"error":{"code":401,"message":"bad"}}]'),), 145, "environment", "not logged in"),
        ((failed("[API Error: models/x is not found]"), "  code: 404"), 1, "environment", "configuration"),
        ((failed("[API Error: scripted error]"),), 173, "environment", "rate limit"),
        ((failed("[API Error: scripted error]"),), 247, "environment", "no answer"),
        ((failed("[API Error: Your prepayment credits are depleted.]"),), 173, "environment", "no credit"),
        ((failed("[API Error: fetch failed]"),), 1, "environment", "no answer"),
        ((failed("[API Error: It exceeds the maximum number of tokens]"),), 144, "task", "context window"),
        ((failed("[API Error: bad thing]"),), 144, "task", "refused by the API"),
        ((failed("Reached max session turns"),), 53, "task", "turn limit"),
        ((), 0, "ours", "no result"),
        ((), None, "task", "killed by SIGKILL"),
    ],
)  # fmt: skip
def test_bad_ends(tmp_path: Path, lines: tuple[str, ...], status: int, class_: str, reason: str) -> None:
    """Its exit status is the HTTP status modulo 256."""
    reading = read(tmp_path, INIT, PROMPT, *lines, status=status)
    assert (reading.class_, reading.reason, reading.usage) == (class_, reason, Usage())
    assert "API Error" not in reading.detail and '"code"' not in reading.detail


@pytest.mark.parametrize(
    ("said", "status", "class_", "reason"),
    [
        ("Please set an Auth method in your /h/.gemini/settings.json", 41, "environment", "not logged in"),
        ("Error resuming session: Invalid session identifier", 42, "ours", "session lost"),
        ("Unknown argument: nonsense", 1, "environment", "configuration"),
        ("Error in /h/.gemini/settings.json: Expected property name", 52, "environment", "configuration"),
        ("sh: 1: gemini: not found", 127, "environment", "missing"),
    ],
)
def test_ends_before_the_beginning(tmp_path: Path, said: str, status: int, class_: str, reason: str) -> None:
    reading = read(tmp_path, said, status=status)
    assert (reading.class_, reading.reason, reading.session) == (class_, reason, "")
    assert said.removeprefix("sh: 1: ") in reading.detail


def test_waiting_for_a_model_is_nobodys_failure(tmp_path: Path) -> None:
    ended = {"status": None, "ended_by": "timeout"}
    assert read(tmp_path, INIT, PROMPT, RETRY, "    at x (file:1)", **ended).reason == "no answer"
    waits = read(tmp_path, INIT, PROMPT, QUOTA, status=None, ended_by="silence")
    assert (waits.class_, waits.reason) == ("environment", "rate limit") and "Please retry in 30s" in waits.detail
    assert read(tmp_path, INIT, RETRY, USE, **ended).reason == "timeout"


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("You exceeded your current quota. Please retry in 3600s.\nSuggested retry after 3600s.", 3600),
        ("You have exhausted your capacity on this model. Your quota will reset after 18h31m10s.", 66670),
        ("Please retry in 480.5ms.", 0.4805),
        ("Resource has been exhausted (e.g. check quota).", 0),
    ],
)
def test_when_it_is_worth_trying_again(tmp_path: Path, said: str, seconds: float) -> None:
    reading = read(tmp_path, INIT, failed(f"[API Error: {said}]\nPlease wait and try again later."), status=173)
    assert (reading.reason, reading.retry_after) == ("rate limit", pytest.approx(seconds))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (INIT, "gemini, model gemini-2.5-pro, session f01af133-d9fb-4086-8554-a67031a54b06"),
        (PROMPT, ""),
        (USE, "> run_shell_command: echo hi"),
        (DONE, "  hi"),
        (DENIED, "! denied: write_file"),
        (SAID, "All"),
        (ENDED, "= 0.4 s, 17 tokens in (5 from the cache), 15 out"),
        (failed("[API Error: bad]\nPlease wait."), "= ended\n! bad\n  Please wait."),
        ('{"type":"error","severity":"error","message":"Model stream ended without a finish reason."}',
         "! Model stream ended without a finish reason."),
        (RETRY, '! the model did not answer (_ApiError: {"error":{"code":500,"message":"scripted error",'
                '"status":"INTERNAL"}})'),
        (QUOTA.split("\n")[1], "! the model did not answer (Suggested retry after 30s); tries again in 33.3 s"),
        ("Attempt 2 failed: scripted error. Max attempts reached", None),
        ("    at async main (file:///x.js:1:2)", ""),
        ('{"type":"something_new"}', None),
        ("{broken", None),
        ("plain", None),
    ],
)  # fmt: skip
def test_lines_as_people_read_them(line: str, text: str | None) -> None:
    assert told("gemini", line.encode()) == text


def launch(role: Role, **given: Any) -> Any:
    agent = Agent("worker", role.name, "gemini", **given)
    return GEMINI.launch(
        Request(agent, role, Path("/r/a/t/001"), Path("/r/p.md"), Path("/r"), given.pop("session", ""))
    )


def test_flags_by_role() -> None:
    writes = launch(Role("implementer", "", max_turns=7), model="m", args=("--yolo",), retries=2, base_url="http://x")
    assert writes.argv[3:8] == ("gemini", "--output-format", "stream-json", "--approval-mode", "yolo")
    assert writes.argv[-3:] == ("--model", "m", "--yolo") and "--skip-trust" in writes.argv
    assert '"maxAttempts":3' in writes.argv[2] and '"maxSessionTurns":7' in writes.argv[2]
    assert "--policy" not in writes.argv[2] and "trust" not in str(writes.env).lower()
    assert dict(writes.env)["GOOGLE_GEMINI_BASE_URL"] == "http://x" and "selectedType" not in writes.argv[2]
    looks = launch(Role("gatekeeper", "", produces="verdict", writes=False), args=("--yolo", "--skip-trust", "--debug"))
    assert looks.argv[-1] == "--debug" and "yolo" not in str(looks.argv) and "--skip-trust" not in looks.argv
    assert dict(looks.env)["GEMINI_CLI_TRUST_WORKSPACE"] == "false" and "--policy" in looks.argv[2]
    assert "artifacts" not in looks.argv[2] and "/r/a/t/001/result" in looks.argv[2]
    keyed = launch(Role("implementer", ""), env=("GEMINI_API_KEY",), command="nice gemini")
    assert '"selectedType":"gemini-api-key"' in keyed.argv[2] and '\nnice gemini "$@"\n' in keyed.argv[2]


def test_a_role_that_writes_with_tools_of_its_own_has_no_others() -> None:
    script = launch(Role("docs", "", tools=("Read", "Edit", "Bash(npm test:*)"))).argv[2]
    assert (
        '"read_file", "read_many_files", "list_directory", "replace"' in script
        and 'commandPrefix = ["npm test"]' in script
    )


def test_the_home_of_an_attempt(tmp_path: Path) -> None:
    """The user's, but for the settings: theirs, with ours laid over; comments and all."""
    own, folder = tmp_path / "home/.gemini", tmp_path / "a"
    own.mkdir(parents=True)
    folder.mkdir()
    (own / "oauth_creds.json").write_text("{}")
    (own / ".env").write_text("GEMINI_API_KEY=k\n")
    (own / "settings.json").write_text('{"a": "//no", // yes\n "b": {"c": 1, "d": 2}, /* x */ "f": ["z"]}')
    given = '{"b": {"c": 3, "e?": 4}, "f?": ["y"], "g": {"h": 5}}'
    argv = [sys.executable, "-I", "-S", geminihome.__file__, str(folder), given, "[[rule]]\n"]
    done = subprocess.run(argv, env={"HOME": str(own.parent)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    merged = json.loads((folder / ".gemini/settings.json").read_text())
    assert merged == {"a": "//no", "b": {"c": 3, "d": 2, "e": 4}, "f": ["z"], "g": {"h": 5}}
    assert (folder / geminihome.RULES).read_text() == "[[rule]]\n"
    assert (folder / ".gemini/oauth_creds.json").samefile(own / "oauth_creds.json")
    assert (folder / ".gemini/tmp").samefile(own / "tmp") and (folder / ".env").samefile(own / ".env")
    (own / "settings.json").write_text("[]")
    done = subprocess.run(argv, env={"HOME": str(own.parent)}, capture_output=True, text=True, check=False)
    assert done.returncode == geminihome.BROKEN and str(own / "settings.json") in done.stderr
