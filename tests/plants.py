"""Bugs that are planted on purpose into a copy of the package, and the test that catches each (docs/reliability.md).

A plant replaces one piece of text that must be there exactly once. `scripts/plants` plants them all, one at a time.
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


class Plant(NamedTuple):
    """`module`: below `octopoid/`. `old` becomes `new`. `test`: fails then, and passes as things are."""

    name: str
    module: str
    old: str
    new: str
    test: str


PLANTS: tuple[Plant, ...] = (
    Plant(
        "lost rename",
        "store.py",
        "    _rename(layout, moving, target, task, leaves)\n    return rule.enters",
        "    return rule.enters",
        "test_life.py::test_a_question_is_asked_in_the_file_and_answered_there",
    ),
    Plant(
        "missing fsync order",
        "durable.py",
        "            _write_all(fd, data)\n            if sync:\n                os.fsync(fd)\n",
        "            _write_all(fd, data)\n",
        "test_faults.py::test_what_was_acknowledged_survives_a_power_cut",
    ),
    Plant(
        "unreleased claim",
        "policy.py",
        'return Decision(GiveBack(item.id, item.state, "claimed, but nothing works on it"))',
        'return Decision(waits="running", text="somebody works on it", command="")',
        "test_hands.py::test_mv_to_where_a_task_cannot_be_is_put_back_and_worked_on",
    ),
    Plant(
        "leaked env",
        "steps.py",
        'if name in ENVIRONMENT or name in named or name.startswith("LC_")',
        'if name in ENVIRONMENT or name not in ("", *named)',
        "test_life.py::test_the_environment_of_an_agent_is_an_allow_list",
    ),
)


def package() -> Path:
    """The package that is tested: the sources of this project."""
    return PROJECT / "octopoid"


def planted(plant: Plant) -> str:
    """The module with the bug. Raises ValueError where the text is not there exactly once."""
    text = (package() / plant.module).read_text(encoding="utf-8")
    if text.count(plant.old) != 1:
        raise ValueError(f"{plant.name}: {plant.module} has the text {text.count(plant.old)} times:\n{plant.old}")
    return text.replace(plant.old, plant.new)


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
    for path in package().rglob("*.py"):
        copy = place / "src/octopoid" / path.relative_to(package())
        changed = planted(plant) if plant and path == package() / plant.module else None
        text = path.read_text(encoding="utf-8") if changed is None else changed
        if copy.read_text(encoding="utf-8") != text:
            copy.write_text(text, encoding="utf-8")
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [place / "venv/bin/pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-x", f"tests/{test}"]
    try:
        done = subprocess.run(argv, cwd=PROJECT, env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return False, f"not within {TIMEOUT:g} s"
    return done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
