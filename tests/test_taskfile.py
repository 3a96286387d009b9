"""Task files: every valid one says what its author meant, every other one says what is wrong and where."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octopoid import clock, sections, taskfile, taskhead
from octopoid.errors import Invalid
from octopoid.model import Criterion, Problem, Task

PATH = Path("queue/incoming/add-dark-mode-7f3k.md")

FULL = b"""---
priority: P1            # P0 ... P3, default P2
role: implementer       # default: the flow's first stage decides
flow: default
depends_on: [add-login-7f3k]
base: main              # default: agents.yaml
labels: [ui]
not_before: 2026-12-01T09:00:00+01:00
---
# Add dark mode

Free text. Context, links, whatever helps.

## Acceptance criteria
- [ ] toggle in the settings page
- [ ] remembers the choice :: pytest -q tests/test_theme.py
"""

steady = settings(deadline=None)
"""The machine may be busy; time is measured where it is the point."""


def parse(data: bytes, name: str = PATH.name) -> Task:
    return taskfile.parse(data, PATH.with_name(name))


def problems(data: bytes, name: str = PATH.name) -> tuple[Problem, ...]:
    with pytest.raises(Invalid) as caught:
        parse(data, name)
    assert caught.value.exit_code == 4
    assert caught.value.problems
    return caught.value.problems


def header(line: str) -> bytes:
    return f"---\n{line}\n---\n# Title\n".encode()


# What is valid


def test_a_full_task_file() -> None:
    assert parse(FULL) == Task(
        id="add-dark-mode-7f3k",
        title="Add dark mode",
        body="Free text. Context, links, whatever helps.\n\n## Acceptance criteria\n- [ ] toggle in the settings page\n"
        "- [ ] remembers the choice :: pytest -q tests/test_theme.py",
        priority=1,
        role="implementer",
        flow="default",
        depends_on=("add-login-7f3k",),
        base="main",
        labels=("ui",),
        not_before=clock.parse("2026-12-01T08:00:00Z"),
        criteria=(
            Criterion("toggle in the settings page", None, False, 15),
            Criterion("remembers the choice", "pytest -q tests/test_theme.py", False, 16),
        ),
    )


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_line_ends_and_a_bom_change_nothing(bom: bytes, newline: bytes) -> None:
    assert parse(bom + FULL.replace(b"\n", newline)) == parse(FULL)


def test_a_file_without_front_matter_is_a_task() -> None:
    assert parse(b"Make it faster.\n") == Task("add-dark-mode-7f3k", "Add dark mode 7f3k", "Make it faster.")


@pytest.mark.parametrize("data", [b"---\n---\n", b"---\npriority: P2\n---", b"---  \n# only a comment\n--- \n"])
def test_front_matter_alone_is_a_task_named_by_its_file(data: bytes) -> None:
    assert parse(data) == Task("add-dark-mode-7f3k", "Add dark mode 7f3k")


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# Title", "Title"),
        ("#\tTitle #", "Title"),
        ("   # C# ##  ", "C#"),
        ("Text first\n\n# Title\n# Another", "Title"),
        ("```sh\n# a comment\n```\n# Title", "Title"),
        ("~~~~\n# no\n~~~\n# no\n~~~~~\n# Title", "Title"),
        ("<!--\n# a template\n-->\n# Title", "Title"),
        ("``` `inline` ```\n# Title", "Title"),
        ("#hashtag\n    # code\n# \n# Title", "Title"),
        ("# Acceptance criteria\n- [ ] one\n# Title", "Title"),
        ("# A \x1b[31mred\ttitle", "A  [31mred title"),
        ("# " + "x" * 300, "x" * 249 + "…"),
        ("## Second level\ntext", "Add dark mode 7f3k"),
        ("```\n# never closed", "Add dark mode 7f3k"),
    ],
)
def test_the_title_is_the_first_heading(text: str, title: str) -> None:
    assert parse(text.encode()).title == title


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("# Title\n\n\n    code\n\ntext \n\n", "    code\n\ntext"),
        ("\n\n# Title #\ntext", "text"),
        ("Text\n\n# Title\n", "Text\n\n# Title"),
        ("# " + "x" * 300, "# " + "x" * 300),
        ("# Title\n\n# Title\n", "# Title"),
        ("  \n \n  indented", "  indented"),
    ],
)
def test_the_body_is_the_text_without_the_title(text: str, body: str) -> None:
    assert parse(text.encode()).body == body


def test_our_own_sections_are_no_part_of_the_task() -> None:
    data = sections.put(FULL, "feedback", "# Not a title\n## Acceptance criteria\n- [ ] no :: false")
    data += b"- [x] of the person\n"
    task = parse(data)
    assert task.title == "Add dark mode"
    assert "Not a title" not in task.body
    assert task.body.endswith("test_theme.py\n- [x] of the person")
    assert [(one.text, one.line) for one in task.criteria[2:]] == [("of the person", 22)]


def test_x_keys_are_the_users_own() -> None:
    task = parse(header("x-estimate: {days: 3, who: [a, b]}\nx-: null\npriority: P0"))
    assert task == Task("add-dark-mode-7f3k", "Title", priority=0)


@pytest.mark.parametrize(
    ("line", "ids"),
    [
        ("depends_on: add-login", ("add-login",)),
        ("depends_on: [ b , a]", ("b", "a")),
        ("depends_on: []", ()),
        ("depends_on:\n  - b  # why\n  - 'a'", ("b", "a")),
        ('depends_on: ["12", none]', ("12", "none")),
    ],
)
def test_dependencies(line: str, ids: tuple[str, ...]) -> None:
    assert parse(header(line)).depends_on == ids


@pytest.mark.parametrize(
    ("line", "labels"),
    [
        ("labels: ui", ("ui",)),
        ("labels: [ui, 'needs review', ui, grün]", ("ui", "needs review", "grün")),
    ],
)
def test_labels(line: str, labels: tuple[str, ...]) -> None:
    assert parse(header(line)).labels == labels


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-12-01T09:00:00+01:00", "2026-12-01T08:00:00Z"),
        ("2026-12-01 09:00Z", "2026-12-01T09:00:00Z"),
        ("'2026-12-01T09:00:00.5-05:00'", "2026-12-01T14:00:00.500Z"),
        ("2025-11-02T01:30:00-04:00", "2025-11-02T05:30:00Z"),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59-14:00", None),
    ],
)
def test_not_before_is_a_moment_whatever_the_zone_of_the_machine(
    text: str, at: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for zone in ("America/New_York", "Asia/Kolkata"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        found = parse(header(f"not_before: {text}")).not_before
        assert at is None or found == clock.parse(at)
    monkeypatch.undo()
    time.tzset()


# Criteria


def criteria(text: str) -> list[tuple[str, str | None, bool]]:
    return [one[:3] for one in parse(text.encode()).criteria]


def test_criteria_are_the_boxes_below_their_heading() -> None:
    text = """# Title
- [ ] before the heading
### acceptance Criteria: ###
- [ ] one
* [x] two :: make test
+ [X]	three
  - [ ] nested :: a :: b  c
1. [ ] numbered
- [] no box
- [ ]
- [ ] \t
-[ ] no item
#### Below it
- [ ] deeper
```
- [ ] example
# heading
```
<!-- - [ ] commented out
- [ ] also
-->
### Notes
- [ ] not one
## Acceptance criteria
- [ ] more
"""
    assert criteria(text) == [
        ("one", None, False),
        ("two", "make test", True),
        ("three", None, True),
        ("nested :: a", "b  c", False),
        ("numbered", None, False),
        ("deeper", None, False),
        ("more", None, False),
    ]


def test_a_command_may_stand_in_backticks_or_alone() -> None:
    text = "## Acceptance criteria\n- [ ] a :: `pytest -q`\n- [ ] :: make\n- [ ] b :: `x` && `y`\n- [ ] c :: ``\n"
    assert criteria(text) == [
        ("a", "pytest -q", False),
        ("make", "make", False),
        ("b", "`x` && `y`", False),
        ("c", "``", False),
    ]


def test_a_criterion_without_its_command_is_refused() -> None:
    (problem,) = problems(b"# T\n## Acceptance criteria\n- [ ] fast :: \n")
    assert (problem.line, problem.hint) == (3, "write the command, or remove the ` :: `")


def test_criteria_have_a_limit() -> None:
    (problem,) = problems(b"# Acceptance criteria\n" + b"- [ ] x\n" * 100_000)
    assert (problem.line, problem.message) == (202, "more than 200 acceptance criteria")


# What is not valid: data, line, column, message, hint

INVALID = [
    # bytes
    (b"", 0, 0, "empty", "# What is to be done"),
    (b" \r\n\t\n", 0, 0, "empty", "title"),
    (b"\xef\xbb\xbf", 0, 0, "empty", "title"),
    (sections.put(b"", "feedback", "stub"), 0, 0, "empty", "title"),
    ("# Title\nübel: ".encode() + b"\xff\n", 2, 7, "not UTF-8: the byte 0xff", "save the file as UTF-8"),
    (b"\xef\xbb\xbfab\xc3(", 1, 3, "not UTF-8", "UTF-8"),
    (b"---\npriority: P1\n---\n\nab\0c\n", 5, 3, "NUL", "remove it"),
    ("# Title\n".encode("utf-16"), 1, 1, "UTF-16", "UTF-8"),
    ("# Title\n".encode("utf-16-le"), 1, 1, "UTF-16", "UTF-8"),
    ("# Title\n".encode("utf-16-be"), 1, 1, "UTF-16", "UTF-8"),
    (b"\0" * 50, 1, 1, "NUL", "crash"),
    (b"---\rpriority: P1\r---\r# T\r", 1, 4, "carriage returns", "LF"),
    # the front matter as a whole
    (b"---\npriority: P1\n# Title\n", 1, 1, "no closing `---`", "title above it"),
    (b"---", 1, 1, "no closing `---`", "---"),
    (b"---\nA rule, then text.\n\n---\nmore\n", 2, 1, "`key: value` lines", "rule"),
    (b"---\npriority:P1\n---\n", 2, 1, "`key: value` lines", "space after the colon"),
    (b"---\n- a\n- b\n---\n", 2, 1, "`key: value` lines", ""),
    (b"\n\n---\npriority: P1\n---\n", 3, 1, "does not begin on line 1", "remove"),
    (b"\npriority: P1\nrole: a\n---\n# Title\n", 2, 1, "no opening `---`", "above it"),
    (b"---\nx-a: " + b"a" * 70_000 + b"\n---\n", 1, 1, "larger than 64 KiB", "below"),
    (header("role: a\x07b"), 2, 8, "control character", "remove"),
    (header("role: implementer\rflow: x"), 2, 18, "control character", "remove"),
    (header("x-a: a\u2028b"), 2, 7, "control character", "remove"),
    (header("role: [a"), 3, 1, "broken YAML", ""),
    (header("labels: [a]\nrole: a: b"), 3, 8, "broken YAML", ""),
    (header("\tpriority: P1"), 2, 1, "broken YAML", "tabs"),
    (header("priority: P1\nrole: a\npriority: P2"), 4, 1, "duplicate key `priority` (first on line 2)", "keep one"),
    (header("labels: [&a b, *a]"), 2, 10, "alias", "write the value out"),
    # keys
    (header("prioritty: P1"), 2, 1, "unknown key `prioritty`", "`priority`"),
    (header("DEPENDS_ON: [a]"), 2, 1, "unknown key", "`depends_on`"),
    (header("depends-on: [a]"), 2, 1, "unknown key", "`depends_on`"),
    (header("BLOCKED_BY: [a]"), 2, 1, "unknown key", "`depends_on`"),
    (header("zzz: 1"), 2, 1, "unknown key", "x-"),
    (header("title: Dark mode"), 2, 1, "unknown key", "first `# heading`"),
    (header("id: dark-mode"), 2, 1, "unknown key", "file name is the id"),
    (header("status: done"), 2, 1, "unknown key", "folder is the state"),
    (header("state: done"), 2, 1, "unknown key", "move the file"),
    # values
    (header("priority: p1"), 2, 11, "`p1` is not a priority", "write `priority: P1`"),
    (header("priority: 1"), 2, 11, "`1` is not a priority", "write `priority: P1`"),
    (header("priority:   high"), 2, 13, "not a priority", "write `priority: P1`"),
    (header("priority: P9"), 2, 11, "not a priority", "P0 (most urgent)"),
    (header("priority: [P1]"), 2, 11, "not a priority", "P2 (the default)"),
    (header("priority:"), 2, 10, "no value", "remove the line"),
    (header("role: Implementer"), 2, 7, "name of a role", "lower-case"),
    (header("role: ../../etc/passwd"), 2, 7, "name of a role", ""),
    (header("role: -rf"), 2, 7, "name of a role", ""),
    (header("role: " + "a" * 300), 2, 7, "name of a role", ""),
    (header("role: true"), 2, 7, "must be text, not True", "quotes"),
    (header("role: 12"), 2, 7, "must be text, not 12", "quotes"),
    (header("role: [a]"), 2, 7, "must be one word", "role: word"),
    (header("flow: ''"), 2, 7, "no value", ""),
    (header("flow: {a: b}"), 2, 7, "must be one word", ""),
    (header("depends_on: a-task, b-task"), 2, 13, "must be a list", "`depends_on: [a-task, b-task]`"),
    (header("depends_on: a-task b-task"), 2, 13, "must be a list", "`depends_on: [a-task, b-task]`"),
    (header("depends_on: [a, ../../x]"), 2, 17, "not the id of a task", "file name"),
    (header("depends_on: None"), 2, 13, "not the id of a task", ""),
    (header("depends_on: ~"), 2, 13, "no value", "remove the line"),
    (header("depends_on: [12]"), 2, 14, "must be text, not 12", "quotes"),
    (header("depends_on: [a, b, a]"), 2, 20, "`a` is listed twice", "remove one"),
    (header("depends_on: [add-dark-mode-7f3k]"), 2, 14, "on itself", "remove"),
    (header("depends_on:\n  - ok\n  - é"), 4, 5, "not the id of a task", ""),
    (header("base: --upload-pack=x"), 2, 7, "begins with `-`", "`main`"),
    (header("base: refs/heads/main"), 2, 7, "short name", "write `base: main`"),
    (header("base: a..b"), 2, 7, "no name of a branch", ""),
    (header("base: 'a b'"), 2, 7, "contains ' '", ""),
    (header("base: 5"), 2, 7, "must be text", ""),
    (header("labels: [ui, 1]"), 2, 14, "must be text, not 1", "quotes"),
    (header('labels: ["a\\x1bb"]'), 2, 10, "control character", "remove"),
    (header("labels: a, b"), 2, 9, "must be a list", "`labels: [a, b]`"),
    (header("labels: [' ']"), 2, 10, "empty label", ""),
    (header("labels: [[a]]"), 2, 10, "must be one word", ""),
    (header("not_before: 2026-12-01"), 2, 13, "no time zone", "2026-12-01T09:00:00+01:00"),
    (header("not_before: 2026-12-01T10:30"), 2, 13, "no time zone", "2026-12-01T10:30:00Z for UTC"),
    (header("not_before: tomorrow"), 2, 13, "not a time", "2026-12-01T09:00:00+01:00"),
    (header("not_before: 20261201"), 2, 13, "not a time", ""),
    (header("not_before: 2026-13-01T09:00:00Z"), 2, 13, "not a time", ""),
    (header("not_before: [2026-12-01T09:00:00Z]"), 2, 13, "not a time", ""),
]


@pytest.mark.parametrize(("data", "line", "column", "message", "hint"), INVALID)
def test_an_invalid_file_says_what_is_wrong_and_where(
    data: bytes, line: int, column: int, message: str, hint: str
) -> None:
    problem = problems(data)[0]
    assert (problem.line, problem.column) == (line, column), problem
    assert message in problem.message
    assert hint in problem.hint
    assert (problem.message + problem.hint).isprintable()


@pytest.mark.parametrize(("data", "line", "column", "message", "hint"), INVALID)
def test_crlf_and_a_bom_change_no_place(data: bytes, line: int, column: int, message: str, hint: str) -> None:
    if not data.startswith(b"---\n"):
        return
    problem = problems(b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"))[0]
    assert (problem.line, problem.column) == (line, column), problem


def test_every_mistake_is_reported_at_once() -> None:
    data = b"---\npriority: high\nroel: x\nbase: -x\ndepends_on: [a, A]\n---\n## Acceptance criteria\n- [ ] x ::\n"
    found = problems(data, "My Task.md")
    assert [one.line for one in found] == [0, 2, 3, 4, 5, 8]
    assert all(one.path.name == "My Task.md" for one in found)


def test_the_error_itself_tells_the_first_and_how_many_more() -> None:
    with pytest.raises(Invalid, match=r"x\.md:2:11: `p1` is not a priority \(and 1 more\)") as caught:
        taskfile.parse(header("priority: p1\nfoo: 1"), Path("x.md"))
    assert caught.value.hint == "write `priority: P1`"


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
@steady
def test_any_bytes_are_a_task_or_invalid(data: bytes) -> None:
    for whole in (data, b"---\n" + data + b"\n---\ntext", header("labels: [ui]") + data):
        try:
            task = parse(whole)
        except Invalid as error:
            assert all(isinstance(one, Problem) for one in error.problems)
        else:
            assert task.title.strip()


# Ids


@pytest.mark.parametrize("stem", ["a", "7", "add-dark-mode-7f3k", "a.b_c-d", "a" * 100, "v1.2"])
def test_ids(stem: str) -> None:
    assert taskfile.check_id(stem) == ""
    assert taskfile.valid_id(stem)
    assert git_takes(f"refs/octopoid/{stem}")


@pytest.mark.parametrize(
    "stem",
    [
        "",
        "A",
        "-rf",
        ".a",
        "_a",
        "a b",
        "é",
        "a/b",
        "../x",
        "a\n",
        "a" * 101,
        "a..b",
        "a.",
        "a.lock",
        "a\0",
        "$(x)",
        "a;b",
    ],
)
def test_what_is_no_id(stem: str) -> None:
    assert taskfile.check_id(stem)
    assert not taskfile.valid_id(stem)


NAMES = [
    ("My Task.md", "my-task.md"),
    ("-rf.md", "rf.md"),
    ("Über größe.md", "uber-grosse.md"),
    ("it's; touch pwned.md", "it-s-touch-pwned.md"),
    ("$(touch pwned).md", "touch-pwned.md"),
    ("a\nb.md", "a-b.md"),
    ("日本語.md", "task.md"),
    ("a..b..md", "a.b.md"),
    ("x.lock.lock.md", "x.md"),
    ("A" * 150 + ".md", "a" * 96 + ".md"),
    ("back\\slash\x1b'.md", "back-slash.md"),
    (b"bad\xff.md".decode("utf-8", "surrogateescape"), "bad.md"),
]


@pytest.mark.parametrize(("name", "mended"), NAMES)
def test_the_hint_for_a_wrong_name_is_the_command_that_mends_it(tmp_path: Path, name: str, mended: str) -> None:
    for relative in (False, True):
        file = tmp_path / name
        file.write_bytes(b"# Title\n")
        with pytest.raises(Invalid) as caught:
            taskfile.parse(b"# Title\n", Path(name) if relative else file)
        (problem,) = caught.value.problems
        assert problem.line == 0
        assert "the file name is the id" in problem.message
        assert problem.hint.startswith("mv -n ")
        assert problem.hint.isprintable()
        subprocess.run(["bash", "-c", problem.hint], cwd=tmp_path, check=True)
        assert [one.name for one in tmp_path.iterdir()] == [mended]
        assert parse(b"# Title\n", mended).title == "Title"
        (tmp_path / mended).unlink()


def test_the_hint_for_a_wrong_name_never_overwrites(tmp_path: Path) -> None:
    file = tmp_path / "My Task.md"
    file.write_bytes(b"# Mine\n")
    (tmp_path / "my-task.md").write_bytes(b"# Taken\n")
    (tmp_path / "my-task-2.md").symlink_to("nowhere")
    with pytest.raises(Invalid) as caught:
        taskfile.parse(b"# Mine\n", file)
    (tmp_path / "my-task-3.md").write_bytes(b"# Came between\n")
    assert caught.value.hint.endswith("/my-task-3.md")
    subprocess.run(["sh", "-c", caught.value.hint], check=False)
    assert file.read_bytes() == b"# Mine\n"
    assert (tmp_path / "my-task-3.md").read_bytes() == b"# Came between\n"


def git_takes(ref: str) -> bool:
    return subprocess.run(["git", "check-ref-format", ref], check=False).returncode == 0


@pytest.mark.parametrize(
    "name",
    [
        *("main", "feature/x", "a.b", "a-b", "release/1.2", "grün", "a@b", "@a", "{a}", "a/b/c", "x.lockx", "a}b@"),
        *("", "-x", "@", "a..b", ".a", "a/.b", "a.lock", "a.lock/b", "a//b", "/a", "a/", "a.", "a@{b", "a b", "a~b"),
        *("a^b", "a:b", "a?b", "a*b", "a[b", "a\\b", "a\x7fb", "a\tb", "a\nb", "a./b"),
    ],
)
def test_branch_names_are_what_git_takes(name: str) -> None:
    assert (taskhead.check_branch(name) == "") == (
        git_takes(f"refs/heads/{name}") and not name.startswith(("-", "@/"))
    ) or (name == "@")


@pytest.mark.parametrize("name", ["HEAD", "@", "refs/heads/main", "refs/x", "a" * 201, "a\u202eb", "a\x9bb"])
def test_branch_names_that_git_would_take_and_we_do_not(name: str) -> None:
    assert taskhead.check_branch(name)


# The short way and the strict way through the front matter

_WORDS = st.one_of(
    st.sampled_from(["true", "No", "null", "~", "1", "0x1f", "1e5", "1.5", ".inf", "12:30", "2026-12-01", "a:", "a:b"]),
    st.sampled_from(
        ["2026-12-01T09:00:00+01:00", "-", "- a", "a #b", "a#b", "'a'", "<<", "=", "a, b", "[a]", "[a,b ]"]
    ),
    st.sampled_from(
        ["[]", "[ ]", "[,]", "[a,]", "[a b]", "[true]", "[a, 1]", "[a/b, c.d]", "P1", "*a", "&a b", "!!str a"]
    ),
    st.from_regex(r"[A-Za-z0-9._/+:-]{1,12}", fullmatch=True),
    st.from_regex(r"\[[A-Za-z0-9._/, -]{0,20}\]", fullmatch=True),
    st.text(alphabet="aT01-.:/+ ,[]#'\"\t&*!|>%@`{}?~", max_size=12),
)
_LINES = st.one_of(
    st.tuples(
        st.sampled_from(taskhead.KEYS), st.sampled_from([": ", ":", ":  "]), _WORDS, st.sampled_from(["", " "])
    ).map("".join),
    st.sampled_from(["", "# comment", "x-a: b", "  folded", "- a", "...", "%YAML 1.1", "unknown: a"]),
)


@given(st.lists(_LINES, max_size=6).map("\n".join), st.booleans())
@settings(deadline=None, max_examples=1000)
def test_what_the_short_way_accepts_the_strict_way_reads_the_same(text: str, ended: bool) -> None:
    text += "\n" if ended else ""
    short = taskhead.read_plain(text, 2)
    if short is not None:
        assert short == taskhead.read_strict(text, taskhead.Report(PATH), 2)


def test_the_short_way_is_taken_by_usual_files() -> None:
    text = "priority: P1\nrole: implementer\nflow: bug-fix\ndepends_on: [add-login-7f3k, x]\nbase: release/1.2\n"
    text += "labels: [ui]\nnot_before: 2026-12-01T09:00:00+01:00\nproject: dark-mode\nparent: big-work-7f3k\n"
    assert taskhead.read_plain(text, 2) is not None
    assert taskhead.read_plain("", 2) == {}


def test_usual_files_load_no_yaml() -> None:
    plain = re.sub(rb" +#.*", b"", FULL)
    code = f"""
import sys
from pathlib import Path
from octopoid import taskfile
for data in ({plain!r}, b"# Title\\n"):
    taskfile.parse(data, Path("a.md"))
assert not {{"yaml", "difflib", "json", "subprocess"}} & set(sys.modules), sys.modules
taskfile.parse({FULL!r}, Path("a.md"))
assert "yaml" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "line",
    [b"a usual line of a log file, eighty columns or so, that somebody pasted into it\n", b"\xf0\x9f\x90\x99 log\n"],
)
def test_ten_megabytes_of_text_are_parsed_fast(line: bytes) -> None:
    data = FULL + line * (10_000_000 // len(line))
    started = time.process_time()
    assert len(parse(data).criteria) == 2
    assert time.process_time() - started < 1.5


@pytest.mark.parametrize(
    "line", [b"```\n", b"# x\n", b"## x\n", b"\n", b"<!--\n", b"<!--\n-->\n", b"- [ ] x\n", b"~~~ `\n"]
)
@pytest.mark.parametrize("first", [b"text\n", b"---\nrole: a\n", b"## Acceptance criteria\n", b"role: a\n"])
def test_hostile_text_costs_linear_time(first: bytes, line: bytes) -> None:
    def seconds(size: int) -> float:
        started = time.process_time()
        with suppress(Invalid):
            parse(first + line * (size // len(line)))
        return time.process_time() - started

    assert seconds(400_000) < max(12 * seconds(100_000), 0.4)


# Projects and parents


def test_a_project_and_a_parent() -> None:
    task = parse(b"---\nproject: dark-mode\nparent: big.work_7f3k\n---\n# T\n")
    assert (task.project, task.parent) == ("dark-mode", "big.work_7f3k")
    assert parse(b"---\nproject: '2024'\nparent: \"1\"\n---\n")[-2:] == ("2024", "1")
    assert parse(b"# T\n")[-2:] == (None, None)


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("project: Dark Mode", "`Dark Mode` is not the name of a project", "names are lower-case letters"),
        ("project: a/b", "`a/b` is not the name of a project", "names are lower-case letters"),
        ("project: -a", "`-a` is not the name of a project", "names are lower-case letters"),
        (f"project: {'a' * 65}", "is not the name of a project", "at most 64 lower-case letters"),
        ("project:", "`project` has no value", "give it one"),
        ("project: 2024", "`project` must be text, not 2024", "put it in quotes"),
        ("project: [a]", "`project` must be one word", "write `project: word`"),
        ("parent: Big", "`Big` is not the id of a task", "without `.md`"),
        ("parent: a..b", "`a..b` is not the id of a task", "without `.md`"),
        ("parent: add-dark-mode-7f3k", "a task cannot be part of itself", "remove"),
        ("parent: [a, b]", "`parent` must be one word", "write `parent: word`"),
        ("parents: a", "unknown key `parents`", "did you mean `parent`?"),
        ("epic: a", "unknown key `epic`", "did you mean `project`?"),
    ],
)
def test_wrong_projects_and_parents(line: str, message: str, hint: str) -> None:
    (problem,) = problems(header(line))
    assert message in problem.message and hint in problem.hint
    assert problem.line == 2


# Writing


def test_compose_writes_criteria_below_the_body() -> None:
    criteria = ("it is fast", " it works :: make  test ", "`x` is gone :: `grep -c x a`")
    data = taskfile.compose(title="T", body="Text.\n\n", project="ui", parent="big", criteria=criteria)
    assert data == (
        b"---\nproject: ui\nparent: big\n---\n# T\n\nText.\n\n\n## Acceptance criteria\n- [ ] it is fast\n"
        b"- [ ] it works :: make  test\n- [ ] `x` is gone :: `grep -c x a`\n"
    )
    assert [(one.text, one.command) for one in parse(data).criteria] == [
        ("it is fast", None),
        ("it works", "make  test"),
        ("`x` is gone", "grep -c x a"),
    ]
    assert taskfile.compose(title="T", criteria=("a",)) == b"# T\n\n## Acceptance criteria\n- [ ] a\n"
    crlf = taskfile.compose(title="T", body="a\r\nb", criteria=("c",))
    assert crlf == b"# T\r\n\r\na\r\nb\r\n\r\n## Acceptance criteria\r\n- [ ] c\r\n"
    after = parse(taskfile.compose(title="T", body="# Acceptance criteria\n- [ ] a", criteria=("b",)))
    assert [one.text for one in after.criteria] == ["a", "b"]


@pytest.mark.parametrize(
    ("body", "criterion"),
    [
        ("", "a\nb"),
        ("", ""),
        ("", "a ::"),
        ("", "a\n- [ ] b :: c"),
        ("```\nnever closed", "a"),
        ("<!-- never closed", "a"),
        ("## Acceptance criteria\n" + "- [ ] x\n" * 200, "a"),
    ],
)
def test_criteria_that_would_be_lost_are_refused(body: str, criterion: str) -> None:
    with pytest.raises(Invalid):
        taskfile.compose(title="T", body=body, criteria=("first", criterion))


def test_compose_writes_only_what_is_not_default() -> None:
    assert taskfile.compose(title="Add dark mode") == b"# Add dark mode\n"
    assert taskfile.compose(title=" Add ", body="text\n", priority=0, labels=["ui", 'say "hi"', "1"]) == (
        b'---\npriority: P0\nlabels: [ui, "say \\"hi\\"", "1"]\n---\n# Add\n\ntext\n'
    )
    assert taskfile.compose(title="T", body="a\r\nb", role="fixer", flow="x", depends_on=("a", "12"), base="dev") == (
        b'---\r\nrole: fixer\r\nflow: x\r\ndepends_on: [a, "12"]\r\nbase: dev\r\n---\r\n# T\r\n\r\na\r\nb\r\n'
    )


_titles = st.text(min_size=1, max_size=60).filter(
    lambda one: one.strip().isprintable() and one.strip() and "criteria" not in one.lower()
)
_ids = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True)
_names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
_bodies = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200).filter(
        lambda one: "criteria" not in one.lower() and "octopoid:" not in one
    ),
    st.lists(st.sampled_from(["# h", "---", "```", "text", "", " ", "\r", "- [ ] a", "<!--", "# h #"]), max_size=8).map(
        "\n".join
    ),
)


_BLANKS = " \t\r\n\v\f"


def _as_read(body: str) -> str:
    text = body.replace("\r\n", "\n")
    start = len(text) - len(text.lstrip(_BLANKS))
    return text[text.rfind("\n", 0, start) + 1 :].rstrip(_BLANKS)


@steady
@given(
    title=_titles,
    body=_bodies,
    priority=st.integers(0, 3),
    role=st.none() | _names,
    flow=_names,
    depends_on=st.lists(_ids, unique=True, max_size=4).map(tuple),
    base=st.none() | st.sampled_from(["main", "release/1.2", "1", "true", "grün", "a#b", "x'y"]),
    labels=st.lists(st.text(min_size=1).filter(lambda one: one.isprintable() and one.strip()), unique=True).map(tuple),
)
def test_compose_and_parse_are_one_round(
    title: str,
    body: str,
    priority: int,
    role: str | None,
    flow: str,
    depends_on: tuple[str, ...],
    base: str | None,
    labels: tuple[str, ...],
) -> None:
    data = taskfile.compose(
        title=title,
        body=body,
        priority=priority,
        role=role,
        flow=flow,
        depends_on=depends_on,
        base=base,
        labels=labels,
    )
    task = parse(data, "other.name.md")
    want = Task("other.name", title.strip(), _as_read(body), priority, role, flow, depends_on, base, labels)
    assert task._replace(criteria=()) == want


@pytest.mark.parametrize(
    "title", ["#", "a #", "# #", "C#", "---", "- [ ] x", "`a`", "a \\", "<!-- a", "# a", "a:", "🐙‍"]
)
def test_awkward_titles_survive(title: str) -> None:
    data = taskfile.compose(title=title, body="# another\n")
    assert (parse(data).title, parse(data).body) == (title, "# another")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"title": " "}, "needs a title"),
        ({"title": "a\nb"}, "cannot be a title"),
        ({"title": "a\x1b[31m"}, "cannot be a title"),
        ({"title": "a\tb"}, "cannot be a title"),
        ({"title": "Acceptance criteria"}, "cannot be a title"),
        ({"title": "x" * 251}, "at most 250"),
        ({"title": "a\udc80"}, "UTF-8"),
        ({"title": "a", "body": "\0"}, "NUL"),
        ({"title": "a", "body": "<!-- octopoid:feedback -->\nx\n<!-- octopoid:end -->"}, "octopoid's own"),
        ({"title": "a", "priority": 7}, "not a priority"),
        ({"title": "a", "priority": -1}, "not a priority"),
        ({"title": "a", "role": "A"}, "name of a role"),
        ({"title": "a", "flow": ""}, "no value"),
        ({"title": "a", "depends_on": ["../x"]}, "not the id"),
        ({"title": "a", "depends_on": ["a", "a"]}, "twice"),
        ({"title": "a", "base": "--x"}, "no name of a branch"),
        ({"title": "a", "labels": ["a\nb"]}, "label"),
        ({"title": "a", "labels": [""]}, "no value"),
    ],
)
def test_compose_refuses_what_a_file_cannot_hold(values: dict[str, object], message: str) -> None:
    with pytest.raises(Invalid, match=re.escape(message)):
        taskfile.compose(**values)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Add dark mode", "add-dark-mode"),
        ("  Don’t   break Größe / Łódź! ", "dont-break-grosse-lodz"),
        ("a" * 60, "a" * 40),
        ("word " * 20, "word-word-word-word-word-word-word-word"),
        ("Fix the extraordinarily long description of it", "fix-the-extraordinarily-long-description"),
        ("日本語", "task"),
        ("…", "task"),
        ("../../etc/passwd; $(rm -rf)", "etc-passwd-rm-rf"),
    ],
)
def test_slug(title: str, slug: str) -> None:
    assert taskfile.slug(title) == slug


@given(st.text())
@steady
def test_a_slug_is_the_beginning_of_an_id(title: str) -> None:
    slug = taskfile.slug(title)
    assert taskfile.valid_id(f"{slug}-7f3k")
    assert len(slug) <= 40


# The page that users read

_PAGE = Path(__file__).resolve().parent.parent / "docs" / "task-format.md"


@pytest.mark.parametrize(
    "example", re.findall(r"^```markdown\n(.*?)^```$", _PAGE.read_text(encoding="utf-8"), re.M | re.S)
)
def test_every_example_of_the_page_is_valid(example: str) -> None:
    assert parse(example.encode(), "an-example.md").body


def test_the_page_names_every_key_and_section() -> None:
    page = _PAGE.read_text(encoding="utf-8")
    assert [key for key in taskhead.KEYS if f"`{key}`" not in page] == []
    assert [kind for kind in sections.KINDS if f"`{kind}`" not in page] == []
