"""Which file the name of a program means, and why a program could not be started.

Standard library only: the supervisor imports it.
"""

# pathlib would cost a runner's start 8 ms:
# ruff: noqa: PTH110, PTH113, PTH118, PTH123
from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def why_not_started(argv: Sequence[str], cwd: str | None, error: OSError | ValueError) -> str:
    """One sentence for a person: why `start` raised `error`."""
    if not isinstance(error, OSError):
        return f"{argv[0]!r} cannot be started: {error}"
    if error.filename != argv[0]:
        what = "working directory" if error.filename == cwd else "input file"
        return f"{what} {error.filename}: {error.strerror}"
    program = find_program(argv[0], os.environ.get("PATH", os.defpath), cwd or ".")
    if program is None:
        return f"program not found: {argv[0]}" + ("" if "/" in argv[0] else " (looked along PATH)")
    if isinstance(error, FileNotFoundError):
        with open(program, "rb") as file:
            first = file.readline(200).decode("utf-8", "replace")
        if first.startswith("#!"):
            return f"{program} cannot be started: the interpreter of its first line ({first.strip()}) was not found"
        return f"{program} cannot be started: its loader or a library was not found"
    if isinstance(error, PermissionError):
        return f"{program} is not executable"
    return f"{program} cannot be started: {error.strerror}"


def find_program(name: str, path: str, cwd: str) -> str | None:
    """The file that `name` means along `path` (as PATH is written): the first executable, else the first, else None."""
    folders = [cwd] if "/" in name else [os.path.join(cwd, folder) for folder in path.split(os.pathsep)]
    places = [os.path.join(folder, name) for folder in folders]
    there = [place for place in places if os.path.exists(place)]
    runnable = [place for place in there if os.path.isfile(place) and os.access(place, os.X_OK)]
    return next(iter(runnable + there), None)
