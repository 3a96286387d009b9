"""The person's moves: approve, reject, answer, retry, cancel, reopen. They work without a scheduler."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from octopoid import config, git, lifecycle, replies, sections, stopping, store, taskfile
from octopoid.cli import common
from octopoid.errors import Conflict, Invalid, NotFound, OctopoidError, UsageError
from octopoid.fold import candidate_verdict
from octopoid.layout import Layout
from octopoid.model import Ledger
from octopoid.states import State

approve = typer.Typer()
reject = typer.Typer()
answer = typer.Typer()
retry = typer.Typer()
cancel = typer.Typer()
reopen = typer.Typer()

Why = Annotated[str, typer.Option("-m", "--message", metavar="TEXT", help="Why; the next attempt is told.")]
Note = Annotated[str, typer.Option("-m", "--message", metavar="TEXT", help="A word for the next attempt.")]


@approve.command(epilog=common.examples("octopoid approve add-dark-mode", "octopoid approve add-d fix-login -m 'nice'"))
def _approve(
    ids: common.Ids,
    message: Annotated[str, typer.Option("-m", "--message", metavar="TEXT", help="A note for the evidence.")] = "",
    as_json: common.Json = False,
) -> None:
    """Say yes to the present work of a task: it lands when every other gate said yes too.

    Your yes is about this candidate alone; when the work changes, you are asked again.
    """
    layout = common.layout()
    told: list[dict[str, str]] = []

    def one(task: str) -> None:
        candidate = _say_yes(layout, task, message)
        told.append({"id": task, "candidate": candidate})
        if not as_json:
            common.say(f"approved {task} ({candidate[:12]})")

    _run(ids, layout, one)
    if as_json:
        common.emit("approve", approved=told)
    else:
        common.next_step(_lands(layout))


@reject.command(epilog=common.examples("octopoid reject add-dark-mode -m 'keep the old colours for print'"))
def _reject(
    ids: common.Ids,
    message: Why = "",
) -> None:
    """Say no to the present work of a task, and why: it goes back to be worked on again."""
    layout = common.layout()
    text = message.strip() or _ask_for("Why? The next attempt is told", "say why with -m TEXT")

    def one(task: str) -> None:
        lifecycle.reject(layout, task, base_of(layout, task), text, common.now(), partial(_not_landed, layout, task))
        common.say(f"rejected {task}: back to incoming with your reason")
        _end_runs(layout, task, "rejected by a person")

    _run(ids, layout, one)
    common.next_step(_goes_on(layout))


@answer.command(
    epilog=common.examples(
        "octopoid answer add-dark-mode -m 'yes, in the profile too'",
        "octopoid answer add-dark-mode -m 'PostgreSQL' -m 'port 5433'",
        "octopoid answer add-dark-mode -m '2: port 5433'",
        "octopoid edit add-dark-mode    # or write the answers into the file",
    )
)
def _answer(
    ids: common.Ids,
    messages: Annotated[
        list[str],
        typer.Option("-m", "--message", metavar="TEXT", help="An answer; once for each open question, in order."),
    ] = [],  # noqa: B006 - typer's way to say "none given"; never changed
) -> None:
    """Answer the questions of an agent: its task goes on with them.

    What you wrote into the file counts; -m fills what is still open, and one -m alone answers all of that. Without -m,
    on a terminal, you are asked.
    """
    layout = common.layout()

    def one(task: str) -> None:
        answered = _answers(layout, task, messages)
        lifecycle.answer(layout, task, answered, common.now())
        count = f" ({len(answered)} questions)" if len(answered) > 1 else ""
        common.say(f"answered {task}{count}: back to incoming")

    _run(ids, layout, one)
    common.next_step(_goes_on(layout))


@retry.command(epilog=common.examples("octopoid retry add-dark-mode", "octopoid retry add-d -m 'the key is set now'"))
def _retry(
    ids: common.Ids,
    message: Note = "",
) -> None:
    """Try again, with a new budget: what is blocked, what is being worked on, or what waits out its backoff.

    A running attempt is ended. Its worktree, commits and uncommitted work stay: the next attempt goes on from there.
    """
    layout = common.layout()

    def one(task: str) -> None:
        text, base = message.strip(), base_of(layout, task)
        lifecycle.release(layout, task, base, text, common.now(), partial(_not_landed, layout, task))
        common.say(f"{task}: in incoming with a new budget")
        _end_runs(layout, task, "retried by a person")

    _run(ids, layout, one)
    common.next_step(_goes_on(layout))


@cancel.command(epilog=common.examples("octopoid cancel add-dark-mode", "octopoid cancel add-d fix-login"))
def _cancel(ids: common.Ids) -> None:
    """Give a task up: its agent is ended, its file goes to archive/cancelled. Its worktree and commits stay."""
    layout = common.layout()

    def one(task: str) -> None:
        left = lifecycle.cancel(layout, task, base_of(layout, task), common.now(), partial(_not_landed, layout, task))
        common.say(f"cancelled {task} (it was in {left.value})")
        _end_runs(layout, task, "cancelled by a person")

    _run(ids, layout, one)
    common.next_step("octopoid status shows what depended on it; octopoid clean --dry-run shows what can be removed")


@reopen.command(epilog=common.examples("octopoid reopen add-dark-mode -m 'the toggle forgets the choice'"))
def _reopen(ids: common.Ids, message: Note = "") -> None:
    """Work again on a task that is done. What landed stays landed."""
    layout = common.layout()

    def one(task: str) -> None:
        lifecycle.reopen(layout, task, message.strip(), common.now())
        common.say(f"reopened {task}: in incoming")

    _run(ids, layout, one)
    common.next_step(_goes_on(layout))


def base_of(layout: Layout, task: str) -> str:
    """The branch that `task` lands on: what its file says, else the policy, else the repository's own default.

    A policy or file that is not valid at the moment does not keep a person from deciding: then the next in line counts.
    """
    found = store.find(layout, task)
    try:
        own = taskfile.parse(store.read(found[1]), found[1].with_name(f"{task}.md")).base if found else None
    except (Invalid, FileNotFoundError):
        own = None
    return own or _policy_base(layout) or git.default_branch(layout.root) or "main"


def _policy_base(layout: Layout) -> str:
    for home in (layout.home, layout.last_good):
        try:
            return config.load(home, templates=False).base
        except Invalid:
            continue
    return ""


def _run(words: list[str], layout: Layout, action: Callable[[str], None]) -> None:
    stopping.refuse_agents(layout)
    common.each(common.resolve(layout, words), action)


def _say_yes(layout: Layout, task: str, text: str) -> str:
    """Record the yes; the candidate. Saying it twice changes nothing."""
    ledger = lifecycle.ledger_of(layout, task)
    verdict = candidate_verdict(ledger, "human")
    found = store.find(layout, task)
    again = found is not None and found[0] is State.PROVISIONAL and verdict is not None and verdict.yes
    if not again:
        lifecycle.approve(layout, task, ledger, text.strip(), common.now())
    return ledger.candidate


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


def _answers(layout: Layout, task: str, messages: list[str]) -> tuple[tuple[str, str], ...]:
    ledger, found = lifecycle.ledger_of(layout, task), store.find(layout, task)
    if found is None:
        raise NotFound(f"there is no task {task!r}", "octopoid list shows the ids")
    asked = _asked(ledger, found[0])
    if not asked:
        raise Conflict(f"{task} is in {found[0].value} and asks nothing", f"octopoid why {task}")
    answered = replies.pairs(asked, sections.answers(store.read(found[1])), messages)
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


def _ask_for(prompt: str, otherwise: str) -> str:
    said = str(typer.prompt(prompt, err=True)).strip() if common.interactive() else ""
    if not said:
        raise UsageError("a reason is needed: an agent that is told nothing does the same again", otherwise)
    return said


def _goes_on(layout: Layout) -> str:
    if stopping.holder(layout) is not None:
        return "the scheduler takes it from here; octopoid status shows how it goes"
    return "octopoid run works on it (no scheduler is running now)"


def _lands(layout: Layout) -> str:
    if stopping.holder(layout) is not None:
        return "the scheduler lands it; octopoid status shows how it goes"
    return "octopoid run --until-empty lands it (no scheduler is running now)"
