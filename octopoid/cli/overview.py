"""What `octopoid status` shows: a person's turn first, then what runs, waits, landed and is invalid.

Apart from the command, because it answers without typer where there are no options to understand (see `app`).
"""

from __future__ import annotations

from collections.abc import Sequence

from octopoid import needs, steer, views
from octopoid.cli import reading, render, speak
from octopoid.clock import parse
from octopoid.layout import Layout

_ID = render.Column("task", "cyan", shrinks=True)
_DETAIL = render.Column("detail", wraps=True)
_WAITING_SHOWN = 15
"""Rows on a terminal; a pipe gets all of them."""


def show(as_json: bool = False) -> None:
    """Print the state of the queue we are in."""
    layout = speak.layout()
    found = gather(layout, speak.now(), reading.base(layout) if as_json else "")
    if as_json:
        speak.emit("status", **views.plain(found._asdict()))
        return
    render.show(*_drawing(layout, found))
    speak.next_step(_next(found))


def watch() -> None:
    """Draw the state of the queue again each second, until Ctrl-C."""
    layout = speak.layout()
    render.watch(lambda: _drawing(layout, gather(layout, speak.now())))


def gather(layout: Layout, now: float, base: str = "") -> views.StatusView:
    """Everything that status shows. `base`: the branch of the policy, which only JSON tells."""
    found = reading.observe(layout)
    waits = reading.waits(layout, found)
    pauses = steer.pauses(layout)
    looked = found.look
    opened = [one for one in looked.items if one.ledger.open]
    runs = [
        views.running(one, entry, reading.signs(layout, one.id, entry), now)
        for one in looked.items
        for entry in reading.opened(one.ledger)
    ]
    running = tuple(sorted((one for one in runs if one), key=lambda one: one.started))
    working = {one.task for one in running}
    scheduler = reading.scheduler(layout, reading.policy_problem(layout))
    asked_for = (*needs_of_policy(scheduler), *needs.needs(looked, waits, working))
    idle = needs.waits_for_scheduler(looked, waits)
    if idle and not scheduler.running:
        detail = f"no scheduler runs, and {idle} {'task waits' if idle == 1 else 'tasks wait'} for one"
        asked_for = (*asked_for, views.NeedView(None, "scheduler", detail, "octopoid run", None))
    asked = {one.task for one in asked_for if one.task}
    waits = waits._replace(over=frozenset(one.id for one in opened) - working)
    waiting = tuple(
        views.task(one, looked, now, pauses, waits, base)
        for one in looked.items
        if one.id not in working and one.id not in asked and not one.problem
    )
    return views.StatusView(
        counts=views.counts(looked),
        needs_you=asked_for,
        running=running,
        waiting=waiting,
        landed=reading.landed(layout, found),
        invalid=tuple(views.problem(one) for one in looked.problems),
        scheduler=scheduler,
    )


def needs_of_policy(scheduler: views.SchedulerView) -> tuple[views.NeedView, ...]:
    """A policy that cannot be used, an agent that cannot start: a person must mend it."""
    problem = scheduler.config_problem
    policy = (views.NeedView(None, "policy", problem, "octopoid config check", None),) if problem else ()
    return (*policy, *needs.of_breakers(scheduler.breakers))


def _drawing(layout: Layout, found: views.StatusView) -> tuple[Sequence[render.Table], Sequence[str]]:
    everything = (_needs(layout, found), _running(found), _waiting(found), _landed(found), _invalid(layout, found))
    return [table for table in everything if table.rows], _summary(found)


def _needs(layout: Layout, found: views.StatusView) -> render.Table:
    columns = (_ID, render.Column("reason", "yellow"), _DETAIL, render.Column("command", "bold", note=True))
    home = f"{layout.root}/"
    rows = tuple((one.task or "-", one.reason, one.detail.replace(home, ""), one.command) for one in found.needs_you)
    return render.Table("needs you", columns, rows, "bold yellow")


def _running(found: views.StatusView) -> render.Table:
    columns = (_ID, render.Column("agent"), _DETAIL, render.Column("usd", "dim"))
    rows = tuple((one.task, _who(one), _progress(one), render.usd(one.usd)) for one in found.running)
    return render.Table("running", columns, rows, "bold green")


def _who(one: views.RunView) -> str:
    """The agent, and what it works as where its name does not say that."""
    agent = one.agent or one.gate or one.role or "-"
    return agent if one.role in (None, agent) or one.role == "implementer" else f"{agent} ({one.role})"


def _progress(one: views.RunView) -> str:
    parts = [f"attempt {one.attempt}"] if one.attempt else []
    parts.append(f"for {render.span(one.elapsed_s)}")
    if one.silent_s is not None:
        parts.append(f"last output {render.span(one.silent_s)} ago")
    return ", ".join(parts)


def _waiting(found: views.StatusView) -> render.Table:
    columns = (_ID, render.Column("priority", "dim"), render.Column("title", shrinks=True), _DETAIL)
    shown = found.waiting[:_WAITING_SHOWN] if speak.terminal() else found.waiting
    rows = [(one.id, one.priority or "-", one.title, _reason(one)) for one in shown]
    if len(shown) < len(found.waiting):
        rows.append(("…", "", f"and {len(found.waiting) - len(shown)} more: octopoid list", ""))
    return render.Table("waiting", columns, tuple(rows), "bold blue")


def _reason(one: views.TaskView) -> str:
    if one.ready:
        return one.detail or "ready"
    return one.detail or one.reason


def _landed(found: views.StatusView) -> render.Table:
    rows = tuple((one.task, one.event, _ago(one.at)) for one in found.landed)
    return render.Table("landed", (_ID, render.Column("event", "dim"), render.Column("when", "dim")), rows, "bold")


def _ago(at: str) -> str:
    if not speak.terminal():
        return at
    try:
        return f"{render.span(max(0.0, speak.now() - parse(at)))} ago"
    except ValueError:
        return at


def _invalid(layout: Layout, found: views.StatusView) -> render.Table:
    columns = (render.Column("file", "cyan", shrinks=True), _DETAIL, render.Column("hint", note=True))
    rows = tuple((_place(layout, one), one.message, one.hint) for one in found.invalid)
    return render.Table("invalid", columns, rows, "bold red")


def _place(layout: Layout, one: views.ProblemView) -> str:
    short = one.path.removeprefix(f"{layout.root}/")
    return f"{short}:{one.line}:{one.column}" if one.line else short


def _summary(found: views.StatusView) -> list[str]:
    one = found.scheduler
    lines = ["tasks: " + "  ".join(f"{name} {count}" for name, count in found.counts.items())]
    word = f"running (pid {one.pid})" if one.running and one.pid else "running" if one.running else "not running"
    lines.append(f"scheduler: {word}" + (f"  last tick {_ago(one.last_tick)}" if one.last_tick else ""))
    if one.paused:
        lines.append("paused: everything; to go on: octopoid resume")
    lines += [f"paused: {task}; to go on: octopoid resume {task}" for task in one.paused_tasks]
    lines += [f"paused: agent {agent}; to go on: octopoid resume --agent {agent}" for agent in one.paused_agents]
    lines += [f"breaker: {trip.name}: {trip.why}; {_tried(trip)}" for trip in one.breakers]
    return lines


def _tried(trip: views.BreakerView) -> str:
    return f"tried again at {trip.until}" if parse(trip.until) > speak.now() else "tried again now"


def _next(found: views.StatusView) -> str:
    if found.needs_you:
        return found.needs_you[0].command
    if found.running:
        return f"octopoid log -f {found.running[0].task}"
    if found.waiting:
        return "octopoid status --watch"
    return 'octopoid enqueue "What is to be done"'
