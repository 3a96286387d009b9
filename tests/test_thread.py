"""What was said about a task: the thread, `say`, decisions, numbers per role. Over real runs where that can be."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from harness import Answer, Repo, drop, eventually, init, script, state_of
from test_cli_read import check_schema, on_terminal

from octopoid import attempts, journal, lifecycle, process, results, schemas, stats, thread
from octopoid.errors import Conflict, Invalid, NotFound, UsageError
from octopoid.model import Choice, Entry, Finding, Opening, Outcome, Result, Subtask, Usage
from octopoid.states import State
from octopoid.telling import Said
from octopoid.thread import Post

TASK = "colour"
NOW = 1_800_000_000.0


def say(summary: str, **more: Any) -> dict[str, Any]:
    return {"result": {"outcome": "done", "summary": summary, **more}}


DECISION = {"problem": "Which blue?", "chosen": "navy", "variants": ["navy", "sky"], "why": "It prints."}
FINDING = {"file": "a.txt", "line": 1, "severity": "high", "message": "use navy"}
WORK = {
    "implementer": [
        [{"question": ["Which colour?"]}],
        [{"write": {"path": "a.txt", "text": "blue\n"}}, {"commit": "A"}, say("Made it blue.", decisions=[DECISION])],
        [{"write": {"path": "a.txt", "text": "navy\n"}}, {"commit": "B"}, say("Made it navy.")],
    ],
    "gatekeeper": [
        [{"result": {"outcome": "reject", "feedback": "Too light.", "findings": [FINDING]}}],
        [{"accept": "Reads well."}],
    ],
}


def team(repo: Repo, work: Mapping[str, Any], gates: list[str], **agent: Any) -> None:
    roles = ("implementer", *(gate for gate in gates if gate not in ("checks", "human")))
    usual = {"adapter": "scripted", "script": ".octopoid/scripted.json", **agent}
    script(repo, {"tasks": {"default": work}}, gates=gates, agents={role: {"role": role, **usual} for role in roles})


def valid(kind: str, answer: Answer) -> Any:
    found = answer.json()
    check_schema(schemas.of(kind), found)
    return found


def told(posts: tuple[Post, ...]) -> list[tuple[str, str]]:
    return [(post.kind, post.who) for post in posts]


# Over a real run


def test_the_thread_of_a_task_from_its_question_to_its_landing(repo: Repo) -> None:
    team(repo, WORK, ["checks", "gatekeeper", "human"])
    drop(repo, TASK, "# Choose a colour\n\nOf the page.\n")
    repo.octopoid("run", "--until-empty", ok=(6,))
    repo.octopoid("answer", TASK, "-m", "blue")
    assert "said to colour" in repo.octopoid("say", TASK, "-m", "mind the print").err
    repo.octopoid("run", "--until-empty", ok=(6,))
    repo.octopoid("approve", TASK, "-m", "nice")
    repo.octopoid("run", "--until-empty")
    assert state_of(repo, TASK) is State.DONE

    found = valid("thread", repo.octopoid("thread", TASK, "--json"))
    assert (found["task"], found["state"]) == (TASK, "done")
    posts = [(post["kind"], post["who"], post["text"].split("\n")[0]) for post in found["posts"]]
    assert posts == [
        ("task", "person", "Choose a colour"),
        ("prompt", "implementer", "attempt 1, stage implement, agent implementer"),
        ("question", "implementer", "Which colour?"),
        ("answer", "person", "Question: Which colour?"),
        ("say", "person", "mind the print"),
        ("prompt", "implementer", "attempt 2, stage implement, agent implementer"),
        ("decision", "implementer", "Which blue?"),
        ("summary", "implementer", "Made it blue."),
        ("verdict", "checks", "accept"),
        ("prompt", "gatekeeper", "attempt 1, agent gatekeeper"),
        ("verdict", "gatekeeper", "reject"),
        ("prompt", "implementer", "attempt 3, stage implement, agent implementer"),
        ("summary", "implementer", "Made it navy."),
        ("verdict", "checks", "accept"),
        ("prompt", "gatekeeper", "attempt 2, agent gatekeeper"),
        ("verdict", "gatekeeper", "accept"),
        ("verdict", "person", "accept"),
        ("landing", "scheduler", found["posts"][-1]["text"]),
    ]
    assert found["posts"][-1]["text"].startswith("landed on main")
    assert found["posts"][10]["text"] == "reject\nToo light.\n- a.txt:1: high: use navy"
    assert found["posts"][0]["refs"] == [".octopoid/queue/done/colour.md"]
    for post in found["posts"]:
        assert all((repo.root / ref).exists() for ref in post["refs"]), post
    times = [post["at"] for post in found["posts"]]
    assert times == sorted(times)

    prompt = (repo.root / found["posts"][5]["refs"][0]).read_text(encoding="utf-8")
    assert "mind the print" in prompt, "what a person said stands in the next prompt"
    _the_texts_of_that_run(repo, prompt)


def _the_texts_of_that_run(repo: Repo, prompt: str) -> None:
    said = repo.octopoid("thread", "col")
    assert said.out.startswith("colour, done\n\n")
    assert (
        "  decision  implementer\n    Which blue?\n    chosen: navy\n    variants: navy; sky\n    why: It prints.\n"
        in said.out
    )
    assert prompt.splitlines()[0] not in said.out
    assert said.err.splitlines()[-1] == "next: octopoid diff colour shows what it changed"
    full = repo.octopoid("thread", TASK, "--full").out
    assert all(f"    {line}".rstrip() in full for line in prompt.splitlines())

    found = valid("decisions", repo.octopoid("decisions", "--json"))["decisions"]
    assert [(one["task"], one["who"], one["chosen"]) for one in found] == [(TASK, "implementer", "navy")]
    assert repo.octopoid("decisions", TASK).out.endswith(
        "  colour  implementer\n    Which blue?\n    chosen: navy\n    variants: navy; sky\n    why: It prints.\n"
    )

    rows = {one["role"]: one for one in valid("stats", repo.octopoid("stats", "--json"))["roles"]}
    counted = ("attempts", "succeeded", "judged", "passed", "first_pass", "rounds", "failures", "usd", "usd_unknown")
    assert [rows["implementer"][name] for name in counted] == [3, 2, 1, 0, 0.0, 1, 0, None, 3]
    assert [rows["gatekeeper"][name] for name in counted] == [2, 2, 2, 1, 0.5, 0, 0, None, 2]
    line = next(one for one in repo.octopoid("stats").out.splitlines() if one.startswith("implementer"))
    assert "first yes 0% (0/1)" in line and "cost unknown" in line
    assert len(valid("stats", repo.octopoid("stats", "--since", "1", "--json"))["roles"]) == 2


def test_words_to_a_running_agent_reach_the_next_attempt(repo: Repo) -> None:
    gate = repo.root.parent / "go"
    team(
        repo,
        {
            "implementer": [
                [{"wait_for": str(gate)}, {"fail": "No idea."}],
                [{"write": {"path": "a", "text": "b"}}, {"commit": "A"}],
            ]
        },
        ["checks"],
    )
    drop(repo, TASK, "# Choose a colour\n")
    with repo.background("run"):
        eventually(lambda: (repo.layout.entry(TASK, 1) / "pid").exists())
        answer = repo.octopoid("say", TASK, "-m", "-", input="look at the\nbrand book\n")
        assert "its program cannot be told while it works: the next attempt reads it" in answer.err
        assert f"octopoid stop {TASK} ends this attempt" in answer.err
        gate.touch()
        eventually(lambda: lifecycle.ledger_of(repo.layout, TASK).charged, 20)
        repo.octopoid("retry", TASK)  # its backoff would be ten seconds
        eventually(lambda: state_of(repo, TASK) is State.DONE, 30)
    entries = attempts.read(repo.layout, TASK)
    last = next(one for one in reversed(entries) if one.opening.kind == "attempt")
    prompt = (repo.layout.entry(TASK, last.number) / "prompt.md").read_text(encoding="utf-8")
    assert "look at the\nbrand book" in prompt or "look at the\n> brand book" in prompt
    kinds = told(thread.thread(repo.layout, TASK))
    assert kinds.index(("say", "person")) < kinds.index(("feedback", "scheduler"))
    assert ("move", "person") in kinds
    assert [one.event for one in journal.read(repo.layout) if one.event == "say"] == ["say"]


# say


def test_what_cannot_be_said(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    init(repo)
    layout = repo.layout
    drop(repo, TASK, "# T\n")
    with pytest.raises(NotFound):
        thread.say(layout, "nobody", "x", NOW)
    with pytest.raises(UsageError):
        thread.say(layout, TASK, " \n\x07", NOW)
    with pytest.raises(UsageError):
        thread.say(layout, TASK, "x" * (thread.MAX_SAID + 1), NOW)
    for state, way in (
        (State.DONE, "octopoid reopen over"),
        (State.ARCHIVED, "mv -n "),
        (State.CANCELLED, "mv -n "),
    ):
        path = drop(repo, "over", "# T\n", state=state)
        with pytest.raises(Conflict) as caught:
            thread.say(layout, "over", "x", NOW)
        assert way in caught.value.hint
        path.unlink()
    assert attempts.read(layout, TASK) == ()
    monkeypatch.setenv(process.MARK, str(layout.entry(TASK, 1)))
    with pytest.raises(Conflict, match="an agent called it"):
        thread.say(layout, TASK, "x", NOW)
    assert attempts.read(layout, TASK) == ()


def test_a_word_is_kept_as_it_was_said_and_moves_nothing(repo: Repo) -> None:
    init(repo)
    path = drop(repo, TASK, "# T\n", state=State.BLOCKED)
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert thread.say(repo.layout, TASK, "Line one\x1b[31m\r\nline ünd\udce9\n", NOW) == Said()
    (entry,) = attempts.read(repo.layout, TASK)
    assert entry.opening == Opening("say", NOW, by="person", text="Line one[31m\nline ünd?")
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert repo.layout.wake.exists()
    ledger = lifecycle.ledger_of(repo.layout, TASK)
    assert [(one.source, one.text) for one in ledger.feedback] == [("person", entry.opening.text)]
    assert ledger.expected == ""


def test_say_on_the_command_line(repo: Repo) -> None:
    init(repo)
    for state, following in (
        (State.INCOMING, "octopoid thread colour"),
        (State.BLOCKED, "octopoid why colour"),
        (State.PROVISIONAL, "octopoid reject colour"),
    ):
        path = drop(repo, TASK, "# T\n", state=state)
        answer = repo.octopoid("say", "col", "-m", "hello")
        assert answer.out == "" and answer.err.splitlines()[-1].startswith(f"next: {following}")
        path.unlink()
    drop(repo, TASK, "# T\n")
    assert "octopoid say colour -m TEXT" in repo.octopoid("say", TASK, ok=(2,)).err
    assert "nothing to say" in repo.octopoid("say", TASK, "-m", "-", input="\n", ok=(2,)).err
    assert "there is no task" in repo.octopoid("say", "nobody", "-m", "x", ok=(3,)).err
    marked = {process.MARK: str(repo.layout.entry(TASK, 1))}
    assert "an agent called it" in repo.octopoid("say", TASK, "-m", "x", env=marked, ok=(5,)).err


# The thread, entry by entry


class Evidence:
    """Entries of a task, written as the scheduler writes them."""

    def __init__(self, repo: Repo, state: State = State.INCOMING, text: str = "# T\n\nDo it.\n") -> None:
        init(repo)
        self.layout, self.clock = repo.layout, NOW
        drop(repo, TASK, text, state=state)

    def add(
        self, opening: Opening, outcome: Outcome | None = None, said: Result | bytes = b"", pid: bool = True
    ) -> int:
        self.clock += 10
        files = {"prompt.md": b"# The prompt\n\x1b[31m"} | ({"pid": b"{}"} if pid else {})
        if said:
            files["said.json"] = said if isinstance(said, bytes) else results.dump(said)
        closed = outcome._replace(ended=self.clock + 5) if outcome else None
        return attempts.begin(self.layout, TASK, opening._replace(at=self.clock), files, outcome=closed).number

    def attempt(self, outcome: Outcome | None = None, said: Result | bytes = b"", **more: Any) -> int:
        opening = Opening("attempt", 0, role="planner", agent="robot", stage="plan", attempt=1)
        return self.add(opening._replace(**more), outcome, said)

    def gate(self, outcome: Outcome, said: Result | bytes = b"", role: str = "reviewer", pid: bool = True) -> int:
        gate = role or "checks"
        return self.add(Opening("gate", 0, role=role, gate=gate, attempt=1), outcome, said, pid)

    def posts(self, full: bool = False) -> list[tuple[str, str, str]]:
        """Without the task and its first prompts."""
        found = thread.thread(self.layout, TASK, full=full)
        assert all(post.kind in thread.KINDS for post in found)
        return [post[2:5] for post in found if post.kind not in ("task", "prompt")]


def ok(**fields: Any) -> Outcome:
    return Outcome("attempt", "ok", False, "", "", 0)._replace(**fields)


def failed(reason: str, detail: str, **fields: Any) -> Outcome:
    return Outcome("attempt", "task", True, reason, detail, 0)._replace(**fields)


def test_documents_and_what_octopoid_adds(repo: Repo) -> None:
    evidence = Evidence(repo)
    evidence.attempt(
        ok(artifacts=("plan.md",), detail="Planned. [it changed a.py]", approval=True, summary="Planned."),
        Result(summary="Planned.", feedback="Mind the tests."),
    )
    assert evidence.posts() == [
        ("summary", "planner", "Planned."),
        ("note", "scheduler", "[it changed a.py]"),
        ("note", "planner", "Mind the tests."),
        ("note", "scheduler", "waits for a person's yes"),
    ]
    post = next(one for one in thread.thread(repo.layout, TASK) if one.kind == "summary")
    assert post.refs == (f".octopoid/attempts/{TASK}/001/artifacts/plan.md",)


def test_a_handover_and_a_breakdown(repo: Repo) -> None:
    evidence = Evidence(repo)
    evidence.attempt(
        ok(reason="handoff", next_role="architect", detail="hands over to architect: Too big."),
        Result("handoff", "Too big.", "Begin with the API.", handoff_to="architect"),
    )
    parts = (Subtask("a", "A"), Subtask("b", "B", "Long.", "tester", "quick", 1, ("a",), (), ("green :: make",)))
    evidence.attempt(ok(children=("a-1", "b-2"), proposals=("c-3",)), Result(subtasks=parts))
    assert evidence.posts() == [
        ("handover", "planner", "to architect\nToo big.\nBegin with the API."),
        ("summary", "planner", "done"),
        ("note", "planner", "subtasks: a-1, b-2\n- A (`a`)\n- B (`b`, tester, quick, after a)\n  - [ ] green :: make"),
        ("note", "planner", "proposals: c-3"),
    ]


def test_failures(repo: Repo) -> None:
    evidence = Evidence(repo)
    evidence.attempt(failed("failed", "exit status 1", feedback="`make` failed:\nboom"), Result(summary="I tried."))
    evidence.attempt(failed("failed", "no changes"))
    evidence.attempt(Outcome("attempt", "environment", False, "program missing", "claude is not there", 0))
    evidence.attempt(failed("failed", "3 attempts failed", verb="block", leaves="claimed", enters="blocked"))
    evidence.attempt(None)
    asked = Outcome("attempt", "task", False, "question", "Red?", 0, verb="block", questions=("Red?",))
    evidence.attempt(asked, Result("question", "Which?", questions=("Red?", "Blue?")))
    assert evidence.posts() == [
        ("summary", "planner", "I tried."),
        ("feedback", "scheduler", "failed: exit status 1\n\n`make` failed:\nboom"),
        ("feedback", "scheduler", "failed: no changes"),
        ("note", "scheduler", "program missing: claude is not there"),
        ("feedback", "scheduler", "failed: 3 attempts failed"),
        ("block", "scheduler", "failed: 3 attempts failed"),
        ("summary", "planner", "Which?"),
        ("question", "planner", "Red?"),
        ("question", "planner", "Blue?"),
    ]


def test_verdicts_of_a_group_and_what_goes_back(repo: Repo) -> None:
    evidence = Evidence(repo, State.PROVISIONAL)
    no = Outcome("gate", "task", False, "rejected", "Slow.", 0, verdict="reject")
    evidence.gate(no._replace(feedback="Slow."), Result("reject", feedback="Slow."))
    evidence.gate(
        no._replace(detail="Fine. [it changed x, which it may not: thrown away]", verdict="accept", class_="ok"),
        Result("accept", "Fine.", findings=(Finding("a.py", 0, "", "rename it"), Finding("", 0, "low", "typo"))),
        role="tester",
    )
    evidence.gate(no._replace(detail="tests: exit status 1", feedback="`tests` failed"), role="")
    evidence.gate(Outcome("gate", "ours", False, "runner died", "", 0))
    back = no._replace(verb="reject", leaves="provisional", enters="incoming")
    evidence.gate(back._replace(feedback="reviewer: Slow.\n\nchecks: `tests` failed"), pid=False)
    evidence.gate(back._replace(feedback=" Slow.\n"), pid=False)
    evidence.gate(
        no._replace(verb="block", enters="blocked", feedback="Slow.", reason="rejected", detail="3 times"), pid=False
    )
    assert evidence.posts() == [
        ("verdict", "reviewer", "reject\nSlow."),
        ("verdict", "tester", "accept\nFine.\n- a.py: rename it\n- low: typo"),
        ("note", "scheduler", "[it changed x, which it may not: thrown away]"),
        ("verdict", "checks", "reject\n`tests` failed"),
        ("note", "scheduler", "no verdict: runner died"),
        ("feedback", "scheduler", "reviewer: Slow.\n\nchecks: `tests` failed"),
        ("block", "scheduler", "rejected: 3 times"),
    ]


def test_gates_at_work_and_answers_that_were_known(repo: Repo) -> None:
    evidence = Evidence(repo, State.PROVISIONAL)
    known = Outcome("gate", "ok", False, "", "every check passed", 0, verdict="accept")
    evidence.add(Opening("gate", 0, gate="checks"), known, pid=False)
    evidence.add(Opening("gate", 0, gate="tester", role="tester", agent="robot"), None)
    evidence.add(Opening("attempt", 0, stage="reproduce", checks=("tests",)), ok(detail="`tests` fails, as it should"))
    assert evidence.posts() == [
        ("verdict", "checks", "accept\nevery check passed"),
        ("summary", "scheduler", "`tests` fails, as it should"),
    ]
    prompts = [(post.who, post.text) for post in thread.thread(repo.layout, TASK) if post.kind == "prompt"]
    assert prompts == [("tester", "agent robot")]


def test_on_a_terminal(repo: Repo) -> None:
    evidence = Evidence(repo)
    evidence.attempt(ok(summary="Planned."), Result(summary="Planned.", decisions=(Choice("A?", "a"),)))
    drawn = on_terminal(repo, "thread", TASK)
    assert re.search(r"^2027-01-15 \d\d:\d\d:\d\d  001  summary   planner\r\n    Planned\.", drawn, re.MULTILINE)
    assert re.search(r"^2027-01-15 \d\d:\d\d:\d\d  colour  planner", on_terminal(repo, "decisions"), re.MULTILINE)
    drawn = on_terminal(repo, "stats", columns=120)
    assert "first yes" in drawn and "mean" in drawn and "attempts 1" not in drawn


def test_persons_and_landings(repo: Repo) -> None:
    evidence = Evidence(repo, State.BLOCKED)
    for opening, outcome in (
        (Opening("block", 0), Outcome("block", "", False, "budget", "spent", 0, verb="block", enters="blocked")),
        (
            Opening("release", 0, by="person", text="Raised."),
            Outcome("release", "", False, "", "Raised.", 0, verb="release"),
        ),
        (Opening("release", 0, by="person"), None),
        (Opening("reject", 0, by="person", gate="human", text="Ugly."), Outcome("reject", "", False, "", "Ugly.", 0)),
        (Opening("move", 0, by="person", to="claimed"), None),
        (Opening("reopen", 0, by="person", text="Again."), None),
        (Opening("landing", 0, base="main", result_sha="1" * 40), None),
        (Opening("landing", 0, base="main", result_sha="1" * 40), ok(kind="landing", verb="land", enters="done")),
        (Opening("landing", 0, base="main"), failed("moved", "the base moved", charged=False)),
        (Opening("finish", 0), Outcome("finish", "", False, "", "nothing to land", 0, verb="finish", enters="done")),
    ):
        evidence.add(opening, outcome, pid=False)
    assert evidence.posts() == [
        ("block", "scheduler", "budget: spent"),
        ("move", "person", "try again, with a new budget\nRaised."),
        ("move", "person", "try again, with a new budget"),
        ("verdict", "person", "reject\nUgly."),
        ("move", "person", "moved by hand into claimed"),
        ("move", "person", "work on it again\nAgain."),
        ("landing", "scheduler", "landing on main"),
        ("landing", "scheduler", f"landed on main as {'1' * 12}"),
        ("landing", "scheduler", "moved: the base moved"),
        ("landing", "scheduler", "nothing to land"),
    ]


@pytest.mark.parametrize("state", list(State))
def test_the_thread_of_a_task_in_every_folder(repo: Repo, state: State) -> None:
    Evidence(repo, state)
    assert repo.octopoid("thread", TASK).out.splitlines()[2].endswith("  -    task      person")
    assert valid("thread", repo.octopoid("thread", TASK, "--json"))["posts"][0]["text"] == "T\n\nDo it."


def test_the_task_comes_first_whenever_its_file_was_saved(repo: Repo) -> None:
    evidence = Evidence(repo)
    evidence.clock = 1000.0
    evidence.attempt(None)
    first, second = thread.thread(repo.layout, TASK)
    assert (first.kind, first.at, second.at) == ("task", 1010.0, 1010.0)
    path = drop(repo, "child", "---\nparent: colour\n---\n# A part\n")
    assert thread.thread(repo.layout, "child")[0].who == "colour"
    path.write_text("---\nprio: 1\n---\n")
    assert "unknown key `prio`" in thread.thread(repo.layout, "child")[0].text
    with pytest.raises(NotFound):
        thread.thread(repo.layout, "nobody")


def test_what_cannot_be_read_is_said(repo: Repo) -> None:
    evidence = Evidence(repo)
    number = evidence.attempt(ok(summary="Fine."), b"{broken")
    (repo.layout.entry(TASK, number) / "prompt.md").unlink()
    assert [kind for kind, _, _ in evidence.posts()] == ["note", "summary"]
    prompt = thread.thread(repo.layout, TASK, full=True)[1]
    assert prompt.text == "the prompt cannot be read: No such file or directory"
    (repo.layout.entry(TASK, number) / "outcome.json").write_text("{")
    with pytest.raises(Invalid, match="evidence cannot be read"):
        thread.thread(repo.layout, TASK)
    assert "outcome.json" in repo.octopoid("thread", TASK, ok=(4,)).err


def test_text_of_agents_does_nothing_to_the_terminal(repo: Repo) -> None:
    evidence = Evidence(repo)
    evidence.attempt(ok(summary="a \x1b[2Jb\x07"), role="planner\x1b[31m")
    for output in (repo.octopoid("thread", TASK, "--full").out, repo.octopoid("stats").out):
        assert "\x1b" not in output and "\x07" not in output


# decisions


def test_decisions_of_all_tasks_in_the_order_of_time(repo: Repo) -> None:
    evidence = Evidence(repo)
    evidence.attempt(ok(), Result(decisions=(Choice("A?", "a"), Choice("B?", "b", ("b", "c"), "Why\nnot."))))
    evidence.attempt(None, Result(summary="Nothing decided."))
    evidence.gate(ok(verdict="accept"), Result("accept", decisions=(Choice("C?", "c"),)))
    evidence.attempt(None, Result(decisions=(Choice("D?", "d"),)))
    drop(repo, "bare", "# T\n")
    drop(repo, "torn", "# T\n")
    attempts.begin(repo.layout, "torn", Opening("attempt", NOW), {"said.json": b"{"})
    early = Result(decisions=(Choice("0?", "0"),))
    attempts.begin(repo.layout, "bare", Opening("attempt", 1.0, role="r"), {"said.json": results.dump(early)})
    answer = repo.octopoid("decisions", "--json")
    found = valid("decisions", answer)["decisions"]
    assert [(one["task"], one["entry"], one["who"], one["problem"]) for one in found] == [
        ("bare", 1, "r", "0?"),
        (TASK, 1, "planner", "A?"),
        (TASK, 1, "planner", "B?"),
        (TASK, 3, "reviewer", "C?"),
        (TASK, 4, "planner", "D?"),
    ]
    assert answer.err.startswith("torn: ")
    assert "    chosen: b\n    variants: b; c\n    why: Why\n    not.\n" in repo.octopoid("decisions", TASK).out
    nothing = repo.octopoid("decisions", "torn")
    assert nothing.out == "" and "no decisions of torn yet" in nothing.err


# stats


def entry(number: int, opening: Opening, outcome: Outcome | None = None, started: bool = True) -> Entry:
    ended = outcome._replace(ended=opening.at + 30) if outcome else None
    return Entry(number, opening, started=started, exited=True, outcome=ended)


def work(number: int, candidate: str = "", role: str = "implementer", at: float = NOW, **fields: Any) -> Entry:
    return entry(number, Opening("attempt", at, role=role), ok(candidate=candidate, **fields))


def judged(number: int, candidate: str, word: str, role: str = "gatekeeper", at: float = NOW, **fields: Any) -> Entry:
    no = {"verb": "reject", "leaves": "provisional", "enters": "incoming"} if word == "reject" else {}
    outcome = Outcome("gate", "ok", False, "", "", 0, verdict=word, candidate=candidate)._replace(**{**no, **fields})
    return entry(number, Opening("gate", at, role=role, gate=role, candidate=candidate), outcome)


def landed(number: int, candidate: str, at: float = NOW) -> Entry:
    opening = Opening("landing", at, candidate=candidate, result_sha="f" * 40)
    return entry(number, opening, ok(kind="landing", verb="land", leaves="provisional", enters="done"), started=False)


def numbers(role: str, *tasks: tuple[Entry, ...], since: float = 0.0) -> stats.RoleStats:
    found = stats.of({f"task-{number}": entries for number, entries in enumerate(tasks)}, since)
    return next(one for one in found if one.role == role)


def test_first_pass() -> None:
    first_yes = (work(1, "a"), judged(2, "a", "accept"), landed(3, "a"))
    second_yes = (work(1, "b"), judged(2, "b", "reject"), work(3, "c"), judged(4, "c", "accept"), landed(5, "c"))
    not_yet = (work(1, "d"), judged(2, "d", "accept"))
    person = (work(1, "e"), entry(2, Opening("reject", NOW, by="person", gate="human", candidate="e")))
    by_hand = (work(1, "g"), entry(2, Opening("move", NOW, by="person", to="done")))
    one = numbers("implementer", first_yes, second_yes, not_yet, person, by_hand)
    assert (one.judged, one.passed, one.first_pass) == (4, 2, 0.5)
    assert (one.attempts, one.succeeded, one.rounds, one.failures, one.mean_s) == (6, 6, 2, 0, 30.0)
    gate = numbers("gatekeeper", first_yes, second_yes, not_yet)
    assert (gate.attempts, gate.succeeded, gate.judged, gate.passed, gate.rounds) == (4, 4, 4, 3, 0)
    assert numbers("implementer", not_yet).first_pass is None


def test_an_advisory_no_is_no_round() -> None:
    one = numbers("implementer", (work(1, "a"), judged(2, "a", "reject", verb=""), landed(3, "a")))
    assert one.rounds == 0


def test_failures_cost_and_time() -> None:
    usd = ok(candidate="a", usage=Usage(usd=0.5))
    entries = (
        entry(1, Opening("attempt", NOW, role="implementer"), failed("failed", "boom")),
        entry(2, Opening("attempt", NOW, role="implementer"), usd),
        entry(3, Opening("attempt", NOW, role="implementer"), usd._replace(usage=Usage(usd=0.0))),
        entry(4, Opening("attempt", NOW, role="implementer"), None),
        entry(5, Opening("attempt", NOW, role="implementer"), failed("failed", "never began"), started=False),
        entry(6, Opening("gate", NOW, gate="checks"), Outcome("gate", "ok", False, "", "", 0, verdict="accept")),
        entry(7, Opening("gate", NOW, role="tester", gate="tester"), failed("failed", "no verdict")),
    )
    one = numbers("implementer", entries)
    assert (one.attempts, one.succeeded, one.failures, one.usd, one.usd_unknown, one.mean_s) == (4, 2, 1, 0.5, 1, 30.0)
    tester = numbers("tester", entries)
    assert (tester.attempts, tester.succeeded, tester.judged, tester.failures, tester.usd) == (1, 0, 0, 1, None)
    assert [found.role for found in stats.of({"a": entries})] == ["implementer", "tester"]


def test_since_counts_what_began_then() -> None:
    entries = (work(1, "a", at=NOW - 100), judged(2, "a", "reject", at=NOW - 90), work(3, "b"), landed(4, "b"))
    one = numbers("implementer", entries, since=NOW - 10)
    assert (one.attempts, one.judged, one.rounds) == (1, 0, 0)
    assert stats.of({"a": entries}, NOW + 1) == ()


def test_unreadable_evidence_is_named_and_the_rest_is_counted(repo: Repo) -> None:
    evidence = Evidence(repo, State.ARCHIVED)
    evidence.attempt(ok(usage=Usage(usd=1.25)))
    drop(repo, "torn", "# T\n")
    attempts.begin(repo.layout, "torn", Opening("attempt", NOW))
    (repo.layout.entry("torn", 1) / "attempt.json").write_text("{")
    answer = repo.octopoid("stats")
    assert answer.out.startswith("planner  attempts 1  done 1  first yes -  rounds 0  failures 0  cost $1.25  mean ")
    assert answer.err.startswith("not counted: ") and "torn/001/attempt.json" in answer.err
    assert [one["usd"] for one in valid("stats", repo.octopoid("stats", "--json"))["roles"]] == [1.25]


def test_stats_of_nothing(repo: Repo) -> None:
    init(repo)
    assert "no role has done anything yet" in repo.octopoid("stats").err
    assert valid("stats", repo.octopoid("stats", "--json"))["roles"] == []
    assert "in that time" in repo.octopoid("stats", "--since", "0.5").err


def test_a_page_says_what_there_is() -> None:
    page = (Path(__file__).parent.parent / "docs/thread.md").read_text(encoding="utf-8")
    assert [kind for kind in thread.KINDS if f"`{kind}`" not in page] == []
    assert [name for name in stats.RoleStats._fields if f"`{name}`" not in page] == []
    assert time.gmtime(NOW).tm_year == 2027  # NOW is later than every file that these tests write
