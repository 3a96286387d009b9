"""Starting things: the entry with its lock and its steps, the claim, then the supervisor (DESIGN §5).

The order makes every crash harmless: an entry without `pid` never started, a claim without one is released.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from octopoid import attempts, documents, durable, git, intrusions, lifecycle, locks, merging, process, store
from octopoid.configsandbox import stricter
from octopoid.errors import LostRace
from octopoid.fold import session_key
from octopoid.gates import artifact_of, checks_key, produces
from octopoid.layout import FOLDER
from octopoid.model import Item, Opening, Outcome
from octopoid.plans import Projection, Start, StartProbe, StartReview, TakeBranch
from octopoid.settings import Check
from octopoid.states import State
from octopoid.steps import (
    Site,
    agent_step,
    bring_in,
    built_in,
    check_out,
    check_steps,
    commit_inside,
    environment,
    no_login,
    place_document,
    pre_check,
    prepare,
    restore,
    sandboxed,
    set_up,
    task_in,
    write_prompt,
)
from octopoid.worktrees import apart


class Started(NamedTuple):
    """A supervisor that was started, for the `attempt`-th try of its role."""

    task: str
    attempt: int
    pid: int


def start_attempt(site: Site, item: Item, start: Start, reuse: Path | None, now: float) -> Started:
    """Claim the task and start its agent. Raises LostRace when the file moved meanwhile: nothing is left behind.

    `reuse`: an idle worktree that may become the task's.
    """
    agent, role = start.agent, start.role
    opening = Opening(
        kind="attempt",
        at=now,
        role=role,
        agent=agent.name,
        adapter=agent.adapter,
        model=agent.model or site.config.roles[role].model,
        stage=start.stage.name,
        attempt=item.ledger.tries.get(role, 0) + 1,
        base=start.base.name,
        base_sha=start.base.sha or "",
        slot=start.slot,
        produces=produces(role, start.stage, site.config),
        artifact=artifact_of(role, start.stage, site.config),
        session=item.ledger.sessions.get(session_key(agent.name, role, agent.adapter), ""),
    )
    begun = _begin(site, item, opening)
    with _holding(begun):
        lifecycle.claim(site.layout, item.id, begun.number, agent.name, now)
        steps = _attempt_steps(site, item, start, opening, begun.path, reuse)
        return _start(site, item, opening, begun, steps, agent.env)


def _attempt_steps(
    site: Site, item: Item, start: Start, opening: Opening, entry: Path, reuse: Path | None
) -> list[dict[str, Any]]:
    """Make the worktree and prove it, set up, look whether there is anything to do, agent, then keep what it made.

    What a role that writes left is committed; what any other one changed is thrown away and reported.
    """
    agent, worktree = start.agent, site.worktree(item.id)
    prompt = write_prompt(site, item, opening, entry)
    writes = opening.produces == "commits" and site.config.roles[opening.role].writes
    # A worktree that is gone begins again where the work was, not where the base is.
    at = item.ledger.candidate or opening.base_sha
    steps = [prepare(site, worktree, at, reuse, entry)]
    box = stricter(agent.sandbox, site.config.roles[opening.role].sandbox)
    if box.mode != "off" and writes:
        steps.insert(0, bring_in(site, worktree, "worktree", entry, must=False))
    if item.ledger.judged or not writes:
        steps.append(check_out(site, worktree, at))
    steps += set_up(site, worktree, entry, agent, keeps=writes)
    steps += pre_check(site, item.id, agent, worktree, entry, keeps=writes)
    steps.append(agent_step(site, agent, opening, entry, worktree, prompt))
    if not writes and not start.stage.commit:
        return [*steps, {**restore(site, worktree, at, entry), "always": True}]
    if start.stage.commit:
        steps += place_document(site, worktree, at, entry, opening.artifact, start.stage.commit)
    collect = built_in(
        "commit",
        "collect",
        root=str(site.layout.root),
        worktree=str(worktree),
        base_sha=opening.base_sha,
        facts=str(entry / "facts.json"),
        result=str(entry / "result.json"),
        message=task_in(item).title,
        commit=True,
        task=item.id,
        attempt=str(opening.attempt),
        secrets=intrusions.secret_names(agent.env),
    )
    if box.mode == "off":
        return [*steps, {**collect, "env": no_login(site.env)}]
    told = {**collect, "args": {**collect["args"], "commit": False}}
    inside = commit_inside(site, collect["args"], box, entry)
    return [*steps, inside, bring_in(site, worktree, "commit", entry, must=True), told]


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
    begun = _begin(site, item, opening)
    with _holding(begun):
        if not git.is_ancestor(site.layout.root, opening.candidate, opening.result_sha):
            # squashed or rebased: once that is checked out, only a reflog would hold what the agent committed
            merging.keep_ref(site.layout.root, item.id, opening.candidate)
        worktree = site.worktree(item.id)
        steps = [
            prepare(site, worktree, projection.result_sha, None, begun.path),
            check_out(site, worktree, projection.result_sha),
            *set_up(site, worktree, begun.path),
            *check_steps(site, checks, worktree, begun.path),
        ]
        return _start(site, item, opening, begun, steps, ())


def start_probe(site: Site, item: Item, probe: StartProbe, reuse: Path | None, now: float) -> Started:
    """Claim the task and run its own commands on the base: one of them must fail before the work begins."""
    opening = Opening(
        kind="attempt",
        at=now,
        stage=probe.stage.name,
        base=probe.base.name,
        base_sha=probe.base.sha or "",
        checks=tuple(check.name for check in probe.checks),
        produces="document",  # it changes nothing that is kept
    )
    begun = _begin(site, item, opening)
    with _holding(begun):
        lifecycle.claim(site.layout, item.id, begun.number, "checks", now)
        worktree = site.worktree(item.id)
        steps = [
            prepare(site, worktree, opening.base_sha, reuse, begun.path),
            check_out(site, worktree, opening.base_sha),
            *set_up(site, worktree, begun.path),
            *check_steps(site, probe.checks, worktree, begun.path),
            {**restore(site, worktree, opening.base_sha, begun.path), "always": True},
        ]
        return _start(site, item, opening, begun, steps, ())


def take_branch(site: Site, item: Item, take: TakeBranch, now: float) -> None:
    """Claim the task and submit what is on its project's branch. A kill in between: released, and taken up again."""
    opening = Opening(
        kind="attempt",
        at=now,
        stage=take.stage.name,
        base=take.base.name,
        base_sha=take.base.sha or "",
        to=take.candidate,
    )
    begun = _begin(site, item, opening)
    with _holding(begun):
        lifecycle.claim(site.layout, item.id, begun.number, take.stage.name, now)
        detail = f"the branch of the project is at {take.candidate[:12]}"
        outcome = Outcome("attempt", "ok", False, "", detail, now, base_sha=opening.base_sha, candidate=take.candidate)
        outcome = outcome._replace(verb="submit", leaves="claimed", enters="provisional")
        outcome = outcome._replace(policy=_touches_policy(site, opening.base_sha, take.candidate))
        lifecycle.settle(site.layout, item.id, begun.number, outcome, now)


def _touches_policy(site: Site, base: str, candidate: str) -> bool:
    """A candidate that changes the policy needs a person, wherever it comes from (DESIGN §2)."""
    root = site.layout.root
    since = git.merge_base(root, base, candidate)
    return since is None or any(
        name.lower().partition("/")[0] == FOLDER for name in git.changed_files(root, since, candidate)
    )


def start_review(site: Site, item: Item, review: StartReview, reuse: Path | None, now: float) -> Started:
    """Ask a reviewing role about the candidate. `reuse`: an idle worktree that may become its own checkout."""
    agent, base = review.agent, review.base
    opening = Opening(
        kind="gate",
        at=now,
        role=review.gate,
        agent=agent.name,
        adapter=agent.adapter,
        model=agent.model or site.config.roles[review.gate].model,
        gate=review.gate,
        attempt=item.ledger.tries.get(review.gate, 0) + 1,
        base=base.name,
        base_sha=base.sha or "",
        candidate=item.ledger.candidate,
        slot=review.slot,
        produces="verdict",
    )
    begun = _begin(site, item, opening)
    with _holding(begun):
        candidate = item.ledger.candidate
        worktree = site.worktree(apart(item.id, review.gate) if review.apart else item.id)
        prompt = write_prompt(site, item, opening, begun.path)
        steps = [
            prepare(site, worktree, candidate, reuse, begun.path),
            check_out(site, worktree, candidate),
            *set_up(site, worktree, begun.path, agent),
            agent_step(site, agent, opening, begun.path, worktree, prompt),
            {**restore(site, worktree, candidate, begun.path), "always": True},
        ]
        return _start(site, item, opening, begun, steps, agent.env)


def start_landing(site: Site, item: Item, begun: attempts.Begun, opening: Opening) -> Started:
    """Let a supervisor move the base: the user's hooks run there, and may take their time."""
    with _holding(begun):
        moving = built_in(
            "land",
            "advance",
            root=str(site.layout.root),
            base=opening.base,
            old=opening.onto,
            new=opening.result_sha,
            lock=str(site.layout.landing_lock(opening.base)),
            task_file=str(site.layout.task_file(State.PROVISIONAL, item.id)),
        )
        return _start(site, item, opening, begun, [moving], ())


def _begin(site: Site, item: Item, opening: Opening) -> attempts.Begun:
    """The entry, locked. `octopoid attach` takes its lock and then looks for such entries; here it is the other way
    round, so at least one of the two sees the other. Raises LostRace: a person is in the worktree.
    """
    begun = attempts.begin(site.layout, item.id, opening, _files(site, item), locked=True)
    if locks.is_held(site.layout.attach_lock(item.id)):
        with _holding(begun):
            raise LostRace(f"{item.id}: a person is in its worktree")
    return begun


def _files(site: Site, item: Item) -> dict[str, bytes]:
    """The task and the documents as they were when this started: what the agent is told, and evidence later."""
    given = documents.given(site.layout, item.id, item.ledger.artifacts)
    return {"task.md": store.seen(item.path), **{f"artifacts/{name}": data for name, data in given.items()}}


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
    record = {"task": item.id, "grace": site.config.grace, "steps": sandboxed(steps, begun.path)}
    durable.write(begun.path / "steps.json", json.dumps(record).encode(), sync=False)
    if begun.lock is None:
        raise LostRace(f"{item.id}: its entry is not locked")
    env = environment(site, item, opening, begun.path, named)
    return Started(item.id, opening.attempt, process.start_runner(str(begun.path), env=env, lock_fd=begun.lock))
