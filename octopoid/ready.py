"""When a task may be looked at as written, and what it still waits for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from octopoid.model import Item, Task
from octopoid.states import SATISFYING, State

SETTLE = 2.0
"""A file younger than this (seconds, by mtime) may still be written by somebody's editor."""


_SKEW = 60.0
"""Seconds that a file server's clock may be ahead of ours."""


def settled_at(item: Item, now: float) -> float:
    """When the file counts as completely written (seconds since the epoch).

    The kernel gives no time of change far in the future: such a file was written before the clock was set back.
    """
    return item.mtime + SETTLE if item.mtime <= now + _SKEW else now


def is_on_its_way(item: Item) -> bool:
    """Its file is between two folders, in `.moving`."""
    return str(item.path).rpartition("/")[0].endswith("/.moving")  # for 200 tasks at each look: no new Paths


def waiting_on(task: Task, ids: Mapping[str, State]) -> tuple[str, ...]:
    """The dependencies that are not met yet."""
    return tuple(one for one in task.depends_on if ids.get(one) not in SATISFYING)


def dead_dependency(task: Task, ids: Mapping[str, State]) -> str:
    """A dependency that was cancelled, so that it will never be met, or ""."""
    return next((one for one in task.depends_on if ids.get(one) is State.CANCELLED), "")


def approval_text(item: Item) -> str:
    """What a person is asked to say yes to."""
    ledger = item.ledger
    made = [name for name, number in ledger.artifacts.items() if number == max(ledger.artifacts.values())]
    what = f" ({', '.join(made)})" if made else f" ({len(ledger.children)} subtasks)" if ledger.children else ""
    return f"waits for your yes or no about: {ledger.awaiting}{what}"


def attached_text(pid: int) -> str:
    """What keeps the scheduler away from a task in whose worktree a person is. `pid`: of their shell, 0 = unknown."""
    who = f"octopoid attach, pid {pid}" if pid else "octopoid attach"
    return f"you are in its worktree ({who}); the scheduler goes on with it when that ends"


def subtasks_text(item: Item, items: Iterable[Item], ids: Mapping[str, State]) -> str:
    """How far its subtasks are; one that needs a person is named. "" when none is among the active `items`."""
    children = item.ledger.children
    active = [one for one in items if one.id in children] if children else []
    if not active:
        return ""
    blocked = [one for one in active if one.state is State.BLOCKED]
    stuck = "".join(f"; {one.id} is blocked ({one.ledger.reason or 'parked'})" for one in blocked)
    done = sum(1 for one in children if ids.get(one) in SATISFYING)
    cancelled = sum(1 for one in children if ids.get(one) is State.CANCELLED)
    dropped = f", {cancelled} cancelled" if cancelled else ""
    return f"{done} of {len(children)} subtasks are done{dropped}{stuck}"
