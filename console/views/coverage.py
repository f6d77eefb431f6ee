"""Which attack family is covered in which language: rows that a task writes; one cell of them is tried live."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from agents.models import Deployment, Scope
from agents.snapshot import place_of
from console import access
from console.htmx import page
from console.views.guardrails import TABS
from console.views.paging import text
from guardrails import screen, tasks
from guardrails.concepts import Language, pack
from guardrails.coverage import STAGES, cell, kept
from guardrails.coverage.disguises import DISGUISES, negatives, probes
from guardrails.lexicon import languages
from guardrails.models import CoverageResult

GIVEN_UP = timedelta(minutes=10)
MOST_GAPS = 100


@dataclass(frozen=True, slots=True)
class Line:
    """A language with its cells in the order of the families (None: never checked)."""

    language: Language
    own: bool
    cells: Sequence[CoverageResult | None]
    whole: CoverageResult | None

    @property
    def gaps(self) -> int:
        return sum(len(cell.gaps) if cell else 1 for cell in (*self.cells, self.whole))


@dataclass(frozen=True, slots=True)
class Uncovered:
    """A language that an agent speaks and its live guardrails do not cover, why, and what to do."""

    scope: Scope
    deployment: Deployment
    language: str
    why: str
    remedy: str


@require_GET
def coverage(request: HttpRequest) -> HttpResponse:
    """The matrix. `since`: a check was asked for then, and is followed until every language has been through it."""
    user = access.person(request)
    scopes = list(access.scopes_visible(user))
    own = {code for scope in scopes for code in scope.channel.agent.languages}
    rows = list(CoverageResult.objects.all())
    since, now = _moment(text(request.GET, "since", 40)), timezone.now()
    checked = sum(1 for row in rows if since and not row.family and row.language in languages() and row.at >= since)
    lines = _lines(rows, own)
    oldest = min((row.at for row in rows), default=None)
    context: dict[str, Any] = {
        "tabs": TABS,
        "tab": "guardrails-coverage",
        "families": list(STAGES),
        "lines": lines if rows else [],
        "gaps": [gap for line in lines for gap in _sentences(line)][:MOST_GAPS] if rows else [],
        "total": len(languages()),
        "covered": sum(1 for line in lines if not line.gaps),
        "digest": kept.digest(),
        "old": any(row.digest != kept.digest() for row in rows),
        "oldest": oldest,
        "uncovered": _uncovered(scopes),
        "may_check": access.may(user, "administrator"),
        "since": since,
        "checked": checked,
        "running": since is not None and checked < len(languages()) and now - since < GIVEN_UP,
        "late": since is not None and checked < len(languages()) and now - since >= GIVEN_UP,
    }
    return page(request, "guardrails-coverage.html", context, part="matrix")


@require_POST
def check(request: HttpRequest) -> HttpResponse:
    access.require_administrator(access.person(request))
    since = timezone.now().isoformat(timespec="seconds")
    transaction.on_commit(partial(tasks.check_coverage.delay))
    return redirect(f"{reverse('guardrails-coverage')}?{urlencode({'since': since})}")


@require_GET
def one(request: HttpRequest, language: str, family: str) -> HttpResponse:
    """One family in one language, tried at this moment."""
    access.person(request)
    if language not in languages() or family not in STAGES:
        raise Http404
    words = pack(language)
    tried, found = probes(words, family), cell(words, family)
    context = {
        "language": languages()[language],
        "family": family,
        "stage": STAGES[family],
        "disguises": DISGUISES,
        "probes": [(probe, [(name, probe.disguises[name]) for name in DISGUISES]) for probe in tried],
        "negatives": negatives(words, family),
        "gaps": [*found.gaps, *kept.disguised(tried)],
    }
    return page(request, "guardrails-cell.html", context)


def _moment(said: str) -> datetime | None:
    """The moment in an address; None for what is none, or lies ahead."""
    try:
        found = parse_datetime(said)
    except ValueError:
        return None
    return found if found and found.tzinfo and found <= timezone.now() else None


def _lines(rows: Iterable[CoverageResult], own: set[str]) -> list[Line]:
    """The agents' own languages first, then those with the most gaps."""
    found: Mapping[tuple[str, str], CoverageResult] = {(row.language, row.family): row for row in rows}
    lines = [
        Line(language, code in own, [found.get((code, family)) for family in STAGES], found.get((code, "")))
        for code, language in languages().items()
    ]
    return sorted(lines, key=lambda line: (not line.own, -line.gaps, line.language.name))


def _sentences(line: Line) -> list[tuple[Language, str, str]]:
    """(language, family, gap)"""
    found = [line.whole, *line.cells]
    return [(line.language, row.family, gap) for row in found if row for gap in row.gaps]


def _uncovered(scopes: list[Scope]) -> list[Uncovered]:
    rows = Deployment.objects.filter(scope__in=scopes).select_related("release__agent", "release__guardrails")
    live = {row.scope_id: row for row in rows.order_by("scope_id", "-id").distinct("scope_id")}
    return [
        Uncovered(scope, live[scope.pk], code, *told)
        for scope in scopes
        if scope.pk in live
        for code in scope.channel.agent.languages
        if (told := _not_covered(scope, live[scope.pk], code))
    ]


def _not_covered(scope: Scope, deployment: Deployment, code: str) -> tuple[str, str] | None:
    """Why the language is not covered there, and what to do; None where it is."""
    policy = screen.compile_policy(deployment.release.guardrails.content, place_of(scope.name))
    if code not in languages():
        done = _("go to a person") if policy.uncovered == "escalate" else _("are blocked")
        return (
            _("No pack has words for it, so messages in it %(done)s.") % {"done": done},
            _("Write a pack for it, or take it from the agent's languages."),
        )
    if policy.languages and code not in policy.languages:
        return (
            _("The policy's languages leave it out, so documents and tools' answers in it are stopped."),
            _("Add “%(code)s” to the languages of the guardrail policy and publish a release.") % {"code": code},
        )
    return None
