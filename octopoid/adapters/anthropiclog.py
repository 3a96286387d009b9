"""What the built-in agent prints, line by line, for people. The log itself keeps every byte."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from octopoid.results import bounded

_ANSWER, _COMMAND, _RESULT = 4000, 800, 1200
"""Characters that are kept of what the model says, asks a tool, and gets from it; the middle is left out."""

_TELLING = ("command", "path", "arguments", "summary")
"""Which of a tool's arguments says best what it is asked, best first."""


def tell(line: bytes) -> str | None:
    """One line of the log as text; "" is nothing to tell, None is not the built-in agent's: as it stands."""
    if not line.startswith(b'{"type":'):
        return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    teller = _TELLERS.get(str(event.get("type")))
    return teller(event) if teller else None


def _started(event: Mapping[str, Any]) -> str:
    goes_on = f", goes on from {event['resumes']}" if event.get("resumes") else ""
    return f"built-in agent, model {event.get('model')}, session {event.get('session')}{goes_on}"


def _message(event: Mapping[str, Any]) -> str:
    return bounded(str(event.get("text")), _ANSWER)


def _thinking(event: Mapping[str, Any]) -> str:
    return _indented(bounded(str(event.get("text")), _ANSWER), "~ ", "~ ")


def _tool(event: Mapping[str, Any]) -> str:
    return _indented(f"> {event.get('name')}: {_asked(event)}", "", "  ")


def _asked(event: Mapping[str, Any]) -> str:
    """An edit by its verb and its file, a command as it is, the word at the end as a whole."""
    given = event.get("input")
    if not isinstance(given, Mapping):
        return bounded(str(given), _COMMAND)
    if event.get("name") == "finish":
        return bounded(json.dumps(given, indent=1, ensure_ascii=False), _ANSWER)
    if "path" in given:
        return bounded(f"{given.get('command')} {given['path']}", _COMMAND)
    best = next((given[key] for key in _TELLING if given.get(key)), given)
    if isinstance(best, list):
        best = " ".join(map(str, best))
    return bounded(best if isinstance(best, str) else json.dumps(best, ensure_ascii=False), _COMMAND)


def _result(event: Mapping[str, Any]) -> str:
    said = bounded(str(event.get("text") or ""), _RESULT)
    return _indented(said, "! " if event.get("error") else "  ", "  ") if said else ""


def _retry(event: Mapping[str, Any]) -> str:
    what = event.get("status") or event.get("why") or "no answer"
    wait = f" in {event['wait']:g} s" if isinstance(event.get("wait"), int | float) else ""
    return f"! the model did not answer ({what}): try {event.get('try')} of {event.get('of')}{wait}"


def _summarised(event: Mapping[str, Any]) -> str:
    return f"* the conversation had {event.get('tokens')} tokens and was summarised"


def _ended(event: Mapping[str, Any]) -> str:
    total = event.get("total")
    total = total if isinstance(total, Mapping) else {}
    tokens = (total.get("input_tokens") or 0) + (total.get("output_tokens") or 0)
    usd = total.get("usd")
    cost = f"${usd:.4f}" if isinstance(usd, int | float) else "cost unknown"
    line = f"= {event.get('turns')} turns, {event.get('seconds')} s, {tokens} tokens, {cost}"
    if event.get("class") == "ok" and not event.get("detail"):
        return line
    said = ": ".join(str(part) for part in (event.get("reason"), event.get("detail")) if part)
    return f"{line}\n{_indented(bounded(said, _RESULT), '! ', '  ')}"


def _indented(text: str, first: str, rest: str) -> str:
    return first + text.replace("\n", f"\n{rest}")


_TELLERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "started": _started,
    "message": _message,
    "thinking": _thinking,
    "tool": _tool,
    "tool_result": _result,
    "retry": _retry,
    "summarised": _summarised,
    "usage": lambda _: "",
    "alive": lambda _: "",
    "ended": _ended,
}
