"""The only module that says "git".

Every call is an argv list, never a shell; refs and shas are checked before they become operands. A process costs 2 ms,
so what the files of `.git` say is read from them (`gitfiles`), and git is asked where they do not answer.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from octopoid import gitfiles
from octopoid.errors import GitError, TimedOut
from octopoid.gitfiles import (
    HEADS,
    MARK,
    Commit,
    common_dir,
    going_on,
    head_ref,
    is_branch_name,
    is_sha,
    is_tied,
    line,
    sha,
    sites,
    works_on,
)

MINIMUM = (2, 38, 0)
"""`merge-tree --write-tree` is as old as this."""

NO_IDENTITY = (
    'git has no user.name and user.email here; run `git config --global user.name "…"` and the same for user.email'
)

# The caller's repository must not become ours (a hook or an alias that runs octopoid sets GIT_DIR, GIT_INDEX_FILE, …):
# of GIT_* only what says who, with which configuration and how to reach others is passed on.
_PASSED = ("GIT_CONFIG_", "GIT_SSH", "GIT_SSL_", "GIT_HTTP_", "GIT_PROXY_", "GIT_TRACE", "GIT_TEST_", "GIT_ALLOW_")
_PASSED_ALONE = ("AUTHOR_NAME", "AUTHOR_EMAIL", "COMMITTER_NAME", "COMMITTER_EMAIL", "ASKPASS", "EXEC_PATH")
_NEVER = "GIT_CONFIG_PARAMETERS"
_FIXED = {
    "LC_ALL": "C.UTF-8",  # plain C would make hooks written in Python read files as ASCII
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_EDITOR": ":",
    "GIT_SEQUENCE_EDITOR": ":",
    "GIT_NO_REPLACE_OBJECTS": "1",  # what lands is what the commits hold, not what refs/replace shows in their place
}
QUICK = ("-c", "maintenance.auto=false", "-c", "gc.auto=0")
"""In front of a command that would start `git maintenance` after itself: that doubles a commit (7 ms, 3.4 without)."""

_LANDING_HOOKS = ("post-merge", "reference-transaction", "post-checkout", "post-index-change")


class Answer(NamedTuple):
    """What git said. Text is UTF-8; bytes that are not come as surrogates, as in os.fsdecode."""

    status: int
    out: str
    err: str


class Checkout(NamedTuple):
    """A worktree that has a branch. `busy`: "" or what is going on there. `ours`: a task's worktree, not the user's."""

    path: Path
    busy: str
    ours: bool = False


class Facts(NamedTuple):
    """What `doctor` wants to know about a repository."""

    user: str
    signs: bool
    hooks: tuple[str, ...]
    hooks_path: str
    submodules: tuple[str, ...]
    lfs: bool
    sparse: bool
    shallow: bool
    reftable: bool


# --- running it ---


def _environment(at: Path, more: Mapping[str, str] | None) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_")
        or (name.startswith(_PASSED) and name != _NEVER)
        or name.removeprefix("GIT_") in _PASSED_ALONE
    }
    # The search for a repository ends at `at`: a worktree that lost its .git file would otherwise operate on the user's
    # checkout, which contains it (PERF, silent traps).
    return {**kept, **_FIXED, "GIT_CEILING_DIRECTORIES": str(Path(os.path.realpath(at)).parent), **(more or {})}


def _spill() -> int:
    """An anonymous file. Not a pipe: what a hook leaves running would hold it open, and we would wait for that."""
    if sys.platform == "linux":
        return os.memfd_create("git")
    path = f"{os.environ.get('TMPDIR', '/tmp')}/octopoid-{os.urandom(12).hex()}"  # noqa: S108 - unguessable, O_EXCL
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    Path(path).unlink()
    return fd


def _drain(fd: int) -> str:
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return file.read().decode("utf-8", "surrogateescape")


def run(
    at: Path,
    *argv: str,
    ok: tuple[int, ...] = (0,),
    input: str | None = None,  # noqa: A002 - the name that subprocess.run has for it
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    show: bool = False,
    apart: bool = False,
    through: tuple[str, ...] = (),
) -> Answer:
    """Run git with `at`, the top of a worktree, as its current directory, and wait for it.

    `show`: its output goes where ours goes (hooks are heard while they run) and is not in the answer. `apart`: in a
    process group of its own, so that Ctrl-C at the scheduler does not cut a landing in two. `timeout` in seconds.
    `through`: words in front of it.
    Raises GitError (a status that is not in `ok`; 127: no git, or no `at`), TimedOut (after SIGTERM).
    """
    command = (*through, "git", *argv)
    out, err = (-1, -1) if show else (_spill(), _spill())
    source = -1
    try:
        if input is not None:
            source = _spill()
            with os.fdopen(os.dup(source), "wb") as file:
                file.write(input.encode("utf-8", "surrogateescape"))
            os.lseek(source, 0, os.SEEK_SET)
        process = subprocess.Popen(
            command,
            cwd=at,
            env=_environment(at, env),
            stdin=source if source >= 0 else subprocess.DEVNULL,
            stdout=None if show else out,
            stderr=None if show else err,
            process_group=0 if apart else None,
        )
        status = _wait(process, command, timeout)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise GitError(command[1:], 127, f"cannot start git in {at}: {error.strerror}") from error
    finally:
        texts = [_drain(fd) if fd >= 0 else "" for fd in (out, err)]
        if source >= 0:
            os.close(source)
    if status not in ok:
        raise GitError(argv, status, texts[1])
    return Answer(status, texts[0], texts[1])


def _wait(process: subprocess.Popen[bytes], command: tuple[str, ...], timeout: float | None) -> int:
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.terminate()  # git removes its lock files at SIGTERM
        process.wait()
        raise TimedOut(f"{' '.join(command[:3])} took longer than {timeout:g} s") from None


@functools.cache
def version() -> tuple[int, int, int]:
    """The version of git, such as (2, 39, 5). Raises GitError where there is no git."""
    words = run(Path("/"), "version").out.split()
    numbers = [int(part) for part in words[2].split(".")[:3] if part.isdigit()]
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return major, minor, patch


# --- what the files say ---


def branch_sha(root: Path, branch: str) -> str | None:
    """The commit at the tip of `branch`, None when there is no such branch. No process in the usual repository."""
    return ref_sha(root, HEADS + branch) if is_branch_name(branch) else None


def ref_sha(root: Path, ref: str) -> str | None:
    """The object that `ref` (full name) points to, or None."""
    common = common_dir(root)
    found = line(common / ref)
    if not found and not (common / "reftable").is_dir():
        found = gitfiles.packed(common, ref)
        if not found:
            return None
    if is_sha(found):
        return found
    answer = run(root, "rev-parse", "--verify", "--quiet", ref, ok=(0, 1))
    return answer.out.strip() or None


def worktrees(root: Path) -> tuple[Path, ...]:
    """The tops of all worktrees, the main one first. Their folders may be gone."""
    return tuple(top for _, top in sites(root))


def checkouts(root: Path, branch: str) -> tuple[Checkout, ...]:
    """Every worktree that has `branch` checked out, or is rebasing or bisecting it. Reads files, starts no process."""
    ref, common, found = head_ref(branch), common_dir(root), []
    heads = _listed_heads(root) if (common / "reftable").is_dir() else None
    for gitdir, top in sites(root):
        head = line(gitdir / "HEAD") if heads is None else heads.get(os.path.realpath(top), "")
        if head != f"ref: {ref}" and not works_on(gitdir, ref):
            continue
        # by its place, too: an agent can remove the mark, and git must not run in a folder of an agent's as in a user's
        inside = top.is_relative_to(Path(os.path.realpath(root), ".octopoid"))
        ours = gitdir != common and (inside or (gitdir / MARK).exists())
        busy = going_on(gitdir)
        if not ours and gitdir != common and not is_tied(gitdir, top):
            if not (gitdir / "locked").exists():
                continue  # its folder is gone: `git worktree prune` will forget it
            busy = "missing"  # on a drive that is not here
        found.append(Checkout(top, busy, ours))
    return tuple(found)


def _listed_heads(root: Path) -> dict[str, str]:
    """Top → content of HEAD, asked of git: in a reftable repository the file HEAD is a stub."""
    heads, top = {}, ""
    for word in run(root, "worktree", "list", "--porcelain", "-z").out.split("\0"):
        key, _, value = word.partition(" ")
        if key == "worktree":
            top = os.path.realpath(value)
        elif key == "branch":
            heads[top] = f"ref: {value}"
    return heads


def read_commit(root: Path, commit: str) -> Commit:
    """Tree and parents of a commit (full sha). Raises GitError when there is none."""
    found = gitfiles.loose_commit(common_dir(root), commit)
    return found or gitfiles.parse_commit(run(root, "cat-file", "commit", commit).out)


# --- questions ---


def commit_exists(root: Path, commit: str) -> bool:
    """Is there a commit with this full sha?"""
    return is_sha(commit) and run(root, "cat-file", "-e", f"{commit}^{{commit}}", ok=(0, 1, 128)).status == 0


def is_ancestor(root: Path, ancestor: str, of: str) -> bool:
    """Is the commit `ancestor` contained in the history of the commit `of`? Raises GitError when one does not exist."""
    if ancestor == of and is_sha(of):
        return True
    return run(root, "merge-base", "--is-ancestor", sha(ancestor), sha(of), ok=(0, 1)).status == 0


def tree_of(root: Path, commit: str) -> str:
    """The tree of a commit (full sha)."""
    return read_commit(root, commit).tree


def merge_base(root: Path, one: str, two: str) -> str | None:
    """The best common ancestor of two commits, None when their histories share nothing."""
    return run(root, "merge-base", sha(one), sha(two), ok=(0, 1)).out.strip() or None


def default_branch(root: Path) -> str | None:
    """What `init` proposes as base: the branch of the main checkout, else main, else master, else None."""
    head = line(common_dir(root) / "HEAD")
    if head.startswith("ref: " + HEADS) and not head.endswith("/.invalid"):  # the stub of a reftable repository
        return head.removeprefix("ref: " + HEADS)
    current = run(root, "symbolic-ref", "--quiet", "--short", "HEAD", ok=(0, 1)).out.strip()
    return current or next((name for name in ("main", "master") if branch_sha(root, name)), None)


def changed_files(root: Path, one: str, two: str) -> tuple[str, ...]:
    """Paths that differ between two commits or trees (full shas), sorted by git; a rename is both its names."""
    if one == two:
        return ()
    answer = run(root, "diff-tree", "-r", "-z", "--no-renames", "--name-only", sha(one), sha(two))
    return tuple(answer.out.split("\0")[:-1])


def diff(root: Path, one: str, two: str, color: bool, stat: bool) -> str:
    """What a person reads: the difference between two commits or trees (full shas)."""
    paint = f"--color={'always' if color else 'never'}"
    shape = ("--stat", "--summary") if stat else ("--patch",)
    return run(root, "diff", "--no-ext-diff", paint, *shape, sha(one), sha(two), "--").out


def log_graph(root: Path, n: int, color: bool) -> str:
    """The last `n` commits of HEAD, one line each, as a graph."""
    paint = f"--color={'always' if color else 'never'}"
    return run(root, "log", "--graph", "--oneline", "--decorate", paint, f"--max-count={n}", "--").out


def identity(root: Path) -> str | None:
    """`Name <mail>` as commits made here would carry it, None when git could not commit."""
    answer = run(root, "var", "GIT_COMMITTER_IDENT", ok=(0, 1, 128))
    return answer.out.rpartition(">")[0] + ">" if answer.status == 0 else None


def hooks_dir(root: Path) -> Path:
    """Where the hooks of this repository are (core.hooksPath respected). Ask once: this is a process."""
    return Path(os.path.normpath(root / run(root, "rev-parse", "--git-path", "hooks").out.rstrip("\n")))


def hooks_run_on_landing(hooks: Path) -> bool:
    """Would moving the base run a hook of the user's? Then it is supervised, not done inside a tick (DESIGN §8)."""
    return any(os.access(hooks / name, os.X_OK) for name in _LANDING_HOOKS)


# --- deeds ---


def commit_tree(root: Path, tree: str, parents: tuple[str, ...], message: str, env: Mapping[str, str]) -> str:
    """Make a commit without a checkout, with the user's identity unless `env` says otherwise. Its sha.

    No hooks run and nothing is signed: commit-tree knows neither. Raises GitError, NO_IDENTITY where that is missing.
    """
    words = [word for parent in parents for word in ("-p", sha(parent))]
    argv = ("-c", "i18n.commitEncoding=UTF-8", "commit-tree", sha(tree), *words, "-F", "-")
    answer = run(root, *argv, ok=(0, 128), input=message.replace("\0", ""), env=env)
    if answer.status == 0:
        return answer.out.strip()
    raise GitError(argv[2:], 128, answer.err if identity(root) else NO_IDENTITY)


def message(title: str, body: str, trailers: tuple[tuple[str, str], ...]) -> str:
    """A commit message. Trailers that the body ends with stay one block with the new ones; none is repeated."""
    text = "\n\n".join(part.strip() for part in (title, body) if part.strip())
    lines = [f"{key}: {' '.join(value.split())}" for key, value in trailers]
    head, _, last = text.rpartition("\n\n")
    block = last.splitlines() if head and all(_is_trailer(row) for row in last.splitlines()) else []
    missing = [row for row in lines if row not in block]
    if not missing:
        return text + "\n"
    return text + ("\n" if block else "\n\n") + "\n".join(missing) + "\n"


def _is_trailer(row: str) -> bool:
    key, colon, _ = row.partition(": ")
    return bool(colon) and bool(key) and all(char.isascii() and (char.isalnum() or char == "-") for char in key)


def maintain(root: Path) -> None:
    """What git does by itself after a commit and we leave out (QUICK): pack loose objects when there are many."""
    run(root, "maintenance", "run", "--auto", "--quiet", ok=(0, 1, 128), apart=True)


def repository_facts(root: Path) -> Facts:
    """What `doctor` reports. Off every hot path, so GitPython reads configuration, submodules and hooks."""
    import git

    with git.Repo(root) as repo, repo.config_reader() as config:

        def word(section: str, option: str) -> str:
            return str(config.get_value(section, option, ""))

        def truth(section: str, option: str) -> bool:
            return word(section, option).lower() in ("true", "1", "yes", "on")

        common = Path(repo.common_dir)
        name, mail = word("user", "name"), word("user", "email")
        hooks_path = word("core", "hooksPath")
        hooks = root / hooks_path if hooks_path else common / "hooks"
        return Facts(
            user=f"{name} <{mail}>" if name and mail else "",
            signs=truth("commit", "gpgsign"),
            hooks=_executables(hooks),
            hooks_path=hooks_path,
            submodules=tuple(str(module.path) for module in repo.submodules) if (root / ".gitmodules").exists() else (),
            lfs=b"filter=lfs" in _bytes(root / ".gitattributes") or config.has_section('filter "lfs"'),
            sparse=truth("core", "sparseCheckout") or (common / "info/sparse-checkout").exists(),
            shallow=(common / "shallow").exists(),
            reftable=(common / "reftable").is_dir(),
        )


def _executables(folder: Path) -> tuple[str, ...]:
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    return tuple(name for name in names if not name.endswith(".sample") and os.access(folder / name, os.X_OK))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
