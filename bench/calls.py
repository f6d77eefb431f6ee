"""The call log: how soon a call can be seen, and how long usage takes with 10 million calls: `bin/bench calls`."""

from __future__ import annotations

import os
import platform
import signal
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.db.models import Max, Q, Sum  # noqa: E402
from django.utils import timezone  # noqa: E402

from agents import calls, partitions, usage  # noqa: E402
from agents.connections import redis_sync  # noqa: E402
from agents.models import Call, CallHour, CallMinute  # noqa: E402
from bench.processes import BASE  # noqa: E402
from budgets.ledger import STREAM  # noqa: E402

REPORT = BASE / "docs" / "benchmarks" / "calls.md"
RATE, SECONDS, TICK_S = 1_000, float(os.environ.get("BENCH_SECONDS", "10")), 0.02
DAYS = 90
SPANS = (1, 7, 30, 90)

# Four agents, twelve scopes, three models, two outcomes, every hour, and every minute of two days.
FILL = """
INSERT INTO {table} (start, agent, channel, scope, release, provider, model, tier, purpose, key_prefix, status, calls,
    unpriced, estimated, input_tokens, cached_tokens, output_tokens, cost_nano, charged_nano, compared_nano,
    largest_nano, latency_ms, latencies)
SELECT start, 'agent' || s %% 4, 'agent' || s %% 4 || '/web', 'agent' || s %% 4 || '/web/topic' || s, 'agent@r' || m,
    'openai', 'model-' || m, 'tier' || m, 'turn', 'ph_' || s %% 3, o, {n}, 0, 0, {n} * 100, 0, {n} * 30, {n} * 20000,
    {n} * 20000, {n} * 20000, {n} * 50000, {n} * 500,
    (array_fill(0::real, ARRAY[40]) || array_fill(2::real, ARRAY[32]) || array_fill(0::real, ARRAY[70]))::vector
FROM generate_series(date_trunc(%(unit)s, now()) - make_interval(days => %(days)s), now(), ('1 ' || %(unit)s)::interval)
    AS start, generate_series(1, 12) AS s, generate_series(1, 3) AS m, unnest(ARRAY['ok', 'error']) AS o
"""

PREAMBLE = """# Call log

Measured on {day} with `bin/bench calls` on {cores} cores, Python {python}. Load, Redis, PostgreSQL and drain share the
machine.

## How soon a call can be seen

{n:,} calls at {rate:,} a second for {s:.0f} s, one drain. From the entry in Redis until its row and its sums are in
PostgreSQL: median {p50:.2f} s, 99 % within {p99:.2f} s, longest {longest:.2f} s. Afterwards there are {rows:,} rows,
and the sums by minute and hour tell of {minutes:,} and {hours:,} calls.

## How long usage takes with {stored:,} calls in {kept:,} sums by hour and {kept_minutes:,} by minute

Milliseconds, median of five.

| question | 1 day | 7 days | 30 days | 90 days |
|---|---:|---:|---:|---:|
"""


def main() -> None:
    call_command("migrate", verbosity=0)
    partitions.make_ahead()
    seen = _stream()
    minutes, hours = (model.objects.aggregate(n=Sum("calls"))["n"] for model in (CallMinute, CallHour))
    figures = {
        "p50": statistics.median(seen), "p99": statistics.quantiles(seen, n=100)[-1], "longest": max(seen),
        "rows": Call.objects.count(), "minutes": minutes, "hours": hours, "n": int(RATE * SECONDS), **_filled(),
    }  # fmt: skip
    machine = {"day": timezone.localdate(), "cores": os.cpu_count(), "python": platform.python_version()}
    lines = [PREAMBLE.format(**machine, rate=RATE, s=SECONDS, **figures)]
    for name, ask in QUESTIONS.items():
        lines.append(f"| {name} | " + " | ".join(f"{_ms(ask, days):.0f}" for days in SPANS) + " |\n")
    text = "".join(lines)
    REPORT.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


# --- how soon ------------------------------------------------------------------------------------------------------


def _stream() -> list[float]:
    """Seconds from each of many moments until all that had been sent by then could be seen."""
    drain = subprocess.Popen([sys.executable, str(BASE / "manage.py"), "drain"], cwd=BASE)
    sending = threading.Thread(target=_send)
    seen = []
    try:
        time.sleep(3)  # until it drains
        sending.start()
        while sending.is_alive() or calls.lag():
            newest = Call.objects.filter(at__gte=timezone.now() - timedelta(minutes=5)).aggregate(at=Max("at"))["at"]
            if newest and sending.is_alive():
                seen.append((timezone.now() - newest).total_seconds())
            time.sleep(0.02)
    finally:
        drain.send_signal(signal.SIGTERM)
        drain.wait(10)
    return seen


def _send() -> None:
    begun, sent = time.monotonic(), 0
    while sent < RATE * SECONDS:
        due = int(min(time.monotonic() - begun, SECONDS) * RATE)
        pipe = redis_sync().pipeline(transaction=False)
        for n in range(sent, due):
            pipe.xadd(STREAM, _entry(n))
        pipe.execute()
        sent = due
        time.sleep(TICK_S)


def _entry(n: int) -> Any:
    return {
        "call_id": str(uuid.uuid4()), "attempt": "1", "at": datetime.now(UTC).isoformat(), "purpose": "gateway",
        "agent": f"agent{n % 4}", "channel": f"agent{n % 4}/web", "scope": f"agent{n % 4}/web", "release": "agent@r1",
        "provider": "openai", "model": f"model-{n % 3}", "tier": "small", "status": "ok", "input_tokens": "100",
        "output_tokens": "30", "latency_ms": str(100 + n % 900), "cost_nano": "20000", "charged_nano": "20000",
        "price": "exact", "key_prefix": "ph_bench",
    }  # fmt: skip


# --- how long ------------------------------------------------------------------------------------------------------


def _filled() -> dict[str, int]:
    today = datetime.now(UTC).date()
    partitions.make(today - timedelta(days=n) for n in range(DAYS + 1))
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE agents_callminute, agents_callhour")
        for table, unit, days, n in (("agents_callhour", "hour", DAYS, 64), ("agents_callminute", "minute", 2, 1)):
            cursor.execute(FILL.format(table=table, n=n), {"unit": unit, "days": days})
            cursor.execute(f"VACUUM ANALYZE {table}")
    stored = CallHour.objects.aggregate(n=Sum("calls"))["n"]
    return {"stored": stored, "kept": CallHour.objects.count(), "kept_minutes": CallMinute.objects.count()}


QUESTIONS: dict[str, Callable[[datetime, datetime], object]] = {
    "cost by day": lambda since, until: usage.by("day", Q(), since, until),
    "cost by day in Warsaw": lambda since, until: usage.by("day", Q(), since, until, ZoneInfo("Europe/Warsaw")),
    "cost by hour": lambda since, until: usage.by("hour", Q(), since, until),
    "cost by topic": lambda since, until: usage.by("topic", Q(), since, until),
    "one agent's cost by model": lambda since, until: usage.by("model", Q(agent="agent1"), since, until),
    "cost by day and model": lambda since, until: usage.over_time("model", Q(), since, until, "day"),
    "p50 and p95 by model": lambda since, until: usage.percentiles("model", Q(), since, until, [0.5, 0.95]),
    "p95 by day": lambda since, until: usage.percentiles("day", Q(), since, until, [0.95]),
    "p95 by hour": lambda since, until: usage.percentiles("hour", Q(), since, until, [0.95]),
}


def _ms(ask: Callable[[datetime, datetime], object], days: int) -> float:
    until = timezone.now()
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        ask(until - timedelta(days=days), until)
        took.append((time.perf_counter() - begun) * 1000)
    return statistics.median(took)


if __name__ == "__main__":
    main()
