"""Many processes at one queue at once: claims, moves, edits and schedulers. `scripts/races` runs it with real numbers.

Each function races real processes and returns what is wrong, a sentence each. Run as a program this file is one of the
racers: `races.py NAME PLACE NUMBER COUNT …`; it prints one JSON object at its end.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from harness import Repo, drop, eventually, init, script

from octopoid import lifecycle, store
from octopoid.errors import OctopoidError
from octopoid.layout import Layout
from octopoid.states import State

TEXT = "# Task {0}\n\nText of {0}.\n"


def race(name: str, repo: Repo, processes: int, *arguments: object) -> list[dict[str, Any]]:
    """Start `processes` racers, let them go at once, and return what each told."""
    gate = repo.root.parent / "gate"
    gate.unlink(missing_ok=True)
    argv = [sys.executable, __file__, name, str(repo.root), str(gate)]
    running = [
        subprocess.Popen([*argv, str(number), *map(str, arguments)], env=dict(repo.env), stdout=subprocess.PIPE)
        for number in range(processes)
    ]
    try:
        eventually(lambda: len(list(gate.parent.glob("gate-*"))) == processes, 60)
        gate.touch()
        return [json.loads(one.communicate(timeout=600)[0]) for one in running]
    finally:
        for one in running:
            one.kill()
            one.wait()
        for ready in gate.parent.glob("gate-*"):
            ready.unlink()


def claims(repo: Repo, processes: int, tasks: int) -> list[str]:
    """Everybody wants every task: each has one winner."""
    init(repo)
    names = [f"t{number:04d}" for number in range(tasks)]
    for name in names:
        drop(repo, name, TEXT.format(name))
    won = Counter(task for told in race("claim", repo, processes, tasks) for task in told["won"])
    wrong = [f"{name} was claimed {won[name]} times" for name in names if won[name] != 1]
    return wrong + _one_file_each(repo.layout, names)


def moves(repo: Repo, processes: int, tasks: int, seconds: float) -> list[str]:
    """Verbs, hand moves and editors while a scheduler works: each id stays one task, and no save is lost.

    Every task is edited by one process alone: of two editors with one file the later save wins, as everywhere.
    """
    names = [f"t{number:04d}" for number in range(tasks)]
    work = [{"write": {"path": "${OCTOPOID_TASK_ID}.txt", "text": "work\n"}}, {"commit": "Work"}]
    agent = {"role": "implementer", "adapter": "scripted", "script": ".octopoid/scripted.json", "instances": 4}
    script(repo, {"tasks": {"default": {"implementer": [work]}}}, checks=[], agents={"worker": agent}, max_agents=4)
    for name in names:
        drop(repo, name, TEXT.format(name))
    with repo.background("run") as scheduler:
        told = race("move", repo, processes, tasks, seconds)
        wrong = [f"the scheduler said: {scheduler.text()[-3000:]}"] if "a bug in octopoid" in scheduler.text() else []
    repo.octopoid("run", "--until-empty", ok=(0, 6), timeout=600)
    saved = {task: token for one in told for task, token in one["saved"].items()}
    made = {task for one in told for task in one["made"]}
    for task, token in saved.items():
        if not any(token in path.read_text() for path in _files(repo.layout, task)):
            wrong.append(f"{task}: what was saved last ({token}) is nowhere")
    wrong += [f"bug: {one}" for told_one in told for one in told_one["bugs"]]
    return wrong + _every_id_is_there(repo, {*names, *made})


def schedulers(repo: Repo, processes: int, rounds: int) -> list[str]:
    """As many schedulers at once: one works; when it is killed, the next one can."""
    wrong = []
    script(repo, {"tasks": {}}, checks=[])
    program = Path(sys.executable).parent / "octopoid"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for number in range(rounds):
        running = [
            subprocess.Popen([program, "run"], cwd=repo.root, env=dict(repo.env), **quiet) for _ in range(processes)
        ]
        try:
            eventually(partial(_one_is_left, running), 60, "all but one leave")
            codes = Counter(one.poll() for one in running)
            if codes != {None: 1, 5: processes - 1}:
                wrong.append(f"round {number}: of {processes} schedulers there were {dict(codes)}")
        finally:
            for one in running:
                one.kill()
                one.wait()
        repo.octopoid("run", "--once")  # raises where the lock of the dead holds it up
    return wrong


def _one_is_left(running: list[subprocess.Popen[bytes]]) -> bool:
    return sum(one.poll() is None for one in running) <= 1


def _files(layout: Layout, task: str) -> list[Path]:
    return [path for state in State if (path := layout.task_file(state, task)).exists()]


def _one_file_each(layout: Layout, names: list[str]) -> list[str]:
    return [f"{name} is in {len(found)} folders" for name in names if len(found := _files(layout, name)) != 1]


def _every_id_is_there(repo: Repo, names: set[str]) -> list[str]:
    """Each has a file; where it has two, the other one is shown as what it is."""
    invalid = Counter(Path(one["path"]).stem for one in repo.octopoid("status", "--json").json()["invalid"])
    wrong = []
    for name in sorted(names):
        files = len(_files(repo.layout, name))
        if files == 0:
            wrong.append(f"{name} is nowhere")
        elif files - 1 > invalid[name]:
            wrong.append(f"{name} has {files} files, {invalid[name]} of them shown as invalid")
    if any(repo.layout.moving.glob("*")):
        wrong.append("something was left in .moving")
    return wrong


# --- the racers ---


def claim(layout: Layout, number: int, tasks: str) -> dict[str, Any]:
    names = [f"t{one:04d}" for one in range(int(tasks))]
    random.Random(number).shuffle(names)  # noqa: S311 - no secret
    won = []
    for name in names:
        with suppress(OctopoidError):
            store.move(layout, name, "claim", State.INCOMING)
            won.append(name)
    return {"won": won}


def move(layout: Layout, number: int, tasks: str, seconds: str) -> dict[str, Any]:
    """One that edits some of the tasks, and does to any of them whatever a person may do."""
    chance = random.Random(number)  # noqa: S311 - no secret
    saved, made, bugs = dict[str, str](), list[str](), list[str]()
    names = [f"t{one:04d}" for one in range(int(tasks))]
    mine = names[number::16] or names[:0]
    until, count = time.monotonic() + float(seconds), 0
    while time.monotonic() < until:
        count += 1
        verb, task = chance.choice(list(_VERBS.values())), chance.choice(names)
        try:
            verb(layout, task)
        except (OctopoidError, OSError):
            pass
        except Exception as error:  # noqa: BLE001 - told
            bugs.append(f"{type(error).__name__}: {error}")
        if mine:
            task, token = chance.choice(mine), f"saved-{number}-{count}"
            if chance.choice(_EDITORS)(layout, task, token):
                saved[task] = token
        if count % 10 == 0:
            made.append(f"new-{number}-{count}")
            lifecycle.enqueue(layout, made[-1], TEXT.format(made[-1]).encode(), time.time())
    return {"saved": saved, "made": made, "bugs": bugs}


def _by_hand(layout: Layout, task: str) -> None:
    """`mv -n` from wherever it is."""
    found = store.find(layout, task)
    state = random.choice([State.INCOMING, State.BLOCKED, State.CANCELLED])  # noqa: S311 - no secret
    target = layout.task_file(state, task)
    if found and not target.exists():
        os.rename(found[1], target)  # noqa: PTH104 - as mv does


_VERBS: Mapping[str, Callable[[Layout, str], object]] = {
    "cancel": lambda layout, task: lifecycle.cancel(layout, task, "main", time.time()),
    "retry": lambda layout, task: lifecycle.release(layout, task, "main", "", time.time()),
    "reopen": lambda layout, task: lifecycle.reopen(layout, task, "again", time.time()),
    "archive": lambda layout, task: lifecycle.archive(layout, task, time.time()),
    "by hand": _by_hand,
}


def _opened(layout: Layout, task: str, token: str) -> tuple[Path, str] | None:
    """Where the editor found the file, and what it will write there."""
    found = store.find(layout, task)
    if found is None or found[1].parent == layout.moving:
        return None
    with suppress(FileNotFoundError):
        text = found[1].read_text()
        lines = [line for line in text.splitlines() if not line.startswith("saved-")]
        return found[1], "\n".join([*lines[:2], token, *lines[2:]]) + "\n"
    return None


def _vim(layout: Layout, task: str, token: str) -> bool:
    """Renames the old file away, writes a new one in its place, removes the old one."""
    opened = _opened(layout, task, token)
    if not opened:
        return False
    path, text = opened
    backup = path.with_name(f"{path.name}~")
    with suppress(FileNotFoundError):
        path.rename(backup)
    path.write_text(text)
    backup.unlink(missing_ok=True)
    return True


def _sed(layout: Layout, task: str, token: str) -> bool:
    """A temporary file, renamed over."""
    opened = _opened(layout, task, token)
    if not opened:
        return False
    path, text = opened
    temporary = path.with_name(f"sed{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.rename(path)
    return True


def _code(layout: Layout, task: str, token: str) -> bool:
    """Truncates and writes in place."""
    opened = _opened(layout, task, token)
    if not opened:
        return False
    path, text = opened
    path.write_text(text)
    return True


_EDITORS = (_vim, _sed, _code)


_RACERS: Mapping[str, Callable[..., dict[str, Any]]] = {"claim": claim, "move": move}


def _run(name: str, root: str, gate: str, number: str, *arguments: str) -> None:
    Path(f"{gate}-{number}").touch()
    eventually(Path(gate).exists, 60)
    sys.stdout.write(json.dumps(_RACERS[name](Layout(Path(root)), int(number), *arguments)))


if __name__ == "__main__":
    _run(*sys.argv[1:])
