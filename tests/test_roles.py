"""Roles: the built-in ones as their agents read them, the user's, Claude Code's, and `octopoid roles`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness import PROJECT, Repo, drop, init, landed, script, write_config

from octopoid import configkeys, prompts, results, rolefiles
from octopoid.errors import Invalid
from octopoid.model import Criterion, Feedback, Task
from octopoid.prompts import Document, Prompt, render
from octopoid.settings import Check, Role

NAMES = (
    *("architect", "backend-engineer", "breakdown", "devops", "documenter", "gatekeeper", "implementer", "planner"),
    *("product-manager", "proposer", "qa-engineer", "rebaser", "researcher", "reviewer", "security-reviewer", "tester"),
)
TASK = Task("add-dark-mode", "Add dark mode", "Make it dark.\n")
BASE, CANDIDATE = "b" * 40, "c" * 40
FIRST = Prompt(TASK, "work", 1, "main", BASE, "/att/002/result.json", artifacts="/att/002/artifacts")
REWORK = FIRST._replace(
    attempt=2, feedback=(Feedback("gatekeeper", "Name it theme.", 1.0), Feedback("human", "Too dark.", 2.0))
)
INFORMED = FIRST._replace(
    task=TASK._replace(criteria=(Criterion("a toggle", None, False, 3), Criterion("kept", "pytest -q", False, 4))),
    answers=(("Which colour?", "Black."),),
    documents=(Document("research.md", "/att/artifacts/research.md", "It was grey before."),),
    checks=(Check("tests", "pytest -q"),),
    notes=("left the CSS alone",),
    roles=("devops", "implementer", "planner"),
    flows=("default", "quick"),
)
GATE = REWORK._replace(candidate=CANDIDATE)
PROMPTS = {"first": FIRST, "rework": REWORK, "informed": INFORMED, "gate": GATE, "all": INFORMED._replace(candidate="")}
MAX_BYTES = 6 << 10


def built_in(name: str) -> Role:
    return rolefiles.builtin(name)[0]


def role(header: str, text: str = "Do it.", name: str = "coder") -> Role:
    return rolefiles.parse(Path(f"/roles/{name}.md"), f"---\n{header}\n---\n{text}\n".encode(), f"/roles/{name}.md")


def claude(text: str, name: str = "helper") -> Role:
    return rolefiles.claude_agent(Path(f"/p/.claude/agents/{name}.md"), text.encode())


# --- the built-in ones ---


def test_the_team_is_there() -> None:
    assert rolefiles.builtin_names() == NAMES
    for name in NAMES:
        one = built_in(name)
        assert one.description and len(one.description) < 100
        assert one.writes == (one.produces == "commits")
        assert not one.plain


def test_what_they_produce() -> None:
    made = {name: built_in(name) for name in NAMES}
    documents = {name: one.artifact for name, one in made.items() if one.produces == "document"}
    assert documents == {
        "architect": "design.md",
        "planner": "plan.md",
        "product-manager": "requirements.md",
        "researcher": "research.md",
    }
    assert {name for name, one in made.items() if one.produces == "tasks"} == {"breakdown", "proposer"}
    verdicts = {name for name, one in made.items() if one.produces == "verdict"}
    assert verdicts == {"gatekeeper", "reviewer", "security-reviewer", "tester"}


@pytest.mark.parametrize("kind", PROMPTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_built_in_role_says_all_that_its_agent_needs(name: str, kind: str) -> None:
    one, prompt = built_in(name), PROMPTS[kind]
    text = render(one, prompt)
    assert "{{" not in text and "{%" not in text and "None" not in text and "\n\n\n" not in text
    assert "Make it dark." in text and "Add dark mode" in text
    assert "unattended" in text
    assert prompt.result_file in text
    assert [item for item in prompt.feedback if item.text not in text] == []
    assert [one for pair in prompt.answers for one in pair if one not in text] == []
    for document in prompt.documents:
        assert document.text in text and document.path in text
    shown = re.findall(r"```json\n(.*?)\n```", text, re.S)
    outcomes = {results.parse(one.encode()).outcome for one in shown}
    assert outcomes == ({"accept", "reject"} if one.produces == "verdict" else _outcomes(one, prompt))
    assert ("/att/002/artifacts/" + one.artifact in text) == (one.produces == "document")


def _outcomes(one: Role, prompt: Prompt) -> set[str]:
    others = set(prompt.roles) - {one.name}
    return {"done", "question", "failed"} | ({"handoff"} if others and one.produces != "tasks" else set())


@pytest.mark.parametrize("name", NAMES)
def test_a_built_in_role_is_short(name: str) -> None:
    bare = FIRST._replace(task=Task("x", "X"), candidate=CANDIDATE if built_in(name).produces == "verdict" else "")
    text = render(built_in(name), bare)
    assert len(text.encode()) <= MAX_BYTES
    assert 40 <= text.count("\n") <= 100
    template = rolefiles.builtin(name)[1].decode()
    assert max(map(len, template.splitlines())) <= 120 + len("{{ base }}") * 3


@pytest.mark.parametrize("name", NAMES)
def test_who_may_not_write_is_told_so(name: str) -> None:
    text = render(built_in(name), FIRST)
    told = any(words in text for words in ("thrown away", "You change nothing here"))
    assert told == (not built_in(name).writes)


@pytest.mark.parametrize("name", [name for name in NAMES if built_in(name).produces == "verdict"])
def test_a_reviewer_without_a_commit_reviews_what_the_task_names(name: str) -> None:
    text = render(built_in(name), FIRST)
    assert "the task below says what to review" in text
    assert "git diff" not in text and "The commit is" not in text
    assert "kept as a document" in text
    gate = render(built_in(name), GATE)
    assert f"git diff {BASE}...{CANDIDATE}" in gate
    assert "no answer is no" in gate and "kept as a document" not in gate
    advice = render(built_in(name), GATE._replace(advisory=True))
    assert "Your verdict is advice" in advice and "no answer is no" not in advice


def test_who_makes_tasks_is_told_what_they_may_name() -> None:
    text = render(built_in("breakdown"), INFORMED._replace(children=("store-1a2b", "toggle-3c4d")))
    assert "say one of devops, implementer, planner." in text
    assert "say one of default, quick." in text
    assert "Tasks that were made before (store-1a2b, toggle-3c4d) stay." in text
    shown = re.findall(r"```json\n(.*?)\n```", text, re.S)
    first = results.parse(shown[0].encode())
    assert [(one.key, one.depends_on) for one in first.subtasks] == [("store", ()), ("toggle", ("store",))]
    last = results.parse(shown[-1].encode())
    assert last.discovered[0].title and last.decisions[0].chosen in last.decisions[0].variants
    assert "`role`: leave it out.\n- `flow`: leave it out." in render(built_in("breakdown"), FIRST)


def test_what_is_asked_for_outweighs_what_the_role_says() -> None:
    text = render(built_in("planner"), FIRST._replace(produces="document", artifact="/elsewhere/idea.md"))
    assert "/elsewhere/idea.md" in text and "plan.md to" not in text


def test_every_part_can_be_taken_alone() -> None:
    for part in rolefiles.part_names():
        for produces in ("commits", "document", "verdict", "tasks"):
            one = role(f"produces: {produces}", f'{{% include "{part}" %}}')
            assert prompts.check(one) == ()
            for prompt in PROMPTS.values():
                text = render(one, prompt)
                assert "{%" not in text and "\n\n\n" not in text


# --- the header ---


def test_a_header_says_everything() -> None:
    one = role(
        "description: writes an idea\nproduces: document\nartifact: idea.md\ninputs: [research.md]\n"
        "tools: Read, Bash(git log:*, git show:*)\nmodel: opus\nmax_turns: 30\ntimeout: 10m"
    )
    assert one == Role(
        "coder",
        one.template,
        "writes an idea",
        "document",
        False,
        ("Read", "Bash(git log:*, git show:*)"),
        "opus",
        "/roles/coder.md",
        "idea.md",
        ("research.md",),
        30,
        600.0,
    )


@pytest.mark.parametrize(
    ("header", "artifact", "writes"),
    [
        ("produces: document", "coder.md", False),
        ("produces: verdict", "", False),
        ("produces: verdict\nartifact: review.md", "review.md", False),
        ("produces: tasks", "", False),
        ("produces: commits", "", True),
        ("description: x", "", True),
        ("produces: document\nwrites: false", "coder.md", False),
    ],
)
def test_what_a_header_leaves_out(header: str, artifact: str, writes: bool) -> None:
    one = role(header)
    assert (one.artifact, one.writes) == (artifact, writes)


@pytest.mark.parametrize(
    ("header", "line", "column", "message"),
    [
        ("produces: documents", 2, 11, "`produces` must be commits, document, verdict or tasks"),
        ("produces: document\nartifact: ../plan.md", 3, 11, "`../plan.md` is not a document's name"),
        ("produces: document\nartifact: Plan.md", 3, 11, "`Plan.md` is not a document's name"),
        ("produces: document\nartifact: plan.txt", 3, 11, "`plan.txt` is not a document's name"),
        ("artifact: plan.md", 2, 1, "`artifact` means nothing to a role that produces commits"),
        ("produces: tasks\nartifact: plan.md", 3, 1, "`artifact` means nothing to a role that produces tasks"),
        ("produces: verdict\nwrites: true", 3, 1, "`writes: true` means nothing to a role that produces verdict"),
        ("inputs: [plan]", 2, 9, "`plan` is not a document's name"),
        ("timeout: soon", 2, 10, "`timeout` must be a duration"),
        ("max_turns: -1", 2, 12, "`max_turns` must be a whole number"),
        ("artefact: plan.md", 2, 1, "unknown key `artefact`"),
    ],
)
def test_a_wrong_header_is_refused_with_its_place(header: str, line: int, column: int, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        role(header)
    first = caught.value.problems[0]
    assert (first.line, first.column) == (line, column)
    assert first.message.startswith(message)


@pytest.mark.parametrize("name", ["checks", "human", "all", "Coder", "a b"])
def test_some_words_are_no_names(name: str) -> None:
    with pytest.raises(Invalid, match="cannot be a role's name"):
        role("description: x", name=name)


# --- Claude Code's agents ---

AGENT = """---
name: api-designer
description: Use this agent when you design an interface.
tools: Read, Grep, Glob
model: inherit
color: blue
---

You design interfaces. {{ braces }} and {% tags %} are text.
"""


def test_an_agent_of_claude_code_is_a_role() -> None:
    one = claude(AGENT)
    assert (one.name, one.produces, one.writes, one.plain, one.model) == ("api-designer", "any", False, True, "")
    assert one.tools == ("Read", "Grep", "Glob")
    assert one.description == "Use this agent when you design an interface."
    assert one.template == "You design interfaces. {{ braces }} and {% tags %} are text."
    assert rolefiles.source_path(one) == Path("/p/.claude/agents/helper.md")
    assert prompts.check(one) == ()


@pytest.mark.parametrize(
    ("tools", "writes", "found"),
    [
        ("", True, ()),
        ("tools: '*'", True, ()),
        ("tools: Read, Edit", True, ("Read", "Edit")),
        ("tools: [Read, Bash]", True, ("Read", "Bash")),
        ("tools: Read, Bash(git log:*, git show:*)", True, ("Read", "Bash(git log:*, git show:*)")),
        ("tools:\n  - Read\n  - NotebookEdit", True, ("Read", "NotebookEdit")),
        ("tools: Read, WebFetch", False, ("Read", "WebFetch")),
    ],
)
def test_its_tools_say_whether_it_writes(tools: str, writes: bool, found: tuple[str, ...]) -> None:
    one = claude(f"---\nname: x\n{tools}\n---\nText.\n")
    assert (one.writes, one.tools) == (writes, found)


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("name: fixer", "fixer"),
        ("", "helper"),
        ("name: My Fixer", "helper"),
        ("name: all", "helper"),
        ("name: 'fixer'  # mine", "fixer"),
        ("name: 7", "7"),
    ],
)
def test_its_name(name: str, called: str) -> None:
    assert claude(f"---\n{name}\nmodel: opus\n---\nText.\n").name == called


def test_what_claude_code_itself_writes_is_no_yaml_and_is_read_all_the_same() -> None:
    text = (
        "---\nname: reviewer\ndescription: Use it when: code was written. Examples:\\n\\n<example>\\nuser: 'hi'"
        '\\nassistant: "ok"\\n</example>\ntools: Read, Bash\nmodel: sonnet\n---\n\nYou review.\n---\nname: no\n'
    )
    one = claude(text)
    assert (one.name, one.tools, one.model) == ("reviewer", ("Read", "Bash"), "sonnet")
    assert one.description.startswith("Use it when: code was written. Examples: <example> user: 'hi'")
    assert one.template.endswith("---\nname: no")


def test_no_header_at_all_is_an_agent_too() -> None:
    one = claude("You fix typos.\r\n")
    assert (one.name, one.writes, one.template) == ("helper", True, "You fix typos.")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("---\nname: x\ntools: [Read\n---\nText.\n", 4, "broken YAML"),
        ('---\nname: x\ndescription: "a\n---\nText.\n', 0, "broken YAML"),
        ("---\nname: x\nText.\n", 1, "the header has no end"),
        ("---\nname: x\n---\n\n", 0, "the prompt is empty"),
    ],
)
def test_a_broken_agent_is_refused_with_file_and_line(text: str, line: int, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        claude(text)
    first = caught.value.problems[0]
    assert str(first.path).endswith("helper.md")
    assert first.message.startswith(message)
    assert line in (0, first.line)


def test_agents_are_listed_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "agents"
    assert rolefiles.claude_agents(folder) == {}
    folder.mkdir()
    for file, text in {
        "b.md": "---\nname: zeta\n---\nText.\n",
        "a.md": "---\nname: beta\n---\nText.\n",
        "c.md": "---\nname: beta\n---\nAnother.\n",
        "broken.md": "---\nname: [x\n---\nText.\n",
        ".hidden.md": "Text.\n",
        "notes.txt": "Text.\n",
    }.items():
        (folder / file).write_text(text, encoding="utf-8")
    (folder / "folder.md").mkdir()
    found = rolefiles.claude_agents(folder)
    assert list(found) == sorted(found)
    assert {name: path.name for name, path in found.items()} == {
        "beta": "a.md",
        "broken": "broken.md",
        "folder": "folder.md",
        "zeta": "b.md",
    }


@pytest.mark.parametrize(
    ("produces", "words"),
    [
        ("", ("and commit the work", "Exit when the work is committed.")),
        ("commits", ("and commit the work", "git worktree for this task alone")),
        ("document", ("Write one document", "/att/002/artifacts/helper.md", "thrown away")),
        ("tasks", ("Make tasks of the one below", '"subtasks"')),
        ("verdict", ("what the task below names", "kept as a document", '"outcome": "reject"')),
    ],
)
def test_an_agent_is_told_what_it_is_used_for(produces: str, words: tuple[str, ...]) -> None:
    one = claude("You know CSS. {{ braces }}\n")
    text = render(one, INFORMED._replace(produces=produces))
    assert text.startswith("You know CSS. {{ braces }}\n\n## What you are asked to do now\n\n")
    assert "\n\n\n" not in text
    for word in (*words, "It was grey before.", "Black.", "/att/002/result.json"):
        assert word in text


def test_an_agent_is_a_gate() -> None:
    text = render(claude(AGENT), GATE._replace(produces="verdict"))
    assert text.startswith("You design interfaces. {{ braces }} and {% tags %} are text.\n\n")
    for word in (
        f"The commit is {CANDIDATE}.",
        "Name it theme.",
        "thrown away",
        '"outcome": "accept"',
        "no answer is no",
    ):
        assert word in text
    assert "handoff" not in text


def test_reading_roles_loads_neither_templates_nor_front_matter(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(AGENT, encoding="utf-8")
    program = (
        "import sys; from pathlib import Path; from octopoid import prompts, rolefiles;"
        " [rolefiles.builtin(name) for name in rolefiles.builtin_names()];"
        f" assert list(rolefiles.claude_agents(Path({str(tmp_path)!r}))) == ['api-designer'];"
        " print([name for name in ('jinja2', 'frontmatter') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


# --- the command ---

POLICY = "agents:\n  worker: {role: implementer, adapter: claude}\n  reviewer: {role: gatekeeper, adapter: claude}\n"


def place(repo: Repo, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = repo.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def rows(text: str) -> dict[str, list[str]]:
    cells = [re.split(r"  +", line) for line in text.splitlines()]
    return {one[0]: one[1:] for one in cells}


def test_roles_are_listed_with_who_plays_them_and_where_they_come_from(repo: Repo) -> None:
    write_config(repo, POLICY)
    place(
        repo,
        {
            ".octopoid/roles/reviewer.md": "---\nproduces: verdict\n---\nReview {{ candidate }}.\n",
            ".octopoid/roles/typist.md": "Fix typos.\n",
            ".claude/agents/api.md": AGENT,
            ".claude/agents/planner.md": "Plan.\n",
            ".claude/agents/reviewer.md": "Review.\n",
        },
    )
    answer = repo.octopoid("roles")
    found = rows(answer.out)
    assert set(found) == {*NAMES, "typist", "api-designer"}
    assert found["implementer"] == ["commits", "yes", "worker", "built-in"]
    assert found["gatekeeper"] == ["verdict", "no", "reviewer", "built-in"]
    assert found["typist"] == ["commits", "yes", "nobody", ".octopoid/roles/typist.md"]
    assert found["api-designer"] == ["any", "no", "nobody", ".claude/agents/api.md"]
    assert found["planner"][-1] == "built-in (shadows .claude/agents/planner.md)"
    assert found["reviewer"][-1] == ".octopoid/roles/reviewer.md (shadows built-in, .claude/agents/reviewer.md)"
    assert answer.err.splitlines()[-1].startswith("next: ")
    said = repo.octopoid("roles", "--json").json()
    assert (said["schema_version"], said["kind"], said["problems"]) == (1, "roles", [])
    named = {one["name"]: one for one in said["roles"]}
    assert set(named) == set(found)
    assert named["reviewer"]["shadows"] == ["built-in", ".claude/agents/reviewer.md"]
    assert named["planner"] == {
        "name": "planner",
        "description": built_in("planner").description,
        "produces": "document",
        "writes": False,
        "tools": list(built_in("planner").tools),
        "model": "",
        "artifact": "plan.md",
        "inputs": ["research.md", "requirements.md", "design.md"],
        "max_turns": 0,
        "timeout": 0.0,
        "source": "built-in",
        "agents": [],
        "shadows": [".claude/agents/planner.md"],
    }


@pytest.mark.parametrize("policy", [None, "agents: {implementer: {adaptor: claude}}\n"])
def test_roles_are_listed_without_a_policy(repo: Repo, policy: str | None) -> None:
    init(repo)
    repo.layout.agents_yaml.unlink()
    if policy:
        write_config(repo, policy)
    answer = repo.octopoid("roles")
    assert rows(answer.out)["planner"] == ["document", "no", "built-in"]
    assert "who plays which role is not known: " in answer.err
    assert {one["agents"] for one in repo.octopoid("roles", "--json").json()["roles"]} == {None}
    assert "## What to hand in" in repo.octopoid("roles", "planner").out


def test_a_role_that_is_wrong_is_shown_with_its_place(repo: Repo) -> None:
    write_config(repo, POLICY)
    place(
        repo,
        {
            ".octopoid/roles/typist.md": "---\nproduces: verdict\n---\n{{ candidte }}\n{% include 'contrct' %}\n",
            ".octopoid/roles/odd.md": "---\nproduces: x\n---\nText.\n",
            ".claude/agents/bad.md": "---\nname: [x\n---\nText.\n",
        },
    )
    answer = repo.octopoid("roles")
    assert [rows(answer.out)[name][0] for name in ("typist", "odd", "bad")] == ["invalid"] * 3
    for said in (
        "typist.md:4:4: unknown variable `candidte`",
        "there is no part `contrct`",
        "odd.md:2:11:",
        "bad.md:3:1:",
    ):
        assert said in answer.err
    assert len(repo.octopoid("roles", "--json").json()["problems"]) == 4
    refused = repo.octopoid("roles", "typist", ok=(4,))
    assert "typist.md:4:4" in refused.err and "did you mean `candidate`?" in refused.err


def test_a_role_is_shown_with_its_prompt_or_as_it_is(repo: Repo) -> None:
    write_config(repo, POLICY + "checks: [make test]\n")
    shown = repo.octopoid("roles", "researcher").out
    for word in ("artifact      research.md", "agents        nobody", "## The task: Add dark mode", "`make test`"):
        assert word in shown
    assert str(repo.layout.attempts / "add-dark-mode-7f3k/001/artifacts/research.md") in shown
    source = repo.octopoid("roles", "researcher", "--source").out
    assert source == rolefiles.builtin("researcher")[1].decode()
    place(repo, {".octopoid/roles/researcher.md": ""})  # as a shell does before `--source > researcher.md` begins
    assert repo.octopoid("roles", "researcher", "--source").out == source
    place(repo, {".octopoid/roles/researcher.md": source})
    prompt = repo.octopoid("roles", "gatekeeper", "--json").json()["roles"][0]["prompt"]
    assert "The commit is cccc" in prompt
    place(repo, {".claude/agents/api.md": AGENT})
    assert "Review the commit that is named below" in repo.octopoid("roles", "api-designer").out


def test_a_role_that_is_not_there(repo: Repo) -> None:
    write_config(repo, POLICY)
    assert "did you mean `planner`?" in repo.octopoid("roles", "planer", ok=(3,)).err
    assert "--source needs the name of a role" in repo.octopoid("roles", "--source", ok=(2,)).err


def test_files_alone_make_a_team(repo: Repo) -> None:
    """An agent of Claude Code does the work, a role with parts of ours judges it; their prompts are what they were."""
    place(
        repo,
        {
            ".claude/agents/css.md": "---\nname: css-expert\ntools: Read, Edit\n---\n\nYou know CSS. {{ braces }}\n",
            ".claude/agents/eye.md": "---\nname: eye\ntools: Read\n---\n\nYou see colours.\n",
        },
    )
    agent = {"adapter": "scripted", "script": ".octopoid/scripted.json"}
    work = {
        "css-expert": [[{"write": {"path": "a.css", "text": "a {}\n"}}, {"commit": "Style"}]],
        "default": [[{"accept": "Seen."}]],
    }
    script(
        repo,
        {"tasks": {"default": work}},
        gates=["guard", "eye"],
        agents={
            "worker": {**agent, "role": "css-expert"},
            "judges": {**agent, "roles": ["guard", "eye", "implementer"]},
        },
    )
    guard = '---\nproduces: verdict\n---\nYou guard.\n\n{% include "given" %}\n{% include "contract" %}\n'
    place(repo, {".octopoid/roles/guard.md": guard})
    drop(repo, "style", "---\nrole: css-expert\n---\n# Style it\n")
    repo.octopoid("run", "--until-empty")
    assert landed(repo) == ("style",)
    said = {
        json.loads((path.parent / "attempt.json").read_text("utf-8"))["role"]: path.read_text("utf-8")
        for path in repo.layout.entries("style").glob("[0-9]*/prompt.md")
    }
    assert set(said) == {"css-expert", "guard", "eye"}
    assert said["css-expert"].startswith("You know CSS. {{ braces }}\n\n## What you are asked to do now\n\nDo the task")
    assert said["guard"].startswith("You guard.\n\nThe commit is ") and "no answer is no" in said["guard"]
    assert said["eye"].startswith("You see colours.\n") and '"outcome": "accept"' in said["eye"]
    assert '"outcome": "done"' in said["css-expert"] and '"outcome": "done"' not in said["eye"]


# --- the page ---

PAGE = PROJECT / "docs/roles.md"


def _examples(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)


def test_every_role_of_the_page_is_valid() -> None:
    found = [text for text in (*_examples("jinja"), *_examples("markdown")) if text.startswith("---")]
    assert len(found) >= 2
    for text in found:
        one = rolefiles.parse(Path("/roles/example.md"), text.encode(), "/roles/example.md")
        assert prompts.check(one) == ()
        for prompt in PROMPTS.values():
            assert "{{" not in render(one, prompt)


def test_the_agent_of_the_page_is_valid() -> None:
    found = [claude(text) for text in _examples("md")]
    assert found and all(one.name != "helper" and one.description for one in found)


def test_the_page_has_the_table_of_the_header() -> None:
    assert configkeys.table({"": configkeys.ROLE}) in PAGE.read_text(encoding="utf-8")


def test_the_page_names_every_role_part_variable_and_key() -> None:
    text = PAGE.read_text(encoding="utf-8")
    variables = {*Prompt._fields, "role", "writes"}
    for name in (*NAMES, *rolefiles.part_names(), *variables):
        assert f"`{name}`" in text, name
    for name in NAMES:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert f" {built_in(name).artifact or built_in(name).produces}" in row.replace("`", " ")
