"""`/v1/…` in the wire formats of OpenAI and Anthropic.

`model` is a concrete model, `auto`, or `agent:<slug>` for a managed turn.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator
from typing import Any

from django.db import Error as DatabaseError
from redis import RedisError

from agents import pipeline, snapshot
from agents.asks import Blocked, Caller, Plain
from agents.attempts import Attempt
from agents.providers import Delta, Failed
from agents.routing import UnknownModel
from budgets.ledger import Exhausted, Limited, Unavailable
from console.gateway import managed
from console.gateway.doors import DOORS, Asked, Door, Events
from console.gateway.keys import Bearer, KeyRing
from console.gateway.wire import (
    Receive,
    Refusal,
    Scope,
    Send,
    headers_of,
    read_json,
    send_json,
    send_piece,
    start,
)
from console.money import money

log = logging.getLogger(__name__)
RETRY_AFTER = {"retry-after": "2"}
FINAL = {"x-should-retry": "false"}  # both official clients heed it
UNAVAILABLE = Refusal(
    503, "service_degraded", "The service is degraded. Try again shortly.", kind="server_error", headers=RETRY_AFTER
)
INTERNAL = Refusal(500, "internal_error", "Something went wrong here; it was written down.", kind="server_error")
keys = KeyRing()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """One request, answered or refused; never a stack trace."""
    path = scope["path"].rstrip("/")
    door = DOORS.get(path, DOORS["/v1/chat/completions"])
    try:
        await _route(path, door, scope, receive, send)
    except (ConnectionResetError, asyncio.CancelledError):
        raise
    except Exception as error:
        foreseen = refusal_for(error)
        if foreseen is None:
            log.exception("gateway error")
        answer = foreseen or INTERNAL
        await send_json(send, answer.status, door.refusal(answer), answer.headers)


async def _route(path: str, door: Door, scope: Scope, receive: Receive, send: Send) -> None:
    headers = headers_of(scope)
    now = await snapshot.current()
    bearer = await _authenticate(headers, now)
    if bearer is None and (newer := await snapshot.newer(now.epoch)):
        now = newer
        bearer = await _authenticate(headers, now)
    if bearer is None:
        raise Refusal(
            401, "invalid_api_key", "The API key is missing, unknown, expired or revoked.", kind="authentication_error"
        )
    if path in DOORS:
        if scope["method"] != "POST":
            raise Refusal(405, "method_not_allowed", "POST a request.", headers={"allow": "POST"})
        asked = door.read(await read_json(receive))
        if asked.managed:
            await managed.answer(door, asked, bearer, now, headers, send)
        else:
            await _plain(door, asked, _caller(bearer, now, headers), receive, send)
    elif path == "/v1/models" or path.startswith("/v1/models/"):
        await _models(path.removeprefix("/v1/models").lstrip("/"), bearer, now, send)
    else:
        raise Refusal(404, "not_found", f"There is no {path} here.")


async def _authenticate(headers: dict[str, str], now: snapshot.Snapshot) -> Bearer | None:
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        secret = headers.get("x-api-key", "")
    return await keys.find(secret.strip(), now) if secret else None


def _caller(bearer: Bearer, now: snapshot.Snapshot, headers: dict[str, str]) -> Caller:
    """On whose behalf the key calls. A foreign channel is answered as one that does not exist."""
    scope = now.scope(channel_of(bearer, now, headers), headers.get("x-pilothouse-topic", ""))
    case_ref = headers.get("x-pilothouse-case", "")[:200]
    live = scope.live_for(case_ref) if scope else None
    if scope is None or live is None:
        raise Refusal(
            404, "channel_not_found", "Name a channel that has a live release: x-pilothouse-channel: agent/channel."
        )
    if scope.paused:
        raise Refusal(503, "service_degraded", f"{scope.agent} is paused.", kind="server_error", headers=RETRY_AFTER)
    return Caller(
        scope=scope,
        live=live,
        epoch=now.epoch,
        case_ref=case_ref,
        key_prefix=bearer.prefix,
        key_limits=now.key_limits.get(bearer.prefix, ()),
    )


def channel_of(bearer: Bearer, now: snapshot.Snapshot, headers: dict[str, str], agent: str = "") -> str:
    """The channel that the header names and the key may use, else the key's own, else the agent's first; or ''."""
    agent = agent or bearer.agent
    if bearer.agent and agent != bearer.agent:
        return ""
    wanted = headers.get("x-pilothouse-channel", "")
    if wanted and "/" not in wanted and agent:
        wanted = f"{agent}/{wanted}"
    channel = wanted or bearer.channel or now.default_channel(agent)
    if bearer.channel and channel != bearer.channel:
        return ""
    return channel if not agent or channel.startswith(f"{agent}/") else ""


async def _plain(door: Door, asked: Asked, caller: Caller, receive: Receive, send: Send) -> None:
    plain = Plain(caller, asked.body, asked.model, door.WIRE)
    if not asked.stream:
        attempt = await pipeline.forward(plain)
        await send_json(send, 200, door.answer(attempt.wire_answer(), asked), told(attempt))
        return
    attempt, deltas = await pipeline.forward_stream(plain)
    await start(send, 200, "text/event-stream", told(attempt))
    await _until_disconnect(receive, _stream(send, deltas, door.events(asked)))


async def _stream(send: Send, deltas: AsyncIterator[Delta], events: Events) -> None:
    """Pass the pieces on; an answer that breaks off ends with an error event and without the end of a whole one."""
    try:
        async for delta in deltas:
            if piece := events.of(delta.raw):
                await send_piece(send, piece)
    except (Blocked, Failed) as error:
        await send_piece(send, events.broken(refusal_for(error) or UNAVAILABLE), last=True)
    else:
        await send_piece(send, events.end(), last=True)


async def _until_disconnect(receive: Receive, work: Any) -> None:
    """Run the work, and cancel it when the client goes away: what it cost until then is settled."""
    working, listening = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({working, listening}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        listening.cancel()
        if not working.done():
            working.cancel()
    await asyncio.gather(working, return_exceptions=not working.done())


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _models(name: str, bearer: Bearer, now: snapshot.Snapshot, send: Send) -> None:
    """What the key may name as `model`: its agents, `auto`, and the concrete models of their live releases."""
    entries: dict[str, dict[str, Any]] = {}
    for scope in now.scopes.values():
        if (
            scope.stable is None
            or (bearer.agent and scope.agent != bearer.agent)
            or (bearer.channel and scope.channel != bearer.channel)
        ):
            continue
        for model in (f"agent:{scope.agent}", "auto", *scope.stable.routes.models):
            entries[model] = {"id": model, "object": "model", "created": int(now.loaded_at), "owned_by": scope.agent}
    if not name:
        await send_json(send, 200, {"object": "list", "data": list(entries.values())})
    elif name in entries:
        await send_json(send, 200, entries[name])
    else:
        raise _no_model(name)


def told(attempt: Attempt) -> dict[str, str]:
    """What the response headers tell of a plain call; a stream's cost is known only after its headers have left."""
    cost = "unknown" if attempt.model.price.certainty == "unknown" else money(attempt.cost_nano)
    return {
        "x-pilothouse-call-id": attempt.hold.call_id,
        "x-pilothouse-release": attempt.caller.live.name,
        "x-pilothouse-model": attempt.model.name,
        "x-pilothouse-outcome": "answered",
        **({} if attempt.stream else {"x-pilothouse-cost-usd": cost}),
    }


def _no_model(name: str) -> Refusal:
    return Refusal(404, "model_not_found", f"The model {name[:120]!r} does not exist here, or this key may not use it.")


def refusal_for(error: BaseException) -> Refusal | None:
    """The one place where what can go wrong on the path becomes HTTP; None for what nobody foresaw."""
    match error:
        case Refusal():
            return error
        case Exhausted():
            seconds = max(1, int(error.resets_at.timestamp() - time.time()))
            message = f"The budget is spent. It resets at {snapshot.reset_time(error.resets_at)}."
            return Refusal(
                429,
                "insufficient_quota",
                message,
                kind="insufficient_quota",
                headers={"retry-after": str(seconds), **FINAL},
            )
        case Limited():
            soon = {"retry-after": str(max(1, math.ceil(error.retry_s)))}
            return Refusal(429, "rate_limit_exceeded", str(error), kind="requests", headers=soon)
        case Blocked():
            return Refusal(400, "content_filter", str(error), headers={"x-pilothouse-outcome": "refused", **FINAL})
        case UnknownModel():
            return _no_model(str(error))
        case Failed(kind="client"):
            return Refusal(error.status or 400, "provider_refused", str(error))
        case Failed():
            wait = str(max(1, round(error.retry_after or 2)))
            return Refusal(
                503,
                "service_degraded",
                "No model could answer. Try again shortly.",
                kind="server_error",
                headers={"retry-after": wait},
            )
        case Unavailable() | RedisError() | DatabaseError():
            return UNAVAILABLE
    return None
