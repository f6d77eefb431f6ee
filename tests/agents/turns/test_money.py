"""Invariant 1 on the whole path: whatever runs side by side, spend and holds stay within the limit at every moment."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, Self

import pytest
from django.db.models import Count, Q, Sum

from agents import snapshot, tasks, turns
from agents.connections import redis_sync
from agents.models import Scope, Turn
from budgets import ledger
from budgets.ledger import Balance
from budgets.models import Budget
from tests import world
from tests.agents.turns.conftest import Desk
from tests.upstream import Fails, Says

TURNS = 200
FAILING = {"small": Fails(500), "big": Fails(500)}


class Watch:
    """Looks at a budget as often as it can until it is told to stop."""

    def __init__(self, budget: Budget) -> None:
        self._limit = budget.limit()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.most = self.looks = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def now(self) -> Balance:
        return ledger.balances(redis_sync(), [self._limit])[self._limit]

    def _look(self) -> None:
        while not self._stop.is_set():
            seen = self.now()
            self.most = max(self.most, seen.spent_nano + seen.held_nano)
            self.looks += 1
            time.sleep(0.003)


async def at_once(pks: list[Any]) -> None:
    await asyncio.gather(*(turns.run(pk) for pk in pks))


def budgeted(desk: Desk, limit_nano: int, **config: Any) -> tuple[Scope, Budget]:
    scope = desk.open(models=world.served_by(desk.upstream.url, **config))
    budget = Budget.objects.create(owner_kind="channel", owner=str(scope.channel), period="day", limit_nano=limit_nano)
    snapshot.forget()
    return scope, budget


def test_two_hundred_turns_at_once_never_spend_more_than_a_small_budget(desk: Desk) -> None:
    """Each holds up to 2 million nano-dollars, and ten times that where it falls back; it spends a quarter of it."""
    scope, budget = budgeted(desk, 40_000_000)
    desk.upstream.always("small", Says(world.GOOD, usage=(300, 50, 0)))
    desk.upstream.always("big", Says(world.GOOD, usage=(300, 50, 0)))
    desk.upstream.script("small", *[Fails(500), Says(world.GOOD, usage=(300, 50, 0), pause=0.02)] * 10)
    pks = [desk.ask(scope).pk for _ in range(TURNS)]
    with Watch(budget) as watch:
        tasks.loop.run(at_once(pks))
        end = watch.now()
    assert watch.looks > 20
    assert watch.most <= budget.limit_nano
    assert end.held_nano == 0
    assert end.overshoot_nano == 0
    assert 0 < end.spent_nano <= budget.limit_nano

    made = Turn.objects.filter(pk__in=pks)
    tally = made.aggregate(
        spent=Sum("cost_nano"),
        answered=Count("pk", Q(outcome="answered")),
        low=Count("pk", Q(reason="budget_low", outcome="escalated")),
        refused=Count("pk", Q(reason="budget_spent")),
    )
    assert tally["answered"] + tally["low"] + tally["refused"] == TURNS
    assert tally["answered"] >= 15
    assert tally["refused"] >= 100
    rows = desk.calls(turn_id__in=pks)
    assert sum(row.cost_nano or 0 for row in rows) == tally["spent"] == end.spent_nano
    assert sum(row.status == "ok" for row in rows) == tally["answered"] + tally["low"]
    assert len(rows) == len(desk.upstream.asked), "every request that reached a provider has its row"


def test_what_is_held_for_calls_that_fail_comes_back(desk: Desk) -> None:
    scope, budget = budgeted(desk, 60_000_000)
    for model, answer in FAILING.items():
        desk.upstream.always(model, answer)
    pks = [desk.ask(scope).pk for _ in range(10)]
    with Watch(budget) as watch:
        tasks.loop.run(at_once(pks))
        assert (watch.now().held_nano, watch.now().spent_nano) == (0, 0)
    assert watch.most <= budget.limit_nano


@pytest.mark.parametrize("owner", ["organisation", "agent", "key"])
def test_every_budget_that_applies_must_have_room(desk: Desk, owner: str) -> None:
    scope, _ = budgeted(desk, 10**12)
    name = {"organisation": "", "agent": scope.agent.slug, "key": "ph_tester00"}[owner]
    budget = Budget.objects.create(owner_kind=owner, owner=name, period="month", limit_nano=1_000)
    snapshot.forget()
    try:
        turn = desk.say(scope, key_prefix="ph_tester00")
        assert (turn.outcome, turn.reason, desk.upstream.asked) == ("refused", "budget_spent", [])
    finally:
        budget.delete()
        snapshot.forget()


def test_shadow_spends_real_money_within_the_same_budget(desk: Desk) -> None:
    scope, budget = budgeted(desk, 60_000_000)
    scope.stage = "shadow"
    scope.save()
    snapshot.forget()
    desk.upstream.script("small", Says(world.GOOD, usage=(300, 50, 0)))
    turn = desk.say(scope)
    with Watch(budget) as watch:
        assert watch.now().spent_nano == turn.cost_nano == 400_000
