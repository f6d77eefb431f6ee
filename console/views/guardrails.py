"""What was stopped, and what would be: findings by family and language, and a message to try."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from agents.models import Scope
from console import access
from console.htmx import page
from console.views.paging import chosen, newest, text
from guardrails import screen
from guardrails.models import Finding

DAYS = 7
MOST_FAMILIES = 40
STAGES = ("inbound", "outbound")


@require_http_methods(["GET", "POST"])
def guardrails(request: HttpRequest) -> HttpResponse:
    """GET lists; POST tries a message, which is in the body so that it is in no log."""
    user = access.person(request)
    scopes = list(access.scopes_visible(user))
    names = [scope.name for scope in scopes]
    every = Finding.objects.filter(agent__in=[scope.channel.agent.slug for scope in scopes])
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
        "findings": listed,
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
    if request.method == "POST":
        return page(request, "guardrails.html", {**context, **_tried(request, scopes)}, part="tried")
    return page(request, "guardrails.html", context, part="list")


def _families(rows: Any) -> list[dict[str, Any]]:
    recent = rows.filter(at__gte=timezone.now() - timedelta(days=DAYS)).values("family")
    acted = Count("id", filter=~Q(action="allow"))
    return list(
        recent.annotate(n=Count("id"), acted=acted, languages=Count("language", distinct=True)).order_by("-n")[
            :MOST_FAMILIES
        ]
    )


def _tried(request: HttpRequest, scopes: list[Scope]) -> dict[str, Any]:
    """What the scope's live policy says to the message."""
    message, stage = text(request.POST, "message", 20_000), chosen(request.POST, "stage", STAGES) or "inbound"
    scope = next((row for row in scopes if str(row.pk) == request.POST.get("on")), scopes[0] if scopes else None)
    live = scope.deployments.select_related("release__guardrails").order_by("-id").first() if scope else None
    policy = screen.compile_policy(live.release.guardrails.content if live else screen.DEFAULT_POLICY)
    languages = list(scope.channel.agent.languages) if scope else None
    seen = (
        screen.inbound(message, policy, languages=languages) if stage == "inbound" else screen.outbound(message, policy)
    )
    refusal = screen.refusal(policy, seen.language) if stage == "inbound" and seen.action == "block" else ""
    return {
        "tried": seen,
        "message": message,
        "on": scope,
        "stage": stage,
        "refusal": refusal,
        "pieces": _marked(message, seen),
    }


def _marked(message: str, seen: screen.Screening) -> list[tuple[str, str]]:
    """The message in pieces: (text, family) where something was found in it, else (text, "")."""
    pieces, at = [], 0
    for one in sorted(seen.findings, key=lambda found: (found.start, -found.end)):
        if one.start < at or one.end <= one.start:
            continue
        pieces += [(message[at : one.start], ""), (message[one.start : one.end], one.family)]
        at = one.end
    return [piece for piece in [*pieces, (message[at:], "")] if piece[0]]
