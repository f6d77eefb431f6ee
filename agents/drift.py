"""Prices set by hand that are no longer those of the public list."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

from django.utils import timezone

from agents import parts
from budgets import prices


@dataclass(frozen=True, slots=True)
class Drift:
    """A model of a live release: what it is charged here, and what the list says, in nano-dollars a million tokens."""

    release: str
    model: str
    ours: prices.Price
    listed: prices.Price

    @property
    def share(self) -> float:
        """How much dearer the list is, by the sum of input and output."""
        ours = self.ours.input_nano_per_mtok + self.ours.output_nano_per_mtok
        listed = self.listed.input_nano_per_mtok + self.listed.output_nano_per_mtok
        return listed / ours - 1 if ours else 1.0


def drift(live: Iterable[tuple[str, Any]]) -> list[Drift]:
    """The models whose own price differs from the listed one; `live`: releases by name, each with its ModelConfig."""
    found = []
    for release, content in live:
        for name, model in parts.routes(content).models.items():
            entry = content["models"][name]
            if not entry.get("price"):
                continue
            provider = str(entry.get("provider", ""))
            listed = _listed(model.upstream, provider, model.base_url, timezone.now().date())
            if listed.certainty != "unknown" and _rates(listed) != _rates(model.price):
                found.append(Drift(release, name, model.price, listed))
    return sorted(found, key=lambda one: -abs(one.share))


@lru_cache(maxsize=512)
def _listed(model: str, provider: str, base_url: str, _day: date) -> prices.Price:
    """A look-up is slow, and the list changes by the day."""
    return prices.price_of(model, provider, base_url=base_url)


def _rates(price: prices.Price) -> tuple[int, int, int]:
    return price.input_nano_per_mtok, price.cached_input_nano_per_mtok, price.output_nano_per_mtok
