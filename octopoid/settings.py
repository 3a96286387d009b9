"""Frozen values of the policy: what `agents.yaml`, the roles and the flows say. Durations are seconds, 0 = no limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Check(NamedTuple):
    """One of the project's own commands. A `run` of one string is run by `sh -c` as the user wrote it."""

    name: str
    run: str | tuple[str, ...]
    timeout: float = 1200.0


class Limits(NamedTuple):
    """Caps. `attempts`: charged failures of a role; `rounds`: refusals by any gate; money in US dollars, 0 = none."""

    attempts: int = 3
    rounds: int = 3
    usd_per_task: float = 0.0
    usd_per_day: float = 0.0
    max_provisional: int = 10


class Worktrees(NamedTuple):
    """How a task's worktree is made."""

    dir: str = ""
    setup: str | tuple[str, ...] = ""
    setup_timeout: float = 900.0
    reuse: bool = True


class Agent(NamedTuple):
    """A pool of workers."""

    name: str
    role: str
    adapter: str
    instances: int = 1
    model: str = ""
    timeout: float = 2700.0
    silence: float = 0.0
    env: tuple[str, ...] = ()
    command: str | tuple[str, ...] = ()
    script: str = ""
    args: tuple[str, ...] = ()
    max_turns: int = 0


class Role(NamedTuple):
    """What an agent is for. `produces`: commits | verdict. `writes`: may it change files. `source`: its file."""

    name: str
    template: str
    description: str = ""
    produces: str = "commits"
    writes: bool = True
    tools: tuple[str, ...] = ()
    model: str = ""
    source: str = ""


class Stage(NamedTuple):
    """One stage of a flow: its name and the role that does it."""

    name: str
    role: str


class Flow(NamedTuple):
    """The stages a task goes through, its gates in order, and how it lands (merge | squash | rebase | none)."""

    name: str
    stages: tuple[Stage, ...]
    gates: tuple[str, ...]
    land: str


class Config(NamedTuple):
    """The whole policy. `digest` changes when any file it was read from changes."""

    base: str
    agents: Mapping[str, Agent]
    roles: Mapping[str, Role]
    flows: Mapping[str, Flow]
    checks: tuple[Check, ...] = ()
    limits: Limits = Limits()
    worktrees: Worktrees = Worktrees()
    max_agents: int = 4
    max_checks: int = 2
    grace: float = 10.0
    notify: tuple[str, ...] = ()
    digest: str = ""
