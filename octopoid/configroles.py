"""The roles that a policy can name: the user's files, the built-in ones, and Claude Code's agents.

The built-in ones are read when somebody asks for them, Claude Code's agents when somebody names them: there are many of
both, and most are never used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

from octopoid import prompts, regular, rolefiles
from octopoid.configread import invalid
from octopoid.errors import Invalid
from octopoid.model import Problem
from octopoid.settings import ALL, Agent, Role

V = TypeVar("V")

CLAUDE = ".claude/agents"


class Lazily(Mapping[str, V]):
    """Values that are there, and further names whose values are read when they are asked for."""

    def __init__(self, there: dict[str, V], names: Iterable[str], read: Callable[[str], V]) -> None:
        self._there = there
        self._names = tuple(dict.fromkeys((*there, *names)))
        self._read = read

    def __getitem__(self, name: str) -> V:
        if name not in self._there:
            if name not in self._names:
                raise KeyError(name)
            self._there[name] = self._read(name)
        return self._there[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Roles:
    """What the role files say. `names`: all that can be named, be they valid or not; `problems`: what is wrong."""

    def __init__(self, home: Path, templates: bool) -> None:
        """`templates`: also check the users' prompts, for which the template language is loaded."""
        self.problems: list[Problem] = []
        self.read: list[tuple[str, bytes]] = []
        self._known: dict[str, Role] = {}
        self._templates = templates
        files = names(home, "roles", ".md")
        self._own = frozenset(Path(name).stem for name in files)
        for name in files:
            self._take(home / name, name, rolefiles.parse)
        self._built_in = frozenset(rolefiles.builtin_names()) - self._own
        self._claude = _claude_agents(home, self._own | self._built_in)
        self.names = self._own | self._built_in | self._claude.keys()

    def get(self, name: str) -> Role | None:
        """The role; None where there is no such role, or its file is wrong, which is reported then."""
        if name in self._built_in and name not in self._known:
            self._known[name] = rolefiles.builtin(name)[0]
        elif name in self._claude and name not in self._known:
            path = self._claude.pop(name)
            self._take(path, f"{CLAUDE}/{path.name}", _claude_role)
        return self._known.get(name)

    def judges(self) -> list[str]:
        """The names of roles that give verdicts, for hints."""
        return [name for name, role in self.all().items() if role.produces == "verdict"]

    def all(self) -> Mapping[str, Role]:
        """Every role but those of Claude Code that nobody named."""
        return Lazily(self._known, sorted(self._built_in), lambda name: rolefiles.builtin(name)[0])

    def offer_claude(self) -> None:
        """Take in Claude Code's agents that nobody named and that are right, for an agent of every role."""
        wrong = len(self.problems)
        for name in tuple(self._claude):
            self.get(name)
        del self.problems[wrong:]

    def _take(self, path: Path, name: str, parse: Callable[[Path, bytes, str], Role]) -> None:
        try:
            data = regular.read(path, follow=True)
            role = parse(path, data, str(path))
        except Invalid as error:
            self.problems += error.problems
            return
        except OSError as error:
            self.problems.append(unreadable(path, error))
            return
        self.problems += prompts.check(role) if self._templates and not role.plain else ()
        self._known[role.name] = role
        self.read.append((name, data))


class Cast(NamedTuple):
    """Who is there to be given work. `agents`: None where agents.yaml does not say."""

    roles: Roles
    agents: Mapping[str, Agent] | None

    def plays(self, role: str) -> bool:
        """Is there an agent for `role`? Yes, where nobody knows."""
        return self.agents is None or any(agent.plays(role) for agent in self.agents.values())

    def plays_all(self) -> bool:
        """Is there an agent for every role?"""
        return any(ALL in agent.roles for agent in (self.agents or {}).values())


def names(home: Path, folder: str, *endings: str) -> list[str]:
    """The files of a policy folder, relative to `home`, sorted. Dotfiles and the like are an editor's."""
    try:
        found = os.listdir(home / folder)
    except OSError:
        return []
    return [f"{folder}/{name}" for name in sorted(found) if name.endswith(endings) and name[0] not in ".#~"]


def claude_folder(home: Path) -> str:
    """Where Claude Code's agents are, relative to `home`: beside it.

    A copy of the policy (`run/last-good`) has its own copy of them beside it, since `sources` names them this way.
    """
    return os.path.join(os.pardir, CLAUDE) if (home.parent / CLAUDE).is_dir() else ""  # noqa: PTH118 - a name


def unreadable(path: Path, error: OSError) -> Problem:
    """The problem that `path` cannot be read."""
    if isinstance(error, FileNotFoundError):
        missing = "`octopoid init` writes one" if path.name == "agents.yaml" else ""
        return Problem(path, 0, 0, "the file is missing", missing)
    return Problem(path, 0, 0, f"cannot be read: {error.strerror}")


def _claude_agents(home: Path, taken: frozenset[str]) -> dict[str, Path]:
    """Claude Code's agents by name, but those whose name is taken."""
    if not claude_folder(home):
        return {}
    found = dict(rolefiles.claude_agents(home.parent / CLAUDE))
    return {name: path for name, path in found.items() if name not in taken}


def _claude_role(path: Path, data: bytes, source: str) -> Role:
    role = rolefiles.claude_agent(path, data)
    if role.name in ("", ALL):
        raise invalid(Problem(path, 0, 0, "that is not a name for a role", "give it another `name`"))
    return role._replace(source=source)
