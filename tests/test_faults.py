"""Faults of the machine and of files: each one made on purpose, and what FAULTS.md asks looked at afterwards."""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import pairwise, product
from pathlib import Path

import faults
import pytest
from faults import WRITE, every
from harness import OCTOPOID, Repo, drop, eventually, git, landed, places, script, state_of

from octopoid import process
from octopoid.states import State

HERE = Path(__file__).parent


@pytest.fixture
def strace() -> None:
    if not faults.can_trace():
        pytest.skip("strace cannot trace here")


# --- files of an entry and of run/ ---

READ_BY_US = ("attempt.json", "exit.json", "facts.json", "result.json", "pid", "output.log", "lock", "outcome.json")
SOME = [
    *product(READ_BY_US, ("pipe", "loop", "huge", "folder")),
    *product(("attempt.json", "exit.json", "facts.json", "result.json", "pid", "outcome.json"), ("deep", "number")),
    *product(("start.json", "stop", "said.json", "waits", "moved-provisional", "artifacts"), ("pipe", "loop")),
    *((name, damage) for name in ("exit.json", "facts.json") for damage in ("missing", "half", "unreadable")),
]


@pytest.mark.messy_books("evidence is damaged, the journal goes on telling of it")
def test_damaged_evidence_hangs_nobody_and_keeps_its_task_alone(repo: Repo) -> None:
    """`scripts/faults evidence`: every file of an entry times every damage."""
    assert faults.evidence(repo, SOME) == []


@pytest.mark.messy_books("the journal itself is lost, and added to anew")
def test_damaged_state_hangs_nobody(repo: Repo) -> None:
    """What stands in run/ is a cache, a hint or a lock: the queue goes on, or says what it waits for."""
    script(repo, every(WRITE))
    drop(repo, "first", "# First\n")
    repo.octopoid("run", "--until-empty")
    found = []
    for turn in range(4):
        kinds = ("pipe", "garbage", "deep", "folder")
        found += faults.state(repo, [(name, kinds[(turn + at) % 4]) for at, name in enumerate(faults.STATE)])
    assert found == []
    drop(repo, "last", "# Last\n")
    repo.octopoid("run", "--until-empty")
    assert faults.wrong(repo, ["first", "last"]) == []
    assert landed(repo) == ("first", "last")


# --- an agent that writes into its own entry ---

FORGED = {
    "outcome": """cat > "$OCTOPOID_ATTEMPT_DIR/outcome.json" <<END
{"kind":"attempt","class":"","charged":false,"reason":"stopped","detail":"x","ended":"2026-01-01T00:00:00Z"}
END
touch "$OCTOPOID_ATTEMPT_DIR/moved-provisional" "$OCTOPOID_ATTEMPT_DIR/spawned"
""",
    "yes": """git add -A; git -c user.name=a -c user.email=a@b commit -qm mine
cat > "$OCTOPOID_ATTEMPT_DIR/attempt.json" <<END
{"kind":"approve","at":"2026-01-01T00:00:00Z","by":"person","gate":"human","candidate":"$(git rev-parse HEAD)"}
END
""",
    "exit": """echo '{"ended": 1.0, "stopped": false, "steps": []}' > "$OCTOPOID_ATTEMPT_DIR/exit.json"
mkdir "$OCTOPOID_ATTEMPT_DIR/said.json"; rm "$OCTOPOID_ATTEMPT_DIR/.reserve"; mkdir "$OCTOPOID_ATTEMPT_DIR/.reserve"
""",
    "pid": """cp "$HOME/foreign" "$OCTOPOID_ATTEMPT_DIR/pid"
""",
    "pipes": """cd "$OCTOPOID_ATTEMPT_DIR"
for one in output.log pid outcome.json exit.json facts.json start.json said.json stop waits moved-provisional; do
rm -rf $one; mkfifo $one; done; rm -rf "$TMPDIR"; mkfifo "$TMPDIR"
""",
}


def test_what_an_agent_writes_into_its_own_entry_is_nobody_elses_word(repo: Repo) -> None:
    """It is still the agent's attempt, nobody else is started beside it, and the person is still asked."""
    foreign = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        facts = {"runner_pid": foreign.pid, "agent_pid": foreign.pid, "boot_id": process.boot_id()}
        facts |= {name: process.start_time(foreign.pid) for name in ("runner_start", "agent_start")}
        (repo.root.parent / "home/foreign").write_text(json.dumps(facts))
        held = [{"wait_for": str(repo.root.parent / "go")}]
        tasks = {name: {"implementer": [[*WRITE, {"run": text}, *held]]} for name, text in FORGED.items()}
        script(
            repo,
            {"tasks": {**tasks, "default": {"implementer": [WRITE]}}},
            gates=["human"],
            max_agents=8,
            limits={"attempts": 1},
        )
        text = repo.layout.agents_yaml.read_text().replace('"instances": 2', '"instances": 8')
        repo.layout.agents_yaml.write_text(text)
        for name in (*FORGED, "honest"):
            drop(repo, name, f"# {name}\n")
        repo.octopoid("run", "--once")
        logs = [repo.layout.entry(name, 1) for name in FORGED]
        eventually(lambda: all((entry / "pid").exists() for entry in logs), 30)
        eventually(lambda: state_of(repo, "honest") is not State.CLAIMED or repo.octopoid("run", "--once"), 30)
        for _ in range(3):
            repo.octopoid("run", "--once", timeout=30)
        assert {name: state_of(repo, name) for name in FORGED} == dict.fromkeys(FORGED, State.CLAIMED)
        assert [name for name in FORGED if repo.layout.entry(name, 2).exists()] == []
        (repo.root.parent / "go").touch()
        repo.octopoid("run", "--until-empty", ok=(6,), timeout=60)
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()
    asked = {name: state_of(repo, name) for name in ("outcome", "yes", "exit", "pid", "honest")}
    assert asked == dict.fromkeys(asked, State.PROVISIONAL)
    assert faults.wrong(repo, [*FORGED, "honest"]) == []
    assert landed(repo) == ()
    assert "attempt.json is not for an agent to write" in (repo.layout.entry("yes", 1) / "output.log").read_text()


# --- a disk that refuses, at any moment ---


@pytest.mark.parametrize(("verb", "error", "many"), [("enqueue", "ENOSPC", 5), ("close", "EIO", 3)])
def test_a_refusal_of_the_disk_loses_nothing(repo: Repo, strace: None, verb: str, error: str, many: int) -> None:
    """`scripts/faults disk`: every verb, every change of the disk that it makes, ENOSPC, EIO, EDQUOT and EROFS."""
    chosen, bad = faults.disk(repo, verb, error, many)
    assert bad == []
    assert chosen == many


def test_what_was_acknowledged_survives_a_power_cut(repo: Repo, strace: None) -> None:
    """E1: content before name, name before the answer. Of every verb; looked at in the order of the system calls."""
    steps = {"asks": {"implementer": [[{"question": ["Which?"]}], WRITE]}, "default": {"implementer": [WRITE, WRITE]}}
    script(repo, {"tasks": steps}, gates=["human"])
    found = {}

    def look(name: str, *words: str) -> None:
        answer, lines = faults.traced(repo, words)
        assert answer.status == 0, (name, answer.err)
        assert any(str(repo.layout.home) in line for line in lines)
        found[name] = faults.unsynced(lines)

    look("enqueue", "enqueue", "Some work", "-b", "text")
    for task in ("asks", "yes", "gone"):
        drop(repo, task, f"# {task}\n")
    look("cancel", "cancel", "gone")
    look("claim", "run", "--once")
    repo.octopoid("run", "--until-empty", ok=(6,))
    look("answer", "answer", "asks", "-m", "blue")
    look("reject", "reject", "some-work", "-m", "no")
    look("approve", "approve", "yes")
    look("land", "run", "--once")
    assert state_of(repo, "yes") is State.DONE
    look("archive", "clean", "--archive") if "--archive" in repo.octopoid("clean", "--help").out else None
    assert found == {name: [] for name in found}


# --- clock, boot, pids ---


@pytest.mark.parametrize("seconds", [-3600.0, 365 * 86400.0])
def test_a_clock_that_jumps_moves_no_task(repo: Repo, seconds: float) -> None:
    """FAULTS 4: limits are monotonic, a lock says who lives, and a wait that was to be short stays short."""
    env, jump = faults.clock(repo)
    go = repo.root.parent / "go"
    steps = {
        "long": {"implementer": [[{"wait_for": str(go)}, *WRITE]]},
        "fails": {"implementer": [[{"fail": "no"}], WRITE]},
    }
    script(repo, {"tasks": {**steps, "default": {"implementer": [WRITE]}}})
    drop(repo, "long", "# Long\n")
    with repo.background("run", env=env) as daemon:
        eventually((repo.layout.entry("long", 1) / "pid").exists, 20, daemon.text())
        jump(seconds)
        drop(repo, "later", "# Later\n")
        eventually(lambda: state_of(repo, "later") is State.DONE, 30, "the next task")
        assert state_of(repo, "long") is State.CLAIMED
        jump(0)
        go.touch()
        eventually(lambda: state_of(repo, "long") is State.DONE, 30, "the long one")
        assert daemon.process.poll() is None
    assert not repo.layout.entry("long", 3).exists() or landed(repo).count("long") == 1
    outcomes = [json.loads(path.read_text()) for path in repo.layout.entries("long").glob("*/outcome.json")]
    assert not any(one.get("charged") for one in outcomes)
    assert faults.wrong(repo, ["long", "later"]) == []


def test_a_zone_changes_no_order_and_no_wait(repo: Repo) -> None:
    """FAULTS 24. A moment without a zone is refused, not guessed."""
    script(repo, every(WRITE))
    moments = {
        "naive": "2025-11-02T01:30:00",
        "date": "2025-11-02",
        "first": "2025-11-02T01:30:00-04:00",
        "second": "2025-11-02T01:30:00-05:00",
        "far": "2099-11-02T01:30:00+05:30",
    }
    for name, moment in moments.items():
        drop(repo, name, f"---\nnot_before: {moment}\n---\n# {name}\n")
    seen = []
    for zone in ("UTC", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "nonsense/zone"):
        status = repo.octopoid("status", "--json", env={"TZ": zone}).json()
        assert [name for name in moments if f"{name}.md" in json.dumps(status["invalid"])] == ["naive", "date"]
        tasks = repo.octopoid("list", "--json", env={"TZ": zone}).json()["tasks"]
        seen.append([{**task, "detail": ""} for task in tasks])  # a sentence for people, in their own time
    assert all(one == seen[0] for one in seen)
    repo.octopoid("run", "--until-empty", ok=(6,), env={"TZ": "America/New_York"})
    assert landed(repo) == ("first", "second")


def test_after_a_reboot_nobody_elses_process_is_touched(repo: Repo) -> None:
    """FAULTS 16, 17: the pids in the entries belong to somebody else now. No lock, so it is over; nobody is charged."""
    script(repo, every(WRITE))
    repo.octopoid("pause", "--agent", "implementer")
    foreign = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        start = process.start_time(foreign.pid) or 0
        record = {"runner_pid": foreign.pid, "agent_pid": foreign.pid, "boot_id": process.boot_id()}
        record |= {"runner_start": start, "agent_start": start}
        pids = {
            "boot": json.dumps({**record, "boot_id": "another"}),
            "start": json.dumps({**record, "runner_start": start - 7, "agent_start": start - 7}),
            "garbage": f"\0\0{foreign.pid}",
            "number": json.dumps({**record, "runner_pid": 10**30, "agent_pid": -1}),
            "empty": "",
        }
        opening = {"kind": "attempt", "at": "2026-01-01T00:00:00Z", "role": "implementer", "agent": "implementer"}
        for task, pid in pids.items():
            drop(repo, task, f"# {task}\n", state=State.CLAIMED)
            entry = repo.layout.entry(task, 1)
            entry.mkdir(parents=True)
            (entry / "attempt.json").write_text(json.dumps(opening))
            (entry / "lock").touch()
            (entry / "pid").write_text(pid)
        (repo.layout.run / "scheduler.pid").write_text(json.dumps({"pid": foreign.pid}))
        repo.octopoid("run", "--once")
        assert {task: state_of(repo, task) for task in pids} == dict.fromkeys(pids, State.INCOMING)
        outcomes = [json.loads((repo.layout.entry(task, 1) / "outcome.json").read_text()) for task in pids]
        assert not any(one.get("charged") for one in outcomes)
        repo.octopoid("cancel", "number")
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()
    assert faults.wrong(repo, list(pids)) == []


# --- a file system that cannot do it ---


@pytest.mark.parametrize("error", ["ENOSYS", "ENOLCK"])
def test_without_flock_the_scheduler_refuses_to_start(repo: Repo, strace: None, error: str) -> None:
    """FAULTS 23: never a soft lock."""
    script(repo, every(WRITE))
    drop(repo, "one", "# One\n")
    answer = faults.injected(repo, ["run", "--once"], faults.Point("flock", 1, ""), error)
    assert answer.status not in (0, 130)
    assert answer.err.strip() and "Traceback" not in answer.err and "bug in octopoid" not in answer.err
    assert state_of(repo, "one") is State.INCOMING
    assert not list(repo.layout.run.glob("*.lock.lock"))


def test_a_move_to_another_mount_is_refused(repo: Repo) -> None:
    """E2: no copy and unlink. The task stays where it is, and it is said."""
    script(repo, every(WRITE))
    drop(repo, "one", "# One\n")
    mount = "mount -t tmpfs -o size=1m tmpfs .octopoid/queue/claimed"
    argv = ["unshare", "-rm", "sh", "-c", f'{mount} && "$0" run --once; ls .octopoid/queue/claimed', str(OCTOPOID)]
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("no mount namespaces here")
    done = subprocess.run(argv, cwd=repo.root, env=dict(repo.env), capture_output=True, text=True, check=False)
    assert done.stdout == "", done
    assert "cross-device" in done.stderr or "another" in done.stderr, done.stderr
    assert "bug in octopoid" not in done.stderr
    assert places(repo, "one") == (State.INCOMING,)


# --- sizes ---


def test_a_huge_task_costs_a_tick_little_and_lands(repo: Repo) -> None:
    """FAULTS 10, 14; `scripts/faults big`: 10 MB, 100,000 labels, 50,000 tasks, an agent that prints 1 GB."""
    loud = [{"run": "yes 'All work and no play makes Jack a dull boy.' | head -c 30000000"}, *WRITE]
    script(repo, {"tasks": {"small": {"implementer": [loud]}, "default": {"implementer": [WRITE]}}})
    faults.big_task(repo, "big", 4)
    drop(repo, "labels", "---\nlabels: [" + ", ".join(f"l{number}" for number in range(20_000)) + "]\n---\n# Labels\n")
    bomb = "".join(f"x-{one}: &{one} [{', '.join([f'*{before}'] * 9)}]\n" for before, one in pairwise("abcdefgh"))
    drop(repo, "bomb", f"---\nx-a: &a [{', '.join(['x'] * 9)}]\n{bomb}---\n# Bomb\n")
    drop(repo, "small", "# Small\n")
    _, megabytes = faults.peak(repo, "run", "--until-empty")
    assert megabytes < 300, megabytes
    assert "bomb.md" in json.dumps(repo.octopoid("status", "--json").json()["invalid"])
    assert {"big", "small"} <= set(landed(repo))
    assert faults.wrong(repo, ["big", "labels", "small", "bomb"], invalid=["bomb", "labels"]) == []


# --- words that would be commands elsewhere (25) ---


def test_no_word_of_a_person_or_an_agent_reaches_a_shell(repo: Repo) -> None:
    """Text, title, labels, names of files and branches, questions, feedback, notify: a whole life of them."""
    canary = repo.root.parent / "canary"
    evil = (
        f"$(touch {canary}) `touch {canary}`; touch {canary} & | touch {canary} --upload-pack=touch\t'\"\\x1b]0;x\\x07"
    )
    line = evil.replace("\t", " ")
    named = "$(touch canary);`touch canary` -rf --exec=x'"
    ask = {"question": [line]}
    write = {"run": 'printf x > "$NAMED$OCTOPOID_TASK_ID"; git add -A; git commit -qm "$MESSAGE"'}
    write["run"] = f"NAMED='{named.replace(chr(39), '')}'; MESSAGE=$(cat \"$OCTOPOID_TASK_FILE\"); {write['run']}"
    steps = {"implementer": [[ask], [write, {"result": {"outcome": "done", "summary": line}}], [*WRITE]]}
    branch = "odd;touch-$IFS-canary"
    git(repo, "branch", branch)
    script(
        repo,
        {"tasks": {"default": steps}},
        gates=["human"],
        checks=[{"name": "tests", "run": "true"}],
        notify={"command": ["sh", "-c", "printf '%s' \"$OCTOPOID_EVENT_TEXT\" >> ../told"]},
    )
    labels = json.dumps([line[:60], "--help", "$(x)"])
    drop(repo, "evil", f"---\nlabels: {labels}\nx-note: {json.dumps(line)}\n---\n# {line}\n\n{evil}\n")
    made = repo.octopoid("enqueue", line[:200], "-b", evil, "--label", "$(touch canary)").out.strip()
    repo.octopoid("run", "--until-empty", ok=(6,))
    for task in ("evil", made):
        repo.octopoid("answer", task, "-m", line)
    repo.octopoid("run", "--until-empty", ok=(6,))
    repo.octopoid("reject", "evil", "-m", line)
    repo.octopoid("run", "--until-empty", ok=(6,))
    for task in ("evil", made):
        repo.octopoid("approve", task, "-m", line)
    repo.octopoid("run", "--until-empty")
    for words in (["status"], ["list"], ["show", "evil"], ["log", "evil"], ["why", made], ["events"], ["diff", "evil"]):
        assert "\x1b" not in repo.octopoid(*words).out
    assert set(landed(repo)) == {"evil", made}
    assert not canary.exists()
    assert not list(repo.root.rglob("canary")) and not list(repo.root.parent.glob("canary"))
