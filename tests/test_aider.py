"""The adapter of aider: what it starts, and how it reads what 0.86.2 left. tests/agents_aider.py has the program."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness import Repo, commit, git, told

from octopoid.adapters import ADAPTERS, Evidence, Launch, Reading, Request
from octopoid.settings import Agent, Role

ADAPTER = ADAPTERS["aider"]
IMPLEMENTER = Role("implementer", "")
GATEKEEPER = Role("gatekeeper", "", produces="verdict", writes=False)
PLANNER = Role("planner", "", produces="document", writes=False, artifact="plan.md")

PRELUDE = """\

HTTPSConnectionPool(host='raw.githubusercontent.com', port=443): Max retries exceeded with url: /BerriAI/litellm/…
Aider v0.86.2
Model: openai/fake-model with whole edit format
Git repo: ../../../.git/worktrees/t with 2 files
Repo-map: using 1024 tokens, auto refresh

"""
WORKED = f"""{PRELUDE}I need to change app.py for that.

Tokens: 1.0k sent, 10 received.

app.py
Here it is.

Tokens: 2.3k sent, 67 received. Cost: $0.25 message, $0.26 session.
Applied edit to app.py
"""
REFUSED = """\
litellm.AuthenticationError: AuthenticationError: OpenAIException - Incorrect API key provided
The API provider is not able to authenticate you. Check your API key.

"""
WAITING = """\
litellm.InternalServerError: InternalServerError: OpenAIException - Connection error.
The API provider's servers are down or overloaded.
Retrying in 0.2 seconds...
"""
TOO_LONG = """\

Tokens: 165 sent, 0 received.


Model openai/fake-model has hit a token limit!
Token counts below are approximate.
"""
ASKED: dict[str, Any] = {"event": "message_send_starting", "properties": {}, "time": 1795288647}


def got(read: int, written: int, cost: float = 0) -> dict[str, Any]:
    tokens = {"prompt_tokens": read, "completion_tokens": written, "cost": cost, "total_cost": 0.0}
    return {"event": "message_send", "properties": {"main_model": "openai/REDACTED", **tokens}, "time": 1795288648}


TWICE = (ASKED, got(1000, 10), ASKED, got(2345, 67))


def agent(**given: Any) -> Agent:
    return Agent("worker", "implementer", "aider", **{"model": "openai/m", **given})


def launched(role: Role = IMPLEMENTER, entry: Path = Path("/a b"), **given: Any) -> Launch:
    return ADAPTER.launch(Request(agent(**given), role, entry, entry / "prompt.md", Path("/r")))


def read(
    place: Path, log: str, events: Any = (), answer: str = "", status: int | None = 0, by: str = "exit", **given: Any
) -> Reading:
    folder = place / "aider"
    folder.mkdir(exist_ok=True)
    path = place / "output.log"
    path.write_text(log, encoding="utf-8")
    (folder / "events.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in events))
    said = "".join(f"ASSISTANT {line}\n" for line in answer.split("\n"))
    (folder / "conversation.txt").write_text(
        f"TO LLM 2026-11-21T18:47:16\n-------\nUSER LLM RESPONSE\nLLM RESPONSE 2026-11-21T18:47:16\n{said}"
    )
    number = None if status is not None else 15
    return ADAPTER.read(agent(**given), Evidence(status, number, by, path, 0, path.stat().st_size))


def test_what_it_may_do() -> None:
    writing, judging = launched(), launched(GATEKEEPER)
    for launch in (writing, judging):
        assert {"--yes-always", "--no-auto-commits", "--no-gitignore", "--no-analytics"} < set(launch.argv)
        assert {"--no-suggest-shell-commands", "--no-detect-urls"} < set(launch.argv)
        assert ("BROWSER", "true") in launch.env and launch.stdin == "/a b/prompt.md"
    assert "--dry-run" not in writing.argv
    assert " ".join(judging.argv).count("--chat-mode ask --dry-run") == 1


def test_its_files_are_in_the_attempt_and_the_users_words_come_last() -> None:
    argv = launched(args=("--edit-format", "diff"), base_url="http://h/v1").argv
    assert argv[-2:] == ("--edit-format", "diff")
    assert argv[argv.index("--message-file") + 1] == "/a b/aider/message.md"
    assert '"api_base": "http://h/v1"' in argv[2]
    assert argv[argv.index("--model") + 1] == "openai/m"


@pytest.mark.parametrize(
    ("command", "start", "program"),
    [((), '\naider "$@"', "aider"), (("/my a", "-x"), "\n'/my a' -x \"$@\"", "/my a"), ("uvx a", '\nuvx a "$@"', "sh")],
)
def test_the_program(command: Any, start: str, program: str) -> None:
    assert start in launched(command=command).argv[2]
    assert ADAPTER.program(agent(command=command)) == program


FAKE = """\
import json, pathlib, sys
flags = dict(zip(sys.argv[1:], sys.argv[2:]))
asked, answered = json.loads(pathlib.Path("aider.json").read_text())
pathlib.Path("seen").write_text(pathlib.Path(flags["--message-file"]).read_text() + "|" + " ".join(sys.argv[1:]))
pathlib.Path(".aider.tags.cache.v4").mkdir()
events = ['{"event": "message_send_starting", "properties": {}}'] * asked
events += ['{"event": "message_send", "properties": {}}'] * answered
pathlib.Path(flags["--analytics-log"]).write_text("".join(one + "\\n" for one in events))
answer = "LLM RESPONSE now\\nASSISTANT # Plan\\nASSISTANT\\nASSISTANT   x\\n"
pathlib.Path(flags["--llm-history-file"]).write_text("TO LLM\\nUSER LLM RESPONSE\\n" + answer)
"""


@pytest.fixture
def shell(repo: Repo, tmp_path: Path) -> Any:
    """Run the script around aider with a program in its place: `shell(role, asked, answered)` → (status, entry)."""
    fake = tmp_path / "fake.py"
    fake.write_text(FAKE)
    entry = tmp_path / "attempt"
    (entry / "artifacts").mkdir(parents=True)
    (entry / "prompt.md").write_text("/run evil `ls` $HOME 'a'\n")

    def go(role: Role, asked: int = 1, answered: int = 1) -> tuple[int, Path]:
        (repo.root / "aider.json").write_text(json.dumps([asked, answered]))
        launch = launched(role, entry, command=("python3", str(fake)))
        mine = {"OCTOPOID_BASE_SHA": git(repo, "rev-parse", "main"), "OCTOPOID_ARTIFACTS": str(entry / "artifacts")}
        with (entry / "prompt.md").open() as stdin:
            env = {**repo.env, **mine}
            done = subprocess.run(launch.argv, cwd=repo.root, env=env, stdin=stdin, check=False)
        return done.returncode, entry

    return go


def test_answers_that_did_not_come_are_a_status_of_our_own(shell: Any) -> None:
    assert [shell(IMPLEMENTER, *counts)[0] for counts in ((1, 1), (2, 1), (0, 0), (1, 0))] == [0, 1, 1, 1]


def test_the_prompt_never_begins_with_a_command_and_the_cache_goes(shell: Any, repo: Repo) -> None:
    assert shell(IMPLEMENTER)[0] == 0
    seen = (repo.root / "seen").read_text()
    assert seen.startswith("(You are aider here") and "\n/run evil `ls` $HOME 'a'\n|" in seen
    assert not (repo.root / ".aider.tags.cache.v4").exists()


def test_a_judge_is_shown_the_change_and_not_the_candidates_settings(shell: Any, repo: Repo) -> None:
    git(repo, "branch", "-m", "main", "work")
    git(repo, "branch", "main")
    commit(repo, {"a b.py": "x = 1\n", ".aider.conf.yml": "model: evil\n", "long": "x" * 70_000})
    status, entry = shell(GATEKEEPER)
    seen = (repo.root / "seen").read_text()
    assert status == 0 and seen.endswith(f"--read {entry}/aider/candidate.diff --read a b.py")
    assert "+x = 1" in (entry / "aider/candidate.diff").read_text()
    assert git(repo, "diff") == ""  # they are back in their place


def test_a_document_is_the_last_answer(shell: Any) -> None:
    _, entry = shell(PLANNER)
    assert (entry / "artifacts/plan.md").read_text() == "# Plan\n\n  x\n"
    (entry / "artifacts/plan.md").unlink()
    assert shell(PLANNER, 1, 0)[0] == 1 and not (entry / "artifacts/plan.md").exists()


def test_git_without_a_name_is_said(shell: Any, repo: Repo) -> None:
    git(repo, "config", "--unset", "user.name")
    assert shell(IMPLEMENTER)[0] == 78


def test_a_run_that_ends_well(tmp_path: Path) -> None:
    reading = read(tmp_path, WORKED, TWICE, "Here it is.\n\n  Done.")
    assert (reading.class_, reading.model, reading.turns) == ("ok", "openai/fake-model", 2)
    assert reading.usage == (3345, 77, None, None, "")
    assert reading.result is not None and reading.result.summary == "Here it is.\n\n  Done."
    assert read(tmp_path, WORKED, (ASKED, got(1, 2, 0.25))).usage.usd == 0.25


def test_its_word(tmp_path: Path) -> None:
    said = json.dumps({"outcome": "reject", "feedback": "mend it"}, indent=1)
    reading = read(tmp_path, WORKED, TWICE, f"I looked.\n{said}")
    assert reading.result is not None and (reading.result.outcome, reading.result.feedback) == ("reject", "mend it")
    reading = read(tmp_path, WORKED, TWICE, '{"outcome": "accept", "nonsense": 1}')
    assert (reading.class_, reading.reason) == ("task", "bad result")


@pytest.mark.parametrize(
    ("log", "events", "class_", "reason"),
    [
        (PRELUDE + REFUSED, (ASKED,), "environment", "not logged in"),
        (WORKED + REFUSED, (*TWICE, ASKED), "environment", "not logged in"),
        (PRELUDE + WAITING, (ASKED,), "environment", "no answer"),
        (PRELUDE + TOO_LONG, (ASKED, got(165, 0)), "task", "context window"),
        (WORKED + "Only 3 reflections allowed, stopping.\n", TWICE, "task", "turn limit"),
        (PRELUDE + "Traceback …\n", (ASKED,), "task", "exit status 1"),
        (PRELUDE, (ASKED, {"event": "message_send_exception", "properties": {"exception": "odd"}}), "task", "error"),
        (WORKED, TWICE, "task", "exit status 1"),
    ],
)
def test_how_else_it_ends(tmp_path: Path, log: str, events: Any, class_: str, reason: str) -> None:
    reading = read(tmp_path, log, events, status=1)
    assert (reading.class_, reading.reason) == (class_, reason)


def test_an_error_that_it_got_over_is_none(tmp_path: Path) -> None:
    assert (
        read(tmp_path, PRELUDE + WAITING + "fine\n\nTokens: 10 sent, 5 received.\n", (ASKED, got(10, 5))).class_ == "ok"
    )


def test_what_a_model_writes_is_no_failure(tmp_path: Path) -> None:
    said = f"{PRELUDE}It says:\n{REFUSED}\nTokens: 10 sent, 5 received.\n"
    assert read(tmp_path, said, (ASKED, got(10, 5))).class_ == "ok"


@pytest.mark.parametrize(
    ("log", "status", "reason"),
    [
        ("aider: error: unrecognized arguments: --nonsense\n", 2, "configuration"),
        ("sh: 20: aider: not found\n", 127, "missing"),
        ("git has no user.name or no user.email here\n", 78, "configuration"),
        ("No LLM model was specified and no API keys were provided.\n", 1, "not logged in"),
    ],
)
def test_what_never_began(tmp_path: Path, log: str, status: int, reason: str) -> None:
    reading = read(tmp_path, log, status=status)
    assert (reading.class_, reading.reason, reading.turns) == ("environment", reason, None)
    assert reading.breaker == ("agent:worker" if reason != "not logged in" else "aider")


def test_ended_by_us_or_by_others(tmp_path: Path) -> None:
    reading = read(tmp_path, PRELUDE + WAITING, (ASKED,), status=None, by="timeout")
    assert (reading.class_, reading.reason) == ("environment", "no answer")
    assert read(tmp_path, WORKED, TWICE, status=None, by="timeout").class_ == "task"
    assert read(tmp_path, PRELUDE, (ASKED,), status=None).reason == "killed by SIGTERM"
    assert read(tmp_path, "", status=None).reason == "killed by SIGTERM"


def test_torn_records_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "aider").mkdir()
    log = tmp_path / "output.log"
    log.write_text(WORKED)
    (tmp_path / "aider/events.jsonl").write_text('3\n[]\n{"event": "message_send", "properties": 3}\n{"ev')
    reading = ADAPTER.read(agent(), Evidence(1, None, "exit", log, 0, log.stat().st_size))
    assert (reading.class_, reading.reason) == ("environment", "configuration")


def test_the_log_as_people_read_it() -> None:
    log = WORKED + WAITING + "Did not apply edit to b.py (--dry-run)\n"
    lines = [told("aider", line.encode()) for line in log.splitlines()]
    assert [line for line in lines if line] == [
        "aider 0.86.2",
        "model openai/fake-model",
        "> edit: app.py",
        "! litellm.InternalServerError: InternalServerError: OpenAIException - Connection error.",
        "! the model did not answer (no answer); tries again in 0.2 s",
        "! denied: edit: b.py (--dry-run)",
    ]
    used = ADAPTER.hear(b"Tokens: 2.3k sent, 1.1k cache hit, 67 received. Cost: $0.25 message, $0.26 session.")
    assert used is not None and used[0].usage == (2300, 67, 0.25, 1100, "")
