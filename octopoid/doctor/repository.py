"""The user's repository: what landing and worktrees need of it, and that the queue stays out of its commits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from octopoid import git, gitfiles, setup
from octopoid.doctor.finding import ERROR, INFO, WARNING, Case, Finding, Repair
from octopoid.layout import FOLDER

_PRIVATE = ("queue", "attempts", "run", "worktrees", "events.jsonl")
"""What of the folder must never be in a commit."""


def check_branches(case: Case) -> Iterator[Finding]:
    """There is a worktree, a commit, and the base branch."""
    answer = git.run(case.root, "rev-parse", "--is-bare-repository", ok=(0, 128))
    if answer.status:
        message = f"git does not take this for a repository: {answer.err.strip()}"
        fix = f"ls -l {case.short(case.root / '.git')}: HEAD, objects and refs must be there; restore what is not"
        yield Finding("git-broken", ERROR, message, fix, case.root / ".git")
        return
    if answer.out.strip() == "true":
        fix = "git config core.bare false, if this checkout is meant to be worked in"
        yield Finding(
            "bare", ERROR, "the repository calls itself bare: there is no checkout to work from", fix, case.root
        )
        return
    wanted = case.config.base if case.config else ""
    base = wanted or git.default_branch(case.root)
    if git.run(case.root, "rev-list", "--all", "--max-count=1", ok=(0, 128)).out.strip() == "":
        yield Finding("no-commit", ERROR, "the repository has no commit yet", 'make one: git commit -m "First commit"')
    elif not base:
        message = "no branch is checked out, and agents.yaml names no base"
        yield Finding("base-missing", ERROR, message, "write `base: BRANCH` into agents.yaml", case.layout.agents_yaml)
    elif git.branch_sha(case.root, base) is None:
        message = f"the base branch `{base}` does not exist, so nothing can start"
        fix = f"git branch {base}, or name another `base` in agents.yaml"
        yield Finding("base-missing", ERROR, message, fix, case.layout.agents_yaml if wanted else None)


def check_kind(case: Case) -> Iterator[Finding]:
    """Kinds of repositories in which something is different."""
    if git.run(case.root, "rev-parse", "--git-dir", ok=(0, 128)).status:
        return  # told as `git-broken`
    facts = git.repository_facts(case.root)
    if facts.shallow:
        message = "this is a shallow clone: work that started before its oldest commit cannot be merged"
        yield Finding("shallow", WARNING, message, "git fetch --unshallow")
    if facts.submodules and not (case.config and case.config.worktrees.setup):
        message = f"submodules ({', '.join(facts.submodules[:5])}) are empty folders in a task's worktree"
        fix = 'worktrees: {setup: "git submodule update --init"} in agents.yaml'
        yield Finding("submodules", WARNING, message, fix, case.root / ".gitmodules")
    if facts.signs:
        message = "commit.gpgsign is set, but the commits that land work are not signed"
        yield Finding("signing", INFO, message, "`land: {mode: none}` leaves landing, and signing, to you")
    if facts.sparse:
        message = "this is a sparse checkout; the worktrees of tasks are as sparse as it is"
        yield Finding("sparse", INFO, message, "git sparse-checkout add FOLDER, where agents need more")
    if facts.lfs:
        message = "files are in Git LFS; each new worktree gets its own copy of them"
        yield Finding("lfs", INFO, message, "keep `worktrees: {reuse: true}`, so that few are new")


_AT_ONCE = ("now", "all", "0", "0.days.ago")

LOCKED = 600.0
"""Seconds after which a lock in the user's own checkout is not that of a git at work, as a rule."""


def check_settings(case: Case) -> Iterator[Finding]:
    """No setting of the repository works against octopoid. An agent can change them: they are not in its worktree."""
    rows = git.run(case.root, "config", "--list", "-z", ok=(0, 1)).out.split("\0")
    said = {key: value for key, _, value in (row.partition("\n") for row in rows if row)}
    common = gitfiles.common_dir(case.root)
    top = said.get("core.worktree", "")
    if top and os.path.realpath(common / top) != os.path.realpath(case.root):
        message = f"core.worktree is {top}: git takes that for your checkout, and not {case.root}"
        yield Finding("git-setting", ERROR, message, "git config --unset core.worktree", common / "config")
    hooks = said.get("core.hookspath", "")
    real = os.path.realpath(case.root / os.path.expanduser(hooks)) if hooks else ""  # noqa: PTH111 - as git does
    inside = [one for one in (case.worktrees, case.layout.home) if f"{real}/".startswith(f"{os.path.realpath(one)}/")]
    if hooks and inside:
        message = f"core.hooksPath is {hooks}: what an agent writes there is run at your next commit"
        yield Finding("git-setting", ERROR, message, "git config --unset core.hooksPath", common / "config")
    for key in ("gc.pruneexpire", "gc.reflogexpireunreachable"):
        if said.get(key) in _AT_ONCE:
            message = f"{key} is {said[key]}: git throws away at once what is on no branch, work of tasks among it"
            fix = f"git config --unset {key} (the default is two weeks and more)"
            yield Finding("git-setting", WARNING, message, fix, common / "config")


def check_own_locks(case: Case) -> Iterator[Finding]:
    """No lock of a killed git lies in the user's own checkouts. They are not ours to remove."""
    common = gitfiles.common_dir(case.root)
    sites = [gitdir for gitdir, _ in gitfiles.sites(case.root)]
    places = [gitdir for gitdir in sites if gitdir == common or not (gitdir / gitfiles.MARK).exists()]
    locks = [place / name for place in places for name in ("index.lock", "HEAD.lock")]
    base = (case.config.base if case.config else "") or git.default_branch(case.root) or ""
    locks += [common / name for name in ("packed-refs.lock", "config.lock", f"refs/heads/{base}.lock")]
    for path in dict.fromkeys(locks):
        try:
            age = case.now - path.lstat().st_mtime
        except (FileNotFoundError, NotADirectoryError):
            continue
        if age > LOCKED:
            message = f"a git left this lock {age / 60:.0f} minutes ago, or still works: landing waits for it"
            aside = path.with_name(f"{path.name}.left")
            fix = f"look whether a git runs (pgrep -a git); if none does: mv -n {case.short(path)} {case.short(aside)}"
            yield Finding("own-lock", WARNING, message, fix, path)


def check_ignored(case: Case) -> Iterator[Finding]:
    """git does not see the queue: what is ignored cannot be committed by accident."""
    inside = [f"{FOLDER}/{name}" for name in _PRIVATE]
    probes = [f"{FOLDER}/queue/incoming/x.md", *(f"{name}/x" for name in inside[1:4]), inside[4]]
    if case.worktrees.is_relative_to(case.root):
        probes.append(f"{case.worktrees.relative_to(case.root)}/x")
    answer = git.run(
        case.root, "check-ignore", "--no-index", "-z", "--stdin", ok=(0, 1), input="\0".join(probes) + "\0"
    )
    seen = [name for name in dict.fromkeys(probes) if name not in answer.out.split("\0")]
    if not seen:
        return
    file = setup.gitignore(case.layout)
    if not file.exists():
        message = "is missing, so the queue could get into your commits"
        fix = "octopoid doctor --fix writes it"
        yield Finding("gitignore", ERROR, message, fix, file, Repair("gitignore", file))
        return
    names = ", ".join(seen[:5])
    lines = " ".join(f"/{name.removesuffix('/x').removeprefix(f'{FOLDER}/').partition('/')[0]}" for name in seen)
    fix = f"add to {case.short(file)}, each on a line of its own: {lines}"
    if not names.startswith(FOLDER):
        fix = f"add to .gitignore: /{seen[0].removesuffix('/x')}/"
    yield Finding("gitignore", ERROR, f"git would see {names}: they could get into your commits", fix, file)


def check_tracked(case: Case) -> Iterator[Finding]:
    """Nothing of the queue is in the repository already (invariant 9)."""
    names = [f":(literal){FOLDER}/{name}" for name in _PRIVATE]
    tracked = git.run(case.root, "ls-files", "-z", "--", *names).out.split("\0")[:-1]
    if tracked:
        folders = sorted({"/".join(Path(name).parts[:2]) for name in tracked})
        message = (
            f"{len(tracked)} of its files are in the repository ({tracked[0]}): each branch would have its own queue"
        )
        fix = f"git rm -r --cached --quiet {' '.join(folders)} (the files stay on the disk), then commit"
        yield Finding("queue-tracked", ERROR, message, fix, case.root / folders[0])
