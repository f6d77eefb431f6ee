"""The only writer of money: holds before a call, settles after it, each one atomic script in Redis (`ledger.lua`).

Spend plus holds never exceed a limit, since a hold is taken in every budget that applies or in none. A process that dies
leaves its hold to `expire`, which turns it into a charge of the held amount, flagged as estimated; when the real figure
arrives after all, `settle` corrects the charge and its log entry replaces the estimate. All keys begin with `ph:`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from redis import Redis, RedisError
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import NoScriptError

from budgets.periods import Window, window

SCRIPT = (Path(__file__).parent / "ledger.lua").read_text()
SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
COUNTER_TTL_S = 40 * 86_400
MARK_TTL_S = 86_400
HOLD_S = 120.0
EXPIRED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Limit:
    """One budget that applies to a call; `key` is "organisation:", "agent:acme", "channel:acme/web" or "key:ph_abc12345"."""

    key: str
    period: str
    timezone: str
    limit_nano: int
    budget_id: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Money set aside for one attempt. `pressure`: the largest (spent + held) / limit after this hold, 0 without limits."""

    call_id: str
    attempt: int
    nano: int
    keys: tuple[str, ...]
    epoch: int
    expires_at: float
    pressure: float

    @property
    def name(self) -> str:
        return f"{self.call_id}:{self.attempt}"


@dataclass(frozen=True, slots=True)
class Balance:
    """What a window has spent and held, in nano-dollars, and when the next one begins."""

    spent_nano: int
    held_nano: int
    resets_at: datetime


class Exhausted(Exception):
    """A budget has no room for the hold; nothing was held anywhere."""

    def __init__(self, limit: Limit, spent_nano: int, held_nano: int, resets_at: datetime) -> None:
        super().__init__(f"The {limit.period} budget of {limit.key} is spent until {resets_at.isoformat()}.")
        self.budget = limit.key
        self.budget_id = limit.budget_id
        self.limit_nano = limit.limit_nano
        self.spent_nano = spent_nano
        self.held_nano = held_nano
        self.resets_at = resets_at


class Unavailable(Exception):
    """Redis cannot be reached, so no money can be held: nothing may be sent."""


class AlreadySettled(Exception):
    """This attempt of this call was settled before; a new attempt needs a new number."""


async def reserve(
    redis: AsyncRedis,
    call_id: str,
    attempt: int,
    nano: int,
    limits: Sequence[Limit],
    ttl_s: float = HOLD_S,
    now: datetime | None = None,
    context: Mapping[str, str] | None = None,
) -> Hold:
    """Hold `nano` in every limit, or in none; the same (call, attempt) again returns the hold that is there.

    `context` is what `expire` writes into the log should this process die.

    :raises Exhausted: some budget has no room. :raises Unavailable: Redis is away. :raises AlreadySettled: it is over.
    """
    if nano < 0:
        raise ValueError("A hold is not negative.")
    windows = [_window(limit, now) for limit in limits]
    keys = tuple(_counter(limit, found) for limit, found in zip(limits, windows, strict=True))
    expires_at = (now.timestamp() if now else time.time()) + ttl_s
    name = f"{call_id}:{attempt}"
    entry = orjson.dumps({**(context or {}), "call_id": call_id, "attempt": str(attempt)})
    try:
        answer = await _run(
            redis,
            [f"ph:h:{name}", f"ph:s:{name}", *keys],
            ["reserve", name, nano, expires_at, entry, COUNTER_TTL_S, *(limit.limit_nano for limit in limits)],
        )
    except (RedisError, OSError) as error:
        raise Unavailable(str(error)) from error
    if answer[0] == b"held":
        return Hold(call_id, attempt, nano, keys, int(answer[1]), expires_at, float(answer[2]))
    if answer[0] == b"settled":
        raise AlreadySettled(name)
    full = int(answer[2])
    raise Exhausted(limits[full], int(answer[3]), int(answer[4]), windows[full].ends)


async def settle(redis: AsyncRedis, hold: Hold, nano: int, entry: Mapping[str, str]) -> bool:
    """Give back the hold, charge `nano` in the windows that were held, and append the log entry; once, else False.

    A charge above the hold is written in full: the truth goes before the limit.

    :raises Unavailable: Redis is away; the hold will expire into a charge of its own amount.
    """
    fields = [part for pair in entry.items() for part in pair]
    try:
        answer = await _run(
            redis,
            [f"ph:h:{hold.name}", f"ph:s:{hold.name}", *hold.keys],
            ["settle", hold.name, nano, MARK_TTL_S, *fields],
        )
    except (RedisError, OSError) as error:
        raise Unavailable(str(error)) from error
    return bool(answer)


async def release(redis: AsyncRedis, hold: Hold) -> bool:
    """Give the hold back: nothing was sent, so nothing is charged and nothing is logged."""
    try:
        return bool(await _run(redis, [f"ph:h:{hold.name}", f"ph:s:{hold.name}", *hold.keys], ["release", hold.name]))
    except (RedisError, OSError) as error:
        raise Unavailable(str(error)) from error


def expire(redis: Redis, now: datetime | None = None) -> int:
    """Turn holds of dead processes into charges of the held amount, flagged estimated; how many."""
    moment = now.timestamp() if now else time.time()
    arguments = ["expire", moment, EXPIRED_AT_ONCE, MARK_TTL_S]
    try:
        return int(redis.evalsha(SHA, 0, *arguments))  # type: ignore[arg-type]
    except NoScriptError:
        return int(redis.eval(SCRIPT, 0, *arguments))  # type: ignore[arg-type]


def balances(redis: Redis, limits: Iterable[Limit], now: datetime | None = None) -> dict[Limit, Balance]:
    """What each limit's present window has spent and held, in one round trip."""
    limits = list(limits)
    windows = [_window(limit, now) for limit in limits]
    pipe = redis.pipeline(transaction=False)
    for limit, found in zip(limits, windows, strict=True):
        pipe.hmget(_counter(limit, found), "spent", "held")
    rows = pipe.execute()
    return {
        limit: Balance(int(spent or 0), int(held or 0), found.ends)
        for limit, found, (spent, held) in zip(limits, windows, rows, strict=True)
    }


def rebuild(redis: Redis, spent: Mapping[Limit, int], now: datetime | None = None) -> None:
    """After Redis lost its counters: raise each to what Postgres and the stream know; never lower one."""
    for limit, nano in spent.items():
        redis.eval(SCRIPT, 1, _counter(limit, _window(limit, now)), "rebuild", nano, COUNTER_TTL_S)


def _counter(limit: Limit, found: Window) -> str:
    return f"ph:b:{limit.key}:{found.key}"


_windows: dict[tuple[str, str], Window] = {}


def _window(limit: Limit, now: datetime | None) -> Window:
    """The limit's window; the present one is kept until it ends, so that a call pays for no calendar arithmetic."""
    if now is not None:
        return window(limit.period, limit.timezone, now)
    moment = datetime.now(UTC)
    found = _windows.get((limit.period, limit.timezone))
    if found is None or not found.starts <= moment < found.ends:
        found = _windows[(limit.period, limit.timezone)] = window(limit.period, limit.timezone, moment)
    return found


async def _run(redis: AsyncRedis, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
    try:
        return await redis.evalsha(SHA, len(keys), *keys, *arguments)  # type: ignore[misc]
    except NoScriptError:
        return await redis.eval(SCRIPT, len(keys), *keys, *arguments)  # type: ignore[misc]
