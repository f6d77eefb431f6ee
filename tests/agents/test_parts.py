"""The configuration's parts, read out of a version's content: what cannot be right is refused when it is saved."""

from __future__ import annotations

from typing import Any

import pytest

from agents import parts

MODEL: dict[str, Any] = {"base_url": "https://models.example/v1", "credential": "env:ODD_API_KEY"}


def test_a_model_without_a_known_price_is_refused_until_one_is_set() -> None:
    with pytest.raises(ValueError, match="no public price is known, set price"):
        parts.validate("models", {"models": {"odd-1": MODEL}})
    parts.validate("models", {"models": {"odd-1": {**MODEL, "price": {"input": "0.10", "output": "0.40"}}}})


def test_a_published_model_that_lost_its_price_still_compiles() -> None:
    assert parts.routes({"models": {"odd-1": MODEL}}).models["odd-1"].price.certainty == "unknown"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({}, "at least one model"),
        ({"models": {"m": {"base_url": "ftp://x"}}}, "http or https"),
        ({"models": {"m": {**MODEL, "dialect": "smoke"}}}, "no dialect smoke"),
        ({"models": {"m": {**MODEL, "credential": "sk-live-123"}}}, "env:NAME_API_KEY"),
        ({"models": {"m": {**MODEL, "max_output_tokens": 0}}}, "max_output_tokens"),
        ({"models": {"local/extractive": {}}, "tiers": {"small": []}}, "tier small is empty"),
        ({"models": {"local/extractive": {}}, "tiers": {"small": ["other"]}}, "names other"),
        ({"models": {"local/extractive": {}}, "default_tier": "large"}, "no tier large"),
        ({"models": {"local/extractive": {}}, "timeout_s": 0}, "timeout_s"),
    ],
)
def test_a_model_configuration_that_cannot_work_says_why(content: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parts.validate("models", content)
