"""What a call costs: integer nano-dollars for a million tokens, with how sure we are. Never a silent zero.

The public list is the snapshot inside the package `genai-prices`: nothing is fetched. A look-up is slow: it is made
when a configuration is compiled, never for a call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from importlib.metadata import version
from typing import Any, Literal

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices, TimeOfDateConstraint

Certainty = Literal["exact", "estimated", "unknown"]
NANO = 1_000_000_000
MTOK = 1_000_000
FRAME_TOKENS = 64
KINDS = ("input_mtok", "cache_read_mtok", "output_mtok", "cache_write_mtok", "cache_write_1h_mtok")
LIST_VERSION = f"list {version('genai-prices')}"


@dataclass(frozen=True, slots=True)
class Tier:
    """Rates of a call whose input is longer than `above` tokens; they apply to all of its tokens."""

    above: int
    input_nano_per_mtok: int
    cached_input_nano_per_mtok: int
    output_nano_per_mtok: int
    written_nano_per_mtok: int = 0
    long_written_nano_per_mtok: int = 0


@dataclass(frozen=True, slots=True)
class Price:
    """Nano-dollars for a million tokens of each kind, and where the rates come from; `tiers` ascend.

    Input tokens that are written into a cache, for minutes or for an hour (`long`), have rates of their own at some
    providers; 0 is the rate of other input. `version` says which list or which setting it was.

    "exact": set here, or listed for this provider. "estimated": listed for the model's usual provider, or a rate that
    depends on more than tokens. "unknown": the ceiling, no known rate at all; not fit to be shown as a cost.
    """

    input_nano_per_mtok: int
    cached_input_nano_per_mtok: int
    output_nano_per_mtok: int
    certainty: Certainty
    source: str
    tiers: tuple[Tier, ...] = ()
    written_nano_per_mtok: int = 0
    long_written_nano_per_mtok: int = 0
    version: str = field(default=LIST_VERSION, compare=False)


FREE = Price(0, 0, 0, "exact", "built in")
# The dearest rates on the public list: an unknown model is held and charged as if it were that one, never as free.
CEILING = Price(150 * NANO, 150 * NANO, 600 * NANO, "unknown", "ceiling")


Rates = Mapping[str, Any]


def price_of(
    model: str,
    provider: str = "",
    overrides: Mapping[str, Rates | Sequence[Rates]] | None = None,
    *,
    base_url: str = "",
    on: date | None = None,
    answers: bool = True,
) -> Price:
    """The price of a model now: an override (decimal dollars for a million tokens), else the public list, else CEILING.

    An override is {"input": "0.15", "output": "0.60", "cached_input": "0.075", "cache_write": …, "cache_write_1h": …},
    the last three optional; or a list of such, each with a day `from` which it holds ("2026-01-01"). A provider is
    known by its name on the list or by its `base_url`; without either the model's name alone decides: "estimated".
    A model that does not answer (one for embeddings) needs no price for output.

    :raises ValueError: an override that is not a non-negative amount.
    """
    rates = _in_force((overrides or {}).get(model), on or datetime.now(UTC).date())
    if rates is not None:
        return _override(rates, answers=answers)
    if model.startswith("local/"):
        return FREE
    found = _find(model, provider, base_url)
    if found is None:
        return CEILING
    owner, info, certain = found
    return _listed(_rates(info), f"list of {owner.id}", certain=certain, answers=answers)


def cost(
    price: Price,
    input_tokens: int,
    cached_tokens: int,
    output_tokens: int,
    written_tokens: int = 0,
    long_written_tokens: int = 0,
) -> int:
    """Nano-dollars of a call; cached and written tokens are a part of the input. Rounded up: never below the truth."""
    rate: Price | Tier = price
    for tier in price.tiers:
        if input_tokens > tier.above:
            rate = tier
    cached = min(cached_tokens, input_tokens)
    written = min(written_tokens, input_tokens - cached)
    long_written = min(long_written_tokens, input_tokens - cached - written)
    total = (
        (input_tokens - cached - written - long_written) * rate.input_nano_per_mtok
        + cached * rate.cached_input_nano_per_mtok
        + written * (rate.written_nano_per_mtok or rate.input_nano_per_mtok)
        + long_written * (rate.long_written_nano_per_mtok or rate.written_nano_per_mtok or rate.input_nano_per_mtok)
        + output_tokens * rate.output_nano_per_mtok
    )
    return -(-total // MTOK)


def upper_bound(price: Price, input_tokens: int, max_output_tokens: int, *, writes: bool = False) -> int:
    """The most that a call can cost, in nano-dollars.

    For text `input_tokens` is its bytes: no tokenizer makes more tokens than UTF-8 bytes, what a provider frames
    messages with is less than their JSON around the text, and `FRAME_TOKENS` cover the rest. `writes`: the call may
    write into a cache.
    """
    tokens = input_tokens + FRAME_TOKENS
    reachable: list[Price | Tier] = [price, *(tier for tier in price.tiers if tokens > tier.above)]
    dearest_input = max(_dearest_input(rate, writes=writes) for rate in reachable)
    dearest_output = max(rate.output_nano_per_mtok for rate in reachable)
    return -(-(tokens * dearest_input + max_output_tokens * dearest_output) // MTOK)


def _dearest_input(rate: Price | Tier, *, writes: bool) -> int:
    read = max(rate.input_nano_per_mtok, rate.cached_input_nano_per_mtok)
    return max(read, rate.written_nano_per_mtok, rate.long_written_nano_per_mtok) if writes else read


def _in_force(override: Rates | Sequence[Rates] | None, on: date) -> Rates | None:
    """The rates that hold on that day: of a dated list the newest that has begun, or none."""
    if override is None or isinstance(override, Mapping):
        return override
    dated = {_day(rates): rates for rates in override}
    begun = [day for day in dated if day <= on]
    return dated[max(begun)] if begun else None


def _day(rates: Rates) -> date:
    try:
        return date.fromisoformat(str(rates["from"]))
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError("each of several prices has a day from which it holds: from, like 2026-01-01.") from error


def _override(rates: Rates, *, answers: bool) -> Price:
    known = {"input", "cached_input", "output", "cache_write", "cache_write_1h", "from"}
    if unknown := set(rates) - known:
        raise ValueError(f"a price has input, output and cached_input, not {min(unknown)}.")
    paid = _amount(rates.get("input"), "input")

    def own(name: str, otherwise: int) -> int:
        return _amount(rates[name], name) if name in rates else otherwise

    return Price(
        paid,
        own("cached_input", paid),
        _amount(rates.get("output", None if answers else "0"), "output"),
        "exact",
        "set here",
        written_nano_per_mtok=own("cache_write", 0),
        long_written_nano_per_mtok=own("cache_write_1h", 0),
        version=f"set {rates['from']}" if "from" in rates else "set",
    )


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


def _listed(hours: list[ModelPrice], source: str, *, certain: bool, answers: bool) -> Price:
    """A list entry as our price; of the hours of a day the dearest, since a hold must be an upper bound."""
    base = _level(hours, 0, answers=answers)
    if base is None:
        return CEILING
    starts = {tier.start for rates in hours for name in KINDS for tier in getattr(_rate(rates, name), "tiers", ())}
    tiers = tuple(Tier(start, *level) for start in sorted(starts) if (level := _level(hours, start, answers=answers)))
    by_request = any(rates.__dict__.get("requests_kcount") for rates in hours)
    exact = certain and not by_request and len(hours) == 1
    paid, cached, output, written, long_written = base
    return Price(paid, cached, output, "exact" if exact else "estimated", source, tiers, written, long_written)


def _level(hours: list[ModelPrice], start: int, *, answers: bool) -> tuple[int, int, int, int, int] | None:
    """The rates of KINDS for an input longer than `start` tokens; None where that of input or output is unlisted."""
    paid, cached, output, written, long_written = (
        [_at(_rate(rates, name), start) for rates in hours] for name in KINDS
    )
    dearest, dearest_output = _dearest(paid, -1), _dearest(output, -1 if answers else 0)
    if dearest < 0 or dearest_output < 0:
        return None
    return (
        dearest,
        _dearest(cached, dearest),
        dearest_output,
        _dearest(written, 0),
        _dearest(long_written, 0),
    )


def _dearest(rates: list[Decimal | None], otherwise: int) -> int:
    known = [rate for rate in rates if rate is not None]
    return _nano(max(known)) if known else otherwise


def _rate(rates: ModelPrice, name: str) -> Decimal | TieredPrices | None:
    found: Decimal | TieredPrices | None = rates.__dict__.get(name)
    return found


def _at(rate: Decimal | TieredPrices | None, start: int) -> Decimal | None:
    if not isinstance(rate, TieredPrices):
        return rate
    return next((tier.price for tier in reversed(rate.tiers) if 0 < tier.start <= start), rate.base)


def _nano(dollars: Decimal) -> int:
    return int((dollars * NANO).to_integral_value(ROUND_CEILING))
