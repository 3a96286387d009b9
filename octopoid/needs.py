"""What waits for a person: which tasks, why, the command that changes it, and how many wait behind them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from octopoid import clock, views
from octopoid.look import Look
from octopoid.model import Item, Problem
from octopoid.ready import approval_text, waiting_on
from octopoid.states import State

_COMMANDS = {
    "question": "octopoid answer {id} -m TEXT",
    "dependency": "octopoid edit {id}",
}


def needs(look: Look, waits: views.Waits, running_ids: Collection[str]) -> tuple[views.NeedView, ...]:
    """What tasks need a person for, oldest first; files that are no tasks at all come last."""
    found = [_need(item, waits) for item in look.items if item.id not in running_ids or item.id in waits.human]
    found += [_need_of_file(one, look) for one in look.problems]
    behind = blocking(look)
    counted = (one._replace(blocks=behind.get(one.task or "", 0)) for one in found if one is not None)
    return tuple(sorted(counted, key=lambda one: one.since or "~"))


LONG = 3
"""Trips in a row after which a person should know that something which passes by itself does not."""


def of_breakers(breakers: Iterable[views.BreakerView], now: float) -> tuple[views.NeedView, ...]:
    """What keeps agents from starting and does not pass by itself."""
    return tuple(
        views.NeedView(
            None,
            "breaker",
            "; ".join(
                filter(None, (f"agent {', '.join(one.agents) or one.name} {_can(one, now)}: {one.why}", one.fix))
            ),
            f"octopoid resume --breaker {one.name}",
            one.since,
        )
        for one in breakers
        if not one.passing or one.trips >= LONG
    )


def _can(one: views.BreakerView, now: float) -> str:
    return "cannot start" if clock.parse(one.until) > now else "could not start, and is tried at the next look"


def stuck(item: Item, waits: views.Waits) -> bool:
    """Nothing but a person can make this task go on."""
    opened = item.ledger.open
    landing = opened is not None and opened.opening.kind == "landing" and bool(opened.waits)
    asked = bool(item.ledger.awaiting) and item.state in (State.INCOMING, State.PROVISIONAL)
    person = (
        item.state is State.BLOCKED or asked or any(item.id in one for one in (waits.human, waits.held, waits.lost))
    )
    return bool(item.problem or item.ledger.trouble) or person or landing


def stuck_subtask(item: Item, look: Look, waits: views.Waits) -> bool:
    """A person is needed for one of its subtasks, so that it cannot end without one either."""
    children = (one for one in look.items if one.id in item.ledger.children)
    return item.state is State.PROVISIONAL and any(stuck(one, waits) for one in children)


def _need(item: Item, waits: views.Waits) -> views.NeedView | None:
    if item.problem or item.ledger.trouble or not stuck(item, waits):
        return None  # a broken file is shown as the file that it is
    since = clock.iso(views.last_change(item.ledger.last) or item.mtime)
    if item.state is State.BLOCKED:
        reason = item.ledger.reason or "parked"
        detail = item.ledger.detail or "put into blocked by hand"
        command = _COMMANDS.get(reason, "octopoid retry {id}").format(id=item.id)
        more = len(item.ledger.questions) - 1 if reason == "question" else 0
        return views.NeedView(item.id, reason, f"{detail} (and {more} more)" if more > 0 else detail, command, since)
    if item.ledger.awaiting or item.id in waits.human:
        detail = approval_text(item) if item.ledger.awaiting else "waits for your yes or no"
        return views.NeedView(item.id, "human", detail, f"octopoid approve {item.id}", since)
    if item.id in waits.lost:
        guard = waits.lost[item.id]
        return views.NeedView(item.id, guard.name, guard.text, guard.command, since)
    opened = item.ledger.open
    return views.NeedView(item.id, "landing", opened.waits if opened else waits.held[item.id], "git status", since)


def _need_of_file(one: Problem, look: Look) -> views.NeedView:
    owner = next((item for item in look.items if item.path == one.path), None)
    move = one.hint if one.hint.startswith("mv ") else ""
    if owner:
        since = clock.iso(owner.mtime)
        return views.NeedView(owner.id, "invalid", views.place(one), move or f"octopoid edit {owner.id}", since)
    return views.NeedView(None, "invalid", f"{one.path}: {views.place(one)}", move or "octopoid lint", None)


def waits_for_scheduler(look: Look, waits: views.Waits) -> int:
    """How many tasks would go on if a scheduler ran. One that waits for another counts no more than that one."""
    return sum(1 for item in look.items if not stuck(item, waits) and not _behind(item, look))


def _behind(item: Item, look: Look) -> bool:
    """Waits for tasks that are on their way; what depends on a cancelled one is the scheduler's to put aside."""
    if item.task is None or item.state is not State.INCOMING:
        return False
    missing = waiting_on(item.task, look.ids)
    return bool(missing) and all(look.ids.get(one) is not State.CANCELLED for one in missing)


def blocking(look: Look) -> Mapping[str, int]:
    """How many tasks wait for each one, directly or behind others: by dependencies, and parents for their subtasks."""
    behind: dict[str, set[str]] = {}
    for item in look.items:
        waits = waiting_on(item.task, look.ids) if item.task else ()
        for one in (*waits, *item.ledger.children):
            behind.setdefault(one, set()).add(item.id)
    return {one: len(_all_behind(one, behind)) for one in behind}


def _all_behind(start: str, behind: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    todo = [start]
    while todo:
        new = behind.get(todo.pop(), set()) - found
        found |= new
        todo += new
    return found - {start}
