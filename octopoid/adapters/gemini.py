"""Gemini CLI, headless: the prompt on stdin and stream-json on stdout.

Measured with 0.61.0 (`scripts/install-agents gemini`, tests/agents_gemini.py). It has no schema for its last word: a
role that may not write gives it in its result file, which the rules leave open, or as the whole of its last message.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from octopoid.adapters import geminiflags, geminilog
from octopoid.adapters.answers import word
from octopoid.adapters.base import (
    CONFIGURATION,
    DETAIL,
    LOST,
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
from octopoid.errors import Invalid
from octopoid.model import Result
from octopoid.results import bounded
from octopoid.settings import Agent

_WINDOW = 8 << 20
_WANTED = re.compile(rb'"type":"(?:init|message|tool_use|tool_result|error|result)"')

# Its exit status is what the API answered, modulo 256.
_ENDS = {code % 256: code for code in (400, 401, 402, 403, 408, 429, 500, 502, 503, 504)}
_STATUSES = {
    401: NO_LOGIN,
    402: "no credit",
    403: NO_LOGIN,
    404: CONFIGURATION,  # an unknown model, or a wrong GOOGLE_GEMINI_BASE_URL
    408: "no answer",
    429: "rate limit",
}
_PHRASES = (
    (re.compile(r"API_KEY_INVALID|api key (not valid|expired|not found)|reauthenticate|invalid_grant", re.I), NO_LOGIN),
    (re.compile(r"billing|credits? (are|is)? ?(depleted|exhausted)|insufficient credit|prepay", re.I), "no credit"),
    (re.compile(r"quota|rate.?limit|RESOURCE_EXHAUSTED|usage limit", re.I), "rate limit"),
    (re.compile(r"is not found for API version|model.{0,80}not (found|supported)", re.I), CONFIGURATION),
    (
        re.compile(
            r"fetch failed|overloaded|UNAVAILABLE|ended without a finish reason|empty response|ECONN|ETIMEDOUT"
            r"|socket hang up|terminated|premature close|incomplete json|only .{0,20}thought|deadline",
            re.I,
        ),
        "no answer",
    ),
)
# What it says of itself by its exit status (docs/cli/headless.md and its source).
_OWN = {41: NO_LOGIN, 42: CONFIGURATION, 44: CONFIGURATION, 52: CONFIGURATION, 55: CONFIGURATION}
_TURNS = 53
_LOST = re.compile(r"Error resuming session|Invalid session identifier|No previous sessions found", re.I)
_FULL = re.compile(r"exceeds the maximum number of tokens|context window", re.I)
_SOON = re.compile(r"(?:retry(?: after| in)|reset after|try again in) ((?:[\d.]+ ?(?:ms|[dhms])(?![a-z]) ?)+)", re.I)
_PIECE = re.compile(r"([\d.]+) ?(ms|[dhms])", re.I)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Gemini:
    """`command:` may start another program than `gemini` on PATH; `args` come last and therefore win."""

    facts = Facts(
        "gemini",
        "Gemini CLI, headless",
        program="gemini",
        install="npm install -g @google/gemini-cli",
        ignores=("script", "max_tokens", "max_usd", "context"),
        keys=("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS"),
        login="run `gemini` and log in",
        logins=(".gemini/oauth_creds.json", ".gemini/.env", ".env"),
        billed=True,
        state=(".gemini/tmp/", ".gemini/oauth_creds.json"),
    )

    def program(self, agent: Agent) -> str:
        """The program, without its arguments; `sh` for a string."""
        if isinstance(agent.command, str):
            return "sh" if agent.command else "gemini"
        return agent.command[0] if agent.command else "gemini"

    def launch(self, request: Request) -> Launch:
        """A shell writes the settings of this attempt and starts it: see geminiflags."""
        agent, role, entry = request.agent, request.role, request.entry
        model = agent.model or role.model
        flags = [*geminiflags.flags(role, entry), *(("--model", model) if model else ())]
        flags += ["--resume", request.session] if request.session else []
        flags += [one for one in agent.args if role.writes or one not in geminiflags.LOOSE]
        env = [("GEMINI_CLI_NO_RELAUNCH", "1")]  # otherwise it starts itself once more, for more memory
        env += [("GOOGLE_GEMINI_BASE_URL", agent.base_url)] if agent.base_url else []
        env = [pair for pair in env if pair[0] not in agent.env]
        env += [] if role.writes else [("GEMINI_CLI_TRUST_WORKSPACE", "false")]  # whatever the user says
        argv = ("sh", "-c", geminiflags.script(agent, role, entry), "gemini", *flags)
        return Launch(argv, str(request.prompt), tuple(env))

    def read(self, agent: Agent, evidence: Evidence) -> Reading:
        """The result record decides, unless we ended the program. Its exit status says what the API answered."""
        stream = _read_stream(evidence)
        reading = (
            _cut_short(self.program(agent), agent, evidence, stream)
            or _judge(stream, evidence)
            or _without_result(agent, evidence, stream)
        )
        stats = stream.result.get("stats")
        used = reading._replace(
            usage=geminilog.usage(stats),
            model=geminilog.model(stats) or stream.model,
            session="" if reading.reason == LOST else stream.session,
        )
        return blamed(used, self.facts, agent)

    def hear(self, line: bytes) -> tuple[Event, ...] | None:
        """One line of its stream."""
        return geminilog.hear(line)

    def interactive(self, agent: Agent, session: str) -> tuple[str, ...]:
        """Its own terminal program, in the same session; from the same worktree only."""
        program = ("sh", "-c", f'{agent.command} "$@"', "gemini") if isinstance(agent.command, str) else agent.command
        return (*(program if agent.command else ("gemini",)), "--resume", session)


# --- reading -----------------------------------------------------------------------------------------------------


class _Stream(NamedTuple):
    """What its lines say. `answer`: since its last tool. `waits`: why it was asking again, at the end."""

    session: str = ""
    model: str = ""
    answer: str = ""
    result: dict[str, Any] = {}
    said: str = ""
    waits: str = ""
    denied: tuple[str, ...] = ()
    plain: str = ""


def _read_stream(evidence: Evidence) -> _Stream:
    head = output(evidence._replace(log_end=min(evidence.log_end, evidence.log_start + (64 << 10))), 64 << 10)
    stream = _Stream()
    plain: list[str] = []
    for line in _lines(head, output(evidence, _WINDOW)):
        event = geminilog.record(line) if _WANTED.search(line) else None
        if event is not None:
            stream = _heard(stream, event)
            continue
        said = line.decode("utf-8", "replace")
        if tried := geminilog.retry(said):
            stream = stream._replace(waits=f"{stream.waits} {tried.text or said}".strip())
        if not geminilog.NOISE.match(said):
            plain.append(said)
    return stream._replace(plain=bounded("\n".join(plain), DETAIL))


def _lines(head: bytes, last: bytes) -> Iterable[bytes]:
    """The line that began the run, where it is not among the last ones."""
    first = next((line for line in head.splitlines() if b'"type":"init"' in line), b"")
    return (line for line in (first, *last.splitlines()) if line)


def _heard(stream: _Stream, event: dict[str, Any]) -> _Stream:
    stream, kind = stream._replace(waits=""), event.get("type")
    if kind == "init":
        return stream._replace(session=geminilog.text(event, "session_id"), model=geminilog.text(event, "model"))
    if kind == "message":
        said = geminilog.text(event, "content") if event.get("role") == "assistant" else ""
        return stream._replace(answer=stream.answer + said)
    if kind == "tool_result":
        denied = (geminilog.denied(event),) if geminilog.is_denied(event) else ()
        return stream._replace(answer="", denied=stream.denied + denied)
    if kind == "error":
        return stream._replace(said=geminilog.failure(event))
    return stream._replace(result=event) if kind == "result" else stream._replace(answer="")


def _cut_short(program: str, agent: Agent, evidence: Evidence, stream: _Stream) -> Reading | None:
    """As for every program; but time that went by without a model is nobody's failed attempt."""
    reading = cut_short(program, agent, evidence)
    if reading and reading.class_ == "task" and stream.waits:
        said = bounded(stream.waits, DETAIL)
        reason = _phrase(said) or ("rate limit" if "429" in said else "no answer")
        return Reading("environment", reason, f"{reading.detail.splitlines()[0]}: {said}")
    return reading


def _judge(stream: _Stream, evidence: Evidence) -> Reading | None:
    """What the result record says; None where there is none."""
    if not stream.result:
        return None
    if stream.result.get("status") == "success":
        return _answered(stream) if evidence.status == 0 else by_status(evidence)
    said = bounded(_plainly(geminilog.failure(stream.result) or stream.said or stream.plain), DETAIL)
    if evidence.status == _TURNS or "TurnLimited" in json.dumps(stream.result.get("error")):
        return Reading("task", "turn limit", said)
    return _refused(said, _status(stream, evidence))


def _status(stream: _Stream, evidence: Evidence) -> int:
    """The HTTP status of the failed request; 0 where there was none. 404 alone ends with exit status 1."""
    found = re.search(r'"code": ?(\d{3})\b', geminilog.failure(stream.result)) or re.search(
        r"^  (?:status|code): (\d{3})\b", stream.plain, re.M
    )
    return int(found[1]) if found else _ENDS.get(evidence.status or 0, 0)


def _refused(said: str, status: int) -> Reading:
    """No answer from the model, and almost always the environment's fault."""
    if _FULL.search(said):
        return Reading("task", "context window", said)
    phrase = _phrase(said)
    reason = _STATUSES.get(status, "no answer" if status >= 500 else phrase)
    if phrase == "no credit" or (status == 400 and phrase == NO_LOGIN):  # Google answers 400 to a wrong key
        reason = phrase
    if not reason:
        return Reading("task", "refused by the API", said)
    return Reading("environment", reason, said, retry_after=_wait(said) if reason == "rate limit" else 0.0)


def _plainly(said: str) -> str:
    """Google's own sentence, where the API's JSON is all there is."""
    try:
        error = json.loads(said).get("error")
    except (ValueError, RecursionError, AttributeError):
        return said
    if not isinstance(error, dict):
        return said
    reasons = {
        str(one.get("reason")) for one in error.get("details") or () if isinstance(one, dict) and "reason" in one
    }
    return " ".join((str(error.get("message") or said), *sorted(reasons)))


def _answered(stream: _Stream) -> Reading:
    counted = ", ".join(f"{name} ({times})" for name, times in Counter(stream.denied).items())
    detail = f"tool calls were denied: {counted}" if counted else ""
    try:
        said = word(stream.answer) or Result(summary=bounded(stream.answer))
    except Invalid as error:
        return Reading("task", "bad result", f"its last message: {error.message}\n{detail}".strip())
    return Reading("ok", "", detail, result=said)


def _without_result(agent: Agent, evidence: Evidence, stream: _Stream) -> Reading:
    """It never came to an answer: not there, refused its own flags, or was ended by somebody else (with status 0)."""
    said = stream.plain or tail(evidence)
    if evidence.status in NOT_STARTED and not stream.session:
        return missing(stream.plain, agent)
    if _LOST.search(stream.plain):
        return Reading("ours", LOST, stream.plain)
    if evidence.status is None:
        return by_status(evidence)._replace(detail=said)
    if evidence.status == 0:  # SIGTERM and SIGINT make it leave like this, and nothing else was seen to
        return Reading("ours" if stream.session else "task", "no result", said)
    if stream.plain and not stream.session:  # it has not even looked at the prompt
        return Reading("environment", _OWN.get(evidence.status) or CONFIGURATION, said)
    return by_status(evidence)._replace(detail=said)


def _phrase(said: str) -> str:
    return next((reason for pattern, reason in _PHRASES if pattern.search(said)), "")


def _wait(said: str) -> float:
    """Seconds until it says that it is worth trying again; 0 = it does not say."""
    found = _SOON.search(said)
    pieces = _PIECE.findall(found[1]) if found else ()
    return sum(float(number) * _SECONDS[unit.lower()] for number, unit in pieces)
