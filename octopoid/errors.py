"""The exception tree. Each leaf is something a caller can act on, and carries its exit code (DESIGN §10)."""

from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from octopoid.model import Problem

REFUSALS = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOLCK,
        errno.EXDEV,
        # something else stands where a file or a folder of ours belongs
        errno.EISDIR,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.ENXIO,
    }
)
"""The numbers of an OSError by which the person's machine refuses something: no bug of ours, and it may pass."""


class OctopoidError(Exception):
    """Something a person can act on. `hint` is one sentence: what to do next, never something destructive."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(OctopoidError):
    """The command line cannot mean anything."""

    exit_code = 2


class NotFound(OctopoidError):
    """No such task, entry, folder or repository."""

    exit_code = 3


class Invalid(OctopoidError):
    """A file says something it may not say. `problems` name file, line and column, the first one first."""

    exit_code = 4

    def __init__(self, message: str, problems: tuple[Problem, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint)
        self.problems = problems


class Conflict(OctopoidError):
    """Somebody else got there first, or holds the lock. Nothing was changed."""

    exit_code = 5


class LostRace(Conflict):
    """A move named the folder it leaves and the file was not there (or the target name was taken)."""


class NeedsPerson(OctopoidError):
    """A task failed or waits for a person."""

    exit_code = 6


class BudgetSpent(OctopoidError):
    """A limit on money or turns is reached."""

    exit_code = 7


class TimedOut(OctopoidError):
    """The wait was longer than asked for."""

    exit_code = 124


class GitError(OctopoidError):
    """git said no. `argv`, `status` and `stderr` are what it said; classify by these, never by prose."""

    def __init__(self, argv: tuple[str, ...], status: int, stderr: str) -> None:
        said = [line for line in stderr.splitlines() if line.strip()]
        fatal = [at for at, line in enumerate(said) if line.startswith(("fatal:", "error:"))]  # advice may follow
        last = said[fatal[-1] if fatal else -1].strip() if said else f"exit status {status}"
        if fatal and last.endswith(":"):  # a list follows
            last = " ".join((last, *(line.strip() for line in said[fatal[-1] + 1 :])))
        super().__init__(f"git {' '.join(argv[:3])}: {last}")
        self.argv = argv
        self.status = status
        self.stderr = stderr


class Contained(OctopoidError):
    """Work was about to happen outside the worktree it belongs to (LESSONS 25)."""
