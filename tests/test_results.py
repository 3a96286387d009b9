"""The word of an agent: read strictly, or refused with what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopoid import schemas
from octopoid.errors import Invalid
from octopoid.model import Choice, Finding, Result, Subtask, Usage
from octopoid.results import MAX_BYTES, MAX_TEXT, OUTCOMES, bounded, clean, dump, load, parse, parse_mapping


def test_everything_at_once() -> None:
    said = {
        "outcome": "reject",
        "summary": " looked at it\r\n",
        "feedback": "Mend x.",
        "questions": ["Why?"],
        "subtasks": [
            {"title": "anything"},
            {
                "key": "b",
                "title": " The second ",
                "body": "Text.\n",
                "role": "tester",
                "flow": "quick",
                "priority": "P0",
                "depends_on": ["1", "add-login-7f3k"],
                "labels": ["ui"],
                "criteria": ["it works :: true"],
            },
        ],
        "discovered": [{"title": "A typo", "depends_on": None}],
        "decisions": [
            {"problem": "Which?", "chosen": "This", "variants": ["This", "That"], "why": "Simple."},
            {"problem": "When?", "chosen": "Now"},
        ],
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
        subtasks=(
            Subtask("1", "anything"),
            Subtask(
                "b",
                "The second",
                "Text.",
                "tester",
                "quick",
                0,
                ("1", "add-login-7f3k"),
                ("ui",),
                ("it works :: true",),
            ),
        ),
        discovered=(Subtask("1", "A typo"),),
        decisions=(Choice("Which?", "This", ("This", "That"), "Simple."), Choice("When?", "Now")),
    )


@pytest.mark.parametrize("outcome", sorted(set(OUTCOMES) - {"question", "handoff"}))
def test_an_outcome_may_stand_alone(outcome: str) -> None:
    assert parse_mapping({"outcome": outcome}) == Result(outcome=outcome)


def test_null_is_the_same_as_nothing_and_unknown_is_not_zero() -> None:
    said = dict.fromkeys(Result._fields)
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
        ({"subtasks": ["a"]}, "`subtasks[0]` must be an object, not text", ""),
        ({"subtasks": [{}]}, "`subtasks[0]` has no `title`", ""),
        ({"subtasks": [{"title": None}]}, "`subtasks[0]` has no `title`", ""),
        ({"subtasks": [{"title": " "}]}, "`subtasks[0].title` is empty", ""),
        ({"subtasks": [{"title": "a\nb"}]}, "`subtasks[0].title` must be one line", ""),
        ({"subtasks": [{"title": 1}]}, "`subtasks[0].title` must be text, not a number", ""),
        ({"subtasks": [{"title": "x" * 251}]}, "`subtasks[0].title` has 251 characters; at most 250", ""),
        ({"subtasks": [{"titel": "a"}]}, "unknown key `titel` in `subtasks[0]`", "did you mean `title`?"),
        ({"subtasks": [{"title": "a", "dependsOn": []}]}, "unknown key `dependsOn` in `subtasks[0]`", None),
        ({"subtasks": [{"title": "a", "key": 1}]}, "`subtasks[0].key` must be text, not a number", ""),
        ({"subtasks": [{"title": "a", "key": ""}]}, "`subtasks[0].key` is empty", ""),
        ({"subtasks": [{"title": "a", "depends_on": "b"}]}, "`subtasks[0].depends_on` must be a list, not text", ""),
        (
            {"subtasks": [{"title": "a", "depends_on": [1]}]},
            "`subtasks[0].depends_on[0]` must be text, not a number",
            "",
        ),
        (
            {"subtasks": [{"title": "a", "criteria": ["a\n- [ ] b :: c"]}]},
            "`subtasks[0].criteria[0]` must be one line",
            "",
        ),
        (
            {"subtasks": [{"title": "a", "criteria": ["x" * 2049]}]},
            "`subtasks[0].criteria[0]` has 2049 characters; at most 2048",
            "",
        ),
        ({"subtasks": [{"title": "a", "priority": 1}]}, "`subtasks[0].priority` must be one of P0, P1, P2, P3", None),
        (
            {"subtasks": [{"title": "a", "priority": "high"}]},
            "`subtasks[0].priority` must be one of P0, P1, P2, P3",
            None,
        ),
        ({"subtasks": [{"title": "a"}] * 51}, "`subtasks` has 51 items; at most 50", ""),
        ({"discovered": [{"title": "a"}] * 6}, "`discovered` has 6 items; at most 5", ""),
        ({"discoverd": []}, "unknown key `discoverd` in the result", "did you mean `discovered`?"),
        ({"decisions": [{"problem": "a"}]}, "`decisions[0]` has no `chosen`", ""),
        ({"decisions": [{"problem": " ", "chosen": "b"}]}, "`decisions[0]` has no `problem`", ""),
        ({"decisions": [{"problem": "a", "choosen": "b"}]}, "unknown key `choosen` in `decisions[0]`", None),
        (
            {"decisions": [{"problem": "a", "chosen": "b", "variants": [""]}]},
            "`decisions[0].variants` has an empty one",
            "",
        ),
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
    assert "characters left out …]" in text
    assert MAX_TEXT - 50 < len(text) <= MAX_TEXT
    assert bounded(text) == text
    assert bounded("a\x1b[31mb\r\nc\td\x9be\u2028f\0  ", 100) == "a[31mb\nc\tdef"
    assert clean("50 %\rdone") == "50 %done"


# What is kept is read again as the same

_TEXT = st.text(max_size=40)
_LINE = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=40).filter(str.strip)
_PRIORITY = st.sampled_from(["P0", "P1", "P2", "P3"])
_SUBTASKS = st.lists(
    st.fixed_dictionaries(
        {"title": _LINE},
        optional={
            "key": _LINE,
            "body": _TEXT,
            "role": _TEXT,
            "flow": _TEXT,
            "priority": _PRIORITY,
            "depends_on": st.lists(_LINE, max_size=3),
            "labels": st.lists(_LINE, max_size=3),
            "criteria": st.lists(_LINE, max_size=3),
        },
    ),
    max_size=5,
)
_RESULTS = st.fixed_dictionaries(
    {},
    optional={
        "outcome": st.sampled_from(["done", "failed", "accept", "reject"]),
        "summary": st.one_of(_TEXT, st.integers(MAX_TEXT - 3, MAX_TEXT * 2).map("ab ".__mul__)),
        "feedback": _TEXT,
        "questions": st.lists(_LINE, max_size=3),
        "handoff_to": _TEXT,
        "findings": st.lists(
            st.fixed_dictionaries({"message": _LINE}, optional={"file": _TEXT, "line": st.integers(0, 99)}), max_size=3
        ),
        "usage": st.fixed_dictionaries({}, optional={"input_tokens": st.integers(0), "usd": st.floats(0, 1e6)}),
        "subtasks": _SUBTASKS,
        "discovered": _SUBTASKS,
        "decisions": st.lists(
            st.fixed_dictionaries(
                {"problem": _LINE, "chosen": _LINE}, optional={"why": _TEXT, "variants": st.lists(_LINE)}
            ),
            max_size=3,
        ),
    },
)


@given(_RESULTS)
@settings(deadline=None)
def test_a_result_survives_being_written_down(said: dict[str, Any]) -> None:
    result = parse_mapping(said)
    assert load(dump(result)) == parse(dump(result)) == result


def test_what_says_nothing_is_not_written() -> None:
    assert dump(Result()) == b"{}\n"
    assert json.loads(dump(Result(subtasks=(Subtask("1", "A"),)))) == {"subtasks": [{"key": "1", "title": "A"}]}
    assert dump(Result(summary="a\udc80")) == b'{"summary":"a?"}\n'


def test_what_is_kept_may_be_larger_than_what_an_agent_may_write() -> None:
    padded = json.dumps(
        {"subtasks": [{"title": "a" * 250, "body": "é" * MAX_TEXT} for _ in range(50)]}, ensure_ascii=False
    )
    with pytest.raises(Invalid):
        parse(padded.encode())
    assert len(load(padded.encode()).subtasks) == 50


def test_the_schema_names_every_key() -> None:
    properties = schemas.of("result")["properties"]
    assert set(properties) == set(Result._fields)
    for name in ("subtasks", "discovered"):
        assert set(properties[name]["items"]["properties"]) == set(Subtask._fields)
    assert set(properties["decisions"]["items"]["properties"]) == set(Choice._fields)
    assert not properties["subtasks"]["items"]["additionalProperties"]
