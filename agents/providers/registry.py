"""Which code speaks which dialect, and the translation where the caller speaks another one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from agents.parts import Model
from agents.providers import anthropic, local, openai
from agents.providers.base import NOWHERE, Completion, Delta, Failed, Request
from agents.wire import Untranslatable, bridge

SPOKEN = {"local": "chat", "openai": "chat", "anthropic": "messages"}


async def complete(model: Model, request: Request, timeout_s: float) -> Completion:
    """One whole answer, in the request's wire format. :raises Failed: when there is none."""
    spoken = _spoken(model, request)
    if spoken == request.wire:
        return await _complete(model, request, timeout_s)
    done = await _complete(model, _translated(request, spoken), timeout_s)
    back = bridge.answer_to_chat if request.wire == "chat" else bridge.answer_to_messages
    return replace(done, raw=back(done.raw))


async def stream(model: Model, request: Request, timeout_s: float) -> AsyncIterator[Delta]:
    """The answer in pieces, in the request's wire format. :raises Failed: before or between pieces."""
    spoken = _spoken(model, request)
    if spoken == request.wire:
        async for delta in _stream(model, request, timeout_s):
            yield delta
        return
    deltas = _stream(model, _translated(request, spoken), timeout_s)
    translated = _to_chat(deltas) if request.wire == "chat" else _to_messages(deltas)
    async for delta in translated:
        yield delta


async def _complete(model: Model, request: Request, timeout_s: float) -> Completion:
    if model.dialect == "local":
        return local.complete(request)
    if model.dialect == "anthropic":
        return await anthropic.complete(model, request, timeout_s)
    return await openai.complete(model, request, timeout_s)


async def _stream(model: Model, request: Request, timeout_s: float) -> AsyncIterator[Delta]:
    if model.dialect == "local":
        for delta in local.stream(request):
            yield delta
        return
    speak = anthropic.stream if model.dialect == "anthropic" else openai.stream
    async for delta in speak(model, request, timeout_s):
        yield delta


def _spoken(model: Model, request: Request) -> str:
    """The format in which this model takes the request; embeddings have one only."""
    return request.wire if request.wire == "embeddings" else SPOKEN[model.dialect]


def _translated(request: Request, spoken: str) -> Request:
    translate: Callable[[Any], dict[str, Any]]
    translate = bridge.chat_to_messages if spoken == "messages" else bridge.messages_to_chat
    try:
        return replace(request, body=translate(request.body), wire=spoken)
    except Untranslatable as error:
        raise Failed("client", str(error), status=400, sent=False) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Failed("client", "The request is not well-formed.", status=400, sent=False) from error


async def _to_chat(deltas: AsyncIterator[Delta]) -> AsyncIterator[Delta]:
    into = bridge.ToChat()
    async for delta in deltas:
        for chunk in _sound(into.chunks(delta.raw)):
            choices = chunk["choices"]
            if not choices:
                yield Delta(chunk, usage=delta.usage, choice=NOWHERE)
                continue
            said = choices[0]["delta"]
            finish, breaks = choices[0]["finish_reason"] or "", "tool_calls" in said
            yield Delta(chunk, said.get("content") or "", finish=finish, breaks=breaks)


async def _to_messages(deltas: AsyncIterator[Delta]) -> AsyncIterator[Delta]:
    into, usage = bridge.ToMessages(), None
    async for delta in deltas:
        usage = delta.usage or usage
        for event in _sound(into.events(delta.raw)):
            yield _of_event(event)
    for event in into.end():
        yield replace(_of_event(event), usage=usage if event["type"] == "message_delta" else None)


def _of_event(event: dict[str, Any]) -> Delta:
    kind = event["type"]
    if not kind.startswith("content_block"):
        return Delta(event, finish="stop" if kind == "message_delta" else "", choice=NOWHERE)
    text = event["delta"].get("text", "") if kind == "content_block_delta" else ""
    return Delta(event, text, finish="block" if kind == "content_block_stop" else "", choice=event["index"])


def _sound(pieces: Any) -> Any:
    """What could be translated; a piece that is not what it says it is breaks the stream off."""
    try:
        yield from pieces
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Failed("garbage", "The provider streamed something that cannot be understood.") from error
