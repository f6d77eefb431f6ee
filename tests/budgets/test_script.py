"""Asks that travel together: each whole for itself, and none lost with the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis.asyncio
from redis import Redis

from budgets import ledger, script
from budgets.ledger import Exhausted, Hold, Unavailable
from budgets.stream import pack, unpack
from tests.budgets.conftest import counter, entry, limit, log

Async = redis.asyncio.Redis
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = "ph:b:organisation::d:2026-11-23"
AGENT = "ph:b:agent:acme:d:2026-11-23"


class Counting(script.Link):
    """Knows how many asks each run carried."""

    def __init__(self, redis: Async) -> None:
        super().__init__(redis)
        self.runs: list[int] = []

    async def _run(self, arguments: Sequence[bytes]) -> list[Any]:
        self.runs.append(len(arguments) // 2)
        return await super()._run(arguments)


@pytest.fixture
def link(money: Async) -> Counting:
    found = script._links[money] = Counting(money)
    return found


async def begun(money: Async, number: int, nano: int = 10) -> Hold:
    return await ledger.reserve(money, f"c{number}", 1, nano, [limit(10**9), limit(10**6, "agent:acme")], now=NOON)


async def test_what_is_asked_at_once_travels_together(store: Redis, money: Async, link: Counting) -> None:
    holds = await asyncio.gather(*(begun(money, number) for number in range(300)))
    assert sum(link.runs) == 300
    assert len(link.runs) <= 4
    assert max(link.runs) <= script.MOST_TOGETHER
    assert counter(store, DAY) == counter(store, AGENT) == (0, 3_000)
    await asyncio.gather(*(ledger.settle(money, hold, 7, entry(hold.call_id, 7), now=NOON) for hold in holds))
    assert counter(store, DAY) == counter(store, AGENT) == (2_100, 0)
    assert [one["call_id"] for one in log(store)] == [hold.call_id for hold in holds]


async def test_those_that_travel_together_see_each_others_money(store: Redis, money: Async, link: Counting) -> None:
    await begun(money, 0)
    link.runs.clear()
    tight = [limit(35), limit(10**9, "agent:acme")]
    asked = [ledger.reserve(money, f"t{number}", 1, 10, tight, now=NOON) for number in range(5)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert link.runs == [5]
    assert [type(answer) for answer in answers] == [Hold, Hold, Exhausted, Exhausted, Exhausted]
    assert counter(store, DAY) == counter(store, AGENT) == (0, 30)


async def test_one_that_fails_fails_alone(store: Redis, money: Async, link: Counting) -> None:
    store.set(AGENT, "not a counter")
    good = [ledger.reserve(money, f"g{number}", 1, 10, [limit(100)], now=NOON) for number in range(2)]
    first, failed, second = await asyncio.gather(good[0], begun(money, 1), good[1], return_exceptions=True)
    assert link.runs[0] == 3
    assert isinstance(failed, Unavailable)
    assert isinstance(first, Hold)
    assert isinstance(second, Hold)
    assert counter(store, DAY) == (0, 20)


async def test_what_nobody_waits_for_is_not_sent(store: Redis, money: Async, link: Counting) -> None:
    tasks = [asyncio.create_task(begun(money, number)) for number in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert link.runs[0] == 2
    assert counter(store, DAY) == (0, 20)


async def test_who_is_cancelled_while_it_settles_or_gives_back_has_done_so(store: Redis, money: Async) -> None:
    settled, released = await asyncio.gather(begun(money, 1), begun(money, 2))
    tasks = [
        asyncio.create_task(ledger.settle(money, settled, 7, entry("c1", 7), now=NOON)),
        asyncio.create_task(ledger.release(money, released)),
    ]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(answer) for answer in answers} == {asyncio.CancelledError}
    await begun(money, 3, nano=0)  # what was asked before it is done
    assert counter(store, DAY) == (7, 0)
    assert [one["call_id"] for one in log(store)] == ["c1"]


async def test_a_connection_that_redis_closed_is_replaced_unseen(store: Redis, money: Async) -> None:
    hold = await begun(money, 1)
    hang_up(store)
    await asyncio.sleep(0.05)
    assert await ledger.settle(money, hold, 7, entry("c1", 7), now=NOON)


async def test_a_connection_that_breaks_on_the_way_is_told_and_the_next_ask_gets_another(
    store: Redis, money: Async
) -> None:
    hold = await begun(money, 1)
    store.client_pause(300, all=True)
    settling = asyncio.create_task(ledger.settle(money, hold, 7, entry("c1", 7), now=NOON))
    await asyncio.sleep(0.05)
    connection = script._links[money]._connection
    assert connection is not None
    await connection.disconnect()
    with pytest.raises(Unavailable):
        await settling
    await ledger.settle(money, hold, 7, entry("c1", 7), now=NOON)
    assert counter(store, DAY) == (7, 0)
    assert len(log(store)) == 1


async def test_a_redis_that_is_silent_for_a_while_leaves_no_holds_behind(
    store: Redis, money: Async, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begun(money, 0, nano=0)
    monkeypatch.setattr(ledger, "RESERVE_WITHIN_S", 0.1)
    store.client_pause(400, all=True)
    asked = asyncio.get_running_loop().time()
    answers = await asyncio.gather(*(begun(money, number) for number in range(1, 20)), return_exceptions=True)
    assert asyncio.get_running_loop().time() - asked < 0.3
    assert {type(answer) for answer in answers} == {Unavailable}
    while ledger._abandoned:
        await asyncio.gather(*ledger._abandoned)
    assert counter(store, DAY) == (0, 0)
    assert ledger.expire(store, NOON + timedelta(hours=1)) == 1  # the one from before
    await begun(money, 20)


async def test_a_program_that_stops_leaves_nobody_waiting(store: Redis, money: Async) -> None:
    await begun(money, 1)
    store.client_pause(300, all=True)
    asking = asyncio.create_task(begun(money, 2))
    await asyncio.sleep(0.05)
    work = script._links[money]._work
    assert work is not None
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asking, 2)


def hang_up(store: Redis) -> None:
    for client in store.client_list():
        if client["cmd"] == "evalsha" or client["cmd"] == "eval":
            store.client_kill_filter(_id=client["id"])


def test_an_entry_is_read_as_it_was_packed_or_as_an_older_version_wrote_it() -> None:
    given = {"call_id": "a", "status": "ok", "note": "zażółć 🙂"}
    assert unpack({b"entry": pack(given)}) == given
    later = {b"entry": pack(given), b"status": b"expired", b"late": b"1"}
    assert unpack(later) == {**given, "status": "expired", "late": "1"}
    assert unpack({b"call_id": b"a", b"status": b"ok"}) == {"call_id": "a", "status": "ok"}


def test_an_entry_that_is_none_is_kept_as_it_is() -> None:
    assert unpack({b"entry": b"{broken", b"x": b"\xff"}) == {"entry": "{broken", "x": "\ufffd"}
