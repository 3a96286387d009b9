"""`plan` as tables of snapshots: nothing here touches a disk or a clock (DESIGN §7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from octopoid import gates, order, policy
from octopoid.model import Breaker, Criterion, Entry, Item, Ledger, Opening, Outcome, Pauses, Problem, Task, Verdict
from octopoid.plans import (
    Base,
    Block,
    Close,
    Decision,
    End,
    Finish,
    GiveBack,
    Heal,
    Land,
    Live,
    NoteMove,
    Projection,
    Refuse,
    Release,
    Snapshot,
    Spent,
    Start,
    StartChecks,
    StartReview,
)
from octopoid.settings import Agent, Check, Config, Flow, Gate, Limits, Role, Stage
from octopoid.states import State

NOW = 10_000.0
CHECKS = (Check("tests", "pytest"),)
KEY = gates.checks_key(CHECKS)
ONTO = Projection("base", "tree", "result")


def config(*gate_names: str, land: str = "merge", **more: object) -> Config:
    agents = {
        "impl": Agent("impl", "implementer", "command", instances=2),
        "rev": Agent("rev", "gatekeeper", "command"),
    }
    groups = tuple((Gate(name),) for name in gate_names or ("checks",))
    flow = Flow("default", (Stage("implement", "implementer"),), groups, land)
    roles = {name: Role(name, "") for name in ("implementer", "gatekeeper")}
    return Config("main", agents, roles, {"default": flow}, checks=CHECKS)._replace(**more)


def item(name: str = "a", state: State = State.INCOMING, ledger: Ledger | None = None, **task: object) -> Item:
    made = Task(name, name.title())._replace(**task)
    ledger = ledger if ledger is not None else Ledger()
    return Item(name, state, Path(f"/q/{state.value}/{name}.md"), 1_000.0, made, None, ledger)


def judged(*verdicts: Verdict, **more: object) -> Item:
    ledger = Ledger(expected="provisional", candidate="c", verdicts=verdicts)._replace(**more)
    return item("a", State.PROVISIONAL, ledger)


def checked(yes: bool = True, tree: str = "tree") -> Verdict:
    return Verdict("checks", yes, "c", tree, KEY, 1.0, "scheduler", 2, "it broke")


def said(gate: str, yes: bool = True) -> Verdict:
    return Verdict(gate, yes, "c", "", "", 1.0, "somebody", 3, "because")


def snapshot(*items: Item, **more: object) -> Snapshot:
    ids = {one.id: one.state for one in items}
    made = Snapshot(items, ids, bases={"main": Base("main", "base")})
    return made._replace(**more)


def decide(one: Item, settings: Config | None = None, **more: object) -> Decision:
    return policy.plan(snapshot(one, **more), settings or config(), NOW).decisions[one.id]


def opened(kind: str = "attempt", started: bool = True, **more: object) -> Entry:
    marks = frozenset({"claimed"}) if kind == "attempt" else frozenset()
    return Entry(1, Opening(kind, 5.0, agent="impl", role="implementer")._replace(**more), started, moved=marks)


# --- the guards before a claim, each alone ---

WAITING = [
    ("paused", item(), {"pauses": Pauses(all=True)}),
    ("paused", item(), {"pauses": Pauses(tasks=frozenset({"a"}))}),
    ("paused", item(), {"pauses": Pauses(agents=frozenset({"impl"}))}),
    ("closed", item(), {"closed": "breakers.json cannot be read"}),
    ("not settled", item()._replace(mtime=NOW - 1), {}),
    ("invalid", item()._replace(problem=Problem(Path("a.md"), 2, 1, "unknown key")), {}),
    ("dependencies", item(depends_on=("b",)), {"ids": {"a": State.INCOMING, "b": State.PROVISIONAL}}),
    ("not before", item(not_before=NOW + 60), {}),
    ("backoff", item(ledger=Ledger(retry_at=NOW + 5, detail="it broke")), {}),
    ("no flow", item(flow="wizard"), {}),
    ("no agent", item(role="poet"), {}),
    ("breaker", item(), {"breakers": {"agent:impl": Breaker("agent:impl", "401", 1.0, NOW + 30, 1)}}),
    ("no base", item(), {"bases": {}}),
    ("no base", item(base="gone"), {}),
]


@pytest.mark.parametrize(("guard", "one", "more"), WAITING, ids=[f"{n}-{row[0]}" for n, row in enumerate(WAITING)])
def test_a_guard_holds_the_task_and_says_its_name(guard: str, one: Item, more: dict[str, object]) -> None:
    decision = decide(one, None, **more)
    assert decision.action is None
    assert decision.waits == guard
    assert decision.text


def test_nothing_holds_a_ready_task() -> None:
    action = decide(item()).action
    assert isinstance(action, Start)
    assert (action.agent.name, action.slot, action.base.sha) == ("impl", 0, "base")


@pytest.mark.parametrize("state", [State.DONE, State.ARCHIVED])
def test_done_and_archived_dependencies_are_met(state: State) -> None:
    assert isinstance(decide(item(depends_on=("b",)), ids={"a": State.INCOMING, "b": state}).action, Start)


def test_a_cancelled_dependency_blocks() -> None:
    action = decide(item(depends_on=("b",)), ids={"a": State.INCOMING, "b": State.CANCELLED}).action
    assert isinstance(action, Block) and action.reason == "dependency"


def test_a_breaker_lets_one_probe_through_after_its_time() -> None:
    breaker = {"agent:impl": Breaker("agent:impl", "401", 1.0, NOW - 1, 1)}
    plan = policy.plan(snapshot(item("a"), item("b"), breakers=breaker), config(), NOW)
    assert [type(one) for one in plan.actions] == [Start]


def test_pool_machine_and_provisional_limits() -> None:
    three = [item(name) for name in "abc"]
    starts = [one for one in policy.plan(snapshot(*three), config(), NOW).actions if isinstance(one, Start)]
    assert [one.task for one in starts] == ["a", "b"], "two instances"
    assert [one.slot for one in starts] == [0, 1]
    plan = policy.plan(snapshot(*three), config(max_agents=1), NOW)
    assert plan.decisions["b"].waits == "machine full"
    full = config(limits=Limits(max_provisional=1))
    plan = policy.plan(snapshot(judged(), item("b"), projections={"a": ONTO}), full, NOW)
    assert plan.decisions["b"].waits == "provisional full"


def test_money_spent_today_and_by_the_task() -> None:
    limits = config(limits=Limits(usd_per_day=5, usd_per_task=1))
    assert decide(item(), limits, spent={"tester": Spent(5.0)}).waits == "budget"
    action = decide(item(ledger=Ledger(usd=1.5)), limits).action
    assert isinstance(action, Block) and action.reason == "budget"


def test_order_is_priority_then_age_then_id() -> None:
    urgent = item("z", priority=0)
    old, young, same = item("m")._replace(mtime=5.0), item("b"), item("c")
    plan = policy.plan(snapshot(young, same, old, urgent), config(max_agents=9), NOW)
    assert list(plan.decisions) == ["z", "m", "b", "c"]


def test_five_deaths_in_a_row_ask_a_person() -> None:
    action = decide(item(ledger=Ledger(deaths=5, detail="runner died"))).action
    assert isinstance(action, Block) and action.reason == "failed" and "runner died" in action.detail


# --- healing and a person's mv ---


def test_an_unfinished_verb_is_finished_before_anything_else() -> None:
    outcome = Outcome("attempt", "ok", False, "", "", 1.0, verb="submit", leaves="claimed", enters="provisional")
    entry = opened()._replace(outcome=outcome)
    assert isinstance(decide(item("a", State.CLAIMED, Ledger(unmoved=entry))).action, Heal)


def test_a_file_found_on_its_way_is_brought_home() -> None:
    one = item()._replace(path=Path("/q/.moving/INCOMING+a.md"))
    assert isinstance(decide(one).action, Heal)


MOVED = [
    (State.INCOMING, Ledger(expected="blocked"), NoteMove),
    (State.BLOCKED, Ledger(expected="incoming"), NoteMove),
    (State.PROVISIONAL, Ledger(expected="blocked", candidate="c"), NoteMove),
    (State.PROVISIONAL, Ledger(expected="incoming"), GiveBack),
    (State.CLAIMED, Ledger(expected="incoming"), GiveBack),
    (State.CLAIMED, Ledger(), GiveBack),
    (State.PROVISIONAL, Ledger(), GiveBack),
]


@pytest.mark.parametrize(("state", "ledger", "kind"), MOVED)
def test_a_hand_move_is_noted_or_put_back(state: State, ledger: Ledger, kind: type) -> None:
    assert isinstance(decide(item("a", state, ledger)).action, kind)


def test_a_file_dropped_into_blocked_is_parked() -> None:
    decision = decide(item("a", State.BLOCKED))
    assert decision.waits == "person" and "parked" in decision.text


# --- open entries ---


def running(state: State, live: Live, **more: object) -> Decision:
    kind = "attempt" if state is State.CLAIMED else "gate"
    ledger = Ledger(expected=state.value, open=opened(str(more.pop("kind", kind))), candidate="c")
    return decide(item("a", state, ledger), live={"a": live}, **more)


def test_a_living_attempt_is_left_alone() -> None:
    assert running(State.CLAIMED, Live(True, True)).waits == "running"


def test_a_finished_attempt_is_closed_also_when_paused() -> None:
    assert isinstance(running(State.CLAIMED, Live(False, False), pauses=Pauses(all=True)).action, Close)


def test_a_lock_without_a_supervisor_is_ended_not_trusted() -> None:
    action = running(State.CLAIMED, Live(True, False)).action
    assert isinstance(action, End) and not action.gently


@pytest.mark.parametrize("state", [State.INCOMING, State.BLOCKED, State.PROVISIONAL])
def test_an_attempt_whose_task_was_moved_away_is_ended(state: State) -> None:
    ledger = Ledger(expected=state.value, open=opened(), candidate="c")
    assert isinstance(decide(item("a", state, ledger), live={"a": Live(True, True)}).action, End)
    again = decide(item("a", state, ledger), live={"a": Live(True, True, stopping=True)}).action
    assert isinstance(again, End), "asked until it has ended"
    assert isinstance(decide(item("a", state, ledger), live={"a": Live(False, False)}).action, Close)


def test_what_became_invalid_while_it_ran_stays() -> None:
    ledger = Ledger(expected="claimed", open=opened())
    one = item("a", State.CLAIMED, ledger)._replace(problem=Problem(Path("a.md"), 1, 1, "broken"))
    assert decide(one, live={"a": Live(False, False)}).waits == "invalid"


def test_strays_are_ended() -> None:
    plan = policy.plan(snapshot(strays=("gone",)), config(), NOW)
    assert isinstance(plan.actions[0], End)


# --- gates and landing ---


def test_the_checks_run_on_exactly_the_projected_tree() -> None:
    action = decide(judged(), projections={"a": ONTO}).action
    assert isinstance(action, StartChecks) and action.projection == ONTO and action.checks == CHECKS


def test_verified_work_lands() -> None:
    action = decide(judged(checked()), projections={"a": ONTO}).action
    assert isinstance(action, Land) and action.base == "main"


def test_a_yes_about_another_tree_does_not_land() -> None:
    decision = decide(judged(checked(tree="old tree")), projections={"a": ONTO})
    assert isinstance(decision.action, StartChecks)


def test_a_yes_under_other_commands_does_not_land() -> None:
    other = config(checks=(Check("tests", "pytest -x"),))
    assert isinstance(decide(judged(checked()), other, projections={"a": ONTO}).action, StartChecks)


def test_a_no_on_this_tree_refuses_with_the_output() -> None:
    action = decide(judged(checked(yes=False)), projections={"a": ONTO}).action
    assert isinstance(action, Refuse) and action.feedback == "it broke"


def test_a_no_on_a_guessed_tree_only_waits() -> None:
    decision = decide(judged(checked(yes=False)), projections={"a": ONTO._replace(ahead=True)})
    assert decision.action is None and decision.waits == "turn"


def test_a_conflict_goes_back_with_the_files() -> None:
    projection = Projection("base", "", "", conflicts=("x.py",), detail="both changed it")
    action = decide(judged(), projections={"a": projection}).action
    assert isinstance(action, Refuse) and action.gate == "merge" and "x.py" in action.feedback


GATES = ("checks", "gatekeeper", "human")


def test_gates_are_asked_in_order_and_stop_at_the_first_that_waits() -> None:
    settings = config(*GATES)
    asked = decide(judged(checked()), settings, projections={"a": ONTO}).action
    assert isinstance(asked, StartReview) and asked.gate == "gatekeeper"
    waiting = decide(judged(checked(), said("gatekeeper")), settings, projections={"a": ONTO})
    assert waiting.waits == "human" and waiting.command == "octopoid approve a"
    landing = decide(judged(checked(), said("gatekeeper"), said("human")), settings, projections={"a": ONTO})
    assert isinstance(landing.action, Land)


def test_no_verdict_is_never_a_yes() -> None:
    settings = config("gatekeeper")
    assert not isinstance(decide(judged(), settings, projections={"a": ONTO}).action, Land)


def test_a_verdict_about_another_candidate_does_not_count() -> None:
    stale = said("gatekeeper")._replace(candidate="older")
    assert isinstance(decide(judged(stale), config("gatekeeper"), projections={"a": ONTO}).action, StartReview)


def test_a_stale_tree_is_checked_again_after_a_slow_person() -> None:
    one = judged(checked(tree="old"), said("human"))
    assert isinstance(decide(one, config("checks", "human"), projections={"a": ONTO}).action, StartChecks)


def test_a_candidate_that_touches_the_policy_needs_a_person() -> None:
    assert decide(judged(checked(), policy=True), projections={"a": ONTO}).waits == "human"


def test_an_executable_criterion_is_checked_even_without_the_gate() -> None:
    one = judged()
    criterion = Criterion("works", "pytest -k it", False, 3)
    one = one._replace(task=Task("a", "A", criteria=(criterion,)))
    action = decide(one, config("human"), projections={"a": ONTO}).action
    assert isinstance(action, StartChecks) and [check.run for check in action.checks] == ["pytest -k it"]


def test_land_none_publishes_and_finishes() -> None:
    action = decide(judged(checked()), config("checks", land="none"), projections={"a": ONTO}).action
    assert isinstance(action, Finish) and action.publish == "c"


def test_nothing_to_land_is_finished() -> None:
    action = decide(judged(checked()), projections={"a": ONTO._replace(empty=True)}).action
    assert isinstance(action, Finish)


def test_a_busy_checkout_makes_the_landing_wait() -> None:
    bases = {"main": Base("main", "base", waits="rebase in progress")}
    assert decide(judged(checked()), projections={"a": ONTO}, bases=bases).waits == "checkout"


def test_verified_ahead_waits_for_its_turn() -> None:
    assert decide(judged(checked()), projections={"a": ONTO._replace(ahead=True)}).waits == "turn"


def test_two_runs_of_checks_at_once() -> None:
    items = [judged()._replace(id=name, path=Path(f"/q/provisional/{name}.md")) for name in "abc"]
    plan = policy.plan(snapshot(*items, projections=dict.fromkeys("abc", ONTO)), config(), NOW)
    assert len(plan.actions) == 2
    assert plan.decisions["c"].waits == "checks full"


# --- the train ---


def test_a_train_holds_who_only_the_checks_keep_back_in_order() -> None:
    one, two = judged(), judged()._replace(id="b", mtime=500.0)
    assert [i.id for i in order.train([one, two], config())["main"]] == ["b", "a"]
    assert order.train([one], config("checks", "human")) == {}


def test_on_a_busy_base_who_was_rechecked_three_times_goes_first() -> None:
    one, two = judged(rechecks=3), judged()._replace(id="b", mtime=500.0)
    assert [i.id for i in order.train([one, two], config())["main"]] == ["a", "b"]


def test_first_checks_run_early_where_a_person_comes_later() -> None:
    assert order.needs_first_checks(judged(), config("checks", "human"))
    assert not order.needs_first_checks(judged(), config("checks"))


# --- blocked ---


def test_answers_in_the_file_release() -> None:
    one = item("a", State.BLOCKED, Ledger(expected="blocked", reason="question"))
    assert isinstance(decide(one, answered=frozenset({"a"})).action, Release)
    assert decide(one).waits == "person"


def test_unreadable_evidence_stops_the_task() -> None:
    assert decide(item(ledger=Ledger(trouble="attempt.json cannot be read"))).waits == "evidence"
