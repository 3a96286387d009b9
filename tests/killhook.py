"""Runs inside the interpreters that `kills` watches, before octopoid does: counts what changes the disk, and kills.

Every operation is written down just before it is made; before the `stop`-th the process gets SIGKILL. What Python
announces comes from its audit events, so no code path can be forgotten. What it keeps quiet about (writing to a
descriptor, fsync, the C library's rename, a signal by pidfd) is wrapped. `test_kills` holds the list against strace.
"""

# It stands in for the start of a supervisor, which loads next to nothing:
# ruff: noqa: PTH115
from __future__ import annotations

import builtins
import io
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

WIDTH = 200
"""Bytes of one operation in the list: its length tells how many there were, also to two processes at once."""

THEIRS = "-theirs"
"""How the name of the list ends in which supervisors write."""

_CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_ANNOUNCED = (
    *("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.utime", "os.chmod", "os.chown"),
    *("os.truncate", "os.kill", "os.fork", "os.posix_spawn", "subprocess.Popen"),
)
IDLE = "(idle) "
"""Begins an operation that changes nothing that a SIGKILL leaves: to die after it is to die before it."""

_SYNCS = ("fsync", "fdatasync")
_NEEDS = {"os.mkdir": False, "os.remove": True, "os.utime": True, "os.rmdir": True}
"""Operations that fail where their path is (mkdir) or is not there."""
_ELSEWHERE = (
    "/dev/null",
    "/dev/std",
    "/dev/pt",
    "/dev/tty",
    "/dev/closed",
    "/proc/",
    "/memfd:",
    "pipe:",
    "socket:",
    "anon_inode:",
)


class Witness:
    """The list of one process and its forked children. `how`: who dies: "self", the "parent", or "both"."""

    def __init__(self, told: str, stop: int, how: str) -> None:
        self._told, self._stop, self._how = told, stop, how
        self._main, self._busy = os.getpid(), False
        self._write = os.write

    def see(self, what: str, about: object) -> None:
        """`what` is about to be done to `about`."""
        text = os.fsdecode(about) if isinstance(about, (bytes, os.PathLike)) else str(about)
        if (
            self._busy
            or text.startswith(_ELSEWHERE)
            or "__pycache__" in text
            or text.startswith(self._told.removesuffix(THEIRS))
        ):
            return
        self._busy = True
        try:
            step = os.getpid() != self._main
            idle = what in _SYNCS or (what in _NEEDS and text[:1] == "/" and os.path.lexists(text) != _NEEDS[what])
            line = f"{'step ' if step else ''}{IDLE if idle else ''}{what} {text}".encode("ascii", "replace")
            fd = os.open(self._told, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            self._write(fd, line.replace(b"\n", b" ")[: WIDTH - 1].ljust(WIDTH - 1) + b"\n")
            size = os.fstat(fd).st_size
            os.close(fd)
            if size == self._stop * WIDTH:
                self._die(step)
        finally:
            self._busy = False

    def _die(self, step: bool) -> None:
        if step and self._how != "self":
            os.kill(self._main, 9)
        if not step or self._how != "parent":
            os.kill(os.getpid(), 9)

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """An audit event."""
        if event == "open":
            path, _, flags = args
            if not isinstance(path, int) and isinstance(flags, int) and flags & _CHANGING:
                self.see("open", path)
        elif event in _ANNOUNCED:
            self.see(event, args[0] if args else "")

    def on_descriptor(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of `os` that takes a descriptor first."""

        def call(fd: int, *args: Any) -> Any:
            self.see(function.__name__, _path(fd))
            return function(fd, *args)

        return call

    def opened(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`open`: where it opened for writing, the first write is the next operation, at the latest when it closes."""

        def call(file: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
            made = function(file, mode, *args, **more)
            if not self._busy and any(one in mode for one in "wax+"):
                self.see("write", _path(file) if isinstance(file, int) else file)
            return made

        return call

    def from_c(self, libc: Callable[[str], Any]) -> Callable[[str], Any]:
        """`lean.libc`: its rename is how task files move."""

        def look_up(name: str) -> Any:
            function = libc(name)

            def call(*args: Any) -> Any:
                self.see(name, args[1])
                return function(*args)

            return call if function and name.startswith("rename") else function

        return look_up


def _path(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return "/dev/closed"


def watch(told: str, stop: int, how: str = "self") -> None:
    """Watch this process."""
    from octopoid import lean

    witness = Witness(told, stop, how)
    for name in ("write", "pwrite", "fsync", "fdatasync", "sendfile", "copy_file_range"):
        if hasattr(os, name):
            setattr(os, name, witness.on_descriptor(getattr(os, name)))
    builtins.open = io.open = witness.opened(io.open)
    setattr(lean, "libc", witness.from_c(lean.libc))  # noqa: B010 - to mypy a function is no variable
    signal: Any = lean.signal
    if hasattr(signal, "pidfd_send_signal"):
        send = signal.pidfd_send_signal

        def sent(*args: Any) -> None:
            witness.see("signal", args[1])
            send(*args)

        signal.pidfd_send_signal = sent
    sys.addaudithook(witness.hear)


def main() -> None:
    """Watch this process, and (THEIRS) the supervisors that it starts. KILL_WHO: `main`, or how a supervisor dies."""
    told, stop, who = os.environ["KILL_TOLD"], int(os.environ["KILL_AT"]), os.environ["KILL_WHO"]
    if os.path.basename(next(iter(sys.orig_argv[1:]), "")) != "octopoid":  # noqa: PTH119 - see above
        return
    from octopoid import process

    theirs = (told + THEIRS, 0 if who == "main" else stop, who)
    ours = f"w = {{'__name__': 'killhook'}}; exec(open({__file__!r}).read(), w); w['watch']{theirs!r}"
    begins, runs, rest = process._RUNNER.partition("from octopoid.runner")
    process._RUNNER = f"{begins}\n{ours}\n{runs}{rest}"
    watch(told, stop if who == "main" else 0)


if __name__ == "__main__":
    main()
