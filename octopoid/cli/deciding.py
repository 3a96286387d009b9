"""The person's decisions about one task, as functions: the commands and the inbox take them here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import typer

from octopoid import git, lifecycle, replies, sections, stopping, store
from octopoid.cli import common, judged
from octopoid.errors import Conflict, Invalid, NotFound, OctopoidError, UsageError
from octopoid.fold import candidate_verdict
from octopoid.layout import Layout
from octopoid.model import Ledger
from octopoid.states import ACTIVE, State


def approve(layout: Layout, task: str, text: str, seen: Ledger | None = None) -> Ledger:
    """Say yes to what a stage left, or to the candidate; what the yes is about. Saying it twice changes nothing.

    `seen`: what the person was shown. Raises Conflict where nothing waits for it, or where that is another version.
    """
    ledger = lifecycle.ledger_of(layout, task)
    now = (ledger.awaiting, ledger.candidate, ledger.artifacts)
    if seen and (seen.awaiting, seen.candidate, seen.artifacts) != now:
        raise Conflict(f"{task} has changed since you were shown it; nothing was approved", "look at it again")
    verdict = None if ledger.awaiting else candidate_verdict(ledger, "human")
    found = store.find(layout, task)
    again = found is not None and found[0] is State.PROVISIONAL and verdict is not None and verdict.yes
    if not again:
        edited = lifecycle.approve(layout, task, ledger, text.strip(), common.now())
        if edited:
            common.say(f"  {task}: with what you changed in {', '.join(edited)}")
    return ledger


def reject(layout: Layout, task: str, text: str) -> None:
    """Say no, and why. Raises Conflict."""
    lifecycle.reject(layout, task, base_of(layout, task), text, common.now(), partial(_not_landed, layout, task))
    common.say(f"rejected {task}: it is done again, with your reason")
    _end_runs(layout, task, "rejected by a person")


def answer(layout: Layout, task: str, messages: Sequence[str]) -> int:
    """Answer the questions of an agent; how many. What stands in the file counts, `messages` fill what is open."""
    answered = _answers(layout, task, messages)
    lifecycle.answer(layout, task, answered, common.now())
    return len(answered)


def retry(layout: Layout, task: str, text: str) -> None:
    """Try again, with a new budget. Raises Conflict."""
    base = base_of(layout, task)
    lifecycle.release(layout, task, base, text.strip(), common.now(), partial(_not_landed, layout, task))
    common.say(f"{task}: in incoming with a new budget")
    _end_runs(layout, task, "retried by a person")


def cancel(layout: Layout, task: str) -> None:
    """Give the task up. Raises Conflict."""
    left = lifecycle.cancel(layout, task, base_of(layout, task), common.now(), partial(_not_landed, layout, task))
    common.say(f"cancelled {task} (it was in {left.value})")
    _end_runs(layout, task, "cancelled by a person")
    active = [one for one in _children(layout, task) if (found := store.find(layout, one)) and found[0] in ACTIVE]
    if active:
        common.say(f"  its subtasks go on; to give them up too: octopoid cancel {' '.join(active)}")


def base_of(layout: Layout, task: str) -> str:
    """The branch whose landing lock a decision takes: the one that the candidate was made for, as its evidence says.

    Without a candidate nothing can be landing, and any branch will do: a policy, file or evidence that is not valid at
    the moment does not keep a person from deciding.
    """
    try:
        ledger = lifecycle.ledger_of(layout, task)
    except Invalid:
        ledger = Ledger()
    policy = judged.policy(layout)
    return ledger.base or (policy.base if policy else "") or git.default_branch(layout.root) or "main"


def _not_landed(layout: Layout, task: str) -> None:
    """Where a landing was cut short, the base decides: work that it contains cannot be taken back (DESIGN §4)."""
    try:
        entry = lifecycle.ledger_of(layout, task).open
    except Invalid:
        return  # unreadable evidence stops the scheduler; a person may still give the task up
    if entry is None or entry.opening.kind != "landing":
        return
    opening = entry.opening
    at = git.branch_sha(layout.root, opening.base)
    if at is not None and git.is_ancestor(layout.root, opening.result_sha, at):
        raise Conflict(
            f"the work of {task} is on {opening.base} already ({opening.result_sha[:12]})",
            "octopoid run --once moves it to done; git revert takes it back",
        )


def _end_runs(layout: Layout, task: str, why: str) -> None:
    """End what still runs for a task that left its place, and say so."""
    for entry in stopping.live(layout, task):
        if stopping.end(entry, why):
            common.say(f"  ended its run {entry.name}")
        else:
            raise OctopoidError(
                f"the run {entry.name} of {task} could not be ended yet", "octopoid doctor looks for what is left of it"
            )


def _answers(layout: Layout, task: str, messages: Sequence[str]) -> tuple[tuple[str, str], ...]:
    ledger, found = lifecycle.ledger_of(layout, task), store.find(layout, task)
    if found is None:
        raise NotFound(f"there is no task {task!r}", "octopoid list shows the ids")
    asked = _asked(ledger, found[0])
    if not asked:
        raise Conflict(f"{task} is in {found[0].value} and asks nothing", f"octopoid why {task}")
    answered = replies.pairs(asked, sections.answers(store.seen(found[1])), list(messages))
    missing = replies.unanswered(answered)
    if missing and not messages and common.interactive():
        answered = tuple((question, text or _ask_question(question)) for question, text in answered)
        missing = replies.unanswered(answered)
    if missing:
        for number, (question, _) in enumerate(answered, start=1):
            common.say(f"{number}: {common.clean_text(question)}" if number in missing else f"{number}: (answered)")
        raise UsageError(
            f"{task} has {len(missing)} open question{'s' if len(missing) > 1 else ''}",
            f"{'nothing was kept; ' if messages else ''}"
            f"octopoid answer {task} -m TEXT, once for each, or: octopoid edit {task}",
        )
    return answered


def _asked(ledger: Ledger, state: State) -> tuple[str, ...]:
    return ledger.questions if state is State.BLOCKED and ledger.reason == "question" else ()


def _ask_question(question: str) -> str:
    common.say(common.clean_text(question))
    return str(typer.prompt("Answer", err=True)).strip()


def _children(layout: Layout, task: str) -> tuple[str, ...]:
    try:
        return lifecycle.ledger_of(layout, task).children
    except Invalid:
        return ()
