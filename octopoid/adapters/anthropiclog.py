"""What the built-in agent prints, line by line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

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

_TELLING = ("command", "path", "arguments", "summary")
"""Which of a tool's arguments says best what it is asked, best first."""


def hear(line: bytes) -> tuple[Event, ...] | None:
    """What one line of the log says; None is not the built-in agent's: as it stands."""
    if not line.startswith(b'{"type":'):
        return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    reader = _READERS.get(str(event.get("type")))
    return tuple(reader(event)) if reader else None


def total(told: object) -> Usage:
    """Of the whole attempt so far. A model without a price has an unknown cost, never none."""
    if not isinstance(told, Mapping):
        return Usage()
    read, written, cached = (amount(told.get(key)) for key in ("input_tokens", "output_tokens", "cached_tokens"))
    return Usage(_whole(read), _whole(written), amount(told.get("usd")), _whole(cached), _text(told, "priced"))


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _started(event: Mapping[str, Any]) -> Iterator[Event]:
    yield Event(STARTED, name="built-in agent", model=_text(event, "model"), session=_text(event, "session"))
    if event.get("resumes"):
        yield Event(NOTE, f"goes on from {event['resumes']}")


def _message(event: Mapping[str, Any]) -> Iterator[Event]:
    yield Event(MESSAGE, str(event.get("text")))


def _thinking(event: Mapping[str, Any]) -> Iterator[Event]:
    yield Event(THINKING, str(event.get("text")))


def _tool(event: Mapping[str, Any]) -> Iterator[Event]:
    yield Event(TOOL, _asked(event), name=_text(event, "name"))


def _asked(event: Mapping[str, Any]) -> str:
    """An edit by its verb and its file, a command as it is, the word at the end as a whole."""
    given = event.get("input")
    if not isinstance(given, Mapping):
        return str(given)
    if event.get("name") == "finish":
        return json.dumps(given, indent=1, ensure_ascii=False)
    if "path" in given:
        return f"{given.get('command')} {given['path']}"
    best = next((given[key] for key in _TELLING if given.get(key)), given)
    if isinstance(best, list):
        best = " ".join(map(str, best))
    return best if isinstance(best, str) else json.dumps(best, ensure_ascii=False)


def _result(event: Mapping[str, Any]) -> Iterator[Event]:
    if event.get("denied"):
        yield Event(DENIED, str(event.get("text") or ""), name=_text(event, "name"))
    else:
        yield Event(RESULT, str(event.get("text") or ""), error=bool(event.get("error")))


def _usage(event: Mapping[str, Any]) -> Iterator[Event]:
    parts = [amount(event.get(key)) or 0.0 for key in ("input", "cache_read", "cache_write")]
    used = Usage(int(sum(parts)), _whole(amount(event.get("output"))), amount(event.get("usd")), int(parts[1]))
    yield Event(USAGE, usage=used, answer=str(event.get("turn") or ""))


def _retry(event: Mapping[str, Any]) -> Iterator[Event]:
    what = event.get("status") or event.get("why") or "no answer"
    yield Event(RETRY, f"{what}, try {event.get('try')} of {event.get('of')}", wait=amount(event.get("wait")) or 0.0)


def _heard(event: Mapping[str, Any]) -> Iterator[Event]:
    yield Event(NOTE, f"heard from a person: {event.get('text')}")


def _summarised(event: Mapping[str, Any]) -> Iterator[Event]:
    yield Event(NOTE, f"the conversation had {event.get('tokens')} tokens and was summarised")


def _ended(event: Mapping[str, Any]) -> Iterator[Event]:
    """The detail of a good end is what was denied on the way."""
    bad, detail = event.get("class") != "ok", str(event.get("detail") or "")
    if detail and not bad:
        yield Event(NOTE, detail, error=True)
    said = ": ".join(part for part in (str(event.get("reason") or ""), detail) if part) if bad else ""
    turns, seconds = amount(event.get("turns")), amount(event.get("seconds"))
    yield Event(ENDED, said, error=bad, usage=total(event.get("total")), turns=_whole(turns), seconds=seconds)


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    return value if isinstance(value, str) else ""


def _nothing(_event: Mapping[str, Any]) -> Iterator[Event]:
    return iter(())


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Event]]] = {
    "started": _started,
    "message": _message,
    "thinking": _thinking,
    "tool": _tool,
    "tool_result": _result,
    "retry": _retry,
    "heard": _heard,
    "summarised": _summarised,
    "usage": _usage,
    "alive": _nothing,
    "ended": _ended,
}
