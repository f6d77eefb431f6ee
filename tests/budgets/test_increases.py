"""More money for a while: bounded, written down, counted by the ledger until its end and not a moment longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis.asyncio
from django.core.exceptions import ValidationError
from django.db import DatabaseError, transaction
from django.utils import timezone

from budgets import ledger
from budgets.ledger import Exhausted, Limit
from budgets.models import MAX_NANO, Budget, BudgetIncrease

Async = redis.asyncio.Redis
DOLLAR = 10**9
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def make(**fields: Any) -> Budget:
    given = {"owner_kind": "channel", "owner": "acme/web", "period": "day", "limit_nano": 5 * DOLLAR}
    return Budget.objects.open(actor="user:ada", **{**given, **fields})


@pytest.fixture
def budget(db: None) -> Budget:
    return make()


def raised(budget: Budget, nano: int = DOLLAR, until: datetime | None = None, **fields: Any) -> BudgetIncrease:
    until = until or timezone.now() + HOUR
    return budget.increase(nano, until, **{"actor": "user:ben", "reason": "Sale", **fields})


def test_an_increase_counts_until_its_end(budget: Budget) -> None:
    row = raised(budget)
    assert (row.actor, row.reason, row.nano) == ("user:ben", "Sale", DOLLAR)
    found = Budget.objects.get()
    assert found.limit_now() == 6 * DOLLAR
    assert found.limit_now(row.until) == 5 * DOLLAR
    assert found.limit().at(row.until.timestamp() - 1) == 6 * DOLLAR
    assert found.limit().at(row.until.timestamp()) == 5 * DOLLAR


@pytest.mark.parametrize("nano", [0, -1, 5 * DOLLAR + 1])
def test_it_at_most_doubles_the_limit(budget: Budget, nano: int) -> None:
    with pytest.raises(ValidationError, match="at most doubles"):
        raised(budget, nano)
    assert not BudgetIncrease.objects.exists()
    raised(budget, 5 * DOLLAR)


def test_it_never_passes_what_the_ledger_counts_exactly(db: None) -> None:
    with pytest.raises(ValidationError, match="at most doubles"):
        raised(make(limit_nano=MAX_NANO), 1)


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(hours=-1), timedelta(days=7, minutes=1)])
def test_it_ends_within_a_week(budget: Budget, ahead: timedelta) -> None:
    now = timezone.now()
    with pytest.raises(ValidationError, match="within 7 days"):
        raised(budget, until=now + ahead, now=now)


@pytest.mark.parametrize("reason", ["", "  "])
def test_it_has_a_reason(budget: Budget, reason: str) -> None:
    with pytest.raises(ValidationError, match="Say why"):
        raised(budget, reason=reason)


def test_one_at_a_time_so_that_two_clicks_do_not_add_up(budget: Budget) -> None:
    stale = Budget.objects.get()
    raised(budget)
    with pytest.raises(ValidationError, match="in force already"):
        raised(stale)
    assert Budget.objects.get().limit_now() == 6 * DOLLAR


def test_a_budget_that_is_off_has_nothing_to_raise(db: None) -> None:
    with pytest.raises(ValidationError, match="is off"):
        raised(make(active=False))


def test_it_is_ended_once(budget: Budget) -> None:
    raised(budget)
    row = budget.end_increase(actor="user:ada", reason="Over")
    assert row is not None
    assert (row.nano, row.actor) == (0, "user:ada")
    assert budget.end_increase(actor="user:ada") is None
    assert Budget.objects.get().limit_now() == 5 * DOLLAR
    raised(budget)


def test_after_its_end_there_may_be_another(budget: Budget) -> None:
    now = timezone.now()
    raised(budget, until=now + HOUR)
    raised(budget, until=now + 3 * HOUR, now=now + 2 * HOUR)


def test_lowering_the_limit_lowers_the_increase_with_it(budget: Budget) -> None:
    raised(budget, 5 * DOLLAR)
    budget.change(actor="user:ada", limit_nano=DOLLAR)
    assert Budget.objects.get().limit_now() == 2 * DOLLAR


def test_what_was_granted_is_never_changed_or_deleted(budget: Budget) -> None:
    raised(budget)
    for change in (lambda: BudgetIncrease.objects.update(nano=1), lambda: BudgetIncrease.objects.all().delete()):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            change()


def limit(until: datetime, nano: int = 100, more: int = 50) -> Limit:
    return Limit("organisation:", "day", "UTC", nano, 1, more, until.timestamp())


async def test_the_ledger_admits_the_increase_and_its_end_takes_effect_by_itself(money: Async) -> None:
    limits = [limit(NOON + HOUR)]
    hold = await ledger.reserve(money, "a", 1, 120, limits, now=NOON)
    assert hold.pressure == pytest.approx(120 / 150)
    await ledger.reserve(money, "b", 1, 30, limits, now=NOON + HOUR - timedelta(seconds=1))
    with pytest.raises(Exhausted) as refused:
        await ledger.reserve(money, "c", 1, 1, limits, now=NOON + HOUR - timedelta(seconds=1))
    assert refused.value.limit_nano == 150
    await ledger.release(money, hold)
    with pytest.raises(Exhausted) as refused:
        await ledger.reserve(money, "d", 1, 80, limits, now=NOON + HOUR)
    assert refused.value.limit_nano == 100
    await ledger.reserve(money, "e", 1, 70, limits, now=NOON + HOUR)


async def test_what_is_spent_stays_spent_when_the_limit_changes(money: Async) -> None:
    plain = Limit("organisation:", "day", "UTC", 100, 1)
    await ledger.reserve(money, "a", 1, 100, [plain], now=NOON)
    with pytest.raises(Exhausted):
        await ledger.reserve(money, "b", 1, 51, [limit(NOON + HOUR)], now=NOON)
    await ledger.reserve(money, "c", 1, 50, [limit(NOON + HOUR)], now=NOON)
