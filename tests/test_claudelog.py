"""Claude Code's records as text: one line in, what a person reads of it out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from harness import told


def tell(line: str | dict[str, Any]) -> str | None:
    return told("claude", (line if isinstance(line, str) else json.dumps(line)).encode())


def message(kind: str, block: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": kind, "message": {"content": [block]}, **more}


def use(name: str, **given: Any) -> dict[str, Any]:
    return message("assistant", {"type": "tool_use", "name": name, "input": given})


def got(content: Any, is_error: bool = False, **more: Any) -> dict[str, Any]:
    return message("user", {"type": "tool_result", "content": content, "is_error": is_error}, **more)


@pytest.mark.parametrize(
    "line", ["octopoid: worktree made", "", '{"type": "assistant", "mess', '{"my": "own"}', '{"type": []}', "{]"]
)
def test_what_is_not_claudes_stays_as_it_is(line: str) -> None:
    assert tell(line) is None


SAID = [
    ({"type": "system", "subtype": "task_started"}, ""),
    ({"type": "user", "message": None}, ""),
    ({"type": "user", "message": {"content": 3}}, ""),
    (got(""), ""),
    ({"type": "rate_limit_event", "rate_limit_info": {"status": "allowed"}}, ""),
    ({"type": "rate_limit_event", "rate_limit_info": {"status": "rejected"}}, "! rate limit: rejected"),
    (message("assistant", {"type": "text", "text": "Hello\x1b[31m\nyou"}), "Hello[31m\nyou"),
    (message("assistant", {"type": "thinking", "thinking": "Hm.\nSo."}), "~ Hm.\n~ So."),
    (use("Bash", command="a\nb", description="c"), "> Bash: a\n  b"),
    (use("Count", n=1), '> Count: {"n": 1}'),
    (got("no\nway", is_error=True), "! no\n  way"),
    (got([{"type": "text", "text": "ok"}, {"type": "image"}], parent_tool_use_id="t"), "  |   ok\n  |   (image)"),
    (
        {"type": "system", "subtype": "init", "claude_code_version": "2", "model": "m", "session_id": "s"},
        "claude 2, model m, session s",
    ),
    (
        {"type": "system", "subtype": "api_retry", "attempt": 1, "max_retries": 3, "error_status": 401},
        "! the model did not answer (401, try 1 of 3)",
    ),
    (
        {"type": "system", "subtype": "api_retry", "attempt": 2, "max_retries": 3, "retry_delay_ms": 1250.4},
        "! the model did not answer (no answer, try 2 of 3); tries again in 1.3 s",
    ),
    (
        {"type": "result", "num_turns": 3, "duration_ms": 1500, "total_cost_usd": 0.25, "result": "said already"},
        "= 3 turns, 1.5 s, $0.2500",
    ),
    ({"type": "result", "num_turns": 1, "is_error": True, "result": "No key"}, "= 1 turn\n! No key"),
    ({"type": "result", "num_turns": 1, "structured_output": {"a": 1}}, '= 1 turn\n{\n "a": 1\n}'),
]


@pytest.mark.parametrize(("line", "text"), SAID)
def test_what_claude_says_is_told(line: dict[str, Any], text: str) -> None:
    assert tell(line) == text


def test_what_is_long_loses_its_middle() -> None:
    text = tell(got("x" * 100_000))
    assert text is not None and len(text) < 2000 and "left out" in text
