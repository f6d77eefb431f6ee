"""SLA clocks: business time as a pure function of a calendar. Several intervals a day, holidays, time zones, daylight saving."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HORIZON_DAYS = 400


class NeverOpen(ValueError):
    """The calendar has no business time within the horizon, so a clock on it would never run out."""


def due(started_at: datetime, target_s: float, calendar: Mapping[str, Any]) -> datetime:
    """When `target_s` seconds of business time have passed since `started_at`, in UTC.

    `calendar`: {timezone, hours: {"mon": [["09:00", "17:00"], …]}, holidays: ["2026-12-25"]}; without hours it is always open.

    :raises NeverOpen: when the calendar does not open for long enough within 400 days.
    """
    left = target_s
    for opens, closes in intervals(started_at, calendar):
        seconds = (closes - opens).total_seconds()
        if seconds >= left:
            return opens + timedelta(seconds=left)
        left -= seconds
    raise NeverOpen("The business hours leave no time for this target.")


def elapsed(started_at: datetime, now: datetime, calendar: Mapping[str, Any]) -> float:
    """Seconds of business time between the two moments; 0 when they are the wrong way round."""
    total = 0.0
    for opens, closes in intervals(started_at, calendar):
        if opens >= now:
            break
        total += (min(closes, now) - opens).total_seconds()
    return total


def fraction(started_at: datetime, now: datetime, target_s: float, calendar: Mapping[str, Any]) -> float:
    """How much of the target is used: 0.75, 0.9 and 1 are where priority, lead and next level come in."""
    return elapsed(started_at, now, calendar) / target_s if target_s else 1.0


def intervals(since: datetime, calendar: Mapping[str, Any]) -> Iterator[tuple[datetime, datetime]]:
    """Open intervals from `since` on, in UTC, oldest first. Length is real time: a night of DST change has 23 or 25 hours."""
    zone = ZoneInfo(str(calendar.get("timezone") or "UTC"))
    hours, holidays = calendar.get("hours") or {}, set(calendar.get("holidays") or ())
    first = since.astimezone(zone).date()
    if not any(hours.values()):
        yield since.astimezone(UTC), since.astimezone(UTC) + timedelta(days=36_500)
        return
    for day in (first + timedelta(days=n) for n in range(HORIZON_DAYS)):
        if day.isoformat() in holidays:
            continue
        for opens, closes in hours.get(DAYS[day.weekday()], ()):
            start = max(_moment(day, opens, zone), since.astimezone(UTC))
            end = _moment(day, closes, zone)
            if start < end:
                yield start, end


def _moment(day: date, clock: str, zone: ZoneInfo) -> datetime:
    """A wall-clock time as UTC; "24:00" is the midnight that ends the day."""
    if clock == "24:00":
        day, clock = day + timedelta(days=1), "00:00"
    return datetime.combine(day, time.fromisoformat(clock), zone).astimezone(UTC)
