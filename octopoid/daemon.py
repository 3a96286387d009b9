"""Watch, wait, signals: the loop around the tick. `run --once` from cron and the daemon are the same code."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from octopoid import durable, migrating, policy, process, regular, store
from octopoid.errors import Conflict, UsageError
from octopoid.formats import FORMAT
from octopoid.layout import Layout
from octopoid.plans import Action, Plan
from octopoid.scheduler import Scheduler, Tick, forecast
from octopoid.states import ACTIVE, State

if TYPE_CHECKING:
    from types import FrameType

LOCK_PATIENCE = 1.0
GLANCE = 1.0
"""Seconds between looks at the folders' times: the real net, whatever the file system tells or does not tell."""

FULL = 60.0
STOP_PATIENCE = 60.0
TROUBLE = 5.0
INTERRUPTED = 130
NO_FLOCK = "this file system has no flock: the scheduler cannot be sure to be the only one"
NO_FLOCK_HINT = "put the repository on a local disk; octopoid doctor says which one it is on"
MOVES_BY_ITSELF = frozenset({"running", "not settled", "backoff"})
"""What `--until-empty` waits for; everything else needs a person or may take for ever (DESIGN §7)."""

_INTERESTING = ("created", "deleted", "modified", "moved", "closed")


class Flags:
    """What signals and file events set. A handler does nothing else (STYLE 12)."""

    def __init__(self) -> None:
        self.wake = threading.Event()
        self.leave = False
        self.edited = False
        self.refused: dict[int | None, float] = {}
        """Number of an error → until when (monotonic) it has been told."""

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """A signal asks us to leave; running attempts go on."""
        self.leave = True
        self.wake.set()


def run(
    layout: Layout,
    *,
    once: bool = False,
    until_empty: bool = False,
    interval: float = FULL,
    dry_run: bool = False,
    say: Callable[[str], None],
    progress: Callable[[Tick], None] | None = None,
) -> int:
    """The scheduler in the foreground; the exit status. Raises Conflict (another one runs), Invalid (no policy).

    `interval`: seconds between full ticks when nothing happens. `progress` is called after each tick.
    """
    if dry_run:
        return _dry_run(layout, say)
    scheduler = Scheduler(layout, dict(os.environ), say)
    layout.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    other = store.elsewhere(layout)
    if other is not None:
        hint = "keep the whole of .octopoid/queue on one file system"
        raise Conflict(f"{other} is on another file system: tasks are moved by one rename, which cannot cross", hint)
    asked = _request(layout)
    with alone(layout), _announced(layout):
        migrating.migrate(layout, FORMAT, time.time(), say)
        if asked and _request(layout) == asked:  # left over; what is asked from the lock on is meant for us
            layout.stop_request.unlink(missing_ok=True)
        if once:
            tick = scheduler.tick()
            layout.stop_request.unlink(missing_ok=True)
            if progress:
                progress(tick)
            return 0
        return _loop(scheduler, until_empty, interval, progress)


def _request(layout: Layout) -> tuple[int, ...]:
    """Which `stop` waits: its time (ns) and inode; empty for none."""
    try:
        facts = layout.stop_request.stat()
    except OSError:
        return ()
    return facts.st_mtime_ns, facts.st_ino


def _loop(scheduler: Scheduler, until_empty: bool, interval: float, progress: Callable[[Tick], None] | None) -> int:
    layout, flags = scheduler.layout, Flags()
    with _signals(flags), _watching(layout, flags):
        while True:
            flags.wake.clear()
            flags.edited = False
            if flags.leave or layout.stop_request.exists():
                _leave(scheduler)
                return INTERRUPTED if until_empty and flags.leave else 0
            tick = _try(scheduler, flags)
            if tick is None:
                _rest(layout, flags)
                continue
            if progress:
                progress(tick)
            if until_empty and not moves_by_itself(tick.plan, scheduler.hands.hopeless):
                return 6 if tick.look.items or tick.look.problems else 0
            _wait(scheduler, flags, tick, interval)


def _try(scheduler: Scheduler, flags: Flags) -> Tick | None:
    """One tick; None when the disk refused (full, read-only, gone): said, once a minute, and tried again."""
    try:
        tick = scheduler.tick()
    except OSError as error:
        if flags.refused.get(error.errno, 0.0) < time.monotonic():
            flags.refused[error.errno] = time.monotonic() + FULL
            scheduler.hands.say(f"the disk refuses: {error}; trying again every {TROUBLE:g} s")
        return None
    flags.refused.clear()
    return tick


def _rest(layout: Layout, flags: Flags) -> None:
    """TROUBLE seconds, whatever happens to files meanwhile: the tick that failed has touched some, and so would the
    next one. Only who is asked to leave does so at once.
    """
    deadline = time.monotonic() + TROUBLE
    while not flags.leave and not layout.stop_request.exists() and (left := deadline - time.monotonic()) > 0:
        flags.wake.wait(min(left, GLANCE))
        flags.wake.clear()


def moves_by_itself(plan: Plan, hopeless: Callable[[Action], bool]) -> bool:
    """Something will go on without a person."""
    due = any(not hopeless(action) for action in plan.actions)
    return due or any(decision.waits in MOVES_BY_ITSELF for decision in plan.decisions.values())


def _wait(scheduler: Scheduler, flags: Flags, tick: Tick, interval: float) -> None:
    """Until something changed after the tick's last look, something is due, or `interval` seconds passed."""
    deadline = time.monotonic() + interval
    if tick.until:
        deadline = min(deadline, time.monotonic() + max(0.0, tick.until - time.time()) + 0.01)
    while not flags.leave:
        left = deadline - time.monotonic()
        if left <= 0 or flags.edited or scheduler.stamps() != tick.stamps:
            return
        if scheduler.layout.stop_request.exists():  # it came during the tick, whose stamps know it already
            return
        if not flags.wake.wait(min(left, GLANCE)) and scheduler.surveyor.pulse(tick.look) != tick.live:
            return
        flags.wake.clear()


def _leave(scheduler: Scheduler) -> None:
    """Start nothing more and go; after `stop --now` end the agents first."""
    layout = scheduler.layout
    try:
        now = regular.read(layout.stop_request).strip() == b"now"
    except OSError:
        now = False
    if now:
        scheduler.closed = "the scheduler is stopping"
        scheduler.end_all("scheduler stop")
        deadline = time.monotonic() + STOP_PATIENCE
        waker = threading.Event()
        while time.monotonic() < deadline:
            tick = scheduler.tick()
            if not scheduler.surveyor.running(tick.look):
                break
            waker.wait(0.1)
    layout.stop_request.unlink(missing_ok=True)


def _dry_run(layout: Layout, say: Callable[[str], None]) -> int:
    _, plan = forecast(layout, time.time())
    for action in plan.actions:
        say(f"{action.task}: would {policy.name_of(action)}")
    for task, decision in plan.decisions.items():
        if decision.action is None:
            say(f"{task}: {decision.waits}: {decision.text}")
    return 0


@contextlib.contextmanager
def alone(layout: Layout) -> Iterator[None]:
    """One scheduler per root: filelock on `scheduler.lock`. Raises Conflict naming the one that runs."""
    import filelock  # 38 ms, which only a scheduler pays

    lock = filelock.FileLock(layout.scheduler_lock, mode=0o600)
    try:
        with warnings.catch_warnings(action="ignore"):  # of the soft lock, which is refused below
            lock.acquire(timeout=LOCK_PATIENCE)
    except NotImplementedError:  # filelock before 3.21, where the kernel has no flock
        raise UsageError(NO_FLOCK, NO_FLOCK_HINT) from None
    except filelock.Timeout:
        pid = _holder(layout)
        raise Conflict(
            f"another scheduler works on {layout.root}" + (f" (pid {pid})" if pid else ""),
            "octopoid status shows what it does; octopoid stop asks it to leave",
        ) from None
    try:
        if not isinstance(lock, filelock.UnixFileLock):  # newer ones then hold a file that merely exists
            raise UsageError(NO_FLOCK, NO_FLOCK_HINT)
        yield
    finally:
        lock.release()


def _holder(layout: Layout) -> str:
    try:
        return str(json.loads(regular.read(layout.scheduler_pid))["pid"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


@contextlib.contextmanager
def _announced(layout: Layout) -> Iterator[None]:
    """`scheduler.pid`: for people, never read as truth; the lock is the truth."""
    facts = {"pid": os.getpid(), "start_time": process.start_time(os.getpid()), "boot_id": process.boot_id()}
    durable.write(layout.scheduler_pid, json.dumps(facts).encode(), sync=False)
    try:
        yield
    finally:
        layout.scheduler_pid.unlink(missing_ok=True)


@contextlib.contextmanager
def _signals(flags: Flags) -> Iterator[None]:
    before = {
        number: signal.signal(number, flags.on_signal) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _watching(layout: Layout, flags: Flags) -> Iterator[None]:
    """File events wake the loop: the queue folders, `run/`, the policy; not recursively, and not our own reads."""
    from watchdog.events import FileSystemEventHandler
    from watchdog.observers import Observer

    class Handler(FileSystemEventHandler):
        def on_any_event(self, event: Any) -> None:
            if event.event_type not in _INTERESTING:
                return
            # A save in place changes no folder's time. We never write a task, role or flow file in place ourselves.
            if event.event_type in ("modified", "closed") and event.src_path.endswith((".md", ".yaml")):
                flags.edited = True
            flags.wake.set()

    logging.getLogger("watchdog").setLevel(logging.CRITICAL)  # its thread warns about our own leaving
    folders = [layout.folder(state) for state in (*ACTIVE, State.DONE)]
    folders += [layout.run, layout.pause, layout.home, layout.roles, layout.flows, layout.claude_agents]
    observer = Observer()
    for folder in folders:
        if folder.is_dir():
            with contextlib.suppress(OSError):  # no watches left: the glance each second still sees everything
                observer.schedule(Handler(), str(folder), recursive=False)
    try:
        observer.start()
    except OSError:
        yield
        return
    try:
        yield
    finally:
        observer.stop()
        observer.join()
