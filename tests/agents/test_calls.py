"""From the stream into the call log: once for each attempt, whatever is read twice, and the last word wins."""

from __future__ import annotations

import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import Any

import orjson
import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import calls, entries, partitions
from agents.connections import redis_sync
from agents.models import Call, CallHour, CallMinute
from guardrails.models import Finding
from tests import world
from tests.redis import empty_redis

FOUND = {
    "stage": "outbound", "us": 120, "rule": "canary", "family": "canary", "action": "block", "severity": "critical",
    "language": "en", "view": "plain", "start": 0, "end": 4, "excerpt": "…",
}  # fmt: skip


pytestmark = pytest.mark.django_db(transaction=True)  # as the drain works: each batch is a transaction of its own


@pytest.fixture(autouse=True)
def clean_redis() -> None:
    empty_redis()


def entry(call_id: str = "", attempt: int = 1, **fields: Any) -> dict[str, str]:
    given = {
        "call_id": call_id or uuid.uuid4(), "attempt": attempt, "at": "2026-11-23T10:00:00+00:00",
        "purpose": "gateway", "release": "acme@r1", "provider": "openai", "input_tokens": 10, "output_tokens": 5,
        "latency_ms": "12.50", "ttft_ms": "", "cost_nano": 20_000, "key_prefix": "ph_abc",
    }  # fmt: skip
    return world.entry(**{**given, **fields})


def expired(call_id: str, attempt: int = 1, nano: int = 500_000) -> dict[str, str]:
    return entry(call_id, attempt, status="expired", cost_nano=nano, price="estimated", input_tokens="", latency_ms="")


def test_the_same_entries_written_twice_are_the_same_rows() -> None:
    given = [entry() for _ in range(50)]
    assert calls.write(given) == 50
    assert calls.write(given) == 0
    assert calls.write([*given[:10], entry()]) == 1
    assert Call.objects.count() == 51


def test_the_same_attempt_twice_in_one_batch_is_one_row_and_another_attempt_another() -> None:
    one = str(uuid.uuid4())
    assert calls.write([entry(one), entry(one), entry(one, attempt=2, model="big")]) == 2
    assert list(Call.objects.order_by("attempt").values_list("attempt", "model")) == [(1, "small"), (2, "big")]


@pytest.mark.parametrize("batches", ["estimate first", "estimate last", "one batch", "one batch, turned round"])
def test_the_real_figure_takes_the_place_of_an_estimate_whichever_comes_first(batches: str) -> None:
    one = str(uuid.uuid4())
    real, estimate = entry(one, late=1, estimate_nano=500_000), expired(one)
    for batch in {
        "estimate first": [[estimate], [real]],
        "estimate last": [[real], [estimate]],
        "one batch": [[estimate, real]],
        "one batch, turned round": [[real, estimate]],
    }[batches]:
        calls.write(batch)
    row = Call.objects.get()
    assert (row.status, row.cost_nano, row.price, row.input_tokens) == ("ok", 20_000, "exact", 10)


def test_a_second_word_does_not_change_a_real_figure() -> None:
    one = str(uuid.uuid4())
    calls.write([entry(one)])
    calls.write([entry(one, cost_nano=1)])
    assert Call.objects.get().cost_nano == 20_000


def test_an_unknown_price_has_no_cost_and_the_database_insists() -> None:
    calls.write([entry(price="unknown", cost_nano="")])
    row = Call.objects.get()
    assert row.cost_nano is None
    for wrong in ({"price": "unknown", "cost_nano": 0}, {"price": "exact", "cost_nano": ""}, {"price": "guess"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            calls.write([entry(**wrong)])


def test_findings_come_along_once() -> None:
    given = entry(findings=orjson.dumps([FOUND]).decode(), policy_hash="abc")
    calls.write([given, given])
    calls.write([given, entry(given["call_id"], attempt=2)])
    finding = Finding.objects.get()
    assert (str(finding.call_id), finding.rule, finding.actor) == (given["call_id"], "canary", "key:ph_abc")


@settings(max_examples=30)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["agent", "channel", "release", "case_ref", "model", "error", "tier", "key_prefix"]),
            st.text(max_size=600),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_whatever_texts_an_entry_holds_it_becomes_a_row(texts: list[dict[str, str]]) -> None:
    """Tabs, new lines, backslashes, quotes, NUL: COPY must not stumble, and no row may be lost."""
    wanted = [entry(**{k: v.encode("utf-8", "replace").decode() for k, v in fields.items()}) for fields in texts]
    assert calls.write(wanted) == len(wanted)
    for one in wanted:
        row = Call.objects.get(call_id=one["call_id"])
        assert row.error == one.get("error", "").replace("\x00", "")[:300]


def test_two_drains_side_by_side_lose_nothing_and_double_nothing() -> None:
    given = [entry() for _ in range(3_000)]
    pipe = redis_sync().pipeline(transaction=False)
    for one in [*given, *given[:500]]:
        pipe.xadd("ph:calls", one)  # type: ignore[arg-type]
    pipe.execute()

    def work(name: str) -> None:
        calls.drain(lambda: calls.lag() == 0, name)
        connection.close()

    threads = [threading.Thread(target=work, args=(f"drain-{n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert Call.objects.count() == 3_000
    assert calls.lag() == 0


def test_what_a_drain_read_and_did_not_write_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "IDLE_MS", 0)
    redis_sync().xadd("ph:calls", entry())  # type: ignore[arg-type]
    calls._make_group()
    assert len(calls._read("dies-now")) == 1
    calls.drain(lambda: calls.lag() == 0, "another")
    assert Call.objects.count() == 1


def test_a_batch_that_postgres_refuses_stays_in_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    redis_sync().xadd("ph:calls", entry())  # type: ignore[arg-type]
    looks = chain([False, False], repeat(True))
    with monkeypatch.context() as away:
        away.setattr(calls, "write", lambda entries: (_ for _ in ()).throw(calls.DatabaseError("away")))
        calls.drain(lambda: next(looks), "unlucky")
    assert calls.lag() == 1
    monkeypatch.setattr(calls, "IDLE_MS", 0)
    calls.drain(lambda: calls.lag() == 0, "lucky")
    assert Call.objects.count() == 1


def test_one_entry_that_cannot_be_a_row_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "IDLE_MS", 0)
    bad = ({"price": "guess"}, {"call_id": "not-an-id"}, {"input_tokens": "many"}, {"output_tokens": 2**40})
    for one in (entry(), *(entry(**fields) for fields in bad), entry()):
        redis_sync().xadd("ph:calls", one)  # type: ignore[arg-type]
    calls.drain(lambda: calls.lag() == 0, "careful")
    assert Call.objects.count() == 2
    assert redis_sync().xlen(calls.BAD) == 4, "nothing is lost: these wait to be looked at"


def test_a_drain_that_dies_between_writing_and_acknowledging_doubles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "IDLE_MS", 0)
    for _ in range(5):
        redis_sync().xadd("ph:calls", entry())  # type: ignore[arg-type]
    calls._make_group()
    calls.write([entries.decoded(*read) for read in calls._read("dies-now")])
    calls.drain(lambda: calls.lag() == 0, "another")
    assert Call.objects.count() == 5
    assert {row.calls for row in CallHour.objects.all()} == {5}


def test_an_entry_without_a_time_is_the_same_row_whenever_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "IDLE_MS", 0)
    redis_sync().xadd("ph:calls", entry(at=""))  # type: ignore[arg-type]
    calls._make_group()
    calls.write([entries.decoded(*read) for read in calls._read("dies-now")])
    calls.drain(lambda: calls.lag() == 0, "another")
    assert Call.objects.count() == 1


def test_who_reads_a_table_for_long_does_not_hold_up_the_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "LOCK_MS", 50)
    day = datetime.now(UTC) - timedelta(days=30)
    reading, read = threading.Event(), threading.Event()

    def reader() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE agents_call_odd IN ACCESS SHARE MODE")
            reading.set()
            read.wait(10)
        connection.close()

    thread = threading.Thread(target=reader)
    thread.start()
    assert reading.wait(10)
    assert calls.write([entry(at=day.isoformat())]) == 1
    read.set()
    thread.join(10)
    partitions._later.clear()
    partitions.make([day.date()])
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM agents_call")
        assert cursor.fetchall() == [(f"agents_call_{day:%Y%m%d}",)]


def test_a_drain_that_is_told_to_stop_finishes_its_batch_and_the_next_takes_the_rest() -> None:
    """A graceful restart loses nothing."""
    pipe = redis_sync().pipeline(transaction=False)
    for _ in range(5_000):
        pipe.xadd("ph:calls", entry())  # type: ignore[arg-type]
    pipe.execute()
    stop = threading.Event()

    def work() -> None:
        calls.drain(stop.is_set, "old")
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    while Call.objects.count() == 0:
        time.sleep(0.005)
    stop.set()
    thread.join(30)
    assert Call.objects.count() + calls.lag() == 5_000
    calls.drain(lambda: calls.lag() == 0, "new")
    assert Call.objects.count() == sum(row.calls for row in CallMinute.objects.all()) == 5_000
