"""What the tests stand on: a real repository, the installed program, real processes, and a way to wait for them.

Nothing here is a mock. Everything lives under the test's `tmp_path`; HOME is there too, so every process that a test
starts can be recognised by its environment and is ended with the test.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from octopoid import lifecycle, process, trust
from octopoid.adapters import ADAPTERS, events
from octopoid.layout import Layout
from octopoid.states import RANK, State

T = TypeVar("T")

PROJECT = Path(__file__).resolve().parent.parent
OCTOPOID = Path(sys.executable).parent / "octopoid"
"""The console script, installed next to the interpreter that runs the tests: what a user runs."""

TIMEOUT = 60.0
SETTLED = 60.0
"""How old, in seconds, a file is that `drop` calls settled."""

# An allow-list: a developer's PYTHONPATH, GIT_DIR, OCTOPOID_ROOT or API key must not decide a test.
_KEPT = ("USER", "LOGNAME", "TMPDIR", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "COVERAGE_PROCESS_CONFIG")
_TOOLS = ("git", "node", "tmux")
MARKS = (b"OCTOPOID_ATTEMPT_DIR=", b"OCTOPOID_ROOT=", b"HOME=")


def told(adapter: str, line: bytes) -> str | None:
    """One line of an agent's log as people read it; "" is nothing to tell, None is as it stands."""
    said = ADAPTERS[adapter].hear(line)
    return None if said is None else "\n".join(text for text in map(events.told, said) if text)


class Answer(NamedTuple):
    """What a program said. `status` is negative for a signal, as in subprocess."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class Repo(NamedTuple):
    """A user's repository on branch `main` with one commit, and the environment of that user."""

    root: Path
    env: Mapping[str, str]

    @property
    def layout(self) -> Layout:
        return Layout(self.root)

    def octopoid(
        self,
        *args: str | Path,
        cwd: Path | None = None,
        input: str | None = None,  # noqa: A002 - the name that subprocess.run has for it
        ok: Sequence[int] | None = (0,),
        env: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
    ) -> Answer:
        """Run the installed program to its end, without a terminal. `ok` None accepts any exit status."""
        done = subprocess.run(
            [str(OCTOPOID), *map(str, args)],
            cwd=cwd or self.root,
            env={**self.env, **(env or {})},
            input="" if input is None else input,
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )
        answer = Answer(done.returncode, done.stdout, done.stderr)
        if ok is not None and answer.status not in ok:
            raise AssertionError(f"octopoid {' '.join(map(str, args))}: {answer.status}\n{answer.out}{answer.err}")
        return answer

    @contextmanager
    def background(self, *args: str | Path, env: Mapping[str, str] | None = None) -> Iterator[Background]:
        """A program (`run`, `log -f`, …) that goes on meanwhile; it and all it left behind are ended at the end."""
        log = self.root.parent / f"background-{time.monotonic_ns()}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(OCTOPOID), *map(str, args)],
                cwd=self.root,
                env={**self.env, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield Background(process, log)
        finally:
            if process.poll() is None:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(5)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)
            end_marked(self.root.parent)


class Background(NamedTuple):
    """A program that goes on while the test looks. `log` holds its stdout and stderr."""

    process: subprocess.Popen[bytes]
    log: Path

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """SIGKILL to the program alone: what it started lives on, as after a crash."""
        self.process.kill()
        self.process.wait(5)


def eventually(condition: Callable[[], T], timeout: float = 30, message: str = "") -> T:
    """The first truthy answer of `condition`, asked again and again. AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = 0.005
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{message or 'the condition'}: not within {timeout:g} s (last answer: {answer!r})")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


# --- the user's repository ---


def environment(home: Path) -> dict[str, str]:
    """A user with nothing but `home`: no git configuration, no key, nothing of the developer's shell."""
    found = (shutil.which(tool) for tool in _TOOLS)
    folders = [str(OCTOPOID.parent), *(str(Path(tool).parent) for tool in found if tool)]
    folders += ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
    return {
        **{name: os.environ[name] for name in _KEPT if name in os.environ},
        "PATH": os.pathsep.join(dict.fromkeys(folders)),
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local/share"),
        "XDG_STATE_HOME": str(home / ".local/state"),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
    }


def make_repo(place: Path, name: str = "project") -> Repo:
    """A repository `place/name` with one commit; HOME is `place/home`."""
    home = place / "home"
    home.mkdir(exist_ok=True)
    repo = Repo(place / name, environment(home))
    shutil.copytree(_original() / "git", repo.root, symlinks=True)
    trust.mark(repo.root, time.time())  # as `init` does: many tests write the policy themselves
    return repo


@cache
def _original() -> Path:
    """A repository in `git`, its `.octopoid` in `init`, made by git and octopoid once: tests begin with a copy."""
    place = Path(tempfile.mkdtemp(prefix="octopoid-original-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    repo = Repo(place / "git", environment(place))
    repo.root.mkdir()
    git(repo, "init", "-q", "-b", "main")
    git(repo, "config", "user.name", "Ada Tester")
    git(repo, "config", "user.email", "ada@example.org")
    git(repo, "config", "gc.auto", "0")  # a detached gc would outlive the test
    commit(repo, {"README.md": "# A project\n"}, "First commit")
    repo.octopoid("init", "-y")
    repo.layout.home.rename(place / "init")
    shutil.rmtree(repo.root / ".git/octopoid")
    return place


def git(repo: Repo, *args: str | Path, ok: Sequence[int] = (0,), at: Path | None = None) -> str:
    """git in the user's checkout (or in `at`); stdout without its last line end."""
    argv = ["git", *map(str, args)]
    done = subprocess.run(argv, cwd=at or repo.root, env=repo.env, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode in ok, f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout.removesuffix("\n")


def commit(repo: Repo, files: Mapping[str, str], message: str = "More") -> str:
    """Write `files` into the user's checkout, commit them there, and return the sha."""
    for name, text in files.items():
        path = repo.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    git(repo, "add", "--", *files)
    git(repo, "commit", "-q", "-m", message)
    return git(repo, "rev-parse", "HEAD")


PACKAGE = {
    "calc/__init__.py": "def add(a: int, b: int) -> int:\n    return a + b\n",
    "tests/test_calc.py": "from calc import add\n\n\ndef test_add() -> None:\n    assert add(2, 3) == 5\n",
}
"""A small Python package with a test, for `commit(repo, PACKAGE)`."""


# --- the queue, as a person with an editor sees it ---


def init(repo: Repo) -> None:
    """`octopoid init`, unless that was done; what it would make of a repository as it comes is there already."""
    if repo.layout.home.is_dir():
        return
    usual = repo.env == environment(Path(repo.env["HOME"])) and sorted(os.listdir(repo.root)) == [".git", "README.md"]
    if usual and (repo.root / "README.md").read_bytes() == (_original() / "git/README.md").read_bytes():
        shutil.copytree(_original() / "init", repo.layout.home)
    else:
        repo.octopoid("init", "-y")


def write_config(repo: Repo, text: str) -> None:
    """Make `.octopoid` if need be, and `agents.yaml` say `text`."""
    init(repo)
    repo.layout.agents_yaml.write_text(text, encoding="utf-8")


def script(repo: Repo, mapping: Mapping[str, Any], **policy: Any) -> None:
    """Let the scripted agent do what `mapping` says. `policy` replaces or adds top-level keys of `agents.yaml`."""
    init(repo)
    path = repo.layout.home / "scripted.json"
    path.write_text(json.dumps(mapping, indent=1), encoding="utf-8")
    implementer = {"role": "implementer", "adapter": "scripted", "instances": 2, "script": ".octopoid/scripted.json"}
    usual = {
        "version": 1,
        "base": "main",
        "checks": [{"name": "tests", "run": "true"}],
        "gates": ["checks"],
        "agents": {"implementer": implementer},
    }
    write_config(repo, json.dumps(usual | policy, indent=1))  # JSON is YAML


def drop(repo: Repo, task: str, text: str | bytes, settled: bool = True, state: State = State.INCOMING) -> Path:
    """A task file put into the queue by hand. `settled`: it is old already; otherwise somebody has just written it."""
    path = repo.layout.task_file(state, task)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = repo.root.parent / f"draft-{task}" if settled else path
    draft.write_bytes(text.encode() if isinstance(text, str) else text)
    if settled:
        then = time.time() - SETTLED
        os.utime(draft, (then, then))
        draft.rename(path)
    return path


def places(repo: Repo, task: str) -> tuple[State, ...]:
    """Every folder that holds `task`, the one furthest along first. Of a task on the move it may be two or none."""
    found = [state for state in State if repo.layout.task_file(state, task).exists()]
    return tuple(sorted(found, key=lambda state: -RANK[state]))


def state_of(repo: Repo, task: str) -> State | None:
    """The folder of `task`, None if it is nowhere (or in the middle of a move)."""
    return next(iter(places(repo, task)), None)


def at_once(repo: Repo, task: str) -> None:
    """Wait for a failed attempt of `task`, and let the next one begin without its backoff of ten seconds."""
    eventually(lambda: lifecycle.ledger_of(repo.layout, task).charged, 30, f"no attempt of {task} failed")
    eventually(lambda: state_of(repo, task) is State.INCOMING, message=f"{task} did not come back")
    repo.octopoid("retry", task)


def landed(repo: Repo, branch: str = "main") -> tuple[str, ...]:
    """The tasks that commits of `branch` name in their trailers, oldest first; one that landed twice is there twice."""
    text = git(repo, "log", "--first-parent", "--reverse", "--format=%(trailers:key=Octopoid-Task,valueonly)", branch)
    return tuple(text.split())


# --- processes ---


def marked(place: Path, marks: Sequence[bytes] = MARKS) -> dict[int, str]:
    """The live processes whose environment says that they belong under `place`: pid and command line. Linux only."""
    inside = tuple(b"\0" + mark + os.fsencode(place) + end for mark in marks for end in (b"/", b"\0"))
    found = {}
    for pid in process.pids():  # after every test: not by way of pathlib, which takes five times as long
        environ = b"\0" + process.environ(pid)
        if any(one in environ for one in inside):
            with suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
                found[pid] = command.decode(errors="replace").strip()
    found.pop(os.getpid(), None)
    return found


def end_marked(place: Path) -> None:
    """SIGKILL for every process of `marked`, until none is left."""

    def none_left() -> bool:
        left = marked(place)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    eventually(none_left, message=f"ending the processes of {place}")
