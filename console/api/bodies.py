"""Request bodies: JSON in UTF-8, of bounded size and depth, that PostgreSQL can store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import orjson
from rest_framework.parsers import BaseParser

from console.api.errors import ApiError

MOST_BYTES = 256 * 1024
MOST_DEPTH = 32


class Json(BaseParser):
    """`application/json`; at most `most_bytes` of the view."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,  # noqa: ARG002
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        most = getattr((parser_context or {}).get("view"), "most_bytes", MOST_BYTES)
        raw = stream.read(most + 1)
        if len(raw) > most:
            raise too_large(most)
        try:
            raw.decode()
            value = orjson.loads(raw)
        except UnicodeDecodeError as error:
            raise ApiError(400, "invalid_encoding", "The body is not valid UTF-8.") from error
        except orjson.JSONDecodeError as error:
            raise ApiError(400, "malformed_json", f"The body is not JSON: {error}.") from error
        check(value)
        return value


def too_large(most: int) -> ApiError:
    return ApiError(413, "too_large", f"The body is larger than {most // 1024} KB.")


def check(value: Any, depth: int = 0) -> None:
    """:raises ApiError: nested too deep, or with the character NUL, which the database cannot store."""
    if depth > MOST_DEPTH:
        raise ApiError(400, "invalid", f"The body is nested deeper than {MOST_DEPTH} levels.")
    if isinstance(value, str):
        if "\x00" in value:
            raise ApiError(400, "invalid", "The body contains the character NUL.")
    elif isinstance(value, dict):
        for key, item in value.items():
            check(key, depth + 1)
            check(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            check(item, depth + 1)
