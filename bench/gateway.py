"""The gateway with every layer on, beside the bare forwarder, in one run: `bin/bench gateway`.

On: API key, guardrails on question and answer, four budgets held and settled, the call log written down by the drain.
Afterwards the books must balance: one row for each answer, and the ledger's spend equal to the rows' sum.
"""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
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
from budgets import ledger  # noqa: E402
from budgets.models import Budget  # noqa: E402
from console.models import ApiKey  # noqa: E402

BASE = Path(__file__).resolve().parent.parent
REPORT = BASE / "docs" / "benchmarks" / "gateway.md"
CLIENTS = (1, 16, 32, 64)
SECONDS = float(os.environ.get("BENCH_SECONDS", "6"))
WORKERS = "2"
QUESTION = (
    "Hello, I ordered a tent two weeks ago and one of the poles is bent. I would like to know how long I can return "
    "it, who pays for the parcel, and whether I have to send back the pegs as well, because I used them once."
)


PREAMBLE = """# Gateway

Measured on {day} with `bin/bench gateway` on {cores} cores, Python {python}, {s:.0f} s each. Server ({workers}
processes), provider, load, Redis, PostgreSQL and drain share the machine. The provider answers at once. On in
Pilothouse: API key, guardrails on question and answer (default policy, en pl de), four budgets held and settled, the
durable call log. The bare forwarder (plain ASGI, aiohttp) does nothing but forward: it is the limit.
"""
AFTERWARDS = """
Added over the bare forwarder at 1 client: {added:.2f} ms (median). Afterwards {rows:,} rows in the call log; the spend
of every budget is {balance} their sum.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """Figures of one server under so many clients."""

    server: str
    clients: int
    rate: float
    p50_ms: float
    p99_ms: float
    errors: int
    mb: float


def main() -> None:
    upstream = _free_port()
    with process([sys.executable, "-m", "bench.upstream", str(upstream)], upstream):
        key = _world(f"http://127.0.0.1:{upstream}/v1")
        rows = [*_measure_bare(upstream), *_measure_ours(key)]
    books = _books(sum(row.errors for row in rows))
    text = _report(rows, books)
    REPORT.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def _measure_bare(upstream: int) -> list[Row]:
    port = _free_port()
    os.environ["BENCH_UPSTREAM"] = f"http://127.0.0.1:{upstream}/v1/chat/completions"
    with process(_granian("bench.bare:app", port), port) as pid:
        return [_load("bare forwarder", port, pid, clients, "") for clients in CLIENTS]


def _measure_ours(key: str) -> list[Row]:
    port = _free_port()
    drain = subprocess.Popen([sys.executable, str(BASE / "manage.py"), "drain"], cwd=BASE)
    try:
        with process(_granian("console.asgi:application", port), port) as pid:
            _load("warm up", port, pid, 4, key, seconds=2)
            return [_load("Pilothouse", port, pid, clients, key) for clients in CLIENTS]
    finally:
        _settled()
        drain.send_signal(signal.SIGTERM)
        drain.wait(10)


def _granian(target: str, port: int) -> list[str]:
    """The server as `bin/up` starts it."""
    command = [str(Path(sys.executable).with_name("granian")), "--interface", "asgi", "--no-ws", "--backlog", "2048"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", WORKERS, "--log-level", "warning"]
    return [*command, "--working-dir", str(BASE), target]


def _load(server: str, port: int, pid: int, clients: int, key: str, seconds: float = SECONDS) -> Row:
    body = orjson.dumps({"model": "bench", "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 50})
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    command = [sys.executable, "-m", "bench.client", url, str(clients), str(seconds)]
    done = subprocess.run(
        command, input=body, capture_output=True, check=True, cwd=BASE, env={**os.environ, "BENCH_KEY": key}
    )
    told = orjson.loads(done.stdout)
    row = Row(server, clients, told["rate"], told["p50_ms"], told["p99_ms"], told["errors"], _memory_mb(pid))
    sys.stderr.write(f"{server:16} {clients:3} clients  {row.rate:7.0f}/s  p50 {row.p50_ms:6.2f} ms\n")
    return row


# --- the world that is measured ------------------------------------------------------------------------------------


def _world(upstream: str) -> str:
    """An agent with every layer on; the key that may use it."""
    call_command("migrate", verbosity=0)
    agent = Agent.objects.create(slug="bench", name="Bench", languages=["en", "pl", "de"])
    channel = Channel.objects.create(agent=agent, slug="web", name="Web")
    scope = Scope.objects.create(channel=channel, stage="expanded")
    price = {"input": "0.15", "output": "0.60"}
    model = {"base_url": upstream, "credential": "env:UPSTREAM_API_KEY", "price": price}
    contents = {**parts.beginnings(agent.languages), "models": {"models": {"bench": model}}}
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


def _books(errors: int) -> dict[str, Any]:
    """What was written down against what the ledger says was spent."""
    rows = Call.objects.filter(status="ok").aggregate(n=Count("pk"), nano=Sum("cost_nano"))
    budgets = [budget.limit() for budget in Budget.objects.active()]
    spent = {balance.spent_nano for balance in ledger.balances(redis_sync(), budgets).values()}
    return {"rows": rows["n"], "balanced": spent == {rows["nano"]}, "errors": errors}


def _report(rows: list[Row], books: dict[str, Any]) -> str:
    bare = {row.clients: row for row in rows if row.server == "bare forwarder"}
    told = PREAMBLE.format(
        day=timezone.localdate(), cores=os.cpu_count(), python=platform.python_version(), s=SECONDS, workers=WORKERS
    )
    lines = [
        told,
        "| server | clients | requests/s | of the limit | p50 ms | p99 ms | errors | MB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        share = f"{row.rate / bare[row.clients].rate:.0%}"
        figures = f"{row.rate:,.0f} | {share} | {row.p50_ms:.2f} | {row.p99_ms:.2f} | {row.errors} | {row.mb:.0f}"
        lines.append(f"| {row.server} | {row.clients} | {figures} |")
    ours = {row.clients: row for row in rows if row.server == "Pilothouse"}
    added = ours[1].p50_ms - bare[1].p50_ms
    lines.append(
        AFTERWARDS.format(added=added, rows=books["rows"], balance="equal to" if books["balanced"] else "NOT equal to")
    )
    return "\n".join(lines)


# --- processes -----------------------------------------------------------------------------------------------------


@contextmanager
def process(command: list[str], port: int) -> Iterator[int]:
    started = subprocess.Popen(command, cwd=BASE, env=dict(os.environ))
    try:
        _wait_for(port)
        yield started.pid
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(15)


def _wait_for(port: int) -> None:
    """Until it takes connections and answers what it is asked."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit(f"Nothing listens on port {port}.")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _memory_mb(pid: int) -> float:
    """Resident memory of the process and its children, in MB."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(_resident_kb(one) for one in (pid, *map(int, children))) / 1024


def _resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)


if __name__ == "__main__":
    main()
