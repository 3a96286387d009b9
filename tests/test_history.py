"""`octopoid status --at TIME`: how it stood then."""

from __future__ import annotations

import time
from datetime import datetime

import pytest
from harness import Repo, drop, eventually, init, script, state_of

from octopoid import attempts, clock, history, journal
from octopoid.errors import UsageError
from octopoid.fold import fold
from octopoid.states import State

WRITE = [{"write": {"path": "${OCTOPOID_TASK_ID}.txt", "text": "work\n"}}]


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


NOW = datetime.fromisoformat("2026-11-21T15:30:00+05:30").timestamp()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-11-21T10:00", "2026-11-21T10:00:00+05:30"),
        ("2026-11-21 10:00:05", "2026-11-21T10:00:05+05:30"),
        ("2026-11-21T09:00Z", "2026-11-21T09:00:00+00:00"),
        ("2026-11-21T09:00+01:00", "2026-11-21T08:00:00+00:00"),
        ("2026-11-20", "2026-11-20T00:00:00+05:30"),
        ("10:00", "2026-11-21T10:00:00+05:30"),
        ("16:00", "2026-11-20T16:00:00+05:30"),
        ("-2h", "2026-11-21T13:30:00+05:30"),
        ("90m", "2026-11-21T14:00:00+05:30"),
        ("-1w", "2026-11-14T15:30:00+05:30"),
        ("yesterday 18:00", "2026-11-20T18:00:00+05:30"),
        ("today 9:05", "2026-11-21T09:05:00+05:30"),
        ("Yesterday", "2026-11-20T00:00:00+05:30"),
        ("now", "2026-11-21T15:30:00+05:30"),
    ],
)
@pytest.mark.usefixtures("utc")
def test_a_time_as_people_write_it(text: str, meant: str) -> None:
    assert history.moment(text, NOW) == datetime.fromisoformat(meant).timestamp()


@pytest.mark.parametrize(
    "text", ["", "soon", "25:00", "yesterday 7", "2026-13-01", "-2y", "2026-11-22", "9:61", "today 17:00"]
)
@pytest.mark.usefixtures("utc")
def test_no_time_or_one_to_come(text: str) -> None:
    with pytest.raises(UsageError):
        history.moment(text, NOW)


def test_the_queue_as_it_stood_at_each_step(repo: Repo) -> None:
    flag = repo.root.parent / "go"
    steps = {"slow": [[{"wait_for": str(flag)}, *WRITE]], "default": [WRITE]}
    script(repo, {"tasks": {name: {"implementer": one} for name, one in steps.items()}}, gates=["checks", "human"])
    before = time.time()
    drop(repo, "slow", "# Slow\n")
    drop(repo, "quick", "# Quick\n")
    with repo.background("run"):
        eventually(lambda: (repo.layout.entry("slow", 1) / "pid").exists(), 30)
        eventually(lambda: fold(attempts.read(repo.layout, "quick")).verdicts, 30, "the checks of the other one")
        middle = eventually(_settled)
        flag.touch()
        eventually(lambda: state_of(repo, "slow") is State.PROVISIONAL, 30)
    repo.octopoid("approve", "quick")
    repo.octopoid("run", "--until-empty", ok=(6,))
    repo.octopoid("cancel", "slow")

    then = repo.octopoid("status", "--at", clock.iso(middle), "--json").json()
    assert then["kind"] == "status" and then["scheduler"] is None and then["invalid"] is None
    assert then["counts"] == {"incoming": 0, "claimed": 1, "provisional": 1, "blocked": 0, "done": 0, "invalid": None}
    assert [(one["task"], one["agent"]) for one in then["running"]] == [("slow", "implementer")]
    assert [(one["id"], one["state"], one["title"]) for one in then["waiting"]] == [("quick", "provisional", None)]
    assert set(then) - {"at", "begins"} == set(repo.octopoid("status", "--json").json()), "the same shape"

    end = repo.octopoid("status", "--at", "now", "--json").json()
    assert end["counts"]["done"] == 1 and [one["task"] for one in end["landed"]] == ["quick"]
    assert not end["running"] and not end["waiting"]

    far = repo.octopoid("status", "--at", clock.iso(before - 3600), "--json").json()
    assert far["running"] is None and far["counts"]["incoming"] is None and far["begins"]
    assert "the journal begins at" in repo.octopoid("status", "--at", "-9h").out
    shown = repo.octopoid("status", "--at", clock.iso(middle)).out
    assert "slow" in shown and "implementer" in shown and "claimed 1" in shown


def _settled() -> float:
    """A moment after which something else happens, in another millisecond."""
    now = time.time()
    eventually(lambda: time.time() > now + 0.02)
    return now + 0.01


def test_what_needed_a_person_then(repo: Repo) -> None:
    ask = [{"result": {"outcome": "question", "questions": ["Which colour?"]}}]
    script(repo, {"tasks": {"default": {"implementer": [ask, WRITE]}}})
    drop(repo, "work", "# Work\n")
    repo.octopoid("run", "--until-empty", ok=(6,))
    then = _settled()
    repo.octopoid("answer", "work", "-m", "blue")
    repo.octopoid("run", "--until-empty")
    told = repo.octopoid("status", "--at", clock.iso(then), "--json").json()
    assert [(one["task"], one["reason"]) for one in told["needs_you"]] == [("work", "question")]
    assert "question" in repo.octopoid("status", "--at", clock.iso(then)).out


def test_no_journal_and_wrong_options(repo: Repo) -> None:
    init(repo)
    assert "there is no journal" in repo.octopoid("status", "--at", "-2h").out
    assert repo.octopoid("status", "--at", "-2h", "--json").json()["begins"] is None
    assert "not a time" in repo.octopoid("status", "--at", "soon", ok=(2,)).err
    repo.octopoid("status", "--at", "-2h", "--watch", ok=(2,))
    assert list(journal.read(repo.layout)) == []
