"""What an agent knows: the documents of the live version, and what a question finds in them."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from agents import knowledge as verbs
from agents.models import Document, Scope, Version
from console import access
from console.htmx import page
from console.views.paging import chosen, text

MOST_DOCUMENTS = 300
HITS = 6


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    scopes = list(access.scopes_visible(access.person(request)))
    scope = next((row for row in scopes if str(row.pk) == request.GET.get("scope")), scopes[0] if scopes else None)
    version = _version(scope) if scope else None
    question = text(request.GET, "try", 1_000)
    context: dict[str, Any] = {"scopes": scopes, "scope": scope, "version": version, "question": question}
    if scope and version:
        context |= _documents(request, version)
        if question:
            context["hits"] = verbs.search_sync(version, question, HITS, tuple(scope.channel.agent.languages))
    return page(request, "knowledge.html", context, part="hits" if "try" in request.GET else "documents")


def _version(scope: Scope) -> Version | None:
    live = scope.deployments.select_related("release__knowledge").order_by("-id").first()
    return live.release.knowledge if live else None


def _documents(request: HttpRequest, version: Version) -> dict[str, Any]:
    every = Document.objects.filter(sha256__in=version.content.get("documents", ()))
    languages = list(every.order_by("language").values("language").annotate(n=Count("sha256")))
    language, words = chosen(request.GET, "language", [row["language"] for row in languages]), text(request.GET, "q")
    rows = every.filter(language=language) if language else every
    rows = rows.filter(Q(title__icontains=words) | Q(body__icontains=words)) if words else rows
    found = list(rows.defer("body").annotate(pieces=Count("passages")).order_by("title", "language")[:MOST_DOCUMENTS])
    return {
        "documents": found,
        "languages": languages,
        "language": language,
        "q": words,
        "total": sum(row["n"] for row in languages),
    }


@require_GET
def document(request: HttpRequest, sha: str) -> HttpResponse:
    """A document that some version of a visible agent names."""
    agents = access.agents_visible(access.person(request))
    named = Version.objects.filter(
        agent__in=agents, kind=Version.Kind.KNOWLEDGE, content__contains={"documents": [sha]}
    )
    versions = list(named.select_related("agent").defer("content")[:20])
    row = Document.objects.filter(sha256=sha).first() if versions else None
    if row is None:
        raise Http404
    return page(
        request,
        "document.html",
        {"document": row, "passages": list(row.passages.defer("lemmas", "ngrams")), "versions": versions},
    )
