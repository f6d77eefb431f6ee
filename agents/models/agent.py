"""Who talks, where, and how far it is trusted: agents, channels, scopes with their stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.postgres.fields import ArrayField
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

if TYPE_CHECKING:
    from agents.models.release import Deployment, Release

slug = RegexValidator(r"^[a-z0-9][a-z0-9-]{0,49}$", "Lower-case letters, digits and hyphens only.")
MOST_BODY_DAYS = 365
STAGE_RANK = {"pilot": 0, "shadow": 1, "narrow": 2, "expanded": 3}


def working_week() -> dict[str, list[list[str]]]:
    return {day: [["09:00", "17:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}


class Agent(models.Model):
    """What customers talk to."""

    slug = models.CharField(max_length=50, unique=True, validators=[slug])
    name = models.CharField(max_length=120)
    languages = ArrayField(models.CharField(max_length=8), default=list)
    paused_at = models.DateTimeField(null=True, blank=True)
    paused_by = models.CharField(max_length=160, blank=True)
    created_at = models.DateTimeField(default=timezone.now, db_default=Now())

    class Meta:
        ordering = ["slug"]
        constraints = [
            models.CheckConstraint(
                name="agents_agent_slug_form", condition=models.Q(slug__regex=r"^[a-z0-9][a-z0-9-]{0,49}$")
            ),
        ]

    def __str__(self) -> str:
        return self.slug


class Channel(models.Model):
    """Where an agent's traffic arrives, with its hours and SLA targets (seconds of business time)."""

    class Kind(models.TextChoices):
        CHAT = "chat", "Web chat"
        EMAIL = "email", "E-mail"
        VOICE = "voice", "Voice"
        INTERNAL = "internal", "Internal tool"

    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="channels")
    slug = models.CharField(max_length=50, validators=[slug])
    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.CHAT)
    timezone = models.CharField(max_length=60, default="UTC")
    business_hours = models.JSONField(default=working_week, blank=True)
    holidays = models.JSONField(default=list, blank=True)
    sla_first_response_s = models.PositiveIntegerField(default=60)
    sla_next_response_s = models.PositiveIntegerField(default=300)
    sla_review_s = models.PositiveIntegerField(default=900)
    sla_resolution_s = models.PositiveIntegerField(default=86_400)
    keep_bodies_days = models.PositiveSmallIntegerField(
        default=0, help_text="For how many days questions and answers of model calls are kept; 0: not at all."
    )

    class Meta:
        ordering = ["agent_id", "slug"]
        constraints = [
            models.UniqueConstraint(fields=["agent", "slug"], name="agents_channel_once_per_agent"),
            models.CheckConstraint(
                name="agents_channel_kind_known", condition=models.Q(kind__in=["chat", "email", "voice", "internal"])
            ),
            models.CheckConstraint(
                name="agents_channel_bodies_bounded", condition=models.Q(keep_bodies_days__lte=MOST_BODY_DAYS)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.agent.slug}/{self.slug}"

    def calendar(self) -> dict[str, Any]:
        """What `escalations.clocks` needs: {timezone, hours, holidays}."""
        return {"timezone": self.timezone, "hours": self.business_hours, "holidays": self.holidays}


class ScopeQuerySet(models.QuerySet["Scope"]):
    def with_names(self) -> ScopeQuerySet:
        return self.select_related("channel__agent")


class Scope(models.Model):
    """A channel, or one topic on it: the unit that has a stage, a live release, gates and metrics of its own."""

    class Stage(models.TextChoices):
        PILOT = "pilot", "Pilot"
        SHADOW = "shadow", "Shadow"
        NARROW = "narrow", "Narrow"
        EXPANDED = "expanded", "Expanded"

    channel = models.ForeignKey(Channel, on_delete=models.PROTECT, related_name="scopes")
    topic = models.CharField(max_length=50, blank=True, default="", help_text="Empty: the whole channel.")
    stage = models.CharField(max_length=10, choices=Stage.choices, default=Stage.PILOT)
    created_at = models.DateTimeField(default=timezone.now, db_default=Now())

    objects = ScopeQuerySet.as_manager()

    class Meta:
        ordering = ["channel_id", "topic"]
        constraints = [
            models.UniqueConstraint(fields=["channel", "topic"], name="agents_scope_topic_once_per_channel"),
            models.CheckConstraint(
                name="agents_scope_stage_known", condition=models.Q(stage__in=["pilot", "shadow", "narrow", "expanded"])
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """`agent/channel` or `agent/channel/topic`, the name used everywhere outside this table."""
        return f"{self.channel}/{self.topic}" if self.topic else str(self.channel)

    @property
    def agent(self) -> Agent:
        return self.channel.agent

    def live(self) -> Deployment | None:
        """The deployment that serves now; a canary counts."""
        return self.deployments.select_related("release__agent").order_by("-id").first()

    def stable(self) -> Release | None:
        """The release that serves everybody a canary does not."""
        row = self.deployments.filter(percent=100).select_related("release__agent").order_by("-id").first()
        return row.release if row else None


class StageChange(models.Model):
    """Append-only: a scope went up (by a named person) or down (by a person or by itself)."""

    scope = models.ForeignKey(Scope, on_delete=models.PROTECT, related_name="stage_changes")
    from_stage = models.CharField(max_length=10, choices=Scope.Stage.choices)
    to_stage = models.CharField(max_length=10, choices=Scope.Stage.choices)
    actor = models.CharField(max_length=160)
    reason = models.TextField(blank=True)
    evidence = models.JSONField(default=dict)
    at = models.DateTimeField(default=timezone.now, db_default=Now())

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                name="agents_stagechange_moves", condition=~models.Q(from_stage=models.F("to_stage"))
            ),
            # Invariant 8: a machine may lower a stage; only a named person raises it.
            models.CheckConstraint(
                name="agents_stagechange_only_a_person_promotes",
                condition=models.Q(actor__startswith="user:")
                | models.Q(to_stage="pilot")
                | models.Q(from_stage="expanded")
                | models.Q(from_stage="narrow", to_stage="shadow"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.scope}: {self.from_stage} → {self.to_stage}"
