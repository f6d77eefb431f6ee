"""Balanced budgets hold what calls usually cost, once that is known."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agents import holds


@pytest.fixture(autouse=True)
def nothing_seen() -> Iterator[None]:
    holds.forget()
    yield
    holds.forget()


def test_until_enough_calls_were_seen_the_most_is_held() -> None:
    for _ in range(holds.LEAST - 1):
        holds.learn("small", 1_000, 10)
    assert holds.usual("small", 1_000) == 1_000
    assert holds.usual("other", 1_000) == 1_000


def test_then_what_ninety_nine_of_a_hundred_calls_needed_is_held() -> None:
    for n in range(400):
        holds.learn("small", 1_000, 300 if n % 50 == 0 else 100)
    assert holds.usual("small", 2_000) == pytest.approx(2_000 * 0.3 * holds.MARGIN, rel=0.01)
    assert holds.usual("other", 2_000) == 2_000


def test_free_models_hold_nothing() -> None:
    holds.learn("local/extractive", 0, 0)
    assert holds.usual("local/extractive", 0) == 0
