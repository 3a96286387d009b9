"""What is wrong with this machine and this queue, and mending what can be mended without deciding anything.

`examine` writes nothing. Each check is a small function; the tables below are all there are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from octopoid import config, journal, locks, look, steps
from octopoid.doctor import (
    entries,
    files,
    landed,
    leftovers,
    machine,
    policies,
    queues,
    records,
    repairs,
    repository,
    trees,
)
from octopoid.doctor.finding import ERROR, INFO, SEVERITIES, WARNING, Case, Check, Evidence, Finding, Repair
from octopoid.errors import Invalid, OctopoidError
from octopoid.layout import Layout
from octopoid.model import Problem
from octopoid.settings import Config

__all__ = [
    "ERROR",
    "INFO",
    "SEVERITIES",
    "WARNING",
    "Case",
    "Done",
    "Finding",
    "examine",
    "examine_machine",
    "mend",
    "preview",
]

_MACHINE: tuple[Callable[[], Iterator[Finding]], ...] = (machine.check_python, machine.check_open_files)

_QUEUE: tuple[Check, ...] = (
    machine.check_flock,
    machine.check_mount,
    machine.check_disk,
    queues.check_folders,
    queues.check_device,
    files.check_records,
    files.check_access,
    files.check_kinds,
    files.check_collisions,
    policies.check_policy,
    policies.check_trust,
    policies.check_programs,
    policies.check_environment,
    policies.check_checks,
    policies.check_breakers,
    policies.check_pauses,
    records.check_pause_folder,
    records.check_pause_names,
    records.check_last_good,
    records.check_journal,
    records.check_clock,
    policies.check_service,
    queues.check_scheduler,
    queues.check_files,
    queues.check_claims,
    queues.check_moving,
    leftovers.check_leftovers,
    leftovers.check_scratch,
    entries.check_numbers,
    entries.check_vanished,
    entries.check_finished,
    entries.check_active,
)

_GIT: tuple[Check, ...] = (
    machine.check_identity,
    repository.check_branches,
    repository.check_kind,
    repository.check_ignored,
    repository.check_tracked,
    repository.check_settings,
    repository.check_own_locks,
    landed.check_lost,
    landed.check_unknown,
    landed.check_candidates,
    landed.check_refs,
    trees.check_worktrees,
    trees.check_room,
)
"""Only where there is a git that can be asked."""


class Done(NamedTuple):
    """A repair. `did`: what was done (in a preview: would be), "" where it is not (`why` says why not)."""

    code: str
    path: Path
    did: str
    why: str = ""


def examine_machine() -> tuple[Finding, ...]:
    """What can be said where there is no queue."""
    trouble = machine.git_version()[1]
    return _sorted([*([trouble] if trouble else []), *_run_machine()])


def examine(layout: Layout, env: Mapping[str, str], now: float) -> tuple[Finding, ...]:
    """Everything that is wrong, errors first. Writes nothing."""
    version, trouble = machine.git_version()
    found = [*([trouble] if trouble else []), *_run_machine()]
    case, unread = _gather(layout, env, now, version)
    found += unread
    for check in (*_QUEUE, *(_GIT if version else ())):
        found += _safely(check, case)
    return _sorted(found)


def mend(
    layout: Layout, findings: Iterable[Finding], env: Mapping[str, str], now: float, tell: Callable[[Done], None]
) -> int:
    """Carry out the repairs of `findings`, tell of each, and write it into the journal. How many were done.

    While it works no scheduler can start (one that tries says that another one runs).
    """
    todo = _todo(findings)
    if not todo:
        return 0
    case = _gather(layout, env, now, machine.git_version()[0])[0]
    lock: int | None = None
    done = 0
    try:
        for code, repair in todo:
            if lock is None and not case.scheduler and layout.run.is_dir():
                lock = locks.take(layout.scheduler_lock)
            told = _mend_one(case, code, repair, quiet=lock is not None)
            if told.did:
                done += 1
                journal.append(layout, journal.Event(now, "repair", by="person", detail=f"{told.code}: {told.did}"))
            tell(told)
    finally:
        if lock is not None:
            os.close(lock)
    return done


def preview(layout: Layout, findings: Iterable[Finding]) -> tuple[Done, ...]:
    """What `mend` would do about `findings`, in its order. Does nothing."""
    return tuple(Done(code, one.target, repairs.would(layout, one)) for code, one in _todo(findings))


def _todo(findings: Iterable[Finding]) -> list[tuple[str, Repair]]:
    order = list(repairs.REPAIRS)
    return sorted(((one.code, one.repair) for one in findings if one.repair), key=lambda one: order.index(one[1].kind))


def _mend_one(case: Case, code: str, repair: Repair, quiet: bool) -> Done:
    if repair.kind in repairs.QUIET and not quiet:
        return Done(code, repair.target, "", "a scheduler runs and does that itself")
    try:
        return Done(code, repair.target, repairs.do(case, repair), "there was nothing to do any more")
    except OctopoidError as error:
        return Done(code, repair.target, "", error.message)
    except OSError as error:
        return Done(code, repair.target, "", error.strerror or str(error))


def _gather(
    layout: Layout, env: Mapping[str, str], now: float, version: tuple[int, int, int] | None
) -> tuple[Case, list[Finding]]:
    unread: list[Finding] = []
    seen, evidence = look.Look((), (), {}), Evidence()
    try:
        seen = look.Observer(layout).look()
        evidence = entries.survey(layout, seen.ids)
    except OSError as error:
        path = Path(error.filename) if isinstance(error.filename, str) else layout.queue
        message = f"the queue cannot be looked at: {error.strerror}"
        unread.append(Finding("unreadable", ERROR, message, "ls -ld it: are you its owner?", path))
    policy, problems, last_good = _policy(layout)
    try:
        scheduler = locks.is_held(layout.scheduler_lock)
    except OSError:  # told by the check of flock
        scheduler = False
    folder = steps.worktrees_folder(layout, policy) if policy else layout.home / "worktrees"
    facts = Case(layout, env, now, seen, policy, problems, last_good, version, scheduler, folder, evidence)
    return facts, unread


def _policy(layout: Layout) -> tuple[Config | None, tuple[Problem, ...], bool]:
    try:
        return config.load(layout.home), (), False
    except Invalid as error:
        problems = error.problems or (Problem(layout.agents_yaml, 0, 0, error.message),)
    try:
        return config.load(layout.last_good), problems, True
    except Invalid:
        return None, problems, False


def _run_machine() -> Iterator[Finding]:
    for check in _MACHINE:
        yield from check()


def _safely(check: Check, case: Case) -> list[Finding]:
    """A check that cannot look says so; the others go on."""
    found: list[Finding] = []
    try:
        found.extend(check(case))
    except (OctopoidError, OSError) as error:
        what = (check.__doc__ or check.__name__).splitlines()[0].rstrip(".")
        fix = (error.hint if isinstance(error, OctopoidError) else "") or "mend what it says, then look again"
        found.append(Finding("unchecked", WARNING, f"could not be checked: {what} ({error})", fix))
    return found


def _sorted(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each once, the worst first. Of damaged evidence two checks may tell: what it stops says more than what it is."""

    def place(one: Finding) -> tuple[int, str, str]:
        return SEVERITIES.index(one.severity), one.code, str(one.path or "")

    known: dict[object, Finding] = {}
    for one in sorted(dict.fromkeys(found), key=place):
        known.setdefault((one.code, one.path) if one.code == "evidence" else one, one)
    return tuple(known.values())
