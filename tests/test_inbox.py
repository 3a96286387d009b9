"""`octopoid inbox`: what waits for a person, asked one after the other on a real terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
from collections.abc import Mapping
from typing import Any

import pytest
from harness import OCTOPOID, Repo, drop, landed, script, state_of
from test_flows_life import document, team, write

from octopoid.states import State

CTRL_C, CTRL_D = "\x03", "\x04"


def talk(repo: Repo, *said: tuple[str, str], env: Mapping[str, str] = {}, size: tuple[int, int] = (50, 100)) -> str:
    """The whole conversation: each of `said` is (what is waited for, what is typed then)."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    process = subprocess.Popen(
        [str(OCTOPOID), "inbox"], cwd=repo.root, env={**repo.env, "TERM": "xterm-256color", **env},
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C reaches it
    )  # fmt: skip
    os.close(slave)
    seen, looked, todo, last = "", 0, list(said), ""
    try:
        while True:
            if last in (CTRL_C, CTRL_D) and not select.select([master], [], [], 3)[0]:
                os.write(master, last.encode())  # one that comes just before input() waits is lost; people press again
            try:
                data = os.read(master, 65536)
            except OSError:
                break  # Linux: EIO at the end
            if not data:
                break
            seen += data.decode().replace("\r", "")
            # click writes a prompt in two parts; who types between them finds the echo in the middle of it
            if todo and todo[0][0] in seen[looked:] and seen.endswith(": "):
                looked = len(seen)
                last = todo.pop(0)[1]
                os.write(master, (last if last in (CTRL_C, CTRL_D) else f"{last}\n").encode())
    finally:
        process.wait(20)
        os.close(master)
    assert process.returncode == 0, seen
    assert not todo, f"never asked: {todo}\n{seen}"
    return seen


def ask(repo: Repo, *questions: str) -> None:
    work = [[{"question": list(questions)}], write("app.py")]
    script(repo, {"tasks": {"default": {"implementer": work}}})
    drop(repo, "idea", "# An idea\n")
    repo.octopoid("run", "--until-empty", ok=(6,))


def test_nothing_waits(repo: Repo) -> None:
    script(repo, {"tasks": {}})
    assert repo.octopoid("inbox").err == "nothing waits for you\nnext: octopoid status\n"
    assert repo.octopoid("inbox", "--json").json()["items"] == []


def test_questions_are_answered_one_after_the_other(repo: Repo) -> None:
    ask(repo, "Which colour?", "How big?")
    said = talk(repo, ("Which colour?\n", "red"), ("How big?\n", "as big as it gets"))
    assert "1 of 1: idea\n  An idea\n" in said
    assert said.endswith("answered idea\n\nnext: octopoid status shows how it goes\n")
    told = repo.octopoid("thread", "idea").out
    assert "Answer: red" in told and "Answer: as big as it gets" in told


def test_what_is_answered_in_the_file_is_not_asked_again(repo: Repo) -> None:
    ask(repo, "Which colour?", "How big?")
    path = repo.layout.task_file(State.BLOCKED, "idea")
    path.write_text(re.sub("^Answer:$", "Answer: blue", path.read_text(), count=1, flags=re.MULTILINE))
    assert "answered in the file: blue" in talk(repo, ("How big?\n", "small"))
    told = repo.octopoid("thread", "idea").out
    assert "Answer: blue" in told and "Answer: small" in told


def test_an_empty_answer_skips_all_of_them_and_says_so(repo: Repo) -> None:
    ask(repo, "Which colour?", "How big?")
    said = talk(repo, ("Which colour?\n", "red"), ("How big?\n", ""))
    assert "skipped; nothing was kept" in said and said.endswith("next: octopoid inbox\n")
    assert state_of(repo, "idea") is State.BLOCKED


@pytest.mark.parametrize("key", [CTRL_C, CTRL_D])
def test_a_person_may_leave_at_any_time(repo: Repo, key: str) -> None:
    ask(repo, "Which colour?")
    said = talk(repo, ("empty: skip", key))
    assert said.endswith("\nnext: octopoid inbox\n") and "Abort" not in said
    assert state_of(repo, "idea") is State.BLOCKED


def test_a_candidate_is_shown_with_its_changes_and_remarks_then_approved(repo: Repo) -> None:
    flow = """\
stages: [{name: implement, role: implementer}]
gates: [{gate: tester, required: false}, human]
"""
    roles = {"implementer": [write("app.py")], "tester": [[{"reject": "slow with many rows"}]]}
    team(repo, roles, flow)
    drop(repo, "idea", "---\nflow: mine\n---\n# An idea\n")
    repo.octopoid("run", "--until-empty", ok=(6,))
    said = talk(repo, ("[a]pprove", "m"), ("[a]pprove", "x"), ("[a]pprove", "a"))
    short, _, rest = said.partition("[a]pprove, [r]eject, [m]ore, [s]kip, [q]uit: ")
    assert "app.py | 1 +" in short and "diff --git" not in short
    assert "| tester: reject\n  |   slow with many rows" in short, "an advisory gate is shown to who decides"
    assert "| diff --git a/app.py b/app.py" in rest and "[m]ore" not in rest
    repo.octopoid("run", "--until-empty")
    assert landed(repo) == ("idea",)


PLAN = """\
stages:
  - {name: plan, role: planner, approval: true}
  - {name: implement, role: implementer, needs: [plan.md]}
gates: [checks]
"""


def test_a_long_document_is_cut_and_shown_whole_on_demand(repo: Repo) -> None:
    lines = "\n".join(f"step {number}" for number in range(1, 101))
    team(repo, {"planner": [document("plan.md", lines)], "implementer": [write("app.py")]}, PLAN)
    drop(repo, "idea", "---\nflow: mine\n---\n# An idea\n")
    repo.octopoid("run", "--until-empty", ok=(6,))
    said = talk(repo, ("more lines", "m"), ("step 100\n", "r"), ("why", "shorter"))
    assert ".octopoid/attempts/idea/artifacts/plan.md:\n  | step 1\n" in said
    assert said.index("more lines") < said.index("step 99\n")
    assert "rejected idea" in said
    assert "shorter" in repo.octopoid("thread", "idea").out


def test_subtasks_are_shown_with_their_commands_before_they_are_approved(repo: Repo) -> None:
    parts: list[dict[str, Any]] = [
        {"key": "a", "title": "Part one", "criteria": ["there :: test -f one.txt"]},
        {"key": "b", "title": "Part two", "body": "After the first.", "depends_on": ["a"]},
    ]
    team(repo, {"breakdown": [[{"result": {"outcome": "done", "summary": "Two parts", "subtasks": parts}}]]})
    drop(repo, "big", "---\nflow: breakdown\n---\n# Big\n")
    repo.octopoid("run", "--until-empty", ok=(6,))
    said = talk(repo, ("[a]pprove", "s"))
    assert "| Two parts" in said and "subtask 1 of 2: part-one-" in said
    assert "- [ ] there :: test -f one.txt" in said and "|   After the first." in said


def test_what_is_stuck_can_be_retried_or_cancelled(repo: Repo) -> None:
    found = [{"title": "The print style is wrong", "body": "See print.css."}]
    work = [[*write("app.py"), {"result": {"outcome": "done", "discovered": found}}]]
    script(repo, {"tasks": {"bad": {"implementer": [[{"fail": "no"}]]}, "default": {"implementer": work}}},
           limits={"attempts": 1})  # fmt: skip
    drop(repo, "bad", "# Bad\n")
    drop(repo, "later", "---\ndepends_on: [bad]\n---\n# Later\n")
    drop(repo, "good", "# Good\n")
    repo.octopoid("run", "--until-empty", ok=(6,))
    order = [one["task"] for one in repo.octopoid("inbox", "--json").json()["items"]]
    assert order[0] == "bad", "something waits behind it"
    said = talk(repo, ("[r]etry", "c"), ("[r]etry", "r"), ("a word", "use print.css"))
    assert "1 of 2: bad (1 waits behind it)" in said and "cancelled bad" in said
    assert "  The print style is wrong\n" in said and "| See print.css." in said
    assert state_of(repo, "bad") is State.CANCELLED
    assert state_of(repo, order[1]) is State.INCOMING


def test_a_broken_policy_comes_first_and_only_its_command_is_shown(repo: Repo) -> None:
    ask(repo, "Which colour?")
    repo.layout.flows.mkdir(exist_ok=True)
    (repo.layout.flows / "mine.yaml").write_text("stages: []\n")
    repo.octopoid("run", "--once", ok=None)
    first = repo.octopoid("inbox", "--json").json()["items"][0]
    assert (first["task"], first["reason"], first["command"]) == (None, "policy", "octopoid config check")
    said = talk(repo, ("empty: skip", ""))
    assert "1 of 2: policy" in said and "yours to do: octopoid config check" in said
