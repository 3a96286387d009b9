"""Ends everything of an attempt: who that is, SIGTERM, then SIGKILL until nobody is left.

It is found by descent and by its mark, looked for again and again, because a look is no snapshot.
"""

# pathlib would cost a runner's start 8 ms:
# ruff: noqa: PTH100
from __future__ import annotations

import os
import time

from octopoid import process
from octopoid.lean import signal
from octopoid.process import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

KILL_PATIENCE = 5.0  # seconds until processes that survive SIGKILL (uninterruptible, another user's) are given up
LOOKS = 12  # that must find nobody, one after the other, before there is nobody
QUIET = 4  # how many of them a look is worth during which nothing was started on this machine


def marked(entry: str) -> set[int]:
    """Everybody but us whose environment has the mark of `entry`, as far as we may read it."""
    return set(Marked(entry).look(afresh=True))


class Marked:
    """Whose environment has the mark of `entry`, looked for again and again."""

    def __init__(self, entry: str) -> None:
        self._wanted = b"\0" + os.fsencode(f"{process.MARK}={os.path.abspath(entry)}") + b"\0"
        self._others = frozenset((os.getpid(),))

    def look(self, afresh: bool) -> dict[int, Process]:
        """Everybody but us who has it, as far as we may read that; UNSEEN for one that ended between two looks.

        Not `afresh`: only who was not there at the last look is read, and whose environment was empty then (in the
        middle of an exec). A machine has hundreds of processes, and few new ones in a millisecond.
        """
        known = frozenset((os.getpid(),)) if afresh else self._others
        found, others = {}, {os.getpid()}
        for pid in process.pids():
            if pid in known:
                others.add(pid)
                continue
            begun = process.environ(pid)
            if self._wanted in b"\0" + begun:
                found[pid] = process.look_at(pid) or process.UNSEEN
            elif begun:
                others.add(pid)
        self._others = frozenset(others)
        return found


def end_marked(entry: str, grace: float = 0) -> bool:
    """End everything that belongs to `entry`, its runner too: for an entry whose runner is gone or must go at once.

    That is what carries its mark, the agent that its `pid` names, and all descendants of these. With `grace` SIGTERM
    first and that many seconds; then SIGKILL until `end` finds nobody any more. True: confirmed, none is left.
    False: some would not die within KILL_PATIENCE seconds.
    """
    record = process.read_pid(entry)
    agent, started = record.get("agent_pid") or 0, record.get("agent_start")

    marks = Marked(entry)

    def find(afresh: bool) -> dict[int, Process]:
        found = marks.look(afresh)
        if agent and (one := process.look_at(agent)) and one.start == started:
            found[agent] = one
        table = process.processes() if found else {}  # the usual answer is nobody: half the price for it
        for root in tuple(found):
            found.update(process.family(root, table))
        found.pop(os.getpid(), None)
        return found

    return end(find, grace)


def end(
    find: Callable[[bool], dict[int, Process]],
    grace: float,
    *,
    group: int = 0,
    spare: int = 0,
    patience: float = KILL_PATIENCE,
    pause: Callable[[float], None] = time.sleep,
) -> bool:
    """End all that `find` finds: SIGTERM, up to `grace` seconds, then SIGKILL until LOOKS looks in a row find nobody.

    A look is no snapshot: a chain of processes that each live a fraction of a millisecond can pass between its steps.
    So a look counts less while processes are started, and the last one is `afresh` (what `find` is told). Who is to get
    SIGTERM is listed before the first one is sent: the death of a parent hides its children. `group` is a process group
    of theirs. `spare` gets no SIGTERM: bubblewrap would be gone at once and take all that is in it along.
    `pause(seconds)` may return early. True: nobody is left; False: not within `patience` s.
    """
    found = find(True)
    if grace > 0 and found:
        # Parents first (the older): one whose tool was ended before it might report success. CONT: a stopped process
        # sees SIGTERM only when it goes on.
        for number in (signal.SIGTERM, signal.SIGCONT):
            for pid, one in sorted(found.items(), key=lambda each: (each[1].start, each[0])):
                if pid != spare:
                    process.send(pid, one.start, number)
        deadline, nap = time.monotonic() + grace, 0.005
        while found and (left := deadline - time.monotonic()) > 0:
            pause(min(nap, left))
            nap = min(nap * 1.5, 0.1)
            found = find(False)
    deadline, clean, groups, newest = time.monotonic() + patience, 0, {group}, -1
    killed: dict[int, Process] = {}
    while time.monotonic() < deadline:
        before, newest = newest, process.newest()
        clean = 0 if found else clean + (QUIET if newest == before else 1)
        if clean >= LOOKS:
            found, clean = find(True), 0
            if not found:
                return True
        groups |= {one.group for one in found.values()}
        _kill(found, groups - {0, os.getpgrp()})
        killed.update(found)
        pause(0.002 if found else 0.0005)
        found = find(False)
        found.update(_living(killed))
    return False


def _living(killed: dict[int, Process]) -> dict[int, Process]:
    """Who got SIGKILL and is not dead yet: on a busy machine that takes a while, and its parent may be gone before."""
    now = {pid: process.look_at(pid) for pid in killed}
    return {pid: one for pid, one in now.items() if one and one.start == killed[pid].start}


def _kill(found: dict[int, Process], groups: set[int]) -> None:
    # what forks faster than we look is gone before a signal to its pid arrives; its group dies at once
    for group in groups if found else ():
        process.kill(group, found)
    for pid, one in found.items():
        process.send(pid, one.start, signal.SIGKILL)
