"""What calls cost, from the sums by minute and hour: spend, tokens and latency by whatever a person asks for.

A latency percentile is read from a histogram whose buckets grow by 10 %: between 1 ms and ten minutes it is wrong by
5 % at most (4.8 %). Histograms add up: those of minutes, hours, scopes are exactly those of all their calls together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from typing import Any

from django.db.models import CharField, F, Func, Q, QuerySet, Sum, Value
from django.db.models.functions import Cast, TruncDate, TruncHour

from agents.models import CallHour, CallMinute

GROWTH = 1.1  # as in the SQL function agents_latencies
MOST_GROUPS = 1_000
MOST_HOURS = 24 * 93
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTES_FOR = timedelta(days=2)
SUMS = (
    *("calls", "unpriced", "estimated", "input_tokens", "cached_tokens", "output_tokens", "cost_nano"),
    *("compared_nano", "largest_nano"),
)
GROUPS = (
    "agent",
    "channel",
    "scope",
    "topic",
    "model",
    "tier",
    "release",
    "provider",
    "purpose",
    "key",
    "status",
    "day",
    "hour",
)
COLUMN = {"key": "key_prefix"}  # where it is not called as the group is


@dataclass(frozen=True, slots=True)
class Row:
    """The calls of one group. Money in nano-dollars; calls without a price are in `unpriced`, not in `cost_nano`.

    `largest_nano`: what the calls that cost `compared_nano` would have cost on the largest tier. `slow_ms`: the latency
    that the share asked for does not exceed; None where it was not asked for, or nothing took time.
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
    slow_ms: float | None = None

    @property
    def saved_nano(self) -> int:
        return self.largest_nano - self.compared_nano


def table(since: datetime, until: datetime) -> type[CallHour | CallMinute]:
    """Hours where the time begins and ends with one, or is long; a minute of a long time is nobody's concern."""
    whole = all(moment.minute == moment.second == moment.microsecond == 0 for moment in (since, until))
    return CallHour if whole or until - since > MINUTES_FOR else CallMinute


def rounded(since: datetime, until: datetime) -> tuple[datetime, datetime]:
    """The whole minutes, or hours, that answers about this time are made of: it and a little around it."""
    step = timedelta(hours=1) if table(since, until) is CallHour else timedelta(minutes=1)
    return since - (since - EPOCH) % step, until + (EPOCH - until) % step


def only(values: Mapping[str, str]) -> Q:
    """The calls of these groups, by group name; an empty value is the group without a name."""
    wanted = Q()
    for group, value in values.items():
        if group == "topic":
            wanted &= Q(scope__endswith=f"/{value}") if value else Q(scope__regex=r"^[^/]*/[^/]*$")
        else:
            wanted &= Q(**{COLUMN.get(group, group): value})
    return wanted


def within(where: Q, since: datetime, until: datetime) -> QuerySet[Any]:
    """The sums of that time, `rounded`."""
    begins, ends = rounded(since, until)
    return table(since, until).objects.filter(where, start__gte=begins, start__lt=ends).order_by()


def by(
    group: str, where: Q, since: datetime, until: datetime, zone: Any = None, *, slow: float | None = None
) -> list[Row]:
    """One row for each group, the dearest first; days and hours in order. `slow`: the share for `slow_ms`."""
    rows = (
        within(where, since, until)
        .values(group=_expression(group, zone))
        .annotate(**{f"sum_{name}": Sum(name) for name in SUMS})
    )
    if slow is not None:
        rows = rows.annotate(all_of=Sum("latencies"))
    order = ("group",) if group in ("day", "hour") else ("-sum_cost_nano", "-sum_calls", "group")
    most = MOST_HOURS if group == "hour" else MOST_GROUPS
    return [_row(row["group"], row, slow) for row in rows.order_by(*order)[:most]]


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


def charged_by_owner(since: datetime, until: datetime) -> dict[tuple[str, str], int]:
    """Nano-dollars charged within that time to each (owner kind, owner) of a budget."""
    found: dict[tuple[str, str], int] = defaultdict(int)
    rows = within(Q(), since, until).values_list("agent", "channel", "key_prefix").annotate(nano=Sum("charged_nano"))
    for agent, channel, key, nano in rows:
        for owner in (("organisation", ""), ("agent", agent), ("channel", channel), ("key", key)):
            found[owner] += nano
    return found


def by_model_and_day(first: date, last: date) -> dict[tuple[str, date], tuple[int, int]]:
    """Cost and unpriced calls by model and day (UTC), both days included."""
    since, until = (datetime(day.year, day.month, day.day, tzinfo=UTC) for day in (first, last + timedelta(days=1)))
    rows = within(Q(), since, until).values_list("model", _expression("day", UTC))
    sums = rows.annotate(nano=Sum("cost_nano"), without=Sum("unpriced"))
    return {(model, day): (nano, without) for model, day, nano, without in sums}


def percentiles(
    group: str, where: Q, since: datetime, until: datetime, shares: Sequence[float], zone: Any = None
) -> dict[str, list[float]]:
    """Milliseconds by group: for each share the latency that so many attempts do not exceed; 0.0 without any."""
    rows = within(where, since, until).values(group=_expression(group, zone)).annotate(all_of=Sum("latencies"))
    found = rows.order_by("group")[: MOST_HOURS if group == "hour" else MOST_GROUPS]
    return {str(row["group"]): [percentile(row["all_of"], share) for share in shares] for row in found}


def percentile(latencies: Sequence[float], share: float) -> float:
    """Of the bucket in which that share of the calls is reached, the value that is as far from both of its ends."""
    wanted = share * sum(latencies)
    if not wanted:
        return 0.0
    bucket = next(bucket for bucket, so_far in enumerate(accumulate(latencies)) if so_far and so_far >= wanted)
    return GROWTH ** (bucket - 1) * 2 * GROWTH / (1 + GROWTH) if bucket else 1.0


def _row(group: Any, found: Mapping[str, Any], slow: float | None = None) -> Row:
    ms = percentile(found["all_of"], slow) if slow is not None else None
    return Row(group, **{name: int(found[f"sum_{name}"] or 0) for name in SUMS}, slow_ms=ms or None)


def _expression(group: str, zone: Any) -> Any:
    if group == "day":
        return TruncDate("start", tzinfo=zone)
    if group == "hour":
        return TruncHour("start", tzinfo=zone)
    if group == "topic":
        return Func(F("scope"), Value("/"), Value(3), function="split_part", output_field=CharField())
    return Cast(F(COLUMN.get(group, group)), CharField())


def days(since: datetime, until: datetime, zone: Any) -> list[date]:
    """The local days that a time touches, oldest first."""
    first, last = since.astimezone(zone).date(), (until - timedelta(microseconds=1)).astimezone(zone).date()
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
