"""A model server on loopback that follows scripts: OpenAI's Responses and Chat Completions APIs, streaming and not.

    with OpenAIServer({"edit": [tool("exec_command", cmd="echo 1 > x"), text("done")]}) as server:
        run_agent(prompt="… [[edit]] …", base_url=server.base)

The steps are those of `modelserver`, and so are the rules: a prompt chooses its script by the marker `[[name]]`, the
server keeps no conversations, and the step is the number of answers in the request since the message with the marker.
`error`, `hang` and `drop` are hurdles in front of the next answer, counted per script (`times=None`: for ever).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from modelserver import MARKER, Call, Step, text

_ANSWERS = ("function_call", "custom_tool_call", "local_shell_call")
"""Items of a Responses request, besides messages, that the model itself gave."""


class OpenAIServer:
    """A server in a thread; `base` is what clients call their base URL, `calls` what it was asked, in order."""

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
    def base(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> OpenAIServer:
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
    asked = body.get("input", body.get("messages", ()))
    items = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    if not body.get("tools") and not any(item.get("type") == "additional_tools" for item in items):
        return "", 0
    name, turn = "", 0
    for item in items:
        if item.get("role") == "assistant" or item.get("type") in _ANSWERS:
            turn += 1
            continue
        found = [one for part in _texts(item) for one in MARKER.findall(part)] if item.get("role") == "user" else []
        if found:
            name, turn = found[-1], 0
    return name, turn


def _texts(item: Mapping[str, Any]) -> Iterator[str]:
    content = item.get("content") or ()
    if isinstance(content, str):
        yield content
        return
    yield from (block["text"] for block in content if isinstance(block.get("text"), str))


# --- Responses ---


def response(step: Step, model: str, number: int) -> dict[str, Any]:
    """The whole (not streamed) answer that `step` means. A tool with the one argument `patch` is a custom tool."""
    item: dict[str, Any]
    if step.kind != "tool":
        content = [{"type": "output_text", "text": step.text, "annotations": []}]
        item = {"type": "message", "id": f"msg_{number}", "role": "assistant", "content": content}
    elif set(step.input) == {"patch"}:
        call = {"call_id": f"call_{number}", "name": step.tool, "input": step.input["patch"]}
        item = {"type": "custom_tool_call", "id": f"ctc_{number}", **call}
    else:
        call = {"call_id": f"call_{number}", "name": step.tool, "arguments": json.dumps(dict(step.input))}
        item = {"type": "function_call", "id": f"fc_{number}", **call}
    read, written = step.usage
    usage = {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + written,
    }
    item["status"] = "completed"
    head = {"id": f"resp_{number}", "object": "response", "model": model, "status": "completed"}
    return {**head, "output": [item], "usage": usage}


def response_events(whole: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The server-sent events of the same answer."""
    (item,) = whole["output"]
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "response": begun}
    if item["type"] == "message":
        said = item["content"][0]["text"]
        empty = {**item, "status": "in_progress", "content": []}
        yield {"type": "response.output_item.added", "output_index": 0, "item": empty}
        where = {"item_id": item["id"], "output_index": 0, "content_index": 0}
        yield {"type": "response.output_text.delta", **where, "delta": said}
    else:
        yield {"type": "response.output_item.added", "output_index": 0, "item": {**item, "status": "in_progress"}}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": "response.completed", "response": dict(whole)}


# --- Chat Completions ---


def completion(step: Step, model: str, number: int) -> dict[str, Any]:
    """The whole (not streamed) answer that `step` means."""
    message: dict[str, Any] = {"role": "assistant", "content": step.text if step.kind != "tool" else None}
    if step.kind == "tool":
        function = {"name": step.tool, "arguments": json.dumps(dict(step.input))}
        message["tool_calls"] = [{"id": f"call_{number}", "type": "function", "function": function}]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if step.kind == "tool" else "stop"}
    read, written = step.usage
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    head = {"id": f"chatcmpl-{number}", "object": "chat.completion", "created": int(time.time()), "model": model}
    return {**head, "choices": [choice], "usage": usage}


def completion_events(whole: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The chunks of the same answer; the last one has its usage."""
    (choice,) = whole["choices"]
    head = {**whole, "object": "chat.completion.chunk", "usage": None}
    calls = [{"index": i, **one} for i, one in enumerate(choice["message"].get("tool_calls", ()))]
    delta = {**choice["message"], **({"tool_calls": calls} if calls else {})}
    yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]}
    yield {**head, "choices": [], "usage": whole["usage"]}


_APIS = {
    "/responses": (response, response_events),
    "/chat/completions": (completion, completion_events),
}


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    model: OpenAIServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away in the middle are what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Quiet."""

    def do_GET(self) -> None:
        # 426 to a WebSocket: codex then goes on over HTTP at once, after a 404 it tries for seconds
        status = 426 if self.headers.get("Upgrade") else 404
        self._json(status, {"error": {"type": "invalid_request_error", "message": f"no such address: {self.path}"}})

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", "0"))) or b"{}"
        where = self.path.partition("?")[0].removeprefix("/v1")
        if where not in _APIS:
            self.do_GET()
            return
        body = json.loads(data)
        whole, events = _APIS[where]
        model = self.server.model
        step = model.answer(body, {name.lower(): value for name, value in self.headers.items()})
        if step.delay:
            model.closing.wait(step.delay)
        if step.kind == "error":
            said = {"error": {"message": step.text, "type": "scripted", "param": None, "code": None}}
            # what begins like JSON is the whole answer: some errors are told by more than their message
            self._json(step.status, json.loads(step.text) if step.text.startswith("{") else said, step.headers)
        elif step.kind == "hang":
            model.closing.wait()
            self.close_connection = True
        else:
            answer = whole(step, str(body.get("model", "")), time.monotonic_ns() % 10**9)
            if step.kind == "drop" or body.get("stream"):
                self._stream(events(answer), cut=step.kind == "drop")
            else:
                self._json(200, answer)

    def _stream(self, events: Iterator[dict[str, Any]], cut: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for event in events:
            name = f"event: {event['type']}\n" if "type" in event else ""
            self.wfile.write(f"{name}data: {json.dumps(event)}\n\n".encode())
            if cut:
                break
        else:
            self.wfile.write(b"data: [DONE]\n\n")
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
