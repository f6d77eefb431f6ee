"""HTTP on the gateway: reading a request, answering it, and saying no."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
MAX_BODY = 8 * 1024 * 1024


class Refusal(Exception):
    """An answer that is an error, in OpenAI's shape."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.kind = status, code, message, kind
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.kind, "param": None, "code": self.code}}


def headers_of(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


async def read_json(receive: Receive) -> dict[str, Any]:
    """The request's JSON object. :raises Refusal: when it is too large, not JSON, not UTF-8 or not an object."""
    body, size, more = [], 0, True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ConnectionResetError
        chunk = event.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY:
            raise Refusal(413, "request_too_large", f"The request is larger than {MAX_BODY // 1024 // 1024} MB.")
        body.append(chunk)
        more = event.get("more_body", False)
    try:
        parsed = orjson.loads(b"".join(body))
    except orjson.JSONDecodeError as error:
        raise Refusal(400, "invalid_json", f"The body is not valid JSON in UTF-8: {error}") from error
    if not isinstance(parsed, dict):
        raise Refusal(400, "invalid_json", "The body is a JSON object.")
    return parsed


async def send_json(send: Send, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
    await start(send, status, "application/json", headers)
    await send({"type": "http.response.body", "body": orjson.dumps(body)})


async def start(send: Send, status: int, content_type: str, headers: Mapping[str, str] | None = None) -> None:
    lines = [(b"content-type", content_type.encode()), (b"cache-control", b"no-store")]
    lines += [(name.encode(), value.encode("latin-1", "replace")) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})


async def send_piece(send: Send, piece: bytes, *, last: bool = False) -> None:
    """Some server-sent events."""
    await send({"type": "http.response.body", "body": piece, "more_body": not last})
