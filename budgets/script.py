"""`ledger.lua` and the way to it: what the calls of one event loop ask of the ledger travels together.

A run of the script costs Redis and us more than what one call asks in it. So whatever is asked while a run is under way
goes with the next one: alone when nothing else happens, dozens together under load. Within a run Redis does one after
the other, in the order in which they were asked.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from weakref import WeakKeyDictionary

import hiredis
import orjson
from redis import Redis, RedisError, ResponseError
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError

COUNTER_TTL_S = 40 * 86_400  # a month and more: figures of a window that has ended can still be corrected
ESTIMATE_TTL_S = 86_400
MARK_TTL_S = 3_600  # 150 bytes for each call made: at 1,000 calls/s one hour is 0.5 GB, a day 13 GB
TIMES = {"COUNTER_TTL": COUNTER_TTL_S, "MARK_TTL": MARK_TTL_S, "ESTIMATE_TTL": ESTIMATE_TTL_S}
SCRIPT = "".join(f"local {name} = {seconds}\n" for name, seconds in TIMES.items()) + (
    Path(__file__).parent / "ledger.lua"
).read_text(encoding="utf-8")
SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
FAILED = 7  # as ledger.lua answers
MOST_TOGETHER = 128

Ask = Mapping[str, Any]


@dataclass(slots=True)
class _Asked:
    ask: bytes
    entry: bytes
    answer: asyncio.Future[Any]


class Link:
    """One connection of a client's pool, kept for the ledger of one event loop."""

    def __init__(self, redis: AsyncRedis) -> None:
        self._pool = redis.connection_pool
        self._connection: AbstractConnection | None = None
        self._waiting: list[_Asked] = []
        self._work: asyncio.Task[None] | None = None

    async def ask(self, ask: Ask, entry: bytes, within_s: float, *, keep: bool = False) -> Any:
        """The script's answer. What nobody waits for any more when its turn comes is not sent, unless it is to be kept.

        :raises RedisError, OSError: it was not heard; whether it was done is unknown.
        """
        loop = asyncio.get_running_loop()
        asked = _Asked(orjson.dumps(ask), entry, loop.create_future())
        self._waiting.append(asked)
        if self._work is None or self._work.done():
            self._work = loop.create_task(self._send_all())
        timer = loop.call_later(within_s, _fail, asked, TimeoutError("Redis does not answer."))
        try:
            return _heard(await (asyncio.shield(asked.answer) if keep else asked.answer))
        finally:
            if asked.answer.done():  # else it is kept for later than its caller
                timer.cancel()

    async def _send_all(self) -> None:
        while self._waiting:
            some = [asked for asked in self._waiting[:MOST_TOGETHER] if not asked.answer.done()]
            del self._waiting[:MOST_TOGETHER]
            if some:
                await self._send(some)

    async def _send(self, some: Sequence[_Asked]) -> None:
        try:
            answers = await self._run([part for asked in some for part in (asked.ask, asked.entry)])
            for asked, answer in zip(some, answers, strict=True):
                if not asked.answer.done():
                    asked.answer.set_result(answer)
        except (RedisError, OSError) as error:
            for asked in some:
                _fail(asked, error)
        finally:
            for asked in some:
                asked.answer.cancel()  # those that have an answer keep it

    async def _run(self, arguments: Sequence[bytes]) -> list[Any]:
        try:
            return await self._exchange("EVALSHA", SHA, 0, *arguments)
        except NoScriptError:
            return await self._exchange("EVAL", SCRIPT, 0, *arguments)

    async def _exchange(self, *words: str | bytes | int) -> list[Any]:
        connection = self._connection
        if connection is None:
            connection = self._connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        elif connection.is_connected and await connection.can_read():  # Redis has hung up meanwhile
            await connection.disconnect()
        packed = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub knows tuples of one
        await connection.send_packed_command(packed)
        return cast("list[Any]", await connection.read_response())


_links: WeakKeyDictionary[AsyncRedis, Link] = WeakKeyDictionary()


async def ask(redis: AsyncRedis, ask: Ask, within_s: float, entry: bytes = b"", *, keep: bool = False) -> Any:
    """What the script answers to one ask. :raises RedisError, OSError: as `Link.ask` does."""
    link = _links.get(redis)
    if link is None:
        link = _links[redis] = Link(redis)
    return await link.ask(ask, entry, within_s, keep=keep)


def ask_sync(redis: Redis, ask: Ask) -> int:
    """The same for those who can wait, and for numbers."""
    words = (orjson.dumps(ask), b"")
    try:
        (answer,) = redis.evalsha(SHA, 0, *words)
    except NoScriptError:
        (answer,) = redis.eval(SCRIPT, 0, *words)
    return int(_heard(answer))


def _heard(answer: Any) -> Any:
    if isinstance(answer, list) and answer[0] == FAILED:
        raise ResponseError(answer[1])
    return answer


def _fail(asked: _Asked, error: Exception) -> None:
    if not asked.answer.done():
        asked.answer.set_exception(error)
