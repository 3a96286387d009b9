"""One file per kind of agent program. A new one is a file here and a line in this table.

Each is loaded when somebody asks for it: together they cost a start as much as reading the policy, which names one.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping

from octopoid.adapters.base import Adapter, Evidence, Facts, Launch, Reading, Request

__all__ = ["ADAPTERS", "Adapter", "Evidence", "Facts", "Launch", "Reading", "Request"]

_CLASSES = {
    "aider": "aider.Aider",
    "anthropic": "anthropic.Anthropic",
    "claude": "claude.Claude",
    "codex": "codex.Codex",
    "command": "command.Command",
    "gemini": "gemini.Gemini",
    "mini-swe-agent": "minisweagent.MiniSweAgent",
    "opencode": "opencode.OpenCode",
    "scripted": "scripted.Scripted",
}


class _Adapters(Mapping[str, Adapter]):
    def __init__(self) -> None:
        self._loaded: dict[str, Adapter] = {}

    def __getitem__(self, name: str) -> Adapter:
        if name not in self._loaded:
            module, _, kind = _CLASSES[name].partition(".")
            self._loaded[name] = getattr(importlib.import_module(f"{__name__}.{module}"), kind)()
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in _CLASSES

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)


ADAPTERS: Mapping[str, Adapter] = _Adapters()
"""By the name that a policy gives them."""
