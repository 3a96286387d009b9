"""What the commands share: where the queue is, how to speak, how to do one thing to several tasks."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from octopoid import lifecycle, store
from octopoid.errors import NotFound, OctopoidError
from octopoid.layout import Layout, find_root

SCHEMA_VERSION = 1

# Colours and cursor movements (CSI), titles and links (OSC), other escapes; then what is left of control characters,
# and the marks that turn the direction of text around (a reader must see what is there).
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")

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
    return _CONTROLS.sub("\ufffd", _ESCAPES.sub("", text.replace("\r\n", "\n")))


def one_line(text: str, limit: int = 0) -> str:
    """The first line of untrusted `text` that says something; at most `limit` characters (0: all of it)."""
    first = next((line.strip() for line in clean_text(text).splitlines() if line.strip()), "")
    return first if not limit or len(first) <= limit else f"{first[: limit - 1]}…"


def resolve(where: Layout, words: Iterable[str]) -> list[str]:
    """The ids that `words` name, each once: exact ids or unique prefixes. Raises before anything is done."""
    return list(dict.fromkeys(lifecycle.resolve(where, word) for word in words))


def each(ids: list[str], action: Callable[[str], None]) -> None:
    """Run `action` on every id, also after one failed.

    Of one id the error goes to the caller; of several each error is told and the worst exit code is raised at the end
    (typer.Exit).
    """
    if len(ids) == 1:
        action(ids[0])
        return
    worst = 0
    for task in ids:
        try:
            action(task)
        except OctopoidError as error:
            say(f"{task}: {error.message}")
            if error.hint:
                say(f"  {error.hint}")
            worst = max(worst, error.exit_code)
    if worst:
        raise typer.Exit(worst)


def examples(*commands: str) -> str:
    """The end of a command's help: `@cli.command(epilog=examples("octopoid show add-login"))`."""
    return "\n".join(("\b", "Examples:", *(f"  {one}" for one in commands)))


def complete_ids(incomplete: str) -> list[str]:
    """Ids for the shell's completion; none where there is no queue."""
    try:
        return sorted(one for one in store.every_id(layout()) if one.startswith(incomplete))
    except (OctopoidError, OSError):
        return []


Id = Annotated[
    str, typer.Argument(metavar="ID", help="A task: its id, or a unique beginning of it.", autocompletion=complete_ids)
]
Ids = Annotated[
    list[str], typer.Argument(metavar="ID…", help="Tasks: ids, or unique beginnings.", autocompletion=complete_ids)
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
