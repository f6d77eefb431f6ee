"""An outage is not answered with a storm of second tries."""

from __future__ import annotations

import pytest

from agents.retries import RETRIES, RetryBudget


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, as its only item."""
    now = [1_000.0]
    monkeypatch.setattr("agents.retries.time.monotonic", lambda: now[0])
    return now


def taken(budget: RetryBudget, calls: int) -> int:
    """How many of so many calls that all fail are tried a second time."""
    found = 0
    for _ in range(calls):
        budget.call()
        found += budget.take()
    return found


def test_when_every_call_fails_one_in_ten_is_tried_again(clock: list[float]) -> None:
    budget = RetryBudget(share=0.1, a_second=0, spare=20)
    taken(budget, 1_000)  # what was spare is used up
    assert taken(budget, 1_000) == pytest.approx(100, abs=1)


def test_where_calls_are_few_some_may_be_tried_again_all_the_same(clock: list[float]) -> None:
    budget = RetryBudget(share=0.1, a_second=2, spare=20)
    taken(budget, 1_000)
    clock[0] += 3
    assert taken(budget, 6) == 6


def test_a_quiet_hour_does_not_save_up_for_a_storm(clock: list[float]) -> None:
    budget = RetryBudget(share=0.1, a_second=2, spare=20)
    clock[0] += 3_600
    assert taken(budget, 100) == pytest.approx(30, abs=1)


def test_this_process_may_try_a_tenth_again() -> None:
    assert (RETRIES.share, RETRIES.a_second) == (0.1, 2)
