"""Temporary files of an agent: in a folder of its attempt, gone when that is closed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from harness import Repo, drop, init, landed, write_config

from octopoid import attempts
from octopoid.errors import Conflict

AGENT = 'echo "$TMPDIR" > seen.txt && stat -c %a "$TMPDIR" >> seen.txt && touch "$TMPDIR/litter" && mktemp >> seen.txt'


@pytest.mark.parametrize("task", ["short", "a-name-that-is-longer-than-what-a-socket-can-be-called-in-a-folder-of-it"])
def test_an_agent_has_a_folder_of_its_own_for_litter(repo: Repo, task: str) -> None:
    init(repo)
    agent = f"{{adapter: command, command: '{AGENT}'}}"
    write_config(repo, f"version: 1\nbase: main\ngates: []\nagents: {{implementer: {agent}}}\n")
    drop(repo, task, "# Litter\n")
    repo.octopoid("run", "--until-empty")
    assert landed(repo) == (task,)
    place, mode, made = (repo.root / "seen.txt").read_text().split()
    assert mode == "700" and made.startswith(f"{place}/")
    assert len(os.fsencode(place)) <= 72 and not Path(place).exists()
    assert not Path(place).is_relative_to(repo.root), "git and pytest look upwards"


def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    entry = tmp_path / ("x" * 80)
    place = attempts.scratch_place(entry)
    place.symlink_to(tmp_path)
    try:
        with pytest.raises((Conflict, FileExistsError)):
            attempts.scratch(entry)
    finally:
        place.unlink()
