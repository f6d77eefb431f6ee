"""Actions of agents that wait for a person."""

from __future__ import annotations

import uuid

from django.urls import reverse
from rest_framework.request import Request
from rest_framework.response import Response

from agents import cases
from console import access
from console.api import requests, waiting
from console.api.auth import actor_of, key_of
from console.api.idempotency import idempotent
from console.api.resource import IDEMPOTENCY, PREFER, WAIT, Resource, documented, one
from console.api.serializers import ApprovalSerializer, final_decision
from escalations import outbox
from escalations.models import Escalation

TAG = "approvals"


class Approvals(Resource):
    write_scopes = ("turns",)

    @documented(
        ApprovalSerializer, asks=requests.ApprovalRequest, status=201, parameters=[IDEMPOTENCY], errors=(409,), tag=TAG
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Ask a person whether the agent may do something. An approval is bound to the hash of these arguments."""
        asked, key = requests.body(request, requests.ApprovalRequest), key_of(request)
        escalation = cases.propose_action(
            access.require_key_channel(key, asked.pop("agent"), asked.pop("channel")),
            ref=asked.pop("case"),
            actor=actor_of(request),
            **asked,
        )
        headers = {"Location": reverse("api-approval", args=[escalation.pk])}
        return Response(ApprovalSerializer(escalation).data, status=201, headers=headers)


class OneApproval(Resource):
    read_scopes = ("turns", "read")

    @documented(ApprovalSerializer, parameters=[WAIT, PREFER], tag=TAG)
    def get(self, request: Request, pk: uuid.UUID) -> Response:
        """An approval; with `wait`, as soon as it is decided for good. Fetching it acknowledges the decision."""
        rows = access.key_escalations(key_of(request)).filter(kind=Escalation.Kind.ACTION)
        escalation = one(rows, pk=pk)
        if not final_decision(escalation) and (seconds := waiting.wanted(request)):
            waiting.wait(f"ph:escalation:{pk}", lambda: final_decision(one(rows, pk=pk)) is not None, seconds)
            escalation = one(rows, pk=pk)
        if (decision := final_decision(escalation)) and "turns" in key_of(request).scopes:
            outbox.acknowledge(decision)
        return Response(ApprovalSerializer(escalation).data)
