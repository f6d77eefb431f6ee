"""Budgets with where they lead: how fast each is being spent, and when it will be used up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.utils.translation import gettext as _

from budgets import forecast
from budgets.models import Budget
from budgets.periods import window
from console.views.overview import Money

KINDS = ("organisation", "agent", "channel", "key")
LOOKS_BACK = {"day": timedelta(hours=1), "month": timedelta(days=7)}
Owner = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Paced:
    """A budget, nano-dollars a second and how they were measured, what they add until the window ends, and its end."""

    money: Money
    pace: float
    basis: str
    ahead: int
    exhausted_at: datetime | None
    may_raise: bool

    @property
    def quarter(self) -> str:
        """A quarter of the limit in dollars: what the form begins with."""
        return f"{(Decimal(self.money.budget.limit_nano) / 4 / 1_000_000_000).normalize():f}"


def paced(
    money: Iterable[Money], recent: Mapping[str, Mapping[Owner, int]], raisable: Sequence[int], now: datetime
) -> list[Paced]:
    """Each budget with its pace; `recent`: by period, what each owner was charged within `LOOKS_BACK`."""
    rows = sorted(money, key=lambda row: (KINDS.index(row.budget.owner_kind), row.budget.owner, row.budget.period))
    return [_paced(row, recent.get(row.budget.period, {}), row.budget.pk in raisable, now) for row in rows]


def _paced(row: Money, recent: Mapping[Owner, int], may_raise: bool, now: datetime) -> Paced:
    budget = row.budget
    found = window(budget.period, budget.timezone, now)
    pace, basis = _pace(budget, row.spent, recent, (now - found.starts).total_seconds())
    used = row.spent + row.held
    ahead = round(pace * (found.ends - now).total_seconds())
    ends = forecast.exhausted_at(budget.limit(), used, pace, now, found.ends) if row.known else None
    return Paced(row, pace, basis, ahead, ends, may_raise)


def _pace(budget: Budget, spent: int, recent: Mapping[Owner, int], elapsed_s: float) -> tuple[float, str]:
    """What was charged lately; where the log has nothing of it, the mean since the window began."""
    lately = LOOKS_BACK[budget.period]
    if charged := recent.get((budget.owner_kind, budget.owner), 0):
        says = _("at the pace of the last hour") if budget.period == "day" else _("at the pace of the last 7 days")
        return charged / lately.total_seconds(), str(says)
    return (spent / elapsed_s if elapsed_s >= 600 else 0.0), _("at the mean pace since the window began")
