"""The built-in agent: through the whole loop, its program by itself, and its parts.

The model is a script on loopback (tests/modelserver.py); the program, its SDK, the scheduler, git and the worktrees are
real. A task chooses its script by the marker `[[name]]` in its text, a role's prompt by one that stands below it.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from harness import PACKAGE, PROJECT, Repo, commit, drop, eventually, git, init, landed, state_of, told, write_config
from modelserver import ModelServer, Step, error, fault, hang, several, text, thought, tool
from modelserver import drop as dropped

from octopoid import clock, prices
from octopoid.adapters import ADAPTERS, Evidence, Request
from octopoid.adapters.anthropic import Job, dump, load
from octopoid.adapters.base import LOST
from octopoid.builtin import agent as program
from octopoid.builtin import conversation, finish, shell, transcript
from octopoid.builtin.editor import Editor, Refused
from octopoid.builtin.tools import Toolbox
from octopoid.errors import Invalid
from octopoid.model import Usage
from octopoid.prices import Tokens
from octopoid.settings import Agent, Role
from octopoid.states import State

EDITOR = "str_replace_based_edit_tool"
SOON = 30.0


def bash(command: str, **given: Any) -> Step:
    return tool("bash", command=command, **given)


def edit(command: str, path: object, **given: Any) -> Step:
    return tool(EDITOR, command=command, path=str(path), **given)


def done(outcome: str = "done", summary: str = "Done.", **given: Any) -> Step:
    return tool("finish", outcome=outcome, summary=summary, **given)


# --- through the whole loop ---


class User(NamedTuple):
    """Somebody with a repository, an agent for every role, and a key in their shell."""

    repo: Repo
    server: ModelServer

    def octopoid(self, *args: str, ok: tuple[int, ...] = (0,)) -> str:
        env = {"ANTHROPIC_API_KEY": "secret-key", "ANTHROPIC_BASE_URL": self.server.url}
        answer = self.repo.octopoid(*args, ok=ok, env=env)
        return answer.out + answer.err

    def run(self, status: int = 0) -> str:
        return self.octopoid("run", "--until-empty", ok=(status,))

    def policy(self, agent: dict[str, Any] | None = None, **more: Any) -> None:
        team = {"roles": "all", "adapter": "anthropic", "instances": 4, "env": ["ANTHROPIC_API_KEY"]}
        team |= {"base_url": self.server.url, "model": "sonnet", **(agent or {})}
        usual = {
            "version": 1,
            "base": "main",
            "gates": ["checks"],
            "checks": [{"name": "readme", "run": "test -s README.md"}],
        }
        write_config(self.repo, json.dumps({**usual, "agents": {"team": team}, **more}, indent=1))

    def role(self, name: str) -> None:
        """The built-in role with a marker of its own for every attempt."""
        builtin = (PROJECT / f"octopoid/roles/{name}.md").read_text(encoding="utf-8")
        self.repo.layout.roles.mkdir(exist_ok=True)
        (self.repo.layout.roles / f"{name}.md").write_text(
            f"{builtin}\n[[{name}-{{{{ attempt }}}}]]\n", encoding="utf-8"
        )

    def task(self, name: str, script: str = "") -> Any:
        """Drop a task file, or say what `show` says about it."""
        if script:
            drop(self.repo, name, f"# Do {name}\n\nAs scripted. [[{script}]]\n")
        return self.repo.octopoid("show", name, "--json").json()["task"]

    def outcome(self, name: str, number: int = 1) -> Any:
        return json.loads((self.repo.layout.entry(name, number) / "outcome.json").read_bytes())

    def asked(self, script: str, turn: int = 0) -> str:
        """What the model was told, as JSON text, when it was asked for answer number `turn`."""
        return next(json.dumps(call.body, ensure_ascii=False) for call in self.server.of(script) if call.turn == turn)


@pytest.fixture
def user(repo: Repo) -> Iterator[User]:
    with ModelServer({}) as server:
        somebody = User(repo, server)
        init(repo)
        somebody.policy()
        yield somebody


BROKEN = {
    **PACKAGE,
    "calc/__init__.py": "def add(a: int, b: int) -> int:\n    return a - b\n",
    "AGENTS.md": "Be brief.\n",
}
RUN_TESTS = 'python3 -B -c "from calc import add; assert add(2, 3) == 5"'
FLOW = """\
stages:
  - {name: plan, role: planner, artifact: plan.md}
  - {name: implement, role: implementer, needs: [plan.md]}
gates: [checks, gatekeeper]
"""


def test_a_planner_an_implementer_and_a_gatekeeper_mend_a_failing_test(user: User) -> None:
    """A document, commits and a verdict; who may not write does not, and what it tried is in the log."""
    user.policy(checks=[{"name": "tests", "run": RUN_TESTS}])
    commit(user.repo, BROKEN, "A package with a bug")
    user.repo.layout.flows.mkdir(exist_ok=True)
    (user.repo.layout.flows / "mine.yaml").write_text(FLOW, encoding="utf-8")
    for role in ("planner", "implementer", "gatekeeper"):
        user.role(role)
    plan = user.repo.layout.entry_artifacts("mend", 1) / "plan.md"
    user.server.scripts |= {
        "planner-1": [
            edit("create", "calc/new.py", file_text="x"),
            edit("create", plan, file_text="Turn the minus into a plus.\n"),
            done(summary="A short plan."),
        ],
        "implementer-1": [
            several(thought("It subtracts."), text("I run the test first."), bash(f"{RUN_TESTS}; env | sort")),
            edit("str_replace", "calc/__init__.py", old_str="a - b", new_str="a + b"),
            bash(f"{RUN_TESTS} && git commit -qam 'Add, do not subtract'"),
            done(summary="It adds now."),
        ],
        "gatekeeper-1": [
            tool("git", arguments=["diff", "HEAD~1"]),
            edit("create", "calc/__init__.py", file_text="x"),
            bash("rm -rf calc"),
            tool("finish", outcome="done", summary="Fine."),
            done("accept", "It adds.", findings=[]),
        ],
    }
    drop(user.repo, "mend", "---\nflow: mine\n---\n# Mend the sum\n")
    user.run()
    repo = user.repo
    assert landed(repo) == ("mend",) and git(repo, "show", "main:calc/__init__.py").endswith("return a + b")
    assert git(repo, "status", "--porcelain") == "?? .octopoid/"
    shown = user.task("mend")
    assert 0 < shown["usd"] < 0.1 and shown["attempts"] == 1

    first = user.asked("implementer-1")
    assert "Turn the minus into a plus." in first and "Be brief." in first, "the plan, and the habits of the project"
    seen = user.asked("implementer-1", turn=1)
    assert "AssertionError" in seen and "OCTOPOID_TASK_ID=mend" in seen and "secret-key" not in seen
    assert "signed-" in seen, "what it thought goes back to it"
    call = user.server.of("implementer-1")[2]
    assert call.headers.get("authorization", "") + call.headers.get("x-api-key", "") in (
        "Bearer secret-key",
        "secret-key",
    )
    marks = json.dumps(call.body).count("cache_control")
    assert (call.body["model"], marks, call.body["stream"]) == ("claude-sonnet-5-5", 3, True)
    assert "tool_choice" not in call.body

    log = user.octopoid("log", "mend", "--attempt", "2")
    assert "~ It subtracts." in log and "I run the test first.\n> bash: python3 -B -c" in log
    assert f"> {EDITOR}: str_replace calc/__init__.py\n  Changed calc/__init__.py:" in log
    assert "\n= 4 turns, " in log and '"type":' not in log
    assert '{"type":"ended","class":"ok"' in user.octopoid("log", "mend", "--attempt", "2", "--raw")
    refused = user.octopoid("log", "mend", "--attempt", "1")
    assert (
        f"! denied: {EDITOR}: calc/new.py: only what is below" in refused
        and "artifacts may be changed with this tool" in refused
    )
    entries = user.repo.octopoid("show", "mend", "--json").json()["entries"]
    entry = next(one["number"] for one in entries if one["role"] == "gatekeeper")
    review = user.octopoid("log", "mend", "--attempt", str(entry))
    assert "+    return a + b" in review and "! denied: bash: there is no tool `bash`; there are: git, " in review
    assert "nothing may be changed" in review and "! `outcome` must be one of accept, reject" in review
    assert not json.loads((repo.layout.entry("mend", entry) / "facts.json").read_bytes()).get("changed")
    assert (repo.layout.entry("mend", 2) / transcript.NAME).read_text(encoding="utf-8").count('"assistant"') == 4


def test_four_at_once_and_what_goes_wrong_in_them(user: User) -> None:
    """Much output, a hanging command, paths that lead out; 500 and broken streams; too many turns; no work."""
    user.policy({"max_turns": 9}, limits={"attempts": 1})
    outside = user.repo.root.parent / "outside"
    outside.mkdir()
    user.server.scripts |= {
        "rough": [
            bash("yes 0123456789 | head -c 10000000; echo the end"),
            bash("echo begun; (setsid sh -c 'sleep 6017 & wait' &); sleep 602", timeout=0.3),
            bash(r"cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ' | grep -c 'sleep 601[7]'"),
            bash(f"ln -s {outside} link"),
            edit("create", "link/x", file_text="x"),
            edit("view", "../../../agents.yaml"),
            bash("rm link; echo work > work.txt"),
            text("It is in work.txt."),
        ],
        "flaky": [
            error(529, times=1),
            dropped(times=1),
            fault(times=1),
            bash("echo x > flaky.txt"),
            text("Recovered."),
        ],
        "endless": [bash("true")] * 12,
        "idle": [text("All done, it works great!")],
    }
    for name in ("rough", "flaky", "endless", "idle"):
        user.task(name, name)
    user.run(6)
    assert set(landed(user.repo)) == {"rough", "flaky"}
    assert not any(outside.iterdir()) and git(user.repo, "show", "main:work.txt") == "work"
    much = user.asked("rough", turn=1)
    assert "bytes left out" in much and "the end" in much and len(much) < 60_000
    assert "took longer than 0.3 s: ended" in user.asked("rough", turn=2)
    assert '"0\\n[exit status 1]"' in user.asked("rough", turn=3), "also who had run away from it"
    log = user.octopoid("log", "rough", "--attempt", "1")
    assert f"! denied: {EDITOR}: link/x: only what is below" in log
    assert f"! denied: {EDITOR}: ../../../agents.yaml: only what is below" in log
    assert f"\n! tool calls were denied: {EDITOR} (2)\n= 8 turns, " in log
    log = user.octopoid("log", "flaky", "--attempt", "1")
    assert "! the model did not answer (529, try 1 of 3)\n" in log
    assert "! the model did not answer (the answer broke off, try 1 of 3); tries again in 0.5 s" in log
    assert "! the model did not answer (500: scripted fault, try 2 of 3); tries again in 1.0 s" in log
    endless, idle = user.task("endless"), user.task("idle")
    assert (endless["state"], endless["reason"]) == (idle["state"], idle["reason"]) == ("blocked", "failed")
    assert "9 turns were not enough (max_turns)" in endless["detail"] and endless["usd"] > 0
    assert "3 turns are left" in user.asked("endless", turn=6)
    assert "no changes" in idle["detail"]


def test_a_question_is_answered_in_the_same_conversation(user: User) -> None:
    user.role("implementer")
    question = "British or American?"
    user.server.scripts |= {
        "implementer-1": [
            several(thought("Hm."), text("Both are in use.")),
            done("question", "", questions=[question]),
        ],
        "implementer-2": [bash("echo colour > spelling.txt"), done(summary="British it is.")],
    }
    user.server.scripts["implementer-1"] = [several(thought("Hm."), done("question", "Both.", questions=[question]))]
    drop(user.repo, "spell", "# Fix the spelling\n")
    user.run(6)
    assert state_of(user.repo, "spell") is State.BLOCKED and question in user.octopoid("status")
    assert user.outcome("spell")["session"] == "001"
    user.octopoid("answer", "spell", "-m", "British, please.")
    user.run()
    assert landed(user.repo) == ("spell",)
    heard = user.asked("implementer-2")
    assert heard.index(question) < heard.index("Noted.") < heard.index("British, please."), "the same conversation"
    assert "goes on from 001" in user.octopoid("log", "spell", "--attempt", "3")
    assert user.task("spell")["rounds"] == 0


def test_a_wrong_key_and_a_rate_limit_charge_nobody(user: User) -> None:
    """The first agent's key is refused; the other one's server is busy for two minutes. Both say what to do.

    To the second the server has another name: what it pays with there is another credential.
    """
    agents = {
        name: {"role": role, "adapter": "anthropic", "env": ["ANTHROPIC_API_KEY"], "base_url": self_url}
        for name, role, self_url in (
            ("coder", "implementer", user.server.url),
            ("busy", "qa-engineer", user.server.url.replace("127.0.0.1", "localhost")),
        )
    }
    user.policy(agents=agents)
    user.server.scripts |= {
        "refused": [error(401, message="invalid x-api-key")],
        "later": [error(429, message="slow down", retry_after="120")],
    }
    user.task("first", "refused")
    user.task("second", "refused")
    drop(user.repo, "third", "---\nrole: qa-engineer\n---\n# Test it\n\n[[later]]\n")
    began = time.monotonic()
    user.run(6)
    assert time.monotonic() - began < SOON
    names = ("first", "second", "third")
    assert {state_of(user.repo, name) for name in names} == {State.INCOMING}
    assert len(user.server.of("refused")) == 1 and len(user.server.of("later")) == 1, "nothing is tried again in vain"
    ended = user.outcome("third")
    assert (ended["class"], ended["charged"]) == ("environment", False)
    assert "asks to wait for 120 s" in ended["detail"]
    breakers = json.loads(user.repo.layout.breakers.read_bytes())
    assert len(breakers) == 2
    waits = [clock.parse(one["until"]) - clock.parse(one["since"]) for one in breakers.values()]
    assert sorted(round(one) for one in waits) == [30, 120], "as long as the server asked for"
    for name in ("first", "second"):
        why = user.octopoid("why", name)
        assert "401: invalid x-api-key; set the right ANTHROPIC_API_KEY where `octopoid run` is started" in why
    user.server.scripts["refused"] = [bash('echo x > "$OCTOPOID_TASK_ID.txt"'), text("Done.")]
    user.octopoid("resume", "--agent", "coder")
    user.run(6)
    assert set(landed(user.repo)) == {"first", "second"}


def test_stopping_ends_it_with_all_that_it_started(user: User) -> None:
    going = user.repo.root.parent / "going"
    user.server.scripts["busy"] = [bash(f"touch {going}; setsid sleep 601 & sleep 602"), text("Slept.")]
    drop(user.repo, "busy", "# Sleep\n\n[[busy]]\n")
    env = {"ANTHROPIC_API_KEY": "k"}
    with user.repo.background("run", env=env):
        eventually(going.exists, 20, "the command did not start")
        user.octopoid("stop", "busy")
        eventually(lambda: state_of(user.repo, "busy") is State.BLOCKED, 15, "it was not stopped")
    ended = user.outcome("busy")
    assert (ended["charged"], ended["usage"]["input_tokens"]) == (False, 10), "what it used is known all the same"


# --- the program by itself ---


class Place(NamedTuple):
    """A worktree, and the folder of an attempt."""

    worktree: Path
    entry: Path
    server: ModelServer

    def work(self, prompt: str, **job: Any) -> int:
        """What the program does, in this very process."""
        (self.entry / "artifacts").mkdir(parents=True, exist_ok=True)
        given = {"base_url": self.server.url, "model": "sonnet", "retries": 0, **job}
        env = {"PATH": os.environ["PATH"], "HOME": str(self.worktree)}
        return program.work(Job(str(self.entry), **given), prompt, self.worktree, env)

    def next(self) -> Place:
        """The same with the next attempt."""
        return self._replace(entry=self.entry.parent / f"{int(self.entry.name) + 1:03}")

    def said(self) -> Any:
        return json.loads((self.entry / "result.json").read_bytes())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    worktree = tmp_path / "worktree"
    worktree.mkdir()
    monkeypatch.chdir(worktree)
    with ModelServer({}) as server:
        yield Place(worktree, tmp_path / "001", server)


def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


def reading(tmp_path: Path, printed: list[dict[str, Any]], status: int) -> Any:
    """What the adapter makes of the lines."""
    log = tmp_path / "output.log"
    log.write_bytes("".join(json.dumps(one, separators=(",", ":")) + "\n" for one in printed).encode())
    one = Agent("coder", "implementer", "anthropic", env=("ANTHROPIC_API_KEY",))
    return ADAPTERS["anthropic"].read(one, Evidence(status, None, "exit", log, 0, log.stat().st_size))


@pytest.mark.parametrize(
    ("script", "job", "class_", "reason", "detail"),
    [
        ([error(400, message="max_tokens: too large")], {}, "task", "refused by the API", "400: max_tokens: too large"),
        ([error(400, message="Your credit balance is too low")], {}, "environment", "no credit", "credit balance"),
        ([error(403, message="no")], {}, "environment", "not logged in", "403: no"),
        ([error(404, message="model: x")], {}, "environment", "configuration", "404: model: x"),
        ([error(429, message="busy")], {}, "environment", "rate limit", "429: busy"),
        ([error(500, message="oops")], {}, "environment", "no answer", "500: oops"),
        ([error(529, message="full")], {}, "environment", "no answer", "529: full"),
        ([dropped()], {}, "environment", "no answer", "the answer broke off (tries: 1)"),
        ([fault("authentication_error")], {}, "environment", "not logged in", "401: scripted fault"),
        ([text("")._replace(stop="refusal")], {}, "task", "refused by the model", "refused to answer"),
        ([text("Fine.")] * 3, {"produces": "verdict"}, "task", "no word", "it ended without its word: Fine."),
        ([bash("true")] * 9, {"max_turns": 4}, "task", "turn limit", "4 turns were not enough"),
        ([bash("true")] * 9, {"max_tokens": 40}, "task", "budget", "45 tokens used, 40 allowed (max_tokens)"),
        ([bash("true")] * 9, {"max_usd": 0.0001}, "task", "budget", "$0.0001 spent, $0.0001 were left for it"),
        ([text("Hi")], {"max_usd": 1, "model": "llama"}, "environment", "configuration", "the model llama costs"),
        ([text("Hi")], {"session": "007"}, "ours", LOST, "No such file"),
        ([text("Hi")], {"session": "../x"}, "ours", LOST, "is no attempt"),
        ([text("Hi")], {"base_url": "http://127.0.0.1:9"}, "environment", "no answer", "no answer from http://127.0.0.1:9"),
        ([text("Hi")], {"base_url": ""}, "environment", "not logged in", "no ANTHROPIC_API_KEY in its environment"),
    ],
)  # fmt: skip
def test_every_end_has_its_class(
    script: list[Step],
    job: dict[str, Any],
    class_: str,
    reason: str,
    detail: str,
    place: Place,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    place.server.scripts["x"] = script
    status = place.work("[[x]]", **job)
    found = reading(tmp_path, lines(capfd), status)
    assert (found.class_, found.reason, status) == (class_, reason, program.STATUSES[class_])
    assert detail in found.detail and not (place.entry / "result.json").exists()
    trips = {"configuration": "agent:coder"}.get(reason, "ANTHROPIC_API_KEY") if class_ == "environment" else ""
    assert found.breaker == trips and bool(found.fix) == bool(trips)
    look = "set the right ANTHROPIC_API_KEY where `octopoid run` is started, and start it again"
    assert found.fix == look or reason != "not logged in"


def test_it_tries_again_and_says_so(place: Place, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place.server.scripts |= {
        "flaky": [error(503, times=1, retry_after_ms="10"), dropped(times=1), fault(times=1), text("Recovered.")],
        "busy": [error(429, retry_after="120")],
        "soon": [error(429, times=1, retry_after="Sat, 21 Nov 2026 16:00:00 GMT"), text("Recovered.")],
    }
    assert place.work("[[flaky]]", retries=2) == 0
    tries = [(one.get("status"), one.get("why"), one.get("wait")) for one in lines(capfd) if one["type"] == "retry"]
    assert tries == [(503, None, 0.01), (None, "the answer broke off", 0.5), (None, "500: scripted fault", 1.0)]
    status = place.next().work("[[busy]]", retries=2)
    found = reading(tmp_path, lines(capfd), status)
    assert (found.class_, found.reason, found.retry_after) == ("environment", "rate limit", 120)
    assert len(place.server.of("busy")) == 1, "the wait is the scheduler's"
    assert place.next().next().work("[[soon]]", retries=1) == 0
    printed = lines(capfd)
    assert [one["status"] for one in printed if one["type"] == "retry"] == [429]
    nobody = place._replace(entry=tmp_path / "009")
    assert nobody.work("[[x]]", retries=1, base_url="http://127.0.0.1:9") == program.STATUSES["environment"]
    assert "refused" in next(one["why"] for one in lines(capfd) if one["type"] == "retry")


def test_stops_that_are_no_end(place: Place) -> None:
    """A pause is gone on from; where the window is full, the conversation begins again."""
    place.server.scripts |= {
        "pause": [text("One.")._replace(stop="pause_turn"), text("Two.")],
        "full": [bash("echo 1"), text("[[rest]]")._replace(stop="model_context_window_exceeded")],
        "rest": [text("Done.")],
        "again": [bash("echo 1"), text("And")._replace(stop="model_context_window_exceeded")],
    }
    assert place.work("[[pause]]") == 0
    assert place.server.of("pause")[1].body["messages"][-1]["role"] == "assistant"
    assert place.next().work("[[full]]") == 0
    assert "It gave: 1" in json.dumps(place.server.of("rest")[0].body["messages"][0])
    assert place.next().next().work("[[again]]") == 1, "not for ever"


def test_a_server_that_counts_nothing_is_estimated(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    place.server.scripts |= {
        "long": [bash("seq 2000", usage=(0, 0)), bash("true", usage=(0, 0)), text("[[short]] So far.", usage=(0, 0))],
        "short": [done()],
    }
    assert place.work("[[long]]", context=2000) == 0
    assert next(one["tokens"] for one in lines(capfd) if one["type"] == "summarised") > 2000


def test_habits_are_a_part_of_the_prompt(tmp_path: Path) -> None:
    assert program.habits(tmp_path) == ""
    (tmp_path / "CLAUDE.md").write_text("Be brief.\n")
    assert program.habits(tmp_path).endswith("agents (CLAUDE.md)\n\nBe brief.\n")
    (tmp_path / "AGENTS.md").symlink_to("/etc/passwd")
    assert "CLAUDE.md" in program.habits(tmp_path), "nothing from outside"


def test_what_an_unknown_model_costs_is_unknown(
    place: Place, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place.server.scripts["x"] = [bash("true"), text("Hi.")]
    place.work("[[x]]", model="llama-9")
    found = reading(tmp_path, lines(capfd), 0)
    assert (found.class_, found.usage, found.session) == ("ok", Usage(20, 10, None, 0), "001")
    assert found.result.summary == "Hi."


def test_the_lines_are_told(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    place.server.scripts["x"] = [bash("echo hello; exit 3"), text("Hi.")]
    place.work("[[x]]")
    shown = [told("anthropic", line.encode()) for line in capfd.readouterr().out.splitlines()]
    assert [one for one in shown if one][:4] == [
        "built-in agent, model claude-sonnet-5-5, session 001",
        "> bash: echo hello; exit 3",
        "  hello\n  [exit status 3]",
        "Hi.",
    ]
    assert None not in shown and told("anthropic", b'{"type":"new"}') is None and told("anthropic", b"x") is None


def test_a_long_conversation_is_summarised(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    """It begins again with the task, the model's own summary and its last steps."""
    place.server.scripts |= {
        "long": [
            several(thought("Hm."), bash("echo first; echo 1 > kept.txt")),
            bash("echo second", usage=(2000, 10)),
            text("[[short]] I wrote kept.txt; next: finish.", usage=(2010, 20)),
        ],
        "short": [bash("cat kept.txt"), done()],
    }
    assert place.work("Count. [[long]]", context=1500) == 0
    call = place.server.of("short")[0].body["messages"]
    assert [one["role"] for one in call] == ["user"]
    whole = json.dumps(call)
    assert "Count." in whole and "next: finish." in whole and "echo second" in whole and "signed" not in whole
    assert "You called bash" in whole and "echo second" in json.dumps(place.server.of("long")[2].body["messages"][-2])
    printed = lines(capfd)
    assert [one["tokens"] for one in printed if one["type"] == "summarised"] == [2010]
    assert printed[-1]["total"]["input_tokens"] == 10 + 2000 + 2010 + 10 + 10, "the summary is paid for too"
    again = transcript.read(place.entry).messages
    assert again[0]["content"] == [
        {key: value for key, value in one.items() if key != "cache_control"} for one in call[0]["content"]
    ]
    assert [one["role"] for one in again] == ["user", "assistant", "user", "assistant", "user"]


def test_a_task_that_is_too_long_ends_it(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    place.server.scripts["x"] = [error(400, message="prompt is too long: 300000 tokens")]
    assert place.work("[[x]]") == 1
    assert "the task alone needs" in lines(capfd)[-1]["detail"]


def test_what_the_server_does_not_take_is_mended_once(place: Place) -> None:
    """Thoughts of another model; a conversation that is too long although it was not expected to be."""
    strange = "messages.1.content.0: thinking blocks are bound to their conversation"
    place.server.scripts |= {
        "thinks": [several(thought("Hm."), bash("true")), error(400, times=1, message=strange), done()],
        "long": [bash("echo 1"), bash("echo 2"), error(400, times=1, message="input is too long"), text("done")],
    }
    assert place.work("[[thinks]]") == 0
    assert "signed" not in json.dumps(place.server.of("thinks")[-1].body)
    assert place.next().work("[[long]]") == 0
    assert "It gave: 2" in json.dumps(place.server.of("long")[-1].body["messages"])


def test_it_goes_on_where_it_was_killed(place: Place) -> None:
    """The call that nobody answered is answered, and a torn line at the end is left out."""
    place.server.scripts |= {"one": [several(thought("Hm."), bash("true")), text("Half.")], "two": [done()]}
    place.work("[[one]]")
    path = place.entry / transcript.NAME
    kept = path.read_bytes().splitlines(keepends=True)[:3]
    path.write_bytes(b"".join(kept) + b'{"role":"us')
    assert place.next().work("Go on. [[two]]", session="001") == 0
    first = place.server.of("two")[0].body["messages"]
    assert [one["role"] for one in first] == ["user", "assistant", "user"]
    assert "was ended before this was done" in json.dumps(first[2]) and "signed" in json.dumps(first[1])
    assert place.next().next().work("Go on. [[two]]", session="002", model="opus") == 0
    assert "signed" not in json.dumps(place.server.of("two")[-1].body), "another model cannot read these thoughts"


def test_an_answer_that_is_too_long_is_asked_for_in_parts(place: Place) -> None:
    place.server.scripts["x"] = [
        text("Once upon a")._replace(stop="max_tokens"),
        bash("echo 1 > x")._replace(stop="max_tokens"),
        done(),
    ]
    assert place.work("[[x]]") == 0
    assert not (place.worktree / "x").exists(), "half a command is another command"
    last = json.dumps(place.server.calls[-1].body["messages"])
    assert "Your message was cut off" in last and "This was not done" in last


@pytest.mark.parametrize(
    ("produces", "word", "wrong"),
    [
        ("commits", {"outcome": "handoff", "handoff_to": "devops", "summary": "s"}, {"outcome": "accept"}),
        ("document", {"outcome": "done", "summary": "s"}, {"outcome": "done", "subtasks": [{"title": "x"}]}),
        ("verdict", {"outcome": "reject", "summary": "s", "feedback": "f"}, {"outcome": "reject", "summary": "s"}),
        ("tasks", {"outcome": "done", "subtasks": [{"title": "x"}]}, {"outcome": "done", "summary": "s"}),
        ("commits", {"outcome": "question", "summary": "", "questions": ["?"]}, {"outcome": "question", "summary": ""}),
        ("verdict", {"outcome": "accept", "summary": "s"}, {"outcome": "acept", "summary": "s"}),
    ],
)  # fmt: skip
def test_the_word_of_each_role(produces: str, word: dict[str, Any], wrong: dict[str, Any], place: Place) -> None:
    place.server.scripts["x"] = [tool("finish", **wrong), tool("finish", **word)]
    assert place.work("[[x]]", produces=produces, writes=produces == "commits") == 0
    assert place.said() == word
    with pytest.raises(Invalid):
        finish.accept(wrong, produces, place.entry / "never.json")
    assert finish.schema(produces)["additionalProperties"] is False


def test_a_signal_ends_the_program(place: Place) -> None:
    """SIGTERM to it alone while it waits for the model."""
    place.server.scripts["x"] = [hang()]
    (place.entry / "artifacts").mkdir(parents=True)
    coder = Agent("coder", "implementer", "anthropic", base_url=place.server.url)
    role, prompt = Role("implementer", ""), place.entry / "prompt.md"
    argv = ADAPTERS["anthropic"].launch(Request(coder, role, place.entry, prompt, place.worktree)).argv
    read, write = os.pipe()
    os.write(write, b"[[x]]")
    os.close(write)
    actions = [(os.POSIX_SPAWN_DUP2, read, 0), (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawn(argv[0], argv, {"HOME": str(place.worktree)}, file_actions=actions)
    os.close(read)
    eventually(lambda: place.server.of("x"), 30, "it did not ask")
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM


# --- its parts ---


def test_a_job_is_one_argument() -> None:
    job = Job("/e/001", "document", False, ("Read", "Bash(git log:*)"), "opus", max_usd=0.5, session="001")
    assert load(dump(job)) == job


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("bash", {}, "`command` must be text"),
        ("bash", {"command": "true", "timeout": "1"}, "`timeout` must be"),
        ("bash", ["true"], "must be an object"),
        ("sh", {}, "there is no tool `sh`"),
        ("finish", {"outcome": "acept"}, "did you mean `accept`?"),
        ("finish", {"outcome": "done", "feedback": "x"}, "`feedback` means nothing here"),
    ],
)
def test_a_call_that_cannot_be(name: str, given: Any, message: str, tmp_path: Path) -> None:
    said = Toolbox(Job(str(tmp_path / "001")), tmp_path, {}).call(name, given)
    assert said.error and message in said.text and said.word is None


def test_lines_that_are_none_mean_nothing(tmp_path: Path) -> None:
    found = reading(tmp_path, [{"type": "usage", "total": 1}, {"type": "ended", "class": "ok"}], 1)
    assert (found.reason, found.usage) == ("exit status 1", Usage())
    log = tmp_path / "output.log"
    log.write_bytes(b'{"type":"ended","class":"ok"\n{"type":"ended","class":"environment","reason":"no answer"}\n')
    one = Agent("coder", "implementer", "anthropic", base_url="http://llama.local:8080")
    found = ADAPTERS["anthropic"].read(one, Evidence(4, None, "exit", log, 0, 99))
    assert (found.class_, found.breaker) == ("environment", "anthropic@llama.local:8080")
    log.write_bytes(b'{"type":"ended","class":"environment","reason":"not logged in","detail":"401"}\n')
    found = ADAPTERS["anthropic"].read(one, Evidence(4, None, "exit", log, 0, 99))
    assert found.fix == "name ANTHROPIC_API_KEY in `env:` of agent coder"
    tell = partial(told, "anthropic")
    assert tell(b'{"type":"thinking","text":"a\\nb"}') == "~ a\n~ b" and tell(b'{"type":"ended"') is None
    assert tell(b'{"type":"tool","name":"git","input":{"arguments":["log","-1"]}}') == "> git: log -1"
    assert tell(b'{"type":"tool","name":"x","input":[1]}') == "> x: [1]"


ALL, LOOK = ["bash", EDITOR, "finish"], ["git", EDITOR, "finish"]


@pytest.mark.parametrize(
    ("produces", "writes", "named", "offered", "edits"),
    [
        ("commits", True, (), ALL, "both"),
        ("commits", True, ("Bash",), ["bash", "finish"], ""),
        ("commits", True, ("Read", "Edit"), LOOK, "both"),
        ("commits", True, ("Bash(git status:*)", "Read"), LOOK, ""),
        ("document", False, (), LOOK, "artifacts"),
        ("document", False, ("Bash", "Read"), ALL, "artifacts"),
        ("verdict", False, (), LOOK, ""),
        ("verdict", False, ("Bash", "Read", "Write"), ALL, ""),
        ("tasks", False, ("Bash",), ["bash", "finish"], ""),
    ],
)  # fmt: skip
def test_tools_come_from_the_role(
    produces: str, writes: bool, named: tuple[str, ...], offered: list[str], edits: str, tmp_path: Path
) -> None:
    worktree, entry = tmp_path / "w", tmp_path / "001"
    worktree.mkdir()
    (entry / "artifacts").mkdir(parents=True)
    tools = Toolbox(Job(str(entry), produces, writes, named), worktree, {})
    names = [one["name"] for one in tools.offered]
    assert names == offered
    for where in (worktree, entry / "artifacts", entry, tmp_path):
        said = tools.call(EDITOR, {"command": "create", "path": str(where / "x"), "file_text": "x"})
        may = (edits == "both" and where == worktree) or (edits == "artifacts" and where.name == "artifacts")
        assert (where / "x").exists() == may == (not said.error) == (not said.denied)
    for one in tools.offered:
        assert json.loads(json.dumps(one))["input_schema"]["type"] == "object"


@pytest.mark.parametrize(
    "words",
    [
        ["commit", "-m", "x"],
        ["-C", "/", "log"],
        ["diff", "--output=x"],
        ["diff", "--outp", "x"],
        ["diff", "--no-index", "/etc/passwd", "x"],
        ["log", "--ext-diff"],
        ["log", "-Ox"],
        ["grep", "-nO", "x"],
        ["grep", "--open-files-in-pager=sh", "x"],
        ["blame", "--contents", "/etc/passwd", "x"],
    ],
)
def test_git_only_looks(words: list[str], repo: Repo) -> None:
    tools = Toolbox(Job(str(repo.root.parent / "001"), "verdict", False), repo.root, {})
    said = tools.call("git", {"arguments": words})
    assert said.denied and said.error, said.text
    assert "First commit" in tools.call("git", {"arguments": ["log", "--stat"]}).text
    assert "README.md" in tools.call("git", {"arguments": ["grep", "-n", "project"]}).text
    assert tools.call("git", {"arguments": ["show", "nothing"]}).error
    assert git(repo, "status", "--porcelain") == ""


@pytest.fixture
def editor(tmp_path: Path) -> Editor:
    home = tmp_path / "home"
    (home / "src").mkdir(parents=True)
    (home / "src/a.txt").write_bytes(b"one\r\ntwo\r\nthree\r\n")
    (home / "b.txt").write_bytes(b"caf\xe9\nx x\nlast")
    (home / ".git").write_text("gitdir: elsewhere\n")
    (home / "binary").write_bytes(b"\0\1")
    (tmp_path / "secret").write_text("secret\n")
    (home / "out").symlink_to(tmp_path)
    return Editor(home, (home,), (home,))


def test_an_edit_keeps_every_other_byte(editor: Editor) -> None:
    home = editor.home
    said = editor.run({"command": "str_replace", "path": "src/a.txt", "old_str": "one\ntwo", "new_str": "1\n2"})
    assert (home / "src/a.txt").read_bytes() == b"1\r\n2\r\nthree\r\n" and "     2\t2" in said
    editor.run({"command": "insert", "path": "src/a.txt", "insert_line": 3, "insert_text": "four"})
    assert (home / "src/a.txt").read_bytes() == b"1\r\n2\r\nthree\r\nfour"
    editor.run({"command": "insert", "path": "b.txt", "insert_line": 0, "insert_text": "first"})
    editor.run({"command": "str_replace", "path": "b.txt", "old_str": "last"})
    assert (home / "b.txt").read_bytes() == b"first\ncaf\xe9\nx x\n"
    editor.run({"command": "create", "path": str(home / "new/dir/c.txt"), "file_text": "c"})
    assert (home / "new/dir/c.txt").read_text() == "c"
    assert editor.run({"command": "view", "path": "b.txt", "view_range": [2, -1]}) == "     2\tcaf?\n     3\tx x"
    assert editor.run({"command": "view", "path": "."}).splitlines()[:2] == ["b.txt", "binary"]
    (home / "empty").mkdir()
    assert editor.run({"command": "view", "path": "empty"}) == "(empty folder)"
    assert "src/a.txt" in editor.run({"command": "view", "path": "."}) and ".git" not in editor.run(
        {"command": "view", "path": "."}
    )
    (home / "long.txt").write_text("y" * 99 + "\n" * 1000 + "y\n" * 30_000)
    assert "look at lines" in editor.run({"command": "view", "path": "long.txt"})[-80:]


@pytest.mark.parametrize(
    ("given", "message", "denied"),
    [
        ({"command": "view", "path": "/etc/passwd"}, "may be read", True),
        ({"command": "view", "path": "../secret"}, "may be read", True),
        ({"command": "view", "path": "out/secret"}, "may be read", True),
        ({"command": "create", "path": "out/new", "file_text": "x"}, "may be changed", True),
        ({"command": "create", "path": ".git", "file_text": "x"}, "git's own", True),
        ({"command": "create", "path": "src", "file_text": "x"}, "is a folder", False),
        ({"command": "create", "path": "b.txt/x", "file_text": "x"}, "b.txt/x: ", False),
        ({"command": "create", "path": "c"}, "`file_text` must be text", False),
        ({"command": "create", "path": "c", "file_text": "\ud800"}, "half a character", False),
        ({"command": "view", "path": "binary"}, "is not text", False),
        ({"command": "view", "path": "none"}, "there is no", False),
        ({"command": "view", "path": "b.txt", "view_range": [9, 10]}, "the file has 3 lines", False),
        ({"command": "view", "path": "b.txt", "view_range": 3}, "must be [first, last]", False),
        ({"command": "view", "path": ""}, "`path` is empty", False),
        ({"command": "str_replace", "path": "b.txt", "old_str": ""}, "`old_str` is empty", False),
        ({"command": "str_replace", "path": "src", "old_str": "x"}, "is not a file", False),
        ({"command": "undo_edit", "path": "b.txt"}, "must be one of view, create", False),
        ({"command": "str_replace", "path": "b.txt", "old_str": "x", "new_str": "y"}, "2 times, at lines 2, 2", False),
        ({"command": "str_replace", "path": "b.txt", "old_str": "z", "new_str": "y"}, "nowhere", False),
        ({"command": "insert", "path": "b.txt", "insert_line": 9, "insert_text": "y"}, "from 0", False),
    ],
)  # fmt: skip
def test_what_the_editor_refuses(given: dict[str, Any], message: str, denied: bool, editor: Editor) -> None:
    before = sorted((path, path.is_file() and path.read_bytes()) for path in editor.home.rglob("*"))
    with pytest.raises(Refused) as refused:
        editor.run(given)
    assert message in refused.value.message and refused.value.denied is denied
    assert sorted((path, path.is_file() and path.read_bytes()) for path in editor.home.rglob("*")) == before


def test_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    env = {"PATH": os.environ["PATH"], "OCTOPOID_ATTEMPT_DIR": str(tmp_path / "001")}
    assert shell.run("pwd; cat; echo oops >&2; exit 3", env) == (f"{tmp_path}\noops\n[exit status 3]", False)
    assert shell.run("kill -9 $$", env).text == "[killed by signal 9]"
    assert shell.run("printf '\\033[31mred\\033[0m'", env).text == "red"
    assert shell.run("echo \0", env).cut
    began = time.monotonic()
    assert shell.run("sleep 2 & echo left", env).text == "left" and time.monotonic() - began < 2
    assert shell.run("exec >/dev/null 2>&1; sleep 0.2; exit 1", env).text == "[exit status 1]"
    ran = shell.run("echo begun; setsid sh -c 'sleep 603 & wait' & sleep 604", env, timeout=0.5)
    assert ran.cut and ran.text == "begun\n[took longer than 0.5 s: ended, with all that it had started]"
    assert time.monotonic() - began < 10
    much = shell.run("head -c 5000000 /dev/zero | tr '\\0' x; echo end", env).text
    assert len(much) < shell.KEPT + 100 and much.endswith("xend") and "4970004 bytes left out" in much


def test_prices() -> None:
    assert prices.cost("claude-sonnet-5-5", Tokens(1_000_000, 1_000_000)) == 12
    assert prices.cost(
        "claude-haiku-4-5-20251001", Tokens(cache_read=1_000_000, cache_write=1_000_000)
    ) == pytest.approx(1.35)
    assert prices.cost("claude-haiku-5-5", Tokens(100_000, 0)) == pytest.approx(0.01)
    assert prices.cost("claude-haiku-5-5", Tokens(1, 0, 100_000)) == pytest.approx(0.0050005), (
        "one token more, five times"
    )
    assert prices.cost("claude-unheard-of-9", Tokens(1, 1)) is None
    assert all(prices.known(name) for name in prices.ALIASES.values())
    assert prices.AS_OF >= "2026-10-24"


def test_the_record_of_a_conversation_is_bounded() -> None:
    messages = [
        {"role": "assistant" if at % 2 else "user", "content": [conversation.text(f"step {at} " + "x" * 5000)]}
        for at in range(50)
    ]
    record = conversation.record(messages, 8000)
    assert len(record) <= 8000 and "step 49" in record and "step 3 " not in record
    assert conversation.unanswered([]) == [] and conversation.unanswered(messages) == []
