"""A program of the person's in the foreground: it has their terminal, and they get it back as it was."""

from __future__ import annotations

import os
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from octopoid import process

_KEYS = (signal.SIGINT, signal.SIGQUIT)
"""What keys send to everybody in the foreground: they are meant for the program."""

_MOMENT = 0.05
"""Seconds after which a program that Ctrl-Z stopped together with us goes on together with us, too."""


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str,
    keep: int | None = None,
    began: Callable[[int], None] = lambda _pid: None,
) -> int:
    """Run `argv` (no shell) in `cwd` to its end; its exit status, negative for a signal. Also without a terminal.

    `keep`: a descriptor that it and what it starts inherit. `began` is called with its pid. Raises OSError as
    `process.start` does. Changes the current folder of this process.
    """
    # A person may have redirected our stdout: then it draws on stderr.
    output = (2, 2) if sys.stderr.isatty() and not sys.stdout.isatty() else (1, 2)
    with _lent():
        pid = process.start(argv, env=env, cwd=cwd, stdin=keyboard(), output=output, keep=keep, new_session=False)
        began(pid)
        return _wait(pid)


def keyboard() -> str:
    """What such a program reads from: our stdin, else the terminal, else nothing."""
    for path in ("/dev/stdin", "/dev/tty"):
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            continue
        return path
    return os.devnull


@contextmanager
def _lent() -> Iterator[None]:
    """A shell makes its own process group the one that the terminal belongs to, and may die before it gives it back."""
    tty = next((fd for fd in (0, 1, 2) if os.isatty(fd)), None)
    ours = tty is not None and os.tcgetpgrp(tty) == os.getpgrp()
    modes = termios.tcgetattr(tty) if tty is not None and ours else None
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _KEYS}
    try:
        yield
    finally:
        if tty is not None and modes is not None:
            before[signal.SIGTTOU] = signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # we are in the background here
            try:
                os.tcsetpgrp(tty, os.getpgrp())
                termios.tcsetattr(tty, termios.TCSADRAIN, modes)
            except (OSError, termios.error):
                pass  # the terminal was closed
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(pid: int) -> int:
    """Wait for its end. While it is stopped we are too, so that the shell that we were called from has the terminal."""
    started = process.start_time(pid)
    while hasattr(os, "waitid") and _stops(pid):  # macOS has no waitid in Python before 3.13
        time.sleep(_MOMENT)
        if _stops(pid, os.WNOHANG):
            signal.raise_signal(signal.SIGSTOP)
            process.send(pid, started, signal.SIGCONT)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _stops(pid: int, more: int = 0) -> bool:
    """Has it been stopped (not: ended)? Nothing is reaped."""
    told = os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT | more)
    return told is not None and told.si_code in (os.CLD_STOPPED, os.CLD_TRAPPED)
