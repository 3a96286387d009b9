"""A model server on loopback that follows scripts: the Anthropic Messages API, streaming and not.

    with ModelServer({"edit": [tool("Write", file_path="/w/x", content="1"), text("done")]}) as server:
        run_agent(prompt="… [[edit]] …", env={"ANTHROPIC_BASE_URL": server.url, "ANTHROPIC_API_KEY": "dummy"})

A prompt chooses its script by the marker `[[name]]`. The server keeps no conversations: the step is the number of
assistant turns since the message with the marker, so retries, resumed sessions and parallel agents cannot disturb each
other. `error`, `hang`, `drop` and `fault` are hurdles in front of the next answer, counted per script (`times=None`:
for ever).
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

MARKER = re.compile(r"\[\[([\w.-]+)\]\]")
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


class Step(NamedTuple):
    """One step of a script; make it with the functions below. `delay`: seconds before the answer.

    `usage`: tokens in and out, `cache`: tokens read from the cache and written to it. `more`: further blocks.
    """

    kind: str
    tool: str = ""
    input: Mapping[str, Any] = {}
    text: str = ""
    status: int = 0
    times: int | None = None
    delay: float = 0.0
    usage: tuple[int, int] = (10, 5)
    headers: tuple[tuple[str, str], ...] = ()
    more: tuple[Step, ...] = ()
    stop: str = ""
    cache: tuple[int, int] = (0, 0)


class Call(NamedTuple):
    """One request that the server got. `script` is "" for side calls."""

    script: str
    turn: int
    body: dict[str, Any]
    headers: dict[str, str]


def tool(tool: str, /, delay: float = 0.0, usage: tuple[int, int] = (10, 5), **given: Any) -> Step:
    """The model calls `tool` with `given` as its input."""
    return Step("tool", tool=tool, input=given, delay=delay, usage=usage)


def text(text: str, delay: float = 0.0, usage: tuple[int, int] = (10, 5)) -> Step:
    """The model says `text` and ends its turn."""
    return Step("text", text=text, delay=delay, usage=usage)


def several(first: Step, *more: Step) -> Step:
    """The model says and calls all of this in one answer, which ends as the last of it would."""
    return first._replace(more=more)


def thought(said: str) -> Step:
    """A block of thinking, for the front of `several`."""
    return Step("thinking", text=said)


def error(status: int, times: int | None = None, message: str = "scripted error", **headers: str) -> Step:
    """HTTP `status`, `times` times (None: always) before the next step is reached."""
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Step("error", status=status, times=times, text=message, headers=named)


def hang(times: int | None = None) -> Step:
    """The server accepts the request and never answers (until it is closed)."""
    return Step("hang", times=times)


def drop(times: int | None = None) -> Step:
    """The connection closes in the middle of the answer."""
    return Step("drop", times=times)


def fault(kind: str = "overloaded_error", times: int | None = None, message: str = "scripted fault") -> Step:
    """The answer begins, and then there is an error of this type in its stream."""
    return Step("fault", tool=kind, times=times, text=message)


class ModelServer:
    """A server in a thread; `url` is its base, `calls` what it was asked, in order."""

    def __init__(self, scripts: Mapping[str, Sequence[Step]]) -> None:
        self.scripts = dict(scripts)
        self.calls: list[Call] = []
        self.closing = threading.Event()
        self._taken: dict[tuple[str, int, int], int] = {}
        self._lock = threading.Lock()
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.model = self
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> ModelServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)

    def of(self, script: str) -> list[Call]:
        """The calls that belong to `script`."""
        return [call for call in self.calls if call.script == script]

    def answer(self, body: dict[str, Any], headers: dict[str, str]) -> Step:
        """The step that answers `body`."""
        name, turn = place(body)
        with self._lock:
            self.calls.append(Call(name, turn, body, headers))
            if name not in self.scripts:
                return text("ok")
            hurdles, step = _group(self.scripts[name], turn)
            for i, hurdle in enumerate(hurdles):
                taken = self._taken.get((name, turn, i), 0)
                if hurdle.times is None or taken < hurdle.times:
                    self._taken[name, turn, i] = taken + 1
                    return hurdle
            return step


def place(body: Mapping[str, Any]) -> tuple[str, int]:
    """Which script a request belongs to, and its turn. Side calls (no tools offered) belong to none."""
    if not body.get("tools"):
        return "", 0
    name, turn = "", 0
    for message in body.get("messages", ()):
        if message["role"] == "assistant":
            turn += 1
            continue
        found = [one for part in _texts(message["content"]) for one in MARKER.findall(part)]
        if found:
            name, turn = found[-1], 0
    return name, turn


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
        return
    yield from (block["text"] for block in content if block.get("type") == "text")


def _group(script: Sequence[Step], turn: int) -> tuple[list[Step], Step]:
    """The hurdles in front of answer number `turn`, and that answer; after the last one there is only `done`."""
    hurdles: list[Step] = []
    answers = 0
    for step in script:
        if step.kind not in ("tool", "text", "thinking"):
            hurdles.append(step)
        elif answers == turn:
            return hurdles, step
        else:
            answers, hurdles = answers + 1, []
    return hurdles, text("done")


def message(step: Step, model: str, number: int) -> dict[str, Any]:
    """The whole (not streamed) answer that `step` means."""
    steps = (step, *step.more)
    read, written = step.cache
    cache = {"cache_read_input_tokens": read, "cache_creation_input_tokens": written} if any(step.cache) else {}
    return {
        "id": f"msg_{number:06d}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [_block(one, f"{number:06d}{at or ''}") for at, one in enumerate(steps)],
        "stop_reason": step.stop or ("tool_use" if any(one.kind == "tool" for one in steps) else "end_turn"),
        "stop_sequence": None,
        "usage": {"input_tokens": step.usage[0], "output_tokens": step.usage[1], **cache},
    }


def _block(step: Step, number: str) -> dict[str, Any]:
    if step.kind == "tool":
        return {"type": "tool_use", "id": f"toolu_{number}", "name": step.tool, "input": dict(step.input)}
    if step.kind == "thinking":
        return {"type": "thinking", "thinking": step.text, "signature": f"signed-{number}"}
    return {"type": "text", "text": step.text}


def events(whole: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The server-sent events of the same answer."""
    start = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
    yield {"type": "message_start", "message": start}
    yield {"type": "ping"}
    for index, block in enumerate(whole["content"]):
        empty, *deltas = _pieces(block)
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        yield from ({"type": "content_block_delta", "index": index, "delta": one} for one in deltas)
        yield {"type": "content_block_stop", "index": index}
    ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": {"output_tokens": whole["usage"]["output_tokens"]}}
    yield {"type": "message_stop"}


def _pieces(block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A block as it is streamed: first without its content, then that in two pieces."""
    if block["type"] == "tool_use":
        yield {**block, "input": {}}
        yield from ({"type": "input_json_delta", "partial_json": one} for one in _halves(json.dumps(block["input"])))
    elif block["type"] == "thinking":
        yield {"type": "thinking", "thinking": "", "signature": ""}
        yield from ({"type": "thinking_delta", "thinking": one} for one in _halves(block["thinking"]))
        yield {"type": "signature_delta", "signature": block["signature"]}
    else:
        yield {"type": "text", "text": ""}
        yield from ({"type": "text_delta", "text": one} for one in _halves(block["text"]))


def _halves(said: str) -> tuple[str, str]:
    return said[: len(said) // 2], said[len(said) // 2 :]


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    model: ModelServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away in the middle are what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Quiet."""

    def do_HEAD(self) -> None:
        self._send(200, b"")

    def do_GET(self) -> None:
        self._json(404, {"type": "error", "error": {"type": "not_found_error", "message": self.path}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))) or b"{}")
        where = self.path.partition("?")[0]
        if where.endswith("/count_tokens"):
            self._json(200, {"input_tokens": 10})
        elif where.endswith("/v1/messages"):
            self._messages(body)
        else:
            self.do_GET()

    def _messages(self, body: dict[str, Any]) -> None:
        model = self.server.model
        step = model.answer(body, {name.lower(): value for name, value in self.headers.items()})
        if step.delay:
            model.closing.wait(step.delay)
        if step.kind == "error":
            kind = _KINDS.get(step.status, "api_error")
            said = {"type": "error", "error": {"type": kind, "message": step.text}, "request_id": "req_scripted"}
            self._json(step.status, said, step.headers)
            return
        if step.kind == "hang":
            model.closing.wait()
            self.close_connection = True
            return
        whole = message(step, str(body.get("model", "")), time.monotonic_ns() % 10**9)
        if step.kind in ("drop", "fault") or body.get("stream"):
            self._stream(whole, cut=step if step.kind in ("drop", "fault") else None)
        else:
            self._json(200, whole)

    def _stream(self, whole: Mapping[str, Any], cut: Step | None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for event in events(whole):
            self._event(event)
            if cut:
                break
        if cut and cut.kind == "fault":
            self._event({"type": "error", "error": {"type": cut.tool, "message": cut.text}})
        self.wfile.flush()
        self.close_connection = True

    def _event(self, event: Mapping[str, Any]) -> None:
        self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())

    def _json(self, status: int, value: Any, headers: Sequence[tuple[str, str]] = ()) -> None:
        self._send(status, json.dumps(value).encode(), (("Content-Type", "application/json"), *headers))

    def _send(self, status: int, data: bytes, headers: Sequence[tuple[str, str]] = ()) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
