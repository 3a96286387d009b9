"""The supervisor of one entry: runs its steps one after the other and writes down how each ended (DESIGN §5).

Started by `process.start_runner`; reads `steps.json`, writes `pid`, `output.log` and, last, `exit.json`. It needs
nobody: the scheduler may die meanwhile. SIGTERM, SIGINT and SIGHUP mean stop.

- A step runs only if all before it succeeded (ended by themselves, with status 0), unless it is `always`; and not at
  all where the file that `unless` names is there. The file `stamp` is made when it has succeeded (setup: once per
  worktree). After a stop by signal nothing more runs, also no `always` step: somebody waits for the runner to leave.
- A step is over when its own process has ended; what it left behind gets SIGTERM, a second, SIGKILL. A step that is
  ended (timeout, silence, stop) gets SIGTERM for its whole tree, `grace` seconds, SIGKILL. The next step starts when
  nobody is left.
- Silence has two signs, both needed (a healthy agent was killed on one): for `silence` seconds `output.log` has not
  grown, and in the second half of that time the step's processes used less than QUIET_CPU of a core. Without /proc
  only the first is known.
- `ended_by` "timeout" also means the other limit of a step, OUTPUT_LIMIT bytes of output; `detail` says which it was.
- Durations are monotonic time: neither a jump of the wall clock nor a suspended laptop ends a step.
"""

# pathlib and contextlib would cost each start 8 and 5 ms:
# ruff: noqa: PTH100, PTH108, PTH110, PTH118, PTH123, SIM105
from __future__ import annotations

import errno
import os
import select
import sys
import time

from octopoid import durable, ending, forging, lean, process, programs
from octopoid.lean import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    Step = dict[str, Any]

OUTPUT_LIMIT = 1 << 30  # bytes of one step, looked at each second: a runaway `yes` shall not fill the disk
QUIET_CPU = 0.05  # share of a core: below it a step without output counts as doing nothing
LEFTOVER_GRACE = 1.0  # seconds between SIGTERM and SIGKILL for what a step left behind
RECORD_PATIENCE = 60.0  # seconds to wait for room on the disk for exit.json

_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def main() -> None:
    """Run the entry named by the first argument. Exit status 0: `exit.json` is there."""
    # What the scheduler itself inherited without close-on-exec (a cron wrapper's lock, a shell's pipe) ends here
    os.closerange(process.LOCK_FD + 1, 1024)
    entry = os.path.abspath(sys.argv[1])
    with open(os.path.join(entry, "steps.json"), encoding="utf-8") as file:
        plan = lean.loads(file.read())
    supervisor = Supervisor(entry, float(plan["grace"]))
    record = None
    try:
        record = supervisor.run(plan["steps"])
    finally:
        if record is None:  # an error of ours, its traceback goes to runner.log
            supervisor.end_all(0)
    supervisor.write_exit(record)
    # Everybody else's copy is closed: the lock is free now. Before the wake, so that who wakes finds it free.
    os.close(process.LOCK_FD)
    _touch(os.environ.get("OCTOPOID_WAKE", ""))
    os._exit(0)  # skips a millisecond of taking the interpreter down


class Supervisor:
    """The steps of one entry and the processes they start. There is one per process: it owns the signal handlers."""

    def __init__(self, entry: str, grace: float) -> None:
        self.entry, self.marks = entry, ending.Marked(entry)
        self.grace = grace
        self.stopping = False
        self.leader = 0
        self.leader_status: int | None = None
        self.sole_parent = process.become_subreaper()
        self.before = forging.Entry(entry)
        self.log = os.open(self._path("output.log"), os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._listen()
        self._reserve()
        self._write_pid()

    def run(self, steps: list[Step]) -> dict[str, Any]:
        """Run `steps`; what `exit.json` is to say."""
        done: list[dict[str, Any]] = []
        skipped = False
        for step in steps:
            if step.get("unless") and os.path.exists(step["unless"]):
                continue
            if all(map(_succeeded, done)) or step.get("always"):
                if self.stopping:
                    skipped = True
                    break
                done.append(self._run_step(step))
                if step.get("stamp") and _succeeded(done[-1]):
                    _touch(step["stamp"])
        stopped = self.stopping and (skipped or any(each["ended_by"] == "stop" for each in done))
        return {"ended": time.time(), "stopped": stopped, "steps": done}

    def _run_step(self, step: Step) -> dict[str, Any]:
        started, log_start = time.time(), self._log_size()
        ended_by, detail, status = "missing", "", None
        boxes = __import__("octopoid.sandboxing", fromlist=["wrap"]) if step.get("sandbox") else None
        try:
            if boxes:
                step = boxes.wrap(step, self.entry)
            self._start(step)
        except (OSError, ValueError) as error:
            detail = programs.why_not_started(step["argv"] or [step["call"]], step["cwd"], error)
        else:
            ended_by, detail = self._watch(step, log_start)
            grace = LEFTOVER_GRACE if ended_by == "exit" else self.grace
            if not self.end_all(grace, self.leader if boxes else 0):
                detail = (detail + "; some of its processes could not be ended").removeprefix("; ")
            status = self.leader_status
        unmade = boxes.unwrap(step, self.entry) if boxes else ""
        if unmade and ended_by == "exit":
            ended_by, detail, status = "missing", unmade, None
        log_end = self._log_size()
        if detail:
            self._note(f"octopoid: {step['name']}: {detail}")
        return {
            "name": step["name"],
            "status": os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None,
            "signal": os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else None,
            "ended_by": ended_by,
            "started": started,
            "ended": time.time(),
            "log_start": log_start,
            "log_end": log_end,
            "detail": detail,
        }

    def _start(self, step: Step) -> None:
        """Start the step's process. Raises OSError and ValueError as `process.start` does."""
        self.leader_status = None
        stdin, cwd = step.get("stdin") or os.devnull, step["cwd"]
        try:
            if step["argv"]:
                self.leader = process.start(
                    step["argv"],
                    env={**os.environ, **(step.get("env") or {})},
                    cwd=cwd,
                    stdin=stdin,
                    output=self.log,
                    keep=process.LOCK_FD,
                )
            else:
                self.leader = self._fork(step, stdin, cwd)
        finally:
            os.chdir("/")  # a supervisor keeps nobody's folder busy
        if step["name"] == "agent":
            try:
                self._write_pid(self.leader)
            except OSError:
                pass  # it has filled the disk already; without it the record still names the runner

    def _fork(self, step: Step, stdin: str, cwd: str | None) -> int:
        """Start a built-in step: a copy of this process, which spares it the start of an interpreter."""
        if cwd is not None:
            os.chdir(cwd)
        source = os.open(stdin, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # here rather than in the child: the module is then loaded once for all steps that it serves
            __import__(step["call"].partition(":")[0])
        except (ImportError, SyntaxError):
            pass  # the child meets it again and prints it where people look
        # until the child has put back the signals' defaults, a stop would only be noted in its copy of our flag
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
        try:
            pid = os.fork()
            if pid == 0:
                _call(step, source, self.log)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)
            os.close(source)
        return pid

    def _watch(self, step: Step, log_start: int) -> tuple[str, str]:
        """Wait until the step has ended or has to be ended: (ended_by, why)."""
        limits = _Limits(step, log_start)
        while True:
            self._reap()
            if self.leader_status is not None:
                return "exit", ""
            if self.stopping:
                return "stop", "stopped by a signal to its runner"
            broken = limits.broken(self._log_size())
            if broken:
                return broken
            self._nap(limits.next_look())

    def end_all(self, grace: float, spare: int = 0) -> bool:
        """End everything that descends from us or carries the entry's mark. True: nobody is left.

        `spare` gets no SIGTERM (`ending.end`).
        """
        if not self._find(afresh=True):
            return True
        ended = ending.end(self._find, grace, group=self.leader, spare=spare, pause=self._nap)
        self._reap()
        return ended

    def _find(self, afresh: bool) -> dict[int, process.Process]:
        """Who still lives of all that the steps started."""
        children = self._reap()
        # Besides descendants: what a foreign daemon (at, a terminal multiplexer) started with a step's environment.
        found = self.marks.look(afresh)
        if not self.sole_parent:
            table = process.processes()
            found |= {pid: each for pid, each in table.items() if each.group == self.leader}
            found |= process.family(os.getpid(), table)
        elif children:
            found |= process.family(os.getpid())
        # Linux gives us every orphan among our descendants: no children, no descendants. And children that a look
        # cannot catch are there all the same.
        return found or ({0: process.UNSEEN} if children else {})

    def _reap(self) -> bool:
        """Collect who has ended, orphans too. True: we still have children."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.leader:
                self.leader_status = status

    def _listen(self) -> None:
        """A byte in a pipe for every signal, also of a child's end: nothing is missed between a look and a nap."""
        self._bell, ring = os.pipe()
        os.set_blocking(self._bell, False)
        os.set_blocking(ring, False)
        self._poll = select.poll()
        self._poll.register(self._bell, select.POLLIN)
        signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in _STOP:
            signal.signal(number, self._stop)

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def _nap(self, seconds: float) -> None:
        """Sleep until a signal arrives, at most `seconds`."""
        if self._poll.poll(max(1, int(seconds * 1000))):
            os.read(self._bell, 4096)

    def _path(self, name: str) -> str:
        return os.path.join(self.entry, name)

    def _log_size(self) -> int:
        return os.fstat(self.log).st_size

    def _note(self, text: str) -> None:
        """A line of ours in the log, between the steps' own output."""
        size = self._log_size()
        torn = size > 0 and os.pread(self.log, 1, size - 1) != b"\n"
        line = ("\n" if torn else "") + text + "\n"
        try:
            os.write(self.log, line.encode("utf-8", "backslashreplace"))
        except OSError:
            return  # a full disk: exit.json says it too

    def _write_pid(self, agent: int | None = None) -> None:
        record = {
            "runner_pid": os.getpid(),
            "runner_start": process.start_time(os.getpid()),
            "agent_pid": agent,
            "agent_start": process.start_time(agent) if agent else None,
            "boot_id": process.boot_id(),
        }
        self.named = lean.dumps(record).encode()
        # after a power cut nobody asks for it any more: not worth two fsyncs at every start
        durable.write(self._path("pid"), self.named, sync=False)

    def _reserve(self) -> None:
        """Room on the disk for `exit.json`, in case the agent fills it. None now: OSError, nothing has begun yet."""
        durable.write(self._path(".reserve"), b"\0" * 16384, sync=False)

    def _put_right(self) -> None:
        try:
            self.before.put_right(self._note)
            durable.write(self._path("pid"), self.named, sync=False)
        except OSError as error:
            self._note(f"octopoid: {error}")

    def write_exit(self, record: dict[str, Any]) -> None:
        """Write `exit.json`, after what it speaks of is safely on the disk. Waits a minute for room. Raises OSError."""
        for name in ("output.log", "start.json", "result.json"):
            try:
                durable.sync_file(self._path(name))
            except OSError:
                continue  # not written by the agent; or the disk fails, and a record without it is better than none
        try:
            os.unlink(self._path(".reserve"))
        except OSError:
            pass  # the agent was tidy, or put something else there
        self._put_right()
        deadline = time.monotonic() + RECORD_PATIENCE
        while True:
            try:
                return durable.write(self._path("exit.json"), lean.dumps(record).encode())
            except OSError as error:
                if error.errno not in _NO_ROOM or time.monotonic() > deadline:
                    raise
            self._nap(1.0)


class _Limits:
    """When a step has to be ended although it has not ended itself. All in monotonic seconds."""

    def __init__(self, step: Step, log_start: int) -> None:
        self.timeout, self.silence = float(step["timeout"]), float(step["silence"])
        self.began = self.sign = time.monotonic()
        self.log_start = self.size = log_start
        self.half: tuple[float, float] | None = None  # when half of the silence was over, CPU seconds used by then

    def next_look(self) -> float:
        """In how many seconds to look again: each second at most, less when a limit is nearer."""
        left = self.began + self.timeout - time.monotonic() if self.timeout > 0 else 1.0
        return min(1.0, max(left, 0.001), self.silence / 4 if self.silence > 0 else 1.0)

    def broken(self, size: int) -> tuple[str, str] | None:
        """(ended_by, why) if a limit is reached, with `size` bytes in the log."""
        now = time.monotonic()
        if self.timeout > 0 and now - self.began >= self.timeout:
            return "timeout", f"took longer than {self.timeout:g} s"
        if size - self.log_start > OUTPUT_LIMIT:
            return "timeout", f"wrote more than {OUTPUT_LIMIT >> 20} MiB of output"
        if size != self.size:
            self.size, self.sign, self.half = size, now, None
        elif self.silence > 0 and self._idle(now):
            return "silence", f"no output for {self.silence:g} s, and its processes did nothing"
        return None

    def _idle(self, now: float) -> bool:
        quiet = now - self.sign
        if quiet < self.silence / 2:
            return False
        if self.half is None:
            self.half = now, process.cpu_seconds(os.getpid())
            return False
        if quiet < self.silence:
            return False
        since, before = self.half
        idle = process.cpu_seconds(os.getpid()) - before < QUIET_CPU * (now - since)
        if not idle:
            self.sign, self.half = now, None
        return idle


def _succeeded(record: dict[str, Any]) -> bool:
    # not the status alone: a program that we ended may say 0 (Claude Code 2.1.197 does)
    return (record["ended_by"], record["status"]) == ("exit", 0)


def _call(step: Step, source: int, log: int) -> NoReturn:
    """In the child: run the built-in `module:function` and leave with its return value.

    Nothing may climb from here into our caller's frames, which are the supervisor's: hence leaving inside `finally`.
    """
    status = 1
    try:
        os.environ.update(step.get("env") or {})
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (*_STOP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)
        os.dup2(source, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is a TextIOWrapper
        module, _, name = step["call"].partition(":")
        status = int(getattr(__import__(module, fromlist=[name]), name)(**step["args"]))
    finally:
        try:
            kind, error, trace = sys.exc_info()
            if kind is not None:
                sys.excepthook(kind, error, trace)  # type: ignore[arg-type]  # all three, or none
            sys.stdout.flush()
        finally:
            os._exit(status)


def _touch(path: str) -> None:
    if not path:
        return
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.write(fd, b"\n")
        os.close(fd)
    except OSError:
        return  # the scheduler also looks by itself, each second
