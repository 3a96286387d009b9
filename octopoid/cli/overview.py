"""What `octopoid status` shows: a person's turn first, then what runs, waits, landed and is invalid.

Apart from the command, because it answers without typer where there are no options to understand (see `app`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from octopoid import needs, runview, steer, trust, views
from octopoid.cli import reading, render, speak
from octopoid.clock import local, parse
from octopoid.layout import Layout
from octopoid.model import Item

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
    running = tuple(sorted(runs(layout, looked.items, now), key=lambda one: one.started))
    working = {one.task for one in running}
    scheduler = reading.scheduler(layout, reading.policy_problem(layout))
    asked_for = (*_trust(layout, scheduler), *needs_of_policy(scheduler), *needs.needs(looked, waits, working))
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


def runs(layout: Layout, items: Iterable[Item], now: float) -> Iterator[runview.RunView]:
    """The programs at work for these tasks."""
    for one in items:
        for entry in reading.opened(one.ledger):
            signs = reading.signs(layout, one.id, entry)
            run = runview.running(one, entry, signs, now, reading.progress(layout, one.id, entry, signs.alive))
            if run:
                yield run


def _mends(problem: str) -> str:
    return "octopoid doctor --fix" if "breakers.json" in problem else "octopoid config check"


def _trust(layout: Layout, scheduler: views.SchedulerView) -> tuple[views.NeedView, ...]:
    """A policy that came by clone runs nothing yet. One that a scheduler works with was trusted before it began."""
    if scheduler.running or trust.is_trusted(layout.root):
        return ()
    detail = "the policy in .octopoid may not run commands here before you say so"
    return (views.NeedView(None, "trust", detail, f"{trust.COMMAND} --show", None),)


def needs_of_policy(scheduler: views.SchedulerView) -> tuple[views.NeedView, ...]:
    """A policy that cannot be used, an agent that cannot start: a person must mend it."""
    problem = scheduler.config_problem
    policy = (views.NeedView(None, "policy", problem, _mends(problem), None),) if problem else ()
    return (*policy, *needs.of_breakers(scheduler.breakers, speak.now()))


def _drawing(layout: Layout, found: views.StatusView) -> tuple[Sequence[render.Table], Sequence[str]]:
    everything = (_needs(layout, found), _running(found), _waiting(found), _landed(found), _invalid(layout, found))
    return [table for table in everything if table.rows], _summary(found)


def _needs(layout: Layout, found: views.StatusView) -> render.Table:
    columns = (_ID, render.Column("reason", "yellow"), _DETAIL, render.Column("command", "bold", note=True))
    home = f"{layout.root}/"
    rows = tuple((one.task or "-", one.reason, one.detail.replace(home, ""), one.command) for one in found.needs_you)
    return render.Table("needs you", columns, rows, "bold yellow")


def _running(found: views.StatusView) -> render.Table:
    loud = (render.Column(name, "bold yellow", note=True, loud=True) for name in ("retrying", "exposed"))
    notes = (*loud, render.Column("doing", note=True))
    columns = (_ID, render.Column("agent"), _DETAIL, *notes)
    rows = tuple((one.task, who(one), progress(one), silence(one), exposure(one), one.doing) for one in found.running)
    return render.Table("running", columns, rows, "bold green")


def who(one: runview.RunView) -> str:
    """The agent, and what it works as where its name does not say that."""
    agent = one.agent or one.gate or one.role or "-"
    return agent if one.role in (None, agent) or one.role == "implementer" else f"{agent} ({one.role})"


def progress(one: runview.RunView) -> str:
    """How long it runs, when it was heard of last, and what it used."""
    parts = [f"attempt {one.attempt}"] if one.attempt else []
    parts.append(f"for {render.span(one.elapsed_s)}")
    if one.sandbox:
        parts.append(f"shut in ({one.sandbox})")
    if one.silent_s is not None:
        parts.append(f"last output {render.span(one.silent_s)} ago")
    return ", ".join((*parts, *_spent(one)))


def _spent(one: runview.RunView) -> Iterator[str]:
    """What it used so far, as far as that is known."""
    if one.turns is not None:
        yield f"{one.turns} turn{'' if one.turns == 1 else 's'}"
    counts = ((one.input_tokens, "tokens in"), (one.output_tokens, "out"))
    yield from (f"{render.short(count)} {what}" for count, what in counts if count is not None)
    if one.usd is not None:
        yield render.usd(one.usd, one.estimated)


def silence(one: runview.RunView) -> str:
    """Loud: nobody shall wait for a model that does not answer without knowing it."""
    return f"! the model does not answer ({one.retrying})" if one.retrying else ""


def exposure(one: runview.RunView) -> str:
    """Loud: the policy wants it shut in, and it is not."""
    return f"! not shut in: {one.exposed}" if one.exposed else ""


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
    told = {need.command for need in found.needs_you}  # those stand above already
    quiet = [trip for trip in one.breakers if f"octopoid resume --breaker {trip.name}" not in told]
    lines += [f"breaker: {trip.name}: {trip.why}; {_tried(trip)}" for trip in quiet]
    return lines


def _tried(trip: views.BreakerView) -> str:
    until = parse(trip.until)
    return f"tried again at {local(until)}" if until > speak.now() else "tried at the next look"


def _next(found: views.StatusView) -> str:
    if found.needs_you:
        return found.needs_you[0].command
    if found.running:
        return f"octopoid log -f {found.running[0].task}"
    if found.waiting:
        return "octopoid status --watch"
    return 'octopoid enqueue "What is to be done"'
