"""Ending what runs for a task, on a person's word and without a scheduler (DESIGN §10: `cancel` ends the agent itself).

An entry whose lock is held is alive, whatever else is or is not in its folder. The scheduler's next look closes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from octopoid import durable, ending, locks, process, regular, store
from octopoid.errors import Conflict
from octopoid.layout import Layout
from octopoid.states import State

SCHEDULER_STOP = "scheduler stop"
"""What `stop` says when `octopoid stop --now` ended everything: the task goes on at the next start."""

GRACE = 10.0
"""Seconds from SIGTERM to SIGKILL where the entry's own steps do not say."""

_MORE = 2.0
"""Seconds beyond the grace that a supervisor gets to write down how its steps ended."""
_UNSTARTED = 2.0
"""Seconds that a supervisor gets to appear: the lock is held before it starts."""


def live(layout: Layout, task: str) -> tuple[Path, ...]:
    """The entries of `task` in which something lives, newest first. Reads no evidence, so none can be in the way.

    A landing is not among them: git is never killed (DESIGN §8).
    """
    folder = layout.entries(task)
    numbers = sorted((name for name in store.durable_names(folder) if name.isdecimal()), key=int, reverse=True)
    return tuple(
        folder / name
        for name in numbers
        if locks.is_held(folder / name / "lock") and not (folder / name / "landing.json").exists()
    )


def all_live(layout: Layout) -> Iterator[tuple[str, Path]]:
    """Every living entry of the tasks that are being worked on, with the task's id."""
    for task, state in sorted(store.every_id(layout).items()):
        if state in (State.CLAIMED, State.PROVISIONAL):
            yield from ((task, entry) for entry in live(layout, task))


def ask(entry: Path, why: str) -> bool:
    """Write down why, and ask the supervisor to end. False: there is none that could be asked."""
    if not (entry / "stop").exists():
        with contextlib.suppress(FileNotFoundError):  # it is closed at this moment, and what is half written there goes
            durable.write(entry / "stop", why.encode(), sync=False)  # not through a link that an agent put there
    return process.signal_runner(str(entry))


def end(entry: Path, why: str) -> bool:
    """Ask, wait for its grace and a little more, then end everything of it. True: nothing of it lives."""
    asked, deadline = ask(entry, why), time.monotonic() + _grace(entry) + _MORE
    appears = time.monotonic() + _UNSTARTED
    nap = 0.005
    while locks.is_held(entry / "lock") and time.monotonic() < deadline:
        if not asked:
            asked = process.signal_runner(str(entry))
        if not asked and (process.read_pid(str(entry)) or time.monotonic() > appears):
            break  # its supervisor is gone, what it started is not
        time.sleep(nap)
        nap = min(nap * 1.5, 0.1)
    return ending.end_marked(str(entry)) and not locks.is_held(entry / "lock")


def wait_until_free(lock: Path, seconds: float) -> bool:
    """Wait for the holder of `lock` to let go. False: it is still held after `seconds`."""
    deadline, nap = time.monotonic() + seconds, 0.005
    while locks.is_held(lock):
        if time.monotonic() > deadline:
            return False
        time.sleep(nap)
        nap = min(nap * 1.5, 0.1)
    return True


def _grace(entry: Path) -> float:
    try:
        record = json.loads(regular.read(entry / "steps.json"))
        return float(record["grace"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return GRACE


def holder(layout: Layout) -> int | None:
    """The pid that the running scheduler wrote down; None when none runs, 0 when it did not say."""
    if not locks.is_held(layout.scheduler_lock):
        return None
    try:
        return int(json.loads(durable.read(layout.scheduler_pid))["pid"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0


def refuse_agents(layout: Layout) -> None:
    """Raise Conflict inside an attempt on this queue: what a person decides is not for the agent that it is about."""
    entry = os.environ.get(process.MARK, "")
    if entry and os.path.realpath(entry).startswith(f"{os.path.realpath(layout.attempts)}/"):
        raise Conflict(
            "this is a person's command, and an agent called it",
            "agents end with an outcome in $OCTOPOID_RESULT_FILE; octopoid schema result shows the form",
        )


def is_own_agent() -> bool:
    """Are we inside an attempt? An agent that would end its own attempt, or start a scheduler, is a mistake."""
    return process.MARK in os.environ
