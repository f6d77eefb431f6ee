"""The breaker inside the ledger: a provider that fails is left alone by everybody, and found again by one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis

from budgets import ledger
from budgets.ledger import Open

START = datetime(2026, 5, 4, 12, tzinfo=UTC)
NAME = "small at models.example (ODD_API_KEY)"
_number = iter(range(1, 10**6))


class Clock:
    """Calls at chosen moments, as seconds after noon."""

    def __init__(self, money: Any) -> None:
        self.redis = money

    async def call(self, at: float, *, worked: bool | None = True, pause_s: float = 0, circuit: str = NAME) -> None:
        hold = await self.begin(at, circuit)
        await self.end(hold, at, worked, pause_s)

    async def begin(self, at: float, circuit: str = NAME) -> ledger.Hold:
        call_id = f"call-{next(_number)}"
        return await ledger.reserve(self.redis, call_id, 1, 5, (), circuit=circuit, now=self._moment(at))

    async def end(self, hold: ledger.Hold, at: float, worked: bool | None, pause_s: float = 0) -> None:
        entry = {"call_id": hold.call_id, "attempt": "1"}
        moment = self._moment(at)
        await ledger.settle(self.redis, hold, 0, entry, worked=worked, pause_s=pause_s, now=moment)

    async def trip(self, at: float = 0.0) -> None:
        for _ in range(5):
            await self.call(at, worked=False)

    async def opens_in(self, at: float) -> float:
        with pytest.raises(Open) as refused:
            await self.begin(at)
        return refused.value.retry_s

    def _moment(self, at: float) -> datetime:
        return START + timedelta(seconds=at)


@pytest.fixture
def clock(money: Any) -> Clock:
    return Clock(money)


async def test_five_failures_in_a_row_open_it_and_four_do_not(clock: Clock) -> None:
    for _ in range(4):
        await clock.call(0, worked=False)
    await clock.call(0)
    await clock.trip()
    assert await clock.opens_in(1) == pytest.approx(4)


async def test_a_success_in_between_begins_the_count_again(clock: Clock) -> None:
    for _ in range(6):
        for _ in range(4):
            await clock.call(0, worked=False)
        await clock.call(0, worked=True)


async def test_calls_that_tell_nothing_are_not_counted(clock: Clock) -> None:
    for _ in range(20):
        await clock.call(0, worked=None)
    await clock.call(0)


async def test_after_the_pause_one_call_probes_and_the_others_wait_for_it(clock: Clock) -> None:
    await clock.trip()
    probe = await clock.begin(5.1)
    assert await clock.opens_in(5.2) == pytest.approx(1)
    await clock.end(probe, 5.5, worked=True)
    await clock.call(5.6)


async def test_a_failed_probe_opens_it_for_longer_up_to_half_a_minute(clock: Clock) -> None:
    await clock.trip()
    at, pauses = 0.0, []
    for _ in range(6):
        pauses.append(await clock.opens_in(at))
        at += pauses[-1] + 0.1
        await clock.call(at, worked=False)
    assert pauses == pytest.approx([5, 10, 20, 30, 30, 30])


async def test_a_provider_that_asks_for_a_pause_gets_it_at_the_first_time(clock: Clock) -> None:
    await clock.call(0, worked=False, pause_s=42)
    assert await clock.opens_in(1) == pytest.approx(41)


async def test_calls_under_way_when_it_opened_neither_close_nor_prolong_it(clock: Clock) -> None:
    early, late = await clock.begin(0), await clock.begin(0)
    await clock.trip()
    await clock.end(early, 1, worked=True)
    await clock.end(late, 2, worked=False)
    assert await clock.opens_in(3) == pytest.approx(2)


async def test_a_probe_that_was_never_sent_leaves_the_place_to_another(clock: Clock, money: Any) -> None:
    await clock.trip()
    await ledger.release(money, await clock.begin(6))
    await clock.call(6.1)
    await clock.call(6.2)


async def test_of_many_at_once_exactly_one_probes(clock: Clock) -> None:
    await clock.trip()
    found = await asyncio.gather(*(clock.begin(5.5) for _ in range(50)), return_exceptions=True)
    assert sum(isinstance(one, ledger.Hold) for one in found) == 1
    assert sum(isinstance(one, Open) for one in found) == 49


async def test_one_provider_s_failures_are_not_another_s(clock: Clock) -> None:
    await clock.trip()
    await clock.call(1, circuit="large at models.example")
    await clock.call(1, circuit="")


async def test_an_open_circuit_holds_no_money(clock: Clock, money: Any) -> None:
    await clock.trip()
    limit = ledger.Limit("agent:acme", "day", "UTC", 1_000, 1)
    with pytest.raises(Open):
        await ledger.reserve(money, "one", 1, 10, (limit,), circuit=NAME, now=START)
    assert await money.hget("ph:b:agent:acme:d:2026-05-04", "held") is None


async def test_pages_can_tell_which_providers_are_left_alone(money: Any, store: Redis) -> None:
    for n in range(5):
        hold = await ledger.reserve(money, f"now-{n}", 1, 0, (), circuit=NAME)
        await ledger.settle(money, hold, 0, {"call_id": f"now-{n}", "attempt": "1"}, worked=False)
    [(name, seconds)] = ledger.open_circuits(store).items()
    assert name == NAME
    assert 3 < seconds <= 6
    store.delete(f"ph:circuit:{NAME}")
    assert ledger.open_circuits(store) == {}
    assert not store.exists(ledger.CIRCUITS)


async def test_in_an_outage_of_a_minute_at_15_calls_a_second_at_most_four_more_reach_the_provider(clock: Clock) -> None:
    reached = 0
    for n in range(15 * 60):
        try:
            hold = await clock.begin(n / 15)
        except Open:
            continue
        reached += 1
        await clock.end(hold, n / 15, worked=False)
    assert 5 < reached <= 5 + 4
    await clock.call(60 + 30, worked=True)
    await clock.call(60 + 30.1)
