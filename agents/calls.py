"""From the call stream into Postgres: a consumer group, COPY, and idempotence on the attempt's own id and time."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from django.db import DataError, IntegrityError, connection, transaction
from django.db import Error as DatabaseError
from redis import RedisError, ResponseError

from agents import bodies, partitions, private, recount
from agents.connections import redis_sync
from agents.entries import COLUMNS, LOCK, attempt_of, decoded, moment, row
from budgets.ledger import STREAM
from guardrails.models import Finding
from guardrails.screen import Seen

BAD = "ph:calls:bad"
GROUP = "postgres"
BATCH = 2_000
BLOCK_MS = 250
PARTITIONS_S = 3_600
IDLE_MS = 15_000
GATHER_S = 0.2  # a transaction for a few rows costs as much as one for many
log = logging.getLogger(__name__)

KEY = ("call_id", "attempt", "at")  # the same for every entry of an attempt


def drain(stopped: Callable[[], bool], consumer: str) -> None:
    """Move entries until told to stop.

    What was read and not written is read again: nothing is lost, nothing is doubled.
    """
    redis = redis_sync()
    _make_group()
    claimed_at = made_at = -math.inf
    while not stopped():
        try:
            if time.monotonic() - made_at > PARTITIONS_S:
                made_at = time.monotonic()
                partitions.make_ahead()
            if time.monotonic() - claimed_at > IDLE_MS / 1000:
                claimed_at = time.monotonic()
                _, stale, *_ = redis.xautoclaim(STREAM, GROUP, consumer, IDLE_MS, count=BATCH)
                _move([entry for entry in stale if entry[1]])
            entries = _read(consumer)
            _move(entries)
            if len(entries) < BATCH and not stopped():
                time.sleep(GATHER_S)
        except (RedisError, DatabaseError) as error:
            log.warning("calls wait in the stream: %s", type(error).__name__)
            connection.close()
            time.sleep(0.5)
            _make_group()


def lag() -> int:
    """Entries that are in the stream and not in Postgres yet."""
    return int(redis_sync().xlen(STREAM))


def _make_group() -> None:
    try:
        redis_sync().xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    except ResponseError:  # it is there
        pass
    except RedisError as error:
        log.warning("Redis is away: %s", type(error).__name__)


def _read(consumer: str) -> Sequence[tuple[bytes, dict[bytes, bytes]]]:
    answer: Any = redis_sync().xreadgroup(GROUP, consumer, {STREAM: ">"}, count=BATCH, block=BLOCK_MS)
    return answer[0][1] if answer else []


def _move(entries: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> None:
    """Write a batch, then take it off the stream."""
    if not entries:
        return
    found = private.in_entries([decoded(entry_id, fields) for entry_id, fields in entries])
    try:
        write(found)
    except (ValueError, DataError, IntegrityError):
        _write_apart(found)
    pipe = redis_sync().pipeline(transaction=False)
    ids = [entry_id for entry_id, _ in entries]
    pipe.xack(STREAM, GROUP, *ids)
    pipe.xdel(STREAM, *ids)
    _, deleted = pipe.execute()
    if deleted < len(ids):  # read by two drains, or Redis has lost its memory: nobody who counted saw these
        recount.recount(anew=True)


def _write_apart(entries: Sequence[Mapping[str, str]]) -> None:
    """One by one: an entry that cannot be a row is kept aside in `BAD` and holds up nobody."""
    for entry in entries:
        try:
            write([entry])
        except (ValueError, DataError, IntegrityError) as error:
            log.exception("a call cannot be written down: %s", type(error).__name__)
            redis_sync().xadd(BAD, dict(entry), maxlen=10_000)  # type: ignore[arg-type]


def write(entries: Sequence[Mapping[str, str]]) -> int:
    """Rows for the entries that have none yet; the number of new rows.

    A corrected entry replaces an estimate by expiry.
    """
    partitions.make({at.date() for entry in entries if (at := moment(entry.get("at", "")))})
    kept = bodies.kept(entries)
    with transaction.atomic():
        fresh = _write_rows(entries)
        told = [one for one in entries if attempt_of(one) in fresh]
        bodies.write(told, kept)
        untold = set(fresh)
        for entry in told:
            if entry.get("findings") and attempt_of(entry) in untold:
                untold.remove(attempt_of(entry))
                _write_findings(entry)
    return len(fresh)


def _write_rows(entries: Sequence[Mapping[str, str]]) -> set[tuple[str, int]]:
    with connection.cursor() as cursor:
        names = ", ".join(COLUMNS)
        cursor.execute(
            "CREATE TEMP TABLE IF NOT EXISTS incoming ON COMMIT DELETE ROWS AS "
            f"SELECT {names} FROM agents_call WITH NO DATA"
        )
        copying = f"COPY incoming ({names}) FROM STDIN"
        with connection.wrap_database_errors, cursor.copy(copying) as copy:
            for entry in entries:
                copy.write_row(row(entry))
        cursor.execute(LOCK)
        updates = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name not in KEY)
        cursor.execute(
            f"INSERT INTO agents_call ({names}) SELECT DISTINCT ON (call_id, attempt, at) {names} FROM incoming "
            "ORDER BY call_id, attempt, at, (status = 'expired') "
            f"ON CONFLICT (call_id, attempt, at) DO UPDATE SET {updates} "
            "WHERE agents_call.status = 'expired' AND excluded.status <> 'expired' RETURNING call_id, attempt",
        )
        fresh = {(str(call_id), attempt) for call_id, attempt in cursor.fetchall()}
        cursor.execute("DELETE FROM incoming")  # a transaction around this one may write again
    return fresh


def _write_findings(entry: Mapping[str, str]) -> None:
    for found in orjson.loads(entry["findings"]):
        stage, us = found.pop("stage"), found.pop("us")
        Finding.objects.record(
            [Seen(**found)],
            agent=entry.get("agent", ""),
            scope=entry.get("scope", ""),
            stage=stage,
            policy_hash=entry.get("policy_hash", ""),
            call_id=uuid.UUID(entry["call_id"]),
            latency_us=us,
            actor=f"key:{entry.get('key_prefix', '')}",
        )
