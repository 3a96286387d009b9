"""A person in a task's worktree: holding it, what is in the way, what is there, and what they left (`octopoid attach`).

Nothing but a lock says that a person is there: their shell and what it starts inherit it, so it ends with the last of
them, whatever happens to the command.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from octopoid import (
    attempts,
    evidence,
    gates,
    git,
    gitfiles,
    journal,
    locks,
    regular,
    resuming,
    steer,
    steps,
    stopping,
    store,
    workspace,
    worktrees,
)
from octopoid.adapters import ADAPTERS
from octopoid.errors import Conflict, Contained, Invalid, NotFound, OctopoidError, UsageError
from octopoid.layout import Layout
from octopoid.model import Entry, Item, Opening
from octopoid.results import bounded, clean
from octopoid.settings import Agent, Config
from octopoid.states import State
from octopoid.steps import Site

TAKEN = "a person took it over (octopoid attach)"
"""What `stop` says in an attempt that was ended for this: it is charged to nobody."""

PATIENCE = 30.0
"""Seconds that a run gets to end when a scheduler is there to close it."""

_PROBES = 0.5
"""Seconds during which a lock that cannot be taken may be held by nothing but somebody's look at it."""
_CLOSING = 10.0
"""Seconds for a scheduler to take in a run that has ended."""
_TOLD = 20
"""Commits, and files, that are named."""


class User(NamedTuple):
    """A run that has the task's worktree. `who`: the agent, the gate, or what kind of run it is."""

    entry: Path
    kind: str
    who: str


class Place(NamedTuple):
    """The worktree as a person finds it, or as they left it. `marks`: when what is uncommitted was written."""

    worktree: Path
    head: str
    uncommitted: tuple[str, ...]
    marks: tuple[tuple[int, int], ...]
    going_on: str = ""
    made: bool = False


class Left(NamedTuple):
    """What a person did there. `commits`: a line each, oldest first. `rewound`: HEAD has lost commits of before."""

    place: Place
    commits: tuple[str, ...]
    files: tuple[str, ...]
    rewound: bool
    changed: bool


# --- holding it ---


def hold(layout: Layout, task: str) -> int:
    """The descriptor that holds the worktree of `task`. Raises Conflict while somebody else does."""
    path = layout.attach_lock(task)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    deadline = time.monotonic() + _PROBES
    while True:
        fd = locks.take(path)
        if fd is not None and _is_at(path, fd):
            note(fd, os.getpid())
            return fd
        if fd is not None:
            os.close(fd)  # removed by whoever let go of it, before we had it
        elif time.monotonic() > deadline:
            raise _taken(layout, task)
        else:
            time.sleep(0.01)


def note(fd: int, pid: int) -> None:
    """Say who holds it, for people: the lock is the truth."""
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"%d\n" % pid, 0)


def release(layout: Layout, task: str, fd: int) -> tuple[int, ...]:
    """Let go. The pids of what was started there, lives on and therefore still holds it (Linux: elsewhere unknown)."""
    path = layout.attach_lock(task)
    os.close(fd)
    free = locks.take(path)
    if free is None:
        return _holders(path)
    path.unlink(missing_ok=True)
    os.close(free)
    return ()


def _is_at(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _taken(layout: Layout, task: str) -> Conflict:
    pid = steer.attached(layout).get(task)
    who = f" (pid {pid})" if pid else ""
    return Conflict(f"somebody is in the worktree of {task} already{who}", "it is free when that shell ends")


def _holders(path: Path) -> tuple[int, ...]:
    found = []
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            names = os.listdir(folder)
        except OSError:
            continue  # it has ended, or is another user's
        if any(_link(folder / name) == str(path) for name in names):
            found.append(int(folder.parent.name))
    return tuple(sorted(found))


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


# --- who is there ---


def users(site: Site, task: str) -> tuple[User, ...]:
    """The runs that have the task's worktree now, and its landing: nobody is there beside them. Raises Invalid.

    Call it while you hold the worktree: then no new one begins.
    """
    folder, place = site.layout.entries(task), site.worktree(task)
    found = []
    for number in sorted(int(name) for name in store.durable_names(folder) if name.isdecimal()):
        entry = site.layout.entry(task, number)
        if locks.is_held(entry / "lock"):
            opening = attempts.read_one(site.layout, task, number).opening
            if opening.kind == "landing" or _works_in(entry, place):
                found.append(User(entry, opening.kind, opening.agent or opening.gate or opening.kind))
    return tuple(found)


def _works_in(entry: Path, place: Path) -> bool:
    """A reviewer who is asked with others has a checkout of its own. In doubt: yes."""
    try:
        record = json.loads(regular.read(entry / "steps.json"))
        return any(str(place) in (one["cwd"], one["args"].get("worktree")) for one in record["steps"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return True


def end(layout: Layout, user: User) -> bool:
    """End an attempt, charged to nobody; nothing of it lives when this is True. Works without a scheduler, too."""
    if stopping.holder(layout) is None:
        return stopping.end(user.entry, TAKEN)
    # asked only: the scheduler that waits for this run closes it, and puts the task back
    stopping.ask(user.entry, TAKEN)
    if not stopping.wait_until_free(user.entry / "lock", PATIENCE):
        return False
    deadline = time.monotonic() + _CLOSING
    while not (user.entry / "outcome.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return True


# --- the worktree ---


def unkept(item: Item, config: Config) -> str:
    """Why what is changed in the worktree now is not part of the work; "" when the next attempt goes on from it."""
    if item.state is State.PROVISIONAL:
        return "its work is being judged as it is, and the next gate or attempt sets the worktree back to that"
    flow = gates.flow_of(item.task, config) if item.task else None
    if flow is None:
        return ""
    stage = gates.stage_of(item.ledger, flow)
    name = gates.role_of(item, stage, flow, config)
    role = config.roles.get(name)
    if stage.run or (role and not (role.writes and gates.produces(name, stage, config) == "commits")):
        return f"its next stage is {stage.name}, which begins with a clean checkout"
    return ""


def enter(site: Site, item: Item, entries: Sequence[Entry]) -> Place:
    """Make the worktree usable, as an attempt would: mended, or new. Raises Conflict, OctopoidError.

    Where a gate put something else there the work is put back, unless somebody has worked on since.
    """
    layout, place = site.layout, site.worktree(item.id)
    base = gates.base_of(item, site.config)
    at = item.ledger.candidate or git.branch_sha(layout.root, base)
    if at is None:
        raise Conflict(f"{item.id} has no worktree yet: there is no branch {base} with a commit", "octopoid run")
    with tempfile.TemporaryDirectory(prefix="attach-", dir=layout.run) as scratch:
        entry = Path(scratch)
        _step(workspace.prepare(**steps.prepare(site, place, at, None, entry)["args"]), place)
        made = json.loads((entry / "start.json").read_bytes())["how"] != "kept"
    found = look(layout, place)
    ours = found.head in {at, *(one.opening.result_sha for one in entries)}  # else somebody committed there by hand
    judged = item.ledger.judged and item.state is not State.PROVISIONAL
    if judged and ours and not _worked_on(layout, item.id, entries):
        _step(workspace.check_out(**steps.check_out(site, place, at)["args"]), place)
        found = look(layout, place)
    return found._replace(made=made)


def _step(status: int, place: Path) -> None:
    if status != workspace.OK:
        raise OctopoidError(f"the worktree {place} cannot be used (see above)", "octopoid doctor")


def _worked_on(layout: Layout, task: str, entries: Sequence[Entry]) -> bool:
    """Did an agent get to work after the last gate? One that was stopped leaves its work there, too."""
    for entry in reversed(entries):
        if entry.opening.kind == "gate" and entry.started:
            return False
        if entry.opening.kind == "attempt" and entry.started:
            folder = layout.entry(task, entry.number)
            try:
                return evidence.read_exit(folder).step("agent") is not None
            except (FileNotFoundError, Invalid):
                return (folder / "start.json").exists()
    return False


def look(layout: Layout, place: Path) -> Place:
    """The worktree as it is now. Raises Contained when it is gone."""
    gitdir = worktrees.site(layout.root, place)
    head = worktrees.ask(layout.root, place, "HEAD")[0]
    names = tuple(worktrees.uncommitted(layout.root, place))
    return Place(place, head, names, tuple(map(_mark, (place / name for name in names))), gitfiles.going_on(gitdir))


def _mark(path: Path) -> tuple[int, int]:
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return (0, 0)
    return (facts.st_mtime_ns, facts.st_size)


def left(layout: Layout, before: Place) -> Left | None:
    """What changed there since `before`; None when the worktree is gone."""
    try:
        place = look(layout, before.worktree)
    except (Contained, OSError):
        return None
    root, moved = layout.root, place.head != before.head
    changed = moved or (place.uncommitted, place.marks) != (before.uncommitted, before.marks)
    if not moved:
        return Left(place, (), (), False, changed)
    said = git.run(root, "log", "--reverse", "--format=%h %s", f"{before.head}..{place.head}").out.splitlines()
    files = git.changed_files(root, before.head, place.head)
    return Left(place, tuple(map(clean, said)), files, not git.is_ancestor(root, before.head, place.head), changed)


# --- evidence ---


def record(layout: Layout, task: str, what: Left | None, now: float) -> None:
    """Write down that a person is at work there, or (`what`) what they left: the next attempt is told."""
    text = _story(what) if what else ""
    detail = text.splitlines()[0] if text else "in its worktree"
    with store.one_at_a_time(layout):
        begun = attempts.begin(layout, task, Opening("attach", now, by="person", text=text))
        journal.append(layout, journal.Event(now, "attach", task, by="person", entry=begun.number, detail=detail))


def _story(what: Left) -> str:
    lines = ["I worked in this worktree meanwhile. Go on from what is there now."]
    lines += [f"commit {one}" for one in what.commits[-_TOLD:]]
    if what.place.uncommitted:
        lines.append(f"not committed: {some(what.place.uncommitted)}")
    return bounded("\n".join(lines))


def some(names: Sequence[str]) -> str:
    """The first of many names, for people."""
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return clean(", ".join(names[:_TOLD])) + more


# --- the agent's own terminal program ---


def resumption(site: Site, task: str, entries: Sequence[Entry]) -> tuple[str, ...]:
    """What goes on with the session of the newest attempt by hand. Raises NotFound, UsageError."""
    entry = next((one for one in reversed(entries) if one.opening.kind == "attempt" and one.opening.agent), None)
    if entry is None or not entry.started:
        raise NotFound(f"no agent has worked on {task} yet", f"octopoid attach {task} opens a shell")
    opening = entry.opening
    agent = site.config.agents.get(opening.agent) or Agent(opening.agent, opening.role, opening.adapter)
    adapter = ADAPTERS.get(opening.adapter)
    if adapter is None or not adapter.interactive(agent, "session"):
        message = f"the program of agent {agent.name} ({opening.adapter}) cannot be gone on with in a terminal"
        raise UsageError(message, f"octopoid attach {task} opens a shell")
    log = site.layout.entry(task, entry.number) / "output.log"
    session = (entry.outcome.session if entry.outcome else "") or resuming.began(log, adapter)[0]
    if not session:
        message = f"attempt {opening.attempt} of {task} left no session to go on with"
        raise NotFound(message, f"octopoid attach {task} opens a shell")
    return adapter.interactive(agent, session)
