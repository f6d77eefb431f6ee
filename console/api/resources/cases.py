"""Customer matters: looking, taking over, handing back, and what people decided elsewhere."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import transaction
from django.db.models import Q, Sum
from rest_framework.request import Request
from rest_framework.response import Response

from agents import cases, private
from agents.models import Case, Turn
from agents.stages import DECIDED_ELSEWHERE
from console import access, audit
from console.api import requests
from console.api.auth import actor_of, key_of
from console.api.errors import ApiError
from console.api.idempotency import idempotent
from console.api.pages import page
from console.api.resource import IDEMPOTENCY, Resource, documented, listed, one
from console.api.serializers import CaseSerializer, DecisionSerializer, WholeCaseSerializer
from escalations import queue as review
from escalations.models import Decision, Escalation

TAG = "cases"
LATEST = 50


class Cases(Resource):
    @listed(CaseSerializer, tag=TAG, filters=requests.CaseFilter)
    def get(self, request: Request) -> Response:
        """Cases, the latest message first."""
        rows = access.key_cases(key_of(request)).filter(requests.CaseFilter.conditions(request))
        return page(request, rows, lambda found: CaseSerializer(found, many=True).data, ("-last_turn_at", "-id"))


class OneCase(Resource):
    read_scopes = ("turns", "read")

    @documented(WholeCaseSerializer, parameters=[requests.Where], errors=(409,), tag=TAG)
    def get(self, request: Request, ref: str) -> Response:
        """A case by its id or your reference, with its latest turns and what it cost."""
        return Response(whole(case_named(request, ref)))


class Owner(Resource):
    """Who answers the customer from now on."""

    write_scopes = ("review",)
    verb: Any = None
    action = ""

    @documented(WholeCaseSerializer, parameters=[requests.Where, IDEMPOTENCY], errors=(409,), tag=TAG)
    @idempotent
    def post(self, request: Request, ref: str) -> Response:
        """Change who answers. Once a person does, nothing that the agent still works on reaches the customer."""
        case, actor = case_named(request, ref), actor_of(request)
        type(self).verb(case)
        audit.record(actor, self.action, agent=case.channel.agent.slug, object=str(case.pk), detail={"ref": case.ref})
        return Response(whole(case))


class TakeOver(Owner):
    verb = staticmethod(cases.take_over)
    action = "case.taken_over"


class HandBack(Owner):
    verb = staticmethod(cases.hand_back)
    action = "case.handed_back"


class HumanDecisions(Resource):
    write_scopes = ("review",)

    @documented(
        DecisionSerializer,
        asks=requests.HumanDecisionRequest,
        status=201,
        parameters=[requests.Where, IDEMPOTENCY],
        errors=(409,),
        tag=TAG,
    )
    @idempotent
    def post(self, request: Request, ref: str) -> Response:
        """What a person really did about a turn elsewhere: shadow compares the agent with it."""
        asked = requests.body(request, requests.HumanDecisionRequest)
        escalation = _waiting(case_named(request, ref), asked["turn"])
        return Response(DecisionSerializer(_decide(escalation, asked, actor_of(request))).data, status=201)


@transaction.atomic
def _decide(escalation: Escalation, asked: dict[str, Any], actor: str) -> Decision:
    """:raises Taken: a person has it open here. :raises AlreadyDecided."""
    claim = review.claim(escalation.pk, None)
    rejected = asked["kind"] == Decision.Kind.REJECTED
    return review.decide(
        escalation.pk,
        actor=actor,
        token=claim.token,
        revision=claim.revision,
        kind=asked["kind"],
        text=_as_stored(escalation, asked["text"]),
        reason_code=asked["reason_code"] or ("other" if rejected else ""),
        note=f"{DECIDED_ELSEWHERE}{asked['actor']}",
    )


def _as_stored(escalation: Escalation, text: str) -> str:
    """What was said elsewhere is only compared and kept, so it is hidden as the policy says."""
    turns = Turn.objects.select_related("scope__channel__agent")
    turn = turns.filter(pk=escalation.turn_id).first() if escalation.turn_id else None
    return private.hide(text, private.of(turn.scope), turn.case_id) if turn else text


def _waiting(case: Case, turn_id: uuid.UUID | None) -> Escalation:
    """What waits for a person on this turn, or on the latest turn that waits."""
    turns = case.turns.filter(escalation__isnull=False).select_related("escalation").order_by("-number")
    if turn_id:
        turn = one(Turn.objects.filter(case=case).select_related("escalation"), pk=turn_id)
    else:
        turn = turns.exclude(escalation__state=Escalation.State.DECIDED).first() or one(turns)
    if turn.escalation is None:
        raise ApiError(409, "conflict", "Nobody is asked to decide about this turn.")
    return turn.escalation


def case_named(request: Request, ref: str) -> Case:
    """The case with this id or reference. :raises Unclear: the reference is used on several channels."""
    where = requests.query(request, requests.Where)
    rows = access.key_cases(key_of(request))
    if where:
        rows = rows.filter(
            channel=access.require_key_channel(key_of(request), where.get("agent", ""), where.get("channel", ""))
        )
    found = list(rows.filter(Q(ref=ref) | Q(pk=_uuid(ref)))[:2])
    if len(found) > 1:
        raise access.Unclear("Cases of several channels have this reference: add ?agent= and ?channel=.")
    return found[0] if found else one(rows.none())


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def whole(case: Case) -> dict[str, Any]:
    turns = case.turns.select_related("case", "scope__channel__agent", "release__agent").order_by("-number")
    case.latest = list(turns[:LATEST])[::-1]  # type: ignore[attr-defined]
    case.cost = case.turns.aggregate(sum=Sum("cost_nano"))["sum"] or 0  # type: ignore[attr-defined]
    return dict(WholeCaseSerializer(case).data)
