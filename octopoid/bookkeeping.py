"""The journal tells the whole story: what a crash or a person's `mv` left out of it is added, once (DESIGN §4).

A move, its marker and its line happen under one lock (`store.one_at_a_time`); who is killed in between leaves the line
out. What is missing is told from the entries and from where the file is, never the other way round: the journal is no
truth. Added lines are `by: healing` and have the time of what they tell of.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice

from octopoid import attempts, journal, store
from octopoid.errors import REFUSALS, Invalid
from octopoid.fold import fold
from octopoid.journal import Event
from octopoid.layout import Layout
from octopoid.model import Entry, Item
from octopoid.ready import is_on_its_way, settled_at
from octopoid.states import State

TYPE_CHECKING = False
if TYPE_CHECKING:  # `enqueue` comes by here, and looks at nothing
    from octopoid.look import Look

HEALING = "healing"

CENSUS = 60.0
"""Seconds between two comparisons of all that is finished."""

AT_ONCE = 200
"""Tasks of one kind about which lines are added at a look; the others have their turn at the next one."""

WORDS = ("approve", "reject", "release", "say", "attach", "undo")
"""Kinds of entries that have a line of their own where no move comes with them."""

_BY_HAND = {
    ("", State.INCOMING.value): "enqueue",
    (State.DONE.value, State.ARCHIVED.value): "archive",
}
"""What it is called where nothing but the place of a file tells of it; into `archive/cancelled` is to cancel."""


def write(layout: Layout, event: Event) -> None:
    """Append the line of what was just done, after those that are missing before it. Under `one_at_a_time`."""
    try:
        before = journal.told(layout, event.task) if event.leaves or event.enters else None
        if before is not None and before != event.leaves:
            _append(layout, event.task, event.leaves, event.at, own=event)
        journal.append(layout, event)
    except OSError as error:  # what was done is done and on the disk; the line is added when there is room again
        if error.errno not in REFUSALS:
            raise


def catch_up(layout: Layout, task: str, now: float) -> int:
    """Add the lines about `task` that are missing; how many. Under `one_at_a_time`."""
    found = store.find(layout, task)
    if found is None and not store.is_whole(layout):
        return 0
    if found is not None and found[1].parent == layout.moving:
        return 0  # in the middle of a move that a kill cut short, which is finished first
    return _append(layout, task, found[0].value if found else "", now)[0]


def caught_up(layout: Layout, task: str, now: float) -> str:
    """Add what the entries of `task` tell and the journal does not; the folder to which that leads. As `catch_up`."""
    return _append(layout, task, None, now)[1]


def word(verb: str) -> str:
    """How the journal calls a verb of TRANSITIONS: where an undo leads to is in its line anyway."""
    return "undo" if verb.startswith("undo-") else verb


def first_line(detail: str) -> str:
    """What fits into a line of the journal."""
    return detail.strip().splitlines()[0][:200] if detail.strip() else ""


class Recent:
    """The end of the journal: whether it tells what young entries did. Read when it is first asked for."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._told: set[tuple[str, int, str]] | None = None
        self._since = 0.0

    def lacks(self, task: str, entries: Sequence[Entry]) -> bool:
        """Is there an entry whose line should be there and is not?"""
        if self._told is None:
            events = list(journal.backwards(self._layout, journal.TAIL))
            self._told = {(one.task, one.entry, one.enters) for one in events}
            self._since = events[-1].at if events and journal.size(self._layout) > journal.TAIL else 0.0
        lines = _lines(task, entries, "")
        return any(one.at > self._since and (task, one.entry, one.enters) not in self._told for one in lines)


def _append(layout: Layout, task: str, state: str | None, now: float, own: Event | None = None) -> tuple[int, str]:
    """Lead the journal to `state`, or (None) as far as the entries tell: how many lines that took, and where it is.

    `own`: the line that comes next and is nobody's loss.
    """
    told = _of_this_life(journal.about(layout, task))
    here = next((one.enters for one in reversed(told) if one.leaves or one.enters), "")
    known = {(one.entry, one.enters) for one in told}
    if own is not None:
        known.add((own.entry, own.enters))
    try:
        entries = attempts.read(layout, task)
    except Invalid:
        entries = ()
    count = 0
    for lost in _lines(task, entries, state or ""):
        if (lost.entry, lost.enters) in known or (lost.enters and lost.leaves not in ("", here)):
            continue
        if lost.enters:
            lost = lost._replace(leaves=here)
            here = lost.enters
        journal.append(layout, lost)
        count += 1
    if state is not None and here != state:
        journal.append(layout, _by_hand(layout, task, here, state, now))
        return count + 1, state
    return count, here


def _of_this_life(told: list[Event]) -> list[Event]:
    """Without what is said of an earlier task of that name, whose file went away: its entries were set aside."""
    last = max((at for at, one in enumerate(told) if one.leaves and not one.enters), default=-1)
    return told[last + 1 :]


def _lines(task: str, entries: Sequence[Entry], state: str) -> Iterator[Event]:
    """What the journal should say of these entries. `state`: where the file is.

    Who is killed between a rename and its marker has made the move all the same: where the file is tells it.
    """
    unmoved = fold(entries).unmoved if state else None
    for entry in entries:
        opening, outcome = entry.opening, entry.outcome
        claiming = state == State.CLAIMED and opening.kind == "attempt" and outcome is None
        if "claimed" in entry.moved or claiming:
            who, claimed = opening.agent or opening.stage, State.CLAIMED.value
            yield Event(opening.at, "claim", task, State.INCOMING.value, claimed, HEALING, entry.number, who)
        if outcome is not None and outcome.verb:
            if outcome.enters in entry.moved or (entry is unmoved and outcome.enters == state):
                detail = first_line(outcome.detail)
                name = word(outcome.verb)
                yield Event(outcome.ended, name, task, outcome.leaves, outcome.enters, HEALING, entry.number, detail)
        elif opening.kind == "move":
            yield Event(opening.at, "move", task, "", opening.to, HEALING, entry.number, "moved by hand")
        elif opening.kind in WORDS:
            detail = first_line(opening.text)
            yield Event(opening.at, opening.kind, task, "", "", HEALING, entry.number, detail)


def _by_hand(layout: Layout, task: str, here: str, state: str, now: float) -> Event:
    """What only the place of the file tells. A rename sets its ctime."""
    if not state:
        return Event(now, "gone", task, here, "", HEALING, detail="its file is gone")
    name = "cancel" if state == State.CANCELLED else _BY_HAND.get((here, state), "move")
    try:
        at = min(now, os.lstat(layout.task_file(State(state), task)).st_ctime)
    except FileNotFoundError:
        at = now
    return Event(at, name, task, here, state, HEALING, detail="found there")


class Bookkeeper:
    """Holds the journal against each look of a scheduler."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._folders: journal.Folders | None = None
        self._next_census = 0.0

    def look(self, look: Look, now: float) -> None:
        """Before anything else is done about the tasks at hand; once a minute about all there are."""
        if self._folders is None:
            self._folders = journal.Folders(self._layout)
        self._folders.update()
        of = self._folders.of
        behind = (item.id for item in look.items if of.get(item.id, "") != item.state.value and _is_quiet(item, now))
        # Whoever drops 20,000 files waits for none of their lines; what moves before its turn has them added (`write`).
        late = list(islice(behind, AT_ONCE))
        if now >= self._next_census:
            self._next_census = now + CENSUS
            active = {item.id for item in look.items}
            finished = (task for task, state in look.ids.items() if task not in active and of.get(task) != state.value)
            late += islice(finished, AT_ONCE)
            late += islice((task for task in of if task not in look.ids), AT_ONCE)
        for task in late:
            with store.one_at_a_time(self._layout):
                catch_up(self._layout, task, now)
        self._folders.keep()


def census(layout: Layout, now: float) -> None:
    """Once through everything, for a command that has to know what came last."""
    folders, ids = journal.Folders(layout), store.every_id(layout)
    folders.update()
    for task in {*ids, *folders.of}:
        if folders.of.get(task, "") != (ids[task].value if task in ids else ""):
            with store.one_at_a_time(layout):
                catch_up(layout, task, now)


def _is_quiet(item: Item, now: float) -> bool:
    """Nothing will tell of it by itself: no verb to finish, no `mv` to note, nobody who is still writing."""
    ledger = item.ledger
    if ledger.unmoved is not None or is_on_its_way(item) or ledger.trouble:
        return False
    return ledger.expected in ("", item.state.value) and settled_at(item, now) <= now
