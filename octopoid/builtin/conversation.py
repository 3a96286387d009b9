"""The conversation with the model: messages as the API takes them, and what can be made of them. Pure.

A message is a mapping with `role` and `content`, a list of blocks. What the model said goes back to it unchanged: its
thinking is signed, and bound to the model and to what stands before it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from octopoid.results import bounded

Block = dict[str, Any]
Message = dict[str, Any]

_THINKING = ("thinking", "redacted_thinking")
_LETTERS = 3.5
"""Letters of a token, roughly, for servers that do not count."""
_STEP = 1500
"""Characters that the record of one step keeps of what was said, asked or printed."""
_CACHED: Block = {"cache_control": {"type": "ephemeral"}}

NOTHING = "(nothing)"
INTERRUPTED = "The program was ended before this was done. Look at what is there before you go on."
SUMMARISE = """\
The conversation is getting too long and is about to be replaced by a summary that you write now. Answer with the
summary alone and call no tool. Write down what you need to go on without the conversation: what is done and where, what
was found out (files, functions, commands, their results), what was tried and failed, what is left to do, next step.\
"""
_SUMMARY = "## What you have done so far (your own summary of a conversation that became too long)\n\n"
_RECORD = "## The last steps, as they were\n\n"


def text(said: str) -> Block:
    """A block of text. The API refuses an empty one."""
    return {"type": "text", "text": said or NOTHING}


def result(call: str, said: str, error: bool = False) -> Block:
    """What the tool call with this id gave."""
    block: Block = {"type": "tool_result", "tool_use_id": call, "content": said or "(no output)"}
    return {**block, "is_error": True} if error else block


def add(messages: list[Message], blocks: Sequence[Block]) -> Message:
    """Append the user's `blocks`, to the last message if that is the user's own; the message that they stand in."""
    if messages and messages[-1]["role"] == "user":
        messages[-1] = {"role": "user", "content": [*messages[-1]["content"], *blocks]}
    else:
        messages.append({"role": "user", "content": list(blocks)})
    return messages[-1]


def unanswered(messages: Sequence[Message]) -> list[Block]:
    """Results for tool calls that were never answered: the program was ended meanwhile."""
    said: list[Block] = messages[-1]["content"] if messages and messages[-1]["role"] == "assistant" else []
    calls = [one["id"] for one in said if one["type"] == "tool_use"]
    return [result(call, INTERRUPTED, error=True) for call in calls]


def without_thinking(messages: Sequence[Message]) -> list[Message]:
    """The conversation for another model, which cannot read the thoughts of the one that had it."""
    kept = []
    for message in messages:
        content = [one for one in message["content"] if one["type"] not in _THINKING]
        if content:
            kept.append({"role": message["role"], "content": content})
    return kept


def cached(messages: Sequence[Message]) -> list[Message]:
    """A copy with the marks up to which the server may keep it: the ends of the last two messages of the user."""
    marked = list(messages)
    ours = [at for at, message in enumerate(messages) if message["role"] == "user"]
    for at in ours[-2:]:
        *front, last = messages[at]["content"]
        marked[at] = {"role": "user", "content": [*front, {**last, **_CACHED}]}
    return marked


def system(said: str) -> list[Block]:
    """The system prompt, marked as the part that never changes (the tools stand before it)."""
    return [{**text(said), **_CACHED}]


def size(messages: Sequence[Message]) -> int:
    """Its length in tokens, roughly."""
    return int(len(json.dumps(messages, ensure_ascii=False)) / _LETTERS)


def record(messages: Sequence[Message], limit: int) -> str:
    """The end of the conversation as text, at most `limit` characters."""
    steps: list[str] = []
    for message in reversed(messages):
        told = [said for block in message["content"] if (said := _told(block, message["role"]))]
        if steps and sum(map(len, steps)) + sum(map(len, told)) > limit:
            break
        steps[:0] = told
    return bounded("\n\n".join(steps), limit)


def restarted(prompt: str, summary: str, messages: Sequence[Message], limit: int) -> Message:
    """The message with which a conversation that became too long begins again: the task, its summary, its end.

    Everything as text: results need their calls and thoughts need what was before them. `limit`: characters of the end.
    """
    last = record(messages[1:], limit)
    parts = [prompt, _SUMMARY + summary if summary else "", _RECORD + last if last else ""]
    return {"role": "user", "content": [text(part) for part in parts if part]}


def _told(block: Block, role: str) -> str:
    kind = block["type"]
    if kind == "text":
        return f"{'You' if role == 'assistant' else 'Octopoid'}: {bounded(block['text'], _STEP)}"
    if kind == "tool_use":
        return f"You called {block['name']}: {bounded(json.dumps(block['input'], ensure_ascii=False), _STEP)}"
    if kind == "tool_result":
        return f"It gave: {bounded(str(block['content']), _STEP)}"
    return ""
