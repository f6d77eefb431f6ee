"""Connections of this process: one Redis client and one HTTP session for each event loop, threads for the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import lru_cache, partial
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import redis as redis_sync_api
import redis.asyncio as redis_async_api
from django.conf import settings
from django.db import connection

P = ParamSpec("P")
T = TypeVar("T")

# An outage is told at once: what waits for Redis must answer 503 within a second.
NO_RETRY: dict[str, Any] = {"retry": None, "retry_on_timeout": False}
_async_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, redis_async_api.Redis] = WeakKeyDictionary()
_database_threads = ThreadPoolExecutor(max_workers=12, thread_name_prefix="database")


@lru_cache(maxsize=1)
def redis_sync() -> redis_sync_api.Redis:
    """The process's blocking Redis client (thread-safe)."""
    return redis_sync_api.Redis.from_url(settings.REDIS_URL, socket_timeout=5, socket_connect_timeout=2)


def redis_async() -> redis_async_api.Redis:
    """The running loop's Redis client."""
    loop = asyncio.get_running_loop()
    client = _async_clients.get(loop)
    if client is None:
        pool = redis_async_api.BlockingConnectionPool.from_url(
            settings.REDIS_URL, max_connections=128, timeout=10, socket_timeout=5, socket_connect_timeout=5, **NO_RETRY
        )
        client = redis_async_api.Redis(connection_pool=pool)
        _async_clients[loop] = client
    return client


async def in_database(verb: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking verb that uses the ORM in a thread, and give its connection back to the pool."""

    def run() -> T:
        try:
            return verb(*args, **kwargs)
        finally:
            if not connection.in_atomic_block:
                connection.close()

    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_database_threads, partial(copy_context().run, run))
