"""`octopoid thread`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from octopoid import clock, lifecycle, stopping, store, thread, views
from octopoid.cli import common
from octopoid.layout import Layout
from octopoid.states import SATISFYING, State
from octopoid.thread import Post

cli = typer.Typer()

Full = Annotated[bool, typer.Option("--full", help="With the text of every prompt.")]


@cli.command(
    "thread",
    epilog=common.examples(
        "octopoid thread add-dark-mode", "octopoid thread add-d --full", "octopoid thread add-d --json"
    ),
)
def _thread(word: common.Id, full: Full = False, as_json: common.Json = False) -> None:
    """Print all that was said about a task, in order: prompts, summaries, questions, verdicts, decisions, moves.

    Also of a task that is done, archived or cancelled.
    """
    layout = common.layout()
    task = lifecycle.resolve(layout, word)
    posts = thread.thread(layout, task, full=full)
    found = store.find(layout, task)
    state = views.STATE_NAMES[found[0]] if found else "gone"
    if as_json:
        common.emit("thread", task=task, state=state, posts=[plain(one) for one in posts])
        return
    common.out(f"{task}, {state}")
    for post in posts:
        _print(post)
    common.next_step(_next(layout, task, found[0] if found else None))


def plain(post: Post) -> dict[str, object]:
    """A post as it is printed with --json."""
    return {**post._asdict(), "at": clock.iso(post.at), "refs": list(post.refs)}


def moment(at: float) -> str:
    """A time as a person reads it, on a terminal; else as programs do."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S") if common.terminal() else clock.iso(at)


def _print(post: Post) -> None:
    common.out()
    number = f"{post.entry:03d}" if post.entry else "-"
    common.out(f"{moment(post.at)}  {number:<3}  {post.kind:<8}  {common.one_line(post.who)}")
    for line in common.clean_text(post.text).splitlines():
        common.out(f"    {line}".rstrip())
    for ref in post.refs:
        common.out(f"    → {common.one_line(ref)}")


def _next(layout: Layout, task: str, state: State | None) -> str:
    if state in SATISFYING:
        return f"octopoid diff {task} shows what it changed"
    if state is None or state is State.CANCELLED:
        return f"octopoid show {task}"
    if stopping.live(layout, task):
        return f"octopoid log -f {task}"
    ledger = lifecycle.ledger_of(layout, task)
    if state is State.BLOCKED and ledger.reason == "question":
        return f"octopoid answer {task} -m TEXT"
    if ledger.awaiting and state in (State.INCOMING, State.PROVISIONAL):
        return f"octopoid approve {task}, or octopoid reject {task} -m TEXT"
    if state is State.PROVISIONAL:
        return f"octopoid why {task}"
    return f"octopoid say {task} -m TEXT tells its next attempt something"
