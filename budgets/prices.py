"""What a call costs: integer nano-dollars for a million tokens, with how sure we are. Never a silent zero.

The public list is the snapshot inside the package `genai-prices`: nothing is fetched. A look-up is slow: it is made
when a configuration is compiled, never for a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any, Literal

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices, TimeOfDateConstraint

Certainty = Literal["exact", "estimated", "unknown"]
NANO = 1_000_000_000
MTOK = 1_000_000
FRAME_TOKENS = 64
KINDS = ("input_mtok", "cache_read_mtok", "output_mtok")


@dataclass(frozen=True, slots=True)
class Tier:
    """Rates of a call whose input is longer than `above` tokens; they apply to all of its tokens."""

    above: int
    input_nano_per_mtok: int
    cached_input_nano_per_mtok: int
    output_nano_per_mtok: int


@dataclass(frozen=True, slots=True)
class Price:
    """Nano-dollars for a million tokens of each kind, and where the rates come from; `tiers` ascend.

    "exact": set here, or listed for this provider. "estimated": listed for the model's usual provider, or a rate that
    depends on more than tokens. "unknown": the ceiling, no known rate at all; not fit to be shown as a cost.
    """

    input_nano_per_mtok: int
    cached_input_nano_per_mtok: int
    output_nano_per_mtok: int
    certainty: Certainty
    source: str
    tiers: tuple[Tier, ...] = ()


FREE = Price(0, 0, 0, "exact", "built in")
# The dearest rates on the public list: an unknown model is held and charged as if it were that one, never as free.
CEILING = Price(150 * NANO, 150 * NANO, 600 * NANO, "unknown", "ceiling")


def price_of(
    model: str, provider: str = "", overrides: Mapping[str, Mapping[str, Any]] | None = None, *, base_url: str = ""
) -> Price:
    """The price of a model now: an override (decimal dollars for a million tokens), else the public list, else CEILING.

    An override is {"input": "0.15", "output": "0.60", "cached_input": "0.075"}, the last one optional. A provider is
    known by its name on the list or by its `base_url`; without either the model's name alone decides: "estimated".

    :raises ValueError: an override that is not a non-negative amount.
    """
    if overrides and model in overrides:
        return _override(overrides[model])
    if model.startswith("local/"):
        return FREE
    found = _find(model, provider, base_url)
    if found is None:
        return CEILING
    owner, info, certain = found
    return _listed(_rates(info), f"list of {owner.id}", certain=certain)


def cost(price: Price, input_tokens: int, cached_tokens: int, output_tokens: int) -> int:
    """Nano-dollars of a call; cached tokens are a part of the input tokens. Rounded up: never below the truth."""
    rate: Price | Tier = price
    for tier in price.tiers:
        if input_tokens > tier.above:
            rate = tier
    cached = min(cached_tokens, input_tokens)
    total = (
        (input_tokens - cached) * rate.input_nano_per_mtok
        + cached * rate.cached_input_nano_per_mtok
        + output_tokens * rate.output_nano_per_mtok
    )
    return -(-total // MTOK)


def upper_bound(price: Price, input_bytes: int, max_output_tokens: int) -> int:
    """The most that a call can cost, in nano-dollars.

    No tokenizer makes more tokens than UTF-8 bytes; what a provider frames messages with is less than their JSON around
    the text, and `FRAME_TOKENS` cover the rest. A picture named by its address has to be bounded by the caller.
    """
    tokens = input_bytes + FRAME_TOKENS
    reachable: list[Price | Tier] = [price, *(tier for tier in price.tiers if tokens > tier.above)]
    dearest_input = max(max(rate.input_nano_per_mtok, rate.cached_input_nano_per_mtok) for rate in reachable)
    dearest_output = max(rate.output_nano_per_mtok for rate in reachable)
    return -(-(tokens * dearest_input + max_output_tokens * dearest_output) // MTOK)


def _override(rates: Mapping[str, Any]) -> Price:
    if unknown := set(rates) - {"input", "cached_input", "output"}:
        raise ValueError(f"a price has input, output and cached_input, not {min(unknown)}.")
    paid = _amount(rates.get("input"), "input")
    cached = _amount(rates["cached_input"], "cached_input") if "cached_input" in rates else paid
    return Price(paid, cached, _amount(rates.get("output"), "output"), "exact", "set here")


def _amount(amount: Any, name: str) -> int:
    try:
        value = Decimal(str(amount))
    except InvalidOperation as error:
        raise ValueError(f"the {name} price is an amount in dollars for a million tokens.") from error
    if not value.is_finite() or not 0 <= value <= 100_000:
        raise ValueError(f"the {name} price is between 0 and 100,000 dollars for a million tokens.")
    return _nano(value)


# --- the public list ---------------------------------------------------------------------------------------------


def _find(model: str, provider: str, base_url: str) -> tuple[Provider, ModelInfo, bool] | None:
    """Who sells the model, its entry, and whether the seller is certain. A named provider is never guessed over."""
    if provider:
        return _look_up(model, provider, None, certain=True)
    known = _look_up(model, None, base_url, certain=True) if base_url else None
    return known or _look_up(model, None, None, certain=False)


def _look_up(
    model: str, provider: str | None, base_url: str | None, *, certain: bool
) -> tuple[Provider, ModelInfo, bool] | None:
    try:
        owner, info = get_snapshot().find_provider_model(model, None, provider, base_url)
    except LookupError:
        return None
    return owner, info, certain


def _rates(info: ModelInfo) -> list[ModelPrice]:
    """The rates in force today, those of other hours included: the price is kept for longer than an hour."""
    now = info.get_prices(datetime.now(UTC))
    if isinstance(info.prices, ModelPrice):
        return [now]
    return [now, *(one.prices for one in info.prices if isinstance(one.constraint, TimeOfDateConstraint))]


def _listed(hours: list[ModelPrice], source: str, *, certain: bool) -> Price:
    """A list entry as our price; of the hours of a day the dearest, since a hold must be an upper bound."""
    base = _level(hours, 0)
    if base is None:
        return CEILING
    starts = {tier.start for rates in hours for name in KINDS for tier in getattr(_rate(rates, name), "tiers", ())}
    tiers = tuple(Tier(start, *level) for start in sorted(starts) if (level := _level(hours, start)))
    by_request = any(rates.__dict__.get("requests_kcount") for rates in hours)
    exact = certain and not by_request and len(hours) == 1
    return Price(*base, "exact" if exact else "estimated", source, tiers)


def _level(hours: list[ModelPrice], start: int) -> tuple[int, int, int] | None:
    """Input, cached input and output of calls with an input longer than `start` tokens; None where one is unlisted."""
    paid, cached, output = ([_at(_rate(rates, name), start) for rates in hours] for name in KINDS)
    known = [rate for rate in paid if rate is not None], [rate for rate in output if rate is not None]
    if not all(known):
        return None
    dearest = max(known[0])
    return (
        _nano(dearest),
        _nano(max((rate for rate in cached if rate is not None), default=dearest)),
        _nano(max(known[1])),
    )


def _rate(rates: ModelPrice, name: str) -> Decimal | TieredPrices | None:
    found: Decimal | TieredPrices | None = rates.__dict__.get(name)
    return found


def _at(rate: Decimal | TieredPrices | None, start: int) -> Decimal | None:
    if not isinstance(rate, TieredPrices):
        return rate
    return next((tier.price for tier in reversed(rate.tiers) if 0 < tier.start <= start), rate.base)


def _nano(dollars: Decimal) -> int:
    return int((dollars * NANO).to_integral_value(ROUND_CEILING))
