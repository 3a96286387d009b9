"""The supervisor as the scheduler starts it: real steps, trees and kills (FAULTS 12-14; LESSONS 12-19)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from harness import eventually

from octopoid import ending, locks, process

FAST = [sys.executable, "-I", "-S", "-c"]


class Run(NamedTuple):
    """A runner that was started on `entry`."""

    entry: Path
    pid: int

    def wait(self, status: int = 0) -> dict[str, Any]:
        """What `exit.json` says, after the runner has left with `status`."""
        ended: list[int] = []

        def left() -> bool:
            pid, found = os.waitpid(self.pid, os.WNOHANG)
            ended.append(found)
            return pid == self.pid

        eventually(left, 30, "the runner to leave")
        assert os.waitstatus_to_exitcode(ended[-1]) == status, (self.entry / "runner.log").read_text()
        if status:
            return {}
        assert (self.entry / "runner.log").read_bytes() == b""
        found: dict[str, Any] = json.loads((self.entry / "exit.json").read_bytes())
        return found

    def log(self, step: Mapping[str, Any]) -> str:
        """What `step` (of exit.json) printed."""
        return (self.entry / "output.log").read_bytes()[step["log_start"] : step["log_end"]].decode()

    def kill(self, number: int = signal.SIGTERM) -> None:
        os.kill(self.pid, number)


def step(*argv: str, name: str = "agent", **other: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {"call": None, "args": {}, "cwd": "/", "stdin": None, "always": False}
    return {"name": name, "argv": list(argv) or None, **usual, "timeout": 60, "silence": 0, **other}


def shell(script: str, **other: Any) -> dict[str, Any]:
    return step("sh", "-c", script, **other)


def call(function: str, **args: Any) -> dict[str, Any]:
    return step(name="built-in", call=function, args=args)


def start(
    place: Path, *steps: Mapping[str, Any], grace: float = 1.0, name: str = "001", env: Mapping[str, str] | None = None
) -> Run:
    entry = place / name
    entry.mkdir(parents=True, exist_ok=True)
    (entry / "steps.json").write_text(json.dumps({"task": "a-task", "grace": grace, "steps": steps}))
    fd = locks.take(entry / "lock")
    assert fd is not None
    environment = {"PATH": os.environ["PATH"], "OCTOPOID_WAKE": str(place / "wake"), **(env or {})}
    pid = process.start_runner(str(entry), env=environment, lock_fd=fd)
    os.close(fd)
    return Run(entry, pid)


def run(place: Path, *steps: Mapping[str, Any], **other: Any) -> tuple[Run, list[dict[str, Any]]]:
    """Run `steps` to the end; what exit.json says about each."""
    started = start(place, *steps, **other)
    return started, started.wait()["steps"]


def brief(steps: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    return [(each["name"], each["ended_by"], each["status"], each["signal"]) for each in steps]


def writes_pid(path: Path, then: str = "exec sleep 100") -> str:
    """Shell text that says who it is in `path`, then goes on."""
    return f'sh -c "echo \\$\\$ > {path}.new; mv {path}.new {path}; {then}"'


def pid_in(path: Path) -> int:
    return int(eventually(lambda: path.exists() and path.read_text()))


def living(pid: int) -> bool:
    return pid in process.processes()


@pytest.fixture(autouse=True)
def nobody_left(tmp_path: Path) -> Iterator[None]:
    """Who wrote a `*.pid` file is gone after the test, also if it has no environment to be recognised by."""
    yield
    pids = {path.name: int(path.read_text()) for path in tmp_path.rglob("*.pid")}
    left = {name: pid for name, pid in pids.items() if living(pid)}
    for pid in left.values():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left


# --- order and records ---


def test_steps_in_order_with_their_output(tmp_path: Path) -> None:
    before = time.time()
    done, steps = run(
        tmp_path, shell("echo one; echo err >&2", name="setup"), shell("printf two"), shell("echo three", name="last")
    )
    assert brief(steps) == [("setup", "exit", 0, None), ("agent", "exit", 0, None), ("last", "exit", 0, None)]
    assert [done.log(each) for each in steps] == ["one\nerr\n", "two", "three\n"]
    times = [at for each in steps for at in (each["started"], each["ended"])]
    assert times == sorted(times)
    assert before <= times[0]
    assert times[-1] <= time.time()
    record = json.loads((done.entry / "exit.json").read_bytes())
    assert set(record) == {"ended", "stopped", "steps"}
    assert record["stopped"] is False
    assert times[-1] <= record["ended"] <= time.time()
    fields = {"name", "status", "signal", "ended_by", "started", "ended", "log_start", "log_end", "detail"}
    assert set(steps[0]) == fields
    left = {"steps.json", "lock", "pid", "output.log", "exit.json", "runner.log"}
    assert {path.name for path in done.entry.iterdir()} == left


def test_after_a_failure_only_what_always_runs(tmp_path: Path) -> None:
    done, steps = run(
        tmp_path,
        shell("exit 7"),
        shell("echo never", name="commit"),
        shell("echo tidy; exit 3", name="restore", always=True),
        shell("echo never", name="more"),
    )
    assert brief(steps) == [("agent", "exit", 7, None), ("restore", "exit", 3, None)]
    assert (done.entry / "output.log").read_text() == "tidy\n"


def test_a_step_ended_by_a_signal_of_its_own(tmp_path: Path) -> None:
    _, steps = run(tmp_path, shell("kill -KILL $$"), shell("echo never"))
    assert brief(steps) == [("agent", "exit", None, signal.SIGKILL)]


def test_a_step_that_is_needed_once(tmp_path: Path) -> None:
    """`setup`: not again where its stamp is, and no stamp where it failed."""
    stamp = str(tmp_path / "stamp")
    once = {"name": "setup", "unless": stamp, "stamp": stamp}
    for number, (script, names) in enumerate(
        [("exit 3", ["setup"]), ("true", ["setup", "agent"]), ("exit 3", ["agent"])]
    ):
        _, steps = run(tmp_path, shell(script, **once), shell("true"), name=f"{number:03d}")
        assert [each["name"] for each in steps] == names


def test_an_environment_for_one_step(tmp_path: Path) -> None:
    """The agent's key is for the agent, not for the checks and hooks beside it."""
    show = "echo $KEY $NAME $OCTOPOID_ATTEMPT_DIR"
    done, steps = run(tmp_path, shell(show, env={"KEY": "secret"}), shell(show), env={"NAME": "both"})
    assert [done.log(each) for each in steps] == [f"secret both {done.entry}\n", f"both {done.entry}\n"]


def test_no_steps_is_a_record_too(tmp_path: Path) -> None:
    assert run(tmp_path)[1] == []


def test_output_goes_on_where_the_log_ends(tmp_path: Path) -> None:
    (tmp_path / "001").mkdir()
    (tmp_path / "001/output.log").write_text("earlier\n")
    done, steps = run(tmp_path, shell("echo later"))
    assert (steps[0]["log_start"], done.log(steps[0])) == (8, "later\n")


def test_blanks_and_letters_in_every_path(tmp_path: Path) -> None:
    place = tmp_path / "ein Ordner ü $(x) 'q' \udcff"
    (place / "wörk tree").mkdir(parents=True)
    (place / "prompt é.md").write_text("prompt ü")
    tool = place / "my tööl"
    tool.write_text('#!/bin/sh\npwd; cat; echo "$1"; echo "$OCTOPOID_ATTEMPT_DIR" | od -An -tx1 | tail -1')
    tool.chmod(0o755)
    one = step(str(tool), "an argümënt; $(rm)", cwd=str(place / "wörk tree"), stdin=str(place / "prompt é.md"))
    started = start(place, one)
    assert brief(started.wait()["steps"]) == [("agent", "exit", 0, None)]
    text = (started.entry / "output.log").read_bytes()
    assert os.fsencode(place / "wörk tree") + b"\nprompt \xc3\xbcan arg\xc3\xbcm\xc3\xabnt; $(rm)\n" in text


# --- what a step gets ---


def test_input_is_the_file_or_nothing(tmp_path: Path) -> None:
    """An open pipe makes codex and opencode hang (AGENT_CLIS 6)."""
    prompt = tmp_path / "prompt.md"
    prompt.write_bytes(b"p" * 300 * 1024)  # more than a pipe holds, more than an argument may
    done, steps = run(tmp_path, shell("wc -c", stdin=str(prompt)), shell("cat; echo ended"))
    assert [done.log(each).strip() for each in steps] == [str(300 * 1024), "ended"]


def test_a_step_has_its_folder_and_the_environment(tmp_path: Path) -> None:
    """The folder may be made by an earlier step."""
    folder = tmp_path / "worktree"
    done, steps = run(
        tmp_path,
        shell(f"mkdir {folder}"),
        shell("pwd; echo $NAME $OCTOPOID_ATTEMPT_DIR; env | cut -d= -f1", cwd=str(folder)),
        env={"NAME": "value"},
    )
    lines = done.log(steps[1]).splitlines()
    assert lines[:2] == [str(folder), f"value {done.entry}"]
    assert set(lines[2:]) <= {"NAME", "PATH", "PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE", "OCTOPOID_WAKE", process.MARK}


def test_a_step_inherits_only_the_lock(tmp_path: Path) -> None:
    """Also when somebody gave the scheduler a descriptor without close-on-exec (`flock -n 9` of a cron line)."""
    leak = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        done, steps = run(tmp_path, shell("readlink /proc/$$/fd/*"))
    finally:
        os.close(leak)
    log = str(done.entry / "output.log")
    assert done.log(steps[0]).split() == ["/dev/null", log, log, str(done.entry / "lock")]


def test_every_step_has_a_session_of_its_own(tmp_path: Path) -> None:
    code = "import os; print(os.getsid(0) == os.getpid(), os.getsid(0))"
    done, steps = run(tmp_path, step(*FAST, code), step(*FAST, code))
    answers = [done.log(each).split() for each in steps]
    assert [each[0] for each in answers] == ["True", "True"]
    assert len({each[1] for each in answers} | {str(done.pid)}) == 3


def test_pid_names_the_runner_and_the_agent(tmp_path: Path) -> None:
    proof = tmp_path / "seen"
    script = f"cat {tmp_path}/001/pid > {proof}; echo $$"
    done, steps = run(tmp_path, shell(script, name="setup"), shell("sleep 0.2; echo $$"))
    first, last = json.loads(proof.read_bytes()), json.loads((done.entry / "pid").read_bytes())
    assert set(first) == {"runner_pid", "runner_start", "agent_pid", "agent_start", "boot_id"}
    assert (first["agent_pid"], first["agent_start"]) == (None, None)
    assert first["runner_pid"] == last["runner_pid"] == done.pid
    assert last["agent_pid"] == int(done.log(steps[1]))
    assert last["agent_start"] >= last["runner_start"] == first["runner_start"] > 0
    assert last["boot_id"] == process.boot_id()


# --- what cannot be started ---


@pytest.mark.parametrize(
    ("argv", "other", "detail"),
    [
        (["no-such-agent"], {}, "program not found: no-such-agent"),
        (["./no/such"], {}, "program not found: ./no/such"),
        (["./plain"], {}, "is not executable"),
        (["./folder"], {}, "is not executable"),
        (["./lost"], {}, "interpreter of its first line (#!/no/such/shell) was not found"),
        (["./text"], {}, "Exec format error"),
        (["true", "a\0b"], {}, "embedded null"),
        (["true", "\ud800"], {}, "surrogates not allowed"),
        (["true"], {"cwd": "/no/such/folder"}, "working directory /no/such/folder: No such file"),
        (["true"], {"cwd": "/etc/passwd"}, "working directory /etc/passwd: Not a directory"),
        (["true"], {"stdin": "/no/prompt"}, "input file /no/prompt: No such file"),
        ([], {"call": "os:getpid", "cwd": "/no/such/folder"}, "working directory /no/such/folder: No such file"),
        (["true", "x" * 200_000], {}, "Argument list too long"),
    ],
)
def test_what_cannot_be_started_is_missing(tmp_path: Path, argv: list[str], other: dict[str, Any], detail: str) -> None:
    (tmp_path / "folder").mkdir()
    for name, text, mode in (("plain", "", 0o644), ("lost", "#!/no/such/shell\n", 0o755), ("text", "echo", 0o755)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    one = step(*argv, **{"cwd": str(tmp_path), **other})
    done, steps = run(tmp_path, one, shell("echo never"), shell("echo tidy", always=True))
    assert brief(steps) == [("agent", "missing", None, None), ("agent", "exit", 0, None)]
    assert detail in steps[0]["detail"]
    text = (done.entry / "output.log").read_text()
    assert text == f"octopoid: agent: {steps[0]['detail']}\ntidy\n"  # who looks at the log sees it too
    assert done.log(steps[0]) == ""


# --- limits ---


def test_a_step_that_takes_too_long(tmp_path: Path) -> None:
    began = time.monotonic()
    done, steps = run(tmp_path, shell("printf working; sleep 100", timeout=0.3), shell("echo tidy", always=True))
    assert time.monotonic() - began < 5
    assert brief(steps) == [("agent", "timeout", None, signal.SIGTERM), ("agent", "exit", 0, None)]
    assert steps[0]["detail"] == "took longer than 0.3 s"
    assert done.log(steps[0]) == "working"
    assert (done.entry / "output.log").read_text() == "working\noctopoid: agent: took longer than 0.3 s\ntidy\n"


def test_an_agent_that_ends_well_after_sigterm_still_timed_out(tmp_path: Path) -> None:
    """Claude 2.1.197 says 0 and "success" when its tool was ended (AGENT_CLIS 4): remember that it was us."""
    obliging = shell("trap 'exit 0' TERM; while :; do sleep 0.05; done", timeout=0.3, stamp=str(tmp_path / "stamp"))
    _, steps = run(tmp_path, obliging, shell("echo never", name="commit"), step("true", name="restore", always=True))
    assert brief(steps) == [("agent", "timeout", 0, None), ("restore", "exit", 0, None)]
    assert not (tmp_path / "stamp").exists()


def test_silence_ends_a_step_that_does_nothing(tmp_path: Path) -> None:
    began = time.monotonic()
    _, steps = run(tmp_path, shell("echo hello; sleep 100", silence=0.6))
    assert 0.6 <= time.monotonic() - began < 5
    assert brief(steps) == [("agent", "silence", None, signal.SIGTERM)]
    assert steps[0]["detail"] == "no output for 0.6 s, and its processes did nothing"


def test_output_or_work_is_a_sign_of_life(tmp_path: Path) -> None:
    chatter = "for i in 1 2 3 4 5 6; do echo $i; sleep 0.25; done"
    work = "import time\nend = time.monotonic() + 1.8\nwhile time.monotonic() < end: pass"
    _, steps = run(tmp_path, shell(chatter, silence=0.6), step(*FAST, work, silence=0.6))
    assert brief(steps) == [("agent", "exit", 0, None)] * 2


def test_output_without_end(tmp_path: Path) -> None:
    """A hole in the log stands for a gigabyte of `yes`."""
    _, steps = run(tmp_path, shell(f"truncate -s 2G {tmp_path}/001/output.log; exec sleep 100"))
    assert brief(steps) == [("agent", "timeout", None, signal.SIGTERM)]
    assert "1024 MiB of output" in steps[0]["detail"]


# --- nobody is left ---


ESCAPES = {
    "child": "{sleeper} &",
    "session": "setsid {sleeper} &",
    "session without environment": "env -i PATH=$PATH setsid {sleeper} &",
    "daemon": "(setsid sh -c '{quoted} & exit' &) ; ",
    "daemon without environment": "(env -i PATH=$PATH setsid sh -c '{quoted} & exit' &) ; ",
    "deaf": "setsid {deaf} &",
    "stopped": "setsid {stopped} &",
}


@pytest.mark.parametrize("ending", ["exit", "timeout"])
@pytest.mark.parametrize("escape", ESCAPES)
def test_nobody_outlives_a_step(tmp_path: Path, escape: str, ending: str) -> None:
    path = tmp_path / "left.pid"
    programs = {
        "sleeper": writes_pid(path),
        "quoted": writes_pid(path),
        "deaf": writes_pid(path, "trap '' TERM HUP INT; while :; do sleep 0.1; done"),
        "stopped": writes_pid(path, "kill -STOP \\$\\$"),
    }
    escaping = ESCAPES[escape].format_map(programs) + f" while ! test -s {path}; do sleep 0.01; done;"
    script = escaping + ("echo done" if ending == "exit" else "sleep 100")
    # the next step looks: it starts only when nobody is left
    proof = f"test -d /proc/$(cat {path}) && echo still there; true"
    done, steps = run(
        tmp_path, shell(script, timeout=60 if ending == "exit" else 1.5), shell(proof, always=True), grace=0.3
    )
    assert [each["ended_by"] for each in steps] == [ending, "exit"]
    assert not living(pid_in(path))
    assert done.log(steps[1]) == ""
    assert steps[0]["ended"] - steps[0]["started"] < 4


def test_who_was_started_elsewhere_with_the_mark_is_ended_too(tmp_path: Path) -> None:
    """`at`, a terminal multiplexer: no descendant of ours, but with the step's environment."""
    ready, go = tmp_path / "ready", tmp_path / "go"
    started = start(tmp_path, shell(f"touch {ready}; while ! test -e {go}; do sleep 0.02; done"))
    eventually(ready.exists)
    env = {"PATH": os.environ["PATH"], process.MARK: str(started.entry)}
    foreign = subprocess.Popen(["sleep", "100"], env=env, start_new_session=True)
    other = subprocess.Popen(["sleep", "100"], env={**env, process.MARK: f"{tmp_path}/002"}, start_new_session=True)
    go.touch()
    assert brief(started.wait()["steps"]) == [("agent", "exit", 0, None)]
    assert foreign.poll() == -signal.SIGTERM
    assert other.poll() is None
    other.kill()
    other.wait()


def test_a_deaf_agent_is_killed_after_the_grace(tmp_path: Path) -> None:
    """FAULTS 13: at most grace + 1 s."""
    script = "trap '' TERM HUP INT; while :; do sleep 0.1; done"
    _, steps = run(tmp_path, shell(script, timeout=0.3), grace=0.7)
    assert brief(steps) == [("agent", "timeout", None, signal.SIGKILL)]
    assert 1.0 <= steps[0]["ended"] - steps[0]["started"] < 2.0


def test_a_stopped_agent_is_ended_at_once(tmp_path: Path) -> None:
    _, steps = run(tmp_path, shell("kill -STOP $$; sleep 100", timeout=0.3), grace=30)
    assert brief(steps) == [("agent", "timeout", None, signal.SIGTERM)]
    assert steps[0]["ended"] - steps[0]["started"] < 3


def test_the_grace_is_for_the_whole_tree(tmp_path: Path) -> None:
    """A tool in a session of its own may finish what it writes."""
    script = f"""setsid sh -c 'trap "sleep 0.2; echo > {tmp_path}/saved; exit" TERM; echo > {tmp_path}/ready
        while :; do sleep 0.05; done' & sleep 100"""
    started = start(tmp_path, shell(script), grace=10)
    eventually((tmp_path / "ready").exists)
    started.kill()
    assert started.wait()["stopped"]
    assert (tmp_path / "saved").exists()


def test_orphans_are_collected_while_a_step_runs(tmp_path: Path) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do (sh -c 'true &' &); done; sleep 0.5; ps -o stat= --ppid $PPID"
    done, steps = run(tmp_path, shell(script))
    assert "Z" not in done.log(steps[0])


def test_a_chain_of_forks_is_ended(tmp_path: Path) -> None:
    code = "import os, time\nend = time.time() + 30\nwhile time.time() < end:\n    if os.fork(): os._exit(0)"
    done, steps = run(tmp_path, step(*FAST, code))
    assert brief(steps) == [("agent", "exit", 0, None)]
    assert steps[0]["detail"] == ""
    assert not locks.is_held(done.entry / "lock")  # the chain would hold it


def test_quick_steps_are_not_held_up(tmp_path: Path) -> None:
    done = start(tmp_path, *[step("true")] * 40)
    steps = done.wait()["steps"]
    assert len(steps) == 40
    assert steps[-1]["ended"] - steps[0]["started"] < 4


# --- the lock ---


def test_the_lock_is_held_while_the_runner_lives(tmp_path: Path) -> None:
    """Also if the agent closes everything."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    code = f"import os; gate = {str(gate)!r}; os.closerange(0, 1000); os.open(gate, os.O_RDONLY)"
    started = start(tmp_path, step(*FAST, code))
    writer = eventually(lambda: _open_fifo(gate)) or -1
    assert locks.is_held(started.entry / "lock")
    os.close(writer)
    started.wait()
    assert not locks.is_held(started.entry / "lock")


def _open_fifo(path: Path) -> int | None:
    with suppress(OSError):
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    return None


def test_who_is_woken_finds_the_record_and_the_lock_free(tmp_path: Path) -> None:
    for number in range(8):
        started = start(tmp_path, step("true"), name=f"{number:03d}")
        wake = tmp_path / "wake"
        deadline = time.monotonic() + 10
        while not wake.exists():  # as fast as can be: this is a race
            assert time.monotonic() < deadline
        assert not locks.is_held(started.entry / "lock")
        assert (started.entry / "exit.json").exists()
        started.wait()
        wake.unlink()


def test_without_a_place_for_the_wake(tmp_path: Path) -> None:
    run(tmp_path, step("true"), env={"OCTOPOID_WAKE": str(tmp_path / "no/such/wake")})
    run(tmp_path, step("true"), name="002", env={"OCTOPOID_WAKE": ""})


def test_two_runners_at_once(tmp_path: Path) -> None:
    """Neither ends the other's processes."""
    slow = start(tmp_path, shell(f"{writes_pid(tmp_path / 'slow.pid')} & sleep 1; echo slow"), name="001")
    pid_in(tmp_path / "slow.pid")
    quick, steps = run(tmp_path, shell("setsid sleep 100 & echo quick"), name="0011")
    assert quick.log(steps[0]) == "quick\n"
    assert living(pid_in(tmp_path / "slow.pid"))
    steps = slow.wait()["steps"]
    assert (brief(steps), slow.log(steps[0])) == ([("agent", "exit", 0, None)], "slow\n")


# --- being stopped and killed ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_runner_stops(tmp_path: Path, number: int) -> None:
    path = tmp_path / "agent.pid"
    started = start(
        tmp_path,
        step("true", name="setup"),
        shell(f"setsid {writes_pid(path)} & wait"),
        shell("echo never", always=True, name="restore"),
    )
    pid_in(path)
    started.kill(number)
    record = started.wait()
    assert record["stopped"] is True
    assert brief(record["steps"]) == [("setup", "exit", 0, None), ("agent", "stop", None, signal.SIGTERM)]
    assert record["steps"][1]["detail"]
    assert not living(pid_in(path))
    assert not locks.is_held(started.entry / "lock")


def test_signal_runner_stops_it(tmp_path: Path) -> None:
    started = start(tmp_path, shell(f"{writes_pid(tmp_path / 'agent.pid')}"))
    pid_in(tmp_path / "agent.pid")
    assert process.signal_runner(str(started.entry))
    assert started.wait()["stopped"] is True
    assert not process.signal_runner(str(started.entry))


def test_an_impatient_person_changes_nothing(tmp_path: Path) -> None:
    """A second and a third SIGTERM: exit.json is written all the same."""
    path = tmp_path / "agent.pid"
    deaf = writes_pid(path, "trap '' TERM; while :; do sleep 0.05; done")
    started = start(tmp_path, shell(f"{deaf} & wait"), grace=0.5)
    pid_in(path)
    for _ in range(5):
        started.kill()
    assert started.wait()["stopped"] is True


def test_a_runner_that_was_killed_leaves_the_lock_to_its_children(tmp_path: Path) -> None:
    """SIGKILL of the runner: alive is who works on, and end_marked ends them (LESSONS 17, 20)."""
    agent, tool = tmp_path / "agent.pid", tmp_path / "tool.pid"
    started = start(tmp_path, shell(f"echo $$ > {agent}; setsid {writes_pid(tool)} & wait"))
    pids = [pid_in(tool), pid_in(agent)]
    started.kill(signal.SIGKILL)
    started.wait(-signal.SIGKILL)
    assert locks.is_held(started.entry / "lock")
    assert ending.marked(str(started.entry)) >= set(pids)
    assert not process.signal_runner(str(started.entry))
    assert ending.end_marked(str(started.entry), grace=1)
    assert not any(map(living, pids))
    assert not locks.is_held(started.entry / "lock")
    assert not (started.entry / "exit.json").exists()
    assert ending.marked(str(started.entry)) == set()


def test_end_marked_takes_the_runner_too(tmp_path: Path) -> None:
    started = start(tmp_path, shell(writes_pid(tmp_path / "agent.pid")))
    pid_in(tmp_path / "agent.pid")
    assert ending.end_marked(str(started.entry))
    started.wait(-signal.SIGKILL)
    assert not locks.is_held(started.entry / "lock")


def test_the_one_that_started_it_may_die(tmp_path: Path) -> None:
    """SIGKILL of the scheduler and its whole group: the attempt goes on and is recorded."""
    entry, go = tmp_path / "001", tmp_path / "go"
    entry.mkdir()
    steps = [shell(f"while ! test -e {go}; do sleep 0.02; done; echo finished")]
    (entry / "steps.json").write_text(json.dumps({"task": "t", "grace": 1, "steps": steps}))
    code = (
        "import os, sys, time; from octopoid import locks, process; entry = sys.argv[1]\n"
        "fd = locks.take(entry + '/lock')\n"
        "process.start_runner(entry, env={'PATH': os.environ['PATH']}, lock_fd=fd); os.close(fd); time.sleep(100)"
    )
    scheduler = subprocess.Popen([sys.executable, "-c", code, entry], start_new_session=True)
    eventually((entry / "pid").exists)
    os.killpg(scheduler.pid, signal.SIGKILL)
    scheduler.wait()
    assert locks.is_held(entry / "lock")
    go.touch()
    eventually((entry / "exit.json").exists)
    assert (entry / "output.log").read_text() == "finished\n"
    eventually(lambda: not locks.is_held(entry / "lock"))


def test_broken_steps_never_started(tmp_path: Path) -> None:
    """Without a pid file the entry counts towards nothing; the traceback is in runner.log."""
    entry = tmp_path / "001"
    entry.mkdir()
    (entry / "steps.json").write_text('{"steps": [')
    fd = locks.take(entry / "lock")
    assert fd is not None
    started = Run(entry, process.start_runner(str(entry), env={}, lock_fd=fd))
    os.close(fd)
    started.wait(1)
    assert "Error" in (entry / "runner.log").read_text()
    assert not (entry / "pid").exists()
    assert not locks.is_held(entry / "lock")


def test_an_error_of_ours_leaves_nobody(tmp_path: Path) -> None:
    """The second step is no step at all; what the first left is ended, and so is the runner."""
    path = tmp_path / "left.pid"
    started = start(tmp_path, shell(f"setsid {writes_pid(path)} & while ! test -s {path}; do :; done"), {"name": "x"})
    started.wait(1)
    assert "KeyError" in (started.entry / "runner.log").read_text()
    assert not living(pid_in(path))


# --- built-in steps ---


@pytest.mark.parametrize(
    ("function", "args", "status"),
    [
        ("os.path:exists", {"path": "/no/such"}, 0),
        ("os.path:exists", {"path": "/"}, 1),
        ("subprocess:call", {"args": ["sh", "-c", "exit 78"]}, 78),
        ("os:_exit", {"status": 75}, 75),
    ],
)
def test_a_built_in_step_answers_with_its_status(
    tmp_path: Path, function: str, args: dict[str, Any], status: int
) -> None:
    _, steps = run(tmp_path, call(function, **args), shell("true"))
    assert brief(steps)[0] == ("built-in", "exit", status, None)
    assert len(steps) == (1 if status else 2)


@pytest.mark.parametrize(
    ("function", "args", "error"),
    [
        ("os:rmdir", {"path": "/no/such"}, "FileNotFoundError: [Errno 2] No such file or directory: '/no/such'"),
        ("os:mkdir", {"path": "made"}, "TypeError: int()"),  # it returned None
        ("os:rmdir", {"wrong": 1}, "TypeError"),
        ("os:no_such_function", {}, "AttributeError"),
        ("octopoid.no_such_module:run", {}, "ModuleNotFoundError: No module named 'octopoid.no_such_module'"),
        ("sys:exit", {}, "SystemExit"),
    ],
)
def test_a_built_in_step_that_raises_says_so_in_the_log(
    tmp_path: Path, function: str, args: dict[str, Any], error: str
) -> None:
    one = {**call(function, **args), "cwd": str(tmp_path)}
    done, steps = run(tmp_path, one, shell("echo never"), shell("echo tidy", always=True))
    assert brief(steps) == [("built-in", "exit", 1, None), ("agent", "exit", 0, None)]
    assert error in done.log(steps[0])
    assert done.log(steps[1]) == "tidy\n"


def test_a_built_in_step_has_what_other_steps_have(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("input")
    script = "pwd; cat; echo $OCTOPOID_ATTEMPT_DIR; test $$ != $PPID; ps -o sid= -p $PPID; echo $PPID"
    one = {**call("subprocess:call", args=["sh", "-c", script]), "cwd": str(tmp_path), "stdin": str(tmp_path / "in")}
    done, steps = run(tmp_path, one)
    lines = done.log(steps[0]).split()
    assert lines[:2] == [str(tmp_path), f"input{done.entry}"]
    assert lines[2] == lines[3]  # a session of its own
    assert lines[3] != str(done.pid)


@pytest.mark.parametrize("ending", ["timeout", "stop"])
def test_a_built_in_step_can_be_ended(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "git.pid"
    one = call("subprocess:call", args=["sh", "-c", f"setsid {writes_pid(path)} & wait"])
    started = start(tmp_path, {**one, "timeout": 0.5 if ending == "timeout" else 60})
    pid_in(path)
    if ending == "stop":
        started.kill()
    record = started.wait()
    assert brief(record["steps"]) == [("built-in", ending, None, signal.SIGTERM)]
    assert not living(pid_in(path))


def test_only_our_own_folder_is_added_to_the_path(tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()  # in the folder of the step: it must not be imported from there
    (tmp_path / "octopoid").mkdir()
    one = {**call("os:stat", path="x"), "cwd": str(tmp_path)}
    done, steps = run(tmp_path, {**one, "call": "importlib.util:find_spec", "args": {"name": "pytest"}})
    assert "TypeError" in done.log(steps[0])  # None: site-packages are not there
    assert "NoneType" in done.log(steps[0])


# --- a full disk ---


def test_a_full_disk_does_not_lose_the_record(tmp_path: Path) -> None:
    """FAULTS 14: the agent fills the disk with its output; how it ended is recorded, in the room kept for that."""
    disk = tmp_path / "disk"
    disk.mkdir()
    argv = [shutil.which("mount") or "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(argv, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("only root can mount a small disk")
    try:
        started = start(disk, shell("yes full 2>/dev/null; echo broken; exit 3"))
        record = started.wait()
        assert brief(record["steps"]) == [("agent", "exit", 3, None)]
        assert record["steps"][0]["log_end"] > 900_000
        assert not locks.is_held(started.entry / "lock")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)  # -l: a failing test may leave somebody in it
