"""`agents.yaml` and the roles → Config. Strict: all that is wrong is reported at once, with file, line and column.

A home is `.octopoid`, or `run/last-good`, which has the same shape.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from octopoid import prompts, rolefiles
from octopoid.configkeys import (
    ADAPTER_KEYS,
    AGENT,
    CHECK,
    DEFAULT_GATES,
    GATE_WORDS,
    LAND,
    LATER_ADAPTERS,
    LIMITS,
    NOTIFY,
    TOP,
    WORKTREES,
)
from octopoid.configread import NAME, Reader, invalid, read_text
from octopoid.configtemplate import template
from octopoid.errors import Invalid
from octopoid.hints import nearest
from octopoid.model import Problem
from octopoid.settings import Agent, Check, Config, Flow, Limits, Role, Stage, Worktrees
from octopoid.yamltext import Node
from octopoid.yamltext import load as load_yaml

__all__ = ["load", "sources", "template"]

FILE = "agents.yaml"
IMPLEMENT = Stage("implement", "implementer")
"""The one stage of the built-in flow `default`."""

_HOW_TO_CHECK = 'write each as a command, or {name: tests, run: "pytest -q", timeout: 20m}'


class _Roles(NamedTuple):
    """What the role files say. `names`: those that are defined, be they valid or not."""

    roles: dict[str, Role]
    names: frozenset[str]
    problems: tuple[Problem, ...]
    read: tuple[tuple[str, bytes], ...]


def load(home: Path, *, templates: bool = True) -> Config:
    """The policy in `home`. Raises Invalid with every Problem of every file.

    `templates=False` leaves the users' prompt templates unchecked: for readers of the queue, to whom the template
    language would cost more than all the rest.
    """
    path = home / FILE
    found = _read_roles(home, templates)
    reader = Reader(path)
    reader.problems += _flow_problems(home)
    try:
        data = path.read_bytes()
        node = load_yaml(read_text(path, data), path)
    except Invalid as error:
        raise invalid(*error.problems, *reader.problems, *found.problems) from None
    except OSError as error:
        raise invalid(_unreadable(path, error), *reader.problems, *found.problems) from None
    config = _config(reader, node, found)
    problems = (*sorted(reader.problems, key=lambda one: (one.path != path, one.line, one.column)), *found.problems)
    if problems:
        raise invalid(*problems)
    return config._replace(digest=_digest(((FILE, data), *found.read)))


def sources(home: Path) -> tuple[tuple[str, int, int], ...]:
    """Name (relative to `home`), mtime (ns) and size of every file that `load` reads there: to see a change."""
    found = []
    for name in (FILE, *_names(home, "roles", ".md"), *_names(home, "flows", ".yaml", ".yml")):
        try:
            stat = os.stat(home / name)  # noqa: PTH116 - this runs in each look of the daemon
        except OSError:
            continue
        found.append((name, stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def _names(home: Path, folder: str, *endings: str) -> list[str]:
    """The files of a policy folder, sorted. Dotfiles and the like are an editor's."""
    try:
        names = os.listdir(home / folder)
    except OSError:
        return []
    return [f"{folder}/{name}" for name in sorted(names) if name.endswith(endings) and name[0] not in ".#~"]


def _digest(read: tuple[tuple[str, bytes], ...]) -> str:
    digest = hashlib.sha256()
    for name, data in sorted(read):
        digest.update(f"{name}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def _flow_problems(home: Path) -> list[Problem]:
    hint = "move it out of the folder `flows`; `gates` and `land` in agents.yaml hold for all tasks"
    return [
        Problem(home / name, 0, 0, "flows are not supported by this version", hint)
        for name in _names(home, "flows", ".yaml", ".yml")
    ]


def _unreadable(path: Path, error: OSError) -> Problem:
    if isinstance(error, FileNotFoundError):
        return Problem(path, 0, 0, "the file is missing", "`octopoid init` writes one" if path.name == FILE else "")
    return Problem(path, 0, 0, f"cannot be read: {error.strerror}")


def _read_roles(home: Path, templates: bool) -> _Roles:
    """The user's roles, and the built-in ones that no file of theirs replaces."""
    roles: dict[str, Role] = {}
    problems: list[Problem] = []
    read: list[tuple[str, bytes]] = []
    files = _names(home, "roles", ".md")
    own = {Path(name).stem for name in files}
    for name in files:
        path = home / name
        try:
            data = path.read_bytes()
            role = rolefiles.parse(path, data, str(path))
        except Invalid as error:
            problems += error.problems
            continue
        except OSError as error:
            problems.append(_unreadable(path, error))
            continue
        problems += prompts.check(role) if templates else ()
        roles[role.name] = role
        read.append((name, data))
    for name in rolefiles.builtin_names():
        if name not in own:
            roles[name], data = rolefiles.builtin(name)
            read.append((f"built-in/{name}.md", data))
    return _Roles(roles, frozenset(own | roles.keys()), tuple(problems), tuple(read))


def _config(reader: Reader, node: Node, found: _Roles) -> Config:
    """What the file says; with problems in `reader` it is not to be used."""
    values = reader.section(node, TOP, "")
    fields = {name: one for name, one in _fields(node).items() if one.value is not None}
    places = node.keys
    sub = {
        name: reader.section(fields.get(name, Node({}, 1, 1)), keys, name, places.get(name))
        for name, keys in (("land", LAND), ("limits", LIMITS), ("worktrees", WORKTREES), ("notify", NOTIFY))
    }
    checks = _checks(reader, fields["checks"]) if "checks" in fields else ()
    agents = _agents(reader, node, found)
    gates = _gates(reader, fields["gates"], agents, found) if "gates" in fields else DEFAULT_GATES
    return Config(
        base=values["base"],
        agents=agents,
        roles=found.roles,
        flows={"default": Flow("default", (IMPLEMENT,), gates, sub["land"]["mode"])},
        checks=checks,
        limits=Limits(**sub["limits"]),
        worktrees=Worktrees(**sub["worktrees"]),
        max_agents=values["max_agents"],
        max_checks=values["max_checks"],
        grace=values["grace"],
        notify=sub["notify"]["command"],
    )


def _fields(node: Node) -> dict[str, Node]:
    return node.value if isinstance(node.value, dict) else {}


def _items(reader: Reader, node: Node, name: str, hint: str) -> list[Node]:
    if isinstance(node.value, list):
        return node.value
    reader.complain(node, f"`{name}` must be a list", hint)
    return []


# --- checks ------------------------------------------------------------------------------------------------------


def _checks(reader: Reader, node: Node) -> tuple[Check, ...]:
    checks: list[Check] = []
    for one in _items(reader, node, "checks", _HOW_TO_CHECK):
        if isinstance(one.value, str):
            check = Check(_check_name(one.value, {check.name for check in checks}), one.value)
            if reader.command(one, "checks") is None:
                continue
        elif isinstance(one.value, dict):
            values = reader.section(one, CHECK, "checks[]", (one.line, one.column))
            check = Check(**values)
        else:
            reader.complain(one, "a check must be a command", _HOW_TO_CHECK)
            continue
        if check.name is not None and any(check.name == other.name for other in checks):
            place = _fields(one).get("name", one)
            reader.complain(place, f"two checks are called `{check.name}`", "give each a name of its own")
        checks.append(check)
    return tuple(checks)


def _check_name(run: str, taken: set[str]) -> str:
    """A name for a check that has none: its command in short."""
    words = re.findall(r"[a-z0-9]+", run.lower())
    name = "-".join(words)[:30].strip("-") or "check"
    number = 2
    while name in taken:
        name = f"{name.removesuffix(f'-{number - 1}')}-{number}"
        number += 1
    return name


# --- agents ------------------------------------------------------------------------------------------------------


def _agents(reader: Reader, node: Node, found: _Roles) -> dict[str, Agent]:
    agents: dict[str, Agent] = {}
    pools = _fields(node).get("agents")
    if pools is None or pools.value is None:
        return agents  # reported as a missing key, or one without a value
    fields = reader.mapping(pools, "agents")
    if not fields and isinstance(pools.value, dict):
        reader.complain(node.keys["agents"], "there are no agents, so nothing could ever be done", "add one")
    for name, one in fields.items():
        place = pools.keys[name]
        if not NAME.match(name):
            reader.complain(place, "that is not a name for an agent", "use a-z, 0-9 and -, up to 64 characters")
        agents[name] = _agent(reader, name, one, place, found)
    _somebody_works(reader, node, agents, found)
    return agents


def _agent(reader: Reader, name: str, node: Node, place: tuple[int, int], found: _Roles) -> Agent:
    where = f"agents.{name}"
    if node.value is None:
        reader.complain(place, f"{where} has no keys", "say at least which `adapter` it uses")
        return Agent(name, "", "")
    values: dict[str, Any] = reader.section(node, AGENT, where, place)
    fields = _fields(node)
    role = values.pop("role")
    if "role" not in fields and isinstance(node.value, dict):
        role = name if name in found.names else ""
        if not role:
            reader.complain(place, f"{where} has no `role`", f"roles: {', '.join(sorted(found.names))}")
    elif role and role not in found.names:
        hint = f"{nearest(role, found.names)} a role is a file, roles/{role}.md"
        reader.complain(fields["role"], f"no file defines the role `{role}`", hint.strip())
    adapter = values.pop("adapter")
    if adapter is not None:
        _adapter(reader, where, adapter, node, place)
    return Agent(name, role, adapter or "", **values)


def _adapter(reader: Reader, where: str, adapter: str, node: Node, place: tuple[int, int]) -> None:
    """The adapter is one of this version, has the key that it needs, and none that it would ignore."""
    fields = _fields(node)
    available = f"available: {', '.join(ADAPTER_KEYS)}"
    if adapter not in ADAPTER_KEYS:
        if adapter in LATER_ADAPTERS:
            message, hint = f"adapter `{adapter}` is not available in this version", available
        else:
            message, hint = f"unknown adapter `{adapter}`", nearest(adapter, ADAPTER_KEYS)
        reader.complain(fields["adapter"], message, hint)
        return
    needed, useless = ADAPTER_KEYS[adapter]
    if needed and needed not in fields:
        reader.complain(place, f"{where} has no `{needed}`, which the adapter `{adapter}` needs", f"add `{needed}:`")
    for key in useless:
        if key in fields:
            reader.complain(node.keys[key], f"`{key}` means nothing to the adapter `{adapter}`", "remove it")


def _somebody_works(reader: Reader, node: Node, agents: dict[str, Agent], found: _Roles) -> None:
    """At least one agent must be able to do a task; reviewers alone would wait for ever."""
    known = [found.roles.get(agent.role) for agent in agents.values()]
    if known and all(role is not None and role.produces != "commits" for role in known):
        message = "no agent has a role that produces commits, so no task could ever be done"
        reader.complain(node.keys["agents"], message, "add an agent with `role: implementer`")


# --- gates -------------------------------------------------------------------------------------------------------


def _gates(reader: Reader, node: Node, agents: dict[str, Agent], found: _Roles) -> tuple[str, ...]:
    """Words that somebody can answer, each once."""
    gates: list[str] = []
    for one in _items(reader, node, "gates", "write [checks, human]"):
        gate = one.value
        if not isinstance(gate, str):
            reader.complain(one, "a gate must be a word", "`checks`, `human` or the name of a role")
        elif gate in gates:
            reader.complain(one, f"the gate `{gate}` is there twice", "keep one of them")
        else:
            gates.append(gate)
            if gate not in GATE_WORDS:
                _role_gate(reader, one, gate, agents, found)
    return tuple(gates)


def _role_gate(reader: Reader, node: Node, gate: str, agents: dict[str, Agent], found: _Roles) -> None:
    verdicts = [role.name for role in found.roles.values() if role.produces == "verdict"]
    role = found.roles.get(gate)
    if gate not in found.names:
        reader.complain(node, f"unknown gate `{gate}`", nearest(gate, (*GATE_WORDS, *verdicts)))
    elif role is not None and role.produces != "verdict":
        reader.complain(node, f"the role `{gate}` produces commits, not a verdict", f"roles that do: {_list(verdicts)}")
    elif not any(agent.role == gate for agent in agents.values()):
        message = f"nobody can answer the gate `{gate}`: no agent has that role"
        reader.complain(node, message, f"add an agent with `role: {gate}`, or take the gate out")


def _list(words: list[str]) -> str:
    return ", ".join(sorted(words)) or "none"
