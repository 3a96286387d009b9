"""Every agent program in the same straits: the table in docs/agents.md is what comes out of these cases.

    measure(DRIVERS["codex"], "SIGKILL", place)  →  Cell("uncharged, the next attempt landed", 4.2)

Everything goes through the installed `octopoid`; the model is a script on loopback. A case returns a word for what it
has seen, nothing else decides. What has to come out is PROMISES, and what a program does otherwise is in its driver.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from agentdrivers import REFUSED, Driver, Steps, installed
from harness import (
    MARKS,
    PROJECT,
    Answer,
    Background,
    Repo,
    drop,
    end_marked,
    eventually,
    git,
    landed,
    make_repo,
    marked,
    state_of,
    write_config,
)
from modelserver import Step, error, hang, text
from modelserver import drop as cut

from octopoid import clock, locks
from octopoid.states import State

SOON = 30.0
"""Seconds within which a wrong key has to be told, with the retries that a program makes by default."""
PATIENCE = 120.0
"""Seconds that a case waits for what it is about."""
RESET = 120
"""Seconds after which the model server says that it will answer again."""
FAILURES = (AssertionError, AttributeError, LookupError, OSError, TypeError, ValueError, subprocess.SubprocessError)
"""What may go wrong in a case: it is told in its cell, and the others go on."""
OWN_PATIENCE = 60
"""Seconds that a program may wait by itself for a server that is busy."""
RIGHT, WRONG = "right-key", "wrong-key"


# --- the user ----------------------------------------------------------------------------------------------------


class User(NamedTuple):
    """Somebody with a repository, the program on PATH, and a key in their shell."""

    driver: Driver
    repo: Repo
    server: Any
    env: dict[str, str]

    def octopoid(self, *args: str, ok: Sequence[int] | None = (0,), **env: str) -> Answer:
        return self.repo.octopoid(*args, ok=ok, env={**self.env, **env}, timeout=PATIENCE)

    def run(self, status: int = 0, **env: str) -> None:
        self.octopoid("run", "--until-empty", ok=(status,), **env)

    @property
    def home(self) -> Path:
        return Path(self.repo.env["HOME"])

    def agent(self, **keys: Any) -> dict[str, Any]:
        """An agent for agents.yaml that this program is."""
        return {
            "role": "implementer",
            "adapter": self.driver.adapter,
            **self.driver.wire(self.server, self.home).keys,
            **keys,
        }

    def policy(self, agent: Mapping[str, Any] | None = None, **top: Any) -> None:
        """One try for every task, so that what it is charged for is seen at once. `agent`: further keys."""
        checks = [{"name": "readme", "run": "test -s README.md"}]
        usual = {"version": 1, "base": "main", "gates": ["checks"], "checks": checks, "grace": 2}
        agents = {"worker": self.agent(**{"timeout": 100, **(agent or {})})}
        write_config(self.repo, json.dumps({**usual, "limits": {"attempts": 1}, "agents": agents, **top}, indent=1))

    def role(self, name: str, marker: str, **header: str) -> None:
        """The built-in role with other keys in its header, and a line below that chooses the script."""
        builtin = (PROJECT / f"octopoid/roles/{name}.md").read_text(encoding="utf-8")
        keys = "".join(f"{key}: {value}\n" for key, value in header.items())
        self.repo.layout.roles.mkdir(exist_ok=True)
        mine = builtin.replace("---\n", f"---\n{keys}", 1) + f"\n[[{marker}]]\n"
        (self.repo.layout.roles / f"{name}.md").write_text(mine, encoding="utf-8")

    def task(self, name: str, *attempts: Steps, body: str = "As scripted.") -> None:
        """Drop a task; what the model answers in its first attempt, its second, …"""
        self.server.scripts |= {f"{name}-{number}": list(steps) for number, steps in enumerate(attempts, 1)}
        drop(self.repo, name, f"# Do {name}\n\n{body}\n")

    def entry(self, task: str, number: int = 1) -> Path:
        return self.repo.layout.entry(task, number)

    def outcome(self, task: str, number: int = 1) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.entry(task, number) / "outcome.json").read_bytes())
        return found

    def ended(self, task: str, number: int = 1) -> str:
        """`charged: turn limit`: how an attempt ended, in the words of its outcome."""
        outcome = self.outcome(task, number)
        return f"{'charged' if outcome['charged'] else 'uncharged'}: {_brief(outcome)}"

    def asked(self, script: str) -> str:
        """What the model was told when it was first asked in this script, as JSON text."""
        return json.dumps(self.server.of(script)[0].body, ensure_ascii=False)


_BRIEF = (
    ("no changes", r"without a new commit or change|no changes"),
    ("turn limit", r"\bturns?\b|step limit|LimitsExceeded"),
    ("budget", r"budget|max_usd|\bcost"),
    ("silence", r"without (any )?output|no output for"),
    ("timeout", r"took longer|time limit"),
)


def _brief(outcome: Mapping[str, Any]) -> str:
    """The reason of an environment failure (the adapter's word), else what the sentence is about."""
    detail = str(outcome["detail"])
    if outcome["class"] == "environment":
        return detail.partition(":")[0]
    return next((word for word, pattern in _BRIEF if re.search(pattern, detail)), detail[:80])


def prepare(driver: Driver, place: Path, server: Any) -> User:
    """A user in `place` with one agent of this program."""
    repo = make_repo(place)
    folder = place / "bin"
    folder.mkdir()
    if driver.program:
        binary = installed(driver.program)
        (folder / binary.name).symlink_to(binary)
    env = {
        "PATH": f"{folder}{os.pathsep}{repo.env['PATH']}",
        driver.key: RIGHT,
        **driver.wire(server, Path(repo.env["HOME"])).env,
    }
    user = User(driver, repo, server, env)
    user.policy()
    user.role("implementer", "{{ task.id }}-{{ attempt }}")
    return user


def left_behind(repo: Repo) -> str:
    """What should not be there when nothing runs: processes of ours, held locks, changes in the user's checkout."""
    place = repo.root.parent
    with suppress(AssertionError):
        eventually(lambda: not marked(place, MARKS[:2]), 3)
    if alive := marked(place, MARKS[:2]):
        return f"processes are left: {sorted(alive.values())}"
    held = [path for path in repo.layout.home.rglob("*lock") if path.is_file() and locks.is_held(path)]
    if held:
        return f"locks are held: {held}"
    changed = git(repo, "status", "--porcelain")
    return "" if changed == "?? .octopoid/" else f"the user's checkout was changed: {changed}"


class Cell(NamedTuple):
    """What a case found out. `trouble`: why that is not what was promised, "" = it is."""

    word: str
    seconds: float
    trouble: str = ""


def measure(driver: Driver, case: str, place: Path) -> Cell:
    """Run a case in `place`, a folder that is there and empty. What fails in it becomes the cell's trouble."""
    began = time.monotonic()
    try:
        with driver.server({}) as server:
            user = prepare(driver, place, server)
            word = CASES[case](user)
        trouble = left_behind(user.repo)
    except FAILURES:
        word, trouble = "FAILED", traceback.format_exc(limit=-4)
    finally:
        end_marked(place)
    if not trouble and word != promised(driver, case):
        trouble = f"it is {word!r} and should be {promised(driver, case)!r}"
    return Cell(word, time.monotonic() - began, trouble)


# --- the cases ---------------------------------------------------------------------------------------------------


def _success(user: User) -> str:
    user.task("work", [*user.driver.work(), user.driver.done("It is done.")])
    user.run()
    assert git(user.repo, "show", "main:work.txt") == "work"
    assert git(user.repo, "log", "--no-merges", "-1", "--format=%an") == "Ada Tester"
    assert user.server.of("work-1"), "the model was asked"
    return _all_landed(user, "work")


def _all_landed(user: User, *names: str) -> str:
    found = landed(user.repo)
    return "landed" if sorted(found) == sorted(names) else f"landed: {found}"


def _question(user: User) -> str:
    question = "British or American?"
    word = {"outcome": "question", "summary": "I have to ask.", "questions": [question]}
    user.task(
        "spell",
        user.driver.say(user.entry("spell") / "result.json", word),
        [*user.driver.work(), user.driver.done("Done.")],
    )
    user.run(6)
    assert state_of(user.repo, "spell") is State.BLOCKED and question in user.octopoid("status").out
    user.octopoid("answer", "spell", "-m", "British, please.")
    user.run()
    heard = user.asked("spell-2")
    assert "British, please." in heard, "the answer is told"
    session = "in the same session" if 0 <= heard.find("I have to ask.") < heard.find("British, please.") else "anew"
    return f"waits, then {_all_landed(user, 'spell')} {session}"


def _no_change(user: User) -> str:
    user.task("idle", [user.driver.done("All done, it works great!")])
    user.run(6)
    assert state_of(user.repo, "idle") is State.BLOCKED and landed(user.repo) == ()
    return user.ended("idle")


def _denied(user: User) -> str:
    """The role says that it may read, and ask git how things are; nothing else."""
    user.role("implementer", "{{ task.id }}-{{ attempt }}", tools="Read, Bash(git status:*)")
    tries = list(user.driver.write("denied.txt", "x"))
    tries += [user.driver.run("git commit -q --allow-empty -m x")] if user.driver.run else []
    user.task("denied", [*tries, user.driver.done("All done, it works great!")])
    answer = user.octopoid("run", "--until-empty", ok=(0, 6))
    if answer.status == 0:
        return f"{_all_landed(user, 'denied')}: it knows no lists of tools"
    assert landed(user.repo) == ()
    return f"{user.ended('denied')}, denials {_told(user, 'denied', 1)}"


def _told(user: User, task: str, number: int) -> str:
    """Where a person hears of what was denied: in what `show` says about the attempt, or only in its log."""
    if re.search(r"denied|thrown away", user.outcome(task, number)["detail"]):
        return "told"
    log = user.octopoid("log", task, "--attempt", str(number)).out
    return "in the log" if re.search(r"^! |denied|rejected", log, re.MULTILINE) else "not told"


def _reviewer(user: User) -> str:
    """A reviewer of the same program tries to change what it judges, and says yes."""
    user.policy(gates=["gatekeeper"], agents={"worker": user.agent(), "judge": user.agent(role="gatekeeper")})
    user.role("gatekeeper", "{{ task.id }}-review")
    tries = list(user.driver.write("by-reviewer.txt", "x"))
    verdict = list(user.driver.judge({"outcome": "accept", "summary": "Fine."}))
    if user.driver.run:
        tries += [user.driver.run("echo x > by-shell.txt"), user.driver.run("git commit -q --allow-empty -m x")]
    else:  # it edits by what it answers, and its answer is its last
        tries, verdict = [], [verdict[0]._replace(text=f"{tries[0].text}\n{verdict[0].text}")]
    user.server.scripts["work-review"] = [*tries, *verdict]
    user.task("work", [*user.driver.work(), user.driver.done("Done.")])
    user.run()
    files = set(git(user.repo, "ls-tree", "-r", "--name-only", "main").split())
    assert files == {"README.md", "work.txt"} and landed(user.repo) == ("work",), files
    assert "Allow" not in git(user.repo, "log", "--format=%s", "main")
    entries = sorted(user.repo.layout.entries("work").glob("*/prompt.md"))
    review = next(one.parent for one in entries if "[[work-review]]" in one.read_text("utf-8"))
    changed = json.loads((review / "facts.json").read_bytes()).get("changed")
    return f"{'thrown away' if changed else 'kept out'}, {_told(user, 'work', int(review.name))}"


def _refused(user: User, key: str) -> bool:
    """Does the policy say that this key means nothing to the program?"""
    answer = user.octopoid("config", "check", ok=(0, 4))
    return answer.status == 4 and f"`{key}` means nothing" in answer.out + answer.err


def _turns(user: User) -> str:
    user.policy({"max_turns": 2})
    if _refused(user, "max_turns"):
        return REFUSED
    assert user.driver.run
    user.task("endless", [user.driver.run(f"echo {number}") for number in range(12)])
    user.run(6)
    return user.ended("endless")


def _budget(user: User) -> str:
    user.policy({"max_usd": 0.05})
    if _refused(user, "max_usd"):
        return REFUSED
    assert user.driver.run
    dear = [user.driver.run(f"echo {number}")._replace(usage=(100_000, 1000)) for number in range(12)]
    user.task("dear", dear)
    user.run(6)
    return user.ended("dear")


def _wrong_key(user: User) -> str:
    """Told within 30 s, the tasks as they were; then the scheduler is started with the right key, and that is all."""
    for name in ("first", "second"):
        user.task(name, [error(401, message="invalid key")])
    began = time.monotonic()
    with user.repo.background("run", env={**user.env, user.driver.key: WRONG}) as scheduler:
        _await(scheduler, lambda: _closed(user, "first") or _closed(user, "second"), "no attempt ended", SOON)
        said = user.octopoid("status").out
        seconds = time.monotonic() - began
    tried = next(name for name in ("first", "second") if _closed(user, name))
    assert seconds < SOON, f"it took {seconds:.0f} s to say so"
    for word in ("worker", "not logged in", user.driver.key):
        assert word in said, f"status does not say {word!r}:\n{said}"
    assert {state_of(user.repo, name) for name in ("first", "second")} == {State.INCOMING}
    assert not any(_closed(user, name) for name in {"first", "second"} - {tried}), "one try is enough to know"
    ended = user.ended(tried)
    for name in ("first", "second"):
        steps = [*user.driver.work(f"{name}.txt"), user.driver.done("Done.")]
        user.server.scripts |= {f"{name}-1": steps, f"{name}-2": steps}
    with user.repo.background("run", env=user.env) as scheduler:
        _await(scheduler, lambda: len(landed(user.repo)) == 2, "with the right key nothing went on")
    assert RIGHT in json.dumps(user.server.calls[-1].headers)
    return f"{ended}; with the right key {_all_landed(user, 'first', 'second')}"


def _await(scheduler: Background, condition: Callable[[], object], message: str, seconds: float = PATIENCE) -> None:
    """Wait for it as long as the scheduler is there."""
    eventually(lambda: condition() or scheduler.process.poll() is not None, seconds, message)
    assert condition(), f"{message}; the scheduler has left:\n{scheduler.text()}"


def _closed(user: User, task: str, number: int = 1) -> bool:
    return (user.entry(task, number) / "outcome.json").exists()


def _rate_limit(user: User) -> str:
    """The server says when it will answer again: nothing is tried before, and everybody can see until when.

    A program that waits for that by itself, in its place, is ended by its time limit.
    """
    user.policy({"timeout": OWN_PATIENCE})
    for name in ("first", "second"):
        user.task(name, [user.driver.limited(RESET)])
    user.run(6, **user.driver.limited_env)
    (tried,) = (name for name in ("first", "second") if _closed(user, name))
    (breaker,) = json.loads(user.repo.layout.breakers.read_bytes()).values()
    wait = clock.parse(breaker["until"]) - clock.parse(breaker["since"])
    until = "until then" if RESET - 65 < wait < RESET + 65 else "it does not say until when"
    steps = json.loads((user.entry(tried) / "exit.json").read_bytes())["steps"]
    itself = "waits by itself; " if any(one["ended_by"] == "timeout" for one in steps) else ""
    return f"{itself}{user.ended(tried)}, {until}"


def _recovers(hurdle: Step, user: User) -> str:
    user.task("work", [hurdle, *user.driver.work(), user.driver.done("Done.")])
    answer = user.octopoid("run", "--until-empty", ok=(0, 6))
    return _all_landed(user, "work") if answer.status == 0 else user.ended("work")


def _down(user: User) -> str:
    """For good: its own retries, then the scheduler's patience."""
    user.task("work", [error(500)])
    user.run(6)
    return user.ended("work")


def _hang(user: User) -> str:
    user.policy({"silence": 3})
    user.task("silent", [hang()])
    user.run(6)
    assert state_of(user.repo, "silent") in (State.BLOCKED, State.INCOMING)
    return user.ended("silent")


def _signalled(number: signal.Signals, user: User) -> str:
    """Somebody kills the program, the shell around it included, in the middle of a tool; octopoid did not."""
    user.task("work", _busy(user), [*user.driver.work(), user.driver.done("Done.")])
    with user.repo.background("run", env=user.env) as scheduler:
        os.killpg(_at_work(user, scheduler)["agent_pid"], number)
        return _goes_on(user, scheduler)


def _runner(user: User) -> str:
    """SIGKILL for the attempt's supervisor."""
    user.task("work", _busy(user), [*user.driver.work(), user.driver.done("Done.")])
    with user.repo.background("run", env=user.env) as scheduler:
        os.kill(_at_work(user, scheduler)["runner_pid"], signal.SIGKILL)
        return _goes_on(user, scheduler)


def _busy(user: User) -> Steps:
    """In the middle of a tool, or where there are none of an answer."""
    if user.driver.run is None:
        return [hang()]
    return [user.driver.run('touch "$OCTOPOID_ATTEMPT_DIR/going"; sleep 611'), text("Slept.")]


def _at_work(user: User, scheduler: Background) -> dict[str, int]:
    """What is written down about the processes of the first attempt, when it has come to its tool."""
    going = user.entry("work") / "going"
    _await(scheduler, going.exists if user.driver.run else lambda: user.server.of("work-1"), "it is not at work")
    found: dict[str, int] = json.loads((user.entry("work") / "pid").read_bytes())
    return found


def _goes_on(user: User, scheduler: Background) -> str:
    _await(scheduler, lambda: _closed(user, "work"), "the attempt did not end")
    if user.outcome("work")["charged"]:
        return user.ended("work")
    _await(scheduler, lambda: state_of(user.repo, "work") in (State.DONE, State.BLOCKED), "nothing more happened")
    return f"uncharged, the next attempt {_all_landed(user, 'work')}"


def _grandchildren(user: User) -> str:
    """What it started in sessions of their own, out of its reach."""
    if user.driver.run is None:
        return "not there: it runs no commands"
    away = user.driver.run("(setsid sleep 612 >/dev/null 2>&1 &); (nohup sleep 612 >/dev/null 2>&1 &); echo begun")
    user.task("work", [away, *user.driver.work(), user.driver.done("Done.")])
    user.run()
    left = [one for one in marked(user.repo.root.parent).values() if "sleep 612" in one]
    return f"{_all_landed(user, 'work')}, {'none left' if not left else f'{len(left)} left'}"


def _long_prompt(user: User) -> str:
    """More than an argument of a program may have (128 KiB); its end counts."""
    body = "Background.\n\n" + "lorem ipsum dolor sit amet " * (300 * 1024 // 27) + "\n\nThe end of it."
    user.task("work", [*user.driver.work(), user.driver.done("Done.")], body=body)
    user.run()
    assert "The end of it." in user.asked("work-1")
    return _all_landed(user, "work")


def _eight(user: User) -> str:
    """All begin at the same time, in a home that the program has never seen."""
    names = [f"task{number}" for number in range(8)]
    user.policy({"instances": 8}, max_agents=8)
    for name in names:
        user.task(name, *[[*user.driver.work(f"{name}.txt"), user.driver.done("Done.")]] * 3)
    with user.repo.background("run", env=user.env) as scheduler:
        _await(scheduler, lambda: len(landed(user.repo)) == len(names), "not all of them landed")
    return f"8 of 8 {_all_landed(user, *names)}"


def _missing(user: User) -> str:
    user.policy({"command": ["/no/such/program"]})
    if _refused(user, "command"):
        return "not there: it comes with octopoid"
    user.task("work", [])
    user.run(6)
    return user.ended("work")


Case = Callable[[User], str]

CASES: dict[str, Case] = {
    "success": _success,
    "question": _question,
    "no change": _no_change,
    "all tools denied": _denied,
    "reviewer tries to write": _reviewer,
    "turn limit": _turns,
    "budget limit": _budget,
    "wrong key (401)": _wrong_key,
    "429 with reset": _rate_limit,
    "500, then recovery": partial(_recovers, error(500, times=1)),
    "500 for good": _down,
    "dropped stream": partial(_recovers, cut(times=1)),
    "hang": _hang,
    "SIGTERM in a tool": partial(_signalled, signal.SIGTERM),
    "SIGKILL": partial(_signalled, signal.SIGKILL),
    "runner killed": _runner,
    "grandchildren left": _grandchildren,
    "prompt of 300 KiB": _long_prompt,
    "eight at once": _eight,
    "program missing": _missing,
}
"""By the names that the table in docs/agents.md has for them."""

PROMISES: dict[str, str] = {
    "success": "landed",
    "question": "waits, then landed in the same session",
    "no change": "charged: no changes",
    "all tools denied": "charged: no changes, denials told",
    "reviewer tries to write": "kept out, in the log",
    "turn limit": "charged: turn limit",
    "budget limit": "charged: budget",
    "wrong key (401)": "uncharged: not logged in; with the right key landed",
    "429 with reset": "uncharged: rate limit, until then",
    "500, then recovery": "landed",
    "500 for good": "uncharged: no answer",
    "dropped stream": "landed",
    "hang": "charged: silence",
    "SIGTERM in a tool": "uncharged, the next attempt landed",
    "SIGKILL": "uncharged, the next attempt landed",
    "runner killed": "uncharged, the next attempt landed",
    "grandchildren left": "landed, none left",
    "prompt of 300 KiB": "landed",
    "eight at once": "8 of 8 landed",
    "program missing": "uncharged: missing",
}
"""What comes out where a driver does not say otherwise."""


def promised(driver: Driver, case: str) -> str:
    """The word that has to come out."""
    return driver.differs.get(case, PROMISES[case])
