"""Business time over calendars, daylight saving included."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from escalations import clocks

WARSAW = ZoneInfo("Europe/Warsaw")
OFFICE = {
    "timezone": "Europe/Warsaw",
    "hours": {day: [["09:00", "12:00"], ["13:00", "17:00"]] for day in ("mon", "tue", "wed", "thu", "fri")},
    "holidays": ["2026-12-25"],
}
DAY_AND_NIGHT = {"timezone": "Europe/Warsaw", "hours": {day: [["00:00", "24:00"]] for day in clocks.DAYS}}


def at(text: str, zone: ZoneInfo = WARSAW) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


def test_runs_within_business_hours() -> None:
    assert clocks.due(at("2026-11-23 10:00"), 900, OFFICE) == at("2026-11-23 10:15")


def test_stops_over_lunch() -> None:
    assert clocks.due(at("2026-11-23 11:50"), 1_200, OFFICE) == at("2026-11-23 13:10")


def test_waits_for_the_morning_when_it_starts_at_night() -> None:
    assert clocks.due(at("2026-11-23 22:00"), 900, OFFICE) == at("2026-11-24 09:15")


def test_skips_the_weekend_and_a_holiday() -> None:
    assert clocks.due(at("2026-12-24 16:50"), 1_200, OFFICE) == at("2026-12-28 09:10")


def test_a_target_that_ends_at_closing_time_is_due_then() -> None:
    assert clocks.due(at("2026-11-23 16:45"), 900, OFFICE) == at("2026-11-23 17:00")


def test_answers_in_utc() -> None:
    assert clocks.due(at("2026-11-23 10:00"), 60, OFFICE).tzinfo is UTC


@pytest.mark.parametrize("calendar", [{}, {"hours": {}}, {"hours": {"mon": []}}, {"timezone": "Asia/Tokyo"}])
def test_without_hours_it_is_always_open(calendar: dict[str, Any]) -> None:
    assert clocks.due(at("2026-11-22 03:00"), 3_600, calendar) == at("2026-11-22 04:00")


def test_the_night_of_spring_has_an_hour_less() -> None:
    # 2026-03-29: 02:00 becomes 03:00 in Warsaw.
    assert clocks.due(at("2026-03-29 00:00"), 3 * 3_600, DAY_AND_NIGHT) == at("2026-03-29 04:00")
    assert clocks.elapsed(at("2026-03-29 00:00"), at("2026-03-30 00:00"), DAY_AND_NIGHT) == 23 * 3_600


def test_the_night_of_autumn_has_an_hour_more() -> None:
    assert clocks.elapsed(at("2026-10-25 00:00"), at("2026-10-26 00:00"), DAY_AND_NIGHT) == 25 * 3_600


def test_office_hours_stay_where_the_clock_on_the_wall_puts_them_after_dst() -> None:
    before, after = clocks.due(at("2026-10-23 18:00"), 60, OFFICE), clocks.due(at("2026-10-22 18:00"), 60, OFFICE)
    assert before.astimezone(WARSAW).time() == after.astimezone(WARSAW).time()
    assert (before.hour, after.hour) == (8, 7)


def test_a_night_shift_runs_past_midnight() -> None:
    nights = {"timezone": "Europe/Warsaw", "hours": {"mon": [["22:00", "06:00"]]}}
    assert clocks.elapsed(at("2026-11-23 20:00"), at("2026-11-25 00:00"), nights) == 8 * 3_600
    assert clocks.due(at("2026-11-24 05:00"), 1_800, nights) == at("2026-11-24 05:30")


def test_a_shift_that_began_before_a_holiday_is_finished() -> None:
    nights = {"timezone": "Europe/Warsaw", "hours": {"mon": [["22:00", "06:00"]]}, "holidays": ["2026-11-24"]}
    assert clocks.elapsed(at("2026-11-24 00:00"), at("2026-11-25 00:00"), nights) == 6 * 3_600


def test_intervals_that_overlap_or_come_in_disorder_count_once() -> None:
    messy = {"hours": {"mon": [["13:00", "17:00"], ["09:00", "14:00"], ["10:00", "11:00"]]}}
    assert (
        clocks.elapsed(at("2026-11-23 00:00", ZoneInfo("UTC")), at("2026-11-24 00:00", ZoneInfo("UTC")), messy)
        == 8 * 3_600
    )


def test_a_calendar_that_never_opens_cannot_hide_a_deadline() -> None:
    closed = {"hours": {"mon": [["09:00", "09:01"]]}}
    assert clocks.due(at("2026-11-23 10:00"), 86_400, closed) == at("2026-11-24 10:00")


def test_time_does_not_run_backwards() -> None:
    assert clocks.elapsed(at("2026-11-23 12:00"), at("2026-11-23 10:00"), OFFICE) == 0


def test_the_fraction_says_how_much_is_used() -> None:
    assert clocks.fraction(at("2026-11-23 09:00"), at("2026-11-23 09:45"), 3_600, OFFICE) == 0.75
    assert clocks.fraction(at("2026-11-23 09:00"), at("2026-11-23 09:45"), 0, OFFICE) == 1


@pytest.mark.parametrize(
    ("calendar", "sentence"),
    [
        ({"timezone": "Mars/Olympus"}, "no time zone Mars/Olympus"),
        ({"timezone": "../etc/passwd"}, "no time zone"),
        ({"hours": {"montag": []}}, "Hours are given for mon"),
        ({"hours": {"mon": [["9 am", "5 pm"]]}}, "pairs like"),
        ({"hours": {"mon": [["09:00"]]}}, "pairs like"),
        ({"hours": {"mon": [["09:00", "09:00"]]}}, "ends when it begins"),
        ({"holidays": ["25.12.2026"]}, "not a date"),
        ({"holidays": [20261225]}, "not a date"),
    ],
)
def test_says_what_is_wrong_with_a_calendar(calendar: dict[str, Any], sentence: str) -> None:
    with pytest.raises(clocks.CalendarError, match=sentence):
        clocks.check(calendar)


@pytest.mark.parametrize("calendar", [{}, OFFICE, DAY_AND_NIGHT, {"hours": {"sun": [["22:00", "06:00"]]}}])
def test_accepts_a_calendar_that_works(calendar: dict[str, Any]) -> None:
    clocks.check(calendar)


minutes = st.integers(0, 24 * 60 - 1).map(lambda n: f"{n // 60:02}:{n % 60:02}")
pairs = st.tuples(minutes, minutes).filter(lambda pair: pair[0] != pair[1]).map(list)
calendars = st.fixed_dictionaries(
    {
        "timezone": st.sampled_from(
            ["Europe/Warsaw", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]
        ),
        "hours": st.dictionaries(st.sampled_from(clocks.DAYS), st.lists(pairs, min_size=1, max_size=3), min_size=1),
        "holidays": st.lists(st.dates(date(2026, 1, 1), date(2026, 12, 31)).map(str), max_size=5),
    }
)
moments = st.integers(0, 365 * 86_400).map(lambda s: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=s))
targets = st.integers(1, 5 * 86_400)


@settings(max_examples=80, deadline=None)
@given(calendars, moments, targets)
def test_exactly_the_target_has_elapsed_when_it_is_due(calendar: dict[str, Any], start: datetime, target: int) -> None:
    due = clocks.due(start, target, calendar)
    assume(clocks.elapsed(start, start + timedelta(days=390), calendar) >= target)
    assert clocks.elapsed(start, due, calendar) == pytest.approx(target)
    assert clocks.elapsed(start, due - timedelta(milliseconds=10), calendar) < target


@settings(max_examples=80, deadline=None)
@given(calendars, moments, st.integers(0, 20 * 86_400), st.integers(0, 20 * 86_400))
def test_business_time_adds_up_and_is_never_more_than_real_time(
    calendar: dict[str, Any], start: datetime, one: int, two: int
) -> None:
    middle, end = start + timedelta(seconds=one), start + timedelta(seconds=one + two)
    first, second = clocks.elapsed(start, middle, calendar), clocks.elapsed(middle, end, calendar)
    assert clocks.elapsed(start, end, calendar) == pytest.approx(first + second, abs=1e-6)
    assert 0 <= first <= one


@settings(max_examples=80, deadline=None)
@given(calendars, moments)
def test_intervals_are_in_order_and_disjoint(calendar: dict[str, Any], start: datetime) -> None:
    last = start
    for _, (opens, closes) in zip(range(50), clocks.intervals(start, calendar), strict=False):
        assert last <= opens < closes
        last = closes
