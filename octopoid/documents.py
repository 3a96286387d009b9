"""The documents that stages hand on: versions in the entries, the newest copied to `attempts/<id>/artifacts/`.

Each attempt gets a folder of its own with the newest version of every document in it. What it changes there is a new
version when its stage succeeds: a killed agent's half-written plan is never handed on.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from octopoid import durable, regular
from octopoid.errors import Invalid
from octopoid.layout import Layout

MAX_BYTES = 1 << 20
MAX_DOCUMENTS = 50

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\.md\Z")


def given(layout: Layout, task: str, versions: Mapping[str, int]) -> dict[str, bytes]:
    """The newest version of every document: name → content. Raises Invalid where one cannot be read."""
    return {name: read(layout.entry_artifacts(task, number) / name) for name, number in versions.items()}


def changed(layout: Layout, task: str, number: int, versions: Mapping[str, int]) -> tuple[str, ...]:
    """The documents that entry `number` wrote anew or changed, sorted. Raises Invalid for what is no document.

    An empty one does not count: nothing was written down.
    """
    folder = layout.entry_artifacts(task, number)
    names = sorted(_names(folder))
    if len(names) > MAX_DOCUMENTS:
        raise Invalid(f"{len(names)} documents in $OCTOPOID_ARTIFACTS; at most {MAX_DOCUMENTS}")
    found = []
    for name in names:
        data = read(folder / name)
        before = layout.entry_artifacts(task, versions[name]) / name if name in versions else None
        if data.strip() and (before is None or read(before) != data):
            found.append(name)
    return tuple(found)


def edited(layout: Layout, task: str, versions: Mapping[str, int]) -> dict[str, bytes]:
    """What a person changed in the copies of the newest documents: name → content. Raises Invalid."""
    newest = max(versions.values(), default=0)
    found = {}
    for name in (name for name, number in versions.items() if number == newest):
        copy = layout.artifacts(task) / name
        data = read(copy) if os.path.lexists(copy) else b""
        if data.strip() and data != read(layout.entry_artifacts(task, newest) / name):
            found[name] = data
    return found


def read(path: Path) -> bytes:
    """The content of a document. Follows no link, waits for no pipe. Raises Invalid."""
    try:
        return regular.read(path, MAX_BYTES)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EISDIR):
            raise Invalid(f"{path.name} is no regular file") from None
        if error.errno == errno.EFBIG:
            raise Invalid(f"{path.name} is too large; a document has at most {MAX_BYTES} bytes") from None
        raise Invalid(f"{path.name} cannot be read: {error.strerror}") from None


def write(folder: Path, name: str, data: bytes) -> None:
    """Write one document, durably."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    durable.write(folder / name, data)


def publish(layout: Layout, task: str, number: int, names: Iterable[str]) -> None:
    """Copy these documents of entry `number` to where people look for them."""
    for name in names:
        version = layout.entry_artifacts(task, number) / name
        write(layout.artifacts(task), name, read(version))
        # an agent syncs nothing, and what comes later reads the version, not the copy
        durable.sync_file(version)
        durable.sync_folder(version.parent)


def _names(folder: Path) -> list[str]:
    """What the agent left there under a document's name; anything else is its scratch. Raises Invalid."""
    try:
        if folder.is_symlink():
            raise Invalid(f"{folder.name} is a link; the folder of the documents must stay what it is")
        return [name for name in os.listdir(folder) if _NAME.match(name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Invalid(f"the folder of the documents cannot be read: {error.strerror}") from None
