"""One file per kind of agent program. A new one is a file here and a line in this table."""

from __future__ import annotations

from collections.abc import Callable

from octopoid.adapters import anthropiclog, claudelog, codexlog
from octopoid.adapters.anthropic import Anthropic
from octopoid.adapters.base import Adapter, Evidence, Launch, Reading
from octopoid.adapters.claude import Claude
from octopoid.adapters.codex import Codex
from octopoid.adapters.command import Command
from octopoid.adapters.scripted import Scripted

ADAPTERS: dict[str, Adapter] = {one.name: one for one in (Command(), Scripted(), Claude(), Codex(), Anthropic())}

TELLERS: dict[str, Callable[[bytes], str | None]] = {
    "claude": claudelog.tell,
    "codex": codexlog.tell,
    "anthropic": anthropiclog.tell,
}
"""By adapter, for those whose programs print records: one line as text; "" is nothing to tell, None is as it stands."""

__all__ = ["ADAPTERS", "TELLERS", "Adapter", "Evidence", "Launch", "Reading"]
