"""What waits for a person, and what the person did. Cases and turns are ids here: this app knows nobody to its left."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

DECISIONS = ("approved", "edited", "rejected", "answered", "returned", "expired_no_response", "withdrawn")
STATES = ("waiting", "claimed", "snoozed", "decided")


class EscalationQuerySet(models.QuerySet["Escalation"]):
    def open(self) -> EscalationQuerySet:
        return self.exclude(state=Escalation.State.DECIDED)

    def claimable(self, now: datetime | None = None) -> EscalationQuerySet:
        """Nobody's: waiting, snoozed until now, or claimed under a lease that has ended."""
        now = now or timezone.now()
        return self.filter(
            models.Q(state=Escalation.State.WAITING)
            | models.Q(state=Escalation.State.SNOOZED, lease_until__lt=now)
            | models.Q(state=Escalation.State.CLAIMED, lease_until__lt=now)
        )

    def claimed_by(self, user: Any, now: datetime | None = None) -> EscalationQuerySet:
        return self.filter(state=Escalation.State.CLAIMED, claimed_by=user, lease_until__gte=now or timezone.now())

    def overdue(self, now: datetime | None = None) -> EscalationQuerySet:
        return self.open().filter(deadline__lt=now or timezone.now())

    def for_scopes(self, names: Iterable[str]) -> EscalationQuerySet:
        return self.filter(scope__in=list(names))

    def of_case(self, case_id: uuid.UUID) -> EscalationQuerySet:
        return self.filter(case_id=case_id)

    def decided_since(self, since: datetime) -> EscalationQuerySet:
        return self.filter(state=Escalation.State.DECIDED, decided_at__gte=since).order_by("-decided_at")

    def decided_by(self, user: Any, since: datetime) -> EscalationQuerySet:
        """What the user decided since then and has not taken back: the tab "done today"."""
        mine = Decision.objects.standing().filter(user=user, at__gte=since)
        return self.decided_since(since).filter(pk__in=mine.values("escalation"))

    def best_first(self) -> EscalationQuerySet:
        return self.order_by("priority", models.F("deadline").asc(nulls_last=True), "created_at", "id")


class Escalation(models.Model):
    """A case, draft answer or proposed action that waits for a person.

    `token` fences claims: it grows with every claim, and only its latest holder decides. `revision` grows when a
    decision is undone or the customer writes again, so that a decision always concerns what the person saw.
    """

    class Kind(models.TextChoices):
        DRAFT = "draft", "Draft answer"
        ACTION = "action", "Proposed action"
        CASE = "case", "Case"

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        CLAIMED = "claimed", "Claimed"
        SNOOZED = "snoozed", "Snoozed"
        DECIDED = "decided", "Decided"

    class OnTimeout(models.TextChoices):
        KEEP_WAITING = "keep_waiting", "Keep waiting"
        HOLDING_MESSAGE = "holding_message", "Send a holding message"
        SAFE_REFUSAL = "safe_refusal", "Refuse politely"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=6, choices=Kind.choices)
    agent = models.CharField(max_length=50)
    channel = models.CharField(max_length=110, blank=True)
    scope = models.CharField(max_length=170)
    case_id = models.UUIDField()
    turn_id = models.UUIDField(null=True, blank=True)
    ref = models.CharField(max_length=200, blank=True)
    edge = models.CharField(max_length=60)
    reason = models.TextField(help_text="Why it is here, in a plain sentence.")
    priority = models.PositiveSmallIntegerField(default=3)
    queue = models.CharField(max_length=50, default="default")
    skill = models.CharField(max_length=50, blank=True)
    risk = models.CharField(max_length=20, blank=True)
    blind = models.BooleanField(default=False, help_text="The draft stays hidden until the person has decided.")
    language = models.CharField(max_length=8, blank=True)
    customer_line = models.TextField(blank=True)
    draft = models.TextField(blank=True)
    action = models.JSONField(null=True, blank=True)
    evidence = models.JSONField(default=dict)
    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING)
    revision = models.PositiveIntegerField(default=1)
    token = models.BigIntegerField(default=0)
    returned = models.PositiveSmallIntegerField(default=0)
    claimed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    claimed_at = models.DateTimeField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True, help_text="While claimed or snoozed: until when.")
    deadline = models.DateTimeField(null=True, blank=True)
    on_timeout = models.CharField(max_length=20, choices=OnTimeout.choices, default=OnTimeout.KEEP_WAITING)
    created_at = models.DateTimeField(default=timezone.now, db_default=Now())
    decided_at = models.DateTimeField(null=True, blank=True)

    objects = EscalationQuerySet.as_manager()

    class Meta:
        ordering = ["priority", "deadline", "created_at"]
        constraints = [
            models.CheckConstraint(
                name="escalations_escalation_kind_known", condition=models.Q(kind__in=["draft", "action", "case"])
            ),
            models.CheckConstraint(name="escalations_escalation_state_known", condition=models.Q(state__in=STATES)),
            models.CheckConstraint(
                name="escalations_escalation_priority_1_to_4", condition=models.Q(priority__gte=1, priority__lte=4)
            ),
            models.CheckConstraint(
                name="escalations_escalation_decided_has_time",
                condition=models.Q(state="decided", decided_at__isnull=False)
                | (~models.Q(state="decided") & models.Q(decided_at=None)),
            ),
            models.CheckConstraint(
                name="escalations_escalation_action_has_action",
                condition=~models.Q(kind="action") | models.Q(action__isnull=False),
            ),
        ]
        indexes = [
            models.Index(
                fields=["priority", "deadline", "created_at"],
                condition=~models.Q(state="decided"),
                name="escalations_queue",
            ),
            models.Index(fields=["scope", "state"], name="escalations_of_scope"),
            models.Index(fields=["case_id"], name="escalations_of_case"),
            models.Index(fields=["-decided_at"], condition=models.Q(state="decided"), name="escalations_decided"),
        ]

    def __str__(self) -> str:
        return f"{self.edge}: {self.ref}"

    def standing(self) -> Decision | None:
        """The decision that stands, if there is one."""
        if self.state != Escalation.State.DECIDED:
            return None
        return self.decisions.filter(revision=self.revision, undo=None).first()

    @property
    def action_hash(self) -> str:
        return str((self.action or {}).get("hash", ""))


class DecisionQuerySet(models.QuerySet["Decision"]):
    def standing(self) -> DecisionQuerySet:
        """Not taken back."""
        return self.filter(undo=None)

    def returns_of(self, case_id: uuid.UUID) -> DecisionQuerySet:
        return self.standing().filter(escalation__case_id=case_id, kind=Decision.Kind.RETURNED)


class Decision(models.Model):
    """Append-only: what was decided on one revision, by whom: a user, a rule or an agent, never blended."""

    class Kind(models.TextChoices):
        APPROVED = "approved", "Approved"
        EDITED = "edited", "Edited"
        REJECTED = "rejected", "Rejected"
        ANSWERED = "answered", "Answered by a person"
        RETURNED = "returned", "Returned to the agent"
        EXPIRED_NO_RESPONSE = "expired_no_response", "Expired without response"
        WITHDRAWN = "withdrawn", "Withdrawn"

    escalation = models.ForeignKey(Escalation, on_delete=models.PROTECT, related_name="decisions")
    revision = models.PositiveIntegerField()
    kind = models.CharField(max_length=20, choices=Kind.choices)
    actor = models.CharField(max_length=160)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    text = models.TextField(blank=True)
    arguments = models.JSONField(null=True, blank=True)
    action_hash = models.CharField(max_length=64, blank=True)
    reason_code = models.CharField(max_length=20, blank=True)
    note = models.TextField(blank=True)
    seen_draft = models.BooleanField(default=True)
    seconds = models.FloatField(default=0)
    at = models.DateTimeField(default=timezone.now, db_default=Now())

    objects = DecisionQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["escalation", "revision"], name="escalations_decision_once_per_revision"),
            models.CheckConstraint(name="escalations_decision_kind_known", condition=models.Q(kind__in=DECISIONS)),
            # Invariant 5: silence is never a decision by a person.
            models.CheckConstraint(
                name="escalations_decision_silence_is_not_a_person",
                condition=~models.Q(kind="expired_no_response")
                | (models.Q(user=None) & ~models.Q(actor__startswith="user:")),
            ),
        ]
        indexes = [models.Index(fields=["-at"], name="escalations_decision_recent")]

    def __str__(self) -> str:
        return f"{self.kind} by {self.actor}"


class Undo(models.Model):
    """Append-only: a decision taken back before it left."""

    decision = models.OneToOneField(Decision, on_delete=models.PROTECT, related_name="undo")
    actor = models.CharField(max_length=160)
    at = models.DateTimeField(default=timezone.now, db_default=Now())

    def __str__(self) -> str:
        return f"{self.decision} undone"


class Delivery(models.Model):
    """The outbox: how far a decision has come on its way to the caller."""

    class State(models.TextChoices):
        HELD = "held", "Held"
        SENT = "sent", "Sent"
        DELIVERED = "delivered", "Delivered"
        ACKNOWLEDGED = "acknowledged", "Acknowledged"
        CANCELLED = "cancelled", "Undone"
        DEAD = "dead", "Not deliverable"

    decision = models.OneToOneField(Decision, on_delete=models.PROTECT, related_name="delivery")
    state = models.CharField(max_length=12, choices=State.choices, default=State.HELD)
    due_at = models.DateTimeField()
    url = models.CharField(max_length=500, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True, blank=True)
    last_error = models.CharField(max_length=300, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="escalations_delivery_state_known",
                condition=models.Q(state__in=["held", "sent", "delivered", "acknowledged", "cancelled", "dead"]),
            ),
        ]
        indexes = [
            models.Index(fields=["due_at"], condition=models.Q(state__in=["held", "sent"]), name="escalations_outbox")
        ]

    def __str__(self) -> str:
        return f"{self.decision}: {self.state}"
