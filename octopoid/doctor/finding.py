"""What `doctor` says, and what it says it from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from octopoid.layout import Layout
from octopoid.look import Look
from octopoid.model import Entry, Problem
from octopoid.settings import Config

ERROR, WARNING, INFO = "error", "warning", "info"
SEVERITIES = (ERROR, WARNING, INFO)

STALE = 3600.0
"""Seconds after which what lies around is left over: nothing of ours takes so long between two steps."""


class Repair(NamedTuple):
    """What `--fix` does about a finding: a row of `repairs.REPAIRS`, and what it is done to."""

    kind: str
    target: Path
    task: str = ""


class Finding(NamedTuple):
    """One thing that is not as it should be. `fix`: what to do about it; `repair`: how `--fix` does that, if it can."""

    code: str
    severity: str
    message: str
    fix: str = ""
    path: Path | None = None
    repair: Repair | None = None


class Folder(NamedTuple):
    """The evidence of one task. `odd`: names that are numbers, but not as octopoid writes them. `aside`: numbers of
    entries that a person set aside as `.broken-NNN`. `fresh`: what is called like something that is being made.
    """

    task: str
    numbers: tuple[int, ...]
    odd: tuple[str, ...]
    aside: frozenset[int]
    fresh: tuple[str, ...]


class Landed(NamedTuple):
    """What the newest entry of a finished task says: where it landed, as which commit ("": it is no landing)."""

    base: str
    sha: str
    candidate: str


class Evidence(NamedTuple):
    """What lies in `attempts/`. `strange`: what is no folder there. About finished tasks: `landed`, entries that are
    `unread`able, and those that are `left` open.
    """

    folders: tuple[Folder, ...] = ()
    strange: tuple[Path, ...] = ()
    landed: Mapping[str, Landed] = {}
    unread: tuple[Problem, ...] = ()
    left: tuple[tuple[str, Entry], ...] = ()


class Case(NamedTuple):
    """The facts that every check may look at, gathered once. `now`: seconds since the epoch.

    `config` is the policy in force: the present one, else the last good one, else None. `git` is its version, None
    where there is none that can be used. `scheduler`: one runs.
    """

    layout: Layout
    env: Mapping[str, str]
    now: float
    look: Look
    config: Config | None
    policy: tuple[Problem, ...]
    last_good: bool
    git: tuple[int, int, int] | None
    scheduler: bool
    worktrees: Path
    evidence: Evidence = Evidence()

    @property
    def root(self) -> Path:
        """The user's checkout."""
        return self.layout.root

    def short(self, path: Path) -> str:
        """`path` as a person would type it from the root."""
        return self.layout.short(path)


Check = Callable[[Case], Iterator[Finding]]


def some(names: Sequence[str], most: int = 3) -> str:
    """Names for a sentence: the first of them, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def size(count: int) -> str:
    """Bytes for a person."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
