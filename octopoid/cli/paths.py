"""`octopoid paths`: where everything is."""

from __future__ import annotations

import typer

from octopoid.cli import common, judged
from octopoid.layout import Layout
from octopoid.steps import worktrees_folder

cli = typer.Typer()

_NAMES = ("root", "home", "queue", "attempts", "worktrees", "run", "agents_yaml", "roles", "flows", "events")


@cli.command(epilog=common.examples("octopoid paths", 'ls "$(octopoid paths queue)/incoming"', "octopoid paths --json"))
def paths(
    name: str = typer.Argument("", metavar="[NAME]", help="Print this path alone."), as_json: common.Json = False
) -> None:
    """Print where everything is."""
    where = common.layout(any_format=True)
    found = _paths(where)
    if name and name not in found:
        raise typer.BadParameter(f"no such place: {name}; known: {', '.join(found)}")
    if as_json:
        common.emit("paths", **found)
    elif name:
        common.data(found[name])  # for a script, byte for byte
    else:
        for key, path in found.items():
            common.out(f"{key:<12}  {path}")


def _paths(where: Layout) -> dict[str, str]:
    known = judged.policy(where)
    worktrees = worktrees_folder(where, known) if known else where.home / "worktrees"
    return {name: str(worktrees if name == "worktrees" else getattr(where, name)) for name in _NAMES}
