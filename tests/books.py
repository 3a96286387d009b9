"""The books: the journal, the entries, the queue folders and git's log, held against each other (issue 5, point 5).

`check(repo)` says every disagreement, a sentence each; [] means that they balance. It reads only. Call it when nothing
is at work and a scheduler has had a look (`octopoid run --once`): what a kill or a hand `mv` left out is added to the
journal by a look. `python tests/books.py ROOT` prints the same and leaves with 1 where there is anything to say.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from harness import Repo, git

from octopoid import attempts, jsontext, store
from octopoid.fold import fold
from octopoid.layout import Layout
from octopoid.model import Entry
from octopoid.states import TRANSITIONS, State

Line = dict[str, Any]

UNFOLDED = ("say", "approve", "attach", "move", "undo", "gone", "release", "reject")
"""Words of lines that are no rows of TRANSITIONS, or that may stand for a word without a move."""


class Books(NamedTuple):
    """What each of the four says. `entries`: task → its entries, those of tasks whose evidence can be read."""

    lines: dict[str, list[Line]]
    entries: dict[str, tuple[Entry, ...]]
    folders: dict[str, State]


def check(repo: Repo, gone: Collection[str] = ()) -> list[str]:
    """Every disagreement. `gone`: tasks whose file was taken away on purpose since the last look."""
    layout = repo.layout
    if not layout.queue.is_dir():
        return []
    books = Books(_lines(layout), _entries(layout), store.every_id(layout))
    found = []
    for task in sorted({*books.lines, *books.entries, *books.folders}):
        if task not in gone:
            found += [f"{task}: {one}" for one in _task(books, task)]
    return [*found, *_git(repo, books)]


def settled(repo: Repo) -> list[str]:
    """What does not agree after a scheduler has looked. Where none ever did there is nothing to hold it to.

    Nearly every test leaves balanced books behind. Otherwise a person may have moved a file since the last look, or a
    kill may have been the last thing that happened: then a scheduler that starts nothing looks once more.
    """
    if not repo.layout.last_tick.exists() or not check(repo):
        return []
    with suppress(subprocess.TimeoutExpired):
        repo.octopoid("pause", ok=None, timeout=20)
        repo.octopoid("run", "--once", ok=None, timeout=30)
    return check(repo)


def _lines(layout: Layout) -> dict[str, list[Line]]:
    """The lines of each task. A torn one is passed over: it was ended by the next, and healing wrote it again."""
    found: dict[str, list[Line]] = {}
    data = layout.events.read_bytes() if layout.events.exists() else b""
    for raw in data.splitlines():
        try:
            line = json.loads(raw)
        except ValueError:
            continue
        if isinstance(line, dict) and line.get("task"):
            found.setdefault(str(line["task"]), []).append(line)
    return found


def _entries(layout: Layout) -> dict[str, tuple[Entry, ...]]:
    """The entries that can be read, one by one: an unreadable one is somebody's test, and says so everywhere."""
    return {task: _read(layout, task) for task in store.durable_names(layout.attempts) if task[0] != "."}


def _read(layout: Layout, task: str) -> tuple[Entry, ...]:
    numbers = sorted(int(name) for name in store.durable_names(layout.entries(task)) if name.isdecimal())
    return tuple(one for number in numbers if (one := _entry(layout, task, number)) is not None)


def _entry(layout: Layout, task: str, number: int) -> Entry | None:
    folder = layout.entry(task, number)
    try:
        opening = jsontext.load_opening((folder / "attempt.json").read_bytes())
        return attempts.read_one(layout, task, number) if opening.kind else None
    except (OSError, ValueError, attempts.Invalid):
        return None


def _task(books: Books, task: str) -> Iterator[str]:
    lines, entries = books.lines.get(task, []), books.entries.get(task, ())
    yield from _folders(lines, books.folders.get(task))
    # the entries of a task whose file went away were set aside: a new one of that name begins with number 1
    last = max((at for at, line in enumerate(lines) if line["event"] == "gone"), default=-1)
    yield from _once(lines[last + 1 :])
    yield from _evidence(lines[last + 1 :], entries)


def _folders(lines: list[Line], state: State | None) -> Iterator[str]:
    """The journal, replayed: each line begins where the one before it ended, the last one ends where the file is."""
    here = ""
    for line in lines:
        leaves, enters = str(line.get("from", "")), str(line.get("to", ""))
        if not leaves and not enters:
            continue
        if leaves != here:
            yield f"the journal has it in {here or 'no folder'}, then it leaves {leaves or 'none'} ({line['event']})"
        rule = TRANSITIONS.get(str(line["event"]))
        if rule and line["event"] not in UNFOLDED and enters != rule.enters.value:
            yield f"{line['event']} enters {enters}, which is not in the table"
        here = enters
    where = state.value if state else ""
    if here != where:
        yield f"the journal has it in {here or 'no folder'}, and it is in {where or 'none'}"


def _once(lines: list[Line]) -> Iterator[str]:
    """No move of an entry is told twice."""
    told = Counter((line["event"], line.get("entry", 0), line.get("to", "")) for line in lines if line.get("entry"))
    for (event, entry, _), times in told.items():
        if times > 1:
            yield f"{event} of entry {entry} is in the journal {times} times"


def _evidence(lines: list[Line], entries: tuple[Entry, ...]) -> Iterator[str]:
    """What an entry did is in the journal, and what the journal says of an entry is in it."""
    told = {(int(line.get("entry", 0)), str(line.get("to", ""))) for line in lines}
    numbers = {entry.number for entry in entries}
    for line in lines:
        if line.get("entry") and int(line["entry"]) not in numbers:
            yield f"the journal tells of entry {line['entry']} ({line['event']}), and there is none"
    left = fold(entries).unmoved
    if left is not None and left.outcome is not None:
        yield f"entry {left.number} was to {left.outcome.verb} it and has not"
    for entry in entries:
        outcome = entry.outcome
        moves = {"claimed"} & entry.moved
        if outcome is not None and outcome.verb:
            moves |= {outcome.enters} & entry.moved
        elif entry.opening.kind in ("say", "approve", "attach", "reject", "release", "move", "undo"):
            moves |= {entry.opening.to if entry.opening.kind == "move" else ""}
        for enters in sorted(moves):
            if (entry.number, enters) not in told:
                yield f"entry {entry.number} ({entry.opening.kind}) moved it to {enters or '-'}: not in the journal"


def _git(repo: Repo, books: Books) -> Iterator[str]:
    """What landed by the entries is in git, once, and nothing else of ours is."""
    made = [
        (task, entry.opening)
        for task, entries in books.entries.items()
        for entry in entries
        if entry.opening.kind == "landing" and entry.outcome is not None and entry.outcome.verb == "land"
    ]
    told = Counter(task for task, lines in books.lines.items() for line in lines if line["event"] == "land")
    for task, number in Counter(task for task, _ in made).items():
        if told[task] != number:
            yield f"{task}: {number} landings by its entries, {told[task]} by the journal"
    form = "--format=%H %(trailers:key=Octopoid-Task,valueonly,separator=%x2C)"
    # an agent's own commits name their task as well: they are second parents, and all there is on octopoid/<id>
    bases = git(repo, "log", "--first-parent", "--exclude=octopoid/*", "--branches", form, ok=(0, 128)).splitlines()
    of = {row[0]: row[1] for row in map(str.split, bases) if len(row) == 2}
    every = set(git(repo, "log", "--branches", "--format=%H", ok=(0, 128)).split())
    names = set(git(repo, "branch", "--format=%(refname:short)", ok=(0, 128)).split())
    for task, opening in made:  # the branch of a project goes when the project has landed, as one commit perhaps
        if opening.result_sha not in every and opening.base in names:
            yield f"{task}: its result {opening.result_sha[:12]} is on no branch"
    theirs = set(of.values())
    for task in sorted(theirs - {task for task, _ in made}):
        if task in books.folders and books.folders[task] is not State.PROVISIONAL:
            yield f"{task}: git has a commit of it, and no entry landed it"
    if "rebase" not in _policy(repo.layout):  # which makes as many commits as the work has
        for task, times in Counter(of.values()).items():
            if times > max(1, sum(1 for one, _ in made if one == task)):
                yield f"{task}: {times} commits of it have landed"


def _policy(layout: Layout) -> str:
    texts = [
        path.read_text(errors="replace") for path in (layout.agents_yaml, *layout.flows.glob("*")) if path.is_file()
    ]
    return "".join(texts)


if __name__ == "__main__":
    wrong = check(Repo(Path(sys.argv[1]).resolve(), dict(os.environ)))
    print("\n".join(wrong))
    sys.exit(bool(wrong))
