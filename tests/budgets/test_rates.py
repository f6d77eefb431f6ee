"""Requests and tokens a minute, in the same script that holds the money; and increases that end by themselves."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import redis.asyncio
from django.core.exceptions import ValidationError
from django.utils import timezone
from redis import Redis

from budgets import ledger
from budgets.ledger import Exhausted, Hold, Limit, Limited
from budgets.models import Budget
from tests.budgets.conftest import counter, entry

Async = redis.asyncio.Redis
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = "ph:b:organisation::d:2026-11-23"


def limit(requests: int = 0, tokens: int = 0, **more: float) -> Limit:
    return Limit(
        "organisation:", "day", "UTC", 1_000_000, 1, requests_per_minute=requests, tokens_per_minute=tokens, **more  # type: ignore[arg-type]
    )  # fmt: skip


async def ask(money: Async, call_id: str, limits: list[Limit], after_s: float = 0, tokens: int = 0) -> Hold | None:
    now = NOON + timedelta(seconds=after_s)
    try:
        return await ledger.reserve(money, call_id, 1, 1, limits, now=now, tokens=tokens)
    except Limited:
        return None


async def test_a_minutes_worth_may_come_at_once_and_not_one_more(store: Redis, money: Async) -> None:
    asked = await asyncio.gather(*(ask(money, f"c{n}", [limit(requests=20)]) for n in range(200)))
    assert sum(hold is not None for hold in asked) == 20
    assert counter(store, DAY) == (0, 20), "who is turned away holds nothing"


async def test_room_comes_back_evenly_and_the_caller_is_told_when(store: Redis, money: Async) -> None:
    limits = [limit(requests=6)]
    for n in range(6):
        assert await ask(money, f"a{n}", limits)
    with pytest.raises(Limited) as full:
        await ledger.reserve(money, "b", 1, 1, limits, now=NOON)
    assert full.value.retry_s == pytest.approx(10, abs=0.01)
    assert await ask(money, "c", limits, after_s=9.9) is None
    assert await ask(money, "d", limits, after_s=10.1)
    assert await ask(money, "e", limits, after_s=10.2) is None


async def test_tokens_are_counted_like_requests(store: Redis, money: Async) -> None:
    limits = [limit(tokens=1_000)]
    assert await ask(money, "a", limits, tokens=900)
    assert await ask(money, "b", limits, tokens=200) is None
    assert await ask(money, "c", limits, tokens=100)
    assert await ask(money, "d", [limit(tokens=10)], after_s=120, tokens=5_000), (
        "what never fits waits for an empty minute"
    )


async def test_retries_of_a_call_are_the_same_request(store: Redis, money: Async) -> None:
    limits = [limit(requests=1)]
    assert await ask(money, "a", limits)
    assert await ledger.reserve(money, "a", 2, 1, limits, now=NOON)
    assert await ask(money, "b", limits) is None


async def test_every_rate_has_room_or_none_is_used(store: Redis, money: Async) -> None:
    wide, narrow = limit(requests=10), Limit("key:ph_1", "day", "UTC", 1_000, 2, requests_per_minute=1)
    assert await ask(money, "a", [wide, narrow])
    for n in range(5):
        assert await ask(money, f"b{n}", [wide, narrow]) is None
    assert [bool(await ask(money, f"c{n}", [wide])) for n in range(10)] == [True] * 9 + [False]


async def test_an_increase_ends_by_itself(store: Redis, money: Async) -> None:
    until = NOON + timedelta(hours=1)
    increased = Limit("organisation:", "day", "UTC", 100, 1, more_nano=50, more_until=until.timestamp())
    hold = await ledger.reserve(money, "a", 1, 150, [increased], now=NOON)
    assert await ledger.settle(money, hold, 120, entry("a", 120), now=NOON)
    assert await ledger.reserve(money, "b", 1, 30, [increased], now=until - timedelta(seconds=1))
    with pytest.raises(Exhausted):
        await ledger.reserve(money, "c", 1, 1, [increased], now=until)


@pytest.mark.django_db
def test_an_increase_is_bounded_written_down_and_can_be_taken_back() -> None:
    budget = Budget.objects.open(actor="user:ada", owner_kind="organisation", period="day", limit_nano=100)
    soon = timezone.now() + timedelta(hours=2)
    for nano, until, reason in (
        (101, soon, "More than doubled."),
        (50, timezone.now(), "Already over."),
        (50, timezone.now() + timedelta(days=8), "Too long."),
        (50, soon, " "),
    ):
        with pytest.raises(ValidationError):
            budget.increase(nano, until, actor="user:bo", reason=reason)
    row = budget.increase(50, soon, actor="user:bo", reason="The sale.")
    assert row is not None
    assert (row.actor, row.reason, row.after["more_nano"]) == ("user:bo", "The sale.", 50)
    assert (budget.present_nano, budget.limit().nano_at(timezone.now().timestamp())) == (150, 150)
    budget.increase(0, soon, actor="user:bo", reason="Over.")
    assert (budget.present_nano, budget.is_increased) == (100, False)
