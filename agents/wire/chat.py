"""OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from agents.wire.parts import FILE_TOKENS, PICTURE_TOKENS, Part, Place, since_last_answer, text_of

NAME = "chat"
ENDPOINT = "/chat/completions"
BEYOND_TEXT = {"image_url": PICTURE_TOKENS, "file": FILE_TOKENS}


def asked(body: Mapping[str, Any]) -> Iterator[Part]:
    for n, message in since_last_answer(body["messages"]):
        role = message.get("role")
        if role == "user":
            yield Part((n,), "inbound", text_of(message.get("content")))
        elif role in ("tool", "function"):
            yield Part((n,), "tool", text_of(message.get("content")))


def asked_instead(body: Mapping[str, Any], place: Place, text: str) -> Mapping[str, Any]:
    messages = list(body["messages"])
    message = messages[place[0]]
    content = message.get("content")
    others = [part for part in content if part.get("type") != "text"] if isinstance(content, list) else None
    messages[place[0]] = {
        **message,
        "content": text if others is None else [{"type": "text", "text": text}, *others],
    }
    return {**body, "messages": messages}


def facts(body: Mapping[str, Any]) -> dict[str, Any]:
    messages = body.get("messages") or []
    return {
        "input_chars": sum(len(text_of(message.get("content"))) for message in messages),
        "turn_number": sum(message.get("role") == "user" for message in messages),
        "tools": bool(body.get("tools")),
    }


def output_limit(body: Mapping[str, Any], default: int) -> int:
    limit = max(int(body.get("max_completion_tokens") or 0), int(body.get("max_tokens") or 0))
    return (limit or default) * max(1, int(body.get("n") or 1))


def bounded(body: Mapping[str, Any], default: int) -> Mapping[str, Any]:
    if body.get("max_tokens") or body.get("max_completion_tokens"):  # null is no bound either
        return body
    return {**body, "max_tokens": default}


def unseen_tokens(body: Mapping[str, Any]) -> int:
    return sum(
        BEYOND_TEXT.get(str(part.get("type")), 0)
        for message in body.get("messages") or ()
        if isinstance(message.get("content"), list)
        for part in message["content"]
    )


def said(raw: Mapping[str, Any]) -> list[str]:
    return [text_of(choice["message"].get("content")) for choice in raw["choices"]]


def said_instead(raw: Mapping[str, Any], texts: Mapping[int, str]) -> Mapping[str, Any]:
    choices = list(raw["choices"])
    for n, text in texts.items():
        choices[n] = {**choices[n], "message": {**choices[n]["message"], "content": text}}
    return {**raw, "choices": choices}


def piece(raw: Mapping[str, Any], text: str) -> dict[str, Any]:
    new = deepcopy(dict(raw))
    choice = new["choices"][0]
    choice["delta"] = {**choice.get("delta", {}), "content": text}
    choice["finish_reason"] = None
    return new


def without_text(raw: Mapping[str, Any]) -> dict[str, Any]:
    choice = raw["choices"][0]
    delta = {name: value for name, value in (choice.get("delta") or {}).items() if name != "content"}
    return {**raw, "choices": [{**choice, "delta": delta}]}


def streamed(raw: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    head = {**{name: raw.get(name) for name in ("id", "created", "model")}, "object": "chat.completion.chunk"}
    for choice in raw["choices"]:
        said = dict(choice["message"])
        if said.get("tool_calls"):
            said["tool_calls"] = [{"index": n, **call} for n, call in enumerate(said["tool_calls"])]
        index = choice.get("index") or 0
        yield {**head, "choices": [{"index": index, "delta": said, "finish_reason": None}]}
        yield {**head, "choices": [{"index": index, "delta": {}, "finish_reason": choice.get("finish_reason")}]}
    yield {**head, "choices": [], "usage": raw.get("usage")}
