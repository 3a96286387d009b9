"""`octopoid migrate`: the format of the queue (DESIGN §2)."""

from __future__ import annotations

from typing import Annotated

import typer

from octopoid import daemon, formats, migrating, stopping
from octopoid.cli import common

cli = typer.Typer()


@cli.command(epilog=common.examples("octopoid migrate --dry-run", "octopoid migrate", "octopoid migrate --back 1"))
def migrate(
    back: Annotated[int, typer.Option("--back", metavar="FORMAT", help="Go back to this older format.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: common.Json = False,
) -> None:
    """Bring a queue of an older octopoid to this one's format, or back.

    `octopoid run` does the first by itself. No scheduler may run meanwhile. Agents may: what they leave is read as
    before.
    """
    layout = common.layout()
    stopping.refuse_agents(layout)
    found, wanted = formats.read(layout), back or formats.FORMAT
    todo = migrating.steps(found, wanted)
    told: list[str] = []
    if dry_run:
        told = [f"{layout.short(deed.path)}: {deed.says}" for _, deeds in todo for deed in deeds(layout)]
    else:
        with daemon.alone(layout):
            migrating.migrate(layout, wanted, common.now(), told.append)
    if as_json:
        common.emit("migrate", found=found, wanted=wanted, dry_run=dry_run, steps=len(todo), done=told)
    for line in () if as_json else told:
        common.out(line)
    would = "would become" if dry_run else "is now"
    common.say(f"format {found} {would} {wanted}" if todo else f"nothing to do: the queue has format {found}")
    common.next_step("octopoid migrate" if dry_run and todo else "octopoid status")
