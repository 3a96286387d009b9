"""`octopoid config check`."""

from __future__ import annotations

import typer

from octopoid import config as policy
from octopoid import git, store, views
from octopoid.cli import common
from octopoid.cli.lint import INVALID, policy_problems
from octopoid.layout import Layout
from octopoid.settings import Config

cli = typer.Typer()


@cli.callback()
def config() -> None:
    """The policy: agents.yaml, roles and flows."""


@cli.command(epilog=common.examples("octopoid config check", "octopoid config check --json"))
def check(as_json: common.Json = False) -> None:
    """Check the policy: every mistake with its place. Exit code 4 if there is one."""
    layout = common.layout()
    problems = policy_problems(layout)
    found = None if problems else policy.load(layout.home)
    tasks = len(store.every_id(layout))
    warnings = (*_warnings(found, tasks), *_about_base(layout, found)) if found else ()
    if as_json:
        shown = views.plain(tuple(views.problem(one) for one in problems))
        common.emit("config", ok=found is not None, problems=shown, warnings=list(warnings))
    elif found:
        common.out(_summary(found))
    for one in problems if not as_json else ():
        common.out(common.clean_text(str(one)))
        if one.hint:
            common.out(f"  {common.clean_text(one.hint)}")
    for text in warnings:
        common.say(f"warning: {text}")
    if problems:
        common.next_step("mend what is named above, then: octopoid config check")
        raise typer.Exit(INVALID)
    common.next_step("octopoid run; octopoid doctor looks whether the agents' programs are there")


def _summary(found: Config) -> str:
    workers = sum(agent.instances for agent in found.agents.values())
    flow = next(iter(found.flows.values()))
    return (
        f"ok: {_count(len(found.agents), 'agent')} ({_count(workers, 'worker')}), "
        f"{_count(len(found.checks), 'check')}, gates: {', '.join(flow.gates) or 'none'}, land: {flow.land}"
    )


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _about_base(layout: Layout, found: Config) -> tuple[str, ...]:
    """A policy may be valid and name a branch that is not there (yet)."""
    if not found.base or git.branch_sha(layout.root, found.base):
        return ()
    return (f"there is no branch `{found.base}` with a commit, so nothing can start; `base:` names it",)


def _warnings(found: Config, tasks: int) -> tuple[str, ...]:
    uses = [flow for flow in found.flows.values() if "checks" in flow.gates]
    if tasks and uses and not found.checks:
        return (
            "there are tasks and no checks: nothing of this project is run on what lands; "
            'add for example checks: [{name: tests, run: "pytest -q"}] to agents.yaml',
        )
    return ()
