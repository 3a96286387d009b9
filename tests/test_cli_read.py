"""The reading commands, run as a user runs them, on queues made by hand. Nothing here starts a scheduler."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from harness import OCTOPOID, PACKAGE, PROJECT, Repo, commit, drop, eventually, git

from octopoid import __version__, attempts, clock, config, gates, lifecycle, locks, results, schemas, views
from octopoid.cli.app import COMMANDS
from octopoid.cli.fmt import tidied
from octopoid.model import Opening, Outcome, Usage
from octopoid.states import State

POLICY = """\
version: 1
base: main
checks: [{name: tests, run: "true"}]
gates: [checks, human]
agents:
  implementer: {role: implementer, adapter: command, command: ["true"]}
"""
ALL = ("incoming", "claimed", "provisional", "done", "blocked", "archive/done", "archive/cancelled", ".moving")


@pytest.fixture
def queue(repo: Repo) -> Repo:
    """A repository with an empty queue and a policy that needs a person's yes."""
    for name in ALL:
        (repo.layout.queue / name).mkdir(parents=True)
    for folder in (repo.layout.run, repo.layout.attempts):
        folder.mkdir()
    repo.layout.agents_yaml.write_text(POLICY)
    return repo


def submitted(repo: Repo, task: str, files: Mapping[str, str] = PACKAGE) -> str:
    """A task in `provisional` with a candidate, as an attempt leaves it. Returns the candidate's sha."""
    base = git(repo, "rev-parse", "HEAD")
    git(repo, "checkout", "-q", "--detach")
    candidate = commit(repo, files, "The work")
    git(repo, "checkout", "-q", "main")
    drop(repo, task, f"# {task}\n\nDo it.\n")
    now = time.time() - 30
    opening = Opening(
        "attempt",
        now,
        role="implementer",
        agent="implementer",
        stage="implement",
        attempt=1,
        base="main",
        base_sha=base,
    )
    begun = attempts.begin(repo.layout, task, opening, {"output.log": b"working\n", "pid": b"{}"})
    lifecycle.claim(repo.layout, task, begun.number, "implementer", now)
    outcome = Outcome(
        "attempt", "ok", False, "", "did it", now + 5, base, base, candidate,
        usage=Usage(usd=0.5), verb="submit", leaves="claimed", enters="provisional",
    )  # fmt: skip
    lifecycle.settle(repo.layout, task, begun.number, outcome, now + 5)
    return candidate


def blocked(repo: Repo, task: str, reason: str = "question", detail: str = "which one?") -> None:
    drop(repo, task, f"# {task}\n")
    lifecycle.block(repo.layout, task, State.INCOMING, reason, detail, time.time())


def check_schema(schema: Any, value: Any, where: str = "$") -> None:
    """Enough of JSON Schema for ours: it fails on every word that it does not know."""
    words = set(schema) - {"$schema", "title", "description", "minimum", "minItems", "minLength", "minProperties"}
    if "anyOf" in schema:
        problems = []
        for one in schema["anyOf"]:
            try:
                check_schema(one, value, where)
                return
            except AssertionError as error:
                problems.append(str(error))
        raise AssertionError(f"{where}: none of {problems}")
    if "const" in schema or "enum" in schema:
        assert value in schema.get("enum", [schema.get("const")]), f"{where}: {value!r}"
        return
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    kind = schema["type"]
    if kind in ("integer", "number"):
        assert isinstance(value, int if kind == "integer" else int | float) and not isinstance(value, bool), where
        return
    assert isinstance(value, kinds[kind]), f"{where}: {value!r} is no {kind}"
    if kind == "object":
        more = schema.get("additionalProperties")
        known = schema.get("properties", {})
        assert set(schema.get("required", ())) <= set(value), f"{where}: {set(schema['required']) - set(value)} missing"
        for key, one in value.items():
            assert key in known or isinstance(more, dict), f"{where}.{key}: not in the schema"
            check_schema(known.get(key, more), one, f"{where}.{key}")
    if kind == "array":
        for at, one in enumerate(value):
            check_schema(schema["items"], one, f"{where}[{at}]")
    assert words <= {"type", "properties", "required", "additionalProperties", "items", "pattern"}, words


def valid(kind: str, value: Any) -> Any:
    check_schema(schemas.of(kind), value)
    return value


def on_terminal(repo: Repo, *args: str, columns: int = 80, env: Mapping[str, str] = {}, until: str = "") -> str:
    """What the program draws on a terminal; with `until` Ctrl-C is typed when that was drawn."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    argv, where = [str(OCTOPOID), *args], {**repo.env, "TERM": "xterm-256color", **env}
    process = subprocess.Popen(
        argv, cwd=repo.root, env=where, stdin=slave, stdout=slave, stderr=subprocess.DEVNULL, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C reaches it
    )  # fmt: skip
    os.close(slave)
    seen = b""
    try:
        while True:
            try:
                data = os.read(master, 65536)
            except OSError:
                break  # Linux: EIO at the end
            if not data:
                break
            seen += data
            if until and until.encode() in seen:
                os.write(master, b"\x03")
                until = ""
    finally:
        process.wait(20)
        os.close(master)
    assert process.returncode == 0, seen
    return seen.decode()


# --- the door ---


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_version(repo: Repo, flag: str) -> None:
    assert repo.octopoid(flag).out == f"octopoid {__version__}\n"


def test_module_is_the_same_program(repo: Repo) -> None:
    argv = [sys.executable, "-m", "octopoid", "--version"]
    done = subprocess.run(argv, env=repo.env, capture_output=True, text=True, check=True)
    assert done.stdout == f"octopoid {__version__}\n"


def test_help_names_every_command_without_loading_any(repo: Repo) -> None:
    text = repo.octopoid("--help").out
    assert [name for name in COMMANDS if not re.search(rf"^  {name} +\S", text, re.MULTILINE)] == []
    assert "\x1b" not in text


@pytest.mark.parametrize(
    "name", [name for name in COMMANDS if (PROJECT / f"octopoid/cli/{COMMANDS[name].module}.py").exists()]
)
def test_help_of_each_command_has_an_example(repo: Repo, name: str) -> None:
    text = repo.octopoid(name, "--help").out
    if "COMMAND [ARGS]" in text:
        names = re.findall(r"^  ([a-z]+)  ", text.partition("Commands:")[2], re.MULTILINE)
        text = "".join(repo.octopoid(name, one, "--help").out for one in names)
    assert (
        "Examples:\n" in text
        and f"octopoid {name if name != 'status' else ''}".strip() in text.partition("Examples:")[2]
    )
    assert "--install-completion" not in text


def test_a_wrong_command_is_told_the_nearest_one(repo: Repo) -> None:
    answer = repo.octopoid("lst", ok=(2,))
    assert "no such command: lst; did you mean `list`?" in answer.err and not answer.out


def test_no_repository_and_no_queue(repo: Repo, tmp_path: Path) -> None:
    assert "not inside a git repository" in repo.octopoid(cwd=tmp_path, ok=(3,)).err
    assert "octopoid init" in repo.octopoid("list", ok=(3,)).err


def test_the_root_can_be_named(queue: Repo, tmp_path: Path) -> None:
    drop(queue, "first", "# First\n")
    assert "first" in queue.octopoid("--root", queue.root, "list", cwd=tmp_path).out
    assert "first" in queue.octopoid("list", cwd=tmp_path, env={"OCTOPOID_ROOT": str(queue.root)}).out


def test_from_a_worktree_the_real_root_is_found(queue: Repo, tmp_path: Path) -> None:
    drop(queue, "first", "# First\n")
    git(queue, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    (tmp_path / "linked/.octopoid").mkdir()
    assert "first" in queue.octopoid("list", cwd=tmp_path / "linked").out


def test_completion_scripts_and_names(queue: Repo) -> None:
    drop(queue, "add-login", "# Login\n")
    assert "_OCTOPOID_COMPLETE" in queue.octopoid("--show-completion", "bash").out

    def complete(words: str) -> list[str]:
        env = {"_OCTOPOID_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
        return queue.octopoid(env=env).out.split()

    assert {"status", "stop", "show", "schema"} <= set(complete("octopoid s"))
    assert complete("octopoid show ad") == ["add-login"]
    assert "provisional" in complete("octopoid list --state ")


def test_a_reader_that_has_enough_is_no_error(queue: Repo) -> None:
    for number in range(200):
        drop(queue, f"task-{number}", f"# Number {number} {'x' * 500}\n")
    argv = ["sh", "-c", f"'{OCTOPOID}' list | head -n 1"]
    done = subprocess.run(argv, cwd=queue.root, env=queue.env, capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1 and "Traceback" not in done.stderr and "bug" not in done.stderr


def test_a_full_disk_under_stdout_is_told(queue: Repo) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [OCTOPOID, "paths"], cwd=queue.root, env=queue.env, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1 and "No space left" in done.stderr and "bug" not in done.stderr


# --- status ---


def test_status_of_an_empty_queue(queue: Repo) -> None:
    answer = queue.octopoid()
    assert "incoming 0" in answer.out and "not running" in answer.out
    assert "octopoid enqueue" in answer.err.splitlines()[-1]
    status = valid("status", queue.octopoid("status", "--json").json())
    assert status["counts"] == {"incoming": 0, "claimed": 0, "provisional": 0, "done": 0, "blocked": 0, "invalid": 0}
    assert status["needs_you"] == [] and status["scheduler"]["running"] is False


SHORT = (
    *(("status",), ("status", "--json"), ("list",), ("list", "--state", "incoming"), ("list", "--ready", "--json")),
    ("list", "--state", "blocked", "--state", "done", "--json"),
)


@pytest.mark.parametrize("args", SHORT, ids=" ".join)
def test_the_way_without_a_parser_says_the_same(queue: Repo, args: tuple[str, ...]) -> None:
    """An option before the command takes the other way."""
    drop(queue, "first", "# First\n")
    drop(queue, "old", "# Old\n", state=State.DONE)
    drop(queue, "broken", "---\npriorty: P1\n---\n")
    blocked(queue, "asked")
    short, long = queue.octopoid(*args), queue.octopoid("--color", "never", *args)
    assert (short.out, short.err) == (long.out, long.err)


@pytest.mark.parametrize(
    "args", [("run", "--once"), ("run", "--until-empty"), ("run", "--once", "--until-empty")], ids=" ".join
)
def test_run_without_a_parser_does_the_same(queue: Repo, args: tuple[str, ...]) -> None:
    blocked(queue, "asked")
    queue.octopoid("run", "--once")
    short, long = queue.octopoid(*args, ok=None), queue.octopoid("--color", "never", *args, ok=None)
    assert short == long and short.status == (2 if len(args) == 3 else 6 if "--until-empty" in args else 0)


def test_bare_is_status(queue: Repo) -> None:
    drop(queue, "first", "# First\n")
    assert queue.octopoid() == queue.octopoid("status") == queue.octopoid("--color", "never")


def test_status_puts_first_what_needs_a_person(queue: Repo) -> None:
    submitted(queue, "judge-me")
    blocked(queue, "asked", detail="\x1b[31mwhich one?\nor both?")
    drop(queue, "first", "# First\n")
    drop(queue, "later", "---\ndepends_on: [first]\n---\n# Later\n")
    drop(queue, "broken", "---\npriorty: P1\n---\n# Broken\n")
    attempt = Opening("approve", time.time(), by="person")
    attempts.begin(queue.layout, "first", attempt)
    status = valid("status", queue.octopoid("status", "--json").json())
    needs = {(one["task"], one["reason"]): one for one in status["needs_you"]}
    assert needs["asked", "question"]["command"] == "octopoid answer asked -m TEXT"
    assert needs["broken", "invalid"]["detail"].startswith("line 2, column 1: unknown key")
    assert needs[None, "scheduler"]["command"] == "octopoid run"
    assert {one["id"] for one in status["waiting"]} == {"first", "later", "judge-me"}
    assert next(one for one in status["waiting"] if one["id"] == "later")["detail"] == "waiting on first"
    assert status["counts"] | {"incoming": 3, "provisional": 1, "blocked": 1, "invalid": 1} == status["counts"]
    text = queue.octopoid("status").out
    assert text.startswith("needs you") and "\x1b" not in text and re.search(r"question +which one\? or both\?", text)
    assert "broken.md:2:1" in text and "did you mean `priority`?" in text


def test_a_candidate_that_waits_for_a_person(queue: Repo) -> None:
    candidate = submitted(queue, "judge-me")
    key = {"gate": "checks", "candidate": candidate, "tree": "t" * 40}
    status = queue.octopoid("status", "--json").json()
    assert [one for one in status["needs_you"] if one["reason"] == "human"] == []
    opening = Opening("gate", time.time(), key=gates.checks_key(config.load(queue.layout.home).checks), **key)
    outcome = Outcome("gate", "ok", False, "", "", time.time(), candidate=candidate, verdict="accept")
    attempts.begin(queue.layout, "judge-me", opening, outcome=outcome)
    status = valid("status", queue.octopoid("status", "--json").json())
    need = next(one for one in status["needs_you"] if one["reason"] == "human")
    assert need["command"] == "octopoid approve judge-me"
    assert not [one for one in status["needs_you"] if one["reason"] == "scheduler"], "it waits for nobody else"
    task = queue.octopoid("show", "judge-me", "--json").json()["task"]
    assert (task["reason"], task["candidate"], task["usd"], task["attempts"]) == ("human", candidate, 0.5, 1)
    assert "not done: judge-me" in queue.octopoid("wait", "judge-me", ok=(6,)).err


def test_a_landing_that_the_users_checkout_holds_up(queue: Repo) -> None:
    queue.layout.agents_yaml.write_text(POLICY.replace("[checks, human]", "[checks]"))
    candidate = submitted(queue, "judge-me")
    key = gates.checks_key(config.load(queue.layout.home).checks)
    opening = Opening("gate", time.time(), gate="checks", candidate=candidate, tree="t" * 40, key=key)
    outcome = Outcome("gate", "ok", False, "", "", time.time(), candidate=candidate, verdict="accept")
    attempts.begin(queue.layout, "judge-me", opening, outcome=outcome)
    assert queue.octopoid("status", "--json").json()["needs_you"][0]["reason"] == "scheduler"
    git(queue, "checkout", "-q", "-b", "other")
    commit(queue, {"README.md": "# One\n"})
    git(queue, "checkout", "-q", "main")
    commit(queue, {"README.md": "# Two\n"})
    git(queue, "merge", "-q", "other", ok=(1,))
    status = valid("status", queue.octopoid("status", "--json").json())
    need = status["needs_you"][0]
    assert (need["task"], need["reason"], need["command"]) == ("judge-me", "landing", "git status")
    assert "merge in progress" in need["detail"]
    assert "merge in progress" in queue.octopoid("wait", "judge-me", ok=(6,)).out


def test_a_running_attempt(queue: Repo) -> None:
    drop(queue, "busy", "# Busy\n")
    now = time.time() - 100
    files = {"output.log": b"hello\n", "pid": json.dumps({"runner_pid": 7, "agent_pid": 8}).encode()}
    opening = Opening("attempt", now, role="implementer", agent="worker", attempt=1)
    begun = attempts.begin(queue.layout, "busy", opening, files, locked=True)
    lifecycle.claim(queue.layout, "busy", begun.number, "worker", now)
    assert begun.lock is not None
    status = valid("status", queue.octopoid("status", "--json").json())
    run = status["running"][0]
    assert (run["task"], run["agent"], run["role"], run["attempt"], run["pid"]) == (
        "busy",
        "worker",
        "implementer",
        1,
        8,
    )
    assert 100 <= run["elapsed_s"] < 200 and run["silent_s"] < 60 and run["usd"] is None
    assert status["waiting"] == []
    assert re.search(r"^  busy  worker  attempt 1, for 1m", queue.octopoid().out, re.MULTILINE)
    os.close(begun.lock)
    status = queue.octopoid("status", "--json").json()
    assert status["running"] == [] and status["waiting"][0]["id"] == "busy", "nobody holds its lock"


def test_a_scheduler_is_one_that_holds_the_lock(queue: Repo) -> None:
    drop(queue, "first", "# First\n")
    queue.layout.scheduler_pid.write_text('{"pid": 4711}')
    queue.layout.last_tick.write_text("2026-11-21T09:00:00.000Z\n")
    scheduler = queue.octopoid("status", "--json").json()["scheduler"]
    assert (scheduler["running"], scheduler["pid"], scheduler["last_tick"]) == (False, None, "2026-11-21T09:00:00.000Z")
    lock = locks.take(queue.layout.scheduler_lock)
    assert lock is not None
    status = queue.octopoid("status", "--json").json()
    assert (status["scheduler"]["running"], status["scheduler"]["pid"]) == (True, 4711)
    assert status["needs_you"] == []
    assert "scheduler: running (pid 4711)" in queue.octopoid().out
    os.close(lock)


def test_pauses_and_breakers_are_shown(queue: Repo) -> None:
    drop(queue, "first", "# First\n")
    queue.layout.pause.mkdir()
    (queue.layout.pause / "all").touch()
    (queue.layout.pause / "agent-worker").touch()
    until = clock.iso(time.time() + 60)
    breaker = {"why": "no quota", "since": clock.iso(time.time()), "until": until, "trips": 1}
    queue.layout.breakers.write_text(json.dumps({"agent:worker": breaker}))
    status = valid("status", queue.octopoid("status", "--json").json())
    assert status["scheduler"]["paused"] is True and status["scheduler"]["paused_agents"] == ["worker"]
    (shown,) = status["scheduler"]["breakers"]
    assert {"name": "agent:worker", "why": "no quota", "until": until}.items() <= shown.items()
    assert status["waiting"][0]["reason"] == "paused"
    text = queue.octopoid().out
    assert "octopoid resume --agent worker" in text and "no quota" in text
    queue.layout.breakers.write_text("{")
    assert queue.octopoid("status", "--json").json()["scheduler"]["config_problem"]


def test_a_policy_that_is_refused_is_shown(queue: Repo) -> None:
    """The scheduler notes why; a policy file that is newer than the note is read again (LESSONS 48)."""
    queue.layout.last_good.mkdir()
    note = queue.layout.last_good / "problem.txt"
    note.write_text("agents.yaml:3:1: unknown key `agnts`\n")
    ahead = time.time() + 100
    os.utime(note, (ahead, ahead))
    status = queue.octopoid("status", "--json").json()
    assert status["scheduler"]["config_problem"] == "agents.yaml:3:1: unknown key `agnts`"
    assert status["needs_you"][0]["command"] == "octopoid config check"
    os.utime(note, (1, 1))
    assert queue.octopoid("status", "--json").json()["scheduler"]["config_problem"] is None
    queue.layout.agents_yaml.write_text(POLICY.replace("gates:", "gats:"))
    assert "gats" in queue.octopoid("status", "--json").json()["scheduler"]["config_problem"]
    queue.layout.agents_yaml.unlink()
    assert "missing" in queue.octopoid("status", "--json").json()["scheduler"]["config_problem"]


def test_what_landed_last(queue: Repo) -> None:
    for number in range(7):
        drop(queue, f"task-{number}", "# Task\n", state=State.PROVISIONAL)
        outcome = Outcome(
            "finish", "ok", False, "", "", 1e9 + number, verb="finish", leaves="provisional", enters="done"
        )
        lifecycle.record(queue.layout, f"task-{number}", Opening("finish", 1e9 + number), outcome, 1e9 + number)
    lifecycle.reopen(queue.layout, "task-6", "no", 1e9 + 10)
    status = valid("status", queue.octopoid("status", "--json").json())
    assert [one["task"] for one in status["landed"]] == ["task-5", "task-4", "task-3", "task-2", "task-1"]
    assert status["counts"]["done"] == 6


def test_watch_needs_a_terminal(queue: Repo) -> None:
    assert "terminal" in queue.octopoid("status", "--watch", ok=(2,)).err


def test_watch_draws_until_ctrl_c(queue: Repo) -> None:
    drop(queue, "first", "# First\n")
    assert "first" in on_terminal(queue, "status", "--watch", until="not running")


@pytest.mark.parametrize("columns", [80, 200])
def test_a_terminal_gets_lines_that_fit(queue: Repo, columns: int) -> None:
    drop(queue, "a-task-with-quite-a-long-name-that-goes-on", f"# {'A very long title ' * 20}\n")
    blocked(queue, "asked", detail="which one of the many possibilities that there are? " * 6)
    for args in (("status",), ("list",)):
        text = on_terminal(queue, *args, columns=columns)
        assert "\x1b[" in text
        lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
        assert all(len(line) <= columns for line in lines if not line.startswith("    ")), lines
        assert "…" in text


def test_colours_can_be_forbidden_and_forced(queue: Repo) -> None:
    drop(queue, "first", "# First\n")
    assert "\x1b[" not in on_terminal(queue, "list", env={"NO_COLOR": "1"})
    assert "\x1b[" not in on_terminal(queue, "--color", "never", "list")
    assert "\x1b[" in queue.octopoid("--color", "always", "list").out


# --- list and show ---


def test_list_is_one_line_per_task_and_cuts_nothing(queue: Repo) -> None:
    title = "A very long title " * 12
    drop(queue, "long", f"---\npriority: P0\n---\n# {title}\n")
    drop(queue, "waits", "---\ndepends_on: [long]\n---\n# Waits\n")
    blocked(queue, "asked")
    drop(queue, "old", "# Old\n", state=State.DONE)
    lines = queue.octopoid("list").out.splitlines()
    cells = [re.split(r"  +", line) for line in lines]
    assert cells == [
        ["long", "incoming", "P0", title.strip(), "ready"],
        ["waits", "incoming", "P2", "Waits", "dependencies: waiting on long"],
        ["asked", "blocked", "P2", "asked", "question: which one?"],
    ]


def test_list_filters(queue: Repo) -> None:
    drop(queue, "first", "---\nlabels: [ui, api]\n---\n# First\n")
    drop(queue, "later", "---\nlabels: [ui]\ndepends_on: [first]\n---\n# Later\n")
    drop(queue, "old", "# An old one\n", state=State.DONE)
    drop(queue, "older", "# An older one\n", state=State.ARCHIVED)
    drop(queue, "gone", "# Given up\n", state=State.CANCELLED)
    drop(queue, "broken", "---\npriorty: P1\n---\n# Broken\n")
    drop(queue, "old", "# A copy\n")

    def ids(*args: str) -> list[str]:
        return [one["id"] for one in valid("list", queue.octopoid("list", "--json", *args).json())["tasks"]]

    assert ids() == ["first", "later", "broken"]
    assert ids("--ready") == ["first"]
    assert ids("--label", "ui") == ["first", "later"] and ids("--label", "api") == ["first"]
    assert ids("--state", "done") == ["old"]
    assert ids("--state", "archived", "--state", "cancelled") == ["gone", "older"]
    assert ids("--state", "incoming") == ["first", "later", "broken"]
    found = queue.octopoid("list", "--state", "invalid", "--json").json()
    assert found["tasks"] == [] and [Path(one["path"]).name for one in found["invalid"]] == ["broken.md", "old.md"]
    text = queue.octopoid("list", "--state", "invalid").out
    assert "duplicate" in text and "line 2, column 1" in text
    assert "An old one" in queue.octopoid("list", "--state", "done").out
    assert "is not one of" in queue.octopoid("list", "--state", "todo", ok=(2,)).err


def test_show(queue: Repo) -> None:
    candidate = submitted(queue, "judge-me")
    found = valid("show", queue.octopoid("show", "judge", "--json").json())
    assert (found["task"]["id"], found["body"], found["task"]["candidate"]) == ("judge-me", "Do it.", candidate)
    assert [(one["number"], one["kind"], one["class"]) for one in found["entries"]] == [(1, "attempt", "ok")]
    text = queue.octopoid("show", "judge-me").out
    assert "Do it." in text and candidate in text and "attempt 1" in text and "$0.50" in text
    assert "no task 'nothing'" in queue.octopoid("show", "nothing", ok=(3,)).err


def test_show_of_what_is_done_or_broken(queue: Repo) -> None:
    drop(queue, "old", "# An old one\n\nText.\n", state=State.ARCHIVED)
    drop(queue, "broken", "---\npriorty: P1\nrle: x\n---\n# Broken\n")
    found = valid("show", queue.octopoid("show", "old", "--json").json())
    assert (found["task"]["state"], found["body"]) == ("archived", "Text.")
    text = queue.octopoid("show", "broken").out
    assert "priorty" in text and "line 3, column 1: unknown key `rle`" in text
    assert valid("show", queue.octopoid("show", "broken", "--json").json())["task"]["reason"] == "invalid"


def test_titles_cannot_talk_to_the_terminal(queue: Repo) -> None:
    drop(queue, "evil", "# Nice\n\nText \x1b]0;owned\x07 \x1b[2J \u202egnp.exe\n")
    text = queue.octopoid("show", "evil").out
    assert "\x1b" not in text and "\x07" not in text and "\u202e" not in text and "owned" not in text


def test_an_ambiguous_beginning(queue: Repo) -> None:
    drop(queue, "add-login", "# Login\n")
    drop(queue, "add-logout", "# Logout\n")
    assert "add-login, add-logout" in queue.octopoid("show", "add-", ok=(2,)).err


def test_why(queue: Repo) -> None:
    drop(queue, "first", "# First\n")
    drop(queue, "later", "---\ndepends_on: [first]\n---\n# Later\n")
    answer = queue.octopoid("why", "later")
    assert "waiting on first" in answer.out.splitlines()[0]
    assert re.search(r"^STOP  dependencies +waiting on first +octopoid why first$", answer.out, re.MULTILINE)
    assert re.search(r"^ok    paused", answer.out, re.MULTILINE)
    found = valid("why", queue.octopoid("why", "later", "--json").json())
    assert [one["name"] for one in found["guards"] if not one["ok"]] == ["dependencies"]
    drop(queue, "old", "# Old\n", state=State.DONE)
    assert "done" in queue.octopoid("why", "old").out


# --- evidence ---


def test_log(queue: Repo) -> None:
    drop(queue, "first", "# First\n")
    assert "nothing ran" in queue.octopoid("log", "first", ok=(3,)).err
    dirty = b"\x1b[31mred\x1b[0m\r50%\r\n" + b"\xff\xfe\n"
    opening = Opening("attempt", time.time(), role="implementer", agent="worker", attempt=1)
    outcome = Outcome("attempt", "task", True, "failed", "no changes", time.time())
    attempts.begin(queue.layout, "first", opening, {"output.log": dirty, "pid": b"{}"}, outcome=outcome)
    attempts.begin(queue.layout, "first", Opening("release", time.time(), by="person"))
    attempts.begin(queue.layout, "first", opening._replace(attempt=2), {"output.log": b"second\n"}, outcome=outcome)
    raw = subprocess.run(
        [OCTOPOID, "log", "first", "--attempt", "1"], cwd=queue.root, env=queue.env, capture_output=True
    )
    assert raw.stdout == dirty and b"failed: no changes" in raw.stderr
    assert queue.octopoid("log", "first").out == "second\n"
    text = on_terminal(queue, "log", "first", "--attempt", "1")
    assert text.replace("\r\n", "\n") == "red\n50%\n\ufffd\ufffd\n"
    assert "there are: 1, 3" in queue.octopoid("log", "first", "--attempt", "2", ok=(3,)).err


def test_log_follows_until_the_attempt_is_over(queue: Repo) -> None:
    drop(queue, "first", "# First\n")
    with queue.background("log", "-f", "first") as follower:
        eventually(lambda: "waiting for its first attempt" in follower.text())
        opening = Opening("attempt", time.time(), role="implementer", attempt=1)
        begun = attempts.begin(queue.layout, "first", opening, {"output.log": b"one\n"}, locked=True)
        assert begun.lock is not None
        eventually(lambda: "one\n" in follower.text())
        with (begun.path / "output.log").open("ab") as log:
            log.write(b"two\n")
        eventually(lambda: "two\n" in follower.text())
        assert follower.process.poll() is None
        attempts.close(queue.layout, "first", begun.number, Outcome("attempt", "ok", False, "", "done so", time.time()))
        os.close(begun.lock)
        assert follower.process.wait(10) == 0
        assert "done so" in follower.text()


def test_diff_of_a_candidate(queue: Repo) -> None:
    drop(queue, "fresh", "# Fresh\n")
    assert "no candidate yet" in queue.octopoid("diff", "fresh", ok=(3,)).err
    submitted(queue, "judge-me")
    commit(queue, {"README.md": "# Moved on\n"}, "The base moves on")
    answer = queue.octopoid("diff", "judge-me")
    assert "+def add(" in answer.out and "README.md" not in answer.out and "\x1b" not in answer.out
    assert "octopoid approve judge-me" in answer.err.splitlines()[-1]
    assert "2 files changed" in queue.octopoid("diff", "judge-me", "--stat").out


def test_diff_of_what_landed(queue: Repo) -> None:
    candidate = submitted(queue, "judge-me")
    before = commit(queue, {"README.md": "# Moved on\n"}, "The base moves on")
    git(queue, "merge", "-q", "--no-ff", "-m", "Land it", candidate)
    result = git(queue, "rev-parse", "HEAD")
    now = time.time()
    opening = Opening("landing", now, base="main", base_sha=before, onto=before, candidate=candidate, result_sha=result)
    begun = attempts.begin(queue.layout, "judge-me", opening)
    outcome = Outcome("landing", "ok", False, "", "landed", now, verb="land", leaves="provisional", enters="done")
    lifecycle.settle(queue.layout, "judge-me", begun.number, outcome, now)
    answer = queue.octopoid("diff", "judge-me")
    assert "+def add(" in answer.out and "README.md" not in answer.out and "landed on main" in answer.err
    task = queue.octopoid("show", "judge-me", "--json").json()["task"]
    assert (task["state"], task["landed_commit"]) == ("done", result)


def test_events(queue: Repo) -> None:
    assert queue.octopoid("events").out == ""
    blocked(queue, "asked")
    lifecycle.release(queue.layout, "asked", "main", "go on", time.time())
    lines = queue.octopoid("events").out.splitlines()
    assert [re.split(r"  +", line.strip())[2:5] for line in lines] == [
        ["enqueue", "asked", "· → incoming"],
        ["block", "asked", "incoming → blocked"],
        ["release", "asked", "blocked → incoming"],
    ]
    found = valid("events", queue.octopoid("events", "--since", "2", "--json").json())
    assert [(one["seq"], one["event"], one["by"]) for one in found["events"]] == [(3, "release", "person")]


def test_events_follow(queue: Repo) -> None:
    blocked(queue, "asked")
    with queue.background("events", "-f", "--json") as follower:
        eventually(lambda: follower.text().count("\n") == 2)
        lifecycle.release(queue.layout, "asked", "main", "", time.time())
        eventually(lambda: follower.text().count("\n") == 3)
        seen = [json.loads(line) for line in follower.text().splitlines()]
        assert [one["event"] for one in seen] == ["enqueue", "block", "release"]
        assert follower.process.poll() is None


# --- wait ---


def test_wait_for_what_has_ended(queue: Repo) -> None:
    drop(queue, "old", "# Old\n", state=State.DONE)
    drop(queue, "gone", "# Gone\n", state=State.CANCELLED)
    drop(queue, "first", "# First\n")
    blocked(queue, "asked")
    assert queue.octopoid("wait", "old").out == "old  done\n"
    assert "asked  question: which one?" in queue.octopoid("wait", "old", "asked", ok=(6,)).out
    assert "gone  cancelled" in queue.octopoid("wait", "gone", ok=(6,)).out
    assert "no task 'nothing'" in queue.octopoid("wait", "old", "nothing", ok=(3,)).err
    assert queue.octopoid("wait", "first", "old", "--any").out == "old  done\n"
    assert "time is over" in queue.octopoid("wait", "first", "--timeout", "0.2", ok=(124,)).err


MOVES: tuple[tuple[Callable[[Repo], object], int, str], ...] = (
    (
        lambda repo: repo.layout.task_file(State.INCOMING, "first").rename(repo.layout.task_file(State.DONE, "first")),
        0,
        "done",
    ),
    (
        lambda repo: lifecycle.block(repo.layout, "first", State.INCOMING, "failed", "3 tries", 1e9),
        6,
        "failed: 3 tries",
    ),
    (lambda repo: lifecycle.cancel(repo.layout, "first", "main", 1e9), 6, "cancelled"),
    (lambda repo: repo.layout.task_file(State.INCOMING, "first").unlink(), 6, "gone"),
)


@pytest.mark.parametrize(("move", "status", "said"), MOVES, ids=["done", "blocked", "cancelled", "vanished"])
def test_wait_wakes(queue: Repo, move: Callable[[Repo], object], status: int, said: str) -> None:
    drop(queue, "first", "# First\n")
    drop(queue, "signal", "# Signal\n", state=State.DONE)
    with queue.background("wait", "signal", "first") as waiter:
        eventually(lambda: "signal  done" in waiter.text() or waiter.process.poll() is not None)
        move(queue)
        assert waiter.process.wait(5) == status
        assert said in waiter.text()


# --- files ---


def test_lint(queue: Repo, tmp_path: Path) -> None:
    drop(queue, "first", "# First\n")
    assert "ok" in queue.octopoid("lint").err
    path = drop(queue, "broken", "---\npriorty: P1\n---\n# Broken\n")
    drop(queue, "lost", "---\ndepends_on: [frist]\n---\n# Lost\n")
    queue.layout.agents_yaml.write_text(POLICY.replace("checks:", "cheks:", 1))
    answer = queue.octopoid("lint", ok=(4,))
    assert f"{path}:2:1: unknown key `priorty`\n  did you mean `priority`?" in answer.out
    assert "lost.md:2:14: depends on `frist`" in answer.out and "agents.yaml:3:1" in answer.out
    found = valid("lint", queue.octopoid("lint", "--json", ok=(4,)).json())
    assert len(found["problems"]) == 3
    assert "lost.md:2:14" in queue.octopoid("lint", "lost", ok=(4,)).out
    assert "agents.yaml:3:1" in queue.octopoid("lint", ".octopoid/agents.yaml", ok=(4,)).out
    draft = tmp_path / "draft.md"
    draft.write_text("---\npriorty: P1\n---\n# x\n")
    assert "draft.md:2:1" in queue.octopoid("lint", draft, cwd=tmp_path, ok=(4,)).out
    assert "no file" in queue.octopoid("lint", "missing.md", ok=(3,)).err


# The blanks at the ends of lines are what this is about.
UNTIDY = "---\n# kept\npriority:   P1  \n---\n\n\n# Title  \n\ntext   \nline  \n\n```\ncode   \n```\n\n\n"
TIDY = "---\n# kept\npriority:   P1\n---\n\n# Title  \n\ntext  \nline  \n\n```\ncode   \n```\n"


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (crlf(UNTIDY), crlf(TIDY)),
        (b"# Title", b"# Title\n"),
        (b"\n\n# Title\n\n\n", b"# Title\n"),
        (b"---\npriority: P1\n---\n# Title\n", b"---\npriority: P1\n---\n\n# Title\n"),
        (
            b"# T\n\n\n<!-- octopoid:feedback -->\nx   \n<!-- octopoid:end -->\n",
            b"# T\n\n<!-- octopoid:feedback -->\nx   \n<!-- octopoid:end -->\n",
        ),
    ],
)
def test_what_tidy_means(before: bytes, after: bytes) -> None:
    assert tidied(before) == after
    assert tidied(after) == after


def test_fmt(queue: Repo) -> None:
    path = drop(queue, "first", crlf(UNTIDY))
    mtime = path.stat().st_mtime_ns
    drop(queue, "busy", UNTIDY, state=State.CLAIMED)
    assert queue.octopoid("fmt", "--check", ok=(1,)).out == f"{path}\n" and path.read_bytes() == crlf(UNTIDY)
    assert queue.octopoid("fmt").out == f"{path}\n"
    assert path.read_bytes() == crlf(TIDY) and path.stat().st_mtime_ns == mtime
    assert "tidy already" in queue.octopoid("fmt", "--check").err
    assert "being worked on" in queue.octopoid("fmt", "busy", ok=(5,)).err
    drop(queue, "broken", "---\npriorty: P1\n---\n# Broken")
    assert "priorty" in queue.octopoid("fmt", "broken", ok=(4,)).err
    assert queue.layout.task_file(State.INCOMING, "broken").read_text().endswith("# Broken")


def test_config_check(queue: Repo) -> None:
    answer = queue.octopoid("config", "check")
    first, *more = answer.out.splitlines()
    assert first == "ok: 1 agent (1 worker), 1 check, gates: checks, human, land: merge"
    assert [line.partition(":")[0] for line in more] == ["flows", "flows that need further agents"]
    assert "warning" not in answer.err
    queue.layout.agents_yaml.write_text(POLICY.replace('checks: [{name: tests, run: "true"}]\n', ""))
    assert "warning" not in queue.octopoid("config", "check").err
    drop(queue, "first", "# First\n")
    assert "warning: there are tasks and no checks" in queue.octopoid("config", "check").err
    queue.layout.agents_yaml.write_text(POLICY.replace("base: main", "base: mian"))
    assert "warning: there is no branch `mian`" in queue.octopoid("config", "check").err
    queue.layout.agents_yaml.write_text(POLICY.replace("gates:", "gats:"))
    answer = queue.octopoid("config", "check", ok=(4,))
    assert f"{queue.layout.agents_yaml}:4:1: unknown key `gats`" in answer.out and "did you mean `gates`?" in answer.out
    found = queue.octopoid("config", "check", "--json", ok=(4,)).json()
    assert found["ok"] is False and found["problems"][0]["line"] == 4


def test_paths(queue: Repo) -> None:
    found = queue.octopoid("paths", "--json").json()
    assert found["kind"] == "paths" and found["queue"] == str(queue.layout.queue)
    assert queue.octopoid("paths", "worktrees").out == f"{queue.layout.home}/worktrees\n"
    assert "no such place" in queue.octopoid("paths", "nowhere", ok=(2,)).err
    queue.layout.agents_yaml.write_text(POLICY + "worktrees: {dir: ../trees}\n")
    assert "trees" in queue.octopoid("paths", "worktrees").out


def test_schemas(repo: Repo) -> None:
    names = [line.split()[0] for line in repo.octopoid("schema").out.splitlines()]
    assert names == list(schemas.MEANINGS)
    for name in names:
        assert repo.octopoid("schema", name).json()["$schema"] == schemas.DIALECT
    assert "did you mean `status`?" in repo.octopoid("schema", "statu", ok=(3,)).err


def test_the_schema_of_a_result_is_what_the_reader_takes() -> None:
    schema = schemas.of("result")
    for outcome in schema["properties"]["outcome"]["enum"]:
        more = {"question": {"questions": ["which?"]}, "handoff": {"handoff_to": "writer"}}.get(outcome, {})
        word = {"outcome": outcome, "summary": "s", "feedback": "f", "subtasks": [], "usage": {"usd": 0.1}, **more}
        check_schema(schema, word)
        assert results.parse(json.dumps(word).encode()).outcome == outcome
    assert set(schema["properties"]) == {*results.Result._fields, "subtasks"}


def test_the_reference_is_what_the_help_says() -> None:
    missing = [row.module for row in COMMANDS.values() if not (PROJECT / f"octopoid/cli/{row.module}.py").exists()]
    if missing:
        pytest.skip(f"not written yet: {missing}")
    done = subprocess.run([sys.executable, PROJECT / "scripts/docs", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_doctor_prints_what_its_schema_says(queue: Repo) -> None:
    drop(queue, "broken", "---\npriorty: P1\n---\n")
    assert valid("doctor", queue.octopoid("doctor", "--json", ok=(0, 1)).json())["findings"]
    valid("doctor", queue.octopoid("doctor", "--fix", "--json", ok=(0, 1)).json())


def test_views_and_schemas_agree(queue: Repo) -> None:
    drop(queue, "first", "# First\n")
    task = queue.octopoid("list", "--json").json()["tasks"][0]
    assert tuple(valid("task", task)) == views.TaskView._fields
