"""The place where the two doors meet: what is too large for every page never reaches the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from console import asgi

CHUNK = b"x" * 65_536


def ask(chunks: Iterator[bytes], path: str = "/api/v1/turns") -> tuple[int, Any, int]:
    """Status, body, and how many bytes were taken, of a POST in these pieces."""
    taken, told = 0, []

    async def receive() -> dict[str, Any]:
        nonlocal taken
        chunk = next(chunks, b"")
        taken += len(chunk)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunk)}

    async def send(event: Any) -> None:
        told.append(event)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
    }  # fmt: skip
    asyncio.run(asgi.application(scope, receive, send))
    return told[0]["status"], orjson.loads(b"".join(event.get("body", b"") for event in told[1:])), taken


@pytest.mark.django_db(transaction=True)
def test_an_endless_body_is_refused_after_twelve_megabytes() -> None:
    status, body, taken = ask(iter(lambda: CHUNK, b""))
    assert (status, body["error"]["code"]) == (413, "request_too_large")
    assert taken <= asgi.MAX_BODY + 2 * len(CHUNK)
