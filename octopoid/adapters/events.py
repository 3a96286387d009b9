"""What an agent program does, in the same words for every program: what its records are read into, and how a person
sees it. The log itself keeps every byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from octopoid.model import Usage
from octopoid.results import bounded

STARTED, MESSAGE, THINKING, TOOL, RESULT = "started", "message", "thinking", "tool", "result"
USAGE, RETRY, DENIED, NOTE, ENDED = "usage", "retry", "denied", "note", "ended"
KINDS = (STARTED, MESSAGE, THINKING, TOOL, RESULT, USAGE, RETRY, DENIED, NOTE, ENDED)

ANSWER, COMMAND, OUTPUT = 4000, 800, 1200
"""Characters that a person sees of what the model says, asks a tool, and gets from it; the middle is left out."""
LINES = 12
"""Lines that a person sees of what a tool gave."""


class Event(NamedTuple):
    """One thing that happened. Which fields count depends on `kind`:

    started: `name` the program with its version, `model`, `session`.
    message, thinking: `text` of the model; `part`: it goes on where the one before it stopped.
    tool: `name`, and `text` what it is asked. result: `text` what that gave, `error` if it failed.
    usage: `usage` of one answer of the model, `answer` its id: a later one with the same id replaces it; `model`;
    `turns` where it is about more than one.
    retry: the model did not answer, `text` why, `wait` seconds until the next try (0 = not told).
    denied: `name` of the tool that was refused, `text` what it was to do.
    note: `text` of the program itself, `error` if it bodes ill.
    ended: `text` how, `error` if badly; `usage` and `turns` of the whole run, `seconds`, where they are told.
    `inside`: a helper of the agent's own does it.
    """

    kind: str
    text: str = ""
    name: str = ""
    model: str = ""
    session: str = ""
    error: bool = False
    part: bool = False
    inside: bool = False
    usage: Usage = Usage()
    answer: str = ""
    wait: float = 0.0
    turns: int | None = None
    seconds: float | None = None


Hear = Callable[[bytes], "tuple[Event, ...] | None"]
"""One line of a log as what it says; () is nothing, None is no record of this program: text as it stands."""


def at_home(event: Event, home: str) -> Event:
    """The event with paths below `home`, the agent's worktree, as the agent would say them from there."""
    if not home or home not in event.text or event.kind not in (TOOL, DENIED):
        return event
    here = re.compile(r"(?<![\w.-])" + re.escape(home) + r"(?:(/)(?=[^\s'\"])|/?(?![\w.-]))")
    return event._replace(text=here.sub(lambda found: "" if found[1] else ".", event.text))


_MOST = 1e15
"""More than this is no count of tokens, seconds or dollars: somebody wrote it who wanted to see what happens."""


def amount(value: object) -> float | None:
    """A number from 0; None for anything else: an unknown cost is never shown as zero."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST:
        return None
    return float(value)


def told(event: Event) -> str:
    """The event as a person reads it, whole lines without the last line's end; "" is nothing to tell."""
    text = _TOLD[event.kind](event)
    return _indented(text, "  | ", "  | ") if event.inside and text else text


def _started(event: Event) -> str:
    parts = (event.name, event.model and f"model {event.model}", event.session and f"session {event.session}")
    return ", ".join(part for part in parts if part)


def _tool(event: Event) -> str:
    asked = bounded(event.text, COMMAND)
    return _indented(f"> {event.name}: {asked}" if event.name else f"> {asked}", "", "  ")


def _result(event: Event) -> str:
    said = bounded(_few_lines(event.text.strip("\n")), OUTPUT)
    return _indented(said, "! " if event.error else "  ", "  ") if said else ""


def _retry(event: Event) -> str:
    wait = f"; tries again in {event.wait:.1f} s" if event.wait else ""
    return f"! the model did not answer ({bounded(event.text, OUTPUT) or 'no answer'}){wait}"


def _denied(event: Event) -> str:
    return _indented(f"! denied: {event.name}: {bounded(event.text, COMMAND)}".rstrip(": "), "", "  ")


def _note(event: Event) -> str:
    return _indented(f"{'!' if event.error else '*'} {bounded(event.text, OUTPUT)}", "", "  ")


def _ended(event: Event) -> str:
    line = f"= {spent(event) or 'ended'}"
    said = bounded(event.text, OUTPUT)
    return f"{line}\n{_indented(said, '! ', '  ') if event.error else said}" if said else line


def spent(event: Event) -> str:
    """`12 turns, 95.2 s, 48,211 tokens in, 3,100 out, $0.4211`: what of it is known. `~`: from a table of prices."""
    facts = (
        "" if event.turns is None else f"{event.turns:,} turn{'' if event.turns == 1 else 's'}",
        "" if event.seconds is None else f"{event.seconds:.1f} s",
        tokens(event.usage),
        "" if event.usage.usd is None else f"{'~' if event.usage.priced else ''}${event.usage.usd:.4f}",
    )
    return ", ".join(fact for fact in facts if fact)


def tokens(usage: Usage) -> str:
    """`12,345 tokens in (10,000 from the cache), 678 out`; "" where they are unknown."""
    if usage.input_tokens is None and usage.output_tokens is None:
        return ""
    cached = f" ({usage.cached_tokens:,} from the cache)" if usage.cached_tokens else ""
    return f"{_count(usage.input_tokens)} tokens in{cached}, {_count(usage.output_tokens)} out"


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _few_lines(text: str) -> str:
    lines = text.split("\n")
    if len(lines) <= LINES:
        return text
    kept = LINES // 2
    return "\n".join((*lines[:kept], f"[… {len(lines) - 2 * kept} lines left out …]", *lines[-kept:]))


def _indented(text: str, first: str, rest: str) -> str:
    return first + text.replace("\n", f"\n{rest}")


_TOLD: Mapping[str, Callable[[Event], str]] = {
    STARTED: _started,
    MESSAGE: lambda event: bounded(event.text, ANSWER),
    THINKING: lambda event: _indented(bounded(event.text, ANSWER), "~ ", "~ ") if event.text else "",
    TOOL: _tool,
    RESULT: _result,
    USAGE: lambda _: "",
    RETRY: _retry,
    DENIED: _denied,
    NOTE: _note,
    ENDED: _ended,
}
