"""`octopoid diff`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, NamedTuple

import typer

from octopoid import gates, git, lifecycle
from octopoid.cli import common, judged, reading
from octopoid.errors import NotFound
from octopoid.layout import Layout
from octopoid.model import Entry, Item
from octopoid.states import SATISFYING, State
from octopoid.steps import worktrees_folder

cli = typer.Typer()

_BOLD, _RESET = "\x1b[1m", "\x1b[m"
_STYLES = {"+": "\x1b[32m", "-": "\x1b[31m", "@": "\x1b[36m"}
"""Git's own colours, by how a line begins."""


class Range(NamedTuple):
    """Two commits, and what their difference is, in words."""

    before: str
    after: str
    words: str


@cli.command(epilog=common.examples("octopoid diff add-dark-mode", "octopoid diff add-d --stat"))
def diff(
    word: common.Id,
    stat: Annotated[bool, typer.Option("--stat", help="Only which files, and how much.")] = False,
) -> None:
    """Show what a task changed: its candidate since it left the base branch, or what landed."""
    layout = common.layout()
    task = lifecycle.resolve(layout, word)
    found = reading.observe(layout)
    item = reading.item(layout, found, task)
    entries = found.observer.entries(task)
    between = _landed(layout, item, entries) or _candidate(layout, item, entries)
    if between is None:
        raise NotFound(f"{task} has no candidate yet: no attempt has submitted work", _where(layout, item))
    common.say(f"{task}: {between.words}")
    text = git.diff(layout.root, between.before, between.after, False, stat)
    if text:
        common.data(_shown(text.removesuffix("\n"), stat))
    else:
        common.say("no difference")
    common.next_step(_next(item))


def _shown(text: str, stat: bool) -> str:
    """Byte for byte for a program (`git apply`). For a person clean, and coloured by us: git passes on what is in the
    lines, so in its colours an escape of the agent's could not be told from its own.
    """
    if not (common.terminal() or common.color()):
        return text
    text = common.clean_text(text)
    if stat or not common.color():
        return text
    return "\n".join(_painted(text.split("\n")))


def _painted(lines: Iterable[str]) -> Iterator[str]:
    inside = False
    for line in lines:
        inside = not line.startswith("diff ") and (inside or line.startswith("@@"))
        style = _STYLES.get(line[:1], "") if inside else _BOLD
        yield f"{style}{line}{_RESET}" if style and line else line


def _landed(layout: Layout, item: Item, entries: tuple[Entry, ...]) -> Range | None:
    """What the landing put onto the base branch."""
    if item.state not in SATISFYING or not item.ledger.landed:
        return None
    last = next(one.opening for one in reversed(entries) if one.opening.result_sha == item.ledger.landed)
    before = last.onto if git.commit_exists(layout.root, last.onto) else last.base_sha
    words = f"landed on {last.base or 'the base branch'} as {last.result_sha[:12]}"
    return Range(before, last.result_sha, words) if before else None


def _candidate(layout: Layout, item: Item, entries: tuple[Entry, ...]) -> Range | None:
    """The present candidate, from where it left the base branch."""
    candidate = item.ledger.candidate
    if not candidate:
        return None
    known = judged.policy(layout)
    names = [gates.base_of(item, known) if known else "", *(one.opening.base for one in reversed(entries))]
    tips = [tip for name in names if name and (tip := git.branch_sha(layout.root, name))]
    tips += [one.opening.base_sha for one in reversed(entries) if one.opening.base_sha]
    for tip in tips:
        before = git.merge_base(layout.root, tip, candidate)
        if before:
            return Range(before, candidate, f"candidate {candidate[:12]}, since {before[:12]} of the base branch")
    return None


def _where(layout: Layout, item: Item) -> str:
    """Where unfinished work can be seen."""
    known = judged.policy(layout)
    worktree = worktrees_folder(layout, known) / item.id if known else layout.home / "worktrees" / item.id
    if worktree.is_dir():
        return f"its unfinished work is in {layout.short(worktree)}; octopoid log {item.id}"
    return f"octopoid why {item.id}"


def _next(item: Item) -> str:
    if item.state is State.PROVISIONAL:
        return f"octopoid approve {item.id}, or octopoid reject {item.id} -m TEXT"
    return f"octopoid show {item.id}"
