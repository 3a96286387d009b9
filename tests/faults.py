"""Faults made on purpose: a kernel that refuses, a clock that jumps, files that are not what they were.

`tests/test_faults.py` uses small sizes, `scripts/faults` (this file as a program) the real ones. No mocks: strace makes
the kernel refuse, a sitecustomize of the user's moves his clock.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from harness import OCTOPOID, Answer, Repo, drop, eventually, git, landed, make_repo, places, script, state_of

from octopoid import store, taskfile
from octopoid.errors import Invalid
from octopoid.states import State

WRITE = [{"write": {"path": "${OCTOPOID_TASK_ID}.txt", "text": "work\n"}}]


def every(*attempts: list[Any]) -> dict[str, Any]:
    return {"tasks": {"default": {"implementer": list(attempts)}}}


# --- the oracle ---


def wrong(repo: Repo, ids: Sequence[str], invalid: Sequence[str] = (), on_the_way: bool = False) -> list[str]:
    """What FAULTS.md asks after every fault, and is not so: [] when all is well.

    Every id in exactly one folder, every file a task (but those in `invalid`), no work landed twice, nothing of ours in
    the user's checkout. `on_the_way`: a move may be half done, since nobody looked after the fault yet.
    """
    moving = {path.name.partition("+")[2] for path in repo.layout.moving.glob("*.md")} if on_the_way else set()
    seen = {task: places(repo, task) for task in ids if f"{task}.md" not in moving}
    found = [f"{task}: in {[one.value for one in there]}" for task, there in seen.items() if len(there) != 1]
    for path in repo.layout.queue.rglob("*.md"):
        if path.name.startswith(".") or (on_the_way and path.parent == repo.layout.moving):
            continue
        try:
            taskfile.parse(store.read(path), path)
        except Invalid as error:
            if path.stem not in invalid:
                found.append(f"{path}: {error}")
    names = landed(repo)
    found += [f"{name}: landed {names.count(name)} times" for name in sorted(set(names)) if names.count(name) > 1]
    status = git(repo, "status", "--porcelain", "--untracked-files=all").splitlines()
    found += [f"the user's checkout: {line}" for line in status if ".octopoid/" not in line]
    litter = [one for one in repo.layout.home.rglob(".tmp-*") if not one.is_relative_to(repo.layout.home / "worktrees")]
    return found + [f"left behind: {one}" for one in litter]


# --- a kernel that refuses (strace) ---


class Point(NamedTuple):
    """The `number`-th call of `call` that a program makes, which touches `path`."""

    call: str
    number: int
    path: str


CALLS = "write,fsync,fdatasync,rename,renameat,renameat2,mkdir,link,unlink,ftruncate,utimensat,openat"
_PIDS = re.compile(r"^(?:\[pid +)?(\d+)\]? +")
_LINE = re.compile(r"^(\w+)\((.*)$")


def can_trace() -> bool:
    """strace is there, and the kernel lets it."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], capture_output=True, check=False).returncode == 0


def traced(repo: Repo, words: Sequence[str], calls: str = CALLS, **other: Any) -> tuple[Answer, list[str]]:
    """Run `octopoid words` under strace; what its own process called, a line each, with the paths of descriptors."""
    with tempfile.TemporaryDirectory(dir=repo.root.parent) as folder:
        trace = Path(folder, "trace")
        how = ["strace", "-f", "-qq", "-y", "-s", "200", "-e", f"trace={calls}", "-e", "signal=none", "-o", str(trace)]
        answer = _strace(repo, how, words, **other)
        lines = trace.read_text(encoding="utf-8", errors="replace").splitlines()
    first = _PIDS.match(lines[0])
    assert first is not None
    return answer, [line[len(first[0]) :].lstrip() for line in lines if line.startswith(first[1] + " ")]


def points(repo: Repo, lines: Sequence[str]) -> list[Point]:
    """Where a trace changes something under `.octopoid`: what a full or dying disk can refuse."""
    counts: dict[str, int] = {}
    found = []
    for line in lines:
        call = _LINE.match(line)
        if call is None:
            continue
        counts[call[1]] = counts.get(call[1], 0) + 1
        if str(repo.layout.home) not in line or (call[1] == "openat" and "O_CREAT" not in line):
            continue
        found.append(Point(call[1], counts[call[1]], call[2]))
    return found


def injected(repo: Repo, words: Sequence[str], point: Point, error: str, children: bool = False) -> Answer:
    """Run `octopoid words` where the kernel answers `error` at `point`; with `children` to each git, too."""
    inject = f"inject={point.call}:error={error}:when={point.number}"
    follow = ["-f"] if children else []
    how = ["strace", *follow, "-qq", "-o", os.devnull, "-e", f"trace={point.call}", "-e", inject]
    return _strace(repo, how, words)


def _strace(repo: Repo, how: Sequence[str], words: Sequence[str], timeout: float = 60) -> Answer:
    done = subprocess.run(
        [*how, str(OCTOPOID), *words],
        cwd=repo.root,
        env={**repo.env, "PYTHONDONTWRITEBYTECODE": "1"},
        input="",
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=timeout,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def spread(found: Sequence[Point], many: int) -> list[Point]:
    """`many` of them, over the whole of the run; all of them where there are not so many."""
    if len(found) <= many:
        return list(found)
    return [found[round(at * (len(found) - 1) / (many - 1))] for at in range(many)]


# --- a clock that jumps ---

_SHIFT = """\
import os, time
_place = os.environ.get("FAULTS_CLOCK", "")
def _shift():
    try:
        with open(_place) as file:
            return float(file.read() or 0)
    except (OSError, ValueError):
        return 0.0
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + _shift()
time.time_ns = lambda: _time_ns() + int(_shift() * 1e9)
"""


def clock(repo: Repo) -> tuple[dict[str, str], Callable[[float], None]]:
    """An environment whose programs see a wall clock of their own, and the function that sets it (seconds off)."""
    site, place = repo.root.parent / "site", repo.root.parent / "clock"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(_SHIFT)
    place.write_text("0")

    def jump(seconds: float) -> None:
        new = place.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(place)

    return {"PYTHONPATH": str(site), "FAULTS_CLOCK": str(place)}, jump


# --- files that are not what they were ---


def _cut(path: Path) -> None:
    data = path.read_bytes() if path.is_file() else b'{"half'
    _gone(path)
    path.write_bytes(data[: len(data) // 2])


def _gone(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _with(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        _gone(path)
        make(path)

    return damage


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 8 << 30)


DAMAGES: Mapping[str, Callable[[Path], None]] = {
    "missing": _gone,
    "empty": _with(lambda path: path.write_bytes(b"")),
    "half": _cut,
    "garbage": _with(lambda path: path.write_bytes(b"\xff\x00{[}" * 100)),
    "deep": _with(lambda path: path.write_bytes(b"[" * 200_000)),
    "number": _with(lambda path: path.write_text("1" + "0" * 400)),
    "huge": _with(_sparse),
    "folder": _with(lambda path: path.mkdir()),
    "pipe": _with(lambda path: os.mkfifo(path)),
    "link": _with(lambda path: path.symlink_to("/etc/passwd")),
    "loop": _with(lambda path: path.symlink_to(path.name)),
    "unreadable": _with(lambda path: (path.write_bytes(b"{}"), path.chmod(0))),
}

EVIDENCE = (
    *("attempt.json", "exit.json", "facts.json", "start.json", "result.json", "pid", "output.log", "lock"),
    *("stop", "steps.json", "prompt.md", "task.md", "outcome.json", "moved-claimed", "moved-provisional"),
    *("said.json", "children.json", "spawned", "waits", "runner.log", "artifacts", ".reserve"),
)
"""The files of an entry, those that an attempt has and those that another kind of entry has."""

STATE = (
    *("breakers.json", "pause", "wake", "last_tick", "told", "journal.json", "scheduler.pid", "stop", "last-good"),
    *("open", "landing", "schedule", "attach", "scheduler.log", "../events.jsonl"),
)
"""What stands in `run/`, and the journal."""


def attempt_that_ended(repo: Repo, task: str = "model") -> Path:
    """An attempt whose record is written and that nobody has closed yet; its entry."""
    drop(repo, task, f"# {task}\n")
    repo.octopoid("run", "--once")
    entry = repo.layout.entry(task, 1)
    eventually((entry / "exit.json").exists, 20, "the attempt did not end")
    return entry


def copies(repo: Repo, model: str, damages: Sequence[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """A task for each (file, damage), claimed and with an attempt like that of `model`, one file of it damaged."""
    made = {}
    for number, (file, damage) in enumerate(damages):
        task = f"d{number:03d}-{damage}"
        shutil.copytree(repo.layout.entries(model), repo.layout.entries(task), symlinks=True)
        shutil.copy2(repo.layout.task_file(State.CLAIMED, model), repo.layout.task_file(State.CLAIMED, task))
        DAMAGES[damage](repo.layout.entry(task, 1) / file)
        made[task] = (file, damage)
    return made


def evidence(repo: Repo, damages: Sequence[tuple[str, str]]) -> list[str]:
    """Damage evidence between the end of an attempt and the look that closes it; what is wrong afterwards.

    Nobody hangs, nobody calls it a bug, the neighbours go on, every task is in one folder, and each that stands still
    says why.
    """
    script(repo, every(WRITE), gates=["human"], limits={"max_provisional": 1000}, max_agents=1)
    attempt_that_ended(repo)
    made = copies(repo, "model", damages)
    repo.octopoid("pause")
    found = []
    for words in (["status", "--json"], ["run", "--once"], ["status", "--json"], ["doctor"]):
        answer = repo.octopoid(*words, ok=None, timeout=60)
        if "bug in octopoid" in answer.err or answer.status not in (0, 1) or "Traceback" in answer.err:
            found.append(f"octopoid {' '.join(words)}: {answer.status}\n{answer.err[-3000:]}")
    if state_of(repo, "model") is not State.PROVISIONAL:
        found.append(f"the neighbour is in {state_of(repo, 'model')}")
    shown = json.dumps(repo.octopoid("status", "--json").json()["invalid"])
    for task, (file, damage) in made.items():
        if state_of(repo, task) is State.CLAIMED and f"/{task}" not in shown:
            found.append(f"{file} {damage}: stands still and nobody says why")
    return found + wrong(repo, [*made, "model"])


def state(repo: Repo, damages: Sequence[tuple[str, str]]) -> list[str]:
    """Damage what stands in `run/`, look and tick, and remove the damage: who hung or was called a bug."""
    for name, damage in damages:
        with suppress(FileNotFoundError):
            DAMAGES[damage](repo.layout.run / name)
    found = []
    for words in (["status", "--json"], ["run", "--once"]):
        answer = repo.octopoid(*words, ok=None, timeout=30)
        if "bug in octopoid" in answer.err or answer.status not in (0, 1, 5):
            found.append(f"{damages}: octopoid {words[0]}: {answer.status} {answer.err[-1500:]}")
    for name, _ in damages:
        _gone(repo.layout.run / name)
    return found


# --- what a power cut would leave (strace) ---

DURABLE = ("/queue/", "/attempt.json", "/outcome.json", "/landing.json")
"""Files whose content and name are acknowledged: what stands elsewhere is a copy, a hint or made again."""

_FD = re.compile(r"^\w+\(\d+<([^>]*)>")
_NAMES = re.compile(r'"([^"]*)"')
_OPENED = re.compile(r'^openat\([^"]*"([^"]*)", [^)]*O_(?:WRONLY|RDWR)[^)]*O_CREAT')


def unsynced(lines: Sequence[str]) -> list[str]:
    """What a traced command acknowledged that a power cut after its end could take back; [] when there is nothing.

    A new file is synced before it gets its name, and the folder of the name (and the one that it leaves) afterwards.
    """
    dirty: set[str] = set()
    folders: dict[str, str] = {}
    found = []
    for line in lines:
        if " = -1 " in line:
            continue
        if opened := _OPENED.match(line):
            dirty.add(opened[1])
        elif line.startswith(("fsync(", "fdatasync(")) and (synced := _FD.match(line)):
            dirty.discard(synced[1])
            folders.pop(synced[1], None)
        elif line.startswith("rename") and len(names := _NAMES.findall(line)) == 2:
            old, new = names
            moved = {path for path in dirty if path == old or path.startswith(f"{old}/")}
            wanted = [path.replace(old, new, 1) for path in moved | {old}]
            if any(one in path for one in DURABLE for path in wanted):
                found += [f"not synced before its rename: {path}" for path in moved if _counts(path, old, new)]
                folders |= dict.fromkeys({str(Path(old).parent), str(Path(new).parent)}, new)
            dirty = (dirty - moved) | {path.replace(old, new, 1) for path in moved}
    return found + [f"the folder of {new} is not synced: {folder}" for folder, new in folders.items()]


def _counts(path: str, old: str, new: str) -> bool:
    return any(one in path.replace(old, new, 1) for one in DURABLE)


# --- sizes ---


def peak(repo: Repo, *words: str, timeout: float = 600) -> tuple[float, float]:
    """Seconds and MiB of memory at most that `octopoid words` took, and everything that it waited for."""
    code = (
        "import resource, subprocess, sys, time; began = time.monotonic();"
        "done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL);"
        "took = time.monotonic() - began;"
        "print(done.returncode, took, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    argv = [sys.executable, "-c", code, str(OCTOPOID), *words]
    done = subprocess.run(
        argv, cwd=repo.root, env=dict(repo.env), capture_output=True, text=True, timeout=timeout, check=True
    )
    _, seconds, kilobytes = done.stdout.split()
    return float(seconds), float(kilobytes) / 1024


def fill(repo: Repo, many: int) -> None:
    """`many` tasks that wait for a time far away."""
    folder = repo.layout.folder(State.INCOMING)
    then = time.time() - 60
    for number in range(many):
        path = folder / f"task-{number:06d}.md"
        path.write_text(f"---\npriority: P2\nnot_before: 2099-01-01T00:00:00Z\n---\n# Task {number}\n\nSome text.\n")
        os.utime(path, (then, then))


def big_task(repo: Repo, task: str, megabytes: int) -> None:
    """A task with so much text."""
    line = "All work and no play makes Jack a dull boy. 1234567890 ünïcode\n"
    drop(repo, task, f"# {task}\n\n" + line * (megabytes * (1 << 20) // len(line.encode())))


# --- as a program ---


@contextmanager
def scratch() -> Iterator[Repo]:
    place = Path(tempfile.mkdtemp(prefix="octopoid-faults-"))
    try:
        yield make_repo(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def ratios(many: int, few: int = 1000) -> list[str]:
    """Seconds of `status` and of a tick with `many` waiting tasks, and with `few`."""
    with scratch() as repo:
        script(repo, every(WRITE))
        told = []
        for number in (few, many):
            fill(repo, number)
            for words in (["status"], ["run", "--once"]):
                seconds, megabytes = peak(repo, *words)
                told.append(f"{number} tasks: octopoid {' '.join(words)}: {seconds:.2f} s, {megabytes:.0f} MiB")
        return told


def loud(megabytes: int) -> tuple[str, list[str]]:
    """An agent that prints so much: what the closing look takes, and what is wrong."""
    with scratch() as repo:
        script(repo, every([{"run": f"yes 'All work and no play.' | head -c {megabytes << 20}"}, *WRITE]))
        drop(repo, "loud", "# Loud\n")
        repo.octopoid("run", "--once")
        eventually((repo.layout.entry("loud", 1) / "exit.json").exists, 600, "the agent did not end")
        size = (repo.layout.entry("loud", 1) / "output.log").stat().st_size
        seconds, memory = peak(repo, "run", "--once")
        shown, more = peak(repo, "status")
        told = f"{size >> 20} MiB printed: closed in {seconds:.2f} s with {memory:.0f} MiB"
        told += f"; status {shown:.2f} s with {more:.0f} MiB"
        repo.octopoid("run", "--until-empty", ok=(0, 6))
        return told, wrong(repo, ["loud"])


def big(megabytes: int) -> tuple[str, list[str]]:
    """A whole life of a task with so much text, and how the queue bears 100,000 labels."""
    with scratch() as repo:
        script(repo, every(WRITE))
        big_task(repo, "big", megabytes)
        labels = ", ".join(f"label-{number}" for number in range(100_000))
        drop(repo, "labels", f"---\nlabels: [{labels}]\n---\n# Labels\n")
        drop(repo, "small", "# Small\n")
        seconds, memory = peak(repo, "run", "--until-empty")
        again, _ = peak(repo, "run", "--once")
        told = f"{megabytes} MB of text and 100,000 labels: {seconds:.2f} s with {memory:.0f} MiB"
        told += f"; then a tick {again:.2f} s"
        found = wrong(repo, ["big", "labels", "small"], invalid=["labels"])
        return told, found + [f"{one} did not land" for one in ("big", "small") if one not in landed(repo)]


VERBS = ("enqueue", "claim", "close", "approve", "land", "answer", "cancel", "reject", "retry")


def _ready(repo: Repo, verb: str, task: str) -> list[str]:
    """Bring `task` to where `verb` is next; the words of the command that does it."""
    if verb == "enqueue":
        return ["enqueue", task, "-b", "text"]
    drop(repo, task, f"# {task}\n")
    if verb == "cancel":
        return ["cancel", task]
    if verb == "claim":
        return ["run", "--once"]
    repo.octopoid("run", "--once")
    eventually((repo.layout.entry(task, 1) / "exit.json").exists, 20, "the attempt did not end")
    if verb == "close":
        return ["run", "--once"]
    repo.octopoid("run", "--once")
    if verb in ("approve", "reject"):
        return [verb, task, "-m", "a word"]
    if verb in ("answer", "retry"):
        return [verb, task, *(["-m", "blue"] if verb == "answer" else [])]
    repo.octopoid("approve", task)
    return ["run", "--once"]


def disk(repo: Repo, verb: str, error: str, many: int, children: bool = False) -> tuple[int, list[str]]:
    """`error` at `many` of the changes of the disk that `verb` makes, each with a task of its own.

    A command that failed says so, and is not called a bug of ours; half a file is nowhere; and when the disk is well
    again everything goes on to its end.
    """
    steps = {"answer": [{"question": ["Which colour?"]}], "retry": [{"fail": "no"}]}.get(verb, WRITE)
    gates = [] if verb == "close" else ["human"]
    script(repo, every(steps, WRITE), gates=gates, limits={"attempts": 1, "max_provisional": 1000}, max_agents=50)
    text = repo.layout.agents_yaml.read_text().replace('"instances": 2', '"instances": 50')
    repo.layout.agents_yaml.write_text(text)
    words = _ready(repo, verb, f"{verb}-model")
    answer, lines = traced(repo, words)
    assert answer.status == 0, answer.err
    found, bad, tasks = points(repo, lines), [], []
    chosen = spread(found, many)
    for number, point in enumerate(chosen):
        task = f"{verb}-{number}"
        words = _ready(repo, verb, task)
        answer = injected(repo, words, point, error, children)
        where = f"{verb}: {error} at {point.call} {point.number} ({point.path[:120]})"
        if "bug in octopoid" in answer.err or "Traceback" in answer.err:
            bad.append(f"{where}: called a bug\n{answer.err[-1500:]}")
        if verb == "enqueue":
            task = answer.out.strip() if answer.status == 0 else ""
            if answer.status and not answer.err:
                bad.append(f"{where}: failed and said nothing")
        if task:
            tasks.append(task)
        bad += [
            f"{where}: {one}"
            for one in wrong(repo, [task] if task else [], on_the_way=True)
            if "left behind" not in one
        ]
    bad += [f"{verb}: {error}: at the end: {one}" for one in _go_on(repo, tasks)]
    return len(chosen), bad


def _go_on(repo: Repo, tasks: Sequence[str]) -> list[str]:
    """The disk is well again: what is not in its place when nothing moves any more."""
    for _ in range(2):
        repo.octopoid("run", "--until-empty", ok=(0, 6), timeout=300)
        for task in tasks:
            state = state_of(repo, task)
            if state is State.PROVISIONAL:
                repo.octopoid("approve", task, ok=(0, 5))
            elif state is State.BLOCKED:
                repo.octopoid("retry", task, ok=(0, 5))
    repo.octopoid("run", "--until-empty", ok=(0, 6), timeout=300)
    found = wrong(repo, tasks)
    doctor = repo.octopoid("doctor", "--fix", ok=None)
    if doctor.status:
        found.append(f"doctor: {doctor.status}\n{doctor.out}")
    return found
