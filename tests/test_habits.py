"""Habits of the project that are not about code: versions, licence, links, sizes."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from harness import PROJECT

from octopoid import __version__

MAX_FILE = 200_000
MAX_TRACKED = 5_000_000
MAX_IN_HISTORY = 1_000_000
SCRIPTS = (
    *("scripts/bench", "scripts/check", "scripts/demo", "scripts/install", "scripts/test", "scripts/week"),
    ".ci/run",
)
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")])


def _git(*args: str, input: str = "") -> str:  # noqa: A002 - the name that subprocess.run has for it
    done = subprocess.run(["git", *args], cwd=PROJECT, input=input, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"not a repository with commits: {done.stderr.strip()}")
    return done.stdout


def _tracked() -> list[Path]:
    names = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    return [PROJECT / name for name in names if name and (PROJECT / name).is_file()]


def test_the_changelog_begins_with_this_version() -> None:
    text = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[([^]]+)\]", text, re.MULTILINE)[0] == __version__


def test_the_licence_is_mit() -> None:
    text = (PROJECT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("MIT License") and "Octopoid contributors" in text
    assert 'license = "MIT"' in (PROJECT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_can_be_run(name: str) -> None:
    path = PROJECT / name
    assert os.access(path, os.X_OK)
    first, text = path.open(encoding="utf-8").readline().strip(), path.read_text(encoding="utf-8")
    assert first in ("#!/usr/bin/env bash", "#!/usr/bin/env python3")
    assert first.endswith("python3") or "set -euo pipefail" in text


def test_there_is_an_example_of_the_policy() -> None:
    """That it means something is for the tests of `config`."""
    assert (PROJECT / "agents.yaml.example").read_text(encoding="utf-8").strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\[[^]\n]*\]\(<?([^)>\s]+)>?(?: \"[^\"]*\")?\)", text)
    local = [target for target in targets if not re.match(r"[a-z][a-z0-9+.-]*:", target)]
    broken = [target for target in local if not _leads_somewhere(page, target)]
    assert not broken


def _leads_somewhere(page: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    path = (page.parent / name) if name else page
    if not path.exists() or not path.resolve().is_relative_to(PROJECT):
        return False
    return not anchor or path.suffix != ".md" or anchor in _anchors(path)


def _anchors(page: Path) -> set[str]:
    """The names that a forge gives to the headings of a page."""
    headings = re.findall(r"^#+ +(.+?) *#*$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_repository_stays_small() -> None:
    """What is tracked, or would be by `git add .`: sources, no clones, no packages, no recordings."""
    sizes = {path: path.stat().st_size for path in _tracked()}
    assert not [path for path, size in sizes.items() if size > MAX_FILE]
    assert sum(sizes.values()) < MAX_TRACKED


def test_the_history_stays_small() -> None:
    """What was committed once is cloned for ever."""
    objects = "".join(f"{line.split()[0]}\n" for line in _git("rev-list", "--objects", "HEAD").splitlines())
    sizes = _git("cat-file", "--batch-check=%(objectsize) %(objectname)", input=objects)
    assert not [line for line in sizes.splitlines() if int(line.split()[0]) > MAX_IN_HISTORY]


def test_what_is_made_here_is_not_committed() -> None:
    for name in ("node_modules/x", ".venv/x", "octopoid/__pycache__/x.pyc", ".mypy_cache/x", "dist/x", ".coverage"):
        assert _git("check-ignore", "--no-index", name), name


def test_every_exception_for_a_linter_has_its_reason() -> None:
    """`# noqa: CODE - reason`, `# type: ignore[code]  # reason`, or a comment on one of the two lines above."""
    bare = re.compile(r"#\s*(noqa(:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*)?|type:\s*ignore(\[[\w-]+(,\s*[\w-]+)*\])?)\s*$")
    problems = []
    for path in (path for path in _tracked() if path.suffix == ".py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        for at, line in enumerate(lines):
            above = [one for one in lines[max(0, at - 2) : at] if "# " in one and not bare.search(one)]
            if bare.search(line) and not above:
                problems.append(f"{path.relative_to(PROJECT)}:{at + 1}: {line.strip()}")
    assert not problems
