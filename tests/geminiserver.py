"""A model server on loopback that follows scripts: Gemini's generateContent API, streaming and not.

    with GeminiServer({"edit": [tool("run_shell_command", command="echo 1 > x"), text("done")]}) as server:
        run_agent(prompt="… [[edit]] …", env={"GOOGLE_GEMINI_BASE_URL": server.url, "GEMINI_API_KEY": "dummy"})

The steps are those of `modelserver`, and so are the rules: a prompt chooses its script by the marker `[[name]]`, the
server keeps no conversations, and the step is the number of answers in the request since the message with the marker.
`error`, `hang` and `drop` are hurdles in front of the next answer, counted per script (`times=None`: for ever).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from modelserver import MARKER, Call, Step, text

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


def quota(seconds: float | None = None, daily: bool = False) -> str:
    """The body of a 429 as Google writes it, for `error(429, message=…)`. `seconds`: when to come back."""
    details: list[dict[str, Any]] = []
    if daily:
        violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaMetric": "requests"}
        details.append({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]})
    if seconds is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds:g}s"})
    said = "You exceeded your current quota." + ("" if seconds is None else f" Please retry in {seconds:g}s.")
    return json.dumps({"error": {"code": 429, "message": said, "status": "RESOURCE_EXHAUSTED", "details": details}})


class GeminiServer:
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

    def __enter__(self) -> GeminiServer:
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
            hurdles: list[tuple[int, Step]] = []
            answers = 0
            for number, step in enumerate(self.scripts.get(name, ())):
                if step.kind not in ("tool", "text"):
                    hurdles.append((number, step))
                elif answers == turn:
                    return self._hurdle(name, turn, hurdles) or step
                else:
                    answers, hurdles = answers + 1, []
            return self._hurdle(name, turn, hurdles) or text("done" if name else "ok")

    def _hurdle(self, name: str, turn: int, hurdles: Iterable[tuple[int, Step]]) -> Step | None:
        """The first of `hurdles` that is not used up."""
        for number, step in hurdles:
            taken = self._taken.get((name, turn, number), 0)
            if step.times is None or taken < step.times:
                self._taken[name, turn, number] = taken + 1
                return step
        return None


def place(body: Mapping[str, Any]) -> tuple[str, int]:
    """Which script a request belongs to, and its turn. Side calls (no tools offered) belong to none."""
    if not body.get("tools"):
        return "", 0
    name, turn = "", 0
    for content in body.get("contents", ()):
        if content.get("role") == "model":
            turn += 1
            continue
        texts = (part["text"] for part in content.get("parts", ()) if isinstance(part.get("text"), str))
        found = [one for said in texts for one in MARKER.findall(said)]
        if found:
            name, turn = found[-1], 0
    return name, turn


def response(step: Step, model: str) -> dict[str, Any]:
    """The whole (not streamed) answer that `step` means. `usage`: tokens in and out; `cache`: of those read from it."""
    read, written = step.usage
    cached = {"cachedContentTokenCount": step.cache[0]} if step.cache[0] else {}
    return {
        "candidates": [
            {
                "content": {"role": "model", "parts": [_part(one) for one in (step, *step.more)]},
                "finishReason": step.stop or "STOP",
                "index": 0,
            }
        ],
        "usageMetadata": {
            "promptTokenCount": read,
            "candidatesTokenCount": written,
            "totalTokenCount": read + written,
            **cached,
        },
        "modelVersion": model,
        "responseId": "scripted",
    }


def _part(step: Step) -> dict[str, Any]:
    if step.kind == "tool":
        return {"functionCall": {"name": step.tool, "args": dict(step.input)}}
    return {"text": step.text, "thought": True} if step.kind == "thinking" else {"text": step.text}


def chunks(whole: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The same answer as it is streamed: text in two pieces, the last one with the end and the usage."""
    (candidate,) = whole["candidates"]
    *first, last = [one for part in candidate["content"]["parts"] for one in _pieces(part)]
    for part in first:
        yield {**whole, "candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}]}
    yield {**whole, "candidates": [{**candidate, "content": {"role": "model", "parts": [last]}}]}


def _pieces(part: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    said = part.get("text")
    if said is None or len(said) < 2:
        yield dict(part)
    else:
        yield {**part, "text": said[: len(said) // 2]}
        yield {**part, "text": said[len(said) // 2 :]}


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    model: GeminiServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away in the middle are what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Quiet."""

    def do_GET(self) -> None:
        self._json(404, {"error": {"code": 404, "message": f"no such address: {self.path}", "status": "NOT_FOUND"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))) or b"{}")
        name, _, method = self.path.partition("?")[0].rpartition("/models/")[2].partition(":")
        if method == "countTokens":
            self._json(200, {"totalTokens": 10})
        elif method in ("generateContent", "streamGenerateContent"):
            self._generate(body, name, stream=method == "streamGenerateContent")
        else:
            self.do_GET()

    def _generate(self, body: dict[str, Any], name: str, stream: bool) -> None:
        model = self.server.model
        step = model.answer({**body, "model": name}, {key.lower(): value for key, value in self.headers.items()})
        if step.delay:
            model.closing.wait(step.delay)
        if step.kind == "error":
            kind = _STATUSES.get(step.status, "UNKNOWN")
            said = {"error": {"code": step.status, "message": step.text, "status": kind}}
            # what begins like JSON is the whole answer: some errors are told by more than their message
            self._json(step.status, json.loads(step.text) if step.text.startswith("{") else said, step.headers)
        elif step.kind == "hang":
            model.closing.wait()
            self.close_connection = True
        elif step.kind == "drop":
            self._stream(chunks(response(text("half a word", usage=step.usage), name)), cut=True)
        elif stream:
            self._stream(chunks(response(step, name)), cut=False)
        else:
            self._json(200, response(step, name))

    def _stream(self, events: Iterable[dict[str, Any]], cut: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for event in events:
            self.wfile.write(f"data: {json.dumps(event)}\r\n\r\n".encode())
            if cut:
                break
        self.wfile.flush()
        self.close_connection = True

    def _json(self, status: int, value: Any, headers: Sequence[tuple[str, str]] = ()) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, said in (("Content-Type", "application/json"), *headers):
            self.send_header(name, said)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
