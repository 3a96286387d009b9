"""One function per verb: evidence → section → rename → marker → journal, in this order (DESIGN §4).

A kill anywhere leaves either nothing, or evidence that `heal` finishes. Every function names the folder the task
leaves; the file not being there is a lost race, said aloud.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from octopoid import attempts, bookkeeping, documents, journal, locks, sections, steer, store
from octopoid.errors import Conflict, Invalid, LostRace, NotFound, UsageError
from octopoid.fold import fold
from octopoid.layout import Layout
from octopoid.model import ELSEWHERE, Entry, Ledger, Opening, Outcome
from octopoid.ready import SETTLE
from octopoid.states import TRANSITIONS, State

LANDING_WAIT = 30.0
"""Seconds a person's command waits for a landing that is under way."""

_REASONS = {
    "question": "answer below, or with: octopoid answer {id} -m TEXT",
    "failed": "look at `octopoid log {id}`, mend what is wrong, then: octopoid retry {id}",
    "rejected": "look at `octopoid diff {id}` and the feedback, then: octopoid retry {id}",
    "conflict": "the work no longer fits the base branch; say more in the task, then: octopoid retry {id}",
    "budget": "raise the limit in agents.yaml, then: octopoid retry {id}",
    "dependency": "remove the dependency from the front matter, then: octopoid retry {id}",
    "parked": "when it may go on: octopoid retry {id} (to drop it: octopoid cancel {id})",
}


_AWAITING = (State.INCOMING, State.PROVISIONAL)
"""Where a task is while a stage of it waits for a person's yes."""

Check = Callable[[], None]
"""Called once the landing lock is held, before anything else; raises where the verb must not be done."""


def _no_check() -> None:
    """Nothing stands against it."""


def enqueue(layout: Layout, task: str, data: bytes, now: float, by: str = "person") -> Path:
    """Put a new task into `incoming`; durable when this returns. Raises Conflict when the id is taken."""
    with store.one_at_a_time(layout):
        path = store.add(layout, task, data, mtime=now - SETTLE)
        bookkeeping.write(layout, journal.Event(now, "enqueue", task, "", State.INCOMING.value, by))
    steer.wake(layout)
    return path


def settle(layout: Layout, task: str, number: int, outcome: Outcome, now: float) -> State | None:
    """Close entry `number` with `outcome` and make the move it carries. The state entered, None without a move."""
    attempts.close(layout, task, number, outcome)
    if not outcome.verb:
        return None
    return carry(layout, task, number, outcome, now)


def carry(layout: Layout, task: str, number: int, outcome: Outcome, now: float, by: str = "scheduler") -> State:
    """Make the move that a closed entry carries: section, rename, marker, journal. Also what healing repeats."""
    with store.one_at_a_time(layout):
        return carry_now(layout, task, number, outcome, now, by)


def carry_now(layout: Layout, task: str, number: int, outcome: Outcome, now: float, by: str) -> State:
    """As `carry`, for whom holds `store.one_at_a_time`."""
    leaves = State(outcome.leaves)
    entered = store.move(layout, task, outcome.verb, leaves, _section(task, outcome))
    attempts.mark_moved(layout, task, number, entered.value)
    _log(layout, now, outcome.verb, task, leaves, entered, by, number, outcome.detail)
    return entered


def block(layout: Layout, task: str, leaves: State, reason: str, detail: str, now: float) -> None:
    """A person is needed: `reason` is the word, `detail` the sentence."""
    outcome = Outcome("block", "", False, reason, detail, now, verb="block", leaves=leaves.value, enters="blocked")
    record(layout, task, Opening("block", now), outcome, now)


def record(layout: Layout, task: str, opening: Opening, outcome: Outcome, now: float) -> None:
    """An entry that is closed from the start: a refusal or a finish that needs no run, with the move it carries.

    Its lock is held until the move is made: what a living command is about to do is not for healing.
    """
    begun = attempts.begin(layout, task, opening, outcome=outcome, locked=True)
    try:
        carry(layout, task, begun.number, outcome, now, by=opening.by)
    finally:
        if begun.lock is not None:
            os.close(begun.lock)


def give_back(layout: Layout, task: str, leaves: State, detail: str, now: float) -> None:
    """Put a file back into `incoming` that cannot be where a person's `mv` put it (DESIGN §3)."""
    outcome = Outcome("move", "", False, "", detail, now, verb="return", leaves=leaves.value, enters="incoming")
    record(layout, task, Opening("move", now, by="person", to=leaves.value), outcome, now)


def note_move(layout: Layout, task: str, leaves: str, enters: State, now: float) -> None:
    """Record a person's `mv`, which was made already. Budgets start anew."""
    with store.one_at_a_time(layout):
        if _where(layout, task)[0] is not enters:
            raise LostRace(f"{task} is not in {enters.value} any more")
        # Where a cancelled task came back, its entries do not say that it was cancelled; the journal does.
        leaves = bookkeeping.caught_up(layout, task, now) or leaves
        detail = f"moved by hand from {leaves} to {enters.value}"
        begun = attempts.begin(layout, task, Opening("move", now, by="person", to=enters.value))
        _log_plain(layout, now, "move", task, leaves, enters.value, "person", begun.number, detail)


def claim(layout: Layout, task: str, number: int, agent: str, now: float) -> None:
    """The one rename that makes a task ours. Raises LostRace when it is not in `incoming` any more."""
    with store.one_at_a_time(layout):
        entered = store.move(layout, task, "claim", State.INCOMING)
        attempts.mark_moved(layout, task, number, entered.value)
        _log(layout, now, "claim", task, State.INCOMING, entered, "scheduler", number, agent)


def approve(layout: Layout, task: str, ledger: Ledger, text: str, now: float) -> tuple[str, ...]:
    """A person's yes about what a stage left, or about the candidate; the names of documents that they had edited.

    What a person changed in `attempts/<id>/artifacts/` is part of their yes: a new version. Raises Conflict where
    nothing waits for it, Invalid where a document cannot be read.
    """
    state, _ = _where(layout, task)
    if ledger.awaiting and state in _AWAITING:
        edited = documents.edited(layout, task, ledger.artifacts)
        opening = Opening("approve", now, by="person", stage=ledger.awaiting, text=text, artifacts=tuple(edited))
        files = {f"artifacts/{name}": data for name, data in edited.items()}
        _note(layout, task, opening, f"{ledger.awaiting}: {text}" if text else ledger.awaiting, now, files)
        steer.wake(layout)
        return tuple(edited)
    if state is not State.PROVISIONAL or not ledger.candidate:
        raise Conflict(f"{task} is in {state.value}: there is no candidate to approve", f"octopoid why {task}")
    opening = Opening("approve", now, by="person", gate="human", candidate=ledger.candidate, text=text)
    _note(layout, task, opening, text, now)
    steer.wake(layout)
    return ()


def reject(layout: Layout, task: str, base: str, text: str, now: float, check: Check = _no_check) -> None:
    """A person's no about what a stage left, or about the present candidate: it is done again, with the reason.

    Budgets start anew.
    """
    with landing_lock(layout, base):
        check()
        state, ledger = _settled(layout, task, now), ledger_of(layout, task)
        if ledger.awaiting and state in _AWAITING:
            _reject_stage(layout, task, ledger.awaiting, state, text, now)
            return
        if state is not State.PROVISIONAL or not ledger.candidate:
            raise Conflict(f"{task} is in {state.value}: there is no candidate to reject", f"octopoid why {task}")
        opening = Opening("reject", now, by="person", gate="human", candidate=ledger.candidate, text=text)
        _person_move(layout, task, opening, "reject", state, text, now, feedback=text)


def _reject_stage(layout: Layout, task: str, stage: str, state: State, text: str, now: float) -> None:
    opening = Opening("reject", now, by="person", stage=stage, text=text)
    if state is State.PROVISIONAL:
        _person_move(layout, task, opening, "reject", state, text, now, feedback=text)
        return
    _note(layout, task, opening, f"{stage}: {text}", now)
    steer.wake(layout)


def release(layout: Layout, task: str, base: str, text: str, now: float, check: Check = _no_check) -> None:
    """A person's `retry`: back to `incoming` with a new budget.

    In `incoming` only the budget and the backoff start anew. A running attempt is ended by the scheduler, which finds
    its task in `incoming`.
    """
    with landing_lock(layout, base):
        check()
        state = _settled(layout, task, now)
        opening = Opening("release", now, by="person", text=text, to="incoming")
        if state is State.INCOMING:
            _note(layout, task, opening, text, now)
        elif state in TRANSITIONS["release"].leaves:
            _person_move(layout, task, opening, "release", state, text, now)
        else:
            raise Conflict(f"{task} is in {state.value}", _way_back(layout, task, state))
    steer.wake(layout)


def answer(layout: Layout, task: str, pairs: tuple[tuple[str, str], ...], now: float) -> None:
    """A person's answers to the agent's questions: back to `incoming`. Raises Conflict when nothing was asked."""
    state, ledger = _settled(layout, task, now), ledger_of(layout, task)
    if state is not State.BLOCKED or ledger.reason != "question":
        raise Conflict(f"{task} is in {state.value} and asks nothing", f"octopoid why {task}")
    text = "\n\n".join(f"Question: {question}\nAnswer: {reply}" for question, reply in pairs)
    opening = Opening("answer", now, by="person", text=text, to="incoming")
    _person_move(layout, task, opening, "release", state, "answered", now)


def reopen(layout: Layout, task: str, text: str, now: float) -> None:
    """Done, but not to a person's liking: back to `incoming`. What landed stays landed."""
    state = _settled(layout, task, now)
    if state is not State.DONE:
        raise Conflict(f"{task} is in {state.value}, not in done", _way_back(layout, task, state))
    _person_move(
        layout, task, Opening("reopen", now, by="person", text=text, to="incoming"), "reopen", state, text, now
    )


def cancel(layout: Layout, task: str, base: str, now: float, check: Check = _no_check) -> State:
    """Off to `archive/cancelled`; one rename. The caller ends the attempt. Returns the folder it left."""
    with landing_lock(layout, base):
        check()
        state = _settled(layout, task, now)
        if state not in TRANSITIONS["cancel"].leaves:
            raise Conflict(f"{task} is in {state.value}", _way_back(layout, task, state))
        with store.one_at_a_time(layout):
            store.move(layout, task, "cancel", state)
            _log(layout, now, "cancel", task, state, State.CANCELLED, "person", 0, "")
    steer.wake(layout)
    return state


def archive(layout: Layout, task: str, now: float) -> None:
    """Done and out of sight; still satisfies dependents."""
    _finish_move(layout, task, now)
    with store.one_at_a_time(layout):
        store.move(layout, task, "archive", State.DONE)
        _log(layout, now, "archive", task, State.DONE, State.ARCHIVED, "person", 0, "")


def heal(layout: Layout, task: str, state: State, entry: Entry, now: float) -> bool:
    """Finish the verb of a closed entry that lacks its `moved-…`. False: a person moved the file meanwhile, and the
    entry says so: the move by hand, which is recorded next, begins where the file was.
    """
    outcome = entry.outcome
    if outcome is None or not outcome.verb:
        return False
    if state is State(outcome.enters):
        with store.one_at_a_time(layout):
            attempts.mark_moved(layout, task, entry.number, outcome.enters)
            bookkeeping.catch_up(layout, task, now)
        return True
    landed = outcome.verb == "land" and state in TRANSITIONS["land"].leaves  # the base decides, not a hand `mv`
    if landed or state is State(outcome.leaves):
        outcome = outcome._replace(leaves=state.value)
        carry(layout, task, entry.number, outcome, now, by="healing")
        return True
    attempts.mark_moved(layout, task, entry.number, ELSEWHERE)
    return False


def landing_lock(layout: Layout, base: str) -> locks.Waiting:
    """Held while a base branch is about to move, and by a person's verbs that would take the work away."""
    layout.landing_locks.mkdir(mode=0o700, parents=True, exist_ok=True)
    return locks.waiting(layout.landing_lock(base), LANDING_WAIT)


def ledger_of(layout: Layout, task: str) -> Ledger:
    """The fold of what is on disk now. Raises Invalid."""
    return fold(attempts.read(layout, task))


def resolve(layout: Layout, word: str) -> str:
    """The one id that `word` names: exactly, or as a unique prefix. Raises NotFound, UsageError."""
    if "/" not in word and store.find(layout, word) is not None:  # a path is no id, wherever it leads
        return word
    ids = store.every_id(layout)
    matches = sorted(one for one in ids if one.startswith(word)) if word else []
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UsageError(f"{word} could be any of: {', '.join(matches[:8])}", "write more of the id")
    raise NotFound(f"there is no task {word!r}", "octopoid list shows the ids")


def _person_move(
    layout: Layout, task: str, opening: Opening, verb: str, leaves: State, detail: str, now: float, feedback: str = ""
) -> None:
    enters = TRANSITIONS[verb].enters.value
    outcome = Outcome(
        opening.kind, "", False, "", detail, now, feedback=feedback, verb=verb, leaves=leaves.value, enters=enters
    )
    record(layout, task, opening, outcome, now)
    steer.wake(layout)


def _where(layout: Layout, task: str) -> tuple[State, Path]:
    found = store.find(layout, task)
    if found is None:
        raise NotFound(f"there is no task {task!r}", "octopoid list shows the ids")
    return found


def _settled(layout: Layout, task: str, now: float) -> State:
    """Where `task` is, once what was begun is finished. Raises NotFound."""
    _finish_move(layout, task, now)
    return _where(layout, task)[0]


def _finish_move(layout: Layout, task: str, now: float) -> None:
    """Make the move that somebody was killed before: a person's next verb comes after it, and not in its place."""
    if not attempts.is_flagged(layout, task):
        return
    with contextlib.suppress(Invalid, LostRace):  # it cannot be read, or somebody else makes it just now
        unmoved, found = ledger_of(layout, task).unmoved, store.find(layout, task)
        if unmoved and found and not locks.is_held(layout.entry(task, unmoved.number) / "lock"):
            heal(layout, task, found[0], unmoved, now)


def _way_back(layout: Layout, task: str, state: State) -> str:
    if state is State.DONE:
        return f"octopoid reopen {task} works on it again"
    if state in (State.CANCELLED, State.ARCHIVED):  # a person's `mv` is a legal way to steer (DESIGN §3)
        old, new = layout.task_file(state, task), layout.task_file(State.INCOMING, task)
        return f"to work on it again: mv -n {shlex.quote(str(old))} {shlex.quote(str(new))}"
    return f"octopoid show {task}"


def _section(task: str, outcome: Outcome) -> Callable[[bytes], bytes] | None:
    """What a verb changes in octopoid's own sections of the file; None where it is a rename alone."""
    make = _SECTIONS.get(outcome.verb)
    return (lambda data: make(data, task, outcome)) if make else None


def _told(data: bytes, _task: str, outcome: Outcome) -> bytes:
    text = outcome.feedback or (outcome.detail if outcome.charged else "")
    return sections.put(data, "feedback", text) if text else data


def _blocked(data: bytes, task: str, outcome: Outcome) -> bytes:
    advice = _REASONS.get(outcome.reason, "").format(id=task)
    if outcome.reason == "question":
        data = sections.put(data, "questions", sections.questions_text(outcome.questions))
    elif outcome.feedback:
        data = sections.put(data, "feedback", outcome.feedback)
    return sections.put(data, "blocked", f"**{outcome.reason}**: {outcome.detail}\n\nNext: {advice}")


def _blocked_again(data: bytes, task: str, outcome: Outcome) -> bytes:
    """`undo` of an answer or a retry; where there is no reason nothing was taken out of the file."""
    if not outcome.reason:
        return data
    return _blocked(data, task, outcome._replace(detail=outcome.feedback, feedback=""))


def _untold(data: bytes, _task: str, outcome: Outcome) -> bytes:
    """`undo` of a person's no: the feedback is what it was before."""
    if outcome.reason != "reject":
        return data
    return sections.put(data, "feedback", outcome.feedback) if outcome.feedback else sections.drop(data, "feedback")


def _freed(data: bytes, _task: str, _outcome: Outcome) -> bytes:
    return sections.drop(sections.drop(data, "blocked"), "questions")


def _finished(data: bytes, _task: str, outcome: Outcome) -> bytes:
    data = sections.drop(sections.drop(data, "feedback"), "blocked")
    return sections.put(data, "result", outcome.summary) if outcome.summary else data


_SECTIONS: Mapping[str, Callable[[bytes, str, Outcome], bytes]] = {
    "retry": _told,
    "reject": _told,
    "block": _blocked,
    "release": _freed,
    "land": _finished,
    "finish": _finished,
    "undo-blocked": _blocked_again,
    "undo-provisional": _untold,
}


def _note(
    layout: Layout, task: str, opening: Opening, detail: str, now: float, files: Mapping[str, bytes] | None = None
) -> None:
    """A person's word that moves nothing."""
    with store.one_at_a_time(layout):
        begun = attempts.begin(layout, task, opening, files)
        _log_plain(layout, now, opening.kind, task, "", "", "person", begun.number, detail)


def _log(
    layout: Layout, now: float, verb: str, task: str, leaves: State, enters: State, by: str, number: int, detail: str
) -> None:
    _log_plain(layout, now, verb, task, leaves.value, enters.value, by, number, detail)


def _log_plain(
    layout: Layout, now: float, verb: str, task: str, leaves: str, enters: str, by: str, number: int, detail: str
) -> None:
    first = bookkeeping.first_line(detail)
    bookkeeping.write(layout, journal.Event(now, bookkeeping.word(verb), task, leaves, enters, by, number, first))
