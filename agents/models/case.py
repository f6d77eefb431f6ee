"""What customers bring: cases and their turns."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from agents.models.agent import Channel, Scope
from agents.models.release import Release
from escalations.models import Escalation


class Case(models.Model):
    """One customer matter on a channel. `owner_epoch` rises whenever a person takes over or hands back."""

    class Owner(models.TextChoices):
        AGENT = "agent", "Agent"
        HUMAN = "human", "Person"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    channel = models.ForeignKey(Channel, on_delete=models.PROTECT, related_name="cases")
    ref = models.CharField(max_length=200, help_text="The caller's own reference.")
    customer = models.CharField(max_length=200, blank=True)
    language = models.CharField(max_length=8, blank=True)
    owner = models.CharField(max_length=5, choices=Owner.choices, default=Owner.AGENT)
    owner_epoch = models.PositiveIntegerField(default=0)
    metadata = models.JSONField(default=dict, blank=True)
    opened_at = models.DateTimeField(default=timezone.now, db_default=Now())
    last_turn_at = models.DateTimeField(default=timezone.now, db_default=Now())
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-last_turn_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["channel", "ref"], name="agents_case_ref_once_per_channel"),
            models.CheckConstraint(name="agents_case_owner_known", condition=models.Q(owner__in=["agent", "human"])),
        ]
        indexes = [models.Index(fields=["-last_turn_at", "-id"], name="agents_case_recent")]

    def __str__(self) -> str:
        return self.ref


class TurnQuerySet(models.QuerySet["Turn"]):
    def pending(self) -> TurnQuerySet:
        return self.filter(outcome=Turn.Outcome.PENDING)

    def to_call_back(self, now: datetime) -> TurnQuerySet:
        """Whose callers wait to be told of an outcome or a decision."""
        return self.filter(callback_due__lte=now).order_by("callback_due")

    def real(self) -> TurnQuerySet:
        """Customers' turns: testers' are left out of every figure."""
        return self.filter(tester=False)


class Turn(models.Model):
    """One customer message and what became of it.

    `draft` is what the agent would say; `reply` is what the customer may see. Only a terminal outcome that lets the
    agent speak copies one to the other; a person's decision fills `reply` of an escalated or withheld turn later.
    """

    class Outcome(models.TextChoices):
        PENDING = "pending", "Pending"
        ANSWERED = "answered", "Answered"
        CLARIFIED = "clarified", "Clarified"
        ESCALATED = "escalated", "Escalated"
        REFUSED = "refused", "Refused"
        WITHHELD = "withheld", "Withheld"
        FAILED = "failed", "Failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    case = models.ForeignKey(Case, on_delete=models.PROTECT, related_name="turns")
    scope = models.ForeignKey(Scope, on_delete=models.PROTECT, related_name="turns")
    number = models.PositiveIntegerField()
    message = models.TextField()
    language = models.CharField(max_length=8, blank=True)
    tester = models.BooleanField(default=False)
    key_prefix = models.CharField(max_length=20, blank=True)
    callback_url = models.URLField(max_length=500, blank=True)
    instruction = models.TextField(blank=True, help_text="What a person told the agent when handing the turn back.")
    returned = models.PositiveSmallIntegerField(default=0)
    wanted_release = models.ForeignKey(Release, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    sealed = models.TextField(
        blank=True, default="", db_default="", help_text="The words as they were, where a policy hides some of them."
    )

    outcome = models.CharField(max_length=10, choices=Outcome.choices, default=Outcome.PENDING)
    reply = models.TextField(blank=True)
    reply_by = models.CharField(max_length=160, blank=True, help_text="The actor whose words `reply` are.")
    draft = models.TextField(blank=True)
    reason = models.CharField(max_length=60, blank=True, help_text="The edge or error that decided.")
    confidence = models.FloatField(null=True, blank=True)
    features = models.JSONField(default=dict)
    citations = models.JSONField(default=list)
    findings = models.JSONField(default=list)
    trace = models.JSONField(default=list)
    release = models.ForeignKey(Release, on_delete=models.PROTECT, null=True, blank=True, related_name="turns")
    escalation = models.ForeignKey(Escalation, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    cost_nano = models.BigIntegerField(default=0)

    created_at = models.DateTimeField(default=timezone.now, db_default=Now())
    run_until = models.DateTimeField(null=True, blank=True, help_text="The lease of the worker that runs it.")
    runs = models.PositiveSmallIntegerField(default=0)
    finished_at = models.DateTimeField(null=True, blank=True)
    callback_due = models.DateTimeField(null=True, blank=True, help_text="When the caller is told next; empty: told.")
    callback_tries = models.PositiveSmallIntegerField(default=0)
    callback_error = models.CharField(max_length=300, blank=True)

    objects = TurnQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["case", "number"], name="agents_turn_number_once_per_case"),
            models.CheckConstraint(
                name="agents_turn_outcome_known",
                condition=models.Q(
                    outcome__in=["pending", "answered", "clarified", "escalated", "refused", "withheld", "failed"]
                ),
            ),
            models.CheckConstraint(
                name="agents_turn_terminal_has_end",
                condition=models.Q(outcome="pending", finished_at=None)
                | (~models.Q(outcome="pending") & models.Q(finished_at__isnull=False)),
            ),
            models.CheckConstraint(
                name="agents_turn_escalated_has_escalation",
                condition=~models.Q(outcome="escalated") | models.Q(escalation__isnull=False),
            ),
            # Invariant 7: what an agent drafts in shadow never becomes the reply by itself.
            models.CheckConstraint(
                name="agents_turn_withheld_reply_is_a_persons",
                condition=~models.Q(outcome="withheld") | models.Q(reply="") | ~models.Q(reply_by__startswith="agent:"),
            ),
        ]
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="agents_turn_recent"),
            models.Index(fields=["scope", "-created_at"], name="agents_turn_of_scope"),
            models.Index(fields=["run_until"], condition=models.Q(outcome="pending"), name="agents_turn_pending"),
            models.Index(fields=["escalation"], name="agents_turn_of_escalation"),
            models.Index(fields=["finished_at"], condition=~models.Q(sealed=""), name="agents_turn_sealed"),
            models.Index(
                fields=["callback_due"], condition=models.Q(callback_due__isnull=False), name="agents_turn_callbacks"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.case.ref}#{self.number}"

    def tell_caller(self) -> None:
        """Queue the callback, where one was asked for; the caller saves."""
        if self.callback_url:
            self.callback_due, self.callback_tries, self.callback_error = timezone.now(), 0, ""
