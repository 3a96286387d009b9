"""What `init` can tell from a project's files: how it is tested, and which agent programs this machine has."""

from __future__ import annotations

import json
import os
import re
import shutil
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

_MAX_FILES = 2000
_MAX_BYTES = 256 * 1024
_SKIPPED = frozenset(("node_modules", "venv", "env", "build", "dist", "target", "vendor", "__pycache__"))
_TEST_FILE = re.compile(r"(?:test_.*|.*_test)\.py\Z")
_MAKEFILES = ("GNUmakefile", "makefile", "Makefile")
_MAKE_TARGET = re.compile(r"^test[ \t]*::?(?![=:])", re.MULTILINE)
_NPM_PLACEHOLDER = "no test specified"


class Found(NamedTuple):
    """A command that tests the project: its name as a check, the command, the program it needs, and what said so."""

    name: str
    run: str
    program: str
    because: str


def checks(root: Path, which: Callable[[str], str | None] = shutil.which) -> tuple[Found, ...]:
    """How the project at `root` is tested: a command for each language in it, else its Makefile; () for nothing known.

    `which` finds a program on PATH. Reads files only.
    """
    ways = (_python(root, which), _node(root), _rust(root), _go(root))
    found = tuple(one for one in ways if one) or tuple(one for one in (_make(root),) if one)
    if len(found) < 2:
        return tuple(one._replace(name="tests") for one in found)
    return found


def _python(root: Path, which: Callable[[str], str | None]) -> Found | None:
    """tox and nox make their own environments, so a fresh worktree needs nothing else; then pytest or unittest."""
    project = _toml(root / "pyproject.toml")
    tools = project.get("tool")
    tools = tools if isinstance(tools, dict) else {}
    if _is_file(root, "tox.ini") or "tox" in tools:
        return Found("python", "tox -q", "tox", "tox.ini" if _is_file(root, "tox.ini") else "[tool.tox]")
    if _is_file(root, "noxfile.py"):
        return Found("python", "nox", "nox", "noxfile.py")
    because = _pytest_settings(root, tools) or _python_tests(root)
    if not because:
        return None
    module = "unittest discover" if because.endswith("(unittest)") else "pytest -q"
    for lock, runner in (("uv.lock", "uv"), ("poetry.lock", "poetry"), ("pdm.lock", "pdm")):
        if _is_file(root, lock):
            return Found("python", f"{runner} run python -m {module}", runner, f"{because} and {lock}")
    python = "python" if which("python") or not which("python3") else "python3"
    return Found("python", f"{python} -m {module}", python, because)


def _pytest_settings(root: Path, tools: dict[str, object]) -> str:
    if "pytest" in tools:
        return "[tool.pytest] in pyproject.toml"
    if _is_file(root, "pytest.ini"):
        return "pytest.ini"
    return "setup.cfg" if "[tool:pytest]" in _text(root / "setup.cfg") else ""


def _python_tests(root: Path) -> str:
    """A test file of Python, and whether it is one of unittest alone."""
    files = [path for path in _walk(root) if _TEST_FILE.match(path.name)]
    if not files:
        return ""
    named = "pytest" in "".join(_text(root / name) for name in ("pyproject.toml", "requirements-dev.txt", "setup.cfg"))
    unittest = all("unittest" in _text(path) and "pytest" not in _text(path) for path in files[:20])
    return f"{files[0].relative_to(root)}{' (unittest)' if unittest and not named else ''}"


def _node(root: Path) -> Found | None:
    try:
        package = json.loads(_text(root / "package.json") or "{}")
    except ValueError:
        return None
    scripts = package.get("scripts") if isinstance(package, dict) else None
    test = scripts.get("test") if isinstance(scripts, dict) else None
    if not isinstance(test, str) or not test.strip() or _NPM_PLACEHOLDER in test:
        return None
    managers = (("pnpm-lock.yaml", "pnpm"), ("yarn.lock", "yarn"), ("bun.lock", "bun"), ("bun.lockb", "bun"))
    manager = next((name for lock, name in managers if _is_file(root, lock)), "npm")
    run = "bun run test" if manager == "bun" else f"{manager} test"
    return Found("node", run, manager, "scripts.test in package.json")


def _rust(root: Path) -> Found | None:
    return Found("rust", "cargo test", "cargo", "Cargo.toml") if _is_file(root, "Cargo.toml") else None


def _go(root: Path) -> Found | None:
    return Found("go", "go test ./...", "go", "go.mod") if _is_file(root, "go.mod") else None


def _make(root: Path) -> Found | None:
    name = next((one for one in _MAKEFILES if _is_file(root, one)), "")
    if name and _MAKE_TARGET.search(_text(root / name)):
        return Found("make", "make test", "make", f"the target `test` in {name}")
    return None


def _walk(root: Path) -> Iterable[Path]:
    """Files of the project, near ones first, in a stable order; bounded, and nothing that was installed or built."""
    folders, seen = [root], 0
    while folders and seen < _MAX_FILES:
        folder = folders.pop(0)
        try:
            entries = sorted(os.scandir(folder), key=lambda one: one.name)
        except OSError:
            continue
        for entry in entries:
            seen += 1
            if entry.is_dir(follow_symlinks=False):
                if entry.name[0] != "." and entry.name not in _SKIPPED:
                    folders.append(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


def _is_file(root: Path, name: str) -> bool:
    return (root / name).is_file()


def _text(path: Path) -> str:
    """The beginning of a file as text; "" where it cannot be read: then it tells nothing."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError:
        return {}
