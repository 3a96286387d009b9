"""`octopoid run`: the scheduler in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer

from octopoid import daemon
from octopoid.cli import common, running

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
    raise typer.Exit(running.show(once=once, until_empty=until_empty, dry_run=dry_run, interval=interval))
