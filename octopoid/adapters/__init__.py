"""One file per kind of agent program. A new one is a file here and a line in this table."""

from __future__ import annotations

from octopoid.adapters.aider import Aider
from octopoid.adapters.anthropic import Anthropic
from octopoid.adapters.base import Adapter, Evidence, Facts, Launch, Reading, Request
from octopoid.adapters.claude import Claude
from octopoid.adapters.codex import Codex
from octopoid.adapters.command import Command
from octopoid.adapters.gemini import Gemini
from octopoid.adapters.minisweagent import MiniSweAgent
from octopoid.adapters.opencode import OpenCode
from octopoid.adapters.scripted import Scripted

ADAPTERS: dict[str, Adapter] = {
    one.facts.name: one
    for one in (
        Aider(),
        Anthropic(),
        Claude(),
        Codex(),
        Command(),
        Gemini(),
        MiniSweAgent(),
        OpenCode(),
        Scripted(),
    )
}

__all__ = ["ADAPTERS", "Adapter", "Evidence", "Facts", "Launch", "Reading", "Request"]
