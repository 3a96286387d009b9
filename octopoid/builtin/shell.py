"""The tool `bash`: one command in a shell of its own, with limits on its time and its output."""

from __future__ import annotations

import os
import re
import select
import shutil
import time
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from octopoid import ending, process
from octopoid.results import clean

USUAL, MOST = 120.0, 1200.0
"""Seconds that a command may take, if the model does not say, and whatever it says."""
KEPT = 30_000
"""Bytes of output that the model sees; of more than that the middle is left out."""
TOO_MUCH = 256 << 20
"""Bytes of output after which a command is ended."""
GRACE = 2.0
"""Seconds from SIGTERM to SIGKILL for a command that takes too long."""
_CHUNK = 64 << 10
_SOON, _LOOK = 0.002, 0.2
_DRAIN = 1 << 20
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class Ran(NamedTuple):
    """What a command printed, with a last line about how it ended if that was not with 0. `cut`: we ended it."""

    text: str
    cut: bool = False


class _Output:
    """Its beginning and its end; never more than KEPT bytes."""

    def __init__(self) -> None:
        self.head, self.tail = bytearray(), deque[bytes]()
        self.size = self.held = 0

    def add(self, data: bytes) -> None:
        self.size += len(data)
        room = KEPT // 2 - len(self.head)
        if room > 0:
            self.head += data[:room]
            data = data[room:]
        if not data:
            return
        self.tail.append(data)
        self.held += len(data)
        while self.held - len(self.tail[0]) >= KEPT // 2:
            self.held -= len(self.tail.popleft())

    def text(self) -> str:
        end = b"".join(self.tail)[-(KEPT // 2) :]
        left_out = self.size - len(self.head) - len(end)
        note = f"\n[… {left_out} bytes left out …]\n".encode() if left_out else b""
        whole = (bytes(self.head) + note + end).decode("utf-8", "replace")
        return clean(_ESCAPES.sub("", whole)).strip("\n")


def run(command: str, env: Mapping[str, str], timeout: float = USUAL) -> Ran:
    """Run `command` in the current folder until its shell ends, `timeout` seconds are over, or it prints too much.

    What it left in the background lives on, and nobody reads what it prints then.
    """
    shell = shutil.which("bash", path=env.get("PATH")) or "/bin/sh"
    read, write = os.pipe()
    family = _Family()
    try:
        try:
            family.group = process.start((shell, "-c", command), env=env, output=write)
        finally:
            os.close(write)
        os.set_blocking(read, False)
        return _watch(family, read, timeout)
    except (OSError, ValueError) as error:  # a NUL; no room for a process
        return Ran(f"[the command could not be started: {error}]", cut=True)
    finally:
        os.close(read)


def _watch(family: _Family, read: int, timeout: float) -> Ran:
    pid, output, until, why = family.group, _Output(), time.monotonic() + timeout, ""
    poll = select.poll()
    poll.register(read, select.POLLIN)
    status, nap = None, _SOON
    while status is None and not why:
        nap = min(_LOOK, nap * 1.5)
        if poll.poll(nap * 1000):
            nap = _SOON
            if _take(read, output) == b"":
                poll.unregister(read)  # it has closed its output: it has ended, or is about to, or goes on without
        done, code = os.waitpid(pid, os.WNOHANG)
        status = os.waitstatus_to_exitcode(code) if done else None
        if time.monotonic() > until:
            why = f"took longer than {timeout:g} s"
        elif output.size > TOO_MUCH:
            why = f"printed more than {TOO_MUCH >> 20} MiB"
    if status is None:
        ending.end(family, GRACE, group=pid)
        process.reap({pid})
    size = output.size
    while output.size - size < _DRAIN and _take(read, output):
        continue
    return Ran(_with(output.text(), status, why), cut=status is None)


def _with(text: str, status: int | None, why: str) -> str:
    if status == 0:
        return text
    if status is None:
        last = f"[{why}: ended, with all that it had started]"
    else:
        last = f"[exit status {status}]" if status > 0 else f"[killed by signal {-status}]"
    return f"{text}\n{last}".lstrip("\n")


def _take(read: int, output: _Output) -> bytes | None:
    """Read what is there now. None: nothing now; nothing ever again is empty."""
    try:
        data = os.read(read, _CHUNK)
    except BlockingIOError:
        return None
    output.add(data)
    return data


class _Family:
    """Who belongs to a command: its group, and all our descendants but those that earlier commands left (`before`).

    Whoever loses its parent becomes our child, since the program is a subreaper. Elsewhere than on Linux it gets away.
    """

    def __init__(self) -> None:
        self.before = frozenset(process.family(os.getpid()))
        self.group = 0

    def __call__(self, _afresh: bool) -> dict[int, process.Process]:
        table = {pid: each for pid, each in process.processes().items() if pid not in self.before}
        ours = {pid: each for pid, each in table.items() if each.group == self.group}
        return ours | process.family(os.getpid(), table)
