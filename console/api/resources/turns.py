"""Customer messages and what became of them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.urls import reverse
from rest_framework.request import Request
from rest_framework.response import Response

from agents import cases, private
from agents.models import Turn
from console import access
from console.api import requests, waiting
from console.api.auth import key_of
from console.api.idempotency import once
from console.api.pages import page
from console.api.resource import IDEMPOTENCY, PREFER, WAIT, Resource, documented, listed, one
from console.api.serializers import TurnSerializer
from escalations import outbox

TAG = "turns"


class Turns(Resource):
    read_scopes = ("turns", "read")
    write_scopes = ("turns",)

    @listed(TurnSerializer, tag=TAG, filters=requests.TurnFilter)
    def get(self, request: Request) -> Response:
        """Turns, newest first."""
        rows = access.key_turns(key_of(request)).filter(requests.TurnFilter.conditions(request))
        return page(request, rows, _shown, ("-created_at", "-id"))

    @documented(
        TurnSerializer,
        asks=requests.TurnRequest,
        status=(200, 202),
        parameters=[IDEMPOTENCY, PREFER],
        errors=(409, 413, 415, 503),
        tag=TAG,
    )
    def post(self, request: Request) -> Response:
        """A customer's message. 200 with its outcome when one was waited for and came, else 202 and where to look."""
        opened = once(request, lambda: self._open(request))
        pk = uuid.UUID(opened.data["id"])
        seconds = waiting.wanted(request)
        ended = wait_for(pk, seconds) if seconds else False
        turn = one(access.key_turns(key_of(request)), pk=pk)
        headers = {
            name: value for name, value in opened.headers.items() if name in ("Location", "Idempotency-Replayed")
        }
        if seconds:
            headers["Preference-Applied"] = f"wait={seconds}"
        return Response(_whole(request, turn), status=200 if ended else 202, headers=headers)

    def _open(self, request: Request) -> Response:
        asked, key = requests.body(request, requests.TurnRequest), key_of(request)
        turn = cases.open_turn(
            access.require_key_channel(key, asked.pop("agent"), asked.pop("channel")),
            ref=asked.pop("case"),
            tester=key.tester,
            key_prefix=key.prefix,
            **asked,
        )
        return Response({"id": str(turn.pk)}, status=202, headers={"Location": reverse("api-turn", args=[turn.pk])})


class OneTurn(Resource):
    read_scopes = ("turns", "read")

    @documented(TurnSerializer, parameters=[WAIT, PREFER], tag=TAG)
    def get(self, request: Request, pk: uuid.UUID) -> Response:
        """A turn; with `wait`, as soon as it has an outcome. Fetching a person's answer acknowledges the decision."""
        turn = one(access.key_turns(key_of(request)), pk=pk)
        if turn.outcome == Turn.Outcome.PENDING and (seconds := waiting.wanted(request)):
            wait_for(pk, seconds)
            turn = one(access.key_turns(key_of(request)), pk=pk)
        if turn.escalation and turn.reply_by and (decision := turn.escalation.standing()):
            outbox.acknowledge(decision)
        return Response(_whole(request, turn))


def _whole(request: Request, turn: Turn) -> Any:
    """To a key that brings messages and hands replies on, with the words that are hidden in what is stored."""
    brings = "turns" in key_of(request).scopes
    return TurnSerializer(private.restored(turn) if brings else turn).data


def wait_for(pk: uuid.UUID, seconds: float) -> bool:
    """Whether the turn has an outcome, at the latest after so many seconds."""
    return waiting.wait(f"ph:turn:{pk}", lambda: not Turn.objects.pending().filter(pk=pk).exists(), seconds)


def _shown(rows: Sequence[Turn]) -> Any:
    return TurnSerializer(rows, many=True).data
