"""What the reading commands gather from the disk, for `views` to shape. Nothing here writes (invariant 11)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from octopoid import attempts, durable, gitfiles, locks, look, regular, runview, sections, steer, store, taskfile, views
from octopoid.cli.app import late
from octopoid.errors import Invalid, NotFound
from octopoid.layout import Layout
from octopoid.model import Entry, Item, Ledger, Problem
from octopoid.states import ACTIVE, SATISFYING, State

LANDED = 5
_JOURNAL_TAIL = 64 * 1024
"""Bytes. The newest landings are found in the end of the journal: `done` itself is only listed, however long it is."""


class Found(NamedTuple):
    """One look, and the observer that made it (it knows the entries)."""

    observer: look.Observer
    look: look.Look


def observe(layout: Layout) -> Found:
    """Look at the queue."""
    observer = look.Observer(layout)
    return Found(observer, observer.look())


def item(layout: Layout, found: Found, task: str) -> Item:
    """The task with this id wherever it is, also in `done` and the archive. Raises NotFound."""
    active = found.look.get(task)
    if active:
        return active
    place = store.find(layout, task)
    if place is None:
        raise NotFound(f"there is no task {task!r}", "octopoid list shows the ids")
    return finished(found, task, *place)


def finished(found: Found, task: str, state: State, path: Path) -> Item:
    """A task that is not in an active folder, with its file opened."""
    ledger = found.observer.ledger(task)
    try:
        mtime = path.stat().st_mtime
        return Item(task, state, path, mtime, taskfile.parse(store.read(path), path), None, ledger)
    except FileNotFoundError:
        problem = Problem(path, 0, 0, "moved while it was read", "look again")
    except Invalid as error:
        problem = error.problems[0]
    return Item(task, state, path, 0.0, None, problem, ledger)


def raw(path: Path) -> str:
    """The text of a file that is no valid task, as far as there is any; without octopoid's own sections."""
    try:
        return sections.strip(store.read(path)).decode("utf-8", "replace")
    except (FileNotFoundError, Invalid):
        return ""


def in_state(layout: Layout, found: Found, states: Iterable[State]) -> Iterator[Item]:
    """The tasks in these folders; the files of finished ones are opened."""
    wanted = frozenset(states)
    yield from (one for one in found.look.items if one.state in wanted)
    if wanted <= frozenset(ACTIVE):
        return
    for task in sorted(one for one, state in found.look.ids.items() if state in wanted and state not in ACTIVE):
        state = found.look.ids[task]
        yield finished(found, task, state, layout.task_file(state, task))


def waits(layout: Layout, found: Found) -> views.Waits:
    """Who waits for a person at the gates, and where a flow begins. The policy is loaded only if somebody asks."""
    items = found.look.items
    candidates = [one for one in items if one.state is State.PROVISIONAL and one.ledger.open is None]
    fresh = {one.task.flow for one in items if one.task and not one.ledger.stage and not one.ledger.work}
    cast = {one.task.role for one in items if one.task and one.state is State.INCOMING}
    plain = not any(one.ledger.candidate for one in candidates) and fresh <= {"default"} and cast <= {None, views.ROLE}
    if plain and not _trips(layout) and not (cast and _limits_money(layout)):
        return views.Waits()
    judged: views.Waits = late("cli.judged").waits(layout, candidates, items)
    return judged


def _trips(layout: Layout) -> bool:
    """Is a breaker open? Where they cannot be read nothing starts."""
    try:
        return bool(steer.breakers(layout))
    except Invalid:
        return True


def _limits_money(layout: Layout) -> bool:
    """May the policy have a budget for the day? Told from its text: to load it costs more than all the rest."""
    try:
        text = layout.agents_yaml.read_bytes()
    except OSError:
        return False
    return b"usd_per_day" in text or b"usd_per_role" in text


def opened(ledger: Ledger) -> tuple[Entry, ...]:
    """The entries in which somebody may be at work."""
    return (*((ledger.open,) if ledger.open else ()), *ledger.reviews)


def signs(layout: Layout, task: str, entry: Entry) -> runview.Signs:
    """What the disk says about an open entry of a task."""
    folder = layout.entry(task, entry.number)
    record = read_json(folder / "pid")
    pid = record.get("agent_pid") or record.get("runner_pid")
    return runview.Signs(
        alive=locks.is_held(folder / "lock"),
        pid=pid if isinstance(pid, int) else None,
        output_at=_mtime(folder / "output.log"),
        **_shut_in(folder),
    )


def _shut_in(folder: Path) -> dict[str, str]:
    """What shuts this run in, or why nothing does although the policy wants it (`probe`); {}: it does not."""
    record = read_json(folder / "sandbox.json")
    program = os.path.basename(str(record.get("program") or ""))  # noqa: PTH119 - a name
    return {"sandbox": program, "exposed": "" if program else str(record.get("why"))} if record.get("work") else {}


def progress(layout: Layout, task: str, entry: Entry, alive: bool) -> runview.Progress:
    """How far the program at work in this entry came; its log is looked at only if it is `alive`."""
    if not alive:
        return runview.Progress()
    log = layout.entry(task, entry.number) / "output.log"
    found: runview.Progress = late("progress").progress(
        log, entry.opening.adapter, home=str(layout.home / "worktrees" / task)
    )
    if not found.doing and not found.retrying:
        return found
    known = (credentials := late("credentials")).around(os.environ)
    return found._replace(
        doing=credentials.hidden(found.doing, known), retrying=credentials.hidden(found.retrying, known)
    )


def ended(layout: Layout, found: Found) -> frozenset[str]:
    """Whose run has ended and is not taken in yet."""
    runs = [(one.id, one.ledger.open) for one in found.look.items if one.ledger.open]
    return frozenset(task for task, entry in runs if not signs(layout, task, entry).alive)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, {} where there is none that can be read."""
    try:
        record = json.loads(durable.read(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def landed(layout: Layout, found: Found) -> tuple[views.LandedView, ...]:
    """The newest tasks that came into `done` and are there (or in the archive) now, the newest first."""
    newest: dict[str, views.LandedView] = {}
    for record in reversed(_journal_tail(layout)):
        task = str(record.get("task", ""))
        came = record.get("to") == State.DONE.value and record.get("event") != "undo"
        if came and task not in newest and found.look.ids.get(task) in SATISFYING:
            newest[task] = views.LandedView(task, str(record.get("at", "")), str(record.get("event", "")))
        if len(newest) == LANDED:
            break
    return tuple(newest.values())


def scheduler(layout: Layout, problem: str | None) -> views.SchedulerView:
    """Whether a scheduler runs here, and what keeps it from starting anything. `problem`: that of the policy."""
    alive = locks.is_held(layout.scheduler_lock)
    pauses = steer.pauses(layout)
    try:
        breakers = tuple(views.breaker(one) for one in steer.breakers(layout).values())
    except Invalid as error:
        breakers, problem = (), problem or error.message
    pid = read_json(layout.scheduler_pid).get("pid")
    return views.SchedulerView(
        running=alive,
        pid=pid if alive and isinstance(pid, int) else None,
        last_tick=_text(layout.last_tick),
        paused=pauses.all,
        paused_tasks=tuple(sorted(pauses.tasks)),
        paused_agents=tuple(sorted(pauses.agents)),
        config_problem=problem,
        breakers=breakers,
    )


def policy_problem(layout: Layout) -> str | None:
    """What is wrong with the policy, None if nothing is known to be.

    The scheduler notes why it refuses the present policy; that note is believed until a policy file is newer, then the
    policy is read again (which costs more than all the rest).
    """
    if not layout.agents_yaml.exists():
        return f"{layout.agents_yaml}: the file is missing"
    note = layout.last_good / "problem.txt"
    noted = _mtime(note)
    if noted is None:
        return None
    if noted >= max(_policy_times(layout), default=0.0):
        return _text(note)
    problem: str | None = late("cli.judged").problem(layout)
    return problem


def base(layout: Layout) -> str:
    """The branch that tasks without one of their own land on; "" where nothing says so.

    `base` of the policy in force, which is read as YAML, not loaded (most of that time is about other keys); without
    it the branch that the user's checkout is on, as the scheduler does. Only JSON and `show` tell it.
    """
    home = layout.last_good if policy_problem(layout) else layout.home
    path = home / layout.agents_yaml.name
    try:
        said = late("yamltext").load(path.read_text(encoding="utf-8"), path).value
    except (OSError, UnicodeDecodeError, Invalid):
        return ""
    node = said.get("base") if isinstance(said, dict) else None
    if node is not None:
        return node.value if isinstance(node.value, str) else ""
    head = gitfiles.line(gitfiles.common_dir(layout.root) / "HEAD").removeprefix("ref: ")
    return head.removeprefix("refs/heads/") if head.startswith("refs/heads/") and not head.endswith("/.invalid") else ""


def entries(layout: Layout, task: str) -> tuple[Entry, ...]:
    """The entries of a task. Raises Invalid where evidence cannot be read."""
    return attempts.read(layout, task)


def _policy_times(layout: Layout) -> list[float]:
    paths = [layout.agents_yaml]
    for folder in (layout.roles, layout.flows):
        if folder.is_dir():
            paths += [folder, *folder.iterdir()]
    return [time for path in paths if (time := _mtime(path)) is not None]


def _journal_tail(layout: Layout) -> list[dict[str, Any]]:
    try:
        with regular.opened(layout.events) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _JOURNAL_TAIL))
            lines = file.read().splitlines()
    except OSError:
        return []
    return [record for line in lines if (record := _record(line))]


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # the first line may be cut, the last one torn
        return {}
    return record if isinstance(record, dict) else {}


def _mtime(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _text(path: Path) -> str | None:
    try:
        return durable.read(path).decode("utf-8", "replace").strip() or None
    except OSError:
        return None
