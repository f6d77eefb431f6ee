"""What rules that only log would have done: how much, by rule and by day, with examples."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Q
from django.db.models.functions import TruncDate
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET

from agents import usage
from agents.models import Scope, Turn
from console import access
from console.htmx import page
from console.views.guardrails import TABS
from console.views.paging import chosen
from guardrails.models import Finding, FindingQuerySet

SPANS = ("7", "30")
MOST_RULES = 60
STOPS = ("block", "escalate")


@require_GET
def logged(request: HttpRequest) -> HttpResponse:
    user = access.person(request)
    days = int(chosen(request.GET, "days", SPANS) or SPANS[0])
    first = timezone.now().date() - timedelta(days=days - 1)
    since = datetime(first.year, first.month, first.day, tzinfo=timezone.get_default_timezone())
    scopes = list(access.scopes_visible(user))
    rows = Finding.objects.would_have_acted().filter(scope__in=[scope.name for scope in scopes], at__gte=since)
    rows = rows.with_message()
    by_day, messages = _by_day(rows, first, days), _messages(scopes, since)
    stopped = rows.filter(would__in=STOPS).aggregate(n=Count("message", distinct=True))["n"]
    context = {
        "tabs": TABS,
        "tab": "guardrails-log-only",
        "days": days,
        "spans": SPANS,
        "sentence": _sentence(stopped, days),
        "share": _share(stopped, messages),
        "total": messages,
        "rules": _by_rule(rows, messages),
        "by_day": by_day,
        "peak": max((n for _, n, _ in by_day), default=0),
        "operated": {row.channel.agent.slug for row in scopes if access.may(user, "operations", row.channel.agent_id)},
    }
    return page(request, "guardrails-log-only.html", context, part="report")


def _sentence(stopped: int, days: int) -> str:
    said = ngettext(
        "Log-only rules would have stopped %(n)s message in %(days)d days.",
        "Log-only rules would have stopped %(n)s messages in %(days)d days.",
        stopped,
    )
    return said % {"n": f"{stopped:,}", "days": days}


def _share(part: int, whole: int) -> float | None:
    return min(1.0, part / whole) if whole else None


def _messages(scopes: list[Scope], since: datetime) -> int:
    """Every turn, and every call that came through the gateway without being one."""
    turns = Turn.objects.filter(scope__in=scopes, created_at__gte=since).count()
    calls = Q(purpose="gateway", scope__in=[scope.name for scope in scopes])
    return turns + usage.total(calls, since, timezone.now()).calls


def _by_rule(rows: FindingQuerySet, messages: int) -> list[dict[str, Any]]:
    """Each rule with the messages in which it would have acted, the most first, and its latest finding."""
    found = list(
        rows.order_by()
        .values("rule", "family", "would")
        .annotate(n=Count("message", distinct=True), languages=Count("language", distinct=True), last=Max("pk"))
        .order_by("-n", "rule")[:MOST_RULES]
    )
    examples = Finding.objects.select_related("false_positive").in_bulk([row["last"] for row in found])
    return [{**row, "share": _share(row["n"], messages), "example": examples[row["last"]]} for row in found]


def _by_day(rows: FindingQuerySet, first: date, days: int) -> list[tuple[date, int, int]]:
    """(day, messages that would have been stopped, messages that would have been changed), the newest first."""
    found = {
        row["day"]: row
        for row in rows.order_by()
        .values(day=TruncDate("at"))
        .annotate(
            stopped=Count("message", distinct=True, filter=Q(would__in=STOPS)),
            changed=Count("message", distinct=True, filter=Q(would="redact")),
        )
    }
    every = [first + timedelta(days=n) for n in reversed(range(days))]
    return [(day, *((found[day]["stopped"], found[day]["changed"]) if day in found else (0, 0))) for day in every]
