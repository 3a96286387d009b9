"""What an agent was tried with: whoever mends it (a new key, a login, a program) need not wait for the next try."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from octopoid.adapters import ADAPTERS
from octopoid.settings import Agent

_MIXED, _ACCOUNT = (".claude.json",), "oauthAccount"
"""Claude Code writes all that it remembers into this file, minute by minute; the login is this key of it (2.1.197)."""
_NAMED = re.compile("KEY|TOKEN|SECRET|PASS|AUTH|CREDENTIAL", re.IGNORECASE)
_SECRET = 6
"""Characters. What is shorter is no secret, and stands in every other word."""
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


def hidden(text: str, agent: Agent, env: Mapping[str, str]) -> str:
    """`text` with the names of the agent's secrets in place of what they are.

    Programs and servers put a key that is wrong into the sentence about it, and that goes where people look.
    """
    for name in agent.env:
        value = env.get(name, "")
        if len(value) >= _SECRET and _NAMED.search(name):
            text = text.replace(value, f"[{name}]")
    return text


def _changed(path: Path) -> str:
    try:
        return _account(path) if path.name in _MIXED else str(path.stat().st_mtime_ns)
    except OSError:
        return ""


def _account(path: Path) -> str:
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return ""  # half written
    return repr(record.get(_ACCOUNT)) if isinstance(record, dict) else ""
