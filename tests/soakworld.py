"""What a soak stands on: a daemon that is started again, commands that may be killed, a clock, and what was seen."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from harness import OCTOPOID, Repo
from soakfaults import REFUSES, End

from octopoid.layout import Layout
from octopoid.states import State

ASKED = 60.0
INVALID, LOCKED = 4, 5
"""No policy; or `run --once` from cron was faster."""
HURRIED = 0.15
"""The part of a person's commands that is killed."""
ANSWERS = (0, 2, 3, 4, 5, 6, 7)
"""What a command may answer while everything changes; 1 only during a fault, and what `doctor` finds."""


class Verb(NamedTuple):
    """A command that was started. `kill`: when it is killed (0: it is not); `then`: told its status and stdout."""

    argv: tuple[str, ...]
    process: subprocess.Popen[bytes]
    out: Path
    begun: float
    kill: float
    then: Callable[[int, str], object]


class Sample(NamedTuple):
    """The daemon at one moment: seconds since the beginning, kilobytes, open files; files below run/."""

    at: float
    life: int
    rss: int
    files: int
    run: int


class Books:
    """What only who watched can tell."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        """id → by which door it came, as soon as that was acknowledged."""
        self.away: dict[str, str] = {}
        """id → how the person gave it up (or tried to)."""
        self.edits: list[tuple[str, str, str]] = []
        """(id, editor, what stands in the file since)"""
        self.kills, self.frozen, self.faults = Counter[str](), Counter[str](), Counter[str]()
        self.deeds = Counter[str]()
        self.recovered: list[float] = []
        self.samples: list[Sample] = []
        self.starts = 0
        self.seconds = 0.0
        self.wrong: list[str] = []


class World:
    """The repository, the processes and the clock of one soak."""

    def __init__(self, repo: Repo, seed: int, seconds: float) -> None:
        self.repo, self.seed, self.seconds = repo, seed, seconds
        self.layout = repo.layout
        self.place = repo.root.parent
        self.books = Books()
        self.verbs: list[Verb] = []
        self.later: list[tuple[float, str, End]] = []
        """(when, what it is, what is to be done then)"""
        self.refusing = 0.0
        """When the last fault ended that commands may fail for."""
        self.daemon: subprocess.Popen[bytes] | None = None
        self.log = self.place
        self.expected = True
        """The daemon may be gone."""
        self.stopped = -ASKED
        """When `octopoid stop` was started last; it may come late, and then the next daemon leaves."""
        self.started_at = 0.0
        self.recovering = False
        self.sampled = 0.0
        self.numbers = itertools.count(1)
        self.begun = time.monotonic()
        for name in ("out", "drafts", "drawer"):
            (self.place / name).mkdir(exist_ok=True)

    # --- time ---

    def now(self) -> float:
        return time.monotonic() - self.begun

    def catch_up(self) -> None:
        """Everything whose time has come: faults end, editors save, commands are killed and read."""
        now = self.now()
        for one in [one for one in self.later if one[0] <= now]:
            self.later.remove(one)
            self.end(one)
        for verb in list(self.verbs):
            if verb.process.poll() is not None:
                self.verbs.remove(verb)
                self.read(verb)
            elif verb.kill and now > verb.kill:
                verb.process.kill()
        self.watch_daemon()

    def end(self, one: tuple[float, str, End]) -> None:
        _, what, end = one
        try:
            end()
        except OSError as error:
            if not self.refuses():
                self.books.wrong.append(f"{what} could not be put right: {error}")
            else:
                self.later.append((self.now() + 0.5, what, end))
        if what in REFUSES:
            self.refusing = self.now()

    def refuses(self, since: float | None = None) -> bool:
        """May a command have failed that began at `since`? After a fault the next second still belongs to it."""
        return any(what in REFUSES for _, what, _ in self.later) or self.refusing + 1 > (
            self.now() if since is None else since
        )

    # --- the daemon ---

    def start(self) -> None:
        self.daemon, self.log = self.spawn("run")
        self.expected, self.started_at = False, time.time()
        self.books.starts += 1
        self.recovering = True

    def spawn(self, *args: str) -> tuple[subprocess.Popen[bytes], Path]:
        """A scheduler; what it says goes to a file, which is outside of what a full disk can spoil."""
        log = self.place / f"out/run-{next(self.numbers):05d}.log"
        with log.open("wb") as output:
            argv = [str(OCTOPOID), *args]
            at = {"cwd": self.repo.root, "env": self.repo.env, "start_new_session": True}
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **at), log

    def watch_daemon(self) -> None:
        daemon = self.daemon
        if daemon is None:
            return
        if self.recovering and self._ticked() > self.started_at:
            self.recovering = False
            if self.books.starts > 1:
                self.books.recovered.append(self._ticked() - self.started_at)
        status = daemon.poll()
        if status is None:
            return
        self.daemon = None
        # Killed before it had read the policy once, and started again with a broken one, it has nothing to work with.
        nothing = (
            status == LOCKED
            or (status == 0 and self.now() < self.stopped + ASKED)
            or (status == INVALID and not any(self.layout.last_good.glob("*")))
        )
        if not self.expected and not nothing and not self.refuses():
            said = self.log.read_text(errors="replace")[-1500:]
            self.books.wrong.append(f"the daemon left by itself with {status}: {said}")
        pause = random.Random(self.books.starts).uniform(0, 2)  # noqa: S311 - no secret
        self.later.append((self.now() + pause, "start", self.start))

    def _ticked(self) -> float:
        with suppress(OSError):
            return self.layout.last_tick.stat().st_mtime
        return 0.0

    def leave(self) -> None:
        """Ask the daemon to go, and make sure that it did."""
        if self.daemon:
            self.expected = True
            for _ in range(6):  # one that has only just begun is not seen by `stop`, which says so
                self.repo.octopoid("stop", ok=None)
                with suppress(subprocess.TimeoutExpired):
                    self.daemon.wait(5)
                    break
            if self.daemon.poll() is None:
                self.books.wrong.append("the daemon did not leave within 30 s of `octopoid stop`")
                self.daemon.kill()
                self.daemon.wait(10)
            self.daemon = None

    def sample(self) -> None:
        """The daemon's memory and open files, each second or two."""
        if self.daemon is None or self.now() < self.sampled + 2:
            return
        self.sampled = self.now()
        with suppress(OSError, StopIteration):
            home = Path(f"/proc/{self.daemon.pid}")
            rss = next(int(line.split()[1]) for line in (home / "status").read_text().splitlines() if "VmRSS" in line)
            run = sum(len(names) for _, _, names in os.walk(self.layout.run))
            sample = Sample(self.now(), self.books.starts, rss, len(os.listdir(home / "fd")), run)
            self.books.samples.append(sample)

    # --- commands ---

    def verb(self, *args: str | Path, then: Callable[[int, str], object] | None = None, odds: float = HURRIED) -> None:
        """Start a command and do not wait for it. It may be killed in the middle."""
        number = next(self.numbers)
        chance = random.Random(f"{self.seed} verb {number}")  # noqa: S311 - as above
        out = self.place / f"out/verb-{number:05d}"
        argv = tuple(map(str, args))
        with out.open("wb") as output, out.with_suffix(".err").open("wb") as errors:
            at = {"cwd": self.repo.root, "env": self.repo.env, "stdin": subprocess.DEVNULL}
            process = subprocess.Popen([str(OCTOPOID), *argv], stdout=output, stderr=errors, **at)
        kill = self.now() + chance.uniform(0.02, 0.6) if chance.random() < odds else 0.0
        self.verbs.append(Verb(argv, process, out, self.now(), kill, then or (lambda _status, _out: None)))

    def read(self, verb: Verb) -> None:
        """What a command answered, which must be one of the answers that it may give."""
        status, out = verb.process.returncode, verb.out.read_text(errors="replace")
        err = verb.out.with_suffix(".err").read_text(errors="replace")
        words = " ".join(verb.argv)
        if status == -signal.SIGKILL and verb.kill:
            self.books.kills["command" if verb.argv[0] != "run" else "run --once"] += 1
        elif (
            status == 0 or status in ANSWERS or (status == 1 and (verb.argv[0] == "doctor" or self.refuses(verb.begun)))
        ):
            pass
        else:
            self.books.wrong.append(f"octopoid {words} ended with {status}: {err[-600:]}")
        if "Traceback" in err or "this is a bug" in err:
            self.books.wrong.append(f"octopoid {words} said: {err[-2500:]}")
        verb.then(status, out)
        verb.out.unlink()
        verb.out.with_suffix(".err").unlink()


def places_of(layout: Layout, state: State) -> list[str]:
    """The ids in a folder, by names alone."""
    with suppress(OSError):
        return sorted(name[:-3] for name in os.listdir(layout.folder(state)) if name.endswith(".md") and name[0] != ".")
    return []
