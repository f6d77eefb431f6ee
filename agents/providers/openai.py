"""The OpenAI-compatible dialect: what callers send reaches the provider, what it answers comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import orjson

from agents import wire
from agents.parts import Model
from agents.providers import http
from agents.providers.base import NOWHERE, Completion, Delta, Failed, Request, Usage, estimated, plausible, text_of


async def complete(model: Model, request: Request, timeout_s: float) -> Completion:
    """One whole answer. :raises Failed: on any other outcome than a well-formed one."""
    raw = await http.post(*_asking(model, request), timeout_s)
    return _completion(raw, request)


async def stream(model: Model, request: Request, timeout_s: float) -> AsyncIterator[Delta]:
    """The chunks as they come. A stream that ends without `[DONE]` or a finish reason raises `Failed("cut")`."""
    url, headers, body = _asking(model, request)
    told = {**(request.body.get("stream_options") or {}), "include_usage": True}
    finished = False
    async for line in http.post_for_events(url, headers, {**body, "stream": True, "stream_options": told}, timeout_s):
        if line == b"[DONE]":
            return
        for delta in _deltas(line):
            finished = finished or bool(delta.finish)
            yield delta
    if not finished:
        raise Failed("cut", "The provider ended the stream before the answer was complete.")


def _asking(model: Model, request: Request) -> tuple[str, dict[str, str], dict[str, Any]]:
    asked = wire.of(request.wire)
    body = {**asked.bounded(request.body, model.max_output_tokens), "model": model.upstream}
    if request.wire == "chat":
        body["stream"] = False
    headers = dict(model.headers)
    if secret := model.secret():
        headers["authorization"] = f"Bearer {secret}"
    return f"{model.base_url}{asked.ENDPOINT}", headers, body


def _completion(raw: bytes, request: Request) -> Completion:
    """A whole answer to chat or embeddings, which must look like one."""
    try:
        answer = orjson.loads(raw)
        texts, finish = _said(answer) if request.wire == "chat" else ([], str(answer["data"][0]["object"]))
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise Failed("garbage", "The provider answered 200 with something that is not an answer.") from error
    usage = usage_of(answer.get("usage")) or estimated(request, "\n".join(texts))
    return Completion(texts[0] if texts else "", usage, finish, answer)


def _said(answer: Mapping[str, Any]) -> tuple[list[str], str]:
    texts = [text_of(each["message"].get("content")) for each in answer["choices"]]
    return texts, str(answer["choices"][0].get("finish_reason") or "")


def _deltas(line: bytes) -> list[Delta]:
    """The chunk, one piece for each choice in it."""
    try:
        chunk = orjson.loads(line)
        if chunk.get("error"):
            raise Failed("cut", str(chunk["error"])[:300])
        choices, usage = chunk.get("choices") or [], usage_of(chunk.get("usage"))
        alone = [chunk] if len(choices) == 1 else [{**chunk, "choices": [choice]} for choice in choices]
        pieces = [_piece(raw, raw["choices"][0]) for raw in alone]
    except (ValueError, AttributeError, TypeError) as error:
        raise Failed("garbage", "The provider streamed something that is not a chunk.") from error
    if not pieces:
        return [Delta(chunk, usage=usage, choice=NOWHERE)]
    return [*pieces[:-1], replace(pieces[-1], usage=usage)]


def _piece(raw: Mapping[str, Any], choice: Mapping[str, Any]) -> Delta:
    delta = choice.get("delta") or {}
    return Delta(
        raw,
        text_of(delta.get("content")),
        finish=str(choice.get("finish_reason") or ""),
        choice=int(choice.get("index") or 0),
        breaks=bool(delta.get("tool_calls")),
    )


def usage_of(told: Any) -> Usage | None:
    """The provider's usage where it is plausible."""
    if not isinstance(told, Mapping):
        return None
    try:
        details = told.get("prompt_tokens_details") or {}
        usage = Usage(
            int(told["prompt_tokens"]), int(told.get("completion_tokens") or 0), int(details.get("cached_tokens") or 0)
        )
    except (KeyError, TypeError, ValueError):
        return None
    return usage if plausible(usage.input_tokens, usage.output_tokens, usage.cached_tokens) else None
