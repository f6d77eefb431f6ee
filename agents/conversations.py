"""The tier that a conversation has: the choice of the router sticks, so that its tone and knowledge do not change.

Kept in Redis for a day; without Redis there is nothing to keep, and no call either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from redis import RedisError

from agents.asks import Caller
from agents.connections import redis_async
from agents.routing import Choice
from budgets.ledger import RESERVE_WITHIN_S, Unavailable

KEPT_S = 86_400


async def tier_of(caller: Caller) -> str:
    """The tier kept for this case, or ''. :raises Unavailable: Redis is away."""
    if not _can_differ(caller):
        return ""
    kept = await _soon(redis_async().get(_key(caller)))
    return kept.decode() if isinstance(kept, bytes) else kept or ""


async def keep_tier(caller: Caller, choice: Choice) -> None:
    """:raises Unavailable: Redis is away."""
    if choice.tier and _can_differ(caller):
        await _soon(redis_async().set(_key(caller), choice.tier, ex=KEPT_S))


async def _soon(answer: Awaitable[Any]) -> Any:
    try:
        async with asyncio.timeout(RESERVE_WITHIN_S):
            return await answer
    except (RedisError, OSError) as error:
        raise Unavailable(str(error)) from error


def _can_differ(caller: Caller) -> bool:
    return bool(caller.case_ref) and len(caller.live.routes.tiers) > 1


def _key(caller: Caller) -> str:
    return f"ph:tier:{caller.scope.name}:{caller.case_ref}"
