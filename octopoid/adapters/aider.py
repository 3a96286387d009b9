"""aider, headless: one message from a file, edits applied by itself, commits made by octopoid.

Measured with 0.86.2 (`scripts/install-agents aider`, tests/agents_aider.py). Its exit status says nothing: it is 0 also
after a 401. What counts is the file of its counters (an answer begun, an answer got) and what it printed last; the
shell around it makes a status of that, so that nothing half done is committed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from octopoid import regular
from octopoid.adapters import aiderflags, aiderlog
from octopoid.adapters.answers import word
from octopoid.adapters.base import (
    CONFIGURATION,
    DETAIL,
    NO_LOGIN,
    NOT_STARTED,
    Evidence,
    Facts,
    Launch,
    Reading,
    Request,
    blamed,
    by_status,
    cut_short,
    missing,
    output,
    tail,
)
from octopoid.adapters.events import Event
from octopoid.adapters.litellm import FULL, failure
from octopoid.errors import Invalid
from octopoid.model import Result, Usage
from octopoid.results import bounded
from octopoid.settings import Agent

_WINDOW = 4 << 20
_HEAD = 64 << 10
# A key that is missing for a model of OpenRouter makes it wait five minutes for somebody to log in.
_NO_KEY = re.compile(r"no API keys were provided|without an OpenRouter API key", re.I)
# `BROWSER`: it offers links about every error, answers its own question with yes, and opens them.
_ENVIRONMENT = (("BROWSER", "true"), ("LITELLM_LOCAL_MODEL_COST_MAP", "True"))


class Aider:
    """`command:` may start another program than `aider` on PATH; `args` come last and therefore win."""

    facts = Facts(
        "aider",
        "aider, any model that litellm reaches; it edits files and runs no commands",
        program="aider",
        install="pipx install aider-chat",
        needs="model",  # without one and without a key it waits five minutes for somebody to log in at OpenRouter
        ignores=("script", "max_turns", "max_tokens", "max_usd", "context", "retries"),
        keys=("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY", "GEMINI_API_KEY", "DEEPSEEK_API_KEY"),
        login="write a key into `~/.aider.conf.yml`",
        logins=(".aider.conf.yml", ".env", ".aider/oauth-keys.env"),
        billed=True,
    )

    def program(self, agent: Agent) -> str:
        """The program, without its arguments; `sh` for a string."""
        if isinstance(agent.command, str):
            return "sh" if agent.command else "aider"
        return agent.command[0] if agent.command else "aider"

    def launch(self, request: Request) -> Launch:
        """A shell puts the prompt into a file and tidies up behind it: see aiderflags."""
        agent, role, folder = request.agent, request.role, request.entry / "aider"
        argv = ("sh", "-c", aiderflags.script(agent, role, folder), "aider")
        env = tuple(pair for pair in _ENVIRONMENT if pair[0] not in agent.env)
        return Launch((*argv, *aiderflags.flags(agent, role, folder), *agent.args), str(request.prompt), env)

    def read(self, agent: Agent, evidence: Evidence) -> Reading:
        """Whether the last answer it asked for has come decides, unless we ended the program."""
        run = _read_run(evidence)
        reading = (
            _cut_short(self.program(agent), agent, evidence, run)
            or _not_begun(agent, evidence, run)
            or _failed(evidence, run)
            or _answered(evidence)
        )
        used = reading._replace(usage=_usage(run), model=run.model, turns=len(run.sent) or None)
        return blamed(used, self.facts, agent)

    def hear(self, line: bytes) -> tuple[Event, ...] | None:
        """One line of its log."""
        return aiderlog.hear(line)

    def interactive(self, agent: Agent, session: str) -> tuple[str, ...]:
        """It has no sessions."""
        return ()


# --- reading -----------------------------------------------------------------------------------------------------


class _Run(NamedTuple):
    """What it counted, and the end of its log: all after the last answer that it got.

    `sent`: of each answer. `begun`: answers that it asked for. `odd`: what it failed with that is not the model's.
    """

    model: str = ""
    sent: tuple[dict[str, Any], ...] = ()
    begun: int = 0
    odd: str = ""
    after: bytes = b""


def _read_run(evidence: Evidence) -> _Run:
    head = output(evidence._replace(log_end=min(evidence.log_end, evidence.log_start + _HEAD)), _HEAD)
    model = aiderlog.MODEL.search(head)
    log = output(evidence, _WINDOW)
    counted = list(aiderlog.COUNTED.finditer(log))
    run = _Run(model[1].decode("utf-8", "replace") if model else "", after=log[counted[-1].start() if counted else 0 :])
    for name, fields in _events(evidence.log.parent / "aider" / aiderflags.EVENTS):
        if name == "message_send_starting":
            run = run._replace(begun=run.begun + 1)
        elif name == "message_send":
            run = run._replace(sent=(*run.sent, fields))
        elif name == "message_send_exception":
            run = run._replace(odd=str(fields.get("exception")))
    return run


def _events(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with suppress(OSError):
        for line in regular.read(path).splitlines():
            with suppress(ValueError, RecursionError, AttributeError, TypeError):
                event = json.loads(line)
                yield str(event.get("event")), dict(event.get("properties") or {})


def _cut_short(program: str, agent: Agent, evidence: Evidence, run: _Run) -> Reading | None:
    """As for every program; but time that went by without a model is nobody's failed attempt."""
    reading = cut_short(program, agent, evidence)
    said = _failure(run)
    if reading and reading.class_ == "task" and said:
        found = failure(said)
        return found._replace(class_="environment", detail=f"{reading.detail.splitlines()[0]}: {found.detail}")
    return reading


def _not_begun(agent: Agent, evidence: Evidence, run: _Run) -> Reading | None:
    """It has not come to its first question: not there, its flags, no key; None when it has."""
    if run.begun:
        return None
    said = tail(evidence)
    if evidence.status in NOT_STARTED:
        return missing(said, agent)
    if evidence.status is None:
        return by_status(evidence)
    if _NO_KEY.search(said):
        return Reading("environment", NO_LOGIN, said)
    return Reading("environment", CONFIGURATION, said)


def _failed(evidence: Evidence, run: _Run) -> Reading | None:
    """Why the last answer did not come, or was its last; None when all is well."""
    if evidence.status is None:
        return by_status(evidence)
    if aiderlog.FULL.search(run.after):
        return Reading("task", FULL, bounded(_text(run.after), DETAIL))
    if aiderlog.STOPPED.search(run.after):
        return Reading("task", "turn limit", "turn limit: it goes on by itself three times, no more")
    said = _failure(run)
    if said:
        return failure(said)
    if len(run.sent) < run.begun and (run.odd or not evidence.status):
        return Reading("task", "error", run.odd or bounded(_text(run.after), DETAIL))
    return by_status(evidence) if evidence.status else None


def _failure(run: _Run) -> str:
    """What litellm said last, if no answer came after it."""
    found = list(aiderlog.FAILED.finditer(run.after))
    if not found or len(run.sent) >= run.begun:
        return ""
    return _text(run.after[found[-1].start() :]).split("\n")[0]


def _answered(evidence: Evidence) -> Reading:
    answer = _answer(evidence.log.parent / "aider" / aiderflags.CONVERSATION)
    try:
        return Reading("ok", result=word(answer) or Result(summary=bounded(answer)))
    except Invalid as error:
        return Reading("task", "bad result", f"its last answer: {error.message}")


def _answer(path: Path) -> str:
    """The last answer in the record of its conversation, each line of which says whose it is."""
    try:
        with regular.opened(path) as file:
            file.seek(max(0, path.stat().st_size - _WINDOW))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    begins = [at for at, line in enumerate(lines) if line.startswith("LLM RESPONSE ")]
    said = lines[begins[-1] + 1 :] if begins else []
    return "\n".join(line.removeprefix("ASSISTANT").removeprefix(" ") for line in said if line.startswith("ASSISTANT"))


def _usage(run: _Run) -> Usage:
    """Of all answers that came. It counts as nothing what has no price: that is unknown here."""
    if not run.sent:
        return Usage()
    read, written = (_sum(run, key) for key in ("prompt_tokens", "completion_tokens"))
    usd = _sum(run, "cost")
    return Usage(None if read is None else int(read), None if written is None else int(written), usd or None)


def _sum(run: _Run, key: str) -> float | None:
    found = [one.get(key) for one in run.sent]
    numbers = [one for one in found if isinstance(one, int | float) and not isinstance(one, bool)]
    return sum(numbers) if len(numbers) == len(found) else None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").strip()
