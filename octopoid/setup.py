"""The `.octopoid` folder of a repository: what `init` makes, and what a fresh clone or `git clean -fdx` lost."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from octopoid import durable, git, trust
from octopoid.errors import Conflict, NotFound, UsageError
from octopoid.layout import FOLDER, Layout, main_worktree, refuse_links
from octopoid.states import State

GITIGNORE = b"""\
# Written by `octopoid init`. The policy belongs into the repository, everything else stays here.
/*
!/.gitignore
!/agents.yaml
!/roles/
!/flows/
!/templates/
"""


def repository(start: Path) -> Layout:
    """The layout of the repository that `start` is in, be there a `.octopoid` or not.

    Raises NotFound outside any repository, UsageError in a bare one, Conflict where `.octopoid` is not a folder.
    """
    here = Path(os.path.realpath(start))
    root = main_worktree(here)
    if root is None and (bare := next((one for one in (here, *here.parents) if _is_bare(one)), None)):
        raise UsageError(
            f"{bare} is a bare repository: there is no worktree to work from",
            "clone it with a working tree and run `octopoid init` there",
        )
    if root is None:
        raise NotFound(
            f"{start} is not inside a git repository",
            "make it one with `git init`, or name a repository with --root",
        )
    where = Layout(root)
    if os.path.lexists(where.home) and not where.home.is_dir():
        raise Conflict(f"{where.home} is not a folder", "octopoid needs that name: move what is there elsewhere")
    refuse_links(where)
    return where


def folders(layout: Layout) -> tuple[Path, ...]:
    """Every folder that the commands expect to be there."""
    return (layout.home, layout.roles, *(layout.folder(state) for state in State), layout.attempts, layout.run)


def make_folders(layout: Layout) -> tuple[Path, ...]:
    """Make the folders that are missing; those that were made."""
    missing = tuple(one for one in folders(layout) if not one.is_dir())
    for one in missing:
        private = one in private_folders(layout)
        one.mkdir(mode=0o700 if private else 0o777, parents=True, exist_ok=True)
        durable.sync_folder(one.parent)
    return missing


def private_folders(layout: Layout) -> tuple[Path, ...]:
    """What is nobody else's on this machine: evidence holds what agents printed, and prompts. The queue is as the
    user's umask says: these are their own documents.
    """
    return (layout.attempts, layout.run, layout.home / "worktrees")


def make_private(layout: Layout) -> None:
    """Take the rights of others away from the private folders, also from those that an older octopoid made."""
    for one in private_folders(layout):
        try:
            facts = one.lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and facts.st_mode & 0o077:
            one.chmod(0o700)


def make_file(path: Path, data: bytes) -> bool:
    """Write a file unless there is one, whatever it says. False: it was there."""
    if os.path.lexists(path):
        return False
    durable.write(path, data)
    return True


def gitignore(layout: Layout) -> Path:
    """The file that keeps everything but the policy out of the repository."""
    return layout.home / ".gitignore"


def is_complete(layout: Layout) -> bool:
    """Nothing is missing that `init` makes."""
    files = (layout.agents_yaml, gitignore(layout))
    return all(one.is_dir() for one in folders(layout)) and all(os.path.lexists(one) for one in files)


def ignores_itself(layout: Layout) -> bool:
    """Does the folder's .gitignore still keep the queue out of the repository? A person may have changed it."""
    try:
        lines = gitignore(layout).read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    return "/*" in lines or "*" in lines or "queue/" in lines or "/queue/" in lines


def name(layout: Layout, path: Path) -> str:
    """`path` as a message shows it: `agents.yaml` for `.octopoid/agents.yaml`."""
    return layout.short(path).removeprefix(f"{FOLDER}/")


def _is_bare(folder: Path) -> bool:
    return (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir()


def tracked(layout: Layout) -> tuple[str, ...]:
    """What of `.octopoid` is in git's index, however it is spelled there (a Mac takes `.Octopoid` for it), sorted.

    What is not in there did not come by a clone. Raises GitError.
    """
    said = git.run(layout.root, "ls-files", "-z", "--", f":(top,icase){FOLDER}")
    return tuple(sorted(name for name in said.out.split("\0") if name))


def brought(layout: Layout) -> tuple[str, ...]:
    """What of it is tracked and should be in no repository: queue, evidence, state. Raises GitError."""
    return tuple(name for name in tracked(layout) if _is_state(name))


def settle_trust(layout: Layout, now: float) -> bool:
    """Is the root trusted? One where a scheduler worked before there were marks gets its mark now. Raises GitError."""
    if trust.is_trusted(layout.root):
        return True
    if not trust.has_worked(layout) or brought(layout):
        return False
    trust.mark(layout.root, now)
    return True


def _is_state(name: str) -> bool:
    """Is this what octopoid itself writes, and no repository ever brings?"""
    parts = name.lower().split("/")
    return len(parts) < 2 or parts[1] in ("run", "attempts", "queue")  # alone: `.octopoid` itself is a link there
