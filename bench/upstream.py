"""A provider that takes no time, or MS: answers every request with one fixed completion.

`python -m bench.upstream PORT [MS]`
"""

from __future__ import annotations

import asyncio
import sys

import orjson

ANSWER = orjson.dumps(
    {
        "id": "chatcmpl-bench", "object": "chat.completion", "created": 1, "model": "bench",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {
            "role": "assistant", "content": "You can return every item within 30 days of delivery, unused."}}],
        "usage": {"prompt_tokens": 60, "completion_tokens": 20, "total_tokens": 80},
    }
)  # fmt: skip
RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)


DELAY_S = float(sys.argv[2]) / 1000 if len(sys.argv) > 2 else 0.0


class Provider(asyncio.Protocol):
    """Just enough of HTTP/1.1: requests with a length, one after the other on a connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length :]
            if DELAY_S:
                asyncio.get_running_loop().call_later(DELAY_S, self.transport.write, RESPONSE)
            else:
                self.transport.write(RESPONSE)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
