"""The built-in agent (`octopoid.builtin`): a tool loop of our own on the Anthropic Messages API, or one like it.

Its program says in its last line how it ended, so that nothing has to be guessed here. It alone imports `anthropic`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from octopoid import prices
from octopoid.adapters import anthropiclog
from octopoid.adapters.base import (
    DETAIL,
    Evidence,
    Facts,
    Launch,
    Reading,
    Request,
    blamed,
    by_status,
    cut_short,
    output,
    sensible,
)
from octopoid.adapters.events import STARTED, Event, amount
from octopoid.model import Result
from octopoid.results import bounded
from octopoid.settings import Agent

KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
"""Credentials, the one that counts first. A name that `env:` does not list never reaches the program."""

_HOME = str(Path(__file__).resolve().parents[2])
# `-I` keeps the worktree's own modules out of its imports.
_BOOT = f"import sys; sys.path.insert(0, {_HOME!r}); from octopoid.builtin.agent import main; main()"

_WINDOW = 1 << 20
"""Bytes at the end of what it printed in which its last lines are looked for; one line of it has a few KiB at most."""
_HEAD = 8 << 10
_WANTED = re.compile(rb'"type":"(?:usage|ended)"')
_CLASSES = ("ok", "task", "environment", "ours")


class Job(NamedTuple):
    """What the program is asked for, in its one argument. No secrets, and nothing of the task.

    `entry`: the attempt's folder. `session`: the name of the attempt's folder to go on from, "" = begin anew. `price`:
    what the user says that the model costs, as in `prices.Price`.
    """

    entry: str
    produces: str = "commits"
    writes: bool = True
    tools: tuple[str, ...] = ()
    model: str = ""
    base_url: str = ""
    max_turns: int = 0
    max_tokens: int = 0
    max_usd: float = 0.0
    context: int = 150_000
    retries: int = 3
    session: str = ""
    price: tuple[float, float, float, float] | None = None


def dump(job: Job) -> str:
    """`job` as one argument of a command line."""
    return json.dumps(job._asdict(), separators=(",", ":"))


def load(argument: str) -> Job:
    """What `dump` made. Raises ValueError and TypeError for anything else."""
    fields = json.loads(argument)
    price = fields.get("price")
    return Job(**{**fields, "tools": tuple(fields["tools"]), "price": tuple(price) if price else None})


class Anthropic:
    """`base_url:` may name another server that speaks the same language, also a local one without a key."""

    facts = Facts(
        "anthropic",
        "the agent that ships with octopoid, on the Anthropic API or one like it (`base_url:`)",
        ignores=("command", "script", "args"),
        keys=KEYS,
        billed=True,
        hears=True,
    )

    def program(self, agent: Agent) -> str:
        """This very Python."""
        return sys.executable

    def launch(self, request: Request) -> Launch:
        """Permissions come from the role. `session` is an earlier attempt of the same task, by its folder's name."""
        agent, role = request.agent, request.role
        model = agent.model or role.model
        price = request.prices.get(model) or request.prices.get(prices.model(model))
        job = Job(
            entry=str(request.entry),
            produces=role.produces,
            writes=role.writes,
            tools=role.tools,
            model=model,
            base_url=agent.base_url,
            max_turns=agent.max_turns or role.max_turns,
            max_tokens=agent.max_tokens,
            max_usd=agent.max_usd,
            context=agent.context,
            retries=agent.retries,
            session=request.session,
            price=price[:4] if price else None,
        )
        return Launch((sys.executable, "-I", "-c", _BOOT, dump(job)), str(request.prompt))

    def read(self, agent: Agent, evidence: Evidence) -> Reading:
        """What its last line says, unless we ended it: then nothing counts but what it had used by then."""
        used, ended = _last(evidence)
        turns = amount(ended.get("turns", used.get("turn")))
        reading = cut_short(self.program(agent), agent, evidence) or _ended(ended, evidence) or by_status(evidence)
        told = reading._replace(
            usage=anthropiclog.total(ended.get("total", used.get("total"))),
            model=_model(evidence),
            turns=None if turns is None else int(turns),
        )
        return blamed(told, self.facts, agent)

    def hear(self, line: bytes) -> tuple[Event, ...] | None:
        """One line of its stream."""
        return sensible(anthropiclog.hear, line)

    def interactive(self, agent: Agent, session: str) -> tuple[str, ...]:
        """It has no terminal program."""
        return ()


# --- reading -----------------------------------------------------------------------------------------------------


def _model(evidence: Evidence) -> str:
    """What its first line names."""
    head = output(evidence._replace(log_end=min(evidence.log_end, evidence.log_start + _HEAD)), _HEAD)
    events = (event for line in head.splitlines() for event in sensible(anthropiclog.hear, line) or ())
    return next((event.model for event in events if event.kind == STARTED), "")


def _last(evidence: Evidence) -> tuple[dict[str, Any], dict[str, Any]]:
    """The last lines about use and about the end; {} where there is none."""
    found: dict[str, dict[str, Any]] = {"usage": {}, "ended": {}}
    for record in _records(output(evidence, _WINDOW)):
        found[record["type"]] = record
    return found["usage"], found["ended"]


def _records(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.splitlines():
        if not _WANTED.search(line[:40]):
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and record.get("type") in ("usage", "ended"):
            yield record


def _ended(record: dict[str, Any], evidence: Evidence) -> Reading | None:
    class_ = record.get("class")
    if class_ not in _CLASSES or (class_ == "ok") != (evidence.status == 0):
        return None  # no such line, or it did not get from there to its exit
    retry_after = amount(record.get("retry_after")) or 0.0
    said = Result(summary=bounded(_text(record, "summary"))) if class_ == "ok" else None
    return Reading(
        class_,
        _text(record, "reason"),
        bounded(_text(record, "detail"), DETAIL),
        result=said,
        session=_text(record, "session"),
        retry_after=retry_after,
    )


def _text(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    return value if isinstance(value, str) else ""
