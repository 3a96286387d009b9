"""Where the queue is and how to speak to people and programs: what every command needs, without typer.

Half of the time of a start is typer, and bare `octopoid` does without (see `app`).
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from octopoid import formats
from octopoid.errors import NotFound
from octopoid.layout import Layout, find_root
from octopoid.legible import clean_text, escaped, one_line

__all__ = [
    "SCHEMA_VERSION",
    "choose",
    "clean_text",
    "color",
    "data",
    "emit",
    "interactive",
    "json_text",
    "layout",
    "next_step",
    "now",
    "one_line",
    "out",
    "say",
    "terminal",
]

SCHEMA_VERSION = 1

_chosen = {"root": "", "color": "auto"}
"""The global options, set once by the group before the command runs."""


def choose(root: str, color: str) -> None:
    """Remember the global options."""
    _chosen.update(root=root, color=color)


def layout(any_format: bool = False) -> Layout:
    """The layout of the repository we are in, or of `--root` / `OCTOPOID_ROOT`. Raises NotFound, UsageError.

    Raises Invalid where a newer octopoid wrote there, unless `any_format`: what it wrote may mean something else.
    """
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise NotFound("the folder you are in does not exist any more", "cd to one that does") from None
    found = find_root(here, _chosen["root"] or os.environ.get("OCTOPOID_ROOT") or None)
    if not any_format:
        formats.check(found)
    return found


def now() -> float:
    """Seconds since the epoch."""
    return time.time()


def out(text: str = "") -> None:
    """A line for people: stdout. Whoever wrote what is in it, it cannot act on a terminal."""
    sys.stdout.write(f"{clean_text(text)}\n")


def data(text: str) -> None:
    """A line that a program reads, or that we coloured: stdout, as it is."""
    sys.stdout.write(f"{text}\n")


def say(text: str) -> None:
    """A line for the person: stderr, clean as in `out`."""
    sys.stdout.flush()  # in a terminal both go to one place: keep the order
    sys.stderr.write(f"{clean_text(text)}\n")


def next_step(text: str) -> None:
    """What to do next, the last line of a command: stderr."""
    say(f"next: {text}")


def emit(kind: str, **fields: Any) -> None:
    """One JSON object on stdout: `{"schema_version": 1, "kind": kind, …}`; indented for a terminal, else one line."""
    data(json_text({"schema_version": SCHEMA_VERSION, "kind": kind, **fields}, indent=2 if terminal() else None))


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON that stdout can carry in its encoding, and a terminal without harm."""
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    text = json.dumps(value, ensure_ascii=plain, indent=indent)
    return escaped(text) if terminal() else text


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
