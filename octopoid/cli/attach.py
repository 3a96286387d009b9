"""`octopoid attach`: a person's shell in a task's worktree, while the scheduler keeps its hands off."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Annotated

import typer

from octopoid import attaching, attempts, lifecycle, programs, steer, stopping, terminal
from octopoid.attaching import Left, Place, User
from octopoid.cli import common, trust
from octopoid.errors import Conflict, OctopoidError, TimedOut, UsageError
from octopoid.layout import Layout
from octopoid.look import Observer
from octopoid.model import Item
from octopoid.policyfile import Policy
from octopoid.states import State
from octopoid.steps import Site

cli = typer.Typer()

_NOT_STARTED = (126, 127)
_POLL = 0.1


@cli.command(
    epilog=common.examples(
        "octopoid attach add-dark-mode",
        "octopoid attach add-dark-mode --take",
        "octopoid attach add-dark-mode --resume",
        "octopoid attach add-dark-mode --shell 'git log --oneline -5'",
    )
)
def attach(
    word: common.Id,
    take: Annotated[
        bool, typer.Option("--take", help="End the agent that is at work on it; charged to nobody.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the last agent's session, in its own program.")
    ] = False,
    shell: Annotated[
        str, typer.Option("--shell", metavar="CMD", help="Run this (with `sh -c`) instead of $SHELL.")
    ] = "",
) -> None:
    """Take a task over by hand: your shell in its worktree, where the scheduler keeps its hands off meanwhile.

    Leave the shell to hand it back: the next attempt goes on from what is there, uncommitted work included.
    """
    layout = common.layout()
    stopping.refuse_agents(layout)
    if resume and shell:
        raise UsageError("--resume starts the agent's program, --shell another one", "give one of them")
    trust.require(layout)
    task = lifecycle.resolve(layout, word)
    site = Site(layout, Policy(layout, common.say, keep=False).current(), os.environ)
    _item(layout, task)
    argv = _argv(site, task, resume, shell)
    held = attaching.hold(layout, task)
    try:
        item = _alone(site, task, take)
        place = _enter(site, item)
        _run(layout, task, argv, place, held, by_name=bool(shell or resume))
        _hand_back(site, task, place)
    finally:
        still = attaching.release(layout, task, held)
        steer.wake(layout)
    if still:
        common.say(f"still at work there, so the scheduler waits for it: {', '.join(f'pid {one}' for one in still)}")
    common.next_step(_next(layout, task))


def _item(layout: Layout, task: str) -> Item:
    """The task where it is now. Raises Conflict for one that is over."""
    look = Observer(layout).look()
    item = look.get(task)
    if item is not None:
        return item
    state = look.ids.get(task)
    hint = f"octopoid reopen {task} works on it again" if state is State.DONE else f"octopoid show {task}"
    raise Conflict(f"{task} is in {state.value if state else 'no folder'}: nothing is to be done in its worktree", hint)


def _argv(site: Site, task: str, resume: bool, shell: str) -> tuple[str, ...]:
    if resume:
        return attaching.resumption(site, task, attempts.read(site.layout, task))
    return ("sh", "-c", shell) if shell else (os.environ.get("SHELL") or "/bin/sh",)


# --- until nobody else is there ---


def _alone(site: Site, task: str, take: bool) -> Item:
    """Wait for gates and landings, end the attempt if that is wanted. Raises Conflict, TimedOut."""
    said: set[str] = set()
    while True:
        item = _item(site.layout, task)
        found = attaching.users(site, task)
        if not found:
            return item
        attempt = next((one for one in found if one.kind == "attempt"), None)
        if attempt is not None:
            _end(site.layout, task, attempt, take)
            continue
        if found[0].who not in said:
            said.add(found[0].who)
            what = "its landing is" if found[0].kind == "landing" else f"{found[0].who} is"
            common.say(f"{what} at work on it: waiting for its end (Ctrl-C gives up)")
        time.sleep(_POLL)


def _end(layout: Layout, task: str, attempt: User, take: bool) -> None:
    what = f"{attempt.who} is at work on {task}"
    if not take and common.interactive():
        take = typer.confirm(f"{what}. End this attempt and take over?", err=True)
    if not take:
        raise Conflict(what, f"octopoid attach {task} --take ends it; octopoid log -f {task} shows what it does")
    common.say(f"ending the attempt of {attempt.who}; it is charged to nobody")
    if not attaching.end(layout, attempt):
        raise TimedOut(f"the run {attempt.entry.name} of {task} did not end yet", f"octopoid log {task} shows why")
    if stopping.holder(layout) is None:
        common.say("no scheduler is running: the next look (octopoid run --once) puts it back into incoming")


# --- there ---


def _enter(site: Site, item: Item) -> Place:
    layout, now = site.layout, common.now()
    with redirect_stdout(sys.stderr):
        place = attaching.enter(site, item, attempts.read(layout, item.id))
    lost = attaching.unkept(item, site.config)
    if not lost:
        attaching.record(layout, item.id, None, now)
    made = "made" if place.made else "at"
    common.say(f"{item.id} ({item.state.value}): {made} {place.worktree}, HEAD detached at {place.head[:12]}")
    if place.uncommitted:
        common.say(f"not committed: {attaching.some(place.uncommitted)}")
    if place.made and site.config.worktrees.setup:
        common.say("its setup command has not run here; it does before the next attempt")
    if lost:
        common.say(f"look, but what you change here is thrown away: {lost}")
        if item.state is State.PROVISIONAL:
            common.say(f"  to work on it: octopoid reject {item.id} -m TEXT first")
    common.say("The scheduler keeps its hands off. To hand it back, leave this program (exit, or Ctrl-D).")
    return place


def _run(layout: Layout, task: str, argv: tuple[str, ...], place: Place, held: int, by_name: bool) -> None:
    try:
        status = terminal.run(
            argv,
            env=_environment(os.environ, layout, task, place),
            cwd=str(place.worktree),
            keep=held,
            began=lambda pid: attaching.note(held, pid),
        )
    except (OSError, ValueError) as error:
        said = programs.why_not_started(argv, str(place.worktree), error)
        raise OctopoidError(said, f"octopoid attach {task} --shell CMD names another") from None
    if by_name and status in _NOT_STARTED:
        raise OctopoidError(f"`{argv[-1] if argv[0] == 'sh' else argv[0]}` ended with status {status}: not found?")


def _environment(env: Mapping[str, str], layout: Layout, task: str, place: Place) -> dict[str, str]:
    ours = {"OCTOPOID_ROOT": layout.root, "OCTOPOID_TASK_ID": task, "OCTOPOID_WORKTREE": place.worktree}
    return {**env, **{name: str(value) for name, value in ours.items()}}


# --- back ---


def _hand_back(site: Site, task: str, before: Place) -> None:
    layout = site.layout
    what = attaching.left(layout, before)
    if what is None:
        common.say(f"{before.worktree} is gone; the next attempt makes it again")
        return
    if not what.changed:
        common.say("nothing was changed")
        return
    _tell(what, before)
    item = Observer(layout).look().get(task)
    lost = attaching.unkept(item, site.config) if item else "the task is over"
    if lost:
        common.say(f"this is not part of its work: {lost}")
    else:
        attaching.record(layout, task, what, common.now())
        common.say("the next attempt goes on from here, and is told so")


def _tell(what: Left, before: Place) -> None:
    place = what.place
    if what.rewound:
        common.say(f"HEAD was at {before.head[:12]}, which is not behind it any more")
    for one in what.commits:
        common.say(f"commit {one}")
    if what.files:
        common.say(f"files changed: {attaching.some(what.files)}")
    if place.uncommitted:
        common.say(f"not committed: {attaching.some(place.uncommitted)}")
    if place.going_on:
        common.say(f"a {place.going_on} is in progress there")


def _next(layout: Layout, task: str) -> str:
    item = Observer(layout).look().get(task)
    if item is None:
        return "octopoid status"
    if item.state is State.BLOCKED:
        asked = item.ledger.reason == "question"
        return f"octopoid {f'answer {task} -m TEXT' if asked else f'retry {task}'}"
    if item.state is State.PROVISIONAL:
        return f"octopoid why {task}"
    return "octopoid run" if stopping.holder(layout) is None else f"octopoid log -f {task}"
