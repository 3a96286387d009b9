"""What an attempt must not leave in the repository: a secret of ours, files nobody can check out, a base it moved.

An agent shares the repository with everybody else: it can write any object, and move any branch.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from octopoid import git
from octopoid.gitfiles import common_dir, line, sha, sites

SECRET_LENGTH = 8
"""Characters. A shorter value stands in every other file, and is hardly a secret."""

# Fewer words than for what is not shown: a commit is refused for these, and AUTH_URL or BYPASS_DIR is no secret.
_SECRET = re.compile("KEY|TOKEN|SECRET|PASSW", re.IGNORECASE)

_NO_NAMES = ("", ".", "..", ".git")
_MANY = 500
"""Paths, and commits, that fit into one command."""
_OWN = ("commit", "cherry-pick", "revert", "rebase (pick)", "am:")
"""How a line of HEAD's log begins by which somebody made a commit there, and did not only go to one."""


def secret_names(variables: Collection[str]) -> tuple[str, ...]:
    """Those of the variables whose names say that their values must be in no commit."""
    return tuple(name for name in variables if _SECRET.search(name))


def touched(root: Path, base: str, head: str) -> tuple[str, ...]:
    """Every path that a commit of `base..head` (full shas) changes: what the next one takes back is in history, too."""
    argv = ("log", "-m", "-z", "--format=", "--name-only", "--no-renames", f"{sha(base)}..{sha(head)}", "--")
    return tuple(sorted({name.strip("\n") for name in git.run(root, *argv).out.split("\0")} - {""}))


def leaks(root: Path, base: str, head: str, names: Collection[str], secrets: Mapping[str, str]) -> tuple[str, ...]:
    """`FILE (NAME)` for each secret (name → value) that a commit of `base..head` (full shas) brings; never the value.

    `names`: the paths that these commits change. What the base holds already is known to everybody.
    """
    found: list[str] = []
    wanted = {name: _longest(value) for name, value in secrets.items() if len(_longest(value)) >= SECRET_LENGTH}
    if not wanted or base == head:
        return ()
    span = f"{sha(base)}..{sha(head)}"
    commits = git.run(root, "rev-list", span).out.split()
    messages = git.run(root, "log", "--format=%an %ae %cn %ce%n%B", span, "--").out
    for name, value in wanted.items():
        places = _holding(root, value, commits, names)
        places += [one for one in names if value in one]
        places += ["a commit message"] if value in messages else []
        if places and not _holding(root, value, [base], ()):
            found += [f"{_hide(place, value)} ({name})" for place in dict.fromkeys(places)]
    return tuple(found)


def _longest(value: str) -> str:
    """A pattern is a line: of a key with several the longest stands for all."""
    return max(value.splitlines(), key=len, default="").strip()


def _hide(place: str, value: str) -> str:
    return place.replace(value, "…")


def _holding(root: Path, value: str, commits: list[str], names: Collection[str]) -> list[str]:
    """The paths that hold `value` in one of `commits`. The value goes by stdin: a command line is for all to read."""
    paths = [f":(top,literal){name}" for name in names] if len(names) <= _MANY else []
    argv = ("grep", "-l", "-z", "-a", "-F", "--no-recurse-submodules", "--no-textconv", "-f", "-")
    found: list[str] = []
    for at in range(0, len(commits), _MANY):
        part = commits[at : at + _MANY]
        out = git.run(root, *argv, *part, "--", *paths, ok=(0, 1), input=value + "\n").out
        found += [one.partition(":")[2] for one in out.split("\0") if one]
    return found


def unlandable(root: Path, head: str, files: Collection[str], names: Collection[str]) -> tuple[str, ...]:
    """Paths that no checkout can hold: named like git's own (of `names`, those of every commit: no server takes such a
    history), or, of the changed `files`, twice where case is no matter.

    A tree is written by whoever writes objects; git looks at its names only when somebody checks it out.
    """
    odd = [name for name in names if any(part.lower() in _NO_NAMES for part in name.split("/"))]
    return (*odd, *(_twice(root, head, files) if files and _ignores_case(root) else ()))


def _ignores_case(root: Path) -> bool:
    """The user's disk does (macOS, Windows): git noted that when it made the repository."""
    rows = line(common_dir(root) / "config").lower().splitlines()
    return any("".join(row.split()) == "ignorecase=true" for row in rows)


def _twice(root: Path, head: str, files: Collection[str]) -> list[str]:
    """Changed files that differ from another path, or from a folder of one, only by case."""
    spelled: dict[str, set[str]] = {}
    for name in git.run(root, "ls-tree", "-r", "-z", "--name-only", "--full-tree", sha(head)).out.split("\0")[:-1]:
        parts = name.split("/")
        for end in range(1, len(parts) + 1):
            path = "/".join(parts[:end])
            spelled.setdefault(path.casefold(), set()).add(path)
    return [name for name in files if any(len(spelled.get(one.casefold(), ())) > 1 for one in _above(name))]


def _above(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]


def took_the_base(root: Path, place: Path, base: str, before: str) -> str:
    """The commit that an attempt moved the branch `base` to, "" when it did not.

    The branch is not at `before` any more, and where it is now HEAD's log of the worktree at `place` says was committed
    there. That a person moved it there meanwhile cannot be told from it: a person says so.
    """
    now = git.branch_sha(root, base)
    if now is None or now == before:
        return ""
    for gitdir, top in sites(root):
        if top.name == place.name and gitdir != common_dir(root):
            rows = (row.partition("\t") for row in line(gitdir / "logs/HEAD").splitlines())
            # <old> <new> <who> <when>\t<what>; `rebase (start)` and `(finish)` only go somewhere
            made = (head.split(" ")[1] for head, _, what in rows if what.startswith(_OWN) and " " in head)
            if now in made:
                return now
    return ""
