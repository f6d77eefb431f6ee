"""Arguments of a proposed action: their hash, to which an approval is bound, and whether they fit its JSON Schema.

A schema comes from outside. It never fetches another one, and its patterns run on an engine without backtracking.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import jsonschema
import re2
from jsonschema import validators
from referencing import Registry
from referencing.exceptions import Unresolvable

MOST_CHARS = 50_000


class Invalid(Exception):
    """The decision, or what is put before people, lacks something; the message says what."""


def arguments_hash(arguments: Any) -> str:
    """SHA-256 of the canonical JSON: sorted keys, no spaces, whole numbers without a point."""
    return hashlib.sha256(_json(_canonical(arguments)).encode()).hexdigest()


def check_arguments(schema: Any, arguments: Any) -> None:
    """:raises Invalid: not an object, not storable as JSON, or not what the schema describes."""
    if not isinstance(arguments, Mapping):
        raise Invalid("The arguments of an action are a JSON object.")
    _check_json(arguments)
    if not schema:
        return
    _check_json(schema)
    if "patternProperties" in _json(schema):
        raise Invalid("The action's schema uses patternProperties, which is not supported.")
    try:
        _check(schema, arguments)
    except jsonschema.ValidationError as error:
        raise Invalid(f"The arguments do not fit the action's schema: {error.message[:300]}") from error
    except Unresolvable as error:
        raise Invalid("The action's schema refers to another document, and none is fetched.") from error
    except (jsonschema.SchemaError, re2.error, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise Invalid("The action's schema is not a JSON Schema.") from error


def _check(schema: Any, arguments: Any) -> None:
    base = validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    base.check_schema(schema)
    error = next(_linear(base)(schema, registry=Registry()).iter_errors(arguments), None)
    if error is not None:
        raise error


@lru_cache(maxsize=16)
def _linear(base: Any) -> Any:
    return validators.extend(base, {"pattern": _pattern})  # type: ignore[no-untyped-call]


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
    if validator.is_type(instance, "string") and not re2.search(pattern, instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def _check_json(value: Any) -> None:
    try:
        text = _json(value)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid("An action is described in plain JSON.") from error
    if len(text) > MOST_CHARS:
        raise Invalid(f"An action is described in at most {MOST_CHARS:,} characters.")
    if "\\u0000" in json.dumps(value):
        raise Invalid("An action cannot contain the character NUL.")


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _canonical(item) for key, item in value.items()}
    return [_canonical(item) for item in value] if isinstance(value, list | tuple) else value
