"""When a budget is spent at this pace, and what the month will cost."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from budgets import forecast
from budgets.ledger import Limit

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)  # a Monday
MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC)
HOUR = timedelta(hours=1)


def limit(nano: int = 3_600, more: int = 0, until: datetime | None = None) -> Limit:
    return Limit("organisation:", "day", "UTC", nano, 1, more, until.timestamp() if until else 0.0)


def at(limit: Limit, spent: int, pace: float = 1.0, ends: datetime = MIDNIGHT) -> datetime | None:
    return forecast.exhausted_at(limit, spent, pace, NOON, ends)


def test_a_budget_is_spent_when_the_rest_is_used_up_at_this_pace() -> None:
    assert at(limit(), 0) == NOON + HOUR
    assert at(limit(), 1_800) == NOON + HOUR / 2
    assert at(limit(), 3_600) == at(limit(), 4_000) == NOON
    assert at(limit(0), 0) == NOON


@pytest.mark.parametrize("pace", [0.0, -1.0, 1e-9, 0.08])
def test_what_lasts_until_the_window_ends_is_not_foretold(pace: float) -> None:
    assert at(limit(), 0, pace) is None


def test_an_increase_postpones_the_end_and_takes_its_money_with_it() -> None:
    assert at(limit(3_600, 1_800, NOON + 3 * HOUR), 0) == NOON + 1.5 * HOUR
    assert at(limit(3_600, 36_000, NOON + 2 * HOUR), 0) == NOON + 2 * HOUR
    assert at(limit(7_200, 36_000, NOON + HOUR), 0) == NOON + 2 * HOUR


def daily(days: int, weekday: int = 100, weekend: int = 10) -> dict[date, int]:
    dates = [NOON.date() - timedelta(days=back) for back in range(1, days + 1)]
    return {day: weekend if day.weekday() >= 5 else weekday for day in dates}


def test_a_month_follows_the_weekdays_when_there_are_two_weeks() -> None:
    found = forecast.month({**daily(28), NOON.date(): 50}, NOON)
    # 15 weekdays, 7 days of weekends and half of today; ahead are the other half, 5 weekdays and a weekend.
    assert (found.spent_nano, found.nano) == (15 * 100 + 7 * 10 + 50, 15 * 100 + 7 * 10 + 50 + 50 + 5 * 100 + 2 * 10)
    assert (found.method, found.days) == ("weekday", 28)


def test_fewer_days_give_a_plain_pace() -> None:
    found = forecast.month({date(2026, 11, 21): 100, date(2026, 11, 22): 200, NOON.date(): 10}, NOON)
    assert (found.method, found.days) == ("pace", 2)
    assert found.nano == 310 + 75 + 7 * 150


def test_the_first_day_is_scaled_and_its_first_minutes_are_not() -> None:
    assert forecast.month({NOON.date(): 100}, NOON) == forecast.Forecast(100 + 100 + 7 * 200, 100, "today", 0)
    early = NOON.replace(hour=0, minute=30)
    assert forecast.month({NOON.date(): 100}, early) == forecast.Forecast(100, 100, "none", 0)
    assert forecast.month({}, NOON) == forecast.Forecast(0, 0, "none", 0)


def test_days_without_calls_cost_nothing_but_count() -> None:
    found = forecast.month({date(2026, 11, 13): 100, date(2026, 11, 22): 0}, NOON)
    assert (found.method, found.days, found.nano) == ("pace", 10, 100 + 5 + 7 * 10)


def test_what_is_long_ago_does_not_teach() -> None:
    found = forecast.month({NOON.date() - timedelta(days=57): 10**9}, NOON)
    assert (found.method, found.nano) == ("none", 0)


def test_the_last_day_of_a_month_has_only_its_own_rest() -> None:
    last = datetime(2026, 11, 30, 18, tzinfo=UTC)
    found = forecast.month({last.date() - timedelta(days=1): 100, last.date(): 60}, last)
    assert found.nano == 160 + 25
