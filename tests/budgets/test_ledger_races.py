"""Many callers, lost answers, vanished clients and every order of events: the money is right afterwards."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis.asyncio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from budgets import ledger, script
from budgets.ledger import AlreadySettled, Exhausted, Hold, Limit, Unavailable
from budgets.limits import plan
from tests.budgets.conftest import clear, counter, entry, limit, rows

Async = redis.asyncio.Redis
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
CENT = 10_000_000


async def admitted(money: Async, call_id: str, nano: int, limits: list[Limit]) -> Hold | None:
    try:
        return await ledger.reserve(money, call_id, 1, nano, limits, now=NOON)
    except Exhausted:
        return None


async def test_a_thousand_holds_of_ten_cents_on_five_dollars_admit_exactly_fifty(store: Redis, money: Async) -> None:
    limits = [limit(10**12), limit(500 * CENT, "channel:acme/web"), limit(10**12, "key:ph_1", "month")]
    asked = [admitted(money, f"c{number}", 10 * CENT, limits) for number in range(1_000)]
    holds = [hold for hold in await asyncio.gather(*asked) if hold]
    assert len(holds) == 50
    assert [counter(store, key) for key in holds[0].keys] == [(0, 500 * CENT)] * 3


async def test_the_same_attempt_asked_a_hundred_times_at_once_holds_once(store: Redis, money: Async) -> None:
    holds = await asyncio.gather(*(admitted(money, "a", 7, [limit(1_000)]) for _ in range(100)))
    assert len({hold.name for hold in holds if hold}) == 1
    assert counter(store, "ph:b:organisation::d:2026-11-23") == (0, 7)
    settled = await asyncio.gather(*(ledger.settle(money, holds[0], 5, entry("a", 5)) for _ in range(100)))
    assert sum(settled) == 1
    assert counter(store, "ph:b:organisation::d:2026-11-23") == (5, 0)
    assert store.xlen("ph:calls") == 1


async def test_settling_and_expiring_at_once_leaves_the_real_figure(store: Redis, money: Async) -> None:
    limits = [limit(10**12)]
    holds = [await ledger.reserve(money, f"c{n}", 1, 100, limits, ttl_s=0, now=NOON) for n in range(200)]
    expiries = [asyncio.to_thread(ledger.expire, store, NOON + timedelta(seconds=1)) for _ in range(4)]
    settlements = [ledger.settle(money, hold, 60, entry(hold.call_id, 60), now=NOON) for hold in holds]
    everything = [*expiries, *settlements]
    random.shuffle(everything)
    await asyncio.gather(*everything)
    assert counter(store, holds[0].keys[0]) == (200 * 60, 0)
    assert {row["cost_nano"] for row in rows(store).values()} == {"60"}
    assert len(rows(store)) == 200


class Deaf(script.Link):
    """A link on which the answer to a reserve gets lost: it is done now, or held back until `arrive`."""

    late = False

    async def ask(self, ask: script.Ask, entry: bytes, within_s: float, *, keep: bool = False) -> Any:
        if ask["verb"] != "reserve":
            return await super().ask(ask, entry, within_s, keep=keep)
        if self.late:
            self.waiting = (ask, entry, within_s)
        else:
            await super().ask(ask, entry, within_s)
        raise redis.exceptions.ConnectionError("the answer was lost")

    async def arrive(self) -> None:
        await super().ask(*self.waiting)


@pytest.fixture
async def deaf(store: Redis, redis_url: str) -> Any:
    client = Async.from_url(redis_url)
    link = script._links[client] = Deaf(client)
    yield client, link
    await client.aclose()


async def given_back() -> None:
    while ledger._abandoned:
        await asyncio.gather(*ledger._abandoned, return_exceptions=True)
        await asyncio.sleep(0)


async def test_a_reserve_whose_answer_is_lost_leaves_no_hold(store: Redis, deaf: tuple[Async, Deaf]) -> None:
    with pytest.raises(Unavailable):
        await ledger.reserve(deaf[0], "a", 1, 100, [limit(150)], now=NOON)
    await given_back()
    assert counter(store, "ph:b:organisation::d:2026-11-23") == (0, 0)
    assert ledger.expire(store, NOON + timedelta(days=1)) == 0


async def test_a_reserve_that_arrives_after_it_was_given_up_holds_nothing(
    store: Redis, deaf: tuple[Async, Deaf]
) -> None:
    deaf[1].late = True
    with pytest.raises(Unavailable):
        await ledger.reserve(deaf[0], "a", 1, 100, [limit(150)], now=NOON)
    await given_back()
    await deaf[1].arrive()
    assert not store.keys("ph:b:*")
    assert store.zcard("ph:holds") == 0


@pytest.mark.parametrize("late", [True, False])
async def test_who_asks_again_at_once_keeps_the_second_hold(
    store: Redis, money: Async, deaf: tuple[Async, Deaf], late: bool
) -> None:
    deaf[1].late = late
    with pytest.raises(Unavailable):
        await ledger.reserve(deaf[0], "a", 1, 100, [limit(150)], now=NOON)
    hold = await ledger.reserve(money, "a", 1, 100, [limit(150)], now=NOON)
    await given_back()
    assert counter(store, hold.keys[0]) == (0, 100)
    assert await ledger.settle(money, hold, 60, entry("a", 60))
    assert counter(store, hold.keys[0]) == (60, 0)


async def test_a_client_that_hangs_up_while_it_waits_leaves_no_hold(store: Redis, money: Async) -> None:
    tasks = []
    for number in range(200):
        tasks.append(asyncio.create_task(admitted(money, f"c{number}", 10, [limit(10**9)])))
        await asyncio.sleep(random.choice([0, 0, 0.0005]))
        tasks[random.randrange(len(tasks))].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    await given_back()
    holds = [hold for hold in answers if isinstance(hold, Hold)]
    assert counter(store, "ph:b:organisation::d:2026-11-23") == (0, 10 * len(holds))
    assert store.zcard("ph:holds") == len(holds)


# --- any order of events -----------------------------------------------------------------------------------------

LIMITS = (limit(1_000), limit(600, "agent:acme"), limit(400, "channel:acme/web", timezone="Europe/Warsaw"))
EVERY = limit(10**15, "organisation:", "month")  # every call is under it: its spend is the sum of the ledger


class Ledger(RuleBasedStateMachine):
    """Random calls against three budgets, beside a model that is nothing but dictionaries."""

    holds = Bundle("holds")
    url: str

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.store = Redis.from_url(self.url)
        clear(self.store)
        self.money = Async.from_url(self.url)
        self.now = datetime(2026, 10, 24, 21, tzinfo=UTC)  # a day of 25 hours in Warsaw lies ahead, then a month's end
        self.held: dict[str, tuple[Hold, datetime]] = {}
        self.charged: dict[str, tuple[Hold, int]] = {}
        self.estimated: set[str] = set()
        self.number = 0
        self.overshot = False

    def teardown(self) -> None:
        self.loop.run_until_complete(self.money.aclose())
        self.loop.close()
        self.store.close()

    def run(self, verb: Any) -> Any:
        return self.loop.run_until_complete(verb)

    def room(self, keys: tuple[str, ...], limits: tuple[Limit, ...], nano: int) -> bool:
        return all(sum(self.expected(key)) + nano <= one.limit_nano for key, one in zip(keys, limits, strict=True))

    def expected(self, key: str) -> tuple[int, int]:
        spent = sum(nano for hold, nano in self.charged.values() if key in hold.keys)
        return spent, sum(hold.nano for hold, _ in self.held.values() if key in hold.keys)

    @rule(target=holds, nano=st.integers(0, 300), which=st.sets(st.sampled_from(LIMITS)), ttl=st.integers(0, 7_200))
    def reserve(self, nano: int, which: set[Limit], ttl: int) -> Any:
        self.number += 1
        limits = (*(one for one in LIMITS if one in which), EVERY)
        keys = plan(limits, self.now).keys
        room = self.room(keys, limits, nano)
        try:
            hold = self.run(ledger.reserve(self.money, f"c{self.number}", 1, nano, limits, ttl_s=ttl, now=self.now))
        except Exhausted:
            assert nano > 0
            assert not room
            return multiple()
        assert room or nano == 0
        self.held[hold.name] = (hold, self.now + timedelta(seconds=ttl))
        return hold

    @rule(hold=holds)
    def reserve_again(self, hold: Hold) -> None:
        reserving = ledger.reserve(self.money, hold.call_id, hold.attempt, 999, [EVERY], now=self.now)
        if hold.name in self.held:
            again = self.run(reserving)
            assert (again.nano, again.keys) == (hold.nano, hold.keys)
        elif hold.name in self.charged:
            with pytest.raises(AlreadySettled):
                self.run(reserving)
        else:
            reserving.close()

    @rule(hold=holds, share=st.floats(0, 1))
    def settle(self, hold: Hold, share: float) -> None:
        self.charge(hold, int(hold.nano * share))

    @rule(hold=holds, above=st.integers(1, 50))
    def settle_above_the_hold(self, hold: Hold, above: int) -> None:
        self.overshot = self.overshot or hold.name in self.held or hold.name in self.estimated
        self.charge(hold, hold.nano + above)

    def charge(self, hold: Hold, nano: int) -> None:
        open_still = hold.name in self.held or hold.name in self.estimated
        if not open_still and hold.name not in self.charged:
            return  # released: the attempt was never sent, so it does not settle
        done = self.run(ledger.settle(self.money, hold, nano, entry(hold.call_id, nano), now=self.now))
        assert done == open_still
        if open_still:
            self.held.pop(hold.name, None)
            self.estimated.discard(hold.name)
            self.charged[hold.name] = (hold, nano)

    @rule(hold=consumes(holds))
    def release(self, hold: Hold) -> None:
        open_still = hold.name in self.held or hold.name in self.estimated
        assert self.run(ledger.release(self.money, hold)) == open_still
        if hold.name in self.estimated:
            self.estimated.discard(hold.name)
            self.charged[hold.name] = (hold, 0)
        self.held.pop(hold.name, None)

    @rule(seconds=st.sampled_from([1, 60, 3_600, 9 * 3_600]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def expire(self) -> None:
        due = [name for name, (_, ends) in self.held.items() if ends <= self.now]
        assert ledger.expire(self.store, self.now) == len(due)
        for name in due:
            hold, _ = self.held.pop(name)
            self.charged[name] = (hold, hold.nano)
            self.estimated.add(name)

    @invariant()
    def counters_are_what_was_held_and_charged(self) -> None:
        for key in self.store.keys("ph:b:*"):
            assert counter(self.store, key.decode()) == self.expected(key.decode())

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        if self.overshot:
            return
        for key in self.store.keys("ph:b:*"):
            owner = next(one for one in (*LIMITS, EVERY) if f":{one.key}:{one.period[0]}:" in key.decode())
            assert sum(counter(self.store, key.decode())) <= owner.limit_nano

    @invariant()
    def the_log_adds_up_to_the_counters(self) -> None:
        found = rows(self.store)
        assert {f"{call}:{attempt}" for call, attempt in found} == set(self.charged)
        months = self.store.keys("ph:b:organisation::m:*")
        spent = sum(counter(self.store, key.decode())[0] for key in months)
        assert sum(int(row["cost_nano"]) for row in found.values()) == spent

    @invariant()
    def every_hold_can_expire(self) -> None:
        assert {name.decode() for name in self.store.zrange("ph:holds", 0, -1)} == set(self.held)


def test_any_order_of_events_leaves_the_money_right(store: Redis, redis_url: str) -> None:
    machine = type("Machine", (Ledger,), {"url": redis_url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
