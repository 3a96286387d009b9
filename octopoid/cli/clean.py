"""`octopoid clean`: archive what is done, remove what is left over. What it would do and what it did are one list."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from octopoid import cleaning, config, git, lifecycle, steps, stopping, store, worktrees
from octopoid.cli import common
from octopoid.errors import Contained, GitError, Invalid, LostRace, UsageError
from octopoid.layout import Layout

cli = typer.Typer()

LOG_AGE = 30 * 86400.0
"""Seconds that the output of an archived task is kept."""

_AGE = re.compile(r"([0-9]{1,6})([dhms])\Z")
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}


@cli.command(
    epilog=common.examples(
        "octopoid clean --dry-run",
        "octopoid clean --older-than 7d",
        "octopoid clean --logs",
        "octopoid clean --force add-dark-mode-7f3k    # its unlanded work goes, too",
    )
)
def clean(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done; do nothing.")] = False,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Archive what has been done for so long: 7d, 12h.")
    ] = "0d",
    logs: Annotated[
        bool, typer.Option("--logs", help="Delete the output of archived tasks that is older than 30 days.")
    ] = False,
    force: Annotated[
        list[str],
        typer.Option(
            "--force",
            metavar="ID",
            help="Remove the worktree of this task although work in it has not landed.",
            autocompletion=common.complete_ids,
        ),
    ] = [],  # noqa: B006 - typer's "none given"
) -> None:
    """Archive what is done, and remove the worktrees of finished tasks.

    A worktree with work that has not landed stays, unless --force names its task. Evidence of what happened is kept.
    """
    layout = common.layout()
    if not dry_run:
        stopping.refuse_agents(layout)
    folder = _folder(layout)
    now = common.now()
    if not dry_run:
        for path, gitdir in cleaning.half_removed(layout, folder, store.every_id(layout)).items():
            worktrees.finish_removal(layout.root, gitdir, path)
            common.out(f"remove   {layout.short(path)}  what a kill left of it")
    forced = [_finished(layout, folder, word) for word in force]
    plan = cleaning.plan(
        layout,
        folder,
        older_than=_seconds(older_than),
        logs_older_than=LOG_AGE if logs else None,
        forced=forced,
        now=now,
    )
    freed = _do(layout, plan, forced, dry_run, now)
    for kept in plan.keep:
        common.out(f"kept       {layout.short(kept.path)}  {_size(kept.size)}  {kept.keeps}")
    if not dry_run:
        git.maintain(layout.root)  # our own commits leave it out, since they must be quick
    _sum_up(layout, folder, plan, freed, dry_run)


def _do(layout: Layout, plan: cleaning.Plan, forced: list[str], dry_run: bool, now: float) -> int:
    """Carry the plan out line by line, or only print it; the bytes that it frees."""
    would, freed = ("would " if dry_run else ""), 0
    for task in plan.archive:
        try:
            if not dry_run:
                cleaning.archive(layout, task, now)
            common.out(f"{would}archive  {task}")
        except LostRace as error:
            common.say(f"{task}: {error.message}")
    for one in plan.remove:
        try:
            if dry_run or cleaning.remove(layout, one, one.task in forced):
                common.out(f"{would}remove   {layout.short(one.path)}  {_size(one.size)}")
                freed += one.size
        except (GitError, Contained) as error:
            common.say(f"{layout.short(one.path)} stays: {error.message}")
    for log in plan.logs:
        if not dry_run:
            cleaning.remove_log(log)
        common.out(f"{would}delete   {layout.short(log.path)}  {_size(log.size)}")
        freed += log.size
    return freed


def _sum_up(layout: Layout, folder: Path, plan: cleaning.Plan, freed: int, dry_run: bool) -> None:
    if not (plan.archive or plan.remove or plan.logs):
        common.say("nothing to clean")
    verb = "would be freed" if dry_run else "freed"
    used = f"worktrees {_size(worktrees.idle_size(folder))}, evidence {_size(worktrees.idle_size(layout.attempts))}"
    common.say(f"{_size(freed)} {verb}; in use: {used}")
    known = [one.task for one in plan.keep if not one.task.startswith(cleaning.ASIDE)]
    if known:
        common.say(f"what was kept is nowhere else; octopoid diff {known[0]} shows it")
    common.next_step("octopoid clean does it" if dry_run and (plan.archive or plan.remove) else "octopoid status")


def _folder(layout: Layout) -> Path:
    """Where the worktrees are, as the policy says; the last good one where it is not valid at the moment."""
    for home in (layout.home, layout.last_good):
        try:
            return steps.worktrees_folder(layout, config.load(home, templates=False))
        except Invalid:
            continue
    return layout.home / "worktrees"


def _finished(layout: Layout, folder: Path, word: str) -> str:
    """The task that --force names: in full, since it destroys work. A vanished one is known by its worktree."""
    if (folder / word).is_dir() and "/" not in word and word not in ("", ".", ".."):
        return word
    task = lifecycle.resolve(layout, word)
    if task != word:
        raise UsageError(f"--force takes a whole id, not `{word}`", f"was {task} meant?")
    return task


def _seconds(text: str) -> float:
    match = _AGE.match(text)
    if match is None:
        raise UsageError(f"`{text}` is not an age", "write it like 7d, 12h or 0d")
    return int(match[1]) * _UNITS[match[2]]


def _size(count: int) -> str:
    """Bytes for a person."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
