"""Counters that Redis has lost, counted anew from the call log: what Postgres has, and what waits in the stream.

Exact, while calls that were under way at the loss go on settling: the drain stands still meanwhile, so every entry up
to one moment is in Postgres or in the stream, and what is settled after that moment counts itself.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Q, Sum

from agents import usage
from agents.connections import redis_sync
from agents.entries import LOCK, decoded, moment
from agents.models import Call, CallHour, CallMinute
from budgets import ledger
from budgets.models import Budget
from budgets.periods import window

PAGE = 5_000
Attempt = tuple[datetime, uuid.UUID, int]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Waiting:
    """An entry of the stream, and what of its charge Postgres does not know."""

    names: Mapping[str, str]
    at: datetime
    nano: int


def recount(*, anew: bool = False) -> bool:
    """Count and let money flow again, unless the counters are there; whether it did. One process counts at a time.

    `anew`: even so, since they may lack something. Counters that lack nothing stay as they are.
    """
    redis = redis_sync()
    if ledger.is_counted(redis) and not anew:
        return False
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(LOCK)
        if ledger.is_counted(redis) and not anew:
            return False
        now, budgets = datetime.now(UTC), {budget.limit(): budget for budget in Budget.objects.active()}
        last, since = ledger.at_loss(redis, list(budgets), now)
        starts = {limit: window(limit.period, limit.timezone, now).starts for limit in budgets}
        waiting = _waiting(last, min(starts.values(), default=now))
        spent = {limit: _spent(budget, starts[limit], waiting) for limit, budget in budgets.items()}
        missing = {limit: max(0, nano - since[limit]) for limit, nano in spent.items()}
        ledger.rebuild(redis, missing, now)
    if any(missing.values()) and not anew:
        log.warning("Redis had lost its counters: %d budgets were counted anew from the call log", len(missing))
    return True


def _spent(budget: Budget, since: datetime, waiting: list[Waiting]) -> int:
    """Nano-dollars charged in the window that began then."""
    everybody = budget.owner_kind == Budget.OwnerKind.ORGANISATION
    where = Q() if everybody else usage.only({budget.owner_kind: budget.owner})
    name = usage.COLUMN.get(budget.owner_kind, budget.owner_kind)
    sums = CallHour if since.astimezone(UTC).minute == 0 else CallMinute
    known = sums.objects.filter(where, start__gte=since).aggregate(nano=Sum("charged_nano", default=0))["nano"]
    theirs = (one for one in waiting if everybody or one.names.get(name) == budget.owner)
    return int(known) + sum(one.nano for one in theirs if one.at >= since)


def _waiting(until: str, since: datetime) -> list[Waiting]:
    """The last word of the stream on each attempt of that time, less what Postgres has charged for it."""
    last: dict[Attempt, dict[str, str]] = {}
    for entry in _entries(until):
        attempt = _attempt(entry)
        if attempt and attempt[0] >= since and (attempt not in last or entry.get("status") != "expired"):
            last[attempt] = entry
    found, attempts = [], sorted(last)
    for some in (attempts[start : start + PAGE] for start in range(0, len(attempts), PAGE)):
        rows = Call.objects.filter(call_id__in={one[1] for one in some}, at__gte=some[0][0], at__lte=some[-1][0])
        charged = rows.order_by().values_list("at", "call_id", "attempt", "charged_nano", "status")
        known = {(at, call_id, n): (nano, status) for at, call_id, n, nano, status in charged}
        found += [Waiting(last[one], one[0], _beyond(last[one], known.get(one))) for one in some]
    return found


def _attempt(entry: Mapping[str, str]) -> Attempt | None:
    """What an entry is of; None where it cannot become a row."""
    at = moment(entry["at"])
    try:
        return (at, uuid.UUID(entry["call_id"]), int(entry.get("attempt") or 1)) if at else None
    except (KeyError, ValueError):
        return None


def _entries(until: str) -> Iterator[dict[str, str]]:
    at = "-"
    while True:
        page: Any = redis_sync().xrange(ledger.STREAM, at, until, count=PAGE)
        for entry_id, fields in page:
            yield decoded(entry_id, fields)
        if len(page) < PAGE:
            return
        at = f"({page[-1][0].decode()}"


def _beyond(entry: Mapping[str, str], known: tuple[int, str] | None) -> int:
    text = entry.get("charged_nano") or entry.get("cost_nano") or "0"
    charged = int(text) if text.isdecimal() else 0
    replaces = known is not None and known[1] == "expired" and entry.get("status") != "expired"
    return charged if known is None else charged - known[0] if replaces else 0
