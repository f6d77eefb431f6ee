"""Anthropic's messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from agents.wire.parts import FILE_TOKENS, PICTURE_TOKENS, Part, Place, since_last_answer, text_of

NAME = "messages"
ENDPOINT = "/messages"
BEYOND_TEXT = {"image": PICTURE_TOKENS, "document": FILE_TOKENS}


def asked(body: Mapping[str, Any]) -> Iterator[Part]:
    for n, message in since_last_answer(body["messages"]):
        content = message.get("content")
        if isinstance(content, str):
            yield Part((n,), "inbound", content)
            continue
        for m, block in enumerate(content or ()):
            kind = block.get("type")
            if kind == "text":
                yield Part((n, m), "inbound", str(block.get("text", "")))
            elif kind == "tool_result":
                yield Part((n, m), "tool", text_of(block.get("content")))
            elif kind == "document" and (source := block.get("source") or {}).get("type") == "text":
                yield Part((n, m), "passage", str(source.get("data", "")))


def asked_instead(body: Mapping[str, Any], place: Place, text: str) -> Mapping[str, Any]:
    messages = list(body["messages"])
    message = messages[place[0]]
    if len(place) == 1:
        messages[place[0]] = {**message, "content": text}
        return {**body, "messages": messages}
    blocks = list(message["content"])
    blocks[place[1]] = _block_instead(blocks[place[1]], text)
    messages[place[0]] = {**message, "content": blocks}
    return {**body, "messages": messages}


def _block_instead(block: Mapping[str, Any], text: str) -> Mapping[str, Any]:
    if block["type"] == "document":
        return {**block, "source": {**block["source"], "data": text}}
    if block["type"] == "text":
        return {**block, "text": text}
    content = block.get("content")
    others = [part for part in content if part.get("type") != "text"] if isinstance(content, list) else []
    return {**block, "content": [{"type": "text", "text": text}, *others]}


def facts(body: Mapping[str, Any]) -> dict[str, Any]:
    messages = body.get("messages") or []
    return {
        "input_chars": len(text_of(body.get("system"))) + sum(len(text_of(one.get("content"))) for one in messages),
        "turn_number": sum(message.get("role") == "user" for message in messages),
        "tools": bool(body.get("tools")),
    }


def output_limit(body: Mapping[str, Any], default: int) -> int:
    return int(body.get("max_tokens") or 0) or default


def bounded(body: Mapping[str, Any], default: int) -> Mapping[str, Any]:
    return body if body.get("max_tokens") else {**body, "max_tokens": default}


def unseen_tokens(body: Mapping[str, Any]) -> int:
    return sum(
        BEYOND_TEXT.get(str(block.get("type")), 0) + _inside(block.get("content"))
        for message in body.get("messages") or ()
        if isinstance(message.get("content"), list)
        for block in message["content"]
    )


def _inside(content: Any) -> int:
    return sum(BEYOND_TEXT.get(str(one.get("type")), 0) for one in content) if isinstance(content, list) else 0


def said(raw: Mapping[str, Any]) -> list[str]:
    return [str(raw["content"][n].get("text") or "") for n in _texts(raw)]


def said_instead(raw: Mapping[str, Any], texts: Mapping[int, str]) -> Mapping[str, Any]:
    blocks, places = list(raw["content"]), _texts(raw)
    for n, text in texts.items():
        blocks[places[n]] = {**blocks[places[n]], "text": text}
    return {**raw, "content": blocks}


def _texts(raw: Mapping[str, Any]) -> list[int]:
    return [n for n, block in enumerate(raw["content"]) if block.get("type") == "text"]


def piece(raw: Mapping[str, Any], text: str) -> dict[str, Any]:
    return {**raw, "delta": {"type": "text_delta", "text": text}}


def without_text(raw: Mapping[str, Any]) -> dict[str, Any]:
    return piece(raw, "")


def streamed(raw: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    start = {**raw, "content": [], "stop_reason": None, "stop_sequence": None}
    yield {"type": "message_start", "message": start}
    for index, block in enumerate(raw["content"]):
        yield from _block_streamed(index, block)
    ended = {"stop_reason": raw.get("stop_reason"), "stop_sequence": raw.get("stop_sequence")}
    yield {"type": "message_delta", "delta": ended, "usage": raw.get("usage") or {}}
    yield {"type": "message_stop"}


def _block_streamed(index: int, block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    empty, delta = dict(block), None
    if block.get("type") == "text":
        empty, delta = {**block, "text": ""}, {"type": "text_delta", "text": block.get("text") or ""}
    elif block.get("type") == "tool_use":
        written = orjson.dumps(block.get("input") or {}).decode()
        empty, delta = {**block, "input": {}}, {"type": "input_json_delta", "partial_json": written}
    yield {"type": "content_block_start", "index": index, "content_block": empty}
    if delta:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}
