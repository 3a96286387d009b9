"""`octopoid stats`."""

from __future__ import annotations

from typing import Annotated

import typer

from octopoid import stats, views
from octopoid.cli import common, render
from octopoid.stats import RoleStats

cli = typer.Typer()

_DAY = 86400.0


@cli.command("stats", epilog=common.examples("octopoid stats", "octopoid stats --since 7", "octopoid stats --json"))
def _stats(
    since: Annotated[
        float,
        typer.Option(
            "--since", min=0, metavar="DAYS", help="Only what began in the last DAYS days.", show_default=False
        ),
    ] = 0.0,
    as_json: common.Json = False,
) -> None:
    """Show how each role does: attempts, first yes, rounds, failures, cost and time.

    First yes: of the tasks that were judged, those whose first work of this role was never refused. Of a reviewer: how
    often it said yes.
    """
    layout = common.layout()
    tasks, problems = stats.read(layout)
    found = stats.of(tasks, common.now() - since * _DAY if since else 0.0)
    for problem in problems:
        common.say(f"not counted: {common.one_line(str(problem))}")
    if as_json:
        common.emit("stats", roles=[views.plain(one) for one in found])
        return
    if found:
        render.show((render.Table("", _COLUMNS, tuple(map(_row, found)), header=True),))
    else:
        common.say("no role has done anything yet" if not since else "no role has done anything in that time")
    common.next_step("octopoid show ID shows the entries these numbers come from" if found else "octopoid status")


_COLUMNS = (
    render.Column("role", "cyan"),
    render.Column("attempts"),
    render.Column("done"),
    render.Column("first yes"),
    render.Column("rounds"),
    render.Column("failures"),
    render.Column("cost"),
    render.Column("mean"),
)


def _row(one: RoleStats) -> tuple[str, ...]:
    cells = (
        str(one.attempts),
        str(one.succeeded),
        "-" if one.first_pass is None else f"{one.first_pass:.0%} ({one.passed}/{one.judged})",
        str(one.rounds),
        str(one.failures),
        _cost(one),
        "-" if one.mean_s is None else render.span(one.mean_s),
    )
    if common.terminal() or common.color():
        return (one.role, *cells)
    # A pipe has no header, and a number alone says nothing.
    return (one.role, *(f"{column.name} {cell}" for column, cell in zip(_COLUMNS[1:], cells, strict=True)))


def _cost(one: RoleStats) -> str:
    if one.usd is None:
        return "unknown" if one.usd_unknown else "-"
    return f"{render.usd(one.usd)} (+{one.usd_unknown} unknown)" if one.usd_unknown else render.usd(one.usd)
