"""Standing work: the times of schedules, over every kind of clock; and each of their tasks made exactly once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from harness import PROJECT, Repo, drop, init, script
from hypothesis import given, settings
from hypothesis import strategies as st

from octopoid import clock, config, journal, standing, taskfile
from octopoid.layout import Layout
from octopoid.look import Look, Observer
from octopoid.settings import Config, Schedule
from octopoid.standingwork import FUTURE, RETRY, Standing
from octopoid.states import State

HOUR, DAY = 3600.0, 86400.0
NIGHTLY = Schedule("nightly", "0 3 * * *", title="Nightly")


@pytest.fixture
def zone() -> Iterator[Callable[[str], None]]:
    """Sets the zone of this process, and afterwards the one it had."""
    before = os.environ.get("TZ")

    def choose(name: str) -> None:
        os.environ["TZ"] = name
        time.tzset()

    choose("UTC")
    yield choose
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def utc(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]  # year, month, day, hour, minute


def local(at: float) -> str:
    return time.strftime("%d %H:%M %Z", time.localtime(at))


def lived(schedule: Schedule, start: float, end: float, step: float) -> list[float]:
    """The times that a scheduler acts on which looks every `step` seconds."""
    last, now, fired = start, start, []
    while now <= end:
        at = standing.due(schedule, last, now)
        if at is not None:
            fired.append(at)
            last = at
        now += step
    return fired


# --- times ---


def test_a_time_is_due_once_and_late_ones_are_one(zone: Callable[[str], None]) -> None:
    last = utc(2025, 6, 1, 12)
    assert standing.due(NIGHTLY, last, utc(2025, 6, 2, 2, 59)) is None
    assert standing.due(NIGHTLY, last, utc(2025, 6, 2, 3)) == utc(2025, 6, 2, 3)
    assert standing.due(NIGHTLY, last, utc(2025, 6, 2, 3) + 0.5) == utc(2025, 6, 2, 3)
    assert standing.due(NIGHTLY, last, utc(2025, 8, 9, 12)) == utc(2025, 8, 9, 3)
    assert standing.due(NIGHTLY, utc(2025, 6, 2, 3), utc(2025, 6, 3, 2)) is None
    assert standing.next_time(NIGHTLY, last, last) == utc(2025, 6, 2, 3)
    assert standing.next_time(NIGHTLY, utc(2025, 6, 2, 3), utc(2025, 6, 2, 3)) == utc(2025, 6, 3, 3)


def test_a_clock_that_was_set_back_fires_nothing_again(zone: Callable[[str], None]) -> None:
    last = utc(2025, 6, 2, 3)
    for back in (0.0, 1.0, HOUR, DAY, 365 * DAY):
        assert standing.due(NIGHTLY, last, last - back) is None
        assert standing.next_time(NIGHTLY, last, last - back) == utc(2025, 6, 3, 3)


def test_a_time_that_rarely_comes(zone: Callable[[str], None]) -> None:
    leap = Schedule("leap", "0 0 29 2 *", title="x")
    assert standing.next_time(leap, 0.0, utc(2025, 3, 1)) == utc(2028, 2, 29)
    assert standing.due(leap, utc(2024, 1, 1), utc(2025, 3, 1)) == utc(2024, 2, 29)


AUTUMN = {
    "30 1 * * *": ["02 01:30 EDT", "03 01:30 EST"],
    "30 2 * * *": ["02 02:30 EST", "03 02:30 EST"],
    "15 1,2 * * *": ["02 01:15 EDT", "02 02:15 EST", "03 01:15 EST", "03 02:15 EST"],
    "0 0 * * *": ["02 00:00 EDT", "03 00:00 EST"],
}
SPRING = {
    "30 1 * * *": ["09 01:30 EST", "10 01:30 EDT"],
    "30 2 * * *": ["09 03:00 EDT", "10 02:30 EDT"],
    "15,45 2 * * *": ["09 03:00 EDT", "10 02:15 EDT", "10 02:45 EDT"],
    "0 3 * * *": ["09 03:00 EDT", "10 03:00 EDT"],
}


@pytest.mark.parametrize("step", [60.0, 977.0])
@pytest.mark.parametrize("cron", AUTUMN)
def test_the_hour_that_comes_twice(zone: Callable[[str], None], cron: str, step: float) -> None:
    """New York, 2025-11-02: at 2 a.m. it is 1 a.m. again."""
    zone("America/New_York")
    start, end = utc(2025, 11, 1, 16), utc(2025, 11, 3, 16)
    assert [local(one) for one in lived(Schedule("x", cron), start, end, step)] == AUTUMN[cron]


@pytest.mark.parametrize("step", [60.0, 977.0])
@pytest.mark.parametrize("cron", SPRING)
def test_the_hour_that_does_not_come(zone: Callable[[str], None], cron: str, step: float) -> None:
    """New York, 2025-03-09: at 2 a.m. it is 3 a.m."""
    zone("America/New_York")
    start, end = utc(2025, 3, 8, 16), utc(2025, 3, 10, 16)
    assert [local(one) for one in lived(Schedule("x", cron), start, end, step)] == SPRING[cron]


def test_asked_in_the_second_of_two_equal_hours_only(zone: Callable[[str], None]) -> None:
    """The machine slept through the first 1:30; in the second hour that time is past, not yet to come."""
    zone("America/New_York")
    schedule = Schedule("x", "30 1 * * *")
    first, second = utc(2025, 11, 2, 5, 30), utc(2025, 11, 2, 6, 10)
    assert (local(first), local(second)) == ("02 01:30 EDT", "02 01:10 EST")
    assert standing.due(schedule, first - DAY, second) == first
    assert standing.due(schedule, first, second + HOUR) is None
    assert local(standing.next_time(schedule, first, second)) == "03 01:30 EST"


def test_every_half_hour_goes_on_in_real_time(zone: Callable[[str], None]) -> None:
    zone("America/New_York")
    start = utc(2025, 11, 2, 4)
    fired = lived(Schedule("x", "*/30 * * * *"), start, start + 6 * HOUR, 60)
    assert fired == [start + 1800 * one for one in range(1, 13)]
    assert len({standing.task_id("x", one) for one in fired}) == 10, "two of them have the name of an earlier one"


def test_half_an_hour_of_summer(zone: Callable[[str], None]) -> None:
    """Lord Howe Island moves its clocks by thirty minutes: 2025-04-06, at 2:00 it is 1:30."""
    zone("Australia/Lord_Howe")
    start, end = utc(2025, 4, 5, 2), utc(2025, 4, 7, 2)
    assert [local(one)[:8] for one in lived(Schedule("x", "45 1 * * *"), start, end, 60)] == ["06 01:45", "07 01:45"]


ZONES = ("UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata", "America/St_Johns")
CRONS = ("0 3 * * *", "30 1 * * *", "30 2 * * *", "*/20 * * * *", "0 */6 * * *", "5 0-4 * * MON", "0 0 1 * *")


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(ZONES),
    st.sampled_from(CRONS),
    st.integers(int(utc(2025, 1, 1)), int(utc(2026, 1, 1))),
    st.lists(st.integers(-7200, 200_000), min_size=1, max_size=12),
)
def test_whatever_the_clock_does(zone_name: str, cron: str, start: int, jumps: list[int]) -> None:
    """Times that are due only grow, never lie ahead, and the next one is always ahead: nothing twice, no loop."""
    before = os.environ.get("TZ", "")
    os.environ["TZ"] = zone_name
    time.tzset()
    try:
        schedule, last, now = Schedule("x", cron), float(start), float(start)
        for jump in jumps:
            now += jump
            at = standing.due(schedule, last, now)
            assert at is None or last < at <= now
            last = at or last
            assert standing.due(schedule, last, now) is None
            upcoming = standing.next_time(schedule, last, now)
            assert upcoming > max(last, now)
            assert standing.due(schedule, last, upcoming) == upcoming, "what was announced comes"
    finally:
        os.environ["TZ"] = before or "UTC"
        time.tzset()


def test_a_zone_can_be_printed() -> None:
    moment = datetime.fromtimestamp(0, standing.LOCAL)
    assert (f"{moment:%Z}", moment.dst()) == ("local", None)


def test_names_of_tasks(zone: Callable[[str], None]) -> None:
    at = utc(2026, 11, 21, 3)
    assert standing.task_id("nightly", at) == "nightly-20261121-0300"
    assert standing.day(at) == "2026-11-21"
    assert taskfile.valid_id(standing.task_id("x" * 64, at))
    assert standing.is_of("nightly", "nightly-20261121-0300")
    others = ("nightly", "nightly-x", "nightly-20261121-03000", "nightly-old-20261121-0300", "a-nightly-20261121-0300")
    assert not [one for one in others if standing.is_of("nightly", one)]
    schedules = {"nightly": NIGHTLY, "nightly-old": Schedule("nightly-old", "0 3 * * *")}
    found = standing.made_by(schedules, "nightly-old-20261121-0300")
    assert found and found.name == "nightly-old" and standing.made_by(schedules, "mine") is None


# --- making tasks ---


class Desk:
    """Standing work in a repository, and a clock that the test moves."""

    def __init__(self, repo: Repo, **schedules: dict[str, Any]) -> None:
        init(repo)
        self.layout = repo.layout
        self.said: list[str] = []
        self.policy(**schedules)
        self.restart()

    def policy(self, limits: dict[str, Any] | None = None, **schedules: dict[str, Any]) -> None:
        agents = {"all": {"role": "implementer", "roles": "all", "adapter": "scripted", "script": "x.json"}}
        said = {"base": "main", "agents": agents, "schedule": schedules, "limits": limits or {"proposals": 2}}
        self.layout.agents_yaml.write_text(json.dumps(said))
        self.config: Config = config.load(self.layout.home)

    def restart(self) -> None:
        self.work = Standing(self.layout, self.said.append)

    def look(self) -> Look:
        return Observer(self.layout).look()

    def tick(self, now: float) -> float:
        return self.work.tick(self.config, self.look(), now)

    def tasks(self, *states: State) -> list[str]:
        return sorted(one for one, state in self.look().ids.items() if not states or state in states)

    def text(self, task: str) -> str:
        return self.layout.task_file(State.INCOMING, task).read_text()


START = utc(2026, 11, 20, 12)
FIRST = utc(2026, 11, 21, 3)


def test_a_new_schedule_counts_from_when_it_is_seen(repo: Repo, zone: Callable[[str], None]) -> None:
    desk = Desk(repo, nightly={"cron": "0 3 * * *", "template": "update-dependencies"})
    assert desk.tick(START) == FIRST
    assert desk.tick(FIRST - 1) == FIRST and desk.tasks() == []
    assert desk.tick(FIRST + 1) == FIRST + DAY
    assert desk.tasks() == ["nightly-20261121-0300"]
    task = taskfile.parse(desk.text("nightly-20261121-0300").encode(), Path("x.md"))
    assert task.title == "Update dependencies (2026-11-21)" and task.labels == ("dependencies",)
    event = next(journal.read(desk.layout))
    assert (event.event, event.by) == ("enqueue", "schedule")
    assert desk.said == []


def test_title_role_and_flow(repo: Repo, zone: Callable[[str], None]) -> None:
    desk = Desk(
        repo,
        a={"cron": "0 3 * * *", "title": "Look: all well?", "role": "researcher", "flow": "review-only"},
        b={"cron": "0 4 * * *", "template": "chore", "role": "documenter", "flow": "quick"},
    )
    desk.tick(START)
    assert desk.tick(FIRST) == FIRST + HOUR
    desk.tick(FIRST + HOUR)
    a, b = (taskfile.parse(desk.text(one).encode(), Path("x.md")) for one in desk.tasks())
    assert (a.title, a.role, a.flow) == ("Look: all well? (2026-11-21)", "researcher", "review-only")
    assert (b.title, b.role, b.flow, b.priority) == ("Do a chore (2026-11-21)", "documenter", "quick", 3)


def test_it_remembers_over_restarts(repo: Repo, zone: Callable[[str], None]) -> None:
    """`run --once` from cron is a new scheduler each minute."""
    desk = Desk(repo, nightly={"cron": "0 3 * * *", "title": "N", "max_open": 9})
    for now in (START, FIRST, FIRST, FIRST + 60, FIRST + DAY - 60, FIRST + DAY):
        desk.restart()
        desk.tick(now)
    assert desk.tasks() == ["nightly-20261121-0300", "nightly-20261122-0300"]
    desk.restart()
    assert desk.tick(FIRST + 5 * DAY + HOUR) == FIRST + 6 * DAY
    assert desk.tasks()[2:] == ["nightly-20261126-0300"], "four nights were missed: one task"


def test_not_while_its_tasks_are_open(repo: Repo, zone: Callable[[str], None]) -> None:
    desk = Desk(repo, hourly={"cron": "0 * * * *", "title": "N"}, other={"cron": "0 0 * * *", "title": "O"})
    desk.tick(START)
    for hours in (1, 2, 2.5, 3):
        desk.tick(START + hours * HOUR)
    assert desk.tasks() == ["hourly-20261120-1300"]
    assert len(desk.said) == 1 and "hourly-20261120-1300 is still open" in desk.said[0]
    done = desk.layout.task_file(State.DONE, "hourly-20261120-1300")
    desk.layout.task_file(State.INCOMING, "hourly-20261120-1300").rename(done)
    desk.tick(START + 3.5 * HOUR)
    assert len(desk.tasks()) == 1, "the time that passed is dealt with"
    desk.tick(START + 4 * HOUR)
    assert desk.tasks(State.INCOMING) == ["hourly-20261120-1600"]


def test_proposers_wait_until_their_proposals_are_read(repo: Repo, zone: Callable[[str], None]) -> None:
    desk = Desk(
        repo,
        ideas={"cron": "0 3 * * *", "title": "Ideas", "role": "proposer", "max_open": 9},
        work={"cron": "0 3 * * *", "title": "Work", "max_open": 9},
    )
    for name in ("p1", "p2"):
        drop(repo, name, "---\nlabels: [proposal]\n---\n# P\n", state=State.BLOCKED)
    drop(repo, "started", "---\nlabels: [proposal]\n---\n# P\n")
    desk.tick(START)
    desk.tick(FIRST)
    assert desk.tasks(State.INCOMING) == ["started", "work-20261121-0300"]
    assert len(desk.said) == 1 and "ideas: 2 proposals wait" in desk.said[0]
    desk.layout.task_file(State.BLOCKED, "p1").rename(desk.layout.task_file(State.CANCELLED, "p1"))
    desk.tick(FIRST + DAY)
    assert "ideas-20261122-0300" in desk.tasks()


def test_a_template_may_name_the_proposer(repo: Repo, zone: Callable[[str], None]) -> None:
    desk = Desk(repo)
    desk.layout.templates.mkdir()
    (desk.layout.templates / "ideas.md").write_text("---\nrole: proposer\n---\n# Ideas\n")
    desk.policy({"proposals": 1}, ideas={"cron": "0 3 * * *", "template": "ideas"})
    drop(repo, "p1", "---\nlabels: [proposal]\n---\n# P\n", state=State.BLOCKED)
    desk.tick(START)
    desk.tick(FIRST)
    assert desk.tasks() == ["p1"] and "limits.proposals" in desk.said[0]


def test_a_taken_id_is_done_already(repo: Repo, zone: Callable[[str], None]) -> None:
    """Wherever the task is by now, in the archive too."""
    desk = Desk(repo, nightly={"cron": "0 3 * * *", "title": "N"})
    desk.tick(START)
    drop(repo, "nightly-20261121-0300", "# Mine\n", state=State.ARCHIVED)
    desk.tick(FIRST)
    assert desk.tasks() == ["nightly-20261121-0300"] and desk.said == []
    assert clock.iso(FIRST) in (desk.layout.schedule / "nightly").read_text()


def test_a_note_that_cannot_be_read_stops_its_schedule_alone(repo: Repo, zone: Callable[[str], None]) -> None:
    desk = Desk(repo, a={"cron": "0 3 * * *", "title": "A"}, b={"cron": "0 3 * * *", "title": "B"})
    desk.tick(START)
    (desk.layout.schedule / "a").write_text("yesterday\n")
    desk.restart()
    assert desk.tick(FIRST) == FIRST + RETRY
    desk.tick(FIRST + RETRY)
    assert desk.tasks() == ["b-20261121-0300"]
    assert len(desk.said) == 1 and str(desk.layout.schedule / "a") in desk.said[0] and "remove it" in desk.said[0]
    (desk.layout.schedule / "a").unlink()
    desk.tick(FIRST + 2 * RETRY)
    desk.tick(FIRST + DAY)
    assert "a-20261122-0300" in desk.tasks() and "a-20261121-0300" not in desk.tasks()


def test_a_template_that_went_away_is_made_up_for(repo: Repo, zone: Callable[[str], None]) -> None:
    desk = Desk(repo)
    desk.layout.templates.mkdir()
    template = desk.layout.templates / "own.md"
    template.write_text("# Own\n")
    desk.policy(a={"cron": "0 3 * * *", "template": "own"})
    desk.tick(START)
    template.unlink()
    assert desk.tick(FIRST) == FIRST + RETRY
    template.write_text("---\nprioritee: P1\n---\n# Own\n")
    desk.tick(FIRST + RETRY)
    assert desk.tasks() == []
    assert "there is no template `own`" in desk.said[0] and "unknown key `prioritee`" in desk.said[1]
    template.write_text("# Own\n")
    desk.tick(FIRST + 2 * RETRY)
    assert desk.tasks() == ["a-20261121-0300"] and len(desk.said) == 2


def test_a_changed_or_returned_schedule_begins_anew(repo: Repo, zone: Callable[[str], None]) -> None:
    daily = {"cron": "0 3 * * *", "title": "N"}
    desk = Desk(repo, nightly=daily)
    desk.tick(START)
    desk.policy(nightly={**daily, "cron": "0 2 * * *"})
    assert desk.tick(FIRST - 60) == FIRST - HOUR + DAY, "two o'clock was past when it was written"
    desk.policy()
    assert desk.tick(FIRST) == 0.0
    assert list(desk.layout.schedule.iterdir()) == []
    desk.policy(nightly=daily)
    assert desk.tick(FIRST + 9 * DAY) == FIRST + 10 * DAY
    assert desk.tasks() == []


def test_a_clock_set_back(repo: Repo, zone: Callable[[str], None]) -> None:
    desk = Desk(repo, hourly={"cron": "0 * * * *", "title": "N", "max_open": 99})
    desk.tick(START)
    desk.tick(START + 3 * HOUR)
    for hours in (0, 1, 2, 3):
        desk.tick(START + hours * HOUR)
    assert desk.tasks() == ["hourly-20261120-1500"]
    wrong = START + 400 * DAY
    assert wrong > START + FUTURE
    desk.tick(wrong)
    assert desk.tick(START + 4 * HOUR + 1) == START + 5 * HOUR, "it does not wait for a year"
    desk.tick(START + 5 * HOUR)
    assert "hourly-20261120-1700" in desk.tasks() and len(desk.said) == 1


# Written into the child: a scheduler's look at the schedules, killed at the n-th thing it does to the disk.
MORTAL = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from octopoid import config, durable, lean, standing, standingwork, look, layout
here, now, left = layout.Layout(Path(sys.argv[2])), float(sys.argv[3]), int(sys.argv[4])
policy, queue = config.load(here.home), look.Observer(here).look()
standing.due(next(iter(policy.schedule.values())), now - 1, now)
armed = False
def witness(event, args):
    global left
    touches = event in ("os.rename", "os.remove", "os.mkdir", "os.utime", "ctypes.dlsym", "ctypes.call_function")
    if armed and (touches or (event == "open" and str(args[0]).startswith(str(here.root)))):
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(witness)
armed = True
standingwork.Standing(here, print).tick(policy, queue, now)
"""


def test_killed_anywhere_a_task_is_made_once(repo: Repo, zone: Callable[[str], None]) -> None:
    desk = Desk(repo, nightly={"cron": "0 3 * * *", "title": "N", "max_open": 1})
    task = "nightly-20261121-0300"
    made_and_not_noted, deaths = 0, 0
    while True:
        desk.layout.task_file(State.INCOMING, task).unlink(missing_ok=True)
        desk.layout.schedule.mkdir(exist_ok=True)
        (desk.layout.schedule / "nightly").write_text(f"{clock.iso(START)} 0 3 * * *\n")
        argv = [sys.executable, "-c", MORTAL, PROJECT, repo.root, str(FIRST + 1), str(deaths + 1)]
        done = subprocess.run([str(one) for one in argv], env=repo.env, check=False, timeout=60)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        deaths += 1
        noted = clock.iso(FIRST) in (desk.layout.schedule / "nightly").read_text()
        made_and_not_noted += task in desk.tasks() and not noted
        assert task in desk.tasks() or not noted, "a task that is noted and not made is lost"
        desk.restart()
        desk.tick(FIRST + 2)
        desk.tick(FIRST + 3)
        assert desk.tasks() == [task]
        assert clock.iso(FIRST) in (desk.layout.schedule / "nightly").read_text()
        assert not desk.said
    assert deaths >= 6 and made_and_not_noted >= 1


def test_a_scheduler_does_it(repo: Repo) -> None:
    """Through the command line: a note from an hour ago, a schedule for each minute, one look."""
    script(repo, {"tasks": {}}, schedule={"minutely": {"cron": "* * * * *", "title": "Look around"}})
    repo.layout.schedule.mkdir(parents=True, exist_ok=True)
    (repo.layout.schedule / "minutely").write_text(f"{clock.iso(time.time() - HOUR)} * * * * *\n")
    repo.octopoid("pause")
    repo.octopoid("run", "--once")
    tasks = [one["id"] for one in repo.octopoid("list", "--json").json()["tasks"]]
    assert len(tasks) == 1 and standing.is_of("minutely", tasks[0])
    repo.octopoid("run", "--once")
    assert len(repo.octopoid("list", "--json").json()["tasks"]) == 1, "one is open"


def test_a_layout_says_where(tmp_path: Path) -> None:
    assert Layout(tmp_path).schedule == tmp_path / ".octopoid/run/schedule"
