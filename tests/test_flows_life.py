"""Whole flows, end to end: the installed program, real git, and the scripted agent in every role."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import Repo, at_once, commit, drop, eventually, git, landed, script, state_of

from octopoid import attempts
from octopoid.model import Entry
from octopoid.states import State

DONE = {"outcome": "done", "summary": "as asked"}


def write(path: str, text: str = "x\n") -> list[Any]:
    return [{"write": {"path": path, "text": text}}, {"commit": f"Add {path}"}]


def document(name: str, text: str) -> list[Any]:
    return [{"run": f"printf %s '{text}' > \"$OCTOPOID_ARTIFACTS/{name}\""}]


def team(repo: Repo, roles: Mapping[str, Sequence[Any]], flow: str = "", **policy: Any) -> None:
    """One agent that plays every role by script; `flow`: the text of `flows/mine.yaml`."""
    agents = {"worker": {"roles": "all", "adapter": "scripted", "instances": 4, "script": ".octopoid/scripted.json"}}
    script(repo, {"tasks": {"default": dict(roles)}}, **{"agents": agents, "max_agents": 8, **policy})
    if flow:
        folder = repo.layout.flows
        folder.mkdir(exist_ok=True)
        (folder / "mine.yaml").write_text(flow, encoding="utf-8")


def entries(repo: Repo, task: str) -> tuple[Entry, ...]:
    return attempts.read(repo.layout, task)


def kinds(repo: Repo, task: str) -> list[str]:
    return [one.opening.gate or one.opening.stage or one.opening.kind for one in entries(repo, task)]


def run(repo: Repo, ok: Sequence[int] = (0,)) -> None:
    repo.octopoid("run", "--until-empty", ok=ok)


MINE = """\
stages:
  - {name: research, role: researcher}
  - {name: plan, role: planner, needs: [research.md], approval: true}
  - {name: implement, role: implementer, needs: [plan.md]}
gates: [checks]
"""


def test_documents_go_from_stage_to_stage_and_a_person_approves_the_plan(repo: Repo) -> None:
    roles = {
        "researcher": [document("research.md", "It is all in app.py")],
        "planner": [
            [{"run": 'grep -q app.py "$OCTOPOID_ARTIFACTS/research.md"'}, *document("plan.md", "First plan")],
            [{"run": 'grep -q shorter "$OCTOPOID_PROMPT_FILE"'}, *document("plan.md", "Second plan")],
        ],
        "implementer": [[{"run": 'grep -q "Second plan" "$OCTOPOID_PROMPT_FILE"'}, *write("app.py")]],
    }
    team(repo, roles, MINE)
    drop(repo, "idea", "---\nflow: mine\n---\n# An idea\n")
    run(repo, ok=(6,))
    status = repo.octopoid("status", "--json").json()
    (need,) = [one for one in status["needs_you"] if one["task"] == "idea"]
    assert (need["reason"], need["command"]) == ("human", "octopoid approve idea")
    assert "plan" in need["detail"]
    assert state_of(repo, "idea") is State.INCOMING
    repo.octopoid("reject", "idea", "-m", "make it shorter")
    run(repo, ok=(6,))
    assert (repo.layout.artifacts("idea") / "plan.md").read_text() == "Second plan"
    repo.octopoid("approve", "idea")
    run(repo)
    assert landed(repo) == ("idea",)
    assert kinds(repo, "idea")[:3] == ["research", "plan", "plan"]
    assert (repo.layout.entry_artifacts("idea", 2) / "plan.md").read_text() == "First plan"  # versions stay
    shown = repo.octopoid("show", "idea", "--json").json()
    assert shown["task"]["artifacts"] == ["research.md", "plan.md"]
    assert not list(repo.root.rglob("plan.md")) or all(".octopoid" in str(p) for p in repo.root.rglob("plan.md"))


PARALLEL = """\
stages: [{name: implement, role: implementer}]
gates: [[reviewer, security-reviewer, {gate: tester, required: false}]]
"""


def test_gates_in_parallel_merge_their_findings_and_send_back_once(repo: Repo, tmp_path: Path) -> None:
    meet = tmp_path / "meet"
    meet.mkdir()
    together = [
        {"run": f"touch {meet}/$OCTOPOID_ROLE-$OCTOPOID_ATTEMPT"},
        {"wait_for": f"{meet}/reviewer-${{OCTOPOID_ATTEMPT}}"},
        {"wait_for": f"{meet}/security-reviewer-${{OCTOPOID_ATTEMPT}}"},
        {"wait_for": f"{meet}/tester-${{OCTOPOID_ATTEMPT}}"},
    ]
    finding = {"file": "app.py", "line": 3, "severity": "error", "message": "eval of user input"}
    bad = {"outcome": "reject", "summary": "unsafe", "feedback": "no eval", "findings": [finding]}
    roles = {
        "implementer": [
            write("app.py"),
            [
                {"run": 'grep -q "app.py:3: error: eval of user input" "$OCTOPOID_PROMPT_FILE"'},
                {"run": 'grep -q "too slow" "$OCTOPOID_PROMPT_FILE"'},
                *write("app.py", "better\n"),
            ],
        ],
        "reviewer": [[*together, {"accept": "clean"}]],
        "security-reviewer": [[*together, {"result": bad}], [*together, {"accept": "safe now"}]],
        "tester": [[*together, {"write": {"path": "junk.txt", "text": "junk"}}, {"reject": "too slow"}]],
    }
    team(repo, roles, PARALLEL)
    drop(repo, "feature", "---\nflow: mine\n---\n# A feature\n")
    run(repo)
    assert landed(repo) == ("feature",)
    assert git(repo, "ls-files") == "README.md\napp.py"
    verdicts = [(one.opening.gate, one.outcome.verdict) for one in entries(repo, "feature") if one.outcome]
    assert verdicts.count(("security-reviewer", "reject")) == 2  # its answer, and the one refusal
    assert len([1 for one in entries(repo, "feature") if one.outcome and one.outcome.verb == "reject"]) == 1
    said = [one.outcome.detail for one in entries(repo, "feature") if one.opening.gate == "tester" and one.outcome]
    assert "junk.txt" in said[0]
    shown = repo.octopoid("show", "feature", "--json").json()
    assert shown["task"]["rounds"] == 1


def test_a_role_hands_over_to_another(repo: Repo) -> None:
    roles = {
        "implementer": [
            [{"result": {"outcome": "handoff", "handoff_to": "architect", "summary": "which database?"}}],
            [{"run": 'grep -q "use files" "$OCTOPOID_PROMPT_FILE"'}, *write("db.py")],
        ],
        "architect": [
            [
                {"run": 'grep -q "which database?" "$OCTOPOID_PROMPT_FILE"'},
                *document("design.md", "use files"),
                {"result": DONE},
            ]
        ],
    }
    team(repo, roles)
    drop(repo, "db", "# A database\n")
    run(repo)
    assert landed(repo) == ("db",)
    assert [one.opening.role for one in entries(repo, "db") if one.opening.role] == [
        "implementer",
        "architect",
        "implementer",
    ]


def test_nobody_hands_over_for_ever(repo: Repo) -> None:
    ping = {"outcome": "handoff", "handoff_to": "backend-engineer", "summary": "yours"}
    pong = {"outcome": "handoff", "handoff_to": "implementer", "summary": "no, yours"}
    limits = {"handoffs": 3, "attempts": 1}
    team(repo, {"implementer": [[{"result": ping}]], "backend-engineer": [[{"result": pong}]]}, limits=limits)
    drop(repo, "hot", "# A hot potato\n")
    run(repo, ok=(6,))
    assert state_of(repo, "hot") is State.BLOCKED
    assert len(entries(repo, "hot")) < 10


def subtask(key: str, *after: str, **more: Any) -> dict[str, Any]:
    return {"key": key, "title": f"Part {key}", "depends_on": list(after), "body": f"Do {key}.", **more}


FIVE = [subtask("a"), subtask("b", "a"), subtask("c", "a"), subtask("d", "b", "c"), subtask("e", "d")]


def test_a_breakdown_waits_for_its_children_and_finishes_with_them(repo: Repo) -> None:
    said = {"outcome": "done", "summary": "five parts", "subtasks": FIVE}
    roles = {
        "breakdown": [[{"result": said}]],
        "implementer": [[{"run": 'echo "$OCTOPOID_TASK_ID" > "$OCTOPOID_TASK_ID.txt"'}, {"commit": "part"}]],
    }
    team(repo, roles)
    drop(repo, "big", "---\nflow: breakdown\n---\n# Something big\n")
    run(repo, ok=(6,))
    assert state_of(repo, "big") is State.PROVISIONAL
    assert len(list(repo.layout.folder(State.INCOMING).glob("*.md"))) == 0
    repo.octopoid("approve", "big")
    run(repo)
    order = [one.split("-")[1] for one in landed(repo)]
    assert sorted(order) == list("abcde")
    assert order[0] == "a" and order[-2:] == ["d", "e"]
    assert state_of(repo, "big") is State.DONE


def test_a_failed_child_is_visible_on_its_parent(repo: Repo) -> None:
    flow = "stages: [{name: split, role: breakdown}]\ngates: []\nland: none\n"
    said = {"outcome": "done", "subtasks": [subtask("a"), subtask("b")]}
    team(repo, {"breakdown": [[{"result": said}]], "implementer": [[{"fail": "cannot"}]]}, flow, limits={"attempts": 1})
    drop(repo, "big", "---\nflow: mine\n---\n# Something big\n")
    run(repo, ok=(6,))
    shown = repo.octopoid("show", "big", "--json").json()["task"]
    assert shown["reason"] == "subtasks"
    assert "is blocked (failed)" in shown["detail"]
    assert "is blocked (failed)" in repo.octopoid("why", "big").out


def test_wrong_subtasks_come_back_with_what_is_wrong(repo: Repo) -> None:
    flow = "stages: [{name: split, role: breakdown}]\ngates: []\nland: none\n"
    circle = {"outcome": "done", "subtasks": [subtask("a", "b"), subtask("b", "a")]}
    good = {"outcome": "done", "subtasks": [subtask("a")]}
    roles = {
        "breakdown": [[{"result": circle}], [{"run": 'grep -q circle "$OCTOPOID_PROMPT_FILE"'}, {"result": good}]],
        "implementer": [write("a.txt")],
    }
    team(repo, roles, flow)
    drop(repo, "big", "---\nflow: mine\n---\n# Something big\n")
    with repo.background("run"):
        at_once(repo, "big")
        eventually(lambda: state_of(repo, "big") is State.DONE, 40)
    assert len(landed(repo)) == 1


def test_what_an_agent_notices_waits_for_a_person(repo: Repo) -> None:
    noticed = {"outcome": "done", "discovered": [{"title": "The parser is slow", "body": "See parse()."}]}
    team(repo, {"implementer": [[*write("a.txt"), {"result": noticed}], write("b.txt")]})
    drop(repo, "first", "# First\n")
    run(repo, ok=(6,))
    assert landed(repo) == ("first",)
    (path,) = repo.layout.folder(State.BLOCKED).glob("*.md")
    assert "first" in path.read_text()
    repo.octopoid("retry", path.stem)
    assert state_of(repo, path.stem) is State.INCOMING


def test_a_fix_must_fail_before_and_pass_after(repo: Repo) -> None:
    team(repo, {"implementer": [write("fixed.txt")]})
    drop(
        repo, "bug", "---\nflow: fix\n---\n# A bug\n\n## Acceptance criteria\n- [ ] it is fixed :: test -e fixed.txt\n"
    )
    drop(
        repo,
        "nothing",
        "---\nflow: fix\n---\n# No bug\n\n## Acceptance criteria\n- [ ] it is there :: test -e README.md\n",
    )
    drop(repo, "vague", "---\nflow: fix\n---\n# Vague\n")
    run(repo, ok=(6,))
    assert landed(repo) == ("bug",)
    assert kinds(repo, "bug")[:2] == ["reproduce", "fix"]
    assert "pass on main already" in repo.octopoid("why", "nothing").out
    assert "- [ ] text :: command" in repo.octopoid("why", "vague").out


def test_what_follows_is_made_once_and_waits_for_the_landing(repo: Repo) -> None:
    flow = (
        "stages: [{name: implement, role: implementer}]\ngates: [checks]\n"
        'after: [{title: "Document: {title}", role: documenter, flow: quick}]\n'
    )
    team(repo, {"implementer": [write("a.txt")], "documenter": [write("a.md")]}, flow)
    drop(repo, "work", "---\nflow: mine\n---\n# Work\n")
    run(repo)
    first, second = landed(repo)
    assert first == "work"
    assert second.startswith("document-work-")


def test_a_project_lands_as_one(repo: Repo) -> None:
    team(repo, {"implementer": [[{"run": 'echo x > "$OCTOPOID_TASK_ID.txt"'}, {"commit": "part"}]]})
    drop(repo, "one", "---\nproject: big\n---\n# One\n")
    drop(repo, "two", "---\nproject: big\ndepends_on: [one]\n---\n# Two\n")
    run(repo)
    assert landed(repo) == ()
    assert landed(repo, "project/big") == ("one", "two")
    drop(repo, "land-project-big", "---\nflow: project\nproject: big\n---\n# Land big\n")
    run(repo)
    assert landed(repo) == ("land-project-big",)
    assert (repo.root / "two.txt").exists()


def test_a_pre_check_spares_the_agent(repo: Repo) -> None:
    agents = {
        "worker": {
            "role": "implementer",
            "adapter": "scripted",
            "script": ".octopoid/scripted.json",
            "pre_check": "false",
        }
    }
    team(repo, {"implementer": [[{"fail": "must not start"}]]}, agents=agents)
    drop(repo, "idle", "# Nothing to do\n")
    run(repo)
    assert state_of(repo, "idle") is State.DONE
    assert "nothing to do" in json.dumps(repo.octopoid("show", "idle", "--json").json())


def test_a_review_only_flow_ends_with_its_report(repo: Repo) -> None:
    finding = {"file": "README.md", "line": 1, "severity": "warning", "message": "too short"}
    said = {"outcome": "reject", "summary": "Not good", "feedback": "More words.", "findings": [finding]}
    team(repo, {"reviewer": [[{"write": {"path": "x", "text": "y"}}, {"result": said}]]})
    drop(repo, "look", "---\nflow: review-only\n---\n# Look at the README\n")
    run(repo)
    assert state_of(repo, "look") is State.DONE
    text = (repo.layout.artifacts("look") / "review.md").read_text()
    assert "README.md:1: warning: too short" in text
    assert landed(repo) == ()


def test_a_document_that_the_flow_commits_lands(repo: Repo) -> None:
    flow = "stages: [{name: design, role: architect, commit: docs/design.md}]\ngates: [checks]\n"
    team(
        repo, {"architect": [[{"write": {"path": "scratch", "text": "s"}}, *document("design.md", "The design")]]}, flow
    )
    drop(repo, "adr", "---\nflow: mine\n---\n# Decide\n")
    commit(repo, {"other": "x"}, "Meanwhile")
    run(repo)
    assert landed(repo) == ("adr",)
    assert (repo.root / "docs/design.md").read_text() == "The design"
    assert not (repo.root / "scratch").exists()


def test_a_conflict_goes_to_who_resolves_conflicts(repo: Repo) -> None:
    flow = "stages: [{name: implement, role: implementer}]\ngates: [human]\nconflicts: rebaser\n"
    merge = [
        {"run": "git merge -q main || true"},
        {"write": {"path": "a.txt", "text": "both\n"}},
        {"commit": "Resolve"},
    ]
    team(repo, {"implementer": [write("a.txt", "mine\n")], "rebaser": [merge]}, flow)
    drop(repo, "clash", "---\nflow: mine\n---\n# Clash\n")
    run(repo, ok=(6,))
    commit(repo, {"a.txt": "theirs\n"}, "Theirs")
    repo.octopoid("approve", "clash")
    run(repo, ok=(6,))
    repo.octopoid("approve", "clash")
    run(repo)
    assert landed(repo) == ("clash",)
    assert [one.opening.role for one in entries(repo, "clash") if one.opening.role] == ["implementer", "rebaser"]


def test_a_role_that_makes_no_commits_needs_no_gate(repo: Repo) -> None:
    """A task may name any role: research in the default flow ends with its document, and nobody is asked about it."""
    team(repo, {"researcher": [document("research.md", "All of it")]}, gates=["checks", "gatekeeper", "human"])
    drop(repo, "look", "---\nrole: researcher\n---\n# Look into it\n")
    run(repo)
    assert state_of(repo, "look") is State.DONE
    assert kinds(repo, "look") == ["implement", "finish"]


def test_what_is_proposed_starts_only_when_a_person_says_so(repo: Repo) -> None:
    said = {"outcome": "done", "subtasks": [subtask("a", criteria=["works :: touch /tmp/never"]), subtask("b", "a")]}
    team(repo, {"proposer": [[{"result": said}]], "implementer": [write("a.txt")]}, limits={"proposals": 5})
    drop(repo, "ideas", "---\nrole: proposer\n---\n# Ideas\n")
    run(repo, ok=(6,))
    assert state_of(repo, "ideas") is State.DONE
    proposals = sorted(repo.layout.folder(State.BLOCKED).glob("*.md"))
    assert len(proposals) == 2
    assert all(":: touch" not in one.read_text() for one in proposals)


OWN_ROLE = """\
---
description: writes haiku about the change
produces: document
artifact: haiku.md
---
You write a haiku about `{{ task.title }}`.

{% include "given" %}
{% include "worktree" %}
{% include "contract" %}
"""

OWN_FLOW = """\
description: a poem first, then the work, then the poet judges it
stages:
  - {name: poem, role: poet, commit: docs/haiku.md}
  - {name: work, role: implementer, needs: [haiku.md]}
gates: [checks, critic]
"""

CRITIC = '---\nproduces: verdict\n---\nIs it poetic?\n\n{% include "given" %}\n{% include "contract" %}\n'


def test_a_role_and_a_flow_of_ones_own_are_two_files(repo: Repo) -> None:
    roles = {
        "poet": [[{"run": 'grep -q "You write a haiku" "$OCTOPOID_PROMPT_FILE"'}, *document("haiku.md", "old pond")]],
        "implementer": [
            [{"run": 'grep -q "old pond" "$OCTOPOID_PROMPT_FILE"'}, *write("frog.txt")],
            [{"run": 'grep -q "no frog jumps" "$OCTOPOID_PROMPT_FILE"'}, *write("frog.txt", "it jumps\n")],
        ],
        "critic": [[{"reject": "no frog jumps"}], [{"accept": "splash"}]],
    }
    team(repo, roles, OWN_FLOW)
    repo.layout.roles.mkdir(exist_ok=True)
    (repo.layout.roles / "poet.md").write_text(OWN_ROLE, encoding="utf-8")
    (repo.layout.roles / "critic.md").write_text(CRITIC, encoding="utf-8")
    repo.octopoid("config", "check")
    assert "poem" in repo.octopoid("flows", "show", "mine").out
    assert "poet" in repo.octopoid("roles").out
    task = repo.octopoid("enqueue", "A frog", "--flow", "mine").out.strip()
    run(repo)
    assert landed(repo) == (task,)
    assert git(repo, "show", "HEAD:docs/haiku.md") == "old pond"
    assert git(repo, "show", "HEAD:frog.txt") == "it jumps"
    assert kinds(repo, task)[:2] == ["poem", "work"]


def test_nothing_of_ours_stays_in_the_repository_after_landing(repo: Repo) -> None:
    team(repo, {"implementer": [write("a.txt")]})
    drop(repo, "one", "# One\n")
    run(repo)
    assert landed(repo) == ("one",)
    assert git(repo, "for-each-ref", "--format=%(refname)") == "refs/heads/main"


def test_what_a_person_changes_in_a_plan_is_part_of_their_yes(repo: Repo) -> None:
    flow = (
        "stages:\n  - {name: plan, role: planner, approval: true}\n"
        "  - {name: implement, role: implementer, needs: [plan.md]}\ngates: []\n"
    )
    roles = {
        "planner": [document("plan.md", "Use a database")],
        "implementer": [[{"run": 'grep -q "Use files" "$OCTOPOID_PROMPT_FILE"'}, *write("a.txt")]],
    }
    team(repo, roles, flow)
    drop(repo, "idea", "---\nflow: mine\n---\n# An idea\n")
    run(repo, ok=(6,))
    (repo.layout.artifacts("idea") / "plan.md").write_text("Use files", encoding="utf-8")
    assert "plan.md" in repo.octopoid("approve", "idea").err
    run(repo)
    assert landed(repo) == ("idea",)


def test_a_role_that_no_file_defines_is_never_started(repo: Repo) -> None:
    team(repo, {"implementer": [write("a.txt")]})
    drop(repo, "one", "---\nrole: implementr\n---\n# One\n")
    run(repo, ok=(6,))
    assert state_of(repo, "one") is State.INCOMING
    assert "did you mean `implementer`" in repo.octopoid("why", "one").out


def test_rework_goes_to_who_did_the_work_not_to_who_wrote_a_document(repo: Repo) -> None:
    flow = (
        "stages:\n  - {name: costs, role: architect, artifact: costs.md, commit: docs/costs.md}\n"
        "  - {name: implement, role: implementer}\ngates: [gatekeeper]\n"
    )
    roles = {
        "architect": [document("costs.md", "cheap")],
        "implementer": [write("a.txt"), write("a.txt", "better\n")],
        "gatekeeper": [[{"reject": "not yet"}], [{"accept": "now"}]],
    }
    team(repo, roles, flow)
    drop(repo, "one", "---\nflow: mine\n---\n# One\n")
    run(repo)
    assert landed(repo) == ("one",)
    assert kinds(repo, "one")[:5] == ["costs", "implement", "gatekeeper", "gatekeeper", "implement"]
