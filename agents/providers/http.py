"""The HTTP session for providers: pooled, guarded against private addresses, never following redirects."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from django.conf import settings

from agents.providers.base import Failed

_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = WeakKeyDictionary()


class GuardedResolver(AbstractResolver):
    """Resolves names, and refuses those that lead to private addresses unless the host is allow-listed."""

    def __init__(self) -> None:
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if host not in settings.PROVIDER_ALLOWED_HOSTS:
            found = [result for result in found if ipaddress.ip_address(result["host"]).is_global]
            if not found:
                raise OSError(f"{host} is a private address; list it in PILOTHOUSE_PROVIDER_ALLOWED_HOSTS to allow it.")
        return found

    async def close(self) -> None:
        await self._inner.close()


def check_literal(url: str) -> None:
    """Refuse an address written as numbers, which no resolver sees. :raises Failed: when it is private."""
    host = urlsplit(url).hostname or ""
    if host in settings.PROVIDER_ALLOWED_HOSTS:
        return
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return
    if not address.is_global:
        raise Failed(
            "connect", f"{host} is a private address; list it in PILOTHOUSE_PROVIDER_ALLOWED_HOSTS.", sent=False
        )


def session() -> aiohttp.ClientSession:
    """The running loop's session."""
    loop = asyncio.get_running_loop()
    found = _sessions.get(loop)
    if found is None or found.closed:
        connector = aiohttp.TCPConnector(
            limit=1_000, limit_per_host=500, resolver=GuardedResolver(), keepalive_timeout=30
        )
        found = aiohttp.ClientSession(connector=connector, auto_decompress=True, cookie_jar=aiohttp.DummyCookieJar())
        _sessions[loop] = found
    return found


async def close() -> None:
    """Close the running loop's session."""
    found = _sessions.pop(asyncio.get_running_loop(), None)
    if found is not None:
        await found.close()
