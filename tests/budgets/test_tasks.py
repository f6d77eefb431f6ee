"""The task that charges what dead processes left."""

from __future__ import annotations

import redis.asyncio
from pytest_django.fixtures import Settings
from redis import Redis

from budgets import ledger, tasks
from tests.budgets.conftest import counter, limit


async def test_running_it_twice_charges_once(
    store: Redis, money: redis.asyncio.Redis, redis_url: str, settings: Settings
) -> None:
    settings.REDIS_URL = redis_url
    hold = await ledger.reserve(money, "a", 1, 100, [limit(150)], ttl_s=-1)
    assert tasks.expire_holds() == 1
    assert tasks.expire_holds() == 0
    assert counter(store, hold.keys[0]) == (100, 0)


def test_it_is_on_the_schedule(settings: Settings) -> None:
    assert tasks.expire_holds.name in {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}
