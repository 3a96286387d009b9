"""git in a worktree of ours, where an agent has been: proven first, then told where everything is.

git believes the file `.git` that it finds in the folder, and that one belongs to the agent: it can lead to a repository
of the agent's own, whose configuration names programs (core.fsmonitor, hooks, filters) that git would then start, with
our rights and outside of any sandbox. So the repository is named in each call (git(1): GIT_DIR, GIT_COMMON_DIR,
GIT_WORK_TREE), and what an agent can write in the worktree's own git directory is looked at before.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from octopoid import git
from octopoid.errors import Contained, GitError
from octopoid.gitfiles import common_dir, git_dir, line

# Post-checkout hooks run when a worktree is made, as by hand, but not each time we put a commit there for checks. Into
# submodules and repositories inside git goes only where it must: their configuration is the agent's, too.
NO_HOOKS = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "submodule.recurse=false")
NO_SUBMODULES = "--ignore-submodules=dirty"
"""For `status`: a submodule that is at another commit is told (a file says that); it is not asked what is in it."""

_GITLINK = b"\0\0\xe0\0"
"""The mode of a repository inside, as an index has it."""

# What may differ between a worktree's own configuration and the main checkout's: what `git sparse-checkout` writes.
_HARMLESS = ("core.sparsecheckout", "core.sparsecheckoutcone", "index.sparse")


def site(root: Path, place: Path) -> Path:
    """The git directory of our worktree at `place`, proven by files alone. Raises Contained."""
    common = common_dir(root)

    def no(why: str) -> Contained:
        return Contained(f"{place} is not a worktree of {root}: {why}")

    try:
        if not stat.S_ISDIR(place.lstat().st_mode):
            raise no("it is not a folder")
        if not stat.S_ISREG((place / ".git").lstat().st_mode):
            raise no("its .git is not the file that `git worktree` made")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise no(f"{error.filename} is gone") from error
    gitdir = git_dir(place)
    if gitdir.parent != common / "worktrees" or not (gitdir / "HEAD").exists():
        raise no(f"its .git file leads to {gitdir}")
    for name in ("HEAD", "commondir", "gitdir", "index"):
        if os.path.lexists(gitdir / name) and not (gitdir / name).is_file():
            raise no(f"{gitdir}/{name} is no file")  # a pipe would be waited for, by git itself, too
    if os.path.realpath(gitdir / line(gitdir / "commondir")) != str(common):
        raise no(f"{gitdir} belongs to another repository")
    if os.path.realpath(gitdir / line(gitdir / "gitdir")) != f"{real(place)}/.git":
        raise no(f"{gitdir} belongs to {line(gitdir / 'gitdir')}")
    if os.path.lexists(gitdir / "config.worktree"):
        odd = _own_settings(root, common, gitdir)
        if odd:
            raise no(f"{gitdir}/config.worktree sets {odd}, which the repository does not")
    return gitdir


def _own_settings(root: Path, common: Path, gitdir: Path) -> str:
    """A setting of this worktree alone that may be an agent's. `git worktree add` copies those of the main checkout."""
    if not (gitdir / "config.worktree").is_file():
        return "nothing that can be read"
    theirs = _settings(root, common / "config.worktree") if (common / "config.worktree").is_file() else frozenset()
    for setting in sorted(_settings(root, gitdir / "config.worktree") - theirs):
        name = setting.partition("\n")[0]
        if name not in _HARMLESS:
            return name
    return ""


def _settings(root: Path, path: Path) -> frozenset[str]:
    answer = git.run(root, "config", "--file", str(path), "--no-includes", "-z", "--list", ok=(0, 1, 128))
    return frozenset(answer.out.split("\0")[:-1]) if answer.status == 0 else frozenset((f"{path.name} cannot be read",))


def real(place: Path) -> str:
    """The path of a worktree as git writes it down; `place` itself must not be a link."""
    return f"{os.path.realpath(place.parent)}/{place.name}"


def run(
    root: Path,
    place: Path,
    *argv: str,
    ok: tuple[int, ...] = (0,),
    input: str | None = None,  # noqa: A002 - the name that subprocess.run has for it
) -> git.Answer:
    """Run git in our worktree at `place`, whatever its files say by now. No hooks. Raises Contained, GitError."""
    where = {"GIT_DIR": str(site(root, place)), "GIT_COMMON_DIR": str(common_dir(root)), "GIT_WORK_TREE": str(place)}
    return git.run(place, *NO_HOOKS, *argv, ok=ok, input=input, env=where)


def ask(root: Path, place: Path, *revisions: str) -> list[str]:
    """What `git rev-parse` says about `revisions` in the worktree, which this proves on the way: by files, then by git.

    Raises Contained; GitError when a revision does not exist.
    """
    site(root, place)
    top = os.path.realpath(place) + "\n"
    # Here git finds the folder by itself, as it will for the agent; the configuration is the repository's all the same.
    common = {"GIT_COMMON_DIR": str(common_dir(root))}
    answer = git.run(place, *NO_HOOKS, "rev-parse", "--show-toplevel", *revisions, ok=(0, 128), env=common)
    if answer.status and not revisions:
        raise Contained(f"git does not take {place} for a worktree: {answer.err.strip()}")
    if not answer.out.startswith(top):
        raise Contained(f"git takes {answer.out.strip() or 'nothing'} for the top of {place}")
    if answer.status:
        raise GitError(("rev-parse", *revisions), answer.status, answer.err)
    return answer.out.removeprefix(top).split()


def uncommitted(root: Path, place: Path) -> list[str]:
    """Paths that differ from HEAD, staged or not, untracked ones included; a folder of untracked files is one path.

    What is uncommitted inside a submodule is not seen. Writes nothing, not even a refreshed index.
    """
    shape = ("--porcelain", "-z", "--no-renames", "--untracked-files=normal", NO_SUBMODULES)
    out = run(root, place, "--no-optional-locks", "status", *shape).out
    return [entry[3:] for entry in out.split("\0") if entry]


def inside(root: Path, place: Path) -> list[str]:
    """The tracked repositories inside (submodules) that have one there. No process where the index names none."""
    gitdir = site(root, place)
    try:
        index = (gitdir / "index").read_bytes()
    except FileNotFoundError:
        return []
    if _GITLINK not in index and b"link" not in index:  # `link`: the rest of a split index is in another file
        return []
    rows = run(root, place, "ls-files", "--stage", "-z").out.split("\0")
    names = [row.partition("\t")[2] for row in rows if row.startswith("160000 ")]
    return [name for name in names if os.path.lexists(place / name / ".git")]
