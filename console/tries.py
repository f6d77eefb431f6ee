"""How often somebody may guess: failed tries are counted in Redis for a quarter of an hour."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import cast

from redis import RedisError

from agents.connections import redis_sync

WINDOW_S = 900
log = logging.getLogger(__name__)


def wait(allowed: Mapping[str, int]) -> int:
    """Seconds until the next try; 0: now. While Redis is away nobody is kept out: a password is still needed."""
    try:
        redis = redis_sync()
        for name, most in allowed.items():
            if int(cast("bytes | None", redis.get(_key(name))) or 0) >= most:
                return max(1, redis.ttl(_key(name)))
    except RedisError as error:
        log.warning("tries cannot be counted: %s", type(error).__name__)
    return 0


def count(names: Mapping[str, int]) -> None:
    """One more failed try, which is forgotten a quarter of an hour after the first."""
    try:
        pipe = redis_sync().pipeline()
        for name in names:
            pipe.set(_key(name), 0, ex=WINDOW_S, nx=True)
            pipe.incr(_key(name))
        pipe.execute()
    except RedisError as error:
        log.warning("tries cannot be counted: %s", type(error).__name__)


def forget(names: Mapping[str, int]) -> None:
    try:
        redis_sync().delete(_key(next(iter(names))))
    except RedisError as error:
        log.warning("tries cannot be counted: %s", type(error).__name__)


def _key(name: str) -> str:
    """Names are hashed: people type passwords into the field for the name."""
    return f"ph:tries:{hashlib.sha256(name.encode()).hexdigest()}"
