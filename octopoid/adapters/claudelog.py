"""What Claude Code's stream-json says, line by line, for people. The log itself keeps every byte."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from octopoid.results import bounded

_ANSWER, _COMMAND, _RESULT = 4000, 800, 1200
"""Characters that are kept of what the model says, asks a tool, and gets from it; the middle is left out."""

_TELLING = ("command", "file_path", "notebook_path", "pattern", "url", "query", "skill", "description", "prompt")
"""Which of a tool's arguments says best what it is asked, best first."""

_TAGS = re.compile(r"</?tool_use_error>")


def tell(line: bytes) -> str | None:
    """One line of the log as text; "" is nothing to tell, None is not Claude's (or unknown): as it stands."""
    if not line.startswith(b"{"):
        return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    teller = _TELLERS.get(str(event.get("type")))
    return "\n".join(teller(event)) if teller else None


def _system(event: Mapping[str, Any]) -> Iterator[str]:
    subtype = event.get("subtype")
    if subtype == "init":
        version, model = event.get("claude_code_version"), event.get("model")
        yield f"claude {version}, model {model}, session {event.get('session_id')}"
    elif subtype == "api_retry":
        wait = f"{_number(event, 'retry_delay_ms') / 1000:.1f} s"
        what = event.get("error_status") or "no answer"
        yield f"! the model did not answer ({what}): try {event.get('attempt')} of {event.get('max_retries')} in {wait}"


def _message(event: Mapping[str, Any]) -> Iterator[str]:
    message = event.get("message")
    content = message.get("content") if isinstance(message, Mapping) else None
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    inside = "  | " if event.get("parent_tool_use_id") else ""  # what a helper of its own does
    for block in blocks if isinstance(blocks, list) else ():
        told = "\n".join(_block(block)) if isinstance(block, Mapping) else ""
        if told:
            yield _indented(told, inside, inside)


def _block(block: Mapping[str, Any]) -> Iterator[str]:
    kind = block.get("type")
    if kind == "text":
        yield bounded(str(block.get("text")), _ANSWER)
    elif kind == "thinking" and block.get("thinking"):
        yield _indented(bounded(str(block["thinking"]), _ANSWER), "~ ", "~ ")
    elif kind == "tool_use":
        yield _indented(f"> {block.get('name')}: {_asked(block.get('input'))}", "", "  ")
    elif kind == "tool_result":
        said = bounded(_TAGS.sub("", _plain(block.get("content"))), _RESULT)
        if said:
            yield _indented(said, "! " if block.get("is_error") else "  ", "  ")


def _asked(given: object) -> str:
    if isinstance(given, Mapping):
        best = next((given[key] for key in _TELLING if given.get(key)), None)
        given = best if isinstance(best, str) else json.dumps(given, ensure_ascii=False)
    return bounded(str(given), _COMMAND)


def _plain(content: object) -> str:
    if isinstance(content, list):
        parts = (one.get("text") or f"({one.get('type')})" for one in content if isinstance(one, Mapping))
        return "\n".join(map(str, parts))
    return content if isinstance(content, str) else ""


def _result(event: Mapping[str, Any]) -> Iterator[str]:
    """What it said is the last answer already, unless it is an error."""
    cost = event.get("total_cost_usd")
    seconds = _number(event, "duration_ms") / 1000
    ended = f"= {event.get('num_turns')} turns, {seconds:.1f} s"
    yield ended + (f", ${cost:.4f}" if isinstance(cost, float | int) else "")
    if event.get("is_error"):
        errors = event.get("errors")
        said = "\n".join(map(str, errors)) if isinstance(errors, list) else event.get("result")
        yield f"! {bounded(str(said or event.get('subtype')), _RESULT)}"
    for one in _each(event.get("permission_denials")):
        yield _indented(f"! denied: {one.get('tool_name')}: {_asked(one.get('tool_input'))}", "", "  ")
    if "structured_output" in event:
        yield bounded(json.dumps(event["structured_output"], indent=1, ensure_ascii=False), _ANSWER)


def _each(value: object) -> Iterator[Mapping[str, Any]]:
    yield from (one for one in value if isinstance(one, Mapping)) if isinstance(value, list) else ()


def _limit(event: Mapping[str, Any]) -> Iterator[str]:
    info = event.get("rate_limit_info")
    if isinstance(info, Mapping) and info.get("status") != "allowed":
        yield f"! rate limit: {info.get('status')}"


def _indented(text: str, first: str, rest: str) -> str:
    return first + text.replace("\n", f"\n{rest}")


def _number(event: Mapping[str, Any], key: str) -> float:
    value = event.get(key)
    return float(value) if isinstance(value, int | float) else 0.0


_TELLERS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {
    "system": _system,
    "assistant": _message,
    "user": _message,
    "result": _result,
    "rate_limit_event": _limit,
}
