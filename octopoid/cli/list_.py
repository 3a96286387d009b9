"""`octopoid list`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from octopoid.cli import common, listing

cli = typer.Typer()

Shown = StrEnum("Shown", [*listing.STATES, listing.INVALID])  # type: ignore[misc]  # the names are those of the table


@cli.command(
    name="list",
    epilog=common.examples(
        "octopoid list", "octopoid list --state blocked --state done", "octopoid list --ready --label ui --json"
    ),
)
def list_(
    states: Annotated[
        list[Shown], typer.Option("--state", "-s", help="Only this folder (again: one more). Default: all but done.")
    ] = [],  # noqa: B006 - typer's "none given"
    label: Annotated[str, typer.Option("--label", "-l", help="Only tasks with this label.")] = "",
    ready: Annotated[bool, typer.Option("--ready", help="Only what an agent could start on now.")] = False,
    as_json: common.Json = False,
) -> None:
    """List tasks, one per line: id, state, priority, title, and why it does not go on.

    Without --state: incoming, claimed, provisional and blocked, with the invalid files.
    """
    listing.show([str(one) for one in states], label, ready, as_json)
