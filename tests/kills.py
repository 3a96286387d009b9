"""Kill a process just before its n-th durable operation, for every n; start again, go on, look at everything.

A life (`killlives`) is walked once, undisturbed, and copied before each of its acts: a command of the person's, or one
`run --once` with the supervisors that it starts. Then, for each operation of an act, the repository is put back, the
act is killed there, and whoever looks goes on. `scripts/kills` takes every point; `test_kills` takes some.

What comes after a moment follows from what is on the disk then. So a walk may end where it reaches what another one,
found right at its end, has passed (`likeness`); a share of the walks go to the end all the same, which proves that.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from harness import OCTOPOID, Repo, drop, end_marked, eventually, make_repo, marked
from killhook import IDLE, THEIRS, WIDTH
from killlives import LIVES, STORM, Duty, Life, look
from killtraces import Books, books, examine, in_order, likeness

from octopoid import attempts
from octopoid.errors import Invalid
from octopoid.states import State

KINDS = ("scheduler", "command", "supervisor", "step", "attempt")
"""Who dies: the scheduler, a person's command, a supervisor, a built-in step of its, or step and supervisor at once."""

ACTS = 60
"""No life takes more acts, however often something of it dies."""
QUIET = 30.0
NEVER = 0
Far = int
SEEN, ONE_ACT, THE_END = 0, 1, ACTS
"""How many acts a walk takes at least before it may end where another one was that got to the end."""
HOOK = Path(__file__).with_name("killhook.py")
TICK = Duty("tick", lambda _scene: True, lambda _scene: ("run", "--once"))


class Point(NamedTuple):
    """Where to kill: operation `at` of act number `act`, and `how` (see `killhook`). `told`: what that operation is."""

    act: int
    duty: Duty
    how: str
    at: int
    told: str = ""

    @property
    def kind(self) -> str:
        """One of KINDS."""
        if self.how == "main":
            return "scheduler" if self.duty is TICK else "command"
        return {"self": "step", "both": "attempt"}.get(self.how, "supervisor") if self.in_step else "supervisor"

    @property
    def in_step(self) -> bool:
        return self.told.startswith("step ")

    def __str__(self) -> str:
        return f"act {self.act} ({self.duty.name}), {self.kind} before its operation {self.at} ({self.told})"


class Result(NamedTuple):
    """What came of a kill. `died`: how many were killed; `seconds`: of normal running, until all was in order."""

    what: str
    kind: str
    died: int
    wrong: tuple[str, ...] = ()
    seconds: float | None = None
    whole: bool = False


class Moment(NamedTuple):
    """A copy of the repository, what to do first (where an agent has to be at work), then `duty`; and what happens
    undisturbed: the operations of its process, and (of a tick) those of the supervisors that it starts.
    """

    copy: Path
    lead: tuple[Duty, ...]
    duty: Duty
    own: tuple[str, ...]
    theirs: tuple[str, ...]


def hooked(place: Path, told: Path, package: Path | None = None) -> dict[str, str]:
    """The environment in which `killhook` watches octopoid, and writes the list `told`. It is laid into `place`."""
    hook = place / "hook"
    hook.mkdir(parents=True)
    text = f"path = {str(HOOK)!r}\nexec(open(path).read(), {{'__name__': '__main__', '__file__': path}})\n"
    (hook / "sitecustomize.py").write_text(text, encoding="utf-8")
    path = os.pathsep.join(map(str, (hook, *([package] if package else []))))
    return {"PYTHONPATH": path, "KILL_TOLD": str(told), "KILL_AT": "0", "KILL_WHO": "main"}


class World:
    """One life in one place: its moments, and the states from which all went well."""

    def __init__(self, life: Life, place: Path, package: Path | None = None) -> None:
        """`package`: a folder with another `octopoid` in it, for PYTHONPATH."""
        self.life, self.place, self.told = life, place, place / "told"
        watched = hooked(place, self.told, package)
        made = make_repo(place)
        self.repo = Repo(made.root, {**made.env, **watched})
        self.said, self.failed = "", ""
        self.keep: Path | None = None
        self.known: set[str] = set()
        self.moments: list[Moment] = []
        life.prepare(self.repo)
        self._live()
        wrong = examine(self.repo, life, None)
        assert not wrong, f"{life.name}, undisturbed: {wrong}"
        self.books: Books = books(look(self.repo))

    def _live(self) -> None:
        """The undisturbed life."""
        before: Duty | None = None
        while duty := self.next(before):
            copy = self.place / f"moment-{len(self.moments)}"
            lead: tuple[Duty, ...] = ()
            if look(self.repo).waited_for:
                copy, lead = self.moments[-1].copy, (self.moments[-1].duty,)
            else:
                shutil.copytree(self.repo.root, copy, symlinks=True)
            died = self.act(duty)
            assert not died and not self.failed, f"{self.life.name}: {duty.name}: {self.failed or 'died'}"
            self.quiet()
            self.moments.append(Moment(copy, lead, duty, self.operations("main"), self.operations("theirs")))
            assert len(self.moments) < ACTS, f"{self.life.name} has no end: {[one.duty.name for one in self.moments]}"
            before = duty

    def operations(self, who: str) -> tuple[str, ...]:
        """What the last act did, one line for each operation: its own process, or its supervisors."""
        told = self.told if who == "main" else Path(f"{self.told}{THEIRS}")
        text = told.read_text(encoding="ascii") if told.exists() else ""
        return tuple(text[at : at + WIDTH].strip() for at in range(0, len(text), WIDTH))

    def back(self, moment: Moment) -> None:
        """Everything as it was at that moment."""
        self._put_back(moment.copy)
        for duty in moment.lead:
            self.act(duty)
            self.quiet()

    def _put_back(self, copy: Path) -> None:
        end_marked(self.place)
        for entry in self.repo.layout.attempts.glob("*/[0-9]*"):
            shutil.rmtree(attempts.scratch_place(entry), ignore_errors=True)  # may be in /tmp
        shutil.rmtree(self.repo.root)
        shutil.copytree(copy, self.repo.root, symlinks=True)

    def act(self, duty: Duty, how: str = "main", at: int = NEVER) -> bool:
        """Do it. True: it was killed, just before its operation `at`. Sets `said` and `failed`."""
        for old in self.place.glob("told*"):
            old.unlink()
        self.said = self.failed = ""
        if duty.itself:
            duty.itself(self.repo)
            return False
        if duty is TICK:
            _let_time_pass(self.repo)
        argv = [str(OCTOPOID), *duty.argv(look(self.repo))]
        env = {**self.repo.env, **duty.env, "KILL_WHO": how, "KILL_AT": str(at)}
        root, nobody = self.repo.root, subprocess.DEVNULL
        done = subprocess.run(argv, cwd=root, env=env, stdin=nobody, capture_output=True, timeout=60, check=False)
        self.said = done.stdout.decode()
        if how != "main" and at:
            eventually(lambda: len(self.operations(how)) >= at or not marked(self.place), QUIET, "the supervisor")
            return len(self.operations(how)) >= at
        died = done.returncode == -9
        self.failed = "" if died or not done.returncode else f"{duty.name}: {done.returncode}: {done.stderr.decode()}"
        if any(word in done.stderr for word in (b"this is a bug", b"Traceback", b"sitecustomize")):
            self.failed = f"{duty.name} says: {done.stderr.decode()}"
        return died

    def next(self, before: Duty | None) -> Duty | None:
        """What the world does now; None at the end. Waits where only a program goes on."""

        def found() -> tuple[Duty | None, ...]:
            scene = look(self.repo)
            due = [duty for duty in self.life.duties if duty.due(scene)]
            if due or scene.busy:
                return tuple(due[:1])
            return (None,) if before is TICK and self.life.over(scene) and not scene.open else (TICK,)

        return eventually(found, QUIET, "the end of what runs")[0]

    def quiet(self) -> None:
        """Until every program has ended, but for an agent that waits for the person."""
        eventually(lambda: not marked(self.place) or look(self.repo).waited_for, QUIET, "the end of all programs")

    def recover(self, name: str, kind: str, died: int, far: Far, restless: bool = False) -> Result:
        """Go on normally, as `far` as it says, then examine. `restless`: begin although something still runs."""
        began, seconds = time.monotonic(), None
        passed: list[str] = []
        wrong: list[str] = []
        before: Duty | None = None
        ended = False
        try:
            while not wrong and len(passed) < ACTS:
                if passed or not restless:
                    self.quiet()
                like = likeness(self.repo)
                if like in self.known and len(passed) >= far:
                    break
                duty = self.next(before)
                if ended := duty is None:
                    break
                assert duty is not None
                passed.append(like)
                self.act(duty)
                wrong += [self.failed] if self.failed else []
                if seconds is None and in_order(look(self.repo)):
                    seconds = time.monotonic() - began
                before = duty
            if len(passed) >= ACTS:
                wrong.append(f"no end after {ACTS} acts")
            deaths = died if kind not in ("scheduler", "command") else 0
            wrong += examine(self.repo, self.life, (self.books, deaths), ended)
        except (AssertionError, Invalid, OSError, KeyError) as error:
            wrong.append(f"{type(error).__name__}: {error}")
        if not wrong:
            self.known.update(passed)
        elif self.keep:
            shutil.copytree(self.repo.root, self.keep / f"{self.life.name}-{time.monotonic_ns()}", symlinks=True)
        return Result(f"{self.life.name}: {name}", kind, died, tuple(wrong), seconds, ended)


def _let_time_pass(repo: Repo) -> None:
    """What an editor has just saved is settled."""
    then = time.time() - 60
    for path in repo.layout.folder(State.INCOMING).glob("[!.]*.md"):
        if path.stat().st_mtime > then + 58.1:
            os.utime(path, (then, then))


def points(world: World) -> list[Point]:
    """Every operation of every act, and every way to kill there; of those between which nothing changes, the first."""
    found: list[Point] = []
    for number, one in enumerate(world.moments):
        found += [Point(number, one.duty, "main", at, told) for at, told in _changes(one.own)]
        for at, told in _changes(one.theirs):
            ways = ("self", "both", "parent") if told.startswith("step ") else ("self",)
            found += [Point(number, one.duty, how, at, told) for how in ways]
    return found


def _changes(operations: Sequence[str]) -> list[tuple[int, str]]:
    before = ["", *operations]
    return [(at, told) for at, told in enumerate(operations, 1) if IDLE not in before[at - 1]]


def kill(world: World, point: Point, again: tuple[int, ...] = (), far: Far = ONE_ACT) -> Result:
    """Kill there, go on, examine. `again`: the process that comes next is killed at its so many-th operation, too."""
    world.back(world.moments[point.act])
    name = f"{point}" + "".join(f", then what comes next at {one}" for one in again)
    if not world.act(point.duty, point.how, point.at):
        return Result(f"{world.life.name}: {name}: ended before", point.kind, 0)
    told = world.said.strip() and point.kind == "command" and point.duty.name != "clean"
    if told and point.duty.due(look(world.repo)):
        return Result(f"{world.life.name}: {name}", point.kind, 1, ("what was acknowledged did not happen",))
    if point.how != "parent":  # then its step goes on, and that is the point
        world.quiet()
    died = 1
    for one in again:
        died += world.act(world.next(None) or TICK, "main", one)
        world.quiet()
    return world.recover(name, point.kind, died, far, restless=point.how == "parent")


def sample(items: Sequence[Point], count: int, seed: int = 1) -> list[Point]:
    """`count` of them, spread over all and over every kind; the same ones each time."""
    offset = random.Random(seed).random()  # noqa: S311 - reproducible, not secret
    chosen: list[Point] = []
    for kind in KINDS:
        mine = [one for one in items if one.kind == kind]
        share = min(len(mine), max(1, round(count * len(mine) / len(items)))) if mine else 0
        chosen += [mine[int((number + offset) * len(mine) / share)] for number in range(share)]
    return chosen


# --- many of them ---


class Share(NamedTuple):
    """What one of several workers does: every `of`-th point of a life from number `part` on, then pairs.

    `quick`: that many points instead, 0 = all. `seconds`: how long to kill twice and more often afterwards.
    """

    life: str
    place: Path
    part: int = 0
    of: int = 1
    quick: int = 0
    seconds: float = 0.0
    seed: int = 1
    package: Path | None = None


class Report(NamedTuple):
    """What came of a share. `operations`: how many there are, by kind; the same in each part of a life."""

    share: Share
    operations: Counter[str]
    once: tuple[Result, ...]
    more: tuple[Result, ...]


def work(share: Share) -> Report:
    """Do it. One walk in ten goes to the end whatever is known, one in four goes at least one act."""
    life = next(one for one in LIVES if one.name == share.life)
    world = World(life, share.place, share.package)
    everything = points(world)
    chosen = sample(everything, share.quick, share.seed) if share.quick else everything
    mine = chosen[share.part :: share.of]
    once, more = [], []
    for number, one in enumerate(mine, 1):
        once.append(_told(kill(world, one, far=_far(number))))
        if number % 100 == 0:
            print(f"{share.life} {share.part + 1}/{share.of}: {number} of {len(mine)}", file=sys.stderr, flush=True)
    deadline = time.monotonic() + share.seconds
    chance = random.Random(share.seed * 1000 + share.part)  # noqa: S311 - as above
    while time.monotonic() < deadline:
        again = tuple(chance.randint(1, 60) for _ in range(1 if chance.random() < 0.75 else chance.randint(2, 4)))
        more.append(_told(kill(world, chance.choice(everything), again)))
    operations: Counter[str] = Counter()
    for moment in world.moments:
        operations["scheduler" if moment.duty is TICK else "command"] += len(moment.own)
        steps = sum(told.startswith("step ") for told in moment.theirs)
        operations += Counter(step=steps, supervisor=len(moment.theirs) - steps)
    operations["idle"] = sum(IDLE in told for moment in world.moments for told in (*moment.own, *moment.theirs))
    end_marked(share.place)
    return Report(share, operations, tuple(once), tuple(more))


def _told(result: Result) -> Result:
    """What is wrong is told at once: the whole may take its time."""
    print("".join(f"WRONG: {result.what}: {text}\n" for text in result.wrong), end="", file=sys.stderr, flush=True)
    return result


def _far(number: int) -> Far:
    if number % 10 == 5:
        return THE_END
    return ONE_ACT if number % 4 == 0 else SEEN


def storm(place: Path, seed: int, seconds: float, package: Path | None = None) -> tuple[int, tuple[str, ...]]:
    """Six tasks with a daemon and agents at work, and SIGKILL at random moments: for the daemon, with a supervisor, or
    with everything there is; git is spared.

    How many died, and what is wrong when all has come to its end after that.
    """
    chance = random.Random(seed)  # noqa: S311 - as above
    place.mkdir(parents=True)
    made = make_repo(place)
    repo = made._replace(env={**made.env, **({"PYTHONPATH": str(package)} if package else {})})
    STORM.prepare(repo)
    for slug in STORM.ends:
        drop(repo, f"{slug}-{seed}", f"# {slug}\n")
    died, deadline = 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        with repo.background("run") as daemon:
            with suppress(subprocess.TimeoutExpired):
                daemon.process.wait(chance.uniform(0.2, 2.5))
            ours = {pid: words for pid, words in marked(place).items() if not words.startswith("git ")}
            one = [pid for pid, words in ours.items() if "octopoid.runner" in words]
            hit = chance.choice((list(ours), one[:1], []))
            for pid in hit:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    died += 1
            daemon.kill()
            died += 1
    for _ in range(3):
        repo.octopoid("run", "--until-empty", ok=None, timeout=180)
        for path in repo.layout.folder(State.BLOCKED).glob(
            "[!.]*.md"
        ):  # after too many deaths in a row a person is asked
            repo.octopoid("retry", path.stem)
    return died, tuple(examine(repo, STORM, None))
