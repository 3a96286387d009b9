"""`octopoid status`."""

from __future__ import annotations

from typing import Annotated

import typer

from octopoid.cli import asof, common, overview
from octopoid.errors import UsageError

cli = typer.Typer()


@cli.command(
    epilog=common.examples("octopoid", "octopoid status --watch", "octopoid status --json", "octopoid status --at -2h")
)
def status(
    as_json: common.Json = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Draw it again each second, until Ctrl-C.")] = False,
    at: Annotated[
        str,
        typer.Option(
            "--at", metavar="TIME", help="How it stood then: 2026-11-21T10:00, 10:00, -2h or 'yesterday 18:00'."
        ),
    ] = "",
) -> None:
    """Show what needs you, what runs, what waits, what landed and what is invalid.

    --at tells it of an earlier time, from the journal and the entries. With --json what cannot be known then is null.
    """
    if at and watch:
        raise UsageError("--watch draws what is now, --at what was", "take one of them")
    if at:
        asof.show(at, as_json)
    elif not watch:
        overview.show(as_json)
    elif as_json or not common.terminal():
        raise UsageError("--watch draws on a terminal", "without one: octopoid status, or octopoid status --json")
    else:
        overview.watch()
