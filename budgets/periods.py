"""Budget windows: days and months of a time zone. A new local day is a new key, so nothing is ever reset."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

PERIODS = ("day", "month")


@dataclass(frozen=True, slots=True)
class Window:
    """One day or month: `key` as counters carry it ("d:2026-11-23", "m:2026-11"), and its ends as aware datetimes."""

    key: str
    starts: datetime
    ends: datetime


def window(period: str, timezone: str, now: datetime) -> Window:
    """The window that holds `now`; days of 23 and 25 hours included. :raises ValueError: an unknown period or zone."""
    zone = ZoneInfo(timezone)
    local = now.astimezone(zone)
    midnight = datetime(local.year, local.month, local.day, tzinfo=zone)
    if period == "day":
        following = midnight.replace(tzinfo=None) + timedelta(days=1)
        return Window(f"d:{midnight:%Y-%m-%d}", midnight, following.replace(tzinfo=zone))
    if period == "month":
        first = midnight.replace(day=1)
        year, month = divmod(first.year * 12 + first.month, 12)
        return Window(f"m:{first:%Y-%m}", first, first.replace(year=year, month=month + 1))
    raise ValueError(f"There is no period {period}: use day or month.")
