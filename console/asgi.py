"""The two doors of one process: the gateway as plain ASGI, everything else through Django."""

from __future__ import annotations

import asyncio
import contextlib
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from agents import snapshot  # noqa: E402
from agents.providers import http  # noqa: E402
from console.gateway.app import app as gateway  # noqa: E402
from console.gateway.wire import Receive, Scope, Send  # noqa: E402


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "http" and scope["path"].startswith("/v1/"):
        await gateway(scope, receive, send)
    else:
        await django_application(dict(scope), receive, send)


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
