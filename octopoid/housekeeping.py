"""What a tick does beside its plan: forget hints, set vanished evidence aside, tell the user's own program."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from octopoid import (
    attempts,
    bookkeeping,
    cleaning,
    durable,
    lifecycle,
    merging,
    process,
    programs,
    regular,
    store,
    worktrees,
)
from octopoid.errors import GitError, LostRace
from octopoid.layout import Layout
from octopoid.legible import clean_text
from octopoid.look import Look, Observer
from octopoid.plans import Plan
from octopoid.settings import Config

CENSUS = 60.0
"""Seconds between looks for entries whose task vanished, and for worktrees that are half removed."""

UNFLAG = 5.0
"""Seconds that a hint stays: its entry may only be about to be written."""

PERSONAL = ("person", "human", "checkout", "invalid")
"""What a task waits for when it waits for a person."""


class Housekeeper:
    """Keeps house between plans."""

    def __init__(self, layout: Layout, observer: Observer, say: Callable[[str], None]) -> None:
        self.layout = layout
        self.observer = observer
        self.say = say
        self._next_census = 0.0
        self._told: set[str] | None = None

    def tidy(self, look: Look, folder: Path, now: float) -> None:
        """Finish what was left open about tasks that are done or cancelled by now; forget what is clean.

        `folder`: where the worktrees are.
        """
        active, recent = {item.id for item in look.items}, bookkeeping.Recent(self.layout)
        for task, flagged in attempts.flagged(self.layout).items():
            ledger = self.observer.ledger(task)
            state = look.ids.get(task)
            if task not in active and ledger.unmoved is not None and state is not None:
                try:
                    lifecycle.heal(self.layout, task, state, ledger.unmoved, now)
                except LostRace as error:
                    self.say(f"{task}: {error.message}")
            elif ledger.open is None and not ledger.reviews and ledger.unmoved is None and now - flagged > UNFLAG:
                if recent.lacks(task, self.observer.entries(task)):
                    with store.one_at_a_time(self.layout):
                        bookkeeping.catch_up(self.layout, task, now)
                if task not in active:
                    with contextlib.suppress(GitError):  # somebody's lock: `doctor --fix` removes it
                        merging.drop_ref(self.layout.root, task)
                attempts.unflag(self.layout, task)
        if now >= self._next_census:
            self._next_census = now + CENSUS
            self._finish_removals(look, folder)
            self._census(look)

    def _finish_removals(self, look: Look, folder: Path) -> None:
        """What a killed `clean`, or a killed scheduler, left half removed goes."""
        for path, gitdir in cleaning.half_removed(self.layout, folder, look.ids).items():
            try:
                worktrees.finish_removal(self.layout.root, gitdir, path)
            except OSError as error:
                self.say(f"{self.layout.short(path)} is half removed, and the rest of it stays: {error}")

    def _census(self, look: Look) -> None:
        """Entries of a task whose file vanished are set aside, so that a new file of that name inherits nothing.

        Not while a whole folder is missing: then its tasks did not vanish one by one.
        """
        for name in store.durable_names(self.layout.attempts):
            if name[0] == "." or name in look.ids or store.find(self.layout, name) is not None:
                continue
            if not store.is_whole(self.layout):
                return
            if self.observer.ledger(name).open is None and attempts.set_aside(self.layout, name):
                self.say(f"{name}: its file is gone; its entries are set aside")

    def notify(self, plan: Plan, config: Config, env: Mapping[str, str]) -> set[int]:
        """Tell the user's own program what began to wait for a person since the last tick; the pids it started."""
        if not config.notify:
            return set()
        path = self.layout.run / "told"
        if self._told is None:  # on disk, since `run --once` from cron must not tell the same thing each minute
            self._told = set(_lines(path))
        waiting = {f"{one.waits} {task}": task for task, one in plan.decisions.items() if one.waits in PERSONAL}
        pids = set()
        for word, task in waiting.items():
            if word not in self._told:
                decision = plan.decisions[task]
                event = {"TASK": task, "KIND": decision.waits, "TEXT": clean_text(decision.text)}
                event["ROOT"] = str(self.layout.root)
                pids |= self._tell(config.notify, {**env, **{f"OCTOPOID_EVENT_{k}": v for k, v in event.items()}})
        if self._told != set(waiting):
            self._told = set(waiting)
            durable.write(path, "".join(f"{word}\n" for word in sorted(waiting)).encode(), sync=False)
        return pids

    def _tell(self, argv: tuple[str, ...], env: Mapping[str, str]) -> set[int]:
        with Path(os.devnull).open("wb") as output:
            try:
                return {process.start(argv, env=env, output=output.fileno())}
            except (OSError, ValueError) as error:
                self.say(f"notify: {programs.why_not_started(argv, None, error)}")
                return set()


def _lines(path: Path) -> list[str]:
    """What cannot be read was not told: a person hears of it twice rather than never."""
    try:
        return regular.read(path).decode().splitlines()
    except (OSError, ValueError):
        return []
