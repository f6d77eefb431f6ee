"""Load: N clients that each ask again as soon as they are answered. Prints one JSON line.

`python -m bench.client URL CLIENTS SECONDS < request body`, more headers as JSON in BENCH_HEADERS.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import orjson


class Client(asyncio.Protocol):
    """One connection that is kept; counts answers, keeps how long each took."""

    def __init__(self, request: bytes, took: list[float], errors: list[int]) -> None:
        self.request, self.took, self.errors = request, took, errors
        self.buffer, self.stopped = b"", False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        self.at = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else self._chunked(end + 4)
        if length < 0 or len(self.buffer) < end + 4 + length:
            return
        self.took.append(time.perf_counter() - self.at)
        if not head.startswith(b"http/1.1 200"):
            self.errors.append(int(head[9:12]))
        self.buffer = self.buffer[end + 4 + length :]
        if not self.stopped:
            self.ask()

    def _chunked(self, start: int) -> int:
        """The length of a chunked body that has come whole, else -1; no answer here holds the end's bytes itself."""
        end = self.buffer.find(b"0\r\n\r\n", start)
        return end + 5 - start if end >= 0 else -1

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        if not self.stopped:
            self.errors.append(0)


async def load(url: str, clients: int, seconds: float, body: bytes, headers: Mapping[str, str]) -> dict[str, float]:
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    head = f"POST {parts.path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head += f"content-length: {len(body)}\r\n\r\n"
    took: list[float] = []
    errors: list[int] = []
    loop = asyncio.get_running_loop()
    made = [
        (await loop.create_connection(lambda: Client(head.encode() + body, took, errors), host, port))[1]
        for _ in range(clients)
    ]
    began = time.perf_counter()
    took.clear()
    await asyncio.sleep(seconds)
    done, lasted = len(took), time.perf_counter() - began
    for client in made:
        client.stopped = True
    await asyncio.sleep(0.5)  # what is under way is answered, and counted by the server as well
    ranked = sorted(took[:done])
    return {
        "rate": done / lasted,
        "p50_ms": ranked[done // 2] * 1000 if done else 0,
        "p99_ms": ranked[int(done * 0.99)] * 1000 if done else 0,
        "answers": len(took),
        "errors": len(errors),
    }


if __name__ == "__main__":
    target, clients, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    figures = asyncio.run(
        load(target, clients, seconds, sys.stdin.buffer.read(), orjson.loads(os.environ["BENCH_HEADERS"]))
    )
    sys.stdout.write(orjson.dumps(figures).decode() + "\n")
