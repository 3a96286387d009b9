"""Getting verified work onto the base branch: write down the intent, move the base, then ask git (DESIGN §8).

`landing.json`, with `refs/octopoid/<id>` keeping the commit, is written before the base moves. Whatever happens after
that, one question decides: is the result an ancestor of the base?
"""

from __future__ import annotations

import contextlib
import json
from typing import NamedTuple

from octopoid import attempts, git, lifecycle, merging, store
from octopoid.errors import GitError, LostRace
from octopoid.layout import Layout
from octopoid.model import Entry, Item, Opening, Outcome
from octopoid.plans import Projection
from octopoid.states import State

WAITS = {
    "dirty": "your checkout has uncommitted changes in files that this work touches: commit or stash them",
    "rebase": "a rebase is in progress in your checkout: finish it",
    "merge": "a merge is in progress in your checkout: finish it",
    "cherry-pick": "a cherry-pick is in progress in your checkout: finish it",
    "bisect": "a bisect is in progress in your checkout: finish it",
    "lock": "git is at work in your checkout (index.lock is there)",
    "index.lock": "git is at work in your checkout (index.lock is there)",
}
"""Why the base cannot move now, for a person. Nothing of theirs is touched."""


class Landed(NamedTuple):
    """How it went. `waits`: why it must wait for the user's checkout; both empty/False: the base moved meanwhile."""

    done: bool
    waits: str = ""


def begin(
    layout: Layout, item: Item, base: str, projection: Projection, now: float, *, locked: bool = False
) -> tuple[attempts.Begun, Opening]:
    """Write down what is about to happen. `locked`: a supervisor will move the base, because hooks run there."""
    opening = Opening(
        kind="landing",
        at=now,
        base=base,
        base_sha=projection.onto,
        candidate=item.ledger.candidate,
        tree=projection.tree,
        onto=projection.onto,
        result_sha=projection.result_sha,
    )
    record = {"base_before": projection.onto, "candidate": item.ledger.candidate, "result_sha": projection.result_sha}
    merging.keep_ref(layout.root, item.id, projection.result_sha)
    layout.landing_locks.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = {"landing.json": json.dumps(record).encode()}
    return attempts.begin(layout, item.id, opening, files, locked=locked), opening


def land(layout: Layout, item: Item, base: str, projection: Projection, now: float) -> Landed:
    """Write down the intent and try to move `base` to the result, once."""
    with lifecycle.landing_lock(layout, base):
        _still_there(layout, item)
        begun, opening = begin(layout, item, base, projection, now)
        return _advance(layout, item, Entry(begun.number, opening), now)


def _still_there(layout: Layout, item: Item) -> None:
    """A person's `reject`, `retry` or `mv` may have come between the look and the lock. Raises LostRace."""
    here = layout.task_file(State.PROVISIONAL, item.id).exists()
    newest = max((int(name) for name in store.durable_names(layout.entries(item.id)) if name.isdecimal()), default=0)
    if not here or newest != item.ledger.next_number - 1:
        raise LostRace(f"{item.id} was moved or judged while it was about to land")


def resume(layout: Layout, item: Item, entry: Entry, now: float, *, drop: bool = False) -> Landed:
    """Go on with a landing that was written down: after a crash, or when the user's checkout is free again.

    The base decides: what it contains is done, wherever a person moved the file meanwhile. `drop`: what it does not
    contain yet shall not land now, because a gate is asked again.
    """
    with lifecycle.landing_lock(layout, entry.opening.base):
        return _advance(layout, item, entry, now, drop)


def finish(layout: Layout, item: Item, detail: str, publish: str, now: float) -> None:
    """Every gate said yes and the base has nothing to get; `publish`: the commit for branch `octopoid/<id>`, or ""."""
    if publish:
        merging.publish_branch(layout.root, item.id, publish)
    outcome = Outcome(
        "finish",
        "ok",
        False,
        "",
        detail,
        now,
        candidate=item.ledger.candidate,
        summary=_story(item, detail),
        verb="finish",
        leaves="provisional",
        enters="done",
    )
    lifecycle.record(layout, item.id, Opening("finish", now, result_sha=publish), outcome, now)


def _advance(layout: Layout, item: Item, entry: Entry, now: float, drop: bool = False) -> Landed:
    opening = entry.opening
    result = opening.result_sha
    if not _has(layout, opening):
        if drop or not layout.task_file(State.PROVISIONAL, item.id).exists():
            _give_up(layout, item.id, entry, "its task was taken out of provisional, or a gate is asked again", now)
            return Landed(False)
        moved = merging.advance(layout.root, base=opening.base, old=opening.onto, new=result)
        healed = moved.waits == "dirty" and merging.heal_fast_forward(layout.root, opening.base, result)
        if not moved.done and not healed and moved.waits == "moved":
            _give_up(layout, item.id, entry, f"{opening.base} moved meanwhile", now)
            return Landed(False)
        if not moved.done and not healed:
            said = f" ({_in_a_line(moved.detail)})" if moved.detail else ""
            waits = WAITS.get(moved.waits, moved.waits) + said
            attempts.note_waits(layout, item.id, entry.number, waits)
            return Landed(False, waits)
        if not _has(layout, opening):
            raise GitError(("merge", "--ff-only", result), 0, f"{opening.base} does not contain {result} afterwards")
    detail = f"landed on {opening.base} as {result[:12]}"
    outcome = Outcome(
        "landing",
        "ok",
        False,
        "",
        detail,
        now,
        base_sha=opening.onto,
        candidate=opening.candidate,
        summary=_story(item, detail),
        verb="land",
        leaves=item.state.value,
        enters="done",
    )
    # The base keeps the commit now; nobody wants a ref for every task there was. Before the entry is closed: who is
    # killed between the two comes here again, and once it is closed nobody would. Where a packed-refs.lock that
    # somebody left forbids it, the ref stays: that is harmless, and the work has landed all the same.
    with contextlib.suppress(GitError):
        merging.drop_ref(layout.root, item.id)
    lifecycle.settle(layout, item.id, entry.number, outcome, now)
    return Landed(True)


def _in_a_line(said: str) -> str:
    """What git said, for a table: the files it names (it indents them with a tab), else its first line."""
    lines = said.splitlines()
    names = [line.strip() for line in lines if line.startswith("\t")]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (", ".join(names[:3]) + more if names else lines[0] if lines else "")[:300]


def _has(layout: Layout, opening: Opening) -> bool:
    """Does the base contain the result? A file read where the base is exactly there, git otherwise."""
    at = git.branch_sha(layout.root, opening.base)
    if at == opening.result_sha:
        return True
    return at is not None and at != opening.onto and git.is_ancestor(layout.root, opening.result_sha, at)


def _give_up(layout: Layout, task: str, entry: Entry, why: str, now: float) -> None:
    """This landing is over; the next one starts from the base as it is then."""
    outcome = Outcome("landing", "ok", False, "moved", why, now)
    attempts.close(layout, task, entry.number, outcome)


def _story(item: Item, detail: str) -> str:
    """What the result section of the task file says."""
    return "\n\n".join(part for part in (item.ledger.summary, detail) if part)
