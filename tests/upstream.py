"""A real OpenAI-like provider on this machine that answers as it is told, and remembers what it was asked."""

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
        for start in range(0, len(self.text), PIECE):
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
        app.router.add_post("/v1/chat/completions", self._answer)
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
        asked = Asked(orjson.loads(await request.read()), headers)
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
