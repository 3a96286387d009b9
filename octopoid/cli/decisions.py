"""`octopoid decisions`."""

from __future__ import annotations

from typing import Annotated

import typer

from octopoid import clock, lifecycle, store, thread
from octopoid.cli import common
from octopoid.cli.thread import moment
from octopoid.errors import Invalid
from octopoid.layout import Layout
from octopoid.thread import Decided

cli = typer.Typer()

MaybeId = Annotated[
    str,
    typer.Argument(metavar="[ID]", help="One task; none: all of them.", autocompletion=common.complete_ids),
]


@cli.command(
    epilog=common.examples("octopoid decisions", "octopoid decisions add-dark-mode", "octopoid decisions --json")
)
def decisions(word: MaybeId = "", as_json: common.Json = False) -> None:
    """List what agents decided: the problem, what they chose, between which variants, and why. The oldest first."""
    layout = common.layout()
    made = _all(layout, [lifecycle.resolve(layout, word)] if word else sorted(store.every_id(layout)))
    if as_json:
        common.emit("decisions", decisions=[plain(one) for one in made])
        return
    for number, one in enumerate(made):
        if number:
            common.out()
        common.out(f"{moment(one.at)}  {one.task}  {common.one_line(one.who)}")
        for line in common.clean_text(thread.choice_text(one.choice)).splitlines():
            common.out(f"    {line}".rstrip())
    if not made:
        common.say(f"no decisions of {word} yet" if word else "no decisions yet")
    common.next_step(f"octopoid thread {made[-1].task} shows how it came to that" if made else "octopoid status")


def plain(one: Decided) -> dict[str, object]:
    """A decision as it is printed with --json."""
    choice = {**one.choice._asdict(), "variants": list(one.choice.variants)}
    return {"at": clock.iso(one.at), "task": one.task, "entry": one.entry, "who": one.who, **choice}


def _all(layout: Layout, tasks: list[str]) -> list[Decided]:
    """Those of all `tasks`; one that cannot be read is named and the rest goes on."""
    made: list[Decided] = []
    for task in tasks:
        try:
            made += thread.decisions(layout, task)
        except Invalid as error:
            common.say(f"{task}: {common.one_line(error.message)}")
    return sorted(made, key=lambda one: one.at)
