"""`octopoid flows`: which there are, and one of them drawn as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from octopoid import config as policy
from octopoid.cli import common, render
from octopoid.errors import NotFound
from octopoid.hints import nearest
from octopoid.layout import Layout
from octopoid.settings import Config, Flow, Follow, Gate, Stage


class Named(TyperGroup):
    """`octopoid flows feature` is `octopoid flows show feature`, as `octopoid roles` takes a name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the first word names; else it is a flow's name."""
        known = not args or args[0].startswith("-") or self.get_command(ctx, args[0]) is not None
        return super().resolve_command(ctx, args if known else ["show", *args])


cli = typer.Typer(cls=Named, invoke_without_command=True)

WIDTH = 80
BUILT_IN, PROJECT = "built-in", "project"
_LABEL = 16
_DOWN = "      |"
_COLUMNS = (
    render.Column("name", "bold"),
    render.Column("from"),
    render.Column("stages", shrinks=True),
    render.Column("gates", shrinks=True),
    render.Column("description", note=True),
    render.Column("use", wraps=True),
)


@cli.callback(epilog=common.examples("octopoid flows", "octopoid flows --json", "octopoid flows show feature"))
def flows(context: typer.Context, as_json: common.Json = False) -> None:
    """The ways a task can go: stages, gates, landing, what follows. A task chooses with `flow: NAME`.

    `?` behind a gate: it is advisory, and refuses nothing. Gates in brackets are asked at the same time.
    """
    if context.invoked_subcommand is not None:
        return
    found = policy.load(common.layout().home)
    known = [found.flows[name] for name in sorted(found.flows)]
    if as_json:
        common.emit("flows", flows=[_plain(flow) for flow in known])
        return
    rows = tuple(
        (flow.name, _source(flow), _stages(flow), gates_of(flow), flow.description, _use(flow) or "can be used")
        for flow in known
    )
    render.show((render.Table("", _COLUMNS, rows, header=True),))
    common.next_step('octopoid flows show NAME; octopoid enqueue "…" --flow NAME')


@cli.command(epilog=common.examples("octopoid flows show feature", "octopoid flows show feature --json"))
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A flow.", autocompletion=lambda: _names())],
    as_json: common.Json = False,
) -> None:
    """Draw one flow."""
    layout = common.layout()
    found = policy.load(layout.home)
    flow = found.flows.get(name)
    if flow is None:
        raise NotFound(f"there is no flow {name}", nearest(name, found.flows))
    if as_json:
        common.emit("flows", flows=[_plain(flow)])
        return
    for line in drawn(flow, found, layout):
        common.out(common.clean_text(line))
    common.next_step(_next(flow, layout))


def _names() -> list[str]:
    """For the shell's completion."""
    return sorted(policy.load(common.layout().home, templates=False).flows)


def _next(flow: Flow, layout: Layout) -> str:
    if flow.lacks:
        return f"add agents for {', '.join(flow.lacks)} to {layout.short(layout.agents_yaml)}"
    if flow.name == PROJECT:
        return "octopoid project land NAME makes a task with this flow"
    return f'octopoid enqueue "…" --flow {flow.name}'


# --- in short ---


def _source(flow: Flow) -> str:
    return BUILT_IN if flow.source == BUILT_IN else "yours"


def _stages(flow: Flow) -> str:
    return " > ".join(f"{stage.name}{' (you approve)' if stage.approval else ''}" for stage in flow.stages)


def gates_of(flow: Flow) -> str:
    """The gates of a flow in short: `checks, [reviewer tester?], human`, with `?` behind an advisory one."""
    groups = [" ".join(f"{gate.name}{'' if gate.required else '?'}" for gate in group) for group in flow.gates]
    shown = (f"[{text}]" if len(group) > 1 else text for group, text in zip(flow.gates, groups, strict=True))
    return ", ".join(shown) or "none"


def _use(flow: Flow) -> str:
    return f"needs agents for: {', '.join(flow.lacks)}" if flow.lacks else ""


def _plain(flow: Flow) -> dict[str, Any]:
    return {
        **flow._asdict(),
        "stages": [stage._asdict() for stage in flow.stages],
        "gates": [[{"gate": gate.name, "required": gate.required} for gate in group] for group in flow.gates],
        "after": [follow._asdict() for follow in flow.after],
    }


# --- drawn ---


def drawn(flow: Flow, found: Config, layout: Layout) -> Iterator[str]:
    """The flow, top to bottom, in lines of at most WIDTH characters where its names allow that."""
    yield f"{flow.name} ({flow.source if flow.source == BUILT_IN else layout.short(Path(flow.source))})"
    yield from textwrap.wrap(flow.description, WIDTH)
    if flow.lacks:
        yield from textwrap.wrap(f"cannot be used: {_use(flow)}", WIDTH, break_on_hyphens=False)
    yield ""
    for number, step in enumerate(_steps(flow, found)):
        if number:
            yield _DOWN
        yield from step


def _steps(flow: Flow, found: Config) -> Iterator[list[str]]:
    for stage in flow.stages:
        yield _step(stage.name, _stage(stage))
    for group in flow.gates:
        yield _group(group)
    if flow.gates:
        back = next((stage.name for stage in flow.stages if stage.produces == "commits"), flow.stages[-1].name)
        rounds = flow.rounds or found.limits.rounds
        yield _step("on a no", _refused(back, rounds))
    yield _step("land", _land(flow) + (f"; {flow.conflicts} resolves conflicts" if flow.conflicts else ""))
    if flow.after:
        yield [line for follow in flow.after for line in _step("after", _follow(follow))]


_LANDS = {
    "merge": "on the base branch, as a merge commit",
    "squash": "on the base branch, as one commit",
    "rebase": "on the base branch, commit by commit",
    "none": "not on the base branch: the work stays at branch octopoid/ID",
}


def _land(flow: Flow) -> str:
    if flow.stages[-1].produces == "tasks":
        return "nothing of its own: it is done when its tasks are"
    if not any(stage.produces == "commits" or stage.commit for stage in flow.stages):
        return "nothing: no commits are made"
    return _LANDS[flow.land]


def _refused(back: str, rounds: int) -> str:
    if rounds == 1:
        return "blocked, with what was said"
    times = "twice" if rounds == 2 else f"{rounds} times"
    return f"back to `{back}` with what was said; blocked when that has happened {times}"


def _step(label: str, text: str) -> list[str]:
    head = f"  {label}".ljust(_LABEL)
    head = head if head.endswith(" ") else f"{head}  "
    return textwrap.wrap(
        text, WIDTH, initial_indent=head, subsequent_indent=" " * _LABEL, break_long_words=False, break_on_hyphens=False
    )


def _stage(stage: Stage) -> str:
    parts = [_RUNS[stage.run] if stage.run else f"{stage.role} {_makes(stage)}"]
    parts += [f"needs {', '.join(stage.needs)}"] if stage.needs else []
    parts += ["a person approves"] if stage.approval else []
    return "; ".join(parts)


_RUNS = {
    "reproduce": "octopoid runs the task's commands, which must fail",
    "branch": "octopoid takes up the branch of the project",
}


def _makes(stage: Stage) -> str:
    commit = f", committed as {stage.commit}" if stage.commit else ""
    what = {"commits": "makes commits", "tasks": "makes tasks", "verdict": f"judges, writes {stage.artifact}"}
    return what.get(stage.produces, f"writes {stage.artifact}") + commit


def _group(group: tuple[Gate, ...]) -> list[str]:
    """One gate, or those that are asked at the same time, in a bracket."""
    if len(group) == 1:
        return _step("gate", _gate(group[0]))
    lines = []
    labels = ("gates,", "all at once")
    for number, gate in enumerate(group):
        bracket = "/" if number == 0 else "\\" if number == len(group) - 1 else "|"
        label = labels[number] if number < len(labels) else ""
        lines.append(f"  {label}".ljust(_LABEL - 2) + f"{bracket} {_gate(gate)}")
    return lines


def _gate(gate: Gate) -> str:
    names = {"checks": "checks: the project's and the task's own commands", "human": "human: you approve"}
    return names.get(gate.name, gate.name) + ("" if gate.required else ", advisory: shown, refuses nothing")


def _follow(follow: Follow) -> str:
    who = f"{follow.role}, " if follow.role else ""
    return f'a new task "{follow.title}" ({who}flow {follow.flow})'
