"""One file per kind of agent program. A new one is a file here and a line in this table."""

from __future__ import annotations

from octopoid.adapters.base import Adapter, Evidence, Launch, Reading
from octopoid.adapters.claude import Claude
from octopoid.adapters.command import Command
from octopoid.adapters.scripted import Scripted

ADAPTERS: dict[str, Adapter] = {one.name: one for one in (Command(), Scripted(), Claude())}

__all__ = ["ADAPTERS", "Adapter", "Evidence", "Launch", "Reading"]
