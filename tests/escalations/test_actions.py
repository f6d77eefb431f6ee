"""Arguments of an action: one hash for one meaning, and schemas that cannot hurt."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from escalations.actions import Invalid, arguments_hash, check_arguments

CASES: list[tuple[Any, Any, str]] = [
    (None, [1], "JSON object"),
    (None, None, "JSON object"),
    (None, {"a": float("nan")}, "plain JSON"),
    (None, {"a": {1, 2}}, "plain JSON"),
    (None, {"a": "\x00"}, "NUL"),
    (None, {"a": "\ud800"}, "plain JSON"),
    (None, {"a": "x" * 50_001}, "at most 50,000"),
    ({"required": ["b"]}, {"a": 1}, "do not fit"),
    ({"properties": {"a": {"pattern": "^[0-9]+$"}}}, {"a": "x"}, "do not fit"),
    ({"type": "elephant"}, {"a": 1}, "not a JSON Schema"),
    ({"$schema": ["x"]}, {"a": 1}, "not a JSON Schema"),
    ([1], {"a": 1}, "not a JSON Schema"),
    ("object", {"a": 1}, "not a JSON Schema"),
    ({"properties": {"a": {"pattern": "("}}}, {"a": "x"}, "not a JSON Schema"),
    ({"$ref": "http://169.254.169.254/latest/meta-data"}, {"a": 1}, "none is fetched"),
    ({"$ref": "file:///etc/passwd"}, {"a": 1}, "none is fetched"),
    ({"$ref": "#"}, {"a": 1}, "not a JSON Schema"),
    ({"patternProperties": {"(a+)+$": {}}, "additionalProperties": False}, {"a" * 40 + "!": 1}, "patternProperties"),
]


@pytest.mark.parametrize(("schema", "arguments", "sentence"), CASES)
def test_says_what_is_wrong(schema: Any, arguments: Any, sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        check_arguments(schema, arguments)


@pytest.mark.parametrize(
    "schema",
    [
        None,
        {},
        {"type": "object"},
        {"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"a": {"const": 1}}},
        {"$defs": {"one": {"const": 1}}, "properties": {"a": {"$ref": "#/$defs/one"}}},
    ],
)
def test_accepts_what_fits(schema: Any) -> None:
    check_arguments(schema, {"a": 1})


def test_a_pattern_made_to_explode_does_not() -> None:
    begun = time.perf_counter()
    with pytest.raises(Invalid, match="do not fit"):
        check_arguments({"properties": {"a": {"pattern": "^(a+)+$"}}}, {"a": "a" * 5_000 + "!"})
    assert time.perf_counter() - begun < 5


def test_the_order_of_keys_and_a_point_in_a_whole_number_mean_nothing() -> None:
    assert arguments_hash({"a": 1, "b": [2.0, {"c": 1e16}]}) == arguments_hash({"b": [2, {"c": 10**16}], "a": 1.0})


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(json_values, json_values)
def test_different_arguments_have_different_hashes(one: Any, other: Any) -> None:
    if arguments_hash({"a": one}) == arguments_hash({"a": other}):
        assert one == other
