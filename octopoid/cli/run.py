"""`octopoid run`: the scheduler in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from octopoid import daemon, stopping
from octopoid.cli import common
from octopoid.errors import Conflict, UsageError
from octopoid.layout import Layout, main_worktree, worktree_of

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
    if not dry_run:
        _refuse_worktree(layout)
    say = common.out if dry_run else common.say
    raise typer.Exit(
        daemon.run(layout, once=once, until_empty=until_empty, interval=interval, dry_run=dry_run, say=say)
    )


def _refuse_worktree(layout: Layout) -> None:
    """An agent, or a person who forgot where they are, must not start a scheduler in a worktree (DESIGN §2)."""
    if stopping.is_own_agent():
        raise Conflict("an agent must not start a scheduler", "leave the result; the scheduler does the rest")
    here = worktree_of(Path.cwd())
    if here is not None and here != layout.root and main_worktree(here) == layout.root:
        raise Conflict(f"{here} is a linked worktree", f"start the scheduler in the main one: cd {layout.root}")
