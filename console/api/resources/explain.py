"""What would happen to a message, and why, without a model being called."""

from __future__ import annotations

from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response

from agents import explain, snapshot
from agents.asks import Caller, Plain
from agents.loop import loop
from agents.routing import UnknownModel
from budgets.ledger import Unavailable
from console import access
from console.api import requests
from console.api.auth import key_of
from console.api.errors import ApiError
from console.api.resource import Resource, documented
from console.api.serializers import ExplanationSerializer


class Explain(Resource):
    write_scopes = ("read",)

    @documented(ExplanationSerializer, asks=requests.ExplainRequest, errors=(404, 503), tag="usage")
    def post(self, request: Request) -> Response:
        """Guardrails, router, breakers and budgets as they are now, applied to this message; nothing is sent."""
        asked = requests.body(request, requests.ExplainRequest)
        channel = access.require_key_channel(key_of(request), asked.get("agent", ""), asked.get("channel", ""))
        now = snapshot.load(snapshot.epoch())
        state = now.scope(str(channel), asked.get("topic", ""))
        live = state.live_for(asked.get("case", "")) if state else None
        if state is None or live is None:
            raise Http404("This channel has no live release.")
        caller = Caller(scope=state, live=live, epoch=now.epoch, case_ref=asked.get("case", ""))
        body = {"messages": [{"role": "user", "content": asked["message"]}]}
        try:
            found = loop.run(explain.explain(Plain(caller, body, asked["model"])))
        except UnknownModel as error:
            raise Http404(f"The live release has no model {asked['model'][:100]}.") from error
        except Unavailable as error:
            raise ApiError(503, "service_degraded", "Redis does not answer: no model would be called.") from error
        return Response(ExplanationSerializer(found).data)
