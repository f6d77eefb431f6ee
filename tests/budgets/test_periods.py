"""Windows of local days and months, where clocks change and where they do not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.periods import PERIODS, window

WARSAW = "Europe/Warsaw"
PRESENT = st.integers(1_577_836_800, 2_145_916_800).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
ZONES = st.sampled_from(sorted(available_timezones() - {"localtime"}))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def hours(period: str, timezone: str, moment: str) -> float:
    found = window(period, timezone, at(moment))
    return (found.ends - found.starts) / timedelta(hours=1)


@pytest.mark.parametrize(
    ("day", "length"), [("2026-03-29T12:00", 23), ("2026-10-25T12:00", 25), ("2026-11-23T12:00", 24)]
)
def test_a_day_has_as_many_hours_as_its_zone_gives_it(day: str, length: int) -> None:
    assert hours("day", WARSAW, day) == length


def test_a_month_with_a_change_of_clocks_has_an_hour_more_or_less() -> None:
    assert hours("month", WARSAW, "2026-03-10T12:00") == 31 * 24 - 1
    assert hours("month", WARSAW, "2026-10-10T12:00") == 31 * 24 + 1


def test_a_new_local_day_is_a_new_key() -> None:
    before, after = at("2026-11-23T22:59:59"), at("2026-11-23T23:00:00")
    assert window("day", WARSAW, before).key == "d:2026-11-23"
    assert window("day", WARSAW, after).key == "d:2026-11-24"
    assert window("day", WARSAW, before).ends == window("day", WARSAW, after).starts == after


def test_an_offset_neither_stretches_nor_shrinks_a_day() -> None:
    """A zone 8 hours behind once made $100 a day cover 32 hours."""
    assert hours("day", "America/Los_Angeles", "2026-11-23T12:00") == 24
    assert hours("day", "Asia/Kathmandu", "2026-11-23T12:00") == 24


def test_both_hours_that_a_clock_shows_twice_are_of_one_day() -> None:
    first, second = at("2026-10-25T00:30"), at("2026-10-25T01:30")
    assert window("day", WARSAW, first) == window("day", WARSAW, second)


def test_a_day_without_a_midnight_begins_with_its_first_instant() -> None:
    """Clocks in Beirut jump from 00:00 to 01:00."""
    found = window("day", "Asia/Beirut", at("2026-03-29T12:00"))
    assert found.starts == at("2026-03-28T22:00")
    assert found.ends - found.starts == timedelta(hours=23)


@pytest.mark.parametrize(
    ("moment", "key", "ends"),
    [
        ("2026-01-31T23:30", "m:2026-02", "2026-02-28T23:00"),
        ("2028-02-29T12:00", "m:2028-02", "2028-02-29T23:00"),
        ("2026-12-31T22:59", "m:2026-12", "2026-12-31T23:00"),
        ("2026-12-31T23:00", "m:2027-01", "2027-01-31T23:00"),
    ],
)
def test_months_end_where_they_end_locally(moment: str, key: str, ends: str) -> None:
    found = window("month", WARSAW, at(moment))
    assert (found.key, found.ends) == (key, at(ends))


@given(period=st.sampled_from(PERIODS), timezone=ZONES, now=PRESENT)
def test_windows_hold_their_moment_and_follow_one_another_without_a_gap(
    period: str, timezone: str, now: datetime
) -> None:
    found = window(period, timezone, now)
    following = window(period, timezone, found.ends)
    assert found.starts <= now < found.ends == following.starts
    assert found.key < following.key
    assert window(period, timezone, found.starts) == found
    assert window(period, timezone, found.ends - timedelta(seconds=1)) == found


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "/etc/localtime", "Europe"])
def test_an_unknown_zone_is_named(zone: str) -> None:
    with pytest.raises(ValueError, match="There is no time zone"):
        window("day", zone, at("2026-11-23T12:00"))


def test_an_unknown_period_is_named() -> None:
    with pytest.raises(ValueError, match="There is no period week"):
        window("week", "UTC", at("2026-11-23T12:00"))
