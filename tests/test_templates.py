"""Task templates: what is filled in, what stays byte for byte, and `octopoid enqueue --template`."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import Repo, drop, init
from test_cli_write import editor

from octopoid import taskfile, templating
from octopoid.errors import Invalid, NotFound, OctopoidError, UsageError
from octopoid.layout import Layout
from octopoid.states import State
from octopoid.templating import Options

BUILT_IN = ("bug", "chore", "feature", "refactor", "update-dependencies")


@pytest.fixture
def here(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.templates.mkdir(parents=True)
    return layout


def own(layout: Layout, text: str | bytes, name: str = "mine") -> str:
    data = text.encode() if isinstance(text, str) else text
    (layout.templates / f"{name}.md").write_bytes(data)
    return name


def test_the_built_in_ones_are_there(here: Layout) -> None:
    assert templating.names(here) == BUILT_IN


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_template_is_a_good_task(here: Layout, name: str) -> None:
    """As it is, for a schedule, and filled in by a person."""
    plain = templating.load(here, name)
    assert templating.render(here, name) == plain.data
    assert plain.task.criteria and plain.task.labels and plain.task.body
    assert all(one.command is None for one in plain.task.criteria), "nobody knows the commands of every project"
    data = templating.render(here, name, "Of #3: mend it #", "One.\n\nTwo.", Options(2, "documenter", "quick"), " (x)")
    task = taskfile.parse(data, Path("x.md"))
    assert (task.title, task.priority, task.role, task.flow) == ("Of #3: mend it # (x)", 2, "documenter", "quick")
    assert task.body == f"One.\n\nTwo.\n\n{plain.task.body}"
    assert [one.text for one in task.criteria] == [one.text for one in plain.task.criteria]


def test_ones_own_comes_before_the_built_in_one(here: Layout) -> None:
    own(here, "# Ours\n", "bug")
    assert templating.render(here, "bug") == b"# Ours\n"
    own(here, "# More\n", "our-kind")
    assert templating.names(here) == (*BUILT_IN[:3], "our-kind", *BUILT_IN[3:])


CASES = {
    "title alone": ("# Old\n\ntext  \n", ("New", ""), Options(), "# New\n\ntext  \n"),
    "text alone": ("# Old\n\ntext\n", ("", "Said."), Options(), "# Old\n\nSaid.\n\ntext\n"),
    "a text of several lines": ("# Old\nrest\n", ("", "a\n\n- b\n"), Options(), "# Old\n\na\n\n- b\n\nrest\n"),
    "nothing below": ("# Old", ("New", "Said."), Options(), "# New\n\nSaid.\n"),
    "nothing filled in": ("---\n# c\nrole:  'x'\n---\n\n#  Old #\n", ("", ""), Options(), None),
    "no heading": ("text\n", ("New", "Said."), Options(), "# New\n\nSaid.\n\ntext\n"),
    "no heading and no title": ("text\n", ("", ""), Options(), "# Mine\n\ntext\n"),
    "not the heading in a fence": (
        "```\n# no\n```\n<!--\n# no\n-->\n## no\n# Old\nx\n",
        ("New", ""),
        Options(),
        "```\n# no\n```\n<!--\n# no\n-->\n## no\n# New\nx\n",
    ),
    "the title it has": ("```\n# Old\n```\n# Old\n", ("Old", ""), Options(), "```\n# Old\n```\n# Old\n"),
    "an option that it has not": ("# Old\n", ("", ""), Options(role="x"), "---\nrole: x\n---\n# Old\n"),
    "an option that it has": (
        "---\n# why\npriority: P0   # urgent\nx-own: {a: 1}\n---\n# Old\n",
        ("", ""),
        Options(priority=2, base="dev"),
        "---\n# why\npriority: P2\nx-own: {a: 1}\nbase: dev\n---\n# Old\n",
    ),
    "an option that says the same": (
        "---\npriority: 'P0'\n---\n# Old\n",
        ("", ""),
        Options(priority=0, flow="default"),
        None,
    ),
    "the default flow again": (
        "---\nflow: quick\n---\n# O\n",
        ("", ""),
        Options(flow="default"),
        "---\nflow: default\n---\n# O\n",
    ),
    "labels are added": (
        '---\nlabels:\n  - bug\n  - "a b"\nrole: x\n---\n# Old\n',
        ("", ""),
        Options(labels=("ui", "bug")),
        '---\nlabels: [bug, "a b", ui]\nrole: x\n---\n# Old\n',
    ),
    "a list that is not indented": (
        "---\nlabels:\n- bug\n\n---\n# Old\n",
        ("", ""),
        Options(labels=("ui",), depends_on=("first",), project="web"),
        "---\nlabels: [bug, ui]\n\ndepends_on: [first]\nproject: web\n---\n# Old\n",
    ),
    "a quoted key": ('---\n"role": x\n---\n# Old\n', ("", ""), Options(role="y"), "---\nrole: y\n---\n# Old\n"),
    "CRLF and a BOM": (
        "\ufeff---\r\nrole: x\r\n---\r\n# Old\r\n\r\nrest\r\n",
        ("New", "a\nb"),
        Options(role="y", flow="quick"),
        "\ufeff---\r\nrole: y\r\nflow: quick\r\n---\r\n# New\r\n\r\na\r\nb\r\n\r\nrest\r\n",
    ),
    "an empty front matter": ("---\n---\n# Old\n", ("", ""), Options(role="y"), "---\nrole: y\n---\n# Old\n"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_filled_in_changes_its_own_lines_alone(here: Layout, case: str) -> None:
    text, (title, body), options, expected = CASES[case]
    made = templating.render(here, own(here, text), title, body, options)
    assert made.decode() == (text if expected is None else expected)


def test_a_long_title_makes_room_for_the_date(here: Layout) -> None:
    data = templating.render(here, own(here, f"# {'x' * 250}\n"), suffix=" (2026-11-21)")
    title = taskfile.parse(data, Path("x.md")).title
    assert len(title) == 250 and title.endswith("x (2026-11-21)")


WRONG = {
    "an option in a mapping of one line": ("---\n{role: x}\n---\n# Old\n", "", Options(role="y")),
    "an option in a text of several lines": ('---\nx-a: "text\nrole: q\n"\n---\n# Old\n', "", Options(role="y")),
    "a text with a NUL byte": ("# Old\n", "a\0b", Options()),
    "a text with front matter": ("# Old\n", "---\nrole: x\n---\nb", Options()),
    "a role that is no name": ("# Old\n", "", Options(role="No Name")),
    "a criterion without its command": ("# Old\n", "## Acceptance criteria\n- [ ] it :: ", Options()),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_filled_in_is_said(here: Layout, case: str) -> None:
    text, body, options = WRONG[case]
    with pytest.raises((Invalid, UsageError)) as error:
        templating.render(here, own(here, text), "", body, options)
    assert error.value.message and error.value.hint


def test_a_template_that_is_no_task_says_where(here: Layout) -> None:
    own(here, "---\nprioritee: P1\n---\n# Old\n")
    with pytest.raises(Invalid) as error:
        templating.render(here, "mine")
    problem = error.value.problems[0]
    assert (problem.path, problem.line) == (here.templates / "mine.md", 2)


@pytest.mark.parametrize("name", ["bgu", "", "../bug", "a/b", ".hidden", "Bug"])
def test_an_unknown_template_names_those_there_are(here: Layout, name: str) -> None:
    with pytest.raises(NotFound) as error:
        templating.render(here, name)
    assert all(one in error.value.hint for one in BUILT_IN)
    assert ("did you mean `bug`?" in error.value.hint) == (name in ("bgu", "../bug", "Bug"))


# --- through the command line ---


def enqueued(repo: Repo, *args: str, input: str | None = None) -> bytes:  # noqa: A002 - as in harness
    task = repo.octopoid("enqueue", *args, input=input).out.strip()
    return repo.layout.task_file(State.INCOMING, task).read_bytes()


def test_a_template_becomes_a_task(repo: Repo) -> None:
    init(repo)
    assert enqueued(repo, "--template", "bug") == templating.load(repo.layout, "bug").data
    drop(repo, "first", "# First\n")
    options = ("--priority", "P2", "--role", "tester", "--flow", "quick", "--label", "ui", "--after", "first")
    data = enqueued(repo, "--template", "bug", "It fails", "-b", "Often.", *options, "--project", "web")
    task = taskfile.parse(data, Path("x.md"))
    assert (task.title, task.priority, task.role, task.flow) == ("It fails", 2, "tester", "quick")
    assert (task.labels, task.depends_on, task.project) == (("bug", "ui"), ("first",), "web")
    assert task.body.startswith("Often.\n\n") and len(task.criteria) == 3


def test_the_text_may_come_from_standard_input_or_a_file(repo: Repo) -> None:
    init(repo)
    assert b"\n\nfrom a pipe\n\n" in enqueued(repo, "--template", "chore", "Tidy", "-", input="from a pipe\n")
    (repo.root / "a.txt").write_text("from a file")
    assert b"\n\nfrom a file\n\n" in enqueued(repo, "--template", "chore", "-f", "a.txt")
    (repo.root / "task.md").write_text("---\nrole: x\n---\n# T\n")
    wrong = repo.octopoid("enqueue", "--template", "chore", "-f", "task.md", ok=(2,))
    assert "front matter of its own" in wrong.err and "leave the template out" in wrong.err


def test_an_unknown_template_adds_nothing(repo: Repo) -> None:
    init(repo)
    wrong = repo.octopoid("enqueue", "--template", "feture", "x", ok=(3,))
    assert "did you mean `feature`?" in wrong.err and "update-dependencies" in wrong.err
    assert not list(repo.layout.queue.rglob("*.md"))


def test_a_dependency_in_a_template_must_exist(repo: Repo) -> None:
    init(repo)
    repo.layout.templates.mkdir()
    own(repo.layout, "---\ndepends_on: [setup-db]\n---\n# Mine\n")
    assert "setup-db" in repo.octopoid("enqueue", "--template", "mine", ok=(4,)).err


def test_the_editor_opens_the_filled_draft(repo: Repo) -> None:
    init(repo)
    env = editor(repo.root.parent, 'grep -q "^# Slow start" "$1"; echo "More." >> "$1"')
    task = repo.octopoid("enqueue", "--template", "bug", "Slow start", "--edit", env=env).out.strip()
    text = repo.layout.task_file(State.INCOMING, task).read_text()
    assert task.startswith("slow-start-") and text.endswith("More.\n") and "labels: [bug]" in text


def test_projects_flows_and_roles_are_checked(repo: Repo) -> None:
    init(repo)
    assert b"project: web\n" in enqueued(repo, "A", "--project", "web")
    assert "name of a project" in repo.octopoid("enqueue", "A", "--project", "No Good", ok=(2,)).err
    assert b"flow: feature\n" in enqueued(repo, "A", "--flow", "feature")
    assert "did you mean `feature`?" in repo.octopoid("enqueue", "A", "--flow", "featur", ok=(3,)).err
    (repo.root / ".claude/agents").mkdir(parents=True)
    (repo.root / ".claude/agents/x.md").write_text("---\nname: poet\ndescription: writes\n---\nWrite.\n")
    assert b"role: poet\n" in enqueued(repo, "A", "--role", "poet")
    assert "did you mean `poet`?" in repo.octopoid("enqueue", "A", "--role", "poett", ok=(3,)).err


def test_errors_are_ours(here: Layout) -> None:
    """Whatever stands in a template, filling it in gives a task or one of our errors."""
    for text in ("---\n", "", "\0", "# \n", "---\na: [\n---\n", "#\n# Real\n", "```\n# x\n", "<!-- # x\n"):
        own(here, text)
        try:
            made = templating.render(here, "mine", "New", "Body", Options(role="x", labels=("y",)))
        except OctopoidError as error:
            assert error.message
        else:
            assert taskfile.parse(made, Path("x.md")).title == "New"
