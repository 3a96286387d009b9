"""Steering beside the policy: pauses, breakers, the wake-up call. Small files under `run/`, one fact each."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from octopoid import clock, durable, locks, regular
from octopoid.errors import Invalid
from octopoid.layout import Layout
from octopoid.model import Breaker, Pauses, Problem

BREAKER_FIRST = 30.0
BREAKER_CAP = 900.0
_SKEW = 5.0
"""Seconds that a clock may jump about without meaning anything."""
_DOUBLED = 10
"""Times that a wait is doubled at most: an outage of weeks has thousands of trips, and a float has an end."""
LONGEST = 8 * 86400.0
"""Seconds. The longest limit that a provider counts in is a week; who says more than that is not believed."""
LOCK_TIMEOUT = 5.0
"""Seconds. Whoever holds the lock writes one small file."""


def pauses(layout: Layout) -> Pauses:
    """The pauses in force, from the names in `run/pause/`, and where a person is at work."""
    try:
        names = os.listdir(layout.pause)
    except FileNotFoundError:
        names = []
    except OSError:
        names = ["all"]  # what cannot be read stops (invariant 8)
    return Pauses(
        all="all" in names,
        tasks=frozenset(name.removeprefix("task-") for name in names if name.startswith("task-")),
        agents=frozenset(name.removeprefix("agent-") for name in names if name.startswith("agent-")),
        attached=attached(layout),
    )


def attached(layout: Layout) -> dict[str, int]:
    """The tasks in whose worktree a person is, with the pid that they left, 0 = none. The kernel says who: a lock."""
    try:
        names = sorted(os.listdir(layout.attach))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    locked = (name.removesuffix(".lock") for name in names if name.endswith(".lock"))
    return {task: _pid_in(layout.attach_lock(task)) for task in locked if locks.is_held(layout.attach_lock(task))}


def _pid_in(path: Path) -> int:
    try:
        return int(regular.read(path))
    except (OSError, ValueError):
        return 0


def pause(layout: Layout, name: str) -> bool:
    """Set the pause `all`, `task-<id>` or `agent-<name>`. False: it was set already."""
    layout.pause.mkdir(mode=0o700, parents=True, exist_ok=True)
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
        record = json.loads(durable.read(layout.breakers))
        return {name: _breaker(name, facts) for name, facts in record.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        problem = Problem(layout.breakers, 0, 0, f"cannot be read: {error}", "octopoid doctor --fix sets it aside")
        raise Invalid(str(problem), (problem,)) from None


def trip(layout: Layout, news: Breaker, began: float, retry_after: float = 0.0) -> Breaker:
    """Open the breaker `news.name` because of an attempt that began at `began` and failed at `news.since`.

    For 30 s, doubled at each trip in a row up to 15 min; or for `retry_after` seconds, where somebody said so. An
    attempt from before it was opened brings no news: four agents with one wrong key are one trip. Raises Invalid.
    """
    retry_after = min(retry_after, LONGEST) if retry_after > 0 else 0.0  # neither negative nor "not a number"
    with _holding(layout):
        known = breakers(layout)
        before = known.get(news.name)
        if before is not None and began < before.since <= news.since:  # not where the clock was set back since
            until = max(before.until, news.since + retry_after if retry_after else 0.0)
            breaker = before._replace(until=until)
        else:
            same = before is not None and set(news.marks) <= set(before.marks)
            trips = before.trips + 1 if before and same else 1
            usual = min(BREAKER_CAP, BREAKER_FIRST * 2.0 ** min(trips - 1, _DOUBLED))
            wait = max(retry_after, usual / 2 if trips > 1 else 0.0) if retry_after else usual
            breaker = news._replace(trips=trips, until=news.since + wait)
        _write(layout, {**known, breaker.name: breaker})
    return breaker


def current(breaker: Breaker, now: float) -> Breaker:
    """The breaker as it counts at `now`: what was opened in the future was, before the clock was set back, and is due.

    Then whoever is at work may be its try, whenever they began.
    """
    return breaker if breaker.since <= now + _SKEW else breaker._replace(since=0.0, until=0.0)


def works(layout: Layout, names: Collection[str], began: float, now: float = math.inf) -> None:
    """An attempt that began at `began` got somewhere with these: close those that were opened before it began.

    So are those that were opened after `now`: the clock was set back.
    """
    if any(name in breakers(layout) for name in names):  # nearly never: nothing is locked for it
        with _holding(layout):
            known = breakers(layout)
            mended = {one for one in names if one in known and not began < known[one].since <= now}
            if mended:
                _write(layout, {name: one for name, one in known.items() if name not in mended})


def close_breaker(layout: Layout, name: str) -> bool:
    """A person says that it works again. False: there was no such breaker."""
    with _holding(layout):
        known = breakers(layout)
        if name not in known:
            return False
        _write(layout, {key: breaker for key, breaker in known.items() if key != name})
        return True


def forget(layout: Layout, needed: Collection[str]) -> None:
    """Drop the breakers that no agent of the policy needs any more: nobody would ever try them. Raises Invalid."""
    if all(name in needed for name in breakers(layout)):
        return
    with _holding(layout):
        known = breakers(layout)
        _write(layout, {name: one for name, one in known.items() if name in needed})


def _holding(layout: Layout) -> locks.Waiting:
    """The scheduler and a person's command change the one file by turns."""
    return locks.waiting(layout.run / "breakers.lock", LOCK_TIMEOUT)


def wake(layout: Layout) -> None:
    """Tell a running scheduler that there is something to see."""
    try:
        layout.wake.touch(0o600)
    except FileNotFoundError:
        layout.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        layout.wake.touch(0o600)


def _breaker(name: str, facts: Mapping[str, Any]) -> Breaker:
    since, until = clock.parse(str(facts["since"])), clock.parse(str(facts["until"]))
    agents, marks = (tuple(map(str, facts.get(key, ()))) for key in ("agents", "marks"))
    fix, passing = str(facts.get("fix", "")), facts.get("passing") is True
    return Breaker(name, str(facts["why"]), since, until, max(0, int(facts["trips"])), fix, agents, marks, passing)


def _write(layout: Layout, known: Mapping[str, Breaker]) -> None:
    record = {
        one.name: {**one._asdict(), "since": clock.iso(one.since), "until": clock.iso(one.until)}
        for one in known.values()
    }
    for facts in record.values():
        del facts["name"]
    durable.write(layout.breakers, json.dumps(record, indent=1, ensure_ascii=False).encode() + b"\n")
