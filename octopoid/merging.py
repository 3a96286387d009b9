"""What lands, and the moving of the base branch. The scheduler's side of git: no checkout is needed or made.

Verdicts are about trees (DESIGN §8), so the result is computed first (`propose`), checked, and then becomes the tip of
the base by compare-and-swap (`advance`). A branch that somebody has checked out moves by `git merge --ff-only` in that
worktree: git itself refuses to touch uncommitted work there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from octopoid import git
from octopoid.errors import GitError, UsageError
from octopoid.gitfiles import HEADS, common_dir, head_ref, is_branch_name, sha, sites

Trailers = tuple[tuple[str, str], ...]

UNRELATED = "(the whole history)"
"""Stands in `Proposal.conflicts` where a path would: the candidate has no common ancestor with the base."""

# Never an autostash, a squash or a merge commit, whatever branch.<name>.mergeOptions says, and never over an ignored
# file of theirs: git's default is to overwrite those.
_FAST_FORWARD = (
    *git.QUICK,
    *("-c", "merge.autoStash=false", "merge", "--ff-only", "--no-squash", "--no-autostash"),
    *("--no-overwrite-ignore", "--no-stat", "--quiet"),
)


class Proposal(NamedTuple):
    """What `base` would be with the candidate landed. With `conflicts` there is no `tree` and no `result_sha`."""

    tree: str
    result_sha: str
    onto: str
    conflicts: tuple[str, ...]
    detail: str


class Advance(NamedTuple):
    """Did the base move? If not, `waits` says why.

    `moved` (it is not at `old`), `dirty` (git would have to touch uncommitted work), `lock`, `missing` (the worktree
    that has it is on a drive that is not here), `refused` (git said no for another reason: unsigned, a hook, no such
    commit), or what is in progress there: rebase, merge, bisect, cherry-pick, revert. `detail`: for people.
    """

    done: bool
    waits: str
    detail: str


class _Merged(NamedTuple):
    tree: str
    conflicts: tuple[str, ...]
    detail: str


class _Patch(NamedTuple):
    """One commit of a candidate, as `rebase` replays it."""

    sha: str
    tree: str
    parents: tuple[str, ...]
    name: str
    mail: str
    date: str
    message: str


# --- what would land ---


def propose(
    root: Path, *, onto: str, candidate: str, mode: str, title: str, body: str, trailers: Trailers, now: float
) -> Proposal:
    """Compute what landing `candidate` on the commit `onto` gives, and make that commit. Moves no ref.

    `merge` and `none`: one merge commit, also where a fast-forward were possible. `squash`: one commit. `rebase`: the
    candidate's commits replayed, author and date kept, merges flattened, those that become empty dropped, the trailers
    on the last one; a candidate with nothing left gives `onto` itself. `now` (epoch seconds) dates what is made.
    Commits are made with the user's identity, unsigned and without hooks. Raises GitError; UsageError: unknown mode.
    """
    if mode not in ("merge", "none", "squash", "rebase"):
        raise UsageError(f"there is no way to land that is called {mode!r}", "use merge, squash, rebase or none")
    dates = _dates(now)
    if mode == "rebase":
        return _replay(root, onto, candidate, trailers, dates)
    merged = _merge_trees(root, onto, candidate)
    if merged.conflicts:
        return Proposal("", "", onto, merged.conflicts, merged.detail)
    parents = (onto,) if mode == "squash" else (onto, candidate)
    made = git.commit_tree(root, merged.tree, parents, git.message(title, body, trailers), dates)
    return Proposal(merged.tree, made, onto, (), "")


def _dates(now: float) -> dict[str, str]:
    date = f"@{int(now)} {time.strftime('%z', time.localtime(now))}"
    return {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}


def _merge_trees(root: Path, ours: str, theirs: str, *options: str) -> _Merged:
    argv = ("merge-tree", "--write-tree", "-z", "--name-only", "--messages", *options, sha(ours), sha(theirs))
    answer = git.run(root, *argv, ok=(0, 1, 128))
    tree, *rest = answer.out.split("\0")
    if not tree:  # status 128, or 1 like a conflict for a commit that is not there
        if git.commit_exists(root, ours) and git.commit_exists(root, theirs) and not git.merge_base(root, ours, theirs):
            return _Merged("", (UNRELATED,), f"{theirs[:12]} shares no history with {ours[:12]}")
        raise GitError(argv, answer.status, answer.err)
    if answer.status == 0:
        return _Merged(tree, (), "")
    end = rest.index("") if "" in rest else len(rest)
    paths = tuple(dict.fromkeys(rest[:end]))
    return _Merged("", paths or ("(git names no file)",), "\n".join(_messages(rest[end + 1 :])))


def _messages(words: list[str]) -> list[str]:
    """The sentences of `merge-tree -z`: repeated <number of paths> <paths …> <kind> <sentence>."""
    found = []
    while len(words) > 2 and words[0].isdigit():
        number = int(words[0])
        found += [word.strip() for word in words[number + 2 : number + 3] if "CONFLICT" in word]
        words = words[number + 3 :]
    return found


def _replay(root: Path, onto: str, candidate: str, trailers: Trailers, dates: Mapping[str, str]) -> Proposal:
    """Rebase without a checkout. Patches that apply as they are (nothing moved) keep their sha."""
    patches = _patches(root, onto, candidate)
    tip, tree = onto, git.tree_of(root, onto)
    last: Callable[[str], str] | None = None
    words = ""
    for patch in patches:
        parent = patch.parents[0] if patch.parents else ""
        before = git.tree_of(root, parent) if parent else ""
        merged = _apply(root, patch, tree, before, dates)
        if merged.conflicts:
            text = f"{patch.sha[:12]} {patch.message.splitlines()[0]}\n{merged.detail}"
            return Proposal("", "", onto, merged.conflicts, text)
        if merged.tree == tree and patch.tree != before:
            continue  # somebody else landed the same; commits that were empty from the start stay, as in git rebase
        below, tree = tip, merged.tree
        last, words = _maker(root, patch, below, tree, dates), patch.message
        tip = patch.sha if parent == below else last(words)
    if last and trailers:
        tip = last(git.message("", words, trailers))
    return Proposal(tree, tip, onto, (), "")


def _maker(root: Path, patch: _Patch, below: str, tree: str, dates: Mapping[str, str]) -> Callable[[str], str]:
    author = {"GIT_AUTHOR_NAME": patch.name, "GIT_AUTHOR_EMAIL": patch.mail, "GIT_AUTHOR_DATE": f"@{patch.date}"}
    return lambda text: git.commit_tree(root, tree, (below,), text, {**dates, **author})


def _apply(root: Path, patch: _Patch, tree: str, before: str, dates: Mapping[str, str]) -> _Merged:
    """`patch`, which was made on the tree `before`, on `tree`."""
    if before == tree:
        return _Merged(patch.tree, (), "")
    # git < 2.40 has no `merge-tree --merge-base`: a commit with our tree and the patch's parent has that parent as base
    ours = git.commit_tree(root, tree, patch.parents[:1], "base of a replay\n", dates)
    return _merge_trees(root, ours, patch.sha, *(() if patch.parents else ("--allow-unrelated-histories",)))


def _patches(root: Path, onto: str, candidate: str) -> list[_Patch]:
    form = "--format=%H%x00%T%x00%P%x00%an%x00%ae%x00%ad%x00%B%x00"
    select = ("--reverse", "--topo-order", "--no-merges", "--date=raw", "--encoding=UTF-8", "--no-commit-header")
    words = git.run(root, "rev-list", *select, form, f"{sha(onto)}..{sha(candidate)}").out.split("\0")
    rows = [words[at : at + 7] for at in range(0, len(words) - 1, 7)]
    return [_Patch(row[0].strip(), row[1], tuple(row[2].split()), row[3], row[4], row[5], row[6]) for row in rows]


# --- moving the base ---


def advance(root: Path, *, base: str, old: str, new: str) -> Advance:
    """Move the branch `base` from `old` to its descendant `new`, or say why that must wait. Never forces anything.

    Nobody has it checked out: compare-and-swap of the ref. Else fast-forward in that worktree, with the user's hooks.
    """
    ref = head_ref(base)
    sha(old), sha(new)
    now = git.branch_sha(root, base)
    if now == new:
        return Advance(True, "", "")
    if now != old:
        return Advance(False, "moved", f"{base} is at {(now or 'nothing')[:12]}, not at {old[:12]}")
    theirs = []
    for place in git.checkouts(root, base):
        if place.ours:
            _let_go(root, place, old)
        elif place.busy:
            return Advance(False, "lock" if place.busy == "index.lock" else place.busy, _in_the_way(place))
        else:
            theirs.append(place.path)
    if theirs:
        return _fast_forward(root, base, old, new, theirs)
    answer = git.run(root, "update-ref", "-m", "octopoid: land", ref, new, old, ok=(0, 1, 128), apart=True)
    if answer.status:
        return _refusal(root, base, old, answer)
    for place in git.checkouts(root, base):  # somebody checked it out in between, with the files of `old`
        if place.ours:
            _let_go(root, place, old)
        else:
            git.run(place.path, "read-tree", "-m", "-u", old, new, ok=(0, 1, 128), apart=True)
    return Advance(True, "", "")


def _let_go(root: Path, place: git.Checkout, at: str) -> None:
    """An agent switched to the base. Left so, its files would look like the undoing of what lands now.

    Not a git in its folder: whose repository that is, `.git` there says, and an agent can write that file.
    """
    argv = ("-c", "core.hooksPath=/dev/null", "update-ref", "--no-deref", "-m", "octopoid: detach", "HEAD", sha(at))
    for gitdir in (gitdir for gitdir, top in sites(root) if top == place.path):
        git.run(root, *argv, env={"GIT_DIR": str(gitdir), "GIT_COMMON_DIR": str(common_dir(root))})


def _in_the_way(place: git.Checkout) -> str:
    if place.busy == "index.lock":
        return f"another git works in {place.path}, or one died there and left index.lock"
    if place.busy == "missing":
        return f"{place.path}, which has the branch checked out, is not there now"
    return f"a {place.busy} is in progress in {place.path}"


def _fast_forward(root: Path, base: str, old: str, new: str, places: list[Path]) -> Advance:
    first, *others = places
    for place in (
        others
    ):  # `checkout --ignore-other-worktrees` lets two worktrees have one branch; then all must be free to follow
        trial = git.run(place, "read-tree", "-n", "-m", "-u", old, new, ok=(0, 1, 128))
        if trial.status:
            return Advance(False, "dirty", f"in {place}: {trial.err.strip()}")
    answer = git.run(first, *_FAST_FORWARD, new, ok=(0, 1, 128), apart=True)
    if git.branch_sha(root, base) != new:
        return _refusal(root, base, old, answer, first)
    said = [answer.err]
    for place in others:
        said.append(git.run(place, "read-tree", "-m", "-u", old, new, ok=(0, 1, 128), apart=True).err)
    return Advance(True, "", "".join(said).strip())


def _refusal(root: Path, base: str, old: str, answer: git.Answer, place: Path | None = None) -> Advance:
    """Why git did not move the base: from what is there now, and from names of files, not from its prose."""
    said = answer.err.strip()
    now = git.branch_sha(root, base)
    if now != old:
        return Advance(False, "moved", f"{base} is at {(now or 'nothing')[:12]}, not at {old[:12]}")
    lock = common_dir(root) / f"{head_ref(base)}.lock"
    if lock.exists() or "index.lock'" in said or f"{base}.lock'" in said:  # held then; it may be free by now
        return Advance(False, "lock", said)
    if place is None:
        return Advance(False, "refused", said)
    busy = next((found.busy for found in git.checkouts(root, base) if found.path == place), "")
    if busy:
        return Advance(False, "lock" if busy == "index.lock" else busy, said)
    # `merge --ff-only` ends with 1 when files are in the way, with 128 when the commit is (unsigned, not a descendant)
    return Advance(False, "dirty" if answer.status == 1 else "refused", f"in {place}: {said}")


def heal_fast_forward(root: Path, base: str, new: str) -> bool:
    """Finish the fast-forward to `new` of a git that died between writing the index and moving the branch.

    Only where the index of the one worktree that has `base` is exactly the tree of `new`: git then touches no file.
    """
    old, places = git.branch_sha(root, base), git.checkouts(root, base)
    if old in (None, new) or len(places) != 1 or places[0].busy or places[0].ours:
        return False
    if git.run(places[0].path, "diff-index", "--cached", "--quiet", sha(new), "--", ok=(0, 1)).status:
        return False
    return git.run(places[0].path, *_FAST_FORWARD, new, ok=(0, 1, 128), apart=True).status == 0


# --- names for what must not be lost ---


def _name(task: str) -> str:
    """A task id as a component of a ref: an id may hold `..` or end with `.lock` or a dot, a ref may not."""
    return task if is_branch_name(task) else task.replace(".", "%2e")


def ref_of(task: str) -> str:
    """The ref that keeps a task's result from being pruned until it has landed."""
    return f"refs/octopoid/{_name(task)}"


def keep_ref(root: Path, task: str, commit: str) -> None:
    """Point the task's ref to `commit`."""
    git.run(root, "update-ref", ref_of(task), sha(commit))


def drop_ref(root: Path, task: str) -> None:
    """Remove the task's ref, if there is one."""
    if git.ref_sha(root, ref_of(task)):
        git.run(root, "update-ref", "-d", ref_of(task))


def publish_branch(root: Path, task: str, commit: str) -> str:
    """Leave `commit` at the branch `octopoid/<task>` and return the branch's name (land mode `none`).

    A branch of that name that somebody works on, or whose commits `commit` does not contain, is left alone: then the
    name gets a number.
    """
    sha(commit)
    for number in range(1, 1000):
        branch = f"octopoid/{_name(task)}" + (f"-{number}" if number > 1 else "")
        old = git.branch_sha(root, branch)
        if old == commit:
            return branch
        if old is None or (git.is_ancestor(root, old, commit) and not git.checkouts(root, branch)):
            git.run(root, "update-ref", "-m", "octopoid: publish", HEADS + branch, commit, old or "0" * len(commit))
            return branch
    raise UsageError(f"there are a thousand branches octopoid/{task}-…", "remove the old ones")


def make_branch(root: Path, name: str, commit: str) -> bool:
    """Make branch `name` at `commit`. False: it is there already, wherever it is. Raises GitError."""
    none = "0" * len(sha(commit))
    made = git.run(root, "update-ref", "-m", "octopoid: begin", HEADS + name, commit, none, ok=(0, 128))
    if made.status and git.branch_sha(root, name) is None:
        raise GitError(("update-ref", HEADS + name), made.status, made.err)
    return made.status == 0
