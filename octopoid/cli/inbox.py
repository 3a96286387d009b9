"""`octopoid inbox`: everything that waits for a person, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated

import typer

from octopoid import lifecycle, needs, replies, sections, stopping, store, views
from octopoid.cli import common, deciding, dossier, overview, reading, render
from octopoid.errors import OctopoidError
from octopoid.layout import Layout

cli = typer.Typer()

_SHOWN = 30
"""Lines that are shown before a person is asked; the others on demand."""


class _Enough(Exception):
    """The person has had enough for now."""


@cli.command(epilog=common.examples("octopoid inbox", "octopoid inbox --list", "octopoid inbox --json"))
def inbox(
    listed: Annotated[bool, typer.Option("--list", help="Only list it; ask nothing.")] = False,
    as_json: common.Json = False,
) -> None:
    """Show everything that waits for you: what most tasks wait behind comes first, then the oldest.

    On a terminal you are asked about one after the other, with what there is to see; each can be skipped, and you can
    leave at any time: what you decided counts at once. Elsewhere it is a list.
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
    """What waits for a person: a broken policy first, then most others behind it, then the oldest."""
    found = reading.observe(layout)
    items = needs.needs(found.look, reading.waits(layout, found), ())
    policy = overview.needs_of_policy(reading.scheduler(layout, reading.policy_problem(layout)))
    return (*policy, *sorted(items, key=lambda one: (-one.blocks, one.since or "~")))


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
        behind = f" ({_behind(one)} behind it)" if one.blocks else ""
        common.say(f"\n{number} of {len(found)}: {one.task or one.reason}{behind}")
        called = dossier.title(layout, one.task) if one.task else ""
        if called:
            common.say(f"  {common.one_line(called)}")
        try:
            done += _DECIDE.get(one.reason, _other)(layout, one)
        except _Enough:
            break
        except typer.Abort:  # Ctrl-C or Ctrl-D: what was decided is decided
            common.say("")
            break
        except OctopoidError as error:
            common.say(f"  {error.message}")
            if error.hint:
                common.say(f"  {error.hint}")
    left = len(found) - done
    common.say("")
    common.next_step("octopoid inbox" if left else "octopoid status shows how it goes")


def _question(layout: Layout, one: views.NeedView) -> bool:
    """Ask what is not answered in the file already. All or nothing: an agent gets its answers together."""
    task = one.task or ""
    asked = lifecycle.ledger_of(layout, task).questions
    place = store.find(layout, task)
    typed = sections.answers(store.seen(place[1])) if place else ()
    answers: list[str] = []
    for number, (question, there) in enumerate(replies.pairs(asked, typed, []), start=1):
        common.say(f"  question: {common.clean_text(question)}")
        if there:
            common.say(f"  answered in the file: {common.one_line(there)}")
            continue
        said = _prompt("answer (empty: skip)")
        if not said:
            common.say("  skipped; nothing was kept" if answers else "  skipped")
            return False
        answers.append(f"{number}: {said}" if len(asked) > 1 else said)
    deciding.answer(layout, task, answers)
    common.say(f"  answered {task}")
    return True


def _judge(layout: Layout, one: views.NeedView) -> bool:
    task = one.task or ""
    common.say(f"  {one.reason}: {common.one_line(one.detail)}")
    seen = lifecycle.ledger_of(layout, task)
    word = _choose(dossier.of_work(layout, task), "approve", "reject")
    if word == "approve":
        deciding.approve(layout, task, "", seen)
        common.say(f"  approved {task}")
    elif word == "reject":
        why = _prompt("why (the next attempt is told; empty: skip)")
        if not why:
            return False
        deciding.reject(layout, task, why)
    return word != "skip"


def _stuck(layout: Layout, one: views.NeedView) -> bool:
    task = one.task or ""
    common.say(f"  {one.reason}: {common.one_line(one.detail)}")
    word = _choose(dossier.of_trouble(layout, task), "retry", "cancel")
    if word == "retry":
        deciding.retry(layout, task, _prompt("a word for the next attempt (or nothing)"))
    elif word == "cancel":
        deciding.cancel(layout, task)
    return word != "skip"


def _other(_layout: Layout, one: views.NeedView) -> bool:
    common.say(f"  {one.reason}: {common.one_line(one.detail)}")
    common.say(f"  yours to do: {one.command}")
    return False


def _prompt(text: str) -> str:
    return str(typer.prompt(f"  {text}", default="", show_default=False, err=True)).strip()


def _choose(about: dossier.Dossier, *verbs: str) -> str:
    """Show what it is about, then ask for one of `verbs` or `skip`, by its first letter. Raises _Enough for `quit`."""
    cut = about.lines[_SHOWN:]
    _show(about.lines[:_SHOWN])
    if cut:
        common.say(f"  … {len(cut)} more lines")
    more = [*cut, *about.more]
    while True:
        words = (*verbs, *(["more"] if more else []), "skip", "quit")
        said = _prompt(", ".join(f"[{word[0]}]{word[1:]}" for word in words)).lower() or "skip"
        word = next((one for one in words if one.startswith(said)), "")
        if word == "quit":
            raise _Enough
        if word == "more":
            _show(more)
            more = []
        elif word:
            return word


def _show(lines: Iterable[str]) -> None:
    for line in lines:
        common.say(f"  | {common.clean_text(line)}".rstrip())


_DECIDE: Mapping[str, Callable[[Layout, views.NeedView], bool]] = {
    "question": _question,
    "human": _judge,
    **dict.fromkeys(("failed", "rejected", "conflict", "budget", "dependency", "parked"), _stuck),
}
"""What is asked about what waits; everything else only shows its command."""
