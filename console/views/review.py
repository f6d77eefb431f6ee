"""The review queue and the page of one escalation: claim, decide, undo."""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from console import access, context
from console.htmx import page
from console.views import diffs
from console.views.paging import chosen, number, text
from escalations import queue
from escalations.models import Decision, Escalation

TABS = ("mine", "unclaimed", "done")
MOST_ROWS = 100
REASONS = (
    ("1", "fact", "A fact is wrong"),
    ("2", "policy", "Against our policy"),
    ("3", "tone", "Wrong tone"),
    ("4", "incomplete", "Incomplete"),
    ("5", "privacy", "Privacy"),
    ("6", "action", "Wrong action"),
    ("7", "other", "Something else"),
)


@require_GET
def review(request: HttpRequest) -> HttpResponse:
    user = access.person(request)
    names = access.reviewable(user)
    scope = chosen(request.GET, "scope", names)
    rows = Escalation.objects.for_scopes([scope] if scope else names).select_related("claimed_by")
    mine, free = rows.claimed_by(user), rows.claimable()
    done = rows.decided_since(timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0))
    counts = {"mine": mine.count(), "unclaimed": free.count(), "done": done.count()}
    tab = chosen(request.GET, "tab", TABS) or ("mine" if counts["mine"] else "unclaimed")
    listed = {"mine": mine.best_first(), "unclaimed": free.best_first(), "done": done.prefetch_related("decisions")}[
        tab
    ]
    return page(
        request,
        "review.html",
        {
            "tab": tab,
            "scope": scope,
            "scopes": names,
            "rows": list(listed[:MOST_ROWS]),
            "now": timezone.now().isoformat(),
            "others": _others(rows),
            "tabs": [
                ("mine", _("Mine"), counts["mine"]),
                ("unclaimed", _("Unclaimed"), counts["unclaimed"]),
                ("done", _("Done today"), counts["done"]),
            ],
            "waiting": counts["unclaimed"],
            "filtered": bool(scope),
        },
    )


def _others(rows: Any) -> int:
    """How many cases somebody is working on right now."""
    claimed: int = rows.filter(state=Escalation.State.CLAIMED, lease_until__gte=timezone.now()).count()
    return claimed


@require_GET
def news(request: HttpRequest) -> HttpResponse:
    """The bar above the queue: what has come since the page was shown. Rows never move by themselves."""
    since = parse_datetime(text(request.GET, "since")) or timezone.now()
    since = since if since.tzinfo else timezone.make_aware(since)
    fresh = (
        Escalation.objects.claimable()
        .for_scopes(access.reviewable(access.person(request)))
        .filter(created_at__gt=since)
    )
    levels = list(fresh.values_list("priority", flat=True)[:200])
    return render(
        request,
        "review.html#news",
        {"new": len(levels), "urgent": levels.count(1), "now": since.isoformat(), "tab": "unclaimed"},
    )


@require_GET
def count(request: HttpRequest) -> HttpResponse:
    return render(request, "review.html#count", {"waiting": context.waiting(access.person(request))})


@require_POST
def start(request: HttpRequest) -> HttpResponse:
    """Claim the best case there is, and open it."""
    user = access.person(request)
    try:
        claim = queue.start(user, access.reviewable(user))
    except (queue.Taken, queue.AlreadyDecided):
        claim = None
    if claim is None:
        messages.info(request, _("Nothing waits for a person."))
        return redirect("review")
    return redirect("escalation", claim.escalation.pk)


@require_GET
def escalation(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    row = access.require_escalation(access.person(request), pk, "viewer")
    return page(request, "escalation.html", _shown(request, row))


@require_POST
def claim(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    user = access.person(request)
    row = access.require_escalation(user, pk)
    try:
        queue.claim(row.pk, user)
    except queue.Taken as error:
        return _told(request, pk, str(error), 409)
    except queue.AlreadyDecided:
        return _told(request, pk, _("It has been decided meanwhile. This is the decision that stands."), 409)
    return redirect("escalation", pk)


@require_POST
def heartbeat(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Keeps the claim while the page is open; says so when it is lost, and leaves what was written alone."""
    user = access.person(request)
    row = access.require_escalation(user, pk)
    try:
        until = queue.heartbeat(row.pk, user, number(request.POST, "token"))
    except (queue.Taken, queue.AlreadyDecided) as error:
        return page(request, "escalation.html", {"lost": str(error), "escalation": row}, part="lease")
    return page(
        request,
        "escalation.html",
        {"until": until, "token": number(request.POST, "token"), "escalation": row},
        part="lease",
    )


@require_POST
def let_go(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    user = access.person(request)
    row = access.require_escalation(user, pk)
    try:
        queue.release(row.pk, user, number(request.POST, "token"))
    except (queue.Taken, queue.AlreadyDecided) as error:
        messages.error(request, str(error))
    return redirect("review")


@require_POST
def decide(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """The decision; whoever comes second is shown the one that stands, and keeps the text."""
    user = access.person(request)
    row = access.require_escalation(user, pk)
    kind, words = text(request.POST, "kind"), text(request.POST, "text", 20_000)
    try:
        _as_seen(row, kind, words)
        queue.decide(
            row.pk,
            kind=kind,
            user=user,
            token=number(request.POST, "token"),
            revision=number(request.POST, "revision"),
            text=words,
            arguments=_arguments(request, kind),
            reason_code=text(request.POST, "reason_code"),
            note=text(request.POST, "note", 4_000),
        )
    except queue.AlreadyDecided:
        return _told(
            request, pk, _("Somebody was faster. This is the decision that stands; yours was not sent."), 409, words
        )
    except queue.Taken as error:
        return _told(request, pk, _("%(why)s Your text is kept below.") % {"why": error}, 409, words)
    except (queue.Invalid, queue.Refused) as error:
        return _told(request, pk, str(error), 422, words)
    return redirect("escalation", pk)


@require_POST
def undo(request: HttpRequest, pk: uuid.UUID, decision_id: int) -> HttpResponse:
    user = access.person(request)
    access.require_escalation(user, pk)
    try:
        queue.undo(decision_id, actor=access.actor(request), user=user)
    except (queue.Refused, Decision.DoesNotExist) as error:
        return _told(request, pk, str(error), 409)
    messages.success(request, _("Taken back. Nothing was sent."))
    return redirect("escalation", pk)


def _as_seen(row: Escalation, kind: str, words: str) -> None:
    """Approving means the draft as it stands: a changed text is never sent under that word."""
    if kind == Decision.Kind.APPROVED and row.kind == Escalation.Kind.DRAFT and words and words != _plain(row.draft):
        raise queue.Invalid(_("You changed the draft: use “Send edited”, or undo your changes to approve it."))


def _plain(draft: str) -> str:
    return draft.replace("\r\n", "\n").strip()


def _arguments(request: HttpRequest, kind: str) -> Any:
    if kind != Decision.Kind.EDITED or "arguments" not in request.POST:
        return None
    try:
        return json.loads(request.POST["arguments"])
    except ValueError as error:
        raise queue.Invalid(_("The arguments are not JSON: %(why)s") % {"why": error}) from error


def _told(request: HttpRequest, pk: uuid.UUID, why: str, status: int, words: str = "") -> HttpResponse:
    """The page as it is now, with the reason on top and what the person wrote kept."""
    row = access.require_escalation(access.person(request), pk)
    return page(request, "escalation.html", {**_shown(request, row), "problem": why, "kept": words}, status=status)


def _shown(request: HttpRequest, row: Escalation) -> dict[str, Any]:
    user, now = access.person(request), timezone.now()
    decision = row.standing()
    delivery = getattr(decision, "delivery", None) if decision else None
    mine = (
        row.state == Escalation.State.CLAIMED
        and row.claimed_by_id == user.pk
        and bool(row.lease_until and row.lease_until >= now)
    )
    hidden = row.blind and decision is None
    sent = decision.text if decision else ""
    differs = bool(row.draft and sent and sent != row.draft)
    return {
        "escalation": row,
        "mine": mine,
        "taken": row.state == Escalation.State.CLAIMED
        and not mine
        and bool(row.lease_until and row.lease_until >= now),
        "may_decide": row.scope in access.reviewable(user),
        "hidden": hidden,
        "has_draft": bool(row.draft) and not hidden and row.kind == Escalation.Kind.DRAFT,
        "evidence": {} if hidden else row.evidence,
        "talk": _talk(row),
        "decision": decision,
        "delivery": delivery,
        "undo_until": _undo_until(request, decision, delivery, now),
        "redline": diffs.words(row.draft, sent) if differs and diffs.alike(row.draft, sent) else [],
        "instead_of": row.draft if differs and not diffs.alike(row.draft, sent) else "",
        "reasons": REASONS,
        "similar": _similar(row) if not hidden else [],
    }


def _talk(row: Escalation) -> list[dict[str, Any]]:
    """The conversation as far as the customer knows it, then the message in question, then what came after."""
    history = [{"who": line.get("who", ""), "text": line.get("text", "")} for line in row.evidence.get("history", [])]
    after = row.evidence.get("history_after", [])
    return [
        *history,
        {"who": "customer", "text": row.customer_line, "now": True},
        *({**line, "new": True} for line in after),
    ]


def _undo_until(request: HttpRequest, decision: Decision | None, delivery: Any, now: datetime) -> datetime | None:
    if decision is None or delivery is None or decision.actor != access.actor(request):
        return None
    return delivery.due_at if delivery.state == "held" and delivery.due_at > now else None


def _similar(row: Escalation) -> list[Decision]:
    """What people decided last where the same edge was met."""
    return list(
        Decision.objects.filter(
            escalation__scope=row.scope, escalation__edge=row.edge, undo=None, actor__startswith="user:"
        )
        .exclude(escalation=row)
        .select_related("escalation")[:3]
    )
