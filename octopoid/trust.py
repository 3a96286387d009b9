"""Whether the user said that this root's policy may run commands (docs/security.md).

A `.octopoid` that arrives by clone names commands: checks, setup, agents. Nothing of it is run before the user said
yes, once per root. The yes is a file in the git common directory: no clone, pull or checkout ever writes there, it goes
with the repository where that is moved, cron with another HOME finds it, and who can write there runs commands as the
user anyway (git's hooks).
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from octopoid import clock, durable, gitfiles
from octopoid.layout import Layout

TYPE_CHECKING = False
if TYPE_CHECKING:  # `status` asks only whether the mark is there
    from octopoid.settings import Config

COMMAND = "octopoid trust"
"""What a person says yes with."""


class Runs(NamedTuple):
    """A command that the policy can run. `what`: who or what runs it, `command`: as it is written there."""

    what: str
    command: str


def mark_file(root: Path) -> Path:
    """Where the yes for `root` is, or would be. Raises NotFound where `root` is no repository."""
    return gitfiles.own_dir(root) / "trusted"


def is_trusted(root: Path) -> bool:
    """Did the user say yes? A link there is nobody's yes."""
    try:
        return stat.S_ISREG(mark_file(root).lstat().st_mode)
    except OSError:
        return False


def mark(root: Path, now: float) -> bool:
    """Write the yes down, durably. False: it was there. Raises OSError."""
    if is_trusted(root):
        return False
    path = mark_file(root)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    _no(root).unlink(missing_ok=True)
    facts = {"trusted": clock.iso(now), "root": os.path.realpath(root)}
    durable.write(path, json.dumps(facts, ensure_ascii=True).encode() + b"\n")
    return True


def revoke(root: Path) -> bool:
    """Take the yes back. False: there was none. Raises OSError.

    The no is written down as well: otherwise a root where a scheduler worked would be taken for an old one.
    """
    path = mark_file(root)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    durable.write(_no(root), b"")
    was = is_trusted(root)
    path.unlink(missing_ok=True)
    return was


def _no(root: Path) -> Path:
    return mark_file(root).with_name("revoked")


def has_worked(layout: Layout) -> bool:
    """Has a scheduler worked here before there were marks? It keeps the last policy that it could use; nobody else
    does.
    """
    kept = layout.last_good / layout.agents_yaml.name
    try:
        if os.path.lexists(_no(layout.root)):
            return False
        return stat.S_ISREG(kept.lstat().st_mode) and not layout.last_good.is_symlink()
    except OSError:
        return False


def commands(config: Config) -> Iterator[Runs]:
    """Every command that this policy can run, and where it sends the keys that it names."""
    for check in config.checks:
        yield Runs(f"check {check.name}", _typed(check.run))
    if config.worktrees.setup:
        yield Runs("setup of worktrees", _typed(config.worktrees.setup))
    for agent in config.agents.values():
        own = _typed(agent.command) if agent.command else f"the program of `{agent.adapter}`"
        given = (f"model {agent.model}" if agent.model else "", _typed(agent.args), _asked(agent.base_url))
        said = ", ".join(one for one in (own, *given) if one)
        yield Runs(f"agent {agent.name}", f"{said}; is given {', '.join(agent.env)}" if agent.env else said)
        if agent.pre_check:
            yield Runs(f"agent {agent.name}, before it", _typed(agent.pre_check))
    if config.notify:
        yield Runs("notify", _typed(config.notify))
    for schedule in config.schedule.values():
        yield Runs(f"schedule {schedule.name}", f"a task at {schedule.cron}")
        if schedule.pre_check:
            yield Runs(f"schedule {schedule.name}, before it", _typed(schedule.pre_check))


def _typed(command: str | tuple[str, ...]) -> str:
    """A string is a line for the shell; a list is shown with every word apart, as it is started."""
    return command if isinstance(command, str) else " ".join(map(_quoted, command))


def _quoted(word: str) -> str:
    return word if word and not set(word) - _PLAIN else json.dumps(word, ensure_ascii=False)


def _asked(url: str) -> str:
    return f"asks {url}" if url else ""


_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-")
