"""`octopoid log`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from octopoid import clock, credentials, lifecycle, locks, regular
from octopoid.adapters import ADAPTERS, base
from octopoid.cli import common, judged, logview, reading
from octopoid.errors import NotFound, UsageError
from octopoid.layout import Layout
from octopoid.model import Entry, Outcome

cli = typer.Typer()

_CHUNK = 64 * 1024
_POLL = 0.1


@cli.command(
    epilog=common.examples(
        "octopoid log add-dark-mode",
        "octopoid log -f add-d",
        "octopoid log add-d --attempt 2 --raw",
        "octopoid log -f add-d --json",
    )
)
def log(
    word: common.Id,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the attempt is over.")] = False,
    number: Annotated[
        int | None,
        typer.Option("--attempt", "-n", min=1, help="This entry (octopoid show lists them), not the newest."),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Every byte as its program printed it.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON object for each thing that happened (octopoid schema log).")
    ] = False,
) -> None:
    """Print what an attempt or a gate's run did: the newest one, unless you say which.

    What agent programs print for programs is shown as text, the same for all of them: > a tool is called, ! something
    failed or was denied, ~ a thought, * a note, = what it used. On a terminal escapes are taken out.
    """
    if raw and as_json:
        raise UsageError("--raw and --json exclude each other")
    layout = common.layout()
    task = lifecycle.resolve(layout, word)
    entry = _entry(layout, task, number) if number else _newest(layout, task, follow)
    folder = layout.entry(task, entry.number)
    common.say(f"{layout.short(folder / 'output.log')}: {_about(entry)}{_others(layout, task, entry)}")
    if as_json:
        logview.emit(_head(task, entry))
    write = _writer(entry, str(layout.home / "worktrees" / task), raw, as_json)
    if not raw:
        write = logview.hiding(write, _secrets(layout))
    for data in _follow(folder) if follow else _read(folder / "output.log"):
        write(data)
    write(b"")
    if follow:
        entry = _entry(layout, task, entry.number)
        common.say(_about(entry))
    if as_json and entry.outcome:
        logview.emit(_end(entry.outcome))
    common.next_step(f"octopoid log -f {task}" if entry.outcome is None else f"octopoid show {task}")


def _writer(entry: Entry, home: str, raw: bool, as_json: bool) -> logview.Write:
    adapter = ADAPTERS.get(entry.opening.adapter)
    hear = partial(base.hear, adapter) if adapter else _silent
    if as_json:
        return logview.as_json(hear)
    if raw or not (adapter or common.terminal()):
        return logview.raw
    return logview.as_text(hear, home) if adapter else logview.plain()


def _secrets(layout: Layout) -> tuple[credentials.Secret, ...]:
    """Of this shell, and of the service: the log holds whatever its program printed."""
    known = judged.policy(layout)
    named = {name for agent in known.agents.values() for name in agent.env} if known else ()
    return credentials.around(os.environ, named)


def _silent(_line: bytes) -> None:
    """Of checks and the like every line is text."""


def _head(task: str, entry: Entry) -> dict[str, Any]:
    """What the lines of `--json` are about: the first of them."""
    one = entry.opening
    who = {"role": one.role, "agent": one.agent, "adapter": one.adapter, "gate": one.gate, "attempt": one.attempt}
    facts = {"task": task, "entry": entry.number, "started": clock.iso(one.at), **who}
    return {"schema_version": common.SCHEMA_VERSION, "kind": "log", **{key: one for key, one in facts.items() if one}}


def _end(outcome: Outcome) -> dict[str, Any]:
    """How the entry ended: the last line of `--json`, once that is known."""
    words = {"class": outcome.class_, "reason": outcome.reason, "verdict": outcome.verdict, "text": outcome.detail}
    return {"kind": "outcome", **{key: word for key, word in words.items() if word}}


def _newest(layout: Layout, task: str, follow: bool) -> Entry:
    """The newest entry in which a program ran; with `follow` the first one is waited for."""
    told = False
    while True:
        logged = [one for one in reading.entries(layout, task) if _log_of(layout, task, one).exists()]
        if logged:
            return logged[-1]
        if not follow:
            raise NotFound(f"nothing ran for {task} yet", f"octopoid why {task}")
        if not told:
            common.say(f"nothing ran for {task} yet: waiting for its first attempt (octopoid why {task})")
            told = True
        time.sleep(_POLL)


def _entry(layout: Layout, task: str, number: int) -> Entry:
    entries = reading.entries(layout, task)
    found = next((one for one in entries if one.number == number), None)
    if found is None or not _log_of(layout, task, found).exists():
        known = ", ".join(str(one.number) for one in entries if _log_of(layout, task, one).exists())
        raise NotFound(f"{task} has no log {number}", f"there are: {known}" if known else f"octopoid why {task}")
    return found


def _log_of(layout: Layout, task: str, entry: Entry) -> Path:
    return layout.entry(task, entry.number) / "output.log"


def _others(layout: Layout, task: str, shown: Entry) -> str:
    """The other logs of the task, by their numbers."""
    logged = [one for one in reading.entries(layout, task) if _log_of(layout, task, one).exists()]
    others = [f"{one.number} ({_what(one)})" for one in logged if one.number != shown.number]
    return f"; with --attempt: {', '.join(others)}" if others else ""


def _what(entry: Entry) -> str:
    opening = entry.opening
    return opening.gate or f"{opening.kind} {opening.attempt or entry.number}"


def _about(entry: Entry) -> str:
    opening, outcome = entry.opening, entry.outcome
    who = f" by {opening.agent}" if opening.agent else ""
    if outcome is None:
        return f"{_what(entry)}{who}, since {clock.iso(opening.at)}"
    end = outcome.verdict or outcome.reason or outcome.class_ or "ended"
    detail = f": {common.one_line(outcome.detail)}" if outcome.detail else ""
    return f"{_what(entry)}{who}, {end}{detail}"


def _read(path: Path) -> Iterator[bytes]:
    with regular.opened(path) as file:
        while data := file.read(_CHUNK):
            yield data


def _follow(folder: Path) -> Iterator[bytes]:
    """What is in the log and what is still written to it, until the entry is closed or nobody holds its lock."""
    with regular.opened(folder / "output.log") as file:
        while True:
            over = (folder / "outcome.json").exists() or not locks.is_held(folder / "lock")
            data = file.read(_CHUNK)
            if data:
                yield data
                sys.stdout.flush()
            elif over:
                return
            else:
                time.sleep(_POLL)
