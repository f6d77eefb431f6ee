"""A real provider on this machine, in OpenAI's and in Anthropic's format, that answers as it is told and remembers
what it was asked.
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
from aiohttp import web

PIECE = 12


@dataclass(slots=True)
class Asked:
    """One request as it arrived; `hung_up` when the gateway left before the answer was out."""

    body: dict[str, Any]
    headers: Mapping[str, str]
    hung_up: bool = False

    path: str = ""

    @property
    def system(self) -> str:
        return str(next((m["content"] for m in self.body["messages"] if m["role"] == "system"), ""))


class Answer(Protocol):
    async def give(self, request: web.Request, asked: Asked) -> web.StreamResponse: ...


@dataclass(frozen=True, slots=True)
class Says:
    """A good answer; streamed when that is asked for. `usage` None: the provider tells no usage."""

    text: str | Callable[[Asked], str] = "Hello from upstream."
    usage: tuple[int, int, int] | None = (10, 5, 0)  # input, output, cached
    piece: int = PIECE
    pause: float = 0.0
    others: tuple[str, ...] = ()  # further choices, as `n` asks for
    finish: str = "stop"

    async def give(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        text = self.text if isinstance(self.text, str) else self.text(asked)
        if asked.path == "/v1/messages":
            return await _message(request, asked, [{"type": "text", "text": text}], self)
        if asked.path == "/v1/embeddings":
            return web.json_response(_embeddings(asked, self.usage))
        if asked.body.get("stream"):
            return await self._stream(request, asked, text)
        choices = [
            {"index": n, "message": {"role": "assistant", "content": said}, "finish_reason": self.finish}
            for n, said in enumerate((text, *self.others))
        ]
        answer = {**_head(asked, "chat.completion"), "choices": choices}
        return web.json_response(answer | ({"usage": _usage(self.usage)} if self.usage else {}))

    async def _stream(self, request: web.Request, asked: Asked, text: str) -> web.StreamResponse:
        out = await _event_stream(request)
        head = _head(asked, "chat.completion.chunk")
        await _event(out, {**head, "choices": [_choice({"role": "assistant", "content": ""})]})
        said = (text, *self.others)
        for start in range(0, max(map(len, said)), self.piece):
            for n, one in enumerate(said):
                if piece := one[start : start + self.piece]:
                    await _event(out, {**head, "choices": [_choice({"content": piece}, index=n)]})
            await asyncio.sleep(self.pause)
        for n in range(len(said)):
            await _event(out, {**head, "choices": [_choice({}, self.finish, n)]})
        if self.usage and (asked.body.get("stream_options") or {}).get("include_usage"):
            await _event(out, {**head, "choices": [], "usage": _usage(self.usage)})
        await out.write(b"data: [DONE]\n\n")
        return out


@dataclass(frozen=True, slots=True)
class Calls:
    """Asks for a tool, after some words where there are any."""

    name: str
    arguments: Mapping[str, Any]
    text: str = ""
    usage: tuple[int, int, int] | None = (10, 5, 0)
    piece: int = PIECE
    finish: str = "tool_calls"

    async def give(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        said = [{"type": "text", "text": self.text}] if self.text else []
        used = {"type": "tool_use", "id": "call_1", "name": self.name, "input": dict(self.arguments)}
        if asked.path == "/v1/messages":
            return await _message(request, asked, [*said, used], self)
        arguments = orjson.dumps(dict(self.arguments)).decode()
        call = {"id": "call_1", "type": "function", "function": {"name": self.name, "arguments": arguments}}
        if not asked.body.get("stream"):
            message = {"role": "assistant", "content": self.text or None, "tool_calls": [call]}
            choices = [{"index": 0, "message": message, "finish_reason": self.finish}]
            return web.json_response(
                {**_head(asked, "chat.completion"), "choices": choices, "usage": _usage(self.usage or (0, 0, 0))}
            )
        out = await _event_stream(request)
        head = _head(asked, "chat.completion.chunk")
        first = {"index": 0, **call, "function": {"name": self.name, "arguments": ""}}
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": self.text or None}, {"tool_calls": [first]}]
        parts = [arguments[n : n + self.piece] for n in range(0, len(arguments), self.piece)]
        deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in parts]
        for delta in deltas:
            await _event(out, {**head, "choices": [_choice(delta)]})
        await _event(out, {**head, "choices": [_choice({}, self.finish)]})
        await _event(out, {**head, "choices": [], "usage": _usage(self.usage or (0, 0, 0))})
        await out.write(b"data: [DONE]\n\n")
        return out


@dataclass(frozen=True, slots=True)
class Fails:
    """An error in OpenAI's shape."""

    status: int
    message: str = "No."
    headers: Mapping[str, str] = field(default_factory=dict)

    async def give(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        error = {"error": {"message": self.message, "type": "error", "code": str(self.status)}}
        return web.json_response(error, status=self.status, headers=self.headers)


@dataclass(frozen=True, slots=True)
class Hangs:
    """Takes the request and says nothing."""

    seconds: float = 30.0

    async def give(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        await asyncio.sleep(self.seconds)
        return web.Response()


@dataclass(frozen=True, slots=True)
class Cuts:
    """Streams `text`, then ends: with a broken connection, or `politely` as if that were all."""

    text: str
    politely: bool = False

    async def give(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        out = await _event_stream(request)
        head = _head(asked, "chat.completion.chunk")
        if asked.path == "/v1/messages":
            await _typed(out, {"type": "message_start", "message": _message_head(asked, (10, 0, 0))})
            for n in range(0, len(self.text), PIECE):
                delta = {"type": "text_delta", "text": self.text[n : n + PIECE]}
                await _typed(out, {"type": "content_block_delta", "index": 0, "delta": delta})
        for start in range(0, len(self.text) if asked.path != "/v1/messages" else 0, PIECE):
            await _event(out, {**head, "choices": [_choice({"content": self.text[start : start + PIECE]})]})
        if not self.politely:
            assert request.transport is not None
            await asyncio.sleep(0.05)  # what was written leaves before the connection breaks
            request.transport.abort()
        return out


@dataclass(frozen=True, slots=True)
class Bytes:
    """Whatever bytes, as a 200."""

    content: bytes
    content_type: str = "application/json"

    async def give(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        return web.Response(body=self.content, content_type=self.content_type)


class Upstream:
    """The server, in a thread of its own. `script` what a model answers next; without a script it says hello."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._scripts: defaultdict[str, deque[Answer]] = defaultdict(deque)
        self._always: dict[str, Answer] = {}
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self.url = ""

    def start(self) -> Upstream:
        threading.Thread(target=self._loop.run_forever, name="upstream", daemon=True).start()
        asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result(10)
        return self

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)

    def forget(self) -> None:
        """What was asked and what was scripted."""
        self.asked.clear()
        self._scripts.clear()
        self._always.clear()

    def script(self, model: str, *answers: Answer) -> None:
        """The model's next answers, in this order."""
        self._scripts[model].extend(answers)

    def always(self, model: str, answer: Answer) -> None:
        """The model's answer whenever its script is at its end."""
        self._always[model] = answer

    def models(self) -> list[str]:
        """Which models were asked, in order."""
        return [asked.body["model"] for asked in self.asked]

    async def _serve(self) -> None:
        app = web.Application(client_max_size=16 * 1024 * 1024)
        for path in ("/v1/chat/completions", "/v1/messages", "/v1/embeddings"):
            app.router.add_post(path, self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/v1"

    async def _close(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Asked(orjson.loads(await request.read()), headers, path=request.path)
        self.asked.append(asked)
        model = asked.body["model"]
        answer = self._scripts[model].popleft() if self._scripts[model] else self._always.get(model, Says())
        try:
            return await answer.give(request, asked)
        except (ConnectionResetError, asyncio.CancelledError):
            asked.hung_up = True
            raise


def _head(asked: Asked, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-upstream", "object": kind, "created": 1_790_000_000, "model": asked.body["model"]}


def _choice(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish}


def _usage(told: tuple[int, int, int]) -> dict[str, Any]:
    paid, output, cached = told
    return {
        "prompt_tokens": paid,
        "completion_tokens": output,
        "total_tokens": paid + output,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


async def _event_stream(request: web.Request) -> web.StreamResponse:
    out = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await out.prepare(request)
    return out


async def _event(out: web.StreamResponse, payload: dict[str, Any]) -> None:
    await out.write(b"data: " + orjson.dumps(payload) + b"\n\n")


# --- Anthropic's format ----------------------------------------------------------------------------------------------


STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


async def _message(
    request: web.Request, asked: Asked, blocks: list[dict[str, Any]], tells: Says | Calls
) -> web.StreamResponse:
    usage = tells.usage or (0, 0, 0)
    if not asked.body.get("stream"):
        stop = {"stop_reason": STOPS[tells.finish], "stop_sequence": None}
        return web.json_response({**_message_head(asked, usage), "content": blocks, **stop})
    out = await _event_stream(request)
    await _typed(out, {"type": "message_start", "message": _message_head(asked, (usage[0], 1, usage[2]))})
    await _typed(out, {"type": "ping"})
    for index, block in enumerate(blocks):
        await _block(out, index, block, tells.piece)
    stop = {"stop_reason": STOPS[tells.finish], "stop_sequence": None}
    await _typed(out, {"type": "message_delta", "delta": stop, "usage": {"output_tokens": usage[1]}})
    await _typed(out, {"type": "message_stop"})
    return out


async def _block(out: web.StreamResponse, index: int, block: dict[str, Any], piece: int) -> None:
    text = block["type"] == "text"
    empty = {**block, "text": ""} if text else {**block, "input": {}}
    await _typed(out, {"type": "content_block_start", "index": index, "content_block": empty})
    whole = block["text"] if text else orjson.dumps(block["input"]).decode()
    for n in range(0, len(whole), piece):
        part = whole[n : n + piece]
        delta = {"type": "text_delta", "text": part} if text else {"type": "input_json_delta", "partial_json": part}
        await _typed(out, {"type": "content_block_delta", "index": index, "delta": delta})
    await _typed(out, {"type": "content_block_stop", "index": index})


def _message_head(asked: Asked, usage: tuple[int, int, int]) -> dict[str, Any]:
    paid, output, cached = usage
    told = {"input_tokens": paid - cached, "cache_read_input_tokens": cached, "output_tokens": output}
    return {
        "id": "msg_upstream", "type": "message", "role": "assistant", "model": asked.body["model"], "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": told,
    }  # fmt: skip


async def _typed(out: web.StreamResponse, payload: dict[str, Any]) -> None:
    await out.write(b"event: " + payload["type"].encode() + b"\n")
    await _event(out, payload)


def _embeddings(asked: Asked, usage: tuple[int, int, int] | None) -> dict[str, Any]:
    given = asked.body["input"]
    texts = given if isinstance(given, list) else [given]
    data = [{"object": "embedding", "index": n, "embedding": [0.5, float(n)]} for n in range(len(texts))]
    paid = (usage or (0, 0, 0))[0]
    told = {"prompt_tokens": paid, "total_tokens": paid}
    return {"object": "list", "data": data, "model": asked.body["model"], "usage": told}
