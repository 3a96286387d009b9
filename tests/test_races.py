"""Many processes at one queue (races.py): small here, 16 processes and 1,000 tasks in `scripts/races`."""

from __future__ import annotations

import pytest
import races
from harness import Repo


def test_each_task_is_claimed_once(repo: Repo) -> None:
    assert races.claims(repo, 8, 100) == []


@pytest.mark.deep
@pytest.mark.timeout(300)
def test_verbs_editors_and_a_scheduler_at_once_lose_nothing(repo: Repo) -> None:
    assert races.moves(repo, 6, 24, 4.0) == []


def test_of_many_schedulers_one_works(repo: Repo) -> None:
    assert races.schedulers(repo, 6, 1) == []
