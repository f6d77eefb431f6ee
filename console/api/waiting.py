"""Waiting for an outcome: woken by Redis, with a slow look at Postgres for a word that got lost."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import connection
from redis import RedisError
from redis.client import PubSub
from rest_framework.request import Request

from agents.connections import redis_sync

LONGEST_S = 30
LOOK_S = 2.0
PLACES = 128
WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})")
_places = threading.BoundedSemaphore(PLACES)


def wanted(request: Request) -> int:
    """Seconds that `Prefer: wait=N` or `?wait=N` asks for, at most 30."""
    found = WAIT.search(request.headers.get("prefer", ""))
    asked = found.group(1) if found else request.query_params.get("wait", "")
    return min(int(asked), LONGEST_S) if asked.isdecimal() and len(asked) < 7 else 0


def wait(channel: str, done: Callable[[], bool], seconds: float) -> bool:
    """Until `done`, or for `seconds`; what `done` said last. A crowd is not waited with: it is a preference only.

    No database connection is kept while waiting, so that those who wait do not starve those who work.
    """
    if seconds <= 0 or not _places.acquire(blocking=False):
        return done()
    try:
        ends = time.monotonic() + seconds
        with _listening(channel) as pubsub:
            while not (ended := done()) and (left := ends - time.monotonic()) > 0:
                _give_back_connection()
                _hear(pubsub, min(left, LOOK_S))
        return ended
    finally:
        _places.release()


@contextmanager
def _listening(channel: str) -> Iterator[PubSub | None]:
    """Subscribed and confirmed, so that nothing said from here on is missed; None while Redis is away."""
    pubsub = redis_sync().pubsub()  # type: ignore[no-untyped-call]
    try:
        try:
            pubsub.subscribe(channel)
            pubsub.get_message(timeout=1.0)
        except RedisError:
            yield None
        else:
            yield pubsub
    finally:
        pubsub.close()


def _hear(pubsub: PubSub | None, seconds: float) -> None:
    try:
        if pubsub is not None:
            pubsub.get_message(timeout=seconds)
            return
    except RedisError:
        pass
    time.sleep(min(seconds, LOOK_S / 4))


def _give_back_connection() -> None:
    if not connection.in_atomic_block:
        connection.close()
