"""Steering beside the policy: pauses, breakers, the wake-up call. Small files under `run/`, one fact each."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from octopoid import clock, durable
from octopoid.errors import Invalid
from octopoid.layout import Layout
from octopoid.model import Breaker, Pauses, Problem

BREAKER_FIRST = 30.0
BREAKER_CAP = 900.0


def pauses(layout: Layout) -> Pauses:
    """The pauses in force, from the names in `run/pause/`."""
    try:
        names = os.listdir(layout.pause)
    except FileNotFoundError:
        return Pauses()
    return Pauses(
        all="all" in names,
        tasks=frozenset(name.removeprefix("task-") for name in names if name.startswith("task-")),
        agents=frozenset(name.removeprefix("agent-") for name in names if name.startswith("agent-")),
    )


def pause(layout: Layout, name: str) -> bool:
    """Set the pause `all`, `task-<id>` or `agent-<name>`. False: it was set already."""
    layout.pause.mkdir(parents=True, exist_ok=True)
    path = layout.pause / name
    if path.exists():
        return False
    durable.write(path, b"")
    return True


def resume(layout: Layout, name: str) -> bool:
    """Lift a pause. False: there was none."""
    try:
        (layout.pause / name).unlink()
    except FileNotFoundError:
        return False
    return True


def breakers(layout: Layout) -> dict[str, Breaker]:
    """The breakers by name. Raises Invalid when they cannot be read: then nothing may start (invariant 8)."""
    try:
        record = json.loads(layout.breakers.read_bytes())
        return {name: _breaker(name, facts) for name, facts in record.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = Problem(layout.breakers, 0, 0, f"cannot be read: {error}", "octopoid doctor --fix sets it aside")
        raise Invalid(str(problem), (problem,)) from None


def trip(layout: Layout, name: str, why: str, now: float, retry_after: float = 0.0) -> Breaker:
    """Open a breaker: 30 s, doubled at each trip in a row up to 15 min, or `retry_after` seconds if that is longer."""
    known = breakers(layout)
    trips = known[name].trips + 1 if name in known else 1
    wait = max(min(BREAKER_CAP, BREAKER_FIRST * 2.0 ** (trips - 1)), retry_after)
    breaker = Breaker(name, why, now, now + wait, trips)
    _write(layout, {**known, name: breaker})
    return breaker


def close_breaker(layout: Layout, name: str) -> bool:
    """It works again. False: there was no such breaker."""
    known = breakers(layout)
    if name not in known:
        return False
    _write(layout, {key: breaker for key, breaker in known.items() if key != name})
    return True


def wake(layout: Layout) -> None:
    """Tell a running scheduler that there is something to see."""
    try:
        layout.wake.touch()
    except FileNotFoundError:
        layout.run.mkdir(parents=True, exist_ok=True)
        layout.wake.touch()


def _breaker(name: str, facts: Mapping[str, str | int]) -> Breaker:
    since, until = clock.parse(str(facts["since"])), clock.parse(str(facts["until"]))
    return Breaker(name, str(facts["why"]), since, until, int(facts["trips"]))


def _write(layout: Layout, known: Mapping[str, Breaker]) -> None:
    record = {
        one.name: {"why": one.why, "since": clock.iso(one.since), "until": clock.iso(one.until), "trips": one.trips}
        for one in known.values()
    }
    durable.write(layout.breakers, json.dumps(record, indent=1, ensure_ascii=False).encode() + b"\n")
