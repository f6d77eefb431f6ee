"""Entries of the call log on their way to Postgres: packed into one field, and beside it what takes their place."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import orjson

STREAM = "ph:calls"
ENTRY = b"entry"


def pack(entry: Mapping[str, str]) -> bytes:
    return orjson.dumps(entry)


def unpack(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    """Fields beside the packed ones stand above them: `late`, and what an expiry knows better. What is not packed (an
    older entry, or one that is not ours) is taken as it is.
    """
    packed: dict[str, str] = {}
    beside = dict(fields)
    with suppress(KeyError, orjson.JSONDecodeError):
        packed = orjson.loads(fields[ENTRY])
        del beside[ENTRY]
    if not beside:
        return packed
    return {**packed, **{key.decode(): value.decode("utf-8", "replace") for key, value in beside.items()}}
