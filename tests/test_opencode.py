"""Reading what opencode left, and what it is started with. The real program runs in tests/agents_opencode.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness import eventually, told

from octopoid.adapters import ADAPTERS, Evidence, Launch, Reading, Request
from octopoid.model import Result, Usage
from octopoid.settings import Agent, Role

OPENCODE = ADAPTERS["opencode"]
IN = '"timestamp":1795286246660,"sessionID":"ses_e0099e142ffeTzfhjZi38OXWJ1"'
# Verbatim from 1.18.33, against tests/chatserver.py; ids and paths shortened.
START = (
    f'{{"type":"step_start",{IN},"part":{{"id":"prt_1","messageID":"msg_1","sessionID":"ses_e","type":"step-start"}}}}'
)
USE = (
    f'{{"type":"tool_use",{IN},"part":{{"type":"tool","tool":"bash","callID":"call_386526","state":{{"status":"completed",'
    '"input":{"command":"echo hi","description":"x"},"output":"hi\\n","metadata":{"output":"hi\\n","exit":0,'
    '"truncated":false},"title":"echo hi","time":{"start":1,"end":2}},"id":"prt_2","sessionID":"ses_e",'
    '"messageID":"msg_1"}}'
)
DENIED = (
    f'{{"type":"tool_use",{IN},"part":{{"type":"tool","tool":"write","callID":"call_1","state":{{"status":"error","input":'
    '{"filePath":"/w/by-write","content":"x"},"error":"The user has specified a rule which prevents you from '
    'using this specific tool call. Here are some of the relevant rules [{\\"permission\\":\\"*\\"}]",'
    '"time":{"start":1,"end":2}},'
    '"id":"prt_2","sessionID":"ses_e","messageID":"msg_1"}}'
)
GOES_ON = (
    f'{{"type":"step_finish",{IN},"part":{{"id":"prt_3","reason":"tool-calls","messageID":"msg_1","sessionID":"ses_e",'
    '"type":"step-finish","tokens":{"total":25,"input":10,"output":5,"reasoning":2,"cache":{"write":3,"read":5}},'
    '"cost":0.00002}}'
)
TEXT = f'{{"type":"text",{IN},"part":{{"id":"prt_4","type":"text","text":"All done.","time":{{"start":1,"end":2}}}}}}'
STOP = (
    f'{{"type":"step_finish",{IN},"part":{{"id":"prt_5","reason":"stop","messageID":"msg_2","sessionID":"ses_e",'
    '"type":"step-finish","tokens":{"total":10,"input":7,"output":3,"reasoning":0,"cache":{"write":0,"read":0}},'
    '"cost":0.000013}}'
)
TRY = (
    'timestamp=2026-11-21T18:41:06.176Z level=ERROR run=fb096396 message="stream error" providerID=fake modelID=m '
    'session.id=ses_e small=false agent=build mode=primary error.error="AI_APICallError: Cannot connect to API: Unable '
    'to connect. Is the computer able to access the url?"'
)
SIDE = TRY.replace("small=false agent=build", "small=true agent=title")
NO_MODEL = (
    "timestamp=2026-11-21T18:46:25.154Z level=ERROR run=59f8d66d message=failed ref=err_cf579f63 "
    'error="ProviderModelNotFoundError: Model not found: {}" cause="ProviderModelNotFoundError: …\\n    at <anonymous>"'
)
UNEXPECTED = (
    f'{{"type":"error",{IN},"error":{{"name":"UnknownError","data":{{"message":"Unexpected server error. Check '
    'server logs for details.","ref":"err_cf579f63"}}}'
)


def refusal(status: int, message: str, **headers: str) -> str:
    data = {"message": message, "statusCode": status, "isRetryable": False, "responseHeaders": headers}
    return f'{{"type":"error",{IN},"error":{json.dumps({"name": "APIError", "data": data})}}}'


def read(place: Path, *lines: str, status: int | None = 0, ended_by: str = "exit", **given: Any) -> Reading:
    log = place / "output.log"
    log.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    evidence = Evidence(status, None if status is not None else 9, ended_by, log, 0, log.stat().st_size)
    agent = Agent("worker", "implementer", "opencode", **{"timeout": 3.0, "model": "fake/m", **given})
    return OPENCODE.read(agent, evidence)


def test_a_good_end_and_the_sum_of_its_steps(tmp_path: Path) -> None:
    reading = read(tmp_path, SIDE, START, USE, GOES_ON, TRY, START, TEXT, STOP)
    assert (reading.class_, reading.result, reading.detail) == ("ok", Result(summary="All done."), "")
    assert reading.usage == Usage(25, 10, pytest.approx(0.000033), 5)
    assert (reading.model, reading.turns, reading.session) == ("fake/m", 2, "ses_e0099e142ffeTzfhjZi38OXWJ1")
    free = STOP.replace("0.000013", "0")
    assert read(tmp_path, START, TEXT, free).usage == Usage(7, 3, None, 0), "what no price is known of is not free"


def test_its_word_and_what_it_was_denied(tmp_path: Path) -> None:
    word = TEXT.replace("All done.", 'So:\\n```json\\n{\\"outcome\\":\\"reject\\"}\\n```')
    reading = read(tmp_path, START, DENIED, GOES_ON, START, word, STOP)
    assert (reading.result, reading.detail) == (Result("reject"), "tool calls were denied: write (1)")
    wrong = read(tmp_path, START, TEXT.replace("All done.", '{\\"outcome\\":\\"question\\"}'), STOP)
    assert (wrong.class_, wrong.reason) == ("task", "bad result")


@pytest.mark.parametrize(
    ("lines", "status", "class_", "reason"),
    [
        ((refusal(401, "invalid key"),), 1, "environment", "not logged in"),
        ((refusal(402, "pay first"),), 1, "environment", "no credit"),
        ((refusal(404, "no such model"),), 1, "environment", "configuration"),
        ((refusal(429, "slow down"),), 1, "environment", "rate limit"),
        ((refusal(429, "You exceeded your current quota"),), 1, "environment", "no credit"),
        ((refusal(503, "x"),), 1, "environment", "no answer"),
        ((TRY, refusal(0, "Cannot connect to API"),), 1, "environment", "no answer"),
        ((refusal(400, "prompt is too long"),), 1, "task", "context window"),
        ((refusal(400, "bad thing"),), 1, "task", "refused by the API"),
        ((refusal(422, "rate limit field is wrong"),), 1, "task", "refused by the API"),
        ((NO_MODEL.format("fake/nomodel."), UNEXPECTED), 1, "environment", "configuration"),
        ((NO_MODEL.format("nope/x. Did you mean: standardcompute?"), UNEXPECTED), 1, "environment", "configuration"),
        ((NO_MODEL.format("a/c-x. Did you mean: c-x, c-y?"), UNEXPECTED), 1, "environment", "not logged in"),
        (("\x1b[91m\x1b[1mError: \x1b[0mSession not found",), 1, "ours", "session lost"),
        (("Error: Configuration is invalid at /h/.config/opencode/opencode.json",), 1, "environment", "configuration"),
        (("sh: 1: opencode: not found",), 127, "environment", "missing"),
        ((START, USE, GOES_ON, "! permission requested: bash (x); auto-rejecting"), 0, "task", "no result"),
        ((START, STOP), 0, "environment", "no answer"),
        ((START, TEXT, STOP.replace('"stop"', '"length"')), 0, "task", "no result"),
        ((START, USE), None, "task", "killed by SIGKILL"),
    ],
)  # fmt: skip
def test_bad_ends(tmp_path: Path, lines: tuple[str, ...], status: int, class_: str, reason: str) -> None:
    reading = read(tmp_path, *lines, status=status)
    assert (reading.class_, reading.reason) == (class_, reason), reading.detail
    assert "Unexpected server error" not in reading.detail and "[91m" not in reading.detail


def test_when_it_is_worth_trying_again_and_a_turn_limit(tmp_path: Path) -> None:
    assert read(tmp_path, refusal(429, "slow", **{"retry-after": "7"}), status=1).retry_after == 7.0
    assert read(tmp_path, refusal(429, "slow", **{"retry-after": "Fri, 21 Nov 2026"}), status=1).retry_after == 0.0
    limited = read(tmp_path, START, USE, GOES_ON, START, TEXT, STOP, max_turns=2)
    assert (limited.class_, limited.reason, limited.detail) == ("task", "turn limit", "All done.")


def test_waiting_for_a_model_is_nobodys_failure(tmp_path: Path) -> None:
    waits = read(tmp_path, START, USE, GOES_ON, TRY, status=None, ended_by="timeout")
    assert (waits.class_, waits.reason) == ("environment", "no answer") and "Unable to connect" in waits.detail
    assert read(tmp_path, TRY, START, USE, status=None, ended_by="timeout").reason == "timeout"
    assert read(tmp_path, SIDE, status=None, ended_by="timeout").reason == "timeout"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (START, ""),
        (USE, "> bash: echo hi\n  hi"),
        (DENIED, "! denied: write: /w/by-write"),
        (TEXT, "All done."),
        (TEXT.replace('"type":"text"', '"type":"reasoning"'), "~ All done."),
        (GOES_ON, ""),
        (STOP, "= ended"),
        (TRY, "! the model did not answer (AI_APICallError: Cannot connect to API: Unable to connect. Is the computer "
              "able to access the url?)"),
        (SIDE, ""),
        (refusal(401, "invalid key"), "= ended\n! invalid key (401)"),
        ('{"type":"something_new","sessionID":"ses_e"}', None),
        ('{"type":"text"}', None),
        ("{broken", None),
        ("plain", None),
    ],
)  # fmt: skip
def test_lines_as_people_read_them(line: str, text: str | None) -> None:
    assert told("opencode", line.encode()) == text


def launch(role: Role, session: str = "", entry: Path = Path("/r/a/t/001"), **given: Any) -> Launch:
    agent = Agent("worker", role.name, "opencode", **given)
    return OPENCODE.launch(Request(agent, role, entry, Path("/r/p.md"), Path("/r"), session))


def config(launch: Launch) -> Any:
    return json.loads(dict(launch.env)["OPENCODE_CONFIG_CONTENT"])


def test_flags_by_role() -> None:
    writes = launch(Role("implementer", ""), model="fake/m", base_url="http://x/v1", session="ses_1", args=("--auto",))
    assert writes.argv[-6:] == ("--auto", "--model", "fake/m", "--session", "ses_1", "--auto")
    assert "--agent" not in writes.argv and writes.argv[2] == 'exec opencode "$@"\n'
    assert config(writes)["provider"] == {"fake": {"options": {"baseURL": "http://x/v1"}}}
    assert config(writes)["permission"] == {"task": "deny"} and "agent" not in config(writes)
    limited = launch(Role("implementer", "", max_turns=9))
    assert config(limited)["agent"] == {"build": {"steps": 9}} and "build" in limited.argv
    narrow = config(launch(Role("docs", "", tools=("Read", "Edit", "Bash(npm test:*)"))))["agent"]["octopoid"][
        "permission"
    ]
    assert narrow["edit"] == "allow" and narrow["*"] == "deny" and narrow["bash"]["npm test *"] == "allow"


def test_a_role_that_looks_has_rules_of_its_own_whatever_the_user_says() -> None:
    role = Role("gatekeeper", "", produces="verdict", writes=False)
    looks = launch(role, args=("--auto", "--pure"), env=("OPENCODE_CONFIG_CONTENT",), max_turns=3)
    assert "--auto" not in looks.argv and looks.argv[-1] == "--pure"
    assert looks.argv[looks.argv.index("--agent") + 1] == "octopoid"
    made = config(looks)["agent"]["octopoid"]
    assert made["steps"] == 3 and next(iter(made["permission"])) == "*" and made["permission"]["*"] == "deny"
    assert made["permission"]["edit"] == {"*": "deny", "../*/a/t/001/result.json": "allow"}
    assert '"ask"' not in json.dumps(made["permission"]), "a question that nobody answers ends the run"
    document = config(launch(role._replace(produces="document", tools=("Bash", "Read"))))["agent"]["octopoid"][
        "permission"
    ]
    assert document["edit"]["../*/a/t/001/artifacts/*"] == "allow" and document["bash"] == "allow"


@pytest.mark.parametrize("name", ["", "TERM"])
def test_the_candidates_settings_are_put_aside_and_come_back(tmp_path: Path, name: str) -> None:
    """Of anything that is started in this way; `sh` stands for opencode."""
    here, place, begun = tmp_path / "w", tmp_path / "t", tmp_path / "begun"
    (here / ".opencode/plugin").mkdir(parents=True)
    place.mkdir()
    (here / "opencode.json").symlink_to("nowhere")
    (here / "code.py").touch()
    role = Role("gatekeeper", "", produces="verdict", writes=False)
    does = f"ls -A > {begun}.new; mv {begun}.new {begun}; {'sleep 60' if name else 'exit 3'}; :"
    made = launch(role, command=("sh", "-c", does))
    started = subprocess.Popen(made.argv, cwd=here, env={**os.environ, "TMPDIR": str(place)}, start_new_session=True)
    eventually(begun.exists)
    if name:
        os.killpg(started.pid, signal.SIGTERM)
    assert started.wait(10) == (-signal.SIGTERM if name else 3)
    assert begun.read_text() == "code.py\n"
    assert sorted(path.name for path in here.iterdir()) == [".opencode", "code.py", "opencode.json"]
    assert (here / ".opencode/plugin").is_dir()
