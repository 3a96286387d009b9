"""The demo: a scratch repository with a small package, and task files that meet everything a task can meet.

Nothing here is special: the layout is that of `init`, the tasks are enqueued or written by hand, the scheduler is that
of `run`. Only the agent is scripted (docs/scripted-agent.md), so that it needs neither a key nor a network. The other
demo, one task through the flow `feature`, is `demofeature`; the repository is the same.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from octopoid import git, lifecycle, scripted_agent, setup, store, trust
from octopoid.errors import Conflict, NotFound, OctopoidError
from octopoid.layout import Layout, main_worktree
from octopoid.look import Observer
from octopoid.model import Problem
from octopoid.states import State

FILES = Path(__file__).parent / "demo_files"
PYTHON = "@PYTHON@"
"""What stands in FILES for the Python that runs the demo, as a shell writes it."""

STORY: Mapping[str, str] = {
    "add-slugify": "with a criterion that octopoid runs itself",
    "fix-shorten": "a bug, independent of the others",
    "add-command-line": "depends on add-slugify",
    "count-words-faster": "its first attempt breaks the tests",
    "add-initials": "its first attempt has no test, and the reviewer says so",
    "explain-textkit": "no front matter, written into the folder while octopoid runs",
    "add-emoji": "invalid: a word is mistyped",
}
"""The tasks, in the order in which they are told of, and what each of them shows."""

INVALID, LATE, SENT_BACK = "add-emoji", "explain-textkit", "count-words-faster"
"""The task with the mistake; the one that is written while the scheduler runs; the one that the checks send back."""

# What a user's own configuration may say about every repository must not decide how the demo goes: keys to sign with,
# hooks for all repositories, a background process for each.
_LOCAL = (
    ("user.name", "Octopoid Demo"),
    ("user.email", "demo@octopoid.invalid"),
    ("commit.gpgSign", "false"),
    ("core.hooksPath", ".git/hooks"),
    ("core.fsmonitor", "false"),
    ("core.autocrlf", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
)

_POLICY = """\
# The policy of the demo. A real one has a real agent: `adapter: claude`, or `adapter: command` for any program.
version: 1
base: main
checks:
  - {name: tests, run: %(tests)s, timeout: 60s}
gates: [checks, gatekeeper]
agents:
  implementer: {adapter: scripted, script: .octopoid/agent.json, instances: 2, timeout: 60s}
  reviewer: {role: gatekeeper, adapter: scripted, script: .octopoid/agent.json, timeout: 60s}
"""


class Ending(NamedTuple):
    """What is true in the scratch repository afterwards, by git and the folders.

    `commits`: task → commit on main, in the order of landing. `attempts`: how many times the implementer was started.
    """

    commits: Mapping[str, str]
    attempts: Mapping[str, int]
    problem: Problem | None
    wrong: tuple[str, ...]


def find_place(wanted: str) -> Path:
    """An empty folder for the scratch repository, `wanted` or a new temporary one. Outside any repository.

    Raises Conflict, OctopoidError where there is none.
    """
    try:
        if not wanted:
            place = Path(tempfile.mkdtemp(prefix="octopoid-demo-"))
        else:
            place = Path(wanted).absolute()
            place.mkdir(parents=True, exist_ok=True)
        place = Path(os.path.realpath(place))
        if any(place.iterdir()):
            raise Conflict(f"{place} is not empty", "name a new folder: octopoid demo --dir DIR")
    except OSError as error:
        where = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
        raise OctopoidError(
            f"there is no place for the scratch repository: {where}", "name one with: octopoid demo --dir DIR"
        ) from None
    around = main_worktree(place)
    if around is not None:
        place.rmdir()
        raise Conflict(f"{place} is inside the repository {around}", "name a folder outside: octopoid demo --dir DIR")
    return place


def test_command() -> tuple[str, ...]:
    """How the scratch repository is tested: by pytest where this Python has it, else by what every Python has.

    Without the plug-ins that happen to be installed: they are not meant for it and take most of its time.
    """
    if importlib.util.find_spec("pytest"):
        return (
            "env",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1",
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
        )
    return (sys.executable, "-m", "unittest", "discover", "-q")


def make(place: Path, policy: str = _POLICY, script: str = "agent.yaml") -> Layout:
    """A repository in the empty folder `place`: a package with its tests, committed on main, and what `init` makes.

    `policy`: its agents.yaml; `%(tests)s` in it is the command that runs the tests. `script`: the file of FILES that
    says what its agents do. Raises GitError, NotFound (git is missing or too old).
    """
    if git.version() < git.MINIMUM:
        raise NotFound(f"git {'.'.join(map(str, git.version()))} is too old", "octopoid needs git 2.38 or newer")
    git.run(place, "init", "-q", "-b", "main", "--template=")
    for key, value in _LOCAL:
        git.run(place, "config", key, value)
    layout = setup.repository(place)
    for name, data in _parts("repository.txt"):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    setup.make_folders(layout)
    setup.make_file(setup.gitignore(layout), setup.GITIGNORE)
    setup.make_file(layout.agents_yaml, (policy % {"tests": json.dumps(test_command())}).encode())
    actions = json.dumps({"tasks": scripted_agent.load(str(FILES / script))}, indent=1)  # JSON starts faster
    actions = actions.replace(PYTHON, json.dumps(shlex.quote(sys.executable))[1:-1])
    setup.make_file(layout.home / "agent.json", actions.encode())
    trust.mark(place, time.time())
    git.run(place, "add", "--all")
    git.run(place, "commit", "-q", "-m", "A small package with its tests")
    return layout


def enqueue(layout: Layout, now: float) -> None:
    """The task files that are there from the start. `now`: seconds since the epoch."""
    for task, data in tasks():
        if task == INVALID:
            layout.task_file(State.INCOMING, task).write_bytes(data)
        elif task != LATE:
            lifecycle.enqueue(layout, task, data, now)


def drop(layout: Layout) -> None:
    """Write one more task file into the folder, as a person with an editor does: it has to settle first."""
    data = dict(tasks())[LATE]
    layout.task_file(State.INCOMING, LATE).write_bytes(data)


def ending(layout: Layout) -> Ending:
    """What came of it. `wrong` has a sentence for everything that is not as it should be."""
    history = landings(layout)
    landed = dict(history)
    wanted = [task for task in STORY if task != INVALID]
    wrong = [
        f"{task} did not land: it is {where(layout, task)}" for task in wanted if not is_done(layout, task, landed)
    ]
    wrong += twice(history)
    attempts = {task: lifecycle.ledger_of(layout, task).tries.get("implementer", 0) for task in wanted}
    if attempts[SENT_BACK] < 2:
        wrong.append(f"{SENT_BACK} was not sent back")
    problem = next((one for one in Observer(layout).look().problems if one.path.stem == INVALID), None)
    if problem is None:
        wrong.append(f"{INVALID} is invalid and is not shown as such")
    return Ending(landed, attempts, problem, tuple(wrong))


def sent_back(layout: Layout) -> tuple[str, ...]:
    """The end of what the tests said about the work that was sent back: what its next prompt had."""
    feedback = lifecycle.ledger_of(layout, SENT_BACK).feedback
    lines = feedback[0].text.splitlines() if feedback else []
    told = [line for line in lines if line.strip("=_- ") and not line.startswith("```")]
    return tuple(told[-4:])


def tasks() -> Iterator[tuple[str, bytes]]:
    """Every task file: its id and its bytes."""
    for name, data in _parts("tasks.txt"):
        yield name.removesuffix(".md"), filled(data)


def filled(data: bytes) -> bytes:
    """A task file of ours that names the Python that runs us."""
    return data.replace(PYTHON.encode(), shlex.quote(sys.executable).encode())


def landings(layout: Layout) -> tuple[tuple[str, str], ...]:
    """(task, its commit on main), in the order of landing; a task that landed twice is there twice."""
    log = git.run(
        layout.root, "log", "--first-parent", "--reverse", "--format=%h %(trailers:key=Octopoid-Task,valueonly)"
    )
    return tuple((words[1], words[0]) for line in log.out.splitlines() if len(words := line.split()) == 2)


def twice(landed: Sequence[tuple[str, str]]) -> Iterator[str]:
    """A sentence for every task that landed more than once."""
    times = Counter(task for task, _ in landed)
    return (f"{task} landed {count} times" for task, count in times.items() if count > 1)


def where(layout: Layout, task: str) -> str:
    """In which folder a task is and why, in words."""
    found = store.find(layout, task)
    if found is None:
        return "nowhere"
    detail = lifecycle.ledger_of(layout, task).detail
    return f"in {found[0].value}" + (f" ({detail})" if detail else "")


def is_done(layout: Layout, task: str, landed: Mapping[str, str]) -> bool:
    """Its file and git agree: it is done, and its commit is on main."""
    found = store.find(layout, task)
    return found is not None and found[0] is State.DONE and task in landed


def _parts(name: str) -> Iterator[tuple[str, bytes]]:
    """The files in one of ours: each begins with a line `=== NAME`."""
    for part in f"\n{(FILES / name).read_text(encoding='utf-8')}".split("\n=== ")[1:]:
        path, _, text = part.partition("\n")
        yield path, f"{text.rstrip()}\n".encode() if text.strip() else b""
