"""What there is and what it did: agents, budgets, usage, calls, findings, the audit trail, the key itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agents import usage
from agents.connections import redis_sync
from budgets import ledger
from console import access
from console.api import requests
from console.api.auth import actor_of, key_of
from console.api.errors import ApiError
from console.api.idempotency import idempotent
from console.api.pages import page
from console.api.resource import IDEMPOTENCY, Resource, documented, listed, one
from console.api.serializers import (
    AgentSerializer,
    AuditSerializer,
    BudgetSerializer,
    CallSerializer,
    FindingSerializer,
    KeySerializer,
    UsageSerializer,
)
from guardrails.models import FalsePositive

LONGEST = timedelta(days=92)
USUAL = timedelta(days=30)


class Key(Resource):
    read_scopes = ()

    @documented(KeySerializer, tag="key")
    def get(self, request: Request) -> Response:
        """The key that asks: what it may do, and the secret that signs its callbacks."""
        return Response(KeySerializer(key_of(request)).data)


class Agents(Resource):
    @listed(AgentSerializer, tag="agents")
    def get(self, request: Request) -> Response:
        """Agents with their channels and scopes."""
        key = key_of(request)
        return page(request, access.key_agents(key), lambda found: _with_channels(key, list(found)), ("slug", "id"))


def _with_channels(key: Any, agents: list[Any]) -> Any:
    channels = access.key_channels(key).filter(agent__in=agents).prefetch_related("scopes__channel__agent")
    for agent in agents:
        agent.reached = [channel for channel in channels if channel.agent_id == agent.pk]
    return AgentSerializer(agents, many=True).data


class Budgets(Resource):
    @listed(BudgetSerializer, tag="budgets")
    def get(self, request: Request) -> Response:
        """Limits, and what is spent and held against them at this moment."""
        return page(request, access.key_budgets(key_of(request)), _with_balances, ("id",))


def _with_balances(budgets: Any) -> Any:
    found = ledger.balances(redis_sync(), [budget.limit() for budget in budgets])
    return BudgetSerializer(budgets, many=True, context={"balances": found}).data


class UsageAnswer(serializers.Serializer[Any]):
    group_by = serializers.CharField()
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    results = UsageSerializer(many=True)


class Usage(Resource):
    @documented(UsageAnswer, parameters=[requests.UsageQuery], tag="usage")
    def get(self, request: Request) -> Response:
        """Calls, tokens and cost by whatever is asked for, in whole minutes (up to two days) or hours."""
        asked = requests.query(request, requests.UsageQuery)
        until = asked.get("until") or timezone.now()
        since = asked.get("since") or until - USUAL
        if not timedelta() < until - since <= LONGEST:
            raise ApiError(400, "invalid", f"since lies at most {LONGEST.days} days before until.")
        since, until = usage.rounded(since, until)
        rows = usage.by(asked["group_by"], access.key_sums(key_of(request)), since, until)
        answer = {"group_by": asked["group_by"], "since": since, "until": until, "results": rows}
        return Response(UsageAnswer(answer).data)


class Calls(Resource):
    @listed(CallSerializer, tag="calls", filters=requests.CallFilter)
    def get(self, request: Request) -> Response:
        """Attempts at models, newest first."""
        rows = access.key_calls(key_of(request)).filter(requests.CallFilter.conditions(request))
        return page(request, rows, lambda found: CallSerializer(found, many=True).data, ("-at", "-id"))


class Findings(Resource):
    @listed(FindingSerializer, tag="findings", filters=requests.FindingFilter)
    def get(self, request: Request) -> Response:
        """What the guardrails saw, newest first. Excerpts are redacted."""
        rows = access.key_findings(key_of(request)).filter(requests.FindingFilter.conditions(request))
        return page(request, rows, lambda found: FindingSerializer(found, many=True).data)


class Harmless(Resource):
    write_scopes = ("review",)

    @documented(FindingSerializer, asks=requests.HarmlessRequest, parameters=[IDEMPOTENCY], tag="findings")
    @idempotent
    def post(self, request: Request, pk: int) -> Response:
        """The finding was no attack. The first to say so is kept; saying it again changes nothing."""
        asked = requests.body(request, requests.HarmlessRequest)
        finding = one(access.key_findings(key_of(request)), pk=pk)
        finding.false_positive, _new = FalsePositive.objects.call(finding, actor=actor_of(request), note=asked["note"])
        return Response(FindingSerializer(finding).data)


class Audit(Resource):
    @listed(AuditSerializer, tag="audit", filters=requests.AuditFilter)
    def get(self, request: Request) -> Response:
        """Who did what, newest first, each entry chained to the one before."""
        rows = access.key_audit(key_of(request)).filter(requests.AuditFilter.conditions(request))
        return page(request, rows, lambda found: AuditSerializer(found, many=True).data)
