"""What the gateway does while something that it stands on is away, and what the log knows afterwards.

`PILOTHOUSE_OUTAGE_S` and `PILOTHOUSE_KILLS` make outages longer and kills more than the suite has time for.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from aiohttp import web

from budgets import ledger
from tests import world
from tests.house.conftest import KEY, WITH_PROVIDER, Instance, instance, wait_for
from tests.house.test_kill import Caller, children
from tests.upstream import Asked, Fails, Says, Upstream

KILLS = int(os.environ.get("PILOTHOUSE_KILLS", "4"))
OUTAGE_S = float(os.environ.get("PILOTHOUSE_OUTAGE_S", "8"))
CLIENTS = 6
Answer = tuple[str, int, float, dict[str, str]]  # case, status, seconds, headers


@dataclass
class Load:
    """Clients that call the gateway one after the other, each call under a case reference of its own."""

    caller: Caller
    model: str
    answers: list[tuple[str, int, float, dict[str, str]]] = field(
        default_factory=list
    )  # case, status, seconds, headers

    def call(self, case: str = "") -> tuple[str, int, float, dict[str, str]]:
        case = case or f"out-{uuid.uuid4().hex}"
        body = {"model": self.model, "messages": [{"role": "user", "content": f"How long do returns take? {case}"}]}
        headers = {
            "authorization": f"Bearer {KEY}", "content-type": "application/json", "x-pilothouse-case": case,
            "x-pilothouse-channel": "support/email",
        }  # fmt: skip
        request = urllib.request.Request(f"{self.caller.base}/v1/chat/completions", json.dumps(body).encode(), headers)
        began = time.monotonic()
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                answer.read()
                status, told = answer.status, dict(answer.headers)
        except urllib.error.HTTPError as error:
            error.read()
            status, told = error.code, dict(error.headers)
        except OSError:
            status, told = 0, {}
        found = (case, status, time.monotonic() - began, {name.lower(): value for name, value in told.items()})
        self.answers.append(found)
        return found

    @contextmanager
    def running(self, clients: int = CLIENTS) -> Iterator[None]:
        stop = threading.Event()

        def talk() -> None:
            while not stop.is_set():
                if self.call()[1] != 200:
                    time.sleep(0.02)

        with ThreadPoolExecutor(clients) as pool:
            talking = [pool.submit(talk) for _ in range(clients)]
            try:
                yield
            finally:
                stop.set()
            for one in talking:
                one.result(40)

    def good(self) -> list[str]:
        return [case for case, status, _, _ in list(self.answers) if status == 200]


@pytest.fixture(scope="module")
def own() -> Iterator[Instance]:
    """An instance of this module's own: what is stopped here is missed by no other test."""
    with instance(**WITH_PROVIDER) as started:
        yield started


@pytest.fixture
def caller(own: Instance, provider: Upstream) -> Caller:
    provider.forget()
    redis_of(own).delete(*(list(redis_of(own).scan_iter("ph:circuit*")) or ["-"]))
    made = Caller(own)
    assert wait_for(made.drained, 30), "the test before this one may have killed it"
    made.deploy(world.served_by(provider.url, tiers={"small": ["small", "big"]}, default_tier="small"))
    assert wait_for(lambda: Load(made, "big").call()[1] == 200, 20)
    provider.forget()
    return made


def redis_of(own: Instance) -> redis.Redis:
    [socket] = [path for path in own.data.rglob("*") if path.is_socket() and "redis" in path.name]
    return redis.Redis(unix_socket_path=str(socket))


def processes(own: Instance, name: str) -> list[int]:
    """Those of the instance whose command begins with that name."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")[0].decode()
            about = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if Path(command.split(":")[0]).name.startswith(name) and os.fsencode(own.data) in about:
            found.append(int(process.name))
    return found


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """They neither work nor say that they do not, which is worse than being gone."""
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def rows_of(caller: Caller, cases: set[str]) -> Counter[str]:
    assert wait_for(caller.drained, 20)
    return Counter(row["case_ref"] for row in caller.every("/api/v1/calls") if row["case_ref"] in cases)


@pytest.mark.parametrize("way", ["hangs", "is killed"])
def test_without_redis_callers_hear_so_within_a_second_and_it_comes_back_by_itself(
    own: Instance, caller: Caller, way: str
) -> None:
    load = Load(caller, "small")
    assert load.call()[1] == 200
    pids = processes(own, "redis-server")
    if way == "hangs":
        with stopped(pids):
            told = [load.call() for _ in range(5)]
        assert {status for _, status, _, _ in told} == {503}
        assert all(headers["retry-after"] for *_, headers in told)
        assert max(seconds for _, _, seconds, _ in told) < 1.5, "one second, and what a busy machine adds"
    else:
        os.kill(pids[0], signal.SIGKILL)
        _, status, seconds, _ = load.call()
        assert status in (200, 503)
        assert seconds < 1.5
    assert wait_for(lambda: load.call()[1] == 200, 30), "it comes back by itself"


def test_without_postgres_the_gateway_answers_on_and_the_log_is_complete_afterwards(
    own: Instance, caller: Caller
) -> None:
    load = Load(caller, "small")
    assert load.call()[1] == 200
    with stopped(processes(own, "postgres")):
        before = len(load.answers)
        with load.running():
            time.sleep(OUTAGE_S)
        during = load.answers[before:]
    assert len(during) > 20
    assert {status for _, status, _, _ in during} == {200}
    assert wait_for(lambda: bool(load.call()[1] == 200), 10)
    cases = set(load.good())
    assert rows_of(caller, cases) == Counter(dict.fromkeys(cases, 1))


def test_no_call_that_reached_its_provider_is_missing_or_doubled_though_the_gateway_is_killed_again_and_again(
    own: Instance, caller: Caller, provider: Upstream
) -> None:
    """Every second time one of its processes, else all of them at once."""

    @dataclass
    class Soon:
        async def give(self, request: web.Request, asked: Asked) -> web.StreamResponse:
            await asyncio.sleep(0.05)
            return await Says().give(request, asked)

    provider.always("small", Soon())
    load = Load(caller, "small")
    with load.running():
        for kill in range(KILLS):
            reached = len(load.good())
            assert wait_for(lambda reached=reached: len(load.good()) >= reached + 15, 40), "it answers again"  # type: ignore[misc]
            # Processes of a server that was killed answer on for a moment: the new one has its own only then.
            assert wait_for(lambda: bool(children(own.pid("web"))), 20)
            server = own.pid("web")
            os.kill(children(server)[0] if kill % 2 == 0 else server, signal.SIGKILL)
        reached = len(load.good())
        assert wait_for(lambda: len(load.good()) >= reached + 15, 40)
    ledger.expire(redis_of(own), datetime.now(UTC) + timedelta(hours=1))  # the holds of the dead, without the wait
    cases = {case for case, *_ in load.answers}
    asked = Counter(one.body["messages"][-1]["content"].rpartition(" ")[2] for one in provider.asked)
    rows = rows_of(caller, cases)
    assert set(asked) <= cases
    assert {case: rows[case] for case in asked} == dict(asked)
    assert all(n == 1 for n in rows.values())
    broken = [case for case, status, _, _ in load.answers if status != 200]
    assert broken, "the kills hit nobody"


def test_an_outage_of_the_first_model_costs_few_attempts_and_little_time(
    own: Instance, caller: Caller, provider: Upstream
) -> None:
    provider.always("small", Fails(500, "down"))
    load = Load(caller, "auto")
    began = time.monotonic()
    with ThreadPoolExecutor(30) as pool:
        calls = []
        while time.monotonic() - began < OUTAGE_S:
            calls.append(pool.submit(load.call))
            time.sleep(1 / 15)
        answers = [one.result(30) for one in calls]
    assert {status for _, status, _, _ in answers} == {200}
    tried = provider.models().count("small")
    open_after = 5  # failures in a row
    most_probes = 4 if OUTAGE_S > 30 else 3
    assert tried <= open_after + most_probes + 3, "calls that were under way when it opened"
    took = sorted(seconds for _, _, seconds, _ in answers[15:])
    told = f"{tried} attempts in {OUTAGE_S:.0f} s, median {statistics.median(took) * 1000:.0f} ms, "
    print(told + f"p95 {took[int(0.95 * len(took))] * 1000:.0f} ms")
    assert took[int(0.95 * len(took))] < 1.0
