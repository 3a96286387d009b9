"""What must hold after a kill (DESIGN §11), read from the disk, from git and from the table of processes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import books as balances
from harness import Repo, eventually, git, landed, marked
from killlives import Life, Scene, look

from octopoid import attempts, locks
from octopoid.states import State

OLD = 7200.0
"""Seconds: what is left over is removed when it is older than an hour."""
PERSON = ("approve", "reject", "answer", "release", "reopen", "say", "undo")
_VOLATILE = re.compile(r"events\.jsonl|last_tick|wake|scheduler\.pid|runner\.log|pid|output\.log|told")
_NUMBERS = re.compile(
    r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)?|\b[0-9a-f]{40}\b|\b[0-9a-f]{12}\b|\b\d+\.\d+|\b\d\d+\b"
)


class Books(NamedTuple):
    """How often each program was started, which words of the person's and which moves the entries tell, by task; and
    what the task files say.
    """

    started: Counter[tuple[str, str]]
    said: Counter[tuple[str, str]]
    moves: Counter[tuple[str, str]]
    texts: dict[str, str]


def books(scene: Scene) -> Books:
    """What the entries come to. What died is in no move: its task goes on, uncharged."""
    found = Books(Counter(), Counter(), Counter(), {})
    for slug, entries in scene.entries.items():
        for one in entries:
            who = one.opening.role or one.opening.gate or one.opening.kind
            found.started[slug, who] += one.started
            found.said[slug, one.opening.kind] += one.opening.kind in PERSON
            if (
                one.outcome
                and one.outcome.verb
                and one.outcome.class_ != "ours"
                and (one.started or not one.opening.base)
            ):
                found.moves[slug, one.outcome.verb] += 1
        path = scene.repo.layout.task_file(scene.states[slug], scene.ids[slug])
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        for name, task in scene.ids.items():
            text = text.replace(task, name)
        found.texts[slug] = _NUMBERS.sub("N", text)
    return Books(+found.started, +found.said, +found.moves, found.texts)


def in_order(scene: Scene) -> bool:
    """No move is half made, nothing open is dead, and what the entries say is so."""
    for slug, ledger in scene.ledgers.items():
        at, task = scene.states[slug], scene.ids[slug]
        dead = [
            one
            for one in (*ledger.reviews, *((ledger.open,) if ledger.open else ()))
            if not one.exited and not locks.is_held(scene.repo.layout.entry(task, one.number) / "lock")
        ]
        elsewhere = ledger.expected not in ("", at.value) and at not in (State.CANCELLED, State.ARCHIVED)
        if ledger.unmoved or dead or elsewhere or (at is State.CLAIMED and not ledger.open):
            return False
    return not any(scene.repo.layout.moving.glob("*.md"))


def examine(repo: Repo, life: Life, expected: tuple[Books, int] | None, ended: bool = True) -> list[str]:
    """A sentence about each thing that is wrong; not `ended`: about what must hold on the way as well.

    `expected`: the books of an undisturbed life, and how many programs were killed: each may be started once more.
    """
    wrong = list(_places(repo))
    scene = look(repo)
    wrong += _landings(repo, life, scene, ended)
    wrong += _checkout(repo)
    for slug, entries in scene.entries.items():
        wrong += [f"{slug}: {one.number} is charged" for one in entries if one.outcome and one.outcome.charged]
    if not ended:
        return wrong
    wrong += [] if life.over(scene) else [f"the end is {dict(scene.states)}"]
    wrong += [] if in_order(scene) else ["folders and entries differ at the end"]
    if expected is not None:
        wrong += _balance(books(scene), *expected)
    wrong += _journal(repo)
    wrong += [*_alive(repo), *_leftovers(repo, scene), *_doctor(repo)]
    return wrong


def _places(repo: Repo) -> Iterator[str]:
    paths = [path for state in State for path in repo.layout.folder(state).glob("[!.]*.md")]
    count = Counter([path.stem for path in paths] + [p.stem.partition("+")[2] for p in repo.layout.moving.glob("*.md")])
    yield from (f"{task} is in {number} folders" for task, number in count.items() if number != 1)
    slugs = Counter(task.rpartition("-")[0] for task in count)
    yield from (f"there are {number} of {slug}" for slug, number in slugs.items() if number != 1)


def _landings(repo: Repo, life: Life, scene: Scene, ended: bool) -> Iterator[str]:
    names = {task: slug for slug, task in scene.ids.items()}
    found = Counter(names.get(task, task) for task in landed(repo))
    for slug, number in found.items():
        if number > life.lands.get(slug, 0):
            yield f"{slug} landed {number} times"
    if ended and found != Counter(life.lands):
        yield f"what landed: {dict(found)}"
    paths = [repo.layout.task_file(scene.states[slug], scene.ids[slug]) for slug in life.order if slug in scene.ids]
    ages = [path.stat().st_mtime_ns for path in paths if path.exists()]
    came = [names[task] for task in landed(repo) if names.get(task) in life.order]
    if ages != sorted(set(ages)) or came != [slug for slug in life.order if slug in came]:
        yield f"the order of {', '.join(life.order)} is lost: ages {ages}, landed {came}"
    for slug in life.lands:
        there = (repo.root / f"{scene.ids.get(slug, slug)}.txt").exists()
        if scene.states.get(slug) in (State.DONE, State.ARCHIVED) and not there:
            yield f"{slug} is done and its work is not on main"


def _checkout(repo: Repo) -> Iterator[str]:
    status = git(repo, "status", "--porcelain").splitlines()
    yield from (f"the user's checkout has: {line}" for line in status if not line.endswith(" .octopoid/"))
    if git(repo, "symbolic-ref", "HEAD") != "refs/heads/main":
        yield "the user's checkout is not on main"


def _balance(found: Books, expected: Books, deaths: int) -> Iterator[str]:
    """Nothing finished was thrown away, nothing was said twice or got lost."""
    more = found.started - expected.started
    if sum(more.values()) > deaths:
        yield f"started again although nothing of it was killed: {dict(more)}"
    less = {who: many for who, many in (expected.started - found.started).items() if who[1] != "checks"}
    if less:  # of the checks all that matters is that what landed passed them
        yield f"never started: {less}"
    yield from (
        f"the file of {slug} says {found.texts.get(slug)!r}, not {text!r}"
        for slug, text in expected.texts.items()
        if found.texts.get(slug) != text
    )
    for what, one, other in (("words", found.said, expected.said), ("moves", found.moves, expected.moves)):
        if one != other:
            yield f"{what}: more {dict(one - other)}, less {dict(other - one)}"


def _journal(repo: Repo) -> list[str]:
    """What the journal lacks. A line without a move is added by a look some seconds later: so let them pass."""
    if balances.check(repo):
        then = time.time() - OLD
        for path in (repo.layout.run / "open").glob("*"):
            os.utime(path, (then, then))
        repo.octopoid("run", "--once", ok=None)
    return [f"the books: {one}" for one in balances.check(repo)]


def _alive(repo: Repo) -> Iterator[str]:
    try:
        eventually(lambda: not marked(repo.root.parent), 5)
    except AssertionError:
        yield f"processes are left: {marked(repo.root.parent)}"
    layout = repo.layout
    held = (*layout.attempts.rglob("lock"), layout.scheduler_lock, *layout.run.rglob("*.lock"))
    yield from (f"{layout.short(path)} is held" for path in held if locks.is_held(path))


def _leftovers(repo: Repo, scene: Scene) -> Iterator[str]:
    """What is half made goes when it is old: a living process may be about to finish it."""
    layout = repo.layout
    then = time.time() - OLD
    for path in _litter(repo):
        os.utime(path, (then, then))
    if _litter(repo):
        repo.octopoid("doctor", "--fix", ok=None)
    yield from (f"{layout.short(path)} is left over" for path in _litter(repo))
    yield from (f"{path} is left over" for path in sorted(repo.root.joinpath(".git").rglob("*.lock")))
    yield from (
        f"{ref} is left over" for ref in git(repo, "for-each-ref", "--format=%(refname)", "refs/octopoid").split()
    )
    worktrees = layout.home / "worktrees"
    known = {line for line in git(repo, "worktree", "list", "--porcelain").splitlines() if line.startswith("worktree ")}
    there = {f"worktree {path}" for path in (worktrees.iterdir() if worktrees.is_dir() else ())}
    if there != known - {f"worktree {repo.root}"}:
        yield f"worktrees on disk and in git differ: {there ^ known}"
    for slug, entries in scene.entries.items():
        for one in entries:
            folder = layout.entry(scene.ids[slug], one.number)
            scratch = attempts.scratch_place(folder)
            if os.path.lexists(scratch):
                yield f"{scratch} is left over"
            if one.outcome is None and one.opening.kind in ("attempt", "gate", "landing", "finish", "block"):
                yield f"{slug}: {one.number} was never closed"


def _litter(repo: Repo) -> list[Path]:
    home = repo.layout.home
    trees = home / "worktrees"
    found = [path for name in (".tmp-*", ".new-*", ".reserve") for path in home.rglob(name)]
    found += repo.root.joinpath(".git/octopoid").glob("removed-*")
    return sorted(path for path in found if trees not in path.parents)


def _doctor(repo: Repo) -> Iterator[str]:
    answer = repo.octopoid("doctor", "--json", ok=None)
    for one in answer.json()["findings"]:
        if one["severity"] != "info" and one["code"] not in ("scheduler", "no-scheduler"):
            yield f"doctor: {one['code']}: {one['message']} ({one['path']})"


# --- likeness ---


def likeness(repo: Repo) -> str:
    """What decides how it goes on from here: everything on the disk but for names and times that chance made.

    Of the journal it is what happened to whom. What is half made counts by its place: nobody reads it at all.
    """
    home, scene = repo.layout.home, look(repo)
    lines = [f"{slug} {scene.ids[slug]} {state}" for slug, state in sorted(scene.states.items())]
    for folder, names, files in os.walk(home):
        at = Path(folder).relative_to(home)
        if at.name.startswith(".new-"):
            lines.append(f"{at.parent}/.new")
            names.clear()
            continue
        names[:] = sorted(name for name in names if not (at == Path() and name == "worktrees") and name != "open")
        lines += [f"{at}/{_file(Path(folder, name))}" for name in sorted(files)]
    events = [json.loads(line) for line in _lines(repo.layout.events)]
    lines += sorted(f"{one.get('event')} {one.get('task')} {one.get('from')} {one.get('to')}" for one in events)
    refs = git(repo, "for-each-ref", "--format=%(refname) %(tree)")
    log = git(repo, "log", "--first-parent", "--format=%T %s %(trailers:only,separator=%x20)", "main")
    lines += [refs, log, git(repo, "status", "--porcelain")]
    lines += [str(path.name) for path in repo.root.joinpath(".git").rglob("*.lock")]
    for place in sorted((home / "worktrees").glob("*")):
        if (place / ".git").exists():
            asked = (("rev-parse", "HEAD^{tree}"), ("status", "-s"))  # git may be just making it
            lines += [place.name, *(git(repo, *argv, at=place, ok=range(256)) for argv in asked)]
        else:
            lines.append(f"{place.name} is half made")
    text = "\n".join(lines)
    for slug, task in scene.ids.items():
        text = text.replace(task, slug)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _lines(path: Path) -> list[bytes]:
    """The whole lines of the journal: a torn one is told again."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [line for line in lines if line.startswith(b"{") and line.endswith(b"}")]


def _file(path: Path) -> str:
    if path.name.startswith(".tmp-"):
        return ".tmp"
    if _VOLATILE.fullmatch(path.name):
        return path.name
    held = path.name == "lock" and locks.is_held(path)
    data = path.read_bytes().decode("utf-8", "replace") if path.exists() else ""
    return f"{path.name} {held} {_NUMBERS.sub('N', data)}"
