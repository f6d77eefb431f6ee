"""Where spending leads: when a budget is spent at the present pace, and what a month will cost. Pure."""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

from budgets.ledger import Limit

Method = Literal["weekday", "pace", "today", "none"]
ENOUGH_DAYS = 14
LEARNT_DAYS = 56
SHORTEST = 1 / 24  # of a day: less of it tells nothing of the rest


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a month will cost, what it has cost so far, and how that is known.

    "weekday": the mean of each weekday over `days` complete days. "pace": the mean of fewer than 14 complete days.
    "today": the pace of the first day. "none": too little to tell; `nano` is what has been spent.
    """

    nano: int
    spent_nano: int
    method: Method
    days: int


def exhausted_at(limit: Limit, spent_nano: int, nano_per_s: float, now: datetime, ends: datetime) -> datetime | None:
    """When the limit is reached in the window that `ends`, should spending go on at this pace; None: not in it.

    An increase that ends before the window does takes its money with it.
    """
    moment = now.timestamp()
    left = limit.at(moment) - spent_nano
    if left <= 0:
        return now
    if nano_per_s <= 0:
        return None
    full = moment + left / nano_per_s
    if moment < limit.raised_until < full:
        full = max(limit.raised_until, moment + (limit.limit_nano - spent_nano) / nano_per_s)
    return now + timedelta(seconds=full - moment) if full < ends.timestamp() else None


def month(daily: Mapping[date, int], now: datetime) -> Forecast:
    """The month of `now` from the cost of each day until now; days that are not there cost nothing.

    History begins with the first day that cost something, `LEARNT_DAYS` back at most.
    """
    today = now.date()
    first = today.replace(day=1)
    spent = sum(nano for day, nano in daily.items() if first <= day <= today)
    elapsed = (now - now.replace(hour=0, minute=0, second=0, microsecond=0)) / timedelta(days=1)
    history = _history(daily, today)
    rest = [today + timedelta(days=ahead) for ahead in range(1, _days_left(today) + 1)]
    method: Method
    if len(history) >= ENOUGH_DAYS:
        method, means = "weekday", _weekday_means(history)
    elif history:
        method, means = "pace", [sum(history.values()) / len(history)] * 7
    elif daily.get(today) and elapsed >= SHORTEST:
        method, means = "today", [daily[today] / elapsed] * 7
    else:
        return Forecast(spent, spent, "none", 0)
    ahead = means[today.weekday()] * (1 - elapsed) + sum(means[day.weekday()] for day in rest)
    return Forecast(spent + round(ahead), spent, method, len(history))


def _history(daily: Mapping[date, int], today: date) -> dict[date, int]:
    """The complete days since the first one that cost something."""
    oldest = today - timedelta(days=LEARNT_DAYS)
    known = [day for day, nano in daily.items() if nano and oldest <= day < today]
    begins = min(known, default=today)
    days = (begins + timedelta(days=n) for n in range((today - begins).days))
    return {day: daily.get(day, 0) for day in days}


def _weekday_means(history: Mapping[date, int]) -> list[float]:
    by_weekday: list[list[int]] = [[] for _ in range(7)]
    for day, nano in history.items():
        by_weekday[day.weekday()].append(nano)
    return [sum(found) / len(found) for found in by_weekday]


def _days_left(today: date) -> int:
    return calendar.monthrange(today.year, today.month)[1] - today.day
