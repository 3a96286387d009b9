"""`octopoid schema`."""

from __future__ import annotations

from typing import Annotated

import typer

from octopoid import schemas
from octopoid.cli import common
from octopoid.errors import NotFound
from octopoid.hints import nearest

cli = typer.Typer()


@cli.command(
    epilog=common.examples("octopoid schema", "octopoid schema status", "octopoid schema agents > agents.json")
)
def schema(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="[KIND]", help="Which one. Default: their names.", autocompletion=lambda: list(schemas.MEANINGS)
        ),
    ] = "",
) -> None:
    """Print the JSON schema of an output (status, list, …), of agents.yaml, or of an agent's result."""
    if not kind:
        for name, meaning in schemas.MEANINGS.items():
            common.out(f"{name:<8}  {meaning}")
    elif kind in schemas.MEANINGS:
        common.out(common.json_text(schemas.of(kind), indent=2))
    else:
        raise NotFound(f"there is no schema {kind}", nearest(kind, schemas.MEANINGS))
