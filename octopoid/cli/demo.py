"""`octopoid demo`: see it work, in a scratch repository."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from octopoid import demo
from octopoid.cli import common, demofeature, demoqueue
from octopoid.cli.demoscreen import Tale
from octopoid.daemon import INTERRUPTED
from octopoid.errors import UsageError
from octopoid.hints import nearest

cli = typer.Typer()

TALES: Mapping[str, Tale] = {"default": demoqueue.TALE, "feature": demofeature.TALE}


@cli.command(
    epilog=common.examples(
        "octopoid demo",
        "octopoid demo --flow feature",
        "octopoid demo --dir /tmp/try-octopoid",
        "octopoid demo --no-keep",
    )
)
def _demo(
    context: typer.Context,
    flow: Annotated[
        str,
        typer.Option(
            "--flow",
            metavar="FLOW",
            help="default: seven tasks that meet whatever a task can meet. feature: one task from research to "
            "documentation, by eight roles.",
            autocompletion=lambda: sorted(TALES),
        ),
    ] = "default",
    keep: Annotated[
        bool, typer.Option("--keep/--no-keep", help="Leave the scratch repository there, to look around in it.")
    ] = True,
    folder: Annotated[
        str, typer.Option("--dir", metavar="DIR", help="Make it in this new or empty folder, not in a temporary one.")
    ] = "",
) -> None:
    """Watch task files become commits, in a scratch repository, in about ten seconds.

    Task files, git, tests and scheduler are real; the agent follows a script, so it needs neither a key nor a network.
    Nothing outside the scratch repository is written.
    """
    tale = TALES.get(flow)
    if tale is None:
        raise UsageError(f"there is no demo of the flow {flow}", nearest(flow, TALES))
    began = time.monotonic()
    place = demo.find_place(folder)
    layout = tale.make(place)
    tale.introduce(layout)
    if tale.run(layout, began) == INTERRUPTED:
        common.say(f"interrupted; what there is by now is in {place}")
        raise typer.Exit(INTERRUPTED)
    wrong = tale.show(layout, began, str(context.find_root().params["color"]))
    for sentence in wrong:
        common.say(f"WRONG: {common.one_line(sentence)}")
    if wrong or keep:
        _where_to_look(place, tale.look(layout))
    else:
        shutil.rmtree(place)
        common.say(f"{place} is removed again")
    raise typer.Exit(1 if wrong else 0)


def _where_to_look(place: Path, commands: Mapping[str, str]) -> None:
    common.say("\nWhere to look:")
    common.say(f"  cd {shlex.quote(str(place))}")
    width = max(map(len, commands))
    for command, what in commands.items():
        common.say(f"  {command:{width}}  {what}")
    common.next_step("in a repository of yours: octopoid init")
