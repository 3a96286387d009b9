"""Tasks that come from tasks: subtasks, proposals, and what follows a landing. Each is made exactly once.

What is to be made stands in an entry (`children.json`) before anything is made, with ids that cannot change; each file
is made unless it is there, and the marker `spawned` comes last. Whoever is killed in between, the next look goes on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from octopoid import attempts, bookkeeping, breakdown, journal, lifecycle, regular, steer, store, taskfile
from octopoid.errors import Conflict, Invalid
from octopoid.layout import Layout
from octopoid.model import Item, Opening, Outcome, Problem
from octopoid.ready import SETTLE
from octopoid.settings import Flow
from octopoid.states import State

CHILDREN = "children.json"
_STEP = 0.001
"""Seconds between the ages of tasks that are made together: they keep their order."""


def dump(made: Sequence[breakdown.Made]) -> bytes:
    """`children.json`."""
    rows = [{"id": one.id, "text": one.text.decode(), "proposal": one.proposal} for one in made]
    return json.dumps(rows, ensure_ascii=False, indent=1).encode() + b"\n"


def load(layout: Layout, task: str, number: int) -> tuple[breakdown.Made, ...]:
    """What entry `number` asks for. Raises Invalid."""
    path = layout.entry(task, number) / CHILDREN
    try:
        rows = json.loads(regular.read(path))
        return tuple(breakdown.Made(row["id"], row["text"].encode(), row["proposal"]) for row in rows)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = Problem(path, 0, 0, f"cannot be read: {error}", "octopoid doctor tells what can be done")
        raise Invalid(str(problem), (problem,)) from None


def spawn(layout: Layout, task: str, number: int, room: int, now: float) -> tuple[breakdown.Made, ...]:
    """Make what entry `number` asks for and is not there yet; what was made now.

    `room`: so many more proposals may be open. What is over it is not made, and the journal says so. Raises Invalid.
    """
    new = []
    for at, one in enumerate(load(layout, task, number)):
        if store.find(layout, one.id) is not None:
            continue
        if one.proposal and room <= 0:
            event = journal.Event(now, "not proposed", one.id, by=task, detail="too many proposals are open")
            journal.append(layout, event)
            continue
        make = _propose if one.proposal else _enqueue
        make(layout, one, now + at * _STEP, task)
        room -= one.proposal
        new.append(one)
    attempts.mark_spawned(layout, task, number)
    steer.wake(layout)
    return tuple(new)


def follow(layout: Layout, item: Item, flow: Flow | None, now: float) -> tuple[str, ...]:
    """Make the tasks that follow when `item` has landed; they depend on it, so that none begins before.

    Called before the landing: afterwards a kill would leave nobody who remembers.
    """
    if flow is None or not flow.after:
        return ()
    task = item.task
    if task is None:
        return ()
    made = breakdown.follow(item.id, task.title, flow.after, base=task.base, project=task.project)
    new = [one for one in made if store.find(layout, one.id) is None]
    for at, one in enumerate(new):
        _enqueue(layout, one, now + at * _STEP, item.id)
    return tuple(one.id for one in new)


def parent_of(layout: Layout, task: str) -> str | None:
    """The task that this one is a part of, None where nobody says so."""
    found = store.find(layout, task)
    if found is None:
        return None
    try:
        return taskfile.parse(store.read(found[1]), found[1].with_name(f"{task}.md")).parent
    except (FileNotFoundError, Invalid):
        return None


def _enqueue(layout: Layout, one: breakdown.Made, now: float, origin: str) -> None:
    try:
        lifecycle.enqueue(layout, one.id, one.text, now, by=origin)
    except Conflict:
        return  # somebody was faster: it is there


def _propose(layout: Layout, one: breakdown.Made, now: float, origin: str) -> None:
    """Into `blocked`, with the reason as its evidence: a person decides whether it is done."""
    detail = f"proposed while {origin} was worked on"
    if not attempts.read(layout, one.id):
        outcome = Outcome("block", "", False, "parked", detail, now)
        attempts.begin(layout, one.id, Opening("block", now, by=origin), outcome=outcome)
    with store.one_at_a_time(layout):
        try:
            store.add(layout, one.id, one.text, mtime=now - SETTLE, state=State.BLOCKED)
        except Conflict:
            return
        event = journal.Event(now, "propose", one.id, "", State.BLOCKED.value, origin, 0, detail)
        bookkeeping.write(layout, event)
