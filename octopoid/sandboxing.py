"""Whether programs can be shut in here, and doing so: the places, and the way back.

`probe` is the first step of a run and says in `sandbox.json` what shuts in; `wrap` and `unwrap` are called by the
runner around each step that is shut in, `bring_in` is a step after the agent's.
"""

# What goes to bubblewrap is text:
# ruff: noqa: PTH110, PTH112, PTH115, PTH118, PTH119, PTH120, PTH100
from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Any, NamedTuple

from octopoid import durable, gitview, process, programs, sandbox, worktrees
from octopoid.errors import OctopoidError
from octopoid.gitfiles import common_dir
from octopoid.worktrees import say

OK, FAILED, TROUBLE = 0, 1, 75
RECORD = "sandbox.json"
MINE = "sandbox"
"""In the entry: what only this run's programs see."""

INSTALL = {
    "linux": "install bubblewrap (`apt install bubblewrap`, `dnf install bubblewrap`)",
    "darwin": "sandbox-exec is part of macOS",
}
_PROGRAMS = {"linux": "bwrap", "darwin": "sandbox-exec"}

_SMALL = 4 << 20
"""Bytes of a file that is copied for a program that wants to rewrite it."""

_NOT_OURS = frozenset(
    {
        *("attempt.json", "steps.json", "exit.json", "outcome.json", "facts.json", "start.json", "children.json"),
        *("lock", "pid", "output.log", "runner.log", "waits", "spawned", "stop", "said", "said.json", RECORD, MINE),
        *("task.md", "prompt.md", "artifacts", "tmp"),
    }
)
"""Names in an entry that no agent has a say about, or that are in their places already."""


# --- is there one ------------------------------------------------------------------------------------------------


def program(mode: str, path: str, platform: str = sys.platform) -> tuple[str, str]:
    """The program that shuts in, as a path, and why there is none. `path`: as PATH is written."""
    name = _PROGRAMS.get(platform, "")
    if not name:
        return "", f"there is no sandbox for {platform}"
    if mode in _PROGRAMS.values() and mode != name:
        return "", f"{mode} is not for this system; {name} is"
    found = programs.find_program(name, path, "/")
    if found is None or not os.access(found, os.X_OK):
        return "", f"{name} is not installed; {INSTALL[platform]}"
    argv = [found, *sandbox.ALONE, "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "true"]
    if platform == "darwin":
        argv = [found, "-p", "(version 1)(allow default)", "true"]
    status, said = _try(argv)
    return (found, "") if status == 0 else ("", f"{found} does not work here: {said or f'exit status {status}'}")


def _try(argv: list[str]) -> tuple[int, str]:
    read, write = os.pipe()
    try:
        pid = process.start(argv, env={"PATH": os.defpath, "LC_ALL": "C"}, output=write, new_session=False)
    except OSError as error:
        os.close(read)
        return 127, str(error.strerror)
    finally:
        os.close(write)
    with os.fdopen(read, encoding="utf-8", errors="replace") as file:
        said = file.read(4096).strip().split("\n")[-1]
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


def probe(*, mode: str, entry: str, work: bool) -> int:
    """The first step: what shuts in here goes into `sandbox.json`. TROUBLE where there must be something and is not.

    `work`: the agent itself, or the checks, are to be shut in, not just what is around them.
    """
    found, why = program(mode, os.environ.get("PATH", os.defpath))
    record = {"mode": mode, "program": found, "why": why, "work": work}
    durable.write(Path(entry, RECORD), json.dumps(record).encode(), sync=False)
    if found:
        return OK
    say(f"octopoid: {'' if mode == 'on' else 'this needs a sandbox, and '}there is none: {why}")
    return OK if mode == "on" else TROUBLE


def _found(entry: Path) -> str:
    """The program that `probe` found."""
    try:
        return str(json.loads((entry / RECORD).read_bytes())["program"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


# --- around a step -----------------------------------------------------------------------------------------------


def wrap(step: dict[str, Any], entry: str) -> dict[str, Any]:
    """The step as it is started. Raises OSError (also where the worktree is not one)."""
    said = step["sandbox"]
    found = _found(Path(entry))
    argv = sandbox.limited(step["argv"], said["box"])
    if not found or said["box"]["mode"] == "off":
        return {**step, "argv": argv}
    mounts = os.path.basename(found) == "bwrap"
    try:
        box, view = _view(said, Path(entry), mounts)
    except OctopoidError as error:
        raise OSError(0, str(error), said["worktree"]) from None
    tmp = "/tmp" if mounts else os.path.join(view.mine, "tmp")  # noqa: S108 - inside it is its own
    made = {**step, "env": _inside({**(step.get("env") or {}), "TMPDIR": tmp})}
    if not mounts:
        return {**made, "argv": [found, "-p", sandbox.profile(box, view), *argv]}
    lock = Path(entry, _STATUS)
    made["status_from"] = lock.stat().st_size if lock.exists() else 0
    return {**made, "argv": [*sandbox.bwrap(found, box, view, process.LOCK_FD), *argv], "cwd": "/"}


_STATUS = "lock"
"""bubblewrap writes into this file that it began and how it ended: the descriptor is there for it, and ends there.

An agent does not see it, so that it cannot say of itself that it never began, or let go of the lock."""


def unwrap(step: dict[str, Any], entry: str) -> str:
    """After the step: what its programs left in the entry comes there. Why it never began, "" where it did."""
    mine = Path(entry, MINE)
    own = mine / "entry"
    for name in sorted(os.listdir(own)) if own.is_dir() else ():
        if name not in _NOT_OURS and not name.startswith((".", "moved-")):
            _fetch(own / name, Path(entry, name))
    worktrees.delete(mine)
    if "status_from" not in step:
        return ""
    with Path(entry, _STATUS).open("rb") as file:
        file.seek(step["status_from"])
        return "" if b'"exit-code"' in file.read() else "its sandbox could not be made; what it said stands above"


def _view(said: dict[str, Any], entry: Path, mounts: bool) -> tuple[dict[str, Any], sandbox.View]:
    """What is allowed, links followed, and where everything is, made if need be."""
    root, worktree, home = Path(said["root"]), Path(said["worktree"]), os.path.realpath(said["home"])
    mine = entry / MINE
    worktrees.delete(mine)
    for name in ("tmp", "home", "entry") if mounts else ("tmp",):
        (mine / name).mkdir(mode=0o700, parents=True)
    for name in ("artifacts", "said"):
        (entry / name).mkdir(exist_ok=True)
    said_so = entry / "result.json"
    if mounts and said_so.is_file() and not said_so.is_symlink():  # who commits for the agent asks for its word
        shutil.copyfile(said_so, mine / "entry/result.json")
    gitdir, common = worktrees.site(root, worktree), common_dir(root)
    box = said["box"]
    kept = [os.path.join(home, path) for path in said["state"]]
    for path in kept:
        if path.endswith("/") and not os.path.exists(path):
            Path(path).mkdir(mode=0o700, parents=True)
    kept = [path.rstrip("/") for path in kept if os.path.lexists(path.rstrip("/"))]
    there = []
    for path in (*sandbox.hidden(box, home), str(common / "lfs")):
        real = os.path.realpath(path)
        there += (
            [path, *([path + "/"] if os.path.isdir(path) else [])] if os.path.lexists(path) and real == path else []
        )
        if real != path and os.path.exists(real):  # a link: what it leads to must not be seen either
            box = {**box, "hide": [*box["hide"], real]}
            there += [real, *([real + "/"] if os.path.isdir(real) else [])]
    copies = frozenset(os.path.join(home, path) for path in said["copies"])
    out = frozenset(sandbox.hidden(box, home))
    opened = frozenset(os.path.join(home, path) for path in said["scratch"])
    ways = _Ways(tuple(kept), copies, out, opened)
    children = _furnish(home, mine / "home", ways, top=True) if mounts and home != "/" else []
    said = {**said, "home": home, "box": box, "mine": str(mine), "kept": kept, "needed": _needed(said, home)}
    said |= {"common": str(common), "gitdir": str(gitdir)}
    if mounts:
        said |= {"git": str(gitview.seed(gitdir, common, worktree, entry, said["keeps"]))}
    return box, sandbox.View(said, there, children)


class _Ways(NamedTuple):
    """What becomes of paths below HOME: written as they are, copied, not seen at all, filled in with copies."""

    kept: tuple[str, ...]
    copies: frozenset[str]
    out: frozenset[str]
    opened: frozenset[str]

    def leads(self, folder: str) -> bool:
        """Is there something below it for a program to write?"""
        return folder in self.opened or any(path.startswith(folder + "/") for path in (*self.kept, *self.opened))


def _furnish(at: str, into: Path, ways: _Ways, *, top: bool = False) -> list[str]:
    """Fill `into`, which is seen as the folder `at`. The paths that are to be seen there as they are, read-only.

    Links are made again. A folder on the way to something that is kept is filled in the same way, its files are copied:
    programs write them anew beside the old one and rename, which a mounted file forbids.
    """
    found = []
    for one in sorted(os.scandir(at), key=lambda one: one.name):
        if one.path in ways.out or one.path in ways.kept:
            continue
        if one.is_symlink():
            (into / one.name).symlink_to(os.readlink(one.path))
        elif one.is_dir(follow_symlinks=False):
            if ways.leads(one.path):
                (into / one.name).mkdir(mode=0o700)
                found += _furnish(one.path, into / one.name, ways)
            else:
                found.append(one.path)
        elif one.is_file(follow_symlinks=False):
            if (one.path in ways.copies or not top) and one.stat().st_size <= _SMALL and os.access(one.path, os.R_OK):
                shutil.copyfile(one.path, into / one.name)
            else:
                found.append(one.path)
    return found


def _needed(said: dict[str, Any], home: str) -> list[str]:
    """What lies where its own /tmp and /run are: repositories and programs are anywhere."""
    python = os.path.dirname(
        os.path.dirname(sys.executable)
    )  # with -S, as a runner has it, sys.prefix is not the venv's
    paths = [home, said["root"], python, sys.base_prefix, os.path.dirname(os.path.abspath(__file__))]
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if os.path.isdir(folder)]
    covered = ("/tmp/", "/var/tmp/", "/run/")  # noqa: S108 - names
    paths += [*folders, *(place for folder in folders if folder.startswith(covered) for place in _linked(folder))]
    near = [path for path in dict.fromkeys((*paths, *map(os.path.realpath, paths))) if path.startswith(covered)]
    return [path for path in near if path != home]


def _linked(folder: str) -> list[str]:
    """Where the programs are to which the links in `folder` lead; all packages with one that npm installed."""
    reals = (os.path.realpath(one.path) for one in os.scandir(folder) if one.is_symlink())
    return [
        real.partition("/node_modules/")[0] if "/node_modules/" in real else os.path.dirname(real) for real in reals
    ]


def _fetch(source: Path, target: Path) -> None:
    """Files and folders of files. A link would be followed by whoever reads it outside, a pipe waited for."""
    mode = source.lstat().st_mode
    if stat.S_ISREG(mode) and not target.is_dir():
        source.replace(target)
    elif stat.S_ISDIR(mode) and not os.path.lexists(target):
        for folder, folders, names in os.walk(source):
            for name in (*folders, *names):
                kind = Path(folder, name).lstat().st_mode
                if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
                    Path(folder, name).unlink()
        source.rename(target)


def _inside(env: dict[str, str]) -> dict[str, str]:
    """What programs are told inside. The user's keys are not there, so nothing can be signed with them."""
    at = int(env.get("GIT_CONFIG_COUNT", os.environ.get("GIT_CONFIG_COUNT", "0")) or 0)
    more = {"GIT_CONFIG_COUNT": str(at + 2)}
    more["OCTOPOID_SANDBOX"] = "1"
    for number, key in ((at, "commit.gpgSign"), (at + 1, "tag.gpgSign")):
        more |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": "false"}
    return {**env, **more}


def bring_in(*, root: str, worktree: str, entry: str, must: bool) -> int:
    """Take over the commits that were made inside, and put the worktree's HEAD where it is there. Nothing there: OK.

    A step of its own after the agent's (`must`), and before everything else in the next run: the last one may have been
    killed. What could not be taken over then is given up, so that the task goes on; the files are there all the same.
    """
    try:
        gitview.bring_in(Path(root), Path(worktree), _found(Path(entry)))
    except (OctopoidError, OSError) as error:
        say(f"octopoid: what was committed in the sandbox could not be taken over: {error}")
        return FAILED if must else OK
    return OK
