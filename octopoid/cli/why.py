"""`octopoid why`."""

from __future__ import annotations

import typer

from octopoid import details, lifecycle, scheduler, views
from octopoid.cli import common, render

cli = typer.Typer()


@cli.command(epilog=common.examples("octopoid why add-dark-mode", "octopoid why add-d --json"))
def why(word: common.Id, as_json: common.Json = False) -> None:
    """Say why a task does not go on: every guard in front of its next step, and the command that changes it.

    The scheduler decides with the same function.
    """
    layout = common.layout()
    task = lifecycle.resolve(layout, word)
    found = scheduler.explain(layout, task, common.now())
    if as_json:
        guards = tuple(map(details.guard, found.guards))
        view = details.WhyView(task, found.headline, found.command or None, guards)
        common.emit("why", **views.plain(view))
        return
    common.out(common.one_line(f"{task}: {found.headline}"))
    columns = (
        render.Column("ok"),
        render.Column("guard"),
        render.Column("text", wraps=True),
        render.Column("command", "bold", note=True),
    )
    rows = tuple(
        ("ok" if one.ok else "STOP", one.name, one.text, "" if one.ok else one.command) for one in found.guards
    )
    render.show((render.Table("", columns, rows),))
    if found.command:
        common.next_step(found.command)
