"""Callbacks: whoever gave a `callback_url` is told of outcomes and decisions, signed, at least once, for a day."""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta
from typing import Any

import orjson
from celery import shared_task
from django.db.models import F
from django.utils import timezone

from agents import private
from agents.models import Turn
from console.api.serializers import TurnSerializer
from console.models import ApiKey
from escalations import outbox

AT_ONCE = 200
WORKING_S = 30
log = logging.getLogger(__name__)


@shared_task
def call_back_due() -> int:
    """Hand out the callbacks whose time has come."""
    due = list(Turn.objects.to_call_back(timezone.now()).values_list("pk", flat=True)[:AT_ONCE])
    for pk in due:
        call_back.delay(str(pk))
    return len(due)


@shared_task
def call_back(turn_id: str) -> bool:
    """Tell the caller. A second worker with the same id finds it taken; what fails is tried again, later each time."""
    now = timezone.now()
    lease = now + timedelta(seconds=WORKING_S)
    mine = Turn.objects.to_call_back(now).filter(pk=uuid.UUID(turn_id)).order_by()
    if not mine.update(callback_due=lease, callback_tries=F("callback_tries") + 1):
        return False
    turn = Turn.objects.select_related("case", "scope__channel__agent", "release__agent", "escalation").get(pk=turn_id)
    try:
        outbox.post_callback(turn.callback_url, payload(turn), _secret(turn))
    except (OSError, outbox.NotAllowed) as error:
        _try_later(turn, str(error), final=isinstance(error, outbox.NotAllowed))
        return False
    Turn.objects.filter(pk=turn.pk, callback_due=lease).update(callback_due=None, callback_error="")
    decision = turn.escalation.standing() if turn.escalation else None
    if decision is not None and turn.reply_by == decision.actor:
        outbox.mark_delivered(decision.delivery)
    return True


def payload(turn: Turn) -> dict[str, Any]:
    """`{"event": "turn.finished" | "turn.decided", "turn": {…}}`, the turn as `GET /api/v1/turns/{id}` shows it."""
    decided = turn.escalation is not None and turn.escalation.state == "decided"
    shown: dict[str, Any] = orjson.loads(orjson.dumps(TurnSerializer(private.restored(turn)).data, default=str))
    return {"event": "turn.decided" if decided else "turn.finished", "turn": shown}


def _secret(turn: Turn) -> str:
    secret = ApiKey.objects.filter(prefix=turn.key_prefix).values_list("callback_secret", flat=True).first()
    if not secret:
        raise outbox.NotAllowed("The key that asked to be called back is gone, and with it the secret to sign with.")
    return secret


def _try_later(turn: Turn, error: str, *, final: bool) -> None:
    now = timezone.now()
    wait = outbox.BACK_OFF_S[min(turn.callback_tries - 1, len(outbox.BACK_OFF_S) - 1)]
    over = final or now - (turn.finished_at or turn.created_at) > outbox.GIVE_UP
    if over:
        log.warning("callback of turn %s is given up after %s tries: %s", turn.pk, turn.callback_tries, error)
    Turn.objects.filter(pk=turn.pk).update(
        callback_due=None if over else now + timedelta(seconds=wait), callback_error=error.replace("\x00", "")[:300]
    )
