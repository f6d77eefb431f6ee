"""`/v1/…` in OpenAI's wire format. `model` is a concrete model, `auto`, or `agent:<slug>` for a managed turn."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from django.db import Error as DatabaseError
from redis import RedisError

from agents import pipeline, snapshot
from agents.asks import Blocked, Caller, Plain
from agents.attempts import Attempt, money
from agents.providers import Delta, Failed
from agents.routing import UnknownModel
from budgets.ledger import Exhausted, Unavailable
from console.gateway import managed
from console.gateway.keys import Bearer, KeyRing
from console.gateway.wire import (
    Receive,
    Refusal,
    Scope,
    Send,
    end_events,
    headers_of,
    read_json,
    send_event,
    send_json,
    start,
)

log = logging.getLogger(__name__)
RETRY_AFTER = {"retry-after": "2"}
UNAVAILABLE = Refusal(
    503, "service_degraded", "The service is degraded. Try again shortly.", kind="server_error", headers=RETRY_AFTER
)
INTERNAL = Refusal(500, "internal_error", "Something went wrong here; it was written down.", kind="server_error")
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
keys = KeyRing()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """One request, answered or refused; never a stack trace."""
    try:
        await _route(scope, receive, send)
    except Refusal as refusal:
        await send_json(send, refusal.status, refusal.body, refusal.headers)
    except (ConnectionResetError, asyncio.CancelledError):
        raise
    except Exception as error:
        foreseen = refusal_for(error)
        if foreseen is None:
            log.exception("gateway error")
        answer = foreseen or INTERNAL
        await send_json(send, answer.status, answer.body, answer.headers)


async def _route(scope: Scope, receive: Receive, send: Send) -> None:
    path, method = scope["path"].rstrip("/"), scope["method"]
    headers = headers_of(scope)
    now = await snapshot.current()
    bearer = await _authenticate(headers, now)
    if path == "/v1/chat/completions":
        if method != "POST":
            raise Refusal(405, "method_not_allowed", "POST a chat completion.", headers={"allow": "POST"})
        body = _checked(await read_json(receive))
        if body["model"].startswith("agent:"):
            await managed.answer(body, bearer, now, headers, send)
        else:
            await _plain(body, bearer, now, headers, receive, send)
    elif path == "/v1/models" or path.startswith("/v1/models/"):
        await _models(path.removeprefix("/v1/models").lstrip("/"), bearer, now, send)
    else:
        raise Refusal(404, "not_found", f"There is no {path} here.")


async def _authenticate(headers: dict[str, str], now: snapshot.Snapshot) -> Bearer:
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    bearer = await keys.find(secret.strip(), now) if scheme.lower() == "bearer" and secret else None
    if bearer is None:
        raise Refusal(
            401, "invalid_api_key", "The API key is missing, unknown, expired or revoked.", kind="authentication_error"
        )
    return bearer


def _checked(body: dict[str, Any]) -> dict[str, Any]:
    """The parts of the body that the gateway itself depends on; everything else passes through as it came."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise Refusal(400, "invalid_request", "model is missing.")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "invalid_request", "messages is a list with at least one message.")
    if len(messages) > 2_000:
        raise Refusal(400, "invalid_request", "messages holds at most 2,000 messages.")
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise Refusal(400, "invalid_request", "Every message is an object with a role.")
        content = message.get("content")
        if not isinstance(content, (str, list, type(None))) or not all(
            isinstance(part, dict) for part in content or () if not isinstance(content, str)
        ):
            raise Refusal(400, "invalid_request", "A message's content is a string or a list of parts.")
    for name, most in (("max_tokens", 1_000_000), ("max_completion_tokens", 1_000_000), ("n", 16)):
        value = body.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most):
            raise Refusal(400, "invalid_request", f"{name} is a whole number from 1 to {most:,}.")
    if not isinstance(body.get("stream"), (bool, type(None))):
        raise Refusal(400, "invalid_request", "stream is true or false.")
    if not isinstance(body.get("stream_options"), (dict, type(None))):
        raise Refusal(400, "invalid_request", "stream_options is an object.")
    return body


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


async def _plain(
    body: dict[str, Any], bearer: Bearer, now: snapshot.Snapshot, headers: dict[str, str], receive: Receive, send: Send
) -> None:
    plain = Plain(
        _caller(bearer, now, headers), {k: v for k, v in body.items() if k not in ("model", "stream")}, body["model"]
    )
    if not body.get("stream"):
        attempt = await pipeline.forward(plain)
        await send_json(send, 200, attempt.wire_answer(), told(attempt))
        return
    attempt, deltas = await pipeline.forward_stream(plain)
    wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    await start(send, 200, "text/event-stream", told(attempt))
    await _until_disconnect(receive, _stream(send, deltas, wants_usage=wants_usage))


async def _stream(send: Send, deltas: AsyncIterator[Delta], *, wants_usage: bool) -> None:
    """Pass the pieces on; an answer that breaks off ends with an error event and without `[DONE]`."""
    try:
        async for delta in deltas:
            if delta.raw.get("choices") or wants_usage:
                await send_event(send, delta.raw)
    except (Blocked, Failed) as error:
        refusal = refusal_for(error) or UNAVAILABLE
        await send_event(send, refusal.body)
        await end_events(send, done=False)
    else:
        await end_events(send, done=True)


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
                429, "insufficient_quota", message, kind="insufficient_quota", headers={"retry-after": str(seconds)}
            )
        case Blocked():
            return Refusal(400, "content_filter", str(error), headers={"x-pilothouse-outcome": "refused"})
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
