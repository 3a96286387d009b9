"""`octopoid roles`: what agents are for, where each role comes from, and the prompt that it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from octopoid import config, prompts, rolefiles, views
from octopoid.cli import common, render
from octopoid.configkeys import seconds
from octopoid.configroles import names
from octopoid.errors import Invalid, NotFound
from octopoid.hints import nearest
from octopoid.layout import Layout
from octopoid.model import Criterion, Problem, Task
from octopoid.settings import Check, Config, Role

cli = typer.Typer()

BUILT_IN = "built-in"
_COLUMNS = (
    render.Column("role", "cyan"),
    render.Column("produces"),
    render.Column("writes"),
    render.Column("agents"),
    render.Column("from", wraps=True),
)
_TASK = Task(
    "add-dark-mode-7f3k",
    "Add dark mode",
    "# Add dark mode\n\nThe settings page gets a choice: light, dark, as the system says.\n",
    criteria=(
        Criterion("toggle in the settings page", None, False, 6),
        Criterion("remembers the choice", "pytest -q tests/test_theme.py", False, 7),
    ),
)
"""What a shown prompt is about."""


class _Place(NamedTuple):
    """A file that defines a role. `shown`: how people call it."""

    shown: str
    path: Path


class _Found(NamedTuple):
    """A role by its name: the file that counts and those that it hides. `role` None: `problems` say why."""

    name: str
    place: _Place
    shadows: tuple[str, ...]
    role: Role | None
    problems: tuple[Problem, ...] = ()


@cli.command(
    epilog=common.examples(
        "octopoid roles", "octopoid roles planner", "octopoid roles planner --source > .octopoid/roles/planner.md"
    )
)
def roles(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Show this role, with its prompt.")] = "",
    source: Annotated[bool, typer.Option("--source", help="Print the role's file as it is.")] = False,
    as_json: common.Json = False,
) -> None:
    """List the roles: what each produces, who plays it, where it comes from. With NAME: its keys and its prompt.

    A file of yours hides a built-in role of the same name, and both hide an agent of Claude Code.
    """
    layout = common.layout()
    if source and not name:
        raise typer.BadParameter("--source needs the name of a role")
    places = _places(layout)
    if name and name not in places:
        raise NotFound(f"there is no role `{name}`", nearest(name, places))
    if source:
        common.out(_source(places[name]))
        return
    policy = _policy(layout)
    if name:
        _one(layout, _read(name, places[name]), policy, as_json)
    else:
        _all(tuple(_read(one, places[one]) for one in sorted(places)), policy, as_json)


def _places(layout: Layout) -> dict[str, tuple[_Place, ...]]:
    """The files that define each role, the one that counts first."""
    own = {Path(one).stem: layout.home / one for one in names(layout.home, "roles", ".md")}
    built_in = {one: rolefiles.BUILT_IN / f"{one}.md" for one in rolefiles.builtin_names()}
    claude = rolefiles.claude_agents(layout.claude_agents)
    found: dict[str, tuple[_Place, ...]] = {}
    for kind in (own, built_in, claude):
        for name, path in kind.items():
            shown = BUILT_IN if kind is built_in else layout.short(path)
            found[name] = (*found.get(name, ()), _Place(shown, path))
    return found


def _source(places: tuple[_Place, ...]) -> str:
    """The file that counts. An empty one is what the shell makes first of `--source > .octopoid/roles/NAME.md`."""
    texts = (one.path.read_text(encoding="utf-8", errors="replace").rstrip("\n") for one in places)
    return next((text for text in texts if text), "")


def _read(name: str, places: tuple[_Place, ...]) -> _Found:
    place, *hidden = places
    found = _Found(name, place, tuple(one.shown for one in hidden), None)
    try:
        role = _parser(place)(place.path, place.path.read_bytes())
    except Invalid as error:
        return found._replace(problems=error.problems)
    except OSError as error:
        return found._replace(problems=(Problem(place.path, 0, 0, f"cannot be read: {error.strerror}", ""),))
    wrong = prompts.check(role)
    return found._replace(role=None if wrong else role, problems=wrong)


def _parser(place: _Place) -> Callable[[Path, bytes], Role]:
    if ".claude" in Path(place.shown).parts:
        return rolefiles.claude_agent
    return lambda path, data: rolefiles.parse(path, data, BUILT_IN if place.shown == BUILT_IN else str(path))


def _policy(layout: Layout) -> Config | None:
    """What agents.yaml says; None, said aloud, where it cannot be used."""
    try:
        return config.load(layout.home)
    except Invalid as error:
        common.say(f"who plays which role is not known: {common.clean_text(error.message)}")
        if error.hint:
            common.say(f"  {common.clean_text(error.hint)}")
    return None


def _agents(name: str, policy: Config) -> tuple[str, ...]:
    return tuple(agent.name for agent in policy.agents.values() if agent.plays(name))


# --- all of them ---


def _all(found: tuple[_Found, ...], policy: Config | None, as_json: bool) -> None:
    if as_json:
        problems = [views.problem(problem) for one in found for problem in one.problems]
        known = [_plain(one.role, one, policy) for one in found if one.role]
        common.emit("roles", roles=known, problems=views.plain(tuple(problems)))
        return
    columns = _COLUMNS if policy else tuple(one for one in _COLUMNS if one.name != "agents")
    render.show([render.Table("", columns, tuple(_row(one, policy) for one in found), header=True)])
    for problem in (problem for one in found for problem in one.problems):
        common.say(common.clean_text(str(problem)))
        if problem.hint:
            common.say(f"  {common.clean_text(problem.hint)}")
    common.next_step("octopoid roles NAME shows the prompt; a role of your own is a file in .octopoid/roles")


def _row(one: _Found, policy: Config | None) -> tuple[str, ...]:
    role = one.role
    cells = (role.produces, _yesno(role.writes)) if role else ("invalid", "–")
    plays = (", ".join(_agents(one.name, policy)) or "nobody",) if policy else ()
    origin = f"{one.place.shown} (shadows {', '.join(one.shadows)})" if one.shadows else one.place.shown
    return (one.name, *cells, *plays, origin)


def _plain(role: Role, one: _Found, policy: Config | None) -> dict[str, Any]:
    return {
        "name": role.name,
        "description": role.description,
        "produces": role.produces,
        "writes": role.writes,
        "tools": list(role.tools),
        "model": role.model,
        "artifact": role.artifact,
        "inputs": list(role.inputs),
        "max_turns": role.max_turns,
        "timeout": role.timeout,
        "source": one.place.shown,
        "agents": list(_agents(one.name, policy)) if policy else None,
        "shadows": list(one.shadows),
    }


# --- one of them ---


def _one(layout: Layout, one: _Found, policy: Config | None, as_json: bool) -> None:
    if one.role is None:
        raise Invalid(str(one.problems[0]), one.problems, one.problems[0].hint)
    text = prompts.render(one.role, _sample(layout, one.role, policy))
    if as_json:
        common.emit("roles", roles=[{**_plain(one.role, one, policy), "prompt": text}], problems=[])
        return
    for key, value in _facts(one.role, one, policy).items():
        common.out(f"{key:<12}  {common.clean_text(value)}")
    common.out(f"\n--- its prompt, for a task as an example ---\n\n{common.clean_text(text)}")
    common.next_step(f"octopoid roles {one.name} --source prints the file")


def _facts(role: Role, one: _Found, policy: Config | None) -> Mapping[str, str]:
    """What there is to say, in order; what is not set is left out."""
    said = {
        "role": role.name,
        "description": role.description,
        "produces": "what its stage or gate asks for" if role.produces == rolefiles.ANY else role.produces,
        "writes": _yesno(role.writes),
        "artifact": role.artifact,
        "inputs": ", ".join(role.inputs),
        "tools": ", ".join(role.tools),
        "model": role.model,
        "max_turns": str(role.max_turns or ""),
        "timeout": seconds(role.timeout) if role.timeout else "",
        "agents": (", ".join(_agents(one.name, policy)) or "nobody") if policy else "",
        "from": one.place.shown,
        "file": str(one.place.path),
        "shadows": ", ".join(one.shadows),
    }
    return {key: value for key, value in said.items() if value}


def _sample(layout: Layout, role: Role, policy: Config | None) -> prompts.Prompt:
    """The first attempt on `_TASK`, with what the policy says, as far as it is known.

    A role that produces what it is used for is shown as a worker if it may write, else as a gate.
    """
    entry = layout.entry(_TASK.id, 1)
    built_in = (rolefiles.builtin(name)[0] for name in rolefiles.builtin_names())
    flows = [flow.name for flow in policy.flows.values() if not flow.lacks] if policy else ["default"]
    produces = role.produces if role.produces != rolefiles.ANY else ("commits" if role.writes else "verdict")
    played = [one for one in (policy.roles.values() if policy else built_in) if not policy or _agents(one.name, policy)]
    return prompts.Prompt(
        task=_TASK,
        stage=role.name,
        attempt=1,
        base=(policy.base if policy else "") or "main",
        base_sha="b" * 40,
        result_file=str(entry / "result.json"),
        candidate="c" * 40 if produces == "verdict" else "",
        artifacts=str(layout.entry_artifacts(_TASK.id, 1)),
        checks=policy.checks if policy else (Check("tests", "pytest -q"),),
        produces=produces,
        roles=tuple(
            sorted(one.name for one in played if produces == "tasks" or one.produces in (produces, rolefiles.ANY))
        ),
        flows=tuple(sorted(flows)),
    )


def _yesno(value: bool) -> str:
    return "yes" if value else "no"
