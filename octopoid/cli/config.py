"""`octopoid config check`."""

from __future__ import annotations

from collections.abc import Iterator

import typer

from octopoid import config as policy
from octopoid import gates, git, store, views
from octopoid.cli import common
from octopoid.cli.flows import gates_of
from octopoid.cli.lint import INVALID, policy_problems
from octopoid.layout import Layout
from octopoid.settings import Config, Flow

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
        flows = [{"name": flow.name, "source": flow.source, "lacks": list(flow.lacks)} for flow in _flows(found)]
        times = [{"name": one.name, "cron": one.cron} for one in found.schedule.values()] if found else []
        common.emit(
            "config",
            ok=found is not None,
            problems=shown,
            warnings=list(warnings),
            flows=flows,
            schedule=times,
        )
    for line in _summary(found) if found and not as_json else ():
        common.out(common.clean_text(line))
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


def _summary(found: Config) -> Iterator[str]:
    workers = sum(agent.instances for agent in found.agents.values())
    flow = found.flows["default"]
    yield (
        f"ok: {_count(len(found.agents), 'agent')} ({_count(workers, 'worker')}), "
        f"{_count(len(found.checks), 'check')}, gates: {gates_of(flow)}, land: {flow.land}"
    )
    known = _flows(found)
    yield f"flows: {', '.join(flow.name for flow in known if not flow.lacks)}"
    lacking = [flow.name for flow in known if flow.lacks]
    if lacking:
        yield f"flows that need further agents: {', '.join(lacking)}"
    if found.schedule:
        yield f"schedule: {', '.join(f'{one.name} ({one.cron})' for one in found.schedule.values())}"


def _flows(found: Config | None) -> list[Flow]:
    return [found.flows[name] for name in sorted(found.flows)] if found else []


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _about_base(layout: Layout, found: Config) -> tuple[str, ...]:
    """A policy may be valid and name a branch that is not there (yet)."""
    if not found.base or git.branch_sha(layout.root, found.base):
        return ()
    return (f"there is no branch `{found.base}` with a commit, so nothing can start; `base:` names it",)


def _warnings(found: Config, tasks: int) -> tuple[str, ...]:
    own = (flow for flow in _flows(found) if flow.name == "default" or flow.source != "built-in")
    if tasks and not found.checks and any(gates.has_checks(flow) for flow in own):
        return (
            "there are tasks and no checks: nothing of this project is run on what lands; "
            'add for example checks: [{name: tests, run: "pytest -q"}] to agents.yaml',
        )
    return ()
