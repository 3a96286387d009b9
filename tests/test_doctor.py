"""`doctor`: for every code damage that it finds; what --fix mends, mends once, and that nothing else changes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from harness import OCTOPOID, PROJECT, Answer, Repo, drop, eventually, git, init, make_repo
from ruins import (
    OLD,
    TASK,
    Found,
    age,
    changed,
    doctor,
    found,
    healthy,
    scheduler,
    snapshot,
)

from octopoid import attempts, service
from octopoid.cli import doctor as command
from octopoid.model import Opening, Outcome
from octopoid.states import State

# --- nothing is wrong ---


def test_everything_is_in_order(repo: Repo) -> None:
    healthy(repo)
    before = snapshot(repo)
    assert repo.octopoid("doctor").out == "everything is in order\n"
    assert doctor(repo).findings == []
    fixed = doctor(repo, "--fix")
    assert (fixed.findings, fixed.fixed) == ([], [])
    assert changed(before, snapshot(repo)) == set()


def test_without_a_queue_it_says_so_and_how_to_get_one(repo: Repo) -> None:
    here = doctor(repo)
    assert "octopoid init" in here.one("no-queue")["fix"]
    outside = found(repo.octopoid("doctor", "--json", cwd=repo.root.parent, ok=None))
    assert "git init" in outside.one("no-queue")["fix"]
    git(repo, "init", "-q", "--bare", repo.root.parent / "bare.git")
    bare = found(repo.octopoid("--root", repo.root.parent / "bare.git", "doctor", "--json", ok=None))
    assert "bare" in bare.one("no-queue")["message"]
    assert found(repo.octopoid("doctor", "--fix", "--json", ok=None)).fixed == []


# --- the queue, all at once ---


class Ruin(NamedTuple):
    """A queue with many kinds of damage: what doctor says before, while and after mending."""

    repo: Repo
    first: Found
    text: Answer
    fixed: Found
    again: Found
    untouched: set[str]
    mended: set[str]
    repeated: set[str]


def _break_everything(repo: Repo) -> None:
    layout = repo.layout
    drop(repo, "bad", "---\npriorty: P1\n---\n# A typo\n")
    drop(repo, "twice", TASK)
    drop(repo, "twice", TASK, state=State.DONE)
    (layout.folder(State.INCOMING) / "notes.txt").write_text("not a task", encoding="utf-8")
    drop(repo, "fine", TASK)
    drop(repo, "lost-evidence", TASK)
    begun = attempts.begin(layout, "lost-evidence", Opening("release", 1.0, by="person"))
    (begun.path / "attempt.json").write_text("{", encoding="utf-8")
    drop(repo, "idle", TASK, state=State.CLAIMED)
    layout.moving.mkdir()
    (layout.moving / "INCOMING+back.md").write_text(TASK, encoding="utf-8")
    (layout.moving / "INCOMING+onwards.md").write_text(TASK, encoding="utf-8")
    parked = Outcome("block", "", False, "parked", "by hand", 1.0, verb="block", leaves="incoming", enters="blocked")
    attempts.begin(layout, "onwards", Opening("block", 1.0), outcome=parked)
    (layout.moving / "INCOMING+taken.md").write_text("# One\n", encoding="utf-8")
    drop(repo, "taken", "# Two\n")
    (layout.moving / "what.md").write_text(TASK, encoding="utf-8")
    for number, folder in enumerate((layout.folder(State.INCOMING), layout.run, layout.moving)):
        (folder / f".tmp-{number:012x}").write_text("half", encoding="utf-8")
        age(folder / f".tmp-{number:012x}")
        (folder / f".tmp-{number + 8:012x}").write_text("somebody writes this now", encoding="utf-8")
    (layout.folder(State.INCOMING) / ".draft.md.new").write_text("half", encoding="utf-8")
    age(layout.folder(State.INCOMING) / ".draft.md.new")
    (layout.folder(State.INCOMING) / ".mine").write_text("an editor's", encoding="utf-8")
    age(layout.folder(State.INCOMING) / ".mine")
    for name, seconds in ((".new-0123456789ab", OLD), (".new-fedcba987654", 0.0)):
        (layout.entries("fine") / name).mkdir(parents=True)
        age(layout.entries("fine") / name, seconds)
    shutil.rmtree(layout.folder(State.CANCELLED))
    layout.breakers.write_text("{", encoding="utf-8")
    layout.pause.mkdir()
    (layout.pause / "task-fine").touch()
    (layout.pause / "agent-implementer").touch()
    layout.scheduler_pid.write_text('{"pid": 1}', encoding="utf-8")


@pytest.fixture(scope="module")
def ruin(tmp_path_factory: pytest.TempPathFactory) -> Ruin:
    repo = make_repo(tmp_path_factory.mktemp("ruin"))
    agents = {
        "implementer": {"role": "implementer", "adapter": "command", "command": ["no-such-program"]},
        "other": {"role": "implementer", "adapter": "command", "command": ["sh"], "env": ["NO_SUCH_KEY"]},
        "reviewer": {"role": "gatekeeper", "adapter": "command", "command": ["./no/such/program"]},
        "faker": {"role": "implementer", "adapter": "scripted", "script": "no/such/script.json"},
    }
    healthy(repo, agents=agents, checks=[])
    _break_everything(repo)
    before = snapshot(repo)
    first, text = doctor(repo), repo.octopoid("doctor", ok=[1])
    still = snapshot(repo)
    fixed = doctor(repo, "--fix")
    mended = snapshot(repo)
    again = doctor(repo, "--fix")
    return Ruin(
        repo, first, text, fixed, again, changed(before, still), changed(still, mended), changed(mended, snapshot(repo))
    )


def test_looking_writes_nothing(ruin: Ruin) -> None:
    assert ruin.untouched == set()


RUINED = {
    "agent-env": ("warning", False),
    "agent-program": ("error", False),
    "breakers": ("error", True),
    "claimed-idle": ("info", False),
    "duplicate": ("error", False),
    "evidence": ("error", False),
    "folder-missing": ("error", True),
    "invalid": ("error", False),
    "leftover-entry": ("info", True),
    "leftover-file": ("info", True),
    "moving": ("warning", True),
    "no-checks": ("warning", False),
    "paused": ("info", False),
    "scheduler-off": ("info", False),
    "scheduler-pid": ("info", True),
    "stray": ("error", False),
}


def test_exactly_what_is_wrong_is_found(ruin: Ruin) -> None:
    assert ruin.first.codes() == set(RUINED)


@pytest.mark.parametrize("code", RUINED)
def test_each_is_found_with_its_severity(ruin: Ruin, code: str) -> None:
    severities = {one["severity"] for one in ruin.first.of(code)}
    assert RUINED[code][0] in severities
    assert code in ruin.text.out


def test_what_can_be_mended_is_mended_once(ruin: Ruin) -> None:
    assert ruin.fixed.repaired() == {code for code, (_, mends) in RUINED.items() if mends}
    left = {code for code, (_, mends) in RUINED.items() if not mends}
    assert ruin.fixed.codes() == left | {"moving"}
    assert ruin.again.fixed == []
    assert ruin.again.findings == ruin.fixed.findings
    assert ruin.repeated == set()


def test_what_is_wrong_is_said_with_its_place(ruin: Ruin) -> None:
    layout = ruin.repo.layout
    invalid = {one["path"]: one for one in ruin.first.of("invalid")}
    bad = invalid[str(layout.task_file(State.INCOMING, "bad"))]
    assert "line 2, column 1" in bad["message"]
    assert "priority" in bad["fix"]
    duplicates = {Path(one["path"]).name for one in ruin.first.of("duplicate")}
    assert duplicates == {"twice.md", "taken.md"}  # the real `taken` is the one on its way
    assert ruin.first.one("stray")["path"].endswith("notes.txt")
    assert ruin.first.one("evidence")["path"] == str(layout.entries("lost-evidence"))
    assert "NO_SUCH_KEY" in ruin.first.one("agent-env")["message"]
    assert {one["fix"] for one in ruin.first.of("paused")} == {
        "octopoid resume fine",
        "octopoid resume --agent implementer",
    }


def test_a_role_that_nobody_can_do_is_an_error(ruin: Ruin) -> None:
    severities = {one["message"].split(":")[0]: one["severity"] for one in ruin.first.of("agent-program")}
    assert severities == {"agent implementer": "warning", "agent reviewer": "error", "agent faker": "warning"}


def test_mending_touched_nothing_else(ruin: Ruin) -> None:
    home = "project/.octopoid"
    new = {name for name in ruin.mended if "/.broken-breakers.json-" in name}
    assert len(new) == 1
    assert ruin.mended - new == {
        f"{home}/queue/archive/cancelled",
        f"{home}/queue/.moving/INCOMING+back.md",
        f"{home}/queue/incoming/back.md",
        f"{home}/queue/.moving/INCOMING+onwards.md",
        f"{home}/queue/blocked/onwards.md",
        f"{home}/attempts/onwards/001/moved-blocked",
        f"{home}/queue/incoming/.tmp-000000000000",
        f"{home}/run/.tmp-000000000001",
        f"{home}/queue/.moving/.tmp-000000000002",
        f"{home}/queue/incoming/.draft.md.new",
        f"{home}/attempts/fine/.new-0123456789ab",
        f"{home}/run/breakers.json",
        f"{home}/run/scheduler.pid",
        f"{home}/run/scheduler.lock",
        f"{home}/run/moving.lock",
        f"{home}/events.jsonl",
    }


def test_a_queue_that_cannot_be_listed(repo: Repo) -> None:
    """The rest is examined all the same."""
    healthy(repo)
    repo.layout.folder(State.BLOCKED).rmdir()
    repo.layout.folder(State.BLOCKED).write_text("a file", encoding="utf-8")
    (repo.layout.home / ".gitignore").unlink()
    before = snapshot(repo)
    assert doctor(repo).codes() == {"unreadable", "folder-missing", "gitignore"}
    env = {"OCTOPOID_ATTEMPT_DIR": str(repo.root.parent / "nowhere")}
    assert repo.octopoid("doctor", "--fix", env=env, ok=[5]).status == 5  # an agent mends nothing
    assert changed(before, snapshot(repo)) == set()
    assert doctor(repo, "--fix").repaired() == {"gitignore"}


def test_a_folder_that_is_called_like_a_task(repo: Repo) -> None:
    healthy(repo)
    (repo.layout.folder(State.BLOCKED) / "folder.md").mkdir()
    assert doctor(repo).one("invalid")["path"] == str(repo.layout.task_file(State.BLOCKED, "folder"))


def test_repairs_are_in_the_journal(ruin: Ruin) -> None:
    events = [json.loads(line) for line in ruin.repo.layout.events.read_text(encoding="utf-8").splitlines()]
    details = [one["detail"] for one in events if one["event"] == "repair"]
    assert sorted(details) == sorted(f"{one['code']}: {one['message']}" for one in ruin.fixed.fixed)


def test_a_move_whose_way_back_is_taken_stays_and_is_shown(ruin: Ruin) -> None:
    left = {Path(one["path"]).name: one["fix"] for one in ruin.again.of("moving")}
    assert left.keys() == {"INCOMING+taken.md", "what.md"}
    assert "taken-2.md" in left["INCOMING+taken.md"]


def test_nothing_suggests_destruction(ruin: Ruin) -> None:
    """LESSONS 51: what is printed will be run."""
    for one in ruin.first.findings:
        for word in ("rm ", "--force", "reset --hard", "clean -f", "prune"):
            assert word not in one["fix"], one


# --- the policy ---


def test_a_broken_policy_is_an_error_and_the_last_good_one_is_named(repo: Repo) -> None:
    healthy(repo)
    text = repo.layout.agents_yaml.read_text(encoding="utf-8")
    repo.octopoid("run", "--once")
    repo.layout.agents_yaml.write_text(text.replace('"gates"', '"gatez"'), encoding="utf-8")
    seen = doctor(repo)
    assert seen.one("policy")["path"] == str(repo.layout.agents_yaml)
    assert "gates" in seen.one("policy")["fix"]
    assert "last good" in seen.one("policy-last-good")["message"]
    shutil.rmtree(repo.layout.last_good)
    assert doctor(repo).codes() == {"policy"}


def test_an_open_breaker_says_what_closes_it(repo: Repo) -> None:
    healthy(repo)
    times = {"since": "2026-01-01T00:00:00Z", "until": "2999-01-01T00:00:00Z"}
    record = {"agent:implementer": {"why": "no money", **times, "trips": 1}}
    repo.layout.breakers.write_text(json.dumps(record), encoding="utf-8")
    one = doctor(repo).one("breaker-open")
    assert "no money" in one["message"]
    assert "2999" in one["message"]
    assert one["severity"] == "warning"


# --- the scheduler ---


def test_a_scheduler_that_does_not_look_is_told(repo: Repo) -> None:
    healthy(repo)
    drop(repo, "waits", TASK)
    with scheduler(repo):
        repo.layout.last_tick.write_text("2026-01-01T00:00:00.000Z\n", encoding="utf-8")
        assert doctor(repo).codes() == {"scheduler-silent"}
        repo.layout.last_tick.write_text("rubbish", encoding="utf-8")
        assert doctor(repo).codes() == set()
        repo.layout.last_tick.unlink()
        assert doctor(repo).codes() == {"scheduler-silent"}
    assert doctor(repo).codes() == {"scheduler-off"}


def test_what_a_running_scheduler_mends_itself_is_left_to_it(repo: Repo) -> None:
    healthy(repo)
    repo.layout.moving.mkdir()
    (repo.layout.moving / "INCOMING+on-its-way.md").write_text(TASK, encoding="utf-8")
    repo.layout.scheduler_pid.write_text("{}", encoding="utf-8")
    with scheduler(repo):
        repo.layout.last_tick.touch()
        before = snapshot(repo)
        assert doctor(repo, "--fix").fixed == []
        assert changed(before, snapshot(repo)) == set()


def test_an_attempt_without_its_supervisor(repo: Repo) -> None:
    healthy(repo)
    drop(repo, "alone", TASK, state=State.CLAIMED)
    begun = attempts.begin(repo.layout, "alone", Opening("attempt", time.time(), role="implementer"), locked=True)
    assert begun.lock is not None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    gone = {"runner_pid": 2**22 + 1, "runner_start": 1, "agent_pid": None, "agent_start": None, "boot_id": boot}
    (begun.path / "pid").write_text(json.dumps(gone), encoding="utf-8")
    agent = subprocess.Popen(
        ["sleep", "60"], env={**repo.env, "OCTOPOID_ATTEMPT_DIR": str(begun.path)}, pass_fds=[begun.lock]
    )
    try:
        os.close(begun.lock)
        eventually(lambda: b"sleep" in Path(f"/proc/{agent.pid}/cmdline").read_bytes())
        one = doctor(repo).one("no-supervisor")
        assert str(agent.pid) in one["message"]
        assert agent.poll() is None
    finally:
        agent.kill()
        agent.wait(5)


# --- the service ---


def test_a_service_that_could_start_nothing(repo: Repo) -> None:
    tools = repo.root.parent / "tools"
    tools.mkdir()
    (tools / "my-agent").write_text("#!/bin/sh\n", encoding="utf-8")
    (tools / "my-agent").chmod(0o755)
    healthy(repo, agents={"implementer": {"role": "implementer", "adapter": "command", "command": ["my-agent"]}})
    here = {"PATH": f"{tools}:{repo.env['PATH']}"}
    path = service.unit_file(repo.root, repo.env)
    path.parent.mkdir(parents=True)
    path.write_text(service.unit(service.Job(repo.root, (str(OCTOPOID),), "/usr/bin:/bin")), encoding="utf-8")
    assert doctor(repo, env=here).codes() == {"service-path"}
    path.write_text(service.unit(service.Job(repo.root, ("/gone/octopoid",), here["PATH"])), encoding="utf-8")
    assert doctor(repo, env=here).codes() == {"service-program"}
    path.write_text(service.unit(service.Job(repo.root, (str(OCTOPOID),), here["PATH"])), encoding="utf-8")
    assert doctor(repo, env=here).codes() == set()


# --- the page about it ---


CODES = {*RUINED, "policy", "policy-last-good", "breaker-open", "scheduler-silent", "no-supervisor", "no-queue"}


def test_every_code_is_explained_and_every_explained_code_exists() -> None:
    """Read from the source, so that a new code without a word about it fails."""
    folder = PROJECT / "octopoid/doctor"
    sources = [*folder.glob("*.py"), Path(command.__file__)]
    said = {word for path in sources for word in _codes(path.read_text(encoding="utf-8"))}
    page = (PROJECT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    explained = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `") and line.count("`") >= 2}
    assert said >= CODES
    assert said <= explained, said - explained


def test_every_reason_of_why_is_explained() -> None:
    """The names of guards and of what a decision waits for, from their source."""
    source = "".join(
        (PROJECT / "octopoid" / name).read_text(encoding="utf-8") for name in ("guards.py", "policy.py", "gating.py")
    )
    reasons = set(re.findall(r'(?:waits=|Guard\()"([a-z ]+)"', source))
    assert {"subtasks", "paused", "breaker", "person", "turn"} <= reasons
    page = (PROJECT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    table = page.partition("what a task can wait for")[2].partition("\n## ")[0]
    explained = {word for line in table.splitlines() for word in re.findall(r"`([^`]+)`", line.split(" | ")[0])}
    assert reasons <= explained, reasons - explained


def _codes(source: str) -> set[str]:
    words = {part.split('"')[1] for part in source.split("Finding(")[1:] if part.lstrip().startswith('"')}
    return words | ({"invalid", "evidence", "duplicate", "stray"} if "def _code(" in source else set())


def test_init_alone_is_almost_in_order(repo: Repo) -> None:
    """A new user's first look: the one thing that is missing is named."""
    init(repo)
    assert doctor(repo).codes() <= {"agent-program", "agent-env"}
