"""Bounds for what somebody else's text makes us compute: seconds of work, and memory.

Jinja's sandbox keeps a template from reaching our objects, not from counting to 10¹⁰ or doubling a text forty times.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_AGAIN = 0.05
"""Seconds after which it is said again: a library may have caught it."""


class TooMuch(Exception):
    """It took more than it may."""


@contextmanager
def within(seconds: float, megabytes: int) -> Iterator[None]:
    """Raise TooMuch in the block after so many seconds of our own work, MemoryError beyond so much more memory.

    Work is CPU time: a busy machine, or one that slept, changes nothing. The time is bounded in the main thread only
    (signals are its own), the memory on Linux only (elsewhere the kernel does not keep RLIMIT_AS).
    """
    with _in_time(seconds), _in_memory(megabytes << 20):
        yield


@contextmanager
def _in_time(seconds: float) -> Iterator[None]:
    inside = True

    def ring(_number: int, _frame: FrameType | None) -> None:
        if inside:  # a handler that raises is the one way to end a loop in somebody else's code
            raise TooMuch(f"takes more than {seconds:g} s")

    try:
        before = signal.signal(signal.SIGVTALRM, ring)
    except ValueError:
        yield
        return
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, _AGAIN)
    try:
        yield
    finally:
        inside = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def _in_memory(size: int) -> Iterator[None]:
    if sys.platform != "linux":
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_bytes().split()[0])
    wanted = pages * os.sysconf("SC_PAGE_SIZE") + size
    if before[0] != resource.RLIM_INFINITY:
        wanted = min(wanted, before[0])
    resource.setrlimit(resource.RLIMIT_AS, (wanted, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
