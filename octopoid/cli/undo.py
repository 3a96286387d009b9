"""`octopoid undo`: take back the last move of a person."""

from __future__ import annotations

from typing import Annotated

import typer

from octopoid import clock, look, stopping, undoing
from octopoid.cli import common, deciding
from octopoid.layout import Layout
from octopoid.states import State

cli = typer.Typer()

OneId = Annotated[
    str,
    typer.Argument(
        metavar="[ID]", help="The last move about this task; none: your last move.", autocompletion=common.complete_ids
    ),
]


@cli.command(epilog=common.examples("octopoid undo --dry-run", "octopoid undo", "octopoid undo add-dark-mode"))
def undo(
    task: OneId = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be undone; do nothing.")] = False,
    as_json: common.Json = False,
) -> None:
    """Take back your last move: enqueue, cancel, approve, reject, answer, retry, reopen, or what clean archived.

    Said again it goes one move further back. What has been gone on with since cannot be taken back, and says what to do
    instead. No text is lost: a task that you had only just added goes to archive/cancelled.
    """
    layout = common.layout()
    stopping.refuse_agents(layout)
    wanted = common.resolve(layout, [task])[0] if task else ""
    told = []
    for event in undoing.last(layout, common.now(), wanted):
        if dry_run:
            done = undoing.plan(layout, event)
        else:
            done = undoing.undo(layout, event, deciding.base_of(layout, event.task), common.now())
        told.append(done)
        if not as_json:
            common.say(f"{'would undo' if dry_run else 'undone'}: {_said(done)}")
    if as_json:
        common.emit("undo", dry_run=dry_run, undone=[_plain(one) for one in told])
        return
    for one in told if not dry_run else ():
        _stranded(layout, one)
    again = "octopoid undo does it" if dry_run else f"to do it again: {told[-1].redo}"
    common.next_step(again)


def _said(one: undoing.Undo) -> str:
    where = f": {one.leaves.value} → {one.enters.value}" if one.enters is not one.leaves else ""
    return f"{one.move} of {one.task} ({clock.local(one.at)}){where}"


def _plain(one: undoing.Undo) -> dict[str, str]:
    words = {"task": one.task, "move": one.move, "at": clock.iso(one.at)}
    return {**words, "from": one.leaves.value, "to": one.enters.value, "redo": one.redo}


def _stranded(layout: Layout, one: undoing.Undo) -> None:
    """What was blocked because its task was cancelled stays so until a person says otherwise."""
    if one.leaves is not State.CANCELLED:
        return
    for item in look.Observer(layout).look().items:
        if item.ledger.reason == "dependency" and item.task and one.task in item.task.depends_on:
            common.say(f"  {item.id} was blocked because of it; to let it go on: octopoid retry {item.id}")
