"""What `show`, `thread` and `lint` say about documents, subtasks, projects, and tasks that nobody can work on."""

from __future__ import annotations

from harness import Repo, drop, write_config
from test_cli_read import on_terminal
from test_flows_life import MINE, document, team

from octopoid.states import State

POLICY = """\
agents:
  worker: {roles: [implementer, planner], adapter: scripted, script: script.yaml}
"""


def test_show_says_where_the_documents_are_and_who_did_what(repo: Repo) -> None:
    roles = {"researcher": [document("research.md", "Facts")], "planner": [document("plan.md", "Steps")]}
    team(repo, roles, MINE)
    drop(repo, "idea", "---\nflow: mine\nproject: web\n---\n# An idea\n")
    repo.octopoid("run", "--until-empty", ok=(6,))
    answer = repo.octopoid("show", "idea")
    facts = dict(line.split(maxsplit=1) for line in answer.out.splitlines() if line.startswith("  ") and "  " in line)
    assert (facts["flow"], facts["stage"], facts["project"]) == ("mine", "implement", "web")
    rows = [line.split() for line in answer.out.splitlines() if line.startswith("  ")]
    assert ["plan.md", "002", ".octopoid/attempts/idea/artifacts/plan.md"] in rows
    assert ["research.md", "001", ".octopoid/attempts/idea/artifacts/research.md"] in rows
    assert "worker (planner)" in answer.out
    next_step = "next: octopoid approve idea, or octopoid reject idea -m TEXT\n"
    assert answer.err == next_step and repo.octopoid("thread", "idea").err == next_step


def test_show_of_a_parent_and_of_its_part(repo: Repo) -> None:
    parts = [{"title": "Part one"}]
    roles = {"breakdown": [[{"result": {"outcome": "done", "subtasks": parts}}]], "implementer": [[{"question": "?"}]]}
    team(repo, roles)
    drop(repo, "big", "---\nflow: breakdown\n---\n# Big\n")
    repo.octopoid("run", "--until-empty", ok=(6,))
    repo.octopoid("approve", "big")
    repo.octopoid("run", "--until-empty", ok=(6,))
    (child,) = repo.octopoid("show", "big", "--json").json()["task"]["children"]
    answer = repo.octopoid("show", "big")
    assert f"  subtask       {child}  blocked\n" in answer.out and answer.err == "next: octopoid why big\n"
    assert "  parent        big\n" in repo.octopoid("show", child).out
    assert repo.octopoid("thread", "big").err == "next: octopoid why big\n"
    assert repo.octopoid("thread", child).err == f"next: octopoid answer {child} -m TEXT\n"


def test_show_of_a_review_that_changes_nothing(repo: Repo) -> None:
    team(repo, {"reviewer": [[{"accept": "Reads well."}]]})
    drop(repo, "look", "---\nflow: review-only\n---\n# Look at it\n")
    repo.octopoid("run", "--until-empty")
    answer = repo.octopoid("show", "look")
    assert "review.md  001  " in answer.out and answer.err == "next: octopoid thread look\n"


def test_lint_warns_of_tasks_that_nobody_can_work_on(repo: Repo) -> None:
    write_config(repo, POLICY)
    drop(repo, "typo", "---\nflow: fetaure\nrole: 'planer'\n---\n# T\n")
    drop(repo, "alone", "---\nflow: feature\nrole: architect\n---\n# T\n")
    drop(repo, "both", "---\nbase: main\nproject: web\n---\n# T\n")
    drop(repo, "fine", "---\nrole: planner\n---\n# T\n")
    drop(repo, "gone", "---\nflow: never\n---\n# T\n", state=State.DONE)
    answer = repo.octopoid("lint")
    lines = [line for line in answer.err.splitlines() if line.startswith("warning:")]
    assert [line.rpartition("incoming/")[2] for line in sorted(lines)] == [
        "alone.md:2:7: the flow `feature` needs agents for: reviewer, security-reviewer, tester, gatekeeper",
        "alone.md:3:7: no agent has the role `architect`",
        "both.md:2:7: the task lands on project/web; `base` only says where that branch begins and lands",
        "typo.md:2:7: there is no flow `fetaure`",
        "typo.md:3:7: no file defines the role `planer`",
    ]
    assert "did you mean `feature`?" in answer.err and "ok: every file is valid" in answer.err
    assert repo.octopoid("lint", "--json").json()["problems"] == []
    assert "no flow `fetaure`" in repo.octopoid("lint", "typo").err
    assert "warning" not in repo.octopoid("lint", "fine").err


def test_lint_warns_beside_mistakes_but_not_under_a_policy_that_is_not_valid(repo: Repo) -> None:
    write_config(repo, POLICY)
    drop(repo, "typo", "---\nflow: fetaure\n---\n# T\n")
    drop(repo, "wrong", "---\nprioritee: P1\n---\n# T\n")
    answer = repo.octopoid("lint", ok=(4,))
    assert "unknown key `prioritee`" in answer.out and "no flow `fetaure`" in answer.err
    assert "prioritee" in repo.octopoid("lint", "wrong", repo.layout.agents_yaml, ok=(4,)).out
    write_config(repo, "agents: {}\n")
    assert "fetaure" not in repo.octopoid("lint", ok=(4,)).err


def test_list_on_a_narrow_terminal_keeps_the_ids(repo: Repo) -> None:
    write_config(repo, POLICY)
    drop(repo, "a-name-of-thirty-characters-ok", f"---\nnot_before: 2099-01-01T00:00:00Z\n---\n# {'Long ' * 30}\n")
    lines = on_terminal(repo, "list", env={"NO_COLOR": "1"}).splitlines()
    assert len(lines) == 2 and lines[1].startswith("a-name-of-thirty-characters-ok  incoming")
    assert all(len(line) <= 80 for line in lines)
