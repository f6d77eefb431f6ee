"""What a call costs: integer nano-dollars for a million tokens, with how sure we are. Never a silent zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from genai_prices.data_snapshot import get_snapshot

Certainty = Literal["exact", "estimated", "unknown"]
NANO = 1_000_000_000
MTOK = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """Nano-dollars for a million tokens of each kind. `source` says where the rates come from."""

    input_nano: int
    cached_input_nano: int
    output_nano: int
    certainty: Certainty
    source: str


UNKNOWN = Price(0, 0, 0, "unknown", "")
FREE = Price(0, 0, 0, "exact", "built in")


def price_of(model: str, provider: str = "", overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Price:
    """The price of a model now: an override (decimal dollars for a million tokens), else the public list, else unknown.

    :raises ValueError: an override that is not a non-negative amount.
    """
    if overrides and model in overrides:
        return _override(overrides[model])
    if model.startswith("local/"):
        return FREE
    try:
        found, info = get_snapshot().find_provider_model(model, None, provider or None, None)
    except LookupError:
        return UNKNOWN
    rates = info.get_prices(datetime.now(UTC))
    return _listed(rates, found.id)


def _override(rates: Mapping[str, Any]) -> Price:
    paid = _nano(rates.get("input"), "input")
    cached = _nano(rates["cached_input"], "cached_input") if "cached_input" in rates else paid
    return Price(paid, cached, _nano(rates.get("output"), "output"), "exact", "set here")


def _listed(rates: Any, source: str) -> Price:
    """The dearest tier of a tiered rate: a hold must be an upper bound."""
    paid, output = _top(rates.input_mtok), _top(rates.output_mtok)
    if paid is None or output is None:
        return UNKNOWN
    cached = _top(rates.cache_read_mtok)
    tiered = any(not isinstance(rate, (Decimal, type(None))) for rate in (rates.input_mtok, rates.output_mtok))
    certainty: Certainty = "estimated" if tiered else "exact"
    return Price(paid, paid if cached is None else cached, output, certainty, f"list of {source}")


def _top(rate: Any) -> int | None:
    if rate is None:
        return None
    if isinstance(rate, Decimal):
        return int(rate * NANO)
    return int(max([rate.base, *(tier.price for tier in rate.tiers)]) * NANO)


def _nano(amount: Any, name: str) -> int:
    try:
        value = Decimal(str(amount))
    except InvalidOperation as error:
        raise ValueError(f"the {name} price is an amount in dollars for a million tokens.") from error
    if not value.is_finite() or not 0 <= value <= 100_000:
        raise ValueError(f"the {name} price is between 0 and 100,000 dollars for a million tokens.")
    return int(value * NANO)


def cost(price: Price, input_tokens: int, cached_tokens: int, output_tokens: int) -> int:
    """Nano-dollars of a call; cached tokens are a part of the input tokens. Rounded up: never below the truth."""
    cached = min(cached_tokens, input_tokens)
    total = (input_tokens - cached) * price.input_nano + cached * price.cached_input_nano + output_tokens * price.output_nano
    return -(-total // MTOK)


def upper_bound(price: Price, input_bytes: int, max_output_tokens: int) -> int:
    """The most that a call can cost: no tokenizer makes more tokens than bytes, plus a few for each message's frame."""
    dearest = max(price.input_nano, price.cached_input_nano)
    return -(-((input_bytes + 64) * dearest + max_output_tokens * price.output_nano) // MTOK)
