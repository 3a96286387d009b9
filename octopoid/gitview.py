"""A task's own view of git, in which it commits, branches and rebases while the user's repository stays as it is.

Inside, `objects`, `refs`, `logs` and `worktrees/<id>` of `.git` are folders of this view (`sandbox.View`). It lies in
the worktree's git directory and goes with it. `bring_in` takes the commits over as git takes what is fetched: a pack,
every object of which is checked. Nothing else of it is read outside, and nothing is written there over what an agent
made.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from octopoid import confined, durable, git, sandbox, worktrees
from octopoid.errors import Contained, GitError
from octopoid.gitfiles import common_dir, is_sha, line

OWN = "octopoid-sandbox"
"""In the git directory of a worktree: its own view of git. It goes with the worktree."""

_PACKED = 100
"""So many objects are kept as a pack, fewer as files (as git's `receive.unpackLimit`)."""


def seed(gitdir: Path, common: Path, worktree: Path, entry: Path, keeps: bool) -> Path:
    """The task's own git state, as it left it where nobody moved its HEAD meanwhile, else as the repository's is.

    What somebody left whose commits do not count (not `keeps`) is for nobody else. Branches are those of now in each
    entry: the agent is told to merge what landed since.
    """
    if (common / "reftable").is_dir():
        raise Contained(f"{common} keeps its refs in a reftable, which a sandbox does not know; use sandbox: off")
    own, head = gitdir / OWN, line(gitdir / "HEAD")
    state = _state(own)
    unmoved = (state.get("owner"), state.get("head")) == (str(worktree), head)
    in_here = (state.get("entry"), state.get("keeps")) == (str(entry), keeps)
    if not unmoved or not (in_here or (keeps and state.get("keeps"))):
        worktrees.delete(own)
        (own / "objects").mkdir(parents=True)
        (own / "objects" / "pack").mkdir()
        (own / "logs").mkdir()
        ignored = shutil.ignore_patterns(OWN, "*.lock")
        shutil.copytree(gitdir, own / "gitdir", ignore=ignored, symlinks=True)
        state = {}
    if state.get("entry") != str(entry):
        worktrees.delete(own / "refs")
        shutil.copytree(common / "refs", own / "refs", ignore=shutil.ignore_patterns("*.lock"), symlinks=True)
    _put_right(gitdir, common, own)
    (common / "logs").mkdir(exist_ok=True)
    state = {"owner": str(worktree), "head": head, "entry": str(entry), "keeps": keeps, "open": keeps}
    durable.write(own / "state.json", json.dumps(state).encode(), sync=False)
    return own


def _put_right(gitdir: Path, common: Path, own: Path) -> None:
    """What ties a worktree to its repository, its own configuration, where further objects are.

    An agent may have changed its view of these, also into links: nothing is written that was not removed before.
    """
    for name in ("commondir", "gitdir", "config.worktree"):
        worktrees.delete(own / "gitdir" / name)
        if (gitdir / name).exists():
            shutil.copyfile(gitdir / name, own / "gitdir" / name)
    worktrees.delete(own / "objects/info")
    (own / "objects/info").mkdir()
    rows = (sandbox.OBJECTS, *_alternates(common / "objects"))
    (own / "objects/info/alternates").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _alternates(objects: Path) -> list[str]:
    """The repository's own, absolute: git takes relative ones only at the first place that it looks."""
    try:
        rows = (objects / "info/alternates").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    return [os.path.realpath(objects / row) for row in rows if row and not row.startswith("#")]


def _state(own: Path) -> dict[str, Any]:
    try:
        found = json.loads((own / "state.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def bring_in(root: Path, place: Path, found: str) -> None:
    """Take over what was committed inside; `found`: the program that shuts in, in which it is read.

    Raises Contained, GitError, OSError.
    """
    if not os.path.lexists(place):
        return
    gitdir = worktrees.site(root, place)
    own = gitdir / OWN
    state, head = _state(own), line(gitdir / "HEAD")
    if not state.get("open") or (state.get("owner"), state.get("head")) != (str(place), head):
        return
    if not found:
        raise Contained("there is no sandbox any more in which it could be read")
    _put_right(gitdir, common_dir(root), own)
    through = _reading(found, root, place, gitdir)
    worktrees.drop_locks(gitdir)
    new = git.run(place, "rev-parse", "--verify", "--quiet", "HEAD^{commit}", through=through).out.strip()
    if not is_sha(new):
        raise GitError(("rev-parse",), 1, "its HEAD is no commit")
    if new != head:
        _take(root, place, head, new, through)
        confined.run(root, place, "update-ref", "--no-deref", "-m", "octopoid: sandbox", "HEAD", new, head)
        confined.run(root, place, "reset", "--quiet", "--mixed")
        worktrees.say(f"octopoid: HEAD is at {new[:12]}, taken over from the sandbox")
    # off a branch of its own, which the next run does not have
    durable.write(own / "gitdir/HEAD", f"{new}\n".encode(), sync=False)
    durable.write(own / "state.json", json.dumps({**state, "head": new, "open": False}).encode(), sync=False)


def _take(root: Path, place: Path, old: str, new: str, through: tuple[str, ...]) -> None:
    """The objects of `new` that `old` has not. Their names are computed from what they contain: none can be forged."""
    if git.commit_exists(root, new):
        return
    wanted = f"{new}\n^{old}\n"
    packing = ("pack-objects", "--revs", "--stdout", "--quiet", "--delta-base-offset")
    pack = git.run(place, *packing, input=wanted, through=through).out
    count = int.from_bytes(pack[8:12].encode("utf-8", "surrogateescape"), "big")
    if count < _PACKED:
        git.run(root, "unpack-objects", "-q", "--strict", input=pack)
    else:
        git.run(root, "index-pack", "--strict", "--stdin", input=pack)
    git.run(root, "rev-list", "--objects", "--quiet", new, f"^{old}", "--")


def _reading(found: str, root: Path, place: Path, gitdir: Path) -> tuple[str, ...]:
    """In front of git: it reads what an agent wrote, and can reach nothing but that."""
    common, own = common_dir(root), gitdir / OWN
    words = [found, *sandbox.ALONE, "--unshare-net", "--die-with-parent", "--cap-drop", "ALL", "--ro-bind", "/", "/"]
    words += [
        "--dev",
        "/dev",
        "--proc",
        "/proc",
        "--tmpfs",
        "/run",
        "--ro-bind",
        str(common / "objects"),
        sandbox.OBJECTS,
    ]
    for name in ("objects", "refs", "logs"):
        words += ["--ro-bind", str(own / name), str(common / name)]
    return (*words, "--ro-bind", str(own / "gitdir"), str(gitdir), "--chdir", str(place), "--")
