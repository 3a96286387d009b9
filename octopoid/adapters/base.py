"""What an adapter is: how one kind of agent program is started, and how what it left behind is read.

An adapter touches nothing: `launch` says what to start and `read` looks at a finished attempt's log. It does not read
`result.json` (the caller does, with `octopoid.results`); a `Reading.result` counts where there is no such file.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from octopoid import regular
from octopoid.adapters.events import Event, Hear
from octopoid.model import Result, Usage
from octopoid.prices import Price
from octopoid.results import bounded
from octopoid.settings import DISK, Agent, Role

NOT_STARTED = (126, 127)
"""What `sh` and `env` answer for a program that is not executable, or not there."""
DETAIL = 2048
"""Characters of an agent's output that go into a reading."""


class Facts(NamedTuple):
    """What there is to know about a kind of program before one starts.

    `title`: what it is, for people. `program`: looked for on PATH, "" = nothing of the kind. `install`: the command
    that installs it. `needs`: the key of agents.yaml that it cannot do without, `ignores`: those that would mean
    nothing to it. `keys`: the variables that a credential may be in, the one that counts first. `login`: how a person
    logs in without one, `logins`: the files below HOME that this writes. `billed`: its model costs money, so that an
    unknown cost is not none. `hears`: `octopoid say` reaches it while it works. `state`: below HOME, what it must be
    able to write also where it is shut in, because the next attempt wants it; a folder ends with a slash. `scratch`:
    folders below HOME into which it writes and whose files it may have anew each time; that vanishes with it.
    """

    name: str
    title: str
    program: str = ""
    install: str = ""
    needs: str = ""
    ignores: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    login: str = ""
    logins: tuple[str, ...] = ()
    billed: bool = False
    hears: bool = False
    state: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()


class Request(NamedTuple):
    """What is to be started. `entry`: the attempt's folder, `prompt`: its file, `root`: the user's checkout.

    `session`: what the agent was in when it asked or was cut off, to go on there; "" = begin anew. `agent.max_usd` is
    what this one attempt may spend, whatever is left of other budgets taken into account. `prices`: the user's own.
    """

    agent: Agent
    role: Role
    entry: Path
    prompt: Path
    root: Path
    session: str = ""
    prices: Mapping[str, Price] = {}


class Launch(NamedTuple):
    """What to start: program and arguments (no shell), the file for its stdin, and environment on top of the rest."""

    argv: tuple[str, ...]
    stdin: str | None = None
    env: tuple[tuple[str, str], ...] = ()


class Evidence(NamedTuple):
    """What the runner recorded about the agent's step (`exit.json`). `log_start`, `log_end`: its bytes in `log`."""

    status: int | None
    signal: int | None
    ended_by: str
    log: Path
    log_start: int
    log_end: int


class Reading(NamedTuple):
    """How an attempt ended.

    `class_`: ok | task | environment | ours (DESIGN §5). `reason` is a word or two, `detail` a sentence or the end of
    the output. `breaker` names the credential (or `agent:NAME`) that an environment failure is about, "" = trip
    nothing; `fix` says what a person can do. `retry_after`: seconds from the end of the attempt until it is worth
    trying again, 0 = unknown. `session`: what it can be resumed with. `model`, `turns`: what it used.
    """

    class_: str
    reason: str = ""
    detail: str = ""
    usage: Usage = Usage()
    result: Result | None = None
    session: str = ""
    breaker: str = ""
    retry_after: float = 0.0
    fix: str = ""
    model: str = ""
    turns: int | None = None


class Adapter(Protocol):
    """One kind of agent program. Stateless; one instance serves every agent."""

    facts: Facts

    def program(self, agent: Agent) -> str:
        """What must be found on PATH (or at this path) for `agent` to start."""

    def launch(self, request: Request) -> Launch:
        """What to start in the task's worktree."""

    def read(self, agent: Agent, evidence: Evidence) -> Reading:
        """What the finished step means."""

    def hear(self, line: bytes) -> tuple[Event, ...] | None:
        """What a line of its log says; () is nothing, None is no record of this program: text as it stands."""

    def interactive(self, agent: Agent, session: str) -> tuple[str, ...]:
        """What a person starts in the worktree to go on with `session` by hand; () = this program cannot."""


CONFIGURATION, MISSING, NO_LOGIN = "configuration", "missing", "not logged in"
LOST = "session lost"
"""Why a run ended that was to go on in a session which is gone: our fault, not the task's, and the next begins anew."""
OF_MODELS = ("base_url", "max_tokens", "max_usd", "context", "retries")
"""Keys of agents.yaml that most programs have no use for."""
_OWN = (CONFIGURATION, MISSING, "broken script")
"""Reasons that are about one agent's own lines in agents.yaml; the others are about what it pays or logs in with."""


def credential(facts: Facts, agent: Agent) -> str:
    """What `agent` pays or logs in with: pools that share it trip the same breaker. `Agent.credential` is this."""
    name = next((key for key in facts.keys if key in agent.env), facts.name)
    place = urlsplit(agent.base_url).netloc
    return f"{name}@{place}" if place else name


def blamed(reading: Reading, facts: Facts, agent: Agent) -> Reading:
    """An environment failure with what it is about, and what a person can do; any other reading as it is."""
    if reading.class_ != "environment" or reading.reason == "stopped":
        return reading
    own = reading.reason in _OWN
    breaker = f"agent:{agent.name}" if own else credential(facts, agent)
    return reading._replace(breaker=breaker, fix=_fix(reading.reason, facts, agent))


def _fix(reason: str, facts: Facts, agent: Agent) -> str:
    """One sentence in the imperative, without its full stop."""
    key = next((key for key in facts.keys if key in agent.env), "")
    if reason == NO_LOGIN and key:
        return f"set the right {key} where `octopoid run` is started, and start it again"
    if reason == NO_LOGIN:
        others = [name for name in agent.env if "KEY" in name or "TOKEN" in name]  # such as a provider's of its own
        look = f"set the right {', '.join(others)} where `octopoid run` is started" if others else ""
        named = f"name {facts.keys[0]} in `env:` of agent {agent.name}" if facts.keys else ""
        return ", or ".join(way for way in (look, facts.login, named) if way)
    if reason == MISSING:
        ways = (
            f"install it: {facts.install}" if facts.install and not agent.command else "",
            f"mend `command:` of agent {agent.name}",
        )
        return ", or ".join(way for way in ways if way)
    return _FIXES.get(reason, "").format(agent=agent.name, credential=credential(facts, agent))


PASSING = ("rate limit", "no answer")
"""Reasons that pass by themselves: nobody has to do anything."""

_FIXES = {
    CONFIGURATION: "mend agent {agent} in .octopoid/agents.yaml (`octopoid log` shows what its program refused)",
    "broken script": "mend the script of agent {agent}",
    "no credit": "add credit to the account behind {credential}",
    "rate limit": "wait, or give agent {agent} another credential",
    "no answer": "look at the network, and at whether the provider is up",
}


NONSENSE = (ArithmeticError, LookupError, RecursionError, TypeError, ValueError)
"""What reading raises of records that no program writes (a number of thousands of digits). An agent can write there."""


def sensible(read: Hear, line: bytes) -> tuple[Event, ...] | None:
    """What `read` hears in a line; () where it is nonsense: it must not keep `status` from telling about the rest."""
    try:
        return read(line)
    except NONSENSE:
        return ()


def hear(adapter: Adapter, line: bytes) -> tuple[Event, ...] | None:
    """What a line says, as `Adapter.hear`, which need not be careful."""
    return sensible(adapter.hear, line)


_NO_ROOM, _LITTLE_ROOM = 32 << 20, 1 << 30
_FULL = re.compile(rb"no space left on device|disk quota exceeded|ENOSPC|EDQUOT", re.IGNORECASE)


def output(evidence: Evidence, limit: int) -> bytes:
    """The last `limit` bytes that the step wrote; nothing where the log is gone."""
    start = max(evidence.log_start, evidence.log_end - limit)
    try:
        with regular.opened(evidence.log) as log:
            log.seek(start)
            return log.read(max(0, evidence.log_end - start))
    except OSError:
        return b""


def tail(evidence: Evidence, limit: int = DETAIL) -> str:
    """The end of what the step wrote, for people: no control characters, whole lines where that is possible."""
    data = output(evidence, limit * 4)
    text = bounded(data.decode("utf-8", "replace"), limit * 4)
    if len(text) <= limit:
        return text
    cut = text[-limit:]
    return cut.split("\n", 1)[-1] if "\n" in cut.rstrip("\n") else cut


def cut_short(program: str, agent: Agent, evidence: Evidence) -> Reading | None:
    """The reading of a step that did not end by itself; None when it did. This wins over whatever it printed.

    A program that we ended may still exit 0 with a cheerful answer (Claude Code 2.1.197 did, 5 of 5 times).
    """
    if evidence.ended_by == "missing":
        return missing(program, agent)
    if evidence.ended_by == "timeout":
        return Reading(
            "task", "timeout", f"ended after its time limit of {agent.timeout:g} s\n{tail(evidence)}".strip()
        )
    if evidence.ended_by == "silence":
        return Reading("task", "silence", f"ended after {agent.silence:g} s without output\n{tail(evidence)}".strip())
    if evidence.ended_by == "stop":
        return Reading("environment", "stopped", "stopped from outside")
    return None


_SHELL = re.compile(r"\A\S+: (?:line )?\d+: (?:exec: )?")
"""How a shell begins to say that it found no program."""


def missing(said: str, agent: Agent) -> Reading:
    """The program is not there, or not executable. `said`: its name, or the shell's message about it."""
    detail = f"the program of agent {agent.name} could not be started: {_SHELL.sub('', said)}"
    return Reading("environment", MISSING, detail)


def by_status(evidence: Evidence) -> Reading:
    """The reading of a step that ended by itself, from its exit status alone."""
    if evidence.status == 0:
        return Reading("ok")
    said = tail(evidence)
    if evidence.status is None:
        return Reading("task", f"killed by {signal_name(evidence.signal)}", said)
    return Reading("task", f"exit status {evidence.status}", said)


def for_want_of_room(reading: Reading, said: bytes, free: int) -> Reading:
    """A failed attempt on a full disk is nobody's fault. `said`: the end of the output, `free`: bytes left on the disk.

    What a program prints alone proves nothing (it may be its own test); that little room is left does.
    """
    full = free < _NO_ROOM or (free < _LITTLE_ROOM and _FULL.search(said))
    if reading.class_ != "task" or not full:
        return reading
    detail = f"{free >> 20} MiB are left on the disk of the queue; {reading.reason}: {reading.detail}"
    fix = "make room; `octopoid clean` removes the worktrees of finished tasks"
    return reading._replace(class_="environment", reason="disk full", detail=detail, breaker=DISK, fix=fix)


def signal_name(number: int | None) -> str:
    """`SIGKILL` for 9."""
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return f"signal {number}"


def absolute(program: str, root: Path) -> str:
    """`program` as an absolute path from `root`."""
    return os.path.normpath(root / program)
