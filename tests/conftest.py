"""Fixtures for every test, and two guards: the developer's home stays as it is, and nothing outlives its test."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from books import settled
from harness import MARKS, OCTOPOID, PROJECT, Repo, end_marked, eventually, make_repo, marked

_HOMES = {Path(pwd.getpwuid(os.getuid()).pw_dir), Path.home()}
_OURS = (
    ".octopoid*",
    ".config/octopoid*",
    ".config/systemd/user/octopoid*",
    ".local/share/octopoid*",
    ".local/state/octopoid*",
    "Library/LaunchAgents/*octopoid*",
)
BOOKED = frozenset(
    (
        "test_life",
        "test_flows_life",
        "test_hands",
        "test_undo",
        "test_history",
        "test_review",
        "test_review2",
        "test_format",
    )
)
"""Where every test's books are held against each other; with OCTOPOID_BOOKS those of all (0.15 s of CPU each)."""

_LEAVING = 3.0
"""Seconds that a runner may need to leave after the record of its attempt is there."""


def pytest_sessionstart() -> None:
    """The tests run the installed program: say so before the first of them fails for want of it."""
    if not OCTOPOID.exists():
        pytest.exit(f"{OCTOPOID} is not there: run scripts/test, or `{sys.executable} -m pip install -e '.[dev]'`", 4)


@pytest.fixture
def repo(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Repo]:
    """A real git repository with one commit on `main`, and a user with an empty home. See `harness`.

    At the end journal, entries, folders and git agree (`books`), unless the test is marked `messy_books(reason)`.
    """
    made = make_repo(tmp_path)
    yield made
    failed = getattr(request.node, "failed", False)
    held = request.node.path.stem in BOOKED or "OCTOPOID_BOOKS" in os.environ
    if held and not failed and request.node.get_closest_marker("messy_books") is None:
        wrong = settled(made)
        assert not wrong, "the books do not balance:\n" + "\n".join(wrong)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed says enough: its books are not looked at."""
    report = yield
    if report.when == "call":
        item.failed = report.failed  # type: ignore[attr-defined]  # for the fixture
    return report


@pytest.fixture(autouse=True)
def guard(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that writes to the developer's home, or that leaves a process behind (which is then ended)."""
    place: Path | None = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    before = _ours()
    yield
    touched = {path for path, _ in _ours() ^ before}
    assert not touched, f"the test touched the developer's files: {sorted(touched)}"
    if place is None or not Path("/proc/self/environ").exists():
        return
    with suppress(AssertionError):
        eventually(lambda: not marked(place, MARKS[:2]), _LEAVING)
    left = marked(place, MARKS[:2])
    end_marked(place)
    assert not left, f"the test left processes behind: {left}"


def _ours() -> set[tuple[Path, int]]:
    """What octopoid might write outside a test's folder, with its time."""
    found = [path for home in _HOMES for pattern in _OURS for path in home.glob(pattern)]
    return {(path, path.lstat().st_mtime_ns) for path in (*found, PROJECT / ".octopoid") if os.path.lexists(path)}
