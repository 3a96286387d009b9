"""`octopoid pause` and `resume`: what shall not be started. Nothing that runs is touched."""

from __future__ import annotations

from typing import Annotated

import typer

from octopoid import config, steer, stopping
from octopoid.cli import common
from octopoid.errors import Invalid, NotFound, UsageError
from octopoid.hints import nearest
from octopoid.layout import Layout

pause = typer.Typer()
resume = typer.Typer()

ManyIds = Annotated[
    list[str],
    typer.Argument(metavar="[ID…]", help="Tasks; none: everything.", autocompletion=common.complete_ids),
]
Agents = Annotated[
    list[str], typer.Option("--agent", metavar="NAME", help="A pool of agents.yaml; may be given several times.")
]


@pause.command(
    epilog=common.examples("octopoid pause", "octopoid pause add-dark-mode", "octopoid pause --agent codemod")
)
def _pause(ids: ManyIds = [], agents: Agents = []) -> None:  # noqa: B006 - typer's "none given"
    """Start nothing more: everything, some tasks, or an agent. What runs goes on, and what is ready still lands."""
    layout = common.layout()
    names = _names(layout, ids, agents)
    for agent in agents:
        _check_agent(layout, agent)
    for name in names or ["all"]:
        new = steer.pause(layout, name)
        common.say(f"{'paused' if new else 'paused already'}: {_said(name)}")
    steer.wake(layout)
    common.next_step(f"octopoid resume{_again(ids, agents)} lifts it; octopoid stop ends what runs")


@resume.command(
    epilog=common.examples(
        "octopoid resume",
        "octopoid resume add-dark-mode",
        "octopoid resume --agent implementer",
        "octopoid resume --breaker all",
    )
)
def _resume(
    ids: ManyIds = [],  # noqa: B006 - typer's "none given"
    agents: Agents = [],  # noqa: B006 - typer's "none given"
    breakers: Annotated[
        list[str],
        typer.Option("--breaker", metavar="NAME", help="Close this breaker: what it says is mended; all: every one."),
    ] = [],  # noqa: B006 - typer's "none given"
) -> None:
    """Go on after a pause: lift it for some tasks or an agent; without either lift every pause.

    For an agent its breakers are closed as well: say it when what was wrong (quota, login, network) is mended. Without
    that it is tried again after a while; a new key is tried as soon as `octopoid run` is started with it.
    """
    layout = common.layout()
    names = _names(layout, ids, agents)
    everything = not names and not breakers
    for agent in agents:
        if agent not in steer.pauses(layout).agents:  # one that is paused and is in agents.yaml no more can be resumed
            _check_agent(layout, agent)
    lifted = [name for name in (_all_pauses(layout) if everything else names) if steer.resume(layout, name)]
    for name in lifted:
        common.say(f"resumed: {_said(name)}")
    closed = _close(layout, agents, breakers)
    for name in names:
        if name not in lifted and not (closed and name.startswith("agent-")):
            common.say(f"was not paused: {_said(name)}")
    for name in closed:
        common.say(f"closed the breaker {name}")
    if everything and not lifted:
        common.say("nothing was paused")
    steer.wake(layout)
    _still_open(layout, everything)


def _names(layout: Layout, ids: list[str], agents: list[str]) -> list[str]:
    stopping.refuse_agents(layout)
    return [*(f"task-{task}" for task in common.resolve(layout, ids)), *(f"agent-{name}" for name in agents)]


def _check_agent(layout: Layout, agent: str) -> None:
    """A pause of a name that no agent has would do nothing, and nobody would notice."""
    try:
        known = config.load(layout.home, templates=False).agents
    except Invalid as error:
        if "/" in agent or agent.startswith("."):
            raise UsageError(f"`{agent}` is no name of an agent") from None
        common.say(f"warning: whether there is an agent `{agent}` cannot be told: {error.message}")
        return
    if agent not in known:
        raise NotFound(f"there is no agent `{agent}`", nearest(agent, known))


def _all_pauses(layout: Layout) -> list[str]:
    found = steer.pauses(layout)
    tasks, agents = sorted(found.tasks), sorted(found.agents)
    return [*(["all"] if found.all else []), *(f"task-{one}" for one in tasks), *(f"agent-{one}" for one in agents)]


def _close(layout: Layout, agents: list[str], names: list[str]) -> list[str]:
    if not agents and not names:
        return []
    known = steer.breakers(layout)
    wanted = sorted(known) if names == ["all"] else names
    for name in wanted:
        if name not in known:
            raise NotFound(f"there is no open breaker `{name}`", nearest(name, known) or "octopoid status shows them")
    theirs = [name for name, one in known.items() if any(agent in one.agents for agent in agents)]
    closing = dict.fromkeys((*wanted, *theirs, *(f"agent:{one}" for one in agents)))
    return [name for name in closing if steer.close_breaker(layout, name)]


def _still_open(layout: Layout, everything: bool) -> None:
    """What else keeps things from starting, or that nothing does."""
    rest = [_said(name) for name in _all_pauses(layout)]
    if rest:
        common.say(f"still paused: {', '.join(rest)}")
    try:
        for breaker in steer.breakers(layout).values():
            common.say(f"an open breaker: {breaker.name}: {common.one_line(breaker.why)}")
            if breaker.fix:
                common.say(f"  {common.one_line(breaker.fix)}")
            common.say(f"  when that is mended: octopoid resume --breaker {breaker.name}")
    except Invalid as error:
        common.say(error.message)
    common.next_step("octopoid resume lifts every pause" if rest and not everything else "octopoid status")


def _said(name: str) -> str:
    return "everything" if name == "all" else name.replace("-", " ", 1)


def _again(ids: list[str], agents: list[str]) -> str:
    return "".join([*(f" {one}" for one in ids), *(f" --agent {one}" for one in agents)])
