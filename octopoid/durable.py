"""Files that survive a power cut: what these functions have returned from is on the disk.

Readers see the old content or the new, never half of it. Temporary names start with ".tmp-"; a killed process may leave
one behind, which every reader of a folder skips. On macOS fsync reaches the drive, not always its platter.
"""

# pathlib would cost a runner's start more than all the rest of this module:
# ruff: noqa: PTH104, PTH105, PTH108, PTH118, PTH120
from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys

from octopoid import lean, regular

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    StrPath = str | os.PathLike[str]

_sync_data = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync

# how each kernel says "rename, but never over something": function, arguments before/between/after the two names
_AT_FDCWD, _RENAME_NOREPLACE, _RENAME_EXCL = -100, 1, 4
_KERNEL_RENAME = "renameat2" if sys.platform == "linux" else "renamex_np"
# the file system, the kernel or a sandbox does not know the flag (NFS, kernels before 3.15, old container filters)
_NOT_KNOWN = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
_kernel_rename: list[Callable[..., None] | None] = []


def write(path: StrPath, data: bytes, *, sync: bool = True, times: tuple[int, int] | None = None) -> None:
    """Put `data` at `path`, at once: temporary file beside it, fsync, replace, fsync of the folder.

    A new file gets mode 0644 (umask applies), or 0600 in a folder that is nobody else's; an existing one keeps its
    mode. `times`: of access and modification, in nanoseconds; there is no moment without them. `sync=False` is as
    atomic but may be lost in a power cut. Raises OSError (ENOSPC, EDQUOT, EROFS …): then the old content is untouched
    and no temporary file is left.
    """
    folder = _folder(path)
    temp = os.path.join(folder, f".tmp-{os.urandom(6).hex()}")
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _mode_in(folder))
    try:
        try:
            _keep_mode(path, fd)
            _write_all(fd, data)
            if times:
                os.utime(fd, ns=times)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temp, path)
        temp = ""
    finally:
        if temp:
            os.unlink(temp)
    if sync:
        sync_folder(folder)


def read(path: StrPath) -> bytes:
    """The bytes of the regular file at `path`, as `regular.read`: no link, no pipe, nothing huge. Raises OSError."""
    return regular.read(path)


def append_line(path: StrPath, data: bytes) -> None:
    """Append `data` as one line (its newline is added if it has none) by one write, then fdatasync.

    Lines of several processes never mix. A line that a full disk or a crash cut short is ended first, so that it spoils
    nothing after it. Raises OSError; then at most the beginning of the line is there.
    """
    # Not through a link: one that came by clone would have us append to any file of the user's.
    flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(path, flags)
        new = False
    except FileNotFoundError:
        fd = os.open(path, flags | os.O_CREAT, 0o600)
        new = True
    try:
        # for the look at the end: without it another's write, half done, looks like a torn line
        fcntl.flock(fd, fcntl.LOCK_EX)
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.ENXIO, "not a regular file", os.fspath(path))
        size = facts.st_size
        torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
        line = (b"\n" if torn else b"") + data + (b"" if data.endswith(b"\n") else b"\n")
        if os.write(fd, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
        fcntl.flock(fd, fcntl.LOCK_UN)
        _sync_data(fd)
    finally:
        os.close(fd)
    if new:
        sync_folder(_folder(path))


def sync_file(path: StrPath) -> None:
    """Make what somebody else wrote to `path` survive a power cut. Waits for no pipe. Raises OSError."""
    _sync(path, os.O_RDONLY | os.O_NONBLOCK)


def sync_folder(path: StrPath) -> None:
    """Make the names in the folder `path` survive a power cut. Raises OSError."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def rename(old: StrPath, new: StrPath) -> None:
    """Move a file or folder and fsync both folders. Never overwrites, never copies.

    Raises FileExistsError (something is at `new`; nothing was moved), FileNotFoundError (nothing at `old`: a lost
    race), OSError with EXDEV (another mount).

    The kernel refuses to overwrite (renameat2 with RENAME_NOREPLACE; renamex_np on macOS), so an editor that saves at
    `new` at the same instant loses nothing. link + unlink would refuse as well, but shows the task in two folders in
    between, lets two claims win, and cannot move folders. Where the file system does not know the flag: look, then
    rename (a window of microseconds). The C call costs 0.9 ms at a process's first rename and nothing at import.
    """
    _exclusive_rename(os.fspath(old), os.fspath(new))
    target, source = _folder(new), _folder(old)
    sync_folder(target)
    if source != target:
        sync_folder(source)


def _exclusive_rename(old: str, new: str) -> None:
    if not _kernel_rename:
        _kernel_rename.append(lean.libc(_KERNEL_RENAME))
    call = _kernel_rename[0]
    if call is not None:
        names = (os.fsencode(old), os.fsencode(new))
        try:
            if sys.platform == "linux":
                call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE)
            else:
                call(*names, _RENAME_EXCL)
            return
        except OSError as error:
            if error.errno not in _NOT_KNOWN:
                raise OSError(error.errno, error.strerror, old, None, new) from None
    if os.path.lexists(new):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), old, None, new)
    os.rename(old, new)


def _folder(path: StrPath) -> str:
    return os.path.dirname(os.fspath(path)) or "."


def _mode_in(folder: str) -> int:
    """What lies in a private folder (`run`, `attempts`) is private itself, also where it is moved or copied later."""
    return 0o644 if stat.S_IMODE(os.stat(folder).st_mode) & 0o077 else 0o600  # noqa: PTH116 - the supervisor has no pathlib


def _keep_mode(path: StrPath, fd: int) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISREG(mode):
        os.fchmod(fd, stat.S_IMODE(mode))


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sync(path: StrPath, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
