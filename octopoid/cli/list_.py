"""`octopoid list`."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import typer

from octopoid import steer, views
from octopoid.cli import common, reading, render
from octopoid.layout import Layout
from octopoid.states import ACTIVE, State

cli = typer.Typer()

_STATES = {name: state for state, name in views.STATE_NAMES.items()}
Shown = StrEnum("Shown", [*_STATES, "invalid"])  # type: ignore[misc]  # the names come from the table of states


@cli.command(
    name="list",
    epilog=common.examples(
        "octopoid list", "octopoid list --state blocked --state done", "octopoid list --ready --label ui --json"
    ),
)
def list_(
    states: Annotated[
        list[Shown], typer.Option("--state", "-s", help="Only this folder (again: one more). Default: all but done.")
    ] = [],  # noqa: B006 - typer's "none given"
    label: Annotated[str, typer.Option("--label", "-l", help="Only tasks with this label.")] = "",
    ready: Annotated[bool, typer.Option("--ready", help="Only what an agent could start on now.")] = False,
    as_json: common.Json = False,
) -> None:
    """List tasks, one per line: id, state, priority, title, and why it does not go on.

    Without --state: incoming, claimed, provisional and blocked, with the invalid files.
    """
    layout = common.layout()
    found = reading.observe(layout)
    names = [str(one) for one in states]
    wanted = [_STATES[name] for name in names if name in _STATES] or ([] if names else list(ACTIVE))
    waits = reading.waits(layout, found) if State.PROVISIONAL in wanted else views.Waits()
    pauses, now = steer.pauses(layout), common.now()
    tasks = [views.task(item, found.look, now, pauses, waits) for item in reading.in_state(layout, found, wanted)]
    tasks = [one for one in tasks if (not label or label in one.labels) and (one.ready or not ready)]
    shown_problems = found.look.problems if not names or "invalid" in names else ()
    invalid = tuple(views.problem(one) for one in shown_problems if not (label or ready))
    if as_json:
        common.emit("list", tasks=views.plain(tuple(tasks)), invalid=views.plain(invalid))
        return
    render.show(_tables(layout, tasks, invalid))
    common.next_step(_next(tasks, invalid))


def _tables(
    layout: Layout, tasks: Iterable[views.TaskView], invalid: Iterable[views.ProblemView]
) -> tuple[render.Table, ...]:
    columns = (
        render.Column("id", "cyan", shrinks=True),
        render.Column("state"),
        render.Column("priority", "dim"),
        render.Column("title", shrinks=True),
        render.Column("why", "yellow", wraps=True),
    )
    rows = [(one.id, one.state, one.priority or "-", one.title, _why(one)) for one in tasks]
    known = {one.path for one in tasks}
    rows += [(_name(layout, one), "invalid", "-", "-", _message(one)) for one in invalid if one.path not in known]
    return (render.Table("", columns, tuple(rows), header=True),)


def _why(one: views.TaskView) -> str:
    if one.ready and not one.reason:
        return "ready"
    return f"{one.reason}: {one.detail}" if one.detail else one.reason


def _name(layout: Layout, one: views.ProblemView) -> str:
    return one.path.removeprefix(f"{layout.root}/")


def _message(one: views.ProblemView) -> str:
    return f"line {one.line}, column {one.column}: {one.message}" if one.line else one.message


def _next(tasks: list[views.TaskView], invalid: tuple[views.ProblemView, ...]) -> str:
    if invalid:
        return "octopoid lint"
    return f"octopoid show {tasks[0].id}" if tasks else 'octopoid enqueue "What is to be done"'
