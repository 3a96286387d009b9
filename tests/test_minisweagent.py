"""The adapter of mini-swe-agent: what it starts, and how it reads what 2.4.6 printed (tests/agents_minisweagent.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import told

from octopoid.adapters import ADAPTERS, Evidence, Launch, Reading, Request
from octopoid.adapters.answers import word
from octopoid.adapters.litellm import failure
from octopoid.adapters.minisweagenttask import FINISH, overlay
from octopoid.errors import Invalid
from octopoid.settings import Agent, Role

ADAPTER = ADAPTERS["mini-swe-agent"]
IMPLEMENTER = Role("implementer", "")

PRELUDE = """\
Warning: Input is not a terminal (fd=0).
Building agent config from specs: ['/r/mini/task.yaml', 'agent.step_limit=5', 'agent.cost_limit=0.0000']
{"type": "started", "version": "2.4.6", "model": "openai/fake-model"}
"""
WORKED = f"""{PRELUDE}\
{{"type": "message", "text": "I edit it."}}
{{"type": "tool", "text": "seq 3"}}
{{"type": "usage", "turns": 1, "usd": 0.0, "input_tokens": 1400, "output_tokens": 50, "cached_tokens": 400}}
{{"type": "result", "text": "1\\n2\\n3", "status": 0}}
{{"type": "retry", "text": "Retrying <unknown> in 4 seconds as it raised InternalServerError: scripted."}}
{{"type": "tool", "text": "{FINISH}"}}
{{"type": "usage", "turns": 2, "usd": 0.0, "input_tokens": 1410, "output_tokens": 55, "cached_tokens": 400}}
"""
REFUSED = """\
openai.RateLimitError: Error code: 429 - {'error': {'message': 'Rate limit reached', 'type': 'scripted'}}

During handling of the above exception, another exception occurred:

litellm.exceptions.RateLimitError: litellm.RateLimitError: RateLimitError: OpenAIException - Rate limit reached
"""


def agent(**given: Any) -> Agent:
    return Agent("worker", "implementer", "mini-swe-agent", **given)


def launched(role: Role = IMPLEMENTER, **given: Any) -> Launch:
    return ADAPTER.launch(Request(agent(**given), role, Path("/a b"), Path("/a b/prompt.md"), Path("/r")))


def ended(status: str, **more: Any) -> str:
    counts = {"turns": 2, "usd": 0.0, "input_tokens": 9, "output_tokens": 3}
    return json.dumps({"type": "ended", "status": status, **counts, **more}) + "\n"


def read(place: Path, log: str, status: int | None = 0, by: str = "exit", **given: Any) -> Reading:
    path = place / "output.log"
    path.write_text(log, encoding="utf-8")
    number = None if status is not None else 9
    return ADAPTER.read(agent(**given), Evidence(status, number, by, path, 0, path.stat().st_size))


def test_the_prompt_is_in_a_file_and_nothing_asks() -> None:
    launch = launched(
        model="openai/m", max_turns=7, max_usd=0.5, base_url="http://h/v1", retries=2, args=("-c", "own.yaml")
    )
    assert launch.argv[:2] == ("sh", "-c") and launch.stdin == "/a b/prompt.md"
    script, *flags = launch.argv[2:]
    assert ">'/a b/mini/task.yaml' || exit\n" in script and script.endswith('"$@" </dev/null\n')
    assert " ".join(flags) == (
        "mini --agent-class octopoid_inside.Told -o /a b/mini/trajectory.json --model openai/m -c agent.step_limit=7"
        " -c agent.cost_limit=0.5000 -c model.model_kwargs.api_base=http://h/v1 -c own.yaml"
    )
    env = dict(launch.env)
    assert (env["MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT"], env["MSWEA_COST_TRACKING"]) == ("3", "default")


def test_what_the_user_names_in_env_is_theirs() -> None:
    env = dict(launched(env=("MSWEA_COST_TRACKING", "LITELLM_LOCAL_MODEL_COST_MAP")).env)
    assert not {"MSWEA_COST_TRACKING", "LITELLM_LOCAL_MODEL_COST_MAP"} & set(env)
    assert dict(launched().env)["MSWEA_COST_TRACKING"] == "ignore_errors"


@pytest.mark.parametrize(
    ("command", "start", "program"),
    [
        ((), "exec mini -c", "mini"),
        (("/my mini", "-x"), "exec '/my mini' -x -c", "/my mini"),
        ("uvx mini", "\nuvx mini -c", "sh"),
    ],
)
def test_the_program(command: Any, start: str, program: str) -> None:
    assert start in launched(command=command).argv[2]
    assert ADAPTER.program(agent(command=command)) == program


@pytest.mark.parametrize(
    "text", ["plain", "a\nb\t'\"\\ {{ task }}", "Grüße \U0001f419\x07\x7f\x85\u2028\ufeff\uffff: - #", "x" * 300_000]
)
def test_any_prompt_arrives(text: str) -> None:
    file = overlay(text)
    assert file.isascii() and yaml.safe_load(file)["run"]["task"] == text


def test_a_run_that_ends_well(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        WORKED + ended("Submitted", submission="done\n", input_tokens=1410, output_tokens=55, cached_tokens=400),
    )
    assert (reading.class_, reading.model, reading.turns) == ("ok", "openai/fake-model", 2)
    assert reading.usage == (1410, 55, None, 400, "")
    assert reading.result is not None and reading.result.summary == "done"
    assert read(tmp_path, WORKED + ended("Submitted", usd=0.25)).usage.usd == 0.25


def test_its_word(tmp_path: Path) -> None:
    said = json.dumps({"outcome": "accept", "summary": "fine"})
    reading = read(tmp_path, WORKED + ended("Submitted", submission=said))
    assert reading.result is not None and reading.result.outcome == "accept"
    reading = read(tmp_path, WORKED + ended("Submitted", submission='{"outcome": "accept", "nonsense": 1}'))
    assert (reading.class_, reading.reason) == ("task", "bad result") and "nonsense" in reading.detail


@pytest.mark.parametrize(
    ("record", "class_", "reason"),
    [
        (ended("LimitsExceeded", limit="turns"), "task", "turn limit"),
        (ended("LimitsExceeded", limit="money", usd=0.2), "task", "budget"),
        (ended("TimeExceeded"), "task", "timeout"),
        (ended("RepeatedFormatError"), "task", "no tool calls"),
        (
            ended("AuthenticationError", text="litellm.AuthenticationError: no", code=401),
            "environment",
            "not logged in",
        ),
        (ended("RuntimeError", text="Error calculating cost for model m"), "environment", "configuration"),
        (ended("ModuleNotFoundError", text="No module named 'mcp'"), "environment", "configuration"),
        (ended("APIError", text="litellm.APIError: pay", code=402), "environment", "no credit"),
    ],
)
def test_how_else_it_ends(tmp_path: Path, record: str, class_: str, reason: str) -> None:
    reading = read(tmp_path, PRELUDE + record, 1)
    assert (reading.class_, reading.reason, reading.usage.input_tokens) == (class_, reason, 9)


def test_a_rate_limit_with_its_time(tmp_path: Path) -> None:
    text = "litellm.RateLimitError: RateLimitError: OpenAIException - Rate limit reached"
    record = ended("RateLimitError", text=text, code=429, retry_after="37")
    reading = read(tmp_path, PRELUDE + record + REFUSED, 1, base_url="http://h:1/v1", env=("OPENAI_API_KEY",))
    assert (reading.reason, reading.retry_after, reading.breaker) == ("rate limit", 37.0, "OPENAI_API_KEY@h:1")
    assert reading.detail == text


def test_what_never_began(tmp_path: Path) -> None:
    usage = "Usage: mini [OPTIONS]\nTry 'mini --help' for help.\n\nError: No such option: --nonsense\n"
    assert read(tmp_path, usage, 2).reason == "configuration"
    missing = read(tmp_path, "sh: 3: exec: mini: not found\n", 127)
    assert (missing.class_, missing.reason, missing.breaker) == ("environment", "missing", "agent:worker")
    assert read(tmp_path, "", 0).reason == "no result"
    assert read(tmp_path, WORKED, None).reason == "killed by SIGKILL"
    assert read(tmp_path, WORKED, None).usage.input_tokens == 1410


def test_time_without_a_model_is_nobodys_failure(tmp_path: Path) -> None:
    waiting = '{"type": "retry", "text": "Retrying … as it raised RateLimitError: litellm.RateLimitError: slow"}\n'
    reading = read(tmp_path, PRELUDE + waiting, None, "timeout")
    assert (reading.class_, reading.reason) == ("environment", "rate limit")
    assert read(tmp_path, WORKED, None, "timeout").class_ == "task"


def test_the_log_as_people_read_it() -> None:
    lines = (WORKED + ended("Submitted", submission="done")).splitlines()
    assert [text for line in lines if (text := told("mini-swe-agent", line.encode()))] == [
        "mini-swe-agent 2.4.6, model openai/fake-model",
        "I edit it.",
        "> bash: seq 3",
        "  1\n  2\n  3",
        "! the model did not answer (Retrying <unknown> in 4 seconds as it raised InternalServerError: scripted.)",
        f"> bash: {FINISH}",
        "= 2 turns, 9 tokens in, 3 out\ndone",
    ]
    assert told("mini-swe-agent", REFUSED.splitlines()[0].encode()) is None
    assert told("mini-swe-agent", b'{"type": "own"}') is None
    assert told("mini-swe-agent", b'{"type": "tool", broken') is None
    assert told("mini-swe-agent", b'{"type": "result", "text": "", "status": 3}') == "! exit status 3"


# --- what litellm says ---


@pytest.mark.parametrize(
    ("said", "code", "class_", "reason"),
    [
        ("litellm.BadRequestError: OpenAIException - no such parameter", 400, "task", "refused by the API"),
        ("litellm.BadRequestError: LLM Provider NOT provided.", 400, "environment", "configuration"),
        (
            "litellm.ContextWindowExceededError: litellm.BadRequestError: too long",
            400,
            "task",
            "context window",
        ),
        ("litellm.RateLimitError: You exceeded your current quota", 429, "environment", "no credit"),
        ("litellm.InternalServerError: OpenAIException - Connection error.", 500, "environment", "no answer"),
        (
            "litellm.InternalServerError: Missing credentials. Please pass an `api_key`",
            500,
            "environment",
            "not logged in",
        ),
        ("litellm.NotFoundError: The model `m` does not exist", 0, "environment", "configuration"),
        ("litellm.Timeout: Request timed out", 0, "environment", "no answer"),
        ("litellm.SomethingNew: odd", 599, "environment", "no answer"),
    ],
)
def test_why_a_model_did_not_answer(said: str, code: int, class_: str, reason: str) -> None:
    reading = failure(said, code=code)
    assert (reading.class_, reading.reason) == (class_, reason)


def test_when_it_will_answer_again() -> None:
    assert failure("litellm.RateLimitError: try again in 250ms").retry_after == 0.25
    assert failure("litellm.RateLimitError: retry after 2 m").retry_after == 120


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ('{"outcome": "accept"}', "accept"),
        ('I looked.\n\n{"outcome": "reject", "feedback": "x"}\n', "reject"),
        ('Well:\n```json\n{\n "outcome": "accept",\n "findings": [\n{"message": "m"}\n]\n}\n```\n', "accept"),
        ('{"outcome": "accept"}\nOr rather not.', None),
        ('{"summary": "accept"}', None),
        ("accept", None),
        ("", None),
    ],
)
def test_a_word_is_the_end_of_the_answer_or_nothing(answer: str, outcome: str | None) -> None:
    found = word(answer)
    assert (found.outcome if found else None) == outcome


def test_a_word_that_is_no_result_is_refused() -> None:
    with pytest.raises(Invalid):
        word('{"outcome": "question"}')
