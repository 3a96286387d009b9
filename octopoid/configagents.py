"""The agents of agents.yaml, and its schedules: who works, and what begins without a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from octopoid.adapters import ADAPTERS
from octopoid.adapters.base import credential
from octopoid.configkeys import AGENT, SCHEDULE, WIP_FOLDERS
from octopoid.configread import NAME, Reader, fields, listed
from octopoid.configroles import Roles
from octopoid.configsandbox import laid_over
from octopoid.hints import nearest
from octopoid.layout import Layout
from octopoid.settings import Agent, Sandbox, Schedule
from octopoid.yamltext import Node

TEMPLATES = Path(__file__).parent / "templates"
FIRST_ROLE = "implementer"
"""What an agent for all roles is first, where its name is no role's."""


def agents(reader: Reader, node: Node, roles: Roles, sandbox: Sandbox = Sandbox()) -> dict[str, Agent]:
    """The pools of workers; `node` is the whole file. `sandbox`: of those that say nothing else."""
    found: dict[str, Agent] = {}
    pools = fields(node).get("agents")
    if pools is None or pools.value is None:
        return found  # reported as a missing key, or one without a value
    named = reader.mapping(pools, "agents")
    if not named and isinstance(pools.value, dict):
        reader.complain(node.keys["agents"], "there are no agents, so nothing could ever be done", "add one")
    for name, one in named.items():
        place = pools.keys[name]
        if not NAME.match(name):
            reader.complain(place, "that is not a name for an agent", "use a-z, 0-9 and -, up to 64 characters")
        found[name] = _agent(reader, name, one, place, roles, sandbox)
    _somebody_works(reader, node, found, roles)
    return found


def _agent(reader: Reader, name: str, node: Node, place: tuple[int, int], roles: Roles, sandbox: Sandbox) -> Agent:
    where = f"agents.{name}"
    if node.value is None:
        reader.complain(place, f"{where} has no keys", "say at least which `adapter` it uses")
        return Agent(name, "", "")
    values: dict[str, Any] = reader.section(node, AGENT, where, place)
    first, *rest = _plays(reader, name, node, values, place, roles) or ("",)
    adapter = values.pop("adapter")
    if adapter is not None:
        _adapter(reader, where, adapter, node, place)
    box = laid_over(sandbox, values.pop("sandbox"))
    found = Agent(name, first, adapter or "", roles=tuple(rest), sandbox=box, **values)
    return found._replace(credential=credential(ADAPTERS[adapter].facts, found)) if adapter in ADAPTERS else found


def _plays(
    reader: Reader, name: str, node: Node, values: dict[str, Any], place: tuple[int, int], roles: Roles
) -> tuple[str, ...]:
    """What the agent is for, the most important first. Takes `role` and `roles` out of `values`."""
    said = fields(node)
    role, more = values.pop("role"), values.pop("roles")
    if role and role not in roles.names:
        _unknown(reader, said["role"], role, roles)
    for one in said["roles"].value if "roles" in said and isinstance(said["roles"].value, list) else ():
        if one.value in more and one.value not in roles.names:
            _unknown(reader, one, str(one.value), roles)
    if more == ("all",):
        own = name if name in roles.names else FIRST_ROLE
        return (role or own, *more)
    if role or more:
        return tuple(dict.fromkeys((role, *more) if role else more))
    if "role" in said or "roles" in said or not isinstance(node.value, dict):
        if "roles" in said and said["roles"].value == []:
            reader.complain(said["roles"], "`roles` is empty", f"roles: {listed(roles.names)}, or the word `all`")
        return ()
    if name not in roles.names:
        reader.complain(place, f"agents.{name} has no `role`", f"roles: {listed(roles.names)}")
        return ()
    return (name,)


def _unknown(reader: Reader, node: Node, role: str, roles: Roles) -> None:
    hint = "; ".join(filter(None, (nearest(role, roles.names), f"a role is a file, roles/{role}.md")))
    reader.complain(node, f"no file defines the role `{role}`", hint.strip())


def _adapter(reader: Reader, where: str, adapter: str, node: Node, place: tuple[int, int]) -> None:
    """The adapter is one of this version, has the key that it needs, and none that it would ignore."""
    said = fields(node)
    if adapter not in ADAPTERS:
        reader.complain(said["adapter"], f"unknown adapter `{adapter}`", nearest(adapter, ADAPTERS))
        return
    needed, useless = ADAPTERS[adapter].facts.needs, ADAPTERS[adapter].facts.ignores
    if needed and needed not in said:
        reader.complain(place, f"{where} has no `{needed}`, which the adapter `{adapter}` needs", f"add `{needed}:`")
    for key in useless:
        if key in said:
            hint = _INSTEAD.get((key, adapter)) or _INSTEAD.get((key, "")) or "remove it"
            reader.complain(node.keys[key], f"`{key}` means nothing to the adapter `{adapter}`", hint)


_INSTEAD = {
    ("base_url", "claude"): "name ANTHROPIC_BASE_URL in its `env`, and set it where `octopoid run` is started",
    ("base_url", "codex"): "write args: [-c, openai_base_url=…]",
    ("max_usd", ""): "its program cannot end itself; `limits: {usd_per_task: …}` stops before the next attempt",
}
"""What does it, by key and adapter, where another key or place does."""


def _somebody_works(reader: Reader, node: Node, found: Mapping[str, Agent], roles: Roles) -> None:
    """At least one agent must be able to do a task; reviewers alone would wait for ever."""
    played = {role for agent in found.values() for role in (agent.role, *agent.roles)}
    known = [None if role == "all" else roles.get(role) for role in sorted(played)]
    if known and all(role is not None and role.produces == "verdict" for role in known):
        message = "no agent has a role that produces commits, documents or tasks, so no task could ever be done"
        reader.complain(node.keys["agents"], message, "add an agent with `role: implementer`")


def check_wip(reader: Reader, node: Node | None, wip: Mapping[str, int], roles: Roles) -> None:
    """Every word under `limits.wip` is a role or a folder."""
    for word in wip:
        if node is not None and word not in roles.names and word not in WIP_FOLDERS:
            hint = nearest(word, (*WIP_FOLDERS, *roles.names))
            reader.complain(node.keys[word], f"`{word}` is neither a role nor one of {listed(WIP_FOLDERS)}", hint)


def check_money(reader: Reader, node: Node | None, amounts: Mapping[str, float], roles: Roles) -> None:
    """Every word under `limits.usd_per_role` is a role."""
    for word in amounts:
        if node is not None and word not in roles.names:
            hint = "; ".join(filter(None, (nearest(word, roles.names), f"a role is a file, roles/{word}.md")))
            reader.complain(node.keys[word], f"no file defines the role `{word}`", hint)


# --- schedules ---------------------------------------------------------------------------------------------------


class Places(NamedTuple):
    """What a schedule may name: the home's templates (None: not to be checked), roles, flows."""

    templates: tuple[str, ...] | None
    roles: frozenset[str]
    flows: Iterable[str]


def schedules(reader: Reader, node: Node, known: Places) -> dict[str, Schedule]:
    """The standing work. What `cron` says is not looked at here: see `check_crons`."""
    found: dict[str, Schedule] = {}
    named = reader.mapping(node, "schedule")
    for name, one in named.items():
        place = node.keys[name]
        where = f"schedule.{name}"
        if not NAME.match(name):
            reader.complain(place, "that is not a name for a schedule", "use a-z, 0-9 and -, up to 64 characters")
        if one.value is None:
            reader.complain(place, f"{where} has no keys", 'write {cron: "0 3 * * *", title: …}')
            continue
        found[name] = Schedule(name, **reader.section(one, SCHEDULE, where, place))
        if isinstance(one.value, dict):
            _schedule(reader, found[name], one, place, known)
    return found


def _schedule(reader: Reader, found: Schedule, node: Node, place: tuple[int, int], known: Places) -> None:
    said = fields(node)
    where = f"schedule.{found.name}"
    if "template" in said and "title" in said:
        reader.complain(node.keys["title"], f"{where} has both `template` and `title`", "keep one of them")
    elif "template" not in said and "title" not in said:
        reader.complain(place, f"{where} has neither `template` nor `title`", "add one of them: it is the task")
    sorts: tuple[tuple[str, Iterable[str] | None, str], ...] = (
        ("template", known.templates, "a template is a file, templates/{}.md"),
        ("role", known.roles, "a role is a file, roles/{}.md"),
        ("flow", known.flows, "a flow is a file, flows/{}.yaml"),
    )
    for key, names, file in sorts:
        word = getattr(found, key)
        if word and names is not None and word not in names:
            hint = "; ".join(filter(None, (nearest(word, names), file.format(word))))
            reader.complain(said[key], f"there is no {key} `{word}`", hint)


def check_crons(reader: Reader, node: Node, found: Mapping[str, Schedule]) -> None:
    """Every `cron` names times that come. The library is loaded only where there is a schedule."""
    for schedule in found.values():
        wrong = _cron_problem(schedule.cron) if schedule.cron else ""
        if wrong:
            place = fields(fields(node)[schedule.name])["cron"]
            hint = 'minute, hour, day of the month, month, day of the week, like "0 3 * * MON-FRI"'
            reader.complain(place, f"`cron`: {wrong}", hint)


def _cron_problem(cron: str) -> str:
    from cronsim import CronSim, CronSimError

    try:
        next(CronSim(cron, datetime(2026, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        return str(error)[:1].lower() + str(error)[1:]
    except StopIteration:
        return "no such time ever comes"
    return ""


def templates(home: Path) -> tuple[str, ...] | None:
    """The names of the task templates; None in a copy of the policy, which has none of the user's."""
    if home == Layout(home.parent.parent.parent).last_good:
        return None
    folders = (TEMPLATES, home / "templates")
    return tuple(sorted(path.stem for folder in folders for path in folder.glob("*.md")))
