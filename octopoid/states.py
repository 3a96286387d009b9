"""Where a task can be, and the one table of moves. Nothing else moves a file (DESIGN §4)."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """A queue folder. The value is the folder's path under `queue/`."""

    INCOMING = "incoming"
    CLAIMED = "claimed"
    PROVISIONAL = "provisional"
    DONE = "done"
    BLOCKED = "blocked"
    ARCHIVED = "archive/done"
    CANCELLED = "archive/cancelled"


ACTIVE = (State.INCOMING, State.CLAIMED, State.PROVISIONAL, State.BLOCKED)
"""The folders whose files are opened at a look; `done` and the archive are only listed."""

SATISFYING = (State.DONE, State.ARCHIVED)
"""A dependency in one of these is met."""

RANK = {
    State.CANCELLED: 6,
    State.ARCHIVED: 5,
    State.DONE: 4,
    State.PROVISIONAL: 3,
    State.CLAIMED: 2,
    State.BLOCKED: 1,
    State.INCOMING: 0,
}
"""Of two files with one id the one with the higher rank is the task (DESIGN §3)."""


class Move(NamedTuple):
    """One row of the table: what may happen, from where, to where (None: the file comes into being)."""

    verb: str
    leaves: frozenset[State]
    enters: State


def _row(verb: str, leaves: tuple[State, ...], enters: State) -> tuple[str, Move]:
    return verb, Move(verb, frozenset(leaves), enters)


_QUEUED = (State.INCOMING, State.CLAIMED, State.PROVISIONAL)

TRANSITIONS: dict[str, Move] = dict(
    (
        _row("enqueue", (), State.INCOMING),
        # Work that an agent noticed or proposes: a person decides whether it is done at all.
        _row("propose", (), State.BLOCKED),
        _row("claim", (State.INCOMING,), State.CLAIMED),
        _row("submit", (State.CLAIMED,), State.PROVISIONAL),
        _row("advance", (State.CLAIMED,), State.INCOMING),
        _row("retry", (State.CLAIMED,), State.INCOMING),
        _row("reject", (State.PROVISIONAL,), State.INCOMING),
        # A landing that a kill cut short may find that a person's `mv` took its task elsewhere: the base decides, and
        # what landed is done (DESIGN §4).
        _row("land", (*_QUEUED, State.BLOCKED), State.DONE),
        _row("finish", (State.PROVISIONAL,), State.DONE),
        _row("block", _QUEUED, State.BLOCKED),
        # A person's `retry` also sends back what is claimed or provisional (DESIGN §4: "reject, cancel and retry of a
        # provisional task take the landing lock").
        _row("release", (State.BLOCKED, State.CLAIMED, State.PROVISIONAL), State.INCOMING),
        _row("reopen", (State.DONE,), State.INCOMING),
        _row("cancel", (*_QUEUED, State.BLOCKED), State.CANCELLED),
        _row("archive", (State.DONE,), State.ARCHIVED),
        # `octopoid undo`: back to where a person's move took it from; a task that was only just written is cancelled.
        _row("undo-cancelled", (State.INCOMING,), State.CANCELLED),
        _row("undo-incoming", (State.CANCELLED,), State.INCOMING),
        _row("undo-blocked", (State.CANCELLED, State.INCOMING), State.BLOCKED),
        _row("undo-provisional", (State.CANCELLED, State.INCOMING), State.PROVISIONAL),
        _row("undo-done", (State.ARCHIVED, State.INCOMING), State.DONE),
        # Putting back what a person's `mv` left where it cannot be: into `claimed`, or into `provisional` without a
        # candidate (DESIGN §3).
        _row("return", (State.CLAIMED, State.PROVISIONAL), State.INCOMING),
    )
)
