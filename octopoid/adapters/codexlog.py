"""What Codex's JSONL says, line by line (measured with 0.169.0)."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from octopoid.adapters.events import DENIED, ENDED, MESSAGE, NOTE, RESULT, RETRY, STARTED, THINKING, TOOL, Event
from octopoid.model import Usage

_SHELLS = ("-c", "-lc")
WAITING = "Reconnecting..."
"""How it begins to say that it tries again to reach the model."""
_TRIED = re.compile(re.escape(WAITING) + r" (\d+)/(\d+)(?: \((.*)\))?\s*\Z", re.DOTALL)


def hear(line: bytes) -> tuple[Event, ...] | None:
    """What one line of the log says; None is not Codex's (or unknown): as it stands."""
    if not line.startswith(b"{"):
        return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    kind = str(event.get("type"))
    if not kind.startswith("item."):
        reader = _READERS.get(kind)
        return tuple(reader(event)) if reader else None
    item = event.get("item")
    if not isinstance(item, Mapping) or item.get("type") not in _ITEMS:
        return None
    return tuple(_ITEMS[item["type"]](item, kind == "item.completed"))


def usage(told: object) -> Usage:
    """The tokens of all turns of the session so far; money it does not tell."""
    if not isinstance(told, Mapping):
        return Usage()
    return Usage(_count(told, "input_tokens"), _count(told, "output_tokens"), None, _count(told, "cached_input_tokens"))


def _started(event: Mapping[str, Any]) -> Iterator[Event]:
    yield Event(STARTED, name="codex", session=str(event.get("thread_id") or ""))


def _nothing(_event: Mapping[str, Any]) -> Iterator[Event]:
    return iter(())


def _error(event: Mapping[str, Any]) -> Iterator[Event]:
    """A try that failed; the last one is told again by the end of the turn."""
    said = str(event.get("message") or "")
    if not said.startswith(WAITING):
        yield Event(NOTE, said, error=True)
        return
    tried = _TRIED.match(said)
    yield Event(RETRY, f"try {tried[1]} of {tried[2]}: {tried[3] or 'no answer'}" if tried else said)


def _ended(event: Mapping[str, Any]) -> Iterator[Event]:
    yield Event(ENDED, usage=usage(event.get("usage")))


def _failed(event: Mapping[str, Any]) -> Iterator[Event]:
    error = event.get("error")
    yield Event(ENDED, str(error.get("message") or "") if isinstance(error, Mapping) else "failed", error=True)


def _message(item: Mapping[str, Any], completed: bool) -> Iterator[Event]:
    if completed:
        yield Event(MESSAGE, _pretty(str(item.get("text"))))


def _reasoning(item: Mapping[str, Any], completed: bool) -> Iterator[Event]:
    if completed and item.get("text"):
        yield Event(THINKING, str(item["text"]))


def _command(item: Mapping[str, Any], completed: bool) -> Iterator[Event]:
    """Its command when it begins, what it printed when it ends."""
    if not completed:
        yield Event(TOOL, _unwrapped(str(item.get("command"))), name="shell")
        return
    status, said = item.get("exit_code"), str(item.get("aggregated_output") or "")
    yield Event(RESULT, said or (f"exit status {status}" if status else ""), error=bool(status))


def _unwrapped(command: str) -> str:
    """Without the shell that codex puts around it."""
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    return words[2] if len(words) == 3 and words[1] in _SHELLS else command


def _changed(item: Mapping[str, Any], completed: bool) -> Iterator[Event]:
    if completed:
        changes = item.get("changes")
        named = [f"{one.get('kind')} {one.get('path')}" for one in changes] if isinstance(changes, list) else []
        yield Event(DENIED if item.get("status") == "failed" else TOOL, ", ".join(named), name="edit")


def _tool(item: Mapping[str, Any], completed: bool) -> Iterator[Event]:
    if not completed:
        asked = json.dumps(item.get("arguments"), ensure_ascii=False)
        yield Event(TOOL, asked, name=f"{item.get('server')}.{item.get('tool')}")
    elif item.get("error"):
        yield Event(RESULT, json.dumps(item["error"], ensure_ascii=False), error=True)


def _search(item: Mapping[str, Any], completed: bool) -> Iterator[Event]:
    if completed:
        yield Event(TOOL, str(item.get("query")), name="web search")


def _list(item: Mapping[str, Any], _completed: bool) -> Iterator[Event]:
    items = item.get("items")
    lines = (
        f"[{'x' if one.get('completed') else ' '}] {one.get('text')}"
        for one in (items if isinstance(items, list) else ())
        if isinstance(one, Mapping)
    )
    if text := "\n".join(lines):
        yield Event(NOTE, text)


def _warning(item: Mapping[str, Any], completed: bool) -> Iterator[Event]:
    if completed:
        yield from _error(item)


def _pretty(said: str) -> str:
    """A word that is JSON, as a person reads it."""
    try:
        value = json.loads(said)
    except (ValueError, RecursionError):
        return said
    return json.dumps(value, indent=1, ensure_ascii=False) if isinstance(value, dict) else said


def _count(told: Mapping[str, Any], key: str) -> int | None:
    value = told.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Event]]] = {
    "thread.started": _started,
    "turn.started": _nothing,
    "turn.completed": _ended,
    "turn.failed": _failed,
    "error": _error,
}
_ITEMS: Mapping[str, Callable[[Mapping[str, Any], bool], Iterator[Event]]] = {
    "agent_message": _message,
    "reasoning": _reasoning,
    "command_execution": _command,
    "file_change": _changed,
    "mcp_tool_call": _tool,
    "web_search": _search,
    "todo_list": _list,
    "error": _warning,
}
