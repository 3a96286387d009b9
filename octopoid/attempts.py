"""Entries on disk: `attempts/<id>/<nnn>/`. Built aside, renamed to the next free number, closed once (DESIGN §2)."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from octopoid import durable, jsontext, locks
from octopoid.errors import Conflict, Invalid
from octopoid.layout import Layout
from octopoid.model import Entry, Opening, Outcome, Problem

SPAWNED = "spawned"
GONE = ".gone-"
"""How the folder of a task's evidence begins whose file is gone; its name ends with `-` and eight characters."""

_MAX_NUMBER = 99_999
_SHORT = 72
"""Bytes of the path of a folder for temporary files: a socket's whole path has 108 at most (unix(7))."""


class Begun(NamedTuple):
    """An entry that exists now. `lock` is an open descriptor that holds its lock, or None."""

    number: int
    path: Path
    lock: int | None


def begin(
    layout: Layout,
    task: str,
    opening: Opening,
    files: Mapping[str, bytes] | None = None,
    *,
    outcome: Outcome | None = None,
    locked: bool = False,
) -> Begun:
    """Make the next entry of `task`, with `files` (names, one folder deep at most) in it; closed with `outcome`, or,
    where a program will run, locked.

    Durable when it returns. A crash before leaves only `.new-*`, which nobody reads. Raises OSError.
    """
    folder = layout.entries(task)
    if folder.is_symlink():
        raise Conflict(f"{folder} is a link: evidence stays in the queue", "put a real folder there")
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.sync_folder(folder.parent)
    _flag(layout, task)
    fresh = folder / f".new-{secrets.token_hex(6)}"
    fresh.mkdir(mode=0o700)
    try:
        for name, data in (files or {}).items():
            (fresh / name).parent.mkdir(mode=0o700, exist_ok=True)
            _write_synced(fresh / name, data)
        for inner in {(fresh / name).parent for name in files or {}} - {fresh}:
            durable.sync_folder(inner)
        if outcome is not None:
            _write_synced(fresh / "outcome.json", jsontext.dump(outcome))
        _write_synced(fresh / "attempt.json", jsontext.dump(opening))
        durable.sync_folder(fresh)
        lock = locks.take(fresh / "lock") if locked else None
        number = _settle(folder, fresh)
    except BaseException:  # whatever it was, nobody will finish this folder; re-raised
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    durable.sync_folder(folder)
    return Begun(number, layout.entry(task, number), lock)


def close(layout: Layout, task: str, number: int, outcome: Outcome) -> None:
    """Write the entry's `outcome.json`, once. Raises Conflict when it is closed already."""
    path = layout.entry(task, number) / "outcome.json"
    if path.exists():
        raise Conflict(f"{layout.short(path)} is written already")
    entry = path.parent
    for litter in (scratch_place(entry), entry / "tmp", entry / "sandbox", *_unfinished(entry)):
        tidy(litter)  # before it is closed: nobody comes by again
    durable.write(path, jsontext.dump(outcome))
    os.utime(layout.entries(task))  # the folder's time is that of its newest evidence: the day's costs are found by it


def _unfinished(entry: Path) -> list[Path]:
    """What a supervisor that was killed left half written, and the room on the disk that it kept for its last word."""
    return [entry / name for name in os.listdir(entry) if name == ".reserve" or name.startswith(".tmp-")]


def scratch(entry: Path) -> Path:
    """Make the folder for temporary files of what runs in `entry`; it goes when the entry is closed.

    Not in the entry: that is inside the user's repository, and whatever looks upwards from a temporary folder (git,
    pytest, npm, ruff) would find the user's own files. Raises Conflict when somebody else has that folder.
    """
    path = scratch_place(entry)
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise Conflict(f"{path} is not ours", "remove it, or ask who made it")
    if found.st_mode & 0o077:
        path.chmod(0o700)
    return path


def tidy(folder: Path) -> None:
    """Remove a folder, or what stands in its place: a link goes, and not what it leads to.

    Only what is no file, since rmtree opens what it is given (Python 3.11), and a pipe would be waited for.
    """
    try:
        folder.unlink()
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)


def scratch_place(entry: Path) -> Path:
    """Where the folder for temporary files of `entry` is, if there is one."""
    name = scratch_name(entry)
    wanted = Path(os.environ.get("TMPDIR") or "/tmp", name)  # noqa: S108 - its owner is looked at before it is used
    return wanted if len(os.fsencode(wanted)) <= _SHORT else Path("/tmp", name)  # noqa: S108 - as above


def scratch_name(entry: str | Path) -> str:
    """What that folder is called; `entry` is an absolute path."""
    return f"octopoid-{os.getuid()}-{hashlib.blake2b(os.fsencode(entry), digest_size=8).hexdigest()}"


def mark_moved(layout: Layout, task: str, number: int, state: str) -> None:
    """Say that the move this entry carries was made: the empty file `moved-<state>`."""
    _mark(layout.entry(task, number) / _marker(state))


def mark_spawned(layout: Layout, task: str, number: int) -> None:
    """Say that all tasks that this entry asks for were made: the empty file `spawned`."""
    _mark(layout.entry(task, number) / SPAWNED)


def note_waits(layout: Layout, task: str, number: int, why: str) -> None:
    """Say what an open landing waits for; "" when it waits no longer."""
    path = layout.entry(task, number) / "waits"
    if why:
        durable.write(path, why.encode(), sync=False)
    else:
        path.unlink(missing_ok=True)


def read(layout: Layout, task: str, known: Mapping[int, Entry] | None = None) -> tuple[Entry, ...]:
    """All entries of `task`, by number. Finished ones in `known` are not read again.

    Raises Invalid naming the file when evidence cannot be read: a counter that cannot be read stops (invariant 8).
    """
    folder = layout.entries(task)
    try:
        numbers = sorted(int(name) for name in os.listdir(folder) if name.isdecimal())
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise _unreadable(folder, error) from None
    known = known or {}
    return tuple(known[n] if n in known and finished(known[n]) else read_one(layout, task, n) for n in numbers)


def read_one(layout: Layout, task: str, number: int) -> Entry:
    """One entry. Raises Invalid as `read` does."""
    folder = layout.entry(task, number)
    path = folder / "attempt.json"
    try:
        names = frozenset(os.listdir(folder))
        opening = jsontext.load_opening(durable.read(path))
        path = folder / "outcome.json"
        outcome = jsontext.load_outcome(durable.read(path)) if "outcome.json" in names else None
        path = folder / "waits"
        waits = durable.read(path).decode("utf-8", "replace") if "waits" in names else ""
    except (OSError, ValueError, OverflowError, RecursionError) as error:
        raise _unreadable(path, error) from None
    works = _works(opening)
    odd = outcome is not None if works else outcome is None and opening.kind != "landing"
    if odd and "lock" in names and locks.is_held(folder / "lock"):
        # An agent can write another beginning into its entry. Its supervisor puts that right in the end; until then the
        # task stands still, and nobody is started beside it.
        if not works:
            raise _unreadable(path, ValueError("somebody works here, and attempt.json says something else"))
        outcome = None
    return Entry(
        number=number,
        opening=opening,
        started="pid" in names,
        exited="exit.json" in names,
        outcome=outcome,
        moved=frozenset(_unmark(name) for name in names if name.startswith("moved-")),
        waits=waits,
        spawned=SPAWNED in names,
    )


def _works(opening: Opening) -> bool:
    """Whoever works in such an entry can write there, and nobody closes it before its lock is free.

    An outcome that is there earlier is not the scheduler's. (A refusal or a finish is closed as it is made.)
    """
    return opening.kind == "attempt" or (opening.kind == "gate" and bool(opening.role or opening.key))


def _unreadable(path: Path, error: Exception) -> Invalid:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    problem = Problem(path, 0, 0, f"evidence cannot be read: {reason}", "octopoid doctor tells what can be done")
    return Invalid(str(problem), (problem,))


def finished(entry: Entry) -> bool:
    """Nothing about this entry will ever change."""
    outcome = entry.outcome
    if outcome is None:
        return entry.opening.kind not in ("attempt", "gate", "landing", "finish", "block")
    if (outcome.children or outcome.proposals) and not entry.spawned:
        return False
    return not outcome.verb or entry.is_moved


def flagged(layout: Layout) -> dict[str, float]:
    """Tasks about which something may be unfinished, with the time of their newest entry.

    A hint that costs nothing to list, so that what was left open about a task that is done or cancelled by now is
    found without looking at every task there ever was.
    """
    try:
        with os.scandir(layout.run / "open") as found:
            return {one.name: one.stat().st_mtime for one in found}
    except FileNotFoundError:
        return {}


def is_flagged(layout: Layout, task: str) -> bool:
    """May something about `task` be unfinished?"""
    return (layout.run / "open" / task).exists()


def unflag(layout: Layout, task: str) -> None:
    """Forget the hint about `task`."""
    (layout.run / "open" / task).unlink(missing_ok=True)


def set_aside(layout: Layout, task: str) -> Path | None:
    """Put the entries of a vanished task where a new task of that name does not inherit them."""
    source = layout.entries(task)
    if not source.is_dir():
        return None
    target = layout.attempts / f"{GONE}{task}-{secrets.token_hex(4)}"
    source.rename(target)
    durable.sync_folder(layout.attempts)
    return target


def _mark(path: Path) -> None:
    """Make an empty file; its name says it all. What stands there already is opened by nobody: it may be a pipe."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def _flag(layout: Layout, task: str) -> None:
    path = layout.run / "open" / task
    try:
        path.touch(0o600)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(0o600)


def _private(path: Path) -> BinaryIO:
    """A new file that is nobody else's: it may hold what an agent printed of its keys."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _write_synced(path: Path, data: bytes) -> None:
    with _private(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _settle(folder: Path, fresh: Path) -> int:
    """Rename to the next free number. A rename onto a folder that is not empty fails, so two cannot win."""
    taken = [int(name) for name in os.listdir(folder) if name.isdecimal()]
    for number in range(max(taken, default=0) + 1, _MAX_NUMBER):
        try:
            fresh.rename(folder / f"{number:03d}")
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno == errno.ENOTEMPTY:  # somebody else's entry
                continue
            raise
        return number
    raise Conflict(f"{folder} has {_MAX_NUMBER} entries", "retire the task and write a new one")


def _marker(state: str) -> str:
    return "moved-" + state.replace("/", "-")


def _unmark(name: str) -> str:
    word = name.removeprefix("moved-")
    return word.replace("archive-", "archive/") if word.startswith("archive-") else word
