"""Did an attempt leave what its role is to leave: commits, a document, a verdict, tasks? Facts first. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from octopoid import breakdown
from octopoid.adapters.base import Reading
from octopoid.evidence import Exit, Facts
from octopoid.model import Ledger, Opening, Result
from octopoid.settings import Limits


class Remains(NamedTuple):
    """Everything a finished run left. `exit` None: its supervisor died. `stop`: why somebody ended it, if so.

    `tail`: the end of what the first failing step printed. `word`: the agent's result; `garbled`: why it is unreadable.
    `documents`: names of those that it wrote or changed. `session`: what it can be resumed with where it was cut off.
    """

    exit: Exit | None
    facts: Facts
    reading: Reading | None
    word: Result
    garbled: str
    tail: str
    stop: str
    started: bool
    documents: tuple[str, ...] = ()
    session: str = ""


class Frame(NamedTuple):
    """What the policy says about the run that ended.

    `next_stage`, `next_role`: what follows its stage, "" = the gates. `approval`: a person must say yes to what it
    left. `required`: its gate may refuse. `returns_to`: the stage's own role, where another one did what only prepares
    it. `roles`: those that have an agent; `helpers`: whom the work may be handed to. `depth`: of the task below the one
    that a person wrote. `ids`: every task.
    """

    limits: Limits
    rounds: int
    next_stage: str = ""
    next_role: str = ""
    approval: bool = False
    required: bool = True
    roles: frozenset[str] = frozenset()
    helpers: frozenset[str] = frozenset()
    flows: frozenset[str] = frozenset()
    returns_to: str = ""
    depth: int = 0
    ids: Collection[str] = ()


class Lack(NamedTuple):
    """Why a run that ended by itself failed: a sentence, and what its next attempt is told."""

    detail: str
    feedback: str


def lack(opening: Opening, remains: Remains, ledger: Ledger, frame: Frame) -> Lack | None:
    """What is missing; None when the attempt left what it was to leave."""
    word, exit_ = remains.word, remains.exit
    failed = exit_.failed if exit_ else None
    if word.outcome == "failed":
        text = word.feedback or word.summary or "the agent gave up"
        return Lack(text.splitlines()[0], text)
    if remains.garbled:
        return Lack(f"the result file cannot be read: {remains.garbled}", remains.garbled)
    if failed is not None and failed.name == "commit":
        return Lack("its work could not be committed", f"Committing your work failed:\n\n{remains.tail}")
    return _LACKS[opening.produces or "commits"](opening, remains, ledger, frame)


def unfit(facts: Facts) -> Lack | None:
    """What must not go on to anybody, whatever its agent says of it."""
    if facts.leaks:
        places = ", ".join(facts.leaks[:5])
        told = (
            f"Your commits contain the value of a secret that you were given: {places}. Take it out of every commit"
            " since the base, not only of the last one (amend, or `git rebase` and edit), and read it from the"
            " environment where it is needed."
        )
        return Lack(f"it commits a secret: {places}", told)
    if facts.unlandable:
        places = ", ".join(facts.unlandable[:5])
        told = f"These paths cannot be checked out (named like git's own, or like another file but for case): {places}."
        return Lack(f"it has files that cannot be checked out: {places}", told)
    return None


def _commits(_opening: Opening, remains: Remains, ledger: Ledger, _frame: Frame) -> Lack | None:
    facts, word = remains.facts, remains.word
    if word.outcome in ("accept", "reject"):
        return Lack(f"a {word.outcome} is a reviewer's word, not a worker's", "")
    if facts.orphan:
        return Lack("its commits have no history in common with the base branch", "Work on top of the base branch.")
    if word.outcome != "done" and (facts.tree == facts.merge_base_tree or facts.head in ledger.refused):
        denied = remains.reading.detail if remains.reading else ""
        return Lack(
            "no changes" + (f" ({denied})" if denied else ""),
            "Your last attempt ended without a new commit or change, so there was nothing to judge. " + denied,
        )
    return None


def _document(opening: Opening, remains: Remains, ledger: Ledger, _frame: Frame) -> Lack | None:
    if opening.artifact in remains.documents:
        return None
    if remains.word.outcome == "done" and opening.artifact in ledger.artifacts:
        return None  # it looked at the document that is there, and says that nothing has to change
    place = f"$OCTOPOID_ARTIFACTS/{opening.artifact}"
    told = f"Write the document to {place}; your last attempt left none, or an unchanged one."
    return Lack(f"no document: {opening.artifact} was not written", told)


def _verdict(opening: Opening, remains: Remains, _ledger: Ledger, _frame: Frame) -> Lack | None:
    if remains.word.outcome in ("accept", "reject"):
        return None
    said = remains.word.outcome or "missing"
    return Lack(
        f"no verdict (outcome {said})", f"Your last attempt as {opening.role} gave no verdict (outcome {said})."
    )


def _tasks(_opening: Opening, remains: Remains, _ledger: Ledger, frame: Frame) -> Lack | None:
    word = remains.word
    if not word.subtasks:
        empty = not word.discovered and word.outcome != "done"
        return Lack("no subtasks", "Your last attempt named no subtasks in its result.") if empty else None
    wrong = breakdown.check(
        word.subtasks, roles=frame.roles, flows=frame.flows, depth=frame.depth, limits=frame.limits, ids=frame.ids
    )
    if not wrong:
        return None
    lines = "\n".join(f"- {one}" for one in wrong)
    return Lack(
        f"its subtasks cannot be made: {wrong[0]}", f"The subtasks of your last attempt cannot be made:\n\n{lines}"
    )


_LACKS: Mapping[str, Callable[[Opening, Remains, Ledger, Frame], Lack | None]] = {
    "commits": _commits,
    "document": _document,
    "verdict": _verdict,
    "tasks": _tasks,
}
