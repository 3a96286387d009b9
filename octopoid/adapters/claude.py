"""Claude Code, headless: `claude -p` with the prompt on stdin and stream-json on stdout.

Measured with 2.1.197 (`scripts/install-agents`, tests/test_claude_real.py).
A clean exit proves nothing: a run whose every tool call was denied ends with status 0. The commits say what was done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import Any, NamedTuple

from octopoid.adapters import claudeflags, claudelog
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
from octopoid.model import Result
from octopoid.results import bounded, parse_mapping
from octopoid.settings import Agent

RETRIES = 3
"""Claude's own limit is 10: three minutes of waiting for a dead API, also after a 401 (LESSONS 23)."""

# Its memory is one folder for all worktrees of a repository, and the user's own sessions read and write it too: what an
# implementer noted there would stand in its reviewer's prompt.
_ENVIRONMENT = (
    ("CLAUDE_CODE_DISABLE_AUTO_MEMORY", "1"),
    ("CLAUDE_CODE_DISABLE_CRON", "1"),
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    ("CLAUDE_CODE_MAX_RETRIES", str(RETRIES)),
    ("DISABLE_AUTOUPDATER", "1"),
    ("DISABLE_ERROR_REPORTING", "1"),
    ("DISABLE_TELEMETRY", "1"),
)

_WINDOW = 8 << 20
_NAMES, _NAME = 5, 80
"""Files that a denial names, and characters of each."""
_WANTED = re.compile(rb'"(?:result|api_retry|rate_limit_event)"')

# What the program says about itself: in the text of a failed result, or on stderr where there is no result at all.
_PHRASES = (
    (re.compile(r"run /login|not logged in|invalid api key|failed to authenticate|oauth token", re.I), NO_LOGIN),
    (re.compile(r"credit balance|billing", re.I), "no credit"),
    (re.compile(r"(usage|session|weekly|opus) limit|hit your .{0,20}limit|limit reached", re.I), "rate limit"),
    (re.compile(r"root/sudo|unknown option|unknown argument|option .* (is invalid|argument)", re.I), CONFIGURATION),
    (re.compile(r"requires --verbose|not a valid JSON schema|invalid (model|permission mode)", re.I), CONFIGURATION),
)
_STATUSES = {
    401: NO_LOGIN,
    402: "no credit",
    403: NO_LOGIN,
    404: CONFIGURATION,  # an unknown model, or a wrong ANTHROPIC_BASE_URL
    408: "no answer",
    429: "rate limit",
}
_SUBTYPES = {
    "error_max_turns": "turn limit",
    "error_max_budget_usd": "budget",
    "error_max_structured_output_retries": "no result",
    "error_during_execution": "interrupted",
}
# Its transcript under ~/.claude/projects is gone, or belongs to another folder. Nobody was asked, nothing was paid.
_LOST = re.compile(r"no conversation found with session id|--resume requires a valid session", re.I)


# It catches these, and leaves with a status of its own.
_SIGNALLED = {129: "SIGHUP", 130: "SIGINT", 143: "SIGTERM"}


class Claude:
    """`command:` may start another program than `claude` on PATH; `args` are appended and therefore win."""

    facts = Facts(
        "claude",
        "Claude Code, headless",
        program="claude",
        install="npm install -g @anthropic-ai/claude-code",
        ignores=("script", *(key for key in OF_MODELS if key != "max_usd")),
        keys=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
        login="run `claude` and log in",
        logins=(".claude/.credentials.json", ".claude.json"),
        billed=True,
        hears=True,
        state=(".claude/projects/", ".claude/.credentials.json"),
    )

    def program(self, agent: Agent) -> str:
        """The program, without its arguments."""
        return _program(agent)[0]

    def launch(self, request: Request) -> Launch:
        """Permissions come from the role and work for root too; what cannot write answers with structured output.

        A `session` is found from the same worktree only (2.1.197); a lost one ends the run before it begins.
        """
        agent, role, session = request.agent, request.role, request.session
        argv = [*_program(agent), "-p", "--output-format", "stream-json", "--verbose"]
        model = agent.model or role.model
        argv += ["--model", model] if model else []
        turns = agent.max_turns or role.max_turns
        argv += ["--max-turns", str(turns)] if turns else []  # in no help text, but it works
        argv += ["--max-budget-usd", f"{agent.max_usd:.4f}"] if agent.max_usd else []
        argv += ["--resume", session] if session else []
        argv += [*claudeflags.permissions(role, request.entry), *claudeflags.word(role.produces)]
        argv += claudeflags.hooks(role, request.entry)
        env = tuple(pair for pair in _ENVIRONMENT if pair[0] not in agent.env)
        return Launch((*argv, *agent.args), str(request.prompt), env)

    def read(self, agent: Agent, evidence: Evidence) -> Reading:
        """The last result line decides, unless we ended the program: then nothing it said counts but its usage."""
        stream = _read_stream(evidence)
        reading = (
            cut_short(self.program(agent), agent, evidence)
            or _judge(stream, evidence)
            or _without_result(agent, evidence, stream)
        )
        session = "" if reading.reason == LOST else _text(stream.result, "session_id")
        turns = claudelog.number(stream.result, "num_turns")
        told = reading._replace(
            usage=claudelog.usage(stream.result),
            session=session,
            model=claudelog.model(stream.result),
            turns=None if turns is None else int(turns),
        )
        return blamed(told, self.facts, agent)

    def hear(self, line: bytes) -> tuple[Event, ...] | None:
        """One line of its stream."""
        return sensible(claudelog.hear, line)

    def interactive(self, agent: Agent, session: str) -> tuple[str, ...]:
        """Its own terminal program, in the same session; from the same worktree only (2.1.197)."""
        return (*_program(agent), "--resume", session)


def _program(agent: Agent) -> tuple[str, ...]:
    if agent.command and isinstance(agent.command, str):
        return ("sh", "-c", f'{agent.command} "$@"', "claude")
    return tuple(agent.command) or ("claude",)


# --- reading -----------------------------------------------------------------------------------------------------


class _Stream(NamedTuple):
    """The lines that matter: the last result (a run can print several), retries and limits, and what is no JSON."""

    result: dict[str, Any]
    retries: int
    resets_at: float
    plain: str


def _read_stream(evidence: Evidence) -> _Stream:
    result: dict[str, Any] = {}
    retries, resets_at = 0, 0.0
    lines = output(evidence, _WINDOW).splitlines()
    for event in _events(lines):
        kind = event.get("type")
        if kind == "result":
            result = event
        elif kind == "system" and event.get("subtype") == "api_retry":
            retries = int(claudelog.number(event, "attempt") or 0)
        elif kind == "rate_limit_event" and isinstance(event.get("rate_limit_info"), dict):
            info = event["rate_limit_info"]
            resets_at = (claudelog.number(info, "resetsAt") or 0.0) if info.get("status") == "rejected" else 0.0
    plain = b"\n".join(line for line in lines if not line.lstrip().startswith(b"{"))
    return _Stream(result, retries, resets_at, bounded(plain.decode("utf-8", "replace"), DETAIL))


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


def _judge(stream: _Stream, evidence: Evidence) -> Reading | None:
    """What the result line says; None where there is none."""
    result = stream.result
    if not result:
        return None
    subtype = _text(result, "subtype")
    if result.get("is_error") is not True and subtype == "success":
        return _answered(result) if evidence.status == 0 else by_status(evidence)
    if subtype == "success":
        return _api_error(stream, evidence)
    said = _errors(result) or stream.plain or _text(result, "result") or subtype
    if _LOST.search(_errors(result)):
        return Reading("ours", LOST, bounded(said, DETAIL))
    return Reading("task", _SUBTYPES.get(subtype, "error"), bounded(said, DETAIL))


def _answered(result: dict[str, Any]) -> Reading:
    detail = _denied(result)
    said = Result(summary=bounded(_text(result, "result")))
    verdict = result.get("structured_output")
    if verdict is not None:
        try:
            said = parse_mapping(verdict)
        except Invalid as error:
            return Reading("task", "bad result", f"structured output: {error.message}\n{detail}".strip())
    return Reading("ok", "", detail, result=said)


def _api_error(stream: _Stream, evidence: Evidence) -> Reading:
    """No answer from the model: almost always the environment. `result` is the program's own sentence about it."""
    said = _text(stream.result, "result")
    status = claudelog.number(stream.result, "api_error_status")
    reason = _STATUSES.get(int(status or 0)) or _phrase(said)
    if not reason and status is not None and 400 <= status < 500:
        return Reading("task", "refused by the API", bounded(said, DETAIL))
    retried = f" (gave up after {stream.retries} retries)" if stream.retries else ""
    wait = _until(stream.resets_at, evidence) if reason == "rate limit" else 0.0
    return Reading("environment", reason or "no answer", bounded(said, DETAIL) + retried, retry_after=wait)


def _without_result(agent: Agent, evidence: Evidence, stream: _Stream) -> Reading:
    """It never came to an answer: not there, refused its own flags, or was ended by somebody else."""
    if evidence.status in NOT_STARTED:
        return missing(stream.plain, agent)
    reason = _phrase(stream.plain)
    if reason and evidence.status not in (0, None):
        return Reading("environment", reason, stream.plain)
    if evidence.status in _SIGNALLED:
        return Reading("ours", f"killed by {_SIGNALLED[evidence.status]}", stream.plain)
    if evidence.status == 0:
        return Reading("task", "no result", stream.plain or tail(evidence))
    return by_status(evidence)._replace(detail=stream.plain or tail(evidence))


def _phrase(said: str) -> str:
    return next((reason for pattern, reason in _PHRASES if pattern.search(said)), "")


def _until(at: float, evidence: Evidence) -> float:
    """Seconds from the end of the attempt (the last writing to its log) to `at`."""
    return max(0.0, at - evidence.log.stat().st_mtime) if at else 0.0


def _denied(result: dict[str, Any]) -> str:
    """Which tools were denied and how often; of those that edit, which files."""
    denials = result.get("permission_denials")
    files: dict[str, list[str]] = {}
    for one in denials if isinstance(denials, list) else ():
        if isinstance(one, dict):
            files.setdefault(_text(one, "tool_name") or "?", []).append(_file(one.get("tool_input")))
    counted = ", ".join(f"{name} ({_counted(names)})" for name, names in files.items())
    return f"tool calls were denied: {counted}" if counted else ""


def _file(given: object) -> str:
    """The name of the file that a tool was to change."""
    path = (_text(given, "file_path") or _text(given, "notebook_path")) if isinstance(given, dict) else ""
    return " ".join(bounded(PurePath(path).name, _NAME).split())


def _counted(names: list[str]) -> str:
    named = list(dict.fromkeys(one for one in names if one))
    some = ", ".join(named[:_NAMES]) + (", …" if len(named) > _NAMES else "")
    return f"{len(names)}: {some}" if some else str(len(names))


def _errors(result: dict[str, Any]) -> str:
    errors = result.get("errors")
    return "\n".join(map(str, errors)) if isinstance(errors, list) else ""


def _text(fields: dict[str, Any], key: str) -> str:
    value = fields.get(key)
    return value if isinstance(value, str) else ""
