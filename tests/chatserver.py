"""A model server on loopback that follows scripts: OpenAI's Chat Completions API, streaming and not.

    with ChatServer({"edit": [tool("bash", command="echo 1 > x"), text("done")]}) as server:
        run_agent(prompt="… [[edit]] …", base_url=server.base)

The steps are those of `modelserver`, and so are the rules: a prompt chooses its script by the marker `[[name]]`, the
server keeps no conversations, and the step is the number of answers in the request since the message with the marker.
Requests that offer no tools are side calls (a title for the session) and get `ok`; `tools=False` is for programs that
never offer any (aider), whose side calls are those for a commit message.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelserver import MARKER, Call, ModelServer, Step, _group, _halves, _Handler, _texts, text

_SIDE = re.compile(r"commit message", re.I)
"""What the instructions of a side call say (aider 0.86.2)."""


class ChatServer(ModelServer):
    """A server in a thread; `base` is what clients call their base URL, `calls` what it was asked, in order."""

    def __init__(self, scripts: Mapping[str, Sequence[Step]], tools: bool = True) -> None:
        super().__init__(scripts)
        self.tools = tools
        self._http.RequestHandlerClass = _ChatHandler

    @property
    def base(self) -> str:
        return f"{self.url}/v1"

    def answer(self, body: dict[str, Any], headers: dict[str, str]) -> Step:
        """The step that answers `body`."""
        name, turn = place(body, self.tools)
        with self._lock:
            self.calls.append(Call(name, turn, body, headers))
            if name not in self.scripts:
                return text("ok")
            hurdles, step = _group(self.scripts[name], turn)
            for number, hurdle in enumerate(hurdles):
                taken = self._taken.get((name, turn, number), 0)
                if hurdle.times is None or taken < hurdle.times:
                    self._taken[name, turn, number] = taken + 1
                    return hurdle
            return step


def place(body: Mapping[str, Any], tools: bool = True) -> tuple[str, int]:
    """Which script a request belongs to, and its turn; side calls belong to none."""
    messages = body.get("messages", ())
    told = " ".join(part for one in messages[:1] if one["role"] != "user" for part in _texts(one.get("content") or ""))
    if not body.get("tools") if tools else _SIDE.search(told):
        return "", 0
    name, turn = "", 0
    for message in messages:
        if message["role"] == "assistant":
            turn += 1
        elif message["role"] == "user":
            found = [one for part in _texts(message.get("content") or "") for one in MARKER.findall(part)]
            name, turn = (found[-1], 0) if found else (name, turn)
    return name, turn


def completion(step: Step, model: str, number: int) -> dict[str, Any]:
    """The whole (not streamed) answer that `step` means."""
    steps = (step, *step.more)
    message: dict[str, Any] = {"role": "assistant", "content": None}
    for kind, key in (("thinking", "reasoning_content"), ("text", "content")):
        if said := "\n".join(one.text for one in steps if one.kind == kind):
            message[key] = said
    calls = [
        {
            "id": f"call_{number:06d}{at or ''}",
            "type": "function",
            "function": {"name": one.tool, "arguments": json.dumps(dict(one.input))},
        }
        for at, one in enumerate(steps)
        if one.kind == "tool"
    ]
    if calls:
        message["tool_calls"] = calls
    reason = step.stop or ("tool_calls" if calls else "stop")
    read, written = step.usage[0] + sum(step.cache), step.usage[1]  # what is in a cache counts as read here
    usage = {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": step.cache[0]},
    }
    head = {"id": f"chatcmpl-{number}", "object": "chat.completion", "created": int(time.time()), "model": model}
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return {**head, "choices": [choice], "usage": usage}


def chunks(whole: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The chunks of the same answer, texts and arguments in two pieces; the last one has its usage."""
    (choice,) = whole["choices"]
    head = {**whole, "object": "chat.completion.chunk", "usage": None}
    for delta in _deltas(choice["message"]):
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]}
    yield {**head, "choices": [], "usage": whole["usage"]}


def _deltas(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": ""}
    for key in ("reasoning_content", "content"):
        yield from ({key: one} for one in _halves(message.get(key) or "") if one)
    for at, call in enumerate(message.get("tool_calls", ())):
        first, rest = _halves(call["function"]["arguments"])
        begun = {"index": at, **call, "function": {"name": call["function"]["name"], "arguments": first}}
        yield {"tool_calls": [begun]}
        yield {"tool_calls": [{"index": at, "function": {"arguments": rest}}]}


class _ChatHandler(_Handler):
    def do_GET(self) -> None:  # noqa: N802 - http.server names it
        said = f"no such address: {self.path}"
        self._json(404, {"error": {"type": "invalid_request_error", "message": said, "code": None}})

    def do_POST(self) -> None:  # noqa: N802 - http.server names it
        data = self.rfile.read(int(self.headers.get("Content-Length", "0"))) or b"{}"
        if not self.path.partition("?")[0].endswith("/chat/completions"):
            self.do_GET()
            return
        body, model = json.loads(data), self.server.model
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
            whole = completion(step, str(body.get("model", "")), time.monotonic_ns() % 10**6)
            self._answer(step, whole, bool(body.get("stream")))

    def _answer(self, step: Step, whole: Mapping[str, Any], stream: bool) -> None:
        """One that breaks off has said something before."""
        if not stream and step.kind == "drop":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "10000")
            self.end_headers()
            self.wfile.write(b'{"id": "chatcmpl-')
            self.close_connection = True
        elif not stream:
            fault = {"error": {"message": step.text, "type": step.tool, "param": None, "code": None}}
            self._json(200, fault if step.kind == "fault" else whole)
        else:
            self._stream(whole, cut=step if step.kind in ("drop", "fault") else None)

    def _stream(self, whole: Mapping[str, Any], cut: Step | None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        if cut and cut.kind == "drop":
            self.send_header("Content-Length", "1000000")  # so that its end is no end, whatever the client thinks
        self.end_headers()
        for chunk in chunks(whole):
            self._chunk(json.dumps(chunk))
            if cut:
                break
        else:
            self._chunk("[DONE]")
        if cut and cut.kind == "fault":
            self._chunk(json.dumps({"error": {"message": cut.text, "type": cut.tool, "param": None, "code": None}}))
        self.wfile.flush()
        self.close_connection = True

    def _chunk(self, data: str) -> None:
        self.wfile.write(f"data: {data}\n\n".encode())
