"""Who did what: the audit trail, newest first, and as a file that proves itself."""

from __future__ import annotations

import json
from collections.abc import Iterator

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from console import access
from console.audit import record
from console.htmx import page
from console.models import AuditEntry
from console.views.paging import newest, text

MOST_ACTIONS = 60
MOST_EXPORTED = 200_000
FILTERS = ("actor", "action", "agent", "object")


@require_GET
def audit(request: HttpRequest) -> HttpResponse:
    """Entries of visible agents; what belongs to no agent is for those who see all of them."""
    user = access.person(request)
    every, filters = _visible(user), _filters(request.GET)
    context = {
        "entries": newest(_filtered(every, filters), text(request.GET, "before")),
        "filters": filters,
        "filtered": any(filters.values()),
        "actions": list(every.order_by("action").values_list("action", flat=True).distinct()[:MOST_ACTIONS]),
        "agents": access.agent_slugs(user),
    }
    return page(request, "audit.html", context, part="list")


@require_POST
def export(request: HttpRequest) -> StreamingHttpResponse:
    """The same entries as JSON, one a line, oldest first, with what their hashes are made of; it is an entry itself."""
    user = access.person(request)
    filters = _filters(request.POST)
    rows = _filtered(_visible(user), filters).order_by("-id")[:MOST_EXPORTED]
    ids = sorted(rows.values_list("id", flat=True))
    record(
        access.actor(request),
        "audit.exported",
        object=f"{len(ids)} entries",
        detail={k: v for k, v in filters.items() if v},
    )
    response = StreamingHttpResponse(_lines(ids), content_type="application/x-ndjson; charset=utf-8")
    response["content-disposition"] = f'attachment; filename="audit-{timezone.now():%Y%m%d-%H%M}.jsonl"'
    return response


def _visible(user: User) -> QuerySet[AuditEntry]:
    every = AuditEntry.objects.all()
    return every if None in access.roles(user) else every.filter(agent__in=access.agent_slugs(user))


def _filters(given: QueryDict) -> dict[str, str]:
    return {name: text(given, name) for name in FILTERS}


def _filtered(rows: QuerySet[AuditEntry], filters: dict[str, str]) -> QuerySet[AuditEntry]:
    for name in ("actor", "object"):
        if filters[name]:
            rows = rows.filter(**{f"{name}__icontains": filters[name]})
    return rows.filter(**{name: filters[name] for name in ("action", "agent") if filters[name]})


def _lines(ids: list[int]) -> Iterator[str]:
    names = ("id", "at", "actor", "action", "agent", "object", "detail", "previous", "sha256")
    for at in range(0, len(ids), 1_000):
        for entry in AuditEntry.objects.filter(pk__in=ids[at : at + 1_000]).order_by("id").values(*names):
            yield json.dumps({**entry, "at": entry["at"].isoformat()}, ensure_ascii=False) + "\n"
