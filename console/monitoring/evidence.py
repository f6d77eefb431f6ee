"""The figures that the rules judge, gathered for all scopes in a handful of queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, ExpressionWrapper, F, FloatField, Min, Q
from django.db.models.functions import Extract
from redis import RedisError

from agents import calls
from agents.connections import redis_sync
from agents.metrics import Percentile
from agents.models import Call, Deployment, Release, Scope, Turn
from budgets import ledger
from budgets.models import Budget
from console.health import alive
from console.monitoring.rules import RULES, Sample
from escalations.models import Escalation

SHORT, LONG = RULES["error_rate"].window, RULES["escalation_rate"].window
BEFORE = timedelta(hours=24)
OF_AGENTS = ("turn", "shadow", "gateway")
BROKE_OFF = Q(outcome="failed") | Q(reason="failed_repeatedly")
HELD_BACK_OUT = Q(findings__contains=[{"stage": "outbound", "action": "block"}]) | Q(
    findings__contains=[{"stage": "outbound", "action": "escalate"}]
)
HELD_BACK = Q(findings__contains=[{"stage": "inbound", "action": "block"}]) | HELD_BACK_OUT


@dataclass(slots=True)
class OfScope:
    """What happened on one scope, by the release that served it (empty: before one was chosen)."""

    by_release: dict[str, Sample] = field(default_factory=lambda: defaultdict(Sample))
    p95_ms: float | None = None
    ended: int = 0
    overdue: int = 0
    oldest_s: float = 0.0

    def of(self, names: Iterable[str]) -> Sample:
        return sum((self.by_release.get(name, Sample()) for name in {*names, ""}), Sample())


def of_scopes(scopes: Sequence[Scope], now: datetime) -> dict[str, OfScope]:
    """Figures by scope name; testers' turns are left out."""
    found = {scope.name: OfScope() for scope in scopes}
    names = {scope.pk: scope.name for scope in scopes}
    for row in turns_by_release(Turn.objects.filter(scope__in=names), now - SHORT, now - LONG):
        found[names[row.scope_id]].by_release[row.release] += row.sample
    for called in calls_by_release(Call.objects.filter(scope__in=found, at__gte=now - SHORT)):
        found[called.scope].by_release[called.release] += called.sample
    _latencies(found, names, now)
    _overdue(found, now)
    return found


def under(scope: Scope, release: Release, since: datetime) -> Sample:
    """What happened on the scope under that release since then."""
    name, total = str(release), Sample()
    turns = Turn.objects.filter(scope=scope, release=release)
    for row in turns_by_release(turns, since, since):
        total += row.sample
    for called in calls_by_release(Call.objects.filter(scope=scope.name, release=name, at__gte=since)):
        total += called.sample
    return total


@dataclass(frozen=True, slots=True)
class Counted:
    """A sample of one scope under one release."""

    sample: Sample
    release: str
    scope: str = ""
    scope_id: int = 0


def turns_by_release(turns: Any, short: datetime, long: datetime) -> list[Counted]:
    recent = Q(created_at__gte=short)
    rows = (
        turns.filter(created_at__gte=min(short, long), finished_at__isnull=False, tester=False)
        .order_by()
        .values("scope_id", "release__agent__slug", "release__number")
        .annotate(
            messages=Count("id", filter=recent),
            broke_off=Count("id", filter=recent & BROKE_OFF),
            held_back=Count("id", filter=recent & HELD_BACK),
            held_back_out=Count("id", filter=recent & HELD_BACK_OUT),
            turns=Count("id", filter=Q(created_at__gte=long)),
            escalated=Count("id", filter=Q(created_at__gte=long, outcome="escalated")),
        )
    )
    return [
        Counted(
            Sample(
                calls=row["broke_off"],
                failed=row["broke_off"],
                messages=row["messages"],
                held_back=row["held_back"],
                held_back_out=row["held_back_out"],
                turns=row["turns"],
                escalated=row["escalated"],
            ),
            release=f"{row['release__agent__slug']}@r{row['release__number']}" if row["release__number"] else "",
            scope_id=row["scope_id"],
        )
        for row in rows
    ]


def calls_by_release(rows: Any) -> list[Counted]:
    """A call failed when none of its attempts answered. Plain gateway calls have no turn, so they count as messages."""
    tried, plain = Q(status__in=["ok", "error", "timeout", "expired"]), Q(purpose="gateway")
    held_back = plain & Q(guardrail__in=["blocked", "escalated"])
    counted = (
        rows.filter(purpose__in=OF_AGENTS)
        .order_by()
        .values("scope", "release")
        .annotate(
            calls=Count("call_id", filter=tried, distinct=True),
            answered=Count("call_id", filter=Q(status="ok"), distinct=True),
            messages=Count("call_id", filter=plain & ~Q(status="cancelled"), distinct=True),
            held_back=Count("call_id", filter=held_back, distinct=True),
            held_back_out=Count("call_id", filter=held_back & Q(status="ok"), distinct=True),
        )
    )
    return [
        Counted(
            Sample(
                calls=row["calls"],
                failed=row["calls"] - row["answered"],
                messages=row["messages"],
                held_back=row["held_back"],
                held_back_out=row["held_back_out"],
            ),
            release=row["release"],
            scope=row["scope"],
        )
        for row in counted
    ]


def _latencies(found: dict[str, OfScope], names: dict[int, str], now: datetime) -> None:
    took = ExpressionWrapper(Extract(F("finished_at") - F("created_at"), "epoch") * 1000.0, output_field=FloatField())
    rows = (
        Turn.objects.real()
        .filter(scope__in=names, created_at__gte=now - SHORT, finished_at__isnull=False)
        .order_by()
        .values_list("scope_id")
        .annotate(p95=Percentile(took, 0.95), n=Count("id"))
    )
    for scope_id, p95, n in rows:
        found[names[scope_id]].p95_ms, found[names[scope_id]].ended = p95, n


def _overdue(found: dict[str, OfScope], now: datetime) -> None:
    rows = Escalation.objects.claimable(now).filter(deadline__lt=now).order_by().values_list("scope")
    for name, n, oldest in rows.annotate(n=Count("id"), oldest=Min("deadline")):
        if name in found:
            found[name].overdue, found[name].oldest_s = n, (now - oldest).total_seconds()


def live(scopes: Sequence[Scope]) -> dict[int, Deployment]:
    """The newest deployment of each scope."""
    rows = Deployment.objects.filter(scope__in=scopes).select_related("release__agent")
    return {row.scope_id: row for row in rows.order_by("scope_id", "-id").distinct("scope_id")}


def stable(scopes: Sequence[Scope]) -> dict[int, str]:
    """The release that serves everybody a canary does not, by scope."""
    rows = Deployment.objects.filter(scope__in=scopes, percent=100).select_related("release__agent")
    return {row.scope_id: str(row.release) for row in rows.order_by("scope_id", "-id").distinct("scope_id")}


# --- the installation ----------------------------------------------------------------------------------------------


def balances(budgets: Sequence[Budget]) -> dict[int, ledger.Balance]:
    """By budget id; empty while Redis is away."""
    limits = {budget.pk: budget.limit() for budget in budgets}
    try:
        found = ledger.balances(redis_sync(), limits.values())
    except (RedisError, ledger.Unavailable):
        return {}
    return {pk: found[limit] for pk, limit in limits.items()}


def lag() -> int | None:
    try:
        return calls.lag()
    except RedisError:
        return None


def processes() -> dict[str, int] | None:
    try:
        return dict(alive())
    except RedisError:
        return None
