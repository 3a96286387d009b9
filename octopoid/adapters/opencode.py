"""opencode, headless: `opencode run` with the prompt on stdin and JSON lines on stdout.

Measured with 1.18.33 (`scripts/install-agents opencode`, tests/agents_opencode.py). It has no schema for its last word:
a role that may not write gives it in its result file, which its rules leave open, or as the whole of its last message.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from octopoid.adapters import opencodeflags, opencodelog
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
from octopoid.model import Result, Usage
from octopoid.results import bounded
from octopoid.settings import Agent

_WINDOW = 8 << 20

_STATUSES = {
    401: NO_LOGIN,
    402: "no credit",
    403: NO_LOGIN,
    404: CONFIGURATION,  # an unknown model, or a wrong address
    408: "no answer",
    429: "rate limit",
}
# By text first: one status stands for several things, and its log tells no status.
_PHRASES = (
    (
        re.compile(
            r"insufficient.quota|exceeded your current quota|insufficient (credits|balance)|credit balance", re.I
        ),
        "no credit",
    ),
    (re.compile(r"billing|payment required|FreeUsageLimitError", re.I), "no credit"),
    (re.compile(r"rate.?limit|too many requests|usage limit|\b429\b", re.I), "rate limit"),
    (re.compile(r"api.?key is missing|invalid.{0,12}api.?key|unauthorized|authentication", re.I), NO_LOGIN),
    (
        re.compile(
            r"unexpected error|cannot connect|unable to connect|socket|timed? ?out|fetch failed|overloaded|unavailable"
            r"|terminated|server error|ECONN|network",
            re.I,
        ),
        "no answer",
    ),
)
_UNKNOWN_MODEL = re.compile(r"Model not found: [^/\s]+/(\S+?)\.(?: Did you mean: (.*)\?)?", re.I)
_LOST = re.compile(r"Session not found", re.I)
_BROKEN = re.compile(r"Configuration is invalid|ConfigInvalidError|ConfigJsonError|Unknown argument", re.I)
_FULL = re.compile(r"context.?(window|length)|ContextOverflow|too many tokens|prompt is too long", re.I)


class OpenCode:
    """`command:` may start another program than `opencode` on PATH; `args` come last and therefore win."""

    facts = Facts(
        "opencode",
        "opencode, headless; any provider",
        program="opencode",
        install="npm install -g opencode-ai",
        ignores=("script", "max_tokens", "max_usd", "context", "retries"),
        keys=(
            *("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY"),
            *("OPENROUTER_API_KEY", "OPENCODE_API_KEY", "GROQ_API_KEY", "DEEPSEEK_API_KEY", "MISTRAL_API_KEY"),
            "XAI_API_KEY",
        ),
        login="run `opencode auth login`",
        logins=(".local/share/opencode/auth.json",),
        billed=True,
        state=(".local/share/opencode/",),
        scratch=(".config/opencode", ".cache/opencode", ".local/state/opencode"),
    )

    def program(self, agent: Agent) -> str:
        """The program, without its arguments; `sh` for a string."""
        if isinstance(agent.command, str):
            return "sh" if agent.command else "opencode"
        return agent.command[0] if agent.command else "opencode"

    def launch(self, request: Request) -> Launch:
        """Its configuration comes by the environment, over all others (OPENCODE_CONFIG is left to the user)."""
        agent, role, entry = request.agent, request.role, request.entry
        model = agent.model or role.model
        flags = [*opencodeflags.flags(role, agent, entry), *(("--model", model) if model else ())]
        flags += ["--session", request.session] if request.session else []
        flags += [one for one in agent.args if role.writes or one not in opencodeflags.LOOSE]
        config = opencodeflags.content(opencodeflags.config(agent, role, entry, model))
        env = (("OPENCODE_CONFIG_CONTENT", config), ("OPENCODE_DISABLE_AUTOUPDATE", "1"))
        argv = ("sh", "-c", opencodeflags.script(agent, role), "opencode", *flags)
        return Launch(argv, str(request.prompt), env)

    def read(self, agent: Agent, evidence: Evidence) -> Reading:
        """An error record decides, unless we ended the program; otherwise how its last step ended."""
        stream = _read_stream(evidence)
        reading = (
            _cut_short(self.program(agent), agent, evidence, stream)
            or _failed(stream)
            or _answered(agent, stream, evidence)
            or _without_end(agent, evidence, stream)
        )
        used = reading._replace(
            usage=stream.usage,
            turns=stream.turns or None,
            model=agent.model,
            session="" if reading.reason == LOST else stream.session,
        )
        return blamed(used, self.facts, agent)

    def hear(self, line: bytes) -> tuple[Event, ...] | None:
        """One line of its stream."""
        return opencodelog.hear(line)

    def interactive(self, agent: Agent, session: str) -> tuple[str, ...]:
        """Its own terminal program, in the same session; from the same worktree only."""
        program = ("sh", "-c", f'{agent.command} "$@"', "opencode") if isinstance(agent.command, str) else agent.command
        return (*(program if agent.command else ("opencode",)), "--session", session)


# --- reading -----------------------------------------------------------------------------------------------------


class _Stream(NamedTuple):
    """What its lines say. `answer`: of its last step. `ended`: why that ended. `waits`: it was asking again."""

    session: str = ""
    turns: int = 0
    answer: str = ""
    ended: str = ""
    usage: Usage = Usage()
    error: Mapping[str, Any] = {}
    waits: str = ""
    cause: str = ""
    denied: tuple[str, ...] = ()
    plain: str = ""


def _read_stream(evidence: Evidence) -> _Stream:
    stream = _Stream()
    plain: list[str] = []
    steps: list[Mapping[str, Any]] = []
    for line in output(evidence, _WINDOW).splitlines():
        event = opencodelog.record(line)
        if event is not None:
            stream = _heard(stream, event)
            steps += [opencodelog.part(event)] if event.get("type") == "step_finish" else []
            continue
        said = opencodelog.plainly(line.decode("utf-8", "replace"))
        stream = stream._replace(
            waits=opencodelog.retry(said) or stream.waits, cause=opencodelog.failed(said) or stream.cause
        )
        if not opencodelog.is_log(said):
            plain.append(said)
    return stream._replace(usage=opencodelog.usage(steps), plain=bounded("\n".join(plain), DETAIL))


def _heard(stream: _Stream, event: dict[str, Any]) -> _Stream:
    kind, part = event.get("type"), opencodelog.part(event)
    stream = stream._replace(session=opencodelog.text(event, "sessionID") or stream.session)
    if kind == "error":
        return stream._replace(error=event)
    stream = stream._replace(waits="")
    if kind == "step_start":
        return stream._replace(turns=stream.turns + 1, answer="", ended="")
    if kind == "text":
        return stream._replace(answer=opencodelog.text(part, "text"))
    if kind == "tool_use" and opencodelog.refused(part):
        return stream._replace(denied=(*stream.denied, opencodelog.text(part, "tool")))
    return stream._replace(ended=opencodelog.text(part, "reason")) if kind == "step_finish" else stream


def _cut_short(program: str, agent: Agent, evidence: Evidence, stream: _Stream) -> Reading | None:
    """As for every program; but time that went by without a model is nobody's failed attempt."""
    reading = cut_short(program, agent, evidence)
    if reading and reading.class_ == "task" and stream.waits:
        said = bounded(stream.waits, DETAIL)
        return Reading("environment", _phrase(said) or "no answer", f"{reading.detail.splitlines()[0]}: {said}")
    return reading


def _failed(stream: _Stream) -> Reading | None:
    """What an error record says; None where there is none."""
    if not stream.error:
        return None
    said, status, data = opencodelog.failure(stream.error)
    said = bounded(stream.cause if stream.cause and not status else said, DETAIL)
    if found := _UNKNOWN_MODEL.search(said):
        # A provider without a key is as unknown as its models; then it means the very same one.
        known = found[1] in (found[2] or "").split(", ")
        return Reading("environment", NO_LOGIN if known else CONFIGURATION, said)
    if _FULL.search(said):
        return Reading("task", "context window", said)
    phrase = _phrase(f"{said} {opencodelog.text(data, 'responseBody')}")
    reason = phrase if phrase == "no credit" else _STATUSES.get(status, "no answer" if status >= 500 else phrase)
    if not reason or (400 <= status < 500 and status not in _STATUSES and reason != "no credit"):
        return Reading("task", "refused by the API", said)
    return Reading("environment", reason, said, retry_after=_wait(data) if reason == "rate limit" else 0.0)


def _wait(data: Mapping[str, Any]) -> float:
    """Seconds until the provider wants to be asked again; 0 = it does not say."""
    headers = data.get("responseHeaders")
    try:
        return max(0.0, float(headers["retry-after"])) if isinstance(headers, Mapping) else 0.0
    except (KeyError, TypeError, ValueError):  # a date: rare, and the breaker asks again by itself
        return 0.0


def _answered(agent: Agent, stream: _Stream, evidence: Evidence) -> Reading | None:
    """A run whose last step was its end; None where there was none."""
    if stream.ended in ("", "tool-calls"):
        return None
    if evidence.status != 0:
        return by_status(evidence)
    counted = ", ".join(f"{name} ({times})" for name, times in Counter(stream.denied).items())
    detail = f"tool calls were denied: {counted}" if counted else ""
    if agent.max_turns and stream.turns >= agent.max_turns:  # it is asked to sum up, and ends as if it were done
        return Reading("task", "turn limit", bounded(stream.answer, DETAIL))
    if stream.ended == "length":
        return Reading("task", "no result", "its last answer was cut off (length)")
    if not stream.answer:
        return Reading("environment", "no answer", "the model gave an empty answer")
    try:
        said = word(stream.answer) or Result(summary=bounded(stream.answer))
    except Invalid as error:
        return Reading("task", "bad result", f"its last message: {error.message}\n{detail}".strip())
    return Reading("ok", "", detail, result=said)


def _without_end(agent: Agent, evidence: Evidence, stream: _Stream) -> Reading:
    """It never came to an end: not there, refused its own flags, or was ended by somebody else."""
    said = stream.plain or stream.cause or tail(evidence)
    if evidence.status in NOT_STARTED and not stream.session:
        return missing(stream.plain, agent)
    if _LOST.search(stream.plain):
        return Reading("ours", LOST, stream.plain)
    if evidence.status == 0:
        return Reading("task", "no result", said)
    if said and evidence.status is not None and not stream.session:  # it has not even looked at the prompt
        reason = _phrase(stream.waits or said) if not _BROKEN.search(said) else ""
        return Reading("environment", reason or CONFIGURATION, said)
    return by_status(evidence)._replace(detail=said)


def _phrase(said: str) -> str:
    return next((reason for pattern, reason in _PHRASES if pattern.search(said)), "")
