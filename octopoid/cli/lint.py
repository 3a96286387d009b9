"""`octopoid lint`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from octopoid import config, gates, lifecycle, store, taskfile, views
from octopoid.cli import common, judged, reading
from octopoid.errors import Invalid, NotFound, OctopoidError
from octopoid.hints import nearest
from octopoid.layout import Layout
from octopoid.model import Problem, Task
from octopoid.settings import Config

cli = typer.Typer()

INVALID = 4


@cli.command(epilog=common.examples("octopoid lint", "octopoid lint draft.md", "octopoid lint --json"))
def lint(
    files: Annotated[
        list[str], typer.Argument(metavar="[FILE|ID]…", help="Task files. Default: the whole queue and the policy.")
    ] = [],  # noqa: B006 - typer's "none given"
    as_json: common.Json = False,
) -> None:
    """Check task files: every mistake with its line, its column and how to mend it. Exit code 4 if there is one.

    A flow or a role that there is not, or that no agent has, is a warning: the task is valid, and waits.
    """
    problems = tuple(_of_files(files) if files else _of_everything(common.layout()))
    warnings = tuple(_warnings(files))
    if as_json:
        shown, warned = (views.plain(tuple(map(views.problem, found))) for found in (problems, warnings))
        common.emit("lint", problems=shown, warnings=warned)
    for one in problems if not as_json else ():
        common.out(common.clean_text(str(one)))
        if one.hint:
            common.out(f"  {common.clean_text(one.hint)}")
    for one in warnings:
        common.say(f"warning: {common.clean_text(str(one))}")
        if one.hint:
            common.say(f"  {common.clean_text(one.hint)}")
    if problems:
        common.say(f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'}")
        raise typer.Exit(INVALID)
    common.say("ok: every file is valid" if warnings else "ok: nothing is wrong")
    common.next_step("octopoid status")


def _of_everything(layout: Layout) -> Iterable[Problem]:
    yield from reading.observe(layout).look.problems
    yield from policy_problems(layout)


def policy_problems(layout: Layout) -> tuple[Problem, ...]:
    """Everything that is wrong with agents.yaml and the roles."""
    try:
        config.load(layout.home)
    except Invalid as error:
        return error.problems
    return ()


def _of_files(words: list[str]) -> Iterable[Problem]:
    """What is wrong with these files. Those in the queue are also judged by what the others are."""
    layout = _layout()
    inside = [one for one in words if layout and _is_inside(Path(one), layout)]
    queue = reading.observe(layout).look.problems if layout and inside else ()
    for word in words:
        path = Path(word)
        if not os.path.lexists(path):
            path = _of_id(layout, word)
        if layout and _is_policy(path, layout):
            yield from policy_problems(layout)
            continue
        found = _parse(path)
        yield from found
        known = {(one.line, one.message) for one in found}
        real = Path(os.path.realpath(path.parent)) / path.name
        yield from (one for one in queue if one.path == real and (one.line, one.message) not in known)


def _parse(path: Path) -> tuple[Problem, ...]:
    try:
        taskfile.parse(store.read(path), path)
    except Invalid as error:
        return error.problems
    except FileNotFoundError:
        raise NotFound(f"{path} is not there any more", "octopoid list shows where its task is") from None
    return ()


def _of_id(layout: Layout | None, word: str) -> Path:
    """The file of the task that `word` names. Raises NotFound."""
    if layout is None or "/" in word:
        raise NotFound(f"there is no file {word}")
    try:
        place = store.find(layout, lifecycle.resolve(layout, word))
    except NotFound:
        place = None
    if place is None:
        raise NotFound(f"there is no file and no task {word}", "octopoid list shows the ids")
    return place[1]


# --- warnings ---


def _warnings(words: list[str]) -> Iterable[Problem]:
    """Valid tasks that nobody can work on as the policy is now. They may be written before their flow is."""
    layout = _layout()
    known = judged.policy(layout) if layout else None
    if layout is None or known is None:
        return
    for path, task in _valid(words, layout):
        yield from _of_task(path, task, known)


def _valid(words: list[str], layout: Layout) -> Iterable[tuple[Path, Task]]:
    """The valid tasks among these, or in the whole queue; as one look found them: files move meanwhile."""
    if not words:
        items = reading.observe(layout).look.items
        yield from ((item.path, item.task) for item in items if item.task and not item.problem)
    for path in (Path(word) if os.path.lexists(word) else _of_id(layout, word) for word in words):
        if not _is_policy(path, layout):
            with contextlib.suppress(Invalid, FileNotFoundError):
                yield path, taskfile.parse(store.read(path), path)


def _of_task(path: Path, task: Task, known: Config) -> Iterable[Problem]:
    flow = known.flows.get(task.flow)
    if flow is None:
        yield _at(path, "flow", f"there is no flow `{task.flow}`", nearest(task.flow, known.flows))
    elif lacks := gates.lacks_of(task, flow, known):
        yield _at(path, "flow", f"the flow `{task.flow}` needs agents for: {', '.join(lacks)}", "octopoid flows")
    if task.role and task.role not in known.roles:
        yield _at(path, "role", f"no file defines the role `{task.role}`", nearest(task.role, known.roles))
    elif task.role and not gates.players(task.role, known):
        yield _at(path, "role", f"no agent has the role `{task.role}`", "add one to agents.yaml")
    if task.base and task.project:
        message = f"the task lands on project/{task.project}; `base` only says where that branch begins and lands"
        yield _at(path, "base", message, "remove `base`, unless that is meant")


def _at(path: Path, key: str, message: str, hint: str) -> Problem:
    """The line of a key in the front matter; the whole file where it stands in some other form."""
    rows = store.read(path).decode("utf-8", "replace").splitlines()
    line = next((number for number, row in enumerate(rows, start=1) if row.startswith(f"{key}:")), 0)
    column = len(rows[line - 1]) - len(rows[line - 1][len(key) + 1 :].lstrip()) + 1 if line else 0
    return Problem(path, line, column, message, hint)


def _layout() -> Layout | None:
    """A file can be checked anywhere."""
    try:
        return common.layout()
    except OctopoidError:
        return None


def _is_inside(path: Path, layout: Layout) -> bool:
    return not os.path.lexists(path) or Path(os.path.realpath(path.parent)).is_relative_to(layout.queue)


def _is_policy(path: Path, layout: Layout) -> bool:
    real = Path(os.path.realpath(path))
    return real == layout.agents_yaml or real.parent in (layout.roles, layout.flows)
