"""The word of an agent: read strictly, or refused with what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from octopoid.errors import Invalid
from octopoid.model import Finding, Result, Usage
from octopoid.results import MAX_BYTES, MAX_TEXT, OUTCOMES, bounded, clean, parse, parse_mapping


def test_everything_at_once() -> None:
    said = {
        "outcome": "reject",
        "summary": " looked at it\r\n",
        "feedback": "Mend x.",
        "questions": ["Why?"],
        "subtasks": [{"title": "anything"}],
        "handoff_to": "tester",
        "findings": [{"file": "a.py", "line": 3, "severity": "high", "message": "wrong"}, {"message": "also"}],
        "usage": {"input_tokens": 10, "output_tokens": 0, "usd": 1},
    }
    assert parse(b"\xef\xbb\xbf" + json.dumps(said).encode()) == Result(
        outcome="reject",
        summary="looked at it",
        feedback="Mend x.",
        questions=("Why?",),
        handoff_to="tester",
        findings=(Finding("a.py", 3, "high", "wrong"), Finding("", 0, "", "also")),
        usage=Usage(10, 0, 1.0),
    )


@pytest.mark.parametrize("outcome", sorted(set(OUTCOMES) - {"question", "handoff"}))
def test_an_outcome_may_stand_alone(outcome: str) -> None:
    assert parse_mapping({"outcome": outcome}) == Result(outcome=outcome)


def test_null_is_the_same_as_nothing_and_unknown_is_not_zero() -> None:
    said = dict.fromkeys(("outcome", "summary", "feedback", "questions", "subtasks", "findings", "usage"))
    assert parse_mapping(said) == Result()
    assert parse_mapping({"usage": {"usd": None}}).usage == Usage(None, None, None)


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        (b"", "not JSON: Expecting value", ""),
        (b"done", "not JSON: Expecting value", ""),
        (b'{"outcome": "done"} thanks', "not JSON: Extra data", ""),
        (b"\xff{}", "not UTF-8 (byte 1)", ""),
        (b'{"usage": {"usd": NaN}}', "NaN is not JSON", ""),
        (b'{"summary": "a", "summary": "b"}', "duplicate key `summary`", "keep one of them"),
        (b"[" * 100_000, "nested too deeply", ""),
        (b" " * (MAX_BYTES + 1), f"{MAX_BYTES + 1} bytes; a result has at most {MAX_BYTES}", ""),
        ([], "the result must be an object, not a list", ""),
        (None, "the result must be an object, not null", ""),
        ({"sumary": "x"}, "unknown key `sumary` in the result", "did you mean `summary`?"),
        ({"outcome": "success"}, "unknown outcome `success`", "known: accept, done, failed, handoff, question, reject"),
        ({"outcome": "acept"}, "unknown outcome `acept`", "did you mean `accept`?"),
        ({"outcome": ["done"]}, "unknown outcome a list", None),
        ({"outcome": "question"}, "outcome `question` without `questions`", None),
        ({"outcome": "question", "questions": []}, "outcome `question` without `questions`", None),
        ({"outcome": "handoff"}, "outcome `handoff` without `handoff_to`", None),
        ({"summary": 3}, "`summary` must be text, not a number", ""),
        ({"feedback": True}, "`feedback` must be text, not true or false", ""),
        ({"questions": "Why?"}, "`questions` must be a list, not text", ""),
        ({"questions": ["", "b"]}, "`questions` has an empty one", ""),
        ({"questions": [{}]}, "`questions[0]` must be text, not an object", ""),
        ({"questions": ["?"] * 51}, "`questions` has 51 items; at most 50", ""),
        ({"subtasks": {}}, "`subtasks` must be a list, not an object", ""),
        ({"findings": [{"file": "a"}]}, "`findings[0]` has no `message`", ""),
        ({"findings": [{"message": "a", "line": -1}]}, "`findings[0].line` must be a whole number from 0", ""),
        ({"findings": [{"msg": "a"}]}, "unknown key `msg` in `findings[0]`", None),
        ({"findings": ["bad"]}, "`findings[0]` must be an object, not text", ""),
        ({"usage": {"input_tokens": 1.5}}, "`usage.input_tokens` must be a whole number from 0", ""),
        ({"usage": {"output_tokens": True}}, "`usage.output_tokens` must be a whole number from 0", ""),
        ({"usage": {"usd": -0.1}}, "`usage.usd` must be a number from 0", ""),
        ({"usage": {"usd": "1"}}, "`usage.usd` must be a number from 0", ""),
        ({"usage": 1}, "`usage` must be an object, not a number", ""),
    ],
)
def test_refusals(said: Any, message: str, hint: str | None) -> None:
    with pytest.raises(Invalid) as caught:
        parse(said if isinstance(said, bytes) else json.dumps(said).encode())
    assert caught.value.message == message
    assert hint is None or caught.value.hint == hint
    assert [one.message for one in caught.value.problems] == [message]


def test_broken_json_has_a_place() -> None:
    with pytest.raises(Invalid) as caught:
        parse(b'{\n "outcome": done}')
    assert str(caught.value.problems[0]) == "result.json:2:13: not JSON: Expecting value"


def test_long_text_loses_its_middle_and_control_characters() -> None:
    text = parse_mapping({"summary": "a" * MAX_TEXT + "b" * MAX_TEXT}).summary
    assert text.startswith("aaa") and text.endswith("bbb")
    assert f"[… {MAX_TEXT} characters left out …]" in text
    assert len(text) < MAX_TEXT + 50
    assert bounded("a\x1b[31mb\r\nc\td\x9be\u2028f\0  ", 100) == "a[31mb\nc\tdef"
    assert clean("50 %\rdone") == "50 %done"
