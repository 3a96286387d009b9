"""The map of the disk: from the root to every path. No other module joins these names (DESIGN §2)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from octopoid.errors import Conflict, NotFound, UsageError
from octopoid.states import State

FOLDER = ".octopoid"
ENV_FILE = ".config/octopoid/env"
"""Below the home folder: NAME=value lines for the service alone."""

_POLICY = frozenset(("agents.yaml", "roles", "flows", "templates", ".gitignore"))


class Layout(NamedTuple):
    """Every path of one root. `root` is the main worktree of the user's repository, absolute."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / FOLDER

    @property
    def agents_yaml(self) -> Path:
        return self.home / "agents.yaml"

    @property
    def roles(self) -> Path:
        return self.home / "roles"

    @property
    def flows(self) -> Path:
        return self.home / "flows"

    @property
    def templates(self) -> Path:
        """Task files to begin from, for `enqueue --template` and for schedules."""
        return self.home / "templates"

    @property
    def claude_agents(self) -> Path:
        """Where Claude Code keeps the agents of a project: they can be named as roles."""
        return self.root / ".claude" / "agents"

    @property
    def queue(self) -> Path:
        return self.home / "queue"

    def folder(self, state: State) -> Path:
        return self.queue / state.value

    def task_file(self, state: State, task: str) -> Path:
        return self.queue / state.value / f"{task}.md"

    @property
    def moving(self) -> Path:
        """Where a move that also writes does its writing; a file's name there is `<from>.<id>.md`."""
        return self.queue / ".moving"

    @property
    def attempts(self) -> Path:
        return self.home / "attempts"

    def entries(self, task: str) -> Path:
        return self.attempts / task

    def entry(self, task: str, number: int) -> Path:
        return self.attempts / task / f"{number:03d}"

    def artifacts(self, task: str) -> Path:
        return self.attempts / task / "artifacts"

    def entry_artifacts(self, task: str, number: int) -> Path:
        """The documents of one attempt: what it was given, and what it made of them."""
        return self.entry(task, number) / "artifacts"

    @property
    def run(self) -> Path:
        return self.home / "run"

    @property
    def scheduler_lock(self) -> Path:
        return self.run / "scheduler.lock"

    @property
    def scheduler_pid(self) -> Path:
        return self.run / "scheduler.pid"

    @property
    def last_tick(self) -> Path:
        return self.run / "last_tick"

    @property
    def format(self) -> Path:
        """The number of the format of all this (`formats`)."""
        return self.run / "format"

    @property
    def wake(self) -> Path:
        return self.run / "wake"

    @property
    def last_good(self) -> Path:
        return self.run / "last-good"

    @property
    def breakers(self) -> Path:
        return self.run / "breakers.json"

    @property
    def pause(self) -> Path:
        return self.run / "pause"

    @property
    def schedule(self) -> Path:
        """A file for each schedule: the last of its times that was dealt with."""
        return self.run / "schedule"

    @property
    def landing_locks(self) -> Path:
        return self.run / "landing"

    def landing_lock(self, base: str) -> Path:
        """Held while the branch `base` is about to move."""
        return self.landing_locks / f"{base.replace('/', '%')}.lock"

    @property
    def drafts(self) -> Path:
        """What is in a person's editor, and not a task yet."""
        return self.run / "drafts"

    @property
    def attach(self) -> Path:
        """A lock for each task in whose worktree a person is, or was."""
        return self.run / "attach"

    def attach_lock(self, task: str) -> Path:
        """Held while a person is in the worktree of `task` (`octopoid attach`)."""
        return self.attach / f"{task}.lock"

    @property
    def stop_request(self) -> Path:
        """Present while a person's `stop` waits for the scheduler to leave."""
        return self.run / "stop"

    @property
    def scheduler_log(self) -> Path:
        """What a scheduler prints that launchd or cron starts."""
        return self.run / "scheduler.log"

    @property
    def events(self) -> Path:
        return self.home / "events.jsonl"

    def short(self, path: Path) -> str:
        """`path` as a person would type it from the root."""
        try:
            return str(path.relative_to(self.root))
        except ValueError:
            return str(path)


def main_worktree(start: Path) -> Path | None:
    """The main worktree of the repository that `start` is in, or None outside any repository.

    Reads `.git` and `commondir` itself: a git process would cost `status` more than all its other reading. Source for
    both files: gitrepository-layout(5). Raises UsageError for a bare repository, which has no main worktree.
    """
    for folder in (start, *start.parents):
        dotgit = folder / ".git"
        if dotgit.is_dir():
            return folder
        if dotgit.is_file():
            text = dotgit.read_text(encoding="utf-8", errors="surrogateescape").strip()
            gitdir = (folder / text.removeprefix("gitdir:").strip()).resolve()
            try:
                common = gitdir / (gitdir / "commondir").read_text(encoding="utf-8").strip()
            except FileNotFoundError:
                return folder  # a submodule, or a repository with a separate git directory
            common = common.resolve()
            if common.name != ".git":
                raise UsageError(
                    f"{folder} is a worktree of a bare repository ({common}): there is no main worktree to work from",
                    "clone the repository with a working tree and run octopoid there",
                )
            return common.parent
    return None


def worktree_of(start: Path) -> Path | None:
    """The top of the worktree `start` is in (main or linked), or None."""
    for folder in (start, *start.parents):
        if (folder / ".git").exists():
            return folder
    return None


def find_root(cwd: Path, override: str | None) -> Layout:
    """The layout of the repository at `cwd`, or of `override` (`--root`, `OCTOPOID_ROOT`).

    Raises NotFound where there is no `.octopoid` folder; the hint says how to make one.
    """
    start = (cwd / override) if override else cwd
    root = main_worktree(Path(os.path.realpath(start)))
    if root is None and not start.is_dir():
        raise NotFound(f"there is no folder {start}", "--root and OCTOPOID_ROOT name a repository")
    if root is None:
        raise NotFound(
            f"{start} is not inside a git repository", "run `git init` there, or name a repository with --root"
        )
    if not (root / FOLDER).is_dir():
        raise NotFound(f"{root} has no {FOLDER} folder", "run `octopoid init` there first")
    refuse_links(Layout(root))
    return Layout(root)


def refuse_links(layout: Layout) -> None:
    """Raise Conflict where a place that octopoid writes to is a link: git can bring one, and it leads anywhere.

    The policy may be links, it is only read. What is below a task's own folders is looked at by who writes there.
    """
    if layout.home.is_symlink():
        raise _link(str(layout.home))
    for folder in (layout.home, layout.queue, layout.queue / "archive", layout.run):
        try:
            with os.scandir(folder) as found:
                wrong = next((one.path for one in found if one.is_symlink() and one.name not in _POLICY), None)
        except OSError:
            continue  # whoever needs it says so
        if wrong is not None:
            raise _link(wrong)


def _link(path: str) -> Conflict:
    return Conflict(f"{path} is a link: octopoid writes there, and follows none", "put a real folder or file there")
