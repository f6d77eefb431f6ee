"""Alive, ready, and the figures."""

from __future__ import annotations

import time
import uuid
from typing import Any

import psycopg
import pytest
from django.test import Client
from django.utils import timezone

from agents.connections import redis_sync
from agents.models import Agent, Call
from agents.snapshot import ACKS
from budgets.models import Budget
from console import health
from console.models import Alert, ApiKey
from tests.console.api.conftest import escalate, make_channel, make_turn
from tests.redis import empty_redis

pytestmark = pytest.mark.django_db
ELSEWHERE = {"REMOTE_ADDR": "203.0.113.9"}


@pytest.fixture(autouse=True)
def fresh() -> None:
    empty_redis()
    health._text.forget()


def beat(*names: str, ago: float = 0) -> None:
    for name in names:
        redis_sync().hset(ACKS, name, f"1:{time.time() - ago}")


def ready() -> tuple[int, Any]:
    response = Client().get("/readyz")
    return response.status_code, response.json()


def test_a_process_that_answers_is_alive_without_asking_anybody(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        response = Client().get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "alive"})
    assert "no-store" in response.headers["Cache-Control"]


def test_ready_is_when_everything_is_there() -> None:
    beat("web-vm-1", "web-vm-2", "worker-vm-3", "drain-vm-4")
    status, said = ready()
    assert (status, said["status"]) == (200, "ready")
    assert said["postgres"]["ok"]
    assert said["redis"]["ok"]
    assert said["workers"] == {"ok": True, "web": 2, "worker": 1, "drain": 1}
    assert said["drain"] == {"ok": True, "lag": 0}


@pytest.mark.parametrize("missing", ["worker", "drain"])
def test_not_ready_without_a_worker_and_a_drain(missing: str) -> None:
    beat(*(f"{kind}-vm-1" for kind in ("worker", "drain") if kind != missing))
    beat(f"{missing}-vm-2", ago=60)
    status, said = ready()
    assert (status, said["status"], said["workers"]["ok"]) == (503, "not ready", False)
    assert said["workers"][missing] == 0


def test_not_ready_while_calls_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    beat("worker-vm-1", "drain-vm-2")
    redis_sync().xadd("ph:calls", {"call_id": "x"})
    assert ready()[1]["drain"] == {"ok": True, "lag": 1}
    monkeypatch.setattr(health, "MOST_LAG", 0)
    assert ready()[0] == 503


def test_not_ready_without_redis(settings: Any) -> None:
    settings.REDIS_URL = "unix:///nowhere"
    status, said = ready()
    assert status == 503
    assert not said["redis"]["ok"]
    assert said["postgres"]["ok"]


def test_not_ready_without_postgres_and_without_telling_where_it_is(settings: Any) -> None:
    settings.DATABASE_URL = "postgresql://pilothouse:secret@127.0.0.1:9/pilothouse"
    status, said = ready()
    assert status == 503
    assert said["postgres"] == {"ok": False, "error": psycopg.OperationalError.__name__}
    assert "secret" not in str(said)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_they_are_only_looked_at(path: str) -> None:
    assert Client().post(path).status_code == 405
    assert Client().head(path).status_code in (200, 503)


def test_figures_tell_what_happened_in_prometheus_text() -> None:
    channel = make_channel(Agent.objects.create(slug="acme", name="Acme", languages=["en"]), "web")
    make_turn(channel, "1", "answered")
    make_turn(channel, "1", "answered", tester=True)
    make_turn(channel, "2")
    escalate(channel, "2", deadline=timezone.now())
    for price, cost in (("exact", 2_500_000), ("unknown", None)):
        Call.objects.create(
            call_id=uuid.uuid4(), at=timezone.now(), model='odd"model', status="ok", price=price, cost_nano=cost
        )
    Budget.objects.open(actor="user:ada", owner_kind="agent", owner="acme", period="day", limit_nano=10**9)
    now = timezone.now()
    Alert.objects.create(rule="latency", sentence="Slow", state="firing", seen_at=now, fired_at=now)
    Alert.objects.create(rule="latency", sentence="Slow", state="resolved", seen_at=now, resolved_at=now)
    beat("worker-vm-1")
    response = Client().get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain")
    lines = set(response.content.decode().splitlines())
    assert lines >= {
        'pilothouse_turns_5m{outcome="answered",scope="acme/web"} 1.0',
        'pilothouse_turns_5m{outcome="pending",scope="acme/web"} 1.0',
        'pilothouse_calls_5m{model="odd\\"model",status="ok"} 2.0',
        'pilothouse_cost_usd_5m{model="odd\\"model"} 0.0025',
        'pilothouse_unpriced_calls_5m{model="odd\\"model"} 1.0',
        'pilothouse_escalations_open{queue="default"} 1.0',
        'pilothouse_escalations_overdue{queue="default"} 1.0',
        "pilothouse_drain_lag 0.0",
        'pilothouse_processes{kind="worker"} 1.0',
        'pilothouse_budget_usd{amount="limit",owner="agent:acme",period="day"} 1.0',
        'pilothouse_up{part="redis"} 1.0',
        'pilothouse_alerts{state="firing"} 1.0',
        'pilothouse_alerts{state="pending"} 0.0',
    }


def test_figures_are_cheap_and_made_once_in_a_while(
    django_assert_max_num_queries: Any, django_assert_num_queries: Any
) -> None:
    with django_assert_max_num_queries(5):
        first = Client().get("/metrics").content
    with django_assert_num_queries(0):
        assert Client().get("/metrics").content == first


def test_figures_without_redis_say_so(settings: Any) -> None:
    settings.REDIS_URL = "unix:///nowhere"
    lines = Client().get("/metrics").content.decode()
    assert 'pilothouse_up{part="redis"} 0.0' in lines
    assert "pilothouse_drain_lag 0" not in lines


def asked(secret: str = "", **extra: str) -> int:
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    return Client().get("/metrics", headers=headers, **(ELSEWHERE | extra)).status_code


def test_figures_of_everything_are_for_keys_that_may_read_everything() -> None:
    agent = Agent.objects.create(slug="acme", name="Acme")

    def key(*scopes: str, agent: Agent | None = None) -> str:
        return ApiKey.issue(name="Test", actor="user:ada", scopes=list(scopes), agent=agent)[1]

    assert asked() == 401
    assert asked("ph_unknown") == 401
    assert asked(key("turns", "gateway")) == 403
    assert asked(key("read", agent=agent)) == 403
    assert asked(key("read")) == 200


@pytest.mark.parametrize("header", ["HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_VIA"])
def test_who_comes_through_a_proxy_is_not_from_this_machine(header: str) -> None:
    assert Client().get("/metrics", **{header: "127.0.0.1"}).status_code == 401
