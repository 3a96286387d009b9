"""What the folders say has landed, and what git says: `done` means that the base branch contains the work."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from octopoid import attempts, git, gitfiles, merging
from octopoid.doctor.finding import ERROR, INFO, WARNING, Case, Finding, Repair
from octopoid.errors import Invalid
from octopoid.states import ACTIVE, State

RECENT = 5000
"""Commits of the base that are looked through for landings whose task does not know of them."""

_TRAILER = "%(trailers:key=Octopoid-Task,valueonly,separator=%x20)"
_REFS = "refs/octopoid/"


def check_lost(case: Case) -> Iterator[Finding]:
    """What is in `done` is in its base branch. A force-push or a reset of the base takes landed work out again.

    What is archived was seen by a person: it is not asked about.
    """
    done = {task: one for task, one in case.evidence.landed.items() if case.look.ids.get(task) is State.DONE}
    for base in sorted({one.base for one in done.values()}):
        tip = git.branch_sha(case.root, base)
        if tip is None:
            continue  # merged elsewhere and deleted, as a rule; that the base itself is gone is told as `base-missing`
        shas = {task: one.sha for task, one in done.items() if one.base == base and gitfiles.is_sha(one.sha)}
        lost = _outside(case, set(shas.values()), f"^{tip}")
        if lost:
            again = {task for _, tasks in _trailers(case, base) for task in tasks}  # rewritten, and still there
            yield from _lost(case, base, {task: sha for task, sha in shas.items() if sha in lost and task not in again})


def _lost(case: Case, base: str, lost: Mapping[str, str]) -> Iterator[Finding]:
    for task, sha in sorted(lost.items()):
        message = (
            f"{task} is in done, and {base} does not contain its work ({sha[:12]}) any more: was {base} moved back?"
        )
        path = case.layout.task_file(State.DONE, task)
        if git.commit_exists(case.root, sha):
            fix = f"keep the work: git branch rescued-{task} {sha}, and merge that; or anew: octopoid reopen {task}"
        else:
            fix = (
                f"its commit is gone from this repository; fetch it from where it still is, or: octopoid reopen {task}"
            )
        yield Finding("landing-lost", ERROR, message, fix, path)


def check_unknown(case: Case) -> Iterator[Finding]:
    """What the base says has landed is in `done`."""
    waiting = {task for task, state in case.look.ids.items() if state in (*ACTIVE, State.CANCELLED)}
    base = (case.config.base if case.config else "") or git.default_branch(case.root) or ""
    if not waiting or git.branch_sha(case.root, base) is None:
        return
    told: set[str] = set()
    for sha, tasks in _trailers(case, base):
        for task in waiting.intersection(tasks) - told:
            told.add(task)
            yield from _unknown(case, task, sha, base)


def _unknown(case: Case, task: str, sha: str, base: str) -> Iterator[Finding]:
    state = case.look.ids[task]
    try:
        entries = attempts.read(case.layout, task)
    except Invalid:
        return  # told already
    landings = [one for one in entries if one.opening.kind == "landing"]
    if any(one.outcome is not None and one.outcome.verb == "land" for one in landings):
        return  # it landed, and a person took it back
    path = case.layout.task_file(state, task)
    message = f"{base} contains work of {task} ({sha[:12]}), and the task is in {state.value}"
    if any(one.outcome is None for one in landings):
        if not case.scheduler:
            fix = "octopoid run: its first look asks git, and puts the task into done"
            yield Finding("landing-unknown", INFO, f"{message}: its landing was cut short", fix, path)
        return
    done = case.layout.task_file(State.DONE, task)
    fix = f"if that is all that was asked for: mv -n {case.short(path)} {case.short(done)}; otherwise it is done again"
    yield Finding("landing-unknown", WARNING, f"{message}; nothing here says that it landed", fix, path)


def _trailers(case: Case, base: str) -> Iterator[tuple[str, list[str]]]:
    """(commit, tasks) of the landings among the newest commits of `base`."""
    argv = ("log", "--first-parent", f"--max-count={RECENT}", f"--format=%H {_TRAILER}", gitfiles.head_ref(base), "--")
    for row in git.run(case.root, *argv).out.splitlines():
        sha, *tasks = row.split()
        if tasks:
            yield sha, tasks


def check_candidates(case: Case) -> Iterator[Finding]:
    """What was submitted and has not landed is there, and git would not throw it away."""
    candidates = {one.id: one.ledger.candidate for one in case.look.items if gitfiles.is_sha(one.ledger.candidate)}
    missing = _missing(case, candidates.values())
    for item in case.look.items:
        sha = candidates.get(item.id, "")
        if sha in missing:
            message = f"the commit that {item.id} submitted ({sha[:12]}) is not in this repository any more"
            fix = f"fetch it from where it still is, or let it be done again: octopoid retry {item.id}"
            severity = ERROR if item.state is State.PROVISIONAL else WARNING
            yield Finding("candidate-gone", severity, message, fix, item.path)
    loose = _outside(case, set(candidates.values()) - missing, "--not", "--all")
    for task, sha in sorted(candidates.items()):
        if sha in loose:
            message = f"no branch, ref or worktree has the commit that {task} submitted ({sha[:12]}): git may drop it"
            fix, repair = "octopoid doctor --fix keeps it by a ref", Repair("keep", case.layout.entries(task), task)
            yield Finding("candidate-loose", WARNING, message, fix, case.layout.entries(task), repair)


def check_refs(case: Case) -> Iterator[Finding]:
    """`refs/octopoid/` names commits of tasks that are on their way, and no others."""
    rows = git.run(case.root, "for-each-ref", "--format=%(objectname) %(refname)", _REFS).out.splitlines()
    refs = {ref: sha for sha, ref in (row.split(" ", 1) for row in rows)}
    by_ref = {merging.ref_of(task): task for task, state in case.look.ids.items() if state in ACTIVE} if refs else {}
    left = {ref: sha for ref, sha in refs.items() if ref not in by_ref}
    loose = _outside(case, set(left.values()), "--not", "--branches", "--tags", "--remotes")
    for ref, sha in sorted(left.items()):
        name, path = ref.removeprefix(_REFS), gitfiles.common_dir(case.root) / ref
        if sha in loose:
            message = f"{name} is over or gone, and this ref has work of it that is on no branch ({sha[:12]})"
            fix = f"if you want it: git branch rescued-{name} {sha}; it stays as it is"
            yield Finding("ref-left", INFO, message, fix, path)
        else:
            message = f"{name} is over or gone, and what this ref names is on a branch"
            yield Finding("ref-left", INFO, message, "octopoid doctor --fix removes the ref", path, Repair("ref", path))


def is_on_a_branch(case: Case, sha: str) -> bool:
    """Is the commit part of a branch, a tag or a remote branch? One that is not there is not."""
    return not _missing(case, [sha]) and sha not in _outside(case, {sha}, "--not", "--branches", "--tags", "--remotes")


def _outside(case: Case, shas: Collection[str], *but: str) -> set[str]:
    """Those of `shas` that are in none of the histories that `but` names. What is not there at all is in all."""
    if not shas:
        return set()
    argv = ("rev-list", "--ignore-missing", "--stdin", *but)
    return set(git.run(case.root, *argv, input="".join(f"{sha}\n" for sha in sorted(shas))).out.split()) & set(shas)


def _missing(case: Case, shas: Iterable[str]) -> set[str]:
    wanted = sorted(set(shas))
    if not wanted:
        return set()
    told = git.run(
        case.root, "cat-file", "--batch-check=%(objecttype)", input="".join(f"{sha}\n" for sha in wanted)
    ).out
    return {sha for sha, word in zip(wanted, told.splitlines(), strict=True) if word != "commit"}
