"""Asking the model: one streamed answer at a time, with the retries of the SDK, and what it means when none comes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import anthropic
import httpx2  # what the SDK itself speaks HTTP with; a stream that breaks raises its errors

from octopoid.adapters.anthropic import KEYS, Job
from octopoid.adapters.base import CONFIGURATION, NO_LOGIN
from octopoid.builtin import conversation
from octopoid.builtin.conversation import Block, Message
from octopoid.builtin.happenings import say
from octopoid.errors import OctopoidError
from octopoid.prices import Tokens, model

ANSWER = 32_000
"""Tokens of one answer at most; a quarter of `context` where that is less, as for local models."""
PATIENCE = 30.0
"""Seconds that are waited because the server says so. With more to wait the attempt ends, and its place is free."""
_SIGN = 10.0
"""Seconds between signs of life while an answer streams in."""
_TIMEOUT = anthropic.Timeout(300.0, connect=10.0)
"""Seconds. Anthropic's servers send something every few; a local model may read its prompt for minutes."""
_NO_KEY = "none-needed"
_GARBLED = "parse tool parameter JSON"
"""In the sentence of the SDK (anthropic 2.12.0) about a tool call of the model that is no JSON."""

_STATUSES = {
    401: NO_LOGIN,
    402: "no credit",
    403: NO_LOGIN,
    404: CONFIGURATION,  # an unknown model, or a wrong base_url
    408: "no answer",
    409: "no answer",
    429: "rate limit",
}
_TYPES = {
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "invalid_request_error": 400,
    "rate_limit_error": 429,
    "timeout_error": 408,
}
"""What the server says in the middle of a stream, where it cannot give a status any more; others are its own fault."""


class End(NamedTuple):
    """How a run ends, in the words of `adapters.base.Reading`. `retry_after`: seconds, 0 = unknown."""

    class_: str
    reason: str = ""
    detail: str = ""
    retry_after: float = 0.0


class Ended(OctopoidError):
    """The run cannot go on; `end` says why."""

    def __init__(self, end: End) -> None:
        super().__init__(end.detail)
        self.end = end


class TooLong(OctopoidError):
    """The conversation is longer than the model takes."""


class BadThoughts(OctopoidError):
    """The server does not take back what the model thought: another model did, or something before it changed."""


class _Wait(OctopoidError):
    """The server asks for more patience than we have. Not one of the SDK's errors, so it does not try again."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"asked to wait for {seconds:g} s")
        self.seconds = seconds


class _Broken(OctopoidError):
    """The answer broke off in the middle, or (`garbled`) the model wrote what cannot be read."""

    def __init__(self, message: str, garbled: bool = False) -> None:
        super().__init__(message)
        self.garbled = garbled


class Answer(NamedTuple):
    """What the model said: blocks as they go back to it, why it stopped, what it used."""

    content: list[Block]
    stop: str
    used: Tokens


class Model:
    """The model of a job. One question at a time; nothing is remembered here."""

    def __init__(self, job: Job, env: Mapping[str, str]) -> None:
        """Raises Ended without a credential, unless another server is named (a local one needs none)."""
        self.name = model(job.model)
        self.retries = job.retries
        self.length = min(ANSWER, max(1, job.context // 4)) if job.context else ANSWER
        base_url = job.base_url or env.get("ANTHROPIC_BASE_URL") or None
        key, token = (env.get(name) or None for name in KEYS)
        if not key and not token and not base_url:
            raise Ended(End("environment", NO_LOGIN, f"there is no {KEYS[0]} in its environment"))
        # Passed on, so that the SDK looks for none elsewhere: what `env:` does not name is not used.
        self._client = anthropic.Anthropic(
            api_key=key or (None if token else _NO_KEY),
            auth_token=None if key else token,
            base_url=base_url,
            max_retries=job.retries,
            timeout=_TIMEOUT,
            middleware=[self._tried],
        )

    def ask(self, system: list[Block], tools: Sequence[Block], messages: Sequence[Message]) -> Answer:
        """The model's answer. Raises Ended where there is none to be had, TooLong and BadThoughts."""
        for attempt in range(self.retries + 1):
            try:
                return self._stream(system, tools, messages)
            except _Broken as error:
                if attempt == self.retries:
                    # The server did answer: what its model writes, every time, is nothing that time mends.
                    how = ("task", "garbled answer") if error.garbled else ("environment", "no answer")
                    raise Ended(End(*how, f"{error} (tries: {attempt + 1})")) from None
                wait = min(8.0, 0.5 * 2**attempt)
                say("retry", **{"try": attempt + 1}, of=self.retries, why=str(error), wait=wait)
                time.sleep(wait)
            except _Wait as error:
                raise Ended(_limited(error.seconds)) from None
            except anthropic.APIStatusError as error:
                raise _meant(error) from None
            except anthropic.APIConnectionError as error:
                detail = f"no answer from {self._client.base_url}: {error.__cause__ or error}"
                raise Ended(End("environment", "no answer", detail)) from None
        raise AssertionError("unreachable")

    def _stream(self, system: list[Block], tools: Sequence[Block], messages: Sequence[Message]) -> Answer:
        asked: dict[str, Any] = {"system": system, "tools": tools, "messages": conversation.cached(messages)}
        letters, sign = 0, time.monotonic()
        try:
            with self._client.messages.stream(model=self.name, max_tokens=self.length, **asked) as stream:
                for event in stream:
                    letters += len(getattr(event, "text", "") or getattr(event, "partial_json", ""))
                    if time.monotonic() - sign > _SIGN:
                        say("alive", characters=letters)
                        sign = time.monotonic()
                message = stream.get_final_message()
        except httpx2.HTTPError as error:
            raise _Broken(f"the answer broke off: {error or type(error).__name__}") from None
        except (ValueError, AssertionError) as error:  # half an event; no message at all
            garbled = _GARBLED in str(error)
            raise _Broken(f"the answer cannot be read: {error or 'it is empty'}", garbled) from None
        except anthropic.APIStatusError as error:
            if error.response.status_code == 200 and _status(error) not in (400, 401, 402, 403, 404):
                raise _Broken(_said(error)) from None
            raise
        if message.stop_reason is None:
            raise _Broken("the answer broke off")
        content = [_block(one) for one in message.content]
        content = [one for one in content if one["type"] != "text" or one["text"].strip()]  # it takes no empty one back
        return Answer(content, message.stop_reason, _tokens(message.usage))

    def _tried(self, request: Any, call_next: Any) -> Any:
        """Once for every try of the SDK: tell about it where another one follows, and refuse to wait for too long."""
        again = request.retries_taken < self.retries
        told = {"try": request.retries_taken + 1, "of": self.retries}
        try:
            response = call_next(request)
        except anthropic.APIConnectionError as error:
            if again:
                say("retry", **told, why=str(error.__cause__ or error))
            raise
        status = response.status_code
        if status in (408, 409, 429) or status >= 500:
            wait = retry_after(response.headers)
            if wait > PATIENCE:
                response.close()
                raise _Wait(wait)
            if again:
                say("retry", **told, status=status, **({"wait": wait} if wait else {}))
        return response


def retry_after(headers: Mapping[str, str]) -> float:
    """The seconds that the server asks for, 0 = it does not say (a date counts as not saying)."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers.get(name) or "") / unit)
        except ValueError:
            continue
    return 0.0


def _meant(error: anthropic.APIStatusError) -> OctopoidError:
    """What an answer that is none means: for the conversation, else for the run."""
    status, said = _status(error), _said(error)
    small = said.lower()
    if status == 413 or (status == 400 and ("too long" in small or "context" in small)):
        return TooLong(said)
    if status == 400 and "thinking" in small:
        return BadThoughts(said)
    if status == 400 and "credit balance" in small:
        return Ended(End("environment", "no credit", said))
    if status == 429:
        return Ended(_limited(retry_after(error.response.headers), said))
    reason = _STATUSES.get(status) or ("no answer" if status >= 500 else "")
    return Ended(End("environment", reason, said) if reason else End("task", "refused by the API", said))


def _limited(seconds: float, said: str = "") -> End:
    detail = said or f"the server asks to wait for {seconds:g} s"
    return End("environment", "rate limit", detail, retry_after=seconds)


def _status(error: anthropic.APIStatusError) -> int:
    """The status, also of an error that came in the middle of a stream."""
    status = error.response.status_code
    if status != 200:
        return int(status)
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("error")
    kind = inner.get("type") if isinstance(inner, dict) else ""
    return _TYPES.get(str(kind), 500)


def _said(error: anthropic.APIStatusError) -> str:
    """The server's own sentence, with the status in front."""
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("error")
    message = inner.get("message") if isinstance(inner, dict) else None
    return f"{_status(error)}: {message or error.message}"


def _tokens(usage: Any) -> Tokens:
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return Tokens(*(int(getattr(usage, name, None) or 0) for name in names))


_KEPT = {
    "text": ("text",),
    "tool_use": ("id", "name", "input"),
    "thinking": ("thinking", "signature"),
    "redacted_thinking": ("data",),
}
"""What of a block goes back to the server, which refuses fields that it did not send (the SDK adds some)."""


def _block(block: Any) -> Block:
    kept = _KEPT.get(block.type)
    if kept:
        return {"type": block.type, **{name: getattr(block, name) for name in kept}}
    fields: Block = block.model_dump(mode="json", exclude_unset=True)
    return fields
