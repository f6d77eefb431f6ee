"""The verbs of the ledger, one at a time, on a real Redis."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import redis.asyncio
from redis import Redis

from budgets import ledger
from budgets.ledger import AlreadySettled, Exhausted, Unavailable
from tests.budgets.conftest import counter, entry, limit, log, rows

Async = redis.asyncio.Redis
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = "ph:b:organisation::d:2026-11-23"


async def test_a_hold_is_taken_in_every_budget(store: Redis, money: Async) -> None:
    limits = [limit(1_000), limit(500, "agent:acme"), limit(9_000, "channel:acme/web", "month")]
    hold = await ledger.reserve(money, "a", 1, 100, limits, now=NOON)
    assert hold.keys == (DAY, "ph:b:agent:acme:d:2026-11-23", "ph:b:channel:acme/web:m:2026-11")
    assert [counter(store, key) for key in hold.keys] == [(0, 100)] * 3
    assert hold.pressure == pytest.approx(100 / 500)


async def test_a_hold_is_taken_in_no_budget_when_one_has_no_room(store: Redis, money: Async) -> None:
    limits = [limit(1_000), limit(99, "agent:acme"), limit(1_000, "key:ph_1")]
    with pytest.raises(Exhausted) as refused:
        await ledger.reserve(money, "a", 1, 100, limits, now=NOON)
    assert not store.keys("ph:b:*")
    assert not store.keys("ph:h*")
    assert (refused.value.budget, refused.value.limit_nano, refused.value.spent_nano) == ("agent:acme", 99, 0)
    assert refused.value.resets_at == datetime(2026, 11, 24, tzinfo=UTC)


async def test_the_last_nano_is_admitted_and_not_one_more(money: Async) -> None:
    await ledger.reserve(money, "a", 1, 900, [limit(1_000)], now=NOON)
    hold = await ledger.reserve(money, "b", 1, 100, [limit(1_000)], now=NOON)
    assert hold.pressure == 1.0
    with pytest.raises(Exhausted) as refused:
        await ledger.reserve(money, "c", 1, 1, [limit(1_000)], now=NOON)
    assert refused.value.held_nano == 1_000


async def test_a_hold_is_never_shrunk_to_what_is_left(store: Redis, money: Async) -> None:
    await ledger.reserve(money, "a", 1, 950, [limit(1_000)], now=NOON)
    with pytest.raises(Exhausted):
        await ledger.reserve(money, "b", 1, 100, [limit(1_000)], now=NOON)
    assert counter(store, DAY) == (0, 950)


async def test_a_limit_of_nothing_refuses_every_paid_call_and_no_free_one(money: Async) -> None:
    with pytest.raises(Exhausted):
        await ledger.reserve(money, "a", 1, 1, [limit(0)], now=NOON)
    hold = await ledger.reserve(money, "b", 1, 0, [limit(0)], now=NOON)
    assert (hold.nano, hold.pressure) == (0, 1.0)


async def test_a_free_call_passes_even_where_more_than_the_limit_is_spent(money: Async) -> None:
    hold = await ledger.reserve(money, "a", 1, 100, [limit(150)], now=NOON)
    await ledger.settle(money, hold, 170, entry("a", 170))
    assert (await ledger.reserve(money, "b", 1, 0, [limit(150)], now=NOON)).pressure > 1


async def test_without_limits_everything_is_admitted_and_logged(store: Redis, money: Async) -> None:
    hold = await ledger.reserve(money, "a", 1, 10**15, [])
    assert (hold.keys, hold.pressure) == ((), 0.0)
    assert await ledger.settle(money, hold, 7, entry("a", 7))
    assert len(log(store)) == 1


async def test_the_largest_amounts_are_counted_to_the_nano(store: Redis, money: Async) -> None:
    most = 9_000_000_000_000_000
    await ledger.reserve(money, "a", 1, most - 1, [limit(most)], now=NOON)
    with pytest.raises(Exhausted):
        await ledger.reserve(money, "b", 1, 2, [limit(most)], now=NOON)
    await ledger.reserve(money, "c", 1, 1, [limit(most)], now=NOON)
    assert counter(store, DAY) == (0, most)


async def test_a_negative_hold_or_charge_is_refused(money: Async) -> None:
    with pytest.raises(ValueError, match="negative"):
        await ledger.reserve(money, "a", 1, -1, [limit(10)])
    hold = await ledger.reserve(money, "a", 1, 1, [limit(10)])
    with pytest.raises(ValueError, match="negative"):
        await ledger.settle(money, hold, -1, entry("a", -1))


async def test_a_charge_without_an_entry_is_refused(store: Redis, money: Async) -> None:
    hold = await ledger.reserve(money, "a", 1, 1, [limit(10)], now=NOON)
    with pytest.raises(ValueError, match="entry"):
        await ledger.settle(money, hold, 1, {})
    assert counter(store, DAY) == (0, 1)


async def test_the_same_attempt_again_gets_the_hold_that_is_there(store: Redis, money: Async) -> None:
    first = await ledger.reserve(money, "a", 1, 100, [limit(150)], now=NOON)
    again = await ledger.reserve(money, "a", 1, 100, [limit(150)], now=NOON)
    assert again == first
    assert counter(store, DAY) == (0, 100)


async def test_the_same_attempt_after_midnight_keeps_its_day(store: Redis, money: Async) -> None:
    first = await ledger.reserve(money, "a", 1, 100, [limit(150)], now=NOON)
    again = await ledger.reserve(money, "a", 1, 130, [limit(150)], now=NOON + timedelta(hours=13))
    assert (again.keys, again.nano) == (first.keys, 100)
    await ledger.settle(money, again, 60, entry("a", 60))
    assert counter(store, DAY) == (60, 0)
    assert not store.exists("ph:b:organisation::d:2026-11-24")


async def test_another_attempt_holds_its_own_money(store: Redis, money: Async) -> None:
    """A free first model that falls back to a paid one once skipped the budget."""
    await ledger.reserve(money, "a", 1, 0, [limit(150)], now=NOON)
    await ledger.reserve(money, "a", 2, 100, [limit(150)], now=NOON)
    with pytest.raises(Exhausted):
        await ledger.reserve(money, "a", 3, 100, [limit(150)], now=NOON)
    assert counter(store, DAY) == (0, 100)


async def test_a_settled_attempt_cannot_be_held_again(money: Async) -> None:
    hold = await ledger.reserve(money, "a", 1, 100, [limit(150)])
    await ledger.settle(money, hold, 1, entry("a", 1))
    with pytest.raises(AlreadySettled):
        await ledger.reserve(money, "a", 1, 100, [limit(150)])


async def test_settling_gives_back_the_hold_charges_and_logs(store: Redis, money: Async) -> None:
    hold = await ledger.reserve(money, "a", 1, 100, [limit(150)], now=NOON)
    assert await ledger.settle(money, hold, 60, {**entry("a", 60), "model": "gpt", "note": "zażółć 🙂"})
    assert counter(store, DAY) == (60, 0)
    assert log(store) == [{**entry("a", 60), "model": "gpt", "note": "zażółć 🙂"}]
    assert not store.exists("ph:holds", "ph:h:a:1")


async def test_settling_twice_charges_and_logs_once(store: Redis, money: Async) -> None:
    hold = await ledger.reserve(money, "a", 1, 100, [limit(150)], now=NOON)
    assert await ledger.settle(money, hold, 60, entry("a", 60), now=NOON)
    assert not await ledger.settle(money, hold, 60, entry("a", 60), now=NOON)
    assert counter(store, DAY) == (60, 0)
    assert len(log(store)) == 1


async def test_a_charge_above_its_hold_is_written_in_full_and_counted(store: Redis, money: Async) -> None:
    hold = await ledger.reserve(money, "a", 1, 100, [limit(150)], now=NOON)
    await ledger.settle(money, hold, 170, entry("a", 170))
    found = ledger.balances(store, [limit(150)], NOON)[limit(150)]
    assert (found.spent_nano, found.held_nano, found.overshoot_nano) == (170, 0, 70)
    with pytest.raises(Exhausted):
        await ledger.reserve(money, "b", 1, 1, [limit(150)], now=NOON)


async def test_the_day_of_the_hold_is_charged_after_midnight(store: Redis, money: Async) -> None:
    late = datetime(2026, 11, 23, 23, 59, 59, tzinfo=UTC)
    hold = await ledger.reserve(money, "a", 1, 100, [limit(150)], now=late)
    fresh = await ledger.reserve(money, "b", 1, 150, [limit(150)], now=late + timedelta(seconds=1))
    await ledger.settle(money, hold, 80, entry("a", 80), now=late + timedelta(minutes=1))
    assert counter(store, DAY) == (80, 0)
    assert counter(store, fresh.keys[0]) == (0, 150)


async def test_a_new_day_begins_with_the_whole_limit_at_local_midnight(money: Async) -> None:
    """A reset job once ran at 15:43. Here there is none: 23:00 UTC is midnight in Warsaw."""
    daily = limit(100, timezone="Europe/Warsaw")
    before = datetime(2026, 11, 23, 22, 59, 59, tzinfo=UTC)
    await ledger.reserve(money, "a", 1, 100, [daily], now=before)
    with pytest.raises(Exhausted) as refused:
        await ledger.reserve(money, "b", 1, 100, [daily], now=before)
    assert refused.value.resets_at == before + timedelta(seconds=1)
    await ledger.reserve(money, "c", 1, 100, [daily], now=refused.value.resets_at)


async def test_a_change_of_time_zone_keeps_what_the_day_has_spent(money: Async) -> None:
    await ledger.reserve(money, "a", 1, 100, [limit(100)], now=NOON)
    with pytest.raises(Exhausted):
        await ledger.reserve(money, "b", 1, 1, [limit(100, timezone="Europe/Warsaw")], now=NOON)


async def test_a_released_hold_leaves_nothing_behind(store: Redis, money: Async) -> None:
    hold = await ledger.reserve(money, "a", 1, 100, [limit(150)], now=NOON)
    assert await ledger.release(money, hold)
    assert not await ledger.release(money, hold)
    assert counter(store, DAY) == (0, 0)
    assert log(store) == []
    assert ledger.expire(store, NOON + timedelta(days=1)) == 0


async def test_releasing_what_was_settled_changes_nothing(store: Redis, money: Async) -> None:
    hold = await ledger.reserve(money, "a", 1, 100, [limit(150)], now=NOON)
    await ledger.settle(money, hold, 60, entry("a", 60))
    assert not await ledger.release(money, hold)
    assert counter(store, DAY) == (60, 0)


async def test_settling_what_was_released_still_tells_the_truth(store: Redis, money: Async) -> None:
    hold = await ledger.reserve(money, "a", 1, 100, [limit(150)], now=NOON)
    await ledger.release(money, hold)
    assert await ledger.settle(money, hold, 60, entry("a", 60), now=NOON)
    assert counter(store, DAY) == (60, 0)


async def test_the_hold_of_a_dead_process_becomes_an_estimate(store: Redis, money: Async) -> None:
    context = {"model": "gpt", "agent": "acme", "at": NOON.isoformat()}
    await ledger.reserve(money, "a", 1, 100, [limit(150)], ttl_s=30, now=NOON, context=context)
    assert ledger.expire(store, NOON + timedelta(seconds=29)) == 0
    assert ledger.expire(store, NOON + timedelta(seconds=30)) == 1
    assert ledger.expire(store, NOON + timedelta(seconds=30)) == 0
    assert counter(store, DAY) == (100, 0)
    assert log(store) == [
        {
            **context, "call_id": "a", "attempt": "1", "status": "expired", "cost_nano": "100", "charged_nano": "100",
            "price": "estimated",
        }
    ]  # fmt: skip


async def test_holds_expire_by_the_clock_of_redis(store: Redis, money: Async) -> None:
    await ledger.reserve(money, "a", 1, 100, [limit(150)], ttl_s=-1)
    hold = await ledger.reserve(money, "b", 1, 50, [limit(150)], ttl_s=60)
    assert ledger.expire(store) == 1
    seconds, micros = store.time()
    assert hold.expires_at == pytest.approx(seconds + micros / 1e6 + 60, abs=20)


async def test_all_that_expired_is_charged_however_much(
    store: Redis, money: Async, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "EXPIRED_AT_ONCE", 3)
    for number in range(10):
        await ledger.reserve(money, f"c{number}", 1, 10, [limit(1_000)], now=NOON)
    assert ledger.expire(store, NOON + timedelta(hours=1)) == 10
    assert counter(store, DAY) == (100, 0)
    assert len(rows(store)) == 10


async def test_a_leaked_hold_refuses_good_calls_no_longer_than_its_lifetime(store: Redis, money: Async) -> None:
    await ledger.reserve(money, "leaked", 1, 0, [limit(100)], ttl_s=30, now=NOON)
    await ledger.reserve(money, "free", 1, 100, [limit(100)], ttl_s=30, now=NOON)
    ledger.expire(store, NOON + timedelta(minutes=1))
    assert counter(store, DAY) == (100, 0)
    assert store.zcard("ph:holds") == 0


async def test_a_late_settlement_replaces_the_estimate(store: Redis, money: Async) -> None:
    hold = await ledger.reserve(money, "a", 1, 100, [limit(150)], now=NOON)
    ledger.expire(store, NOON + timedelta(hours=1))
    assert await ledger.settle(money, hold, 60, entry("a", 60))
    assert counter(store, DAY) == (60, 0)
    assert rows(store) == {("a", "1"): {**entry("a", 60), "late": "1", "estimate_nano": "100"}}


async def test_a_late_settlement_counts_once_and_counts_its_overshoot(store: Redis, money: Async) -> None:
    hold = await ledger.reserve(money, "a", 1, 100, [limit(150)], now=NOON)
    ledger.expire(store, NOON + timedelta(hours=1))
    assert await ledger.settle(money, hold, 130, entry("a", 130))
    assert not await ledger.settle(money, hold, 130, entry("a", 130))
    found = ledger.balances(store, [limit(150)], NOON)[limit(150)]
    assert (found.spent_nano, found.overshoot_nano) == (130, 30)
    assert len(log(store)) == 2


async def test_a_late_release_takes_the_estimate_back(store: Redis, money: Async) -> None:
    hold = await ledger.reserve(money, "a", 1, 100, [limit(150)], now=NOON, context={"model": "gpt"})
    ledger.expire(store, NOON + timedelta(hours=1))
    assert await ledger.release(money, hold)
    assert not await ledger.release(money, hold)
    assert counter(store, DAY) == (0, 0)
    row = rows(store)["a", "1"]
    assert (row["status"], row["cost_nano"], row["model"], row["late"]) == ("cancelled", "0", "gpt", "1")


async def test_an_attempt_that_expired_cannot_be_held_again(store: Redis, money: Async) -> None:
    await ledger.reserve(money, "a", 1, 100, [limit(500)], now=NOON)
    ledger.expire(store, NOON + timedelta(hours=1))
    with pytest.raises(AlreadySettled):
        await ledger.reserve(money, "a", 1, 100, [limit(500)], now=NOON)


async def test_a_settlement_survives_a_redis_that_lost_the_hold(store: Redis, money: Async) -> None:
    hold = await ledger.reserve(money, "a", 1, 100, [limit(150)])
    for key in store.keys("ph:*"):
        store.delete(key)
    assert await ledger.settle(money, hold, 60, entry("a", 60))
    assert counter(store, hold.keys[0]) == (60, 0)
    assert store.ttl(hold.keys[0]) > 86_400
    assert len(log(store)) == 1


async def test_a_duplicate_that_comes_after_the_mark_has_gone_is_no_second_charge(store: Redis, money: Async) -> None:
    hold = await ledger.reserve(money, "a", 1, 100, [limit(150)], now=NOON)
    await ledger.settle(money, hold, 60, entry("a", 60), now=NOON)
    store.delete("ph:s:a:1")
    assert not await ledger.settle(money, hold, 60, entry("a", 60), now=NOON + timedelta(hours=2))
    assert counter(store, DAY) == (60, 0)


async def test_counters_outlive_their_window_and_marks_an_hour(store: Redis, money: Async) -> None:
    monthly = limit(150, period="month")
    hold = await ledger.reserve(money, "a", 1, 100, [limit(150), monthly], now=NOON)
    assert all(store.ttl(key) > 39 * 86_400 for key in hold.keys)
    await ledger.settle(money, hold, 1, entry("a", 1))
    assert 3_500 < store.ttl("ph:s:a:1") <= 3_600


async def test_a_reserve_brings_the_epoch(store: Redis, money: Async) -> None:
    assert (await ledger.reserve(money, "a", 1, 1, [limit(10)])).epoch == 0
    store.set("ph:epoch", 41)
    assert (await ledger.reserve(money, "b", 1, 1, [limit(10)])).epoch == 41
    assert (await ledger.reserve(money, "a", 1, 1, [limit(10)])).epoch == 41


async def test_the_script_is_loaded_again_after_a_restart(store: Redis, money: Async) -> None:
    hold = await ledger.reserve(money, "a", 1, 1, [limit(10)])
    store.script_flush()
    assert await ledger.settle(money, hold, 1, entry("a", 1))
    store.script_flush()
    assert ledger.expire(store) == 0


async def test_balances_are_of_the_present_window(store: Redis, money: Async) -> None:
    daily, monthly = limit(1_000), limit(5_000, "agent:acme", "month")
    hold = await ledger.reserve(money, "a", 1, 100, [daily, monthly], now=NOON)
    await ledger.settle(money, hold, 60, entry("a", 60))
    await ledger.reserve(money, "b", 1, 30, [daily, monthly], now=NOON)
    found = ledger.balances(store, [daily, monthly], NOON)
    assert (found[daily].spent_nano, found[daily].held_nano) == (60, 30)
    assert found[monthly].resets_at == datetime(2026, 12, 1, tzinfo=UTC)
    tomorrow = ledger.balances(store, [daily, monthly], NOON + timedelta(days=1))
    assert (tomorrow[daily].spent_nano, tomorrow[monthly].spent_nano) == (0, 60)
    assert ledger.balances(store, []) == {}


async def test_a_rebuild_adds_to_what_was_settled_since_the_loss(store: Redis, money: Async) -> None:
    daily, agent = limit(1_000), limit(1_000, "agent:acme")
    hold = await ledger.reserve(money, "a", 1, 100, [daily], now=NOON)
    store.delete(*store.keys("ph:b:*"))
    await ledger.settle(money, hold, 100, entry("a", 100), now=NOON)
    last, since = ledger.at_loss(store, [daily, agent], NOON)
    assert (last, since) == (store.xrevrange("ph:calls", count=1)[0][0].decode(), {daily: 100, agent: 0})
    await ledger.settle(money, ledger.Hold("b", 1, 7, hold.keys, 0, NOON.timestamp(), 0.0), 7, entry("b", 7), now=NOON)
    ledger.rebuild(store, {daily: 70, agent: 980}, NOON)
    ledger.rebuild(store, {}, NOON)
    assert counter(store, DAY)[0] == 177
    with pytest.raises(Exhausted):
        await ledger.reserve(money, "c", 1, 21, [daily, agent], now=NOON)


async def test_without_redis_nothing_may_be_sent_and_nobody_waits_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "RESERVE_WITHIN_S", 0.05)
    monkeypatch.setattr(ledger, "SETTLE_WITHIN_S", 0.05)
    away = redis.asyncio.Redis(unix_socket_path="/nonexistent/redis.sock")
    with pytest.raises(Unavailable):
        await ledger.reserve(away, "a", 1, 1, [limit(10)])
    hold = ledger.Hold("a", 1, 1, (), 0, 0.0, 0.0)
    with pytest.raises(Unavailable):
        await ledger.settle(away, hold, 1, entry("a", 1))
    with pytest.raises(Unavailable):
        await ledger.release(away, hold)
    await away.aclose()


async def test_nothing_is_reserved_on_counters_that_were_lost(store: Redis, money: Async) -> None:
    daily = limit(100)
    hold = await ledger.reserve(money, "a", 1, 60, [daily], now=NOON)
    store.flushdb()
    assert not ledger.is_counted(store)
    with pytest.raises(ledger.Unavailable):
        await ledger.reserve(money, "b", 1, 10, [daily], now=NOON)
    assert await ledger.settle(
        money, hold, 60, {"call_id": "a", "attempt": "1"}, now=NOON
    )  # under way when it was lost
    ledger.rebuild(store, {daily: 30}, NOON)
    assert (await ledger.reserve(money, "b", 1, 10, [daily], now=NOON)).pressure == 1.0
    with pytest.raises(ledger.Exhausted):
        await ledger.reserve(money, "c", 1, 1, [daily], now=NOON)
