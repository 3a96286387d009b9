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

from octopoid import lean, regular
from octopoid.lean import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

LOCK_FD = 3  # where a runner and its steps find the descriptor that holds the entry's lock
MARK = "OCTOPOID_ATTEMPT_DIR"
_PID_BYTES = 4096  # of an entry's `pid`; ours has 150

_PROC = os.path.exists("/proc/self/stat")
_CHUNK = 32 << 10  # bytes; the environment of nearly everybody is smaller, and a look is spent with reading these
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
    return {pid: process for pid in pids() if (process := look_at(pid))}


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
    found = look_at(pid)
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


def kill(group: int, found: Mapping[int, Process]) -> None:
    """SIGKILL to a process group whose living leader, if it has one, is among `found`.

    Otherwise its leader is a stranger: somebody's script that one of ours was started from, or a number used again.
    """
    if group in found or look_at(group) is None:
        try:
            os.killpg(group, signal.SIGKILL)
        except OSError:
            return  # gone by itself, or another user's: the next look tells


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


def pids() -> list[int]:
    """All pids, the newest first: what lives only for a moment is then looked at before it is gone."""
    return [int(name) for name in reversed(os.listdir("/proc")) if name.isdigit()] if _PROC else []


def look_at(pid: int) -> Process | None:
    """The living process `pid`; None where there is none. A zombie is not living."""
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


def environ(pid: int) -> bytes:
    """The environment that process `pid` began with, as the kernel tells it; b"" where we may not know."""
    return _read(f"/proc/{pid}/environ")


def newest() -> int:
    """The pid that was given last; -1 where the system does not tell."""
    last = _read("/proc/loadavg").split()[-1:]
    return int(last[0]) if last else -1


def _read(path: str) -> bytes:
    """The content of `path`; b"" if it cannot be read (a process may be gone, or another user's)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        data = part = os.read(fd, _CHUNK)
        while len(part) == _CHUNK:
            part = os.read(fd, _CHUNK)
            data += part
    except OSError:
        return b""
    finally:
        os.close(fd)
    return data
