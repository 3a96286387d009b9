"""What litellm says when a model does not answer: for the programs built on it.

Measured with 1.106.2 (mini-swe-agent 2.4.6) and 1.81.10 (aider 0.86.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from octopoid.adapters.base import CONFIGURATION, DETAIL, NO_LOGIN, Reading
from octopoid.results import bounded

NO_ANSWER, REFUSED, FULL, NO_CREDIT = "no answer", "refused by the API", "context window", "no credit"

# By text first: one class and one status stand for several things.
_PHRASES: Iterable[tuple[re.Pattern[str], str]] = (
    (re.compile(r"ContextWindowExceededError", re.I), FULL),
    (re.compile(r"missing credentials|api_key client option must be set|missing .{0,30}api.key", re.I), NO_LOGIN),
    (
        re.compile(r"insufficient.quota|exceeded your current quota|credit balance|insufficient credits", re.I),
        NO_CREDIT,
    ),
    (re.compile(r"LLM Provider NOT provided|model .{0,80}(does not exist|not found)", re.I), CONFIGURATION),
)
_CODES = {
    400: REFUSED,
    401: NO_LOGIN,
    402: NO_CREDIT,
    403: NO_LOGIN,
    404: CONFIGURATION,  # an unknown model, or a wrong address
    408: NO_ANSWER,
    413: REFUSED,
    422: REFUSED,
    429: "rate limit",
}
_CLASSES = {
    "AuthenticationError": NO_LOGIN,
    "PermissionDeniedError": NO_LOGIN,
    "RateLimitError": "rate limit",
    "NotFoundError": CONFIGURATION,
    "BadRequestError": REFUSED,
    "UnprocessableEntityError": REFUSED,
    "UnsupportedParamsError": REFUSED,
    "ContentPolicyViolationError": REFUSED,
    "APIConnectionError": NO_ANSWER,
    "APIError": NO_ANSWER,
    "BadGatewayError": NO_ANSWER,
    "InternalServerError": NO_ANSWER,
    "ServiceUnavailableError": NO_ANSWER,
    "Timeout": NO_ANSWER,
}
_NAMED = re.compile(r"\blitellm\.(\w+)\b")
_SOON = re.compile(r"(?:try again|retry) (?:in|after) ([\d.]+) ?(ms|s|m|h)\b", re.I)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def failure(said: str, name: str = "", code: int = 0) -> Reading:
    """The reading of a run that its model left alone. `name`: of the exception, `code`: HTTP status, 0 = unknown."""
    named = _NAMED.search(said)
    phrase = next((reason for pattern, reason in _PHRASES if pattern.search(f"{name} {said}")), "")
    known = _CLASSES.get(name) or (_CLASSES.get(named[1]) if named else None)
    reason = phrase or _CODES.get(code) or known or (NO_ANSWER if code else CONFIGURATION)
    soon = _SOON.search(said)
    wait = float(soon[1]) * _SECONDS[soon[2].lower()] if soon and reason == "rate limit" else 0.0
    class_ = "task" if reason in (REFUSED, FULL) else "environment"
    return Reading(class_, reason, bounded(said, DETAIL), retry_after=wait)
