"""Projects: tasks that share the branch `project/NAME` and land together. Reads only; the task files say who belongs.

Nothing about a project is stored anywhere. Files in `done` and the archive are opened only as far as it takes to see
that they name none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from octopoid import git, lifecycle, store, taskfile
from octopoid.breakdown import PROPOSAL
from octopoid.errors import Conflict, Invalid, NotFound
from octopoid.gates import PROJECT
from octopoid.hints import nearest
from octopoid.layout import Layout
from octopoid.model import Problem, Task
from octopoid.states import ACTIVE, SATISFYING, State

FLOW = "project"
"""The flow of the task that lands a project."""

_HEAD = 64 * 1024
_KEY = b"project"


class Member(NamedTuple):
    """A task of a project: what its file says, and where it is. `mtime`: seconds since the epoch."""

    id: str
    state: State
    task: Task
    mtime: float


class Project(NamedTuple):
    """A project. `tasks`: in the order in which they went or will go; `landings`: the tasks that land it, oldest first.

    `sha`: the tip of its branch, None while there is none. `ahead`: commits that did not land on `base`, None where one
    of the two branches is missing.
    """

    name: str
    branch: str
    tasks: tuple[Member, ...]
    landings: tuple[Member, ...]
    base: str = ""
    sha: str | None = None
    ahead: int | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Tasks by state; those in the archive count as what they were."""
        found = dict.fromkeys(("incoming", "claimed", "provisional", "blocked", "done", "cancelled"), 0)
        for one in self.tasks:
            found["done" if one.state in SATISFYING else one.state.value.removeprefix("archive/")] += 1
        return found

    @property
    def done(self) -> int:
        """How many of its tasks are done."""
        return self.counts["done"]

    @property
    def total(self) -> int:
        """How many tasks it has, without those that were cancelled."""
        return len(self.tasks) - self.counts["cancelled"]

    @property
    def landing(self) -> Member | None:
        """The newest of the tasks that land it, be it open or done; None where there is none."""
        return next((one for one in reversed(self.landings) if one.state is not State.CANCELLED), None)


class Found(NamedTuple):
    """Every project, and the files that cannot be read, so that nobody knows to which project they belong."""

    projects: tuple[Project, ...]
    problems: tuple[Problem, ...]


def listed(layout: Layout, base: str = "") -> tuple[Project, ...]:
    """Every project that a task file names, by name. `base`: the branch on which they land ("": the checkout's)."""
    return look(layout, base).projects


def look(layout: Layout, base: str = "") -> Found:
    """As `listed`, with what could not be read."""
    problems: list[Problem] = []
    found: dict[str, list[Member]] = {}
    for one in _members(layout, problems):
        found.setdefault(one.task.project or "", []).append(one)
    base = base or (git.default_branch(layout.root) or "" if found else "")
    projects = tuple(_project(layout, name, sorted(found[name], key=_order), base) for name in sorted(found))
    return Found(projects, tuple(problems))


def find(layout: Layout, name: str, base: str = "") -> Project:
    """The project `name`. Raises NotFound with the nearest."""
    found = listed(layout, base)
    project = next((one for one in found if one.name == name), None)
    if project is None:
        hint = nearest(name, (one.name for one in found))
        make = f'octopoid enqueue "What is to be done" --project {name}'
        raise NotFound(f"there is no project `{name}`: no task names it", hint if hint else make)
    return project


def landing_of(layout: Layout, project: Project) -> tuple[str, bytes]:
    """The id and the file of the task that lands `project`. Raises Conflict where it cannot land, saying why."""
    name, last = project.name, project.landing
    if last and last.state in ACTIVE:
        raise Conflict(f"{last.id} lands it already and is in {last.state.value}", f"octopoid why {last.id}")
    first = f"land-project-{name}"
    place = store.find(layout, first)
    if place and place[0] in ACTIVE:  # a file that cannot be read, or that somebody changed
        raise Conflict(
            f"there is a task {first} in {place[0].value} already", f"octopoid lint {layout.short(place[1])}"
        )
    if not project.total:
        raise Conflict(f"project {name} has no tasks", f'octopoid enqueue "What is to be done" --project {name}')
    if project.sha is None:
        hint = "its first task makes it: octopoid run"
        raise Conflict(f"there is no branch {project.branch} yet, so there is nothing to land", hint)
    opened = tuple(one.id for one in project.tasks if one.state in ACTIVE)
    if project.ahead == 0 and not opened:
        hint = f"git branch -d {project.branch} deletes the branch"
        raise Conflict(f"{project.base} has everything of {project.branch} already", hint)
    data = taskfile.compose(
        title=f"Land project {name}", body=_body(project), flow=FLOW, depends_on=opened, project=name
    )
    return _free(layout, first), data


def _free(layout: Layout, first: str) -> str:
    number, task = 1, first
    while store.find(layout, task) is not None:
        number += 1
        task = f"{first}-{number}"
    return task


def _body(project: Project) -> str:
    tasks = "\n".join(f"- `{one.id}`: {one.task.title}" for one in project.tasks if one.state is not State.CANCELLED)
    return f"The branch `{project.branch}` lands as one. Its tasks:\n\n{tasks}\n"


def _project(layout: Layout, name: str, members: list[Member], base: str) -> Project:
    branch = f"{PROJECT}{name}"
    tip, onto = git.branch_sha(layout.root, branch), git.branch_sha(layout.root, base) if base else None
    tasks = tuple(one for one in members if one.task.flow != FLOW)
    landings = tuple(one for one in members if one.task.flow == FLOW)
    ahead = _count(layout, tip, (onto, *_landed(layout, landings))) if tip and onto else None
    return Project(name, branch, tasks, landings, base, tip, ahead)


def _landed(layout: Layout, landings: tuple[Member, ...]) -> Iterator[str]:
    """The commits of the branch that landed. A squash has none of them among its ancestors."""
    for one in landings:
        if one.state not in SATISFYING:
            continue
        try:
            candidate = lifecycle.ledger_of(layout, one.id).candidate
        except Invalid:  # doctor tells about it; here it can only make a project look less landed than it is
            continue
        if candidate and git.commit_exists(layout.root, candidate):
            yield candidate


def _count(layout: Layout, tip: str, known: tuple[str, ...]) -> int:
    """Commits of `tip` that none of `known` contains."""
    if tip in known:
        return 0
    return int(git.run(layout.root, "rev-list", "--count", tip, *(f"^{one}" for one in known), "--").out)


def _order(one: Member) -> tuple[bool, bool, int, float, str]:
    """What is done first, what is cancelled last; else as the scheduler does: priority, age, id."""
    done = one.state in SATISFYING
    return one.state is State.CANCELLED, not done, 0 if done else one.task.priority, one.mtime, one.id


def _members(layout: Layout, problems: list[Problem]) -> Iterator[Member]:
    for name, state in store.every_id(layout).items():
        path = layout.task_file(state, name)
        try:
            data = store.read(path)
            if _KEY not in data[:_HEAD]:
                continue
            task = taskfile.parse(data, path)
            mtime = path.stat().st_mtime
        except FileNotFoundError:
            continue  # on its way between two folders; the next look finds it
        except Invalid as error:
            problems.extend(error.problems)
            continue
        proposed = state is State.BLOCKED and PROPOSAL in task.labels  # nobody decided that it is to be done
        if task.project and not proposed:
            yield Member(name, state, task, mtime)
