"""What an agent was tried with: whoever mends it (a new key, a login, a program) need not wait for the next try."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from octopoid.adapters import ADAPTERS
from octopoid.layout import ENV_FILE
from octopoid.settings import Agent

_MIXED, _ACCOUNT = (".claude.json",), "oauthAccount"
"""Claude Code writes all that it remembers into this file, minute by minute; the login is this key of it (2.1.197)."""
_NAMED = re.compile("KEY|TOKEN|SECRET|PASS|AUTH|CREDENTIAL", re.IGNORECASE)
_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")
_SECRET, _SECRET_OF_OTHERS = 6, 8
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


class Secret(NamedTuple):
    """What must not be shown, and the variable it is known by."""

    name: str
    value: str


def secrets(env: Mapping[str, str], named: Collection[str] = ()) -> tuple[Secret, ...]:
    """The secrets in `env`, the longest first: of the variables that agents are given (`named`), and of what is called
    one. A path is none (SSH_AUTH_SOCK), and a password inside a URL is one of its own.
    """
    found = set()
    for name, value in env.items():
        given, called = name in named, bool(_NAMED.search(name))
        password = _PASSWORD.search(value) if given or called else None
        if password:
            found |= {Secret(name, value), Secret(name, password[1])}
        elif called and not value.startswith("/"):
            found.add(Secret(name, value))
    least = {True: _SECRET, False: _SECRET_OF_OTHERS}
    kept = (one for one in found if len(one.value) >= least[one.name in named])
    return tuple(sorted(kept, key=lambda one: (-len(one.value), one)))


def hidden(text: str, known: Iterable[Secret]) -> str:
    """`text` with the names of secrets in place of what they are, as they stand and as they stand in JSON.

    Programs and servers put a key that is wrong into the sentence about it, and that goes where people look.
    """
    for one in known:
        for written in dict.fromkeys((one.value, json.dumps(one.value)[1:-1])):
            text = text.replace(written, f"[{one.name}]")
    return text


def stored(env: Mapping[str, str]) -> dict[str, str]:
    """What a service is given besides (`octopoid service`): whoever reads its logs has these not in their shell."""
    try:
        text = Path(env["HOME"], ENV_FILE).read_text(encoding="utf-8", errors="replace")
    except (KeyError, OSError):
        return {}
    rows = (line.partition("=") for line in text.splitlines() if not line.lstrip().startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, _, value in rows if value.strip()}


def around(env: Mapping[str, str], named: Collection[str] = ()) -> tuple[Secret, ...]:
    """The secrets of a person's shell (`env`) and of the service: a log holds whatever its program printed."""
    of_service = stored(env)
    return (*secrets(env, named), *secrets(of_service, {*of_service}))


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
