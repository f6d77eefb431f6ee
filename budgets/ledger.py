"""The only writer of money: holds before a call, settles after it, each one atomic step in Redis (`ledger.lua`).

- A hold is taken in every budget that applies or in none, whole or not at all: spend plus holds never exceed a limit.
- The window in which a call was reserved is charged, even when midnight has passed by then.
- A call is charged once for each attempt, in the same step that appends its entry to the stream `ph:calls`. A charge
  above its hold is written in full and counted as overshoot.
- A process that dies leaves its hold to `expire`, which charges the held amount and logs it with status "expired".
  Should the real figure come after all, the charge is corrected, and the later entry of the same call and attempt
  (`late` = 1, `estimate_nano` = what it replaces) takes the place of the estimate: one row, the last word wins.
- Counters that Redis has lost are not taken for zero: until `rebuild` has added what the call log knows,
  nothing can be reserved.
- Holds expire by Redis's clock, so the clocks of machines need not agree.
- What the calls of one process ask at the same time travels in one run of the script (`script.py`); each is whole for
  itself, and is answered for itself.
- The same script carries the circuit breaker: five bad calls in a row (or a provider that asks for a pause) open a
  circuit for 5, 10, 20, then 30 s for every process; after a pause one call probes, and closes it or trips it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redis import Redis, RedisError
from redis.asyncio import Redis as AsyncRedis

from budgets import limits as counters
from budgets import script
from budgets.limits import Limit
from budgets.stream import STREAM, pack

__all__ = ["STREAM", "Limit"]
HOLD_S = 120.0
RESERVE_WITHIN_S = 0.8  # nobody waits longer to hear that Redis is away
SETTLE_WITHIN_S = 5.0
EXPIRED_AT_ONCE = 500
ABANDONED_AT_ONCE = 256
CIRCUITS = "ph:circuits"
VERDICTS = {True: "good", False: "bad", None: ""}
COUNTED = "ph:counted"
HELD, THERE, ENDED, OPEN, LOST, LIMITED = 1, 2, 3, 4, 5, 6  # as ledger.lua answers; 0 is exhausted


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
    plan = counters.plan(tuple(limits), now)
    name, asked = f"{call_id}:{attempt}", f"{_PROCESS}{next(_asking)}"
    rates = counters.rates(limits, tokens) if attempt == 1 else []
    asking = {
        "verb": "reserve",
        "name": name,
        "nano": nano,
        "ttl": ttl_s,
        "asked": asked,
        "circuit": circuit,
        "rates": rates,
        "keys": plan.keys_json,
        "limits": plan.nanos_json,
    }
    entry = pack({**(context or {}), "call_id": call_id, "attempt": str(attempt)})
    try:
        answer = await script.ask(redis, _at(now, asking), RESERVE_WITHIN_S, entry)
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
    if code == LIMITED:
        rate, _, per_minute = rates[answer[2]]
        raise Limited(rate, per_minute, float(answer[3]))
    raise _refusal(answer, plan, name, circuit)


def _refusal(answer: Sequence[Any], plan: counters.Plan, name: str, circuit: str) -> Exception:
    code = answer[0]
    if code == OPEN:
        return Open(circuit, float(answer[2]))
    if code == ENDED:
        return AlreadySettled(name)
    if code == LOST:
        return Unavailable("Redis has lost its counters; they are being counted anew.")
    full = answer[2]
    return Exhausted(plan.limits[full], plan.nanos[full], int(answer[3]), int(answer[4]), plan.windows[full].ends)


async def settle(
    redis: AsyncRedis,
    hold: Hold,
    nano: int,
    entry: Mapping[str, str],
    *,
    worked: bool | None = None,
    pause_s: float = 0.0,
    now: datetime | None = None,
) -> bool:
    """Give back the hold, charge `nano` where it was held, and append `entry` to the log; once, else False. Who is
    cancelled meanwhile has settled all the same.

    `worked` says whether the provider answered (None: this call tells nothing of it), `pause_s` how long it asked to be
    left alone.

    :raises Unavailable: Redis is away; the hold will expire into a charge of its own amount.
    :raises ValueError: a negative charge, or no entry: a call without a row would be lost.
    """
    if nano < 0 or not entry:
        raise ValueError("A charge is not negative, and has an entry for the log.")
    asking = {
        "verb": "settle",
        "name": hold.name,
        "nano": nano,
        "expires": hold.expires_at,
        "keys": hold.keys,
        "circuit": hold.circuit,
        "verdict": VERDICTS[worked],
        "pause": pause_s,
    }
    return bool(await _ask(redis, _at(now, asking), pack(entry)))


async def release(redis: AsyncRedis, hold: Hold) -> bool:
    """Nothing was sent: the hold goes back, nothing is charged and no entry written. False when it had ended before.

    One that had expired meanwhile takes its charge back, and an entry at cost 0 takes the place of the estimate.

    :raises Unavailable: Redis is away; the hold will expire into a charge.
    """
    return bool(await _ask(redis, {"verb": "release", "name": hold.name}))


# --- around the calls, blocking: what dead processes left, what pages show, what a lost Redis needs -----------------


def expire(redis: Redis, now: datetime | None = None) -> int:
    """Turn the holds of dead processes into charges of the held amounts, logged as estimated; how many."""
    total = 0
    while True:
        done = script.ask_sync(redis, _at(now, {"verb": "expire", "at_most": EXPIRED_AT_ONCE}))
        total += done
        if done < EXPIRED_AT_ONCE:
            return total


def balances(redis: Redis, limits: Iterable[Limit], now: datetime | None = None) -> dict[Limit, Balance]:
    """What each limit's present window has spent and held, in one round trip."""
    plan = counters.plan(tuple(limits), now)
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
    for key in counters.plan(tuple(limits), now).keys:
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
    keys = counters.plan(tuple(missing), now).keys
    script.ask_sync(redis, {"verb": "rebuild", "keys": keys, "nanos": list(missing.values())})


def is_counted(redis: Redis) -> bool:
    """Whether the counters can be trusted: not on a new Redis, and not on one that has lost its memory."""
    return bool(redis.exists(COUNTED))


# --- asking ----------------------------------------------------------------------------------------------------------


async def _ask(redis: AsyncRedis, ask: script.Ask, entry: bytes = b"") -> Any:
    try:
        return await script.ask(redis, ask, SETTLE_WITHIN_S, entry, keep=True)
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
        with contextlib.suppress(Unavailable):
            await _ask(redis, {"verb": "abandon", "name": name, "asked": asked})

    if len(_abandoned) < ABANDONED_AT_ONCE:
        task = asyncio.get_running_loop().create_task(give_back())
        _abandoned.add(task)
        task.add_done_callback(_abandoned.discard)


def _at(now: datetime | None, ask: dict[str, Any]) -> script.Ask:
    """With a time of its own, where tests have one; else the script takes Redis's clock."""
    return {**ask, "now": now.timestamp()} if now else ask


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
