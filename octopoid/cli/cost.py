"""`octopoid cost`."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Annotated

import typer

from octopoid import budgets, clock, costs, prices, views
from octopoid.budgets import Budget
from octopoid.cli import common, judged, render
from octopoid.costs import Row
from octopoid.errors import Invalid
from octopoid.layout import Layout

cli = typer.Typer()

_DAY = 86400.0
By = Enum("By", {way: way for way in costs.WAYS}, type=str)  # type: ignore[misc]  # mypy wants the names spelt out


@cli.command(
    epilog=common.examples(
        "octopoid cost",
        "octopoid cost --by model --since 7",
        "octopoid cost --by task",
        "octopoid cost --by day --json",
    )
)
def cost(
    by: Annotated[By, typer.Option("--by", help="What the table is made by.")] = By("role"),
    since: Annotated[
        float,
        typer.Option(
            "--since", min=0, metavar="DAYS", help="Only what ended in the last DAYS days.", show_default=False
        ),
    ] = 0.0,
    as_json: common.Json = False,
) -> None:
    """Show what was spent: attempts, tokens and US dollars, and what is left of today's budgets.

    Everything counts that was paid for: reviews, failures, and tasks that are archived, cancelled or gone. A cost that
    is computed from a table of prices has a `~`; one that nobody knows is `-` and counted as unknown, never as zero.
    """
    layout = common.layout()
    paid, problems = costs.read(layout)
    began = common.now() - since * _DAY if since else 0.0
    rows, total = costs.rows(paid, by.value, began)
    for problem in problems:
        common.say(f"not counted: {common.one_line(str(problem))}")
    today = _budgets(layout)
    if as_json:
        found = {"by": by.value, "since": clock.iso(began) if since else None, "rows": rows, "total": total}
        common.emit("cost", **views.plain({**found, "budgets": tuple(map(costs.budget, today))}))
        return
    if rows:
        columns = (render.Column(by.value, "cyan"), *_COLUMNS)
        render.show((render.Table("", columns, tuple(map(_cells, (*rows, total))), header=True),))
    else:
        common.say("nothing was spent yet" if not since else "nothing was spent in that time")
    models = [row.key for row in costs.rows(paid, "model", began)[0] if row.key and row.unknown]
    for model in _unpriced(layout, models):
        common.say(f"what {model} costs is not known: say it under `prices:` in agents.yaml (docs/cost.md)")
    for one in today:
        common.out(f"budget: {one.text}; {budgets.money(one.left)} left")
    common.next_step("octopoid show ID shows what each attempt cost" if rows else "octopoid status")


def _unpriced(layout: Layout, models: Iterable[str]) -> list[str]:
    """Those of the models that neither the policy nor the table has a price for."""
    known = judged.policy(layout)
    own = known.prices if known else {}
    return [model for model in models if not (prices.known(model, own) or prices.known(prices.model(model), own))]


_COLUMNS = tuple(render.Column(name) for name in ("attempts", "in", "cached", "out", "cost", "unknown"))


def _budgets(layout: Layout) -> tuple[Budget, ...]:
    """Those of today under the policy in force; none, and a word about it, where they cannot be told."""
    policy = judged.policy(layout)
    if policy is None or not budgets.limited(policy.limits):
        return ()
    try:
        spent = budgets.by_role(costs.today(layout, common.now(), {}).values(), policy.limits)
    except Invalid as error:
        common.say(f"today's budgets cannot be told, so nothing starts: {error.message}")
        return ()
    return budgets.of_day(policy.limits, spent)


def _cells(row: Row) -> tuple[str, ...]:
    counts = (row.input_tokens, row.cached_tokens, row.output_tokens)
    tokens = ("-" if one is None else f"{one:,}" for one in counts)
    cells = (f"{row.attempts:,}", *tokens, render.usd(row.usd, bool(row.priced)) or "-", str(row.unknown or "-"))
    key = row.key or "-"
    if common.terminal() or common.color():
        return (key, *cells)
    # A pipe has no header, and a number alone says nothing.
    return (key, *(f"{column.name} {cell}" for column, cell in zip(_COLUMNS, cells, strict=True)))
