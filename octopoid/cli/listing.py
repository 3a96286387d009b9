"""What `octopoid list` shows. Apart from the command, as `overview` is."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from octopoid import steer, views
from octopoid.cli import reading, render, speak
from octopoid.layout import Layout
from octopoid.states import ACTIVE

STATES = {name: state for state, name in views.STATE_NAMES.items()}
INVALID = "invalid"


def show(states: Collection[str] = (), label: str = "", ready: bool = False, as_json: bool = False) -> None:
    """Print the tasks in `states` (names; none: the active folders and the invalid files), one per line."""
    layout = speak.layout()
    found = reading.observe(layout)
    wanted = [STATES[name] for name in states if name != INVALID] if states else list(ACTIVE)
    waits = reading.waits(layout, found)._replace(over=reading.ended(layout, found))
    pauses, now = steer.pauses(layout), speak.now()
    items, base = reading.in_state(layout, found, wanted), reading.base(layout) if as_json else ""
    tasks = [views.task(item, found.look, now, pauses, waits, base) for item in items]
    tasks = [one for one in tasks if (not label or label in one.labels) and (one.ready or not ready)]
    problems = found.look.problems if not states or INVALID in states else ()
    invalid = tuple(views.problem(one) for one in problems if not (label or ready))
    if as_json:
        speak.emit("list", tasks=views.plain(tuple(tasks)), invalid=views.plain(invalid))
        return
    render.show(_tables(layout, tasks, invalid))
    speak.next_step(_next(tasks, invalid))


def _tables(
    layout: Layout, tasks: Iterable[views.TaskView], invalid: Iterable[views.ProblemView]
) -> tuple[render.Table, ...]:
    columns = (
        render.Column("id", "cyan"),
        render.Column("state"),
        render.Column("priority", "dim"),
        render.Column("title", shrinks=True),
        render.Column("why", "yellow", shrinks=True),
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
