"""SLA clocks: business time as a pure function of a calendar. Several intervals a day, holidays, time zones, DST.

A calendar is {timezone, hours: {"mon": [["09:00", "12:30"], ["13:30", "17:00"]], …}, holidays: ["2026-12-25"]}. Without
hours it is always open. An interval that ends before it begins runs past midnight and belongs to the day it began on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HORIZON_DAYS = 400
ALWAYS = timedelta(days=36_500)


class CalendarError(ValueError):
    """A calendar that cannot be used; the message is a plain sentence."""


def due(started_at: datetime, target_s: float, calendar: Mapping[str, Any]) -> datetime:
    """When `target_s` seconds of business time have passed since `started_at`, in UTC.

    A calendar that does not open for long enough within 400 days counts as always open: a deadline must come.
    """
    left = target_s
    for opens, closes in intervals(started_at, calendar):
        seconds = (closes - opens).total_seconds()
        if seconds >= left:
            return opens + timedelta(seconds=left)
        left -= seconds
    return started_at.astimezone(UTC) + timedelta(seconds=target_s)


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
    return elapsed(started_at, now, calendar) / target_s if target_s > 0 else 1.0


def intervals(since: datetime, calendar: Mapping[str, Any]) -> Iterator[tuple[datetime, datetime]]:
    """Open intervals from `since` on, in UTC, in order and disjoint; a day of DST change has 23 or 25 hours."""
    since = since.astimezone(UTC)
    hours, holidays = calendar.get("hours") or {}, set(calendar.get("holidays") or ())
    if not any(hours.values()):
        yield since, since + ALWAYS
        return
    zone = ZoneInfo(str(calendar.get("timezone") or "UTC"))
    yesterday = since.astimezone(zone).date() - timedelta(days=1)
    for day in (yesterday + timedelta(days=n) for n in range(HORIZON_DAYS)):
        if day.isoformat() in holidays:
            continue
        for start, end in sorted(_interval(day, pair, zone) for pair in hours.get(DAYS[day.weekday()], ())):
            if max(start, since) < end:
                yield max(start, since), end
                since = end


def check(calendar: Mapping[str, Any]) -> None:
    """For whoever takes a calendar in. :raises CalendarError: what is wrong with it."""
    try:
        ZoneInfo(str(calendar.get("timezone") or "UTC"))
    except (KeyError, ValueError, OSError) as error:
        raise CalendarError(f"There is no time zone {calendar.get('timezone')}.") from error
    hours = calendar.get("hours") or {}
    if not isinstance(hours, Mapping) or set(hours) - set(DAYS):
        raise CalendarError(f"Hours are given for {', '.join(DAYS)}.")
    for day, pairs in hours.items():
        _check_pairs(day, pairs)
    for holiday in calendar.get("holidays") or ():
        try:
            date.fromisoformat(holiday)
        except (TypeError, ValueError) as error:
            raise CalendarError(f"{holiday} is not a date like 2026-12-25.") from error


def _check_pairs(day: str, pairs: Any) -> None:
    try:
        clocks = [(_clock(opens), _clock(closes)) for opens, closes in pairs]
    except (TypeError, ValueError) as error:
        raise CalendarError(f'{day}: hours are a list of pairs like ["09:00", "17:00"].') from error
    if any(opens == closes for opens, closes in clocks):
        raise CalendarError(f"{day}: an interval ends when it begins.")


def _interval(day: date, pair: Sequence[str], zone: ZoneInfo) -> tuple[datetime, datetime]:
    start, end = (_clock(text) for text in pair)
    return _moment(day, start, zone), _moment(day, end if end > start else end + timedelta(days=1), zone)


def _clock(text: str) -> timedelta:
    """A wall-clock time as the distance from midnight; "24:00" is the midnight that ends the day."""
    if text == "24:00":
        return timedelta(days=1)
    clock = time.fromisoformat(text)
    return timedelta(hours=clock.hour, minutes=clock.minute, seconds=clock.second)


def _moment(day: date, clock: timedelta, zone: ZoneInfo) -> datetime:
    """What the clock on the wall shows, as UTC: naive arithmetic first, then the zone."""
    return (datetime.combine(day, time()) + clock).replace(tzinfo=zone).astimezone(UTC)
