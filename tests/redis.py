"""Redis as a new installation finds it."""

from agents.connections import redis_sync
from budgets import ledger


def empty_redis() -> None:
    """Nothing in it, and nothing spent: money can be reserved."""
    redis = redis_sync()
    redis.flushdb()
    ledger.rebuild(redis, {})
