"""SIGKILL of every kind of process, spread over all its durable operations (invariants 3, 6, 7 and 12 of DESIGN §11).

A sample, the same each time, with the points at which something once went wrong; `scripts/kills` takes every point.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from harness import OCTOPOID
from killlives import AFTER, SPLIT, STOP, WORK, Duty, Life, look
from kills import KINDS, SEEN, THE_END, TICK, Point, World, kill, points, sample

SPOTS: Mapping[str, tuple[tuple[int, str, str], ...]] = {
    "after": (
        # the claim is made, and no agent has been started
        (1, "scheduler", r"write .*/news-\w+/001/\.tmp-"),
        # what the agent left is not in the entry yet; it is, and the file is where it was
        (2, "scheduler", r"write .*/news-\w+/001/\.tmp-"),
        (2, "scheduler", r"renameat2 .*/queue/claimed/news-"),
        # the base has moved, and nobody has written that down
        (3, "scheduler", r"write .*/news-\w+/003/\.tmp-"),
        # healing finished a landing there, and its ref stayed for ever
        (3, "scheduler", r"write .*/queue/\.moving/\.tmp-"),
        # what a dead supervisor had half written stayed in its entry for ever
        (2, "supervisor", r"os\.rename .*/002/\.tmp-"),
        # an idle worktree on its way to another task was set aside for ever
        (3, "step", r"step os\.rename .*/worktrees/[^/]+/\.tmp-"),
    ),
    "split": (
        # rewritten, and not yet given its old time back: the order of two subtasks was lost
        (5, "scheduler", r"\(idle\) fsync .*/queue/\.moving"),
    ),
    "work": (
        # the word is in the evidence and not in the journal
        (1, "command", r"write .*/events\.jsonl"),
        # a claim without its marker was taken for a person's `mv`, which gave a new budget
        (5, "scheduler", r"\(idle\) fsync .*/queue/claimed"),
    ),
}
"""Where something was wrong once, or would be first: act, kind, and a pattern of the operation."""

COUNT = {"work": 1, "split": 2, "after": 2, "stop": 2}
AGAIN = {"after": ((8, (30, 5)),)}
"""Which points of the sample, and where who recovers is killed."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "life",
    [AFTER, WORK, pytest.param(SPLIT, marks=pytest.mark.deep), pytest.param(STOP, marks=pytest.mark.deep)],
    ids=lambda life: life.name,
)
def test_a_life_goes_on_wherever_it_is_killed(life: Life, tmp_path: Path) -> None:
    world = World(life, tmp_path / "w")
    everything = points(world)
    chosen = [*sample(everything, COUNT[life.name]), *_spots(everything, life)]
    results = [kill(world, one, far=THE_END if at == 1 else SEEN) for at, one in enumerate(chosen)]
    results += [kill(world, chosen[at], again) for at, again in AGAIN.get(life.name, ())]
    assert [f"{one.what}: {text}" for one in results for text in one.wrong] == []
    assert sum(bool(one.died) for one in results) > len(results) / 2, [one.what for one in results]


def _spots(everything: list[Point], life: Life) -> Iterator[Point]:
    for act, kind, pattern in SPOTS.get(life.name, ()):
        yield next(one for one in everything if (one.act, one.kind) == (act, kind) and re.match(pattern, one.told))


# --- nothing is missed ---

_CHANGES = (
    *("open", "openat", "creat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"),
    *("link", "linkat", "symlink", "symlinkat", "utimensat", "chmod", "fchmod", "fchmodat", "truncate", "ftruncate"),
    *("write", "pwrite64", "writev", "sendfile", "copy_file_range", "fallocate", "fsync", "fdatasync"),
)
_STARTS = ("clone", "clone3", "fork", "vfork")
_WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")
_ELSEWHERE = re.compile(r'"/dev/null"|/output\.log>')
"""What is no file of the queue's, and what a step prints."""


def missed(traces: Mapping[int, str], told: Path, root: Path, first: str) -> list[str]:
    """The system calls (strace's, by pid) that change something under `root` without a line in `told` just before.

    Looked at are the process whose command line has `first` in it and what it forked; not what others started from
    these: git, agents.
    """
    ours = [pid for pid, text in traces.items() if first in _command(text)]
    found = []
    for pid in ours:  # it grows meanwhile
        announced = False
        for call in traces[pid].splitlines():
            name = call.partition("(")[0]
            if str(told) in call:
                announced = True
            elif name in _STARTS:
                child = int(call.rpartition("= ")[2].split()[0])
                ours += [child] if child in traces and not _command(traces[child]) else []
                announced = False
            elif str(root) in call and not (name.startswith("open") and not _WRITES.search(call)):
                if not announced and not _ELSEWHERE.search(call):
                    found.append(call)
                announced = False
    return found


def _command(text: str) -> str:
    return next((line for line in text.splitlines() if line.startswith("execve(")), "")


def traced(world: World, duty: Duty, log: Path) -> dict[int, str]:
    """Do it under strace: what each process called."""
    log.mkdir()
    calls = ",".join(("execve", *_STARTS, *_CHANGES))
    strace = ["strace", "-ff", "-qq", "-y", "-s", "4096", "-e", f"trace={calls}", "-e", "signal=none", "-o", log / "of"]
    env = {**world.repo.env, **duty.env}
    argv = [*map(str, strace), str(OCTOPOID), *duty.argv(look(world.repo))]
    subprocess.run(argv, cwd=world.repo.root, env=env, stdin=subprocess.DEVNULL, check=True, capture_output=True)
    world.quiet()
    return {int(path.suffix[1:]): path.read_text(errors="replace") for path in log.iterdir()}


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not here")
@pytest.mark.timeout(120)
def test_strace_sees_no_change_that_the_hook_does_not(tmp_path: Path) -> None:
    """A command, the scheduler, and a supervisor with its built-in steps: call by call."""
    world = World(AFTER, tmp_path / "w")
    enqueue, claim, _, land, *_ = world.moments
    for number, moment in enumerate((enqueue, claim, land)):
        world.back(moment)
        traces = traced(world, moment.duty, tmp_path / f"strace-{number}")
        assert missed(traces, world.told, world.repo.root, str(OCTOPOID)) == []
        assert missed(traces, world.told, world.repo.root, "octopoid.runner") == []
        assert any("octopoid.runner" in _command(text) for text in traces.values()) is bool(moment.theirs)


def test_every_kind_of_process_is_killed(tmp_path: Path) -> None:
    """A point of each kind is in the sample of each life that has it, so that no kind is forgotten."""
    moments = [Point(number, TICK, how, number, told) for number, (how, told) in enumerate(_WAYS)]
    assert {one.kind for one in moments} == set(KINDS) - {"command"}
    assert {one.kind for one in sample(moments, 4)} == set(KINDS) - {"command"}


_WAYS = (("main", "open x"), ("self", "open x"), ("self", "step open x"), ("both", "step open x"), ("parent", "step x"))
