"""`octopoid trust`: the user's yes to what the policy of this root can run, once per root (docs/security.md)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated

import typer

from octopoid import config, setup, stopping, templating, trust
from octopoid.cli import common
from octopoid.errors import Conflict, Invalid, OctopoidError, UsageError
from octopoid.layout import Layout
from octopoid.trust import Runs

cli = typer.Typer()

_SHOWN = 12
"""Commands that a refusal lists; `octopoid trust --show` lists all."""


@cli.command(
    name="trust",
    epilog=common.examples(
        "octopoid trust --show", "octopoid trust", "octopoid trust --revoke", "octopoid trust --show --json"
    ),
)
def trust_command(
    show: Annotated[bool, typer.Option("--show", help="Only show what the policy can run; say nothing to it.")] = False,
    revoke: Annotated[bool, typer.Option("--revoke", help="Take your yes back.")] = False,
    as_json: common.Json = False,
) -> None:
    """Let the policy of this repository run commands: show them all, and remember your yes.

    A policy that came by clone runs nothing before that. The yes counts for this root, also for what the policy says
    later: read what a pull changes in .octopoid as you read a Makefile.
    """
    if show and revoke:
        raise UsageError("--show changes nothing, --revoke does", "give one of them")
    layout = common.layout()
    if revoke:
        _revoke(layout)
        return
    if not show:
        stopping.refuse_agents(layout)
        _refuse_state(layout)
    runs, notes = tuple(everything(layout)), tuple(_links(layout))
    fresh = not show and trust.mark(layout.root, common.now())
    trusted = trust.is_trusted(layout.root)
    if as_json:
        common.emit("trust", trusted=trusted, runs=[one._asdict() for one in runs], notes=list(notes))
    else:
        _print(runs, notes)
        common.say(_said(layout, trusted, fresh))
    common.next_step("octopoid run" if trusted else trust.COMMAND)


def require(layout: Layout) -> None:
    """Raise Invalid where the policy may not run anything yet. A root that worked before gets its mark here."""
    if setup.settle_trust(layout, common.now()):
        return
    try:
        runs = [f"  {one.what}: {one.command}" for one in everything(layout)]
    except OctopoidError as error:
        runs = [f"  (it cannot be read: {error.message})"]
    more = [f"  and {len(runs) - _SHOWN} more"] if len(runs) > _SHOWN else []
    what = "the policy in .octopoid came with the repository, and you have not said yet that it may run commands"
    text = "\n".join((f"{what}. It would run:", *runs[:_SHOWN], *more))
    raise Invalid(text, hint=f"{trust.COMMAND} --show tells all of it; {trust.COMMAND} says yes, once")


def everything(layout: Layout) -> Iterator[Runs]:
    """Every command that the policy can run; those in templates of tasks, which schedules use, too. Raises Invalid."""
    yield from trust.commands(config.load(layout.home))
    for name in templating.names(layout):
        try:
            found = templating.load(layout, name)
        except Invalid:
            continue  # no task comes of it; lint says why
        if found.path.is_relative_to(layout.home):
            yield from (
                Runs(f"criterion of template {name}", one.command) for one in found.task.criteria if one.command
            )


def _print(runs: tuple[Runs, ...], notes: tuple[str, ...]) -> None:
    width = max((len(one.what) for one in runs), default=0)
    for one in runs:
        common.out(f"{one.what:<{width}}  {' '.join(one.command.splitlines())}")
    for note in notes:
        common.say(f"note: {note}")


def _said(layout: Layout, trusted: bool, fresh: bool) -> str:
    if not trusted:
        return f"{layout.root} is not trusted: none of this runs"
    return f"{layout.root} is trusted now" if fresh else f"{layout.root} is trusted"


def _revoke(layout: Layout) -> None:
    stopping.refuse_agents(layout)
    was = trust.revoke(layout.root)
    common.say(f"{layout.root} is not trusted any more" if was else f"{layout.root} was not trusted")
    if stopping.holder(layout) is not None:
        common.say("a scheduler runs and goes on: octopoid stop asks it to leave")
    common.next_step(trust.COMMAND)


def _refuse_state(layout: Layout) -> None:
    """Entries and verdicts that came by clone are somebody else's word for what was checked and approved here."""
    brought = setup.brought(layout)
    if brought:
        raise Conflict(
            f"{len(brought)} files in git are octopoid's own and nobody's to bring: {', '.join(brought[:3])}",
            "look at them; `git rm -r --cached -- PATH` takes them out of git and keeps the files",
        )


def _links(layout: Layout) -> Iterator[str]:
    """Policy files that are links: what they say is not reviewed with the rest."""
    for folder in (layout.home, layout.roles, layout.flows, layout.templates):
        try:
            found = sorted(os.scandir(folder), key=lambda one: one.name)
        except OSError:
            continue
        for one in found:
            if one.is_symlink():
                yield f"{one.path} is a link to {os.readlink(one.path)}"  # noqa: PTH115 - a DirEntry has no Path
