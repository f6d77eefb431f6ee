"""What customers brought: cases, a case as a chat, a turn as a path, and the calls it cost."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery, Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from agents import cases as verbs
from agents.models import Call, CallBody, Case, Scope, Turn
from console import access, audit
from console.htmx import page
from console.views.paging import chosen, newest, text
from console.views.paths import steps
from escalations.models import Escalation

OUTCOMES = Turn.Outcome.choices
MOST_TURNS = 200
MOST_FINDINGS = 50
CLOCKS_DIFFER = timedelta(hours=1)  # a turn's calls are not looked for in every day of the log


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    user = access.person(request)
    scopes = list(access.scopes_visible(user))
    filters = _filters(request, [scope.name for scope in scopes])
    scope = next((scope for scope in scopes if scope.name == filters["scope"]), None)
    rows = _filtered(_told(access.cases_visible(user)), filters, scope)
    listed = newest(rows, text(request.GET, "before"), by="last_turn_at")
    context = {
        "cases": listed,
        "scopes": scopes,
        "outcomes": OUTCOMES[1:],
        "filters": filters,
        "filtered": any(filters.values()),
    }
    return page(request, "cases.html", context, part="list")


def _filters(request: HttpRequest, names: list[str]) -> dict[str, str]:
    return {
        "q": text(request.GET, "q"),
        "scope": chosen(request.GET, "scope", names),
        "outcome": chosen(request.GET, "outcome", Turn.Outcome.values),
        "owner": chosen(request.GET, "owner", ("human", "agent")),
        "testers": chosen(request.GET, "testers", ("only",)),
    }


def _told(rows: QuerySet[Case, Any]) -> QuerySet[Case, Any]:
    """Each case with its last message and what its turns come to: subqueries, so that only the rows of a page pay."""
    turns = Turn.objects.filter(case=OuterRef("pk"))
    last, every = turns.order_by("-number"), turns.order_by().values("case")
    return rows.annotate(
        message=Subquery(last.values("message")[:1]),
        outcome=Subquery(last.values("outcome")[:1]),
        release=Subquery(last.values("release__number")[:1]),
        turn_count=Subquery(every.annotate(n=Count("pk")).values("n")),
        cost=Subquery(every.annotate(sum=Sum("cost_nano")).values("sum")),
    )


def _filtered(rows: QuerySet[Case, Any], filters: dict[str, str], scope: Scope | None) -> QuerySet[Case, Any]:
    turns = Turn.objects.filter(case=OuterRef("pk"))
    if words := filters["q"]:
        said = Turn.objects.filter(message__icontains=words).values("case_id")
        rows = rows.filter(Q(ref__icontains=words) | Q(customer__icontains=words) | Q(pk__in=said))
    if scope:
        rows = rows.filter(Exists(turns.filter(scope=scope)), channel=scope.channel)
    if filters["outcome"]:
        rows = rows.filter(Q(("outcome", filters["outcome"])))
    if filters["owner"]:
        rows = rows.filter(owner=filters["owner"])
    if filters["testers"]:
        rows = rows.filter(Exists(turns.filter(tester=True)))
    return rows


@require_GET
def case(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    user = access.person(request)
    row = access.require_case(user, pk)
    turns = row.turns.select_related("scope__channel__agent", "release__agent", "escalation").order_by("-number")[
        :MOST_TURNS
    ]
    shown = list(reversed(turns))
    return page(
        request,
        "case.html",
        {
            "case": row,
            "turns": [_as_seen(turn) for turn in shown],
            "cost": sum(turn.cost_nano for turn in shown),
            "may_answer": access.may(user, "operations", row.channel.agent_id),
            "waiting": Escalation.objects.open().filter(case_id=row.pk).first(),
        },
    )


def _as_seen(turn: Turn) -> Turn:
    """While a person still has to decide blind, the draft and what led to it are nobody's to read."""
    waiting = turn.escalation
    if waiting is not None and waiting.blind and waiting.state != Escalation.State.DECIDED:
        turn.draft, turn.citations, turn.trace, turn.confidence, turn.features = "", [], [], None, {}
        turn.reason, turn.hidden = "", True  # type: ignore[attr-defined]
    return turn


@require_POST
def owner(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Take the case over, or hand it back to the agent."""
    row = access.require_case(access.person(request), pk, "operations")
    if text(request.POST, "owner") == Case.Owner.HUMAN:
        verbs.take_over(row)
        done, said = (
            "case.taken_over",
            _("You have taken the case over. The agent's words will not reach the customer."),
        )
    else:
        verbs.hand_back(row)
        done, said = "case.handed_back", _("The agent answers the next message again.")
    audit.record(access.actor(request), done, agent=row.channel.agent.slug, object=str(row.pk), detail={"ref": row.ref})
    messages.success(request, said)
    return redirect("case", pk)


@require_GET
def turn(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """The path of one turn. HTMX polls it while the turn is being answered."""
    user = access.person(request)
    row = _as_seen(access.require_turn(user, pk))
    context: dict[str, Any] = {
        "turn": row,
        "steps": steps(row),
        "total_ms": sum(float(step.get("ms") or 0) for step in row.trace),
        "calls": list(
            Call.objects.filter(turn_id=row.pk, at__gte=row.created_at - CLOCKS_DIFFER).order_by("at", "attempt")[:50]
        ),
        "findings": list(access.findings_visible(user).filter(turn_id=row.pk).order_by("id")[:MOST_FINDINGS]),
        "operated": access.agents_operated(user),
        "raw": _raw(row),
        "may_reveal": access.may(user, "operations", row.scope.channel.agent_id),
    }
    return page(request, "turn.html", context, part="path")


def _raw(turn: Turn) -> dict[str, Any]:
    names = (
        "id",
        "number",
        "language",
        "outcome",
        "reason",
        "confidence",
        "features",
        "citations",
        "findings",
        "trace",
        "cost_nano",
        "runs",
        "tester",
    )
    return {name: getattr(turn, name) for name in names}


@require_GET
def calls(request: HttpRequest) -> HttpResponse:
    user = access.person(request)
    filters = {
        "scope": chosen(request.GET, "scope", [scope.name for scope in access.scopes_visible(user)]),
        "model": text(request.GET, "model", 120),
        "guardrail": chosen(request.GET, "guardrail", ("passed", "redacted", "blocked", "escalated")),
        "status": chosen(request.GET, "status", ("ok", "error", "timeout", "cancelled", "blocked", "expired")),
        "purpose": chosen(request.GET, "purpose", ("turn", "gateway", "shadow", "judge")),
        "price": chosen(request.GET, "price", ("exact", "estimated", "unknown")),
        "key_prefix": text(request.GET, "key_prefix", 20),
    }
    rows = Call.objects.filter(
        agent__in=access.agent_slugs(user), **{name: value for name, value in filters.items() if value}
    )
    listed = newest(rows, text(request.GET, "before"), by="at")
    context = {
        "calls": listed,
        "filters": filters,
        "scopes": list(access.scopes_visible(user)),
        "filtered": any(filters.values()),
    }
    return page(request, "calls.html", context, part="list")


@require_GET
def call(request: HttpRequest, call_id: uuid.UUID) -> HttpResponse:
    """Every attempt of one call: what chose its model, and what was asked and answered where the channel keeps it."""
    user = access.person(request)
    attempts = list(Call.objects.filter(call_id=call_id, agent__in=access.agent_slugs(user)).order_by("attempt")[:50])
    if not attempts:
        raise Http404
    kept = {body.attempt: body for body in CallBody.objects.filter(call_id=call_id)[:50]}
    context = {
        "call": attempts[-1],
        "rows": [(attempt, kept.get(attempt.attempt)) for attempt in attempts],
        "findings": list(access.findings_visible(user).filter(call_id=call_id).order_by("id")[:MOST_FINDINGS]),
        "operated": access.agents_operated(user),
    }
    return page(request, "call.html", context)
