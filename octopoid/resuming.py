"""Where a run that was cut off can be gone on with: the session that its program told of, if it had done anything."""

from __future__ import annotations

from pathlib import Path

from octopoid import regular
from octopoid.adapters import ADAPTERS, Reading
from octopoid.adapters.base import LOST, Adapter, hear
from octopoid.adapters.events import STARTED, TOOL
from octopoid.model import Opening

_HEAD = 8 << 20
"""Bytes at the beginning of a log in which its program says how its session is called and what it does first."""


def session(folder: Path, opening: Opening, reading: Reading | None) -> str:
    """What the attempt in `folder` can be resumed with, "" = nothing is worth it: the next one begins anew.

    `reading`: None where its supervisor died. A judge is asked anew each time. Raises OSError.
    """
    adapter = ADAPTERS.get(opening.adapter)
    if adapter is None or opening.produces == "verdict" or (reading is not None and reading.reason == LOST):
        return ""
    named, busy = began(folder / "output.log", adapter)
    found = (reading.session if reading else "") or named
    if not found:  # it never began, so what it was to go on with is as it was
        return opening.session
    # One that called no tool yet has nothing but its prompt, and is given that anyway.
    return found if busy or opening.session else ""


def began(log: Path, adapter: Adapter) -> tuple[str, bool]:
    """What its program calls the session, also where it was killed, and whether a tool was called in it."""
    found, read = "", 0
    try:
        with regular.opened(log) as lines:
            for line in lines:
                for event in hear(adapter, line) or ():
                    found = found or (event.session if event.kind == STARTED else "")
                    if found and event.kind == TOOL:
                        return found, True
                read += len(line)
                if read > _HEAD:
                    break
    except OSError:
        pass
    return found, False
