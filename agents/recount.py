"""Counters that Redis has lost, counted anew from the call log: what Postgres has, and what waits in the stream."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db.models import Q, Sum

from agents.connections import redis_sync
from agents.models import Call, CallHour, CallMinute
from budgets import ledger
from budgets.models import Budget
from budgets.periods import window

COLUMNS = {"agent": "agent", "channel": "channel", "key": "key_prefix"}
PAGE = 5_000
ALONE_S = 60
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Waiting:
    """An entry of the stream, and what of its charge Postgres does not know."""

    names: Mapping[str, str]
    at: datetime
    nano: int


def recount() -> bool:
    """Count and let money flow again, unless the counters are there or another process is at it; whether it did."""
    redis = redis_sync()
    if ledger.is_counted(redis) or not redis.set("ph:counting", "1", nx=True, ex=ALONE_S):
        return False
    try:
        waiting = _waiting()  # before Postgres is asked: what moves over meanwhile counts twice rather than not at all
        spent = {budget.limit(): _spent(budget, waiting) for budget in Budget.objects.active()}
        ledger.rebuild(redis, spent)
    finally:
        redis.delete("ph:counting")
    if any(spent.values()):
        log.warning("Redis had lost its counters: %d budgets were counted anew from the call log", len(spent))
    return True


def _spent(budget: Budget, waiting: list[Waiting]) -> int:
    """Nano-dollars charged in the budget's present window."""
    since = window(budget.period, budget.timezone, datetime.now(UTC)).starts
    column = COLUMNS.get(budget.owner_kind, "")
    where = Q(**{column: budget.owner}) if column else Q()
    sums = CallHour if since.astimezone(UTC).minute == 0 else CallMinute
    known = sums.objects.filter(where, start__gte=since).aggregate(nano=Sum("charged_nano", default=0))["nano"]
    more = sum(one.nano for one in waiting if one.at >= since and (not column or one.names.get(column) == budget.owner))
    return int(known) + more


def _waiting() -> list[Waiting]:
    """The last word of the stream on each attempt, less what Postgres has charged for it."""
    last: dict[tuple[str, str], dict[str, str]] = {}
    at = "-"
    while entries := _page(at):
        for _, fields in entries:
            entry = {name.decode(): value.decode("utf-8", "replace") for name, value in fields.items()}
            last[entry.get("call_id", ""), entry.get("attempt", "1")] = entry
        at = f"({entries[-1][0].decode()}"
    found = []
    for start in range(0, len(last), PAGE):
        keys = list(last)[start : start + PAGE]
        rows = Call.objects.filter(call_id__in={call_id for call_id, _ in keys}).values_list(
            "call_id", "attempt", "charged_nano", "status"
        )
        known = {(str(call_id), str(attempt)): (nano, status) for call_id, attempt, nano, status in rows}
        found += [_beyond(last[key], known.get(key)) for key in keys]
    return found


def _page(at: str) -> list[Any]:
    entries: Any = redis_sync().xrange(ledger.STREAM, at, "+", count=PAGE)
    return list(entries)


def _beyond(entry: Mapping[str, str], known: tuple[int, str] | None) -> Waiting:
    charged = int(entry.get("charged_nano") or entry.get("cost_nano") or 0)
    replaces = known is not None and known[1] == "expired" and entry.get("status") != "expired"
    nano = charged if known is None else charged - known[0] if replaces else 0
    at = datetime.fromisoformat(entry["at"]) if entry.get("at") else datetime.now(UTC)
    return Waiting(entry, at, nano)
