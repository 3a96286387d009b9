"""What a start loads, opens, writes and starts. How long it takes is for scripts/bench."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NamedTuple

import pytest
from harness import PROJECT, Repo, init

# They are loaded at every start of an agent, before anything else happens.
FAST = ("durable", "locks", "process", "runner")
SLOW = {"typing", "enum", "dataclasses", "subprocess", "pathlib", "re", "tempfile", "shutil", "logging", "datetime"}

# Written into the child: runs the command line, then says what was loaded and which files were opened or changed.
WITNESS = """
import sys
seen = []
def witness(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        seen.append(("write" if args[2] & 0o1103 else "read") + " " + str(args[0]))
    elif event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.utime", "os.chmod"):
        seen.append("write " + str(args[0]))
    elif event in ("subprocess.Popen", "os.posix_spawn", "os.exec", "os.fork"):
        seen.append("start " + str(args[0] if args else event))
sys.addaudithook(witness)
from octopoid.cli.app import main
try:
    main()
except SystemExit as end:
    code = end.code
else:
    code = 0
print("", *(f"module {name}" for name in sys.modules), *seen, f"exit {code or 0}", sep="\\n", file=sys.stderr)
"""

STARTS = (("status",), ("status", "--json"), ("list", "--state", "incoming"), ("enqueue", "Another one"))
READS = (*STARTS[:3], ("show", "first"), ("why", "first"), ("events",), ("lint",), ("paths",), ("doctor",))
# typer itself loads subprocess, so that it is not in this list says nothing: DOORS has it.
UNLOADED = {
    *("rich", "filelock", "git", "jinja2", "watchdog", "anthropic", "asyncio", "frontmatter", "pydantic"),
    *("octopoid.scheduler", "octopoid.daemon", "octopoid.git", "octopoid.runner", "octopoid.prompts"),
}


@pytest.mark.parametrize("module", FAST)
def test_the_runner_starts_fast(module: str) -> None:
    if not (PROJECT / f"octopoid/{module}.py").exists():
        pytest.skip(f"no {module}.py")
    code = f"import sys; sys.path.insert(0, {str(PROJECT)!r}); import octopoid.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    # json's decoder needs `re`, which needs `enum`: 3 ms, once, in the runner
    loaded = set(done.stdout.split())
    assert not loaded & (SLOW - ({"re", "enum"} if "json" in loaded else set()))


class Witness(NamedTuple):
    """What a run of the command line loaded, read, wrote and started."""

    module: set[str]
    read: set[str]
    write: set[str]
    start: set[str]


def _witness(repo: Repo, *args: str) -> Witness:
    init(repo)
    layout = repo.layout
    (layout.queue / "incoming/first.md").write_text("# First\n", encoding="utf-8")
    (layout.queue / "done/old.md").write_text("# Old\n", encoding="utf-8")
    argv = [sys.executable, "-c", WITNESS, *args]
    done = subprocess.run(argv, cwd=repo.root, env=repo.env, capture_output=True, text=True, check=True, timeout=60)
    lines = [line.partition(" ")[::2] for line in done.stderr.splitlines()]
    assert ("exit", "0") in lines or args[0] in ("lint", "doctor"), done.stderr
    return Witness(*({value for word, value in lines if word == kind} for kind in Witness._fields))


@pytest.mark.parametrize("args", STARTS, ids=" ".join)
def test_everyday_commands_load_little(repo: Repo, args: tuple[str, ...]) -> None:
    seen = _witness(repo, *args)
    assert not seen.module & UNLOADED
    assert not seen.start, "a git process costs more than all the rest of `status`"
    assert not [path for path in seen.read if "/queue/done/" in path], "nothing opens a file in done/"


@pytest.mark.parametrize("args", READS, ids=" ".join)
def test_readers_never_write(repo: Repo, args: tuple[str, ...]) -> None:
    seen = _witness(repo, *args)
    place = os.path.realpath(repo.root.parent)
    assert not [path for path in seen.write if path.startswith(place) and "__pycache__" not in path]
