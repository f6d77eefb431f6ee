"""Which models a call may use, in order. Structure decides (topic, language, size, turn, budget), never keywords.

A conversation keeps the tier it got, unless a rule asks for a larger one; a tier is larger when its first model is
dearer.
"""

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

    def told(self, routes: Routes) -> dict[str, Any]:
        """For a trace: what was chosen, by what, and what else there is."""
        others = {tier: list(chain) for tier, chain in routes.tiers.items() if tier != self.tier}
        return {"tier": self.tier, "rule": self.rule, "chain": [model.name for model in self.models], "others": others}


def choose(
    routes: Routes, facts: Mapping[str, Any], wanted: str = "auto", *, kept: str = "", embeds: bool = False
) -> Choice:
    """The tier of the first rule whose conditions all hold, else the default tier; a concrete name is served as named.

    `facts`: topic, language, input_chars, turn_number, tools (bool), pressure (share of the fullest budget used).
    `kept` is the tier that the conversation has.
    :raises UnknownModel: a concrete name that is not defined, or whose model does not do this (answer, or embed).
    """
    if wanted != "auto":
        model = routes.models.get(wanted)
        if model is None or model.embeds != embeds:
            raise UnknownModel(wanted)
        return Choice("", "named by the caller", (model,))
    if embeds:
        raise UnknownModel("auto")
    choice = _by_rules(routes, facts)
    if kept in routes.tiers and routes.ranks[kept] > routes.ranks[choice.tier]:
        return _tier(routes, kept, "kept for the conversation")
    return choice


def _by_rules(routes: Routes, facts: Mapping[str, Any]) -> Choice:
    for number, rule in enumerate(routes.rules, start=1):
        if all(_holds(facts.get(fact), condition) for fact, condition in rule.get("when", {}).items()):
            return _tier(routes, rule["tier"], rule.get("name") or f"rule {number}")
    return _tier(routes, routes.default_tier, "default")


def larger(routes: Routes, choice: Choice, why: str) -> Choice | None:
    """The next larger tier, for an answer that is not fit for use; None for the largest, or a model named as such."""
    if not choice.tier:
        return None
    above = [tier for tier, rank in routes.ranks.items() if rank > routes.ranks[choice.tier]]
    return _tier(routes, above[0], f"{why} of {choice.tier}") if above else None


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
