"""Breakers: one per credential, opened once for one piece of news, tried by one attempt, closed by what works."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from harness import Repo, drop, eventually, init, state_of, write_config
from test_policy import NOW, config, item, judged, opened, snapshot

from octopoid import clock, credentials, needs, policy, steer, views
from octopoid.adapters import Reading
from octopoid.adapters.base import for_want_of_room
from octopoid.layout import Layout
from octopoid.model import Breaker, Item, Ledger, Usage
from octopoid.plans import Live, Start, StartReview
from octopoid.settings import Agent
from octopoid.states import State

KEY = "ANTHROPIC_API_KEY"
SHARING = {
    "impl": Agent("impl", "implementer", "claude", instances=2, credential=KEY),
    "other": Agent("other", "implementer", "anthropic", instances=2, credential=KEY),
    "rev": Agent("rev", "gatekeeper", "codex", credential="codex"),
}
WORKS = '#!/bin/sh\necho done > "$OCTOPOID_TASK_ID.txt"\ngit add .\ngit commit -qm "Add it"\n'


def trip(until: float, since: float = NOW - 100, **more: Any) -> dict[str, Breaker]:
    return {KEY: Breaker(KEY, "not logged in: 401", since, until, 1, "look at it", ("impl", "other"))._replace(**more)}


def actions(*items: Item, **more: Any) -> list[str]:
    plan = policy.plan(snapshot(*items, **more), config(agents=SHARING), NOW)
    return [one.agent.name for one in plan.actions if isinstance(one, Start | StartReview)]


# --- the plan ---


def test_who_shares_a_credential_waits_with_it_and_nobody_else() -> None:
    plan = policy.plan(snapshot(item("a"), breakers=trip(NOW + 30)), config(agents=SHARING), NOW)
    decision = plan.decisions["a"]
    assert (decision.waits, decision.until) == ("breaker", NOW + 30)
    assert decision.text == f"not logged in: 401; look at it; tried again at {clock.local(NOW + 30)}"
    assert decision.command == "octopoid resume --agent impl"
    review = judged(verdicts=())._replace(id="b")
    assert policy.plan(snapshot(review, breakers=trip(NOW + 30)), config("gatekeeper", agents=SHARING), NOW).actions, (
        "the reviewer pays with something else"
    )


def test_an_agent_with_another_credential_takes_the_work() -> None:
    free = {**SHARING, "third": Agent("third", "implementer", "codex", credential="codex")}
    plan = policy.plan(snapshot(item("a"), breakers=trip(NOW + 30)), config(agents=free), NOW)
    assert [one.agent.name for one in plan.actions if isinstance(one, Start)] == ["third"]


def test_one_attempt_of_all_that_share_it_tries() -> None:
    assert actions(item("a"), item("b"), item("c"), breakers=trip(NOW - 1)) == ["impl"]


@pytest.mark.parametrize(("began", "starts"), [(NOW - 50, []), (NOW - 500, ["impl"])])
def test_who_was_at_work_before_it_opened_is_no_try(began: float, starts: list[str]) -> None:
    entry = opened(agent="other")
    entry = entry._replace(opening=entry.opening._replace(at=began))
    busy = item("b", State.CLAIMED, Ledger(expected="claimed", open=entry))
    assert actions(busy, item("a"), breakers=trip(NOW - 1), live={"b": Live(True, True)}) == starts


def test_its_own_breaker_holds_one_agent_alone() -> None:
    own = {"agent:impl": Breaker("agent:impl", "missing", NOW - 9, NOW + 30, 1)}
    assert actions(item("a"), breakers=own) == ["other"]


# --- opening and closing ---


def news(since: float, **more: Any) -> Breaker:
    return Breaker(KEY, "rate limit: 429", since, 0.0, 0, agents=("impl",), marks=("m1",))._replace(**more)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    place = Layout(tmp_path)
    place.run.mkdir(parents=True)
    return place


def test_four_agents_with_one_wrong_key_are_one_trip(layout: Layout) -> None:
    for at in range(4):
        found = steer.trip(layout, news(100.0 + at), began=90.0)
    assert (found.trips, found.until) == (1, 130.0)
    assert steer.breakers(layout) == {KEY: found}


def test_a_try_that_fails_waits_twice_as_long(layout: Layout) -> None:
    waits = []
    since = 100.0
    for _ in range(7):
        found = steer.trip(layout, news(since), began=since - 1)
        waits.append(found.until - since)
        since = found.until + 5
    assert waits == [30, 60, 120, 240, 480, 900, 900]


@pytest.mark.parametrize(("told", "waits"), [(5.0, 5.0), (3600.0, 3600.0)])
def test_what_the_server_asks_for_is_waited(layout: Layout, told: float, waits: float) -> None:
    assert steer.trip(layout, news(100.0), began=99.0, retry_after=told).until == 100.0 + waits


def test_a_server_that_asks_for_too_little_again_and_again_is_not_believed(layout: Layout) -> None:
    steer.trip(layout, news(100.0), began=99.0, retry_after=1.0)
    assert steer.trip(layout, news(200.0), began=199.0, retry_after=1.0).until == 230.0


def test_something_new_starts_the_count_anew(layout: Layout) -> None:
    steer.trip(layout, news(100.0), began=99.0)
    found = steer.trip(layout, news(200.0, marks=("m2",)), began=199.0)
    assert (found.trips, found.until) == (1, 230.0)


@pytest.mark.parametrize(("began", "left"), [(99.0, [KEY]), (101.0, [])])
def test_what_began_afterwards_and_works_closes_it(layout: Layout, began: float, left: list[str]) -> None:
    steer.trip(layout, news(100.0), began=99.0)
    steer.works(layout, (KEY, "agent:impl"), began)
    assert list(steer.breakers(layout)) == left


# --- the mark ---


def test_the_mark_changes_with_what_a_person_mends(tmp_path: Path) -> None:
    agent = Agent("impl", "implementer", "claude", env=(KEY,), credential=KEY)
    env = {"PATH": str(tmp_path), "HOME": str(tmp_path), KEY: "wrong"}
    seen = {credentials.mark(agent, env)}
    assert credentials.mark(agent, {**env, "ELSE": "x"}) in seen
    seen.add(credentials.mark(agent, {**env, KEY: "right"}))
    seen.add(credentials.mark(agent._replace(model="opus"), env))
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude/.credentials.json").write_text("{}")
    seen.add(credentials.mark(agent, env))
    program = tmp_path / "claude"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    seen.add(credentials.mark(agent, env))
    assert len(seen) == 5
    assert not any("right" in one or "wrong" in one for one in seen)


# --- the disk ---


@pytest.mark.parametrize(
    ("free", "said", "full"),
    [
        (5 << 20, b"", True),
        (500 << 20, b"OSError: [Errno 28] No space left on device", True),
        (500 << 20, b"assert 1 == 2", False),
        (500 << 30, b"No space left on device, says a test", False),
    ],
)
def test_no_room_is_nobodys_fault(free: int, said: bytes, full: bool) -> None:
    failed = Reading("task", "exit status 1", "it broke", usage=Usage(1, 2, 3.0))
    found = for_want_of_room(failed, said, free)
    assert (found.class_, found.reason, found.breaker) == (
        ("environment", "disk full", "disk") if full else ("task", "exit status 1", "")
    )
    assert found.usage == failed.usage and ("octopoid clean" in found.fix) == full
    assert for_want_of_room(Reading("ok"), said, free) == Reading("ok")


def test_no_agent_starts_on_a_full_disk() -> None:
    full = {"disk": Breaker("disk", "disk full: 5 MiB", NOW - 9, NOW + 30, 1)}
    assert actions(item("a"), breakers=full) == []


# --- what a person sees ---


def test_what_passes_by_itself_needs_nobody_until_it_takes_long() -> None:
    login = views.breaker(trip(NOW + 30)[KEY])
    limit = views.breaker(news(NOW, passing=True, trips=1))
    assert [one.reason for one in needs.of_breakers([login, limit], NOW)] == ["breaker"]
    assert needs.of_breakers([login], NOW)[0].detail == "agent impl, other cannot start: not logged in: 401; look at it"
    assert needs.of_breakers([limit._replace(trips=needs.LONG)], NOW)
    (over,) = needs.of_breakers([login], NOW + 60)
    assert "could not start, and is tried at the next look: not logged in" in over.detail


def test_a_program_that_comes_back_is_tried_at_once(repo: Repo) -> None:
    """Status names the agent, why, and what to do; nothing is charged; nobody has to say that it is mended."""
    init(repo)
    home = Path(repo.env["HOME"])
    program = home / "bin/own.sh"
    write_config(
        repo,
        f"version: 1\nbase: main\ngates: []\nagents: {{implementer: {{adapter: command, command: [{program}]}}}}\n",
    )
    drop(repo, "one", "# One\n")
    drop(repo, "two", "# Two\n")
    with repo.background("run", "--interval", "1"):
        eventually(lambda: repo.layout.breakers.exists())
        status = eventually(lambda: (found := repo.octopoid("status", "--json").json())["needs_you"] and found)
        (need,) = status["needs_you"]
        assert (need["task"], need["reason"]) == (None, "breaker")
        assert need["detail"].startswith("agent implementer cannot start: missing: ")
        assert "mend `command:` of agent implementer" in need["detail"]
        assert need["command"] == "octopoid resume --breaker agent:implementer"
        assert [one["reason"] for one in status["waiting"]] == ["breaker", "breaker"]
        assert not any(one["ready"] for one in status["waiting"])
        shown = repo.octopoid("show", "one", "--json").json()
        assert not any(one.get("charged") for one in shown["entries"])
        program.parent.mkdir(exist_ok=True)
        program.write_text(WORKS)
        program.chmod(0o755)
        began = time.monotonic()
        eventually(lambda: state_of(repo, "one") is State.DONE and state_of(repo, "two") is State.DONE, timeout=25)
        assert time.monotonic() - began < 20, "it did not wait for the breaker's time"
    assert steer.breakers(repo.layout) == {}
