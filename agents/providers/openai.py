"""The OpenAI-compatible dialect over aiohttp: what callers send reaches the provider, what it answers comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import aiohttp
import orjson

from agents.parts import Model
from agents.providers.base import STREAM_S, Completion, Delta, Failed, Request, Usage, estimate_tokens, text_of
from agents.providers.http import check_literal, session

MAX_ANSWER_BYTES = 8 * 1024 * 1024
CONNECT_S = 3.0
MOST_TOKENS = 100_000_000


async def complete(model: Model, request: Request, timeout_s: float) -> Completion:
    """One whole answer. :raises Failed: on any other outcome than a well-formed one."""
    try:
        async with session().post(**_post(model, request, timeout_s, stream=False)) as response:
            raw = await _read(response)
            _check(response, raw)
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise _failure(error) from error
    return _completion(raw, request)


async def stream(model: Model, request: Request, timeout_s: float) -> AsyncIterator[Delta]:
    """The chunks as they come. A stream that ends without `[DONE]` or a finish reason raises `Failed("cut")`."""
    finished = False
    try:
        async with session().post(**_post(model, request, timeout_s, stream=True)) as response:
            if response.status != 200:
                _check(response, await _read(response))
            async for line in _lines(response):
                if line == b"[DONE]":
                    return
                for delta in _deltas(line):
                    finished = finished or bool(delta.finish)
                    yield delta
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise _failure(error) from error
    if not finished:
        raise Failed("cut", "The provider ended the stream before the answer was complete.")


def _post(model: Model, request: Request, timeout_s: float, *, stream: bool) -> dict[str, Any]:
    """A stream may take long as a whole; what must not take long is the silence between two of its pieces."""
    url = f"{model.base_url}/chat/completions"
    check_literal(url)
    body = {**request.body, "model": model.upstream, "stream": stream}
    if not (body.get("max_tokens") or body.get("max_completion_tokens")):  # null is no bound either
        body["max_tokens"] = model.max_output_tokens
    if stream:
        body["stream_options"] = {**(request.body.get("stream_options") or {}), "include_usage": True}
    headers = {"content-type": "application/json", **model.headers}
    if secret := model.secret():
        headers["authorization"] = f"Bearer {secret}"
    return {
        "url": url,
        "data": orjson.dumps(body),
        "headers": headers,
        "allow_redirects": False,
        "timeout": aiohttp.ClientTimeout(
            total=STREAM_S if stream else timeout_s, connect=CONNECT_S, sock_read=min(timeout_s, 30)
        ),
    }


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The whole body, bounded."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(65_536):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise Failed("garbage", "The provider's answer is larger than 8 MB.")
    return bytes(body)


def _check(response: aiohttp.ClientResponse, raw: bytes) -> None:
    if response.status == 200:
        return
    status = response.status
    kinds = {429: "rate_limit", 408: "timeout"}
    kind = kinds.get(status) or ("server" if status >= 500 else "client" if status in (400, 413, 422) else "server")
    raise Failed(
        kind, _message(raw) or f"The provider answered {status}.", status=status, retry_after=_retry_after(response)
    )


def _message(raw: bytes) -> str:
    try:
        error = orjson.loads(raw).get("error")
    except (orjson.JSONDecodeError, AttributeError):
        return ""
    return str(error.get("message", "") if isinstance(error, dict) else error or "")[:300]


def _retry_after(response: aiohttp.ClientResponse) -> float:
    try:
        return max(0.0, float(response.headers.get("retry-after", "0")))
    except ValueError:
        return 0.0


def _completion(raw: bytes, request: Request) -> Completion:
    try:
        answer = orjson.loads(raw)
        choice = answer["choices"][0]
        texts = [text_of(each["message"].get("content")) for each in answer["choices"]]
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise Failed("garbage", "The provider answered 200 with something that is not a chat completion.") from error
    usage = usage_of(answer.get("usage")) or _estimated(request, "\n".join(texts))
    return Completion(texts[0], usage, str(choice.get("finish_reason") or ""), answer)


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
        return [Delta(chunk, usage=usage)]
    return [*pieces[:-1], replace(pieces[-1], usage=usage)]


def _piece(raw: Mapping[str, Any], choice: Mapping[str, Any]) -> Delta:
    text = text_of((choice.get("delta") or {}).get("content"))
    return Delta(raw, text, finish=str(choice.get("finish_reason") or ""), choice=int(choice.get("index") or 0))


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The payloads of server-sent `data:` lines, whatever way the bytes were cut."""
    buffer = b""
    async for chunk in response.content.iter_any():
        buffer += chunk
        if len(buffer) > MAX_ANSWER_BYTES:
            raise Failed("garbage", "The provider streamed a line larger than 8 MB.")
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
    if buffer.startswith(b"data:"):
        yield buffer[5:].strip()


def usage_of(told: Any) -> Usage | None:
    """The provider's usage where it is plausible."""
    if not isinstance(told, Mapping):
        return None
    try:
        details = told.get("prompt_tokens_details") or {}
        usage = Usage(
            int(told["prompt_tokens"]), int(told.get("completion_tokens", 0)), int(details.get("cached_tokens") or 0)
        )
    except (KeyError, TypeError, ValueError):
        return None
    told_of = (usage.input_tokens, usage.output_tokens, usage.cached_tokens)
    return usage if all(0 <= tokens <= MOST_TOKENS for tokens in told_of) else None


def _estimated(request: Request, text: str) -> Usage:
    prompt = orjson.dumps(request.body.get("messages", [])).decode()
    return Usage(estimate_tokens(prompt), estimate_tokens(text), counted=False)


def _failure(error: Exception) -> Failed:
    if isinstance(error, Failed):
        return error
    if isinstance(error, aiohttp.ClientConnectorError):
        return Failed(
            "connect", f"The provider cannot be reached: {error.os_error.strerror or error.os_error}", sent=False
        )
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Failed("connect", "The provider did not accept the connection in time.", sent=False)
    if isinstance(error, aiohttp.InvalidURL):
        return Failed("connect", "The provider's address is not one that can be called.", sent=False)
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return Failed("timeout", "The provider did not answer in time.")
    return Failed("cut", f"The connection to the provider broke: {type(error).__name__}.")
