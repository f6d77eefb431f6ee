"""Budget windows: days and months of a time zone. A new local day is a new key, so nothing is ever reset."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

PERIODS = ("day", "month")


@dataclass(frozen=True, slots=True)
class Window:
    """One day or month: `key` as counters carry it ("d:2026-11-23", "m:2026-11"), and its two ends in UTC."""

    key: str
    starts: datetime
    ends: datetime


def window(period: str, timezone: str, now: datetime) -> Window:
    """The window that holds `now`; days of 23 and 25 hours included. :raises ValueError: an unknown period or zone."""
    if period not in PERIODS:
        raise ValueError(f"There is no period {period}: use day or month.")
    zone = zone_of(timezone)
    today = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None, fold=0)
    if period == "day":
        return Window(f"d:{today:%Y-%m-%d}", _utc(today, zone), _utc(today + timedelta(days=1), zone))
    first = today.replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return Window(f"m:{first:%Y-%m}", _utc(first, zone), _utc(following, zone))


def zone_of(name: str) -> ZoneInfo:
    """The zone with this IANA name. :raises ValueError: there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"There is no time zone {name}.") from error


def _utc(local: datetime, zone: ZoneInfo) -> datetime:
    """A local midnight as an instant; between two of them in UTC lie true hours, not those of a wall clock."""
    return local.replace(tzinfo=zone).astimezone(UTC)
