"""Prices: the public list as integers, overrides, and never a silent zero."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelPrice
from hypothesis import given
from hypothesis import strategies as st

from budgets.prices import CEILING, FREE, NANO, Price, Tier, cost, price_of, upper_bound

MINI = Price(150_000_000, 75_000_000, 600_000_000, "exact", "test")
LONG = Price(
    3 * NANO, 3 * NANO // 10, 15 * NANO, "exact", "test", (Tier(200_000, 6 * NANO, 6 * NANO // 10, 22 * NANO),)
)
TOKENS = st.integers(0, 2_000_000)
LISTED = [
    (provider.id, model.id)
    for provider in get_snapshot().providers
    for model in provider.models
    if isinstance(model.prices, ModelPrice)
    and set(model.prices.__dict__) <= {"input_mtok", "output_mtok", "cache_read_mtok"}
]


def test_a_listed_model_of_a_named_provider_has_an_exact_price() -> None:
    assert price_of("gpt-4o-mini", "openai") == Price(150_000_000, 75_000_000, 600_000_000, "exact", "list of openai")


def test_a_provider_is_known_by_its_address() -> None:
    found = price_of("llama-3.3-70b-versatile", base_url="https://api.groq.com/openai/v1")
    assert (found.certainty, found.source) == ("exact", "list of groq")


def test_a_provider_that_was_guessed_from_the_name_makes_an_estimate() -> None:
    assert price_of("gpt-4o-mini").certainty == "estimated"
    assert price_of("gpt-4o-mini", base_url="http://10.0.0.5:8000/v1").certainty == "estimated"


@pytest.mark.parametrize(
    ("model", "provider"),
    [("frontier-of-tomorrow", ""), ("gpt-4o-mini", "our-own-vllm"), ("gpt-99", "openai"), ("", "")],
)
def test_an_unknown_price_is_unknown_and_never_nothing(model: str, provider: str) -> None:
    found = price_of(model, provider)
    assert found.certainty == "unknown"
    assert cost(found, 1, 0, 0) > 0
    assert upper_bound(found, 100, 100) > 0


def test_the_ceiling_is_as_dear_as_the_dearest_model_on_the_list() -> None:
    prices = [price_of(model, provider) for provider, model in LISTED]
    assert max(price.input_nano_per_mtok for price in prices) <= CEILING.input_nano_per_mtok
    assert max(price.output_nano_per_mtok for price in prices) <= CEILING.output_nano_per_mtok


def test_local_models_cost_nothing_exactly() -> None:
    assert price_of("local/extractive") == FREE
    assert upper_bound(FREE, 1_000_000, 100_000) == 0


def test_an_override_goes_before_the_list() -> None:
    rates = {"input": "0.10", "output": "0.40", "cached_input": "0.01"}
    found = price_of("gpt-4o-mini", "openai", {"gpt-4o-mini": rates})
    assert found == Price(100_000_000, 10_000_000, 400_000_000, "exact", "set here")
    assert price_of("gpt-4o", "openai", {"gpt-4o-mini": rates}).source == "list of openai"


def test_an_override_without_a_cached_rate_gives_no_rebate() -> None:
    assert price_of("x", "", {"x": {"input": "2", "output": "4"}}).cached_input_nano_per_mtok == 2 * NANO


@pytest.mark.parametrize(
    "rates",
    [
        {},
        {"input": "1"},
        {"input": "-1", "output": "1"},
        {"input": "NaN", "output": "1"},
        {"input": "Infinity", "output": "1"},
        {"input": "1e9", "output": "1"},
        {"input": "cheap", "output": "1"},
        {"input": "1", "output": None},
        {"input": "1", "output": "1", "ouptut": "1"},
    ],
)
def test_an_override_that_is_no_price_is_refused(rates: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="price"):
        price_of("x", "", {"x": rates})


def test_rates_that_change_with_the_hour_are_estimated_at_the_dearest() -> None:
    found = price_of("deepseek-chat", "deepseek")
    assert found.certainty == "estimated"
    assert found.output_nano_per_mtok == 1_100_000_000


def test_cached_tokens_are_a_part_of_the_input() -> None:
    assert cost(MINI, 1_000_000, 400_000, 0) == 600_000 * 150 + 400_000 * 75
    assert cost(MINI, 10, 99, 0) == 750


def test_a_fraction_of_a_nano_is_charged_as_one() -> None:
    assert cost(Price(1, 1, 1, "exact", ""), 1, 0, 0) == 1
    assert cost(MINI, 0, 0, 0) == 0


def test_a_long_input_pays_the_rate_of_its_tier_for_all_its_tokens() -> None:
    assert cost(LONG, 200_000, 0, 10) == 200_000 * 3_000 + 10 * 15_000
    assert cost(LONG, 200_001, 1, 10) == 200_000 * 6_000 + 600 + 10 * 22_000


def test_a_hold_does_not_pay_for_a_tier_that_its_input_cannot_reach() -> None:
    assert upper_bound(LONG, 100_000, 1_000) == (100_000 + 64) * 3_000 + 1_000 * 15_000
    assert upper_bound(LONG, 200_000, 1_000) == (200_000 + 64) * 6_000 + 1_000 * 22_000


@given(
    price=st.sampled_from([MINI, LONG, CEILING, Price(0, 0, 7, "exact", "")]),
    tokens=TOKENS,
    spare=TOKENS,
    cached=TOKENS,
    output=TOKENS,
    unused=TOKENS,
)
def test_no_call_costs_more_than_its_bound(
    price: Price, tokens: int, spare: int, cached: int, output: int, unused: int
) -> None:
    assert cost(price, tokens, cached, output) <= upper_bound(price, tokens + spare, output + unused)


@given(model=st.sampled_from(LISTED), tokens=TOKENS, cached=TOKENS, output=TOKENS)
def test_costs_agree_with_the_list_that_they_come_from(
    model: tuple[str, str], tokens: int, cached: int, output: int
) -> None:
    provider, name = model
    price = price_of(name, provider)
    if price.certainty == "unknown":
        return
    usage = Usage(input_tokens=tokens, cache_read_tokens=min(cached, tokens), output_tokens=output)
    owner, found = get_snapshot().find_provider_model(name, None, provider, None)
    listed = found.calc_price(usage, owner, genai_request_timestamp=datetime.now(UTC)).total_price
    assert cost(price, tokens, cached, output) == pytest.approx(listed * NANO, abs=Decimal(1))


def test_looking_up_needs_no_network(socket_disabled: None) -> None:
    assert price_of("claude-sonnet-4-5", "anthropic").tiers
