"""What opencode's JSON lines say, and what it logs between them (measured with 1.18.33)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from octopoid.adapters.events import DENIED, ENDED, MESSAGE, RESULT, RETRY, THINKING, TOOL, USAGE, Event
from octopoid.model import Usage

_TELLING = ("command", "filePath", "pattern", "path", "query", "url", "name", "description", "prompt")
"""Which of a tool's arguments says best what it is asked, best first."""
_STREAM = re.compile(r'timestamp=\S+ level=ERROR .*?message="stream error" .*?small=false .*?error\.error="(.*)"\s*\Z')
_LOGGED = re.compile(r"timestamp=\S+ level=(?:ERROR|WARN)\b")
_FAILED = re.compile(r'timestamp=\S+ level=ERROR .*?message=failed .*?error="(.*?)" cause=')
_REFUSED = re.compile(r"specified a rule which prevents|rejected permission")
_COLOURS = re.compile(r"\x1b?\[\d+(?:;\d+)*m")


def record(line: bytes) -> dict[str, Any] | None:
    """The record in one line of the log; None for any other line."""
    start = line.find(b'{"type":"')
    if start < 0:
        return None
    try:
        event = json.loads(line[start:])
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and "sessionID" in event else None


def hear(line: bytes) -> tuple[Event, ...] | None:
    """What one line of the log says; None is not opencode's (or unknown): as it stands."""
    event = record(line) if line.startswith(b"{") else None
    if event is None:
        said = line.decode("utf-8", "replace")
        if why := retry(said):
            return (Event(RETRY, why),)
        return () if is_log(said) else None
    reader = _READERS.get(str(event.get("type")))
    return tuple(reader(event)) if reader else None


def retry(said: str) -> str:
    """Why the model did not answer a try, where this line of its log says so (the last try's too); else ""."""
    found = _STREAM.match(said)
    return found[1].replace('\\"', '"') if found else ""


def failed(said: str) -> str:
    """Why it did not even ask, where this line of its log says so; else ""."""
    found = _FAILED.match(said)
    return found[1].replace('\\"', '"') if found else ""


def is_log(said: str) -> bool:
    """Is this a line of its log, and not of its output?"""
    return _LOGGED.match(said) is not None


def plainly(said: str) -> str:
    """Without the colours that it sends to a pipe too."""
    return _COLOURS.sub("", said)


def usage(parts: Iterable[Mapping[str, Any]]) -> Usage:
    """What the steps of a run add up to, tokens from the cache and of reasoning too. A cost of 0 is an unknown one."""
    read = written = cached = 0
    money, known = 0.0, False
    for part in parts:
        told = part.get("tokens")
        if not isinstance(told, Mapping):
            continue
        known, cache = True, told.get("cache")
        kept = _number(cache, "read") if isinstance(cache, Mapping) else 0
        made = _number(cache, "write") if isinstance(cache, Mapping) else 0
        read, cached = read + int(_number(told, "input") + kept + made), cached + int(kept)
        written += int(_number(told, "output") + _number(told, "reasoning"))
        money += _number(part, "cost")
    return Usage(read, written, money or None, cached) if known else Usage()


def refused(part: Mapping[str, Any]) -> bool:
    """Was this tool call refused by a rule?"""
    state = part.get("state")
    return isinstance(state, Mapping) and bool(_REFUSED.search(text(state, "error")))


def failure(event: Mapping[str, Any]) -> tuple[str, int, Mapping[str, Any]]:
    """What an error says: the sentence, the HTTP status (0 = none), and its data."""
    error = event.get("error")
    if not isinstance(error, Mapping):
        return "", 0, {}
    data = error.get("data")
    data = data if isinstance(data, Mapping) else {}
    return text(data, "message") or text(error, "name"), int(_number(data, "statusCode")), data


def _nothing(_event: Mapping[str, Any]) -> Iterator[Event]:
    """Every step of the model begins with one; there is no record of the run's own beginning."""
    return iter(())


def _said(kind: str) -> Callable[[Mapping[str, Any]], Iterator[Event]]:
    return lambda event: iter((Event(kind, text(part(event), "text")),))


def _tool(event: Mapping[str, Any]) -> Iterator[Event]:
    """A call is told when it has ended."""
    one = part(event)
    state = one.get("state")
    state = state if isinstance(state, Mapping) else {}
    asked, name = _asked(state.get("input")), text(one, "tool")
    if refused(one):
        yield Event(DENIED, asked, name=name)
        return
    yield Event(TOOL, asked, name=name)
    yield Event(RESULT, text(state, "output") or text(state, "error"), error=state.get("status") == "error")


def _asked(given: object) -> str:
    if isinstance(given, Mapping):
        best = next((given[key] for key in _TELLING if given.get(key)), None)
        given = best if isinstance(best, str) else json.dumps(given, ensure_ascii=False)
    return str(given or "")


def _finish(event: Mapping[str, Any]) -> Iterator[Event]:
    one = part(event)
    yield Event(USAGE, usage=usage((one,)), answer=text(one, "messageID"))
    if one.get("reason") not in ("tool-calls", None):
        yield Event(ENDED)


def _error(event: Mapping[str, Any]) -> Iterator[Event]:
    said, status, _ = failure(event)
    yield Event(ENDED, f"{said} ({status})" if status else said, error=True)


def part(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a record is about."""
    found = event.get("part")
    return found if isinstance(found, Mapping) else {}


def _number(fields: Mapping[str, Any], key: str) -> float:
    value = fields.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else 0.0


def text(fields: Mapping[str, Any], key: str) -> str:
    """The text of a field, "" for anything else."""
    value = fields.get(key)
    return value if isinstance(value, str) else ""


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Event]]] = {
    "step_start": _nothing,
    "text": _said(MESSAGE),
    "reasoning": _said(THINKING),
    "tool_use": _tool,
    "step_finish": _finish,
    "error": _error,
}
