"""Findings that a person called harmless: candidates for a pack's hard negatives, or for the allow-list."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import yaml
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from console import access
from console.htmx import page, wants_part
from console.views.guardrails import TABS
from console.views.paging import chosen, newest, text
from guardrails.coverage import STAGES
from guardrails.models import FalsePositive, Finding
from guardrails.policy import UNSCREENED

ALLOWED_FOR = timedelta(days=30)
MOST_CHOICES, MOST_LINES = 60, 5_000
UNKNOWN = "unknown"


@require_POST
def call(request: HttpRequest, pk: int) -> HttpResponse:
    """One click: the finding was no attack. The first to say so is kept; saying it again changes nothing."""
    user = access.person(request)
    finding = access.require_finding(user, pk)
    word, _new = FalsePositive.objects.call(finding, actor=access.actor(request), note=text(request.POST, "note", 300))
    finding.false_positive = word
    if wants_part(request):
        return page(request, "parts/harmless.html", {"finding": finding, "operated": [finding.agent]})
    messages.success(request, _("Called harmless: it is a candidate for the harmless sentences now."))
    back = request.headers.get("referer", "")
    safe = url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()}, require_https=request.is_secure())
    return redirect(back if safe else "guardrails")


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    user = access.person(request)
    every = _of(access.agent_slugs(user))
    rules, languages = _choices(every, "rule"), _choices(every, "language")
    filters = {"rule": chosen(request.GET, "rule", rules), "language": chosen(request.GET, "language", languages)}
    listed = newest(_filtered(every, filters), text(request.GET, "before"))
    today = timezone.localdate()
    context: dict[str, Any] = {
        "tabs": TABS,
        "tab": "guardrails-harmless",
        "words": listed,
        "rows": [(word, _allow_entry(word.finding, today)) for word in listed.rows],
        "filters": filters,
        "filtered": any(filters.values()),
        "rules": rules,
        "languages": languages,
        "may_download": access.agents_administered(user).exists(),
    }
    return page(request, "guardrails-harmless.html", context, part="list")


@require_GET
def download(request: HttpRequest) -> HttpResponse:
    """The same as YAML, by language and family, as a pack has its `hard_negatives`."""
    administered = list(access.agents_administered(access.person(request)).values_list("slug", flat=True))
    if not administered:
        raise PermissionDenied("This needs an administrator.")
    filters = {name: text(request.GET, name) for name in ("rule", "language")}
    found = _filtered(_of(administered), filters).filter(finding__family__in=STAGES).order_by("-pk")[:MOST_LINES]
    response = HttpResponse(_as_yaml(found), content_type="application/yaml; charset=utf-8")
    response["content-disposition"] = f'attachment; filename="harmless-{timezone.localdate():%Y%m%d}.yaml"'
    return response


def _of(agents: list[str]) -> QuerySet[FalsePositive]:
    return FalsePositive.objects.select_related("finding").filter(finding__agent__in=agents)


def _choices(rows: QuerySet[FalsePositive], name: str) -> list[str]:
    column = f"finding__{name}"
    return list(rows.order_by(column).values_list(column, flat=True).distinct()[:MOST_CHOICES])


def _filtered(rows: QuerySet[FalsePositive], filters: dict[str, str]) -> QuerySet[FalsePositive]:
    return rows.filter(**{f"finding__{name}": value for name, value in filters.items() if value})


def _allow_entry(finding: Finding, today: date) -> dict[str, str] | None:
    """An entry for the allow-list of a policy; what was not screened can have none."""
    if finding.family in UNSCREENED:
        return None
    return {"text": finding.excerpt, "rule": finding.rule, "until": (today + ALLOWED_FOR).isoformat()}


def _as_yaml(words: QuerySet[FalsePositive]) -> str:
    found: dict[str, dict[str, list[str]]] = {}
    for word in words:
        language = word.finding.language if word.finding.language.isalpha() else UNKNOWN
        lines = found.setdefault(language, {}).setdefault(word.finding.family, [])
        if word.finding.excerpt not in lines:
            lines.append(word.finding.excerpt)
    head = (
        "# Called harmless, by language: for hard_negatives of guardrails/packs/<language>.yaml. Read each one first.\n"
    )
    return head + (yaml.safe_dump(found, allow_unicode=True, width=10_000) if found else "{}\n")
