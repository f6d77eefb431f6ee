"""Versions, releases and their way onto scopes."""

from __future__ import annotations

from typing import Any

from django.db.models import Prefetch, QuerySet
from django.http import Http404
from django.urls import reverse
from rest_framework.request import Request
from rest_framework.response import Response

from agents import knowledge, releases
from agents.models import Agent, Deployment, Release, Scope, Version
from console import access
from console.api import requests
from console.api.auth import actor_of, key_of
from console.api.idempotency import idempotent
from console.api.pages import page
from console.api.resource import IDEMPOTENCY, Resource, documented, listed, one
from console.api.serializers import (
    DeploymentSerializer,
    ReleaseSerializer,
    VersionSerializer,
    WholeScopeSerializer,
    WholeVersionSerializer,
)

TAG = "releases"
MOST_NUMBER = 2**31


class Versions(Resource):
    write_scopes = ("releases",)
    most_bytes = 2 * 1024 * 1024

    @listed(VersionSerializer, tag=TAG, filters=requests.VersionFilter)
    def get(self, request: Request) -> Response:
        """Versions of prompts, knowledge, models, guardrails and edges, newest first, without their content."""
        rows = access.key_versions(key_of(request)).defer("content").filter(requests.VersionFilter.conditions(request))
        return page(request, rows, lambda found: VersionSerializer(found, many=True).data)

    @documented(
        WholeVersionSerializer,
        asks=requests.VersionRequest,
        status=201,
        parameters=[IDEMPOTENCY],
        errors=(413,),
        tag=TAG,
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """A new version, or the one that has this content already. Nothing is live by this.

        Knowledge is `{"documents": [...]}`: hashes of documents that are stored, or documents to store, each
        `{"title", "language", "body", "topic"?, "url"?}`.
        """
        asked = requests.body(request, requests.VersionRequest)
        agent = _own_agent(request, asked["agent"])
        version = releases.add_version(
            agent,
            asked["kind"],
            _with_documents(asked["content"]) if asked["kind"] == Version.Kind.KNOWLEDGE else asked["content"],
            author=actor_of(request),
            note=asked["note"],
        )
        headers = {"Location": reverse("api-version", args=[version.pk])}
        return Response(WholeVersionSerializer(version).data, status=201, headers=headers)


class OneVersion(Resource):
    @documented(WholeVersionSerializer, tag=TAG)
    def get(self, request: Request, pk: int) -> Response:
        return Response(WholeVersionSerializer(one(access.key_versions(key_of(request)), pk=pk)).data)


class Releases(Resource):
    write_scopes = ("releases",)

    @listed(ReleaseSerializer, tag=TAG, filters=requests.ReleaseFilter)
    def get(self, request: Request) -> Response:
        """Releases, newest first."""
        rows = access.key_releases(key_of(request)).filter(requests.ReleaseFilter.conditions(request))
        return page(request, _light(rows), lambda found: ReleaseSerializer(found, many=True).data)

    @documented(ReleaseSerializer, asks=requests.ReleaseRequest, status=201, parameters=[IDEMPOTENCY], tag=TAG)
    @idempotent
    def post(self, request: Request) -> Response:
        """Publish a release. Nothing is live by this: deploy it."""
        asked = requests.body(request, requests.ReleaseRequest)
        agent = _own_agent(request, asked["agent"])
        parts = _parts(agent, asked["parts"])
        release = releases.publish(agent, parts, author=actor_of(request), note=asked["note"])
        headers = {"Location": reverse("api-release", args=[str(release)])}
        return Response(ReleaseSerializer(release).data, status=201, headers=headers)


class OneRelease(Resource):
    @documented(ReleaseSerializer, tag=TAG)
    def get(self, request: Request, name: str) -> Response:
        """A release by its name (`support@r2`) or id."""
        rows = _light(access.key_releases(key_of(request)))
        slug, _, number = name.rpartition("@r")
        lookup = {"agent__slug": slug, "number": _number(number)} if slug else {"pk": _number(name)}
        return Response(ReleaseSerializer(one(rows, **lookup)).data)


class Scopes(Resource):
    read_scopes = ("read", "releases")

    @listed(WholeScopeSerializer, tag=TAG)
    def get(self, request: Request) -> Response:
        """Scopes with their stage and what is live there."""
        return page(request, _scopes(request), lambda found: WholeScopeSerializer(found, many=True).data, ("id",))


class OneScope(Resource):
    read_scopes = ("read", "releases")

    @documented(WholeScopeSerializer, tag=TAG)
    def get(self, request: Request, pk: int) -> Response:
        return Response(WholeScopeSerializer(one(_scopes(request), pk=pk)).data)


class Deployments(Resource):
    read_scopes = ("read", "releases")

    @listed(DeploymentSerializer, tag=TAG)
    def get(self, request: Request, pk: int) -> Response:
        """What was live on the scope, newest first, by whom and why."""
        scope = one(access.key_scopes(key_of(request)), pk=pk)
        rows = scope.deployments.select_related("release__agent", "scope__channel__agent")
        return page(request, rows, lambda found: DeploymentSerializer(found, many=True).data)


class Deploy(Resource):
    write_scopes = ("releases",)

    @documented(
        DeploymentSerializer, asks=requests.DeployRequest, status=201, parameters=[IDEMPOTENCY], errors=(409,), tag=TAG
    )
    @idempotent
    def post(self, request: Request, pk: int) -> Response:
        """Make a release live, for everybody or as a canary for `percent` of the cases."""
        asked = requests.body(request, requests.DeployRequest)
        scope = one(access.key_scopes(key_of(request)), pk=pk)
        release = _release(scope, asked.pop("release"))
        made = releases.deploy(scope, release, actor=actor_of(request), **asked)
        return Response(DeploymentSerializer(made).data, status=201)


class Rollback(Resource):
    write_scopes = ("releases",)

    @documented(
        DeploymentSerializer,
        asks=requests.RollbackRequest,
        status=201,
        parameters=[IDEMPOTENCY],
        errors=(409,),
        tag=TAG,
    )
    @idempotent
    def post(self, request: Request, pk: int) -> Response:
        """Go back to `to`, or to what served before. The very next call is served by it."""
        asked = requests.body(request, requests.RollbackRequest)
        scope = one(access.key_scopes(key_of(request)), pk=pk)
        target = _release(scope, asked["to"]) if asked["to"] else None
        made = releases.roll_back(scope, actor=actor_of(request), to=target, reason=asked["reason"])
        return Response(DeploymentSerializer(made).data, status=201)


def _scopes(request: Request) -> QuerySet[Scope]:
    rows = Deployment.objects.select_related("release__agent").order_by("-id")
    return access.key_scopes(key_of(request)).prefetch_related(Prefetch("deployments", rows))


def _light(rows: Any) -> Any:
    """Without the contents of the parts, which a list never shows."""
    return rows.defer(*(f"{part}__content" for part in Release.PARTS))


def _own_agent(request: Request, slug: str) -> Agent:
    """The agent that the key may change. :raises Unclear: it reaches several and the request names none."""
    key = key_of(request)
    access.require_whole_agent(key)
    if not slug and key.agent is None:
        raise access.Unclear("Name the agent.")
    return one(access.key_agents(key), slug=slug) if slug else one(access.key_agents(key))


def _with_documents(content: Any) -> Any:
    try:
        return knowledge.take_in(content)
    except ValueError as error:
        raise releases.Invalid(f"Knowledge: {error}") from error


def _parts(agent: Agent, numbers: dict[str, int]) -> dict[str, Version]:
    if unknown := set(numbers) - set(Release.PARTS):
        raise releases.Invalid(f"There is no part {min(unknown)}: a release has {', '.join(Release.PARTS)}.")
    newest = agent.releases.select_related(*Release.PARTS).order_by("-number").first()
    parts = newest.parts() if newest else {}
    for kind, number in numbers.items():
        version = agent.versions.filter(kind=kind, number=number).first()
        if version is None:
            raise releases.Invalid(f"{agent.slug} has no {kind} version {number}.")
        parts[kind] = version
    return parts


def _release(scope: Scope, name: str) -> Release:
    """`support@r2`, `r2` or `2` among the releases of the scope's agent."""
    slug, _, number = name.rpartition("@")
    found = scope.agent.releases.select_related("agent").filter(number=_number(number.removeprefix("r")))
    release = found.first() if slug in ("", scope.agent.slug) else None
    if release is None:
        raise Http404(f"{scope.agent.slug} has no release {name}.")
    return release


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
