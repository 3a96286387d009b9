"""The rules of the house (DESIGN §9), read from the source. The tables below are the place to change one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest
from harness import PROJECT

PACKAGE = PROJECT / "octopoid"

# A module imports from lower floors, and from its own where that makes no circle. A package is one word.
FLOORS = (
    # words: values, errors, the map of the disk
    "errors hints legible curbs lean regular clock states settings model yamltext layout formats plans prices",
    # thought: what can be decided or read without touching the queue
    "ready jsontext evidence fold gates guards gating order policy deliverables framing standing breakdown sections"
    " taskhead taskfile configkeys configread configsandbox configroles configgates configagents configtemplate"
    " flowfiles rolefiles results prompts config replies adapters judging service scripted_agent budgets hearing"
    " resuming tally sandbox",
    # hands: one door per foreign thing
    "durable forging locks programs process ending runner gitfiles git confined intrusions worktrees workspace merging"
    " journal store steer attempts documents templating look editor installing detect trust setup gitview sandboxing"
    " inside builtin credentials terminal agentnote",
    # verbs: evidence, section, rename, event; and plain values about what is there
    "bookkeeping undoing history lifecycle spawning landing steps launching closing stopping cleaning policyfile"
    " views needs details schemas thread stats projects migrating doctor metering costs progress runview telling"
    " attaching instructions",
    # pulse: observe, plan, apply; watch, wait, signals
    "standingwork projecting observing applying housekeeping scheduler daemon demo demofeature",
    # doors
    "cli",
    "__main__",
)

# What has one door: the first word of an import or a call, the modules that may say it, and why.
DOORS = {
    "subprocess": ("git process runner", "one module runs programs, one says git (STYLE 1)"),
    "typer": ("cli.*", "only the doors know the command line"),
    "click": ("cli.*", "only the doors know the command line"),
    "rich": ("cli.*", "only the doors draw"),
    "git": ("git", "GitPython, where it serves"),
    "filelock": ("daemon", "the lock of the scheduler; all others are locks.py"),
    "watchdog": ("daemon", "the pulse listens to the disk"),
    "frontmatter": ("config* rolefiles prompts", "role files"),
    "jinja2": ("prompts", "templates of roles"),
    "os.system os.popen os.spawn* os.posix_spawn* os.exec* os.fork*": (
        "process runner scripted_agent",
        "starts processes; the scripted agent stands for a foreign program",
    ),
    "os.kill os.killpg signal.pidfd_send_signal": ("process runner scripted_agent", "ends processes"),
    "importlib.import_module __import__": (
        "cli.app cli.group adapters runner scripted_agent",
        "commands, agent programs, built-in steps and YAML are loaded when they are needed, by name",
    ),
    "anthropic httpx2": ("builtin.model", "the built-in agent alone talks to a model (0.9 s to import)"),
    "shutil.move": ("", "it copies across mounts: a task would be in two places"),
    "print": ("cli.* workspace worktrees runner scripted_agent", "programs print; modules return"),
}

# An import inside a function: module, imported package, reason.
LAZY = (
    ("lean", "_ctypes", "0.8 ms, and few that import this module call for it"),
    ("taskhead", "octopoid.yamltext", "16 ms; nearly every task file does without YAML"),
    ("hints", "difflib", "7 ms, and only for a wrong word"),
    ("cli.*", "rich", "36 ms, and only for a terminal"),
    ("prompts", "jinja2", "30 ms, and only where a prompt is made"),
    ("config* rolefiles", "frontmatter", "23 ms, and only for roles"),
    ("prompts", "frontmatter", "23 ms, and only for roles"),
    ("daemon", "watchdog", "36 ms; `run --once` and `status` do without"),
    ("git", "git", "66 ms; most questions need no GitPython"),
    ("config*", "cronsim", "only where there is a schedule"),
    ("standing*", "cronsim", "only where there is a schedule"),
    ("daemon", "filelock", "38 ms; only the scheduler takes this lock"),
)

# `except Exception` (or wider) that does not raise again: module, how often, reason.
BROAD = {
    "cli.app": (1, "the edge: the traceback goes to a file, the person gets a sentence"),
    "applying": (1, "the other edge: one action of a tick fails, the rest of the queue goes on"),
    "runner": (1, "the forked child of a built-in step: its traceback goes to output.log, its status is 1"),
}

# Pure modules: everything they know comes in as an argument.
PURE = (
    "budgets",
    "tally",
    "fold",
    "gates",
    "guards",
    "gating",
    "order",
    "judging",
    "deliverables",
    "framing",
    "breakdown",
    "plans",
    "policy",
    "sections",
    "jsontext",
)
IMPURE = {"os", "io", "time", "random", "secrets", "socket", "shutil", "subprocess", "tempfile"}

MODULE_LINES, FUNCTION_LINES = 400, 60
LONG_MODULES: dict[str, str] = {}
LONG_FUNCTIONS: dict[tuple[str, str], str] = {}


class Import(NamedTuple):
    """One imported name: `octopoid.store`, `typing.NamedTuple`. `runtime` is false under `if TYPE_CHECKING`."""

    name: str
    line: int
    runtime: bool
    function: str


def _name(path: Path) -> str:
    """`cli/app.py` is `cli.app`, `adapters/__init__.py` is `adapters`, `__init__.py` is nothing."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = {name: path for name, path in SOURCES.items() if name}
TESTS = sorted((PROJECT / "tests").rglob("*.py"))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _walk(node: ast.AST, runtime: bool = True, function: str = "") -> Iterator[tuple[ast.AST, bool, str]]:
    """Every node below `node`, whether it is executed, and the function it stands in."""
    for child in ast.iter_child_nodes(node):
        inside = function
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inside = f"{function}.{getattr(child, 'name', 'lambda')}".lstrip(".")
        guarded = isinstance(node, ast.If) and child in node.body and "TYPE_CHECKING" in ast.unparse(node.test)
        yield child, runtime and not guarded, inside
        yield from _walk(child, runtime and not guarded, inside)


@cache
def _imports(name: str) -> tuple[Import, ...]:
    return tuple(_find_imports(name, SOURCES[name]))


def _find_imports(name: str, path: Path) -> Iterator[Import]:
    home = ("octopoid." + name).rstrip(".").split(".")
    home = home if path.name == "__init__.py" else home[:-1]
    for node, runtime, function in _walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (Import(one.name, node.lineno, runtime, function) for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(home[: len(home) + 1 - node.level]) if node.level else ""
            source = ".".join(part for part in (base, node.module) if part)
            yield from (Import(f"{source}.{one.name}", node.lineno, runtime, function) for one in node.names)


def _module_of(imported: str) -> str | None:
    """The module of ours that `octopoid.store.move` comes from: `store`. None for anything foreign."""
    parts = imported.split(".")
    if parts[0] != "octopoid":
        return None
    names = (".".join(parts[1:end]) for end in range(len(parts), 1, -1))
    return next((name for name in names if name in MODULES), ".".join(parts[1:2]))


def _floor(module: str) -> int | None:
    return next((at for at, names in enumerate(FLOORS) if module.partition(".")[0] in names.split()), None)


def _matches(word: str, patterns: str) -> bool:
    return any(fnmatchcase(word, pattern) for pattern in patterns.split())


def _at(module: str, line: int) -> str:
    return f"{SOURCES[module].relative_to(PROJECT)}:{line}"


def _report(problems: list[str]) -> None:
    assert not problems, "\n" + "\n".join(problems)


def test_every_module_has_its_floor() -> None:
    _report([f"{name}: not in FLOORS, place it" for name in MODULES if _floor(name) is None])


def test_no_module_imports_from_a_higher_floor() -> None:
    problems = []
    for module in MODULES:
        for one in _imports(module):
            target = _module_of(one.name)
            mine, theirs = _floor(module), _floor(target) if target else None
            if mine is not None and theirs is not None and theirs > mine and one.runtime:
                problems.append(f"{_at(module, one.line)}: {module} (floor {mine}) imports {target} (floor {theirs})")
    _report(problems)


def test_no_circle() -> None:
    """Imports for type checkers do not count: `errors` names a value of `model` that way."""
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        targets = {_module_of(one.name) for one in _imports(module) if one.runtime}
        graph[module] = {target for target in targets if target and target != module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {' → '.join(error.args[1])}", pytrace=False)


def test_imports_stand_at_the_top() -> None:
    problems = []
    for module in MODULES:
        for one in _imports(module):
            known = any(_matches(module, where) and f"{one.name}.".startswith(f"{what}.") for where, what, _ in LAZY)
            if one.function and one.runtime and not known:
                problems.append(f"{_at(module, one.line)}: {one.function} imports {one.name}: not in LAZY")
    _report(problems)


def _said(module: str) -> Iterator[tuple[str, int]]:
    """What a module says to the outside: imported names, and dotted names that it calls."""
    yield from ((one.name, one.line) for one in _imports(module))
    for node, _, _ in _walk(_tree(SOURCES[module])):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield ast.unparse(node.func), node.lineno


@pytest.mark.parametrize("words", DOORS)
def test_one_door_per_foreign_thing(words: str) -> None:
    doors, reason = DOORS[words]
    problems = []
    for module in MODULES:
        for said, line in _said(module):
            first = said.partition(".")[0]
            foreign = first in words.split() or _matches(said, words)
            # `git.run` is ours where `git` is octopoid.git
            ours = first in {one.name.rpartition(".")[2] for one in _imports(module) if _module_of(one.name)}
            if foreign and not ours and not _matches(module, doors):
                problems.append(f"{_at(module, line)}: {module} says {said}; only `{doors}` may: {reason}")
    _report(problems)


def test_only_git_says_git() -> None:
    """No argv that begins with "git" outside its module."""
    problems = []
    for module in set(MODULES) - {"git", "scripted_agent"}:
        for node, _, _ in _walk(_tree(SOURCES[module])):
            first = node.elts[:1] if isinstance(node, ast.List | ast.Tuple) else []
            if any(isinstance(one, ast.Constant) and one.value == "git" for one in first):
                problems.append(f"{_at(module, first[0].lineno)}: {module} builds a git command")
    _report(problems)


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_touch_neither_disk_nor_clock(module: str) -> None:
    if module not in MODULES:
        pytest.skip(f"no {module}.py")
    imported = {one.name.split(".")[0]: one.line for one in _imports(module) if one.runtime}
    problems = [f"{_at(module, line)}: imports {name}" for name, line in imported.items() if name in IMPURE]
    deeds = ("open", "*.now", "*.read_text", "*.read_bytes", "*.write_*", "*.exists", "*.stat", "*.iterdir")
    problems += [f"{_at(module, line)}: {said}" for said, line in _said(module) if _matches(said, " ".join(deeds))]
    _report(problems)


def _is_broad(node: ast.AST) -> bool:
    if isinstance(node, ast.ExceptHandler):
        caught = ast.unparse(node.type) if node.type else "BaseException"
        last = node.body[-1]
        again = isinstance(last, ast.Raise) and last.exc is None  # it hides nothing: it cleans up and lets go
        return not again and bool({"Exception", "BaseException"} & set(caught.strip("()").split(", ")))
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
        return any(ast.unparse(one) in ("Exception", "BaseException") for one in node.args)
    return False


def test_everything_is_caught_at_the_edges_only() -> None:
    problems = []
    for module in MODULES:
        found = [node for node, _, _ in _walk(_tree(SOURCES[module])) if _is_broad(node)]
        if len(found) > BROAD.get(module, (0, ""))[0]:
            problems += [f"{_at(module, getattr(node, 'lineno', 0))}: catches everything" for node in found]
    _report(problems)


def test_modules_and_functions_are_short() -> None:
    problems = []
    for module, path in SOURCES.items():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if (lines > MODULE_LINES) != (module in LONG_MODULES):
            problems.append(f"{path.relative_to(PROJECT)}: {lines} lines (limit {MODULE_LINES}, or LONG_MODULES)")
        for node, _, name in _walk(_tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if (lines > FUNCTION_LINES) != ((module, name) in LONG_FUNCTIONS):
                    problems.append(f"{_at(module, node.lineno)}: {name} has {lines} lines (limit {FUNCTION_LINES})")
    _report(problems)


def test_what_is_public_says_what_it_is() -> None:
    """Modules, and the functions and classes that stand at their top; in `cli` that is also the help text."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    problems = []
    for module, path in SOURCES.items():
        tree = _tree(path)
        problems += [] if ast.get_docstring(tree) else [f"{path.relative_to(PROJECT)}: no docstring"]
        for node in tree.body:
            if isinstance(node, kinds) and not node.name.startswith("_") and not ast.get_docstring(node):
                problems.append(f"{_at(module, node.lineno)}: {node.name} has no docstring")
    _report(problems)


def test_the_package_itself_imports_nothing() -> None:
    assert _imports("") == ()


def test_tests_wait_for_conditions() -> None:
    problems = []
    for path in TESTS:
        for node, _, _ in _walk(_tree(path)):
            sleeps = isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep")
            if sleeps and path.name != "harness.py":
                problems.append(f"{path.relative_to(PROJECT)}:{getattr(node, 'lineno', 0)}: use harness.eventually")
    _report(problems)


def test_tests_do_not_replace_our_own_modules() -> None:
    """LESSONS 43: 758 green tests while production was down, 1,826 mocks."""
    problems = []
    for path in TESTS:
        for node, _, _ in _walk(_tree(path)):
            said = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if said.startswith(("mock.", "mocker.", "MagicMock", "patch")) or said == "monkeypatch.setattr":
                problems.append(f"{path.relative_to(PROJECT)}:{getattr(node, 'lineno', 0)}: {said}")
    _report(problems)
