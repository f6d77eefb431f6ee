"""What calls cost, from the sums by minute and hour: spend, tokens and latency by whatever a person asks for.

A latency percentile is read from a histogram whose buckets grow by 15 %: it is wrong by 7.3 % at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import accumulate
from typing import Any

from django.db import connection
from django.db.models import CharField, F, Func, Q, QuerySet, Sum, Value
from django.db.models.functions import Cast, TruncDate, TruncHour

from agents.models import CallHour, CallMinute

GROWTH = 1.15
MOST_GROUPS = 200
SUMS = (
    *("calls", "unpriced", "estimated", "input_tokens", "cached_tokens", "output_tokens", "cost_nano"),
    *("compared_nano", "largest_nano"),
)
GROUPS = ("agent", "channel", "scope", "topic", "model", "tier", "release", "provider", "purpose", "key", "day", "hour")
Group = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """The calls of one group. Money in nano-dollars; calls without a price are in `unpriced`, not in `cost_nano`.

    `largest_nano`: what the calls that cost `compared_nano` would have cost on the largest tier.
    """

    group: Any
    calls: int
    unpriced: int
    estimated: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_nano: int
    compared_nano: int
    largest_nano: int

    @property
    def saved_nano(self) -> int:
        return self.largest_nano - self.compared_nano

    @property
    def nano_per_call(self) -> int | None:
        priced = self.calls - self.unpriced
        return round(self.cost_nano / priced) if priced else None


def table(since: datetime, until: datetime) -> type[CallHour | CallMinute]:
    """Hours where the time begins and ends with one, or is long; a minute of a long time is nobody's concern."""
    whole = all(moment.minute == moment.second == 0 for moment in (since, until))
    return CallHour if whole or until - since > timedelta(days=2) else CallMinute


def within(where: Q, since: datetime, until: datetime) -> QuerySet[Any]:
    """The sums from `since`, rounded down to the minute or hour of the sums, to before `until`."""
    sums = table(since, until)
    begins = since.replace(second=0, microsecond=0)
    begins = begins.replace(minute=0) if sums is CallHour else begins
    return sums.objects.filter(where, start__gte=begins, start__lt=until).order_by()


def by(group: str, where: Q, since: datetime, until: datetime, zone: Any = None) -> list[Row]:
    """One row for each group, the dearest first; days and hours in order."""
    rows = (
        within(where, since, until)
        .values(group=_expression(group, zone))
        .annotate(**{f"sum_{name}": Sum(name) for name in SUMS})
    )
    ordered = (
        rows.order_by("group") if group in ("day", "hour") else rows.order_by("-sum_cost_nano", "-sum_calls", "group")
    )
    return [_row(row["group"], row) for row in ordered[:MOST_GROUPS]]


def total(where: Q, since: datetime, until: datetime) -> Row:
    found = within(where, since, until).aggregate(**{f"sum_{name}": Sum(name, default=0) for name in SUMS})
    return _row("", found)


def over_time(
    group: str, where: Q, since: datetime, until: datetime, step: str, zone: Any = None
) -> list[tuple[Any, str, int]]:
    """(day or hour, group, nano-dollars), in order of time."""
    rows = (
        within(where, since, until)
        .values(at=_expression(step, zone), group=_expression(group, zone))
        .annotate(cost=Sum("cost_nano"))
        .order_by("at", "group")
    )
    return [(row["at"], str(row["group"]), row["cost"]) for row in rows[:20_000]]


def percentiles(
    group: str, where: Q, since: datetime, until: datetime, shares: Sequence[float]
) -> dict[str, list[float]]:
    """Milliseconds by group: for each share the latency that so many calls do not exceed."""
    sums = within(where, since, until).annotate(group=_expression(group, None)).values("group", "id", "start")
    sql, params = sums.query.sql_with_params()
    name = sums.model._meta.db_table  # noqa: SLF001  Django's documented way to a model's table
    with connection.cursor() as cursor:
        cursor.execute(
            f'SELECT "group", bucket, sum(n) FROM ({sql}) AS wanted JOIN "{name}" AS sums USING (id, start), '
            "unnest(sums.histogram) WITH ORDINALITY AS counted (n, bucket) WHERE n <> 0 GROUP BY 1, 2 ORDER BY 1, 2",
            params,
        )
        counts: dict[str, list[tuple[int, int]]] = {}
        for found, bucket, n in cursor.fetchall():
            counts.setdefault(str(found), []).append((int(bucket), int(n)))
    return {found: [percentile(histogram, share) for share in shares] for found, histogram in counts.items()}


def percentile(histogram: Iterable[tuple[int, int]], share: float) -> float:
    """The geometric middle of the bucket in which that share of the calls is reached, in milliseconds."""
    counted = list(histogram)
    wanted = share * sum(n for _, n in counted)
    reached = accumulate(n for _, n in counted)
    bucket = next((bucket for (bucket, _), so_far in zip(counted, reached, strict=True) if so_far >= wanted), 1)
    return float(GROWTH ** (bucket - 1.5)) if bucket > 1 else 1.0


def _row(group: Any, found: Mapping[str, Any]) -> Row:
    return Row(group, **{name: int(found[f"sum_{name}"] or 0) for name in SUMS})


def _expression(group: str, zone: Any) -> Any:
    if group == "day":
        return TruncDate("start", tzinfo=zone)
    if group == "hour":
        return TruncHour("start", tzinfo=zone)
    if group == "topic":
        return Func(F("scope"), Value("/"), Value(3), function="split_part", output_field=CharField())
    return Cast(F({"key": "key_prefix"}.get(group, group)), CharField())


def days(since: datetime, until: datetime, zone: Any) -> list[date]:
    """The local days that a time touches, oldest first."""
    first, last = since.astimezone(zone).date(), (until - timedelta(microseconds=1)).astimezone(zone).date()
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
