"""What is live where: the timelines, a release, deploying it, rolling back, and watching it arrive."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from agents import metrics, releases, snapshot
from agents.models import Deployment, Document, Release, Scope, Turn, Version
from console import access, charts
from console.htmx import page
from console.views import diffs
from console.views.paging import newest, text

MOST_DEPLOYMENTS = 1_000
MOST_DOCUMENTS = 60
MOST_AGENTS = 8
ARRIVES_WITHIN_S = 60


def deployments_of(scopes: list[Scope]) -> dict[int, list[Deployment]]:
    """Each scope's deployments, newest first, in one query."""
    found: dict[int, list[Deployment]] = {scope.pk: [] for scope in scopes}
    rows = (
        Deployment.objects.filter(scope__in=scopes).select_related("release__agent").order_by("-id")[:MOST_DEPLOYMENTS]
    )
    for row in rows:
        found[row.scope_id].append(row)
    return found


def stable_among(rows: list[Deployment]) -> Deployment | None:
    return next((row for row in rows if row.percent == 100), None)


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    user = access.person(request)
    scopes = list(access.scopes_visible(user))
    now = timezone.now()
    found = deployments_of(scopes)
    stretch = charts.window(min((row.at for rows in found.values() for row in rows), default=None), now)
    lines = [
        {
            "scope": scope,
            "live": rows[0] if rows else None,
            "stable": stable_among(rows),
            "segments": charts.timeline(rows, now - stretch, now),
            "target": releases.target_among(rows)
            if access.may(user, "administrator", scope.channel.agent_id)
            else None,
        }
        for scope, rows in ((scope, found[scope.pk]) for scope in scopes)
    ]
    made = Release.objects.select_related("agent", *Release.PARTS).filter(agent__in=access.agents_visible(user))
    made = made.defer(*(f"{part}__content" for part in Release.PARTS))
    listed = newest(made, text(request.GET, "before"))
    return page(
        request,
        "releases.html",
        {
            "lines": lines,
            "releases": listed,
            "since": now - stretch,
            "live_on": _live_on(lines),
            "publishable": access.agents_administered(user)[:MOST_AGENTS],
        },
        part="list",
    )


def _live_on(lines: list[dict[str, Any]]) -> dict[int, list[str]]:
    """Where each release is live, by the release's id."""
    where: dict[int, list[str]] = {}
    for line in lines:
        for row in {line["live"], line["stable"]} - {None}:
            where.setdefault(row.release_id, []).append(line["scope"].name)
    return where


@require_GET
def release(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    user = access.person(request)
    row = access.require_release(user, slug, number)
    scopes = list(access.scopes_visible(user).filter(channel__agent=row.agent))
    found = deployments_of(scopes)
    live = [(scope, found[scope.pk][0]) for scope in scopes if found[scope.pk]]
    against = _against(request, row, [deployment.release for _scope, deployment in live])
    return page(
        request,
        "release.html",
        {
            "release": row,
            "parts": row.parts(),
            "live": live,
            "scopes": scopes,
            "against": against,
            "here": [(scope, deployment) for scope, deployment in live if deployment.release_id == row.pk],
            "changes": changes(against, row) if against else [],
            "others": _others(row),
            "may_deploy": access.may(user, "administrator", row.agent_id),
        },
    )


def _others(row: Release) -> list[Release]:
    return list(Release.objects.select_related("agent").filter(agent=row.agent).exclude(pk=row.pk)[:50])


def _against(request: HttpRequest, row: Release, live: list[Release]) -> Release | None:
    """What to compare with: what was asked for, else what is live, else the one before."""
    wanted = text(request.GET, "against", 9)
    candidates = Release.objects.select_related("agent", *Release.PARTS).filter(agent=row.agent).exclude(pk=row.pk)
    if wanted.isdecimal():
        return candidates.filter(number=int(wanted)).first()
    other = next((release.pk for release in live if release.pk != row.pk), None)
    return candidates.filter(pk=other).first() if other else candidates.filter(number__lt=row.number).first()


def changes(old: Release, new: Release) -> list[dict[str, Any]]:
    """The parts that differ, each as lines; of knowledge, the documents that came and went."""
    return [
        {
            "part": part,
            "label": before.get_kind_display(),
            "old": before,
            "new": after,
            "pieces": _pieces(part, before, after),
        }
        for part, (before, after) in releases.diff(old, new).items()
    ]


def _pieces(part: str, old: Version, new: Version) -> list[diffs.Piece]:
    if part != Version.Kind.KNOWLEDGE:
        return diffs.lines(diffs.readable(old.content), diffs.readable(new.content))
    return _documents(*(set(version.content.get("documents", ())) for version in (old, new)))


def _documents(before: set[str], after: set[str]) -> list[diffs.Piece]:
    """Documents of the same name as lines that changed; the others as come or gone."""
    rows = Document.objects.filter(sha256__in=before ^ after).order_by("title", "language")[:MOST_DOCUMENTS]
    gone = {(row.title, row.language): row for row in rows if row.sha256 in before}
    came = {(row.title, row.language): row for row in rows if row.sha256 in after}
    pieces: list[diffs.Piece] = []
    for title, language in sorted(gone.keys() | came.keys()):
        old, new, name = gone.get((title, language)), came.get((title, language)), f"{title} ({language})"
        if old and new:
            pieces += [diffs.Piece("head", name), *diffs.lines(old.body, new.body)]
        else:
            pieces.append(diffs.Piece("gone" if old else "came", name))
    return pieces


@require_http_methods(["GET", "POST"])
def deploy(request: HttpRequest, pk: int) -> HttpResponse:
    """GET shows what would change and for whom; POST does it."""
    scope = access.require_scope(access.person(request), pk, "administrator")
    fields = request.POST if request.method == "POST" else request.GET
    number, share = text(fields, "release", 9), text(fields, "percent", 3) or "100"
    if not number.isdecimal() or not share.isdecimal():
        raise Http404
    target = access.require_release(access.person(request), scope.agent.slug, int(number))
    problem = ""
    if request.method == "POST":
        try:
            releases.deploy(
                scope,
                target,
                actor=access.actor(request),
                percent=int(share),
                reason=text(request.POST, "reason", 2_000),
            )
            return _arriving(scope)
        except (releases.Conflict, releases.Invalid) as error:
            problem = str(error)
    return _confirm(request, scope, target, kind="deploy", percent=int(share), problem=problem)


@require_http_methods(["GET", "POST"])
def rollback(request: HttpRequest, pk: int) -> HttpResponse:
    """GET shows to what it goes back and what that undoes; POST does it."""
    user = access.person(request)
    scope = access.require_scope(user, pk, "administrator")
    wanted = text(request.POST if request.method == "POST" else request.GET, "to", 9)
    target = (
        access.require_release(user, scope.agent.slug, int(wanted))
        if wanted.isdecimal()
        else releases.rollback_target(scope)
    )
    problem = ""
    if request.method == "POST":
        try:
            releases.roll_back(
                scope, actor=access.actor(request), to=target, reason=text(request.POST, "reason", 2_000)
            )
            return _arriving(scope)
        except releases.Conflict as error:
            problem = str(error)
    return _confirm(request, scope, target, kind="rollback", percent=100, problem=problem)


def _confirm(
    request: HttpRequest, scope: Scope, target: Release | None, *, kind: str, percent: int, problem: str
) -> HttpResponse:
    rows = deployments_of([scope])[scope.pk]
    live = rows[0] if rows else None
    today = metrics.overview([scope])[scope.pk]
    differ = changes(live.release, target) if live and target and live.release_id != target.pk else []
    context = {
        "scope": scope,
        "target": target,
        "kind": kind,
        "percent": percent,
        "live": live,
        "today": today,
        "changes": differ,
        "problem": problem,
        "uncovered": releases.uncovered(scope, target) if target and kind == "deploy" else [],
        "pending": Turn.objects.pending().filter(scope=scope).count(),
        "stable": stable_among(rows),
        "before": [row for row in rows if row.percent == 100][:12],
    }
    return page(request, "rollout.html", context, status=409 if problem else 200)


def _arriving(scope: Scope) -> HttpResponse:
    response = redirect("arrival", scope.pk)
    response["location"] += f"?epoch={snapshot.epoch()}"
    return response


@require_GET
def arrival(request: HttpRequest, pk: int) -> HttpResponse:
    """Every process counts itself in: the change is everywhere when all have."""
    scope = access.require_scope(access.person(request), pk)
    epoch = text(request.GET, "epoch", 18)
    live = scope.live()
    if live is None or not epoch.isdecimal():
        raise Http404
    acknowledged = releases.acknowledgements(int(epoch))
    waited = (timezone.now() - live.at).total_seconds()
    return page(
        request,
        "arrival.html",
        {
            "scope": scope,
            "live": live,
            "acks": acknowledged,
            "epoch": epoch,
            "waiting": not acknowledged.done and waited < ARRIVES_WITHIN_S,
            "late": waited > 10,
        },
        part="arrival",
    )


@require_GET
def choose(request: HttpRequest) -> HttpResponse:
    """From the release's form to the page that says what deploying it on that scope would change."""
    pk = text(request.GET, "scope", 18)
    scope = access.require_scope(access.person(request), int(pk) if pk.isdecimal() else 0, "administrator")
    fields = request.GET.copy()
    fields.pop("scope", None)
    response = redirect("deploy", scope.pk)
    response["location"] += f"?{fields.urlencode()}"
    return response
