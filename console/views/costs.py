"""Today against the limits, where the money goes, and what has no price."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Count, Q, Sum
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET

from agents import metrics
from agents.models import Call
from console import access, charts
from console.htmx import page
from console.views.overview import balances, budgets_visible
from console.views.paging import chosen

RANGES = ("7", "30", "90")
KINDS = ("organisation", "agent", "channel", "key")


@require_GET
def costs(request: HttpRequest) -> HttpResponse:
    user = access.person(request)
    days = int(chosen(request.GET, "days", RANGES) or "30")
    slugs = access.agent_slugs(user)
    today = timezone.now().date()
    dates = [today - timedelta(days=back) for back in range(days - 1, -1, -1)]
    spends = metrics.spend_by_day(slugs, days)
    calls = Call.objects.filter(agent__in=slugs, at__gte=timezone.now() - timedelta(days=days))
    money = sorted(
        balances(budgets_visible(user)).values(),
        key=lambda row: (KINDS.index(row.budget.owner_kind), row.budget.owner, row.budget.period),
    )
    context: dict[str, Any] = {
        "days": days,
        "ranges": RANGES,
        "money": money,
        "chart": charts.spend_chart(spends, dates),
        "table": _table(spends),
        "total": sum(spend.cost_nano for spend in spends),
        "count": sum(spend.calls for spend in spends),
        "unpriced": sum(spend.unpriced for spend in spends),
        "known": all(row.known for row in money),
        "dear": list(calls.filter(cost_nano__isnull=False).order_by("-cost_nano")[:10]),
        "scopes": _by_scope(calls),
        "today": sum(spend.cost_nano for spend in spends if spend.day == today),
    }
    return page(request, "costs.html", context)


def _table(spends: list[metrics.Spend]) -> list[metrics.Spend]:
    """The chart's figures for those who cannot see it, newest first."""
    return [spend for spend in reversed(spends) if spend.calls][:200]


def _by_scope(calls: Any) -> list[dict[str, Any]]:
    rows = (
        calls.order_by()
        .values("scope")
        .annotate(cost=Sum("cost_nano"), n=Count("id"), unpriced=Count("id", filter=Q(price="unknown")))
    )
    return list(rows.order_by("-cost")[:20])
