"""What a second reading of the flows found: every test here was red once."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import Repo, commit, drop, eventually, git, landed, script, state_of

from octopoid import attempts, daemon, gates, policy
from octopoid.fold import fold
from octopoid.model import Entry, Item, Ledger, Opening, Outcome, Task, Verdict
from octopoid.plans import Base, Decision, Finish, Projection, Refuse, Snapshot
from octopoid.scheduler import Scheduler
from octopoid.settings import Agent, Config, Flow, Gate, Role, Stage
from octopoid.states import State


def write(path: str, text: str = "x\n") -> list[Any]:
    return [{"write": {"path": path, "text": text}}, {"commit": f"Add {path}"}]


def document(name: str, text: str) -> list[Any]:
    return [{"run": f"printf %s '{text}' > \"$OCTOPOID_ARTIFACTS/{name}\""}]


def says(**word: Any) -> dict[str, Any]:
    return {"result": {"outcome": "done", **word}}


def team(repo: Repo, roles: Mapping[str, Sequence[Any]], flow: str = "", **policy: Any) -> None:
    """One agent that plays every role by script; `flow`: the text of `flows/mine.yaml`."""
    agents = {"worker": {"roles": "all", "adapter": "scripted", "instances": 4, "script": ".octopoid/scripted.json"}}
    script(repo, {"tasks": {"default": dict(roles)}}, **{"agents": agents, "max_agents": 8, **policy})
    if flow:
        repo.layout.flows.mkdir(exist_ok=True)
        (repo.layout.flows / "mine.yaml").write_text(flow, encoding="utf-8")


def entries(repo: Repo, task: str) -> tuple[Entry, ...]:
    return attempts.read(repo.layout, task)


def roles_of(repo: Repo, task: str) -> list[str]:
    return [one.opening.role for one in entries(repo, task) if one.opening.role]


def span_of(repo: Repo, task: str, gate: str) -> tuple[float, float]:
    """When the first step of a gate began, and when its last one ended."""
    (number,) = [one.number for one in entries(repo, task) if one.opening.gate == gate]
    steps = json.loads((repo.layout.entry(task, number) / "exit.json").read_text())["steps"]
    return steps[0]["started"], steps[-1]["ended"]


def run(repo: Repo, ok: Sequence[int] = (0,)) -> None:
    repo.octopoid("run", "--until-empty", ok=ok)


# --- what an agent leaves where files are expected ---


def test_a_pipe_as_result_file_holds_up_nobody(repo: Repo) -> None:
    team(repo, {"implementer": [[*write("a"), {"run": 'mkfifo "$OCTOPOID_RESULT_FILE"'}]]}, limits={"attempts": 1})
    drop(repo, "pipe", "# Pipe\n")
    run(repo, ok=(6,))
    assert state_of(repo, "pipe") is State.BLOCKED
    assert "result.json is no regular file" in repo.octopoid("why", "pipe").out


def test_a_document_that_is_a_pipe_is_not_waited_for(repo: Repo) -> None:
    flow = "stages: [{name: design, role: architect, commit: docs/design.md}]\ngates: [checks]\n"
    team(repo, {"architect": [[{"run": 'mkfifo "$OCTOPOID_ARTIFACTS/design.md"'}]]}, flow, limits={"attempts": 1})
    drop(repo, "adr", "---\nflow: mine\n---\n# Decide\n")
    run(repo, ok=(6,))
    assert state_of(repo, "adr") is State.BLOCKED


def test_a_file_in_place_of_the_documents_folder_fails_the_attempt(repo: Repo) -> None:
    spoil = {"run": 'rm -r "$OCTOPOID_ARTIFACTS"; echo x > "$OCTOPOID_ARTIFACTS"'}
    team(repo, {"reviewer": [[spoil, {"accept": "fine"}]]}, limits={"attempts": 1})
    drop(repo, "look", "---\nflow: review-only\n---\n# Look\n")
    run(repo, ok=(6,))
    assert state_of(repo, "look") is State.BLOCKED


def test_a_name_that_is_no_utf8_can_be_reported(repo: Repo) -> None:
    junk = {"run": "touch \"$(printf 'bad\\377name')\""}
    flow = "stages: [{name: implement, role: implementer}]\ngates: [reviewer]\n"
    team(repo, {"implementer": [write("a")], "reviewer": [[junk, {"accept": "fine"}]]}, flow)
    drop(repo, "odd", "---\nflow: mine\n---\n# Odd\n")
    run(repo)
    assert landed(repo) == ("odd",)


def test_a_document_that_is_to_be_committed_and_was_not_written_is_charged(repo: Repo) -> None:
    flow = "stages: [{name: design, role: architect, commit: docs/design.md}]\ngates: [checks]\n"
    team(repo, {"architect": [[{"say": "done!"}]]}, flow, limits={"attempts": 1})
    drop(repo, "adr", "---\nflow: mine\n---\n# Decide\n")
    run(repo, ok=(6,))
    assert state_of(repo, "adr") is State.BLOCKED
    assert "design.md was not written" in repo.octopoid("why", "adr").out


# --- handing over ---


def test_who_helps_with_a_document_does_not_replace_the_stage(repo: Repo) -> None:
    flow = (
        "stages:\n  - {name: plan, role: planner, artifact: plan.md}\n"
        "  - {name: implement, role: implementer, needs: [plan.md]}\ngates: [checks]\n"
    )
    ask = {"result": {"outcome": "handoff", "handoff_to": "architect", "summary": "which shape?"}}
    roles = {
        "planner": [[ask], document("plan.md", "The plan")],
        "architect": [[*document("design.md", "A design"), says()]],
        "implementer": [write("a")],
    }
    team(repo, roles, flow)
    drop(repo, "idea", "---\nflow: mine\n---\n# An idea\n")
    run(repo)
    assert roles_of(repo, "idea") == ["planner", "architect", "planner", "implementer"]


def test_the_work_comes_back_to_the_role_that_the_task_names(repo: Repo) -> None:
    ask = {"result": {"outcome": "handoff", "handoff_to": "architect", "summary": "which shape?"}}
    roles = {
        "backend-engineer": [[ask], write("a")],
        "architect": [[*document("design.md", "A design"), says()]],
    }
    team(repo, roles)
    drop(repo, "idea", "---\nrole: backend-engineer\n---\n# An idea\n")
    run(repo, ok=(0, 6))
    assert roles_of(repo, "idea") == ["backend-engineer", "architect", "backend-engineer"]


# --- the policy changes while a stage is at work ---


def test_a_stage_that_is_renamed_meanwhile_does_not_end_the_task(repo: Repo, tmp_path: Path) -> None:
    flow = (
        "stages:\n  - {name: research, role: researcher, artifact: research.md}\n"
        "  - {name: implement, role: implementer}\ngates: [checks]\n"
    )
    go = tmp_path / "go"
    roles = {
        "researcher": [[*document("research.md", "one"), {"wait_for": str(go)}], document("research.md", "two")],
        "implementer": [write("a")],
    }
    team(repo, roles, flow)
    drop(repo, "idea", "---\nflow: mine\n---\n# An idea\n")
    with repo.background("run"):
        eventually(lambda: (repo.layout.entry_artifacts("idea", 1) / "research.md").exists(), 20)
        (repo.layout.flows / "mine.yaml").write_text(flow.replace("name: research", "name: study"))
        go.touch()
        eventually(lambda: state_of(repo, "idea") is State.DONE, 30)
    assert landed(repo) == ("idea",)


def test_a_flow_that_goes_away_and_comes_back_skips_no_stage(repo: Repo, tmp_path: Path) -> None:
    flow = (
        "stages:\n  - {name: research, role: researcher, artifact: research.md}\n"
        "  - {name: implement, role: implementer}\ngates: [checks]\n"
    )
    go = tmp_path / "go"
    roles = {
        "researcher": [[*document("research.md", "one"), {"wait_for": str(go)}]],
        "implementer": [write("a")],
    }
    team(repo, roles, flow)
    drop(repo, "idea", "---\nflow: mine\n---\n# An idea\n")
    with repo.background("run"):
        eventually(lambda: (repo.layout.entry_artifacts("idea", 1) / "research.md").exists(), 20)
        (repo.layout.flows / "mine.yaml").unlink()
        go.touch()
        eventually(lambda: entries(repo, "idea")[0].outcome is not None, 20)
        (repo.layout.flows / "mine.yaml").write_text(flow)
        eventually(lambda: state_of(repo, "idea") is State.DONE, 30)
    assert landed(repo) == ("idea",)


# --- what agents notice ---


def test_what_a_reviewer_notices_becomes_a_proposal_too(repo: Repo) -> None:
    noticed = {"outcome": "accept", "summary": "fine", "discovered": [{"title": "The parser is slow"}]}
    flow = "stages: [{name: implement, role: implementer}]\ngates: [reviewer]\n"
    team(repo, {"implementer": [write("a")], "reviewer": [[{"result": noticed}]]}, flow)
    drop(repo, "first", "---\nflow: mine\n---\n# First\n")
    run(repo, ok=(0, 6))
    assert landed(repo) == ("first",)
    assert [path.stem[:18] for path in repo.layout.folder(State.BLOCKED).glob("*.md")] == ["the-parser-is-slow"]


def test_what_is_noticed_with_a_question_becomes_a_proposal_too(repo: Repo) -> None:
    asks = {"outcome": "question", "questions": ["Which?"], "discovered": [{"title": "The parser is slow"}]}
    team(repo, {"implementer": [[{"result": asks}]]})
    drop(repo, "first", "# First\n")
    run(repo, ok=(6,))
    assert len(list(repo.layout.folder(State.BLOCKED).glob("the-parser-is-slow*.md"))) == 1


def test_a_proposal_does_not_choose_its_own_judges(repo: Repo) -> None:
    noticed = says(discovered=[{"title": "Slow", "flow": "quick"}])
    team(repo, {"implementer": [[*write("a"), noticed]], "gatekeeper": [[{"accept": "fine"}]]}, gates=["gatekeeper"])
    drop(repo, "first", "# First\n")
    run(repo, ok=(6,))
    (path,) = repo.layout.folder(State.BLOCKED).glob("slow*.md")
    assert "flow: quick" not in path.read_text()


# --- gates at the same time ---


def test_one_reviewer_and_the_checks_never_share_a_worktree(repo: Repo) -> None:
    flow = "stages: [{name: implement, role: implementer}]\ngates: [[reviewer, checks]]\n"
    team(repo, {"implementer": [write("a")], "reviewer": [[{"sleep": 0.5}, {"accept": "fine"}]]}, flow)
    drop(repo, "both", "---\nflow: mine\n---\n# Both\n")
    run(repo)
    assert landed(repo) == ("both",)
    checks, review = span_of(repo, "both", "checks"), span_of(repo, "both", "reviewer")
    assert checks[1] <= review[0] or review[1] <= checks[0]


def test_a_dead_supervisor_of_the_checks_takes_no_reviewer_with_it(repo: Repo, tmp_path: Path) -> None:
    flow = "stages: [{name: implement, role: implementer}]\ngates: [[checks, reviewer, tester]]\n"
    go = tmp_path / "go"
    wait = [{"run": f"touch {tmp_path}/$OCTOPOID_ROLE"}, {"wait_for": str(go)}, {"accept": "fine"}]
    hang = f"touch {tmp_path}/checks; test -e {go} || sleep 60"
    team(
        repo,
        {"implementer": [write("a")], "reviewer": [wait], "tester": [wait]},
        flow,
        checks=[{"name": "tests", "run": hang}],
    )
    drop(repo, "group", "---\nflow: mine\n---\n# Group\n")
    with repo.background("run"):
        eventually(lambda: all((tmp_path / one).exists() for one in ("reviewer", "tester", "checks")), 30)
        (number,) = [one.number for one in entries(repo, "group") if one.opening.gate == "checks"]
        pid = json.loads((repo.layout.entry("group", number) / "pid").read_text())["runner_pid"]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: entries(repo, "group")[number - 1].outcome is not None, 30)
        go.touch()
        eventually(lambda: state_of(repo, "group") is State.DONE, 30)
    assert sorted(roles_of(repo, "group")) == ["implementer", "reviewer", "tester"]


def test_until_empty_waits_for_a_reviewer_beside_a_person(repo: Repo) -> None:
    flow = "stages: [{name: implement, role: implementer}]\ngates: [[human, reviewer]]\n"
    team(repo, {"implementer": [write("a")], "reviewer": [[{"sleep": 1}, {"accept": "fine"}]]}, flow)
    drop(repo, "both", "---\nflow: mine\n---\n# Both\n")
    run(repo, ok=(6,))
    assert [one.outcome.verdict for one in entries(repo, "both") if one.opening.gate and one.outcome] == ["accept"]


# --- subtasks ---

SPLIT = "stages: [{name: split, role: breakdown}]\ngates: []\nland: none\n"


def test_a_subtask_cannot_wait_for_its_own_parent(repo: Repo) -> None:
    wrong = says(subtasks=[{"key": "a", "title": "Part a", "depends_on": ["big"]}])
    team(repo, {"breakdown": [[wrong]], "implementer": [write("a")]}, SPLIT, limits={"attempts": 1})
    drop(repo, "big", "---\nflow: mine\n---\n# Big\n")
    run(repo, ok=(6,))
    assert state_of(repo, "big") is State.BLOCKED
    assert "part-a" not in repo.octopoid("list").out


def test_a_breakdown_that_is_tried_again_before_the_yes_is_made_once(repo: Repo) -> None:
    said = [says(subtasks=[{"key": "a", "title": "Part a"}])]
    team(repo, {"breakdown": [said], "implementer": [write("a")]})
    drop(repo, "big", "---\nflow: breakdown\n---\n# Big\n")
    run(repo, ok=(6,))
    repo.octopoid("retry", "big")
    run(repo, ok=(6,))
    assert state_of(repo, "big") is State.PROVISIONAL
    repo.octopoid("approve", "big")
    run(repo)
    assert roles_of(repo, "big") == ["breakdown", "breakdown"]
    assert len(landed(repo)) == 1


# --- what a person said yes to ---


def test_an_approved_document_does_not_change_behind_the_persons_back(repo: Repo) -> None:
    flow = (
        "stages:\n  - {name: plan, role: planner, artifact: plan.md, approval: true}\n"
        "  - {name: implement, role: implementer, needs: [plan.md]}\ngates: [reviewer]\n"
    )
    roles = {
        "planner": [document("plan.md", "Good plan")],
        "implementer": [[*document("plan.md", "Other plan"), *write("a")]],
        "reviewer": [[{"run": 'grep -q "Good plan" "$OCTOPOID_PROMPT_FILE"'}, {"accept": "as planned"}]],
    }
    team(repo, roles, flow, limits={"attempts": 1})
    drop(repo, "idea", "---\nflow: mine\n---\n# An idea\n")
    run(repo, ok=(6,))
    repo.octopoid("approve", "idea")
    run(repo)
    assert (repo.layout.artifacts("idea") / "plan.md").read_text() == "Good plan"
    assert any("the approved plan.md" in one.outcome.detail for one in entries(repo, "idea") if one.outcome)


def test_a_project_that_touches_the_policy_needs_a_person(repo: Repo) -> None:
    team(repo, {"implementer": [write("a")]})
    git(repo, "branch", "project/big")
    git(repo, "checkout", "-q", "project/big")
    commit(repo, {"a.txt": "a\n"}, "Work")
    path = repo.root / ".octopoid" / "sneaky.yaml"
    path.write_text("x: 1\n")
    git(repo, "add", "-f", ".octopoid/sneaky.yaml")
    git(repo, "commit", "-q", "-m", "Policy")
    git(repo, "checkout", "-q", "main")
    drop(repo, "land-project-big", "---\nflow: project\nproject: big\n---\n# Land big\n")
    run(repo, ok=(0, 6))
    assert landed(repo) == ()
    assert state_of(repo, "land-project-big") is State.PROVISIONAL
    repo.octopoid("approve", "land-project-big")
    run(repo)
    assert landed(repo) == ("land-project-big",)


# --- the truth is shown ---


def test_a_task_whose_flow_is_not_there_needs_a_person(repo: Repo) -> None:
    team(repo, {"implementer": [write("a")]})
    drop(repo, "lost", "---\nflow: wizard\n---\n# Lost\n")
    run(repo, ok=(6,))
    status = repo.octopoid("status", "--json").json()
    assert [one["task"] for one in status["needs_you"]] == ["lost"]
    shown = repo.octopoid("show", "lost", "--json").json()["task"]
    assert "wizard" in shown["detail"] and not shown["ready"]


# --- decisions, as tables ---


def one_flow(*groups: tuple[Gate, ...], **more: Any) -> Config:
    agents = {"worker": Agent("worker", "implementer", "command", instances=9, roles=("all",))}
    flow = Flow("default", (Stage("implement", "implementer"),), groups, "merge")
    roles = {name: Role(name, "") for name in ("implementer", "reviewer", "tester")}
    return Config("main", agents, roles, {"default": flow})._replace(**more)


def judged(name: str = "a", **more: Any) -> Item:
    ledger = Ledger(expected="provisional", candidate="c", stages=("implement",), work="implement")._replace(**more)
    path = Path(f"/q/provisional/{name}.md")
    return Item(name, State.PROVISIONAL, path, 1.0, Task(name, name), None, ledger)


def decide(one: Item, config: Config, **more: Any) -> Decision:
    seen = Snapshot((one,), {one.id: one.state}, bases={"main": Base("main", "base")})._replace(**more)
    return policy.plan(seen, config, 1000.0).decisions[one.id]


def test_every_gate_of_a_group_keeps_its_share_of_the_feedback() -> None:
    said = tuple(
        Verdict(gate, False, "c", "", "", 1.0, "w", 2, f"first {gate} {'x' * 9000} last {gate}")
        for gate in ("reviewer", "tester")
    )
    action = decide(judged(verdicts=said), one_flow((Gate("reviewer"), Gate("tester")))).action
    assert isinstance(action, Refuse)
    assert len(action.feedback) <= 8192
    assert all(f"{word} {gate}" in action.feedback for word in ("first", "last") for gate in ("reviewer", "tester"))


def test_what_brings_no_work_lands_nothing_also_when_the_base_was_set_back() -> None:
    bare = judged(bare=True)
    action = decide(bare, one_flow((Gate("checks"),)), projections={"a": Projection("base", "other", "r")}).action
    assert isinstance(action, Finish)


def breakdown(number: int, *children: str, approval: bool = False) -> Entry:
    opening = Opening("attempt", 1.0, role="breakdown", stage="split", produces="tasks")
    outcome = Outcome("attempt", "ok", False, "", "", 2.0, children=children, verb="submit", enters="provisional")
    outcome = outcome._replace(candidate="c", bare=True, approval=approval)
    return Entry(number, opening, True, True, outcome, frozenset({"claimed", "provisional"}), spawned=not approval)


def person(number: int, kind: str, **more: str) -> Entry:
    return Entry(number, Opening(kind, 3.0, by="person")._replace(**more), outcome=None)


def test_a_second_breakdown_waits_for_the_subtasks_of_the_first_too() -> None:
    entries = [breakdown(1, "a", "b"), person(2, "release", to="incoming"), breakdown(3, "c")]
    assert fold(entries).children == ("a", "b", "c")


def test_what_nobody_said_yes_to_is_forgotten_when_it_is_done_again() -> None:
    waiting = fold([breakdown(1, "a", approval=True)])
    assert (waiting.awaiting, waiting.spawn) == ("split", (1,))
    for again in (person(2, "release", to="incoming"), person(2, "reject", stage="split", text="no")):
        ledger = fold([breakdown(1, "a", approval=True), again])
        assert (ledger.awaiting, ledger.spawn, ledger.children, ledger.stages) == ("", (), (), ())


def test_a_role_that_is_gone_hands_the_work_back() -> None:
    config = one_flow(agents={"worker": Agent("worker", "implementer", "command")})
    item = judged(handoff="architect", stages=())
    assert gates.role_of(item, config.flows["default"].stages[0], config.flows["default"], config) == "implementer"


def test_fifty_large_documents_make_no_huge_prompt(repo: Repo) -> None:
    fill = 'for i in $(seq 10 59); do yes "line $i" | head -c 1000000 > "$OCTOPOID_ARTIFACTS/doc-$i.md"; done'
    flow = (
        "stages:\n  - {name: research, role: researcher, artifact: doc-10.md}\n"
        "  - {name: implement, role: implementer}\ngates: []\n"
    )
    team(repo, {"researcher": [[{"run": fill}]], "implementer": [write("a")]}, flow)
    drop(repo, "idea", "---\nflow: mine\n---\n# An idea\n")
    run(repo)
    assert landed(repo) == ("idea",)
    assert (repo.layout.entry("idea", 2) / "prompt.md").stat().st_size < 150_000


def test_a_stop_that_comes_during_a_tick_is_heard(repo: Repo) -> None:
    team(repo, {"implementer": [write("a")]})
    scheduler = Scheduler(repo.layout, {}, lambda _text: None)
    repo.layout.run.mkdir(exist_ok=True)
    repo.layout.stop_request.touch()
    before = time.monotonic()
    daemon._wait(scheduler, daemon.Flags(), scheduler.tick(), 20.0)
    assert time.monotonic() - before < 10


def test_paused_tasks_hold_up_nobody_behind_them(repo: Repo) -> None:
    each = [{"run": 'echo x > "$OCTOPOID_TASK_ID.txt"'}, {"commit": "work"}]
    team(repo, {"implementer": [each]}, gates=["human", "checks"])
    first = ("one", "two", "three")
    for task in first:
        drop(repo, task, f"---\npriority: P0\n---\n# {task}\n")
    drop(repo, "last", "# Last\n")
    run(repo, ok=(6,))
    repo.octopoid("pause", *first)
    repo.octopoid("approve", *first, "last")
    run(repo, ok=(6,))
    assert landed(repo) == ("last",)


def test_waiting_for_a_parent_ends_when_a_subtask_needs_a_person(repo: Repo) -> None:
    said = says(subtasks=[{"key": "a", "title": "Part a"}])
    team(repo, {"breakdown": [[said]], "implementer": [[{"fail": "cannot"}]]}, SPLIT, limits={"attempts": 1})
    drop(repo, "big", "---\nflow: mine\n---\n# Big\n")
    run(repo, ok=(6,))
    assert "is blocked (failed)" in repo.octopoid("wait", "big", "--timeout", "5", ok=(6,)).out


def test_a_circle_through_a_parent_is_shown(repo: Repo) -> None:
    said = says(subtasks=[{"key": "a", "title": "Part a", "depends_on": ["other"]}])
    team(repo, {"breakdown": [[said]], "implementer": [write("a")]}, SPLIT)
    drop(repo, "big", "---\nflow: mine\n---\n# Big\n")
    drop(repo, "other", "---\ndepends_on: [big]\n---\n# Other\n")
    run(repo, ok=(6,))
    invalid = [one["message"] for one in repo.octopoid("status", "--json").json()["invalid"]]
    assert any("circle" in one and "big" in one for one in invalid)
