"""Budgets: what is spent of them, and what an attempt may be given of what is left. Pure.

An attempt of a program that is billed and whose cost nobody knows counts `limits.usd_unknown`: a limit that takes the
unknown for nothing would never be reached (invariant 8), and one that stops at it would stop everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from octopoid import prices
from octopoid.adapters import ADAPTERS
from octopoid.fold import Spending
from octopoid.model import Ledger
from octopoid.plans import Spent
from octopoid.prices import Price
from octopoid.settings import Agent, Limits

LEAST = 0.01
"""US dollars: a program is never given less, because none takes a limit of nothing for one."""
BY_OUR_PRICES = ("anthropic",)
"""Adapters whose program counts with our table of prices: it cannot keep a limit where that has none."""
BY_THEIR_PRICES = ("mini-swe-agent",)
"""Those that, with a limit, refuse a model that a table of their own does not name: they get one only if one is set."""


class Budget(NamedTuple):
    """A limit on money, and what is spent of it. `limit`: its key below `limits`. `when`: of which time and role."""

    limit: str
    of: float
    spent: Spent
    when: str = ""

    @property
    def left(self) -> float:
        """US dollars, never less than none."""
        return max(0.0, self.of - self.spent.total)

    @property
    def over(self) -> bool:
        """Nothing is left of it."""
        return self.spent.total >= self.of

    @property
    def text(self) -> str:
        """`$12.40 of $50.00 are spent today (usd_per_day), of it $3.00 for 3 attempts of unknown cost (…)`."""
        spent = self.spent
        what = f"{spent.unknown} attempt{'' if spent.unknown == 1 else 's'} of unknown cost"
        said = f"{money(spent.total)} of {money(self.of)} are spent{self.when} ({self.limit.partition('.')[0]})"
        if not spent.unknown:
            return said
        how = f"of it {money(spent.assumed)} for {what}" if spent.assumed else f"{what} not counted"
        return f"{said}, {how} (limits.usd_unknown)"


def money(amount: float) -> str:
    """`$12.40`; what is less than a cent with its digits."""
    return f"${amount:.2f}" if amount >= 0.01 or not amount else f"${amount:.4f}"


def billed(adapter: str) -> bool:
    """Does its program cost money? One that this version does not know may."""
    return adapter not in ADAPTERS or ADAPTERS[adapter].facts.billed


def counted(one: Spending, limits: Limits) -> Spent:
    """What counts towards a budget."""
    unknown = sum(count for adapter, count in one.unknown.items() if billed(adapter))
    return Spent(one.usd, unknown, unknown * limits.usd_unknown)


def by_role(spendings: Iterable[Mapping[str, Spending]], limits: Limits) -> dict[str, Spent]:
    """What the tasks of a day cost together, by role."""
    found: dict[str, Spent] = {}
    for each in spendings:
        for role, one in each.items():
            found[role] = found.get(role, Spent()).plus(counted(one, limits))
    return found


def limited(limits: Limits) -> bool:
    """Is there a budget for a day at all? Without one nobody needs to know what was spent today."""
    return bool(limits.usd_per_day) or any(limits.usd_per_role.values())


def of_day(limits: Limits, spent: Mapping[str, Spent]) -> tuple[Budget, ...]:
    """The budgets of a day; `spent` today, by role."""
    whole = Spent()
    for one in spent.values():
        whole = whole.plus(one)
    day = (Budget("usd_per_day", limits.usd_per_day, whole, " today"),) if limits.usd_per_day else ()
    return (*day, *(budget for role in limits.usd_per_role for budget in _of_role(role, limits, spent)))


def before(role: str, limits: Limits, spent: Mapping[str, Spent]) -> tuple[Budget, ...]:
    """Those of them that an agent of `role` draws on; "" = one that runs none."""
    mine = f"usd_per_role.{role}"
    return tuple(one for one in of_day(limits, spent) if one.limit in ("usd_per_day", mine))


def of_task(ledger: Ledger, limits: Limits) -> Budget | None:
    """The budget of one task, which a person's word gives anew (DESIGN §2); None where there is none."""
    if not limits.usd_per_task:
        return None
    known = (ledger.usd or 0.0) - ledger.usd_before
    return Budget("usd_per_task", limits.usd_per_task, counted(Spending(known, ledger.unpriced), limits))


def equipped(agent: Agent, model: str, budgets: Iterable[Budget], own: Mapping[str, Price]) -> Agent:
    """The agent, with the least that is left of `budgets` as the limit of one attempt, where its program keeps one.

    Attempts that run at the same time are each given what is left. `model`: what it will use. `own`: the user's prices.
    """
    left = min((one.left for one in budgets), default=None)
    adapter = ADAPTERS.get(agent.adapter)
    if left is None or adapter is None or "max_usd" in adapter.facts.ignores:
        return agent
    priced = prices.known(model, own) or prices.known(prices.model(model), own)
    if (agent.adapter in BY_OUR_PRICES and not priced) or (agent.adapter in BY_THEIR_PRICES and not agent.max_usd):
        return agent
    left = max(left, LEAST)
    return agent._replace(max_usd=min(agent.max_usd or left, left))


def _of_role(role: str, limits: Limits, spent: Mapping[str, Spent]) -> tuple[Budget, ...]:
    of = limits.usd_per_role.get(role, 0.0)
    return (Budget(f"usd_per_role.{role}", of, spent.get(role, Spent()), f" today by {role}"),) if of else ()
