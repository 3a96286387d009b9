"""What a person says to an agent at work: files in its attempt's folder. And the hook by which Claude Code hears it.

`said/<n>.md` waits to be heard, `said/<n>.heard.md` was (at the time that the file has); n is the number of the entry
that `octopoid say` made. Whoever renames a message has it, so that two who look at once do not both tell it.

As a program (`python -I -S hearing.py ENTRY`, the standard library alone): Claude Code 2.1.197 starts it after every
tool call and when it is about to end, and reads JSON from its stdout. Where nothing was said it prints nothing.
"""

# What starts after every tool call loads no pathlib:
# ruff: noqa: PTH104, PTH118, PTH123
from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FOLDER, _WAITS, _HEARD = "said", ".md", ".heard.md"
LONGEST = 8000
"""Characters of one message. Claude Code takes 10,000 of a hook's at once, of more than that it shows 2,000."""
LINE = "octopoid_heard"
"""The subtype of the line that the hook adds to the log: Claude Code's own records do not show what a hook said."""

FIRST = "The person whose task this is says now, while you work:"
_TOLD = f"""\
{FIRST}

{{}}

This is part of the task from here on.\
"""
_ANSWER = "StructuredOutput"


def waiting(entry: str) -> list[str]:
    """The messages that nobody has heard yet, as paths, the oldest first. `entry`: the attempt's folder."""
    folder = os.path.join(entry, FOLDER)
    try:
        names = [name for name in os.listdir(folder) if name.removesuffix(_WAITS).isdecimal()]
    except OSError:
        return []
    return [os.path.join(folder, name) for name in sorted(names, key=lambda name: int(name.removesuffix(_WAITS)))]


def take(entry: str) -> list[tuple[str, str]]:
    """What was said and not heard yet, and how the agent is to be told. From here on it counts as heard."""
    return [(message[0], told(*message)) for message in map(_take, waiting(entry)) if message]


def heard(entry: str) -> list[tuple[int, float]]:
    """Which messages were heard, by the numbers of their entries, and when (seconds since the epoch)."""
    folder = os.path.join(entry, FOLDER)
    found = []
    try:
        for one in os.scandir(folder):
            number = one.name.removesuffix(_HEARD)
            if number.isdecimal():
                found.append((int(number), one.stat(follow_symlinks=False).st_mtime))
    except OSError:
        return []
    return sorted(found)


def name(number: int) -> str:
    """The file in FOLDER in which the message of the entry `number` waits."""
    return f"{number:03d}{_WAITS}"


def told(text: str, path: str) -> str:
    """A message as an agent reads it. `path`: where the whole of it is."""
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}\n[… {len(text) - LONGEST} characters are left out; the whole of it: {path}]"
    return _TOLD.format(text)


def _take(path: str) -> tuple[str, str] | None:
    """The message at `path`, and where it is from now on; None where somebody else has it."""
    target = path.removesuffix(_WAITS) + _HEARD
    try:
        os.rename(path, target)
        os.utime(target, follow_symlinks=False)
        # what stands there may be a pipe: an agent can reach this folder, too
        fd = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        with open(fd, encoding="utf-8", errors="replace") as file:
            return file.read(), target
    except OSError:
        return None


# --- the hook ----------------------------------------------------------------------------------------------------


def main() -> None:
    """Tell Claude Code what was said. What it does with a hook's JSON depends on the event."""
    entry = sys.argv[1]
    event = json.load(sys.stdin)
    if event.get("agent_id") or event.get("tool_name") == _ANSWER:
        return  # a helper of its own, which does not have the task; or its last word, after which it hears nothing
    messages = take(entry)
    if not messages:
        return
    said = "\n\n".join(told for _, told in messages)
    sys.stdout.write(json.dumps(_reply(str(event.get("hook_event_name")), said)))
    sys.stdout.flush()
    for words, _ in messages:
        _log(os.path.join(entry, "output.log"), {"type": "system", "subtype": LINE, "text": words})


def _reply(event: str, said: str) -> dict[str, Any]:
    if event == "Stop":  # it does not end then; it tells this as "feedback"
        return {"decision": "block", "reason": said}
    return {"hookSpecificOutput": {"hookEventName": event, "additionalContext": said}}


def _log(path: str, record: dict[str, Any]) -> None:
    """Append a line to the log, which others write to as well: by one write, and not into the middle of a line."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        size = os.fstat(fd).st_size
        if size == 0 or os.pread(fd, 1, size - 1) == b"\n":
            os.write(fd, json.dumps(record).encode() + b"\n")
    finally:
        os.close(fd)


if __name__ == "__main__":
    main()
