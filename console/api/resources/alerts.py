"""What the rules found: for dashboards and for tools of who is on call."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from console import access
from console.api import requests
from console.api.auth import actor_of, key_of
from console.api.idempotency import idempotent
from console.api.pages import page
from console.api.resource import IDEMPOTENCY, Resource, documented, listed, one
from console.api.serializers import AlertSerializer, WholeAlertSerializer
from console.monitoring import alerts

TAG = "alerts"


class Alerts(Resource):
    @listed(AlertSerializer, tag=TAG, filters=requests.AlertFilter)
    def get(self, request: Request) -> Response:
        """Alerts, newest first."""
        rows = access.key_alerts(key_of(request)).filter(requests.AlertFilter.conditions(request))
        return page(request, rows, lambda found: AlertSerializer(found, many=True).data)


class OneAlert(Resource):
    @documented(WholeAlertSerializer, tag=TAG)
    def get(self, request: Request, pk: int) -> Response:
        return Response(WholeAlertSerializer(one(access.key_alerts(key_of(request)), pk=pk)).data)


class Acknowledge(Resource):
    write_scopes = ("review", "releases")

    @documented(
        WholeAlertSerializer, asks=requests.AcknowledgeRequest, parameters=[IDEMPOTENCY], errors=(409,), tag=TAG
    )
    @idempotent
    def post(self, request: Request, pk: int) -> Response:
        """Somebody looks after it. 409 where it does not fire, or somebody was faster."""
        asked = requests.body(request, requests.AcknowledgeRequest)
        alert = one(access.key_alerts(key_of(request)), pk=pk)
        alerts.acknowledge(alert, actor=actor_of(request), note=asked["note"])
        return Response(WholeAlertSerializer(alert).data)
