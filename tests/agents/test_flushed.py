"""FLUSHALL under load: what is spent all the same is what was under way, and the counters are right afterwards."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.db.models import Sum

from agents import calls, recount
from agents.connections import in_database, redis_async, redis_sync
from agents.models import Call
from budgets import ledger
from budgets.ledger import Limit
from budgets.models import Budget
from budgets.periods import window
from tests.redis import empty_redis

pytestmark = pytest.mark.django_db(transaction=True)
HELD, USED, CALLS = 10_000, 7_000, 3_000
CALLERS = 16


@pytest.fixture(autouse=True)
def redis() -> Iterator[None]:
    empty_redis()
    yield
    empty_redis()


@pytest.fixture
def limit() -> Limit:
    """A month's, so that midnight makes no difference."""
    fields = {"owner_kind": "organisation", "owner": "", "period": "month", "limit_nano": CALLS * USED}
    return Budget.objects.open(actor="user:ada", **fields).limit()


class Load:
    """Callers that go on until the budget is spent; `spent` is what providers would bill."""

    def __init__(self, limit: Limit) -> None:
        self.limit, self.spent, self.refused = limit, 0, 0
        self.half = asyncio.Event()

    async def call(self) -> None:
        while True:
            call_id, at = str(uuid.uuid4()), datetime.now(UTC)
            try:
                hold = await ledger.reserve(redis_async(), call_id, 1, HELD, [self.limit], now=at)
            except ledger.Exhausted:
                return
            except ledger.Unavailable:
                self.refused += 1
                await asyncio.sleep(0.01)
                continue
            await asyncio.sleep(0.002)
            self.spent += USED
            if self.spent > self.limit.limit_nano / 2:
                self.half.set()
            entry = {
                "call_id": call_id, "attempt": "1", "at": at.isoformat(), "model": "m", "status": "ok",
                "cost_nano": str(USED), "charged_nano": str(USED), "price": "exact",
            }  # fmt: skip
            await ledger.settle(redis_async(), hold, USED, entry, now=at)


async def follow() -> None:
    """As every process does, see `snapshot.keep`."""
    while True:
        if not await redis_async().exists(ledger.COUNTED):
            await in_database(recount.recount)
        await asyncio.sleep(0.02)


async def run(limit: Limit, load: Load) -> tuple[int, int]:
    """Nano-dollars that were held, and that only the stream knew, when Redis lost them."""
    following = asyncio.create_task(follow())
    callers = [asyncio.create_task(load.call()) for _ in range(CALLERS)]
    await load.half.wait()
    pipe = redis_async().pipeline(transaction=True)
    pipe.hget(f"ph:b:{limit.key}:{window(limit.period, limit.timezone, datetime.now(UTC)).key}", "held")
    pipe.xlen(ledger.STREAM)
    pipe.flushall()
    held, waiting, _ = await pipe.execute()
    async with asyncio.timeout(60):
        await asyncio.gather(*callers)
    following.cancel()
    return int(held), waiting * USED


def test_a_limit_is_overspent_by_what_was_under_way_at_most(limit: Limit) -> None:
    stop = threading.Event()

    def drain() -> None:
        calls.drain(stop.is_set, "drain")
        connection.close()

    draining = threading.Thread(target=drain)
    draining.start()
    load = Load(limit)
    try:
        held, waiting = asyncio.run(run(limit, load))
    finally:
        stop.set()
        draining.join(30)
    calls.drain(lambda: calls.lag() == 0, "last")
    logged = Call.objects.aggregate(nano=Sum("charged_nano"))["nano"]
    assert load.refused, "nothing is reserved on lost counters"
    assert load.spent <= limit.limit_nano + held + waiting
    assert load.spent > limit.limit_nano - HELD * CALLERS, "and the rest of the budget could be used"
    assert load.spent - waiting <= logged <= load.spent, "only what the lost stream alone knew is missing"
    assert ledger.balances(redis_sync(), [limit])[limit].spent_nano == logged


def test_entries_that_a_drain_had_in_its_hands_at_the_loss_are_counted(limit: Limit) -> None:
    now = datetime.now(UTC)
    for n in range(3):
        at = (now - timedelta(seconds=n)).isoformat()
        entry = {"call_id": str(uuid.uuid4()), "at": at, "model": "m", "charged_nano": "100", "cost_nano": "100"}
        redis_sync().xadd(ledger.STREAM, {**entry, "price": "exact"})
    calls._make_group()
    taken = calls._read("slow")
    redis_sync().flushall()
    assert recount.recount()
    assert ledger.balances(redis_sync(), [limit])[limit].spent_nano == 0
    calls._move(taken)
    assert ledger.balances(redis_sync(), [limit])[limit].spent_nano == 300
