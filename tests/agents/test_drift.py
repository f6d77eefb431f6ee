"""Prices set here beside the public list."""

from __future__ import annotations

from typing import Any

from agents.drift import drift
from budgets import prices

BASE = "https://api.openai.com/v1"


def content(**price: str) -> dict[str, Any]:
    entry = {"dialect": "openai", "base_url": BASE, "provider": "openai", **({"price": price} if price else {})}
    return {"models": {"gpt-4o-mini": entry}}


def dollars(nano: int) -> str:
    return f"{nano / 10**9:.9f}"


def listed() -> dict[str, str]:
    found = prices.price_of("gpt-4o-mini", "openai")
    rates = (found.input_nano_per_mtok, found.cached_input_nano_per_mtok, found.output_nano_per_mtok)
    return dict(zip(("input", "cached_input", "output"), map(dollars, rates), strict=True))


def test_what_agrees_and_what_is_not_overridden_is_no_drift() -> None:
    assert drift([("acme@r1", content()), ("acme@r2", content(**listed()))]) == []


def test_a_price_of_our_own_that_differs_is_shown_with_both() -> None:
    (found,) = drift([("acme@r1", content(input="100", output="200"))])
    assert (found.release, found.model, found.ours.input_nano_per_mtok) == ("acme@r1", "gpt-4o-mini", 100 * 10**9)
    assert found.listed.input_nano_per_mtok < found.ours.input_nano_per_mtok
    assert found.share < 0


def test_a_model_that_is_on_no_list_cannot_drift() -> None:
    ours = {"models": {"mine": {"base_url": "http://127.0.0.1/v1", "price": {"input": "1", "output": "1"}}}}
    assert drift([("acme@r1", ours)]) == []
