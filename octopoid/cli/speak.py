"""Where the queue is and how to speak to people and programs: what every command needs, without typer.

Half of the time of a start is typer, and bare `octopoid` does without (see `app`).
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from octopoid.errors import NotFound
from octopoid.layout import Layout, find_root

SCHEMA_VERSION = 1

# Colours and cursor movements (CSI), titles and links (OSC), other escapes; then what is left of control characters,
# and the marks that turn the direction of text around (a reader must see what is there). Compiled when they are needed.
_ESCAPES = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[ -/]*[0-~])"
_CONTROLS = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]"

_chosen = {"root": "", "color": "auto"}
"""The global options, set once by the group before the command runs."""


def choose(root: str, color: str) -> None:
    """Remember the global options."""
    _chosen.update(root=root, color=color)


def layout() -> Layout:
    """The layout of the repository we are in, or of `--root` / `OCTOPOID_ROOT`. Raises NotFound, UsageError."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise NotFound("the folder you are in does not exist any more", "cd to one that does") from None
    return find_root(here, _chosen["root"] or os.environ.get("OCTOPOID_ROOT") or None)


def now() -> float:
    """Seconds since the epoch."""
    return time.time()


def out(text: str = "") -> None:
    """A line of data: stdout."""
    sys.stdout.write(f"{text}\n")


def say(text: str) -> None:
    """A line for the person: stderr."""
    sys.stdout.flush()  # in a terminal both go to one place: keep the order
    sys.stderr.write(f"{text}\n")


def next_step(text: str) -> None:
    """What to do next, the last line of a command: stderr."""
    say(f"next: {text}")


def emit(kind: str, **fields: Any) -> None:
    """One JSON object on stdout: `{"schema_version": 1, "kind": kind, …}`; indented for a terminal, else one line."""
    out(json_text({"schema_version": SCHEMA_VERSION, "kind": kind, **fields}, indent=2 if terminal() else None))


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON that stdout can carry in its encoding."""
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    return json.dumps(value, ensure_ascii=plain, indent=indent)


def terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def interactive() -> bool:
    """Whether there is a person to ask: both stdin and stderr are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def color() -> bool:
    """Whether stdout may be coloured: `--color`, then `NO_COLOR`, then a terminal that can."""
    if _chosen["color"] != "auto":
        return _chosen["color"] == "always"
    return terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def clean_text(text: str) -> str:
    """Untrusted text without terminal escapes and control characters; newlines and tabs stay."""
    if text.isprintable():
        return text
    return re.sub(_CONTROLS, "\ufffd", re.sub(_ESCAPES, "", text.replace("\r\n", "\n")))


def one_line(text: str, limit: int = 0) -> str:
    """The first line of untrusted `text` that says something; at most `limit` characters (0: all of it)."""
    first = next((line.strip() for line in clean_text(text).splitlines() if line.strip()), "")
    return first if not limit or len(first) <= limit else f"{first[: limit - 1]}…"
