"""What Codex's JSONL says, line by line, for people. The log itself keeps every byte."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from octopoid.results import bounded

_ANSWER, _COMMAND, _RESULT = 4000, 800, 1200
"""Characters that are kept of what the model says, asks a tool, and gets from it; the middle is left out."""

_SHELLS = ("-c", "-lc")


def tell(line: bytes) -> str | None:
    """One line of the log as text; "" is nothing to tell, None is not Codex's (or unknown): as it stands."""
    if not line.startswith(b"{"):
        return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    kind = str(event.get("type"))
    if not kind.startswith("item."):
        teller = _TELLERS.get(kind)
        return "\n".join(teller(event)) if teller else None
    item = event.get("item")
    if not isinstance(item, Mapping) or item.get("type") not in _ITEMS:
        return None
    return "\n".join(_ITEMS[item["type"]](item, kind == "item.completed"))


def _started(event: Mapping[str, Any]) -> Iterator[str]:
    yield f"codex, session {event.get('thread_id')}"


def _nothing(_event: Mapping[str, Any]) -> Iterator[str]:
    return iter(())


def _error(event: Mapping[str, Any]) -> Iterator[str]:
    yield _indented(f"! {bounded(str(event.get('message')), _RESULT)}", "  ")


def _ended(event: Mapping[str, Any]) -> Iterator[str]:
    usage = event.get("usage")
    if isinstance(usage, Mapping):
        cached = f" ({usage['cached_input_tokens']} from the cache)" if usage.get("cached_input_tokens") else ""
        yield f"= {usage.get('input_tokens')} tokens in{cached}, {usage.get('output_tokens')} out"


def _failed(_event: Mapping[str, Any]) -> Iterator[str]:
    """Why, says the `error` before it."""
    yield "= failed"


def _message(item: Mapping[str, Any], completed: bool) -> Iterator[str]:
    if completed:
        yield _pretty(bounded(str(item.get("text")), _ANSWER))


def _reasoning(item: Mapping[str, Any], completed: bool) -> Iterator[str]:
    if completed and item.get("text"):
        yield _indented(f"~ {bounded(str(item['text']), _ANSWER)}", "~ ")


def _command(item: Mapping[str, Any], completed: bool) -> Iterator[str]:
    """Its command when it begins, what it printed when it ends."""
    if not completed:
        yield _indented(f"> {bounded(_unwrapped(str(item.get('command'))), _COMMAND)}", "  ")
        return
    said = bounded(str(item.get("aggregated_output") or ""), _RESULT)
    status = item.get("exit_code")
    if said:
        yield _indented(f"{'! ' if status else '  '}{said}", "  ")
    elif status:
        yield f"! exit status {status}"


def _unwrapped(command: str) -> str:
    """Without the shell that codex puts around it."""
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    return words[2] if len(words) == 3 and words[1] in _SHELLS else command


def _changed(item: Mapping[str, Any], completed: bool) -> Iterator[str]:
    if completed:
        changes = item.get("changes")
        named = [f"{one.get('kind')} {one.get('path')}" for one in changes] if isinstance(changes, list) else []
        sign = "!" if item.get("status") == "failed" else ">"
        yield bounded(f"{sign} edit: {', '.join(named)}", _COMMAND)


def _tool(item: Mapping[str, Any], completed: bool) -> Iterator[str]:
    if not completed:
        asked = json.dumps(item.get("arguments"), ensure_ascii=False)
        yield bounded(f"> {item.get('server')}.{item.get('tool')}: {asked}", _COMMAND)
    elif item.get("error"):
        yield _indented(f"! {bounded(json.dumps(item['error'], ensure_ascii=False), _RESULT)}", "  ")


def _search(item: Mapping[str, Any], completed: bool) -> Iterator[str]:
    if completed:
        yield bounded(f"> web search: {item.get('query')}", _COMMAND)


def _list(item: Mapping[str, Any], _completed: bool) -> Iterator[str]:
    items = item.get("items")
    for one in items if isinstance(items, list) else ():
        if isinstance(one, Mapping):
            yield bounded(f"- [{'x' if one.get('completed') else ' '}] {one.get('text')}", _COMMAND)


def _warning(item: Mapping[str, Any], completed: bool) -> Iterator[str]:
    if completed:
        yield from _error(item)


def _pretty(said: str) -> str:
    """A word that is JSON, as a person reads it."""
    try:
        value = json.loads(said)
    except (ValueError, RecursionError):
        return said
    return json.dumps(value, indent=1, ensure_ascii=False) if isinstance(value, dict) else said


def _indented(text: str, rest: str) -> str:
    return text.replace("\n", f"\n{rest}")


_TELLERS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {
    "thread.started": _started,
    "turn.started": _nothing,
    "turn.completed": _ended,
    "turn.failed": _failed,
    "error": _error,
}
_ITEMS: Mapping[str, Callable[[Mapping[str, Any], bool], Iterator[str]]] = {
    "agent_message": _message,
    "reasoning": _reasoning,
    "command_execution": _command,
    "file_change": _changed,
    "mcp_tool_call": _tool,
    "web_search": _search,
    "todo_list": _list,
    "error": _warning,
}
