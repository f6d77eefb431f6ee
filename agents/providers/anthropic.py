"""Anthropic's dialect: its messages, whole and streamed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson

from agents import wire
from agents.parts import Model
from agents.providers import http
from agents.providers.base import NOWHERE, Completion, Delta, Failed, Request, Usage, estimated, plausible

VERSION = "2023-06-01"


async def complete(model: Model, request: Request, timeout_s: float) -> Completion:
    """One whole answer. :raises Failed: on any other outcome than a well-formed one."""
    raw = await http.post(*_asking(model, request), timeout_s)
    try:
        answer = orjson.loads(raw)
        texts = wire.of("messages").said(answer)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise Failed("garbage", "The provider answered 200 with something that is not a message.") from error
    text = "\n".join(texts)
    usage = usage_of(answer.get("usage")) or estimated(request, text)
    return Completion(text, usage, str(answer.get("stop_reason") or ""), answer)


async def stream(model: Model, request: Request, timeout_s: float) -> AsyncIterator[Delta]:
    """The events as they come. A stream that ends without `message_stop` or a stop reason raises `Failed("cut")`."""
    url, headers, body = _asking(model, request)
    told: dict[str, Any] = {}
    finished = False
    async for line in http.post_for_events(url, headers, {**body, "stream": True}, timeout_s):
        delta = _delta(line, told)
        finished = finished or (delta.choice == NOWHERE and bool(delta.finish))
        yield delta
        if delta.raw["type"] == "message_stop":
            return
    if not finished:
        raise Failed("cut", "The provider ended the stream before the answer was complete.")


def _asking(model: Model, request: Request) -> tuple[str, dict[str, str], dict[str, Any]]:
    asked = wire.of(request.wire)
    body = {**asked.bounded(request.body, model.max_output_tokens), "model": model.upstream}
    headers = {"anthropic-version": VERSION, **model.headers}
    if secret := model.secret():
        headers["x-api-key"] = secret
    return f"{model.base_url}{asked.ENDPOINT}", headers, body


def _delta(line: bytes, told: dict[str, Any]) -> Delta:
    """One event; `told` gathers the usage, which a stream tells in two halves."""
    try:
        event = orjson.loads(line)
        kind = str(event["type"])
        if kind == "error":
            raise Failed("cut", str((event.get("error") or {}).get("message") or "The provider broke off.")[:300])
        if kind in ("content_block_start", "content_block_delta", "content_block_stop"):
            return _of_block(event, kind)
        if kind == "message_start":
            told.update(event["message"].get("usage") or {})
            return Delta(event, usage=usage_of(told), choice=NOWHERE)
        if kind == "message_delta":
            told.update({name: value for name, value in (event.get("usage") or {}).items() if value is not None})
            finish = str(event["delta"].get("stop_reason") or "stop")
            return Delta(event, usage=usage_of(told), finish=finish, choice=NOWHERE)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failed("garbage", "The provider streamed something that is not an event.") from error
    return Delta(event, choice=NOWHERE)


def _of_block(event: Mapping[str, Any], kind: str) -> Delta:
    index = int(event["index"])
    delta = event.get("delta") or {}
    text = str(delta.get("text") or "") if delta.get("type") == "text_delta" else ""
    return Delta(event, text, finish="block" if kind == "content_block_stop" else "", choice=index)


def usage_of(told: Any) -> Usage | None:
    """The provider's usage where it is plausible. Its input_tokens are without those of caches; ours are with them."""
    if not isinstance(told, Mapping):
        return None
    try:
        read, written = int(told.get("cache_read_input_tokens") or 0), int(told.get("cache_creation_input_tokens") or 0)
        for_an_hour = int((told.get("cache_creation") or {}).get("ephemeral_1h_input_tokens") or 0)
        paid, output = int(told["input_tokens"]) + read + written, int(told.get("output_tokens") or 0)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    if not (0 <= for_an_hour <= written and plausible(paid, output, read, written)):
        return None
    return Usage(paid, output, read, written - for_an_hour, for_an_hour)
