"""Flow files: what is right, where exactly what is wrong is wrong, what is built in, and how they are drawn."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from harness import PROJECT, Repo

from octopoid import config, configkeys, flowfiles
from octopoid.errors import Invalid
from octopoid.model import Problem
from octopoid.policyfile import Policy
from octopoid.settings import Config, Flow, Follow, Gate, Stage

TEAM = "agents:\n  team: {roles: all, adapter: claude}\n"
FEW = "agents:\n  few: {roles: [implementer, researcher, reviewer], adapter: claude}\n"
BUILT_IN = ("breakdown", "default", "document", "feature", "fix", "project", "quick", "review-only", "team")

ANY = "---\nname: helper\ndescription: helps\ntools: Read, Bash\nmodel: inherit\n---\nYou help.\n"


def home(folder: Path, policy: str = FEW, roles: dict[str, str] | None = None, **flows: str) -> Path:
    """A home with a policy, roles and flow files."""
    made = folder / ".octopoid"
    for name in ("", "roles", "flows"):
        (made / name).mkdir(exist_ok=True, parents=True)
    (made / "agents.yaml").write_text(policy, encoding="utf-8")
    for name, text in (roles or {}).items():
        (made / "roles" / f"{name}.md").write_text(text, encoding="utf-8")
    for name, text in flows.items():
        (made / "flows" / f"{name}.yaml").write_text(text, encoding="utf-8")
    return made


def problems(folder: Path, policy: str = FEW, roles: dict[str, str] | None = None, **flows: str) -> tuple[Problem, ...]:
    with pytest.raises(Invalid) as caught:
        config.load(home(folder, policy, roles, **flows))
    return caught.value.problems


def flow(folder: Path, text: str, policy: str = FEW, roles: dict[str, str] | None = None) -> Flow:
    return config.load(home(folder, policy, roles, mine=text)).flows["mine"]


# --- what is right ---


def test_every_key_arrives_where_it_belongs(tmp_path: Path) -> None:
    text = """\
description: with everything
stages:
  - {name: look, role: researcher, approval: true, commit: docs/research.md}
  - {name: sketch, role: planner, artifact: sketch.md, produces: document, needs: [research.md]}
  - name: build
    role: implementer
    needs: [sketch.md, sketch.md]
gates: [checks, [reviewer, {gate: tester, required: false}], human]
rounds: 4
land: {mode: squash}
conflicts: rebaser
after:
  - {title: "Document: {title}", role: documenter, flow: quick, body: "See {id}.\\n\\nAll of {title}."}
  - title: Look at {id} again
    flow: review-only
"""
    assert flow(tmp_path, text, TEAM) == Flow(
        "mine",
        (
            Stage("look", "researcher", "document", "research.md", approval=True, commit="docs/research.md"),
            Stage("sketch", "planner", "document", "sketch.md", ("research.md",)),
            Stage("build", "implementer", needs=("sketch.md",)),
        ),
        ((Gate("checks"),), (Gate("reviewer"), Gate("tester", False)), (Gate("human"),)),
        "squash",
        "with everything",
        4,
        "rebaser",
        (
            Follow("Document: {title}", "documenter", "quick", "See {id}.\n\nAll of {title}."),
            Follow("Look at {id} again", flow="review-only"),
        ),
        (),
        str(tmp_path / ".octopoid" / "flows" / "mine.yaml"),
    )


def test_what_a_flow_does_not_say_the_policy_says(tmp_path: Path) -> None:
    policy = "gates: [[checks, reviewer]]\nland: {mode: rebase}\n" + FEW
    found = flow(tmp_path, "stages: [{name: a, role: implementer}]\n", policy)
    assert (found.gates, found.land, found.rounds) == (((Gate("checks"), Gate("reviewer")),), "rebase", 0)


def test_landing_in_short(tmp_path: Path) -> None:
    assert flow(tmp_path, "stages: [{name: a, role: implementer}]\nland: none\n").land == "none"


def test_a_default_of_the_users_own_wins_only_with_what_it_says(tmp_path: Path) -> None:
    own = "stages: [{name: think, role: researcher}, {name: do, role: implementer}]\nland: squash\n"
    read = config.load(home(tmp_path, "gates: [reviewer]\nland: {mode: rebase}\n" + FEW, default=own))
    found = read.flows["default"]
    assert ([stage.name for stage in found.stages], found.land) == (["think", "do"], "squash")
    assert found.gates == ((Gate("reviewer"),),)
    assert read.flows["quick"].land == "rebase"


def test_documents_alone_are_neither_judged_nor_landed(tmp_path: Path) -> None:
    found = flow(tmp_path, "stages: [{name: look, role: researcher}]\n")
    assert (found.gates, found.land) == ((), "none")
    committed = flow(tmp_path, "stages: [{name: look, role: researcher, commit: docs/r.md}]\n")
    assert (committed.gates, committed.land) == (((Gate("checks"),), (Gate("human"),)), "merge")


def test_a_verdict_as_a_stage_is_written_down(tmp_path: Path) -> None:
    stages = flow(tmp_path, "stages: [{name: look, role: reviewer}, {name: do, role: implementer, needs: [look.md]}]\n")
    assert stages.stages[0] == Stage("look", "reviewer", "verdict", "look.md")


def test_what_a_role_wants_to_see_is_needed_where_it_is_made(tmp_path: Path) -> None:
    roles = {"builder": "---\ninputs: [research.md, plan.md]\n---\nBuild.\n"}
    text = "stages: [{name: a, role: researcher, artifact: research.md}, {name: b, role: builder}]\n"
    assert flow(tmp_path, text, TEAM, roles).stages[1].needs == ("research.md",)
    assert flow(tmp_path, "stages: [{name: b, role: builder}]\n", TEAM, roles).stages[0].needs == ()


def test_two_stages_may_write_one_document(tmp_path: Path) -> None:
    text = "stages: [{name: a, role: researcher}, {name: b, role: researcher}, {name: c, role: implementer}]\n"
    assert [stage.artifact for stage in flow(tmp_path, text).stages] == ["research.md", "research.md", ""]


def test_an_agent_of_claude_code_is_what_it_is_used_for(tmp_path: Path) -> None:
    agents = tmp_path / ".claude" / "agents"
    agents.mkdir(parents=True)
    (agents / "helper.md").write_text(ANY, encoding="utf-8")
    (agents / "wrong.md").write_bytes(b"---\nname: wrong\n---\n\xff\n")
    text = """\
stages:
  - {name: note, role: helper, produces: document}
  - {name: build, role: helper, needs: [note.md]}
gates: [helper]
"""
    read = config.load(home(tmp_path, "agents: {helper: {adapter: claude}}\n", mine=text))
    assert read.flows["mine"].stages == (
        Stage("note", "helper", "document", "note.md"),
        Stage("build", "helper", "commits", needs=("note.md",)),
    )
    assert read.roles["helper"].produces == "any"
    assert "wrong" not in read.roles, "nobody named it"
    assert {"../.claude/agents/helper.md", "../.claude/agents/wrong.md"} <= {
        name for name, _, _ in config.sources(tmp_path / ".octopoid")
    }
    (named,) = problems(
        tmp_path,
        "agents: {a: {roles: [implementer, wrong], adapter: claude}}\n",
        mine="stages: [{name: a, role: implementer}]",
    )
    assert named.path == agents / "wrong.md"
    every = config.load(home(tmp_path, TEAM, mine="stages: [{name: a, role: implementer}]"))
    assert "helper" in every.roles and "wrong" not in every.roles


def test_the_last_good_policy_has_its_own_copy_of_what_it_uses_of_claude_code(repo: Repo) -> None:
    agents = repo.root / ".claude" / "agents"
    agents.mkdir(parents=True)
    (agents / "helper.md").write_text(ANY, encoding="utf-8")
    made = home(repo.root, "agents: {helper: {adapter: claude}}\n", mine="stages: [{name: a, role: helper}]\n")
    assert Policy(repo.layout, print).current().flows["mine"].stages[0].role == "helper"
    (agents / "helper.md").unlink()
    fresh = Policy(repo.layout, print)
    assert fresh.current().roles["helper"].produces == "any"
    assert f"{made}/agents.yaml:1:10: agents.helper has no `role`" in fresh.problem


# --- what is wrong ---


class Bad(NamedTuple):
    """A flow file, and the one problem it has: at this line and column, with these words in message and hint."""

    text: str
    line: int
    column: int
    message: str
    hint: str = ""
    policy: str = FEW


def stages(*rows: str, more: str = "") -> str:
    return "stages:\n" + "".join(f"  - {{{row}}}\n" for row in rows) + more


DO = "name: do, role: implementer"
LOOK = "name: look, role: researcher, artifact: research.md"

BAD = {
    "empty": Bad("", 1, 1, "the file has no `stages`", "add `stages:`"),
    "no mapping": Bad("stages\n", 1, 1, "the file must be `key: value` lines"),
    "broken YAML": Bad("description: a: b\n", 1, 15, "broken YAML", "quotes"),
    "duplicate key": Bad("stages: []\nstages: []\n", 2, 1, "duplicate key `stages`"),
    "unknown key": Bad(stages(DO, more="gate: [human]\n"), 3, 1, "unknown key `gate`", "`gates`?"),
    "unknown key of a stage": Bad(stages(f"{DO}, aproval: true"), 2, 35, "`aproval` in stages[]", "`approval`?"),
    "no stages": Bad("stages: []\n", 1, 9, "there are no stages", "add one"),
    "stages as a mapping": Bad("stages: {a: b}\n", 1, 9, "`stages` must be a list", "- {name:"),
    "stage as a word": Bad("stages: [implement]\n", 1, 10, "a stage must have keys", "{name:"),
    "stage without a name": Bad(stages("role: implementer"), 2, 5, "stages[] has no `name`"),
    "stage without a role": Bad(stages("name: do"), 2, 5, "the stage `do` has no `role`", "`run:`"),
    "stage's name": Bad(stages("name: Do it, role: implementer"), 2, 12, "`Do it` is not a name"),
    "unknown role": Bad(stages("name: do, role: implementr"), 2, 22, "no file defines the role", "`implementer`?"),
    "nobody can do it": Bad(
        stages("name: do, role: planner"), 2, 22, "no agent plays the role `planner`", "`role: planner`"
    ),
    "stage twice": Bad(stages(DO, DO), 3, 12, "a stage `do` is there already", "a name of its own"),
    "behind tasks": Bad(
        stages("name: split, role: breakdown", LOOK),
        *(3, 12, "the stage `look` is never reached: `split`", "let `split` be the last", TEAM),
    ),
    "work before tasks": Bad(
        stages(DO, "name: split, role: breakdown"), 3, 12, "work done before `split` would never land", "those", TEAM
    ),
    "another product": Bad(
        stages(f"{DO}, produces: document"), 2, 45, "the role `implementer` produces commits, not document"
    ),
    "unknown product": Bad(stages(f"{DO}, produces: code"), 2, 45, "`produces` must be commits, document, verdict"),
    "document of commits": Bad(stages(f"{DO}, artifact: a.md"), 2, 35, "so there is no document `a.md`"),
    "document's name": Bad(stages(f"{LOOK[:28]}, artifact: a/b.md"), 2, 46, "is not a document's name", "`plan.md`"),
    "missing document": Bad(
        stages(LOOK, f"{DO}, needs: [reserch.md]"), 3, 43, "makes the document `reserch.md`", "`research.md`?"
    ),
    "no document at all": Bad(stages(f"{DO}, needs: [plan.md]"), 2, 43, "the document `plan.md`", "no earlier stage"),
    "document too late": Bad(
        stages(f"{DO}, needs: [research.md]", LOOK), 2, 43, "no earlier stage makes", "line 3 makes it"
    ),
    "needs as text": Bad(stages(LOOK, f"{DO}, needs: research.md"), 3, 42, "`needs` must be a list"),
    "approval": Bad(stages(f"{DO}, approval: yes"), 2, 45, "`approval` must be true or false"),
    "commit without a document": Bad(stages(f"{DO}, commit: a.md"), 2, 35, "writes no document that could be"),
    "commit outside": Bad(stages(f"{LOOK}, commit: ../a.md", DO), 2, 67, "must be a path in the repository"),
    "commit at the root": Bad(stages(f"{LOOK}, commit: /a.md", DO), 2, 67, "must be a path in the repository"),
    "commit of policy": Bad(
        stages(f"{LOOK}, commit: .octopoid/agents.yaml", DO), 2, 67, "must not be in .octopoid", "docs/plan.md"
    ),
    "commit into git": Bad(stages(f"{LOOK}, commit: .git/x", DO), 2, 67, "must not be in .git"),
    "unknown run": Bad(stages("name: a, run: reprodce", DO), 2, 20, "`run` must be reproduce or branch", "`reproduce`"),
    "run and role": Bad(stages("name: a, run: reproduce, role: tester", DO), 2, 31, "`role` means nothing", "remove"),
    "run and needs": Bad(stages("name: a, run: branch, needs: []"), 2, 28, "`needs` means nothing"),
    "unknown gate": Bad(stages(DO, more="gates: [reviwer]\n"), 3, 9, "unknown gate `reviwer`", "`reviewer`?"),
    "gate that gives no verdict": Bad(
        stages(DO, more="gates: [researcher]\n"), 3, 9, "produces document, not a verdict", "reviewer"
    ),
    "gate that nobody answers": Bad(
        stages(DO, more="gates: [checks, [reviewer, tester]]\n"), 3, 28, "nobody can answer the gate `tester`"
    ),
    "advisory gate that nobody answers": Bad(
        stages(DO, more="gates: [{gate: tester, required: false}]\n"), 3, 16, "nobody can answer the gate `tester`"
    ),
    "gate twice": Bad(stages(DO, more="gates: [[checks, reviewer], reviewer]\n"), 3, 29, "`reviewer` is there twice"),
    "gates without work": Bad(stages(LOOK, more="gates: [human]\n"), 3, 1, "no stage makes any", "`approval: true`"),
    "landing without work": Bad(stages(LOOK, more="land: merge\n"), 3, 1, "there is nothing to land", "remove"),
    "landing": Bad(stages(DO, more="land: {mode: rebse}\n"), 3, 14, "`mode` must be merge", "`rebase`?"),
    "landing in short": Bad(stages(DO, more="land: rebse\n"), 3, 7, "`land` must be merge", "`rebase`?"),
    "rounds": Bad(stages(DO, more="rounds: 0\n"), 3, 9, "`rounds` must be a whole number from 1"),
    "unknown role for conflicts": Bad(
        stages(DO, more="conflicts: rebase\n"), 3, 12, "no file defines the role `rebase`", "`rebaser`?"
    ),
    "nobody for conflicts": Bad(stages(DO, more="conflicts: rebaser\n"), 3, 12, "no agent plays the role `rebaser`"),
    "conflicts that no commit resolves": Bad(
        stages(DO, more="conflicts: reviewer\n"), 3, 12, "a conflict is resolved by commits"
    ),
    "after as text": Bad(stages(DO, more="after: document\n"), 3, 8, "`after` must be a list", "Document: {title}"),
    "after as words": Bad(stages(DO, more="after: [document]\n"), 3, 9, "what follows must have keys"),
    "after without a title": Bad(stages(DO, more="after: [{flow: quick}]\n"), 3, 9, "after[] has no `title`"),
    "unknown flow after": Bad(
        stages(DO, more="after: [{title: x, flow: quik}]\n"), 3, 26, "there is no flow `quik`", "`quick`?"
    ),
    "unknown role after": Bad(
        stages(DO, more="after: [{title: x, role: documnter}]\n"), 3, 26, "no file defines the role", "`documenter`?"
    ),
    "nobody after": Bad(stages(DO, more="after: [{title: x, role: documenter}]\n"), 3, 26, "no agent plays the role"),
    "unknown placeholder": Bad(
        stages(DO, more='after: [{title: "x {name}"}]\n'), 3, 17, "unknown placeholder {name} in `title`", "{id}"
    ),
    "unknown placeholder in the text": Bad(
        stages(DO, more='after: [{title: x, body: "{titel}"}]\n'), 3, 26, "unknown placeholder {titel} in `body`"
    ),
    "after itself": Bad(
        stages(DO, more="after: [{title: x, flow: mine}]\n"), 3, 26, "never ends: `mine` → `mine`", "`quick`"
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_reported_where_it_is(tmp_path: Path, name: str) -> None:
    bad = BAD[name]
    (found,) = problems(tmp_path, bad.policy, mine=bad.text)
    assert (found.path, found.line, found.column) == (tmp_path / ".octopoid/flows/mine.yaml", bad.line, bad.column)
    assert bad.message in found.message
    assert bad.hint in found.hint


def test_all_problems_of_all_files_are_reported_together(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        "max_agent: 3\n" + FEW,
        one=stages("name: do, role: nobody", more="rounds: many\nland: never\n"),
        two="stages: []\n",
        three="a: b: c\n",
    )
    assert [(one.path.name, one.line) for one in found] == [
        ("agents.yaml", 1),
        *(("one.yaml", line) for line in (2, 3, 4)),
        ("three.yaml", 1),
        ("two.yaml", 1),
    ]


def test_flows_that_follow_one_another_for_ever_are_reported_in_each(tmp_path: Path) -> None:
    one = stages(DO, more="after: [{title: x, flow: two}]\n")
    two = stages(DO, more="after:\n  - title: y\n    flow: quick\n  - title: z\n    flow: one\n")
    first, second = problems(tmp_path, one=one, two=two)
    assert (first.path.name, first.line, first.message) == (
        "one.yaml",
        3,
        "what follows never ends: `one` → `two` → `one`",
    )
    assert (second.path.name, second.line, second.column) == ("two.yaml", 7, 11)


def test_a_circle_through_a_built_in_flow_is_found(tmp_path: Path) -> None:
    own = stages(DO, more="after: [{title: x, flow: feature}]\n")
    (found,) = problems(tmp_path, TEAM, quick=own)
    assert "`quick` → `feature` → `quick`" in found.message
    assert "`quick` → `quick`" in problems(tmp_path, TEAM, quick=stages(DO, more="after: [{title: x}]\n"))[0].message


def test_files_that_are_no_flows_are_problems(tmp_path: Path) -> None:
    made = home(tmp_path, FEW, My_Flow=stages(DO))
    (made / "flows" / "short.yml").write_text(stages(DO), encoding="utf-8")
    (made / "flows" / "folder.yaml").mkdir()
    for name in ("README", ".#mine.yaml", "mine.yaml~"):
        (made / "flows" / name).write_text("x", encoding="utf-8")
    with pytest.raises(Invalid) as caught:
        config.load(made)
    assert [(one.path.name, one.message) for one in caught.value.problems] == [
        ("My_Flow.yaml", "`My_Flow` cannot be a flow's name"),
        ("folder.yaml", "cannot be read: Is a directory"),
        ("short.yml", "a flow's file ends in `.yaml`"),
    ]


def test_a_broken_role_is_not_also_a_broken_flow(tmp_path: Path) -> None:
    text = stages("name: a, role: mine", f"{DO}, needs: [mine.md]", more="gates: [checks]\n")
    (found,) = problems(tmp_path, TEAM, {"mine": "---\nx: 1\n---\nDo.\n"}, mine=text)
    assert found.path.name == "mine.md"


def test_a_broken_policy_does_not_make_flows_wrong(tmp_path: Path) -> None:
    found = problems(tmp_path, "agents: [", mine=stages("name: do, role: planner"), other=stages("name: do, role: no"))
    assert [one.path.name for one in found] == ["agents.yaml", "other.yaml"]


# --- what is built in ---


def all_flows(folder: Path, policy: str = TEAM, roles: dict[str, str] | None = None) -> Config:
    return config.load(home(folder, policy, roles))


def test_every_built_in_flow_can_be_used_with_one_agent_for_all(tmp_path: Path) -> None:
    read = all_flows(tmp_path, "gates: [gatekeeper]\nland: {mode: squash}\n" + TEAM)
    assert tuple(read.flows) == flowfiles.builtin_names() == BUILT_IN
    for name, found in read.flows.items():
        assert (found.name, found.source, found.lacks) == (name, "built-in", ())
        assert found.description and found.stages
        assert found.land == ("none" if name in ("breakdown", "review-only") else "squash")
    assert {name for name, found in read.flows.items() if found.gates == ((Gate("gatekeeper"),),)} == {
        "default",
        "fix",
        "project",
    }


def test_the_feature_flow_is_that_of_the_whole_team(tmp_path: Path) -> None:
    found = all_flows(tmp_path).flows["feature"]
    assert found.stages == (
        Stage("research", "researcher", "document", "research.md"),
        Stage("plan", "planner", "document", "plan.md", ("research.md",), approval=True),
        found.stages[2],
    )
    assert found.stages[2][:3] == ("implement", "implementer", "commits") and "plan.md" in found.stages[2].needs
    assert found.gates == (
        (Gate("checks"),),
        (Gate("reviewer"), Gate("security-reviewer"), Gate("tester")),
        (Gate("gatekeeper"),),
    )
    assert found.conflicts == "rebaser"
    assert [(one.role, one.flow) for one in found.after] == [("documenter", "quick")]


def test_other_built_in_flows(tmp_path: Path) -> None:
    flows = all_flows(tmp_path).flows
    assert [(one.name, one.run, one.role) for one in flows["fix"].stages] == [
        ("reproduce", "reproduce", ""),
        ("fix", "", "implementer"),
    ]
    assert flows["project"].stages == (Stage("collect", "", "commits", run="branch"),)
    assert flows["project"].rounds == 1
    assert [(one.produces, one.approval) for one in flows["breakdown"].stages] == [("tasks", True)]
    assert [one.role for one in flows["team"].stages] == [
        *("product-manager", "architect", "backend-engineer", "qa-engineer", "documenter")
    ]
    assert flows["review-only"].stages == (Stage("review", "reviewer", "verdict", "review.md"),)


def test_a_built_in_flow_without_agents_is_no_error_but_says_what_it_lacks(tmp_path: Path) -> None:
    flows = all_flows(tmp_path, FEW).flows
    assert {name: found.lacks for name, found in flows.items() if found.lacks} == {
        "breakdown": ("breakdown",),
        "document": ("documenter", "gatekeeper"),
        "feature": ("planner", "security-reviewer", "tester", "gatekeeper"),
        "team": (
            *("product-manager", "architect", "backend-engineer", "qa-engineer", "documenter", "security-reviewer"),
        ),
    }
    assert flows["feature"].conflicts == "" and flows["feature"].after == (), "those it does without"


def test_roles_of_the_users_own_may_not_fit_into_a_built_in_flow(tmp_path: Path) -> None:
    roles = {"planner": "Plan and build.\n", "reviewer": "Look.\n"}
    flows = all_flows(tmp_path, TEAM, roles).flows
    assert flows["feature"].lacks == ("planner", "implementer", "reviewer")
    assert flows["review-only"].lacks == ("reviewer",)
    assert flows["default"].lacks == ()


def test_flows_count_for_digest_and_sources(tmp_path: Path) -> None:
    before = config.load(home(tmp_path))
    made = home(tmp_path, FEW, mine=stages(DO))
    after = config.load(made)
    assert before.digest != after.digest
    assert [name for name, _, _ in config.sources(made)] == ["agents.yaml", "flows/mine.yaml"]


def test_a_copy_of_the_policy_can_be_loaded_without_the_users_templates(tmp_path: Path) -> None:
    policy = FEW + 'schedule: {a: {cron: "0 3 * * *", template: mine}}\n'
    made = home(tmp_path, policy)
    (made / "templates").mkdir()
    (made / "templates" / "mine.md").write_text("# Mine\n", encoding="utf-8")
    assert config.load(made).schedule["a"].template == "mine"
    copy = made / "run" / "last-good"
    copy.mkdir(parents=True)
    (copy / "agents.yaml").write_text(policy, encoding="utf-8")
    assert config.load(copy).schedule["a"].template == "mine"


# --- the command ---


def test_the_command_lists_flows_and_what_they_lack(repo: Repo) -> None:
    home(repo.root, FEW, mine=stages(LOOK, f"{DO}, approval: true", more="gates: [[reviewer, checks]]\n"))
    answer = repo.octopoid("flows")
    lines = {line.split()[0]: re.split("  +", line) for line in answer.out.splitlines()}
    assert list(lines) == sorted((*BUILT_IN, "mine"))
    assert lines["mine"] == ["mine", "yours", "look > do (you approve)", "[reviewer checks]", "can be used"]
    assert lines["document"][-1] == "needs agents for: documenter, gatekeeper"
    assert "next: octopoid flows show NAME" in answer.err
    found = {one["name"]: one for one in repo.octopoid("flows", "--json").json()["flows"]}
    assert list(found) == sorted((*BUILT_IN, "mine"))
    assert found["mine"]["gates"] == [[{"gate": "reviewer", "required": True}, {"gate": "checks", "required": True}]]
    assert found["document"]["lacks"] == ["documenter", "gatekeeper"]
    assert set(found["mine"]) == set(Flow._fields)
    assert set(found["mine"]["stages"][0]) == set(Stage._fields)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_flow_is_drawn(repo: Repo, name: str) -> None:
    home(repo.root, TEAM)
    found = config.load(repo.layout.home).flows[name]
    answer = repo.octopoid("flows", "show", name)
    lines = answer.out.splitlines()
    assert lines[0] == f"{name} (built-in)"
    assert max(map(len, lines)) <= 80
    places = [next(n for n, line in enumerate(lines) if line.startswith(f"  {one.name} ")) for one in found.stages]
    assert places == sorted(places)
    for group in found.gates:
        for gate in group:
            assert re.search(rf"^  .*\b{gate.name}\b", answer.out, re.MULTILINE)
    assert (f"--flow {name}" if name != "project" else "octopoid project land") in answer.err
    (shown,) = repo.octopoid("flows", "show", name, "--json").json()["flows"]
    assert shown["name"] == name


def test_a_drawing(repo: Repo) -> None:
    text = stages(
        LOOK,
        f"{DO}, needs: [research.md], approval: true",
        more="""\
gates: [checks, [reviewer, {gate: tester, required: false}]]
rounds: 1
land: squash
conflicts: rebaser
after: [{title: "Document: {title}", role: documenter}]
""",
    )
    home(repo.root, TEAM, mine=text)
    assert repo.octopoid("flows", "show", "mine").out == DRAWING
    assert repo.octopoid("flows", "mine").out == DRAWING, "as `octopoid roles NAME`"


DRAWING = """\
mine (.octopoid/flows/mine.yaml)

  look          researcher writes research.md
      |
  do            implementer makes commits; needs research.md; a person approves
      |
  gate          checks: the project's and the task's own commands
      |
  gates,      / reviewer
  all at once \\ tester, advisory: shown, refuses nothing
      |
  on a no       blocked, with what was said
      |
  land          on the base branch, as one commit; rebaser resolves conflicts
      |
  after         a new task "Document: {title}" (documenter, flow quick)
"""


def test_one_that_cannot_be_used_says_so_and_what_to_do(repo: Repo) -> None:
    home(repo.root, FEW)
    answer = repo.octopoid("flows", "show", "document")
    assert "cannot be used: needs agents for: documenter, gatekeeper\n" in answer.out
    assert "next: add agents for documenter, gatekeeper to .octopoid/agents.yaml" in answer.err


def test_an_unknown_flow_is_told_with_the_nearest(repo: Repo) -> None:
    home(repo.root, FEW)
    for words in (("show", "featur"), ("featur",)):
        answer = repo.octopoid("flows", *words, ok=(3,))
        assert "there is no flow featur" in answer.err and "`feature`?" in answer.err


def test_a_wrong_flow_is_shown_by_config_check_and_lint(repo: Repo) -> None:
    home(repo.root, FEW, mine=stages("name: do, role: implementr"))
    for command in (("config", "check"), ("lint",)):
        answer = repo.octopoid(*command, ok=(4,))
        assert "flows/mine.yaml:2:22: no file defines the role `implementr`" in answer.out
    assert "mine.yaml:2:22" in repo.octopoid("flows", ok=(4,)).err


def test_config_check_shows_flows_and_schedules_in_short(repo: Repo) -> None:
    home(repo.root, FEW + 'schedule: {nightly: {cron: "0 3 * * *", title: Clean up}}\n', mine=stages(DO))
    lines = repo.octopoid("config", "check").out.splitlines()
    assert lines[1:] == [
        "flows: default, fix, mine, project, quick, review-only",
        "flows that need further agents: breakdown, document, feature, team",
        "schedule: nightly (0 3 * * *)",
    ]
    found = repo.octopoid("config", "check", "--json").json()
    assert found["schedule"] == [{"name": "nightly", "cron": "0 3 * * *"}]
    assert [one["name"] for one in found["flows"] if not one["lacks"]] == lines[1].removeprefix("flows: ").split(", ")


# --- the page ---


def test_the_page_has_every_key_and_every_built_in_flow(tmp_path: Path) -> None:
    text = (PROJECT / "docs" / "flows.md").read_text(encoding="utf-8")
    table = configkeys.table(configkeys.FLOW_SECTIONS)
    assert table in text, f"docs/flows.md is not up to date; it must contain:\n{table}"
    flows = all_flows(tmp_path).flows
    for name, found in flows.items():
        assert f"| `{name}` | {found.description} |" in text


def test_the_examples_of_the_page_are_valid(tmp_path: Path) -> None:
    text = (PROJECT / "docs" / "flows.md").read_text(encoding="utf-8")
    blocks = [one for one in re.findall(r"```yaml\n(.*?)```", text, re.S) if re.search("^stages:", one, re.M)]
    assert len(blocks) >= 3
    for block in blocks:
        assert flow(tmp_path, block, TEAM).stages


def test_the_drawing_of_the_page_is_the_one_that_is_made(repo: Repo) -> None:
    text = (PROJECT / "docs" / "flows.md").read_text(encoding="utf-8")
    home(repo.root, TEAM)
    assert f"```text\n{repo.octopoid('flows', 'show', 'feature').out}```\n" in text
