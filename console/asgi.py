"""The two doors of one process: the gateway as plain ASGI, everything else through Django."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from agents import snapshot  # noqa: E402
from agents.providers import http  # noqa: E402
from console.gateway.app import app as gateway  # noqa: E402
from console.gateway.wire import Receive, Scope, Send, send_json  # noqa: E402

MAX_BODY = 12 * 1024 * 1024


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "http" and scope["path"].startswith("/v1/"):
        await gateway(scope, receive, send)
    else:
        await _django(scope, receive, send)


class _TooLarge(Exception):
    pass


async def _django(scope: Scope, receive: Receive, send: Send) -> None:
    """Django writes a body to disk before any view can refuse it, so what is too large for all of them ends here."""
    left = MAX_BODY

    async def bounded() -> Mapping[str, Any]:
        nonlocal left
        event = await receive()
        left -= len(event.get("body", b""))
        if left < 0:
            raise _TooLarge
        return event

    try:
        await django_application(dict(scope), bounded, send)
    except _TooLarge:
        message = f"The request is larger than {MAX_BODY // 1024 // 1024} MB."
        error = {"code": "request_too_large", "message": message, "details": {}}
        await send_json(send, 413, {"error": error}, {"connection": "close"})


async def _lifespan(receive: Receive, send: Send) -> None:
    keeper = None
    while True:
        event = await receive()
        if event["type"] == "lifespan.startup":
            keeper = asyncio.create_task(snapshot.keep("web"))
            await send({"type": "lifespan.startup.complete"})
        elif event["type"] == "lifespan.shutdown":
            if keeper:
                keeper.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await keeper
            await snapshot.leave()
            await http.close()
            await send({"type": "lifespan.shutdown.complete"})
            return
