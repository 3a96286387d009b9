"""Frozen values of the policy: what `agents.yaml`, the roles and the flows say. Durations are seconds, 0 = no limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:  # `status` needs no prices
    from octopoid.prices import Price


class Check(NamedTuple):
    """One of the project's own commands. A `run` of one string is run by `sh -c` as the user wrote it."""

    name: str
    run: str | tuple[str, ...]
    timeout: float = 1200.0


class Limits(NamedTuple):
    """Caps. `attempts`: charged failures of a role; `rounds`: refusals by any gate; money in US dollars, 0 = none.

    `usd_per_role`: of a role in a day. `usd_unknown`: what an attempt counts whose cost is not known. `handoffs`: of
    one task, from role to role. `depth`, `subtasks`: of breakdowns. `proposals`: open ones at once. `wip`: at most so
    many tasks at once with this role at work, or in this folder.
    """

    attempts: int = 3
    rounds: int = 3
    usd_per_task: float = 0.0
    usd_per_day: float = 0.0
    max_provisional: int = 10
    handoffs: int = 6
    depth: int = 2
    subtasks: int = 20
    proposals: int = 10
    wip: Mapping[str, int] = {}
    usd_per_role: Mapping[str, float] = {}
    usd_unknown: float = 1.0


class Worktrees(NamedTuple):
    """How a task's worktree is made. `git_credentials`: `setup` may use those that the user has for git."""

    dir: str = ""
    setup: str | tuple[str, ...] = ""
    setup_timeout: float = 900.0
    reuse: bool = True
    git_credentials: bool = False


class Sandbox(NamedTuple):
    """How the programs are shut in that run code of an agent's. `mode`: off | on | required | bwrap | sandbox-exec.

    `write`: folders that they may change besides their own; `read`: hidden paths that they may see all the same;
    `hide`: further paths that they do not see. Limits, 0 = none: `memory` (bytes), `cpu` (seconds) and `files` (open
    ones) of one process, `file_size` (bytes) of one file, `processes` at once.
    """

    mode: str = "off"
    network: bool = True
    write: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    hide: tuple[str, ...] = ()
    memory: int = 0
    processes: int = 0
    file_size: int = 0
    files: int = 0
    cpu: float = 0.0


DISK = "disk"
"""The breaker that keeps every agent from starting: there is no room for their work."""

ALL = "all"
"""The word for an agent that plays every role."""


class Agent(NamedTuple):
    """A pool of workers. `roles`: what it plays besides `role`. `pre_check`: exit status 1 = there is nothing to do.

    `base_url`: where its model is asked. `max_tokens`, `max_usd`: of one attempt, 0 = no limit. `context`: tokens of a
    conversation at which its old turns are summarised. `retries`: after the first try, when the model does not answer.
    `credential`: what it pays or logs in with, by name; from its adapter. `git_credentials`: its programs may use those
    that the user has for git.
    """

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
    roles: tuple[str, ...] = ()
    pre_check: str | tuple[str, ...] = ()
    base_url: str = ""
    max_tokens: int = 0
    max_usd: float = 0.0
    context: int = 150_000
    retries: int = 3
    credential: str = ""
    sandbox: Sandbox = Sandbox()
    git_credentials: bool = False

    @property
    def breakers(self) -> tuple[str, ...]:
        """The breakers that keep it from starting: what it pays with, itself, and what all agents need."""
        return tuple(filter(None, (self.credential, f"agent:{self.name}", DISK)))

    def plays(self, role: str) -> bool:
        """May this agent be asked for `role`?"""
        return role == self.role or role in self.roles or ALL in self.roles


class Role(NamedTuple):
    """What an agent is for.

    `produces`: commits | document | verdict | tasks, or any: as it is used (a Claude Code agent). `writes`: may it
    change files. `source`: its file. `artifact`: the document it writes. `inputs`: documents it wants. `plain`: the
    text is no template. `max_turns`, `timeout`: 0 = as the agent says. `proposals`: a person decides about each of its
    tasks. `sandbox`: only what makes that of its agent stricter counts.
    """

    name: str
    template: str
    description: str = ""
    produces: str = "commits"
    writes: bool = True
    tools: tuple[str, ...] = ()
    model: str = ""
    source: str = ""
    artifact: str = ""
    inputs: tuple[str, ...] = ()
    max_turns: int = 0
    timeout: float = 0.0
    plain: bool = False
    proposals: bool = False
    sandbox: Sandbox = Sandbox()


class Stage(NamedTuple):
    """One stage of a flow: its name, the role that does it, and what it hands on.

    `artifact`: the name of the document (`produces: document` or `verdict`). `needs`: documents of earlier stages.
    `approval`: a person says yes before the task goes on. `commit`: the path at which the document is committed.
    `run`, without a role: `reproduce`, the task's commands must fail before; `branch`, take up the project's branch.
    """

    name: str
    role: str
    produces: str = "commits"
    artifact: str = ""
    needs: tuple[str, ...] = ()
    approval: bool = False
    commit: str = ""
    run: str = ""


class Gate(NamedTuple):
    """What must say yes: `checks`, `human` or a role. One that is not `required` is asked and shown, no more."""

    name: str
    required: bool = True


class Follow(NamedTuple):
    """A task that is made when work lands. `title` and `body` may contain `{title}` and `{id}` of what landed."""

    title: str
    role: str = ""
    flow: str = "quick"
    body: str = ""


class Flow(NamedTuple):
    """The stages a task goes through, its gates, and how it lands (merge | squash | rebase | none).

    `gates`: groups one after the other; the gates of one group are asked at the same time. `rounds`: 0 = as `limits`.
    `conflicts`: the role that resolves conflicts, "" = the one that did the work. `after`: what follows after landing.
    `lacks`: roles for which there is no agent, so that the flow cannot be used. `source`: its file.
    """

    name: str
    stages: tuple[Stage, ...]
    gates: tuple[tuple[Gate, ...], ...]
    land: str
    description: str = ""
    rounds: int = 0
    conflicts: str = ""
    after: tuple[Follow, ...] = ()
    lacks: tuple[str, ...] = ()
    source: str = "built-in"


class Schedule(NamedTuple):
    """Standing work: at the times of `cron` (local time) a task is made, from a template or of a title alone.

    `max_open`: not while so many of its tasks are open. `pre_check`: exit status 1 = there is nothing to do.
    """

    name: str
    cron: str
    template: str = ""
    title: str = ""
    role: str = ""
    flow: str = ""
    pre_check: str | tuple[str, ...] = ()
    max_open: int = 1


class Config(NamedTuple):
    """The whole policy. `digest` changes when any file it was read from changes. `prices`: the user's own, by model.

    `sandbox`: of checks, of setup, and of agents that say nothing else.
    """

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
    schedule: Mapping[str, Schedule] = {}
    prices: Mapping[str, Price] = {}
    sandbox: Sandbox = Sandbox()
