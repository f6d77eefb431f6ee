"""For machines that watch: alive, ready, and figures in Prometheus' text format."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
from django.conf import settings
from django.db.models import Count, Q, Sum
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from agents import calls, releases
from agents.connections import redis_sync
from agents.models import CallMinute, Turn
from budgets import ledger
from budgets.models import Budget
from console.api.auth import key_for
from console.api.errors import plain
from console.models import Alert
from escalations.models import Escalation

NEEDED = ("worker", "drain")
MOST_LAG = 50_000
PATIENCE_S = 2
RECENT = timedelta(minutes=5)
KEPT_S = 10.0
LOOPBACK = ("127.0.0.1", "::1")
FORWARDED = ("x-forwarded-for", "x-real-ip", "forwarded", "via")


@never_cache
@require_safe
def healthz(_request: HttpRequest) -> HttpResponseBase:
    """This process answers."""
    return JsonResponse({"status": "alive"})


@never_cache
@require_safe
def readyz(_request: HttpRequest) -> HttpResponseBase:
    """Everything that a turn needs is there: 200, else 503 and what is missing."""
    parts = {"postgres": _postgres(), "redis": _redis()}
    parts |= _behind_redis() if parts["redis"]["ok"] else {"workers": {"ok": False}, "drain": {"ok": False}}
    ready = all(part["ok"] for part in parts.values())
    return JsonResponse({"status": "ready" if ready else "not ready", **parts}, status=200 if ready else 503)


def _postgres() -> dict[str, Any]:
    """On a connection of its own, so that a busy pool is not mistaken for a database that is away."""
    began = time.perf_counter()
    try:
        with psycopg.connect(settings.DATABASE_URL, connect_timeout=PATIENCE_S, autocommit=True) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error as error:
        return {"ok": False, "error": type(error).__name__}
    return {"ok": True, "ms": _ms(began)}


def _redis() -> dict[str, Any]:
    """Without the patience that a call would have: who asks wants to know now."""
    began = time.perf_counter()
    try:
        with _impatient() as redis:
            redis.ping()
    except RedisError as error:
        return {"ok": False, "error": type(error).__name__}
    return {"ok": True, "ms": _ms(began)}


def _impatient() -> Redis:
    once = Retry(NoBackoff(), 0)
    patience = {"socket_timeout": PATIENCE_S, "socket_connect_timeout": PATIENCE_S}
    return Redis.from_url(settings.REDIS_URL, retry=once, **patience)


def _behind_redis() -> dict[str, dict[str, Any]]:
    """The processes, and the calls that wait to be written down."""
    try:
        found, lag = alive(), calls.lag()
    except RedisError:
        return {"workers": {"ok": False}, "drain": {"ok": False}}
    kinds = {kind: found[kind] for kind in sorted({*NEEDED, *found})}
    return {
        "workers": {"ok": all(found[kind] for kind in NEEDED), **kinds},
        "drain": {"ok": lag <= MOST_LAG, "lag": lag},
    }


def alive() -> Counter[str]:
    """How many processes of each kind follow the configuration now."""
    return Counter(process.name.partition("-")[0] for process in releases.acknowledgements(0).processes)


def _ms(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 1)


# --- metrics -------------------------------------------------------------------------------------------------------


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponseBase:
    """Figures of the whole installation: for this machine, and for keys with scope `read` that are bound to nothing."""
    if not _from_here(request):
        key = key_for(request.headers.get("authorization", ""))
        if key is None:
            refusal = plain(401, "invalid_api_key", "The API key is missing, unknown, expired or revoked.")
            refusal["WWW-Authenticate"] = "Bearer"
            return refusal
        if "read" not in key.scopes or key.agent_id:
            return plain(403, "forbidden", "This needs a key with the scope read that is bound to no agent.")
    return HttpResponse(_text.get(), content_type=CONTENT_TYPE_LATEST)


def _from_here(request: HttpRequest) -> bool:
    """From this machine, and not through a proxy that runs on it."""
    return request.META.get("REMOTE_ADDR") in LOOPBACK and not any(name in request.headers for name in FORWARDED)


class Figures:
    """Collected anew for each exposition. What cannot be reached is left out; `pilothouse_up` says so."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield from _turns()
        yield from _calls()
        yield from _escalations()
        yield from _alerts()
        there = _redis()["ok"]
        if there:
            yield from _state()
        yield _gauge("up", "Whether a part can be reached.", ["part"], [(["redis"], float(there))])


class Kept:
    """The exposition, made at most every few seconds however often it is asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._text = b""
        self._until = 0.0

    def get(self) -> bytes:
        with self._lock:
            if time.monotonic() >= self._until:
                registry = CollectorRegistry(auto_describe=False)
                registry.register(Figures())
                self._text, self._until = generate_latest(registry), time.monotonic() + KEPT_S
            return self._text

    def forget(self) -> None:
        self._until = 0.0


_text = Kept()


def _gauge(name: str, says: str, labels: list[str], rows: Any) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"pilothouse_{name}", says, labels=labels)
    for values, number in rows:
        family.add_metric([str(value) for value in values], number)
    return family


def _turns() -> Iterator[GaugeMetricFamily]:
    rows = Turn.objects.real().filter(created_at__gte=timezone.now() - RECENT).order_by()
    found = rows.values_list("scope__channel__agent__slug", "scope__channel__slug", "scope__topic", "outcome").annotate(
        n=Count("id")
    )
    named = [(["/".join(filter(None, row[:3])), row[3]], row[4]) for row in found]
    yield _gauge("turns_5m", "Turns of the last five minutes, testers left out.", ["scope", "outcome"], named)


def _calls() -> Iterator[GaugeMetricFamily]:
    since = timezone.now() - RECENT
    rows = CallMinute.objects.filter(start__gte=since.replace(second=0, microsecond=0)).order_by()
    counts: Counter[tuple[str, str]] = Counter()
    costs: Counter[str] = Counter()
    without: Counter[str] = Counter()
    sums = {"n": Sum("calls"), "nano": Sum("cost_nano"), "without_price": Sum("unpriced")}
    for model, status, n, nano, unpriced in rows.values_list("model", "status").annotate(**sums):
        counts[model, status] += n
        costs[model] += nano
        without[model] += unpriced
    yield _gauge("calls_5m", "Attempts at models in the last five minutes.", ["model", "status"], counts.items())
    yield _gauge("cost_usd_5m", "Dollars of the last five minutes.", ["model"], _dollars(costs))
    unpriced_rows = [([model], n) for model, n in without.items()]
    yield _gauge("unpriced_calls_5m", "Calls without a known price.", ["model"], unpriced_rows)


def _dollars(costs: Counter[str]) -> list[tuple[list[str], float]]:
    return [([model], nano / 1e9) for model, nano in costs.items()]


def _escalations() -> Iterator[GaugeMetricFamily]:
    now = timezone.now()
    rows = Escalation.objects.open().order_by().values_list("queue")
    found = list(rows.annotate(n=Count("id"), late=Count("id", filter=Q(deadline__lt=now))))
    yield _gauge("escalations_open", "What waits for a person.", ["queue"], [([q], n) for q, n, _ in found])
    yield _gauge("escalations_overdue", "What waits past its deadline.", ["queue"], [([q], n) for q, _, n in found])


def _alerts() -> Iterator[GaugeMetricFamily]:
    """Open ones. A state without any is said, too, so that a query of it finds a number."""
    found = dict(Alert.objects.open().order_by().values_list("state").annotate(n=Count("id")))
    states = [state for state in Alert.State.values if state != Alert.State.RESOLVED]
    rows = [([state], found.get(state, 0)) for state in states]
    yield _gauge("alerts", "Open alerts of the rules that watch.", ["state"], rows)


def _state() -> Iterator[GaugeMetricFamily]:
    """What Redis knows."""
    yield _gauge("drain_lag", "Calls that are in the stream and not in Postgres yet.", [], [([], calls.lag())])
    yield _gauge(
        "processes", "Processes that follow the configuration.", ["kind"], [([k], n) for k, n in alive().items()]
    )
    circuits = [([name], seconds) for name, seconds in ledger.open_circuits(redis_sync()).items()]
    yield _gauge("circuit_open_seconds", "Providers that are left alone, and for how long.", ["provider"], circuits)
    budgets = list(Budget.objects.active())
    balances = ledger.balances(redis_sync(), [budget.limit() for budget in budgets])
    rows = []
    for budget in budgets:
        balance, owner = balances[budget.limit()], f"{budget.owner_kind}:{budget.owner}"
        amounts = {"limit": budget.limit_now(), "spent": balance.spent_nano, "held": balance.held_nano}
        rows += [([owner, budget.period, what], nano / 1e9) for what, nano in amounts.items()]
    yield _gauge("budget_usd", "Budgets in their present windows.", ["owner", "period", "amount"], rows)
