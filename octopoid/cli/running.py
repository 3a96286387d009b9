"""What `octopoid run` does, without its parser: cron starts it each minute (see `app`)."""

from __future__ import annotations

import shlex
from pathlib import Path

from octopoid import daemon, setup, stopping
from octopoid.cli import speak
from octopoid.cli.app import late
from octopoid.errors import Conflict, UsageError
from octopoid.layout import Layout, main_worktree, worktree_of
from octopoid.scheduler import Tick


def show(*, once: bool = False, until_empty: bool = False, dry_run: bool = False, interval: float = daemon.FULL) -> int:
    """Run the scheduler; the exit status. Raises OctopoidError."""
    if once and until_empty:
        raise UsageError("--once leaves at once and --until-empty stays", "give one of them")
    layout = speak.layout()
    if dry_run:
        daemon.run(layout, dry_run=True, say=speak.out)
        speak.next_step("octopoid run does it; octopoid why ID tells more")
        return 0
    _refuse_worktree(layout)
    if not setup.settle_trust(layout, speak.now()):
        late("cli.trust").require(layout)
    setup.make_private(layout)
    told = _Told(layout, quiet=once)
    code = daemon.run(
        layout, once=once, until_empty=until_empty, interval=interval, say=speak.say, progress=told.progress
    )
    if not once:
        told.leave(until_empty, code)
    return code


class _Told:
    """What the person in front of it is told when it begins and when it ends; cron's `--once` is told nothing."""

    def __init__(self, layout: Layout, quiet: bool) -> None:
        self._layout, self._begun = layout, quiet

    def progress(self, _tick: Tick) -> None:
        """After the first tick the lock is ours."""
        if not self._begun and speak.interactive():
            speak.say(f"working on {self._layout.root}; Ctrl-C leaves, agents at work go on")
        self._begun = True

    def leave(self, until_empty: bool, code: int) -> None:
        """How it ended, and what comes next."""
        left = [task for task, _ in stopping.all_live(self._layout)]
        if left:
            speak.say(f"still at work, on their own: {', '.join(left)}")
            speak.next_step("octopoid run takes in what they do; octopoid stop --now ends them")
        elif until_empty and code:
            speak.next_step("nothing goes on without you: octopoid status shows what is needed")
        else:
            speak.next_step("octopoid status" if until_empty else "octopoid run goes on")


def _refuse_worktree(layout: Layout) -> None:
    """An agent, or a person who forgot where they are, must not start a scheduler in a worktree (DESIGN §2)."""
    if stopping.is_own_agent():
        raise Conflict("an agent must not start a scheduler", "leave the result; the scheduler does the rest")
    here = worktree_of(Path.cwd())
    if here is not None and here != layout.root and main_worktree(here) == layout.root:
        there = f"cd {shlex.quote(str(layout.root))}"
        raise Conflict(f"{here} is a linked worktree", f"start the scheduler in the main one: {there}")
