"""Taking back the last move of a person: what it was says the journal, whether and how that can be undone say the
folders and the entries (the journal is no truth).

What was taken back stays: an entry `undo` names the entry that counts no longer, and `fold` passes over that. So a kill
leaves either nothing, or an entry that healing finishes; and what is undone is known from the evidence alone.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from typing import NamedTuple

from octopoid import attempts, bookkeeping, clock, git, journal, lifecycle, locks, steer, store
from octopoid.errors import Conflict, Invalid, NotFound
from octopoid.fold import PROGRAMS, fold
from octopoid.journal import Event
from octopoid.layout import Layout
from octopoid.model import Entry, Ledger, Opening, Outcome
from octopoid.states import State

WORDS = frozenset(("enqueue", "cancel", "archive", "approve", "reject", "release", "reopen"))
"""Lines of the journal that may be a person's move."""

_NAMES = {"release": "retry"}
"""How people call what the entries call otherwise."""

_INSTEAD = {
    "enqueue": "to give it up all the same: octopoid cancel {id}",
    "cancel": "octopoid show {id} says where it is",
    "archive": "octopoid show {id} says where it is",
    "approve": "octopoid show {id} says how it stands; while it is judged: octopoid reject {id} -m TEXT",
    "reject": "octopoid say {id} -m TEXT tells its agent otherwise",
    "answer": "octopoid say {id} -m TEXT corrects the answer",
    "release": "octopoid stop {id} ends its run; octopoid cancel {id} gives it up",
    "reopen": "octopoid cancel {id} gives it up; what landed stays landed",
}

_REDO = {
    "cancel": "octopoid cancel {id}",
    "archive": "octopoid clean",
    "approve": "octopoid approve {id}",
    "reject": "octopoid reject {id} -m TEXT",
    "answer": "octopoid answer {id} (your words are in octopoid thread {id})",
    "release": "octopoid retry {id}",
    "reopen": "octopoid reopen {id}",
}


class Undo(NamedTuple):
    """One move that can be taken back. `leaves`, `enters`: folders; where they are the same its file stays there."""

    task: str
    move: str
    at: float
    entry: int
    leaves: State
    enters: State
    redo: str


class _Case(NamedTuple):
    """What the disk says about a task. `said`: the entry in which the person's word is, None where it has none.

    `before`: what the entries say without that word.
    """

    layout: Layout
    task: str
    event: Event
    state: State
    entries: tuple[Entry, ...]
    said: Entry | None
    before: Ledger


def last(layout: Layout, now: float, task: str = "") -> tuple[Event, ...]:
    """The last move of a person (of `task`) that was not taken back. One `clean` is one move of several tasks.

    Raises NotFound where there is none.
    """
    bookkeeping.census(layout, now)
    found: list[Event] = []
    healed: list[Event] = []  # told late: where such a line stands does not say when it was
    for event in journal.backwards(layout, word=task.encode()):
        if found and (event.event, event.at) != ("archive", found[0].at):
            break
        if event.event in WORDS and task in ("", event.task) and _is_open(layout, event, bool(task)):
            (healed if event.by == bookkeeping.HEALING else found).append(event)
            if found and event.event != "archive":
                break
    newest = max(healed, key=lambda one: one.at, default=None)
    if newest and (not found or newest.at > found[0].at):
        found = [newest]
    if not found:
        what = f"no move of yours about {task}" if task else "no move of yours"
        raise NotFound(f"there is {what} that could be undone", "octopoid events shows what happened")
    return tuple(reversed(found))


def plan(layout: Layout, event: Event) -> Undo:
    """How `event` would be taken back. Raises Conflict with what to do instead, where that cannot be any more."""
    case = _case(layout, event)
    kind = _kind(event, case.said)
    enters = _RULES[kind](case)
    target = layout.task_file(enters, event.task)
    if enters is not case.state and os.path.lexists(target):
        raise Conflict(f"{layout.short(target)} exists already", f"octopoid show {event.task}")
    old, new = layout.task_file(enters, event.task), layout.task_file(case.state, event.task)
    again = f"mv -n {shlex.quote(layout.short(old))} {shlex.quote(layout.short(new))}"
    redo = _REDO.get(kind, again).format(id=event.task)
    number = case.said.number if case.said else 0
    return Undo(event.task, _NAMES.get(kind, kind), event.at, number, case.state, enters, redo)


def undo(layout: Layout, event: Event, base: str, now: float) -> Undo:
    """Take `event` back. `base`: the branch on which its work would land. Raises Conflict, LostRace, OSError.

    Looked at and done under the locks of landings and of moves: no claim and no landing can come between.
    """
    with lifecycle.landing_lock(layout, base), store.one_at_a_time(layout):
        found = plan(layout, event)
        case = _case(layout, event)
        key = "" if found.entry else clock.iso(event.at)
        moves = found.enters is not found.leaves
        opening = Opening(
            "undo",
            now,
            by="person",
            text=found.move,
            undoes=found.entry,
            key=key,
            to=found.enters.value if moves else "",
        )
        outcome = _outcome(case, found, now) if moves else None
        begun = attempts.begin(layout, event.task, opening, outcome=outcome, locked=True)
        try:
            if outcome is not None:
                lifecycle.carry_now(layout, event.task, begun.number, outcome, now, by="person")
            else:
                line = Event(now, "undo", event.task, by="person", entry=begun.number, detail=found.move)
                bookkeeping.write(layout, line)
        finally:
            if begun.lock is not None:
                os.close(begun.lock)
    steer.wake(layout)
    return found


def _outcome(case: _Case, found: Undo, now: float) -> Outcome:
    """The move of an undo; for the sections that the person's word took out of the file, what they say again."""
    outcome = Outcome(
        "undo",
        "",
        False,
        "",
        found.move,
        now,
        verb=f"undo-{found.enters.value.rpartition('/')[2]}",
        leaves=found.leaves.value,
        enters=found.enters.value,
    )
    if case.said is None:
        return outcome
    before = case.before
    if found.enters is State.BLOCKED:
        return outcome._replace(reason=before.reason, questions=before.questions, feedback=before.detail)
    if found.move == "reject":
        return outcome._replace(reason="reject", feedback=before.feedback[-1].text if before.feedback else "")
    return outcome


def _is_open(layout: Layout, event: Event, named: bool) -> bool:
    """Is it a person's move about a task that there is, and was it not taken back?"""
    # A file that was put there by hand may be found long after other moves: only who names it can mean it.
    theirs = event.by == "person" or (
        event.by == bookkeeping.HEALING and (event.entry > 0 or named or event.event != "enqueue")
    )
    if not theirs or store.find(layout, event.task) is None:
        return False
    try:
        entries = attempts.read(layout, event.task)
    except Invalid:
        return True
    if event.entry:
        said = next((one for one in entries if one.number == event.entry), None)
        if said is None or said.opening.by != "person":
            return False
        return all(one.opening.undoes != event.entry for one in entries)
    return all(one.opening.kind != "undo" or one.opening.key != clock.iso(event.at) for one in entries)


def _case(layout: Layout, event: Event) -> _Case:
    found = store.find(layout, event.task)
    if found is None:
        raise NotFound(f"there is no task {event.task!r} any more", "octopoid events shows what happened")
    entries = attempts.read(layout, event.task)
    said = next((one for one in entries if one.number == event.entry), None) if event.entry else None
    before = fold((*entries, Entry(0, Opening("undo", 0.0, undoes=event.entry))) if event.entry else entries)
    return _Case(layout, event.task, event, found[0], entries, said, before)


def _kind(event: Event, said: Entry | None) -> str:
    return said.opening.kind if said else event.event


def _no(case: _Case, why: str) -> Conflict:
    kind = _kind(case.event, case.said)
    return Conflict(
        f"{_NAMES.get(kind, kind)} of {case.task} cannot be undone: {why}", _INSTEAD[kind].format(id=case.task)
    )


def _worked_on(case: _Case) -> bool:
    """Did anything run for it since, or is about to?"""
    after = case.said.number if case.said else 0
    later = (one for one in case.entries if one.number > after and one.opening.kind in PROGRAMS)
    return any(one.started or one.outcome is None for one in later)


def _still_incoming(case: _Case) -> None:
    if case.state is not State.INCOMING:
        raise _no(case, f"it is in {case.state.value} by now")
    if _worked_on(case):
        raise _no(case, "it has been worked on since")


def _enqueue(case: _Case) -> State:
    """Into `archive/cancelled`, as `cancel` would: whatever was written into the file since is kept."""
    _still_incoming(case)
    return State.CANCELLED


def _cancel(case: _Case) -> State:
    """Where it was; what was claimed has lost its agent and waits for another one."""
    if case.state is not State.CANCELLED:
        raise _no(case, f"it is in {case.state.value} by now")
    if case.event.leaves == State.PROVISIONAL and case.before.candidate and case.before.expected == State.PROVISIONAL:
        return State.PROVISIONAL
    return State.BLOCKED if case.event.leaves == State.BLOCKED else State.INCOMING


def _archive(case: _Case) -> State:
    if case.state is not State.ARCHIVED:
        raise _no(case, f"it is in {case.state.value} by now")
    return State.DONE


def _approve(case: _Case) -> State:
    opening = case.said.opening if case.said else Opening("approve", 0.0)
    if opening.stage:
        if case.state not in (State.INCOMING, State.PROVISIONAL) or case.before.awaiting != opening.stage:
            raise _no(case, f"it is in {case.state.value} and has gone on since")
        if _worked_on(case):
            raise _no(case, "the next stage has begun")
        if any(one.spawned for one in case.entries if one.outcome and one.outcome.children):
            raise _no(case, "its subtasks are made already")
        return case.state
    if case.state is not State.PROVISIONAL:
        raise _no(case, f"it is in {case.state.value} by now")
    if case.before.candidate != opening.candidate:
        raise _no(case, "its work has changed since, so that yes does not count any more")
    _not_landing(case)
    return case.state


def _not_landing(case: _Case) -> None:
    """What the base contains cannot be taken back, and git is never stopped (DESIGN §8)."""
    entry = case.before.open
    if entry is None or entry.opening.kind != "landing":
        return
    if locks.is_held(case.layout.entry(case.task, entry.number) / "lock"):
        raise _no(case, "it is landing at this moment")
    at = git.branch_sha(case.layout.root, entry.opening.base)
    if at is not None and git.is_ancestor(case.layout.root, entry.opening.result_sha, at):
        raise _no(case, f"its work is on {entry.opening.base} already")


def _reject(case: _Case) -> State:
    _still_incoming(case)
    return _came_from(case)


def _answer(case: _Case) -> State:
    _still_incoming(case)
    return State.BLOCKED


def _release(case: _Case) -> State:
    _still_incoming(case)
    if case.said and case.said.outcome and case.said.outcome.leaves == State.CLAIMED:
        raise _no(case, "the run that it ended cannot go on")
    return _came_from(case)


def _reopen(case: _Case) -> State:
    _still_incoming(case)
    return State.DONE


def _came_from(case: _Case) -> State:
    """The folder that the person's word took it out of; where it moved nothing, the one it is in."""
    outcome = case.said.outcome if case.said else None
    return State(outcome.leaves) if outcome and outcome.verb else case.state


_RULES: Mapping[str, Callable[[_Case], State]] = {
    "enqueue": _enqueue,
    "cancel": _cancel,
    "archive": _archive,
    "approve": _approve,
    "reject": _reject,
    "answer": _answer,
    "release": _release,
    "reopen": _reopen,
}
"""What each move needs to be taken back, and the folder to which that leads."""
