"""`agents.yaml`, roles and flows → Config. Strict: all that is wrong is reported at once, with file, line and column.

A home is `.octopoid`, or `run/last-good`, which has the same shape.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from octopoid import configgates, flowfiles, regular
from octopoid.configagents import Places, agents, check_crons, check_money, check_wip, schedules
from octopoid.configagents import templates as task_templates
from octopoid.configkeys import CHECK, DEFAULT_GATES, DEFAULT_LAND, LAND, LIMITS, NOTIFY, PRICE, TOP, WORKTREES
from octopoid.configread import Reader, fields, invalid, read_text
from octopoid.configroles import Cast, Roles, claude_folder, names, unreadable
from octopoid.configsandbox import laid_over
from octopoid.configtemplate import template
from octopoid.errors import Invalid
from octopoid.flowfiles import Defaults, Found
from octopoid.model import Problem
from octopoid.prices import OWN, Price
from octopoid.settings import Check, Config, Gate, Limits, Sandbox, Schedule, Stage, Worktrees
from octopoid.yamltext import Node
from octopoid.yamltext import load as load_yaml

__all__ = ["load", "sources", "template"]

FILE = "agents.yaml"
IMPLEMENT = Stage("implement", "implementer")
"""The one stage of the built-in flow `default`."""

_DEFAULT_GATES = tuple((Gate(name),) for name in DEFAULT_GATES)
_HOW_TO_CHECK = 'write each as a command, or {name: tests, run: "pytest -q", timeout: 20m}'


def load(home: Path, *, templates: bool = True) -> Config:
    """The policy in `home`. Raises Invalid with every Problem of every file.

    `templates=False` leaves the users' prompt templates and the times of schedules unchecked: for readers of the
    queue, to whom the template language would cost more than all the rest.
    """
    path = home / FILE
    roles = Roles(home, templates)
    reader = Reader(path)
    try:
        data = regular.read(path, follow=True)
        node = load_yaml(read_text(path, data), path)
    except Invalid as error:
        raise invalid(*error.problems, *_others(home, roles)) from None
    except OSError as error:
        raise invalid(unreadable(path, error), *_others(home, roles)) from None
    config, flows = _config(reader, node, home, roles, templates)
    problems = (
        *sorted(reader.problems, key=lambda one: (one.line, one.column)),
        *flows.problems,
        *roles.problems,
    )
    if problems:
        raise invalid(*problems)
    return config._replace(digest=_digest(((FILE, data), *flows.read, *roles.read)))


def sources(home: Path) -> tuple[tuple[str, int, int], ...]:
    """Name (relative to `home`), mtime (ns) and size of every file that `load` may read there: to see a change."""
    found = []
    claude = claude_folder(home)
    agents = names(home, claude, ".md") if claude else []
    for name in (FILE, *names(home, "roles", ".md"), *names(home, "flows", ".yaml", ".yml"), *agents):
        try:
            stat = os.stat(home / name)  # noqa: PTH116 - this runs in each look of the daemon
        except OSError:
            continue
        found.append((name, stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def _digest(read: tuple[tuple[str, bytes], ...]) -> str:
    digest = hashlib.sha256()
    for name, data in sorted(read):
        digest.update(f"{name}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def _others(home: Path, roles: Roles) -> tuple[Problem, ...]:
    """What is wrong in the other files where agents.yaml says nothing."""
    flows = flowfiles.read_all(home, Cast(roles, None), Defaults((), DEFAULT_LAND))
    return (*flows.problems, *roles.problems)


def _config(reader: Reader, node: Node, home: Path, roles: Roles, templates: bool) -> tuple[Config, Found]:
    """What the file says; with problems in `reader` it is not to be used."""
    values = reader.section(node, TOP, "")
    said = {name: one for name, one in fields(node).items() if one.value is not None}
    places = node.keys
    sub = {
        name: reader.section(said.get(name, Node({}, 1, 1)), keys, name, places.get(name))
        for name, keys in (("land", LAND), ("limits", LIMITS), ("worktrees", WORKTREES), ("notify", NOTIFY))
    }
    limits = fields(said["limits"]) if "limits" in said else {}
    check_wip(reader, limits.get("wip"), sub["limits"]["wip"], roles)
    check_money(reader, limits.get("usd_per_role"), sub["limits"]["usd_per_role"], roles)
    sandbox = laid_over(Sandbox(), values["sandbox"])
    cast = Cast(roles, agents(reader, node, roles, sandbox))
    if templates and cast.plays_all():
        roles.offer_claude()
    gates = configgates.gates(reader, said["gates"], cast) if "gates" in said else _DEFAULT_GATES
    flows = flowfiles.read_all(home, cast, Defaults(gates, sub["land"]["mode"]))
    return Config(
        base=values["base"],
        agents=cast.agents or {},
        roles=roles.all(),
        flows=flows.flows,
        checks=_checks(reader, said["checks"]) if "checks" in said else (),
        limits=Limits(**sub["limits"]),
        worktrees=Worktrees(**sub["worktrees"]),
        max_agents=values["max_agents"],
        max_checks=values["max_checks"],
        grace=values["grace"],
        notify=sub["notify"]["command"],
        schedule=_schedule(reader, said["schedule"], home, flows, roles, templates) if "schedule" in said else {},
        prices=_prices(reader, said["prices"]) if "prices" in said else {},
        sandbox=sandbox,
    ), flows


def _schedule(
    reader: Reader, node: Node, home: Path, flows: Found, roles: Roles, templates: bool
) -> dict[str, Schedule]:
    found = schedules(reader, node, Places(task_templates(home), roles.names, flows.names))
    for schedule in found.values():
        roles.get(schedule.role)
    if templates:
        check_crons(reader, node, found)
    return found


def _prices(reader: Reader, node: Node) -> dict[str, Price]:
    """By model, as its program calls it."""
    found: dict[str, Price] = {}
    for name, one in reader.mapping(node, "prices").items():
        if one.value is None:
            reader.complain(node.keys[name], f"prices.{name} has no keys", "write {input: 1.25, output: 10}")
            continue
        said = reader.section(one, PRICE, f"prices.{name}", node.keys[name])
        read, output, cached = said["input"], said["output"], said["cached"]
        if read is not None and output is not None:
            found[name] = Price(read, output, read, read if cached is None else cached, day=OWN)
    return found


# --- checks ------------------------------------------------------------------------------------------------------


def _checks(reader: Reader, node: Node) -> tuple[Check, ...]:
    checks: list[Check] = []
    for one in reader.items(node, "checks", _HOW_TO_CHECK):
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
            place = fields(one).get("name", one)
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
