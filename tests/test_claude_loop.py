"""The whole loop with the real Claude Code: `octopoid init`, an edited policy, `octopoid run --until-empty`.

The model is a script on loopback (tests/modelserver.py); the program, the scheduler, git and the worktrees are real. A
task chooses its script by the marker `[[name]]` in its text, a role's prompt by one that stands below it.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from harness import MARKS, PROJECT, Repo, drop, eventually, git, landed, marked, state_of
from modelserver import ModelServer, Step, error, hang, text, tool
from test_claude_real import bash, claude  # noqa: F401 - the fixture that installs it

from octopoid.states import State

NAMED = "[ANTHROPIC_API_KEY, ANTHROPIC_BASE_URL, CLAUDE_CODE_MAX_RETRIES]"
POLICY = (
    ("gates: [human]", "gates: [checks]\nchecks: [{name: readme, run: test -s README.md}]"),
    ("env: [ANTHROPIC_API_KEY] ", f"env: {NAMED} "),
)
"""What this user changes in the agents.yaml that `octopoid init --adapter claude` wrote."""

SOON = 30.0
"""Seconds in which a run has to end that cannot get anywhere."""


class User(NamedTuple):
    """Somebody with a repository, Claude Code on PATH and a key. `env`: what is set in their shell besides."""

    repo: Repo
    server: ModelServer
    env: dict[str, str]

    def octopoid(self, *args: str, ok: Sequence[int] = (0,)) -> str:
        answer = self.repo.octopoid(*args, ok=ok, env=self.env)
        return answer.out + answer.err

    def run(self, status: int = 0) -> str:
        return self.octopoid("run", "--until-empty", ok=(status,))

    def edit(self, *changes: tuple[str, str]) -> None:
        """Change agents.yaml as with an editor: each text must be there."""
        path = self.repo.layout.agents_yaml
        policy = path.read_text(encoding="utf-8")
        for old, new in changes:
            assert old in policy, f"{old!r} is not in\n{policy}"
            policy = policy.replace(old, new)
        path.write_text(policy, encoding="utf-8")
        self.octopoid("config", "check")

    def role(self, name: str, marker: str = "", **header: str) -> None:
        """A role of the user's own: the built-in one with other keys in its header and a line below."""
        builtin = (PROJECT / f"octopoid/roles/{name}.md").read_text(encoding="utf-8")
        keys = "".join(f"{key}: {value}\n" for key, value in header.items())
        mine = builtin.replace("---\n", f"---\n{keys}", 1) + f"\n{marker}\n"
        (self.repo.layout.roles / f"{name}.md").write_text(mine, encoding="utf-8")

    def flow(self, name: str, text: str) -> None:
        """A flow of the user's own."""
        self.repo.layout.flows.mkdir(exist_ok=True)
        (self.repo.layout.flows / f"{name}.yaml").write_text(text, encoding="utf-8")

    def task(self, name: str, script: str = "") -> dict[str, Any]:
        """Drop a task file, or say what `show` says about it."""
        if script:
            drop(self.repo, name, f"# Do {name}\n\nAs scripted. [[{script}]]\n")
        shown: dict[str, Any] = self.repo.octopoid("show", name, "--json").json()
        return shown

    def worktree(self, name: str) -> Path:
        return self.repo.layout.home / "worktrees" / name

    def asked(self, script: str, turn: int = 0) -> str:
        """What the model was told, as JSON text, when it was asked for answer number `turn`."""
        return next(json.dumps(call.body, ensure_ascii=False) for call in self.server.of(script) if call.turn == turn)


@pytest.fixture
def user(claude: Path, repo: Repo) -> Iterator[User]:  # noqa: F811 - the fixture
    """See User. `user.server.scripts` is filled in by the test."""
    with ModelServer({}) as server:
        env = {
            "PATH": f"{claude.parent}{os.pathsep}{repo.env['PATH']}",
            "ANTHROPIC_API_KEY": "dummy",
            "ANTHROPIC_BASE_URL": server.url,
            "CLAUDE_CODE_MAX_RETRIES": "0",  # what waiting is like, tests/test_claude_real.py knows
            "DATABASE_PASSWORD": "not for agents",
        }
        somebody = User(repo, server, env)
        said = somebody.octopoid("init", "-y", "--adapter", "claude")
        assert f"agent: claude ({claude})" in said
        somebody.edit(*POLICY)
        yield somebody


def test_work_that_claude_commits_lands(user: User) -> None:
    hello = user.worktree("hello") / "hello.txt"
    user.server.scripts["edit"] = [
        bash("pwd; env | sort"),
        tool("Write", file_path=str(hello), content="Hello, world.\n"),
        bash("git add -A && git commit -q -m 'Say hello to the world'"),
        text("I wrote hello.txt and committed it."),
    ]
    user.task("hello", "edit")
    user.run()
    repo = user.repo
    assert landed(repo) == ("hello",) and state_of(repo, "hello") is State.DONE
    assert (repo.root / "hello.txt").read_text() == "Hello, world.\n"
    assert git(repo, "log", "--no-merges", "--format=%an %s", "-1") == "Ada Tester Say hello to the world"
    assert git(repo, "status", "--porcelain") == "?? .octopoid/"
    shown = user.task("hello")["task"]
    assert 0 < shown["usd"] < 1 and shown["attempts"] == 1
    log = user.octopoid("log", "hello", "--attempt", "1")
    assert "> Bash: git add -A && git commit -q -m 'Say hello to the world'" in log and "> Write: hello.txt" in log
    assert "\nI wrote hello.txt and committed it.\n= 4 turns" in log and '{"type"' not in log
    assert '{"type":"result"' in user.octopoid("log", "hello", "--attempt", "1", "--raw")
    assert "# Do hello" not in user.asked("edit") and "The task: Do hello" in user.asked("edit")
    seen = user.asked("edit", turn=1)
    assert str(hello.parent) in seen and "OCTOPOID_TASK_ID=hello" in seen
    assert "DATABASE_PASSWORD" not in seen, "only what `env:` names reaches an agent"


def test_work_that_claude_leaves_uncommitted_is_committed_for_it(user: User) -> None:
    """Two at once, which share a home and a repository."""
    for name in ("left", "right"):
        user.server.scripts[name] = [bash(f"mkdir -p new && echo work > new/{name}.txt"), text(f"Wrote {name}.txt.")]
        user.task(name, name)
    user.run()
    assert set(landed(user.repo)) == {"left", "right"}
    assert git(user.repo, "ls-tree", "-r", "--name-only", "main").splitlines() == [
        "README.md",
        "new/left.txt",
        "new/right.txt",
    ]
    assert git(user.repo, "log", "--no-merges", "--format=%an %s", "-2").splitlines() in (
        ["Ada Tester Do left", "Ada Tester Do right"],
        ["Ada Tester Do right", "Ada Tester Do left"],
    )


REVIEWER = "  # reviewer: {role: gatekeeper, adapter: claude"
MY_REVIEWER = "  reviewer: {role: gatekeeper, adapter: claude, env: [ANTHROPIC_API_KEY, ANTHROPIC_BASE_URL]} #"
TEAM = (
    "  # team: {roles: all, adapter: claude, instances: 3, env: [ANTHROPIC_API_KEY]}",
    f"  team: {{roles: all, adapter: claude, instances: 3, env: {NAMED}}}",
)
"""The line that `octopoid init` wrote for who wants every role, taken in."""
KEYLESS_REVIEWER = "  reviewer: {role: gatekeeper, adapter: claude} #"


def test_claude_refuses_once_and_then_accepts_the_work_of_claude(user: User) -> None:
    user.edit(("gates: [checks]", "gates: [checks, gatekeeper]"), (REVIEWER, MY_REVIEWER))
    for role in ("implementer", "gatekeeper"):
        user.role(role, f"[[{role}-{{{{ attempt }}}}]]")
    meddle = f"echo meddled > {user.worktree('sum') / 'sum.txt'}"
    finding = {"file": "sum.txt", "line": 1, "severity": "error", "message": "40 + 2 is 42"}
    user.server.scripts |= {
        "implementer-1": [bash("echo 41 > sum.txt && git add -A && git commit -qm 'First sum'"), text("It is 41.")],
        "gatekeeper-1": [
            bash("git log -1 --stat"),
            bash(meddle),
            tool("Write", file_path=str(user.worktree("sum") / "smuggled.txt"), content="x"),
            tool("StructuredOutput", outcome="reject", summary="No.", feedback="Add it up again.", findings=[finding]),
        ],
        "implementer-2": [bash("cat sum.txt; echo 42 > sum.txt"), text("Now it is 42.")],
        "gatekeeper-2": [tool("StructuredOutput", outcome="accept", summary="42 it is.")],
    }
    drop(user.repo, "sum", "# Add up\n\nWhat is 40 + 2? It goes into sum.txt.\n")
    user.run()
    assert landed(user.repo) == ("sum",) and git(user.repo, "show", "main:sum.txt") == "42"
    assert git(user.repo, "ls-tree", "-r", "--name-only", "main").splitlines() == ["README.md", "sum.txt"]
    told = user.asked("implementer-2")
    assert "Add it up again." in told and "sum.txt:1: error: 40 + 2 is 42" in told
    review = user.asked("gatekeeper-1")
    assert "What is 40 + 2?" in review and "It is 41." in review, "the task, and what the implementer said"
    assert "sum.txt" in user.asked("gatekeeper-1", turn=1), "it can look at the work"
    assert not any("changed" in facts and facts["changed"] for facts in records(user, "sum", "facts.json"))
    shown = user.task("sum")
    assert (shown["task"]["attempts"], shown["task"]["rounds"]) == (2, 1)
    verdicts = [(one["verdict"], one["by"]) for one in shown["verdicts"] if one["gate"] == "gatekeeper"]
    assert verdicts == [("reject", "reviewer"), ("accept", "reviewer")]


def records(user: User, task: str, name: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted(user.repo.layout.entries(task).glob(f"*/{name}"))]


def test_a_wrong_key_stops_the_agent_and_not_the_task(user: User) -> None:
    user.server.scripts["refused"] = [error(401, message="invalid x-api-key")]
    names = ("first", "second", "third")
    for name in names:
        user.task(name, "refused")
    user.edit(("instances: 2", "instances: 1"))
    began = time.monotonic()
    user.run(6)
    assert time.monotonic() - began < SOON
    assert {state_of(user.repo, name) for name in names} == {State.INCOMING}
    ends = [(one["class"], one["charged"]) for name in names for one in records(user, name, "outcome.json")]
    assert ends == [("environment", False)], "one try is enough to know"
    for name in names:
        why = user.octopoid("why", name)
        assert (
            "breaker" in why
            and "set the right ANTHROPIC_API_KEY where" in why
            and "octopoid resume --agent implementer" in why
        )
    assert "API key" in user.octopoid("status")
    user.server.scripts["refused"] = [bash("echo work > $OCTOPOID_TASK_ID.txt"), text("Done.")]
    user.octopoid("resume", "--agent", "implementer")
    user.run()
    assert sorted(landed(user.repo)) == sorted(names)


def test_a_reviewer_that_is_not_logged_in_refuses_nobody(user: User) -> None:
    """Its key is in the shell, but agents.yaml does not name it."""
    user.edit(("gates: [checks]", "gates: [gatekeeper]"), (REVIEWER, KEYLESS_REVIEWER))
    user.server.scripts["work"] = [bash("echo work > work.txt"), text("Done.")]
    user.task("work", "work")
    began = time.monotonic()
    user.run(6)
    assert time.monotonic() - began < SOON
    assert state_of(user.repo, "work") is State.PROVISIONAL and landed(user.repo) == ()
    assert user.task("work")["task"]["rounds"] == 0
    why = user.octopoid("why", "work")
    assert "Not logged in" in why and "name ANTHROPIC_API_KEY in `env:` of agent reviewer" in why
    assert "octopoid resume --agent reviewer" in why


def test_no_change_is_a_failed_attempt(user: User) -> None:
    """A run whose every tool call was denied says success with status 0 (LESSONS 38)."""
    user.role("implementer", tools="Read, Bash(git status:*)")
    user.edit(("land:", "limits: {attempts: 1}\nland:"))
    user.server.scripts["denied"] = [bash("git commit --allow-empty -m x"), text("All done, it works great!")]
    user.task("idle", "denied")
    user.run(6)
    shown = user.task("idle")["task"]
    assert (shown["state"], shown["reason"], shown["attempts"]) == ("blocked", "failed", 1)
    assert "no changes" in shown["detail"] and "denied: Bash (1)" in shown["detail"]
    user.octopoid("retry", "idle")
    user.run(6)
    first, again = (json.dumps(call.body) for call in user.server.of("denied") if call.turn == 0)
    said = "ended without a new commit or change"
    assert said not in first and said in again and landed(user.repo) == ()


def test_a_question_stands_in_the_task_file(user: User) -> None:
    question = "Should it be British (colour) or American (color)?"
    word = {"outcome": "question", "summary": "Both are in use.", "questions": [question]}
    result = user.repo.layout.entry("spell", 1) / "result.json"
    user.role("implementer", "[[{{ task.id }}-{{ attempt }}]]")
    user.server.scripts |= {
        "spell-1": [tool("Write", file_path=str(result), content=json.dumps(word)), text("I have to ask.")],
        "spell-2": [bash("echo colour > spelling.txt"), text("British it is.")],
    }
    drop(user.repo, "spell", "# Fix the spelling\n")
    user.run(6)
    assert state_of(user.repo, "spell") is State.BLOCKED
    assert question in user.repo.layout.task_file(State.BLOCKED, "spell").read_text(encoding="utf-8")
    assert question in user.octopoid("status")
    user.octopoid("answer", "spell", "-m", "British, please.")
    user.run()
    assert landed(user.repo) == ("spell",)
    heard = user.asked("spell-2")
    assert heard.index("I have to ask.") < heard.index("British, please."), "the same session goes on"
    session = records(user, "spell", "outcome.json")[0]["session"]
    argv = [step["argv"] for one in records(user, "spell", "steps.json") for step in one["steps"]]
    assert [words for words in argv if words and "--resume" in words and session in words]
    assert user.task("spell")["task"]["rounds"] == 0


MINE = """\
stages:
  - {name: plan, role: planner, artifact: plan.md}
  - {name: implement, role: implementer, needs: [plan.md]}
gates: [[reviewer, tester]]
"""


def accept(summary: str) -> Step:
    return tool("StructuredOutput", outcome="accept", summary=summary)


def test_who_only_looks_changes_nothing_and_what_it_tried_is_reported(user: User) -> None:
    """A planner that writes its plan, a reviewer that may nothing, a tester that may run: LESSONS 41."""
    user.edit(TEAM)
    user.flow("mine", MINE)
    for role in ("planner", "implementer", "reviewer", "tester"):
        user.role(role, f"[[{role}-{{{{ attempt }}}}]]")
    plan = user.repo.layout.entry_artifacts("sum", 1) / "plan.md"
    user.server.scripts |= {
        "planner-1": [
            tool("Write", file_path=str(plan), content="Add it up with a pencil.\n"),
            tool("Write", file_path="by-planner.txt", content="x"),
            bash("echo x | tee planned.txt"),
            tool("StructuredOutput", outcome="done", summary="A short plan."),
        ],
        "implementer-1": [bash("echo 42 > sum.txt && git add -A && git commit -qm Sum"), text("It is 42.")],
        "reviewer-1": [
            tool("Write", file_path="by-reviewer.txt", content="x"),
            tool("Edit", file_path="sum.txt", old_string="42", new_string="43"),
            bash("echo 43 > sum.txt"),
            bash("git log -1 --format=%s"),
            accept("Fine."),
        ],
        "tester-1": [bash("echo 'grep 42 sum.txt' > test.sh && sh test.sh && echo 43 > sum.txt"), accept("1 passed.")],
    }
    drop(user.repo, "sum", "---\nflow: mine\n---\n# Add up\n\nWhat is 40 + 2?\n")
    user.run()
    assert landed(user.repo) == ("sum",) and git(user.repo, "show", "main:sum.txt") == "42"
    assert git(user.repo, "ls-tree", "-r", "--name-only", "main").splitlines() == ["README.md", "sum.txt"]
    assert "Add it up with a pencil." in user.asked("implementer-1")
    entries = {one["role"]: one for one in user.task("sum")["entries"] if one["role"]}
    shown = user.octopoid("show", "sum")
    for role, thrown_away in (("planner", "planned.txt"), ("tester", "sum.txt, test.sh")):
        detail = entries[role]["detail"]
        assert "thrown away" in detail and thrown_away in detail and detail in shown
    assert "Fine." in entries["reviewer"]["detail"] and "thrown away" not in entries["reviewer"]["detail"]
    denied = user.octopoid("log", "sum", "--attempt", str(entries["planner"]["number"]))
    assert "> Write: by-planner.txt\n! File is in a directory that is denied" in denied
    denied = user.octopoid("log", "sum", "--attempt", str(entries["reviewer"]["number"]))
    assert "> Write: by-reviewer.txt\n! Error: No such tool available: Write" in denied
    assert "> Edit: sum.txt\n! Error: No such tool available: Edit" in denied
    assert "! denied: Bash: echo 43 > sum.txt" in denied


SPLIT = "stages: [{name: split, role: breakdown}]\ngates: []\nland: none\n"


def test_a_breakdown_becomes_tasks_and_one_without_is_a_failed_attempt(user: User) -> None:
    """It cannot write a result file: its word is structured output."""
    user.edit(TEAM, ("land:", "limits: {attempts: 1}\nland:"))
    user.flow("split", SPLIT)
    user.role("breakdown", "[[{{ task.id }}]]")
    user.role("implementer", "[[part]]")
    parts = [{"key": "a", "title": "Part A"}, {"key": "b", "title": "Part B", "depends_on": ["a"]}]
    user.server.scripts |= {
        "big": [tool("StructuredOutput", outcome="done", summary="Two parts.", subtasks=parts)],
        "vague": [text("I would make two tasks of it."), text("As I said.")],
        "part": [bash('echo x > "$OCTOPOID_TASK_ID.txt"'), text("Done.")],
    }
    for name in ("big", "vague"):
        drop(user.repo, name, f"---\nflow: split\n---\n# Something {name}\n")
    user.run(6)
    assert state_of(user.repo, "big") is State.DONE
    assert [one.partition("part-")[2][0] for one in landed(user.repo)] == ["a", "b"]
    shown = user.task("vague")["task"]
    assert (shown["state"], shown["reason"]) == ("blocked", "failed")
    assert "no subtasks" in shown["detail"]
    assert len(user.server.of("vague")) == 2, "one attempt, which was asked twice"


def test_a_lost_session_charges_nobody(user: User) -> None:
    """A planner asks; its session is gone when the answer comes, so the plan is begun anew, with the answer."""
    user.edit(TEAM, ("land:", "limits: {attempts: 1}\nland:"))
    user.flow("mine", "stages: [{name: plan, role: planner, artifact: plan.md}]\ngates: []\nland: none\n")
    user.role("planner", "[[planner-{{ attempt }}]]")
    ask = tool("StructuredOutput", outcome="question", summary="Both are in use.", questions=["British or American?"])
    write = bash('echo "colour it is" > "$OCTOPOID_ARTIFACTS/plan.md"')
    user.server.scripts |= {"planner-1": [ask], "planner-3": [write, text("Planned."), text("Planned.")]}
    drop(user.repo, "spell", "---\nflow: mine\n---\n# Fix the spelling\n")
    user.run(6)
    assert "British or American?" in user.octopoid("status")
    shutil.rmtree(Path(user.repo.env["HOME"]) / ".claude/projects")
    user.octopoid("answer", "spell", "-m", "British, please.")
    user.run()
    assert state_of(user.repo, "spell") is State.DONE
    ends = [one for one in records(user, "spell", "outcome.json") if one["kind"] == "attempt"]
    assert [(one["class"], one["charged"]) for one in ends] == [("task", False), ("ours", False), ("ok", False)]
    assert "No conversation found" in ends[1]["detail"]
    assert user.server.of("planner-2") == []
    assert "British, please." in user.asked("planner-3") and "Both are in use." not in user.asked("planner-3")
    assert (user.repo.layout.artifacts("spell") / "plan.md").read_text() == "colour it is\n"


def test_at_its_time_limit_all_of_it_is_ended(user: User) -> None:
    """One waits for the model, the other for programs that it started, some of them out of its reach.

    The limit is long beside the start of two Claudes at once on a busy machine (3 s was not)."""
    user.edit(("timeout: 45m", "timeout: 15s"), ("land:", "limits: {attempts: 1}\ngrace: 2s\nland:"))
    user.server.scripts |= {
        "silent": [hang()],
        "busy": [bash("echo begun > begun.txt; setsid sleep 601 & (nohup sleep 602 &) ; sleep 603"), text("Slept.")],
    }
    for name in ("silent", "busy"):
        user.task(name, name)
    began = time.monotonic()
    user.run(6)
    assert time.monotonic() - began < 2 * SOON
    for name in ("silent", "busy"):
        shown = user.task(name)["task"]
        assert (shown["state"], shown["reason"]) == ("blocked", "failed")
        assert "time limit" in shown["detail"]
    assert (user.worktree("busy") / "begun.txt").read_text() == "begun\n", "what it did is kept"
    user.server.scripts["busy"] = [text("I see.")]
    user.octopoid("retry", "busy")
    user.run(6)
    again = [json.dumps(call.body) for call in user.server.of("busy") if call.turn == 0][-1]
    assert "> Bash: echo begun > begun.txt; setsid" in again, "the next attempt is told what the last one did"
    assert "tool_use_id" not in again
    eventually(lambda: not marked(user.repo.root.parent, MARKS[:2]), 3, "something survived")


def test_claude_outlives_the_scheduler(user: User) -> None:
    """`kill -9` while Claude works: the next run takes in what it did, once."""
    going, go_on = user.repo.root.parent / "going", user.repo.root.parent / "go-on"
    wait = f"echo work > work.txt; touch {going}; while ! test -e {go_on}; do sleep 0.05; done"
    user.server.scripts["slow"] = [bash(wait), text("Done.")]
    user.task("slow", "slow")
    with user.repo.background("run", env=user.env) as scheduler:
        eventually(going.exists, 20, "Claude did not start")
        scheduler.kill()
        go_on.touch()
        user.run()
    assert landed(user.repo) == ("slow",)
    assert user.task("slow")["task"]["attempts"] == 1
