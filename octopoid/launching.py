"""Starting things: the entry with its lock and its steps, the claim, then the supervisor (DESIGN §5).

The order makes every crash harmless: an entry without `pid` never started, a claim without one is released.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from octopoid import attempts, durable, lifecycle, process, prompts, store
from octopoid.adapters import ADAPTERS
from octopoid.errors import LostRace
from octopoid.gates import checks_key, role_of
from octopoid.layout import Layout
from octopoid.model import Item, Opening, Task
from octopoid.plans import Base, Projection
from octopoid.settings import Agent, Check, Config
from octopoid.states import State

ENVIRONMENT = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TERM", "TZ", "TMPDIR"),
        *("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"),
        *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"),
        *("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
    }
)
"""What every step gets of the scheduler's environment, with `LC_*`; the rest only when `env:` names it (DESIGN §5)."""


class Site(NamedTuple):
    """Where and with what attempts are started. `env`: the scheduler's own environment."""

    layout: Layout
    config: Config
    env: Mapping[str, str]

    def worktree(self, task: str) -> Path:
        """The worktree of a task."""
        return worktrees_folder(self.layout, self.config) / task


class Started(NamedTuple):
    """A supervisor that was started, for the `attempt`-th try of its role."""

    task: str
    attempt: int
    pid: int


def worktrees_folder(layout: Layout, config: Config) -> Path:
    """Where this root's worktrees are: `.octopoid/worktrees`, or what `worktrees: {dir: …}` says."""
    wanted = config.worktrees.dir
    return (layout.root / Path(wanted).expanduser()) if wanted else layout.home / "worktrees"


def start_attempt(
    site: Site,
    item: Item,
    agent: Agent,
    slot: int,
    base: Base,
    reuse: Path | None,
    now: float,
) -> Started:
    """Claim the task and start `agent` on it. Raises LostRace when the file moved meanwhile: nothing is left behind."""
    task = _task(item)
    flow = site.config.flows[task.flow]
    role = role_of(task, flow)
    opening = Opening(
        kind="attempt",
        at=now,
        role=role,
        agent=agent.name,
        adapter=agent.adapter,
        stage=flow.stages[0].name,
        attempt=item.ledger.tries.get(role, 0) + 1,
        base=base.name,
        base_sha=base.sha or "",
        slot=slot,
    )
    begun = attempts.begin(site.layout, item.id, opening, _files(item), locked=True)
    with _holding(begun):
        lifecycle.claim(site.layout, item.id, begun.number, agent.name, now)
        steps = _attempt_steps(site, item, agent, opening, begun.path, reuse)
        return _start(site, item, opening, begun, steps, agent.env)


def _attempt_steps(
    site: Site, item: Item, agent: Agent, opening: Opening, entry: Path, reuse: Path | None
) -> list[dict[str, Any]]:
    """Make the worktree and prove it, set up, agent, commit what it left."""
    worktree = site.worktree(item.id)
    prompt = _prompt(site, item, opening, entry)
    # A worktree that is gone begins again where the work was, not where the base is.
    steps = [_prepare(site, worktree, item.ledger.candidate or opening.base_sha, reuse, entry)]
    if item.ledger.judged and item.ledger.candidate:
        steps.append(_check_out(site, worktree, item.ledger.candidate))
    steps += _setup(site, worktree)
    steps.append(_agent(site, agent, opening, entry, worktree, prompt))
    collect = _call(
        "commit",
        "collect",
        root=str(site.layout.root),
        worktree=str(worktree),
        base_sha=opening.base_sha,
        facts=str(entry / "facts.json"),
        result=str(entry / "result.json"),
        message=_task(item).title,
        commit=True,
        task=item.id,
        attempt=str(opening.attempt),
    )
    return [*steps, collect]


def start_checks(site: Site, item: Item, checks: tuple[Check, ...], projection: Projection, now: float) -> Started:
    """Run the checks and criteria of a task on the tree that would land."""
    opening = Opening(
        kind="gate",
        at=now,
        gate="checks",
        candidate=item.ledger.candidate,
        onto=projection.onto,
        tree=projection.tree,
        key=checks_key(checks),
        result_sha=projection.result_sha,
        checks=tuple(check.name for check in checks),
    )
    begun = attempts.begin(site.layout, item.id, opening, _files(item), locked=True)
    with _holding(begun):
        worktree = site.worktree(item.id)
        steps = [
            _prepare(site, worktree, projection.result_sha, None, begun.path),
            _check_out(site, worktree, projection.result_sha),
            *_setup(site, worktree),
            *(_step(f"check:{check.name}", _argv(check.run), str(worktree), check.timeout) for check in checks),
        ]
        return _start(site, item, opening, begun, steps, ())


def start_review(site: Site, item: Item, agent: Agent, slot: int, base: Base, now: float) -> Started:
    """Ask a reviewing role about the candidate."""
    opening = Opening(
        kind="gate",
        at=now,
        role=agent.role,
        agent=agent.name,
        adapter=agent.adapter,
        gate=agent.role,
        attempt=item.ledger.tries.get(agent.role, 0) + 1,
        base=base.name,
        base_sha=base.sha or "",
        candidate=item.ledger.candidate,
        slot=slot,
    )
    begun = attempts.begin(site.layout, item.id, opening, _files(item), locked=True)
    with _holding(begun):
        worktree, candidate = site.worktree(item.id), item.ledger.candidate
        prompt = _prompt(site, item, opening, begun.path)
        facts = str(begun.path / "facts.json")
        root = str(site.layout.root)
        restore = _call("restore", "restore", root=root, worktree=str(worktree), commit=candidate, facts=facts)
        steps = [
            _prepare(site, worktree, candidate, None, begun.path),
            _check_out(site, worktree, candidate),
            *_setup(site, worktree),
            _agent(site, agent, opening, begun.path, worktree, prompt),
            {**restore, "always": True},
        ]
        return _start(site, item, opening, begun, steps, agent.env)


def start_landing(site: Site, item: Item, begun: attempts.Begun, opening: Opening) -> Started:
    """Let a supervisor move the base: the user's hooks run there, and may take their time."""
    with _holding(begun):
        step = _call(
            "land",
            "advance",
            root=str(site.layout.root),
            base=opening.base,
            old=opening.onto,
            new=opening.result_sha,
            lock=str(site.layout.landing_lock(opening.base)),
            task_file=str(site.layout.task_file(State.PROVISIONAL, item.id)),
        )
        return _start(site, item, opening, begun, [step], ())


def _task(item: Item) -> Task:
    if item.task is None:
        raise LostRace(f"{item.id} is not valid any more")
    return item.task


def _files(item: Item) -> dict[str, bytes]:
    """A copy of the task as it was when this started: what the agent is told, and evidence later."""
    return {"task.md": store.read(item.path)}


@contextlib.contextmanager
def _holding(begun: attempts.Begun) -> Iterator[None]:
    """Our copy of the entry's lock is closed at the end, whatever happens. Never LOCK_UN: that frees the runner's."""
    try:
        yield
    finally:
        if begun.lock is not None:
            os.close(begun.lock)


def _start(
    site: Site,
    item: Item,
    opening: Opening,
    begun: attempts.Begun,
    steps: list[dict[str, Any]],
    named: tuple[str, ...],
) -> Started:
    record = {"task": item.id, "grace": site.config.grace, "steps": steps}
    durable.write(begun.path / "steps.json", json.dumps(record).encode(), sync=False)
    if begun.lock is None:
        raise LostRace(f"{item.id}: its entry is not locked")
    env = _environment(site, item, opening, begun.path, named)
    return Started(item.id, opening.attempt, process.start_runner(str(begun.path), env=env, lock_fd=begun.lock))


def _prompt(site: Site, item: Item, opening: Opening, entry: Path) -> Path:
    role = site.config.roles[opening.role]
    flow = site.config.flows[_task(item).flow]
    text = prompts.render(
        role,
        prompts.Prompt(
            task=_task(item),
            stage=opening.stage or opening.gate,
            attempt=opening.attempt,
            base=opening.base,
            base_sha=opening.base_sha,
            result_file=str(entry / "result.json"),
            candidate=opening.candidate,
            artifacts=str(site.layout.artifacts(item.id)),
            feedback=item.ledger.feedback,
            checks=site.config.checks if "checks" in flow.gates else (),
            notes=(item.ledger.summary,) if item.ledger.summary else (),
        ),
    )
    path = entry / "prompt.md"
    path.write_text(text, encoding="utf-8")
    return path


def _environment(site: Site, item: Item, opening: Opening, entry: Path, named: tuple[str, ...]) -> dict[str, str]:
    env = {
        name: value
        for name, value in site.env.items()
        if name in ENVIRONMENT or name in named or name.startswith("LC_")
    }
    env.update(
        OCTOPOID_ROOT=str(site.layout.root),
        OCTOPOID_WAKE=str(site.layout.wake),
        OCTOPOID_TASK_ID=item.id,
        OCTOPOID_TASK_FILE=str(entry / "task.md"),
        OCTOPOID_PROMPT_FILE=str(entry / "prompt.md"),
        OCTOPOID_RESULT_FILE=str(entry / "result.json"),
        OCTOPOID_ARTIFACTS=str(site.layout.artifacts(item.id)),
        OCTOPOID_ROLE=opening.role,
        OCTOPOID_STAGE=opening.stage or opening.gate,
        OCTOPOID_ATTEMPT=str(opening.attempt),
        OCTOPOID_ATTEMPT_DIR=str(entry),
        OCTOPOID_BASE_SHA=opening.base_sha or opening.onto,
        OCTOPOID_SLOT=str(max(0, opening.slot)),
        # A worktree that lost its .git file lies inside the user's checkout: their git must not find that instead.
        GIT_CEILING_DIRECTORIES=str(worktrees_folder(site.layout, site.config)),
    )
    return env


def _agent(site: Site, agent: Agent, opening: Opening, entry: Path, worktree: Path, prompt: Path) -> dict[str, Any]:
    adapter, role = ADAPTERS[agent.adapter], site.config.roles[opening.role]
    site.layout.artifacts(entry.parent.name).mkdir(exist_ok=True)
    launch = adapter.launch(agent, role, entry, prompt, site.layout.root)
    step = _step("agent", list(launch.argv), str(worktree), agent.timeout)
    env = dict(launch.env)
    return {**step, "stdin": launch.stdin or str(prompt), "silence": agent.silence, "env": env}


def _prepare(site: Site, worktree: Path, base_sha: str, reuse: Path | None, entry: Path) -> dict[str, Any]:
    return _call(
        "worktree",
        "prepare",
        root=str(site.layout.root),
        worktree=str(worktree),
        base_sha=base_sha,
        reuse=str(reuse) if reuse else "",
        facts=str(entry / "start.json"),
        include=(site.layout.root / ".worktreeinclude").exists(),
        stamp=str(_stamp(site, worktree)),
    )


def _check_out(site: Site, worktree: Path, commit: str) -> dict[str, Any]:
    return _call("checkout", "check_out", root=str(site.layout.root), worktree=str(worktree), commit=commit)


def _setup(site: Site, worktree: Path) -> list[dict[str, Any]]:
    """The user's setup command, in a worktree that is new or was reused: `prepare` removes the stamp there."""
    command = site.config.worktrees.setup
    if not command:
        return []
    stamp = _stamp(site, worktree)
    stamp.parent.mkdir(exist_ok=True)
    step = _step("setup", _argv(command), str(worktree), site.config.worktrees.setup_timeout)
    return [{**step, "unless": str(stamp), "stamp": str(stamp)}]


def _stamp(site: Site, worktree: Path) -> Path:
    """The file that says that the setup command ran in this worktree."""
    return site.layout.run / "setup" / worktree.name


def _argv(command: str | tuple[str, ...]) -> list[str]:
    """A string is run by `sh -c` exactly as the user wrote it."""
    return ["sh", "-c", command] if isinstance(command, str) else list(command)


def _call(name: str, function: str, **arguments: str | bool) -> dict[str, Any]:
    return {**_step(name, None, "/"), "call": f"octopoid.workspace:{function}", "args": arguments}


def _step(name: str, argv: list[str] | None, cwd: str, timeout: float = 0.0) -> dict[str, Any]:
    return {
        "name": name,
        "argv": argv,
        "call": None,
        "args": {},
        "cwd": cwd,
        "stdin": None,
        "timeout": timeout,
        "silence": 0.0,
        "always": False,
    }
