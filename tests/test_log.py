"""The live view: what `log` shows of an attempt, and what `status` and `show` say while one runs.

The attempts are prepared folders, whose logs hold lines as the programs print them; one is the real Claude Code's,
looked at while it works.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Repo, drop, eventually, init, state_of
from modelserver import error, text
from test_claude_loop import User, user  # noqa: F401 - the fixture
from test_claude_real import bash, claude  # noqa: F401 - the fixture that installs it
from test_cli_read import on_terminal, valid
from test_startup import _witness

from octopoid import attempts, progress
from octopoid.adapters import ADAPTERS
from octopoid.adapters.events import ENDED, MESSAGE, RESULT, THINKING, TOOL, USAGE, Event, at_home, told
from octopoid.cli import logview
from octopoid.model import Opening, Outcome, Usage
from octopoid.runview import Progress
from octopoid.states import State
from octopoid.tally import Tally

MODEL = "claude-sonnet-5-5"
INIT = {"type": "system", "subtype": "init", "claude_code_version": "2.1.197", "model": MODEL, "session_id": "s-1"}
DENIED = [{"tool_name": "Bash", "tool_input": {"command": "git push"}}]
END = {
    "type": "result",
    "subtype": "success",
    "num_turns": 12,
    "duration_ms": 95_200,
    "total_cost_usd": 0.4211,
    "modelUsage": {MODEL: {"inputTokens": 8211, "cacheReadInputTokens": 40_000, "outputTokens": 3100}},
    "permission_denials": DENIED,
}


def answer(block: dict[str, Any], id_: str = "m-1", cached: int = 1000) -> dict[str, Any]:
    used = {"input_tokens": 10, "cache_read_input_tokens": cached, "output_tokens": 1}
    return {"type": "assistant", "message": {"id": id_, "model": MODEL, "content": [block], "usage": used}}


def use(command: str, id_: str = "m-1") -> dict[str, Any]:
    return answer({"type": "tool_use", "name": "Bash", "input": {"command": command}}, id_)


def says(words: str, id_: str = "m-1") -> dict[str, Any]:
    return answer({"type": "text", "text": words}, id_)


def got(content: str, is_error: bool = False) -> dict[str, Any]:
    return {"type": "user", "message": {"content": [{"type": "tool_result", "content": content, "is_error": is_error}]}}


def retry(attempt: int) -> dict[str, Any]:
    known = {"attempt": attempt, "max_retries": 3, "retry_delay_ms": 2100, "error_status": 401}
    return {"type": "system", "subtype": "api_retry", **known}


def lines(*records: dict[str, Any] | str) -> bytes:
    return "".join(
        f"{one if isinstance(one, str) else json.dumps(one, separators=(',', ':'))}\n" for one in records
    ).encode()


@pytest.fixture
def queue(repo: Repo) -> Iterator[Repo]:
    init(repo)
    yield repo


def put(repo: Repo, log: bytes, task: str = "first", adapter: str = "claude", usd: float | None = None) -> int:
    """A task whose second attempt runs; its first one cost `usd`. The descriptor of its lock."""
    opening = Opening("attempt", time.time() - 9, role="implementer", agent="coder", adapter=adapter, attempt=1)
    drop(repo, task, f"# The {task}\n", state=State.CLAIMED)
    ended = Outcome("attempt", "task", True, "timeout", "", time.time() - 9, usage=Usage(usd=usd))
    attempts.begin(repo.layout, task, opening, {"output.log": b"", "pid": b"{}"}, outcome=ended)
    files = {"output.log": log, "pid": json.dumps({"runner_pid": 7, "agent_pid": 8}).encode()}
    begun = attempts.begin(repo.layout, task, opening._replace(attempt=2), files, locked=True)
    assert begun.lock is not None
    return begun.lock


def run_of(repo: Repo) -> Any:
    (found,) = valid("status", repo.octopoid("status", "--json").json())["running"]
    return found


# --- log: for people ---

TOLD = """\
octopoid: worktree made
claude 2.1.197, model claude-sonnet-5-5, session s-1
I look first.
> Bash: cat src/a.py && ls .
  line 0
  line 1
  line 2
  line 3
  line 4
  line 5
  [… 88 lines left out …]
  line 94
  line 95
  line 96
  line 97
  line 98
  line 99
> Bash: false
! exit 1
(node) Warning
! the model did not answer (401, try 1 of 3); tries again in 2.1 s
"""


def test_it_says_at_a_glance_what_an_agent_does(queue: Repo) -> None:
    home = queue.layout.home / "worktrees/first"
    log = lines(
        "octopoid: worktree made",
        INIT,
        says("I look first."),
        use(f"cat {home}/src/a.py && ls {home}"),
        got("\n".join(f"line {at}" for at in range(100))),
        use("false", "m-2"),
        got("exit 1", is_error=True),
        "(node) Warning",
        retry(1),
    )
    put(queue, log)
    said = queue.octopoid("log", "first")
    shown, _, estimated = said.out.rpartition(", ~$0.00")  # of the bytes of its records, in which there are paths
    assert shown == f"{TOLD}= so far: 2 turns, 2,020 tokens in (2,000 from the cache), ? out"
    assert 20 <= int(estimated) < 40
    assert "attempt 2 by coder, since" in said.err and said.err.endswith("next: octopoid log -f first\n")
    assert queue.octopoid("log", "first", "--raw").out.encode() == log
    assert queue.octopoid("log", "first", "--attempt", "1").out == ""
    assert "exclude each other" in queue.octopoid("log", "first", "--raw", "--json", ok=[2]).err


def test_the_end_tells_what_it_used_and_what_was_denied(queue: Repo) -> None:
    put(queue, lines(INIT, says("Done."), END))
    used = "= 12 turns, 95.2 s, 48,211 tokens in (40,000 from the cache), 3,100 out, $0.4211"
    assert queue.octopoid("log", "first").out.splitlines()[1:] == ["Done.", "! denied: Bash: git push", used]


def test_where_the_program_adds_nothing_up_it_is_done_here(queue: Repo) -> None:
    put(queue, lines(*REAL["opencode"]), adapter="opencode")
    assert queue.octopoid("log", "first").out == "= 2 turns, 13 tokens in, 5 out\n"


def test_tokens_are_told_now_and_then(queue: Repo) -> None:
    steps = [one for at in range(23) for one in (use(f"step {at}", f"m-{at}"), got(f"got {at}"))]
    put(queue, lines(INIT, *steps))
    shown = queue.octopoid("log", "first").out.splitlines()
    sums = [at for at, line in enumerate(shown) if line.startswith("= so far: ")]
    assert [shown[at - 1] for at in sums] == ["  got 9", "  got 19", "  got 22"]
    assert shown[-1] == "= so far: 23 turns, 23,230 tokens in (23,000 from the cache), ? out, ~$0.0158"


COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("columns", [80, 200])
def test_colour_on_a_terminal_and_nowhere_else(queue: Repo, columns: int) -> None:
    hostile = "\x1b]0;title\x07\x1b[2J"
    log = lines(INIT, f"plain {hostile}text", use(f"echo {hostile}hi" + " long" * 60), got("no", True), retry(1), END)
    put(queue, log)
    shown = on_terminal(queue, "log", "first", columns=columns)
    assert "\x1b[36m> Bash\x1b[0m: echo " in shown, "the names of tools are cyan"
    assert "\x1b[33m!\x1b[0m\x1b[2m no\x1b[0m" in shown and "\x1b[33m! the model did not answer" in shown
    assert "\x1b[1m= 12 turns" in shown and " long" * 60 in shown, "the terminal wraps what is long"
    assert not set(COLOURS.sub("", shown)) & {"\x1b", "\x07"} and "plain text" in shown
    bare = on_terminal(queue, "log", "first", env={"NO_COLOR": "1"}, columns=columns)
    assert bare.replace("\r", "") == COLOURS.sub("", shown).replace("\r", "")
    assert "\x1b" not in queue.octopoid("log", "first").out.replace("plain \x1b]0;title\x07\x1b[2Jtext", "")
    assert "\x1b[36m> Bash" in queue.octopoid("--color", "always", "log", "first").out


def test_pieces_of_a_message_are_joined(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """As they come: a program that streams is seen to write. What comes between ends the line."""
    script = {
        b"1": (Event(MESSAGE, "\nHel", part=True),),
        b"2": (Event(MESSAGE, "lo\nyou ", part=True), Event(USAGE, usage=Usage(7, 5), answer="a")),
        b"3": (Event(MESSAGE, "there.", part=True),),
        b"4": (Event(THINKING, "a\n", part=True), Event(THINKING, "b", part=True)),
        b"5": (Event(TOOL, "ls", name="sh"), Event(RESULT, "x", inside=True)),
        b"6": (Event(MESSAGE, "Hm", part=True, inside=True), Event(MESSAGE, "\nm", part=True, inside=True)),
        b"7": (Event(MESSAGE, "whole"), Event(MESSAGE, "new", part=True)),
    }
    write = logview.as_text(script.get, "")
    write(b"1\n2\n")
    assert capfdbinary.readouterr().out == b"Hello\nyou "
    write(b"3\n4\n5\n6\n7")
    write(b"")
    shown = b"there.\n~ a\n~ b\n> sh: ls\n  |   x\n  | Hm\n  | m\nwhole\nnew\n= so far: 1 turn, 7 tokens in, 5 out\n"
    assert capfdbinary.readouterr().out == shown


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("cd /w/t && ls /w/t/src /w/tool /w/t-2/x '/w/t/'", "cd . && ls src /w/tool /w/t-2/x '.'"),
        ("cat /w/t", "cat ."),
        ("cat /elsewhere/w/t/x -I/w/t/x", "cat /elsewhere/w/t/x -I/w/t/x"),
    ],
)
def test_paths_in_the_worktree_are_told_from_there(said: str, shown: str) -> None:
    assert at_home(Event(TOOL, said), "/w/t").text == shown
    assert at_home(Event(MESSAGE, said), "/w/t").text == said == at_home(Event(TOOL, said), "").text


def test_one_turn_and_a_price_from_the_table() -> None:
    assert (
        told(Event(ENDED, turns=1, usage=Usage(3, 4, 0.5, priced="2026-11-21")))
        == "= 1 turn, 3 tokens in, 4 out, ~$0.5000"
    )
    assert told(Event(ENDED)) == "= ended"


# --- log: for programs ---


def objects(repo: Repo, *args: str) -> list[Any]:
    found = [json.loads(line) for line in repo.octopoid("log", *args, "--json").out.splitlines()]
    return [valid("log", one) for one in found]


def test_a_line_of_json_for_everything_that_happened(queue: Repo) -> None:
    steps = (use("ls"), got("x\ud800" * 2000, is_error=True), retry(2), END, {"type": "assistant", "message": {}})
    lock = put(queue, lines("octopoid: worktree made", INIT, *steps))
    head, *events, denied, ended = objects(queue, "first")
    assert (head["schema_version"], head["kind"], head["task"], head["entry"]) == (1, "log", "first", 2)
    assert (head["agent"], head["adapter"], head["attempt"]) == ("coder", "claude", 2)
    assert events == [
        {"kind": "text", "text": "octopoid: worktree made"},
        {"kind": "started", "name": "claude 2.1.197", "model": MODEL, "session": "s-1"},
        {"kind": "tool", "name": "Bash", "text": "ls"},
        {"kind": "usage", "answer": "m-1", "model": MODEL, "usage": {"input_tokens": 1010, "cached_tokens": 1000}},
        {"kind": "result", "text": "x?" * 2000, "error": True},
        {"kind": "retry", "text": "401, try 2 of 3", "wait": 2.1},
    ]
    assert denied == {"kind": "denied", "name": "Bash", "text": "git push"}
    usage = {"input_tokens": 48_211, "output_tokens": 3100, "usd": 0.4211, "cached_tokens": 40_000}
    assert ended == {"kind": "ended", "usage": usage, "turns": 12, "seconds": 95.2}
    os.close(lock)
    closed = objects(queue, "first", "--attempt", "1")
    assert closed[1:] == [{"kind": "outcome", "class": "task", "reason": "timeout"}]


def test_what_no_agent_printed_is_text(queue: Repo) -> None:
    opening = Opening("gate", 1.0, gate="checks", key="tests")
    drop(queue, "first", "# First\n", state=State.PROVISIONAL)
    attempts.begin(queue.layout, "first", opening, {"output.log": b"1 passed\n\xff", "pid": b"{}"}, locked=True)
    assert objects(queue, "first")[1:] == [{"kind": "text", "text": "1 passed"}, {"kind": "text", "text": "\ufffd"}]


# --- progress ---


def far(folder: Path, log: bytes, adapter: str = "claude", **given: Any) -> Progress:
    path = folder / "output.log"
    path.write_bytes(log)
    return progress.progress(path, adapter, **given)


def test_answers_are_counted_once_and_added_up(tmp_path: Path) -> None:
    steps = (says("I look."), use("ls"), got('"usage" of tokens'), use("pytest -q  | tail", "m-2"), got("1 passed"))
    found = far(tmp_path, lines("(node) usage: token", INIT, *steps) + b'{"type":"assistant","message":{"usage":{')
    used, least = found.usage, 2 * (10 * 2.5 + 1000 * 0.1) / 1e6
    assert (found.turns, used[:2], used.cached_tokens, found.model) == (2, (2020, None), 2000, MODEL)
    assert used.priced and used.usd is not None and least < used.usd < 10 * least, "what it wrote is estimated"
    assert (found.doing, found.retrying) == ("Bash: pytest -q  | tail", "")


def test_what_the_program_says_of_all_counts_before_the_sum(tmp_path: Path) -> None:
    found = far(tmp_path, lines(INIT, use("ls"), says("Done."), END))
    assert (found.turns, found.usage) == (12, Usage(48_211, 3100, 0.4211, 40_000))
    again = far(tmp_path, lines(INIT, use("ls"), END, use("ls"), says("A second turn of the run.", "m-9")))
    assert (again.turns, again.usage[:2], again.usage.cached_tokens) == (13, (49_221, None), 41_000)
    assert again.usage.priced, "a part of it is"


def test_its_helpers_cost_too_but_take_no_turn(tmp_path: Path) -> None:
    helper = {**use("grep", "h-1"), "parent_tool_use_id": "t"}
    found = far(tmp_path, lines(INIT, use("ls"), helper))
    assert (found.turns, found.usage.input_tokens, found.doing) == (1, 2020, "Bash: grep")


def test_a_model_without_a_price_has_an_unknown_cost(tmp_path: Path) -> None:
    log = lines(use("ls"), says("x", "m-2")).replace(MODEL.encode(), b"llama")
    found = far(tmp_path, log, model="llama")
    assert (found.usage.usd, found.usage.priced, found.model) == (None, "", "llama")


def test_a_model_that_does_not_answer(tmp_path: Path) -> None:
    waits = (use("ls"), got("x"), retry(1), retry(2))
    found = far(tmp_path, lines(INIT, *waits))
    assert (found.doing, found.retrying) == ("Bash: ls", "401, try 2 of 3, waits 2 s")
    assert far(tmp_path, lines(INIT, *waits, says("Again.", "m-2"))).retrying == ""
    codex = {
        "type": "error",
        "message": "Reconnecting... 2/5 (stream disconnected before completion: and so on and on)",
    }
    found = far(tmp_path, lines({"type": "thread.started", "thread_id": "t"}, {"type": "turn.started"}, codex), "codex")
    assert found.retrying == "try 2 of 5: stream disconnected before completion: and so o…"


def test_a_message_in_pieces_is_one(tmp_path: Path) -> None:
    pieces = ({"type": "message", "role": "assistant", "content": one, "delta": True} for one in ("We", " go", " on"))
    init = {"type": "init", "session_id": "s", "model": "m"}
    assert far(tmp_path, lines(init, "a warning", *pieces), "gemini").doing == "We go on"


@pytest.mark.parametrize("adapter", ["command", "scripted", "", "of tomorrow"])
def test_of_a_program_that_tells_nothing_the_last_line_is_shown(tmp_path: Path, adapter: str) -> None:
    log = b"reading\n\x1b[31mtokens used: 3\x1b[0m" + b" x" * 99 + b"\n\n"
    found = far(tmp_path, log + b"half a li", adapter)
    assert found == Progress(doing="[31mtokens used: 3[0m" + " x" * 19 + "…") and len(found.doing) == 60


def test_nothing_is_known_of_nothing(tmp_path: Path) -> None:
    assert progress.progress(tmp_path / "none", "claude") == Progress() == far(tmp_path, b"")


def test_a_log_that_is_too_long_to_search(tmp_path: Path) -> None:
    """The sum is not known then, and not said; what stands at its end is."""
    path = tmp_path / "output.log"
    with path.open("wb") as log:
        log.write(lines(INIT, use("ls")))
        log.seek(progress.LONGEST)
        log.write(b"\n" + lines(use("pytest", "m-7")))
    found = progress.progress(path, "claude")
    assert found == Progress(model=MODEL, doing="Bash: pytest")


REAL = {
    "anthropic": [
        {"type": "started", "model": MODEL, "session": "1"},
        {
            "type": "usage",
            "turn": 1,
            "input": 5,
            "output": 2,
            "cache_read": 0,
            "usd": 0.1,
            "total": {"input_tokens": 5},
        },
        {"type": "ended", "class": "ok", "turns": 1, "total": {"input_tokens": 5, "output_tokens": 2, "usd": 0.1}},
    ],
    "claude": [INIT, use("ls"), got("x"), use("ls", "m-2"), END],
    "mini-swe-agent": [
        {"type": "started", "version": "2.4.6", "model": "m"},
        {"type": "usage", "turns": 1, "usd": 0.1, "input_tokens": 5, "output_tokens": 2},
        {"type": "usage", "turns": 2, "usd": 0.3, "input_tokens": 15, "output_tokens": 4},
    ],
    "gemini": [
        {"type": "init", "session_id": "s", "model": "m"},
        {"type": "result", "status": "success", "stats": {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11}},
    ],
    "opencode": [
        {"type": "step_finish", "sessionID": "s", "part": {"messageID": "m", "tokens": {"input": 9, "output": 2}}},
        {"type": "step_finish", "sessionID": "s", "part": {"reason": "stop", "tokens": {"input": 4, "output": 3}}},
    ],
    "codex": [
        {"type": "thread.started", "thread_id": "t"},
        {"type": "turn.completed", "usage": {"input_tokens": 9, "cached_input_tokens": 4, "output_tokens": 2}},
    ],
}


@pytest.mark.parametrize("adapter", REAL)
def test_the_search_finds_every_line_that_counts(adapter: str, tmp_path: Path) -> None:
    log = (lines({"type": "noise", "text": "x" * 1000}) * 100).join(lines(one) for one in REAL[adapter])
    if adapter == "mini-swe-agent":
        log = log.replace(b'":', b'": ')  # as it prints them
    tally = Tally()
    for line in log.splitlines():
        for event in ADAPTERS[adapter].hear(line) or ():
            tally.add(event, len(line) + 1)
    found = far(tmp_path, log, adapter)
    assert (found.turns, found.usage) == (tally.turns, tally.usage()) and found.usage.input_tokens


# --- status and show ---


def test_status_says_how_far_an_agent_is_and_what_it_does(queue: Repo) -> None:
    assert not _witness(queue, "status").module & {"octopoid.progress", "octopoid.adapters"}, "nothing runs"
    put(queue, lines(INIT, use("pytest -q"), got("1 passed")), usd=0.25)
    one = run_of(queue)
    assert (one["task"], one["agent"], one["attempt"], one["pid"], one["entry"]) == ("first", "coder", 2, 8, 2)
    assert (one["turns"], one["input_tokens"], one["output_tokens"], one["model"]) == (1, 1010, None, MODEL)
    assert (one["doing"], one["retrying"]) == ("Bash: pytest -q", "")
    assert one["usd"] > 0.25 + 0.000125 and one["estimated"], "what the model wrote is not told yet"
    (row,) = (line for line in queue.octopoid("status").out.splitlines() if line.startswith("  first  "))
    assert re.search(r"attempt 2, for \d+s, last output \d+s ago, 1 turn, 1.0k tokens in, ~\$0.25  ", row)
    assert row.endswith("  Bash: pytest -q")
    shown = queue.octopoid("show", "first").out
    assert "  running       coder: attempt 2, for " in shown and "  doing         Bash: pytest -q\n" in shown


def test_nothing_waits_for_a_model_without_saying_so(queue: Repo) -> None:
    put(queue, lines(INIT, use("ls"), got("x"), retry(1), retry(2)))
    loud = "! the model does not answer (401, try 2 of 3, waits 2 s)"
    assert run_of(queue)["retrying"] == "401, try 2 of 3, waits 2 s"
    assert f"  {loud}  Bash: ls\n" in queue.octopoid("status").out
    assert re.search(r"\x1b\[1;33m +" + re.escape(loud), on_terminal(queue, "status", columns=80))
    assert f"  doing         {loud}\n" in queue.octopoid("show", "first").out


def test_a_secret_of_the_shell_is_not_shown_as_what_an_agent_does(queue: Repo) -> None:
    put(queue, lines(INIT, use("curl -H 'key: hunter2-hunter2' example.org"), got("ok")))
    said = queue.octopoid("status", "--json", env={"SERVICE_KEY": "hunter2-hunter2"}).out
    assert "hunter2" not in said and "[SERVICE_KEY]" in said


def test_unknown_is_not_shown_as_nothing(queue: Repo) -> None:
    put(queue, b"reading 1 of 3\n", adapter="command")
    one = run_of(queue)
    assert [one[name] for name in ("usd", "turns", "input_tokens", "output_tokens", "model")] == [None] * 5
    assert "$" not in queue.octopoid("status").out and one["doing"] == "reading 1 of 3"


# --- the real program, while it works ---


def test_claude_is_followed_and_its_wrong_key_is_seen_while_it_waits(user: User) -> None:  # noqa: F811 - the fixture
    user.server.scripts["live"] = [bash("echo hello"), error(401), text("never")]
    user.env["CLAUDE_CODE_MAX_RETRIES"] = "3"
    drop(user.repo, "live", "# Live\n\nAs scripted. [[live]]\n")
    with user.repo.background("log", "-f", "live") as follower, user.repo.background("run", env=user.env):

        def waiting() -> Any:
            running = user.repo.octopoid("status", "--json").json()["running"]
            return next((one for one in running if one["retrying"].startswith("401, try ")), None)

        one = eventually(waiting, 30, "status did not say that the model does not answer")
        assert (one["turns"], one["input_tokens"], one["doing"]) == (1, 10, "Bash: echo hello")
        eventually(lambda: "! the model did not answer (401, try 1 of 3); tries again in " in follower.text())
        shown = follower.text()
        assert "\n> Bash: echo hello\n  hello\n! the model" in shown and "\nclaude 2.1.197, model " in shown
        assert follower.process.wait(30) == 0, "it ends with the attempt"
        assert re.search(r"\n= 2 turns?, [0-9.]+ s, .*\n! ", follower.text())
        eventually(lambda: state_of(user.repo, "live") is State.INCOMING, 20, "it was charged")
