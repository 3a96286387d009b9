"""SIGKILL at every point at which tasks come into being: the subtasks of a breakdown, and what follows a landing.

The repository is brought once to the moment before; then, for each point, it is put back to that moment, a real
`octopoid run --once` is killed just before its n-th durable operation, and another one goes on. `scripts/week --kills`
takes every point, and runs each to the end.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from harness import Repo, drop, end_marked, eventually, landed, script, state_of

from octopoid import attempts, locks
from octopoid.fold import fold
from octopoid.states import State

ALL = bool(os.environ.get("OCTOPOID_KILLS"))
"""Every point, each run to the end: some minutes. Without it some points, few of them to the end."""

POINTS, TO_THE_END = 16, 2
LONG = 3600 if ALL else 300
NEVER = 1_000_000

# Loaded by the interpreter of `octopoid run --once` alone. It counts what can change the disk, and the opening of
# folders (for their fsync: the rename before it is a call to the C library, of which Python tells nothing), from the
# first write into the task's evidence on. The kill is before the operation: all that was done earlier is there.
HOOK = """\
import os, signal, sys

def install(argv=getattr(sys, "orig_argv", [])):
    mark, stop, told = os.environ["KILL_MARK"], int(os.environ["KILL_AT"]), os.environ["KILL_TOLD"]
    seen = [0, False]
    changing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_DIRECTORY
    plain = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.utime", "os.truncate", "subprocess.Popen")

    def witness(event, args):
        if seen[1] or not (event in plain or event == "open" and isinstance(args[2], int) and args[2] & changing):
            return
        if not seen[0] and mark not in str(args[0]):
            return
        seen[0] += 1
        seen[1] = True
        if told:
            fd = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(fd, f"{event} {args[0]}\\n".encode())
            os.close(fd)
        if seen[0] == stop:
            os.kill(os.getpid(), signal.SIGKILL)
        seen[1] = False

    if argv[-2:] == ["run", "--once"]:
        sys.addaudithook(witness)

install()
"""

SUBTASKS = [
    {"key": key, "title": f"Part {key}", "depends_on": after, "body": f"Do {key}."}
    for key, after in (("a", []), ("b", ["a"]), ("c", ["a"]), ("d", ["b", "c"]), ("e", ["d"]))
]
SPLIT = "stages: [{name: split, role: breakdown}]\ngates: []\nland: none\n"
FOLLOW = """\
stages: [{name: implement, role: implementer}]
gates: []
after:
  - {title: "Document: {title}", role: documenter}
  - {title: "Announce {id}", role: documenter}
"""
WORK = [{"write": {"path": "${OCTOPOID_TASK_ID}.txt", "text": "work\n"}}, {"commit": "Work"}]


class Moment(NamedTuple):
    """A repository just before tasks are made, a copy of it to go back to, and the task that makes them."""

    repo: Repo
    copy: Path
    task: str

    def back(self) -> None:
        """Everything as it was at that moment."""
        end_marked(self.repo.root)
        shutil.rmtree(self.repo.root)
        shutil.copytree(self.copy, self.repo.root, symlinks=True)

    def tick(self, at: int = NEVER, told: Path | None = None) -> bool:
        """One `run --once`, killed at its `at`-th operation. Whether it got to its end."""
        hook = self.repo.root.parent / "hook"
        env = {"PYTHONPATH": str(hook), "KILL_AT": str(at), "KILL_MARK": f"/attempts/{self.task}/"}
        env["KILL_TOLD"] = str(told or "")
        return self.repo.octopoid("run", "--once", ok=(0, -9), env=env).status == 0

    def operations(self) -> list[str]:
        """What an undisturbed tick does, one line for each operation."""
        told = self.repo.root.parent / "operations"
        told.unlink(missing_ok=True)
        assert self.tick(told=told)
        return told.read_text().splitlines()


def prepare(repo: Repo, flow: str, task: str, roles: Mapping[str, Sequence[Any]]) -> Moment:
    """`task` has been worked on, and nobody has taken in yet what its agent left. Only its first agent is awake."""
    first, *others = roles
    path = ".octopoid/scripted.json"
    worker = {"adapter": "scripted", "instances": 4, "script": path}
    agents = {"first": worker | {"role": first}, "others": worker | {"roles": others}}
    script(repo, {"tasks": {"default": dict(roles)}}, agents=agents, max_agents=4, checks=[])
    repo.layout.flows.mkdir(exist_ok=True)
    (repo.layout.flows / "mine.yaml").write_text(flow, encoding="utf-8")
    drop(repo, task, "---\nflow: mine\n---\n# Something big\n")
    repo.octopoid("pause", "--agent", "others")
    repo.octopoid("run", "--once")
    entry = repo.layout.entry(task, 1)
    eventually(lambda: (entry / "exit.json").exists() and not locks.is_held(entry / "lock"))
    attempts._tidy(attempts._scratch(entry))  # it may be in /tmp, where nothing is put back
    hook = repo.root.parent / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
    copy = repo.root.parent / "copy"
    shutil.copytree(repo.root, copy, symlinks=True)
    return Moment(repo, copy, task)


def points(count: int) -> list[int]:
    """Of the operations 1 … `count` those at which to kill, spread over all of them."""
    if ALL or count <= POINTS:
        return list(range(1, count + 1))
    return sorted({1 + round(number * (count - 1) / (POINTS - 1)) for number in range(POINTS)})


def to_the_end(chosen: Sequence[int]) -> frozenset[int]:
    """Those of `chosen` after which everything is run to its end: the first tells least."""
    step = 1 if ALL else max(1, len(chosen) // TO_THE_END)
    return frozenset(chosen[step // 2 :: step])


def queue(repo: Repo) -> dict[str, tuple[str, bytes]]:
    """Every task there is: its folder, and what its file says. The name of a commit depends on when it was made."""
    found: dict[str, tuple[str, bytes]] = {}
    for state in State:
        for path in repo.layout.folder(state).glob("[!.]*.md"):
            assert path.stem not in found, f"{path.stem} is in {found[path.stem][0]} and in {state}"
            found[path.stem] = (state.value, re.sub(rb"\b[0-9a-f]{12}\b", b"(commit)", path.read_bytes()))
    return found


def new_tasks(repo: Repo, task: str) -> dict[str, bytes]:
    return {name: text for name, (_, text) in queue(repo).items() if name != task}


def killed_everywhere(moment: Moment) -> Iterator[tuple[int, dict[str, bytes], bool]]:
    """Kill at each point and go on: the point, the tasks that were made, whether all is to be run to its end."""
    count = len(moment.operations())
    repo = moment.repo
    expected, others = queue(repo), new_tasks(repo, moment.task)
    chosen = points(count)
    for point in chosen:
        moment.back()
        assert not moment.tick(point), f"the tick ended before operation {point} of {count}"
        assert moment.tick()
        assert queue(repo) == expected, f"killed at operation {point} of {count}"
        ledger = fold(attempts.read(repo.layout, moment.task))
        ages = [repo.layout.task_file(State.INCOMING, name).stat().st_mtime_ns for name in ledger.children]
        assert ages == sorted(set(ages)), f"operation {point} of {count}: their order is lost"
        assert not ledger.spawn and ledger.unmoved is None and ledger.open is None, f"operation {point} of {count}"
        yield point, others, point in to_the_end(chosen)
    assert count > 20


def finish(repo: Repo) -> None:
    repo.octopoid("resume", "--agent", "others")
    repo.octopoid("run", "--until-empty")


@pytest.mark.timeout(LONG)
def test_a_breakdown_killed_at_every_point_makes_exactly_five_in_the_right_order(repo: Repo) -> None:
    said = {"outcome": "done", "summary": "five parts", "subtasks": SUBTASKS}
    moment = prepare(repo, SPLIT, "big", {"breakdown": [[{"result": said}]], "implementer": [WORK]})
    for point, made, whole in killed_everywhere(moment):
        assert sorted(one[:6] for one in made) == [f"part-{key}" for key in "abcde"]
        if not whole:
            continue
        finish(repo)
        order = [one.removeprefix("part-")[0] for one in landed(repo)]
        assert sorted(order) == list("abcde"), f"killed at operation {point}: {order}"
        assert (order[0], order[-2:]) == ("a", ["d", "e"]), f"killed at operation {point}: {order}"
        assert set(landed(repo)) == set(made)
        assert {one for one, (state, _) in queue(repo).items() if state == "done"} == {*made, "big"}


@pytest.mark.timeout(LONG)
def test_what_follows_a_landing_is_made_once_wherever_the_landing_is_killed(repo: Repo) -> None:
    moment = prepare(repo, FOLLOW, "work", {"implementer": [WORK], "documenter": [WORK]})
    for point, made, whole in killed_everywhere(moment):
        assert sorted(one.split("-")[0] for one in made) == ["announce", "document"]
        assert landed(repo) == ("work",), f"killed at operation {point}"
        assert state_of(repo, "work") is State.DONE
        if whole:
            finish(repo)
            assert landed(repo)[0] == "work" and set(landed(repo)[1:]) == set(made) and len(landed(repo)) == 3
