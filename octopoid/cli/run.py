"""`octopoid run`: the scheduler in the foreground."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from octopoid import daemon, setup, stopping
from octopoid.cli import common, trust
from octopoid.errors import Conflict, UsageError
from octopoid.layout import Layout, main_worktree, worktree_of
from octopoid.scheduler import Tick

cli = typer.Typer()


@cli.command(
    epilog=common.examples(
        "octopoid run",
        "octopoid run --until-empty",
        "octopoid run --dry-run",
        "* * * * * octopoid --root DIR run --once    # a crontab line",
    )
)
def run(
    once: Annotated[
        bool, typer.Option("--once", help="Do what is due now, then leave; agents go on. For cron.")
    ] = False,
    until_empty: Annotated[
        bool, typer.Option("--until-empty", help="Leave when nothing can move without a person; 6 if not all is done.")
    ] = False,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=0.1, help="Look at everything at least this often.")
    ] = daemon.FULL,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done now; do nothing.")] = False,
) -> None:
    """Work on the queue: start agents, judge what they did, land what passes. Ctrl-C leaves; agents go on."""
    if once and until_empty:
        raise UsageError("--once leaves at once and --until-empty stays", "give one of them")
    layout = common.layout()
    if dry_run:
        daemon.run(layout, dry_run=True, say=common.out)
        common.next_step("octopoid run does it; octopoid why ID tells more")
        return
    _refuse_worktree(layout)
    trust.require(layout)
    setup.make_private(layout)
    told = _Told(layout, quiet=once)
    code = daemon.run(
        layout, once=once, until_empty=until_empty, interval=interval, say=common.say, progress=told.progress
    )
    if not once:
        told.leave(until_empty, code)
    raise typer.Exit(code)


class _Told:
    """What the person in front of it is told when it begins and when it ends; cron's `--once` is told nothing."""

    def __init__(self, layout: Layout, quiet: bool) -> None:
        self._layout, self._begun = layout, quiet

    def progress(self, _tick: Tick) -> None:
        """After the first tick the lock is ours."""
        if not self._begun and common.interactive():
            common.say(f"working on {self._layout.root}; Ctrl-C leaves, agents at work go on")
        self._begun = True

    def leave(self, until_empty: bool, code: int) -> None:
        """How it ended, and what comes next."""
        left = [task for task, _ in stopping.all_live(self._layout)]
        if left:
            common.say(f"still at work, on their own: {', '.join(left)}")
            common.next_step("octopoid run takes in what they do; octopoid stop --now ends them")
        elif until_empty and code:
            common.next_step("nothing goes on without you: octopoid status shows what is needed")
        else:
            common.next_step("octopoid status" if until_empty else "octopoid run goes on")


def _refuse_worktree(layout: Layout) -> None:
    """An agent, or a person who forgot where they are, must not start a scheduler in a worktree (DESIGN §2)."""
    if stopping.is_own_agent():
        raise Conflict("an agent must not start a scheduler", "leave the result; the scheduler does the rest")
    here = worktree_of(Path.cwd())
    if here is not None and here != layout.root and main_worktree(here) == layout.root:
        there = f"cd {shlex.quote(str(layout.root))}"
        raise Conflict(f"{here} is a linked worktree", f"start the scheduler in the main one: {there}")
