"""Which models a call may use, in order. Structure decides (topic, language, size, turn, budget), never keywords."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agents.parts import Model, Routes

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda seen, wanted: seen == wanted,
    "in": lambda seen, wanted: seen in wanted,
    "gte": lambda seen, wanted: seen >= wanted,
    "lt": lambda seen, wanted: seen < wanted,
}


class UnknownModel(Exception):
    """The caller named a model that the live release does not define."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The fallback chain that serves a call, and what chose it."""

    tier: str
    rule: str
    models: tuple[Model, ...]


def choose(routes: Routes, facts: Mapping[str, Any], wanted: str = "auto") -> Choice:
    """The tier of the first rule whose conditions all hold, else the default tier; a concrete name is served as named.

    `facts`: topic, language, input_chars, turn_number, tools (bool), pressure (share of the fullest budget used).
    :raises UnknownModel: a concrete name that is not defined.
    """
    if wanted != "auto":
        model = routes.models.get(wanted)
        if model is None:
            raise UnknownModel(wanted)
        return Choice("", "named by the caller", (model,))
    for number, rule in enumerate(routes.rules, start=1):
        if all(_holds(facts.get(fact), condition) for fact, condition in rule.get("when", {}).items()):
            return _tier(routes, rule["tier"], rule.get("name") or f"rule {number}")
    return _tier(routes, routes.default_tier, "default")


def degraded(routes: Routes, choice: Choice, pressure: float) -> Choice | None:
    """The cheaper chain for a call that the router chose a tier for, once a budget is nearly used up; else None."""
    if pressure < routes.degrade_at or choice.tier in ("", routes.degraded_tier):
        return None
    return _tier(routes, routes.degraded_tier, f"budget used to {pressure:.0%}")


def _tier(routes: Routes, tier: str, rule: str) -> Choice:
    return Choice(tier, rule, tuple(routes.models[name] for name in routes.tiers[tier]))


def _holds(seen: Any, condition: Any) -> bool:
    """`{"gte": 2000}` or a bare value, which means equality; an unknown fact holds nothing."""
    if seen is None:
        return False
    if not isinstance(condition, Mapping):
        return bool(seen == condition)
    return all(COMPARE[op](seen, wanted) for op, wanted in condition.items())
