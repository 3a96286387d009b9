"""A soak of some seconds, and that it would notice: `scripts/soak` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest
import soak
import soakend
from harness import Repo, drop, git, script
from soakworld import Sample

from octopoid.states import State

SECONDS, TURNS, TASKS, SEED = 4, 45, 6, 1
HASTY = {"attempts": 1, "rounds": 1}
"""Who has one attempt waits out no backoff."""


@pytest.mark.deep
@pytest.mark.timeout(240)
def test_the_books_of_a_short_soak_balance_and_what_is_wrong_is_noticed(tmp_path: Path) -> None:
    repo, plan = soak.make(tmp_path, SEED, TASKS, HASTY)
    one = soak.Soak(repo, plan, SEED, SECONDS, None)
    one.turns, one.pause, one.deeds["kill"] = TURNS, 0.05, 40
    one.live(print)
    told = one.run_out(1, print)
    wrong = soakend.examine(one, told)
    print("\n".join(soakend.table(one, wrong)))
    assert not wrong, "\n".join(wrong)
    assert one.books.known and one.books.kills and soakend.commits(one)

    _spoil(one)
    said = "\n".join(soakend.look(one, told + "\nt001: Land failed; this is a bug in octopoid\n"))
    for word in (
        "is gone, and nobody took it away",
        "landed more than once",
        "never saw the tree",
        "half-way is in incoming",
    ):
        assert word in said
    for word in ("says that it landed", "what was saved with vim is nowhere", "a bug in octopoid", "stray.tmp is left"):
        assert word in said


def _spoil(one: soak.Soak) -> None:
    """One wrong of each kind, in a queue that was right."""
    landing = soakend.commits(one)[-1]
    trailers = f"again\n\nOctopoid-Task: {landing.task}\nOctopoid-Attempt: {landing.attempt}"
    (one.repo.root / "README.md").write_text("# Nobody checked this\n")
    git(one.repo, "commit", "-q", "-a", "-m", trailers)
    one.books.known["never-seen"] = "enqueue"
    drop(one.repo, "half-way", "# Half way\n", state=State.INCOMING)
    one.books.edits.append(("half-way", "vim", "<!-- edit 0 -->"))
    (one.place / "tmp/stray.tmp").touch()


def test_a_queue_folder_that_is_missing_for_a_moment_costs_no_evidence(repo: Repo) -> None:
    script(repo, {"tasks": {"default": {"default": [[{"touch": "done.txt"}, {"commit": "Do it"}]]}}})
    drop(repo, "one", "# One\n")
    repo.octopoid("run", "--until-empty")
    done, away = repo.layout.folder(State.DONE), repo.root.parent / "away"
    done.rename(away)
    told = repo.octopoid("run", "--once").err  # its first look compares names
    away.rename(done)
    assert "set aside" not in told
    assert repo.octopoid("show", "one", "--json").json()["task"]["landed_commit"] == git(repo, "rev-parse", "main")


def test_memory_that_grows_is_noticed() -> None:
    flat = [Sample(at, 1, 50_000 + at % 3, 20, 30) for at in range(0, 900, 2)]
    leak = [one._replace(rss=one.rss + round(one.at * 20)) for one in flat]
    assert abs(soakend.slope(flat)) < 1 < soakend.GROWTH < soakend.slope(leak)
