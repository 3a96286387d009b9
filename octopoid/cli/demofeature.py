"""The demo of the flow `feature`: one task by eight roles. See `octopoid.demofeature`."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Mapping, Sequence

from octopoid import daemon, demofeature
from octopoid.cli import common, demoscreen
from octopoid.cli.demoscreen import Display, Tale
from octopoid.daemon import INTERRUPTED
from octopoid.demofeature import TASK, Ending, Span
from octopoid.layout import Layout
from octopoid.scheduler import Tick

_WIDTH = 24
"""Characters for the time of a round."""
_TEXT = 68
"""Characters in a line of what a person is asked: on a narrow terminal it must be there as a whole."""


def _introduce(layout: Layout) -> None:
    demoscreen.scratch(layout)
    common.say(f"One task file, {TASK}, goes through the built-in flow `feature`:")
    demoscreen.steps(demofeature.STORY)
    demofeature.enqueue(layout, common.now())


def _run(layout: Layout, began: float) -> int:
    """The scheduler, told line by line. Where it waits for a person the demo makes that person's move."""
    with demoscreen.display() as shown:
        say = demoscreen.told(shown, began)

        def progress(tick: Tick) -> None:
            shown.footer(_at_work(tick))

        for _ in range(demofeature.TURNS):
            status = daemon.run(layout, until_empty=True, say=say, progress=progress)
            if status == INTERRUPTED or not _persons_turn(layout, shown, say):
                return status
        return daemon.run(layout, until_empty=True, say=say, progress=progress)


def _at_work(tick: Tick) -> str:
    opened = [
        entry.opening.gate or entry.opening.role
        for item in tick.look.items
        for entry in (*filter(None, (item.ledger.open,)), *item.ledger.reviews)
    ]
    return f"at work: {', '.join(opened)}" if opened else "nobody is at work"


def _persons_turn(layout: Layout, shown: Display, say: Callable[[str], None]) -> bool:
    """Show what the task waits for and make the move. False: it waits for nobody."""
    turn = demofeature.turn(layout)
    if turn is None:
        return False
    shown.line("")
    shown.line(f"         {turn.asked}")
    for line in turn.shown:
        for part in textwrap.wrap(common.one_line(line), _TEXT) or [""]:
            shown.line(f"         | {part}".rstrip())
    shown.line("         Here it would wait for you. The demo answers in your place:")
    shown.line(f"         $ {turn.command}")
    shown.line("")
    demofeature.take(layout, common.now())
    say(f"{TASK}: goes on")
    return True


def _show(layout: Layout, began: float, color: str) -> tuple[str, ...]:
    """All that was said; the reviews side by side; the board and the history."""
    ending = demofeature.ending(layout)
    demoscreen.command(layout, color, "thread", TASK)
    _rounds(ending.spans)
    demoscreen.board(layout, color)
    _sum_up(ending, time.monotonic() - began)
    return ending.wrong


def _rounds(rounds: Sequence[Sequence[Span]]) -> None:
    """When which of the gates was at work, drawn."""
    for number, spans in enumerate(rounds, start=1):
        start = min(one.began for one in spans)
        whole = max(one.ended for one in spans) - start
        name = max(len(one.gate) for one in spans)
        common.say(f"\nRound {number} of the reviews, by the exit records of their entries:")
        for one in spans:
            left, right = (round((at - start) / whole * _WIDTH) for at in (one.began, one.ended))
            bar = f"{' ' * left}{'=' * max(1, right - left)}".ljust(_WIDTH)
            said = "yes" if one.yes else "no"
            common.say(f"  {one.gate:{name}}  {one.began - start:4.2f} s |{bar}| {one.ended - start:4.2f} s  {said}")
        common.say(f"  all {len(spans)} at work at once for {demofeature.overlap(spans):.2f} s")


def _sum_up(ending: Ending, seconds: float) -> None:
    common.say(f"\n{len(ending.commits)} tasks landed in {seconds:.1f} s: the work, and its documentation.")
    times = "once" if len(ending.refusals) == 1 else f"{len(ending.refusals)} times"
    common.say(f"Refused and mended {times}, with what all three reviews had found.")
    for task in ending.proposals:
        common.say(f"What the implementer noticed beside it waits for you, as a proposal:\n  {task}")


def _look(layout: Layout) -> Mapping[str, str]:
    proposed = [one.partition("-")[0] for one in demofeature.ending(layout).proposals]  # a beginning is enough
    return {
        f"octopoid show {TASK}": "its text, its entries, its verdicts",
        f"octopoid diff {TASK}": "what it changed",
        f"octopoid log {TASK}": "what its last attempt printed",
        "octopoid decisions": "what was decided, by whom and why",
        "octopoid flows show feature": "the flow, drawn",
        **{f"octopoid retry {one}": "take the proposal up; then: octopoid run" for one in proposed},
    }


TALE = Tale(demofeature.make, _introduce, _run, _show, _look)
