"""Alerts with their states, what happened to them, and what was sent about them."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from agents.models import Deployment

RECENT = timedelta(minutes=60)
STATES = ("pending", "firing", "acknowledged", "resolved")
KINDS = ("critical", "high", "medium")


class AlertRule(models.Model):
    """A rule's own limit on one scope (or budget owner), or, without a scope, everywhere; or the rule switched off."""

    rule = models.CharField(max_length=40)
    scope = models.CharField(max_length=170, blank=True)
    threshold = models.FloatField(null=True, blank=True)
    active = models.BooleanField(default=True)

    class Meta:
        ordering = ["rule", "scope"]
        constraints = [
            models.UniqueConstraint(fields=["rule", "scope"], name="console_alertrule_once_per_scope"),
            models.CheckConstraint(
                name="console_alertrule_threshold_sane", condition=models.Q(threshold=None) | models.Q(threshold__gte=0)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.rule} on {self.scope or 'everything'}"


class AlertQuerySet(models.QuerySet["Alert"]):
    def open(self) -> AlertQuerySet:
        return self.exclude(state=Alert.State.RESOLVED)

    def firing(self) -> AlertQuerySet:
        return self.filter(state=Alert.State.FIRING)

    def past(self) -> AlertQuerySet:
        """Resolved ones that somebody was told of: what was pending and went away never counted."""
        return self.filter(state=Alert.State.RESOLVED, fired_at__isnull=False)

    def with_releases(self) -> AlertQuerySet:
        return self.select_related("deployment__release__agent", "deployment__scope", "rollback__release__agent")


class Alert(models.Model):
    """A rule's state at one place: pending → firing → acknowledged → resolved. One open alert for each rule and place.

    `scope` is a scope's name, or for budgets their owner; empty for the installation. `agent` and `channel` say who may
    see it: without an agent, those who see all of them.
    """

    class State(models.TextChoices):
        PENDING = "pending", "Pending"
        FIRING = "firing", "Firing"
        ACKNOWLEDGED = "acknowledged", "Acknowledged"
        RESOLVED = "resolved", "Resolved"

    rule = models.CharField(max_length=40)
    scope = models.CharField(max_length=170, blank=True)
    agent = models.CharField(max_length=50, blank=True)
    channel = models.CharField(max_length=110, blank=True)
    severity = models.CharField(max_length=8, default="high")
    state = models.CharField(max_length=12, choices=State.choices, default=State.PENDING)
    level = models.PositiveSmallIntegerField(default=0)
    sentence = models.TextField()
    figures = models.JSONField(default=dict)
    deployment = models.ForeignKey(
        Deployment, on_delete=models.PROTECT, null=True, blank=True, related_name="+", help_text="Live when it opened."
    )
    rollback = models.OneToOneField(
        Deployment, on_delete=models.PROTECT, null=True, blank=True, related_name="+", help_text="Made by the rule."
    )
    clean_looks = models.PositiveSmallIntegerField(default=0, help_text="Clean evaluations in a row.")
    seen_at = models.DateTimeField(help_text="The evaluation that looked at it last.")
    opened_at = models.DateTimeField(default=timezone.now, db_default=Now())
    fired_at = models.DateTimeField(null=True, blank=True)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.CharField(max_length=160, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.CharField(max_length=160, blank=True)

    objects = AlertQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "scope"], condition=~models.Q(state="resolved"), name="console_alert_one_open"
            ),
            models.CheckConstraint(name="console_alert_state_known", condition=models.Q(state__in=STATES)),
            models.CheckConstraint(name="console_alert_severity_known", condition=models.Q(severity__in=KINDS)),
            models.CheckConstraint(
                name="console_alert_resolved_has_time",
                condition=models.Q(state="resolved", resolved_at__isnull=False)
                | (~models.Q(state="resolved") & models.Q(resolved_at=None)),
            ),
            models.CheckConstraint(
                name="console_alert_fired_has_time",
                condition=models.Q(state="pending", fired_at=None)
                | models.Q(state="resolved")
                | models.Q(state__in=["firing", "acknowledged"], fired_at__isnull=False),
            ),
            models.CheckConstraint(
                name="console_alert_acknowledged_by_somebody",
                condition=~models.Q(state="acknowledged")
                | (models.Q(acknowledged_at__isnull=False) & ~models.Q(acknowledged_by="")),
            ),
        ]
        indexes = [models.Index(fields=["agent", "-id"], name="console_alert_of_agent")]

    def __str__(self) -> str:
        return f"{self.rule} on {self.scope or 'the installation'}"

    @property
    def changed_at(self) -> datetime | None:
        """When the live release was deployed, if that was shortly before the alert opened."""
        at = self.deployment.at if self.deployment else None
        return at if at and self.opened_at - at <= RECENT else None


class AlertChange(models.Model):
    """Append-only: what became of an alert, by whom: a rule or a person."""

    alert = models.ForeignKey(Alert, on_delete=models.PROTECT, related_name="changes")
    from_state = models.CharField(max_length=12, blank=True)
    to_state = models.CharField(max_length=12)
    actor = models.CharField(max_length=160)
    note = models.TextField(blank=True)
    at = models.DateTimeField(default=timezone.now, db_default=Now())

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(name="console_alertchange_state_known", condition=models.Q(to_state__in=STATES)),
            models.CheckConstraint(name="console_alertchange_actor_named", condition=~models.Q(actor="")),
        ]

    def __str__(self) -> str:
        return f"{self.alert}: {self.from_state or 'nothing'} → {self.to_state}"


class AlertNotice(models.Model):
    """What is sent about a change: due, sent, or given up with the error that stands."""

    change = models.OneToOneField(AlertChange, on_delete=models.PROTECT, related_name="notice")
    payload = models.JSONField()
    due_at = models.DateTimeField(null=True, blank=True)
    tries = models.PositiveSmallIntegerField(default=0)
    error = models.CharField(max_length=300, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="console_alertnotice_sent_is_done", condition=models.Q(sent_at=None) | models.Q(due_at=None)
            )
        ]
        indexes = [
            models.Index(fields=["due_at"], condition=models.Q(due_at__isnull=False), name="console_alertnotice_due")
        ]

    def __str__(self) -> str:
        return f"{self.change}: {'sent' if self.sent_at else 'due' if self.due_at else 'given up'}"
