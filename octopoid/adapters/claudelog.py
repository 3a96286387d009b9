"""What Claude Code's stream-json says, line by line (measured with 2.1.197 and 2.1.328)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from octopoid import hearing
from octopoid.adapters.events import (
    DENIED,
    ENDED,
    MESSAGE,
    NOTE,
    RESULT,
    RETRY,
    STARTED,
    THINKING,
    TOOL,
    USAGE,
    Event,
    amount,
)
from octopoid.model import Usage

_TELLING = ("command", "file_path", "notebook_path", "pattern", "url", "query", "skill", "description", "prompt")
"""Which of a tool's arguments says best what it is asked, best first."""

_TAGS = re.compile(r"</?tool_use_error>")
_ECHO = "Stop hook feedback:\n" + hearing.FIRST
"""What a person said as it was about to end: our own line told it already."""


def hear(line: bytes) -> tuple[Event, ...] | None:
    """What one line of the log says; None is not Claude's (or unknown): as it stands."""
    if not line.startswith(b"{"):
        return None
    try:
        event = json.loads(line.decode("utf-8", "surrogatepass"))  # json would guess the encoding first
    except (ValueError, RecursionError):
        return None
    reader = _READERS.get(str(event.get("type")))
    return tuple(reader(event)) if reader else None


def usage(result: Mapping[str, Any]) -> Usage:
    """All tokens of all models in a result line; `usage` alone is 0 when a budget ended the run (2.1.197)."""
    models = result.get("modelUsage")
    each = [one for one in models.values() if isinstance(one, dict)] if isinstance(models, dict) else []
    if each:
        read = _sum(each, "inputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
        written, cached = _sum(each, "outputTokens"), _sum(each, "cacheReadInputTokens")
    else:
        read, written, cached = _counts(result.get("usage"))
    return Usage(read, written, number(result, "total_cost_usd"), cached)


def model(result: Mapping[str, Any]) -> str:
    """The model that cost most of a run: small ones help it along. "" where none answered."""
    models = result.get("modelUsage")
    each = {name: one for name, one in models.items() if isinstance(one, dict)} if isinstance(models, dict) else {}
    return max(each, key=lambda name: (number(each[name], "costUSD") or 0.0, name), default="")


def number(fields: Mapping[str, Any], key: str) -> float | None:
    """None for what is no number, or negative: an unknown cost is never shown as zero."""
    return amount(fields.get(key))


def _system(event: Mapping[str, Any]) -> Iterator[Event]:
    subtype = event.get("subtype")
    if subtype == "init":
        name = f"claude {event.get('claude_code_version') or ''}".strip()
        yield Event(STARTED, name=name, model=_text(event, "model"), session=_text(event, "session_id"))
    elif subtype == "api_retry":
        what = event.get("error_status") or "no answer"
        tries = f"{what}, try {event.get('attempt')} of {event.get('max_retries')}"
        yield Event(RETRY, tries, wait=(number(event, "retry_delay_ms") or 0.0) / 1000)
    elif subtype == hearing.LINE:
        yield Event(NOTE, f"heard from a person: {_text(event, 'text')}")


def _message(event: Mapping[str, Any]) -> Iterator[Event]:
    message = event.get("message")
    if not isinstance(message, dict):  # not Mapping: there are thousands of these, and an ABC is slow to ask
        return
    content = message.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    inside = bool(event.get("parent_tool_use_id"))  # what a helper of its own does
    for block in blocks if isinstance(blocks, list) else ():
        if isinstance(block, dict):
            yield from (one._replace(inside=True) for one in _block(block)) if inside else _block(block)
    if isinstance(message.get("usage"), dict):
        # Every block of an answer is a line of its own, with what was known when the answer began: of the tokens that
        # the model writes it says 1 (2.1.197), and how many they were only the result tells.
        counts = _counts(message["usage"])
        used = Usage(counts[0], None, cached_tokens=counts[2])
        yield Event(USAGE, usage=used, answer=_text(message, "id"), model=_text(message, "model"), inside=inside)


def _block(block: Mapping[str, Any]) -> Iterator[Event]:
    kind = block.get("type")
    if kind == "text" and not _text(block, "text").startswith(_ECHO):
        yield Event(MESSAGE, _text(block, "text"))
    elif kind == "thinking":
        yield Event(THINKING, _text(block, "thinking"))
    elif kind == "tool_use":
        yield Event(TOOL, _asked(block.get("input")), name=_text(block, "name"))
    elif kind == "tool_result":
        yield Event(RESULT, _TAGS.sub("", _plain(block.get("content"))), error=bool(block.get("is_error")))


def _asked(given: object) -> str:
    if isinstance(given, dict):
        best = next((given[key] for key in _TELLING if given.get(key)), None)
        given = best if isinstance(best, str) else json.dumps(given, ensure_ascii=False)
    return str(given)


def _plain(content: object) -> str:
    if isinstance(content, list):
        parts = (one.get("text") or f"({one.get('type')})" for one in content if isinstance(one, Mapping))
        return "\n".join(map(str, parts))
    return content if isinstance(content, str) else ""


def _result(event: Mapping[str, Any]) -> Iterator[Event]:
    """What it said is the last answer already, unless it is an error."""
    for one in _each(event.get("permission_denials")):
        yield Event(DENIED, _asked(one.get("tool_input")), name=_text(one, "tool_name"))
    error, said = event.get("is_error") is True, ""
    if error:
        errors = event.get("errors")
        said = "\n".join(map(str, errors)) if isinstance(errors, list) else str(event.get("result") or "")
    elif "structured_output" in event:
        said = json.dumps(event["structured_output"], indent=1, ensure_ascii=False)
    turns, seconds = number(event, "num_turns"), number(event, "duration_ms")
    yield Event(
        ENDED,
        said or (_text(event, "subtype") if error else ""),
        error=error,
        usage=usage(event),
        turns=None if turns is None else int(turns),
        seconds=None if seconds is None else seconds / 1000,
    )


def _each(value: object) -> Iterator[Mapping[str, Any]]:
    yield from (one for one in value if isinstance(one, Mapping)) if isinstance(value, list) else ()


def _limit(event: Mapping[str, Any]) -> Iterator[Event]:
    info = event.get("rate_limit_info")
    if isinstance(info, Mapping) and info.get("status") != "allowed":
        yield Event(NOTE, f"rate limit: {info.get('status')}", error=info.get("status") == "rejected")


def _counts(used: object) -> tuple[int | None, int | None, int | None]:
    """Tokens in, out, and from the cache, of a `usage` record."""
    each = [used] if isinstance(used, dict) else []
    read = _sum(each, "input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return read, _sum(each, "output_tokens"), _sum(each, "cache_read_input_tokens")


def _sum(each: list[dict[str, Any]], *keys: str) -> int | None:
    known = [count for one in each for key in keys if (count := number(one, key)) is not None]
    return int(sum(known)) if known else None


def _text(fields: Mapping[str, Any], key: str) -> str:
    value = fields.get(key)
    return value if isinstance(value, str) else ""


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Event]]] = {
    "system": _system,
    "assistant": _message,
    "user": _message,
    "result": _result,
    "rate_limit_event": _limit,
}
