"""Guardrail policies tried on past traffic, and the messages that they would have decided otherwise."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from agents.models.agent import Agent, Scope
from agents.models.case import Turn

MOST_DAYS = 30


class DryRunQuerySet(models.QuerySet["DryRun"]):
    def unfinished(self) -> DryRunQuerySet:
        return self.filter(state__in=DryRun.UNFINISHED)


class DryRun(models.Model):
    """A policy over the messages of the last days. It is tried against the releases that were live at its start, and
    goes from the newest turn backwards: `turn_at` and `turn_id` name the last one that it has seen.

    `counts`: {"transitions": {"allow>block": 41}, "more": {rule: n}, "fewer": {rule: n}}.
    """

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    UNFINISHED = (State.WAITING, State.RUNNING)

    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="dry_runs")
    scope = models.ForeignKey(Scope, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    content = models.JSONField()
    live = models.JSONField(default=dict, help_text="The releases that it is compared with: by the id of their scope.")
    days = models.PositiveSmallIntegerField()
    actor = models.CharField(max_length=160)
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    counts = models.JSONField(default=dict)
    turn_at = models.DateTimeField(null=True, blank=True)
    turn_id = models.UUIDField(null=True, blank=True)
    error = models.CharField(max_length=300, blank=True)
    at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = DryRunQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["agent", "-id"], name="agents_dryrun_of_agent")]
        constraints = [
            models.CheckConstraint(name="agents_dryrun_days", condition=Q(days__gte=1, days__lte=MOST_DAYS)),
            models.CheckConstraint(name="agents_dryrun_not_beyond_its_total", condition=Q(done__lte=F("total"))),
            models.CheckConstraint(
                name="agents_dryrun_state_known",
                condition=Q(state__in=["waiting", "running", "done", "failed", "cancelled"]),
            ),
            models.CheckConstraint(
                name="agents_dryrun_over_has_end",
                condition=Q(state__in=["waiting", "running"], finished_at=None)
                | (~Q(state__in=["waiting", "running"]) & Q(finished_at__isnull=False)),
            ),
            # Screening months of messages is work for a processor: an agent has one at a time.
            models.UniqueConstraint(
                fields=["agent"], condition=Q(state__in=["waiting", "running"]), name="agents_dryrun_one_at_a_time"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.agent.slug}, dry run {self.pk}"

    @property
    def unfinished(self) -> bool:
        return self.state in self.UNFINISHED


class DryRunChange(models.Model):
    """A message that the tried policy decides otherwise; of each run the newest only."""

    run = models.ForeignKey(DryRun, on_delete=models.CASCADE, related_name="changes")
    turn = models.ForeignKey(Turn, on_delete=models.CASCADE, related_name="+")
    at = models.DateTimeField(help_text="When the customer wrote.")
    stage = models.CharField(max_length=10, choices=[("inbound", "Inbound"), ("outbound", "Outbound")])
    before = models.CharField(max_length=10)
    after = models.CharField(max_length=10)
    rules_before = ArrayField(models.CharField(max_length=60), default=list)
    rules_after = ArrayField(models.CharField(max_length=60), default=list)
    excerpt = models.CharField(max_length=200)

    class Meta:
        ordering = ["-at", "-id"]
        indexes = [models.Index(fields=["run", "-at", "-id"], name="agents_dryrunchange_of_run")]
        constraints = [
            models.UniqueConstraint(fields=["run", "turn", "stage"], name="agents_dryrunchange_once"),
            models.CheckConstraint(name="agents_dryrunchange_differs", condition=~Q(before=F("after"))),
        ]

    def __str__(self) -> str:
        return f"{self.before} → {self.after}"
