"""The budgets that apply to a call, and the counters in which their money is."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from budgets.periods import Window, window

PLANS = 4_096


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
class Plan:
    """The counters of some limits while `starts` ≤ time < `ends`, in seconds: a window or an increase may end then.

    `keys_json` and `nanos_json` are the same again as the script wants them.
    """

    limits: tuple[Limit, ...]
    windows: tuple[Window, ...]
    keys: tuple[str, ...]
    nanos: tuple[int, ...]
    starts: float
    ends: float
    keys_json: orjson.Fragment
    nanos_json: orjson.Fragment


_plans: dict[tuple[Limit, ...], Plan] = {}


def plan(limits: tuple[Limit, ...], now: datetime | None) -> Plan:
    """Worked out once a window. `now` is for tests."""
    moment = now.timestamp() if now else time.time()
    found = _plans.get(limits)
    if found is None or not found.starts <= moment < found.ends:
        if len(_plans) >= PLANS:
            _plans.clear()
        found = _plans[limits] = _make(limits, moment)
    return found


def _make(limits: tuple[Limit, ...], moment: float) -> Plan:
    now = datetime.fromtimestamp(moment, UTC)
    windows = tuple(window(limit.period, limit.timezone, now) for limit in limits)
    starts = [found.starts.timestamp() for found in windows]
    ends = [found.ends.timestamp() for found in windows]
    for limit in limits:
        (ends if moment < limit.raised_until else starts).append(limit.raised_until)
    keys = tuple(f"ph:b:{limit.key}:{found.key}" for limit, found in zip(limits, windows, strict=True))
    nanos = tuple(limit.at(moment) for limit in limits)
    return Plan(
        limits,
        windows,
        keys,
        nanos,
        max(starts, default=-math.inf),
        min(ends, default=math.inf),
        orjson.Fragment(orjson.dumps(keys)),
        orjson.Fragment(orjson.dumps(nanos)),
    )


def rates(limits: Sequence[Limit], tokens: int) -> list[tuple[str, int, int]]:
    """(name, how much this call takes, how much there is a minute) of each rate."""
    found = []
    for limit in limits:
        if limit.requests_per_minute:
            found.append((f"{limit.key} requests", 1, limit.requests_per_minute))
        if limit.tokens_per_minute:
            found.append((f"{limit.key} tokens", tokens, limit.tokens_per_minute))
    return found
