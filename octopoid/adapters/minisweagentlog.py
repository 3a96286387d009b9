"""What mini-swe-agent's log says, line by line: the records of `minisweagent_inside` (measured with 2.4.6)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from octopoid.adapters.events import ENDED, MESSAGE, NOTE, RESULT, RETRY, STARTED, THINKING, TOOL, USAGE, Event
from octopoid.model import Usage

_PRELUDE = (b"Building agent config from specs:", b"Warning: Input is not a terminal")
_RUN = "run"
"""The id of its usage records: each is about the whole run so far, and replaces the one before."""


def record(line: bytes) -> dict[str, Any] | None:
    """The record on this line; None is something else: a warning, a stack, what was printed before it began."""
    if not line.startswith(b'{"type": "'):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value.get("type") in _READERS else None


def hear(line: bytes) -> tuple[Event, ...] | None:
    """What one line of the log says."""
    said = record(line)
    if said is None:
        return () if line.startswith(_PRELUDE) else None
    return (_READERS[said["type"]](said),)


def usage(said: Mapping[str, Any]) -> Usage:
    """Tokens and money of the run so far. It counts what has no known price as nothing: that is unknown here."""
    usd = number(said, "usd")
    read, written, cached = (_count(said, key) for key in ("input_tokens", "output_tokens", "cached_tokens"))
    return Usage(read, written, usd or None, cached)


def text(said: Mapping[str, Any], key: str = "text") -> str:
    """A field that is text."""
    value = said.get(key)
    return value if isinstance(value, str) else ""


def number(said: Mapping[str, Any], key: str) -> float | None:
    """A field that is a number from 0, also where it is written as text (a header)."""
    value = said.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return found if 0 <= found < float("inf") else None


def _count(said: Mapping[str, Any], key: str) -> int | None:
    value = said.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _started(said: Mapping[str, Any]) -> Event:
    return Event(STARTED, name=f"mini-swe-agent {text(said, 'version')}", model=text(said, "model"))


def _result(said: Mapping[str, Any]) -> Event:
    status = said.get("status")
    return Event(RESULT, text(said) or (f"exit status {status}" if status else ""), error=bool(status))


def _usage(said: Mapping[str, Any]) -> Event:
    return Event(USAGE, usage=usage(said), answer=_RUN, turns=_count(said, "turns"))


def _ended(said: Mapping[str, Any]) -> Event:
    good = said.get("status") == "Submitted"
    told = text(said, "submission") if good else text(said) or text(said, "status")
    return Event(ENDED, told, error=not good, usage=usage(said), turns=_count(said, "turns"))


def _plain(kind: str, name: str = "") -> Callable[[Mapping[str, Any]], Event]:
    return lambda said: Event(kind, text(said), name=name)


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Event]] = {
    "started": _started,
    "message": _plain(MESSAGE),
    "thinking": _plain(THINKING),
    "tool": _plain(TOOL, "bash"),
    "result": _result,
    "usage": _usage,
    "retry": _plain(RETRY),
    "note": _plain(NOTE),
    "ended": _ended,
}
