"""Who is on call is told: a signed POST when an alert fires, and when it is over. Tried again for a day."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import orjson
from django.conf import settings
from django.db.models import F
from django.urls import reverse
from django.utils import timezone

from agents.models import Scope
from agents.releases import rollback_target
from console.api.serializers import AlertSerializer
from console.monitoring.models import Alert, AlertChange, AlertNotice
from escalations import outbox

WORKING_S = 30
AT_ONCE = 100
log = logging.getLogger(__name__)


def prepare(change: AlertChange) -> AlertNotice | None:
    """Lay the notice of this change ready, in the transaction of the change, where somebody is to be told."""
    alert = change.alert
    over = change.to_state == Alert.State.RESOLVED and alert.fired_at is not None
    if not settings.ALERT_WEBHOOK or not (over or change.to_state == Alert.State.FIRING):
        return None
    return AlertNotice.objects.create(change=change, payload=payload(change), due_at=timezone.now())


def payload(change: AlertChange) -> dict[str, Any]:
    """`{"event", "alert", "release", "rollback", "url"}`: what happens, what changed last, and the way back."""
    alert = change.alert
    deployment = alert.deployment
    shown: dict[str, Any] = orjson.loads(orjson.dumps(AlertSerializer(alert).data, default=str))
    return {
        "event": f"alert.{change.to_state}",
        "at": change.at.isoformat(),
        "note": change.note,
        "alert": shown,
        "release": {
            "name": str(deployment.release),
            "deployed_at": deployment.at.isoformat(),
            "deployed_by": deployment.actor,
            "changed_recently": alert.changed_at is not None,
        }
        if deployment
        else None,
        "rollback": _way_back(deployment.scope) if deployment else None,
        "url": settings.PUBLIC_URL + reverse("alert", args=[alert.pk]),
    }


def _way_back(scope: Scope) -> dict[str, str] | None:
    target = rollback_target(scope)
    address = settings.PUBLIC_URL + reverse("rollback", args=[scope.pk])
    return {"to": str(target), "url": address} if target else None


def due() -> list[int]:
    rows = AlertNotice.objects.filter(due_at__lte=timezone.now()).order_by("due_at")
    return list(rows.values_list("pk", flat=True)[:AT_ONCE])


def send(pk: int) -> bool:
    """POST the notice. A second worker with the same id finds it taken; what fails is tried again, later each time."""
    now = timezone.now()
    lease = now + timedelta(seconds=WORKING_S)
    if not AlertNotice.objects.filter(pk=pk, due_at__lte=now).update(due_at=lease, tries=F("tries") + 1):
        return False
    notice = AlertNotice.objects.select_related("change").get(pk=pk)
    try:
        outbox.post_callback(settings.ALERT_WEBHOOK, notice.payload, settings.ALERT_WEBHOOK_SECRET)
    except (OSError, outbox.NotAllowed) as error:
        _try_later(notice, str(error))
        return False
    AlertNotice.objects.filter(pk=pk, due_at=lease).update(due_at=None, sent_at=timezone.now(), error="")
    return True


def _try_later(notice: AlertNotice, error: str) -> None:
    """A name that does not resolve may do so in a minute, and an address may be allowed: only time gives up."""
    now = timezone.now()
    wait = outbox.BACK_OFF_S[min(notice.tries - 1, len(outbox.BACK_OFF_S) - 1)]
    over = now - notice.change.at > outbox.GIVE_UP
    if over:
        log.warning("notice %s is given up after %s tries: %s", notice.pk, notice.tries, error)
    AlertNotice.objects.filter(pk=notice.pk).update(
        due_at=None if over else now + timedelta(seconds=wait), error=error.replace("\x00", "")[:300]
    )
