"""The note for agents in a project's AGENTS.md: between two markers, and nothing else of the file is ours."""

from __future__ import annotations

import os
import stat
from enum import Enum
from pathlib import Path

from octopoid import durable
from octopoid.errors import Conflict

NAME = "AGENTS.md"
BEGIN, END = b"<!-- octopoid:begin -->", b"<!-- octopoid:end -->"
NOTE = """\
## Octopoid

Tasks of this project are worked on through octopoid: each by an agent in a git worktree of its own, and checked and
reviewed before it lands.

- While you work on such a task (`OCTOPOID_RESULT_FILE` is set), `octopoid instructions` says how. What you notice
  beside it goes into `discovered` of your result.
- Otherwise new work becomes a task by `octopoid enqueue "Title" -b "What is wanted"`; `octopoid list` shows the others.
- Do not edit or move files in `.octopoid/queue/`: they are other people's tasks, and some are being worked on.
"""
_BOM = b"\xef\xbb\xbf"


class Done(Enum):
    """What became of the note."""

    ADDED = "added"
    REPLACED = "replaced"
    SAME = "same"


def write(root: Path) -> tuple[Path, Done]:
    """Put the note into the AGENTS.md of `root`, or bring it up to date; the file that was written.

    Line ends, BOM, mode and everything outside the markers stay. Raises Conflict where it cannot be done safely: then
    nothing was written.
    """
    path = _file(root)
    before = _read(path)
    after = put(before, path.name)
    if after == before:
        return path, Done.SAME
    durable.write(path, after)
    return path, Done.REPLACED if BEGIN in before else Done.ADDED


def is_there(root: Path) -> bool:
    """Has the AGENTS.md of `root` a note of ours, be it up to date or not?"""
    try:
        return BEGIN in _read(_file(root))
    except (Conflict, OSError):
        return False


def put(data: bytes, name: str = NAME) -> bytes:
    """`data` with the present note in the place of the one that is there, else at its end after an empty line."""
    if b"\0" in data:
        raise Conflict(f"{name} is not UTF-8 text", "save it as UTF-8")
    newline = b"\r\n" if data.count(b"\r\n") * 2 > data.count(b"\n") else b"\n"
    note = newline.join((BEGIN, *NOTE.encode().rstrip(b"\n").split(b"\n"), END))
    place = _place(data, name)
    if place:
        return data[: place[0]] + note + data[place[1] :]
    if not data.removeprefix(_BOM):
        return data + note + newline
    if not data.endswith(b"\n"):  # a file that ends without one goes on doing so
        return data + newline * 2 + note
    gap = b"" if data.endswith((b"\n\n", b"\n\r\n")) else newline
    return data + gap + note + newline


def _place(data: bytes, name: str) -> tuple[int, int] | None:
    """Where the note is, from its first marker to its last."""
    begins, ends = data.count(BEGIN), data.count(END)
    if not begins and not ends:
        return None
    start, stop = data.find(BEGIN), data.find(END)
    if (begins, ends) != (1, 1) or stop < start:
        marks = f"{BEGIN.decode()} and {END.decode()}"
        line = data.count(b"\n", 0, max(start, 0)) + 1
        raise Conflict(
            f"{name}:{line}: the markers {marks} are not there once each, in this order", "mend them by hand"
        )
    return start, stop + len(END)


def _file(root: Path) -> Path:
    """The file itself, through links that stay inside the repository (people link AGENTS.md to CLAUDE.md)."""
    path = root / NAME
    real, top = Path(os.path.realpath(path)), Path(os.path.realpath(root))
    if real != top / NAME and (not real.is_relative_to(top) or ".git" in real.relative_to(top).parts):
        raise Conflict(f"{path} leads out of the repository, to {real}", "write the note there by hand, or unlink it")
    return real


def _read(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise Conflict(f"{path} is not a file", "octopoid writes its note into a file")
    except FileNotFoundError:
        return b""
    return path.read_bytes()
