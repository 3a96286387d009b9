"""`octopoid status`."""

from __future__ import annotations

from typing import Annotated

import typer

from octopoid.cli import common, overview
from octopoid.errors import UsageError

cli = typer.Typer()


@cli.command(epilog=common.examples("octopoid", "octopoid status --watch", "octopoid status --json"))
def status(
    as_json: common.Json = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Draw it again each second, until Ctrl-C.")] = False,
) -> None:
    """Show what needs you, what runs, what waits, what landed and what is invalid."""
    if not watch:
        overview.show(as_json)
    elif as_json or not common.terminal():
        raise UsageError("--watch draws on a terminal", "without one: octopoid status, or octopoid status --json")
    else:
        overview.watch()
