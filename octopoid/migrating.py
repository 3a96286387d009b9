"""From one format of a queue to the next, and back (`octopoid migrate`; `run` does it by itself)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from octopoid import attempts, durable, formats, journal, store
from octopoid.errors import Invalid, UsageError
from octopoid.formats import FORMAT
from octopoid.layout import Layout


class Deed(NamedTuple):
    """One thing that a step does. Doing it twice does no harm: a kill in between begins again."""

    path: Path
    says: str
    do: Callable[[], None]


Deeds = Callable[[Layout], Iterator[Deed]]


class Step(NamedTuple):
    """From format `to` - 1 to `to`. `up`, `down`: what is left to do for that, now."""

    to: int
    why: str
    up: Deeds
    down: Deeds


def steps(found: int, wanted: int) -> list[tuple[Step, Deeds]]:
    """What leads from one format to the other, in order. Raises UsageError for one that never was."""
    if not 1 <= wanted <= FORMAT:
        raise UsageError(f"there is no format {wanted} that this octopoid knows", f"there are 1 to {FORMAT}")
    if wanted >= found:
        return [(step, step.up) for step in STEPS if found < step.to <= wanted]
    return [(step, step.down) for step in reversed(STEPS) if wanted < step.to <= found]


def migrate(layout: Layout, wanted: int, now: float, tell: Callable[[str], None]) -> int:
    """Bring the queue to format `wanted`, and tell each thing that was done. How many steps that took.

    For whoever holds the scheduler's lock. The number is written after each step: what was killed begins again there.
    """
    formats.check(layout)
    found = formats.read(layout)
    todo = steps(found, wanted)
    for step, deeds in todo:
        at = step.to if wanted > found else step.to - 1
        for deed in deeds(layout):
            deed.do()
            tell(f"{layout.short(deed.path)}: {deed.says}")
        if at == 1:
            layout.format.unlink(missing_ok=True)
            durable.sync_folder(layout.run)
        else:
            durable.write(layout.format, b"%d\n" % at)
        journal.append(layout, journal.Event(now, "migrate", by="scheduler", detail=f"format {at}: {step.why}"))
    return len(todo)


def _nothing(_: Layout) -> Iterator[Deed]:
    """All that was there means what it meant."""
    return iter(())


def _without_undo(layout: Layout) -> Iterator[Deed]:
    """An older version can work with the rest of what is there. Nothing is taken away: the way up finds it again."""
    for task in sorted(store.durable_names(layout.attempts)):
        try:
            entries = attempts.read(layout, task)
        except Invalid:
            continue  # unreadable there as here
        for entry in entries:
            if entry.opening.undoes:
                path = layout.entry(task, entry.number)
                yield Deed(path, "an undo, for which that format has no word: it shows this task as unreadable", _leave)


def _leave() -> None:
    """Only said."""


STEPS = (Step(2, "moves can be undone, and the format has a number", _nothing, _without_undo),)
