"""The tool `str_replace_based_edit_tool`: looks at files and changes them, and never leaves its folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from octopoid.errors import OctopoidError
from octopoid.results import clean

SHOWN = 40_000
"""Characters of a file that are shown at once."""
LARGEST = 16 << 20
"""Bytes of a file that is opened."""
_ENTRIES = 200
_AROUND = 4
"""Lines before and after a change that are shown."""

LOOKING, CHANGING = ("view",), ("create", "str_replace", "insert")


class Refused(OctopoidError):
    """It cannot be done, and why. `denied`: it may not be done."""

    def __init__(self, message: str, denied: bool = False) -> None:
        super().__init__(message)
        self.denied = denied


class Editor(NamedTuple):
    """`home`: where relative paths begin. `reads`, `writes`: the folders below which it may look and change."""

    home: Path
    reads: tuple[Path, ...]
    writes: tuple[Path, ...]

    def run(self, given: Mapping[str, Any]) -> str:
        """What the model asked for. Raises Refused."""
        command = given.get("command")
        if not isinstance(command, str) or command not in _COMMANDS:
            raise Refused(f"`command` must be one of {', '.join(_COMMANDS)}")
        changes = command in CHANGING
        path = self._place(_text(given, "path"), self.writes if changes else self.reads, changes)
        try:
            return _COMMANDS[command](path, given)
        except OSError as error:
            raise Refused(f"{given['path']}: {error.strerror}") from None

    def _place(self, path: str, folders: tuple[Path, ...], changes: bool) -> Path:
        """The file that `path` really is, links followed. Raises Refused outside of `folders`."""
        if not path or "\0" in path or path != path.encode("utf-8", "replace").decode():
            raise Refused("`path` is empty, or no path")
        real = Path(os.path.realpath(self.home / path))
        inside = next((one for one in folders if real.is_relative_to(os.path.realpath(one))), None)
        if inside is None:
            where = " and ".join(map(str, folders))
            may = f"only what is below {where} may be {'changed' if changes else 'read'}" if where else _LOOK_ONLY
            raise Refused(f"{path}: {may} with this tool", denied=True)
        if changes and ".git" in map(str.lower, real.relative_to(os.path.realpath(inside)).parts):  # macOS ignores case
            raise Refused(f"{path}: what is in .git is git's own", denied=True)
        return real


_LOOK_ONLY = "nothing may be changed"


def _view(path: Path, given: Mapping[str, Any]) -> str:
    if path.is_dir():
        return "\n".join(_listed(path))
    lines = _read(path).split("\n")
    if lines[-1] == "":
        lines.pop()
    first, last = 1, len(lines)
    span = given.get("view_range")
    if span is not None:
        if not isinstance(span, list) or len(span) != 2 or not all(isinstance(one, int) for one in span):
            raise Refused("`view_range` must be [first, last]; last -1 = the end")
        first, last = span[0], len(lines) if span[1] == -1 else min(span[1], len(lines))
        if not 1 <= first <= max(1, last):
            raise Refused(f"`view_range` {span}: the file has {len(lines)} lines")
    return _numbered(lines, first, last) or "(empty file)"


def _numbered(lines: list[str], first: int, last: int) -> str:
    shown: list[str] = []
    size = 0
    for number in range(first, last + 1):
        line = f"{number:6}\t{clean(lines[number - 1])}"
        size += len(line) + 1
        if size > SHOWN:
            line = line[: SHOWN // 2]
            note = f"[… more: look at lines {number} to {last} with `view_range` …]"
            return "\n".join([*shown, note] if shown else [line, note])
        shown.append(line)
    return "\n".join(shown)


def _listed(folder: Path) -> Iterator[str]:
    """Two levels, without what is hidden."""
    count = 0
    for path in sorted(folder.iterdir()):
        inner = sorted(path.iterdir()) if path.is_dir() and not path.is_symlink() else []
        for one in (path, *inner):
            if any(part.startswith(".") for part in one.relative_to(folder).parts):
                continue
            count += 1
            if count > _ENTRIES:
                yield "[… and more …]"
                return
            yield clean(str(one.relative_to(folder))) + ("/" if one.is_dir() else "")
    if not count:
        yield "(empty folder)"


def _create(path: Path, given: Mapping[str, Any]) -> str:
    said = _text(given, "file_text")
    if path.is_dir():
        raise Refused(f"{path} is a folder")
    there = os.path.lexists(path)
    if there and not path.is_file():
        raise Refused(f"{path} is not a file")  # to open a pipe would be to wait
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, said)
    return f"{'Replaced' if there else 'Created'} {given['path']} ({len(said.splitlines())} lines)."


def _str_replace(path: Path, given: Mapping[str, Any]) -> str:
    old, new, whole = _text(given, "old_str"), _text(given, "new_str", ""), _read(path)
    if not old:
        raise Refused("`old_str` is empty")
    if "\r\n" in whole and "\r" not in old:  # the model does not see the line ends
        old, new = old.replace("\n", "\r\n"), new.replace("\r\n", "\n").replace("\n", "\r\n")
    count = whole.count(old)
    if count != 1:
        found = f"{count} times, at lines {_lines(whole, old)}: make it unique" if count else "nowhere, word for word"
        raise Refused(f"`old_str` stands {found} in {given['path']}. Nothing was changed.")
    at = whole.index(old)
    return _changed(path, given, whole[:at], new, whole[at + len(old) :])


def _insert(path: Path, given: Mapping[str, Any]) -> str:
    whole, line = _read(path), given.get("insert_line")
    said = _text(given, "insert_text" if "insert_text" in given else "new_str")
    lines = whole.splitlines(keepends=True)
    if not isinstance(line, int) or not 0 <= line <= len(lines):
        raise Refused(f"`insert_line` must be a number from 0 (the beginning) to {len(lines)}")
    end = "\r\n" if "\r\n" in whole else "\n"
    said = said.replace("\r\n", "\n").replace("\n", end)
    before, after = "".join(lines[:line]), "".join(lines[line:])
    before += end if before and not before.endswith("\n") else ""
    return _changed(path, given, before, said + ("" if said.endswith("\n") or not after else end), after)


def _changed(path: Path, given: Mapping[str, Any], before: str, new: str, after: str) -> str:
    """Write the file, and show the place."""
    _write(path, before + new + after)
    lines = (before + new + after).split("\n")
    first, last = before.count("\n") + 1, before.count("\n") + 1 + new.count("\n")
    return f"Changed {given['path']}:\n" + _numbered(lines, max(1, first - _AROUND), min(len(lines), last + _AROUND))


def _read(path: Path) -> str:
    """Its text; bytes that are none come back as they are when it is written."""
    if not path.exists():
        raise Refused(f"there is no {path}")
    if not path.is_file():
        raise Refused(f"{path} is not a file")
    if path.stat().st_size > LARGEST:
        raise Refused(f"{path} is larger than {LARGEST >> 20} MiB")
    data = path.read_bytes()
    if b"\0" in data[:8192]:
        raise Refused(f"{path} is not text ({len(data)} bytes)")
    return data.decode("utf-8", "surrogateescape")


def _write(path: Path, said: str) -> None:
    try:
        path.write_bytes(said.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise Refused("the text has half a character in it. Nothing was changed.") from None


def _lines(whole: str, part: str) -> str:
    """The numbers of the lines in which `part` begins, the first few."""
    found: list[int] = []
    at = whole.find(part)
    while at >= 0 and len(found) < 5:
        found.append(whole.count("\n", 0, at) + 1)
        at = whole.find(part, at + 1)
    return ", ".join(map(str, found))


def _text(given: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = given.get(key, default)
    if not isinstance(value, str):
        raise Refused(f"`{key}` must be text")
    return value


_COMMANDS: dict[str, Callable[[Path, Mapping[str, Any]], str]] = {
    "view": _view,
    "create": _create,
    "str_replace": _str_replace,
    "insert": _insert,
}
