"""What waits for a person, for review desks of one's own. A key claims and decides under its own name."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.db.models import Prefetch, QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from console import access
from console.api import requests
from console.api.auth import actor_of, key_of
from console.api.idempotency import idempotent
from console.api.pages import page
from console.api.resource import IDEMPOTENCY, Resource, documented, listed, one
from console.api.serializers import ClaimSerializer, DecisionSerializer, EscalationSerializer
from escalations import queue as review
from escalations.models import Decision, Escalation

TAG = "escalations"


class Escalations(Resource):
    read_scopes = ("review", "read")

    @listed(EscalationSerializer, tag=TAG, filters=requests.EscalationFilter)
    def get(self, request: Request) -> Response:
        """Escalations, the most urgent first."""
        rows = _rows(request).filter(requests.EscalationFilter.conditions(request))
        return page(request, rows, lambda found: _shown(request, found), ("priority", "created_at", "id"))


class OneEscalation(Resource):
    read_scopes = ("review", "read")

    @documented(EscalationSerializer, tag=TAG)
    def get(self, request: Request, pk: uuid.UUID) -> Response:
        return Response(_shown(request, [one(_rows(request), pk=pk)])[0])


class Claim(Resource):
    write_scopes = ("review",)

    @documented(ClaimSerializer, parameters=[IDEMPOTENCY], errors=(409,), tag=TAG)
    @idempotent
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        """Take it for five minutes. 409 tells who has it, or carries the decision that was taken."""
        one(_rows(request), pk=pk)
        claim = review.claim(pk, None)
        return Response(ClaimSerializer(claim, context={"reviewer": True}).data)


class Heartbeat(Resource):
    write_scopes = ("review",)

    @documented(ClaimSerializer, asks=requests.TokenRequest, errors=(409,), tag=TAG)
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        """Keep it for five more minutes."""
        asked = requests.body(request, requests.TokenRequest)
        one(_rows(request), pk=pk)
        until = review.heartbeat(pk, None, asked["token"])
        escalation = one(_rows(request), pk=pk)
        claim = review.Claim(escalation, escalation.token, escalation.revision, until)
        return Response(ClaimSerializer(claim, context={"reviewer": True}).data)


class LetGo(Resource):
    write_scopes = ("review",)

    @documented(EscalationSerializer, asks=requests.TokenRequest, errors=(409,), tag=TAG)
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        """Put it back for somebody else."""
        asked = requests.body(request, requests.TokenRequest)
        one(_rows(request), pk=pk)
        review.release(pk, None, asked["token"])
        return Response(_shown(request, [one(_rows(request), pk=pk)])[0])


class Decide(Resource):
    write_scopes = ("review",)

    @documented(
        DecisionSerializer, asks=requests.DecideRequest, status=201, parameters=[IDEMPOTENCY], errors=(409,), tag=TAG
    )
    @idempotent
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        """Decide what the claim is about. 409 carries the decision that is recorded already."""
        asked = requests.body(request, requests.DecideRequest)
        one(_rows(request), pk=pk)
        decision = review.decide(pk, actor=actor_of(request), **asked)
        return Response(DecisionSerializer(decision).data, status=201)


def _rows(request: Request) -> QuerySet[Escalation]:
    decisions = Prefetch("decisions", Decision.objects.select_related("undo", "delivery"))
    return access.key_escalations(key_of(request)).prefetch_related(decisions)


def _shown(request: Request, rows: Sequence[Escalation]) -> Any:
    context = {"reviewer": "review" in key_of(request).scopes}
    return EscalationSerializer(rows, many=True, context=context).data
