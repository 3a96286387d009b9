"""The built-in steps of an attempt: make the task's worktree, collect what the agent left, put a commit there.

A step is called in a forked child of the runner, prints to the attempt's log and returns an exit status: OK, FAILED
(the task's fault), TROUBLE (git, disk, setup) or BROKEN (work was about to happen outside the worktree).
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from octopoid import durable, git, intrusions, locks, merging, worktrees
from octopoid.confined import run
from octopoid.errors import Conflict, Contained, GitError, NotFound, UsageError
from octopoid.gitfiles import going_on, sha
from octopoid.layout import FOLDER
from octopoid.worktrees import ask, idle_size, remove, say

__all__ = ["check_out", "collect", "idle_size", "place", "prepare", "remove", "restore"]

OK, FAILED, TROUBLE, BROKEN = 0, 1, 75, 78

INCLUDE = ".worktreeinclude"
LANDING_PATIENCE = 60.0
"""Seconds to wait for somebody else who is about to move the same base."""

LISTED = 200
"""So many changed paths go into facts; `files_total` says how many there are."""

# An agent that ends with one of these says that its work is not to be taken up.
_NOT_DONE = ("question", "failed")


def prepare(
    *,
    root: str,
    worktree: str,
    base_sha: str,
    reuse: str,
    facts: str,
    include: bool,
    stamp: str = "",
    hooks: bool = True,
) -> int:
    """Make the task's worktree and prove it. One that is there is kept as it is, uncommitted work included.

    `reuse`: an idle worktree of ours that may be moved here, "" for none. `include`: copy what .worktreeinclude names.
    Writes `{"start_sha", "fresh", "how"}` to `facts`; `fresh`: nothing that `setup` installs is there; `how`: kept,
    reused or added. `stamp`: the file that says that `setup` ran here; it goes when the worktree is not kept. `hooks`:
    the user's post-checkout hook runs; not with a sandbox, outside of which this is.
    """
    told = (reuse, Path(facts), include, stamp, hooks)
    return _status(lambda: _prepare(Path(root), Path(worktree), sha(base_sha), *told))


def collect(
    *,
    root: str,
    worktree: str,
    base_sha: str,
    facts: str,
    result: str,
    message: str,
    commit: bool,
    task: str,
    attempt: str,
    secrets: Sequence[str] = (),
) -> int:
    """After the agent: commit what it left uncommitted (with `commit`; hooks run), and write what happened to `facts`.

    `{"head", "tree", "merge_base", "merge_base_tree", "commits", "files", "files_total", "committed", "dirty",
    "policy", "orphan", "notes"}`, and where there are any `leaks` and `unlandable` (`intrusions`). `base_sha` is where
    the base was at the start: the merge base is with that. `secrets`: variables whose values must be in no commit.
    Aborts nothing: FAILED with a rebase or merge in progress, and when a hook refuses.
    """
    trailers = (("Octopoid-Task", task), ("Octopoid-Attempt", attempt)) if task else ()
    text = git.message("", message, trailers) if commit and _outcome(Path(result)) not in _NOT_DONE else ""
    values = {name: os.environ[name] for name in secrets if name in os.environ}
    return _status(lambda: _collect(Path(root), Path(worktree), sha(base_sha), Path(facts), text, values))


def check_out(*, root: str, worktree: str, commit: str, clean: bool = True) -> int:
    """Put `commit` there for checks or a reviewer, whatever a former run left. Ignored files are kept."""
    return _status(lambda: _check_out(Path(root), Path(worktree), sha(commit), clean))


def restore(*, root: str, worktree: str, commit: str, facts: str) -> int:
    """After a reviewer: write `{"changed": […]}` to `facts`, throw these changes away, go back to `commit`."""
    return _status(lambda: _restore(Path(root), Path(worktree), sha(commit), Path(facts)))


def place(*, root: str, worktree: str, source: str, path: str) -> int:
    """Put the document `source` at `path` in the worktree; `collect` commits it then."""
    return _status(lambda: _place(Path(root), Path(worktree), Path(source), path))


def advance(*, root: str, base: str, old: str, new: str, lock: str, task_file: str) -> int:
    """Move the base branch where hooks of the user's run: supervised, so that no look waits for them (DESIGN §8).

    `task_file`: must still be there once `lock` is held; otherwise a person took the work back, and nothing is done.
    """
    return _status(lambda: _advance(Path(root), base, sha(old), sha(new), lock, Path(task_file)))


def _status(work: Callable[[], int]) -> int:
    try:
        return work()
    except Contained as error:
        say(f"octopoid: containment is broken: {error}")
        return BROKEN
    except (Conflict, GitError, NotFound, UsageError, OSError) as error:
        say(f"octopoid: {error}")
        return TROUBLE


def write_facts(path: Path, facts: object, sync: bool = True) -> None:
    """Write `facts` as JSON. `sync`: so that it survives a power cut."""
    durable.write(path, json.dumps(facts, ensure_ascii=True).encode() + b"\n", sync=sync)


def _prepare(
    root: Path, place: Path, base_sha: str, reuse: str, facts: Path, include: bool, stamp: str, hooks: bool
) -> int:
    if worktrees.keep(root, place, base_sha):
        how = "kept"
    else:
        start = worktrees.make_room(root, place) or base_sha
        how = "reused" if reuse and worktrees.take_over(root, place, Path(reuse), start) else "added"
        if how == "added":
            worktrees.add(root, place, start, hooks)
    if stamp and how != "kept":
        Path(stamp).unlink(missing_ok=True)
    head = ask(root, place, "HEAD")[0]
    if worktrees.branch(root, place):
        raise Contained(f"{place} is on a branch")
    if include and how != "kept":
        _include(root, place)
    say(f"octopoid: worktree {place} {how}, at {head[:12]}")
    # not synced (8 ms on a busy disk): a power cut ends the attempt, and nobody asks where an unfinished one began
    write_facts(facts, {"start_sha": head, "fresh": how == "added", "how": how}, sync=False)
    return OK


def _advance(root: Path, base: str, old: str, new: str, lock: str, task_file: Path) -> int:
    with locks.waiting(lock, LANDING_PATIENCE):
        if not task_file.exists():
            say("octopoid: the task was taken back; nothing lands")
            return FAILED
        moved = merging.advance(root, base=base, old=old, new=new)
    say(f"octopoid: {base} is at {new[:12]}" if moved.done else f"octopoid: {base} waits: {moved.waits} {moved.detail}")
    return OK if moved.done else TROUBLE


def _check_out(root: Path, place: Path, commit: str, clean: bool) -> int:
    worktrees.mend(root, place)
    ask(root, place)
    worktrees.put(root, place, commit, clean)
    say(f"octopoid: {commit[:12]} is checked out in {place}")
    return OK


def _restore(root: Path, place: Path, commit: str, facts: Path) -> int:
    worktrees.mend(root, place)
    gitdir = worktrees.site(root, place)
    worktrees.drop_locks(gitdir)
    left = worktrees.detach(root, place, commit)
    head = ask(root, place, "HEAD")[0]
    changed = list(dict.fromkeys((*git.changed_files(root, commit, head), *worktrees.uncommitted(root, place))))
    write_facts(facts, {"changed": changed[:LISTED]})
    if changed:
        say(f"octopoid: a reviewer's changes do not count; thrown away: {', '.join(changed[:10])}")
    if changed or left or head != commit or going_on(gitdir):
        worktrees.put(root, place, commit, clean=True)
    return OK


def _place(root: Path, place: Path, source: Path, path: str) -> int:
    ask(root, place)
    target = place / path
    real = Path(os.path.realpath(target.parent))
    top = Path(os.path.realpath(place))
    if not real.is_relative_to(top) or {FOLDER, ".git"} & set(Path(path).parts) or target.is_symlink():
        raise Contained(f"{path} would be written outside the worktree")
    # A link leads elsewhere, a pipe is waited for. What is missing is the agent's fault, and the scheduler says so.
    if not os.path.lexists(source) or not stat.S_ISREG(source.lstat().st_mode):
        say(f"octopoid: there is no document {source.name}")
        return OK
    target.parent.mkdir(parents=True, exist_ok=True)
    durable.write(target, source.read_bytes())
    say(f"octopoid: {source.name} is written to {path}")
    return OK


# --- collect ---


def _collect(root: Path, place: Path, base_sha: str, facts: Path, text: str, secrets: Mapping[str, str]) -> int:
    gitdir = worktrees.site(root, place)
    worktrees.drop_locks(gitdir)
    notes, status, committed = [], OK, False
    left = worktrees.detach(root, place, base_sha)
    if left:
        notes.append(f"the agent was on {left}; its HEAD is detached now")
    head, base_tree, *rest = ask(root, place, "HEAD", f"{base_sha}^{{tree}}", f"{base_sha}...HEAD")
    base = next((word[1:] for word in rest if word.startswith("^")), "")
    busy = going_on(gitdir)
    if busy:
        status = FAILED
        notes.append(f"the agent left a {busy} in progress; finish it or abort it, then commit")
    elif text:
        try:
            status, committed, more = _commit_leftovers(root, place, text)
        except GitError:
            # where its own commits hold names that differ by case alone, git adds nothing more: that is told below
            files = git.changed_files(root, base_tree, git.tree_of(root, head))
            if not intrusions.unlandable(root, head, files, files):
                raise
            more = []
        notes += more
        head = worktrees.head(root, place) if committed else head
    dirty = bool(worktrees.uncommitted(root, place)) if status or not text else False
    if base and base != base_sha:
        base_tree = git.tree_of(root, base)
    tree = git.tree_of(root, head)
    files = git.changed_files(root, base_tree, tree)
    commits = _count(root, base or base_sha, head)
    names = intrusions.touched(root, base or base_sha, head) if commits > 1 else files
    intruders = {
        "leaks": intrusions.leaks(root, base or base_sha, head, names, secrets),
        "unlandable": intrusions.unlandable(root, head, files, names),
    }
    write_facts(
        facts,
        {
            "head": head,
            "tree": tree,
            "merge_base": base,
            "merge_base_tree": base_tree if base else "",
            "commits": commits,
            "files": files[:LISTED],
            "files_total": len(files),
            "committed": committed,
            "dirty": dirty,
            "policy": any(name.lower().startswith(f"{FOLDER}/") or name.lower() == FOLDER for name in files),
            "orphan": not base,
            "notes": notes,
            **{name: found[:LISTED] for name, found in intruders.items() if found},
        },
    )
    for note in notes:
        say(f"octopoid: {note}")
    return status


def _count(root: Path, base: str, head: str) -> int:
    if base == head:
        return 0
    if git.read_commit(root, head).parents == (base,):
        return 1
    return int(git.run(root, "rev-list", "--count", f"{base}..{head}").out)


def _commit_leftovers(root: Path, place: Path, text: str) -> tuple[int, bool, list[str]]:
    """Commit everything uncommitted: (status, was a commit made, notes). Raises GitError when it is not a hook's no."""
    staged, notes = _add_all(root, place)
    if not staged:
        return OK, False, notes
    # The one git that finds the folder by itself, proven a moment ago: hooks get its GIT_* variables as from a person's
    # commit. With GIT_WORK_TREE among them, `unset GIT_DIR; git -C elsewhere …` in a hook would work on our files.
    answer = git.run(place, *git.QUICK, "commit", "--quiet", "-F", "-", ok=(0, 1, 128), input=text, show=True)
    if answer.status == 128:
        words = "" if git.identity(root) else git.NO_IDENTITY
        raise GitError(("commit",), 128, words)
    if answer.status:
        return FAILED, False, [*notes, "a hook refused the commit of what was left; it said so above"]
    return OK, True, notes


def _add_all(root: Path, place: Path) -> tuple[bool, list[str]]:
    """Stage everything but repositories inside: a clone of the agent's would become a submodule without an address.

    Is anything staged, and notes. `add` asks each submodule for its `status`, which runs what its configuration names
    (filters); `update-index` reads the file that says at which commit it is.
    """
    tracked = worktrees.inside(root, place)
    rest = [f":(exclude,literal){name}" for name in tracked]
    answer = run(root, place, "add", "--all", "--", ".", *rest, ok=(0, 1, 128))
    if tracked:
        run(root, place, "update-index", "-z", "--stdin", input="\0".join(tracked) + "\0")
    staged = _staged(root, place)
    nested = [name for old, new, name in staged if (old, new) == ("000000", "160000")]
    if nested:
        listed = ("config", "--file", ".gitmodules", "--no-includes", "--get-regexp", r"\.path$")
        known = run(root, place, *listed, ok=(0, 1)).out.splitlines()
        nested = [name for name in nested if not any(row.endswith(f" {name}") for row in known)]
    if answer.status:  # a repository without a commit, or a file that cannot be read; the second `add` tells them apart
        nested += _repositories(root, place)
        run(root, place, "add", "--all", "--", ".", *rest, *(f":(exclude,literal){name}" for name in nested))
    if nested:
        literal = (f":(literal){name}" for name in nested)
        run(root, place, "rm", "--cached", "-r", "--force", "--quiet", "--ignore-unmatch", "--", *literal)
        staged = _staged(root, place)
    return bool(staged), [f"{name} is a git repository of its own and was not committed" for name in nested]


def _staged(root: Path, place: Path) -> list[tuple[str, str, str]]:
    """(old mode, new mode, path) of what the index has and HEAD has not."""
    words = run(root, place, "diff-index", "--cached", "--raw", "-z", "--no-renames", "HEAD", "--").out.split("\0")
    return [(row[1:7], row[8:14], name) for row, name in zip(words[::2], words[1::2], strict=False)]


def _repositories(root: Path, place: Path) -> list[str]:
    """Untracked repositories inside the worktree, which make `git add` fail where they have no commit."""
    listed = run(root, place, "ls-files", "-z", "--others", "--directory", "--exclude-standard").out.split("\0")
    found = []
    for name in listed:
        for folder, folders, names in os.walk(place / name) if name.endswith("/") else ():
            if ".git" in folders or ".git" in names:
                folders.clear()
                found.append(os.path.relpath(folder, place))
    return found


def _outcome(path: Path) -> str:
    """What the agent says of itself; `results` reads that strictly, here only a refusal to go on matters."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):  # to open a pipe would be to wait for ever
            return ""
        with path.open("rb") as file:
            said = json.loads(file.read(1 << 20))
    except (OSError, ValueError, RecursionError):
        return ""
    return str(said.get("outcome", "")) if isinstance(said, dict) else ""


# --- .worktreeinclude ---


def _include(root: Path, place: Path) -> None:
    """Copy the ignored files of the root that .worktreeinclude names (patterns as in .gitignore). Overwrites none."""
    if not (root / INCLUDE).is_file():
        return
    named = ("ls-files", "-z", "--others", "--ignored", f"--exclude-from={INCLUDE}", "--", ".", f":(exclude){FOLDER}")
    names = git.run(root, *named).out
    ignored = git.run(root, "check-ignore", "-z", "--stdin", ok=(0, 1), input=names).out if names else ""
    for name in ignored.split("\0")[:-1]:
        if not {FOLDER, ".git"} & set(Path(name).parts):
            _copy(root, place, name)


def _copy(root: Path, place: Path, name: str) -> None:
    source, target = root / name, place / name
    mode = source.lstat().st_mode
    if os.path.lexists(target) or stat.S_ISDIR(mode):
        return
    if not Path(os.path.realpath(target)).is_relative_to(os.path.realpath(place)):
        say(f"octopoid: {name} is not copied: it would be written outside the worktree")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if stat.S_ISREG(mode):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with source.open("rb") as old, os.fdopen(os.open(target, flags, mode & 0o777), "wb") as new:
            while chunk := old.read(1 << 20):
                new.write(chunk)
    elif stat.S_ISLNK(mode) and _stays_inside(root, source):
        target.symlink_to(source.readlink())
    else:
        say(f"octopoid: {name} is not copied: it is no file, or a link that leads elsewhere")
        return
    say(f"octopoid: copied {name}")


def _stays_inside(root: Path, link: Path) -> bool:
    real = Path(os.path.realpath(link))
    inside = real.is_relative_to(os.path.realpath(root)) and not real.is_relative_to(root / FOLDER)
    return inside and not link.readlink().is_absolute()
