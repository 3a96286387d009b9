"""`octopoid inbox`: everything that waits for a person, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from octopoid import documents, git, lifecycle, needs, stopping, views
from octopoid.cli import common, deciding, reading, render
from octopoid.errors import Invalid, OctopoidError
from octopoid.layout import Layout
from octopoid.model import Ledger

cli = typer.Typer()

_SHOWN = 60
"""Lines of a document that are shown before a person is asked about it."""


class _Enough(Exception):
    """The person has had enough for now."""


@cli.command(epilog=common.examples("octopoid inbox", "octopoid inbox --list", "octopoid inbox --json"))
def inbox(
    listed: Annotated[bool, typer.Option("--list", help="Only list it; ask nothing.")] = False,
    as_json: common.Json = False,
) -> None:
    """Show everything that waits for you: what most tasks wait behind comes first, then the oldest.

    On a terminal you are asked about one after the other; each can be skipped. Elsewhere it is a list.
    """
    layout = common.layout()
    found = waiting(layout)
    if as_json:
        common.emit("inbox", items=views.plain(found))
        return
    if not found:
        common.say("nothing waits for you")
        common.next_step("octopoid status")
        return
    stopping.refuse_agents(layout)
    if listed or not (common.interactive() and common.terminal()):
        render.show((_table(layout, found),))
        common.next_step(found[0].command)
        return
    _ask(layout, found)


def waiting(layout: Layout) -> tuple[views.NeedView, ...]:
    """What waits for a person: most others behind it first, then the oldest."""
    found = reading.observe(layout)
    items = needs.needs(found.look, reading.waits(layout, found), ())
    return tuple(sorted(items, key=lambda one: (-one.blocks, one.since or "~")))


def _table(layout: Layout, found: tuple[views.NeedView, ...]) -> render.Table:
    columns = (
        render.Column("task", "cyan", shrinks=True),
        render.Column("reason", "yellow"),
        render.Column("behind it", "dim"),
        render.Column("detail", wraps=True),
        render.Column("command", "bold", note=True),
    )
    home = f"{layout.root}/"
    rows = tuple(
        (one.task or "-", one.reason, _behind(one), one.detail.replace(home, ""), one.command) for one in found
    )
    return render.Table("inbox", columns, rows, "bold yellow")


def _behind(one: views.NeedView) -> str:
    return f"{one.blocks} wait" if one.blocks > 1 else "1 waits" if one.blocks else ""


# --- one after the other ---


def _ask(layout: Layout, found: tuple[views.NeedView, ...]) -> None:
    done = 0
    for number, one in enumerate(found, start=1):
        behind = f", {_behind(one)} behind it" if one.blocks else ""
        common.say(f"\n{number} of {len(found)}: {one.task or one.reason}{behind}")
        common.say(f"  {one.reason}: {common.one_line(one.detail)}")
        try:
            done += _DECIDE.get(one.reason, _other)(layout, one)
        except _Enough:
            break
        except OctopoidError as error:
            common.say(f"  {error.message}")
    left = len(found) - done
    common.say("")
    common.next_step("octopoid inbox" if left else "octopoid status shows how it goes")


def _question(layout: Layout, one: views.NeedView) -> bool:
    task = one.task or ""
    asked = lifecycle.ledger_of(layout, task).questions
    answers = []
    for number, question in enumerate(asked, start=1):
        common.say(f"  question: {common.clean_text(question)}")
        said = _prompt("answer (empty: skip)")
        if not said:
            return False
        answers.append(f"{number}: {said}" if len(asked) > 1 else said)
    deciding.answer(layout, task, answers)
    common.say(f"  answered {task}")
    return True


def _judge(layout: Layout, one: views.NeedView) -> bool:
    task = one.task or ""
    _show_work(layout, task)
    word = _choose("approve", "reject", "skip", "quit")
    if word == "approve":
        deciding.approve(layout, task, "")
        common.say(f"  approved {task}")
    elif word == "reject":
        why = _prompt("why (the next attempt is told; empty: skip)")
        if not why:
            return False
        deciding.reject(layout, task, why)
    return word != "skip"


def _stuck(layout: Layout, one: views.NeedView) -> bool:
    task = one.task or ""
    word = _choose("retry", "cancel", "skip", "quit")
    if word == "retry":
        deciding.retry(layout, task, _prompt("a word for the next attempt (or nothing)"))
    elif word == "cancel":
        deciding.cancel(layout, task)
    return word != "skip"


def _other(_layout: Layout, one: views.NeedView) -> bool:
    common.say(f"  {one.command}")
    return False


def _prompt(text: str) -> str:
    return str(typer.prompt(f"  {text}", default="", show_default=False, err=True)).strip()


def _choose(*words: str) -> str:
    """One of `words`, by its first letter. Raises _Enough for `quit`."""
    told = ", ".join(f"[{word[0]}]{word[1:]}" for word in words)
    while True:
        said = _prompt(told).lower() or "skip"
        word = next((one for one in words if one.startswith(said)), "")
        if word == "quit":
            raise _Enough
        if word:
            return word


def _show_work(layout: Layout, task: str) -> None:
    """What the person is asked about: the document that the stage wrote, or what the candidate changes."""
    ledger = lifecycle.ledger_of(layout, task)
    if not ledger.awaiting:
        _show_changes(layout, ledger)
        return
    newest = max(ledger.artifacts.values(), default=0)
    for name in (name for name, number in ledger.artifacts.items() if number == newest):
        _show_document(layout.entry_artifacts(task, newest) / name)
    for child in ledger.children:
        common.say(f"  subtask {child}")


def _show_document(path: Path) -> None:
    common.say(f"  {path}:")
    try:
        lines = common.clean_text(documents.read(path).decode("utf-8", "replace")).splitlines()
    except Invalid as error:
        common.say(f"  {error.message}")
        return
    for line in lines[:_SHOWN]:
        common.say(f"  | {line}")
    if len(lines) > _SHOWN:
        common.say(f"  | … {len(lines) - _SHOWN} more lines")


def _show_changes(layout: Layout, ledger: Ledger) -> None:
    base = git.merge_base(layout.root, ledger.base, ledger.candidate) if ledger.base else None
    if base:
        for line in git.diff(layout.root, base, ledger.candidate, color=False, stat=True).splitlines():
            common.say(f"  | {common.clean_text(line)}")


_DECIDE: Mapping[str, Callable[[Layout, views.NeedView], bool]] = {
    "question": _question,
    "human": _judge,
    **dict.fromkeys(("failed", "rejected", "conflict", "budget", "dependency", "parked"), _stuck),
}
"""What is asked about what waits; everything else only shows its command."""
