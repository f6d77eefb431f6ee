"""The sums of the call log: exact whatever happens to a row, and as good as the rows they were made of."""

from __future__ import annotations

import math
import random
import uuid
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.db.models import Q, Sum
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import calls, partitions, usage
from agents.models import Call, CallHour, CallMinute
from tests import world

pytestmark = pytest.mark.django_db
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)


entry = partial(
    world.entry, at=NOON, tier="small", input_tokens=10, output_tokens=5, latency_ms=100, charged_nano=1_000
)


def sums(model: Any) -> dict[str, int]:
    names = ("calls", "cost_nano", "charged_nano", "input_tokens", "unpriced", "estimated")
    return {name: value or 0 for name, value in model.objects.aggregate(**{n: Sum(n) for n in names}).items()}


def test_every_row_is_in_both_sums_once() -> None:
    entries = [entry(at=NOON + timedelta(seconds=n), cost_nano=n, charged_nano=n) for n in range(200)]
    calls.write(entries)
    calls.write(entries)  # delivered twice
    calls.write([*entries[:5], entry(price="unknown", cost_nano="", charged_nano=7)])
    for model in (CallMinute, CallHour):
        assert sums(model) == {
            "calls": 201, "cost_nano": 19_900, "charged_nano": 19_907, "input_tokens": 2_010, "unpriced": 1,
            "estimated": 0,
        }  # fmt: skip
    assert CallMinute.objects.count() == 4
    assert CallHour.objects.count() == 1


@pytest.mark.parametrize("together", [True, False])
def test_a_late_figure_takes_the_place_of_its_estimate_in_the_sums_too(together: bool) -> None:
    one = str(uuid.uuid4())
    expired = entry(call_id=one, status="expired", cost_nano=9_000, charged_nano=9_000, price="estimated", latency_ms=0)
    late = entry(call_id=one, late="1", estimate_nano=9_000)
    if together:
        calls.write([expired, late])
    else:
        calls.write([expired])
        calls.write([late])
    assert sums(CallMinute)["calls"] == 1
    assert sums(CallHour) == {
        "calls": 1, "cost_nano": 1_000, "charged_nano": 1_000, "input_tokens": 10, "unpriced": 0, "estimated": 0,
    }  # fmt: skip
    since, until = NOON, NOON + timedelta(hours=1)
    [row] = [row for row in usage.by("model", Q(), since, until) if row.calls]
    assert row.cost_nano == 1_000
    assert usage.percentiles("model", Q(), since, until, [1.0])["small"][0] == pytest.approx(100, rel=0.05)


def test_groups_add_up_to_the_total() -> None:
    shuffled = random.Random(7)
    entries = [
        entry(
            agent=(agent := shuffled.choice(["acme", "beta"])), channel=f"{agent}/web",
            scope=f"{agent}/web" + shuffled.choice(["", "/billing", "/returns"]), model=shuffled.choice("abc"),
            tier=shuffled.choice(["small", "large"]), key_prefix=shuffled.choice(["", "ph_1"]),
            release=f"{agent}@r{shuffled.randint(1, 3)}", cost_nano=shuffled.randint(0, 9_999),
            at=NOON - timedelta(minutes=shuffled.randint(0, 6 * 24 * 60)),
        )
        for _ in range(400)
    ]  # fmt: skip
    calls.write(entries)
    since, until = NOON - timedelta(days=7), NOON + timedelta(hours=1)
    whole = usage.total(Q(), since, until)
    assert (whole.calls, whole.cost_nano) == (400, sum(int(one["cost_nano"]) for one in entries))
    for group in usage.GROUPS:
        rows = usage.by(group, Q(), since, until)
        assert sum(row.calls for row in rows) == 400, group
        assert sum(row.cost_nano for row in rows) == whole.cost_nano, group
    assert {row.group for row in usage.by("topic", Q(), since, until)} == {"", "billing", "returns"}
    assert usage.total(Q(agent="acme"), since, until).calls == sum(one["agent"] == "acme" for one in entries)


def test_what_the_router_saved_compares_only_calls_that_can_be_compared() -> None:
    calls.write([
        entry(cost_nano=100, largest_nano=1_000),
        entry(cost_nano=300, largest_nano=""),  # named by the caller
        entry(cost_nano="", price="unknown", largest_nano=500),
    ])  # fmt: skip
    assert usage.total(Q(), NOON, NOON + timedelta(hours=1)).saved_nano == 900


@settings(max_examples=60)
@given(st.lists(st.floats(1, 600_000), min_size=1, max_size=60), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_wrong_by_five_percent_at_most(latencies: list[float], share: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(agents_latencies(ms, 1))::real[] FROM unnest(%s::float8[]) AS given (ms)", [latencies]
        )
        [histogram] = cursor.fetchone()
    true = sorted(latencies)[math.ceil(share * len(latencies)) - 1]
    assert sum(histogram) == len(latencies)
    assert usage.percentile(histogram, share) == pytest.approx(true, rel=0.05)


@pytest.mark.parametrize("strange", [-5.0, 0.0, 0.2, 1e9])
def test_a_strange_latency_is_no_harm(strange: float) -> None:
    calls.write([entry(latency_ms=strange), entry(latency_ms=100), entry(latency_ms=101)])
    found = usage.percentiles("model", Q(), NOON, NOON + timedelta(hours=1), [0.5])
    assert found["small"][0] == pytest.approx(100, rel=0.05)


def test_what_reached_no_model_is_in_no_percentile() -> None:
    calls.write([*(entry(status="blocked", latency_ms="") for _ in range(9)), entry(latency_ms=200)])
    assert usage.percentiles("status", Q(), NOON, NOON + timedelta(hours=1), [0.5]) == {
        "blocked": [0.0],
        "ok": [pytest.approx(200, rel=0.05)],
    }


def test_a_time_is_rounded_to_the_minutes_or_hours_it_touches() -> None:
    some = NOON + timedelta(minutes=7, seconds=30)
    assert usage.rounded(some, some + timedelta(seconds=1)) == (
        NOON + timedelta(minutes=7),
        NOON + timedelta(minutes=8),
    )
    assert usage.rounded(some - timedelta(days=3), some) == (NOON - timedelta(days=3), NOON + timedelta(hours=1))
    assert usage.rounded(NOON - timedelta(days=3), NOON) == (NOON - timedelta(days=3), NOON)
    calls.write([entry(at=some), entry(at=some + timedelta(minutes=1))])
    assert usage.total(Q(), some, some + timedelta(seconds=1)).calls == 1


def test_percentiles_merge_over_minutes_and_hours() -> None:
    latencies = [random.Random(n).uniform(5, 2_000) for n in range(500)]
    calls.write([entry(latency_ms=ms, at=NOON + timedelta(seconds=8 * n)) for n, ms in enumerate(latencies)])
    for until in (NOON + timedelta(hours=2), NOON + timedelta(hours=2, minutes=1)):
        [(p50, p95)] = [tuple(usage.percentiles("model", Q(), NOON, until, [0.5, 0.95])["small"])]
        assert p50 == pytest.approx(sorted(latencies)[249], rel=0.05)
        assert p95 == pytest.approx(sorted(latencies)[474], rel=0.05)


def test_days_are_those_of_the_time_zone() -> None:
    warsaw = ZoneInfo("Europe/Warsaw")
    calls.write([entry(at=NOON.replace(hour=23, minute=30) - timedelta(days=1))])
    [row] = usage.by("day", Q(), NOON - timedelta(days=3), NOON, warsaw)
    assert row.group == NOON.date()
    assert usage.days(NOON - timedelta(days=1), NOON, warsaw) == [NOON.date() - timedelta(days=1), NOON.date()]


def lying_in() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT tableoid::regclass::text FROM agents_call ORDER BY 1")
        return [row[0] for row in cursor.fetchall()]


def test_a_clock_that_is_wrong_by_years_holds_up_nobody() -> None:
    calls.write([entry(at=NOON - timedelta(days=4_000)), entry(at=NOON + timedelta(days=400)), entry(at=NOON)])
    assert lying_in() == [f"agents_call_{NOON:%Y%m%d}", "agents_call_odd"]
    assert sums(CallHour)["calls"] == sums(CallMinute)["calls"] == 3


def test_a_day_that_comes_takes_over_what_lay_in_the_odd_partition() -> None:
    ahead = NOON + timedelta(days=20)
    calls.write([entry(at=ahead), entry(at=ahead + timedelta(days=1))])
    assert partitions.make([ahead.date()], ahead.date()) >= 2
    assert lying_in() == [f"agents_call_{ahead:%Y%m%d}", "agents_call_odd"]
    calls.write([entry(at=ahead)])
    assert sums(CallMinute)["calls"] == sums(CallHour)["calls"] == Call.objects.count() == 3


def test_a_late_entry_gets_the_partition_of_its_day() -> None:
    late = NOON - timedelta(days=50)
    calls.write([entry(at=late), entry(at=late.astimezone(ZoneInfo("Asia/Tokyo")))])
    assert lying_in() == [f"agents_call_{late:%Y%m%d}"]


def test_midnight_lies_in_the_new_days_partition() -> None:
    midnight = NOON.replace(hour=0) + timedelta(days=1)
    partitions.make_ahead()
    calls.write([entry(at=midnight), entry(at=midnight - timedelta(microseconds=1))])
    assert lying_in() == [f"agents_call_{day:%Y%m%d}" for day in (NOON, midnight)]


def test_retention_drops_whole_days_and_keeps_the_sums(settings: Any) -> None:
    settings.CALLS_KEPT_DAYS = 5
    old = NOON - timedelta(days=6)
    partitions.make([old.date()], old.date())
    calls.write([entry(at=old), entry(at=NOON), entry(at=NOON - timedelta(days=700))])
    dropped = partitions.drop_old()
    assert f"agents_call_{old:%Y%m%d}" in dropped
    assert f"agents_call_{NOON:%Y%m%d}" not in dropped
    assert [call.at for call in Call.objects.all()] == [NOON]
    assert sums(CallHour)["calls"] == 3
    assert partitions.drop_old() == []


def test_partitions_are_made_ahead_and_making_them_again_changes_nothing() -> None:
    partitions.make_ahead()
    partitions.make_ahead(NOON.date() + timedelta(days=1))
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = 'agents_call'::regclass")
        assert cursor.fetchone()[0] >= 6
