"""`octopoid edit`: a task file in the person's editor, and what is wrong with it afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from octopoid import durable, editor, lifecycle, steer, stopping, store
from octopoid.cli import common
from octopoid.errors import Conflict, Invalid, NotFound
from octopoid.layout import Layout
from octopoid.look import Observer
from octopoid.states import State

cli = typer.Typer()


@cli.command(epilog=common.examples("octopoid edit add-dark-mode", "EDITOR='code --wait' octopoid edit add-d"))
def edit(task: common.Id) -> None:
    """Open a task file in $VISUAL or $EDITOR, then check it.

    You edit a copy: the task may be claimed or finished meanwhile, and your text still finds it.
    """
    layout = common.layout()
    name = lifecycle.resolve(layout, task)
    state, path = _find(layout, name)
    if state is State.CLAIMED and stopping.live(layout, name):
        common.say(f"{name} is being worked on: the agent has the text as it was; the next attempt reads yours")
    before = _bytes(path)
    draft = editor.write_draft(layout, name, before)
    after = editor.edit(draft, os.environ)
    if after == before:
        draft.unlink()
        common.say(f"{name}: nothing was changed")
    else:
        state, path = _save(layout, name, before, after, draft)
        steer.wake(layout)
        common.say(f"saved {layout.short(path)}")
    _check(layout, name, path)
    common.next_step(f"octopoid why {name}")


def _find(layout: Layout, task: str) -> tuple[State, Path]:
    found = store.find(layout, task)
    if found is None:
        raise NotFound(f"there is no task {task!r} any more", "octopoid list shows the ids")
    return found


def _save(layout: Layout, task: str, before: bytes, after: bytes, draft: Path) -> tuple[State, Path]:
    """Put the text where the task is now. Raises Conflict when somebody else changed it: nothing is overwritten."""
    yours = f"your text is in {layout.short(draft)}; take over what you need with: octopoid edit {task}"
    for _ in range(5):
        path = _find(layout, task)[1]
        try:
            if store.read(path) != before:
                raise Conflict(f"{layout.short(path)} was changed while you edited it", yours)
        except FileNotFoundError:
            continue  # it is just being moved
        durable.write(path, after)
        where = _find(layout, task)
        if where[1] != path and os.path.lexists(path):
            # claimed between two lines of this program: what we wrote is a second file of that id, not the task
            path.unlink()
            continue
        draft.unlink()
        return where
    raise Conflict(f"{task} moves too fast to be saved", yours)


def _bytes(path: Path) -> bytes:
    try:
        return store.read(path)
    except FileNotFoundError:
        raise Conflict(f"{path.name} moved while it was read", "try again") from None


def _check(layout: Layout, task: str, path: Path) -> None:
    problems = tuple(one for one in Observer(layout).look().problems if one.path in (path, layout.entries(task)))
    if problems:
        raise Invalid(f"{layout.short(path)} is not valid now", problems, f"octopoid edit {task} to mend it")
