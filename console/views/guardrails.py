"""What was seen, by family, and each finding."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET

from console import access
from console.htmx import page
from console.views.paging import chosen, newest, text
from guardrails.models import Finding

DAYS = 7
MOST_FAMILIES = 40


TABS = (
    ("guardrails", gettext_lazy("Findings")),
    ("guardrails-coverage", gettext_lazy("Coverage")),
    ("guardrails-test", gettext_lazy("Test")),
    ("guardrails-harmless", gettext_lazy("Harmless")),
    ("guardrails-log-only", gettext_lazy("Log-only")),
    ("dry-runs", gettext_lazy("Dry runs")),
)


@require_GET
def guardrails(request: HttpRequest) -> HttpResponse:
    user = access.person(request)
    scopes = list(access.scopes_visible(user))
    names = [scope.name for scope in scopes]
    every = access.findings_visible(user)
    families = _families(every)
    filters = {
        "scope": chosen(request.GET, "scope", names),
        "family": chosen(request.GET, "family", [row["family"] for row in families]),
        "action": chosen(request.GET, "action", Finding.Action.values),
        "stage": chosen(request.GET, "stage", Finding.Stage.values),
        "severity": chosen(request.GET, "severity", Finding.Severity.values),
    }
    listed = newest(
        every.filter(**{name: value for name, value in filters.items() if value}), text(request.GET, "before")
    )
    context: dict[str, Any] = {
        "tabs": TABS,
        "tab": "guardrails",
        "findings": listed,
        "operated": access.agents_operated(user),
        "filters": filters,
        "filtered": any(filters.values()),
        "families": families,
        "scopes": scopes,
        "days": DAYS,
        "actions": Finding.Action.values,
        "severities": Finding.Severity.values,
        "stages": Finding.Stage.values,
        "peak": max((row["n"] for row in families), default=0),
    }
    return page(request, "guardrails.html", context, part="list")


def _families(rows: Any) -> list[dict[str, Any]]:
    recent = rows.filter(at__gte=timezone.now() - timedelta(days=DAYS)).values("family")
    acted = Count("id", filter=~Q(action="allow"))
    return list(
        recent.annotate(n=Count("id"), acted=acted, languages=Count("language", distinct=True)).order_by("-n")[
            :MOST_FAMILIES
        ]
    )
