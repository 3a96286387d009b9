"""Bugs that are planted on purpose into a copy of the package, and the test that catches each (docs/reliability.md).

A plant replaces pieces of text that must each be there exactly once. `scripts/plants` plants them all, one at a time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parent.parent
TIMEOUT = 300.0
"""Seconds for the test that is to fail."""


class Edit(NamedTuple):
    """`module`: below `octopoid/`. `old` becomes `new`."""

    module: str
    old: str
    new: str


class Plant(NamedTuple):
    """`test` fails with the edits, and passes as things are."""

    name: str
    test: str
    edits: tuple[Edit, ...]


PLANTS: tuple[Plant, ...] = (
    Plant(
        "lost rename",
        "test_life.py::test_a_question_is_asked_in_the_file_and_answered_there",
        (
            Edit(
                "store.py",
                "    _rename(layout, moving, target, task, leaves)\n    return rule.enters",
                "    return rule.enters",
            ),
        ),
    ),
    Plant(
        "missing fsync order",
        "test_faults.py::test_what_was_acknowledged_survives_a_power_cut",
        (
            Edit(
                "durable.py",
                "                os.utime(fd, ns=times)\n            if sync:\n                os.fsync(fd)\n",
                "                os.utime(fd, ns=times)\n",
            ),
        ),
    ),
    Plant(
        "unreleased claim",
        "test_hands.py::test_mv_to_where_a_task_cannot_be_is_put_back_and_worked_on",
        (
            Edit(
                "policy.py",
                'return Decision(GiveBack(item.id, item.state, "claimed, but nothing works on it"))',
                'return Decision(waits="running", text="somebody works on it", command="")',
            ),
        ),
    ),
    Plant(
        "double landing",
        "test_kills.py::test_a_life_goes_on_wherever_it_is_killed[after]",
        (
            # a landing that a kill cut short is given up without asking the base, which has it already
            Edit(
                "landing.py",
                "        return _advance(layout, item, entry, now, drop)\n",
                '        _give_up(layout, item.id, entry, "the scheduler died meanwhile", now)\n'
                "        return Landed(False)\n",
            ),
            Edit("gating.py", "if projection.empty or item.ledger.bare:", "if item.ledger.bare:"),
        ),
    ),
    Plant(
        "leaked env",
        "test_life.py::test_the_environment_of_an_agent_is_an_allow_list",
        (
            Edit(
                "steps.py",
                'if name in ENVIRONMENT or name in named or name.startswith("LC_")',
                'if name in ENVIRONMENT or name not in ("", *named)',
            ),
        ),
    ),
)


def package() -> Path:
    """The package that is tested: the sources of this project."""
    return PROJECT / "octopoid"


def planted(plant: Plant) -> dict[str, str]:
    """The modules with the bug. Raises ValueError where a text is not there exactly once."""
    texts = {}
    for one in plant.edits:
        text = (package() / one.module).read_text(encoding="utf-8")
        if text.count(one.old) != 1:
            raise ValueError(f"{plant.name}: {one.module} has the text {text.count(one.old)} times:\n{one.old}")
        texts[one.module] = text.replace(one.old, one.new)
    return texts


def environment(place: Path) -> Path:
    """A Python environment in `place` with a copy of the package before everything that this one has; its python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "venv"], check=True)
    python = place / "venv/bin/python"
    shutil.copytree(package(), place / "src/octopoid", ignore=shutil.ignore_patterns("__pycache__"))
    where = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], check=True, capture_output=True
    )
    paths = f"{place / 'src'}\n{sysconfig.get_path('purelib')}\n"
    (Path(where.stdout.decode().strip()) / "plants.pth").write_text(paths, encoding="utf-8")
    for name, entry in (("octopoid", "octopoid.cli.app:main"), ("pytest", "pytest:console_main")):
        module, _, function = entry.partition(":")
        script = place / "venv/bin" / name
        script.write_text(f"#!{python}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n")
        script.chmod(0o755)
    return python


def run(place: Path, plant: Plant | None, test: str) -> tuple[bool, str]:
    """Whether `test` passes in the environment at `place` with `plant`, and what it said."""
    changed = planted(plant) if plant else {}
    for path in package().rglob("*.py"):
        name = str(path.relative_to(package()))
        copy, text = place / "src/octopoid" / name, changed.get(name) or path.read_text(encoding="utf-8")
        if copy.read_text(encoding="utf-8") != text:
            copy.write_text(text, encoding="utf-8")
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [place / "venv/bin/pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-x", f"tests/{test}"]
    try:
        done = subprocess.run(argv, cwd=PROJECT, env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return False, f"not within {TIMEOUT:g} s"
    return done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
