"""Cut off by what is nobody's fault: the next attempt goes on in the same session. Real programs, a real scheduler."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import test_builtin_agent
import test_claude_loop
from harness import Repo, drop, eventually, git, init, landed, state_of, write_config
from modelserver import error, text, tool
from test_claude_real import claude  # noqa: F401 - a fixture
from test_say_live import Turnstile, asked, at_work

from octopoid import resuming
from octopoid.adapters import Reading
from octopoid.fold import RESUMED, fold, session_key
from octopoid.model import Entry, Ledger, Opening, Outcome, Task
from octopoid.prompts import Prompt, render
from octopoid.settings import Role
from octopoid.states import State

claude_user = test_claude_loop.user
builtin_user = test_builtin_agent.user

TOP = "You were interrupted, by something that is not your fault, and go on now in the same session."


@pytest.fixture(params=[("claude_user", "Bash"), ("builtin_user", "bash")], ids=["claude", "anthropic"])
def someone(request: pytest.FixtureRequest) -> Iterator[tuple[Any, str]]:
    """A user of either program, whose implementer has a script for every attempt, and the name of its shell."""
    fixture, bash = request.param
    user = request.getfixturevalue(fixture)
    (user.role("implementer", "[[try-{{ attempt }}]]") if bash == "Bash" else user.role("implementer"))
    yield user, bash


def script_of(bash: str, attempt: int) -> str:
    return f"try-{attempt}" if bash == "Bash" else f"implementer-{attempt}"


def outcomes(user: Any, task: str) -> list[dict[str, Any]]:
    """How its attempts ended."""
    found = sorted(user.repo.layout.entries(task).glob("[0-9]*/outcome.json"))
    records = [json.loads(path.read_bytes()) for path in found]
    return [one for one in records if one["kind"] == "attempt"]


def kill_runner(user: Any, task: str, number: int) -> None:
    """SIGKILL for the supervisor alone, as the kernel does it when memory is short."""
    os.kill(json.loads((user.repo.layout.entry(task, number) / "pid").read_bytes())["runner_pid"], signal.SIGKILL)


def test_a_supervisor_dies_and_the_agent_goes_on_where_it_was(someone: tuple[Any, str]) -> None:
    """What it did stands in the worktree, and in its own mind."""
    user, bash = someone
    gate = Turnstile(user.repo.root.parent, "gate")
    user.server.scripts |= {
        script_of(bash, 1): [
            tool(bash, command="echo first > part.txt; echo FOUND-OUT"),
            tool(bash, command=gate.command),
            text("never said"),
        ],
        script_of(bash, 2): [tool(bash, command="cat part.txt; echo second >> part.txt"), text("Both parts.")],
    }
    drop(user.repo, "work", "# Do the work\n")
    with at_work(user):
        gate.came()
        kill_runner(user, "work", 1)
    assert landed(user.repo) == ("work",) and git(user.repo, "show", "main:part.txt") == "first\nsecond"
    first, second = outcomes(user, "work")
    assert (first["class"], first["charged"], first["detail"]) == ("ours", False, "runner died")
    assert first.get("session", "") and second["class"] == "ok"
    (whole, *_) = [json.dumps(call.body, ensure_ascii=False) for call in user.server.of(script_of(bash, 2))]
    assert whole.index("FOUND-OUT") < whole.index(TOP) < whole.index("The task: Do the work", whole.index(TOP))
    assert whole.count(TOP) == 1 and "What you did so far is in the worktree" in whole
    assert "in the session before" in user.octopoid("thread", "work")


def test_a_person_stops_it_and_lets_it_go_on(claude_user: test_claude_loop.User) -> None:
    """Its program is ended gently here."""
    user = claude_user
    user.role("implementer", "[[try-{{ attempt }}]]")
    gate = Turnstile(user.repo.root.parent, "gate")
    user.server.scripts |= {
        "try-1": [tool("Bash", command="echo first > part.txt; echo FOUND-OUT"), tool("Bash", command=gate.command)],
        "try-2": [text("Done.")],
    }
    drop(user.repo, "work", "# Do the work\n")
    with at_work(user):
        gate.came()
        user.octopoid("stop", "work")
    assert state_of(user.repo, "work") is State.BLOCKED
    user.octopoid("retry", "work")
    user.run()
    assert landed(user.repo) == ("work",) and git(user.repo, "show", "main:part.txt") == "first"
    assert [(one["reason"], one["charged"]) for one in outcomes(user, "work")] == [("parked", False), ("", False)]
    (whole,) = [json.dumps(call.body) for call in user.server.of("try-2")]
    assert whole.index("FOUND-OUT") < whole.index(TOP)


def test_a_rate_limit_in_the_middle_costs_no_memory(builtin_user: test_builtin_agent.User) -> None:
    """Two in a row: the second time it did not come to anything, and goes on where it was all the same."""
    user = builtin_user
    user.role("implementer")
    limit = error(429, retry_after="120")
    user.server.scripts |= {
        "implementer-1": [tool("bash", command="echo first > part.txt; echo FOUND-OUT"), limit],
        "implementer-2": [limit],
        "implementer-3": [text("Done.")],
    }
    drop(user.repo, "work", "# Do the work\n")
    for _ in range(2):
        user.run(6)
        breaker = next(iter(json.loads(user.repo.layout.breakers.read_bytes())))
        user.octopoid("resume", "--breaker", breaker)
    user.run()
    assert landed(user.repo) == ("work",)
    assert [(one["class"], one.get("session", "")) for one in outcomes(user, "work")] == [
        ("environment", "001"),
        ("environment", "002"),
        ("ok", ""),
    ]
    (whole,) = [json.dumps(call.body) for call in user.server.of("implementer-3")]
    assert "FOUND-OUT" in whole


def test_a_session_that_is_gone_is_forgotten(builtin_user: test_builtin_agent.User) -> None:
    user = builtin_user
    user.role("implementer")
    gate = Turnstile(user.repo.root.parent, "gate")
    user.server.scripts |= {
        "implementer-1": [tool("bash", command="echo first > part.txt"), tool("bash", command=gate.command)],
        "implementer-3": [text("Done.")],
    }
    drop(user.repo, "work", "# Do the work\n")
    with at_work(user):
        gate.came()
        user.octopoid("stop", "work")
    (user.repo.layout.entry("work", 1) / "transcript.jsonl").unlink()
    user.octopoid("retry", "work")
    user.run()
    assert landed(user.repo) == ("work",) and user.server.of("implementer-2") == []
    ends = outcomes(user, "work")
    assert [(one["class"], one["charged"], one.get("session", "")) for one in ends] == [
        ("", False, "001"),
        ("ours", False, ""),
        ("ok", False, ""),
    ]
    assert TOP not in asked(user, "implementer-3")[0]


# --- the parts ---

IMPLEMENTER = Opening("attempt", 0.0, role="implementer", agent="worker", produces="commits")
KEY = session_key("worker", "implementer")


class Story:
    """Attempts of one agent, one after the other, each in the session that the ones before it left."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    @property
    def ledger(self) -> Ledger:
        return fold(self.entries)

    def attempt(
        self,
        class_: str,
        detail: str,
        session: str = "s-1",
        reason: str = "failed",
        started: bool = True,
        charged: bool = False,
        began: bool = True,
        **opening: Any,
    ) -> str:
        """The next one ends; the session in which the one after it goes on."""
        opened = IMPLEMENTER._replace(session=self.ledger.sessions.get(KEY, ""), **opening)
        outcome = Outcome("attempt", class_, charged, reason, detail, 0.0, session=session, began=began)
        self.entries.append(Entry(len(self.entries) + 1, opened, started=started, outcome=outcome))
        return self.ledger.sessions.get(KEY, "")


def test_after_three_times_the_same_it_begins_anew() -> None:
    story = Story()
    ends = [story.attempt("ours", "runner died", f"00{number}") for number in range(1, 6)]
    assert ends == ["001", "002", "003", "", "005"] and RESUMED == 3
    assert KEY in story.ledger.cuts
    story = Story()
    ways = ("rate limit: at 3 pm", "no answer: 529", "rate limit: at 5 pm", "rate limit: at 7 pm", "rate limit")
    assert [story.attempt("environment", one) for one in ways] == ["s-1"] * 5, "another way begins the count again"
    assert story.attempt("environment", "rate limit: at 9 pm") == ""
    story = Story()
    assert {story.attempt("", "park", reason="stopped") for _ in range(9)} == {"s-1"}, "a person may stop it any time"


def test_who_goes_on_and_who_does_not() -> None:
    assert Story().attempt("task", "no changes", charged=True) == ""
    assert Story().attempt("task", "Which?", reason="question") == "s-1"
    assert Story().attempt("ours", "session lost: gone", session="") == ""
    story = Story()
    story.attempt("ours", "runner died")
    assert story.attempt("", "never started", session="", reason="stopped", started=False) == "s-1"
    assert story.attempt("ok", "", session="", reason="") == "" and not story.ledger.cuts
    story.attempt("ours", "runner died")
    story.attempt("ours", "runner died", "s-2", agent="other")
    assert story.ledger.sessions == {session_key("other", "implementer"): "s-2"}, "another agent took over"
    story.attempt("task", "Which?", reason="question", session="s-3", agent="other")
    assert not story.ledger.cuts, "it asked, so it was not interrupted"


def test_what_it_did_after_a_review_is_not_set_back() -> None:
    """A gate used the worktree; the attempt that was cut off has put its own work there since."""
    story = Story()
    gate = Opening("gate", 0.0, gate="checks")
    story.entries.append(Entry(1, gate, started=True, outcome=Outcome("gate", "task", False, "", "", 0.0)))
    assert story.ledger.judged
    story.attempt("environment", "setup failed", session="", began=False)
    assert story.ledger.judged, "its agent never began"
    story.attempt("ours", "runner died", session="")
    assert not story.ledger.judged, "with a session or without"


STOPPED_LATE = """\
case $OCTOPOID_ATTEMPT in
  1) echo bad > work.txt; git add .; git commit -qm Bad;;
  2) echo good > rework.txt; touch "$OCTOPOID_ROOT/../at-work"; sleep 600;;
  *) mv rework.txt work.txt;;
esac
"""


def test_rework_that_was_cut_off_is_there_for_the_next_attempt(repo: Repo) -> None:
    """A gate had put the candidate there; the agent has no session, and worked on before it was stopped."""
    init(repo)
    agent = repo.root / "../agent.sh"
    agent.write_text(STOPPED_LATE)
    write_config(
        repo,
        "version: 1\nbase: main\ngates: [checks]\nchecks: ['grep good work.txt']\n"
        f"agents: {{implementer: {{adapter: command, command: [sh, {agent}]}}}}\n",
    )
    drop(repo, "late", "# Late\n")
    with repo.background("run"):
        eventually(lambda: (repo.root / "../at-work").exists(), 20)
        repo.octopoid("stop", "late")
        eventually(lambda: state_of(repo, "late") is State.BLOCKED, 20)
        repo.octopoid("retry", "late")
        eventually(lambda: state_of(repo, "late") is State.DONE, 20)
    assert landed(repo) == ("late",)


INIT = b'{"type":"system","subtype":"init","session_id":"s-1"}\n'
CALL = b'{"type":"assistant","message":{"content":[{"type":"tool_use","name":"Bash","input":{"command":"ls"}}]}}\n'


@pytest.mark.parametrize(
    ("log", "before", "reading", "found"),
    [
        (None, "", None, ""),
        (b"setting up\n" + INIT + CALL, "", None, "s-1"),
        (INIT, "", None, ""),  # it did nothing yet
        (INIT, "s-0", None, "s-1"),
        (b"npm: killed\n", "s-0", None, "s-0"),  # it never began
        (INIT + CALL, "", Reading("environment", "rate limit", session="s-2"), "s-2"),
        (INIT + CALL, "s-0", Reading("ours", "session lost"), ""),
    ],
)
def test_the_session_is_found_without_a_last_line(
    log: bytes | None, before: str, reading: Reading | None, found: str, tmp_path: Path
) -> None:
    if log is not None:
        (tmp_path / "output.log").write_bytes(log)
    opening = IMPLEMENTER._replace(adapter="claude", session=before)
    assert resuming.session(tmp_path, opening, reading) == found
    assert resuming.session(tmp_path, opening._replace(adapter="scripted"), None) == before
    assert resuming.session(tmp_path, opening._replace(produces="verdict"), reading) == ""
    assert resuming.session(tmp_path, opening._replace(adapter="of old"), reading) == ""


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize(("writes", "said"), [(True, "is in the worktree"), (False, "write again there")])
def test_every_prompt_begins_with_it(plain: bool, writes: bool, said: str) -> None:
    produces = "commits" if writes else "document"
    role = Role("mine", "Do it.\n", plain=plain, writes=writes, produces=produces)
    prompt = Prompt(Task("t", "T"), "implement", 2, "main", "0" * 40, "/result.json", interrupted=True)
    told = render(role, prompt)
    assert told.startswith(TOP) and said in told and "\n\nDo it.\n" in told
    assert not render(role, prompt._replace(interrupted=False)).startswith(TOP)
