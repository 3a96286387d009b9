"""`octopoid status --at TIME`: how it stood then, in the shape of `status`. What cannot be known is null."""

from __future__ import annotations

from typing import Any

from octopoid import clock, history, runview, views
from octopoid.cli import reading, render, speak
from octopoid.states import State

_ID = render.Column("task", "cyan", shrinks=True)
_DETAIL = render.Column("detail", wraps=True)


def show(when: str, as_json: bool) -> None:
    """Print the state of the queue at the time that `when` means. Raises UsageError."""
    layout, now = speak.layout(), speak.now()
    past = history.at(layout, history.moment(when, now))
    if as_json:
        speak.emit("status", **_plain(past))
        return
    if not past.known:
        speak.out(f"nothing is known of {clock.local(past.at)}: {_begins(past)}")
    else:
        speak.out(f"as of {clock.local(past.at)}, from the journal and the entries")
        render.show(_tables(past), [_summary(past)])
    speak.next_step("octopoid events shows what happened since")


def _begins(past: history.Past) -> str:
    return "there is no journal" if past.begins is None else f"the journal begins at {clock.local(past.begins)}"


def _tables(past: history.Past) -> list[render.Table]:
    running = tuple((one.task, _who(one), f"for {render.span(past.at - one.entry.opening.at)}") for one in past.running)
    busy = {one.task for one in past.running}
    needs = tuple((one.id, *_need(one)) for one in past.tasks if _needs(one))
    waiting = tuple((one.id, one.state.name.lower()) for one in past.tasks if one.id not in busy and not _needs(one))
    landed = tuple((one.task, one.event, clock.local(one.at)) for one in past.landed[: reading.LANDED])
    tables = (
        render.Table("needed you", (_ID, render.Column("reason", "yellow"), _DETAIL), needs, "bold yellow"),
        render.Table("running", (_ID, render.Column("agent"), _DETAIL), running, "bold green"),
        render.Table("waiting", (_ID, _DETAIL), waiting, "bold blue"),
        render.Table("landed", (_ID, render.Column("event", "dim"), render.Column("when", "dim")), landed, "bold"),
    )
    return [table for table in tables if table.rows]


def _summary(past: history.Past) -> str:
    return "tasks: " + "  ".join(f"{name} {count}" for name, count in past.counts.items())


def _who(one: history.Run) -> str:
    opening = one.entry.opening
    return opening.agent or opening.gate or opening.role or opening.kind


def _needs(one: history.Then) -> bool:
    asked = bool(one.ledger.awaiting) and one.state in (State.INCOMING, State.PROVISIONAL)
    return one.state is State.BLOCKED or asked


def _need(one: history.Then) -> tuple[str, str]:
    if one.state is State.BLOCKED:
        return one.ledger.reason or "parked", one.ledger.detail or "put into blocked by hand"
    return "human", f"waits for your yes or no about: {one.ledger.awaiting}"


def _plain(past: history.Past) -> dict[str, Any]:
    known = past.known
    busy = {one.task for one in past.running}
    waiting = [_task(one) for one in past.tasks if one.id not in busy and not _needs(one)]
    return {
        "at": clock.iso(past.at),
        "begins": None if past.begins is None else clock.iso(past.begins),
        "counts": {**dict.fromkeys(past.counts), "invalid": None} if not known else {**past.counts, "invalid": None},
        "needs_you": [_needed(one) for one in past.tasks if _needs(one)] if known else None,
        "running": [_run(one, past.at) for one in past.running] if known else None,
        "waiting": waiting if known else None,
        "landed": [_landed(one) for one in past.landed[: reading.LANDED]] if known else None,
        "invalid": None,
        "scheduler": None,
    }


def _needed(one: history.Then) -> dict[str, Any]:
    reason, detail = _need(one)
    return {**dict.fromkeys(views.NeedView._fields), "task": one.id, "reason": reason, "detail": detail}


def _landed(one: Any) -> dict[str, Any]:
    return {"task": one.task, "at": clock.iso(one.at), "event": one.event}


def _task(one: history.Then) -> dict[str, Any]:
    ledger = one.ledger
    return {
        **dict.fromkeys(views.TaskView._fields),
        "id": one.id,
        "state": one.state.name.lower(),
        "reason": ledger.reason,
        "detail": ledger.detail,
        "rounds": ledger.rounds,
        "candidate": ledger.candidate or None,
        "landed_commit": ledger.landed or None,
        "usd": ledger.usd,
        "children": list(ledger.children),
        "artifacts": list(ledger.artifacts),
    }


def _run(one: history.Run, when: float) -> dict[str, Any]:
    opening = one.entry.opening
    return {
        **dict.fromkeys(runview.RunView._fields),
        "task": one.task,
        "agent": opening.agent or None,
        "role": opening.role or None,
        "gate": opening.gate or None,
        "attempt": opening.attempt,
        "entry": one.entry.number,
        "started": clock.iso(opening.at),
        "elapsed_s": round(when - opening.at, 1),
        "usd": one.usd,
        "model": opening.model or None,
    }
