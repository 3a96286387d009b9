"""The demo of a queue: seven tasks that meet whatever a task can meet. See `octopoid.demo`."""

from __future__ import annotations

import time
from collections.abc import Mapping

from octopoid import daemon, demo
from octopoid.cli import common, demoscreen
from octopoid.cli.demoscreen import Tale
from octopoid.layout import Layout
from octopoid.scheduler import Tick
from octopoid.states import State

_LOOK: Mapping[str, str] = {
    f"octopoid show {demo.SENT_BACK}": "its text, its attempts, its verdicts",
    f"octopoid log {demo.SENT_BACK}": "what its last attempt printed",
    "octopoid diff add-slugify": "what a task changed",
    "octopoid events": "everything that happened",
    f"octopoid edit {demo.INVALID}": "mend it, then: octopoid run --until-empty",
}


def _introduce(layout: Layout) -> None:
    demoscreen.scratch(layout)
    common.say(f"{len(demo.STORY)} task files for .octopoid/queue/incoming:")
    demoscreen.steps(demo.STORY)
    demo.enqueue(layout, common.now())


def _run(layout: Layout, began: float) -> int:
    """The scheduler, told line by line; one task is written into its folder while it works."""
    late = [True]
    with demoscreen.display() as shown:
        say = demoscreen.told(shown, began)

        def progress(tick: Tick) -> None:
            if late and late.pop():
                demo.drop(layout)
                say(f"{demo.LATE}: written into .octopoid/queue/incoming; it settles for 2 s")
            done = sum(1 for state in tick.look.ids.values() if state is State.DONE)
            at_work = sum(1 for item in tick.look.items if item.ledger.open)
            shown.footer(f"{done} of {len(demo.STORY) - 1} landed, {at_work} at work")

        return daemon.run(layout, until_empty=True, say=say, progress=progress)


def _show(layout: Layout, began: float, color: str) -> tuple[str, ...]:
    """What was sent back; the board and the history; what is invalid."""
    ending = demo.ending(layout)
    told = demo.sent_back(layout)
    if told:
        common.say(f"\nThe checks sent {demo.SENT_BACK} back; the end of their output:")
        for line in told:
            common.say(f"  | {common.one_line(line)}")
    demoscreen.board(layout, color)
    if ending.problem:
        common.say(f"\n{layout.short(ending.problem.path)} stays where it is, untouched:")
        common.say(f"  line {ending.problem.line}, column {ending.problem.column}: {ending.problem.message}")
        common.say(f"  {ending.problem.hint}")
    again = [f"{task} ({count} attempts)" for task, count in ending.attempts.items() if count > 1]
    common.say(f"\n{len(ending.commits)} tasks landed in {time.monotonic() - began:.1f} s.")
    common.say(f"Sent back and mended: {', '.join(again)}.")
    common.say("Eight roles at one task: octopoid demo --flow feature")
    return ending.wrong


TALE = Tale(demo.make, _introduce, _run, _show, lambda _: _LOOK)
