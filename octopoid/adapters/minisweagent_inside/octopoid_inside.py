"""Runs inside mini-swe-agent (measured with 2.4.6), in its own Python: an agent class that says what it does as JSON.

`mini --agent-class octopoid_inside.Told`, with this folder first in PYTHONPATH. One record a line; `minisweagentlog`
reads them. mini's own log is drawn for a terminal of 80 columns and begins with the whole prompt. Nothing of octopoid
can be imported here, and nothing of mini by octopoid.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any, NoReturn

import minisweagent  # type: ignore[import-not-found]  # it is not in our Python
from minisweagent.agents.default import DefaultAgent  # type: ignore[import-not-found]  # as above

# The commands that it runs must not find this folder, nor believe in so wide a terminal.
os.environ.pop("COLUMNS", None)
os.environ["PYTHONPATH"] = os.environ.get("PYTHONPATH", "").partition(os.pathsep)[2]
if not os.environ["PYTHONPATH"]:
    del os.environ["PYTHONPATH"]

_COUNTS = (("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens"))
_DETAILS = ("prompt_tokens_details", "input_tokens_details")


def tell(kind: str, **fields: object) -> None:
    """One record."""
    sys.stdout.write(json.dumps({"type": kind, **fields}, default=str) + "\n")
    sys.stdout.flush()


class Retries(logging.Handler):
    """What mini's own loop says when the model did not answer and it is going to try again."""

    def emit(self, record: logging.LogRecord) -> None:
        """Told, whatever its level."""
        tell("retry", text=record.getMessage())


class Told(DefaultAgent):  # type: ignore[misc]  # as above
    """The default agent, which asks nobody anything, with its ears open."""

    def __init__(self, model: Any, env: Any, **given: Any) -> None:
        super().__init__(model, env, **given)
        self.used: dict[str, int] = {}
        if "litellm" in sys.modules:
            sys.modules["litellm"].suppress_debug_info = True  # type: ignore[attr-defined]  # a module of its
        retries = logging.getLogger("litellm_model")
        retries.addHandler(Retries())
        retries.propagate = False

    def run(self, task: str = "", **more: Any) -> NoReturn:
        """As its own, with a first and a last record, and an exit status that says whether it came to its own end."""
        tell("started", version=minisweagent.__version__, model=self.model.config.model_name)
        ended = super().run(task, **more)
        self.end(ended.get("exit_status", ""), submission=ended.get("submission", ""), limit=self.limit())
        raise SystemExit(0 if ended.get("exit_status") == "Submitted" else 1)

    def handle_uncaught_exception(self, e: Exception) -> Any:
        """The last record of a run that failed; the exception itself goes on, and its stack to the trajectory alone."""
        self.end(type(e).__name__, **_failure(e))
        said = super().handle_uncaught_exception(e)
        sys.tracebacklimit = 0
        return said

    def end(self, status: str, **more: object) -> None:
        """The last record."""
        tell("ended", status=status, turns=self.n_calls, usd=self.cost, **self.used, **more)

    def limit(self) -> str:
        """Which of the two limits it is at, if any."""
        return "turns" if 0 < self.config.step_limit <= self.n_calls else "money"

    def add_messages(self, *messages: dict[str, Any]) -> Any:
        """Every message passes here."""
        for message in messages:
            self.told(message)
        return super().add_messages(*messages)

    def told(self, message: dict[str, Any]) -> None:
        extra, said = message.get("extra") or {}, message.get("content")
        if isinstance(extra.get("response"), dict):
            self.count(extra["response"].get("usage") or {})
            if isinstance(message.get("reasoning_content"), str):
                tell("thinking", text=message["reasoning_content"])
            if isinstance(said, str) and said and "interrupt_type" not in extra:
                tell("message", text=said)
            for action in extra.get("actions") or ():
                tell("tool", text=action.get("command", ""))
            tell("usage", turns=self.n_calls, usd=self.cost, **self.used)
        if "returncode" in extra:
            error = extra.get("exception_info") or ""
            told = f"{extra.get('raw_output') or ''}\n{error}".strip()
            tell("result", text=told, status=extra["returncode"])
        elif "interrupt_type" in extra:
            tell("note", text=said)

    def count(self, usage: dict[str, Any]) -> None:
        """Add up what this answer took, in the words of either API."""
        details: dict[str, Any] = next((usage[name] for name in _DETAILS if isinstance(usage.get(name), dict)), {})
        found = {name: usage.get(name, usage.get(other)) for name, other in _COUNTS}
        for name, number in {**found, "cached_tokens": details.get("cached_tokens")}.items():
            if isinstance(number, int):
                self.used[name] = self.used.get(name, 0) + number


def _failure(error: Exception) -> dict[str, object]:
    """What can be told of it: its text, and the HTTP status and the header where there was an answer."""
    headers = getattr(error, "litellm_response_headers", None)
    headers = headers or getattr(getattr(error, "response", None), "headers", None) or {}
    return {
        "text": str(error),
        "code": getattr(error, "status_code", None),
        "retry_after": headers.get("retry-after") if hasattr(headers, "get") else None,
    }
