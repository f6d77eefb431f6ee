"""A message to try: what would be done to it, and every step on the way there."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods

from agents import parts
from agents.models import Deployment, Scope
from agents.snapshot import place_of
from console import access
from console.htmx import page
from console.views.guardrails import TABS
from console.views.paging import chosen, text
from guardrails import screen
from guardrails.explaining import Explanation, explained

LONGEST = 20_000
STAGES = (
    ("inbound", _("from a customer")),
    ("passage", _("in a document")),
    ("tool", _("in a tool's answer")),
    ("outbound", _("to a customer")),
)


@require_http_methods(["GET", "POST"])
def tried(request: HttpRequest) -> HttpResponse:
    """The message comes in the body, so that it is in no log; nothing of it is kept."""
    scopes = list(access.scopes_visible(access.person(request)))
    context: dict[str, Any] = {"tabs": TABS, "tab": "guardrails-test", "scopes": scopes, "stages": STAGES}
    if request.method == "POST":
        context |= _tried(request, scopes)
    return page(request, "guardrails-test.html", context, part="tried")


def _tried(request: HttpRequest, scopes: list[Scope]) -> dict[str, Any]:
    """What the scope's live policy says to the message."""
    message, stage = text(request.POST, "message", LONGEST), chosen(request.POST, "stage", dict(STAGES)) or "inbound"
    scope = next((row for row in scopes if str(row.pk) == request.POST.get("on")), scopes[0] if scopes else None)
    live = _live(scope) if scope else None
    place = place_of(scope.name) if scope else ""
    policy = screen.compile_policy(live.release.guardrails.content if live else screen.DEFAULT_POLICY, place)
    found = explained(
        message,
        policy,
        stage,
        languages=list(scope.channel.agent.languages) if scope else None,
        prompt=parts.prompt(live.release.prompt.content) if live else "",
    )
    return {
        "found": found,
        "message": message,
        "on": scope,
        "stage": stage,
        "live": live,
        "pieces": _marked(message, found),
    }


def _live(scope: Scope) -> Deployment | None:
    return (
        scope.deployments.select_related("release__agent", "release__guardrails", "release__prompt")
        .order_by("-id")
        .first()
    )


def _marked(message: str, found: Explanation) -> list[tuple[str, str]]:
    """The message in pieces: (text, family) where something was found in it, else (text, "")."""
    pieces, at = [], 0
    for one in sorted(found.screening.findings, key=lambda seen: (seen.start, -seen.end)):
        if one.start < at or one.end <= one.start:
            continue
        pieces += [(message[at : one.start], ""), (message[one.start : one.end], one.family)]
        at = one.end
    return [piece for piece in [*pieces, (message[at:], "")] if piece[0]]
