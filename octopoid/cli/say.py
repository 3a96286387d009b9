"""`octopoid say`: a person's word for who is at work on a task, and for its next attempt."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from octopoid import lifecycle, stopping, store, thread
from octopoid.cli import common
from octopoid.errors import UsageError
from octopoid.layout import Layout
from octopoid.states import State

cli = typer.Typer()

_STDIN = "-"


@cli.command(
    epilog=common.examples(
        "octopoid say add-dark-mode -m 'the designer wants it without the animation'",
        "octopoid say add-d -m - < notes.txt",
    )
)
def say(
    word: common.Id,
    message: Annotated[str, typer.Option("-m", "--message", metavar="TEXT", help="What to say; `-`: stdin.")] = "",
) -> None:
    """Tell the agent at work on a task something, and its next attempt. What runs now goes on, and nothing moves.

    Some programs hear it while they work, after their next tool call. Your word stands in the prompt of the next
    attempt and in `octopoid thread` in any case.
    """
    layout = common.layout()
    stopping.refuse_agents(layout)
    task = lifecycle.resolve(layout, word)
    said = thread.say(layout, task, _text(task, message), common.now())
    common.say(f"said to {task}")
    for role in said.hear:
        common.say(f"{role}: the agent reads it after its next tool call")
    for role in said.deaf:
        common.say(f"{role}: its program cannot be told while it works: the next attempt reads it")
    if said.hear:
        common.next_step(f"octopoid log -f {task}")
    elif said.deaf:
        common.next_step(f"octopoid stop {task} ends this attempt; octopoid retry {task} begins the next one at once")
    else:
        common.next_step(_next(layout, task))


def _text(task: str, message: str) -> str:
    if message == _STDIN:
        if sys.stdin.isatty():
            common.say("what to say, ended by Ctrl-D:")
        return sys.stdin.buffer.read(4 * thread.MAX_SAID + 1).decode("utf-8", "replace")
    if not message and common.interactive():
        return str(typer.prompt("What do you want to say?", err=True))
    if not message.strip():
        raise UsageError("there is nothing to say", f"octopoid say {task} -m TEXT; -m - reads standard input")
    return message


def _next(layout: Layout, task: str) -> str:
    found = store.find(layout, task)
    if found and found[0] is State.BLOCKED:
        return f"octopoid why {task} shows what it waits for; its next attempt reads what you said"
    if found and found[0] is State.PROVISIONAL:
        return f"octopoid reject {task} -m TEXT sends it back now; without that only rework reads what you said"
    return f"octopoid thread {task}"
