"""Starts and ends processes. With `git` and `runner` the only module that does.

A process is named by its pid and start time (10 ms ticks since boot), compared before a signal goes out by pidfd.
What belongs to an attempt is found by descent, and by `OCTOPOID_ATTEMPT_DIR=<entry>` in its environment. Where there is
no /proc (macOS) `ps` tells descent and start time alone: there, ending every process of an attempt is best effort.
"""

# pathlib would cost a runner's start 8 ms:
# ruff: noqa: PTH100, PTH110, PTH118, PTH120
from __future__ import annotations

import fcntl
import os
import sys
import time

from octopoid import lean, regular
from octopoid.lean import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

LOCK_FD = 3  # where a runner and its steps find the descriptor that holds the entry's lock
MARK = "OCTOPOID_ATTEMPT_DIR"
_PID_BYTES = 4096  # of an entry's `pid`; ours has 150
KILL_PATIENCE = 5.0  # seconds until processes that survive SIGKILL (uninterruptible, another user's) are given up
LOOKS = 12  # that must find nobody, one after the other, before there is nobody
QUIET = 4  # how many of them a look is worth during which nothing was started on this machine

_PROC = os.path.exists("/proc/self/stat")
_TICKS = os.sysconf("SC_CLK_TCK")
PACKAGE = os.path.dirname(os.path.abspath(__file__))
# -I -S: no site-packages, no PYTHON* variables. The package by its own folder: where that lies may be site-packages.
BOOT = "import sys; home = sys.modules['octopoid'] = type(sys)('octopoid'); home.__path__ = sys.argv[2:]; "
_RUNNER = BOOT + "from octopoid.runner import main; main()"
# Python ignores PIPE and XFSZ, nohup and `&` ignore HUP and INT: programs that we start shall not inherit that
_DEFAULTS = (
    *(signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT),
    *(signal.SIGCHLD, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
)


class Process:
    """One living process as a look at the table finds it. `cpu`: ticks it and its reaped children have used."""

    __slots__ = ("cpu", "group", "parent", "start")

    def __init__(self, parent: int, group: int, start: int, cpu: int) -> None:
        self.parent, self.group, self.start, self.cpu = parent, group, start, cpu


UNSEEN = Process(0, 0, 0, 0)  # somebody who is certainly there, or just was, and too short-lived to be looked at


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str | None = None,
    stdin: str = os.devnull,
    output: int | tuple[int, int],
    keep: int | None = None,
    new_session: bool = True,
) -> int:
    """Start `argv` (no shell), return its pid. stdout and stderr go to `output` (one or two), `keep` becomes LOCK_FD.

    Every other descriptor of ours is close-on-exec. With `cwd` this process changes its own directory first: only for
    a process without threads. Raises OSError (its `filename` is the argv[0], `cwd` or `stdin` that was wrong) and
    ValueError (a NUL).
    """
    if cwd is not None:
        os.chdir(cwd)
    opened: list[int] = []
    try:
        opened.append(os.open(stdin, os.O_RDONLY | os.O_CLOEXEC))
        wanted = [(opened[0], 0), *zip(output if isinstance(output, tuple) else (output, output), (1, 2), strict=True)]
        if keep is not None:
            wanted.append((keep, LOCK_FD))
        actions = []
        for source, target in wanted:
            # copied out of the way first: an earlier action must not overwrite a later one's source
            high = fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, 10)
            opened.append(high)
            actions.append((os.POSIX_SPAWN_DUP2, high, target))
        return _spawn(argv, env, actions, new_session)
    finally:
        for fd in opened:
            os.close(fd)


def start_runner(entry: str, *, env: Mapping[str, str], lock_fd: int) -> int:
    """Start the supervisor of `entry` and return its pid. It inherits `lock_fd`; close our copy, never unlock it.

    `env` is the environment of every step; the entry's mark is added. Raises OSError. Safe in a process with threads.
    """
    entry = os.path.abspath(entry)
    log = os.open(os.path.join(entry, "runner.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        # the same encoding of file names as ours, whatever the allow-listed environment says
        utf8 = f"-Xutf8={int(sys.getfilesystemencoding() == 'utf-8')}"
        argv = [sys.executable, "-I", "-S", utf8, "-c", _RUNNER, entry, PACKAGE]
        return start(argv, env={**env, MARK: entry}, output=log, keep=lock_fd)
    finally:
        os.close(log)


def _spawn(argv: Sequence[str], env: Mapping[str, str], actions: list[tuple[int, int, int]], session: bool) -> int:
    def spawn(**how: Any) -> int:
        usual: dict[str, Any] = {"file_actions": actions, "setsigmask": (), "setsigdef": _DEFAULTS}
        return os.posix_spawnp(argv[0], list(argv), env, **usual, **how)

    if not session:
        return spawn()
    try:
        return spawn(setsid=True)
    except NotImplementedError:  # macOS before 10.15: a process group has to do
        return spawn(setpgroup=0)


def reap(pids: Iterable[int]) -> set[int]:
    """Collect those of our children `pids` that have ended. Returns them, and those that are no children of ours."""
    gone = set()
    for pid in pids:
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0]
        except ChildProcessError:
            ended = pid
        if ended:
            gone.add(pid)
    return gone


def marked(entry: str) -> set[int]:
    """Everybody but us whose environment has the mark of `entry`, as far as we may read it."""
    return set(marked_processes(entry))


def marked_processes(entry: str) -> dict[int, Process]:
    """The same with what is known about each; UNSEEN for one that ended between two looks at it."""
    wanted = b"\0" + os.fsencode(f"{MARK}={os.path.abspath(entry)}") + b"\0"
    me = os.getpid()
    return {
        pid: _process(pid) or UNSEEN for pid in _pids() if pid != me and wanted in b"\0" + _read(f"/proc/{pid}/environ")
    }


def family(root: int, table: dict[int, Process] | None = None) -> dict[int, Process]:
    """The living descendants of `root`, by pid, from `table` or from a look now."""
    table = processes() if table is None else table
    children: dict[int, list[int]] = {}
    for pid, process in table.items():
        children.setdefault(process.parent, []).append(pid)
    found: dict[int, Process] = {}
    todo = [root]
    while todo:
        for pid in children.get(todo.pop(), ()):
            if pid not in found:
                found[pid] = table[pid]
                todo.append(pid)
    return found


def processes() -> dict[int, Process]:
    """All living processes, by pid. A zombie is not living."""
    if not _PROC:
        return processes_by_ps()
    return {pid: process for pid in _pids() if (process := _process(pid))}


def processes_by_ps() -> dict[int, Process]:
    """The same where there is no /proc. The digits of the start time serve as its number; CPU time is not known."""
    read, write = os.pipe()
    try:
        env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        pid = start(("ps", "-axo", "pid=,ppid=,pgid=,stat=,lstart="), env=env, output=write, new_session=False)
    finally:
        os.close(write)
    with os.fdopen(read, encoding="ascii", errors="replace") as file:
        text = file.read()
    os.waitpid(pid, 0)
    table = {}
    for line in text.splitlines():
        number, parent, group, state, began = line.split(None, 4)
        if not state.startswith("Z"):
            table[int(number)] = Process(int(parent), int(group), int("0" + "".join(filter(str.isdigit, began))), 0)
    return table


def start_time(pid: int) -> int | None:
    """When `pid` started, in ticks since boot; None: no such process. With pid and boot id: its identity."""
    if not _PROC:
        return getattr(processes_by_ps().get(pid), "start", None)
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def is_alive(pid: int, started: int | None) -> bool:
    """Is that process still at work? A zombie is not: in a container PID 1 may never reap it."""
    found = _process(pid)
    return found is not None and found.start == started


def boot_id() -> str:
    """What distinguishes this boot from all others; "" where the system does not tell."""
    return _read("/proc/sys/kernel/random/boot_id").decode("ascii").strip()


def cpu_seconds(root: int) -> float:
    """The CPU time of the descendants of `root` and of all that it has reaped. Only its growth means something."""
    table = processes()
    reaped = sum(map(int, _stat(root)[13:15]))
    return float(reaped + sum(each.cpu for each in family(root, table).values())) / _TICKS


def become_subreaper() -> bool:
    """Make us the new parent of descendants that lose theirs (Linux). True: no children now means no descendants."""
    prctl = lean.libc("prctl") if sys.platform == "linux" else None
    if prctl is None:
        return False
    try:
        prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    except OSError:
        return False
    return True


def send(pid: int, started: int | None, number: int) -> bool:
    """Signal the process that is `pid` and began at `started`, nobody else. False: gone, or not ours to signal."""
    if started is None or pid <= 1:
        return False
    try:
        if sys.platform == "linux" and hasattr(os, "pidfd_open"):
            fd = os.pidfd_open(pid)
            try:
                # compared after the pidfd was taken: from here on the pid cannot come to mean another process
                if start_time(pid) != started:
                    return False
                signal.pidfd_send_signal(fd, number)
            finally:
                os.close(fd)
        elif start_time(pid) != started:
            return False
        else:
            os.kill(pid, number)
    except (OSError, OverflowError):  # no process has such a number: somebody wrote it into `pid`
        return False
    return True


def read_pid(entry: str) -> dict[str, Any]:
    """What the entry's `pid` says; {} if it is not there, cannot be read, or is from another boot."""
    try:
        record = lean.loads(regular.read(os.path.join(entry, "pid"), _PID_BYTES).decode("ascii"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(record, dict) or record.get("boot_id") != boot_id():
        return {}
    return {key: value for key, value in record.items() if isinstance(value, int)}


def signal_runner(entry: str) -> bool:
    """SIGTERM to the runner that the entry's `pid` names, if it still is that runner. False: nothing was sent."""
    record = read_pid(entry)
    return send(record.get("runner_pid") or 0, record.get("runner_start"), signal.SIGTERM)


def end_marked(entry: str, grace: float = 0) -> bool:
    """End everything that belongs to `entry`, its runner too: for an entry whose runner is gone or must go at once.

    That is what carries its mark, the agent that its `pid` names, and all descendants of these. With `grace` SIGTERM
    first and that many seconds; then SIGKILL until `end` finds nobody any more. True: confirmed, none is left.
    False: some would not die within KILL_PATIENCE seconds.
    """
    record = read_pid(entry)
    agent, started = record.get("agent_pid") or 0, record.get("agent_start")

    def find() -> dict[int, Process]:
        found = marked_processes(entry)
        if agent and (one := _process(agent)) and one.start == started:
            found[agent] = one
        table = processes() if found else {}  # the usual answer is nobody: half the price for it
        for root in tuple(found):
            found.update(family(root, table))
        found.pop(os.getpid(), None)
        return found

    return end(find, grace)


def end(
    find: Callable[[], dict[int, Process]],
    grace: float,
    *,
    group: int = 0,
    spare: int = 0,
    patience: float = KILL_PATIENCE,
    pause: Callable[[float], None] = time.sleep,
) -> bool:
    """End all that `find` finds: SIGTERM, up to `grace` seconds, then SIGKILL until LOOKS looks in a row find nobody.

    A look is no snapshot: a chain of processes that each live a fraction of a millisecond can pass between its steps.
    So a look counts less while processes are started. Who is to get SIGTERM is listed before the first one is sent: the
    death of a parent hides its children. `group` is a process group of theirs. `spare` gets no SIGTERM: bubblewrap
    would be gone at once and take all that is in it along. `pause(seconds)` may return early. True: nobody is left;
    False: not within `patience` s.
    """
    found = find()
    if grace > 0 and found:
        # Parents first (the older): one whose tool was ended before it might report success. CONT: a stopped process
        # sees SIGTERM only when it goes on.
        for number in (signal.SIGTERM, signal.SIGCONT):
            for pid, process in sorted(found.items(), key=lambda each: (each[1].start, each[0])):
                if pid != spare:
                    send(pid, process.start, number)
        deadline, nap = time.monotonic() + grace, 0.005
        while found and (left := deadline - time.monotonic()) > 0:
            pause(min(nap, left))
            nap = min(nap * 1.5, 0.1)
            found = find()
    deadline, clean, groups, newest = time.monotonic() + patience, 0, {group}, -1
    while time.monotonic() < deadline:
        before, newest = newest, _newest()
        clean = 0 if found else clean + (QUIET if newest == before else 1)
        if clean >= LOOKS:
            return True
        groups |= {process.group for process in found.values()}
        _kill(found, groups - {0, os.getpgrp()})
        pause(0.002 if found else 0.0005)
        found = find()
    return False


def _kill(found: dict[int, Process], groups: set[int]) -> None:
    # What forks faster than we look is gone before a signal to its pid arrives; its group dies at once. But not a group
    # whose living leader is a stranger: somebody's script that one of ours was started from, or a number used again.
    for group in groups if found else ():
        if group in found or _process(group) is None:
            try:
                os.killpg(group, signal.SIGKILL)
            except OSError:
                continue  # gone by itself, or another user's: the next look tells
    for pid, process in found.items():
        send(pid, process.start, signal.SIGKILL)


def _pids() -> list[int]:
    """All pids, the newest first: what lives only for a moment is then looked at before it is gone."""
    return [int(name) for name in reversed(os.listdir("/proc")) if name.isdigit()] if _PROC else []


def _newest() -> int:
    """The pid that was given last; -1 where the system does not tell."""
    last = _read("/proc/loadavg").split()[-1:]
    return int(last[0]) if last else -1


def _process(pid: int) -> Process | None:
    if not _PROC:
        return processes_by_ps().get(pid)
    fields = _stat(pid)
    # a zombie with threads is a program whose first thread has ended
    if not fields or (fields[0] in (b"Z", b"X") and int(fields[17]) <= 1):
        return None
    return Process(int(fields[1]), int(fields[2]), int(fields[19]), sum(map(int, fields[11:15])))


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/<pid>/stat from the third on; the second, a name, may contain blanks and brackets."""
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def _read(path: str) -> bytes:
    """The content of `path`; b"" if it cannot be read (a process may be gone, or another user's)."""
    try:
        # O_NONBLOCK: of what an agent can reach, such as `pid`, it may have made a pipe
        with open(path, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            return file.read() or b""
    except OSError:
        return b""
