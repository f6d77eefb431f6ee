"""How an alert moves: pending → firing → acknowledged → resolved. Many may look at once; one of them moves it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone

from agents.models import Deployment
from console.monitoring import notices
from console.monitoring.models import Alert, AlertChange
from console.monitoring.rules import Rule, Verdict

APART = timedelta(seconds=20)
CLEAN_LOOKS = 2
WATCH = "system:watch"
State = Alert.State


class Conflict(Exception):
    """The alert is not firing, so there is nothing to acknowledge; the message says what it is instead."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rule looks: a scope's name, a budget's owner, or empty for the installation; and who may see it."""

    scope: str = ""
    agent: str = ""
    channel: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A rule's verdict at a place, with what is live there. `on_fire` runs in the transaction in which it fires."""

    rule: Rule
    place: Place
    verdict: Verdict
    live: Deployment | None = None
    on_fire: Callable[[Alert], str] | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.rule.name, self.place.scope


@transaction.atomic
def advance(judgement: Judgement, now: datetime | None = None) -> AlertChange | None:
    """One evaluation's effect on the alert of this rule and place; None when nothing changed.

    An alert is looked at once in `APART`, however many workers evaluate at the same time, so that "twice in a row"
    means two evaluations.
    """
    now = now or timezone.now()
    rule, verdict = judgement.rule, judgement.verdict
    if verdict.state == "missing":
        return None
    alert = Alert.objects.open().filter(rule=rule.name, scope=judgement.place.scope).first()
    if alert is None:
        return _open(judgement, now) if verdict.state == "bad" else None
    if not Alert.objects.open().filter(pk=alert.pk, seen_at__lte=now - APART).update(seen_at=now):
        return None
    alert.refresh_from_db()  # the UPDATE holds the row until this transaction ends
    return _worse(alert, judgement, now) if verdict.state == "bad" else _better(alert, judgement, now)


def _open(judgement: Judgement, now: datetime) -> AlertChange | None:
    rule, place, verdict = judgement.rule, judgement.place, judgement.verdict
    try:
        with transaction.atomic():
            alert = Alert.objects.create(
                rule=rule.name,
                scope=place.scope,
                agent=place.agent,
                channel=place.channel,
                severity=verdict.severity,
                level=verdict.level,
                sentence=verdict.sentence,
                figures=dict(verdict.figures),
                deployment=judgement.live,
                opened_at=now,
                seen_at=now,
            )
    except IntegrityError:  # another worker opened it in this moment
        return None
    return _write(alert, "", rule.actor, verdict.sentence, now)


def _worse(alert: Alert, judgement: Judgement, now: datetime) -> AlertChange | None:
    verdict, before, rises = judgement.verdict, alert.state, judgement.verdict.level > alert.level
    alert.sentence, alert.figures, alert.clean_looks = verdict.sentence, dict(verdict.figures), 0
    alert.level = max(alert.level, verdict.level)
    fires = before == State.PENDING
    if fires or rises:
        alert.severity, alert.state = verdict.severity, State.FIRING
        alert.fired_at = alert.fired_at or now
        alert.acknowledged_at, alert.acknowledged_by = None, ""
    note = verdict.sentence
    if fires and judgement.on_fire:
        note = f"{note} {judgement.on_fire(alert)}".strip()
    alert.save()
    return _write(alert, before, judgement.rule.actor, note, now) if fires or rises else None


def _better(alert: Alert, judgement: Judgement, now: datetime) -> AlertChange | None:
    alert.clean_looks += 1
    if alert.clean_looks < CLEAN_LOOKS:
        alert.save(update_fields=["clean_looks"])
        return None
    return _resolve(alert, judgement.rule.actor, judgement.verdict.sentence, now)


def _resolve(alert: Alert, actor: str, note: str, now: datetime) -> AlertChange:
    before, alert.state = alert.state, State.RESOLVED
    alert.resolved_at, alert.resolved_by = now, actor
    alert.save()
    return _write(alert, before, actor, note, now)


def close_others(watched: Collection[tuple[str, str]], now: datetime | None = None) -> int:
    """Resolve the alerts whose rule was switched off, or whose scope or budget is no longer there."""
    now, closed = now or timezone.now(), 0
    for pk, rule, scope in Alert.objects.open().values_list("pk", "rule", "scope"):
        if (rule, scope) in watched:
            continue
        with transaction.atomic():
            alert = Alert.objects.open().select_for_update().filter(pk=pk).first()
            if alert:
                _resolve(alert, WATCH, "This is no longer watched.", now)
                closed += 1
    return closed


@transaction.atomic
def acknowledge(alert: Alert, *, actor: str, note: str = "") -> AlertChange:
    """Somebody has seen it and looks after it. :raises Conflict: it does not fire, or somebody was faster."""
    now = timezone.now()
    taken = Alert.objects.firing().filter(pk=alert.pk)
    if not taken.update(state=State.ACKNOWLEDGED, acknowledged_at=now, acknowledged_by=actor):
        alert.refresh_from_db()
        if alert.state == State.ACKNOWLEDGED:
            raise Conflict(f"{alert.acknowledged_by.partition(':')[2]} has acknowledged it already.")
        raise Conflict(f"It is {alert.get_state_display().lower()}: there is nothing to acknowledge.")
    alert.refresh_from_db()
    return _write(alert, State.FIRING, actor, note, now)


def _write(alert: Alert, before: str, actor: str, note: str, now: datetime) -> AlertChange:
    change = AlertChange.objects.create(
        alert=alert, from_state=before, to_state=alert.state, actor=actor, note=note, at=now
    )
    notices.prepare(change)
    return change
