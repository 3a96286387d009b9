"""What the pages say is so: examples can be read, commands and options exist, every page and every test is found."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from harness import PROJECT, Repo, drop, script

from octopoid import config, scripted_agent, taskfile
from octopoid.cli.group import app

DOCS = PROJECT / "docs"
PAGES = sorted([PROJECT / "README.md", PROJECT / "agents.yaml.example", *DOCS.glob("*.md")])
LESSONS = 54

_BLOCK = re.compile(r"^( *)```([a-z]*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`((?:[A-Z_]+=\S+ )?octopoid [^`\n]+)`")
_SHELL = ("sh", "bash", "console")
_ENDS = frozenset({"|", "||", "&", "&&", ";", "(", ")", ">", ">>", "<", "<<"})


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    kind: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.name}:{self.line}"


def _blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(text):
            yield Block(page, text.count("\n", 0, match.start()) + 1, match[2], match[3])


BLOCKS = tuple(_blocks())
POLICIES = [one for one in BLOCKS if one.kind == "yaml" and re.search(r"^agents:", one.text, re.MULTILINE)]
SCRIPTS = [one for one in BLOCKS if one.kind == "yaml" and re.search(r"^tasks:", one.text, re.MULTILINE)]
ROLES = [one for one in BLOCKS if one.kind == "markdown" and re.search(r"^produces:", one.text, re.MULTILINE)]
TASKS = [one for one in BLOCKS if one.kind == "markdown" and one not in ROLES]


def _name(block: Block) -> str:
    return block.name


def test_there_is_something_to_check() -> None:
    assert len(POLICIES) >= 3 and SCRIPTS and ROLES and len(TASKS) >= 3


@pytest.mark.parametrize("block", POLICIES, ids=_name)
def test_every_policy_of_the_pages_is_valid(block: Block, tmp_path: Path) -> None:
    (tmp_path / "agents.yaml").write_text(block.text, encoding="utf-8")
    assert config.load(tmp_path).agents


@pytest.mark.parametrize("block", ROLES, ids=_name)
def test_every_role_of_the_pages_is_valid(block: Block, tmp_path: Path) -> None:
    (tmp_path / "roles").mkdir()
    (tmp_path / "roles/example.md").write_text(block.text, encoding="utf-8")
    policy = "agents: {implementer: {adapter: claude}, example: {adapter: claude}}\ngates: [checks, example]\n"
    (tmp_path / "agents.yaml").write_text(policy, encoding="utf-8")
    assert config.load(tmp_path).roles["example"].template


@pytest.mark.parametrize("block", SCRIPTS, ids=_name)
def test_every_script_of_the_pages_can_be_followed(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "script.yaml"
    path.write_text(block.text, encoding="utf-8")
    assert scripted_agent.load(str(path))


@pytest.mark.parametrize("block", TASKS, ids=_name)
def test_every_task_of_the_pages_is_valid(block: Block) -> None:
    assert taskfile.parse(block.text.encode(), Path("example.md")).title


# --- commands ---


def _spoken(page: Path) -> Iterator[tuple[int, str]]:
    """Every command line that begins with `octopoid`, in blocks and in the text, with its line."""
    for block in (one for one in BLOCKS if one.page == page and one.kind in _SHELL):
        for offset, line in enumerate(block.text.splitlines(), start=block.line + 1):
            if block.kind != "console" or line.startswith("$ "):
                yield from ((offset, one) for one in _simple(line.removeprefix("$ ")))
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        yield from ((number, one) for span in _SPAN.findall(line) for one in _simple(span))


def _simple(line: str) -> Iterator[str]:
    """The simple commands in a line of shell that start our program."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # an apostrophe of a here-document
        return
    command: list[str] = []
    for word in (*words, ";"):
        if word not in _ENDS:
            command += [] if not command and re.match(r"[A-Z_]+=", word) else [word]
            continue
        if command[:1] == ["octopoid"]:
            yield shlex.join(command)
        command = []


@cache
def _command(*path: str) -> Any:
    found = typer.main.get_command(app)
    for name in path:
        found = found.get_command(None, name) if hasattr(found, "get_command") else None
        if found is None:
            return None
    return found


def _wrong(line: str) -> str:
    """What is wrong with a command line, or ""."""
    here, path = _command(), ()
    words = iter(shlex.split(line)[1:])
    for word in words:
        if word.startswith("-") and len(word) > 1 and not re.match(r"-\d", word):
            option = next(
                (one for one in here.params if word.partition("=")[0] in (*one.opts, *one.secondary_opts)), None
            )
            if option is None and word not in ("--help", "-h"):
                return f"{' '.join(('octopoid', *path))} has no {word}"
            if option is not None and not option.is_flag and "=" not in word:
                next(words, "")
        elif hasattr(here, "get_command") and not word.isupper():
            path = (*path, word)
            here = _command(*path)
            if here is None:
                return f"there is no {' '.join(('octopoid', *path))}"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_of_the_pages_exist(page: Path) -> None:
    assert not [f"{page.name}:{line}: {wrong}" for line, one in _spoken(page) if (wrong := _wrong(one))]


def test_what_does_not_exist_would_be_found() -> None:
    assert _wrong("octopoid list --state incoming --json") == ""
    assert _wrong("octopoid --root DIR run --once") == ""
    assert _wrong("octopoid config check") == ""
    assert _wrong("octopoid lost") == "there is no octopoid lost"
    assert _wrong("octopoid config chek") == "there is no octopoid config chek"
    assert _wrong("octopoid run --twice") == "octopoid run has no --twice"
    assert list(_simple("id=$(octopoid enqueue 'A; b') && X=1 octopoid why a # octopoid no")) == [
        "octopoid enqueue 'A; b'",
        "octopoid why a",
    ]
    assert len(list(_spoken(PROJECT / "README.md"))) >= 5


# --- pages ---


def test_every_page_is_in_the_index() -> None:
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    assert not [page.name for page in DOCS.glob("*.md") if page.name != "index.md" and f"({page.name})" not in text]


def test_the_readme_is_one_screen_with_the_two_commands() -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert "\nscripts/demo " in text and "\nscripts/test " in text
    assert len(text.splitlines()) <= 110


def test_the_board_in_the_readme_is_one_that_is_printed(repo: Repo) -> None:
    """Its titles, its last lines and the kinds of its rows, compared with a real board."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    sample = next(one.text for one in BLOCKS if one.page.name == "README.md" and one.text.startswith("$ octopoid\n"))
    script(repo, {"tasks": {"default": {"default": [[{"question": "Which?"}]]}}})
    for task in ("ask", "later"):
        drop(repo, task, f"---\ndepends_on: [{'' if task == 'ask' else 'ask'}]\n---\n# {task}\n")
    drop(repo, "wrong", "---\nprioritee: P1\n---\n# Wrong\n")
    repo.octopoid("run", "--until-empty", ok=(6,))
    printed = repo.octopoid("status")
    titles = set(re.findall(r"^([a-z ]+) \(\d+\)$", sample, re.MULTILINE))
    source = (PROJECT / "octopoid/cli/overview.py").read_text(encoding="utf-8")
    assert titles == set(re.findall(r'render\.Table\("([a-z ]+)"', source)), "every part of the board is shown"
    assert set(re.findall(r"^([a-z ]+) \(\d+\)$", printed.out, re.MULTILINE)) <= titles
    assert re.sub(r"\d+", "N", _line(sample, "tasks:")) == re.sub(r"\d+", "N", _line(printed.out, "tasks:"))
    assert _line(sample, "scheduler:").partition("  ")[2][:9] == _line(printed.out, "scheduler:").partition("  ")[2][:9]
    for said in (
        "unknown key `prioritee`",
        "octopoid edit ",
        "did you mean `priority`?; a key of your own begins with `x-`",
    ):
        assert said in sample and said in printed.out
    assert _line(sample, "next:").startswith("next: octopoid ") and "next: octopoid " in printed.err
    assert text.count("```console") == 1


def _line(text: str, word: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(word))


def test_every_lesson_has_its_test() -> None:
    """docs/lessons.md: each number once, and each test that is named exists."""
    rows = re.findall(
        r"^\| (\d+) \| .* \| ([^|]*) \|$", (DOCS / "lessons.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert [int(number) for number, _ in rows] == list(range(1, LESSONS + 1))
    missing = []
    for number, cell in rows:
        names = re.findall(r"`(test_\w+)::(test_\w+)`", cell)
        missing += [f"{number}: {file}::{name}" for file, name in names if name not in _tests(file)]
        if not names and not cell.startswith("later"):
            missing.append(f"{number}: no test")
    assert not missing


@cache
def _tests(file: str) -> frozenset[str]:
    path = PROJECT / "tests" / f"{file}.py"
    return frozenset(
        re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE) if path.exists() else ()
    )
