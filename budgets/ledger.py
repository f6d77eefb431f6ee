"""The only writer of money: holds before a call, settles after it, each one atomic script in Redis (`ledger.lua`).

- A hold is taken in every budget that applies or in none, whole or not at all: spend plus holds never exceed a limit.
- The window in which a call was reserved is charged, even when midnight has passed by then.
- A call is charged once for each attempt, in the same script that appends its entry to the stream `ph:calls`. A charge
  above its hold is written in full and counted as overshoot.
- A process that dies leaves its hold to `expire`, which charges the held amount and logs it with status "expired".
  Should the real figure come after all, the charge is corrected, and the later entry of the same call and attempt
  (`late` = 1, `estimate_nano` = what it replaces) takes the place of the estimate: one row, the last word wins.
- Counters that Redis has lost are not taken for zero: until `rebuild` has added what the call log knows,
  nothing can be reserved.
- Holds expire by Redis's clock, so the clocks of machines need not agree.
- The same scripts carry the circuit breaker: five bad calls in a row (or a provider that asks for a pause) open a
  circuit for 5, 10, 20, then 30 s for every process; after a pause one call probes, and closes it or trips it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import math
import secrets
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

SCRIPT = (Path(__file__).parent / "ledger.lua").read_text(encoding="utf-8")
SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
HOLD_S = 120.0
COUNTER_TTL_S = 40 * 86_400  # a month and more: figures of a window that has ended can still be corrected
ESTIMATE_TTL_S = 86_400
MARK_TTL_S = 3_600  # 150 bytes for each call made: at 1,000 calls/s one hour is 0.5 GB, a day 13 GB
RESERVE_WITHIN_S = 0.8  # nobody waits longer to hear that Redis is away
SETTLE_WITHIN_S = 5.0
EXPIRED_AT_ONCE = 500
ABANDONED_AT_ONCE = 256
PLANS = 4_096
STREAM = "ph:calls"
CIRCUITS = "ph:circuits"
VERDICTS = {True: "good", False: "bad", None: ""}
COUNTED = "ph:counted"
HELD, THERE, ENDED, OPEN, LOST, LIMITED = 1, 2, 3, 4, 5, 6  # as ledger.lua answers; 0 is exhausted


@dataclass(frozen=True, slots=True)
class Limit:
    """One budget that applies to a call. `key`: "organisation:", "agent:acme", "channel:acme/web" or "key:ph_abc12".

    A rate of 0 is none. A `balanced` limit may be held against with less than the most that a call can cost.
    `raised_nano` more may be spent while the time is before `raised_until` (seconds of the epoch).
    """

    key: str
    period: str
    timezone: str
    limit_nano: int
    budget_id: int
    raised_nano: int = 0
    raised_until: float = 0.0
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    balanced: bool = False

    def at(self, moment: float) -> int:
        """What may be spent at this moment."""
        return self.limit_nano + (self.raised_nano if moment < self.raised_until else 0)


@dataclass(frozen=True, slots=True)
class Hold:
    """Money set aside for one attempt, in the counters `keys`.

    `pressure` is the largest (spent + held) / limit after this hold: 0 without limits, 1 on a limit of 0.
    """

    call_id: str
    attempt: int
    nano: int
    keys: tuple[str, ...]
    epoch: int
    expires_at: float
    pressure: float
    circuit: str = ""

    @property
    def name(self) -> str:
        return f"{self.call_id}:{self.attempt}"


@dataclass(frozen=True, slots=True)
class Balance:
    """A window's nano-dollars: spent, held, and charged above holds; and when the next window begins."""

    spent_nano: int
    held_nano: int
    resets_at: datetime
    overshoot_nano: int = 0


class Exhausted(Exception):
    """A budget has no room for the hold; nothing was held anywhere."""

    def __init__(self, limit: Limit, limit_nano: int, spent_nano: int, held_nano: int, resets_at: datetime) -> None:
        super().__init__(f"The {limit.period} budget of {limit.key} is spent until {resets_at.isoformat()}.")
        self.budget = limit.key
        self.budget_id = limit.budget_id
        self.limit_nano = limit_nano
        self.spent_nano = spent_nano
        self.held_nano = held_nano
        self.resets_at = resets_at


class Open(Exception):
    """The provider has failed too often; nothing was held. `retry_s`: seconds until it is worth asking again."""

    def __init__(self, circuit: str, retry_s: float) -> None:
        super().__init__(f"{circuit} has failed repeatedly and is left alone for {retry_s:.0f} s.")
        self.circuit = circuit
        self.retry_s = retry_s


class Limited(Exception):
    """More requests or tokens a minute than a budget's owner may have; nothing was held."""

    def __init__(self, rate: str, per_minute: int, retry_s: float) -> None:
        super().__init__(f"{rate}: at most {per_minute:,} a minute. There is room again in {retry_s:.1f} s.")
        self.retry_s = retry_s


class Unavailable(Exception):
    """Redis cannot be reached, so no money can be held: nothing may be sent."""


class AlreadySettled(Exception):
    """This attempt of this call is over; a new attempt needs a new number."""


# --- the verbs of a call -----------------------------------------------------------------------------------------


async def reserve(
    redis: AsyncRedis,
    call_id: str,
    attempt: int,
    nano: int,
    limits: Sequence[Limit],
    *,
    ttl_s: float = HOLD_S,
    now: datetime | None = None,
    context: Mapping[str, str] | None = None,
    circuit: str = "",
    tokens: int = 0,
) -> Hold:
    """Hold `nano` in every limit, or in none; the same call and attempt again returns the hold that is there.

    Nano 0 (a model that costs nothing) is held even where nothing is left, so that a crash leaves its row too.
    The first attempt of a call counts against the limits' rates as one request and `tokens`.
    `context` is what `expire` writes into the log should this process die; `circuit` is the provider's name for the
    breaker; `now` is for tests.

    :raises Exhausted: some budget has no room. :raises Unavailable: Redis is away, nothing may be sent.
    :raises Open: the provider has failed too often. :raises Limited: too much for this minute.
    :raises AlreadySettled: the attempt was settled, abandoned or has expired. :raises ValueError: a negative hold.
    """
    if nano < 0:
        raise ValueError("A hold is not negative.")
    plan = _plan(tuple(limits), now)
    name = f"{call_id}:{attempt}"
    entry = orjson.dumps({**(context or {}), "call_id": call_id, "attempt": str(attempt)})
    keys = (f"ph:h:{name}", f"ph:s:{name}", *plan.keys)
    asked = f"{_PROCESS}{next(_asking)}"
    rates = _rates(limits, tokens) if attempt == 1 else []
    asking = ("reserve", name, nano, ttl_s, _stamp(now), entry, asked, COUNTER_TTL_S, circuit)
    try:
        answer = await _run(
            redis,
            RESERVE_WITHIN_S,
            keys,
            (*asking, orjson.dumps(rates) if rates else "", *plan.nanos),
        )
    except BaseException as error:
        _abandon(redis, name, asked)
        if isinstance(error, (RedisError, OSError)):
            raise Unavailable(str(error)) from error
        raise
    code, epoch = answer[0], answer[1]
    if code == HELD:
        return Hold(call_id, attempt, nano, plan.keys, epoch, float(answer[3]), float(answer[2]), circuit)
    if code == THERE:
        held_in = tuple(_text(answer[5]).split("\n")) if answer[5] else ()
        return Hold(call_id, attempt, int(answer[4]), held_in, epoch, float(answer[3]), float(answer[2]), circuit)
    if code == OPEN:
        raise Open(circuit, float(answer[2]))
    if code == ENDED:
        raise AlreadySettled(name)
    if code == LIMITED:
        name, _, per_minute = rates[answer[2]]
        raise Limited(name, per_minute, float(answer[3]))
    if code == LOST:
        raise Unavailable("Redis has lost its counters; they are being counted anew.")
    full = answer[2]
    raise Exhausted(plan.limits[full], plan.nanos[full], int(answer[3]), int(answer[4]), plan.windows[full].ends)


async def settle(
    redis: AsyncRedis,
    hold: Hold,
    nano: int,
    entry: Mapping[str, str | bytes],
    *,
    worked: bool | None = None,
    pause_s: float = 0.0,
    now: datetime | None = None,
) -> bool:
    """Give back the hold, charge `nano` where it was held, and append `entry` to the log; once, else False.

    `worked` says whether the provider answered (None: this call tells nothing of it), `pause_s` how long it asked to be
    left alone.

    :raises Unavailable: Redis is away; the hold will expire into a charge of its own amount.
    :raises ValueError: a negative charge, or no entry: a call without a row would be lost.
    """
    if nano < 0 or not entry:
        raise ValueError("A charge is not negative, and has an entry for the log.")
    fields = [part for pair in entry.items() for part in pair]
    learnt = (hold.circuit, VERDICTS[worked], pause_s)
    arguments = ("settle", hold.name, nano, _stamp(now), hold.expires_at, MARK_TTL_S, COUNTER_TTL_S, *learnt, *fields)
    return bool(await _ask(redis, hold, arguments))


async def release(redis: AsyncRedis, hold: Hold) -> bool:
    """Nothing was sent: the hold goes back, nothing is charged and no entry written. False when it had ended before.

    One that had expired meanwhile takes its charge back, and an entry at cost 0 takes the place of the estimate.

    :raises Unavailable: Redis is away; the hold will expire into a charge.
    """
    return bool(await _ask(redis, hold, ("release", hold.name, MARK_TTL_S, COUNTER_TTL_S)))


# --- around the calls, blocking: what dead processes left, what pages show, what a lost Redis needs -----------------


def expire(redis: Redis, now: datetime | None = None) -> int:
    """Turn the holds of dead processes into charges of the held amounts, logged as estimated; how many."""
    total = 0
    while True:
        done = _run_sync(redis, (), ("expire", _stamp(now), EXPIRED_AT_ONCE, ESTIMATE_TTL_S, COUNTER_TTL_S))
        total += done
        if done < EXPIRED_AT_ONCE:
            return total


def balances(redis: Redis, limits: Iterable[Limit], now: datetime | None = None) -> dict[Limit, Balance]:
    """What each limit's present window has spent and held, in one round trip."""
    plan = _plan(tuple(limits), now)
    pipe = redis.pipeline(transaction=False)
    for key in plan.keys:
        pipe.hmget(key, "spent", "held", "overshoot")
    return {
        limit: Balance(int(spent or 0), int(held or 0), found.ends, int(overshoot or 0))
        for limit, found, (spent, held, overshoot) in zip(plan.limits, plan.windows, pipe.execute(), strict=True)
    }


balances_sync = balances


def open_circuits(redis: Redis) -> dict[str, float]:
    """The providers that are left alone now, and for how many seconds more (0: the next call probes)."""
    names = sorted(_text(name) for name in redis.sscan_iter(CIRCUITS))
    pipe = redis.pipeline(transaction=False)
    for name in names:
        pipe.hget(f"ph:circuit:{name}", "until")
    now = float(redis.time()[0])
    found = dict(zip(names, pipe.execute(), strict=True))
    if gone := [name for name, until in found.items() if until is None]:
        redis.srem(CIRCUITS, *gone)
    return {name: max(0.0, float(until) - now) for name, until in found.items() if until is not None}


def at_loss(redis: Redis, limits: Sequence[Limit], now: datetime | None = None) -> tuple[str, dict[Limit, int]]:
    """In one moment: the id of the stream's last entry, and what the counters have counted since they were lost."""
    pipe = redis.pipeline(transaction=True)
    pipe.xrevrange(STREAM, count=1)
    for key in _plan(tuple(limits), now).keys:
        pipe.hget(key, "spent")
    last, *spent = pipe.execute()
    return (
        _text(last[0][0]) if last else "0-0",
        {limit: int(nano or 0) for limit, nano in zip(limits, spent, strict=True)},
    )


def rebuild(redis: Redis, missing: Mapping[Limit, int], now: datetime | None = None) -> None:
    """After Redis lost its counters: add to each what the log knows and it does not.

    From then on they can be trusted, and money can be reserved.
    """
    _run_sync(redis, _plan(tuple(missing), now).keys, ("rebuild", COUNTER_TTL_S, *missing.values()))


def is_counted(redis: Redis) -> bool:
    """Whether the counters can be trusted: not on a new Redis, and not on one that has lost its memory."""
    return bool(redis.exists(COUNTED))


# --- counters of a call's limits, worked out once a window -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Plan:
    """The counters of some limits while `starts` ≤ time < `ends`, in seconds: a window or an increase may end then."""

    limits: tuple[Limit, ...]
    windows: tuple[Window, ...]
    keys: tuple[str, ...]
    nanos: tuple[int, ...]
    starts: float
    ends: float


_plans: dict[tuple[Limit, ...], _Plan] = {}


def _plan(limits: tuple[Limit, ...], now: datetime | None) -> _Plan:
    moment = now.timestamp() if now else time.time()
    plan = _plans.get(limits)
    if plan is None or not plan.starts <= moment < plan.ends:
        if len(_plans) >= PLANS:
            _plans.clear()
        plan = _plans[limits] = _make_plan(limits, moment)
    return plan


def _rates(limits: Sequence[Limit], tokens: int) -> list[tuple[str, int, int]]:
    """(name, how much this call takes, how much there is a minute) of each rate."""
    rates = []
    for limit in limits:
        if limit.requests_per_minute:
            rates.append((f"{limit.key} requests", 1, limit.requests_per_minute))
        if limit.tokens_per_minute:
            rates.append((f"{limit.key} tokens", tokens, limit.tokens_per_minute))
    return rates


def _make_plan(limits: tuple[Limit, ...], moment: float) -> _Plan:
    now = datetime.fromtimestamp(moment, UTC)
    windows = tuple(window(limit.period, limit.timezone, now) for limit in limits)
    starts = [found.starts.timestamp() for found in windows]
    ends = [found.ends.timestamp() for found in windows]
    for limit in limits:
        (ends if moment < limit.raised_until else starts).append(limit.raised_until)
    return _Plan(
        limits,
        windows,
        tuple(f"ph:b:{limit.key}:{found.key}" for limit, found in zip(limits, windows, strict=True)),
        tuple(limit.at(moment) for limit in limits),
        max(starts, default=-math.inf),
        min(ends, default=math.inf),
    )


# --- one round trip --------------------------------------------------------------------------------------------------


async def _run(redis: AsyncRedis, within_s: float, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
    async with asyncio.timeout(within_s):
        try:
            return await redis.evalsha(SHA, len(keys), *keys, *arguments)
        except NoScriptError:
            return await redis.eval(SCRIPT, len(keys), *keys, *arguments)


def _run_sync(redis: Redis, keys: Sequence[str], arguments: Sequence[Any]) -> int:
    try:
        return int(redis.evalsha(SHA, len(keys), *keys, *arguments))
    except NoScriptError:
        return int(redis.eval(SCRIPT, len(keys), *keys, *arguments))


async def _ask(redis: AsyncRedis, hold: Hold, arguments: Sequence[Any]) -> Any:
    try:
        return await _run(redis, SETTLE_WITHIN_S, (f"ph:h:{hold.name}", f"ph:s:{hold.name}", *hold.keys), arguments)
    except (RedisError, OSError) as error:
        raise Unavailable(str(error)) from error


_PROCESS = secrets.token_hex(6)
_asking = itertools.count()
_abandoned: set[asyncio.Task[None]] = set()


def _abandon(redis: AsyncRedis, name: str, asked: str) -> None:
    """The answer to a reserve was not heard, so it may have held: give that back, or bar it should it arrive later.

    Without this a client that hangs up would leave a hold that becomes a charge for a call that was never sent. Only
    this asking is taken back: who reserves the same attempt again keeps what the second asking got.
    """

    async def give_back() -> None:
        keys = (f"ph:h:{name}", f"ph:s:{name}")
        with contextlib.suppress(RedisError, OSError):
            await _run(redis, SETTLE_WITHIN_S, keys, ("abandon", name, MARK_TTL_S, COUNTER_TTL_S, asked))

    if len(_abandoned) < ABANDONED_AT_ONCE:
        task = asyncio.get_running_loop().create_task(give_back())
        _abandoned.add(task)
        task.add_done_callback(_abandoned.discard)


def _stamp(now: datetime | None) -> float | str:
    """What the scripts take for the time; empty is Redis's own clock."""
    return now.timestamp() if now else ""


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
