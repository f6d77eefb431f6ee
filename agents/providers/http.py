"""HTTP to providers: pooled, bounded, guarded against private addresses, never following redirects."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver, ResolveResult
from django.conf import settings

from agents.providers.base import STREAM_S, Failed

MAX_ANSWER_BYTES = 8 * 1024 * 1024
CONNECT_S = 3.0
SILENCE_S = 30.0
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
    host, private = _literal(url)
    if private and host not in settings.PROVIDER_ALLOWED_HOSTS:
        raise Failed(
            "connect", f"{host} is a private address; list it in PILOTHOUSE_PROVIDER_ALLOWED_HOSTS.", sent=False
        )


@lru_cache(maxsize=1_024)
def _literal(url: str) -> tuple[str, bool]:
    """The host, and whether it is a private address written as numbers."""
    host = urlsplit(url).hostname or ""
    try:
        return host, not ipaddress.ip_address(host).is_global
    except ValueError:
        return host, False


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


async def post(url: str, headers: Mapping[str, str], body: Mapping[str, Any], timeout_s: float) -> bytes:
    """The body of a 200. :raises Failed: on any other outcome."""
    try:
        async with session().post(**_asking(url, headers, body, timeout_s, timeout_s)) as response:
            raw = await _read(response)
            _check(response, raw)
            return raw
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise _failure(error) from error


async def post_for_events(
    url: str, headers: Mapping[str, str], body: Mapping[str, Any], timeout_s: float
) -> AsyncIterator[bytes]:
    """The payloads of the server-sent events of a 200. :raises Failed: on any other outcome, and when it breaks off.

    A stream may take long as a whole; what must not take long is the silence between two of its pieces.
    """
    try:
        async with session().post(**_asking(url, headers, body, STREAM_S, timeout_s)) as response:
            if response.status != 200:
                _check(response, await _read(response))
            async for line in _lines(response):
                yield line
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise _failure(error) from error


def _asking(
    url: str, headers: Mapping[str, str], body: Mapping[str, Any], total_s: float, timeout_s: float
) -> dict[str, Any]:
    check_literal(url)
    return {
        "url": url,
        "data": orjson.dumps(body),
        "headers": {"content-type": "application/json", **headers},
        "allow_redirects": False,
        "timeout": aiohttp.ClientTimeout(total=total_s, connect=CONNECT_S, sock_read=min(timeout_s, SILENCE_S)),
    }


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The whole body, bounded."""
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise Failed("garbage", "The provider's answer is larger than 8 MB.")
    return bytes(body)


def _check(response: aiohttp.ClientResponse, raw: bytes) -> None:
    if response.status == 200:
        return
    status = response.status
    kinds = {429: "rate_limit", 408: "timeout"}
    kind = kinds.get(status) or ("server" if status >= 500 else "client" if status in (400, 413, 422) else "server")
    raise Failed(
        kind, _message(raw) or f"The provider answered {status}.", status=status, retry_after=_retry_after(response)
    )


def _message(raw: bytes) -> str:
    try:
        error = orjson.loads(raw).get("error")
    except (orjson.JSONDecodeError, AttributeError):
        return ""
    return str(error.get("message", "") if isinstance(error, dict) else error or "")[:300]


def _retry_after(response: aiohttp.ClientResponse) -> float:
    try:
        return max(0.0, float(response.headers.get("retry-after", "0")))
    except ValueError:
        return 0.0


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The payloads of server-sent `data:` lines, whatever way the bytes were cut."""
    buffer = b""
    async for chunk in response.content.iter_any():
        buffer += chunk
        if len(buffer) > MAX_ANSWER_BYTES:
            raise Failed("garbage", "The provider streamed a line larger than 8 MB.")
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
    if buffer.startswith(b"data:"):
        yield buffer[5:].strip()


def _failure(error: Exception) -> Failed:
    if isinstance(error, Failed):
        return error
    if isinstance(error, aiohttp.ClientConnectorError):
        return Failed(
            "connect", f"The provider cannot be reached: {error.os_error.strerror or error.os_error}", sent=False
        )
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Failed("connect", "The provider did not accept the connection in time.", sent=False)
    if isinstance(error, aiohttp.InvalidURL):
        return Failed("connect", "The provider's address is not one that can be called.", sent=False)
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return Failed("timeout", "The provider did not answer in time.")
    return Failed("cut", f"The connection to the provider broke: {type(error).__name__}.")
