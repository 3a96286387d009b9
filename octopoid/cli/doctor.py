"""`octopoid doctor`: what is wrong with this machine and this queue, and mending what can be mended."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from octopoid import doctor as doctoring
from octopoid import setup, stopping
from octopoid.cli import common, render
from octopoid.doctor import ERROR, INFO, SEVERITIES, WARNING, Done, Finding
from octopoid.errors import Conflict, Invalid, NotFound, OctopoidError, UsageError
from octopoid.layout import Layout

cli = typer.Typer()

MANY = 20
"""Findings of one kind that are printed: what went wrong 10,000 times did so for one reason."""

_TITLES = {ERROR: ("errors", "bold red"), WARNING: ("warnings", "bold yellow"), INFO: ("notes", "bold blue")}
_COLUMNS = (
    render.Column("code", "bold"),
    render.Column("path", "cyan"),
    render.Column("message", wraps=True),
    render.Column("fix", note=True),
)


@cli.command(
    epilog=common.examples(
        "octopoid doctor", "octopoid doctor --fix --dry-run", "octopoid doctor --fix", "octopoid doctor --json"
    )
)
def doctor(
    context: typer.Context,
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend what can be mended without deciding anything, and say what was done.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --fix: print what it would do; do nothing.")] = False,
    as_json: common.Json = False,
) -> None:
    """Find what is wrong with this machine and this queue. Writes nothing without --fix.

    --fix makes missing folders, mends links of worktrees, finishes interrupted moves and removes half-written files. It
    never removes work. The exit status is 1 when an error is left.
    """
    if dry_run and not fix:
        raise UsageError("--dry-run goes with --fix", "octopoid doctor alone writes nothing, either")
    mends = fix and not dry_run
    if mends and stopping.is_own_agent():
        raise Conflict("an agent must not mend the queue", "leave the result; a person or the scheduler does the rest")
    layout, found = _examine(context)
    done: list[Done] = []

    def tell(one: Done) -> None:
        done.append(one)
        _tell(one, layout, "fixed: ")

    if mends and layout:
        doctoring.mend(layout, found, os.environ, common.now(), tell)
        if done:
            layout, found = _examine(context)
    elif fix and layout:
        for one in doctoring.preview(layout, found):
            done.append(one)
            _tell(one, layout, "")
    if as_json:
        told = [_plain_done(one, done=mends and bool(one.did)) for one in done]
        fixed = [_plain_done(one) for one in done if one.did and mends]
        common.emit("doctor", findings=[_plain(one) for one in found], fixed=fixed, repairs=told)
    else:
        _show(found, layout)
    common.next_step(_next(found, fix, dry_run))
    if any(one.severity == ERROR for one in found):
        raise typer.Exit(1)


def _tell(one: Done, layout: Layout | None, sign: str) -> None:
    place = layout.short(one.path) if layout else str(one.path)
    common.say(common.clean_text(f"{sign}{one.did}" if one.did else f"not fixed: {place}: {one.why}"))


def _examine(context: typer.Context) -> tuple[Layout | None, tuple[Finding, ...]]:
    """Where there is no queue, or one that no command touches, that is one of the findings."""
    try:
        layout = common.layout()
    except (NotFound, UsageError) as error:
        trouble = _better(context, error)
        return None, (Finding("no-queue", ERROR, trouble.message, trouble.hint), *doctoring.examine_machine())
    except Conflict as error:
        return None, (Finding("folder-link", ERROR, error.message, error.hint), *doctoring.examine_machine())
    except Invalid as error:
        return None, (Finding("format", ERROR, error.message, error.hint), *doctoring.examine_machine())
    return layout, doctoring.examine(layout, os.environ, common.now())


def _better(context: typer.Context, error: OctopoidError) -> OctopoidError:
    """`init` knows more about places that cannot have a queue, such as bare repositories."""
    said = context.find_root().params.get("root") or os.environ.get("OCTOPOID_ROOT") or "."
    try:
        setup.repository(Path(said).absolute())
    except OctopoidError as other:
        return other
    return error


def _show(found: tuple[Finding, ...], layout: Layout | None) -> None:
    if not found:
        common.out("everything is in order")
        return
    render.show(
        [_table(severity, found, layout) for severity in SEVERITIES if any(one.severity == severity for one in found)]
    )


def _table(severity: str, found: tuple[Finding, ...], layout: Layout | None) -> render.Table:
    rows = []
    count = Counter(one.code for one in found if one.severity == severity)
    shown: Counter[str] = Counter()
    for one in found:
        if one.severity != severity or shown[one.code] > MANY:
            continue
        shown[one.code] += 1
        rows.append((one.code, _path(one, layout), one.message, one.fix))
        if shown[one.code] == MANY and count[one.code] > MANY:
            shown[one.code] += 1
            rows.append(
                (one.code, "", f"and {count[one.code] - MANY} more", "octopoid doctor --json lists all of them")
            )
    title, style = _TITLES[severity]
    return render.Table(title, _COLUMNS, tuple(rows), style)


def _path(one: Finding, layout: Layout | None) -> str:
    if one.path is None:
        return ""
    return layout.short(one.path) if layout else str(one.path)


def _plain(one: Finding) -> dict[str, Any]:
    return {
        "code": one.code,
        "severity": one.severity,
        "message": one.message,
        "fix": one.fix,
        "path": str(one.path) if one.path else None,
    }


def _plain_done(one: Done, **more: bool) -> dict[str, Any]:
    return {"code": one.code, "message": one.did or one.why, "path": str(one.path), **more}


def _next(found: tuple[Finding, ...], tried: bool, dry_run: bool) -> str:
    if any(one.repair for one in found) and (dry_run or not tried):
        return "octopoid doctor --fix does it" if dry_run else "octopoid doctor --fix"
    first = next((one.fix for one in found if one.fix and one.severity != INFO), "")
    return first or "octopoid status"
