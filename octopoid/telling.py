"""Passing on to agents at work what a person says, where their program can be told."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from octopoid import attempts, durable, hearing, process, stopping
from octopoid.adapters import ADAPTERS
from octopoid.errors import Invalid
from octopoid.layout import Layout


class Said(NamedTuple):
    """Who is at work on the task, by role: those that hear it now, and those whose program cannot be told."""

    hear: tuple[str, ...] = ()
    deaf: tuple[str, ...] = ()


def pass_on(layout: Layout, task: str, number: int, words: str) -> Said:
    """Put the message of the entry `number` where everybody looks for it who is at work on `task` and can hear.

    Who ends before it has looked leaves it to the next attempt, in whose prompt it stands in any case. Raises OSError.
    """
    at_work: dict[bool, list[str]] = {True: [], False: []}
    for folder in reversed(stopping.live(layout, task)):
        try:
            opening = attempts.read_one(layout, task, int(folder.name)).opening
        except Invalid:  # broken evidence is not in the way of who has something to say
            continue
        if not opening.role or opening.adapter not in ADAPTERS or _has_ended(folder):
            continue
        hears = ADAPTERS[opening.adapter].facts.hears and _is_ours(folder / hearing.FOLDER)
        at_work[hears].append(opening.role)
        if hears:
            durable.write(folder / hearing.FOLDER / hearing.name(number), words.encode())
    return Said(tuple(at_work[True]), tuple(at_work[False]))


def _is_ours(inbox: Path) -> bool:
    """Make it where it is not there. An agent can reach it: where it put anything else there it hears nothing."""
    if not os.path.lexists(inbox):
        inbox.mkdir(mode=0o700)
    return stat.S_ISDIR(inbox.lstat().st_mode)


def _has_ended(entry: Path) -> bool:
    """Its agent, that is: what it left is being committed."""
    pids = process.read_pid(str(entry))
    agent = pids.get("agent_pid") or 0
    return agent != 0 and not process.is_alive(agent, pids.get("agent_start"))
