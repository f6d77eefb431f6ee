"""Between OpenAI's chat completions and Anthropic's messages: requests, whole answers and streams, both ways.

What both formats know is translated; fields that neither names pass as they came; what the other format cannot say is
refused (`Untranslatable`) where it changes the answer's meaning, and left out where it is only a wish (a seed).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from agents.wire.parts import Untranslatable, text_of

Body = Mapping[str, Any]
FINISHES = {
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls",
    "refusal": "content_filter", "pause_turn": "stop", "model_context_window_exceeded": "length",
}  # fmt: skip
STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high"}
CHAT_ONLY = frozenset({
    "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
    "max_tokens", "messages", "metadata", "modalities", "model", "n", "parallel_tool_calls", "prediction",
    "presence_penalty", "prompt_cache_key", "reasoning_effort", "response_format", "safety_identifier", "seed",
    "service_tier", "stop", "store", "stream", "stream_options", "temperature", "tool_choice", "tools",
    "top_logprobs", "user", "verbosity",
})  # fmt: skip
MESSAGES_ONLY = frozenset({
    "cache_control", "container", "context_management", "max_tokens", "mcp_servers", "messages", "metadata",
    "model", "output_config", "service_tier", "stop_sequences", "stream", "system", "thinking", "tool_choice",
    "tools",
})  # fmt: skip
JSON_ONLY = "Answer with one JSON object and nothing else."

# --- requests: chat → messages -------------------------------------------------------------------------------------


def chat_to_messages(body: Body) -> dict[str, Any]:
    """:raises Untranslatable: several choices, sound, files by id."""
    if int(body.get("n") or 1) > 1:
        raise Untranslatable("n above 1 is not possible with this model.")
    system, messages = _split_off_system(body["messages"])
    format_of = body.get("response_format") or {}
    if format_of.get("type") == "json_object":
        system.append({"type": "text", "text": JSON_ONLY})
    made: dict[str, Any] = {name: value for name, value in body.items() if name not in CHAT_ONLY}
    made["max_tokens"] = int(body.get("max_completion_tokens") or body.get("max_tokens") or 0)
    made["messages"] = messages
    if system:
        made["system"] = system
    if stop := body.get("stop"):
        made["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if body.get("temperature") is not None:
        made["temperature"] = min(float(body["temperature"]), 1.0)
    if body.get("user"):
        made["metadata"] = {"user_id": body["user"]}
    made |= _output_config(body, format_of) | _tools_for_messages(body)
    return made


def _output_config(body: Body, format_of: Body) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if format_of.get("type") == "json_schema":
        config["format"] = {"type": "json_schema", "schema": format_of["json_schema"].get("schema") or {}}
    if effort := EFFORTS.get(str(body.get("reasoning_effort"))):
        config["effort"] = effort
    return {"output_config": config} if config else {}


def _tools_for_messages(body: Body) -> dict[str, Any]:
    tools = [
        {
            "name": tool["function"]["name"],
            "description": tool["function"].get("description") or "",
            "input_schema": tool["function"].get("parameters") or {"type": "object", "properties": {}},
        }
        for tool in body.get("tools") or ()
        if tool.get("type", "function") == "function"
    ]
    if not tools:
        return {}
    choice = body.get("tool_choice")
    kinds = {"auto": "auto", "required": "any", "none": "none", None: "auto"}
    made = (
        {"type": "tool", "name": choice["function"]["name"]}
        if isinstance(choice, Mapping)
        else {"type": kinds.get(choice, "auto")}
    )
    if body.get("parallel_tool_calls") is False and made["type"] != "none":
        made = {**made, "disable_parallel_tool_use": True}
    return {"tools": tools, "tool_choice": made}


def _split_off_system(messages: Sequence[Body]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The system blocks, and the conversation with roles that alternate."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = message.get("role")
        if role in ("system", "developer"):
            system.append({"type": "text", "text": text_of(message.get("content"))})
            continue
        who = "assistant" if role == "assistant" else "user"
        blocks = _blocks(message)
        if turns and turns[-1]["role"] == who:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": who, "content": blocks})
    return [block for block in system if block["text"]], [turn for turn in turns if turn["content"]]


def _blocks(message: Body) -> list[dict[str, Any]]:
    role, content = message.get("role"), message.get("content")
    if role in ("tool", "function"):
        told = text_of(content)
        return [{"type": "tool_result", "tool_use_id": message.get("tool_call_id") or "", "content": told}]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    blocks = [_block(part) for part in parts if part.get("type") != "text" or part.get("text")]
    if role == "assistant":
        blocks += [_tool_use(call) for call in message.get("tool_calls") or ()]
    return blocks


def _block(part: Body) -> dict[str, Any]:
    kind = part.get("type")
    if kind in ("text", "refusal"):
        return {"type": "text", "text": part.get("text") or part.get("refusal") or ""}
    if kind == "image_url":
        return {"type": "image", "source": _source(str((part.get("image_url") or {}).get("url", "")))}
    if kind == "file" and (part.get("file") or {}).get("file_data"):
        return {"type": "document", "source": _source(str(part["file"]["file_data"]))}
    raise Untranslatable(f"A part of type {kind} is not possible with this model.")


def _source(url: str) -> dict[str, Any]:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    head, _, data = url.partition(",")
    return {"type": "base64", "media_type": head[5:].partition(";")[0], "data": data}


def _tool_use(call: Body) -> dict[str, Any]:
    function = call.get("function") or {}
    return {
        "type": "tool_use",
        "id": call.get("id") or "",
        "name": function.get("name") or "",
        "input": parsed(function.get("arguments")),
    }


def parsed(arguments: Any) -> Any:
    """A tool call's arguments as an object; what is not JSON is kept as text under one name."""
    try:
        found = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        return {"arguments": arguments}
    return found if isinstance(found, dict) else {"arguments": found}


# --- requests: messages → chat -------------------------------------------------------------------------------------


def messages_to_chat(body: Body) -> dict[str, Any]:
    """:raises Untranslatable: tools that run at the provider."""
    made: dict[str, Any] = {name: value for name, value in body.items() if name not in MESSAGES_ONLY}
    system = text_of(body.get("system"))
    made["messages"] = [{"role": "system", "content": system}] if system else []
    for message in body["messages"]:
        made["messages"] += _chat_messages(message)
    if body.get("max_tokens"):
        made["max_tokens"] = body["max_tokens"]
    if body.get("stop_sequences"):
        made["stop"] = body["stop_sequences"]
    if (body.get("metadata") or {}).get("user_id"):
        made["user"] = body["metadata"]["user_id"]
    config = body.get("output_config") or {}
    if (config.get("format") or {}).get("type") == "json_schema":
        schema = {"name": "answer", "schema": config["format"].get("schema") or {}, "strict": True}
        made["response_format"] = {"type": "json_schema", "json_schema": schema}
    if config.get("effort"):
        made["reasoning_effort"] = config["effort"]
    return made | _tools_for_chat(body)


def _tools_for_chat(body: Body) -> dict[str, Any]:
    tools = []
    for tool in body.get("tools") or ():
        if tool.get("type", "custom") != "custom":
            raise Untranslatable(f"The tool {tool.get('type')} runs at its own provider only.")
        function = {"name": tool["name"], "parameters": tool.get("input_schema") or {}}
        if tool.get("description"):
            function["description"] = tool["description"]
        tools.append({"type": "function", "function": function})
    if not tools:
        return {}
    choice = body.get("tool_choice") or {"type": "auto"}
    kinds = {"auto": "auto", "any": "required", "none": "none"}
    named = {"type": "function", "function": {"name": choice.get("name")}}
    made: dict[str, Any] = {"tools": tools, "tool_choice": kinds.get(choice["type"], named)}
    if choice.get("disable_parallel_tool_use"):
        made["parallel_tool_calls"] = False
    return made


def _chat_messages(message: Body) -> list[dict[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"role": message["role"], "content": content}]
    blocks = content or []
    if message["role"] == "assistant":
        return [_assistant(blocks)]
    results = [_tool_message(block) for block in blocks if block.get("type") == "tool_result"]
    parts = [_part(block) for block in blocks if block.get("type") != "tool_result"]
    if all(part["type"] == "text" for part in parts):
        text = "\n".join(part["text"] for part in parts)
        return [*results, {"role": "user", "content": text}] if parts else results
    return [*results, {"role": "user", "content": parts}]


def _assistant(blocks: Sequence[Body]) -> dict[str, Any]:
    calls = [
        {
            "id": block.get("id"),
            "type": "function",
            "function": {"name": block.get("name"), "arguments": orjson.dumps(block.get("input") or {}).decode()},
        }
        for block in blocks
        if block.get("type") == "tool_use"
    ]
    text = text_of(list(blocks))
    return {"role": "assistant", "content": text or None} | ({"tool_calls": calls} if calls else {})


def _tool_message(block: Body) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": text_of(block.get("content"))}


def _part(block: Body) -> dict[str, Any]:
    kind, source = block.get("type"), block.get("source") or {}
    if kind == "text":
        return {"type": "text", "text": block.get("text") or ""}
    if kind == "document" and source.get("type") == "text":
        return {"type": "text", "text": str(source.get("data") or "")}
    if kind == "image" and source.get("type") in ("base64", "url"):
        return {"type": "image_url", "image_url": {"url": _url(source)}}
    if kind == "document" and source.get("type") == "base64":
        return {"type": "file", "file": {"filename": block.get("title") or "document", "file_data": _url(source)}}
    raise Untranslatable(f"A block of type {kind} is not possible with this model.")


def _url(source: Body) -> str:
    if source["type"] == "url":
        return str(source["url"])
    return f"data:{source.get('media_type')};base64,{source.get('data')}"


# --- whole answers -------------------------------------------------------------------------------------------------


def answer_to_chat(raw: Body) -> dict[str, Any]:
    """A message as a chat completion."""
    blocks = raw.get("content") or []
    message: dict[str, Any] = {"role": "assistant", "content": _joined(blocks, "text") or None}
    if thought := _joined(blocks, "thinking"):
        message["reasoning_content"] = thought
    if calls := _assistant(blocks).get("tool_calls"):
        message["tool_calls"] = calls
    return {
        "id": f"chatcmpl-{raw.get('id', '')}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": raw.get("model"),
        "choices": [{"index": 0, "message": message, "finish_reason": _finish(raw.get("stop_reason"))}],
        "usage": usage_to_chat(raw.get("usage") or {}),
    }


def _joined(blocks: Sequence[Body], kind: str) -> str:
    return "".join(str(block.get(kind) or "") for block in blocks if block.get("type") == kind)


def _finish(stop_reason: Any) -> str:
    return FINISHES.get(str(stop_reason), "stop")


def usage_to_chat(usage: Body) -> dict[str, Any]:
    read, written = int(usage.get("cache_read_input_tokens") or 0), int(usage.get("cache_creation_input_tokens") or 0)
    prompt, output = int(usage.get("input_tokens") or 0) + read + written, int(usage.get("output_tokens") or 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": read},
    }


def answer_to_messages(raw: Body) -> dict[str, Any]:
    """A chat completion as a message; of several choices the first."""
    choice = raw["choices"][0]
    message = choice["message"]
    text = text_of(message.get("content")) or str(message.get("refusal") or "")
    blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    blocks += [_tool_use(call) for call in message.get("tool_calls") or ()]
    return {
        "id": _message_id(raw.get("id")),
        "type": "message",
        "role": "assistant",
        "model": raw.get("model"),
        "content": blocks,
        "stop_reason": STOP_REASONS.get(str(choice.get("finish_reason")), "end_turn"),
        "stop_sequence": None,
        "usage": usage_to_messages(raw.get("usage") or {}),
    }


def _message_id(chat_id: Any) -> str:
    return f"msg_{chat_id or uuid.uuid4().hex}"


def usage_to_messages(usage: Body) -> dict[str, Any]:
    cached = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
    return {
        "input_tokens": max(0, int(usage.get("prompt_tokens") or 0) - cached),
        "output_tokens": int(usage.get("completion_tokens") or 0),
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": 0,
    }


# --- streams -------------------------------------------------------------------------------------------------------


class ToChat:
    """Events of a message stream, one after the other, as chunks of a chat completion."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._calls: dict[int, int] = {}  # a block's index → its tool call's
        self._usage: dict[str, Any] = {}

    def chunks(self, event: Body) -> Iterator[dict[str, Any]]:
        kind = event.get("type")
        if kind == "message_start":
            message = event["message"]
            self._usage = dict(message.get("usage") or {})
            self._head = {
                "id": f"chatcmpl-{message.get('id', '')}",
                "object": "chat.completion.chunk",
                "created": int(time.time()),
                "model": message.get("model"),
            }
            yield self._chunk({"role": "assistant", "content": ""})
        elif kind == "content_block_start" and event["content_block"].get("type") == "tool_use":
            block = event["content_block"]
            at = self._calls[event["index"]] = len(self._calls)
            function = {"name": block.get("name"), "arguments": ""}
            yield self._chunk(
                {"tool_calls": [{"index": at, "id": block.get("id"), "type": "function", "function": function}]}
            )
        elif kind == "content_block_delta":
            yield from self._delta(event)
        elif kind == "message_delta":
            self._usage |= {name: value for name, value in (event.get("usage") or {}).items() if value is not None}
            yield self._chunk({}, _finish((event.get("delta") or {}).get("stop_reason")))
            yield {**self._head, "choices": [], "usage": usage_to_chat(self._usage)}

    def _delta(self, event: Body) -> Iterator[dict[str, Any]]:
        delta = event["delta"]
        if delta.get("type") == "text_delta":
            yield self._chunk({"content": delta.get("text") or ""})
        elif delta.get("type") == "thinking_delta":
            yield self._chunk({"reasoning_content": delta.get("thinking") or ""})
        elif delta.get("type") == "input_json_delta":
            function = {"arguments": delta.get("partial_json") or ""}
            yield self._chunk({"tool_calls": [{"index": self._calls[event["index"]], "function": function}]})

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {**self._head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


class ToMessages:
    """Chunks of a chat completion, one after the other, as events of a message stream; of several choices the first."""

    def __init__(self) -> None:
        self._started = False
        self._block: tuple[str, int] | None = None  # what the open block is: ("text", 0) or ("tool", call's index)
        self._blocks = 0
        self._stop = "end_turn"
        self._usage: dict[str, Any] = usage_to_messages({})

    def events(self, chunk: Body) -> Iterator[dict[str, Any]]:
        if not self._started:
            self._started = True
            yield {"type": "message_start", "message": self._message(chunk)}
        if chunk.get("usage"):
            self._usage = usage_to_messages(chunk["usage"])
        for choice in chunk.get("choices") or ():
            if choice.get("index"):
                continue
            delta = choice.get("delta") or {}
            if text := text_of(delta.get("content")) or str(delta.get("refusal") or ""):
                yield from self._open(("text", 0), {"type": "text", "text": ""})
                yield self._piece({"type": "text_delta", "text": text})
            for call in delta.get("tool_calls") or ():
                yield from self._tool(call)
            if choice.get("finish_reason"):
                self._stop = STOP_REASONS.get(str(choice["finish_reason"]), "end_turn")

    def end(self) -> Iterator[dict[str, Any]]:
        """What comes after the last chunk of a whole answer."""
        yield from self._close()
        yield {
            "type": "message_delta",
            "delta": {"stop_reason": self._stop, "stop_sequence": None},
            "usage": self._usage,
        }
        yield {"type": "message_stop"}

    def _tool(self, call: Body) -> Iterator[dict[str, Any]]:
        function = call.get("function") or {}
        what = ("tool", int(call.get("index") or 0))
        if self._block != what:
            named = {"id": call.get("id"), "name": function.get("name")}
            yield from self._open(what, {"type": "tool_use", **named, "input": {}})
        if function.get("arguments"):
            yield self._piece({"type": "input_json_delta", "partial_json": function["arguments"]})

    def _open(self, what: tuple[str, int], block: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if self._block == what:
            return
        yield from self._close()
        self._block = what
        yield {"type": "content_block_start", "index": self._blocks, "content_block": block}

    def _close(self) -> Iterator[dict[str, Any]]:
        if self._block is not None:
            yield {"type": "content_block_stop", "index": self._blocks}
            self._block, self._blocks = None, self._blocks + 1

    def _piece(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": self._blocks, "delta": delta}

    def _message(self, chunk: Body) -> dict[str, Any]:
        return {
            "id": _message_id(chunk.get("id")), "type": "message", "role": "assistant", "model": chunk.get("model"),
            "content": [], "stop_reason": None, "stop_sequence": None, "usage": self._usage,
        }  # fmt: skip
