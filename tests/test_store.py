"""`store` and `look`: where a person's editor and a move meet in one file, and what a scheduler remembers."""

from __future__ import annotations

import gc

from harness import Repo, drop, init

from octopoid import attempts, store
from octopoid.look import Observer
from octopoid.model import Entry, Opening
from octopoid.states import State


def test_what_an_editor_saves_into_the_file_while_it_is_rewritten_is_kept(repo: Repo) -> None:
    """It opened the file before the move, and writes (in place, as VS Code does) after it was read."""
    init(repo)
    path = drop(repo, "saved", "# Before\n")
    with path.open("r+b", buffering=0) as editor:
        saves = [b"", b"# Aft", b"# After, all of it\n"]

        def rewrite(data: bytes) -> bytes:
            if saves:
                editor.seek(0)
                editor.truncate()
                editor.write(saves.pop(0))
            return data + b"\nours\n"

        with store.one_at_a_time(repo.layout):
            store.move(repo.layout, "saved", "claim", State.INCOMING, rewrite)
    assert repo.layout.task_file(State.CLAIMED, "saved").read_bytes() == b"# After, all of it\n\nours\n"
    assert not list(repo.layout.moving.iterdir())


def test_the_evidence_of_finished_tasks_is_forgotten(repo: Repo) -> None:
    """A daemon that has landed a thousand tasks is no larger than one that begins."""
    init(repo)
    observer = Observer(repo.layout)
    for number in range(20):
        drop(repo, f"task-{number}", "# Task\n", state=State.PROVISIONAL)
        attempts.begin(repo.layout, f"task-{number}", Opening("attempt", 1.0))
    others = kept()
    observer.look()
    assert kept() == others + 20
    for number in range(20):
        repo.layout.task_file(State.PROVISIONAL, f"task-{number}").rename(
            repo.layout.task_file(State.DONE, f"task-{number}")
        )
    assert observer.ledger("task-0").open, "who asks is told all the same"
    for _ in range(3):
        observer.look()
    assert kept() == others


def kept() -> int:
    gc.collect()
    return sum(type(one) is Entry for one in gc.get_objects())
