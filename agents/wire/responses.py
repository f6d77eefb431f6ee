"""OpenAI's responses, as far as one call goes: into a chat completion and back, whole and streamed.

What needs a memory or tools at the provider (previous_response_id, conversation, background, hosted tools) is refused:
a gateway that dropped it would answer another question than the one asked.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from agents.wire.parts import Untranslatable, text_of

Body = Mapping[str, Any]
KEPT_BY_PROVIDER = ("previous_response_id", "conversation", "background", "prompt")
TRANSLATED = frozenset({
    "background", "conversation", "include", "input", "instructions", "max_output_tokens", "max_tool_calls", "model",
    "previous_response_id", "prompt", "reasoning", "stream", "stream_options", "text", "tool_choice", "tools",
    "top_logprobs", "truncation",
})  # fmt: skip
ECHOED = ("instructions", "max_output_tokens", "metadata", "parallel_tool_calls", "temperature", "tool_choice", "tools")
ECHOED_DEFAULTS: Body = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "metadata": {}}
PARTS = {"input_text": "text", "output_text": "text", "text": "text"}

# --- the request ---------------------------------------------------------------------------------------------------


def to_chat(body: Body) -> dict[str, Any]:
    """:raises Untranslatable: what only the provider of responses could do; a malformed input."""
    for name in KEPT_BY_PROVIDER:
        if body.get(name):
            raise Untranslatable(f"{name} is not possible here: send the whole conversation as input.")
    made: dict[str, Any] = {name: value for name, value in body.items() if name not in TRANSLATED}
    made["messages"] = _messages(body)
    if body.get("max_output_tokens"):
        made["max_completion_tokens"] = body["max_output_tokens"]
    if effort := (body.get("reasoning") or {}).get("effort"):
        made["reasoning_effort"] = effort
    if wanted := _response_format((body.get("text") or {}).get("format") or {}):
        made["response_format"] = wanted
    if tools := [_tool(tool) for tool in body.get("tools") or ()]:
        made["tools"] = tools
        choice = body.get("tool_choice")
        if choice is not None:
            named = isinstance(choice, Mapping)
            made["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}} if named else choice
    return made


def _messages(body: Body) -> list[dict[str, Any]]:
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(items, list) or not items:
        raise Untranslatable("input is a text, or a list with at least one item.")
    first = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
    return first + _joined([message for item in items for message in _message(item)])


def _message(item: Any) -> list[dict[str, Any]]:
    if not isinstance(item, Mapping):
        raise Untranslatable("Every item of input is an object.")
    kind = item.get("type", "message")
    if kind == "message":
        return [{"role": item.get("role", "user"), "content": _content(item.get("content"))}]
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments") or "{}"}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        return [{"role": "assistant", "content": None, "tool_calls": [call]}]
    if kind == "function_call_output":
        output = item.get("output")
        told = output if isinstance(output, str) else text_of(_content(output))
        return [{"role": "tool", "tool_call_id": item.get("call_id"), "content": told}]
    if kind == "reasoning":
        return []
    raise Untranslatable(f"An item of type {kind} is not possible here.")


def _joined(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Several calls of one answer are items of their own there, and one message here."""
    made: list[dict[str, Any]] = []
    for message in messages:
        before = made[-1] if made else {}
        if message["role"] == "assistant" and before.get("role") == "assistant":
            calls = [*before.get("tool_calls", ()), *message.get("tool_calls", ())]
            texts = [text for text in (text_of(before["content"]), text_of(message["content"])) if text]
            made[-1] = {"role": "assistant", "content": "\n".join(texts) or None}
            made[-1] |= {"tool_calls": calls} if calls else {}
        else:
            made.append(message)
    return made


def _content(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    return [_part(part) for part in content]


def _part(part: Body) -> dict[str, Any]:
    kind = part.get("type")
    if kind in PARTS:
        return {"type": "text", "text": part.get("text") or ""}
    if kind == "refusal":
        return {"type": "text", "text": part.get("refusal") or ""}
    if kind == "input_image" and part.get("image_url"):
        return {"type": "image_url", "image_url": {"url": part["image_url"], "detail": part.get("detail") or "auto"}}
    if kind == "input_file" and (part.get("file_data") or part.get("file_id")):
        named = {name: part[name] for name in ("filename", "file_data", "file_id") if part.get(name)}
        return {"type": "file", "file": named}
    raise Untranslatable(f"A part of type {kind} is not possible here.")


def _tool(tool: Body) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise Untranslatable(f"The tool {tool.get('type')} runs at its own provider only.")
    function = {
        name: tool[name] for name in ("name", "description", "parameters", "strict") if tool.get(name) is not None
    }
    return {"type": "function", "function": function}


def _response_format(wanted: Body) -> dict[str, Any] | None:
    if wanted.get("type") == "json_schema":
        schema = {name: wanted[name] for name in ("name", "schema", "strict", "description") if name in wanted}
        return {"type": "json_schema", "json_schema": schema}
    return {"type": "json_object"} if wanted.get("type") == "json_object" else None


# --- the answer ----------------------------------------------------------------------------------------------------


def answer(raw: Body, asked: Body) -> dict[str, Any]:
    """A chat completion as a response to what was `asked`."""
    choice = raw["choices"][0]
    message = choice["message"]
    output: list[dict[str, Any]] = []
    if text := text_of(message.get("content")) or str(message.get("refusal") or ""):
        output.append(_said(_id("msg"), text))
    output += [_called(_id("fc"), call.get("id"), call["function"]) for call in message.get("tool_calls") or ()]
    ended = _ended(choice.get("finish_reason"))
    return {**_head(_id("resp"), raw.get("model"), asked), **ended, "output": output, "usage": _usage(raw.get("usage"))}


def _id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"


def _said(item_id: str, text: str) -> dict[str, Any]:
    return {
        "id": item_id, "type": "message", "role": "assistant", "status": "completed",
        "content": [_text_part(text)],
    }  # fmt: skip


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _called(item_id: str, call_id: Any, function: Body, status: str = "completed") -> dict[str, Any]:
    return {
        "id": item_id, "type": "function_call", "status": status, "call_id": call_id,
        "name": function.get("name"), "arguments": function.get("arguments") or "",
    }  # fmt: skip


def _ended(finish: Any) -> dict[str, Any]:
    reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
    reason = reasons.get(str(finish))
    return {
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
    }


def _head(response_id: str, model: Any, asked: Body) -> dict[str, Any]:
    echoed = {name: asked.get(name, ECHOED_DEFAULTS.get(name)) for name in ECHOED}
    return {
        "id": response_id, "object": "response", "created_at": int(time.time()), "model": model, "error": None,
        **echoed, "output": [], "text": asked.get("text") or {"format": {"type": "text"}}, "top_p": asked.get("top_p"),
        "previous_response_id": None, "store": False, "truncation": "disabled",
    }  # fmt: skip


def _usage(usage: Any) -> dict[str, Any] | None:
    if not usage:
        return None
    cached = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
    thought = int((usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0)
    paid, output = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
    return {
        "input_tokens": paid, "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": output, "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": paid + output,
    }  # fmt: skip


# --- the answer in pieces ------------------------------------------------------------------------------------------


class Events:
    """Chunks of a chat completion, one after the other, as the events of a response; of several choices the first."""

    def __init__(self, asked: Body) -> None:
        self._asked = asked
        self._number = -1
        self._response: dict[str, Any] = {}
        self._item: dict[str, Any] | None = None  # the one that is being written
        self._call = -1
        self._finish = "stop"

    def of(self, chunk: Body) -> Iterator[dict[str, Any]]:
        if not self._response:
            self._response = {**_head(_id("resp"), chunk.get("model"), self._asked), "status": "in_progress"}
            yield self._event("response.created", response=dict(self._response))
            yield self._event("response.in_progress", response=dict(self._response))
        if chunk.get("usage"):
            self._response["usage"] = _usage(chunk["usage"])
        for choice in chunk.get("choices") or ():
            if choice.get("index"):
                continue
            delta = choice.get("delta") or {}
            if text := text_of(delta.get("content")) or str(delta.get("refusal") or ""):
                yield from self._text(text)
            for call in delta.get("tool_calls") or ():
                yield from self._tool(call)
            self._finish = choice.get("finish_reason") or self._finish

    def end(self) -> Iterator[dict[str, Any]]:
        """What comes after the last chunk of a whole answer."""
        yield from self._close()
        self._response |= _ended(self._finish)
        yield self._event(f"response.{self._response['status']}", response=dict(self._response))

    def broken(self, code: str, message: str) -> Iterator[dict[str, Any]]:
        """What comes after the last chunk of an answer that broke off."""
        failed = {**self._response, "status": "failed", "error": {"code": code, "message": message}}
        yield self._event("response.failed", response=failed)

    def _event(self, kind: str, **fields: Any) -> dict[str, Any]:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **fields}

    def _text(self, text: str) -> Iterator[dict[str, Any]]:
        if self._item is None or self._item["type"] != "message":
            yield from self._open({**_said(_id("msg"), ""), "status": "in_progress", "content": []})
            yield self._event("response.content_part.added", **self._place(), content_index=0, part=_text_part(""))
            assert self._item is not None
            self._item["content"] = [_text_part("")]
        self._item["content"][0]["text"] += text
        yield self._event("response.output_text.delta", **self._place(), content_index=0, delta=text, logprobs=[])

    def _tool(self, call: Body) -> Iterator[dict[str, Any]]:
        function, index = call.get("function") or {}, int(call.get("index") or 0)
        if self._item is None or self._item["type"] != "function_call" or self._call != index:
            self._call = index
            named = {"name": function.get("name")}
            yield from self._open(_called(_id("fc"), call.get("id"), named, "in_progress"))
        if function.get("arguments"):
            assert self._item is not None
            self._item["arguments"] += function["arguments"]
            yield self._event("response.function_call_arguments.delta", **self._place(), delta=function["arguments"])

    def _place(self) -> dict[str, Any]:
        assert self._item is not None
        return {"item_id": self._item["id"], "output_index": len(self._response["output"])}

    def _open(self, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from self._close()
        self._item = item
        yield self._event("response.output_item.added", output_index=self._place()["output_index"], item=dict(item))

    def _close(self) -> Iterator[dict[str, Any]]:
        item = self._item
        if item is None:
            return
        place = self._place()
        if item["type"] == "message":
            part = item["content"][0]
            yield self._event("response.output_text.done", **place, content_index=0, text=part["text"], logprobs=[])
            yield self._event("response.content_part.done", **place, content_index=0, part=part)
        else:
            done = {"arguments": item["arguments"], "name": item["name"]}
            yield self._event("response.function_call_arguments.done", **place, **done)
        item["status"] = "completed"
        yield self._event("response.output_item.done", output_index=place["output_index"], item=item)
        self._response["output"] = [*self._response["output"], item]
        self._item = None
