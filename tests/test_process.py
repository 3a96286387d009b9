"""Nobody of ours is missed, nobody else is hit (LESSONS 14, 17, 18; FAULTS 12, 13, 17)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import eventually

from octopoid import ending, locks, process, programs

ENV = {"PATH": os.environ["PATH"]}
FAST = [sys.executable, "-I", "-S", "-c"]


@pytest.fixture
def children() -> Iterator[list[int]]:
    """Pids that a test started: ended and collected after it."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        started = process.start_time(pid)
        process.send(pid, started, signal.SIGKILL)
    eventually(lambda: process.reap(pids) == set(pids))


def run(place: Path, *argv: str, **more: Any) -> str:
    """What a program started by `process.start` prints."""
    out = place / "out"
    fd = os.open(out, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        pid = process.start(argv, env={**ENV, **more.pop("env", {})}, output=fd, **more)
        os.waitpid(pid, 0)
    finally:
        os.close(fd)
    return out.read_text()


def sleeper(children: list[int], *argv: str, env: dict[str, str] | None = None, **more: Any) -> int:
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        pid = process.start(argv or ("sleep", "100"), env={**ENV, **(env or {})}, output=null, **more)
    finally:
        os.close(null)
    children.append(pid)
    return pid


def gone(pid: int) -> bool:
    return pid not in process.processes()


def pid_in(path: Path) -> int:
    """The pid that a program writes to `path`."""
    return int(eventually(lambda: path.exists() and path.read_text().strip()))


def background(path: Path, *argv: str) -> str:
    """Shell text: start `argv` in the background; its pid is written to `path`."""
    return f"{' '.join(argv)} sh -c 'echo $$ > {path}; exec sleep 100' & while ! test -s {path}; do :; done;"


# --- start ---


def test_start_passes_arguments_and_only_the_given_environment(tmp_path: Path) -> None:
    code = "import os, sys; print(sys.argv[1:], sorted(os.environ.items()))"
    text = run(tmp_path, *FAST, code, "a b", "$(x)", "", "é", env={"NAME": "ü"})
    assert text.startswith("['a b', '$(x)', '', 'é']")
    assert "('NAME', 'ü')" in text
    assert "HOME" not in text


def test_start_makes_a_session_and_reads_stdin(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("question")
    code = "import os, sys; print(os.getsid(0) == os.getpid(), sys.stdin.read())"
    assert run(tmp_path, *FAST, code, stdin=str(tmp_path / "in")).strip() == "True question"
    assert run(tmp_path, *FAST, code, new_session=False).strip() == "False"


def test_start_in_a_folder(tmp_path: Path) -> None:
    """In a process of its own, since it changes that one's folder."""
    code = (
        "import os, sys; from octopoid import process\n"
        "process.start(['./tool'], env={}, cwd=sys.argv[1], output=1); os.wait()"
    )
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\npwd\n")
    tool.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path)


def test_start_passes_on_nothing_but_what_is_kept(tmp_path: Path) -> None:
    secret = os.open(tmp_path, os.O_RDONLY)
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    try:
        text = run(tmp_path, "sh", "-c", "readlink /proc/$$/fd/*", keep=lock)
        assert text.split().count(f"{tmp_path}/lock") == 1
        assert run(tmp_path, "readlink", f"/proc/self/fd/{process.LOCK_FD}", keep=lock).strip() == f"{tmp_path}/lock"
    finally:
        os.close(secret)
        os.close(lock)
    assert str(tmp_path) not in text.split()
    assert run(tmp_path, "readlink", "/proc/self/fd/0", "/proc/self/fd/1").split() == ["/dev/null", f"{tmp_path}/out"]


def test_start_with_descriptors_in_each_others_places(tmp_path: Path) -> None:
    """A daemon without standard descriptors: the log may be 0, the lock 1, the input 3."""
    code = (
        "import os, sys; from octopoid import process\n"
        "log = os.open(sys.argv[1] + '/log', os.O_RDWR | os.O_CREAT); os.dup2(log, 0, False)\n"
        "lock = os.open(sys.argv[1] + '/lock', os.O_RDWR | os.O_CREAT); os.dup2(lock, 1, False)\n"
        "os.closerange(2, 100)\n"
        "process.start(['sh', '-c', 'readlink /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/3'],"
        " env=os.environ, output=0, keep=1); os.wait()"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
    assert (tmp_path / "log").read_text().split() == ["/dev/null", str(tmp_path / "log"), str(tmp_path / "lock")]


def test_programs_do_not_inherit_our_signals(tmp_path: Path) -> None:
    """nohup, `&` and Python itself ignore some; a blocked one would be unkillable."""
    old = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE)}
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        text = run(tmp_path, "grep", "-E", "Sig(Ign|Blk)", "/proc/self/status")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        for number, handler in old.items():
            signal.signal(number, handler)
    standard = [int(line.split()[1], 16) & 0x7FFFFFFF for line in text.splitlines()]  # above: the C library's own
    assert standard == [0, 0]


def failure(place: Path, argv: list[str], **more: Any) -> str:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises((OSError, ValueError)) as caught:
        process.start(argv, env=ENV, output=1, **more)
    assert len(os.listdir("/proc/self/fd")) == before
    assert isinstance(caught.value, OSError | ValueError)
    return programs.why_not_started(argv, str(place), caught.value)


def test_why_a_program_did_not_start(tmp_path: Path) -> None:
    def tool(name: str, content: str, mode: int) -> str:
        path = tmp_path / name
        path.write_text(content)
        path.chmod(mode)
        return str(path)

    assert failure(tmp_path, ["no-such-program"]) == "program not found: no-such-program (looked along PATH)"
    assert failure(tmp_path, ["/no/such"]) == "program not found: /no/such"
    plain = tool("plain", "#!/bin/sh\n", 0o644)
    assert failure(tmp_path, [plain]) == f"{plain} is not executable"
    assert failure(tmp_path, [str(tmp_path)]) == f"{tmp_path} is not executable"
    lost = tool("lost interpreter", "#!/no/such/python -u\n", 0o755)
    assert "interpreter of its first line (#!/no/such/python -u) was not found" in failure(tmp_path, [lost])
    text = tool("text", "echo\n", 0o755)
    assert failure(tmp_path, [text]) == f"{text} cannot be started: Exec format error"
    assert "embedded null" in failure(tmp_path, ["echo", "a\0b"])
    assert "working directory" in programs.why_not_started(["x"], "/w", FileNotFoundError(2, "No such file", "/w"))
    assert failure(tmp_path, ["cat"], stdin="/no/input").startswith("input file /no/input: No such file")
    assert "Argument list too long" in failure(tmp_path, ["echo", "x" * 200_000])


def test_find_program_prefers_the_executable(tmp_path: Path) -> None:
    for folder, mode in (("a", 0o644), ("b", 0o755)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tool").touch()
        (tmp_path / folder / "tool").chmod(mode)
    path = f"{tmp_path}/a:{tmp_path}/b:relative"
    assert programs.find_program("tool", path, "/") == f"{tmp_path}/b/tool"
    assert programs.find_program("tool", f"{tmp_path}/a", "/") == f"{tmp_path}/a/tool"
    assert programs.find_program("./b/tool", "", str(tmp_path)) == f"{tmp_path}/./b/tool"
    assert programs.find_program("other", path, "/") is None


# --- finding ---


def test_reap_tells_who_is_gone(children: list[int]) -> None:
    quick, slow = sleeper(children, "true"), sleeper(children)
    eventually(lambda: process.reap({quick}) == {quick})
    assert process.reap({quick, slow, 1}) == {quick, 1}


def test_marked_finds_the_mark_wherever_it_is(tmp_path: Path, children: list[int]) -> None:
    entry = str(tmp_path / "001")
    own = sleeper(children, env={"A": "1", process.MARK: entry})
    sleeper(children, env={process.MARK: entry + "0"})
    sleeper(children, env={"X" + process.MARK: entry})
    sleeper(children, env={"OTHER": f"{process.MARK}={entry}"})
    assert ending.marked(entry) == {own}
    assert ending.marked(entry + "/") == {own}


def test_a_later_look_finds_who_is_new_and_the_last_one_everybody(tmp_path: Path, children: list[int]) -> None:
    entry = str(tmp_path / "001")
    marks = ending.Marked(entry)
    late = tmp_path / "late"  # it gets the mark by an exec, as what a foreign daemon starts
    exec_ = f"while ! test -e {late}; do sleep 0.01; done; {process.MARK}={entry} exec sleep 100"
    stranger = sleeper(children, "sh", "-c", exec_)
    assert marks.look(afresh=True) == {}
    own = sleeper(children, env={process.MARK: entry})
    eventually(lambda: marks.look(afresh=False).keys() == {own})
    late.touch()
    eventually(lambda: marks.look(afresh=True).keys() == {own, stranger})
    assert ending.end(marks.look, 0)
    assert gone(own) and gone(stranger)


def test_descendants_through_every_session(tmp_path: Path, children: list[int]) -> None:
    script = background(tmp_path / "a", "setsid") + background(tmp_path / "b") + "wait"
    root = sleeper(children, "sh", "-c", script)
    found = {pid_in(tmp_path / "a"), pid_in(tmp_path / "b")}
    assert found <= process.family(root).keys()
    assert root in process.family(os.getpid())
    assert root not in process.family(root)
    assert ending.end(lambda _: process.family(os.getpid(), {**process.processes()}), 0)
    assert all(map(gone, found))


def test_names_with_blanks_and_brackets(tmp_path: Path, children: list[int]) -> None:
    tool = tmp_path / "a) R 1 (b"
    tool.symlink_to("/bin/sleep")
    pid = sleeper(children, str(tool), "100")
    eventually(lambda: not gone(pid))
    found = process.processes()[pid]
    assert found.parent == os.getpid()
    assert found.group == pid


def test_a_zombie_is_not_living(children: list[int]) -> None:
    pid = sleeper(children, "true")
    eventually(lambda: gone(pid))
    assert Path(f"/proc/{pid}").exists()  # not collected yet
    assert pid not in process.family(os.getpid())
    assert not process.is_alive(pid, process.start_time(pid))


def test_a_program_whose_first_thread_ended_is_living(children: list[int]) -> None:
    code = (
        "import threading, time, ctypes\n"
        "threading.Thread(target=time.sleep, args=(100,)).start(); ctypes.CDLL(None).pthread_exit(0)"
    )
    pid = sleeper(children, sys.executable, "-c", code)

    def state() -> str:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

    eventually(lambda: state() == "Z")
    assert not gone(pid)


def test_ps_and_proc_agree(children: list[int]) -> None:
    pid = sleeper(children)
    one, other = process.processes()[pid], process.processes_by_ps()[pid]
    assert (one.parent, one.group) == (other.parent, other.group)
    assert other.start == process.processes_by_ps()[pid].start > 0


def test_identity(children: list[int]) -> None:
    pid = sleeper(children)
    started = process.start_time(pid)
    assert started
    assert started == process.start_time(pid)
    assert process.start_time(2**22 + 1) is None
    assert process.is_alive(pid, started)
    assert not process.is_alive(pid, started + 1)
    assert not process.is_alive(2**22 + 1, None)
    assert len(process.boot_id()) == 36


def test_cpu_seconds_grow_with_work(children: list[int]) -> None:
    sleeper(children, "sh", "-c", "while :; do :; done")
    before = process.cpu_seconds(os.getpid())
    eventually(lambda: process.cpu_seconds(os.getpid()) > before + 0.05)


# --- signals ---


def test_send_hits_nobody_else(children: list[int]) -> None:
    pid = sleeper(children)
    started = process.start_time(pid)
    assert started is not None
    assert not process.send(pid, started + 1, signal.SIGKILL)
    assert not process.send(pid, None, signal.SIGKILL)
    for nobody in (0, 1, -1, -pid):
        assert not process.send(nobody, process.start_time(1), signal.SIGKILL)
    assert not gone(pid)
    assert process.send(pid, started, signal.SIGKILL)
    eventually(lambda: gone(pid))
    eventually(lambda: process.reap({pid}))
    assert not process.send(pid, started, signal.SIGKILL)


def record(entry: Path, pid: int, **other: Any) -> None:
    entry.mkdir(exist_ok=True)
    fields = {"runner_pid": pid, "runner_start": process.start_time(pid), "boot_id": process.boot_id(), **other}
    (entry / "pid").write_text(json.dumps(fields))


@pytest.mark.parametrize(
    "wrong",
    [{"runner_start": 1}, {"boot_id": "other"}, {"runner_pid": None}, {"runner_start": None}, {"runner_pid": "x"}],
)
def test_signal_runner_only_that_runner(tmp_path: Path, children: list[int], wrong: dict[str, Any]) -> None:
    """A pid of another boot, or of a process that came later, is nobody's (FAULTS 17)."""
    pid, entry = sleeper(children), tmp_path / "001"
    record(entry, pid, **wrong)
    assert not process.signal_runner(str(entry))
    assert not gone(pid)
    record(entry, pid)
    assert process.signal_runner(str(entry))
    eventually(lambda: gone(pid))


@pytest.mark.parametrize("text", [None, "", "garbage", "[1]", "{}", '{"boot_id": 1}', "\ufeff{}", '{"runner_pid": 1'])
def test_a_pid_file_that_says_nothing(tmp_path: Path, text: str | None) -> None:
    """FAULTS 16: the content of the file is a hint."""
    if text is not None:
        (tmp_path / "pid").write_text(text)
    assert process.read_pid(str(tmp_path)) == {}
    assert not process.signal_runner(str(tmp_path))
    assert ending.end_marked(str(tmp_path))


# --- ending ---


def test_end_marked_ends_all_and_nobody_else(tmp_path: Path, children: list[int]) -> None:
    entry = str(tmp_path / "001")
    script = background(tmp_path / "a", "env", "-i", "setsid") + background(tmp_path / "b", "setsid") + "wait"
    mine = sleeper(children, "sh", "-c", script, env={process.MARK: entry})
    other = sleeper(children, env={process.MARK: str(tmp_path / "002")})
    pids = [mine, pid_in(tmp_path / "a"), pid_in(tmp_path / "b")]
    assert ending.end_marked(entry)
    assert all(map(gone, pids))
    assert not gone(other)
    assert ending.end_marked(entry)


def test_end_marked_with_grace_lets_programs_finish(tmp_path: Path, children: list[int]) -> None:
    entry, done, ready = str(tmp_path / "001"), tmp_path / "done", tmp_path / "ready"
    script = f"trap 'echo > {done}; exit' TERM; echo > {ready}; while :; do sleep 0.05; done"
    pid = sleeper(children, "sh", "-c", script, env={process.MARK: entry})
    eventually(ready.exists)
    assert ending.end_marked(entry, 5)
    assert done.exists()
    assert gone(pid)


def test_end_marked_kills_the_stubborn_and_the_stopped(tmp_path: Path, children: list[int]) -> None:
    entry, ready = str(tmp_path / "001"), tmp_path / "ready"
    env = {process.MARK: entry}
    deaf = sleeper(children, "sh", "-c", f"trap '' TERM; echo > {ready}; while :; do sleep 0.05; done", env=env)
    stopped = sleeper(children, env=env)
    eventually(ready.exists)
    os.kill(stopped, signal.SIGSTOP)
    began = time.monotonic()
    assert ending.end_marked(entry, 0.3)
    assert time.monotonic() - began < 1.3
    assert gone(deaf)
    assert gone(stopped)


def test_end_marked_knows_the_agent_by_its_pid_file(tmp_path: Path, children: list[int]) -> None:
    """An agent that cleared its environment and whose runner was killed."""
    entry = tmp_path / "001"
    agent = sleeper(children, "env", "-i", "sleep", "100")
    eventually(lambda: b"sleep" in Path(f"/proc/{agent}/cmdline").read_bytes())
    record(entry, os.getpid(), agent_pid=agent, agent_start=1)
    assert ending.end_marked(str(entry))
    assert not gone(agent)
    record(entry, os.getpid(), agent_pid=agent, agent_start=process.start_time(agent))
    assert ending.end_marked(str(entry))
    assert gone(agent)


def test_a_chain_of_forks_does_not_outrun_the_end(tmp_path: Path, children: list[int]) -> None:
    """Every process lives a fraction of a millisecond: only the group can be hit."""
    entry, ready = tmp_path / "001", tmp_path / "ready"
    code = (
        f"import os, time; open({str(ready)!r}, 'w').close(); end = time.time() + 30\n"
        "while time.time() < end:\n    if os.fork(): os._exit(0)"
    )
    fd = locks.take(tmp_path / "lock")
    assert fd is not None
    sleeper(children, *FAST, code, env={process.MARK: str(entry)}, keep=fd)
    os.close(fd)
    eventually(ready.exists)
    assert locks.is_held(tmp_path / "lock")  # by the chain
    assert ending.end_marked(str(entry))
    # an exiting process gives up its memory, by which it is known, before its files: do_exit(), Linux
    eventually(lambda: not locks.is_held(tmp_path / "lock"))


def test_end_says_when_it_cannot() -> None:
    """Somebody who does not die: here a process that is found although it is nobody's to signal."""
    ghost = process.Process(parent=1, group=2**22 + 1, start=1, cpu=0)
    began = time.monotonic()
    assert not ending.end(lambda _: {2**22 + 1: ghost}, 0.1, patience=0.2)
    assert 0.2 <= time.monotonic() - began < 1.2
