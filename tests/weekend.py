"""What must hold when the simulated week is over, read from the disk and from git, and its numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from harness import Repo, git, marked
from week import Plan, Run

from octopoid import attempts, config, locks, taskfile
from octopoid.errors import Invalid
from octopoid.fold import RESETS, fold
from octopoid.model import Entry, Ledger, Task
from octopoid.settings import Config
from octopoid.states import State
from octopoid.views import REASONS
from octopoid.worktrees import owner

ENTRIES = 60
"""Entries of one task since a person last gave it a new budget."""
DEATHS = 5
ENDED = (State.DONE, State.BLOCKED, State.CANCELLED)


class Story(NamedTuple):
    """One task at the end: where it is, what its file says, what its entries say."""

    id: str
    state: State
    task: Task
    text: str
    entries: tuple[Entry, ...]
    ledger: Ledger


class Weekend(NamedTuple):
    """What is looked at: the repository, its policy, every task, and the tasks that commits name (task → how many)."""

    repo: Repo
    policy: Config
    stories: Mapping[str, Story]
    landed: Counter[str]
    run: Run


class Report(NamedTuple):
    """What is wrong, a sentence each, and what is to be shown, a line each."""

    wrong: tuple[str, ...]
    lines: tuple[str, ...]


def examine(repo: Repo, plan: Plan, run: Run) -> Report:
    """Everything that must hold, and the numbers."""
    weekend, wrong = read(repo, run)
    wrong += [f"{task} is gone" for task in plan.files if task not in weekend.stories]
    for look in (_ends, _landings, _children, caps, leftovers, _trees, doctor, bugs):
        wrong += look(weekend)
    return Report(tuple(wrong), tuple(_numbers(weekend)))


def read(repo: Repo, run: Run) -> tuple[Weekend, list[str]]:
    """Every task there is, and what cannot be read or is there twice."""
    wrong: list[str] = []
    stories: dict[str, Story] = {}
    for state in State:
        for path in sorted(repo.layout.folder(state).glob("[!.]*.md")):
            if path.stem in stories:
                wrong.append(f"{path.stem} is in two folders: {stories[path.stem].state} and {state}")
            try:
                entries = attempts.read(repo.layout, path.stem)
                task = taskfile.parse(path.read_bytes(), path)
            except Invalid as error:
                wrong.append(f"{path.stem}: {error.message}")
                continue
            text = path.read_text(encoding="utf-8")
            stories[path.stem] = Story(path.stem, state, task, text, entries, fold(entries))
    return Weekend(repo, config.load(repo.layout.home), stories, _landed(repo), run), wrong


def _landed(repo: Repo) -> Counter[str]:
    """How many landings name each task, on the base and on the projects' branches; one that is on both counts once.

    First parents alone: what an agent left uncommitted was committed for it, with the same trailers.
    """
    form = "--format=%H %(trailers:key=Octopoid-Task,valueonly,separator=%x20)"
    branches = git(repo, "for-each-ref", "--format=%(refname:short)", "refs/heads/main", "refs/heads/project/").split()
    lines = {line for branch in branches for line in git(repo, "log", "--first-parent", form, branch).splitlines()}
    return Counter(task for line in lines for task in line.split()[1:])


def _ends(weekend: Weekend) -> Iterator[str]:
    for one in weekend.stories.values():
        if one.state not in ENDED:
            yield f"{one.id} is in {one.state} ({one.ledger.reason or 'no reason'}: {one.ledger.detail})"
        if one.state is State.BLOCKED:
            if one.ledger.reason not in REASONS or not one.ledger.detail:
                yield f"{one.id} is blocked without a reason: {one.ledger.reason!r}, {one.ledger.detail!r}"
            if one.ledger.reason != "parked" and "<!-- octopoid:blocked -->" not in one.text:
                yield f"{one.id} is blocked and its file does not say why"
        if one.state is not State.CANCELLED and one.ledger.expected not in ("", one.state.value):
            yield f"{one.id} is in {one.state}, and its entries say {one.ledger.expected}"


def _landings(weekend: Weekend) -> Iterator[str]:
    """What is done and had something to land is there once; nothing else is there at all."""
    for one in weekend.stories.values():
        verbs = [entry.outcome.verb for entry in one.entries if entry.outcome]
        count, expected = weekend.landed[one.id], verbs.count("land")
        if count != expected or expected > 1:
            yield f"{one.id} is in {one.state} with {expected} landings, and {count} commits name it"
        if one.state is State.DONE and not expected and "finish" not in verbs:
            yield f"{one.id} is done, and nothing says how"
        if one.state is not State.DONE and expected:
            yield f"{one.id} landed and is in {one.state}"
        if expected and (missing := [need for need in one.task.depends_on if not _is_done(weekend, need)]):
            yield f"{one.id} landed without {missing[0]}, on which it depends"
    for name in weekend.landed.keys() - weekend.stories.keys():
        yield f"{name} is named by a commit and is no task"


def _is_done(weekend: Weekend, task: str) -> bool:
    story = weekend.stories.get(task)
    return story is not None and story.state is State.DONE


def _children(weekend: Weekend) -> Iterator[str]:
    """Every subtask and follow-up that was asked for is there once, and nobody else's."""
    followed = Counter(
        match[1] for one in weekend.stories.values() if (match := re.search(r"^Follows `(.+?)`", one.text, re.M))
    )
    for one in weekend.stories.values():
        for child in one.ledger.children if not one.ledger.spawn else ():
            if child not in weekend.stories:
                yield f"{one.id} has a subtask {child} that was never made"
        if one.ledger.spawn and one.state is not State.CANCELLED:
            yield f"{one.id} asks for tasks that were not made"
        left = [name for name in one.ledger.children if name in weekend.stories and not _over(weekend, name)]
        if one.state is State.DONE and left:
            yield f"{one.id} is done before its subtask {left[0]}"
        if one.task.parent and one.id not in _asked_for(weekend.stories[one.task.parent]):
            yield f"{one.id} says that it is a part of {one.task.parent}, which does not know it"
        after = len(weekend.policy.flows[one.task.flow].after) if weekend.landed[one.id] else 0
        if followed[one.id] != after:
            yield f"{one.id} ({one.state}) is followed by {followed[one.id]} tasks, not by {after}"
        if (depth := _depth(weekend, one)) > weekend.policy.limits.depth:
            yield f"{one.id} is {depth} deep"


def _asked_for(parent: Story) -> set[str]:
    """The subtasks that a task ever had: what is divided again has others."""
    return {child for entry in parent.entries if entry.outcome for child in entry.outcome.children}


def _over(weekend: Weekend, task: str) -> bool:
    return weekend.stories[task].state in (State.DONE, State.CANCELLED)


def _depth(weekend: Weekend, story: Story) -> int:
    parent = weekend.stories.get(story.task.parent or "")
    return 1 + _depth(weekend, parent) if parent else 0


def caps(weekend: Weekend) -> Iterator[str]:
    """No loop went round more often than it may, counted afresh and not by the program's own fold."""
    caps = weekend.policy.limits
    for one in weekend.stories.values():
        rounds = weekend.policy.flows[one.task.flow].rounds or caps.rounds
        limits = {"failures": caps.attempts, "refusals": rounds, "entries": ENTRIES, "deaths": DEATHS}
        limits |= {"handoffs": 2 * caps.handoffs}  # a hand-over and the way back
        for number, count in _counts(one):
            for what, limit in limits.items():
                worst, many = max(((n, w) for w, n in count.items() if w.startswith(what)), default=(0, ""))
                if worst > limit:
                    yield f"{one.id} has {worst} {many}, not at most {limit}, in its budget {number}"
        for entry in one.entries:
            if entry.outcome and len(entry.outcome.children) > caps.subtasks:
                yield f"{one.id} was divided into {len(entry.outcome.children)} tasks at once"


def _counts(story: Story) -> Iterator[tuple[int, Counter[str]]]:
    """What happened within each budget that a person gave."""
    number, count = 1, Counter[str]()
    for entry in story.entries:
        if entry.opening.kind in RESETS:
            yield number, count
            number, count = number + 1, Counter()
        count["entries"] += 1
        outcome = entry.outcome
        if outcome is None:
            continue
        count[f"failures of {entry.opening.role}"] += outcome.charged
        count["refusals"] += outcome.verdict == "reject" and bool(outcome.verb)
        count["handoffs"] += outcome.reason == "handoff"
        count["deaths"] = count["deaths"] + 1 if outcome.class_ == "ours" else 0
    yield number, count


def leftovers(weekend: Weekend) -> Iterator[str]:
    """No process, no lock that somebody holds, nothing half made."""
    layout = weekend.repo.layout
    for pid, command in marked(weekend.repo.root).items():
        yield f"process {pid} is still there: {command[:200]}"
    held = [*layout.attempts.glob("*/*/lock"), layout.scheduler_lock, *layout.landing_locks.glob("*.lock")]
    yield from (f"{layout.short(path)} is held" for path in held if locks.is_held(path))
    for pattern in (".new-*", "*/.new-*", "**/.tmp-*"):
        yield from (f"{layout.short(path)} is left over" for path in layout.attempts.glob(pattern))
    yield from (f"{layout.short(path)} is left over" for path in layout.queue.glob("**/.tmp-*"))
    yield from (f"{layout.short(path)} is left over" for path in layout.moving.glob("*"))
    for one in weekend.stories.values():
        for entry in one.entries:
            if entry.outcome is None and entry.opening.kind in ("attempt", "gate", "landing", "finish"):
                yield f"{one.id}: its entry {entry.number} was never closed"


def _trees(weekend: Weekend) -> Iterator[str]:
    """Every worktree is git's and some task's; the user's checkout has only what landed."""
    repo = weekend.repo
    folder = repo.layout.home / "worktrees"
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    lines = git(repo, "worktree", "list", "--porcelain").splitlines()
    known = {line.rpartition("/")[2] for line in lines if line.startswith(f"worktree {folder}/")}
    if there != known:
        yield f"worktrees on disk and in git differ: {sorted(there ^ known)}"
    yield from (f"worktree {name} belongs to no task" for name in there if owner(name) not in weekend.stories)
    if len(there) > len(weekend.stories):
        yield f"{len(there)} worktrees for {len(weekend.stories)} tasks"
    status = git(repo, "status", "--porcelain").splitlines()
    yield from (f"the user's checkout has: {line}" for line in status if not line.startswith("?? .octopoid/"))
    names = set(git(repo, "ls-tree", "-r", "--name-only", "main").splitlines())
    yield from (
        f"{name} landed, which nobody may write or which the checks refuse" for name in names & {"WRONG", "stray.txt"}
    )


def doctor(weekend: Weekend) -> Iterator[str]:
    found = weekend.repo.octopoid("doctor", "--json", ok=None).json()["findings"]
    yield from (f"doctor: {one['code']}: {one['message']}" for one in found if one["severity"] == "error")


def bugs(weekend: Weekend) -> Iterator[str]:
    """What the scheduler says of its own mistakes, and what the person was told."""
    yield from (f"the person was told: {trouble}" for trouble in weekend.run.troubles)
    told = weekend.run.told
    for match in re.finditer(r"^.*(this is a bug|evidence cannot be read|the disk refuses).*$", told, re.M):
        yield f"the scheduler says: {match[0]}" + told[match.end() : match.end() + 2500].split("\n\n")[0]


# --- the numbers ---


def _numbers(weekend: Weekend) -> Iterator[str]:
    stories, run = weekend.stories.values(), weekend.run
    outcomes = [(entry.opening, entry.outcome) for one in stories for entry in one.entries if entry.outcome]
    ends = Counter(f"{one.state.name.lower()} {_why(one)}".strip() for one in stories)
    flows = Counter(one.task.flow for one in stories)
    roles = Counter(
        entry.opening.role for one in stories for entry in one.entries if entry.started and entry.opening.role
    )
    failures = Counter(opening.role for opening, outcome in outcomes if outcome.charged)
    counts: dict[str, Any] = {
        "tasks": len(weekend.stories),
        "entries": sum(len(one.entries) for one in stories),
        "attempts and reviews": sum(roles.values()),
        "charged failures": sum(failures.values()),
        "refusals": sum(outcome.verdict == "reject" and bool(outcome.verb) for _, outcome in outcomes),
        "questions": sum(outcome.reason == "question" for _, outcome in outcomes),
        "hand-overs": sum(outcome.reason == "handoff" for _, outcome in outcomes),
        "supervised programs that died": sum(outcome.class_ == "ours" for _, outcome in outcomes),
        "subtasks": sum(bool(one.task.parent) for one in stories),
        "proposals": sum("proposal" in one.task.labels for one in stories),
        "follow-ups": sum("after" in one.task.labels for one in stories),
        "landed": sum(weekend.landed.values()),
        "changes thrown away": sum("thrown away" in outcome.detail for _, outcome in outcomes),
        "worktrees left": len(list((weekend.repo.layout.home / "worktrees").glob("*"))),
        "rounds": run.rounds,
    }
    for title, table in (("ends", ends), ("flows", flows), ("attempts by role", roles), ("failures by role", failures)):
        yield f"{title}: " + ", ".join(f"{name} {count}" for name, count in sorted(table.items()))
    yield "the person: " + ", ".join(f"{name} {count}" for name, count in sorted(run.decisions.items()))
    yield from (f"{name}: {count}" for name, count in counts.items())
    yield f"time: {run.seconds:.0f} s, {len(weekend.stories) / run.seconds * 60:.0f} tasks/min"


def _why(story: Story) -> str:
    return f"({story.ledger.reason})" if story.state is State.BLOCKED else ""
