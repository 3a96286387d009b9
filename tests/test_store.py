"""`store`: where a person's editor and a move meet in one file."""

from __future__ import annotations

from harness import Repo, drop, init

from octopoid import store
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
