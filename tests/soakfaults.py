"""What goes wrong around a soak for a moment, and is put right again: each fault here returns how to end it.

Root writes through every permission, and a disk is not filled for a test: both are done by mounts, where the soak has a
mount namespace of its own with a tmpfs (`scripts/soak`). Elsewhere they are left out, and a user's chmod takes the
place of the one.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from harness import Repo

from octopoid.states import State

End = Callable[[], object]
SIZE = "2g"


class Space(NamedTuple):
    """The tmpfs at `place`, in a mount namespace that is ours alone."""

    place: Path

    def fill(self) -> bool:
        """No block is free from here on: the limit comes down to what is used. False: more was used by then."""
        facts = os.statvfs(self.place)
        used = (facts.f_blocks - facts.f_bfree) * facts.f_frsize
        return mount("-o", f"remount,size={used}", self.place)

    def free(self) -> None:
        if not mount("-o", f"remount,size={SIZE}", self.place):
            raise OSError(f"{self.place} cannot be made large again")


def mount(*args: str | Path) -> bool:
    """Did `mount` do it? Not where somebody is just writing."""
    return subprocess.run(["mount", *args], capture_output=True, check=False).returncode == 0


def make_space(place: Path) -> Space:
    """A tmpfs over `place`, and another one for what the soak itself writes down meanwhile."""
    for folder in (place, place / "out"):
        folder.mkdir(exist_ok=True)
        if not mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder):
            raise OSError(f"no tmpfs at {folder}")
    return Space(place)


def _unmount(folder: Path) -> None:
    """Who is in it stays there; everybody else sees what is below."""
    subprocess.run(["umount", "-l", folder], check=True)


class Faults:
    """Every kind of fault, by name. One returns None where it cannot be had."""

    def __init__(self, repo: Repo, space: Space | None) -> None:
        self.repo, self.space, self.number = repo, space, 0
        self.policy = repo.layout.agents_yaml.read_bytes()

    def bad_policy(self, chance: random.Random) -> End:
        """Somebody edits agents.yaml and saves too early."""
        path, good = self.repo.layout.agents_yaml, self.policy
        path.write_bytes(
            chance.choice(
                [b"", good[: len(good) // 2], b"agents: [\n", good.replace(b'"agents"', b'"agnets"'), b"\xff"]
            )
        )
        return lambda: path.write_bytes(good)

    def other_policy(self, chance: random.Random) -> End:
        """Somebody edits agents.yaml and saves something else that is right."""
        policy = json.loads(self.policy)
        policy["max_agents"] = chance.randint(1, 12)
        self.repo.layout.agents_yaml.write_text(json.dumps(policy, indent=2))
        return lambda: self.repo.layout.agents_yaml.write_bytes(self.policy)

    def no_folder(self, chance: random.Random) -> End | None:
        """A queue folder is elsewhere."""
        folder = self.repo.layout.folder(chance.choice(list(State)))
        away = self.repo.root.parent / "away"
        with suppress(OSError):
            folder.rename(away)
            return lambda: self._back(away, folder)
        return None

    def _back(self, away: Path, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        for path in away.iterdir():
            taken = (folder / path.name).exists()  # an editor made both anew
            path.replace(self.repo.root.parent / "drawer" / f"{path.stem}.away.md" if taken else folder / path.name)
        away.rmdir()

    def read_only(self, chance: random.Random) -> End | None:
        """A folder cannot be written to."""
        layout = self.repo.layout
        folder = chance.choice([layout.queue, layout.attempts, layout.run, layout.home, self.repo.root / ".git"])
        if self.space:
            if not mount("--bind", folder, folder):
                return None
            for _ in range(20):
                if mount("-o", "remount,ro,bind", folder):
                    return lambda: _unmount(folder)
            _unmount(folder)
            return None
        if os.getuid() == 0:
            return None
        mode = folder.stat().st_mode
        folder.chmod(0o555)
        return lambda: folder.chmod(mode)

    def full_disk(self, _: random.Random) -> End | None:
        """Nothing can be written any more."""
        if self.space and any(self.space.fill() for _ in range(20)):
            return self.space.free
        return None

    def index_lock(self, _: random.Random) -> End | None:
        """The user's editor, or another git, is at work in the checkout."""
        path = self.repo.root / ".git/index.lock"
        with suppress(OSError):
            path.touch(exist_ok=False)
            return lambda: path.unlink(missing_ok=True)
        return None

    def worktree_lock(self, chance: random.Random) -> End | None:
        """A git that was killed left its lock in a worktree."""
        sites = sorted((self.repo.root / ".git/worktrees").glob("*"))
        if sites:
            with suppress(OSError):
                (chance.choice(sites) / "index.lock").touch()
            return lambda: None
        return None

    def no_worktree(self, chance: random.Random) -> End | None:
        """Somebody made room."""
        trees = sorted((self.repo.layout.home / "worktrees").glob("[!.]*"))
        if trees:
            shutil.rmtree(chance.choice(trees), ignore_errors=True)
            return lambda: None
        return None

    def user_commits(self, _: random.Random) -> End | None:
        """The base branch moves; somebody's landing may have the index at the moment."""
        self.number += 1
        file = self.repo.root / "users.txt"
        with suppress(OSError):
            with file.open("a", encoding="utf-8") as target:
                target.write(f"line {self.number}\n")
            self._commit()
            return self._commit
        return None

    def _commit(self) -> None:
        for argv in (["add", "users.txt"], ["commit", "-q", "-m", f"By hand {self.number}", "--", "users.txt"]):
            subprocess.run(["git", *argv], cwd=self.repo.root, env=self.repo.env, capture_output=True, check=False)

    def unsaved_work(self, _: random.Random) -> End:
        """The user has not committed yet what they wrote in the file that tasks fight about."""
        path = self.repo.root / "shared.txt"
        with suppress(OSError):
            path.write_text("mine\n", encoding="utf-8")

        def end() -> None:
            for argv in (["reset", "-q", "--", "shared.txt"], ["checkout", "-q", "HEAD", "--", "shared.txt"]):
                subprocess.run(["git", *argv], cwd=self.repo.root, env=self.repo.env, capture_output=True, check=False)
            known = subprocess.run(
                ["git", "cat-file", "-e", "HEAD:shared.txt"], cwd=self.repo.root, capture_output=True
            )
            if known.returncode:
                path.unlink(missing_ok=True)

        return end


class Kind(NamedTuple):
    """How often a fault comes (parts of the sum), and how long it may stay (seconds)."""

    odds: int
    longest: float
    start: Callable[[Faults, random.Random], End | None]


FAULTS: Mapping[str, Kind] = {
    "agents.yaml is wrong": Kind(12, 6, Faults.bad_policy),
    "agents.yaml is another": Kind(6, 6, Faults.other_policy),
    "a queue folder is missing": Kind(8, 1.5, Faults.no_folder),
    "a folder is read-only": Kind(10, 4, Faults.read_only),
    "the disk is full": Kind(12, 5, Faults.full_disk),
    "index.lock in the checkout": Kind(10, 3, Faults.index_lock),
    "index.lock in a worktree": Kind(6, 0, Faults.worktree_lock),
    "a worktree is deleted": Kind(8, 0, Faults.no_worktree),
    "the user commits": Kind(20, 3, Faults.user_commits),
    "the user has unsaved work": Kind(8, 6, Faults.unsaved_work),
}
REFUSES = ("a queue folder is missing", "a folder is read-only", "the disk is full")
"""While these last a command may fail."""
