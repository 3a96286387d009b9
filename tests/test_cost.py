"""What attempts cost: prices, what a log tells, budgets that stop before starting, `octopoid cost`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from harness import Repo, drop, eventually, script, state_of, write_config
from modelserver import text, tool
from test_claude_loop import User, user  # noqa: F401 - the fixture
from test_claude_real import claude  # noqa: F401 - the fixture that installs it
from test_cli_read import check_schema

from octopoid import budgets, costs, jsontext, metering, prices, schemas
from octopoid.budgets import Budget
from octopoid.evidence import Exit, StepExit
from octopoid.fold import Spending, fold, spending
from octopoid.model import Entry, Ledger, Opening, Outcome, Result, Usage
from octopoid.plans import Spent
from octopoid.prices import Price, Tokens
from octopoid.settings import Agent, Config, Limits
from octopoid.states import State

WRITE = [{"write": {"path": "${OCTOPOID_TASK_ID}.txt", "text": "work\n"}}]
OWN = {"llama": Price(1, 2, 1, 0.5, day=prices.OWN)}


def paid(usd: float | None = None, outcome: str = "done", **usage: Any) -> list[dict[str, Any]]:
    """An attempt that says what it cost."""
    used = {**usage, **({} if usd is None else {"usd": usd})}
    return [*WRITE, {"result": {"outcome": outcome, "feedback": "no" if outcome == "reject" else "", "usage": used}}]


def every(*attempts: list[Any], gatekeeper: list[Any] | None = None) -> dict[str, Any]:
    roles = {"implementer": list(attempts), **({"gatekeeper": [gatekeeper]} if gatekeeper else {})}
    return {"tasks": {"default": roles}}


def run(repo: Repo, status: int = 0) -> str:
    return repo.octopoid("run", "--until-empty", ok=(status,)).err


def cost(repo: Repo, *args: str) -> dict[str, Any]:
    """What `octopoid cost --json` says; it is held against its schema."""
    found: dict[str, Any] = repo.octopoid("cost", *args, "--json").json()
    check_schema(schemas.of("cost"), found)
    return found


def shown(repo: Repo, task: str) -> dict[str, Any]:
    found: dict[str, Any] = repo.octopoid("show", task, "--json").json()
    return found


def reviewed(repo: Repo, tasks: dict[str, Any], **policy: Any) -> None:
    """A policy with a gatekeeper beside the implementer."""
    agent = {"adapter": "scripted", "script": ".octopoid/scripted.json"}
    script(repo, tasks, gates=["checks", "gatekeeper"], agents={"implementer": agent, "gatekeeper": agent}, **policy)


# --- prices ---


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("claude-sonnet-4-5-20250929", True),
        ("claude-sonnet-4-5[1m]", True),
        ("anthropic/claude-sonnet-4-5-20250929[1m]", True),
        ("openai/gpt-5-nano-2025-08-07", True),
        ("openrouter/anthropic/claude-sonnet-4-5", False),
        ("gpt-5.6-terrace", False),
        ("", False),
    ],
)
def test_a_model_is_known_by_its_name_with_what_stands_around_it(name: str, known: bool) -> None:
    assert bool(prices.known(name)) is known


def test_the_table_has_its_days_and_the_users_own_prices_come_first() -> None:
    assert all(time.strptime(one.day, "%Y-%m-%d") for one in prices.PRICES.values())
    assert {one.day for one in prices.PRICES.values()} == {prices.AS_OF, prices.OPENAI_AS_OF}
    used = Usage(1_000_000, 1_000_000, None, 200_000)
    assert prices.estimate(used, "llama", OWN) == used._replace(usd=2.9, priced="agents.yaml")
    mine = {"gpt-5-nano": OWN["llama"], "sonnet": OWN["llama"]}
    assert prices.estimate(used, "gpt-5-nano-2025-08-07", mine).usd == 2.9
    assert prices.estimate(used, "sonnet", mine).usd == 2.9


def test_an_estimate_is_rather_too_high_and_never_a_guess() -> None:
    used = Usage(1_000_000, 100_000, None, 400_000)
    # what did not come from the cache was written to it: 600k at 2.50, 400k at 0.20, 100k at 12
    assert prices.estimate(used, "gpt-5.6-terra").usd == pytest.approx(1.5 + 0.08 + 1.2)
    long = prices.estimate(used, "gpt-5.6-terra", one=True)
    assert long.usd == pytest.approx(3.0 + 0.16 + 1.8), "one answer of that length costs more"
    assert long.priced == prices.OPENAI_AS_OF
    for unknown in (used._replace(usd=0.0), Usage(5), Usage(None, 5), Usage()):
        assert prices.estimate(unknown, "gpt-5.6-terra") == unknown
    assert prices.estimate(used, "llama") == used and prices.estimate(used, "") == used
    assert prices.cost("claude-opus-5", Tokens(1_000_000)) == 5


# --- entries ---


def test_entries_round_trip_the_old_ones_too() -> None:
    usage = Usage(10, 2, 0.5, 4, "2026-11-21")
    outcome = Outcome("attempt", "ok", False, "", "", 0.0, usage=usage, model="m", turns=7)
    assert jsontext.load_outcome(jsontext.dump(outcome)) == outcome
    old = b'{"kind":"attempt","class":"ok","charged":false,"reason":"","detail":"","ended":"1970-01-01T00:00:00Z",'
    read = jsontext.load_outcome(old + b'"usage":{"input_tokens":10,"usd":1}}')
    assert (read.usage, read.model, read.turns) == (Usage(10, None, 1.0), "", None)
    for wrong in (b'"usage":{"tokens":1}}', b'"usage":{"cached_tokens":"4"}}', b'"turns":"7"}'):
        with pytest.raises(ValueError, match=r"usage|turns"):
            jsontext.load_outcome(old + wrong)


def entry(number: int, usage: Usage = Usage(), class_: str = "ok", **more: Any) -> Entry:
    opening = Opening("attempt", number * 100.0, role="implementer", adapter="claude")
    outcome = Outcome("attempt", class_, False, "", "", number * 100.0 + 50, usage=usage)
    opening = opening._replace(**{key: value for key, value in more.items() if key in Opening._fields})
    outcome = outcome._replace(**{key: value for key, value in more.items() if key in ("model",)})
    return Entry(number, opening, bool(more.get("started", True)), True, outcome)


def test_what_is_unknown_is_counted_by_program_and_trouble_of_the_environment_is_not() -> None:
    entries = [
        entry(1, Usage(usd=0.5)),
        entry(2),
        entry(3, class_="environment"),
        entry(4, Usage(10, 5), class_="environment"),
        entry(5, adapter="command"),
        entry(6, started=False),
        entry(7, Usage(usd=1.0), role="gatekeeper"),
        entry(8, role=""),
    ]
    assert spending(entries, 0.0) == {
        "implementer": Spending(0.5, {"claude": 2, "command": 1}),
        "gatekeeper": Spending(1.0, {}),
    }
    assert spending(entries, 700.0) == {"gatekeeper": Spending(1.0, {})}
    ledger = fold(entries)
    assert (ledger.usd, ledger.unpriced, ledger.usd_before) == (1.5, {"claude": 2, "command": 1}, 0.0)


def test_a_persons_word_gives_a_new_budget_and_forgets_no_cost() -> None:
    retry = Entry(3, Opening("release", 300.0, by="ada", to="incoming"))
    ledger = fold([entry(1, Usage(usd=2.0)), entry(2), retry, entry(4, Usage(usd=0.25))])
    assert (ledger.usd, ledger.usd_before, ledger.unpriced) == (2.25, 2.0, {})
    budget = budgets.of_task(ledger, Limits(usd_per_task=1))
    assert budget is not None and (budget.spent, budget.left, budget.over) == (Spent(0.25), 0.75, False)


# --- budgets ---


def test_a_budget_says_what_was_assumed() -> None:
    spent = Spent(9.4, 3, 3.0)
    day = Budget("usd_per_day", 50, spent, " today")
    assert day.text == (
        "$12.40 of $50.00 are spent today (usd_per_day), of it $3.00 for 3 attempts of unknown cost "
        "(limits.usd_unknown)"
    )
    nothing = Budget("usd_per_role.tester", 0.001, Spent(0.0004, 1), " today by tester")
    assert nothing.text == (
        "$0.0004 of $0.0010 are spent today by tester (usd_per_role), 1 attempt of unknown cost not counted "
        "(limits.usd_unknown)"
    )
    assert Budget("usd_per_task", 1, Spent(1.5)).text == "$1.50 of $1.00 are spent (usd_per_task)"


def test_only_programs_that_are_billed_count_the_unknown() -> None:
    unknown = Spending(1.0, {"claude": 2, "command": 5, "scripted": 1, "of another version": 1})
    assert budgets.counted(unknown, Limits(usd_unknown=0.5)) == Spent(1.0, 3, 1.5)
    assert budgets.counted(unknown, Limits(usd_unknown=0)) == Spent(1.0, 3, 0.0)


def test_a_role_draws_on_the_day_and_on_its_own_budget() -> None:
    limits = Limits(usd_per_day=10, usd_per_role={"tester": 2, "planner": 0, "gatekeeper": 3})
    spent = budgets.by_role([{"tester": Spending(1.0)}, {"tester": Spending(1.5), "planner": Spending(4.0)}], limits)
    found = budgets.before("tester", limits, spent)
    assert [(one.limit, one.spent.total, one.over) for one in found] == [
        ("usd_per_day", 6.5, False),
        ("usd_per_role.tester", 2.5, True),
    ]
    assert [one.limit for one in budgets.before("planner", limits, spent)] == ["usd_per_day"]
    assert len(budgets.of_day(limits, spent)) == 3
    assert not budgets.limited(Limits(usd_per_task=1, usd_per_role={"tester": 0}))


@pytest.mark.parametrize(
    ("adapter", "given", "left", "handed"),
    [
        ("claude", 0.0, (5.0, 3.0), 3.0),
        ("claude", 1.0, (5.0, 3.0), 1.0),
        ("claude", 4.0, (0.002,), 0.01),
        ("claude", 4.0, (), 4.0),
        ("codex", 0.0, (5.0,), 0.0),
        ("anthropic", 0.0, (5.0,), 5.0),
    ],
)
def test_the_least_that_is_left_is_handed_to_a_program_that_keeps_it(
    adapter: str, given: float, left: tuple[float, ...], handed: float
) -> None:
    found = [Budget("usd_per_day", 10, Spent(10 - one)) for one in left]
    agent = budgets.equipped(Agent("a", "implementer", adapter, max_usd=given), "", found, {})
    assert agent.max_usd == pytest.approx(handed)


def test_a_model_without_a_price_is_given_no_limit_that_it_could_not_keep() -> None:
    agent, found = Agent("a", "implementer", "anthropic"), [Budget("usd_per_day", 10, Spent())]
    assert budgets.equipped(agent, "llama", found, {}).max_usd == 0
    assert budgets.equipped(agent, "llama", found, OWN).max_usd == 10


# --- what a log tells ---


def said(**event: Any) -> str:
    return json.dumps(event)


def answered(id_: str, read: int, written: int, model: str = "claude-opus-5", **more: Any) -> str:
    usage = {"input_tokens": read, "output_tokens": written, "cache_read_input_tokens": 100_000}
    return said(type="assistant", message={"id": id_, "model": model, "usage": usage, "content": []}, **more)


CONFIG = Config("main", {"impl": Agent("impl", "implementer", "claude", model="opus")}, {}, {}, prices=OWN)
BEGUN = Opening("attempt", 0.0, role="implementer", agent="impl", adapter="claude", model="opus")


def logged(folder: Path, *lines: str) -> Path:
    folder.joinpath("output.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_the_answers_of_a_run_that_was_killed_are_added_up(tmp_path: Path) -> None:
    folder = logged(
        tmp_path,
        "its worktree is ready",
        said(type="system", subtype="init", model="claude-opus-5", session_id="s"),
        answered("m1", 100_000, 10),
        answered("m1", 100_000, 20),  # the same answer, one block later
        answered("m2", 300_000, 40),
        answered("m3", 100_000, 0, "claude-haiku-4-5-20251001", parent_tool_use_id="t"),
        '{"type":"assistant","message":{"id":"m4","usa',  # cut off with its runner
    )
    used = metering.used(folder, BEGUN, None, None, Result(), CONFIG)
    assert (used.model, used.turns) == ("claude-opus-5", 2), "what a helper of its own does is no turn"
    assert used.usage._replace(usd=None) == Usage(800_000, None, None, 300_000, prices.AS_OF)
    told = (400_000 * 6.25 + 200_000 * 0.5 + 100_000 * 1.25 + 100_000 * 0.1) / 1e6
    assert used.usage.usd and 0 < used.usage.usd - told < 0.02, "and something for what it wrote, which is not told"


def test_one_answer_without_a_price_makes_the_sum_unknown(tmp_path: Path) -> None:
    folder = logged(tmp_path, answered("m1", 1, 1), answered("m2", 1, 1, "claude-unheard-of-9"))
    used = metering.used(folder, BEGUN, None, None, Result(), CONFIG)
    assert used.usage == Usage(200_002, None, None, 200_000)


def test_what_nobody_told_is_unknown_and_what_never_began_is_nothing(tmp_path: Path) -> None:
    assert metering.used(tmp_path, BEGUN, None, None, Result(), CONFIG) == (Usage(), "opus", None)
    assert metering.used(tmp_path, BEGUN._replace(role=""), None, None, Result(), CONFIG) == (Usage(), "", None)
    setup = Exit(1.0, False, (StepExit("setup", 1, None, "exit", 0, 10),))
    assert metering.used(tmp_path, BEGUN, setup, None, Result(), CONFIG).usage == Usage(0, 0, 0.0)
    folder = logged(tmp_path, answered("m1", 1, 1))
    assert metering.heard(folder / "output.log", 0, metering.MAX_LOG + 1, BEGUN, CONFIG).usage == Usage()
    assert (
        metering.heard(folder / "output.log", 0, 10, BEGUN._replace(adapter="of another version"), CONFIG).usage
        == Usage()
    )


def test_the_agents_own_word_counts_first(tmp_path: Path) -> None:
    folder = logged(tmp_path, answered("m1", 1, 1))
    word = Result(usage=Usage(usd=7.0))
    assert metering.used(folder, BEGUN, None, None, word, CONFIG).usage == Usage(100_001, None, 7.0, 100_000)
    word = Result(usage=Usage(5, 6))
    assert metering.used(folder, BEGUN, None, None, word, CONFIG).usage.input_tokens == 5


# --- the table ---


def test_rows_add_up_what_is_known() -> None:
    entries = [
        entry(1, Usage(10, 1, 0.5, 4), model="m"),
        entry(2, Usage(20, 2, 0.25, None, "2026-11-21"), model="m"),
        entry(3),
        entry(4, class_="environment"),
    ]
    paid = [costs.Paid("t", one, one.outcome) for one in entries if one.outcome]
    rows, total = costs.rows(paid, "model")
    assert rows == (costs.Row("m", 2, 30, 4, 3, 0.75, 0, 1), costs.Row(None, 2, None, None, None, None, 1, 0))
    assert total == costs.Row("total", 4, 30, 4, 3, 0.75, 1, 1)
    assert [row.key for row in costs.rows(paid, "day")[0]] == ["1970-01-01"]
    assert costs.rows(paid, "role", since=300.0)[1].attempts == 2


# --- over a real run ---


def test_cost_by_everything(repo: Repo) -> None:
    """Reviews, failures, and tasks that are archived, cancelled or gone: their money is spent."""
    better = {"write": {"path": "${OCTOPOID_TASK_ID}.ok", "text": "yes\n"}}
    work = [paid(0.5, input_tokens=1000, output_tokens=10), [better, *paid(input_tokens=1_000_000, output_tokens=0)]]
    agent = {"adapter": "scripted", "script": ".octopoid/scripted.json"}
    agents = {"implementer": {**agent, "model": "llama"}, "gatekeeper": agent}
    script(
        repo,
        every(*work, gatekeeper=[{"result": {"outcome": "accept"}}]),
        gates=["checks", "gatekeeper"],
        checks=[{"name": "tests", "run": "ls *.ok"}],
        agents=agents,
        prices={"llama": {"input": 2, "output": 2}},
    )
    drop(repo, "kept", "# Kept\n")
    drop(repo, "gone", "# Gone\n")
    run(repo)
    repo.layout.task_file(State.DONE, "gone").unlink()
    repo.octopoid("clean")
    run(repo)
    found = cost(repo)
    assert found["by"] == "role" and found["since"] is None and found["budgets"] == []
    worker = {"key": "implementer", "attempts": 4, "input_tokens": 2_002_000, "cached_tokens": None}
    assert found["rows"][0] == worker | {"output_tokens": 20, "usd": 5.0, "unknown": 0, "priced": 2}
    reviewer = {"key": "gatekeeper", "attempts": 2, "input_tokens": None, "cached_tokens": None}
    assert found["rows"][1] == reviewer | {"output_tokens": None, "usd": None, "unknown": 2, "priced": 0}
    assert found["total"] == worker | {"key": "total", "attempts": 6} | {
        "output_tokens": 20,
        "usd": 5.0,
        "unknown": 2,
        "priced": 2,
    }
    keys = {way: {row["key"] for row in cost(repo, "--by", way)["rows"]} for way in costs.WAYS}
    assert keys["task"] == {"kept", "gone"} and keys["agent"] == {"implementer", "gatekeeper"}
    assert keys["model"] == {"llama", None} and keys["adapter"] == {"scripted"} and len(keys["day"]) == 1
    assert cost(repo, "--since", "1")["total"]["attempts"] == 6
    lines = repo.octopoid("cost").out.splitlines()
    assert " ".join(lines[0].split()) == "implementer attempts 4 in 2,002,000 cached - out 20 cost ~$5.00 unknown -"
    assert " ".join(lines[1].split()) == "gatekeeper attempts 2 in - cached - out - cost - unknown 2"
    assert lines[2].startswith("total ")
    entries = [one for one in shown(repo, "kept")["entries"] if one["role"] == "implementer"]
    assert [(one["usd"], one["priced"], one["model"]) for one in entries] == [
        (0.5, None, "llama"),
        (2.0, "agents.yaml", "llama"),
    ]
    assert "~$2.00" in repo.octopoid("show", "kept").out and "cost          ~$2.50" in repo.octopoid("show", "kept").out


def test_nothing_was_spent(repo: Repo) -> None:
    script(repo, every(WRITE))
    answer = repo.octopoid("cost")
    assert (answer.out, answer.err.splitlines()[0]) == ("", "nothing was spent yet")
    assert cost(repo)["total"] == dict.fromkeys(costs.Row._fields) | {
        "key": "total",
        "attempts": 0,
        "unknown": 0,
        "priced": 0,
    }
    assert repo.octopoid("cost", "--by", "colour", ok=(2,)).out == ""


def test_the_days_budget_stops_the_next_claim_and_the_next_review(repo: Repo) -> None:
    reviewed(repo, every(paid(3.0), gatekeeper=[{"accept": "Fine."}]), limits={"usd_per_day": 2})
    drop(repo, "first", "---\npriority: P0\n---\n# First\n")
    with repo.background("run"):
        eventually(lambda: state_of(repo, "first") is State.PROVISIONAL, 20)
        drop(repo, "second", "# Second\n")
        why = "$3.00 of $2.00 are spent today (usd_per_day)"
        eventually(lambda: why in repo.octopoid("why", "first").out, 10)
    run(repo, 6)
    assert (state_of(repo, "first"), state_of(repo, "second")) == (State.PROVISIONAL, State.INCOMING)
    for task in ("first", "second"):
        assert why in repo.octopoid("why", task).out
    assert [one["kind"] for one in shown(repo, "first")["entries"] if one["role"]] == ["attempt"]
    (budget,) = cost(repo)["budgets"]
    assert budget == {"limit": "usd_per_day", "of": 2.0, "spent": 3.0, "assumed": 0.0, "left": 0.0}
    assert f"budget: {why}; $0.00 left" in repo.octopoid("cost").out
    reviewed(repo, every(paid(3.0), gatekeeper=[{"accept": "Fine."}]), limits={"usd_per_day": 20})
    run(repo)
    assert state_of(repo, "first") is State.DONE


def test_a_roles_budget_stops_that_role_alone(repo: Repo) -> None:
    limits = {"usd_per_role": {"gatekeeper": 1}}
    reviewed(repo, every(paid(5.0), gatekeeper=paid(1.5, "accept")), limits=limits)
    for task in ("first", "second"):
        drop(repo, task, f"# {task}\n")
    run(repo, 6)
    states = [state_of(repo, "first"), state_of(repo, "second")]
    assert sorted(state.value for state in states if state) == ["done", "provisional"], "one review, and no other"
    waits = next(task for task in ("first", "second") if state_of(repo, task) is State.PROVISIONAL)
    said = "$1.50 of $1.00 are spent today by gatekeeper (usd_per_role)"
    assert said in repo.octopoid("why", waits).out and said in repo.octopoid("cost").out


def test_a_tasks_own_budget_blocks_it_and_a_persons_word_gives_another(repo: Repo) -> None:
    better = [{"write": {"path": "better", "text": "yes\n"}}, *paid(0.5)]
    checks = [{"name": "tests", "run": "test -e better"}]
    script(repo, every(paid(3.0), better), limits={"usd_per_task": 2}, checks=checks)
    drop(repo, "dear", "# Dear\n")
    run(repo, 6)
    task = shown(repo, "dear")["task"]
    assert (task["reason"], task["detail"]) == ("budget", "$3.00 of $2.00 are spent (usd_per_task)")
    assert repo.octopoid("wait", "dear", ok=(7,)).out == "dear  budget: $3.00 of $2.00 are spent (usd_per_task)\n"
    needs = repo.octopoid("status", "--json").json()["needs_you"]
    assert [(one["reason"], one["command"]) for one in needs] == [("budget", "octopoid retry dear")]
    repo.octopoid("retry", "dear")
    run(repo)
    assert (state_of(repo, "dear"), shown(repo, "dear")["task"]["usd"]) == (State.DONE, 3.5)


def test_a_tasks_own_budget_stops_its_review(repo: Repo) -> None:
    reviewed(repo, every(paid(3.0), gatekeeper=[{"accept": "Fine."}]), limits={"usd_per_task": 2})
    drop(repo, "dear", "# Dear\n")
    run(repo, 6)
    task = shown(repo, "dear")["task"]
    assert (task["state"], task["reason"]) == ("blocked", "budget") and task["candidate"]


@pytest.mark.messy_books("it takes evidence away")
def test_evidence_that_cannot_be_read_stops(repo: Repo) -> None:
    script(repo, every(paid(0.1)), limits={"usd_per_role": {"implementer": 5}})
    drop(repo, "first", "# First\n")
    run(repo)
    (repo.layout.entry("first", 1) / "outcome.json").write_text("{", encoding="utf-8")
    drop(repo, "second", "# Second\n")
    run(repo, 6)
    assert state_of(repo, "second") is State.INCOMING
    assert "outcome.json: evidence cannot be read" in repo.octopoid("why", "second").out
    answer = repo.octopoid("cost")
    assert "not counted: " in answer.err and "today's budgets cannot be told, so nothing starts" in answer.err
    assert "budget:" not in answer.out


# --- programs that are billed: a Claude that is a shell script ---


def billed(repo: Repo, shell: str, **policy: Any) -> None:
    """Agents of the adapter `claude`, whose program is this script."""
    program = repo.root.parent / "fake-claude"
    program.write_text(f"#!/bin/sh\ncat > /dev/null\n{shell}\n", encoding="utf-8")
    program.chmod(0o755)
    agent = {"role": "implementer", "adapter": "claude", "command": [str(program)], **policy.pop("agent", {})}
    settings = {"base": "main", "checks": ["true"], "gates": ["checks"], "agents": {"coder": agent}, **policy}
    write_config(repo, json.dumps(settings))


DONE = 'echo work > "$OCTOPOID_TASK_ID.txt"; echo \'{"type":"result","subtype":"success","result":"Done."}\''


def test_what_nobody_knows_counts_towards_the_day(repo: Repo) -> None:
    billed(repo, DONE, limits={"usd_per_day": 5, "usd_unknown": 2.5})
    for task in ("a", "b"):
        drop(repo, task, f"# {task}\n")
    run(repo)
    drop(repo, "c", "# C\n")
    run(repo, 6)
    said = (
        "$5.00 of $5.00 are spent today (usd_per_day), of it $5.00 for 2 attempts of unknown cost (limits.usd_unknown)"
    )
    assert said in repo.octopoid("why", "c").out and said in repo.octopoid("cost").out
    assert shown(repo, "a")["task"]["usd"] is None, "what is assumed is not known"
    assert cost(repo)["rows"][0]["unknown"] == 2 and cost(repo)["rows"][0]["usd"] is None
    billed(repo, DONE, limits={"usd_per_day": 5, "usd_unknown": 0})
    run(repo)
    assert "$0.00 of $5.00 are spent today (usd_per_day), 3 attempts of unknown cost" in repo.octopoid("cost").out


def test_what_an_attempt_used_that_was_ended_is_in_its_log(repo: Repo) -> None:
    started = said(type="system", subtype="init", model="claude-opus-5", session_id="s")
    line = answered("m1", 1_000_000, 0)
    billed(repo, f"echo '{started}'; echo '{line}'; exec sleep 60", agent={"timeout": 1}, limits={"attempts": 1})
    drop(repo, "late", "# Late\n")
    run(repo, 6)
    (attempt,) = [one for one in shown(repo, "late")["entries"] if one["kind"] == "attempt"]
    assert "time limit" in attempt["detail"]
    assert (attempt["usd"], attempt["model"], attempt["turns"]) == (pytest.approx(6.3, 1e-3), "claude-opus-5", 1)
    assert attempt["priced"] == prices.AS_OF and "~$6.30" in repo.octopoid("cost", "--by", "model").out


def test_money_of_a_task_that_was_cancelled_while_it_ran_counts(repo: Repo) -> None:
    line = answered("m1", 1_000_000, 0)
    billed(repo, f"echo '{line}'; exec sleep 60", limits={"usd_per_day": 6})
    drop(repo, "wrong", "# Wrong\n")
    with repo.background("run"):
        log = repo.layout.entry("wrong", 1) / "output.log"
        eventually(lambda: log.exists() and "m1" in log.read_text(), 20)
        repo.octopoid("cancel", "wrong")
        eventually(lambda: cost(repo)["total"]["usd"], 20, "what it used is not counted")
        drop(repo, "next", "# Next\n")
        eventually(lambda: "$6.30 of $6.00 are spent today" in repo.octopoid("why", "next").out, 10)
    assert state_of(repo, "next") is State.INCOMING
    assert cost(repo)["budgets"][0]["spent"] == pytest.approx(6.3, 1e-3)


def test_what_is_left_is_handed_to_the_program(repo: Repo) -> None:
    result = said(type="result", subtype="success", result="x", total_cost_usd=2.25)
    work = f"echo \"$*\" > $OCTOPOID_ARTIFACTS/../argv; echo x >> $OCTOPOID_TASK_ID.txt; echo '{result}'"
    billed(repo, work, limits={"usd_per_day": 5, "usd_per_task": 4}, agent={"max_usd": 3})
    for task in ("a", "b"):
        drop(repo, task, f"# {task}\n")
        run(repo)
    handed = [(repo.layout.entry(task, 1) / "argv").read_text() for task in ("a", "b")]
    assert "--max-budget-usd 3.0000" in handed[0] and "--max-budget-usd 2.7500" in handed[1]


def test_an_attempt_that_was_ended_by_its_budget_says_so(repo: Repo) -> None:
    result = said(
        type="result",
        subtype="error_max_budget_usd",
        is_error=True,
        errors=["Reached maximum budget ($1)"],
        total_cost_usd=1.25,
        modelUsage={"claude-opus-5": {"costUSD": 1.2}, "claude-haiku-4-5": {"costUSD": 0.05}},
    )
    billed(repo, f"echo '{result}'; exit 1", agent={"max_usd": 1}, limits={"attempts": 1})
    drop(repo, "dear", "# Dear\n")
    run(repo, 6)
    (attempt,) = shown(repo, "dear")["entries"]
    assert (attempt["usd"], attempt["model"], attempt["priced"]) == (1.25, "claude-opus-5", None)
    task = shown(repo, "dear")["task"]
    assert (task["state"], task["reason"]) == ("blocked", "budget") and "Reached maximum budget ($1)" in task["detail"]


def test_ledgers_without_a_limit_have_no_budget() -> None:
    assert budgets.of_task(Ledger(usd=5.0), Limits()) is None


def test_claude_code_ends_itself_when_what_is_left_is_spent(user: User) -> None:  # noqa: F811 - the fixture
    """The real one: `limits.usd_per_task` reaches it as `--max-budget-usd`, without a `max_usd` of the agent."""
    user.edit(("gates: [checks]", "gates: [checks]\nlimits: {usd_per_task: 0.5, attempts: 1}"))
    user.server.scripts["dear"] = [
        tool("Bash", usage=(10_000, 5), command="echo 1 > a.txt", description="scripted"),
        tool("Bash", usage=(400_000, 5), command="echo 2 > a.txt", description="scripted"),
        tool("Bash", usage=(400_000, 5), command="echo 3 > a.txt", description="scripted"),
        text("Never said."),
    ]
    user.task("dear", "dear")
    user.run(6)
    found = user.task("dear")
    assert (found["task"]["state"], found["task"]["reason"]) == ("blocked", "budget")
    assert "Reached maximum budget ($0.5)" in found["task"]["detail"]
    assert [call.turn for call in user.server.of("dear")] == [0, 1], "the answer that passes the limit is paid for"
    (attempt,) = found["entries"]
    assert 0.5 < attempt["usd"] < 3 and attempt["priced"] is None and attempt["input_tokens"] == 410_000
    assert attempt["model"].startswith("claude-") and attempt["turns"]
    assert "budget: 1 attempts failed" in user.octopoid("show", "dear")
