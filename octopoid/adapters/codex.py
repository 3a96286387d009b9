"""Codex, headless: `codex exec` with the prompt on stdin and JSONL on stdout.

Measured with 0.169.0 (`scripts/install-agents codex`, tests/test_codex_real.py). Its sandbox is what a role's
permissions are made of; what it holds the model to is a JSON schema for the last message.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from octopoid import jsontext, regular
from octopoid.adapters import codexflags, codexlog
from octopoid.adapters.base import (
    CONFIGURATION,
    DETAIL,
    LOST,
    NO_LOGIN,
    NOT_STARTED,
    OF_MODELS,
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
    sensible,
    tail,
)
from octopoid.adapters.events import Event
from octopoid.errors import Invalid
from octopoid.model import Result, Usage
from octopoid.results import OUTCOMES, bounded, parse_mapping
from octopoid.settings import Agent

# The first: without it codex waits for a network that is down for ever, and says so ever less often. What an
# implementer noted in its memory would stand in its reviewer's prompt.
_SETTINGS = (
    "features.unbounded_connection_retries=false",
    "features.memories=false",
    "analytics.enabled=false",
    'approval_policy="never"',
)
_SCHEMAS = Path(__file__).parent / "codexschemas"
_HELD = ("verdict", "document", "tasks")
"""What a role produces whose word is its last message, held to a schema: it may not write a result file."""

_WINDOW = 8 << 20
_HEAD = 16 << 10
_WANTED = re.compile(rb'thread\.started|turn\.(?:completed|failed)|agent_message|"error"|"item\.')
_DENIED = re.compile(rb"tools::router: error=(patch rejected|approval policy is Never)")

# What codex says where a turn failed, or on stderr where none began. The first that is found counts.
_PHRASES = (
    (re.compile(r"usage limit|rate.?limit|\b429\b", re.I), "rate limit"),
    (re.compile(r"quota exceeded|\b402 Payment|billing|upgrade to plus|out of credits", re.I), "no credit"),
    (
        re.compile(
            r"\b401 Unauthorized|\b403 Forbidden|missing environment variable|not logged in|(sign|log) in again"
            r"|refresh token|invalid api key|incorrect api key",
            re.I,
        ),
        NO_LOGIN,
    ),
    (
        re.compile(
            r"\b404 Not Found|model .{0,120}(does not exist|not supported|not found)|model provider|config\.toml"
            r"|unexpected argument|invalid value|unknown feature|output schema|trusted directory|cannot be used with",
            re.I,
        ),
        CONFIGURATION,
    ),
    (
        re.compile(
            r"unexpected status (408|5\d\d)|high demand|stream disconnected|connection failed|at capacity|overloaded"
            r"|time(d )?.?out|error sending request",
            re.I,
        ),
        "no answer",
    ),
)
_LOST = re.compile(r"no rollout found for thread", re.I)
_FULL = re.compile(r"context window", re.I)
_SOON = re.compile(r"try again in ([\d.]+) ?(ms|s|m|h)\b", re.I)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LATER = re.compile(r"try again at (?:(\w{3}) (\d+)\w\w, (\d{4}) )?(\d+:\d\d [AP]M)", re.I)


class Codex:
    """`command:` may start another program than `codex` on PATH; `args` come last and therefore win."""

    facts = Facts(
        "codex",
        "OpenAI Codex, headless",
        program="codex",
        install="npm install -g @openai/codex",
        ignores=("script", "max_turns", *OF_MODELS),
        keys=("CODEX_API_KEY",),
        login="run `codex login`",
        logins=(".codex/auth.json",),
        billed=True,
        state=(".codex/sessions/", ".codex/auth.json"),
    )

    def program(self, agent: Agent) -> str:
        """The program, without its arguments; `sh` for a string."""
        if isinstance(agent.command, str):
            return "sh" if agent.command else "codex"
        return agent.command[0] if agent.command else "codex"

    def launch(self, request: Request) -> Launch:
        """The sandbox comes from the role. `--dangerously-bypass-approvals-and-sandbox` in `args` frees who writes.

        It frees nobody else. A shell starts the program: see codexflags.
        """
        agent, role, session = request.agent, request.role, request.session
        bypass = any(one in codexflags.BYPASS for one in agent.args)
        flags = [flag for setting in _SETTINGS for flag in ("-c", setting)]
        model = agent.model or role.model
        flags += ["--model", model] if model else []
        if role.produces in _HELD:
            flags += ["--output-schema", str(_SCHEMAS / f"{role.produces}.json")]
        flags += ["--ephemeral"] if role.produces == "verdict" else []  # a judge is asked anew each time
        flags += [one for one in agent.args if role.writes or one not in codexflags.BYPASS]
        flags += ["resume", session] if session else []
        return Launch(("sh", "-c", codexflags.script(agent, role, bypass), "codex", *flags, "-"), str(request.prompt))

    def read(self, agent: Agent, evidence: Evidence) -> Reading:
        """How its turn ended decides, unless we ended the program."""
        stream = _read_stream(evidence)
        reading = (
            _cut_short(self.program(agent), agent, evidence, stream)
            or _failed(stream, evidence)
            or _answered(stream, evidence)
            or _without_turn(agent, evidence, stream)
        )
        session = "" if reading.reason == LOST else stream.session
        return blamed(reading._replace(usage=_usage(stream, evidence), session=session), self.facts, agent)

    def hear(self, line: bytes) -> tuple[Event, ...] | None:
        """One line of its stream."""
        return sensible(codexlog.hear, line)

    def interactive(self, agent: Agent, session: str) -> tuple[str, ...]:
        """Its own terminal program, in the same session."""
        program = ("sh", "-c", f'{agent.command} "$@"', "codex") if isinstance(agent.command, str) else agent.command
        return (*(program if agent.command else ("codex",)), "resume", session)


# --- reading -----------------------------------------------------------------------------------------------------


class _Stream(NamedTuple):
    """What its lines say. `failure`: why the last turn failed. `waits`: it was trying to reach the model at the end."""

    session: str = ""
    answer: str = ""
    usage: dict[str, Any] | None = None
    completed: bool = False
    failure: str = ""
    waits: str = ""
    plain: str = ""
    denied: str = ""


def _read_stream(evidence: Evidence) -> _Stream:
    head = output(evidence._replace(log_end=min(evidence.log_end, evidence.log_start + _HEAD)), _HEAD)
    began = (event for event in _events(head.splitlines()) if event.get("type") == "thread.started")
    stream = _Stream(_text(next(began, {}), "thread_id"))
    lines = output(evidence, _WINDOW).splitlines()
    for event in _events(lines):
        stream = _heard(stream, event)
    plain = [line for line in lines if not line.lstrip().startswith(b"{")]
    counted = Counter(
        "edit" if found[1].startswith(b"patch") else "command" for found in map(_DENIED.search, plain) if found
    )
    return stream._replace(
        plain=bounded(b"\n".join(plain).decode("utf-8", "replace"), DETAIL),
        denied=", ".join(f"{what} ({times})" for what, times in counted.items()),
    )


def _heard(stream: _Stream, event: dict[str, Any]) -> _Stream:
    kind = event.get("type")
    if kind == "error":
        said = _text(event, "message")
        return stream._replace(waits=said if said.startswith(codexlog.WAITING) else "")
    if kind == "turn.completed":
        usage = event.get("usage")
        return stream._replace(completed=True, failure="", waits="", usage=usage if isinstance(usage, dict) else None)
    if kind == "turn.failed":
        error = event.get("error")
        said = _text(error, "message") if isinstance(error, dict) else ""
        return stream._replace(completed=False, waits="", failure=said or "the turn failed")
    item = event.get("item")
    if isinstance(item, dict) and item.get("type") == "agent_message" and kind == "item.completed":
        return stream._replace(answer=_text(item, "text"), waits="")
    return stream if isinstance(item, dict) and item.get("type") == "error" else stream._replace(waits="")


def _events(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if not _WANTED.search(line):
            continue
        try:
            event = json.loads(line[line.find(b"{") :])  # stderr may stand before it on the line
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            yield event


def _cut_short(program: str, agent: Agent, evidence: Evidence, stream: _Stream) -> Reading | None:
    """As for every program; but time that went by without a model is nobody's failed attempt."""
    reading = cut_short(program, agent, evidence)
    if reading and reading.class_ == "task" and stream.waits:
        reason = _phrase(stream.waits) or "no answer"
        return Reading("environment", reason, f"{reading.detail.splitlines()[0]}: {bounded(stream.waits, DETAIL)}")
    return reading


def _failed(stream: _Stream, evidence: Evidence) -> Reading | None:
    """What a failed turn says; None where none failed."""
    if not stream.failure:
        return None
    said = bounded(_plainly(stream.failure), DETAIL)
    if _FULL.search(said):
        return Reading("task", "context window", said)
    reason = _phrase(said)
    if not reason:  # such as a request that the API does not take
        return Reading("task", "refused by the API", said)
    return Reading("environment", reason, said, retry_after=_until(said, evidence) if reason == "rate limit" else 0.0)


def _plainly(said: str) -> str:
    """A status of 400 is told by the API's own JSON."""
    with suppress(ValueError, RecursionError, AttributeError):
        error = json.loads(said).get("error")
        return (_text(error, "message") or said) if isinstance(error, dict) else said
    return said


def _answered(stream: _Stream, evidence: Evidence) -> Reading | None:
    """A turn that was completed; None where none was."""
    if not stream.completed:
        return None
    if evidence.status != 0:
        return by_status(evidence)
    detail = f"tool calls were denied: {stream.denied}" if stream.denied else ""
    try:
        said = _word(stream.answer) or Result(summary=bounded(stream.answer))
    except Invalid as error:
        return Reading("task", "bad result", f"structured output: {error.message}\n{detail}".strip())
    return Reading("ok", "", detail, result=said)


def _word(answer: str) -> Result | None:
    """The result in a last message that is nothing but a JSON object with an outcome; None for prose."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    return parse_mapping(value) if isinstance(value, dict) and value.get("outcome") in OUTCOMES else None


def _without_turn(agent: Agent, evidence: Evidence, stream: _Stream) -> Reading:
    """It never came to the end of a turn: not there, refused its own flags, or was ended by somebody else."""
    if evidence.status in NOT_STARTED and not stream.session:
        return missing(stream.plain, agent)
    if _LOST.search(stream.plain):
        return Reading("ours", LOST, stream.plain)
    if evidence.status not in (0, None) and stream.plain and not stream.session:  # it never looked at the prompt
        return Reading("environment", _phrase(stream.plain) or CONFIGURATION, stream.plain)
    if evidence.status == 0:
        return Reading("task", "no result", stream.plain or tail(evidence))
    return by_status(evidence)._replace(detail=stream.plain or tail(evidence))


def _phrase(said: str) -> str:
    return next((reason for pattern, reason in _PHRASES if pattern.search(said)), "")


def _until(said: str, evidence: Evidence) -> float:
    """Seconds from the end of the attempt until it says that it is worth trying again; 0 = it does not say.

    It tells the time of day to the minute, in local time.
    """
    if soon := _SOON.search(said):
        return float(soon[1]) * _SECONDS[soon[2].lower()]
    later = _LATER.search(said)
    if not later:
        return 0.0
    ended = evidence.log.stat().st_mtime
    day = f"{later[1]} {later[2]} {later[3]}" if later[1] else time.strftime("%b %d %Y", time.localtime(ended))
    with suppress(ValueError, OverflowError):
        at = time.mktime(time.strptime(f"{day} {later[4]}", "%b %d %Y %I:%M %p")) + 60.0
        return max(0.0, at - ended)
    return 0.0


def _usage(stream: _Stream, evidence: Evidence) -> Usage:
    """Tokens, those from the cache and of reasoning too; money it does not tell.

    In a session that goes on they are those of all its turns: what earlier attempts have reported is taken off.
    """
    if stream.usage is None:
        return Usage()
    told, before = codexlog.usage(stream.usage), list(_reported(evidence, stream.session))

    def own(count: int | None, earlier: Iterable[int | None]) -> int | None:
        return None if count is None else max(0, count - sum(one or 0 for one in earlier))

    return Usage(
        own(told.input_tokens, (one.input_tokens for one in before)),
        own(told.output_tokens, (one.output_tokens for one in before)),
        cached_tokens=own(told.cached_tokens, (one.cached_tokens for one in before)),
    )


def _reported(evidence: Evidence, session: str) -> Iterator[Usage]:
    """What earlier attempts in this session used, from their `outcome.json`."""
    here = evidence.log.parent
    for path in sorted(here.parent.glob("[0-9]*/outcome.json")) if session else ():
        if path.parent != here:
            with suppress(ValueError, OSError):
                outcome = jsontext.load_outcome(regular.read(path))
                if outcome.session == session:
                    yield outcome.usage


def _text(fields: dict[str, Any], key: str) -> str:
    value = fields.get(key)
    return value if isinstance(value, str) else ""
