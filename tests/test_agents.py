"""Real agent programs in the cases that matter most; all of them in all cases: scripts/test-agents, docs/agents.md."""

from __future__ import annotations

import json
from pathlib import Path

import agents_matrix
import pytest
from agentcases import CASES, PROMISES, measure, promised
from agentdrivers import DRIVERS
from agentshow import show
from harness import PROJECT, Repo, commit, drop, environment, git, landed
from modelserver import ModelServer, text, tool
from test_claude_real import claude  # noqa: F401 - the fixture that installs it
from test_codex_real import codex  # noqa: F401 - the same

from octopoid import demo
from octopoid.adapters import ADAPTERS

OFTEN = ("wrong key (401)",)
"""Run each time, with every program that is installed for that: what nothing else tests as well."""


@pytest.mark.parametrize("case", OFTEN)
@pytest.mark.parametrize("program", ["claude", "codex", "anthropic"])
@pytest.mark.usefixtures("claude", "codex")
def test_a_program_in_a_case(program: str, case: str, tmp_path: Path) -> None:
    cell = measure(DRIVERS[program], case, tmp_path)
    assert not cell.trouble, cell.trouble


@pytest.mark.usefixtures("claude", "codex")
def test_three_programs_in_one_queue(tmp_path: Path) -> None:
    """Two do the work, the third one judges it; what it cost is told by role; nothing is left behind."""
    lines = show([DRIVERS[name] for name in ("claude", "codex", "anthropic")], tmp_path)
    told = "\n".join(lines)
    assert told.count("landed") == 4 and "implementer" in told and "gatekeeper" in told


# --- the built-in agent in the repository of the demo ---

FAILING = """\
import unittest

from textkit.shortening import shorten


class Shorten(unittest.TestCase):
    def test_short_text_stays(self) -> None:
        self.assertEqual(shorten("octopus", 10), "octopus")

    def test_long_text_is_cut(self) -> None:
        self.assertEqual(shorten("octopuses", 5), "octo…")
"""
POLICY = """\
version: 1
base: main
checks: [{{name: tests, run: "{tests}"}}]
gates: [checks]
agents: {{implementer: {{adapter: anthropic, env: [ANTHROPIC_API_KEY], base_url: "{url}", model: sonnet}}}}
"""


def test_the_built_in_agent_mends_a_failing_test_of_the_demo(tmp_path: Path) -> None:
    """It runs the test, looks, edits, runs it again, commits; a person reads along afterwards."""
    home, place = tmp_path / "home", tmp_path / "textkit"
    home.mkdir()
    place.mkdir()
    run = "python3 -B -m unittest -q tests.test_shortening"
    editor = "str_replace_based_edit_tool"
    script = [
        tool("bash", command=f"{run} 2>&1 | tail -4"),
        tool(editor, command="view", path="textkit/shortening.py"),
        tool(editor, command="str_replace", path="textkit/shortening.py", old_str="[:limit]", new_str="[: limit - 1]"),
        tool("bash", command=f"{run} && git commit -qam 'Count the sign'"),
        text("The sign of the cut counts now: the test passes."),
    ]
    with ModelServer({"mend": script}) as server:
        demo.make(place, POLICY.format(tests=run.replace("%", "%%"), url=server.url))
        repo = Repo(place, environment(home))
        commit(repo, {"tests/test_shortening.py": FAILING}, "A test that fails")
        drop(repo, "mend", "# Make the failing test pass\n\n[[mend]]\n")
        repo.octopoid("run", "--until-empty", env={"ANTHROPIC_API_KEY": "k"})
    assert landed(repo) == ("mend",) and "[: limit - 1]" in git(repo, "show", "main:textkit/shortening.py")
    log = repo.octopoid("log", "mend", "--attempt", "1").out
    told = (
        "built-in agent, model claude-",
        f"> bash: {run} 2>&1 | tail -4\n",
        "FAILED (failures=1)",
        f"> {editor}: view textkit/shortening.py\n",
        "return text if len(text) <= limit else text[:limit]",
        f"> {editor}: str_replace textkit/shortening.py\n",
        f"> bash: {run} && git commit",
        "The sign of the cut counts now: the test passes.\n",
        "= 5 turns, ",
    )
    at = [log.find(one) for one in told]
    assert -1 not in at and at == sorted(at), f"{[one for one in told if one not in log]}\n{log}"
    transcript = (repo.layout.entry("mend", 1) / "transcript.jsonl").read_text(encoding="utf-8").splitlines()
    roles = [json.loads(line).get("role") for line in transcript]
    assert roles.count("assistant") == 5 and any("[[mend]]" in line for line in transcript)


# --- the table of docs/agents.md ---


def test_every_program_is_in_the_table_with_every_case_and_none_has_failed() -> None:
    table = agents_matrix.read(agents_matrix.PAGE.read_text(encoding="utf-8"))
    programs = [name for name in ADAPTERS if name not in ("command", "scripted")]
    assert set(DRIVERS) == set(programs), "a program without a driver in tests/agentdrivers.py"
    assert set(table.programs) == set(programs), "`scripts/test-agents NAME --write` puts a program into the table"
    for name in programs:
        empty = [row for row in agents_matrix.ROWS if (name, row) not in table.cells]
        assert not empty, f"`scripts/test-agents {name} --write` fills in {empty}"
        for case in CASES:
            word = table.cells[name, case]
            assert agents_matrix.FAILED not in word and word.startswith(f"{promised(DRIVERS[name], case)} ("), word
        assert table.cells[name, agents_matrix.OUTPUTS].startswith("all there (")


def test_the_facts_in_the_page_are_those_of_the_adapters() -> None:
    page = agents_matrix.PAGE.read_text(encoding="utf-8")
    begin, end = agents_matrix.FACTS
    assert f"{begin}\n{agents_matrix.facts()}{end}\n" in page, "`scripts/test-agents --write` mends that"


def test_the_table_is_read_as_it_is_written() -> None:
    table = agents_matrix.read(agents_matrix.PAGE.read_text(encoding="utf-8"))
    page = f"Before.\n{agents_matrix.BEGIN}\n{agents_matrix.markdown(table)}{agents_matrix.END}\nAfter.\n"
    assert agents_matrix.read(page) == table
    assert set(PROMISES) == set(CASES)


def test_the_versions_in_the_table_are_those_that_are_installed() -> None:
    table = agents_matrix.read(agents_matrix.PAGE.read_text(encoding="utf-8"))
    pinned = (PROJECT / "scripts/install-agents").read_text(encoding="utf-8")
    for name in table.programs:
        assert not DRIVERS[name].program or f"={table.measured[name][0]}\n" in pinned, f"{name} was measured long ago"
