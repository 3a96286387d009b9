"""Reads regular files only, and no more of them than was meant.

Who works on a task can reach the folder of its own attempt, where the evidence is written. A pipe that stands there for
a file is waited for, a link leads elsewhere, a sparse file of many GB is read to its end: each would hold up everybody.
Imported by the supervisor of every attempt: nothing but `os`, `stat` and `errno` is loaded.
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    StrPath = str | os.PathLike[str]

LIMIT = 16 << 20
"""Bytes of a record. Ours have some KiB; the largest, what a breakdown makes, a few MiB."""


def descriptor(path: StrPath, *, follow: bool = False) -> int:
    """A descriptor that reads the regular file at `path`. `follow`: it may be a link.

    Raises OSError: ENXIO for a pipe or a device, EISDIR for a folder, ELOOP for a link that is not followed.
    """
    link = 0 if follow else os.O_NOFOLLOW
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | link)  # NONBLOCK: a pipe would be waited for
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.ENXIO, "not a regular file", os.fspath(path))
    except OSError:
        os.close(fd)
        raise
    return fd


def opened(path: StrPath) -> BinaryIO:
    """The regular file at `path`, open for reading; no link is followed. Raises OSError as `descriptor` does."""
    return os.fdopen(descriptor(path), "rb")


def read(path: StrPath, limit: int = LIMIT, *, follow: bool = False) -> bytes:
    """The content of the regular file at `path`. Raises OSError as `descriptor` does, EFBIG beyond `limit` bytes."""
    with os.fdopen(descriptor(path, follow=follow), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = b"" if size > limit else file.read(size + 1)  # not `limit`: Python makes a buffer of what is asked for
        if len(data) > size:
            data += file.read(limit + 1 - len(data))  # it grew meanwhile
        if len(data) > limit or os.fstat(file.fileno()).st_size > limit:
            raise OSError(errno.EFBIG, f"larger than {limit >> 20} MiB", os.fspath(path))
        return data
