"""`octopoid say` to an agent at work, through the installed program, a real scheduler and real agent programs."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import test_builtin_agent
import test_claude_loop
from harness import Repo, drop, eventually, git, landed, script, state_of
from modelserver import text, tool
from test_claude_loop import MY_REVIEWER, REVIEWER
from test_claude_real import GATEKEEPER, claude, run, worktree  # noqa: F401 - fixtures

from octopoid import hearing
from octopoid.adapters import ADAPTERS
from octopoid.builtin import agent as program
from octopoid.states import State

claude_user = test_claude_loop.user
builtin_user = test_builtin_agent.user

FIRST, LATE = "Mind the print style.", "One more thing: sign it."
HEARD = "the agent reads it after its next tool call"
DEAF = "its program cannot be told while it works: the next attempt reads it"


class Turnstile:
    """A shell command that says that it has come, and waits until the test lets it go on."""

    def __init__(self, place: Path, name: str) -> None:
        self._came, self._go = place / f"{name}-came", place / f"{name}-go"

    @property
    def command(self) -> str:
        return f"touch {self._came}; while ! test -e {self._go}; do sleep 0.02; done"

    def came(self) -> None:
        eventually(self._came.exists, 30, "nobody came")

    def go(self) -> None:
        self._go.touch()


@contextmanager
def at_work(user: Any, *args: str) -> Iterator[None]:
    """A scheduler goes on meanwhile, and has to come to its end."""
    env = getattr(user, "env", None) or {"ANTHROPIC_API_KEY": "secret-key", "ANTHROPIC_BASE_URL": user.server.url}
    with user.repo.background("run", "--until-empty", *args, env=env) as scheduler:
        yield
        eventually(lambda: scheduler.process.poll() is not None, 60, "the scheduler did not end")


def asked(user: Any, name: str) -> list[str]:
    """What is new in every request of this script, as JSON text."""
    return [json.dumps(call.body["messages"][-2:], ensure_ascii=False) for call in user.server.of(name)]


def say_meanwhile(user: Any, name: str, before: int, message: str) -> Callable[[], Any]:
    """Say it as soon as the model is asked for the `before`-th time; the answer comes when that was done."""
    told = threading.Event()

    def go() -> str:
        eventually(lambda: len(user.server.of(name)) >= before, 30)
        answer: str = user.octopoid("say", name, "-m", message)
        told.set()
        return answer

    pool = ThreadPoolExecutor(1)
    future = pool.submit(go)
    pool.shutdown(wait=False)
    return future.result


def thread_of(repo: Repo, task: str) -> list[tuple[str, str, str]]:
    return [(one["kind"], one["who"], one["text"]) for one in repo.octopoid("thread", task, "--json").json()["posts"]]


@pytest.mark.parametrize(("fixture", "bash"), [("claude_user", "Bash"), ("builtin_user", "bash")])
def test_an_agent_at_work_is_told_while_a_tool_runs_and_as_it_is_about_to_end(
    fixture: str, bash: str, request: pytest.FixtureRequest
) -> None:
    user = request.getfixturevalue(fixture)
    gate = Turnstile(user.repo.root.parent, "gate")
    user.server.scripts["paint"] = [
        tool(bash, command=f"echo blue > a.txt; {gate.command}; false"),  # heard after a call that fails, too
        tool(bash, command="echo navy > a.txt"),
        text("I am done.", delay=3.0),
        tool(bash, command="echo 'navy, signed' > a.txt"),
        text("Signed."),
    ]
    drop(user.repo, "paint", "# Paint it\n\n[[paint]]\n")
    with at_work(user):
        gate.came()
        said = user.octopoid("say", "paint", "-m", FIRST)
        assert f"implementer: {HEARD}" in said and "next: octopoid log -f paint" in said
        late = say_meanwhile(user, "paint", 3, LATE)
        gate.go()
        assert HEARD in late()
    repo = user.repo
    assert landed(repo) == ("paint",) and git(repo, "show", "main:a.txt") == "navy, signed"
    requests = asked(user, "paint")
    assert [(FIRST in one, LATE in one) for one in requests] == [
        *((False, False), (True, False), (False, False), (False, True), (False, False)),
    ], "each once, in the request after the tool call, and after what was to be its end"
    assert [one.count(hearing.FIRST) for one in requests] == [0, 1, 0, 1, 0]
    log = user.octopoid("log", "paint", "--attempt", "1")
    assert log.count(f"* heard from a person: {FIRST}") == log.count(f"* heard from a person: {LATE}") == 1
    assert log.count(FIRST) == log.count(LATE) == 1, "and not a second time as a hook's feedback"
    posts = thread_of(repo, "paint")
    assert ("say", "person", FIRST) in posts and ("note", "implementer", "heard what was said in 002") in posts
    assert posts.index(("note", "implementer", "heard what was said in 003")) < posts.index(
        next(one for one in posts if one[0] == "summary")
    )
    assert sorted(path.name for path in (repo.layout.entry("paint", 1) / "said").iterdir()) == [
        "002.heard.md",
        "003.heard.md",
    ]


def test_a_word_to_an_agent_that_cannot_hear_is_for_the_next_attempt(repo: Repo) -> None:
    gate = repo.root.parent / "gate"
    deeds = [
        [{"wait_for": str(gate)}, {"fail": "No idea."}],
        [{"write": {"path": "a", "text": "b"}}, {"commit": "A"}],
    ]
    script(repo, {"tasks": {"default": {"implementer": deeds}}})
    drop(repo, "paint", "# Paint it\n")
    with repo.background("run"):
        eventually(lambda: (repo.layout.entry("paint", 1) / "pid").exists())
        assert f"implementer: {DEAF}" in repo.octopoid("say", "paint", "-m", FIRST).err
        gate.touch()
        eventually(lambda: state_of(repo, "paint") is State.INCOMING, 20)
        repo.octopoid("retry", "paint")
        eventually(lambda: state_of(repo, "paint") is State.DONE, 30)
    prompts = sorted(repo.layout.entries("paint").glob("*/prompt.md"))
    assert [FIRST in path.read_text(encoding="utf-8") for path in prompts] == [False, True]
    assert not list(repo.layout.entries("paint").glob("*/said"))


def test_a_reviewer_of_claude_hears_and_its_last_word_takes_nothing_along(claude_user: test_claude_loop.User) -> None:
    """Whatever a hook says after its structured output is lost: so nothing is taken then."""
    user = claude_user
    user.edit(("gates: [checks]", "gates: [gatekeeper]"), (REVIEWER, MY_REVIEWER))
    user.role("implementer", "[[implementer]]")
    user.role("gatekeeper", "[[gatekeeper]]", tools="Bash, Read")
    gate = Turnstile(user.repo.root.parent, "gate")
    accept = tool("StructuredOutput", outcome="accept", summary="Fine.")
    user.server.scripts |= {
        "implementer": [tool("Bash", command="echo blue > a.txt"), text("Done.")],
        "gatekeeper": [tool("Bash", command=gate.command), accept._replace(delay=3.0)],
    }
    drop(user.repo, "paint", "# Paint it\n")
    with at_work(user):
        gate.came()
        assert f"gatekeeper: {HEARD}" in user.octopoid("say", "paint", "-m", FIRST)
        gate.go()
        eventually(lambda: len(user.server.of("gatekeeper")) == 2, 30)
        user.octopoid("say", "paint", "-m", LATE)
    assert landed(user.repo) == ("paint",)
    requests = asked(user, "gatekeeper")
    assert [(FIRST in one, LATE in one) for one in requests] == [(False, False), (True, False)]
    (said,) = user.repo.layout.entries("paint").glob("*/said")
    assert sorted(path.name[3:] for path in said.iterdir()) == [".heard.md", ".md"], "the late one waits"


def test_hooks_of_claude_change_nothing_where_nothing_is_said(run: Any, repo: Repo) -> None:  # noqa: F811 - the fixture
    """Nor for who only looks, and the user's own hooks are started as well."""
    place = Path(repo.env["HOME"])
    (place / ".claude").mkdir()
    mine = {"PostToolUse": [{"hooks": [{"type": "command", "command": f"touch {place}/mine"}]}]}
    (place / ".claude/settings.json").write_text(json.dumps({"hooks": mine}), encoding="utf-8")
    accept = tool("StructuredOutput", outcome="accept", summary="Fine.")
    ran = run([tool("Bash", command="git log -1 --format=%s"), accept], role=GATEKEEPER)
    assert ran.reading.class_ == "ok" and (place / "mine").exists()
    assert [call.turn for call in ran.server.of("script")] == [0, 1]
    ran = run([tool("Bash", command="true"), text("Done.")])
    assert [call.turn for call in ran.server.of("script")] == [0, 1]
    assert '"hook_' not in ran.log and hearing.LINE not in ran.log


def test_a_helper_of_claudes_own_does_not_take_what_was_said(claude_user: test_claude_loop.User) -> None:
    """It does not have the task: the message waits until the agent itself goes on."""
    user = claude_user
    gate = Turnstile(user.repo.root.parent, "gate")
    user.server.scripts |= {
        "paint": [
            tool("Task", description="d", prompt="[[helper]] Look.", subagent_type="general-purpose"),
            tool("Bash", command="echo blue > a.txt"),
            text("Done."),
        ],
        "helper": [tool("Bash", command=gate.command), tool("Bash", command="true"), text("Looked.")],
    }
    drop(user.repo, "paint", "# Paint it\n\n[[paint]]\n")
    with at_work(user):
        gate.came()
        assert HEARD in user.octopoid("say", "paint", "-m", FIRST)
        gate.go()
    assert landed(user.repo) == ("paint",)
    assert not any(FIRST in one for one in asked(user, "helper"))
    assert [FIRST in one for one in asked(user, "paint")] == [False, True, False]


# --- the parts ---


def leave(entry: Path, *messages: str) -> None:
    (entry / hearing.FOLDER).mkdir(parents=True)
    for number, said in enumerate(messages, start=9):
        (entry / hearing.FOLDER / hearing.name(number)).write_text(said, encoding="utf-8")


def hook(entry: Path, **event: Any) -> str:
    argv = [sys.executable, "-I", "-S", hearing.__file__, str(entry)]
    done = subprocess.run(argv, input=json.dumps(event), capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def test_each_message_is_taken_once_and_in_order(tmp_path: Path) -> None:
    assert (hearing.waiting(str(tmp_path)), hearing.take(str(tmp_path)), hearing.heard(str(tmp_path))) == ([], [], [])
    leave(tmp_path, "nine", "ten")
    (tmp_path / "said/.tmp-1.md").touch()
    (tmp_path / "said/100.md").write_text("x" * (hearing.LONGEST + 5), encoding="utf-8")
    assert len(hearing.waiting(str(tmp_path))) == 3
    with ThreadPoolExecutor(4) as pool:
        taken = [one for each in pool.map(hearing.take, [str(tmp_path)] * 8) for one in each]
    assert sorted(words for words, _ in taken)[:2] == ["nine", "ten"] and len(taken) == 3
    long = next(told for words, told in taken if words.startswith("x"))
    assert f"5 characters are left out; the whole of it: {tmp_path}/said/100.heard.md]" in long
    assert [number for number, _ in hearing.heard(str(tmp_path))] == [9, 10, 100]


def test_the_hook_says_what_the_event_needs_and_only_to_the_agent_itself(tmp_path: Path) -> None:
    log = tmp_path / "output.log"
    log.write_bytes(b'{"type":"user"}\n')
    leave(tmp_path, FIRST)
    assert hook(tmp_path, hook_event_name="PostToolUse", agent_id="a1", tool_name="Bash") == ""
    assert hook(tmp_path, hook_event_name="PostToolUse", tool_name="StructuredOutput") == ""
    said = json.loads(hook(tmp_path, hook_event_name="PostToolUse", tool_name="Bash"))["hookSpecificOutput"]
    assert said["hookEventName"] == "PostToolUse" and FIRST in said["additionalContext"]
    assert hook(tmp_path, hook_event_name="Stop") == "", "no loop: it is heard"
    (tmp_path / "said/010.md").write_text(LATE, encoding="utf-8")
    log.write_bytes(log.read_bytes() + b'{"type":"assi')
    ended = json.loads(hook(tmp_path, hook_event_name="Stop", stop_hook_active=True))
    assert ended["decision"] == "block" and LATE in ended["reason"]
    lines = log.read_bytes().splitlines()
    assert len(lines) == 3 and lines[2] == b'{"type":"assi', "it never writes into somebody's line"
    (event,) = ADAPTERS["claude"].hear(lines[1]) or ()
    assert (event.kind, event.text) == ("note", f"heard from a person: {FIRST}")


def test_what_cannot_be_read_is_nothing(tmp_path: Path) -> None:
    leave(tmp_path)
    (tmp_path / "said/001.md").symlink_to("/etc/passwd")
    (tmp_path / "said/002.md").mkdir()
    assert hearing.take(str(tmp_path)) == []
    assert "stands by itself" in program.SYSTEM
