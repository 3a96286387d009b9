"""The person's moves: approve, reject, answer, retry, cancel, reopen. They work without a scheduler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from octopoid import lifecycle, stopping
from octopoid.cli import common, deciding
from octopoid.errors import UsageError
from octopoid.layout import Layout

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

    Where a stage waits for your yes (a plan, a breakdown) that is what you say yes to, and the task goes on.
    Your yes is about this version alone; when the work changes, you are asked again.
    """
    layout = common.layout()
    told: list[dict[str, str]] = []

    def one(task: str) -> None:
        ledger = deciding.approve(layout, task, message)
        told.append({"id": task, "candidate": "" if ledger.awaiting else ledger.candidate, "stage": ledger.awaiting})
        if not as_json:
            common.say(f"approved {task} ({ledger.awaiting or ledger.candidate[:12]})")

    _run(ids, layout, one)
    if as_json:
        common.emit("approve", approved=told)
    else:
        common.next_step(_goes_on(layout) if any(one["stage"] for one in told) else _lands(layout))


@reject.command(epilog=common.examples("octopoid reject add-dark-mode -m 'keep the old colours for print'"))
def _reject(
    ids: common.Ids,
    message: Why = "",
) -> None:
    """Say no to the present work of a task, and why: it goes back to be worked on again."""
    layout = common.layout()
    text = message.strip() or _ask_for("Why? The next attempt is told", "say why with -m TEXT")

    def one(task: str) -> None:
        deciding.reject(layout, task, text)

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
        number = deciding.answer(layout, task, messages)
        count = f" ({number} questions)" if number > 1 else ""
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
        deciding.retry(layout, task, message)

    _run(ids, layout, one)
    common.next_step(_goes_on(layout))


@cancel.command(epilog=common.examples("octopoid cancel add-dark-mode", "octopoid cancel add-d fix-login"))
def _cancel(ids: common.Ids) -> None:
    """Give a task up: its agent is ended, its file goes to archive/cancelled. Its worktree and commits stay."""
    layout = common.layout()

    def one(task: str) -> None:
        deciding.cancel(layout, task)

    _run(ids, layout, one)
    common.next_step("octopoid status shows what depended on it; octopoid undo takes it back")


@reopen.command(epilog=common.examples("octopoid reopen add-dark-mode -m 'the toggle forgets the choice'"))
def _reopen(ids: common.Ids, message: Note = "") -> None:
    """Work again on a task that is done. What landed stays landed."""
    layout = common.layout()

    def one(task: str) -> None:
        lifecycle.reopen(layout, task, message.strip(), common.now())
        common.say(f"reopened {task}: in incoming")

    _run(ids, layout, one)
    common.next_step(_goes_on(layout))


def _run(words: list[str], layout: Layout, action: Callable[[str], None]) -> None:
    stopping.refuse_agents(layout)
    common.each(common.resolve(layout, words), action)


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
