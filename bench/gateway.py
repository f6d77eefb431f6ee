"""The gateway with every layer on, beside the bare forwarder, in one run: `bin/bench gateway`.

On: API key, guardrails on question and answer, four budgets held and settled, the call log written down by the drain.
Afterwards the books must balance: one row for each answer, and the ledger's spend equal to the rows' sum.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import django
import orjson

os.environ["PILOTHOUSE_PROVIDER_ALLOWED_HOSTS"] = "127.0.0.1"
os.environ["UPSTREAM_API_KEY"] = "sk-bench"
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db.models import Count, Sum  # noqa: E402
from django.utils import timezone  # noqa: E402

from agents import calls, parts, releases  # noqa: E402
from agents.connections import redis_sync  # noqa: E402
from agents.models import Agent, Call, Channel, Scope  # noqa: E402
from bench import chart, peers  # noqa: E402
from bench.processes import BASE, WORKERS, cpu_s, free_port, granian, memory_mb, process  # noqa: E402
from budgets import ledger  # noqa: E402
from budgets.models import Budget  # noqa: E402
from console.models import ApiKey  # noqa: E402

REPORT = BASE / "docs" / "benchmarks" / "gateway.md"
CHART = BASE / "docs" / "benchmarks" / "gateway.svg"
CLIENTS = (1, 16, 32, 64)
SECONDS = float(os.environ.get("BENCH_SECONDS", "6"))
DELAYS_MS = (0, 22)
PEERS = os.environ.get("BENCH_PEERS", "1") == "1"
BARE, OURS = "bare forwarder", "Pilothouse"
HEAD = (
    "| server | clients | requests/s | of the limit | p50 ms | p99 ms | added p50 ms | CPU µs | errors | MB |",
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
)
QUESTION = (
    "Hello, I ordered a tent two weeks ago and one of the poles is bent. I would like to know how long I can return "
    "it, who pays for the parcel, and whether I have to send back the pegs as well, because I used them once."
)


PREAMBLE = """# Gateway

Measured on {day} with `bin/bench gateway` on {cores} cores, Python {python}, {s:.0f} s each. Server ({workers}
processes), provider, load, Redis, PostgreSQL and drain share the machine. On in Pilothouse: API key, guardrails on
question and answer (default policy, en pl de), four budgets held and settled, the breaker, the durable call log. The
bare forwarder (plain ASGI, aiohttp) does nothing but forward: it is the limit. The peers do nothing but forward, too.
CPU is that of the server's own processes, for each answer.

![Requests a second](gateway.svg)
"""
AFTERWARDS = """
Added over the bare forwarder at 1 client: {added:.2f} ms (median). Afterwards {rows:,} rows in the call log; the spend
of every budget is {balance} their sum.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """Figures of one server under so many clients, before a provider that takes `delay_ms`.

    `cpu_us`: of the server's processes, for each answer.
    """

    server: str
    delay_ms: int
    clients: int
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    errors: int
    mb: float


def main() -> None:
    with ExitStack() as stack:
        upstreams = {delay: free_port() for delay in DELAYS_MS}
        for delay, port in upstreams.items():
            stack.enter_context(process([sys.executable, "-m", "bench.upstream", str(port), str(delay)], port))
        key = _world(upstreams)
        rows = [*_bare(upstreams), *_ours(key), *_portkey(upstreams), *_litellm(upstreams)]
    books = _books()
    text = _report(rows, books)
    REPORT.write_text(text, encoding="utf-8")
    CHART.write_text(chart.bars(_rates(rows), "requests/s, 32 clients, provider without delay"), encoding="utf-8")
    sys.stdout.write(text)


def _bare(upstreams: dict[int, int]) -> list[Row]:
    rows = []
    for delay, upstream in upstreams.items():
        port = free_port()
        env = {**os.environ, "BENCH_UPSTREAM": f"http://127.0.0.1:{upstream}/v1/chat/completions"}
        with process(granian("bench.bare:app", port), port, env) as pid:
            rows += [_load(BARE, port, pid, clients, delay) for clients in CLIENTS]
    return rows


def _ours(key: str) -> list[Row]:
    port = free_port()
    drain = subprocess.Popen([sys.executable, str(BASE / "manage.py"), "drain"], cwd=BASE)
    try:
        with process(granian("console.asgi:application", port), port) as pid:
            _load("warm up", port, pid, 4, 0, key=key, seconds=12)
            return [_load(OURS, port, pid, clients, delay, key=key) for delay in DELAYS_MS for clients in CLIENTS]
    finally:
        _settled()
        drain.send_signal(signal.SIGTERM)
        drain.wait(10)


def _portkey(upstreams: dict[int, int]) -> list[Row]:
    port = free_port()
    command = peers.portkey(port) if PEERS else None
    if command is None:
        return []
    with process(command, port) as pid:
        return [
            _load("Portkey gateway", port, pid, clients, delay, key="sk-bench", headers=peers.portkey_headers(upstream))
            for delay, upstream in upstreams.items()
            for clients in CLIENTS
        ]


def _litellm(upstreams: dict[int, int]) -> list[Row]:
    port = free_port()
    models = {_model(delay): upstream for delay, upstream in upstreams.items()}
    command = peers.litellm(port, models) if PEERS else None
    if command is None:
        return []
    with process(command, port, peers.litellm_env()) as pid:
        _load("warm up", port, pid, 4, 0, key=peers.MASTER_KEY, seconds=4)
        return [
            _load("LiteLLM proxy", port, pid, clients, delay, key=peers.MASTER_KEY)
            for delay in DELAYS_MS
            for clients in CLIENTS
        ]


def _model(delay: int) -> str:
    return f"bench-{delay}"


def _load(
    server: str,
    port: int,
    pid: int,
    clients: int,
    delay: int,
    *,
    key: str = "",
    headers: Mapping[str, str] | None = None,
    seconds: float = SECONDS,
) -> Row:
    asked = {"model": _model(delay), "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 50}
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    command = [sys.executable, "-m", "bench.client", url, str(clients), str(seconds)]
    env = {**os.environ, "BENCH_HEADERS": json.dumps({"authorization": f"Bearer {key}", **(headers or {})})}
    used = cpu_s(pid)
    done = subprocess.run(command, input=orjson.dumps(asked), capture_output=True, check=True, cwd=BASE, env=env)
    told = orjson.loads(done.stdout)
    cpu_us = (cpu_s(pid) - used) / max(1, told["answers"]) * 1e6
    row = Row(
        server, delay, clients, told["rate"], told["p50_ms"], told["p99_ms"], cpu_us, told["errors"], memory_mb(pid)
    )
    sys.stderr.write(f"{server:16} {delay:3} ms {clients:3} clients  {row.rate:7.0f}/s  p50 {row.p50_ms:6.2f} ms\n")
    return row


# --- the world that is measured ------------------------------------------------------------------------------------


def _world(upstreams: dict[int, int]) -> str:
    """An agent with every layer on; the key that may use it."""
    call_command("migrate", verbosity=0)
    agent = Agent.objects.create(slug="bench", name="Bench", languages=["en", "pl", "de"])
    channel = Channel.objects.create(agent=agent, slug="web", name="Web")
    scope = Scope.objects.create(channel=channel, stage="expanded")
    price = {"input": "0.15", "output": "0.60"}
    models = {
        _model(delay): {
            "base_url": f"http://127.0.0.1:{port}/v1", "credential": "env:UPSTREAM_API_KEY", "price": price,
        }
        for delay, port in upstreams.items()
    }  # fmt: skip
    contents = {**parts.beginnings(agent.languages), "models": {"models": models}}
    made = {kind: releases.add_version(agent, kind, content, author="user:bench") for kind, content in contents.items()}
    releases.deploy(scope, releases.publish(agent, made, author="user:bench"), actor="user:bench")
    key, secret = ApiKey.issue(name="Bench", actor="user:bench", scopes=["gateway"], agent=agent, channel=channel)
    for kind, owner in (("organisation", ""), ("agent", "bench"), ("channel", "bench/web"), ("key", key.prefix)):
        limit = 10**15
        Budget.objects.open(actor="user:bench", owner_kind=kind, owner=owner, period="day", limit_nano=limit)
    return secret


def _settled() -> None:
    until = time.monotonic() + 60
    while calls.lag() and time.monotonic() < until:
        time.sleep(0.1)


def _books() -> dict[str, Any]:
    """What was written down against what the ledger says was spent."""
    rows = Call.objects.filter(status="ok").aggregate(n=Count("pk"), nano=Sum("cost_nano"))
    budgets = [budget.limit() for budget in Budget.objects.active()]
    spent = {balance.spent_nano for balance in ledger.balances(redis_sync(), budgets).values()}
    return {"rows": rows["n"], "balanced": spent == {rows["nano"]}}


# --- the report ----------------------------------------------------------------------------------------------------


def _report(rows: list[Row], books: dict[str, Any]) -> str:
    limit = {(row.delay_ms, row.clients): row for row in rows if row.server == BARE}
    lines = [
        PREAMBLE.format(
            day=timezone.localdate(), cores=os.cpu_count(), python=platform.python_version(), s=SECONDS, workers=WORKERS
        )
    ]
    for delay in DELAYS_MS:
        lines += [f"## Provider takes {delay} ms", "", *HEAD]
        lines += [_line(row, limit[delay, row.clients]) for row in rows if row.delay_ms == delay]
        lines.append("")
    added = _of(rows, OURS, 0, 1).p50_ms - _of(rows, BARE, 0, 1).p50_ms
    balance = "equal to" if books["balanced"] else "NOT equal to"
    lines += [AFTERWARDS.format(added=added, rows=books["rows"], balance=balance), *_against_peers(rows)]
    return "\n".join(lines)


def _line(row: Row, limit: Row) -> str:
    share, added = f"{row.rate / limit.rate:.0%}", f"{row.p50_ms - limit.p50_ms:.2f}"
    speed = f"{row.rate:,.0f} | {share} | {row.p50_ms:.2f} | {row.p99_ms:.2f} | {added}"
    return f"| {row.server} | {row.clients} | {speed} | {row.cpu_us:,.0f} | {row.errors} | {row.mb:.0f} |"


def _against_peers(rows: list[Row]) -> list[str]:
    ours = _of(rows, OURS, 0, 32)
    names = dict.fromkeys(row.server for row in rows if row.server not in (OURS, BARE))
    said = [f"{ours.rate / _of(rows, name, 0, 32).rate:.1f} times {name}" for name in names]
    return [f"With 32 clients and everything on: {', '.join(said)} with nothing on.\n"] if said else []


def _of(rows: list[Row], server: str, delay: int, clients: int) -> Row:
    return next(row for row in rows if (row.server, row.delay_ms, row.clients) == (server, delay, clients))


def _rates(rows: list[Row]) -> dict[str, float]:
    return {row.server: row.rate for row in rows if (row.delay_ms, row.clients) == (0, 32)}


if __name__ == "__main__":
    main()
