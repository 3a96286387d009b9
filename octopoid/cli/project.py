"""`octopoid project`: tasks that share a branch and land together."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from octopoid import lifecycle, locks, projects, steer, taskfile, views
from octopoid.cli import adding, common, reading, render
from octopoid.layout import Layout
from octopoid.projects import Member, Project
from octopoid.states import ACTIVE, SATISFYING

cli = typer.Typer(invoke_without_command=True)

WIDTH = 10
"""Characters of a progress bar."""

_LISTED = (
    render.Column("project", "cyan", shrinks=True),
    render.Column("progress"),
    render.Column("tasks", shrinks=True),
    render.Column("branch", note=True),
    render.Column("landing", "yellow", wraps=True),
)
_TASKS = (
    render.Column("id", "cyan", shrinks=True),
    render.Column("state"),
    render.Column("priority", "dim"),
    render.Column("title", shrinks=True),
    render.Column("why", "yellow", wraps=True),
)


def _names() -> list[str]:
    """For the shell's completion."""
    return [one.name for one in projects.listed(common.layout())]


Name = Annotated[str, typer.Argument(metavar="NAME", help="A project.", autocompletion=_names)]


@cli.callback(
    epilog=common.examples("octopoid project", "octopoid project show billing", "octopoid project land billing")
)
def project(context: typer.Context) -> None:
    """Tasks that land together, on a branch of their own first: `octopoid enqueue TITLE --project NAME`.

    Without a command: list.
    """
    if context.invoked_subcommand is None:
        _list()


@cli.command(
    "list",
    short_help="Every project, and how far it is.",
    epilog=common.examples("octopoid project list", "octopoid project list --json"),
)
def _list(as_json: common.Json = False) -> None:
    """Every project, how far it is, and whether it landed."""
    layout = common.layout()
    found = projects.look(layout, reading.base(layout))
    if as_json:
        common.emit("projects", projects=[_plain(one) for one in found.projects])
        return
    rows = tuple((one.name, progress(one), _counts(one), _branch(one), _landing(one)) for one in found.projects)
    render.show((render.Table("", _LISTED, rows, header=True),))
    if found.problems:
        common.say("there are files that cannot be read and may belong to a project: octopoid lint")
    first = found.projects[0].name if found.projects else ""
    common.next_step(f"octopoid project show {first}" if first else 'octopoid enqueue "…" --project NAME begins one')


@cli.command(
    short_help="One project: its tasks, its branch, its landing.",
    epilog=common.examples("octopoid project show billing", "octopoid project show billing --json"),
)
def show(name: Name, as_json: common.Json = False) -> None:
    """One project: its tasks in order, where each is and why, its branch, and its landing."""
    layout = common.layout()
    one = projects.find(layout, name, reading.base(layout))
    tasks = _views(layout, (*one.tasks, *one.landings))
    if as_json:
        common.emit("project", project=_plain(one), tasks=views.plain(tasks))
        return
    rows = tuple((task.id, task.state, task.priority or "-", task.title, _why(task)) for task in tasks)
    lines = (f"{one.name}  {progress(one)}  {_counts(one)}".rstrip(), f"branch: {_branch(one)}")
    render.show((render.Table("", _TASKS, rows, header=True),), (*lines, f"landing: {_landing(one)}"))
    common.next_step(_next(one))


@cli.command(
    short_help="Land the branch of a project, as one.", epilog=common.examples("octopoid project land billing")
)
def land(name: Name, as_json: common.Json = False) -> None:
    """Land the branch of a project on the base, as one: a task of its own, after all tasks of the project.

    It goes through the gates of the flow `project`. The branch stays.
    """
    layout = common.layout()
    one = projects.find(layout, name, reading.base(layout))
    task, data = projects.landing_of(layout, one)
    path = lifecycle.enqueue(layout, task, data, common.now())
    if as_json:
        common.emit("project-land", task=adding.plain(layout, taskfile.parse(data, path), path))
        return
    common.out(task)
    waits = [member for member in one.tasks if member.state in ACTIVE]
    if waits:
        common.say(f"it waits for what is not done: {', '.join(member.id for member in waits)}")
    common.say(f"the branch stays; when it has landed: git branch -d {one.branch}")
    works = "the scheduler takes it from here" if locks.is_held(layout.scheduler_lock) else "octopoid run works on it"
    common.next_step(f"{works}; octopoid project show {name}")


# --- how it looks ---


def progress(one: Project) -> str:
    """`[######----] 6/10`: done of all that were not cancelled."""
    full = WIDTH * one.done // one.total if one.total else 0
    drawn = common.terminal() and "utf" in (sys.stdout.encoding or "").lower()
    bar = "█" * full + "░" * (WIDTH - full) if drawn else "#" * full + "-" * (WIDTH - full)
    return f"[{bar}] {one.done}/{one.total}"


def _counts(one: Project) -> str:
    """What is not done, by state."""
    return ", ".join(f"{number} {state}" for state, number in one.counts.items() if number and state != "done")


def _branch(one: Project) -> str:
    if one.sha is None:
        return f"{one.branch} ({'deleted' if one.landing and one.landing.state in SATISFYING else 'not made yet'})"
    if one.ahead is None:
        return one.branch
    commits = f"{one.ahead} commit{'' if one.ahead == 1 else 's'} ahead of" if one.ahead else "nothing ahead of"
    return f"{one.branch} ({commits} {one.base})"


def _landing(one: Project) -> str:
    last = one.landing
    if last is None:
        return "complete: octopoid project land " + one.name if _is_complete(one) else "not asked for"
    if last.state in ACTIVE:
        return f"{last.id} is in {last.state.value}"
    return f"landed by {last.id}" + (f"; {one.ahead} newer commits" if one.ahead else "")


def _is_complete(one: Project) -> bool:
    return bool(one.total and one.done == one.total and one.ahead)


def _next(one: Project) -> str:
    last = one.landing
    if last and last.state in ACTIVE:
        return f"octopoid why {last.id}"
    if last and last.state in SATISFYING and one.ahead == 0 and one.done == one.total and one.sha:
        return f"git branch -d {one.branch} when you need it no longer"
    if _is_complete(one):
        return f"octopoid project land {one.name}"
    waiting = next((member for member in one.tasks if member.state in ACTIVE), None)
    return f"octopoid why {waiting.id}" if waiting else f'octopoid enqueue "…" --project {one.name}'


def _views(layout: Layout, members: tuple[Member, ...]) -> tuple[views.TaskView, ...]:
    found = reading.observe(layout)
    waits, pauses, now, base = reading.waits(layout, found), steer.pauses(layout), common.now(), reading.base(layout)
    waits = waits._replace(over=reading.ended(layout, found))
    items = (reading.item(layout, found, one.id) for one in members)
    return tuple(views.task(item, found.look, now, pauses, waits, base) for item in items)


def _why(task: views.TaskView) -> str:
    if task.ready and not task.reason:
        return "ready"
    return f"{task.reason}: {task.detail}" if task.detail else task.reason


def _plain(one: Project) -> dict[str, Any]:
    last = one.landing
    return {
        "name": one.name,
        "branch": one.branch,
        "branch_sha": one.sha,
        "base": one.base or None,
        "ahead": one.ahead,
        "done": one.done,
        "total": one.total,
        "counts": one.counts,
        "tasks": [member.id for member in one.tasks],
        "landing": {"id": last.id, "state": last.state.value, "landed": last.state in SATISFYING} if last else None,
    }
