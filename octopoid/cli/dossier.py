"""What a person is shown about a task before they decide: documents, subtasks, changes, remarks, or the task itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from octopoid import attempts, documents, git, lifecycle, spawning, store, taskfile
from octopoid.errors import Invalid, OctopoidError
from octopoid.layout import Layout
from octopoid.model import Entry, Ledger, Task


class Dossier(NamedTuple):
    """`lines`: what it is about. `more`: what else can be seen, in lines as well. All of it is untrusted text."""

    lines: tuple[str, ...]
    more: tuple[str, ...] = ()


def title(layout: Layout, task: str) -> str:
    """What the task is called; "" where its file cannot be read."""
    found = _task(layout, task)
    return found.title if found else ""


def of_work(layout: Layout, task: str) -> Dossier:
    """What waits for a yes: the documents or subtasks that a stage left, else what the candidate changes."""
    ledger = lifecycle.ledger_of(layout, task)
    last = next((one for one in reversed(attempts.read(layout, task)) if one.outcome and one.outcome.approval), None)
    if ledger.awaiting and last and last.outcome and last.outcome.children:
        return Dossier((*_said(ledger), *_subtasks(layout, task, last)))
    if ledger.awaiting and ledger.artifacts:
        return Dossier((*_said(ledger), *_documents(layout, task, ledger)))
    return Dossier((*_said(ledger), *_remarks(ledger), *_changes(layout, ledger, stat=True)), _diff(layout, ledger))


def of_trouble(layout: Layout, task: str) -> Dossier:
    """What is stuck: the last word about it, then the task; of a proposal the task alone."""
    feedback = lifecycle.ledger_of(layout, task).feedback
    found = _task(layout, task)
    text = tuple(found.body.strip().splitlines()) if found else ()
    if not feedback:
        return Dossier(text)
    return Dossier(tuple(feedback[-1].text.strip().splitlines()), text)


def _task(layout: Layout, task: str) -> Task | None:
    found = store.find(layout, task)
    try:
        return taskfile.parse(store.seen(found[1]), found[1]) if found else None
    except OctopoidError:
        return None


def _said(ledger: Ledger) -> tuple[str, ...]:
    return tuple(ledger.summary.strip().splitlines())


def _remarks(ledger: Ledger) -> Iterator[str]:
    """What gates said about this very candidate, those included that refuse nothing."""
    for one in ledger.verdicts:
        if one.candidate == ledger.candidate and one.feedback.strip():
            yield f"{one.gate}: {'accept' if one.yes else 'reject'}"
            yield from (f"  {line}" for line in one.feedback.strip().splitlines())


def _subtasks(layout: Layout, task: str, entry: Entry) -> Iterator[str]:
    """The task files that a yes makes, as they will be: a yes is also one to the commands in their criteria."""
    try:
        made = spawning.load(layout, task, entry.number)
    except Invalid as error:
        yield error.message
        return
    for number, one in enumerate(made, start=1):
        yield f"subtask {number} of {len(made)}: {one.id}"
        yield from (f"  {line}".rstrip() for line in one.text.decode("utf-8", "replace").strip().splitlines())


def _documents(layout: Layout, task: str, ledger: Ledger) -> Iterator[str]:
    newest = max(ledger.artifacts.values())
    for name in (name for name, number in ledger.artifacts.items() if number == newest):
        yield f"{layout.short(layout.artifacts(task) / name)}:"
        yield from _content(layout.entry_artifacts(task, newest) / name)


def _content(path: Path) -> Iterable[str]:
    try:
        return documents.read(path).decode("utf-8", "replace").strip().splitlines()
    except Invalid as error:
        return (error.message,)


def _changes(layout: Layout, ledger: Ledger, stat: bool) -> tuple[str, ...]:
    """What the candidate changes, since it left the branch that it was made for."""
    tip = git.branch_sha(layout.root, ledger.base) if ledger.base and ledger.candidate else None
    base = git.merge_base(layout.root, tip, ledger.candidate) if tip else None
    if base is None:
        return ()
    return tuple(git.diff(layout.root, base, ledger.candidate, color=False, stat=stat).splitlines())


def _diff(layout: Layout, ledger: Ledger) -> tuple[str, ...]:
    return _changes(layout, ledger, stat=False)
