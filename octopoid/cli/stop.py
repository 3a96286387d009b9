"""`octopoid stop`: end the scheduler, with or without the agents, or end one attempt."""

from __future__ import annotations

from typing import Annotated

import typer

from octopoid import durable, lifecycle, steer, stopping
from octopoid.cli import common
from octopoid.errors import Conflict, TimedOut, UsageError
from octopoid.judging import PARK
from octopoid.layout import Layout

cli = typer.Typer()

PATIENCE = 30.0
"""Seconds that a scheduler gets to leave, and a run to end."""

PATIENCE_NOW = 75.0
"""The same where it ends its agents first, each with its grace."""


@cli.command(epilog=common.examples("octopoid stop", "octopoid stop --now", "octopoid stop add-dark-mode"))
def stop(
    task: Annotated[
        str, typer.Argument(metavar="[ID]", help="End this task's run.", autocompletion=common.complete_ids)
    ] = "",
    now: Annotated[
        bool, typer.Option("--now", help="End the agents too; their tasks go on at the next start.")
    ] = False,
) -> None:
    """Ask the scheduler to start nothing more and leave.

    Agents that run go on; their work is taken in at the next start. With an ID: end the run of that task alone, keep
    its work, and park the task in blocked; this works without a scheduler, too.
    """
    layout = common.layout()
    stopping.refuse_agents(layout)
    if task and now:
        raise UsageError("--now is about everything, an ID about one task", "give one of them")
    if task:
        _stop_one(layout, lifecycle.resolve(layout, task))
    else:
        _stop_scheduler(layout, now)


def _stop_one(layout: Layout, task: str) -> None:
    running = stopping.live(layout, task)
    if not running:
        raise Conflict(f"nothing runs for {task}", f"octopoid pause {task} keeps it from being started")
    if stopping.holder(layout) is not None:
        # asked only: the scheduler that waits for this run parks the task when it has ended
        for entry in running:
            stopping.ask(entry, PARK)
        left = [one for one in running if not stopping.wait_until_free(one / "lock", PATIENCE)]
    else:
        left = [one for one in running if not stopping.end(one, PARK)]
    if left:
        raise TimedOut(f"the run {left[0].name} of {task} did not end yet", f"octopoid log {task} shows what it does")
    common.say(f"ended the run of {task}; its worktree and its work stay")
    if stopping.holder(layout) is None:
        common.say("no scheduler is running: the next look (octopoid run --once) parks the task")
    common.next_step(f"octopoid retry {task} when it may go on")


def _stop_scheduler(layout: Layout, now: bool) -> None:
    pid = stopping.holder(layout)
    if pid is None:
        common.say("no scheduler is running")
    else:
        durable.write(layout.stop_request, b"now" if now else b"leave")
        steer.wake(layout)
        named = f" (pid {pid})" if pid else ""
        patience = PATIENCE_NOW if now else PATIENCE
        if not stopping.wait_until_free(layout.scheduler_lock, patience):
            raise TimedOut(
                f"the scheduler{named} has not left within {patience:.0f} s; it still is asked to",
                "octopoid status shows what it does",
            )
        common.say(f"the scheduler{named} has left")
    if now:
        _end_everything(layout)
    left = [task for task, _ in stopping.all_live(layout)]
    if left:
        common.say(f"still running, on their own: {', '.join(left)}; octopoid stop --now ends them")
    common.next_step("octopoid run starts again")


def _end_everything(layout: Layout) -> None:
    """What a scheduler did not end, or all of it where there was none: ask everybody first, then wait."""
    found = list(stopping.all_live(layout))
    for _, entry in found:
        stopping.ask(entry, stopping.SCHEDULER_STOP)
    for task, entry in found:
        if stopping.end(entry, stopping.SCHEDULER_STOP):
            common.say(f"ended the run of {task}")
        else:
            common.say(f"the run {entry.name} of {task} could not be ended; octopoid doctor says what is left of it")
