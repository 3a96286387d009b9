"""What Gemini CLI's stream-json says, line by line, and what stands between (measured with 0.61.0)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from octopoid.adapters.events import DENIED, ENDED, MESSAGE, NOTE, RESULT, RETRY, STARTED, TOOL, Event
from octopoid.model import Usage

_TELLING = ("command", "file_path", "dir_path", "pattern", "query", "url", "prompt", "objective", "name")
"""Which of a tool's arguments says best what it is asked, best first."""
_ATTEMPT = re.compile(r"Attempt (\d+) failed(?: with status (\d+))?(?:: (.*?))?(?:\.+ Retrying |\Z)")
_WAITS = re.compile(r"Retrying (?:after (\d+)ms|with backoff)\.\.\.")
_ERROR = re.compile(r"Retrying with backoff\.\.\. (\S*Error: .*)")
NOISE = re.compile(
    r"Warning: 256-color|YOLO mode is enabled|Ripgrep is not available|\[STARTUP\]|\s+at \S|Loaded cached credentials"
    r"|Project hooks disabled|\(node:\d+\) MaxListeners|\(Use `node --trace-warnings|Error executing tool "
)
"""Lines that say nothing about how a run ended."""


def record(line: bytes) -> dict[str, Any] | None:
    """The record in one line of the log; stderr may stand before it. None for any other line."""
    start = line.find(b'{"type":"')
    if start < 0:
        return None
    try:
        event = json.loads(line[start:])
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def hear(line: bytes) -> tuple[Event, ...] | None:
    """What one line of the log says; None is not Gemini's (or unknown): as it stands."""
    if not line.startswith(b"{"):
        said = line.decode("utf-8", "replace")
        if tried := retry(said):
            return (tried,)
        return () if NOISE.match(said) else None
    event = record(line)
    reader = _READERS.get(str(event.get("type"))) if event else None
    return tuple(reader(event)) if reader and event else None


def usage(stats: object) -> Usage:
    """The tokens of this run, of all models; those of thinking are in no field but the total. No money."""
    if not isinstance(stats, Mapping) or not stats.get("total_tokens"):
        return Usage()  # nobody answered
    read, written, total = (_count(stats, key) for key in ("input_tokens", "output_tokens", "total_tokens"))
    if read is not None and written is not None and total is not None:
        written = max(written, total - read)
    return Usage(read, written, None, _count(stats, "cached"))


def model(stats: object) -> str:
    """The model that used the most tokens."""
    models = stats.get("models") if isinstance(stats, Mapping) else None
    used = {
        str(name): _count(one, "total_tokens") or 0
        for name, one in (models.items() if isinstance(models, Mapping) else ())
        if isinstance(one, Mapping)
    }
    return max(used, key=lambda name: used[name], default="") if any(used.values()) else ""


def failure(event: Mapping[str, Any]) -> str:
    """What the error of a record says, without the frame that Gemini puts around it."""
    error = event.get("error")
    said = str(error.get("message") or "") if isinstance(error, Mapping) else str(event.get("message") or "")
    return re.sub(r"\A\[API Error: (.*?)\](?=\n|\Z)", r"\1", said, flags=re.S)


def retry(said: str) -> Event | None:
    """What a line of stderr says about a try that failed and is not the last one. Some are told in two lines."""
    tried, waits = _ATTEMPT.match(said), _WAITS.search(said)
    if not (tried or waits) or "Max attempts reached" in said:
        return None
    error = _ERROR.search(said)
    why = (tried and tried[3]) or (error and error[1]) or (tried and tried[2] and f"status {tried[2]}")
    wait = float(waits[1] or 0) / 1000 if waits else 0.0
    return Event(RETRY, str(why or (said[: waits.start()] if waits else "")).strip(". "), wait=wait)


def _init(event: Mapping[str, Any]) -> Iterator[Event]:
    yield Event(STARTED, name="gemini", model=text(event, "model"), session=text(event, "session_id"))


def _message(event: Mapping[str, Any]) -> Iterator[Event]:
    if event.get("role") == "assistant":  # the other one is the prompt
        yield Event(MESSAGE, text(event, "content"), part=event.get("delta") is True)


def _tool(event: Mapping[str, Any]) -> Iterator[Event]:
    given = event.get("parameters")
    if isinstance(given, Mapping):
        best = next((given[key] for key in _TELLING if given.get(key)), None)
        given = best if isinstance(best, str) else json.dumps(given, ensure_ascii=False)
    yield Event(TOOL, str(given or ""), name=text(event, "tool_name"))


def _result(event: Mapping[str, Any]) -> Iterator[Event]:
    if is_denied(event):
        yield Event(DENIED, name=denied(event))
    else:
        said = text(event, "output") or failure(event)
        yield Event(RESULT, said, error=event.get("status") == "error")


def is_denied(event: Mapping[str, Any]) -> bool:
    """Was this tool refused by a rule?"""
    error = event.get("error")
    return isinstance(error, Mapping) and error.get("type") == "policy_violation"


def denied(event: Mapping[str, Any]) -> str:
    """The tool that the record of a result is about: its id begins with the name."""
    return text(event, "tool_id").partition("__")[0]


def _error(event: Mapping[str, Any]) -> Iterator[Event]:
    yield Event(NOTE, failure(event), error=event.get("severity") == "error")


def _ended(event: Mapping[str, Any]) -> Iterator[Event]:
    stats, error = event.get("stats"), event.get("status") != "success"
    seconds = _count(stats, "duration_ms") if isinstance(stats, Mapping) else None
    said = (failure(event) or "failed") if error else ""
    yield Event(ENDED, said, error=error, usage=usage(stats), seconds=seconds / 1000 if seconds else None)


def _count(fields: Mapping[str, Any], key: str) -> int | None:
    value = fields.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def text(fields: Mapping[str, Any], key: str) -> str:
    """The text of a field, "" for anything else."""
    value = fields.get(key)
    return value if isinstance(value, str) else ""


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Event]]] = {
    "init": _init,
    "message": _message,
    "tool_use": _tool,
    "tool_result": _result,
    "error": _error,
    "result": _ended,
}
