"""Requests and tokens a minute, in the same script that holds the money."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import redis.asyncio
from redis import Redis

from budgets import ledger
from budgets.ledger import Hold, Limit, Limited
from tests.budgets.conftest import counter

Async = redis.asyncio.Redis
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = "ph:b:organisation::d:2026-11-23"


def limit(requests: int = 0, tokens: int = 0) -> Limit:
    return Limit(
        "organisation:", "day", "UTC", 1_000_000, 1, requests_per_minute=requests, tokens_per_minute=tokens
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
