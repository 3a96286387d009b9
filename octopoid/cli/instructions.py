"""`octopoid instructions`: what an agent should know, from the installed version."""

from __future__ import annotations

from typing import Annotated

import typer

from octopoid import config, instructions, rolefiles
from octopoid.cli import common
from octopoid.errors import Invalid, NotFound, UsageError
from octopoid.hints import nearest
from octopoid.layout import Layout
from octopoid.settings import Config, Role

cli = typer.Typer()


@cli.command(
    epilog=common.examples("octopoid instructions", "octopoid instructions gatekeeper", "octopoid instructions | less")
)
def show(
    role: Annotated[str, typer.Argument(metavar="[ROLE]", help="Also what is known about this role.")] = "",
) -> None:
    """Print what an agent should know about working under octopoid, as markdown.

    Works anywhere. In a repository with `.octopoid` a role is the one that its policy knows.
    """
    policy = _policy()
    text = instructions.general()
    if role:
        text = f"{text}\n{instructions.of_role(_role(role, policy), policy)}"
    common.out(text.rstrip("\n"))
    if common.interactive():
        common.next_step("octopoid init --agents-md writes a note for agents into AGENTS.md")


def _policy() -> Config | None:
    """The policy of the repository that we are in; None where there is none, or none that can be used (said)."""
    try:
        where: Layout = common.layout()
    except (NotFound, UsageError):
        return None
    try:
        return config.load(where.home)
    except Invalid as error:
        common.say(f"what the policy says is left out: {common.clean_text(error.message)}")
        return None


def _role(name: str, policy: Config | None) -> Role:
    known = policy.roles if policy else {}
    if name in known:
        return known[name]
    built_in = rolefiles.builtin_names()
    if name not in built_in:
        raise NotFound(f"there is no role `{name}`", nearest(name, sorted({*known, *built_in})))
    return rolefiles.builtin(name)[0]
