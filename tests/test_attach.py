"""`octopoid attach`: a person in a task's worktree, and a scheduler that keeps its hands off meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from harness import OCTOPOID, Background, Repo, drop, eventually, git, landed, marked, script, state_of

from octopoid import attaching, attempts, fold, locks, steer, worktrees
from octopoid.applying import Moment
from octopoid.errors import Conflict, Contained
from octopoid.plans import Start
from octopoid.policy import plan
from octopoid.scheduler import Scheduler
from octopoid.states import State

WORK = [{"write": {"path": "agent-${OCTOPOID_TASK_ID}.txt", "text": "by the agent\n"}}, {"commit": "By the agent"}]
HALF = [{"write": {"path": "half.txt", "text": "half\n"}}, "hang"]
SHORTLY = 20.0


def follow(repo: Repo, *tries: list[Any], **policy: Any) -> None:
    """The implementer does these things, one after the other; every reviewer accepts."""
    roles = {"implementer": list(tries), "default": [[{"accept": "Fine."}]]}
    script(repo, {"tasks": {"default": roles}}, **{"grace": "1s", **policy})


def worktree(repo: Repo, task: str) -> Path:
    return repo.layout.home / "worktrees" / task


def outcomes(repo: Repo, task: str) -> list[tuple[str, str, bool]]:
    """Kind, reason and whether it was charged, of every entry that is closed."""
    entries = attempts.read(repo.layout, task)
    return [(one.opening.kind, one.outcome.reason, one.outcome.charged) for one in entries if one.outcome]


def works_in(repo: Repo, task: str) -> Path:
    """Wait until the agent has done half of its work and hangs."""
    return eventually(lambda: (worktree(repo, task) / "half.txt").exists() and worktree(repo, task), SHORTLY)


def is_held(repo: Repo, task: str) -> bool:
    return locks.is_held(repo.layout.attach_lock(task))


class Shell(NamedTuple):
    """An `octopoid attach` whose shell stays until it is told to leave."""

    command: Background
    go: Path

    def leave(self) -> str:
        """What the command said, once it has ended."""
        self.go.touch()
        eventually(lambda: self.command.process.poll() is not None, SHORTLY)
        return self.command.text()


@contextmanager
def attached(repo: Repo, task: str, *options: str, first: str = ":", last: str = ":") -> Iterator[Shell]:
    """A shell that does `first`, stays until it is told to leave, then does `last`."""
    place = repo.root.parent / f"shell-{time.monotonic_ns()}"
    place.mkdir()
    come, go = place / "come", place / "go"
    commands = f"{first}; touch '{come}'; while [ ! -e '{go}' ]; do sleep 0.05; done; {last}"
    found = started(repo, task, *options, "--shell", commands)
    eventually(lambda: come.exists() or found.process.poll() is not None, SHORTLY)
    assert come.exists(), found.text()
    shell = Shell(found, go)
    try:
        yield shell
    finally:
        shell.leave()


def started(repo: Repo, *args: str) -> Background:
    """An `octopoid attach` beside others: `Repo.background` would end them all with itself."""
    log = repo.root.parent / f"attach-{time.monotonic_ns()}.log"
    argv = [str(OCTOPOID), "attach", *args]
    with log.open("wb") as out:
        process = subprocess.Popen(argv, cwd=repo.root, env=repo.env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    return Background(process, log)


@contextmanager
def scheduler(repo: Repo) -> Iterator[Background]:
    with repo.background("run") as found:
        eventually(lambda: repo.layout.last_tick.exists(), SHORTLY)
        yield found


# --- what it is ---


def test_a_task_nobody_worked_on_yet_can_be_done_by_hand_and_goes_on_from_there(repo: Repo) -> None:
    follow(repo, WORK)
    drop(repo, "theme", "# Theme\n")
    what = "echo mine > mine.txt; git add .; git commit -qm Mine; echo more > more.txt; env; pwd; exit 3"
    answer = repo.octopoid("attach", "the", "--shell", what)
    place = worktree(repo, "theme")
    told = answer.out.splitlines()
    assert "OCTOPOID_TASK_ID=theme" in told and f"OCTOPOID_WORKTREE={place}" in told and told[-1] == str(place)
    assert f"OCTOPOID_ROOT={repo.root}" in told
    assert "files changed: mine.txt" in answer.err and "not committed: more.txt" in answer.err
    assert "hands off" in answer.err and "the next attempt goes on from here" in answer.err
    assert answer.err.splitlines()[-1] == "next: octopoid run"
    assert not is_held(repo, "theme") and list(repo.layout.attach.iterdir()) == []
    repo.octopoid("run", "--until-empty")
    names = git(repo, "ls-tree", "--name-only", "main").split()
    assert {"mine.txt", "more.txt", "agent-theme.txt"} <= set(names)
    prompt = next(repo.layout.entries("theme").glob("*/prompt.md")).read_text()
    assert "I worked in this worktree" in prompt and "Mine" in prompt and "more.txt" in prompt
    assert "at work in its worktree" in repo.octopoid("thread", "theme").out


def test_the_scheduler_waits_and_says_why_and_goes_on_by_itself(repo: Repo) -> None:
    follow(repo, WORK)
    drop(repo, "theme", "# Theme\n")
    with attached(repo, "theme") as shell, scheduler(repo) as running:
        pid = steer.attached(repo.layout)["theme"]
        why = repo.octopoid("why", "theme").out
        assert f"attached: you are in its worktree (octopoid attach, pid {pid})" in why and "STOP  attached" in why
        assert "octopoid attach" in repo.octopoid("status").out and "attached:" in repo.octopoid("list").out
        (view,) = repo.octopoid("list", "--json").json()["tasks"]
        assert view["reason"] == "attached"
        drop(repo, "other", "# Other\n")
        eventually(lambda: landed(repo) == ("other",), SHORTLY)  # it works on what else there is
        assert state_of(repo, "theme") is State.INCOMING
        shell.leave()
        eventually(lambda: landed(repo) == ("other", "theme"), SHORTLY)
        eventually(lambda: "theme: landed" in running.text())


def test_two_at_once_are_one_too_many(repo: Repo) -> None:
    follow(repo, WORK)
    drop(repo, "theme", "# Theme\n")
    with attached(repo, "theme"):
        pid = steer.attached(repo.layout)["theme"]
        answer = repo.octopoid("attach", "theme", "--shell", "true", ok=[5])
        assert f"somebody is in the worktree of theme already (pid {pid})" in answer.err
    repo.octopoid("attach", "theme", "--shell", "true")


def test_what_is_over_or_is_not_there_is_refused(repo: Repo) -> None:
    follow(repo, WORK)
    drop(repo, "theme", "# Theme\n")
    repo.octopoid("attach", "nothing", ok=[3])
    repo.octopoid("run", "--until-empty")
    assert "octopoid reopen theme" in repo.octopoid("attach", "theme", "--shell", "true", ok=[5]).err
    repo.octopoid("clean")
    assert "archive/done" in repo.octopoid("attach", "theme", "--shell", "true", ok=[5]).err
    both = repo.octopoid("attach", "theme", "--shell", "true", "--resume", ok=[2])
    assert "give one of them" in both.err
    mark = {"OCTOPOID_ATTEMPT_DIR": str(repo.layout.entry("theme", 1))}
    assert "a person's command" in repo.octopoid("attach", "theme", ok=[5], env=mark).err


def test_a_shell_that_cannot_be_started_is_a_failure_and_its_own_status_is_not(repo: Repo) -> None:
    follow(repo, WORK)
    drop(repo, "theme", "# Theme\n")
    repo.octopoid("attach", "theme", "--shell", "exit 9")
    repo.octopoid("attach", "theme", "--shell", "kill -9 $$")
    assert "no-such-shell" in repo.octopoid("attach", "theme", "--shell", "no-such-shell", ok=[1]).err
    missing = repo.octopoid("attach", "theme", ok=[1], env={"SHELL": "/nowhere/sh"})
    assert "program not found: /nowhere/sh" in missing.err and "--shell CMD" in missing.err
    typed = repo.octopoid("attach", "theme", env={"SHELL": "/bin/sh"}, input="pwd\nno-such-command\n")
    assert typed.out.strip() == str(worktree(repo, "theme"))  # the last status of a shell of theirs is their affair
    assert not is_held(repo, "theme")


# --- taking over from an agent ---


def test_an_agent_at_work_is_ended_only_when_that_is_said_and_charged_to_nobody(repo: Repo) -> None:
    follow(repo, HALF, WORK)
    drop(repo, "theme", "# Theme\n")
    with scheduler(repo):
        works_in(repo, "theme")
        answer = repo.octopoid("attach", "theme", "--shell", "true", ok=[5])
        assert "implementer is at work on theme" in answer.err and "--take" in answer.err
        assert not is_held(repo, "theme") and state_of(repo, "theme") is State.CLAIMED
        with attached(repo, "theme", "--take", last="mv half.txt whole.txt") as shell:
            assert not marked(repo.layout.entries("theme"), (b"OCTOPOID_ATTEMPT_DIR=",))
            assert state_of(repo, "theme") is State.INCOMING
            assert outcomes(repo, "theme") == [("attempt", "stopped", False)]
            assert fold.fold(attempts.read(repo.layout, "theme")).charged == {}
            assert "whole.txt" in shell.leave()
        eventually(lambda: landed(repo) == ("theme",), SHORTLY)
    assert git(repo, "show", "main:whole.txt") == "half"
    assert "half.txt" not in git(repo, "ls-tree", "--name-only", "main")


def test_it_works_without_a_scheduler_and_one_that_comes_later_keeps_its_hands_off(repo: Repo) -> None:
    follow(repo, HALF, WORK)
    drop(repo, "theme", "# Theme\n")
    with scheduler(repo) as running:
        works_in(repo, "theme")
        running.kill()
        with attached(repo, "theme", "--take", last="echo mine > mine.txt") as shell:
            assert "no scheduler is running" in shell.command.text()
            assert not marked(repo.layout.entries("theme"), (b"OCTOPOID_ATTEMPT_DIR=",))
            assert state_of(repo, "theme") is State.CLAIMED
            repo.octopoid("run", "--until-empty", ok=[6])
            assert state_of(repo, "theme") is State.INCOMING
            assert outcomes(repo, "theme") == [("attempt", "stopped", False)]
            assert "attached" in repo.octopoid("why", "theme").out
            shell.leave()
        repo.octopoid("run", "--until-empty")
    assert "mine.txt" in git(repo, "ls-tree", "--name-only", "main")


def test_killed_it_holds_on_until_the_shell_ends_and_nobody_has_to_say_so(repo: Repo) -> None:
    follow(repo, WORK)
    drop(repo, "theme", "# Theme\n")
    with attached(repo, "theme", last="echo mine > mine.txt") as shell:
        shell.command.kill()
        with scheduler(repo):
            repo.octopoid("run", "--once", ok=[5])
            assert is_held(repo, "theme") and "attached" in repo.octopoid("why", "theme").out
            shell.go.touch()
            eventually(lambda: landed(repo) == ("theme",), SHORTLY)
    assert "mine.txt" in git(repo, "ls-tree", "--name-only", "main")
    repo.octopoid("enqueue", "Again")  # the lock file that is left over means nothing
    assert steer.attached(repo.layout) == {}


def test_what_was_started_there_and_lives_on_is_named(repo: Repo) -> None:
    follow(repo, WORK)
    drop(repo, "theme", "# Theme\n")
    answer = repo.octopoid("attach", "theme", "--shell", "sleep 300 >/dev/null 2>&1 & echo $!")
    pid = int(answer.out)
    assert f"so the scheduler waits for it: pid {pid}" in answer.err
    repo.octopoid("run", "--until-empty", ok=[6])
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_held(repo, "theme"))
    repo.octopoid("run", "--until-empty")
    assert landed(repo) == ("theme",)


def test_a_question_is_settled_by_hand(repo: Repo) -> None:
    follow(repo, [{"question": ["Which colour?"]}], WORK)
    drop(repo, "theme", "# Theme\n")
    repo.octopoid("run", "--until-empty", ok=[6])
    with scheduler(repo):
        answers = "octopoid answer theme -m blue"
        with attached(repo, "theme", first=f"echo blue > colour.txt; {answers}") as shell:
            eventually(lambda: state_of(repo, "theme") is State.INCOMING)
            assert "colour.txt" in shell.leave()
        eventually(lambda: landed(repo) == ("theme",), SHORTLY)
    assert git(repo, "show", "main:colour.txt") == "blue"
    text = "".join(one.read_text() for one in repo.layout.entries("theme").glob("*/prompt.md"))
    assert "I worked in this worktree" in text


# --- what is being judged ---


def test_what_is_being_judged_can_be_looked_at_and_does_not_land_meanwhile(repo: Repo) -> None:
    follow(repo, WORK, gates=["checks", "human"])
    drop(repo, "theme", "# Theme\n")
    with scheduler(repo):
        eventually(lambda: "human" in repo.octopoid("why", "theme").out, SHORTLY)
        with attached(repo, "theme", last="echo mine >> agent-theme.txt") as shell:
            assert "thrown away" in shell.command.text() and "octopoid reject theme" in shell.command.text()
            repo.octopoid("approve", "theme")
            eventually(lambda: "attached" in repo.octopoid("why", "theme").out)
            repo.octopoid("run", "--once", ok=[5])
            assert landed(repo) == ()
            assert "not part of its work" in shell.leave()
        eventually(lambda: landed(repo) == ("theme",), SHORTLY)
    assert git(repo, "show", "main:agent-theme.txt") == "by the agent"


def test_nobody_waits_behind_it(repo: Repo) -> None:
    follow(repo, WORK, gates=["checks", "human"])
    drop(repo, "theme", "---\npriority: P0\n---\n# Theme\n")
    repo.octopoid("run", "--until-empty", ok=[6])
    repo.octopoid("approve", "theme")
    with attached(repo, "theme"):
        work = [{"write": {"path": "other.txt", "text": "o\n"}}, {"commit": "O"}]
        follow(repo, work, gates=["checks"])
        drop(repo, "other", "# Other\n")
        repo.octopoid("run", "--until-empty", ok=[6])
        assert landed(repo) == ("other",)
    repo.octopoid("run", "--until-empty")
    assert landed(repo) == ("other", "theme")


def test_it_waits_for_the_checks(repo: Repo, tmp_path: Path) -> None:
    go = tmp_path / "checks-go"
    check = f"touch {go}.in; while [ ! -e {go} ]; do sleep 0.05; done"
    follow(repo, WORK, checks=[{"name": "slow", "run": check}], gates=["checks", "human"])
    drop(repo, "theme", "# Theme\n")
    with scheduler(repo):
        eventually(lambda: Path(f"{go}.in").exists(), SHORTLY)
        shell = started(repo, "theme", "--shell", "true")
        eventually(lambda: "checks is at work on it: waiting" in shell.text(), SHORTLY)
        assert shell.process.poll() is None
        go.touch()
        assert shell.process.wait(SHORTLY) == 0, shell.text()


def test_after_a_no_a_person_finds_the_work_and_theirs_is_gone_on_from(repo: Repo) -> None:
    again = [{"append": {"path": "log.txt", "text": "again\n"}}, {"commit": "Again"}]
    checks = [{"name": "mine", "run": "test -e mine.txt"}]
    follow(repo, WORK, HALF, again, checks=checks, limits={"rounds": 1})
    drop(repo, "theme", "# Theme\n")
    repo.octopoid("run", "--until-empty", ok=[6])  # the checks have put what would land into the worktree
    candidate = fold.fold(attempts.read(repo.layout, "theme")).candidate
    assert git(repo, "rev-parse", "HEAD", at=worktree(repo, "theme")) != candidate
    what = "git rev-parse HEAD; echo mine > mine.txt; git add .; git commit -qm Mine"
    answer = repo.octopoid("attach", "theme", "--shell", what)
    assert answer.out.strip() == candidate and answer.err.splitlines()[-1] == "next: octopoid retry theme"
    repo.octopoid("retry", "theme")
    with scheduler(repo):
        assert (works_in(repo, "theme") / "mine.txt").exists()
        repo.octopoid("stop", "theme")
        eventually(lambda: state_of(repo, "theme") is State.BLOCKED)
    # what an agent left that was stopped is not taken for something that a gate put there
    assert "half.txt" in repo.octopoid("attach", "theme", "--shell", "ls").out
    repo.octopoid("retry", "theme")
    repo.octopoid("run", "--until-empty")
    assert {"mine.txt", "half.txt", "log.txt"} <= set(git(repo, "ls-tree", "--name-only", "main").split())


def test_a_stage_that_begins_with_a_clean_checkout_says_so(repo: Repo) -> None:
    agents = {"all": {"roles": "all", "adapter": "scripted", "script": ".octopoid/scripted.json"}}
    script(repo, {"tasks": {"default": {"default": [WORK]}}}, agents=agents, gates=["checks"])
    (repo.layout.home / "flows").mkdir(exist_ok=True)
    stages = "stages: [{name: plan, role: planner}, {name: implement, role: implementer}]\n"
    (repo.layout.home / "flows/planned.yaml").write_text(stages)
    drop(repo, "theme", "---\nflow: planned\n---\n# Theme\n")
    answer = repo.octopoid("attach", "theme", "--shell", "echo mine > mine.txt")
    assert "its next stage is plan, which begins with a clean checkout" in answer.err
    assert attempts.read(repo.layout, "theme") == ()


# --- the worktree is nobody else's ---


def test_nobody_removes_or_reuses_a_worktree_with_a_person_in_it(repo: Repo) -> None:
    follow(repo, WORK)
    drop(repo, "theme", "# Theme\n")
    repo.octopoid("run", "--until-empty")
    place, held = worktree(repo, "theme"), attaching.hold(repo.layout, "theme")
    try:
        assert "a person is in it (octopoid attach)" in repo.octopoid("clean").out
        with pytest.raises(Contained, match="a person is in"):
            worktrees.remove(repo.root, place)
        assert not worktrees.take_over(repo.root, worktree(repo, "other"), place, git(repo, "rev-parse", "main"))
        drop(repo, "other", "# Other\n")
        repo.octopoid("run", "--until-empty")
        assert place.is_dir()
    finally:
        assert attaching.release(repo.layout, "theme", held) == ()
    assert "remove" in repo.octopoid("clean").out and not place.exists()


def test_who_comes_between_the_look_and_the_start_is_seen(repo: Repo) -> None:
    follow(repo, WORK)
    drop(repo, "theme", "# Theme\n")
    said: list[str] = []
    tick = Scheduler(repo.layout, repo.env, said.append)
    config, now = tick.policy.current(), time.time()
    look = tick.observer.look()
    (action,) = plan(tick.surveyor.snapshot(look, config, {}, "", now), config, now).actions
    assert isinstance(action, Start)
    held = attaching.hold(repo.layout, "theme")
    with pytest.raises(Conflict):
        attaching.hold(repo.layout, "theme")
    tick.hands.apply(action, Moment(look, config, now))
    assert said == ["theme: theme: a person is in its worktree"] and state_of(repo, "theme") is State.INCOMING
    assert not worktree(repo, "theme").exists()
    attaching.release(repo.layout, "theme", held)
    repo.octopoid("run", "--until-empty")
    assert landed(repo) == ("theme",)


# --- the agent's own program ---

CLAUDE = """\
#!/bin/sh
case " $* " in
*" --resume "*) echo "resumed in $(pwd) with: $*"; exit 0;;
esac
echo '{"type":"system","subtype":"init","session_id":"s-42","model":"m","cwd":"."}'
touch half.txt
sleep 300
"""
"""Stands for Claude Code: says its session, as that does, and works for long."""


def test_the_session_of_an_agent_can_be_gone_on_with(repo: Repo) -> None:
    program = repo.root.parent / "claude"
    program.write_text(CLAUDE)
    program.chmod(0o755)
    agents = {"implementer": {"role": "implementer", "adapter": "claude", "command": [str(program)]}}
    follow(repo, agents=agents)
    drop(repo, "theme", "# Theme\n")
    assert "no agent has worked on theme" in repo.octopoid("attach", "theme", "--resume", ok=[3]).err
    with scheduler(repo):
        place = works_in(repo, "theme")
        answer = repo.octopoid("attach", "theme", "--take", "--resume")
        assert answer.out == f"resumed in {place} with: --resume s-42\n"
        repo.octopoid("pause", "theme")


def test_a_program_without_sessions_is_refused_before_anything_is_ended(repo: Repo) -> None:
    follow(repo, HALF)
    drop(repo, "theme", "# Theme\n")
    with scheduler(repo):
        works_in(repo, "theme")
        answer = repo.octopoid("attach", "theme", "--take", "--resume", ok=[2])
        assert "implementer (scripted) cannot be gone on with" in answer.err
        assert state_of(repo, "theme") is State.CLAIMED and outcomes(repo, "theme") == []


# --- on a terminal ---


class Tmux:
    """A terminal with a person at it."""

    def __init__(self, repo: Repo, shell: str) -> None:
        self._env = {
            **repo.env,
            "TMUX_TMPDIR": str(repo.root.parent),
            "TERM": "xterm",
            "SHELL": shell,
            "PS1": "outer$ ",
        }
        self._cwd = repo.root
        self("-f", "/dev/null", "new-session", "-d", "-x", "150", "-y", "50", "env PS1='outer$ ' sh -i")

    def __call__(self, *args: str) -> str:
        argv = ["tmux", "-L", "attach", *args]
        done = subprocess.run(argv, env=self._env, cwd=self._cwd, capture_output=True, text=True, check=True)
        return done.stdout

    def type(self, *keys: str) -> None:
        self("send-keys", *keys)

    def screen(self) -> str:
        return self("capture-pane", "-p", "-J").rstrip()

    def sees(self, text: str) -> str:
        return eventually(lambda: text in self.screen() and self.screen(), SHORTLY, f"{text!r} on the screen")


@contextmanager
def person(repo: Repo, shell: str = "/bin/bash") -> Iterator[Tmux]:
    tmux = Tmux(repo, shell)
    try:
        yield tmux
    finally:
        tmux("kill-server")


def in_front(repo: Repo, command: str) -> bool:
    """Has the terminal this command of the shell in front, and does it run? (proc(5): state, ppid, pgrp, …, tpgid)"""
    pids = [pid for pid, words in marked(repo.root, (b"OCTOPOID_ROOT=",)).items() if words == command]
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return any(state != "T" and group == front for state, _, group, _, _, front, *_ in stats)


def test_on_a_terminal_it_asks_and_the_shell_is_as_any_other(repo: Repo) -> None:
    follow(repo, HALF, WORK)
    drop(repo, "theme", "# Theme\n")
    with scheduler(repo), person(repo) as tmux:
        works_in(repo, "theme")
        tmux.type("octopoid attach theme", "Enter")
        tmux.sees("End this attempt and take over? [y/N]:")
        tmux.type("n", "Enter")
        tmux.sees("--take ends it")
        tmux.type("clear; octopoid attach theme", "Enter")
        tmux.sees("End this attempt and take over? [y/N]:")
        tmux.type("y", "Enter")
        tmux.sees("hands off")
        tmux.type("PS1='inner$ '; clear", "Enter")
        tmux.sees("inner$")
        tmux.type("sleep 300", "Enter")
        eventually(lambda: in_front(repo, "sleep 300"))
        tmux.type("C-z")
        tmux.sees("Stopped")
        tmux.type("fg", "Enter")
        eventually(lambda: in_front(repo, "sleep 300"))  # before that ^C would be for the shell's prompt
        tmux.type("C-c")
        tmux.type("echo after-$?; echo mine > mine.txt", "Enter")
        tmux.sees("after-130")
        assert is_held(repo, "theme")
        tmux.type("exit", "Enter")
        tmux.sees("the next attempt goes on from here")
        tmux.type("echo back-$?", "Enter")
        tmux.sees("back-0")
        eventually(lambda: landed(repo) == ("theme",), SHORTLY)
    assert "mine.txt" in git(repo, "ls-tree", "--name-only", "main")


def test_a_shell_can_be_suspended_and_one_that_is_killed_gives_the_terminal_back(repo: Repo) -> None:
    follow(repo, WORK)
    drop(repo, "theme", "# Theme\n")
    with person(repo) as tmux:
        tmux.type("octopoid attach theme", "Enter")
        tmux.sees("hands off")
        tmux.type("PS1='inner$ '; suspend", "Enter")
        tmux.sees("outer$")
        eventually(lambda: tmux.screen().endswith("outer$"))
        tmux.type("echo outside-$PPID | tr 0-9 x; fg", "Enter")
        tmux.sees("outside-x")
        eventually(lambda: tmux.screen().endswith("inner$"))
        assert is_held(repo, "theme")
        tmux.type("stty -echo; kill -9 $$", "Enter")
        tmux.sees("nothing was changed")
        tmux.type("echo seen-$?", "Enter")
        assert "echo seen-" in tmux.sees("seen-0")
    assert not is_held(repo, "theme")
