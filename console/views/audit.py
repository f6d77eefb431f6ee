"""Who did what: the audit trail, newest first."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from console import access
from console.htmx import page
from console.models import AuditEntry
from console.views.paging import newest, text

MOST_ACTIONS = 60


@require_GET
def audit(request: HttpRequest) -> HttpResponse:
    """Entries of visible agents; what belongs to no agent is for those who see all of them."""
    user = access.person(request)
    slugs = access.agent_slugs(user)
    every = AuditEntry.objects.all() if None in access.roles(user) else AuditEntry.objects.filter(agent__in=slugs)
    filters = {name: text(request.GET, name) for name in ("actor", "action", "agent", "object")}
    rows = every
    if filters["actor"]:
        rows = rows.filter(actor__icontains=filters["actor"])
    if filters["object"]:
        rows = rows.filter(object__icontains=filters["object"])
    rows = rows.filter(**{name: filters[name] for name in ("action", "agent") if filters[name]})
    actions = list(every.order_by("action").values_list("action", flat=True).distinct()[:MOST_ACTIONS])
    context = {
        "entries": newest(rows, text(request.GET, "before")),
        "filters": filters,
        "filtered": any(filters.values()),
        "actions": actions,
        "agents": slugs,
    }
    return page(request, "audit.html", context, part="list")
