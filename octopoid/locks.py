"""Locks that die with their holder: flock on an open file, nothing else (DESIGN §5).

A lock belongs to the open file, not to the process: whoever inherits the descriptor holds it too, until the last copy
is closed. So a descriptor that was passed on is closed and never unlocked (LOCK_UN would free the children's as
well). Where the file system has no flock these functions raise OSError; a lock file that merely exists is no
substitute.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from octopoid.errors import Conflict

_NO_LOCK = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EACCES)

TYPE_CHECKING = False
if TYPE_CHECKING:
    StrPath = str | os.PathLike[str]


def take(path: StrPath) -> int | None:
    """The descriptor that holds the lock at `path` (made if missing), or None while somebody else holds it.

    A probe (`is_held`) at the same instant counts as somebody else for its microseconds: use `waiting` where that
    matters. Close the descriptor to let go. Raises OSError where flock does not work.
    """
    return _locked(path, os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX)


def is_held(path: StrPath) -> bool:
    """Does a living process hold the lock at `path`? No file that can be opened: no. Raises OSError without flock.

    An agent can put a link, a pipe or a file that nobody may read in the place of its entry's lock. That is no lock,
    and what still runs there is ended by its mark before anything else happens.
    """
    try:
        fd = _locked(path, os.O_RDONLY | os.O_NOFOLLOW, fcntl.LOCK_SH)
    except OSError as error:
        if error.errno in _NO_LOCK:
            return False
        raise
    if fd is None:
        return True
    os.close(fd)
    return False


def waiting(path: StrPath, timeout: float, poll: float = 0.01) -> Waiting:
    """`with waiting(path, 5):` holds the lock at `path` inside. Looks every `poll` seconds.

    Raises Conflict if it is still held after `timeout` seconds, OSError where flock does not work.
    """
    return Waiting(path, timeout, poll)


class Waiting:
    """The context manager of `waiting` (`contextlib` would cost 5 ms at import)."""

    def __init__(self, path: StrPath, timeout: float, poll: float) -> None:
        self._path, self._timeout, self._poll = path, timeout, poll
        self._fd = -1

    def __enter__(self) -> int:
        deadline = time.monotonic() + self._timeout
        while (fd := take(self._path)) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Conflict(
                    f"{os.fspath(self._path)} is still locked after {self._timeout:g} s",
                    "another octopoid command or the scheduler is at it: try again when it is done",
                )
            time.sleep(min(self._poll, left))
        self._fd = fd
        return fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _locked(path: StrPath, flags: int, kind: int) -> int | None:
    # O_NONBLOCK: where an agent put a pipe in the place of a lock, to open it would be to wait for ever;
    # O_NOFOLLOW: a link would have us make a file anywhere
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except OSError:
        os.close(fd)
        raise
    return fd
