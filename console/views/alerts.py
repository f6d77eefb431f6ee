"""What the rules found: firing first, each with what changed last and the way back; then what is over."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from agents import releases
from agents.models import Agent, Scope
from console import access
from console.htmx import page
from console.models import Alert
from console.monitoring import alerts as verbs
from console.monitoring.rules import RULES
from console.views.paging import newest, text

MOST_OPEN = 100
ORDER = ("firing", "acknowledged", "pending")
WORST = ("critical", "high", "medium")


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    user = access.person(request)
    visible = access.alerts_visible(user)
    scope = text(request.GET, "scope")
    rows = visible.filter(scope=scope) if scope else visible
    standing = sorted(rows.open().order_by("-id")[:MOST_OPEN], key=_worst_first)
    context = {
        "open": standing,
        "firing": sum(alert.state == Alert.State.FIRING for alert in standing),
        "past": newest(rows.past(), text(request.GET, "before")),
        "scope": scope,
        "titles": {name: rule.title for name, rule in RULES.items()},
        "operated": operated(user),
    }
    return page(request, "alerts.html", context, part="list")


def _worst_first(alert: Alert) -> tuple[int, int]:
    return ORDER.index(alert.state), WORST.index(alert.severity)


def operated(user: access.Person) -> list[str]:
    """The agents whose alerts the person may acknowledge; the empty name stands for the installation."""
    rows = access.agents_visible(user).values_list("pk", "slug")
    everywhere = [""] if access.may(user, "operations") else []
    return everywhere + [slug for pk, slug in rows if access.may(user, "operations", pk)]


@require_GET
def alert(request: HttpRequest, pk: int) -> HttpResponse:
    return _alert(request, access.require_alert(access.person(request), pk))


def _alert(request: HttpRequest, row: Alert, problem: str = "", status: int = 200) -> HttpResponse:
    user = access.person(request)
    agent = Agent.objects.filter(slug=row.agent).first() if row.agent else None
    scope = _scope(row)
    context: dict[str, Any] = {
        "alert": row,
        "rule": RULES.get(row.rule),
        "scope": scope,
        "target": releases.rollback_target(scope) if scope and row.deployment else None,
        "live": scope.live() if scope else None,
        "may_roll_back": bool(agent) and access.may(user, "administrator", agent),
        "may_acknowledge": row.state == Alert.State.FIRING and access.may(user, "operations", agent),
        "changes": list(row.changes.select_related("notice")[:100]),
        "problem": problem,
    }
    return page(request, "alert.html", context, status=status)


def _scope(row: Alert) -> Scope | None:
    """The scope that the alert is about; budgets and the installation have none."""
    if row.rule.startswith("spend"):
        return None
    agent, channel, topic = [*row.scope.split("/"), "", "", ""][:3]
    named = Scope.objects.with_names().filter(channel__agent__slug=agent, channel__slug=channel, topic=topic)
    return named.first() if row.scope else None


@require_POST
def acknowledge(request: HttpRequest, pk: int) -> HttpResponse:
    """Somebody looks after it: it stays open, and quiet until it gets worse."""
    row = access.require_alert(access.person(request), pk, "operations")
    try:
        verbs.acknowledge(row, actor=access.actor(request), note=text(request.POST, "note", 2_000))
    except verbs.Conflict as error:
        return _alert(request, row, str(error), 409)
    messages.success(request, _("Acknowledged. It is said again when it gets worse, and closes when it is over."))
    return redirect("alert", pk)
