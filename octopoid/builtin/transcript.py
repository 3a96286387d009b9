"""`transcript.jsonl`: the conversation in the attempt's folder, a line for each message, as it goes on.

The first line names the model. A message with `"anew": true` stands for everything before it: the conversation became
too long and was summarised. Every attempt has all of its conversation, also of the attempt from which it went on.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from octopoid.builtin.conversation import Message
from octopoid.errors import NotFound

NAME = "transcript.jsonl"
LARGEST = 256 << 20
"""Bytes. A conversation that fills the context of a model has a few megabytes."""


class Past(NamedTuple):
    """A conversation to go on with, and the model that had it."""

    model: str
    messages: list[Message]


class Transcript:
    """Appends to the file; each line is out of our hands when its message is used."""

    def __init__(self, folder: Path, model: str) -> None:
        self._file = (folder / NAME).open("ab", buffering=0)
        self._write({"model": model})

    def add(self, *messages: Message) -> None:
        """Each of `messages` as a line."""
        for message in messages:
            self._write(message)

    def anew(self, message: Message) -> None:
        """From here on the conversation is `message` alone."""
        self._write({"anew": True, **message})

    def _write(self, value: dict[str, Any]) -> None:
        self._file.write(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n")


def read(folder: Path) -> Past:
    """The conversation of an earlier attempt. Raises NotFound where there is none that can be read.

    A last line that is torn was never answered and is left out.
    """
    try:
        lines = _bytes(folder / NAME).split(b"\n")
    except OSError as error:
        raise NotFound(f"{folder / NAME}: {error.strerror}") from None
    try:
        head, *rest = [json.loads(line) for line in lines[:-1]]
        return Past(str(head["model"]), _messages(rest))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NotFound(f"{folder / NAME} cannot be read: {error}") from None


def _bytes(path: Path) -> bytes:
    """What stands there. An agent can reach the folder of its attempt: it may be a pipe, or a link to somewhere."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > LARGEST:
            raise OSError(errno.EINVAL, "is no conversation")
        return file.read()


def _messages(lines: Sequence[dict[str, Any]]) -> list[Message]:
    """Two lines of the user one after the other are one message that was added to: the newer one counts."""
    found: list[Message] = []
    for line in lines:
        message = {"role": line["role"], "content": line["content"]}
        if not isinstance(message["content"], list) or not all(
            isinstance(one["type"], str) for one in message["content"]
        ):
            raise ValueError("a message is none")
        if line.get("anew"):
            found = []
        elif found and found[-1]["role"] == message["role"] == "user":
            found.pop()
        found.append(message)
    return found
