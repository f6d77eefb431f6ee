"""Redis loses its memory; the limits hold all the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from agents import calls, recount
from agents.connections import redis_sync
from budgets import ledger
from budgets.models import Budget
from tests import world
from tests.redis import empty_redis

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)
DAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0)


@pytest.fixture(autouse=True)
def redis() -> Any:
    empty_redis()
    yield redis_sync()
    empty_redis()


@pytest.fixture
def budgets() -> dict[str, Budget]:
    owners = {"organisation": "", "agent": "acme", "channel": "acme/web", "key": "ph_1"}
    return {
        kind: Budget.objects.open(actor="user:ada", owner_kind=kind, owner=owner, period="day", limit_nano=10**9)
        for kind, owner in owners.items()
    }


entry = partial(world.entry, at=NOW, charged_nano=1_000)


def spent(budgets: dict[str, Budget]) -> dict[str, int]:
    found = ledger.balances(redis_sync(), [budget.limit() for budget in budgets.values()])
    return {kind: found[budget.limit()].spent_nano for kind, budget in budgets.items()}


def test_counters_come_back_from_the_log_and_from_the_stream(redis: Any, budgets: dict[str, Budget]) -> None:
    twice, late = entry(charged_nano=5_000), entry(status="expired", charged_nano=9_000)
    calls.write([
        entry(key_prefix="ph_1"), twice, late,
        entry(agent="beta", channel="beta/web", scope="beta/web", charged_nano=70),
        entry(at=(DAY - timedelta(seconds=1)).isoformat(), charged_nano=10**9),  # yesterday
        entry(price="unknown", cost_nano="", charged_nano=300),
    ])  # fmt: skip
    redis.flushdb()
    for waiting in (
        twice,
        entry(channel="acme/mail", charged_nano=40),
        {**late, "status": "ok", "charged_nano": "2000"},
    ):
        redis.xadd(ledger.STREAM, waiting)
    assert recount.recount()
    acme = 1_000 + 5_000 + 2_000 + 300
    assert spent(budgets) == {"organisation": acme + 70 + 40, "agent": acme + 40, "channel": acme, "key": 1_000}
    assert not recount.recount(), "once is enough"


def test_what_was_settled_since_the_loss_is_not_counted_twice(redis: Any, budgets: dict[str, Budget]) -> None:
    calls.write([entry(charged_nano=500)])
    redis.flushdb()
    since = entry(charged_nano=80)
    redis.xadd(ledger.STREAM, since)
    redis.hset(f"ph:b:organisation::d:{NOW:%Y-%m-%d}", "spent", 80)
    recount.recount()
    assert spent(budgets)["organisation"] == 580


def test_what_cannot_be_a_row_does_not_keep_money_from_flowing(redis: Any, budgets: dict[str, Budget]) -> None:
    redis.flushdb()
    for bad in ({"call_id": "x"}, {"at": "yesterday"}, {"charged_nano": "much"}, {"attempt": "first"}):
        redis.xadd(ledger.STREAM, entry(**bad))
    redis.xadd(ledger.STREAM, entry(at="", charged_nano="", cost_nano="70"))
    assert recount.recount()
    assert spent(budgets)["organisation"] == 70


def test_counting_anew_changes_nothing_where_nothing_is_missing(redis: Any, budgets: dict[str, Budget]) -> None:
    calls.write([entry(charged_nano=500)])
    redis.flushdb()
    assert recount.recount()
    assert recount.recount(anew=True)
    assert spent(budgets)["organisation"] == 500
