"""The limit: a plain ASGI app that forwards a body to the provider with aiohttp, and nothing else."""

from __future__ import annotations

import os
from typing import Any

import aiohttp

TARGET = os.environ.get("BENCH_UPSTREAM", "")
_session: aiohttp.ClientSession | None = None


async def app(scope: Any, receive: Any, send: Any) -> None:
    global _session  # noqa: PLW0603  one pool of connections for the process
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": f"{event['type']}.complete"})
            if event["type"] == "lifespan.shutdown":
                return
    if _session is None:
        _session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1_000))
    body, more = b"", True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    async with _session.post(TARGET, data=body, headers={"content-type": "application/json"}) as response:
        answer = await response.read()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
