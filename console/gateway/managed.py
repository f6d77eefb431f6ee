"""`agent:<slug>`: a managed turn behind the wire formats of the gateway.

It has its case, its trace and its escalation like any other.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from agents import cases, private, turns
from agents.connections import in_database
from agents.models import Channel, Turn
from agents.providers.base import text_of
from agents.snapshot import Snapshot
from console.gateway import app
from console.gateway.doors import Asked, Door
from console.gateway.keys import Bearer
from console.gateway.wire import Refusal, Send, send_json, send_piece, start
from console.money import money

PIECE = 48
FINISH = {"refused": "content_filter"}


async def answer(door: Door, asked: Asked, bearer: Bearer, now: Snapshot, headers: dict[str, str], send: Send) -> None:
    """Run the turn here and answer with what the customer may see; the outcome stands in `x-pilothouse-outcome`."""
    agent = asked.model.removeprefix("agent:")
    channel = app.channel_of(bearer, now, headers, agent)
    if channel not in now.scopes or agent not in now.agents:
        raise Refusal(
            404, "model_not_found", f"The agent {agent[:60]!r} does not exist here, or this key may not use it."
        )
    turn = await in_database(_open, door.chat(asked), bearer, now, channel, headers)
    await turns.run(turn.pk)
    turn = await in_database(_ended, turn.pk)
    _refuse(turn)
    told = {
        "x-pilothouse-call-id": str(turn.pk),
        "x-pilothouse-release": str(turn.release or ""),
        "x-pilothouse-outcome": turn.outcome,
        "x-pilothouse-model": asked.model,
        "x-pilothouse-cost-usd": money(turn.cost_nano),
    }
    if asked.stream:
        await _stream(turn, door, asked, told, send)
    else:
        await send_json(send, 200, door.answer_chat(_completion(turn, asked.model), asked), told)


def _open(body: Mapping[str, Any], bearer: Bearer, now: Snapshot, channel: str, headers: dict[str, str]) -> Turn:
    """The turn of the last user message.

    Without a case header it opens a case of its own, with what came before in it.
    """
    said = [
        (message["role"], text_of(message.get("content")).replace("\x00", ""))
        for message in body["messages"]
        if message["role"] in ("user", "assistant")
    ]
    if not said or said[-1][0] != "user":
        raise Refusal(400, "invalid_request", "The last message is the customer's: role user.")
    ref = headers.get("x-pilothouse-case", "")[:200]
    before = [{"who": "customer" if who == "user" else "agent", "text": text[:4_000]} for who, text in said[:-1][-12:]]
    try:
        return cases.open_turn(
            Channel.objects.select_related("agent").get(pk=now.scopes[channel].channel_id),
            ref=ref or f"gw-{uuid.uuid4().hex[:16]}",
            message=said[-1][1],
            topic=headers.get("x-pilothouse-topic", ""),
            metadata={} if ref else {"history": before},
            tester=bearer.tester,
            key_prefix=bearer.prefix,
            enqueue=False,
        )
    except cases.Invalid as error:
        raise Refusal(400, "invalid_request", str(error)) from error
    except cases.NoRelease as error:
        raise Refusal(404, "channel_not_found", str(error)) from error


def _ended(pk: uuid.UUID) -> Turn:
    return private.restored(Turn.objects.select_related("release__agent", "case").get(pk=pk))


def _refuse(turn: Turn) -> None:
    """Refusals by guardrail and budget are OpenAI errors on this door, with the customer's line as their message."""
    told = {"x-pilothouse-outcome": turn.outcome, "x-pilothouse-call-id": str(turn.pk)}
    if turn.outcome == Turn.Outcome.REFUSED and turn.reason == "budget_spent":
        raise Refusal(429, "insufficient_quota", turn.reply, kind="insufficient_quota", headers=told | app.FINAL)
    if turn.outcome == Turn.Outcome.REFUSED and turn.reason.startswith("guardrail"):
        raise Refusal(400, "content_filter", turn.reply, headers=told | app.FINAL)
    if turn.outcome in (Turn.Outcome.FAILED, Turn.Outcome.PENDING):
        raise app.UNAVAILABLE


def _completion(turn: Turn, model: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": turn.reply}
    choice = {"index": 0, "message": message, "finish_reason": FINISH.get(turn.outcome, "stop"), "logprobs": None}
    return {**_head(turn, model, "chat.completion"), "choices": [choice], "usage": _usage(turn)}


async def _stream(turn: Turn, door: Door, asked: Asked, told: dict[str, str], send: Send) -> None:
    """The answer was screened whole before its first piece leaves."""
    events = door.events_of_chat(asked)
    await start(send, 200, "text/event-stream", told)
    for chunk in _chunks(turn, asked.model):
        if piece := events.of(chunk):
            await send_piece(send, piece)
    await send_piece(send, events.end(), last=True)


def _chunks(turn: Turn, model: str) -> Iterator[dict[str, Any]]:
    head = _head(turn, model, "chat.completion.chunk")
    pieces = [turn.reply[n : n + PIECE] for n in range(0, len(turn.reply), PIECE)] or [""]
    for n, piece in enumerate(pieces):
        delta = {"content": piece} | ({"role": "assistant"} if n == 0 else {})
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    finish = FINISH.get(turn.outcome, "stop")
    yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
    yield {**head, "choices": [], "usage": _usage(turn)}


def _head(turn: Turn, model: str, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{turn.pk.hex}", "object": kind, "created": int(time.time()), "model": model}


def _usage(turn: Turn) -> dict[str, int]:
    """Tokens of all attempts, as the path wrote them down."""
    called = [step["detail"] for step in turn.trace if step["step"] == "called"]
    output = sum(int(detail.get("tokens", 0)) for detail in called)
    prompt = sum(int(detail.get("input_tokens", 0)) for detail in called)
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
