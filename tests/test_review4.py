"""What an adversary found: breakers, money, sessions, words of people, and what an agent can put in the way."""

from __future__ import annotations

import json
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import test_builtin_agent
from harness import Repo, drop, eventually, init, state_of, write_config
from test_builtin_agent import bash, done, edit

from octopoid import credentials, evidence, hearing, metering, results, steer, tally
from octopoid.adapters import ADAPTERS
from octopoid.adapters.anthropic import Job
from octopoid.builtin import agent as builtin
from octopoid.builtin import transcript
from octopoid.builtin.tools import Toolbox
from octopoid.errors import Invalid, NotFound
from octopoid.fold import fold, session_key
from octopoid.layout import Layout
from octopoid.model import Breaker, Entry, Opening, Outcome, Result, Usage
from octopoid.settings import Agent, Config
from octopoid.states import State

NOW = 1_700_000_000.0
KEY = "ANTHROPIC_API_KEY"
MANY = "1" * 5000
"""More digits than Python reads as a number (4300)."""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(tmp_path)
    found.run.mkdir(parents=True)
    return found


def news(since: float, **more: Any) -> Breaker:
    return Breaker(KEY, "not logged in: 401", since, 0.0, 0, "", ("impl",), ("m1",))._replace(**more)


def command(repo: Repo, text: str, **more: Any) -> None:
    """One agent that is a shell script."""
    init(repo)
    program = repo.root.parent / "agent.sh"
    program.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    program.chmod(0o755)
    agent = {"adapter": "command", "command": [str(program)], **more.pop("agent", {})}
    usual = {"version": 1, "base": "main", "gates": [], "grace": "1s", "agents": {"implementer": agent}}
    write_config(repo, json.dumps({**usual, **more}))


WORK = 'echo done > "$OCTOPOID_TASK_ID.txt"; git add .; git commit -qm Work'


# --- breakers ---


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "[" * 100_000, '{"K": 1}']
    + [
        '{"K": {"why": "w", "since": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z", "trips": @}}'.replace(
            "@", one
        )
        for one in ("Infinity", "NaN", MANY, '"x"')
    ],
)
def test_a_file_of_breakers_that_cannot_be_read_is_said_to_be_that(layout: Layout, text: str) -> None:
    layout.breakers.write_text(text)
    with pytest.raises(Invalid, match="cannot be read"):
        steer.breakers(layout)


def test_an_outage_of_weeks_is_no_number_that_overflows(layout: Layout) -> None:
    at = NOW
    for _ in range(3):
        steer.trip(layout, news(at), at - 1)
        at += 1000
    record = json.loads(layout.breakers.read_bytes())
    record[KEY]["trips"] = 5000
    layout.breakers.write_text(json.dumps(record))
    found = steer.trip(layout, news(at), at - 1)
    assert (found.trips, found.until) == (5001, at + steer.BREAKER_CAP)


@pytest.mark.parametrize("absurd", [-5.0, math.nan, math.inf, 1e300, 365 * 86400.0])
def test_nobody_waits_for_an_absurd_time(layout: Layout, absurd: float) -> None:
    found = steer.trip(layout, news(NOW), NOW - 1, absurd)
    assert NOW + steer.BREAKER_FIRST <= found.until <= NOW + steer.LONGEST
    assert steer.breakers(layout)[KEY].until == pytest.approx(found.until, abs=0.01)


def test_a_clock_that_is_set_back_keeps_nobody_waiting(layout: Layout) -> None:
    year = 365 * 86400.0
    ahead = steer.trip(layout, news(NOW + year), NOW + year - 1)
    due = steer.current(ahead, NOW)
    assert due.until <= NOW and due.since == 0.0, "one try at a time, whoever it is"
    assert steer.current(ahead, NOW + year + 1) == ahead
    again = steer.trip(layout, news(NOW), NOW - 1)
    assert (again.since, again.until) == (NOW, NOW + 2 * steer.BREAKER_FIRST), "news"
    steer.trip(layout, news(NOW + year), NOW + year - 1)
    steer.works(layout, (KEY,), NOW - 1, NOW)
    assert steer.breakers(layout) == {}, "what works now, works"


def test_many_change_the_one_file_and_nothing_is_lost(layout: Layout) -> None:
    names = [f"agent:{number}" for number in range(24)]

    def one(name: str) -> None:
        steer.trip(layout, news(NOW, name=name), NOW - 1)
        if int(name.partition(":")[2]) % 2:
            steer.works(layout, (name,), NOW)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, names))
    assert sorted(steer.breakers(layout)) == sorted(names[::2])
    steer.forget(layout, names[:5])
    assert sorted(steer.breakers(layout)) == sorted(names[:5:2])


def test_what_a_program_remembers_is_no_login(tmp_path: Path) -> None:
    """Claude Code writes ~/.claude.json all the time; a breaker that was tried at each of them would never hold."""
    agent, env = Agent("impl", "implementer", "claude"), {"PATH": "/nowhere", "HOME": str(tmp_path)}
    file, seen = tmp_path / ".claude.json", set()
    for content in ({}, {"numStartups": 1}, {"numStartups": 2}):
        file.write_text(json.dumps(content))
        seen.add(credentials.mark(agent, env))
    assert len(seen) == 1
    file.write_text(json.dumps({"numStartups": 2, "oauthAccount": {"emailAddress": "ada@example.org"}}))
    assert credentials.mark(agent, env) not in seen
    for broken in ("{", "[]", "[" * 100_000):
        file.write_text(broken)
        credentials.mark(agent, env)


def test_an_agent_that_had_nothing_to_do_tried_nothing(repo: Repo) -> None:
    """Its `pre_check` ended it before its program began: whether the credential works is as unknown as before."""
    command(repo, WORK, agent={"pre_check": "exit 1", "env": [KEY]})
    repo.layout.run.mkdir(exist_ok=True)
    own = news(time.time() - 60, name="agent:implementer", marks=())
    steer.trip(repo.layout, own, own.since - 1)
    drop(repo, "idle", "# Idle\n")
    repo.octopoid("run", "--until-empty", ok=None)
    shown = repo.octopoid("show", "idle", "--json").json()
    assert shown["entries"], "it was tried"
    assert "agent:implementer" in steer.breakers(repo.layout)


def test_a_breaker_that_nobody_needs_any_more_is_forgotten(repo: Repo) -> None:
    """Its agent is gone from the policy: nobody would try it, and `status` would ask for a person for ever."""
    command(repo, "echo invalid api key >&2; exit 1", agent={"adapter": "claude", "env": [KEY]})
    drop(repo, "one", "# One\n")
    repo.octopoid("run", "--until-empty", ok=(6,))
    assert [one["name"] for one in repo.octopoid("status", "--json").json()["scheduler"]["breakers"]] == [KEY]
    command(repo, WORK)
    repo.octopoid("run", "--until-empty")
    found = repo.octopoid("status", "--json").json()
    assert (state_of(repo, "one"), found["needs_you"], found["scheduler"]["breakers"]) == (State.DONE, [], [])


def test_where_breakers_cannot_be_read_nothing_is_ready_and_everybody_says_so(repo: Repo) -> None:
    command(repo, WORK)
    drop(repo, "one", "# One\n")
    repo.layout.run.mkdir(exist_ok=True)
    repo.layout.breakers.write_text('{"half": ')
    repo.octopoid("run", "--until-empty", ok=(6,))
    assert repo.octopoid("list", "--ready", "--json").json()["tasks"] == []
    (task,) = repo.octopoid("status", "--json").json()["waiting"]
    assert not task["ready"] and "breakers.json: cannot be read" in task["detail"]
    assert "breakers.json: cannot be read" in repo.octopoid("why", "one").out
    repo.octopoid("pause", "one")
    assert "cannot be read" in repo.octopoid("resume", "one").err, "a pause has nothing to do with it"
    repo.octopoid("doctor", "--fix")
    repo.octopoid("run", "--until-empty")
    assert state_of(repo, "one") is State.DONE


# --- money ---


@pytest.mark.parametrize(
    "said",
    [
        '{"usage": {"input_tokens": @}}'.replace("@", MANY),
        '{"usage": {"usd": 1e308}}',
        '{"usage": {"usd": 1e999}}',
        '{"usage": {"usd": NaN}}',
        '{"findings": [{"message": "m", "line": @}]}'.replace("@", MANY),
    ],
)
def test_numbers_that_no_attempt_has_are_refused(said: str) -> None:
    with pytest.raises(Invalid):
        results.parse(said.encode())


def test_a_number_without_end_does_not_keep_an_attempt_open(repo: Repo) -> None:
    command(
        repo,
        f"""{WORK}; printf '{{"usage": {{"input_tokens": {MANY}}}}}' > "$OCTOPOID_RESULT_FILE" """,
        limits={"attempts": 1},
    )
    drop(repo, "count", "# Count\n")
    answer = repo.octopoid("run", "--until-empty", ok=None, timeout=30)
    assert "bug in octopoid" not in answer.err
    shown = repo.octopoid("show", "count", "--json").json()["entries"]
    assert shown[0]["charged"] and "5000 digits" in shown[0]["detail"]


_HOSTILE = {
    "anthropic": [
        '{"type":"ended","class":"environment","reason":"rate limit","detail":"x","retry_after":1e999}',
        '{"type":"ended","class":"environment","reason":"rate limit","retry_after":@}'.replace("@", "1" * 400),
        '{"type":"usage","turn":[1],"input":1e999,"output":NaN,"usd":1e999}',
        '{"type":"usage","total":{"input_tokens":1e999,"output_tokens":@,"usd":1e999}}'.replace("@", "1" * 400),
    ],
    "claude": [
        '{"type":"result","subtype":"success","is_error":true,"api_error_status":1e999,"total_cost_usd":1e999}',
        '{"type":"result","subtype":"success","num_turns":1e999,"modelUsage":{"a":{"inputTokens":1e999,"costUSD":NaN}}}',
        '{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1e999}}\n'
        '{"type":"result","subtype":"success","is_error":true,"api_error_status":429}',
        '{"type":"system","subtype":"api_retry","attempt":1e999,"retry_delay_ms":1e999}',
        '{"type":"assistant","message":{"id":"m","usage":{"input_tokens":1e999,"output_tokens":NaN},"content":5}}',
    ],
    "codex": ['{"type":"turn.completed","usage":{"input_tokens":1e999,"output_tokens":@}}'.replace("@", "1" * 400)],
}


@pytest.mark.parametrize(("adapter", "line"), [(name, one) for name, lines in _HOSTILE.items() for one in lines])
def test_records_that_no_program_writes_are_no_bug_of_ours(tmp_path: Path, adapter: str, line: str) -> None:
    """An agent can write into its own log. What it puts there may mean nothing, but it is closed all the same."""
    log = tmp_path / "output.log"
    log.write_text(f"{line}\n")
    steps = ({"name": "agent", "status": 1, "signal": None, "ended_by": "exit", "log_start": 0, "log_end": len(line)},)
    (tmp_path / "exit.json").write_text(json.dumps({"ended": NOW, "stopped": False, "steps": steps}))
    opening, config = (
        Opening("attempt", NOW, role="implementer", agent="a", adapter=adapter),
        Config("main", {}, {}, {}),
    )
    exit_ = evidence.read_exit(tmp_path)
    used = metering.used(tmp_path, opening, exit_, None, Result(), config).usage
    assert used.usd is None or math.isfinite(used.usd)
    assert all(one is None or one <= tally.MAX_COUNT for one in used[:2])
    for one in line.splitlines():
        ADAPTERS[adapter].hear(one.encode())


def test_one_agents_nonsense_keeps_nobody_from_seeing_the_rest(repo: Repo) -> None:
    """A single line in the log of one agent ended `status` for the whole queue."""
    line = '{"type":"assistant","message":{"id":"m","usage":{"input_tokens":1e999,"output_tokens":NaN},"content":[]}}'
    go = repo.root.parent / "go"
    wait = f"while [ ! -e {go} ]; do sleep 0.05; done"
    command(repo, f"echo '{line}'; {wait}; {WORK}", agent={"adapter": "claude"}, limits={"attempts": 1})
    drop(repo, "one", "# One\n")
    log = repo.layout.entry("one", 1) / "output.log"
    with repo.background("run", "--until-empty") as scheduler:
        eventually(lambda: log.exists() and b"NaN" in log.read_bytes(), 20)
        for args in (["status"], ["status", "--json"], ["log", "one"], ["show", "one"], ["list"]):
            assert "bug in octopoid" not in repo.octopoid(*args).err
        go.touch()
        eventually(lambda: scheduler.process.poll() is not None, 30)
        assert "bug in octopoid" not in scheduler.text()
    repo.octopoid("log", "one", "--json")


def test_what_no_attempt_can_have_used_is_unknown(tmp_path: Path) -> None:
    opening = Opening("attempt", NOW, role="implementer", agent="a", adapter="claude")
    word = Result(usage=Usage(10**400, 3))
    used = metering.used(tmp_path, opening, None, None, word, Config("main", {}, {}, {})).usage
    assert used == Usage(None, 3)


def test_no_agent_talks_itself_out_of_its_budget(tmp_path: Path) -> None:
    from octopoid.adapters import Reading

    opening, config = (
        Opening("attempt", NOW, role="implementer", agent="a", adapter="claude"),
        Config("main", {}, {}, {}),
    )
    reported = Reading("ok", usage=Usage(100, 50, 2.5), model="claude-sonnet-4-5")
    lie = Result(usage=Usage(0, 0, 0.0))
    assert metering.used(tmp_path, opening, None, reported, lie, config).usage == Usage(100, 50, 2.5)
    tokens = Reading("ok", usage=Usage(1_000_000, 0), model="claude-sonnet-4-5")
    assert (metering.used(tmp_path, opening, None, tokens, lie, config).usage.usd or 0) >= 3.0


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"ended": @, "stopped": false, "steps": []}'.replace("@", MANY), '{"ended": 1e999}']
)
def test_evidence_that_cannot_be_read_is_said_to_be_that(tmp_path: Path, text: str) -> None:
    (tmp_path / "exit.json").write_text(text)
    with pytest.raises(Invalid):
        evidence.read_exit(tmp_path)


@pytest.mark.messy_books("it loses evidence of what landed, and puts the rest aside")
def test_what_was_spent_and_cannot_be_told_is_said_by_everybody(repo: Repo) -> None:
    """Of a task that is archived: nothing started, nobody said why, and `doctor` found nothing."""
    said = """printf '{"outcome": "done", "usage": {"usd": 1}}' > "$OCTOPOID_RESULT_FILE" """
    command(repo, f"{WORK}; {said}", limits={"usd_per_day": 50})
    drop(repo, "old", "# Old\n")
    repo.octopoid("run", "--until-empty")
    repo.octopoid("clean")
    drop(repo, "new", "# New\n")
    outcome = repo.layout.entry("old", 1) / "outcome.json"
    outcome.write_text("{")
    repo.octopoid("run", "--until-empty", ok=(6,))
    assert repo.octopoid("list", "--ready", "--json").json()["tasks"] == []
    (task,) = repo.octopoid("status", "--json").json()["waiting"]
    assert "cannot be told" in task["detail"] and str(outcome) in task["detail"]
    findings = repo.octopoid("doctor", "--json", ok=(1,)).json()["findings"]
    (found,) = [one for one in findings if one["code"] == "evidence"]
    assert "until then nothing starts" in found["message"] and ".broken-NNN" in found["fix"]
    outcome.parent.rename(outcome.parent.with_name(".broken-001"))
    repo.octopoid("run", "--until-empty")
    assert state_of(repo, "new") is State.DONE


# --- what a person says ---


@pytest.mark.parametrize("trap", ["ln -s {out} said", "mkfifo said", "echo > said", "ln -s /nowhere/at/all said"])
def test_an_agent_lays_a_trap_for_who_has_something_to_say(repo: Repo, trap: str) -> None:
    """`octopoid say` is a person's process: it writes nowhere else, waits for nothing, and the word is kept."""
    out = repo.root.parent / "elsewhere"
    out.mkdir()
    wait = f"touch {out}.ready; while [ ! -e {out}.go ]; do sleep 0.05; done"
    wait = f'cd "$OCTOPOID_ATTEMPT_DIR" && {trap.format(out=out)}; {wait}'
    command(repo, f"( {wait} )\n{WORK}", agent={"adapter": "claude"}, gates=[])
    drop(repo, "trap", "# Trap\n")
    with repo.background("run", "--until-empty") as scheduler:
        eventually(Path(f"{out}.ready").exists, 20)
        answer = repo.octopoid("say", "trap", "-m", "Mind the gap.", timeout=10)
        assert "cannot be told while it works" in answer.err
        Path(f"{out}.go").touch()
        eventually(lambda: scheduler.process.poll() is not None, 30)
    assert list(out.iterdir()) == []
    assert "Mind the gap." in repo.octopoid("thread", "trap").out


def test_a_message_that_nobody_can_take_keeps_no_agent_from_ending(tmp_path: Path) -> None:
    """Its place is taken by a folder of the agent's: it was asked for ever whether there is something new."""
    inbox = tmp_path / hearing.FOLDER
    (inbox / "007.heard.md/x").mkdir(parents=True)
    (inbox / "007.md").write_text("never")
    assert hearing.take(str(tmp_path)) == [] and len(hearing.waiting(str(tmp_path))) == 1


# --- the built-in agent ---


def test_the_habits_of_a_repository_are_no_way_out_of_it(tmp_path: Path) -> None:
    worktree = tmp_path / "worktree"
    worktree.mkdir()
    (worktree / "AGENTS.md").symlink_to("/dev/zero")
    os.mkfifo(worktree / "CLAUDE.md")
    assert builtin.habits(worktree) == ""
    (worktree / "CLAUDE.md").unlink()
    (worktree / "CLAUDE.md").symlink_to("CLAUDE.md")
    assert builtin.habits(worktree) == ""
    (worktree / "CLAUDE.md").unlink()
    (worktree / "CLAUDE.md").write_text("Be kind.")
    assert "Be kind." in builtin.habits(worktree)


# --- secrets ---


@pytest.mark.parametrize("adapter", ["command", "claude"])
def test_a_key_stays_out_of_every_sentence(repo: Repo, adapter: str) -> None:
    """Servers say which key was wrong, and agents print what they see."""
    secret = "sk-very-secret-0123456789"
    says = 'echo "error: invalid api key $ANTHROPIC_API_KEY" >&2; exit 1'
    command(repo, says, agent={"adapter": adapter, "env": [KEY]}, limits={"attempts": 1})
    drop(repo, "leak", "# Leak\n")
    env = {KEY: secret}
    told = [repo.octopoid("run", "--until-empty", ok=None, env=env)]
    for args in (["status"], ["status", "--json"], ["why", "leak"], ["show", "leak"], ["show", "leak", "--json"]):
        told.append(repo.octopoid(*args, ok=None, env=env))
    told += [repo.octopoid(*args, ok=None, env=env) for args in (["doctor"], ["events"], ["thread", "leak"], ["lint"])]
    assert not [one for one in told if secret in one.out + one.err]
    assert "[ANTHROPIC_API_KEY]" in "".join(one.out for one in told)
    leaks = [
        path for path in repo.layout.home.rglob("*") if path.is_file() and secret in path.read_text("utf-8", "replace")
    ]
    assert [path.name for path in leaks] == ["output.log"]
    assert repo.layout.breakers.exists() == (adapter == "claude")


# --- going on in a session ---


def test_a_session_is_not_handed_to_another_program(repo: Repo) -> None:
    """The person gave the agent another adapter while the task waited."""
    cut = Outcome("attempt", "ours", False, "failed", "runner died", NOW, session="s-1", began=True)
    opening = Opening("attempt", NOW, role="implementer", agent="worker", adapter="claude", produces="commits")
    ledger = fold([Entry(1, opening, started=True, outcome=cut)])
    assert ledger.sessions.get(session_key("worker", "implementer", "claude")) == "s-1"
    assert session_key("worker", "implementer", "codex") not in ledger.sessions


NONE = (
    "",
    "{}",
    '{"model": "m"}\n{"role": "user", "content": "hello"}\n',
    '{"model": "m"}\n{"role": "user"}\n',
    '{"model": "m"}\n{"role": "assistant", "content": [7]}\n',
    '{"model": "m"}\n[1]\n',
    "[" * 99999,
)


@pytest.mark.parametrize("text", NONE)
def test_a_conversation_that_is_none_is_lost(tmp_path: Path, text: str) -> None:
    (tmp_path / transcript.NAME).write_text(f"{text}\n")
    with pytest.raises(NotFound):
        transcript.read(tmp_path)


def test_a_conversation_is_a_file(tmp_path: Path) -> None:
    """A pipe is waited for, and /dev/zero has no end."""
    path = tmp_path / transcript.NAME
    os.mkfifo(path)
    with pytest.raises(NotFound):
        transcript.read(tmp_path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(NotFound):
        transcript.read(tmp_path)
    path.unlink()
    transcript.Transcript(tmp_path, "m").add({"role": "user", "content": [{"type": "text", "text": "Hello."}]})
    with path.open("ab") as file:
        file.write(b'{"role": "assi')  # ended in the middle of a line
    assert [one["role"] for one in transcript.read(tmp_path).messages] == ["user"]


# --- the built-in agent, in a whole run ---

builtin_user = test_builtin_agent.user


def test_a_model_that_asks_for_absurd_things_is_told_so(builtin_user: test_builtin_agent.User) -> None:
    """Nothing of it ends the program, hangs it, or leaves the worktree; and a place that is taken does not hold it."""
    user = builtin_user
    traps = "mkfifo pipe; ln -s /dev/zero zero; ln -s / root; ln -s loop loop; mkdir -p deep"
    taken = 'cd "$OCTOPOID_ATTEMPT_DIR"; mkdir -p said/999.heard.md/x; echo word > said/999.md'
    user.server.scripts |= {
        "absurd": [
            bash(traps),
            *(edit("view", path) for path in ("pipe", "zero", "root/etc/passwd", "loop", "a" * 5000, "x\0y", "..")),
            *(edit("create", path, file_text="x") for path in ("pipe", "zero", "root/tmp/x", ".git/config", "deep")),
            bash("true", timeout=10**300),
            bash("true", timeout=-1),
            bash(taken),
            bash("rm pipe zero root loop; echo done > done.txt; git add done.txt; git commit -qm Done"),
            done(),
            *[done()] * 20,
        ],
    }
    user.task("absurd", "absurd")
    user.run()
    assert state_of(user.repo, "absurd") is State.DONE
    outcome = user.outcome("absurd")
    assert (outcome["class"], outcome["charged"]) == ("ok", False)
    assert outcome["turns"] <= 23, "it was asked to finish once"
    assert not Path("/tmp/x").exists() or Path("/tmp/x").read_text() != "x"


def test_a_model_that_writes_what_cannot_be_read_is_not_asked_for_ever(builtin_user: test_builtin_agent.User) -> None:
    """It was taken for a server without an answer: charged to nobody, and everybody who pays with that key waited."""
    user = builtin_user
    user.policy({"retries": 1}, limits={"attempts": 1})
    user.server.scripts |= {"half": [edit("create", "half.txt", file_text="\ud800")] * 9}
    user.task("half", "half")
    user.run(6)
    outcome = user.outcome("half")
    assert (outcome["class"], outcome["charged"]) == ("task", True) and "tool parameter" in outcome["detail"]
    assert state_of(user.repo, "half") is State.BLOCKED and not user.repo.layout.breakers.exists()


@pytest.mark.parametrize(
    "given",
    [("bash", {"command": "true", "timeout": math.nan}), ("bash", {"command": "true", "timeout": 10**400})]
    + [("bash", {"command": "echo \ud800"}), ("str_replace_based_edit_tool", {"command": "view", "path": "\ud800"})]
    + [("git", {"arguments": ["log", one]}) for one in ("\ud800", "a\0b")]
    + [("git", {"arguments": words}) for words in (["grep", "-f", "/etc/passwd"], ["ls-files", "-oX/etc/passwd"])],
)
def test_a_tool_refuses_what_no_program_takes(tmp_path: Path, given: tuple[str, dict[str, Any]]) -> None:
    name, what = given
    writes = name != "git"
    box = Toolbox(Job(str(tmp_path), writes=writes, produces="commits" if writes else "verdict"), tmp_path, os.environ)
    said = box.call(name, what)
    assert said.error or what.get("timeout") == 10**400


# --- temporary files ---


def test_what_an_agent_puts_in_place_of_its_temporary_folder_is_not_followed(repo: Repo) -> None:
    out = repo.root.parent / "elsewhere"
    out.mkdir()
    (out / "precious").write_text("keep me")
    swap = f'rm -rf "$TMPDIR"; ln -s {out} "$TMPDIR"'
    inner = f'ln -s {out} "$TMPDIR/link"; mkdir "$TMPDIR/deep"; ln -s /dev/zero "$TMPDIR/deep/zero"'
    command(repo, f"if [ $OCTOPOID_TASK_ID = swap ]; then {swap}; else {inner}; fi; {WORK}")
    for task in ("swap", "inner"):
        drop(repo, task, "# Task\n")
    repo.octopoid("run", "--until-empty")
    assert [state_of(repo, task) for task in ("swap", "inner")] == [State.DONE, State.DONE]
    assert (out / "precious").read_text() == "keep me" and len(list(out.iterdir())) == 1
    assert not [path for path in Path("/tmp").glob("octopoid-*") if path.is_symlink() and path.readlink() == out]
