"""What an agent was tried with: whoever mends it (a new key, a login, a program) need not wait for the next try."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from octopoid.adapters import ADAPTERS
from octopoid.settings import Agent

_SIZE = 4
"""Bytes. Enough to see that something changed, and too few to tell a guessed secret from any other."""


def mark(agent: Agent, env: Mapping[str, str]) -> str:
    """A word that changes when the agent's lines in agents.yaml, its variables, its program or its login change.

    `env`: that of the scheduler. Looks at the disk.
    """
    adapter = ADAPTERS.get(agent.adapter)
    program = adapter.program(agent) if adapter else ""
    home = env.get("HOME", "")
    facts = (
        repr(agent),
        *(f"{name}={env.get(name)}" for name in agent.env),
        shutil.which(program, path=env.get("PATH", os.defpath)) or "",
        *(_changed(Path(home, name)) for name in (adapter.facts.logins if adapter and home else ())),
    )
    digest = hashlib.blake2b("\0".join(facts).encode("utf-8", "surrogateescape"), digest_size=_SIZE)
    return digest.hexdigest()


def _changed(path: Path) -> str:
    try:
        return str(path.stat().st_mtime_ns)
    except OSError:
        return ""
