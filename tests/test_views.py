"""Views: from a look to plain values, as tables of items. No disk, no clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from octopoid import clock, config, details, needs, runview, schemas, views
from octopoid.look import Look
from octopoid.model import Entry, Item, Ledger, Opening, Outcome, Pauses, Problem, Task, Verdict
from octopoid.states import State

NOW = 1_800_000_000.0
OLD = NOW - 1000


def item(task: str = "one", state: State = State.INCOMING, ledger: Ledger = Ledger(), **fields: object) -> Item:
    path = Path(f"/r/.octopoid/queue/{state.value}/{task}.md")
    return Item(task, state, path, OLD, Task(task, f"Title of {task}", **fields), None, ledger)  # type: ignore[arg-type]  # fields of many types


def look(*items: Item, problems: tuple[Problem, ...] = (), **others: State) -> Look:
    return Look(items, problems, {**{one.id: one.state for one in items}, **others})


def opened(kind: str = "attempt", waits: str = "", **opening: object) -> Ledger:
    entry = Entry(1, Opening(kind, OLD, **opening), started=True, waits=waits)  # type: ignore[arg-type]  # fields of many types
    return Ledger(open=entry, last=entry, tries={"implementer": 2})


def ended(at: float, **fields: object) -> Ledger:
    outcome = Outcome("block", "", False, "", "", at)
    return Ledger(last=Entry(1, Opening("block", at), outcome=outcome), **fields)  # type: ignore[arg-type]  # fields of many types


INCOMING = (
    ({}, Ledger(), Pauses(), (True, "", "")),
    ({}, Ledger(), Pauses(all=True), (True, "paused", "everything is paused")),
    ({}, Ledger(), Pauses(tasks=frozenset({"one"})), (True, "paused", "this task is paused")),
    ({"depends_on": ("two",)}, Ledger(), Pauses(), (False, "dependencies", "waiting on two")),
    ({"depends_on": ("three",)}, Ledger(), Pauses(), (True, "", "")),
    ({"not_before": NOW + 60}, Ledger(), Pauses(), (False, "not before", f"not before {clock.local(NOW + 60)}")),
    ({"not_before": NOW - 60}, Ledger(), Pauses(), (True, "", "")),
    (
        {},
        Ledger(retry_at=NOW + 10, detail="tests failed"),
        Pauses(),
        (False, "backoff", f"waits until {clock.local(NOW + 10)} after: tests failed"),
    ),
    ({}, Ledger(trouble="cannot be read"), Pauses(), (False, "evidence", "cannot be read")),
)


@pytest.mark.parametrize(("fields", "ledger", "pauses", "expected"), INCOMING)
def test_why_a_task_waits(
    fields: dict[str, object], ledger: Ledger, pauses: Pauses, expected: tuple[bool, str, str]
) -> None:
    one = item(ledger=ledger, **fields)
    view = views.task(one, look(one, two=State.CLAIMED, three=State.DONE), NOW, pauses)
    assert (view.ready, view.reason, view.detail) == expected


def test_a_file_that_is_still_written() -> None:
    one = item()._replace(mtime=NOW - 1)
    view = views.task(one, look(one), NOW)
    assert view.ready and view.reason == "not settled"


AT_WORK = (
    (State.CLAIMED, opened(agent="codex", attempt=2), views.Waits(), ("running", "codex is at work (attempt 2)")),
    (State.PROVISIONAL, opened("gate", gate="checks"), views.Waits(), ("running", "checks are at work")),
    (
        State.CLAIMED,
        opened(agent="codex", attempt=2),
        views.Waits(over=frozenset({"one"})),
        ("running", "codex (attempt 2): ended; the scheduler takes in what it did"),
    ),
    (
        State.PROVISIONAL,
        opened("landing", "your checkout is dirty"),
        views.Waits(),
        ("landing", "your checkout is dirty"),
    ),
    (State.PROVISIONAL, Ledger(), views.Waits(human=frozenset({"one"})), ("human", "waits for your yes or no")),
    (State.PROVISIONAL, Ledger(), views.Waits(held={"one": "a rebase"}), ("landing", "a rebase")),
    (State.PROVISIONAL, Ledger(), views.Waits(), ("gates", "waits for its gates, or for its turn to land")),
    (State.BLOCKED, Ledger(reason="question", detail="which one?"), views.Waits(), ("question", "which one?")),
    (State.BLOCKED, Ledger(), views.Waits(), ("parked", "put into blocked by hand")),
    (State.DONE, Ledger(landed="f" * 40), views.Waits(), ("", "")),
)


@pytest.mark.parametrize(("state", "ledger", "waits", "expected"), AT_WORK)
def test_what_keeps_a_task(state: State, ledger: Ledger, waits: views.Waits, expected: tuple[str, str]) -> None:
    one = item(state=state, ledger=ledger)
    view = views.task(one, look(one), NOW, waits=waits)
    assert (view.reason, view.detail, view.ready) == (*expected, False)


def test_the_fields_of_a_task_are_those_of_the_design() -> None:
    names = "id title state path role flow stage priority labels depends_on waiting_on ready reason detail attempts"
    more = "rounds created updated base candidate landed_commit usd project parent children artifacts"
    assert " ".join(views.TaskView._fields) == f"{names} {more}"


def test_what_a_task_says_and_what_is_known_of_it() -> None:
    last = Entry(3, Opening("attempt", OLD + 5, base="main"), outcome=Outcome("attempt", "ok", False, "", "", OLD + 9))
    ledger = Ledger(last=last, tries={"implementer": 1, "writer": 3}, rounds=2, candidate="c" * 40, usd=0.25)
    one = item(ledger=ledger, role="writer", priority=0, labels=("ui",))
    view = views.task(one, look(one), NOW)
    assert (view.role, view.attempts, view.rounds, view.priority, view.labels) == ("writer", 3, 2, "P0", ("ui",))
    assert (view.created, view.updated) == (clock.iso(OLD), clock.iso(OLD + 9))
    assert (view.base, view.candidate, view.landed_commit, view.usd) == ("main", "c" * 40, None, 0.25)


def test_an_invalid_file_is_a_task_too() -> None:
    problem = Problem(Path("/r/.octopoid/queue/incoming/one.md"), 2, 3, "unknown key", "did you mean")
    one = item()._replace(task=None, problem=problem)
    view = views.task(one, look(one), NOW)
    assert (view.title, view.ready, view.reason, view.detail) == (
        "one",
        False,
        "invalid",
        "line 2, column 3: unknown key",
    )
    assert (view.role, view.priority, view.flow) == (None, None, None)


def test_incoming_counts_the_invalid_files_in_it() -> None:
    broken = item("broken")._replace(task=None, problem=Problem(Path("x"), 1, 1, "no"))
    copy = Path("/r/.octopoid/queue/incoming/old.md")
    stray = Path("/r/.octopoid/queue/incoming/notes.txt")
    problems = (Problem(broken.path, 1, 1, "no"), Problem(copy, 0, 0, "duplicate"), Problem(stray, 0, 0, "not a task"))
    found = views.counts(look(item(), broken, problems=problems, old=State.DONE, older=State.ARCHIVED))
    assert found == {"incoming": 4, "claimed": 0, "provisional": 0, "done": 1, "blocked": 0, "invalid": 3}


def test_needs_are_the_oldest_first_and_name_the_command() -> None:
    asked = item("asked", State.BLOCKED, ended(NOW - 50, reason="question", detail="which?"))
    failed = item("failed", State.BLOCKED, ended(NOW - 90, reason="failed", detail="no changes"))
    human = item("human", State.PROVISIONAL, ended(NOW - 70))
    held = item("held", State.PROVISIONAL, ended(NOW - 60))
    waits = views.Waits(frozenset({"human"}), {"held": "a rebase is in progress"})
    found = needs.needs(look(asked, failed, human, held, item()), waits, ())
    assert [(one.task, one.reason, one.command) for one in found] == [
        ("failed", "failed", "octopoid retry failed"),
        ("human", "human", "octopoid approve human"),
        ("held", "landing", "git status"),
        ("asked", "question", "octopoid answer asked -m TEXT"),
    ]


def test_a_broken_file_needs_a_person() -> None:
    broken = item("broken")._replace(task=None, problem=Problem(Path("x"), 1, 1, "no"))
    copy = Problem(Path("/r/.octopoid/queue/incoming/old.md"), 0, 0, "duplicate", "mv -n old.md old-2.md")
    found = needs.needs(look(broken, problems=(Problem(broken.path, 4, 1, "no"), copy)), views.Waits(), ())
    assert {(one.task, one.command) for one in found} == {
        ("broken", "octopoid edit broken"),
        (None, "mv -n old.md old-2.md"),
    }


def test_who_waits_for_a_scheduler() -> None:
    parked = item("parked", State.BLOCKED)
    human = item("human", State.PROVISIONAL)
    waits = views.Waits(human=frozenset({"human"}))
    assert needs.waits_for_scheduler(look(item(), item("two", State.CLAIMED), parked, human), waits) == 2
    behind = item("behind", depends_on=("human",))
    found = look(human, behind)
    assert needs.waits_for_scheduler(found, waits) == 0, "only a person's yes helps the first, and so the second"
    assert needs.waits_for_scheduler(found._replace(ids={"behind": State.INCOMING, "human": State.CANCELLED}), waits)


def test_the_branch_is_where_a_task_lands() -> None:
    began = Ledger(last=opened(base="was").open)
    own = item(ledger=began, base="own")

    def base(one: Item, policy: str = "now") -> str | None:
        return views.task(one, look(one), NOW, base=policy).base

    assert (base(own), base(item(ledger=began)), base(item())) == ("own", "now", "now")
    assert base(item(state=State.DONE, ledger=began)) == "was", "it has landed there, whatever the policy says now"
    assert (base(item(ledger=began), ""), base(item(), "")) == ("was", None)


def test_running_is_what_holds_its_lock() -> None:
    one = item(state=State.CLAIMED, ledger=opened(agent="codex", role="implementer", attempt=2))
    entry = one.ledger.open
    assert entry is not None
    view = runview.running(one, entry, runview.Signs(True, 4711, NOW - 3), NOW)
    assert view is not None
    assert (view.agent, view.pid, view.elapsed_s, view.silent_s, view.usd) == ("codex", 4711, 1000.0, 3.0, None)
    assert runview.running(one, entry, runview.Signs(False, 4711, NOW - 3), NOW) is None


def test_plain_is_what_json_knows() -> None:
    verdict = Verdict("checks", False, "c" * 40, "t" * 40, "k", OLD, "checks", 2, "1 failed")
    shown = views.plain((details.verdict(verdict),))
    assert shown[0]["verdict"] == "reject" and shown[0]["at"] == clock.iso(OLD)
    entry = Entry(2, Opening("gate", OLD, gate="checks"), outcome=Outcome("gate", "task", False, "rejected", "no", NOW))
    assert views.plain(details.entry(entry, Path("/e")))["class"] == "task"


def test_the_built_in_stage_is_that_of_the_policy() -> None:
    assert (config.IMPLEMENT.role, config.IMPLEMENT.name) == (views.ROLE, views.STAGE)


def test_every_state_has_a_name_that_json_shows() -> None:
    assert set(views.STATE_NAMES) == set(State) and len(set(views.STATE_NAMES.values())) == len(State)


def test_every_schema_can_be_made() -> None:
    for kind in schemas.MEANINGS:
        assert schemas.of(kind)["type"] == "object", kind
