"""mini-swe-agent, headless: `mini` with the prompt in a configuration file and records of our own in its log.

Measured with 2.4.6 and litellm 1.106.2 (`scripts/install-agents mini-swe-agent`, tests/agents_minisweagent.py). It has
one tool, `bash`, and no permissions: what a role that may not write changes is thrown away by octopoid, no more.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

from octopoid.adapters import minisweagentlog, minisweagenttask
from octopoid.adapters.answers import word
from octopoid.adapters.base import (
    CONFIGURATION,
    DETAIL,
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
from octopoid.adapters.litellm import failure
from octopoid.errors import Invalid
from octopoid.model import Result
from octopoid.results import bounded
from octopoid.settings import Agent

_INSIDE = Path(__file__).parent / "minisweagent_inside"
_WINDOW = 8 << 20

# litellm asks the network for its table of prices at every start unless told not to.
_ENVIRONMENT = (
    ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
    ("MSWEA_CONFIGURED", "true"),
    ("MSWEA_SILENT_STARTUP", "1"),
    ("TYPER_STANDARD_TRACEBACK", "1"),
    ("TYPER_USE_RICH", "0"),
)
_LIMITS = {"turns": "turn limit", "money": "budget"}
_STOPS = {
    "TimeExceeded": ("timeout", "ended by its own `agent.wall_time_limit_seconds`"),
    "RepeatedFormatError": ("no tool calls", "the model called no tool, several times in a row"),
}
_UNPRICED = re.compile(r"error calculating cost", re.I)


class MiniSweAgent:
    """`command:` may start another program than `mini` on PATH; `args` come last and therefore win."""

    facts = Facts(
        "mini-swe-agent",
        "mini-swe-agent, any model that litellm reaches; it has a shell and no permissions",
        program="mini",
        install="pipx install mini-swe-agent",
        ignores=("script", "max_tokens", "context"),
        keys=("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY", "MSWEA_MODEL_API_KEY"),
        login="run `mini-extra config setup`",
        billed=True,
    )

    def program(self, agent: Agent) -> str:
        """The program, without its arguments; `sh` for a string."""
        if isinstance(agent.command, str):
            return "sh" if agent.command else "mini"
        return agent.command[0] if agent.command else "mini"

    def launch(self, request: Request) -> Launch:
        """A shell puts the prompt into a file first. What it costs must be known where it may not cost more."""
        agent, role = request.agent, request.role
        model, turns = agent.model or role.model, agent.max_turns or role.max_turns
        flags = ["--agent-class", "octopoid_inside.Told", "-o", str(request.entry / "mini/trajectory.json")]
        flags += ["--model", model] if model else []
        settings = [f"agent.step_limit={turns}", f"agent.cost_limit={agent.max_usd:.4f}"]
        settings += [f"model.model_kwargs.api_base={agent.base_url}"] if agent.base_url else []
        flags += [word for setting in settings for word in ("-c", setting)]
        env = (
            *_ENVIRONMENT,
            ("MSWEA_COST_TRACKING", "default" if agent.max_usd else "ignore_errors"),
            ("MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT", str(agent.retries + 1)),
        )
        argv = ("sh", "-c", _script(agent, request.entry / "mini"), "mini", *flags, *agent.args)
        return Launch(argv, str(request.prompt), tuple(pair for pair in env if pair[0] not in agent.env))

    def read(self, agent: Agent, evidence: Evidence) -> Reading:
        """Its last record decides, unless we ended the program."""
        stream = _read_stream(evidence)
        reading = (
            _cut_short(self.program(agent), agent, evidence, stream)
            or _ended(stream.ended, evidence)
            or _without_end(agent, evidence, stream)
        )
        turns = minisweagentlog.number(stream.used, "turns")
        used = reading._replace(
            usage=minisweagentlog.usage(stream.used),
            model=stream.model,
            turns=None if turns is None else int(turns),
        )
        return blamed(used, self.facts, agent)

    def hear(self, line: bytes) -> tuple[Event, ...] | None:
        """One line of its log."""
        return minisweagentlog.hear(line)

    def interactive(self, agent: Agent, session: str) -> tuple[str, ...]:
        """It has no sessions."""
        return ()


def _script(agent: Agent, folder: Path) -> str:
    """What `sh -c` runs; `"$@"` are the flags."""
    program = shlex.join(agent.command or ("mini",)) if not isinstance(agent.command, str) else agent.command
    task = shlex.quote(str(folder / "task.yaml"))
    python = shlex.join((sys.executable, "-I", minisweagenttask.__file__))
    inside = shlex.quote(str(_INSIDE))
    start = "" if agent.command and isinstance(agent.command, str) else "exec "
    return (
        f"mkdir -p {shlex.quote(str(folder))} && {python} >{task} || exit\n"
        f"export COLUMNS=9999 PYTHONPATH={inside}${{PYTHONPATH:+:$PYTHONPATH}}\n"
        f'{start}{program} -c {task} "$@" </dev/null\n'
    )


# --- reading -----------------------------------------------------------------------------------------------------


class _Stream(NamedTuple):
    """What its records say: the last about its use, the last of all, whether it waited for the model at the end."""

    model: str = ""
    used: dict[str, Any] = {}
    ended: dict[str, Any] = {}
    waits: str = ""
    plain: str = ""


def _read_stream(evidence: Evidence) -> _Stream:
    stream, plain = _Stream(), []
    for line in output(evidence, _WINDOW).splitlines():
        said = minisweagentlog.record(line)
        kind = said.get("type") if said else None
        if said is None:
            plain += [line] if minisweagentlog.hear(line) is None else []
        elif kind == "started":
            stream = stream._replace(model=minisweagentlog.text(said, "model"))
        elif kind == "retry":
            stream = stream._replace(waits=minisweagentlog.text(said))
        elif kind == "usage":
            stream = stream._replace(used=said, waits="")
        elif kind == "ended":
            stream = stream._replace(used=said, ended=said)
    return stream._replace(plain=bounded(b"\n".join(plain).decode("utf-8", "replace"), DETAIL))


def _cut_short(program: str, agent: Agent, evidence: Evidence, stream: _Stream) -> Reading | None:
    """As for every program; but time that went by without a model is nobody's failed attempt."""
    reading = cut_short(program, agent, evidence)
    if reading and reading.class_ == "task" and stream.waits:
        found = failure(stream.waits)
        return found._replace(class_="environment", detail=f"{reading.detail.splitlines()[0]}: {found.detail}")
    return reading


def _ended(said: dict[str, Any], evidence: Evidence) -> Reading | None:
    """What the last record says; None where there is none."""
    status = minisweagentlog.text(said, "status")
    if status == "Submitted":
        return _answered(minisweagentlog.text(said, "submission")) if evidence.status == 0 else by_status(evidence)
    if status == "LimitsExceeded":
        return _limited(said)
    if status in _STOPS:
        return Reading("task", *_STOPS[status])
    if not said:
        return None
    told = minisweagentlog.text(said)
    if _UNPRICED.search(told):
        return Reading("environment", CONFIGURATION, bounded(f"max_usd: its model has no known price. {told}", DETAIL))
    code = minisweagentlog.number(said, "code")
    wait = minisweagentlog.number(said, "retry_after")
    found = failure(told, status, int(code or 0))
    return found._replace(retry_after=wait) if wait and found.reason == "rate limit" else found


def _limited(said: dict[str, Any]) -> Reading:
    reason = _LIMITS.get(minisweagentlog.text(said, "limit"), "limit")
    turns, usd = (minisweagentlog.number(said, key) or 0.0 for key in ("turns", "usd"))
    spent = f"{turns:.0f} turns" if reason == "turn limit" else f"${usd:.4f}"
    return Reading("task", reason, f"{reason}: ended after {spent}")


def _answered(submission: str) -> Reading:
    """What it handed in with its last command, mostly nothing."""
    try:
        return Reading("ok", result=word(submission) or Result(summary=bounded(submission)))
    except Invalid as error:
        return Reading("task", "bad result", f"its last words: {error.message}")


def _without_end(agent: Agent, evidence: Evidence, stream: _Stream) -> Reading:
    """It never came to an end: not there, refused its own flags, or was ended by somebody else."""
    if evidence.status in NOT_STARTED and not stream.model:
        return missing(stream.plain, agent)
    if evidence.status not in (0, None) and stream.plain and not stream.model:
        return Reading("environment", CONFIGURATION, stream.plain)
    if evidence.status == 0:
        return Reading("task", "no result", stream.plain or tail(evidence))
    return by_status(evidence)._replace(detail=stream.plain or tail(evidence))
