"""The queue folders. The only module that moves a task file, and only along TRANSITIONS (invariant 2)."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from octopoid import durable, locks
from octopoid.errors import Conflict, Invalid, LostRace, NotFound
from octopoid.layout import Layout
from octopoid.model import Problem
from octopoid.states import ACTIVE, RANK, TRANSITIONS, Move, State

MOVING = 30.0
"""Seconds that a move waits for another one; each takes milliseconds."""

SAVES = 5
"""How often a person may save while their file is rewritten; each time takes milliseconds."""

MAX_BYTES = 16 * 1024 * 1024


class Place(NamedTuple):
    """A file in the queue. `moving`: found in `.moving`, on its way out of `state`. Times: seconds since the epoch.

    `path` is a string: to make 200 Paths costs an idle tick more than all its system calls.
    """

    id: str
    state: State
    path: str
    mtime: float
    ctime: float
    stamp: tuple[int, int, int]
    regular: bool
    moving: bool = False


class Scan(NamedTuple):
    """What one look at the folders finds: files in the active folders, names alone of the finished ones."""

    places: tuple[Place, ...]
    finished: dict[State, frozenset[str]]
    strays: tuple[Problem, ...]


def scan(layout: Layout, names: Callable[[Path], frozenset[str]] | None = None) -> Scan:
    """Look at every folder. `names` lists a finished folder's ids (a caller may pass one that remembers)."""
    list_ids = names or ids_in
    places: list[Place] = []
    strays: list[Problem] = []
    for state in ACTIVE:
        for entry in _files(layout.folder(state)):
            if entry.name.endswith(".md"):
                _append(places, entry, entry.name[:-3], state, moving=False)
            else:
                strays.append(_stray(Path(entry.path)))
    for entry in _files(layout.moving):
        source, _, name = entry.name.partition("+")
        if name.endswith(".md") and source in {state.name for state in State}:
            _append(places, entry, name[:-3], State[source], moving=True)
    finished = {state: list_ids(layout.folder(state)) for state in (State.DONE, State.ARCHIVED, State.CANCELLED)}
    return Scan(tuple(places), finished, tuple(strays))


def elsewhere(layout: Layout) -> Path | None:
    """A queue folder on another file system than the queue: a move is one rename, which cannot cross (EXDEV)."""
    device = layout.queue.stat().st_dev
    folders = [layout.moving, *(layout.folder(state) for state in State)]
    return next((one for one in folders if one.is_dir() and one.stat().st_dev != device), None)


def ids_in(folder: Path) -> frozenset[str]:
    """The ids of a folder by names alone: no file is opened or looked at."""
    try:
        return frozenset(name[:-3] for name in os.listdir(folder) if name.endswith(".md") and name[0] != ".")
    except FileNotFoundError:
        return frozenset()


def read(path: Path) -> bytes:
    """The bytes of a task file. Never follows a link, never hangs on a pipe. Raises Invalid, FileNotFoundError."""
    with _opened(path) as file:
        return _content(file, path)


def _opened(path: Path) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_BYTES:
        os.close(descriptor)
        large = f"larger than {MAX_BYTES // 1024 // 1024} MiB"
        raise _unreadable(path, large if stat.S_ISREG(facts.st_mode) else "not a regular file")
    return os.fdopen(descriptor, "rb", buffering=0)


def _content(file: BinaryIO, path: Path) -> bytes:
    try:
        file.seek(0)
        return file.read()
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None


def seen(path: Path) -> bytes:
    """As `read`, for who saw the file a moment ago. Raises LostRace where it is gone, Invalid."""
    try:
        return read(path)
    except FileNotFoundError:
        raise LostRace(f"{path.stem} was moved meanwhile", f"octopoid show {path.stem} says where it is now") from None


def find(layout: Layout, task: str) -> tuple[State, Path] | None:
    """Where the task with exactly this id is: the file furthest along, as DESIGN §3 says."""
    found = [
        (RANK[state], state, path)
        for state in State
        for path in (layout.task_file(state, task), _moving_path(layout, state, task))
        if os.path.lexists(path)
    ]
    if not found:
        return None
    _, state, path = max(found, key=lambda one: one[0])
    return state, path


def every_id(layout: Layout) -> dict[str, State]:
    """All ids there are with their folder, by names alone."""
    found: dict[str, State] = {}
    for state in sorted(State, key=lambda one: RANK[one]):
        found.update(dict.fromkeys(ids_in(layout.folder(state)), state))
    for name in durable_names(layout.moving):
        source, _, rest = name.partition("+")
        if rest.endswith(".md") and source in State.__members__:
            found.setdefault(rest[:-3], State[source])
    return found


def durable_names(folder: Path) -> list[str]:
    """Names in `folder`, none when it does not exist."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def is_whole(layout: Layout) -> bool:
    """Is every folder there? While one is missing (moved away, a mount that is not there yet), a file that is nowhere
    did not vanish.
    """
    return all(layout.folder(state).is_dir() for state in State)


def add(layout: Layout, task: str, data: bytes, mtime: float | None = None, state: State = State.INCOMING) -> Path:
    """A new task file in `state`, durable when this returns. Raises Conflict when the id is taken anywhere."""
    if find(layout, task) is not None:
        raise Conflict(f"there is a task {task} already")
    path = layout.task_file(state, task)
    temporary = path.with_name(f".tmp-{os.urandom(6).hex()}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            if mtime is not None:
                os.utime(file.fileno(), (mtime, mtime))
            os.fsync(file.fileno())
        durable.rename(temporary, path)
    except FileExistsError:
        raise Conflict(f"there is a task {task} already") from None
    finally:
        temporary.unlink(missing_ok=True)
    return path


def one_at_a_time(layout: Layout) -> locks.Waiting:
    """Held while a task moves, and until the journal says so: its lines stand in the order of the moves.

    Between its rewriting and its last rename a file could be renamed away by somebody else's move, and writing would
    make it again, empty of what came between (LESSONS 1). Raises Conflict.
    """
    layout.run.mkdir(mode=0o700, exist_ok=True)
    return locks.waiting(layout.run / "moving.lock", MOVING, 0.001)


def move(layout: Layout, task: str, verb: str, leaves: State, rewrite: Callable[[bytes], bytes] | None = None) -> State:
    """Move the file of `task` out of `leaves` as `verb` says; `rewrite` changes octopoid's own sections on the way.

    The caller holds `one_at_a_time`. Raises LostRace when the file is not in `leaves` or its new name is taken: then
    nothing was changed. Raises OSError as the file system gives it (EXDEV is never answered by a copy).
    """
    rule = TRANSITIONS[verb]
    if leaves not in rule.leaves:
        raise ValueError(f"{verb} does not leave {leaves}")
    return _move(layout, task, rule, leaves, rewrite)


def _move(layout: Layout, task: str, rule: Move, leaves: State, rewrite: Callable[[bytes], bytes] | None) -> State:
    source, target = layout.task_file(leaves, task), layout.task_file(rule.enters, task)
    moving = _moving_path(layout, leaves, task)
    under_way = os.path.lexists(moving)
    if not under_way and not os.path.lexists(source):
        raise _lost(task, leaves)
    if os.path.lexists(target):
        raise LostRace(occupied(layout, source, target))
    if rewrite is None and not under_way:
        _rename(layout, source, target, task, leaves)
        return rule.enters
    if not under_way:
        layout.moving.mkdir(exist_ok=True)
        _rename(layout, source, moving, task, leaves)
    if rewrite is not None:
        _rewrite(moving, rewrite)
    _rename(layout, moving, target, task, leaves)
    return rule.enters


def put_back(layout: Layout, task: str, state: State) -> bool:
    """A file that a killed move left in `.moving` goes back to the folder it was leaving. False: nothing was there."""
    moving, home = _moving_path(layout, state, task), layout.task_file(state, task)
    with one_at_a_time(layout):
        if not os.path.lexists(moving) or os.path.lexists(home):
            return False
        durable.rename(moving, home)
    return True


def _rewrite(path: Path, rewrite: Callable[[bytes], bytes]) -> None:
    """Replace the content in one step and keep the mtime: age is part of the order of tasks.

    An editor that opened the file before it moved here writes into the old one, which nobody would read again: what
    it holds afterwards counts.
    """
    with _opened(path) as file:
        facts, before = os.fstat(file.fileno()), _content(file, path)
        if rewrite(before) == before:
            return
        for _ in range(SAVES):
            durable.write(path, rewrite(before), times=(facts.st_atime_ns, facts.st_mtime_ns))
            saved = _content(file, path)
            if saved == before:
                return
            before = saved


def _rename(layout: Layout, source: Path, target: Path, task: str, leaves: State) -> None:
    try:
        durable.rename(source, target)
    except FileNotFoundError:
        if not target.parent.is_dir():
            missing = f"the folder {layout.short(target.parent)} is missing"
            raise NotFound(missing, "octopoid doctor --fix makes it") from None
        raise _lost(task, leaves) from None
    except FileExistsError:
        raise LostRace(occupied(layout, source, target)) from None


def _lost(task: str, leaves: State) -> LostRace:
    return LostRace(f"{task} is not in {leaves.value} any more", f"octopoid show {task} says where it is now")


def occupied(layout: Layout, source: Path, target: Path) -> str:
    """The sentence for a move whose target name is taken: both paths, and the `mv` that mends it."""
    spare = layout.folder(State.INCOMING) / f"{source.stem}-2.md"
    move = f"mv -n {layout.short(target)} {layout.short(spare)}"
    return f"{layout.short(target)} exists already, so {layout.short(source)} stays; keep both with: {move}"


def _moving_path(layout: Layout, state: State, task: str) -> Path:
    return layout.moving / f"{state.name}+{task}.md"


def _append(places: list[Place], entry: os.DirEntry[str], task: str, state: State, moving: bool) -> None:
    try:
        facts = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return  # it moved on between listing and looking
    stamp = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
    regular = stat.S_ISREG(facts.st_mode)
    places.append(Place(task, state, entry.path, facts.st_mtime, facts.st_ctime, stamp, regular, moving))


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What a person could mean as a task: no dotfiles, no editor's backups or swap files (DESIGN §3)."""
    try:
        with os.scandir(folder) as found:
            yield from (entry for entry in found if not _is_litter(entry.name))
    except FileNotFoundError:
        return


def _is_litter(name: str) -> bool:
    return name[0] in ".#" or name.endswith(("~", ".swp", ".swo", ".swx", ".tmp", ".bak", ".orig")) or name == "4913"


def _stray(path: Path) -> Problem:
    place = path.with_name(f"{path.stem.lower()}.md")
    command = f"mv -n {shlex.quote(str(path))} {shlex.quote(str(place))}"
    return Problem(path, 0, 0, "not a task file: the name must end in .md", command)


def _unreadable(path: Path, reason: str) -> Invalid:
    problem = Problem(path, 0, 0, reason, "a task is a plain text file of its own")
    return Invalid(str(problem), (problem,))
