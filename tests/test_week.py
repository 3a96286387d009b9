"""A short simulated week, and that it would notice: `scripts/week` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest
import week
import weekend
from books import settled
from harness import drop

TASKS, PATIENCE, SEED = 12, 1, 1
HASTY = {"attempts": 1, "rounds": 2}
"""Who has one attempt waits out no backoff."""


@pytest.mark.timeout(240)
def test_every_task_of_a_short_week_ends_somewhere_and_no_loop_exceeds_its_cap(tmp_path: Path) -> None:
    plan = week.decide(SEED, TASKS)
    repo = week.prepare(tmp_path, plan, HASTY)
    run = week.live(repo, SEED, PATIENCE, print)
    report = weekend.examine(repo, plan, run)
    print("\n".join(report.lines))
    assert not report.wrong, "\n".join(report.wrong)
    assert settled(repo) == []


def test_the_same_seed_gives_the_same_week() -> None:
    one, same, other = week.decide(3, 50), week.decide(3, 50), week.decide(4, 50)
    assert one == same and one != other
    assert set(one.flows.values()) == set(week.FLOWS)


def test_what_is_wrong_at_the_end_is_noticed(tmp_path: Path) -> None:
    plan = week.decide(SEED, 1)
    repo = week.prepare(tmp_path, plan)
    drop(repo, "broken", "---\nflow: [\n---\n# Broken\n")
    (repo.layout.attempts / "t000/.new-half").mkdir(parents=True)
    report = weekend.examine(
        repo, plan, week.Run(1, 1.0, {}, "t000: Close failed; this is a bug in octopoid\nTraceback")
    )
    said = "\n".join(report.wrong)
    for word in ("t000 is in incoming", "broken: ", ".new-half is left over", "this is a bug in octopoid\nTraceback"):
        assert word in said
