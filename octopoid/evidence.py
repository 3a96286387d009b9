"""What a supervised run left behind: `exit.json` and `facts.json` as values. Unreadable is an error, never a guess."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from octopoid import regular
from octopoid.errors import Invalid
from octopoid.model import Problem

_ESCAPES = r"\x1b(?:\[[^@-~]*[@-~]?)?"


class StepExit(NamedTuple):
    """How one step ended. `ended_by`: exit | timeout | silence | stop | missing. Offsets are bytes of `output.log`."""

    name: str
    status: int | None
    signal: int | None
    ended_by: str
    log_start: int
    log_end: int
    detail: str = ""

    @property
    def well(self) -> bool:
        """It ended by itself with status 0."""
        return self.ended_by == "exit" and self.status == 0


class Exit(NamedTuple):
    """The supervisor's exit record. `stopped`: somebody asked it to end. `ended`: seconds since the epoch."""

    ended: float
    stopped: bool
    steps: tuple[StepExit, ...]

    def step(self, name: str) -> StepExit | None:
        """The step of this name, None when it did not run."""
        return next((step for step in self.steps if step.name == name), None)

    @property
    def failed(self) -> StepExit | None:
        """The first step that did not end well."""
        return next((step for step in self.steps if not step.well), None)


class Facts(NamedTuple):
    """What git says about an attempt's worktree after it (workspace.collect).

    `leaks`: where secrets of ours are in its commits. `unlandable`: files that no checkout can hold. `seized`: the
    commit that it moved the base to by itself.
    """

    head: str = ""
    tree: str = ""
    start_sha: str = ""
    merge_base: str = ""
    merge_base_tree: str = ""
    commits: int = 0
    files: tuple[str, ...] = ()
    files_total: int = 0
    committed: bool = False
    dirty: bool = False
    policy: bool = False
    orphan: bool = False
    notes: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    leaks: tuple[str, ...] = ()
    unlandable: tuple[str, ...] = ()
    seized: str = ""


def began(folder: Path, exit_: Exit | None) -> bool:
    """Was the agent of the entry started? Before that its worktree may still be as a gate left it."""
    if exit_ is not None:
        step = exit_.step("agent")
        return step is not None and step.ended_by != "missing"
    try:
        record = json.loads(regular.read(folder / "pid"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(record, dict) and isinstance(record.get("agent_pid"), int)


def read_exit(entry: Path) -> Exit:
    """The exit record of an entry. Raises Invalid, FileNotFoundError."""
    path = entry / "exit.json"
    record = _record(path)
    try:
        steps = tuple(
            StepExit(
                name=str(step["name"]),
                status=step["status"],
                signal=step["signal"],
                ended_by=str(step["ended_by"]),
                log_start=int(step["log_start"]),
                log_end=int(step["log_end"]),
                detail=str(step.get("detail") or ""),
            )
            for step in record["steps"]
        )
        return Exit(float(record["ended"]), bool(record["stopped"]), steps)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _invalid(path, f"{type(error).__name__}: {error}") from None


def read_facts(entry: Path) -> Facts:
    """The facts of an entry, empty ones when no step wrote any. Raises Invalid."""
    path = entry / "facts.json"
    try:
        record = _record(path)
    except FileNotFoundError:
        return Facts()
    known: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in record.items()
        if key in Facts._fields and value is not None
    }
    wrong = next((key for key, value in known.items() if type(value) is not type(getattr(Facts(), key))), "")
    if wrong:
        raise _invalid(path, f"{wrong}: {known[wrong]!r}")
    return Facts(**known)


def read_start(entry: Path) -> str:
    """Where the worktree was when the attempt began, "" when it never got there. Raises Invalid."""
    try:
        return str(_record(entry / "start.json").get("start_sha") or "")
    except FileNotFoundError:
        return ""


def tail(entry: Path, step: StepExit, limit: int = 4096) -> str:
    """The end of what a step printed, at most `limit` bytes, from a whole line on."""
    try:
        with regular.opened(entry / "output.log") as file:
            start = max(step.log_start, step.log_end - limit)
            file.seek(start)
            data = file.read(step.log_end - start)
    except OSError:
        return ""
    if start > step.log_start:
        data = b"[...]\n" + data.partition(b"\n")[2]
    return _printable(data.decode("utf-8", "replace")).strip("\n")


def _printable(text: str) -> str:
    """Without terminal escapes and control characters: agents print colours, and prompts and files should not."""
    plain = re.sub(_ESCAPES, "", text.replace("\r\n", "\n"))  # by hand it took 5 s for 256 KB of `ESC [`
    return "".join(char for char in plain if char in "\n\t" or char.isprintable())


def _record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(regular.read(path))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _invalid(path, reason or str(error)) from None
    if not isinstance(record, dict):
        raise _invalid(path, "not a JSON object")
    return record


def _invalid(path: Path, reason: str) -> Invalid:
    problem = Problem(path, 0, 0, f"cannot be read: {reason}", "octopoid doctor tells what can be done")
    return Invalid(str(problem), (problem,))
