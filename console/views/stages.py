"""From pilot to expanded: each scope's ladder, the gate it stands before, and the moves."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from agents import metrics, releases, stages
from agents.models import Scope, StageChange
from console import access
from console.htmx import page
from console.templatetags.pilothouse import STAGES
from console.views.paging import chosen, text


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    scopes = list(access.scopes_visible(access.person(request)))
    last = StageChange.objects.filter(scope__in=scopes).order_by("scope_id", "-id").distinct("scope_id")
    changes = {change.scope_id: change for change in last}
    figures = metrics.overview(scopes)
    rows: list[dict[str, Any]] = [
        {"scope": scope, "change": changes.get(scope.pk), "today": figures[scope.pk]} for scope in scopes
    ]
    columns = [
        {
            "stage": stage,
            "label": STAGES[stage],
            "means": MEANS[stage],
            "rows": [row for row in rows if row["scope"].stage == stage],
        }
        for stage in stages.ORDER
    ]
    return page(request, "stages.html", {"columns": columns, "scopes": scopes})


@require_GET
def scope(request: HttpRequest, pk: int) -> HttpResponse:
    return _scope(request, access.require_scope(access.person(request), pk))


def _scope(request: HttpRequest, row: Scope, problem: str = "", status: int = 200) -> HttpResponse:
    user = access.person(request)
    live = row.live()
    position = stages.ORDER.index(row.stage)
    context = {
        "scope": row,
        "gate": stages.gate(row),
        "since": stages.entered(row),
        "live": live,
        "problem": problem,
        "ladder": [(stage, STAGES[stage], MEANS[stage], index - position) for index, stage in enumerate(stages.ORDER)],
        "down": [(stage, STAGES[stage]) for stage in stages.ORDER[:position]][::-1],
        "changes": list(row.stage_changes.all()[:20]),
        "today": metrics.overview([row])[row.pk],
        "target": releases.rollback_target(row),
        "may_move": access.may(user, "administrator", row.channel.agent_id),
    }
    return page(request, "scope.html", context, status=status)


@require_POST
def move(request: HttpRequest, pk: int) -> HttpResponse:
    """Up when the gate passes, down at any time; signed with the person's name."""
    row = access.require_scope(access.person(request), pk, "administrator")
    reason = text(request.POST, "reason", 2_000)
    try:
        if text(request.POST, "move") == "promote":
            change = stages.promote(row, actor=access.actor(request), reason=reason)
        else:
            change = stages.demote(
                row, actor=access.actor(request), reason=reason, to=chosen(request.POST, "to", stages.ORDER)
            )
    except stages.NotYet as error:
        return _scope(request, row, str(error), 409)
    messages.success(request, _("%(scope)s is now at %(stage)s.") % {"scope": row, "stage": STAGES[change.to_stage]})
    return redirect("scope-stage", pk)


MEANS = {
    "pilot": "Testers get answers; customers get people.",
    "shadow": "The agent drafts unseen; a person answers every customer.",
    "narrow": "Customers get answers; more goes to people.",
    "expanded": "Customers get answers; people take what is left.",
}
