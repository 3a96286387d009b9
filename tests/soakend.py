"""Do the books balance when the soak is over? Read from the disk, from git, and from what the soak wrote down."""

from __future__ import annotations

import os
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import books
import weekend
from harness import eventually, git, marked, places
from soak import CALM, Soak
from soakworld import Books, Sample
from week import Run

from octopoid.states import State
from octopoid.worktrees import owner

ENDED = weekend.ENDED
GROWTH = 30.0
"""Megabytes per hour by which the daemon may grow; judged where its calm life is at least JUDGED seconds."""
JUDGED = 300.0
WARM = 120.0
"""Seconds after which a daemon has imported what it needs and seen everything once."""
FILES, RUN = 6, 60
"""Open files, and files below run/, by which the last third of that life may differ from the first."""
OUR_TEMPORARY = (".new-*", ".tmp-*", ".*.md.new")


class Landing(NamedTuple):
    """One commit on the first-parent history of a branch that says that it landed a task."""

    branch: str
    sha: str
    tree: str
    task: str


def examine(soak: Soak, told: str) -> list[str]:
    """Sweep, and look."""
    sweep(soak)
    return look(soak, told)


def look(soak: Soak, told: str) -> list[str]:
    """A sentence for everything that is wrong. The soak has run out, and nothing of it runs any more."""
    run = Run(0, soak.books.seconds, {}, told)
    week, wrong = weekend.read(soak.repo, run)
    wrong = [*soak.books.wrong, *(one for one in wrong if not _given_up(one, soak))]
    for check in (accounts, ends, landings, gates, leftovers, trees, memory):
        wrong += check(soak, week)
    for watched in (weekend.caps, weekend.leftovers, weekend.doctor, weekend.bugs):
        wrong += [one for one in watched(week) if not _refused(one)]
    gone = {task for task in soak.books.away if task not in week.stories}
    wrong += [f"books: {one}" for one in books.check(soak.repo, gone=gone) if not _overtaken(one, soak, week)]
    return wrong


def _given_up(sentence: str, soak: Soak) -> bool:
    """Is it about a file that was cancelled before it was written to its end? Half of a task cannot be read."""
    task = sentence.partition(":")[0]
    return task not in soak.books.known and places(soak.repo, task) == (State.CANCELLED,)


def _refused(sentence: str) -> bool:
    """The scheduler says that the disk refuses: it did."""
    return "the disk refuses" in sentence


def _overtaken(sentence: str, soak: Soak, week: weekend.Weekend) -> bool:
    """What the journal need not know.

    A task that came as a file and was moved on by hand before anybody had looked: nobody saw it come. And: a kill
    came between the evidence of a move and the move, and a person's next move came before healing did: the file went
    another way, and nobody will ever make that move. The next entry tells which.
    """
    unseen = re.match(r"(\S+): the journal has it in no folder, then", sentence)
    if unseen and soak.books.known.get(unseen[1], "enqueue") != "enqueue":
        return True
    found = re.match(r"(\S+): entry (\d+) (?:was to .* has not|.* not in the journal)$", sentence)
    story = week.stories.get(found[1]) if found else None
    return bool(found and story and any(one.number > int(found[2]) and _by_a_person(one) for one in story.entries))


def _by_a_person(entry: weekend.Entry) -> bool:
    return entry.opening.kind in ("move", "release", "reject", "answer", "reopen", "undo")


def sweep(soak: Soak) -> None:
    """What a kill left half-written is made older: now `doctor --fix` must take it away, and `clean` what is done."""
    with suppress(AssertionError):
        eventually(lambda: not marked(soak.place), 10)
    then = time.time() - 7200
    for pattern in OUR_TEMPORARY:
        for path in soak.layout.home.rglob(pattern):
            os.utime(path, (then, then))
    for path in (soak.repo.root / ".git").rglob("*.lock"):
        os.utime(path, (then, then))
    soak.fixed = soak.repo.octopoid("doctor", "--fix", ok=None).out
    (soak.place / "fixed.log").write_text(soak.fixed)
    soak.cleaned = soak.repo.octopoid("clean").out


# --- what must hold ---


def accounts(soak: Soak, week: weekend.Weekend) -> Iterator[str]:
    """Every id that anybody was told, or dropped, is in one folder; only what was given up is cancelled or gone."""
    for task, door in soak.books.known.items():
        found, away = places(soak.repo, task), soak.books.away.get(task)
        if len(found) > 1:
            yield f"{task} ({door}) is in {len(found)} folders: {found}"
        if not found and not away:
            yield f"{task} ({door}) is gone, and nobody took it away"
        if State.CANCELLED in found and not away:
            yield f"{task} ({door}) is cancelled, and nobody did that"
    drawer = list((soak.place / "drawer").iterdir())
    for task, editor, mark in soak.books.edits:
        if task not in week.stories or mark in week.stories[task].text:
            continue
        if not any(mark in path.read_text(errors="replace") for path in drawer if path.name.startswith(f"{task}.")):
            door = soak.books.known.get(task, "made by octopoid")
            yield f"{task} ({door}): what was saved with {editor} is nowhere: {mark}"


def ends(_: Soak, week: weekend.Weekend) -> Iterator[str]:
    """Nothing waits that could go on, and the folder is where the entries say."""
    for one in week.stories.values():
        if one.state not in (*ENDED, State.ARCHIVED):
            yield f"{one.id} is in {one.state} ({one.ledger.reason or 'no reason'}: {one.ledger.detail})"
        if one.state not in (State.CANCELLED, State.ARCHIVED) and one.ledger.expected not in ("", one.state.value):
            yield f"{one.id} is in {one.state}, and its entries say {one.ledger.expected}"


def commits(soak: Soak) -> list[Landing]:
    """Every landing that git knows, oldest first."""
    form = "--format=%H%x09%T%x09%(trailers:key=Octopoid-Task,valueonly,separator=%x20)"
    found: dict[str, Landing] = {}
    branches = git(soak.repo, "for-each-ref", "--format=%(refname:short)", "refs/heads/main", "refs/heads/project/")
    for branch in branches.split():
        for line in git(soak.repo, "log", "--first-parent", "--reverse", form, branch).splitlines():
            sha, tree, task = line.split("\t")
            if task:
                found.setdefault(sha, Landing(branch, sha, tree, task))
    return list(found.values())


def trees_checked(soak: Soak) -> set[str]:
    """What the check script wrote down."""
    file = soak.place / "trees"
    return set(file.read_text().split()) if file.exists() else set()


def landings(soak: Soak, week: weekend.Weekend) -> Iterator[str]:
    """What the entries say landed is in git, once for each of them; every tree of it passed the checks."""
    checked = trees_checked(soak)
    found = commits(soak)
    told = {entry.opening.result_sha for story in week.stories.values() for entry in story.entries}
    count = Counter(one.task for one in found)
    for one in found:
        if one.tree not in checked:
            yield f"{one.task}: the checks never saw the tree {one.tree[:12]} of {one.sha[:12]} on {one.branch}"
        if one.task in week.stories and one.sha not in told:
            yield f"{one.task}: no entry tells of the commit {one.sha[:12]} on {one.branch}, which names it"
        if one.task not in week.stories and one.task not in soak.books.away:
            yield f"{one.task} is named by the commit {one.sha[:12]} and is no task"
    for story in week.stories.values():
        said = sum(bool(entry.outcome) and entry.outcome.verb == "land" for entry in story.entries if entry.outcome)
        if said != count[story.id] and story.id not in soak.books.away:
            yield f"{story.id} ({story.state}) says that it landed {said} times, and {count[story.id]} commits name it"
        if story.state in (State.DONE, State.ARCHIVED) and story.ledger.landed:
            branches = git(soak.repo, "branch", "--format=%(refname:short)", "--contains", story.ledger.landed).split()
            if not any(name == "main" or name.startswith("project/") for name in branches):
                yield f"{story.id} is done, and its {story.ledger.landed[:12]} is on no branch"


def gates(_: Soak, week: weekend.Weekend) -> Iterator[str]:
    """Nothing landed to which a gate of its flow had not said yes, before that and about that commit."""
    for story in week.stories.values():
        asked = [gate.name for group in week.policy.flows[story.task.flow].gates for gate in group if gate.required]
        for at, entry in enumerate(story.entries):
            if not (entry.opening.kind == "landing" and entry.outcome and entry.outcome.verb == "land"):
                continue
            said = {_yes(one, entry.opening.candidate) for one in story.entries[:at]}
            yield from (
                f"{story.id} landed as entry {entry.number} without a yes of {gate}"
                for gate in asked
                if gate not in said | {"checks"}
            )


def _yes(entry: weekend.Entry, candidate: str) -> str:
    """The gate that says yes to `candidate` in this entry, "" for none."""
    opening, outcome = entry.opening, entry.outcome
    if opening.candidate != candidate:
        return ""
    if opening.kind == "approve":
        return opening.gate
    return opening.gate if outcome and outcome.verdict == "accept" else ""


def leftovers(soak: Soak, _: weekend.Weekend) -> Iterator[str]:
    """No process, and no half-written or temporary file."""
    for pid, command in marked(soak.place).items():
        yield f"process {pid} is still there: {command[:200]}"
    yield from (f"{path} is left over" for path in (soak.place / "tmp").iterdir())
    for pattern in OUR_TEMPORARY:
        yield from (f"{path} is left over" for path in soak.layout.home.rglob(pattern) if _ours(soak, path))
    yield from (f"{path} is left over" for path in (soak.repo.root / ".git").rglob("*.lock") if _in_use(path))
    flags = soak.layout.run / "open"
    if flags.is_dir() and len(list(flags.iterdir())) > RUN:
        yield f"{len(list(flags.iterdir()))} tasks are still flagged as unfinished"


def _in_use(lock: Path) -> bool:
    """A lock of the checkout, or of a worktree that is there; a deleted one is only remembered, for its last commit."""
    link = lock.parent / "gitdir"
    return not link.exists() or Path(link.read_text().strip()).exists()


def _ours(soak: Soak, path: Path) -> bool:
    return (soak.layout.home / "worktrees") not in path.parents


def trees(soak: Soak, week: weekend.Weekend) -> Iterator[str]:
    """After `clean` a worktree is of a task that goes on, or has work that is nowhere else; the checkout is clean."""
    folder = soak.layout.home / "worktrees"
    for path in sorted(folder.glob("[!.]*")):
        story = week.stories.get(owner(path.name))
        if story and story.state in (State.DONE, State.ARCHIVED) and path.name not in soak.cleaned:
            yield f"{story.id} is done, and its worktree is still there: {path.name}"
    status = git(soak.repo, "status", "--porcelain").splitlines()
    yield from (f"the user's checkout has: {line}" for line in status if not line.startswith("?? .octopoid/"))
    names = set(git(soak.repo, "ls-tree", "-r", "--name-only", "main").splitlines())
    yield from (
        f"{name} landed, which nobody may write or which the checks refuse" for name in names & {"WRONG", "stray.txt"}
    )
    lines = Counter(git(soak.repo, "show", "main:users.txt").splitlines()) if "users.txt" in names else Counter[str]()
    yield from (f"the user's own {line!r} is there {count} times" for line, count in lines.items() if count > 1)


# --- the daemon's memory ---


def calm(soak: Soak) -> list[Sample]:
    """The longest life in the calm hours, warmed up."""
    inside = [one for one in soak.books.samples if CALM[0] <= one.at / soak.seconds <= CALM[1]]
    lives = Counter(one.life for one in inside)
    if not lives:
        return []
    life = [one for one in inside if one.life == lives.most_common(1)[0][0]]
    return [one for one in life if one.at >= life[0].at + min(WARM, soak.seconds / 20)]


def slope(samples: Sequence[Sample]) -> float:
    """Megabytes per hour: the median of the slopes between points half a life apart, which no single peak decides."""
    half = len(samples) // 2
    if half < 3:
        return 0.0
    pairs = zip(samples[:half], samples[half : 2 * half], strict=True)
    return statistics.median((b.rss - a.rss) / 1024 / (b.at - a.at) * 3600 for a, b in pairs)


def memory(soak: Soak, _: weekend.Weekend) -> Iterator[str]:
    """Flat: memory, open files, files below run/."""
    samples = calm(soak)
    if len(samples) < 9 or samples[-1].at - samples[0].at < JUDGED:
        return
    if slope(samples) > GROWTH:
        yield f"the daemon grows by {slope(samples):.0f} MB/h, not at most {GROWTH:g}"
    for name, value, bound in (("open files", _files, FILES), ("files below run/", _run, RUN)):
        first, last = _thirds(samples, value)
        if last > first + bound:
            yield f"{name} went from {first:g} to {last:g} in the calm hours"


def _files(sample: Sample) -> int:
    return sample.files


def _run(sample: Sample) -> int:
    return sample.run


def _thirds(samples: Sequence[Sample], value: Callable[[Sample], int]) -> tuple[float, float]:
    third = max(1, len(samples) // 3)
    return statistics.median(map(value, samples[:third])), statistics.median(map(value, samples[-third:]))


# --- the numbers ---


def table(soak: Soak, wrong: Sequence[str]) -> list[str]:
    """The figures, a line each, for docs/reliability.md."""
    week, _ = weekend.read(soak.repo, Run(0, soak.books.seconds, {}, ""))
    kept: Books = soak.books
    entries = [entry for one in week.stories.values() for entry in one.entries]
    where = Counter(one.state.value for one in week.stories.values())
    samples = calm(soak)
    recovered = sorted(kept.recovered)
    first, last = _thirds(samples, _files) if samples else (0, 0)
    rows: dict[str, object] = {
        "time": f"{kept.seconds / 60:.1f} min",
        "seed": soak.seed,
        "tasks that came in": f"{len(kept.known)} ({_list(Counter(kept.known.values()))})",
        "tasks at the end": f"{len(week.stories)} ({_list(where)})",
        "entries of evidence": len(entries),
        "attempts and reviews": sum(entry.started and bool(entry.opening.role) for entry in entries),
        "landings": len(commits(soak)),
        "trees that passed the checks": len(trees_checked(soak)),
        "kills": f"{kept.kills.total()} ({_list(kept.kills)})",
        "frozen for a moment": f"{kept.frozen.total()} ({_list(kept.frozen)})",
        "faults": f"{kept.faults.total()} ({_list(kept.faults)})",
        "edits": f"{len(kept.edits)} ({_list(Counter(editor for _, editor, _ in kept.edits))})",
        "what else the person did": _list(kept.deeds),
        "starts of the daemon": kept.starts,
        "back after a kill, seconds": f"median {_median(recovered):.1f}, max {max(recovered, default=0):.1f}",
        "daemon's memory, MB": f"{_mb(samples, 0)} to {_mb(samples, -1)} in {_span(samples) / 60:.0f} calm minutes, "
        f"{slope(samples):+.1f} MB/h",
        "daemon's open files": f"{first:g} to {last:g}",
        "`doctor --fix` at the end": _first(soak.fixed),
        "violations": len(wrong),
    }
    width = max(map(len, rows))
    return [f"{name:{width}}  {value}" for name, value in rows.items()]


def _first(text: str) -> str:
    return ", ".join(line for line in text.splitlines() if line.strip() and line[0] != " ") or "nothing"


def _list(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0


def _mb(samples: Sequence[Sample], at: int) -> int:
    return samples[at].rss // 1024 if samples else 0


def _span(samples: Sequence[Sample]) -> float:
    return samples[-1].at - samples[0].at if samples else 0.0
