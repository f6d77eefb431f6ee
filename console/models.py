"""Who may do what over HTTP, and what was done: keys, roles, the audit trail, replayed requests; and the alerts."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from agents.models import Agent, Channel
from console.monitoring.models import Alert, AlertChange, AlertNotice, AlertRule

__all__ = [
    "Alert",
    "AlertChange",
    "AlertNotice",
    "AlertRule",
    "ApiKey",
    "AuditEntry",
    "IdempotencyRecord",
    "Membership",
]


class Membership(models.Model):
    """A person's role for one agent, or for all of them (agent empty)."""

    class Role(models.TextChoices):
        VIEWER = "viewer", "Viewer"
        OPERATIONS = "operations", "Operations"
        ADMINISTRATOR = "administrator", "Administrator"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, null=True, blank=True, related_name="memberships")
    role = models.CharField(max_length=13, choices=Role.choices)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "agent"], name="console_membership_once", nulls_distinct=False),
            models.CheckConstraint(
                name="console_membership_role_known",
                condition=models.Q(role__in=["viewer", "operations", "administrator"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user}: {self.role} of {self.agent or 'all agents'}"


class ApiKey(models.Model):
    """A bearer key. Only its hash is kept; `prefix` names it in lists, logs and budgets."""

    SCOPES = ("turns", "gateway", "review", "releases", "read")

    prefix = models.CharField(max_length=20, unique=True)
    sha256 = models.CharField(max_length=64, unique=True)
    name = models.CharField(max_length=120)
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, null=True, blank=True, related_name="keys")
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, null=True, blank=True, related_name="keys")
    scopes = ArrayField(models.CharField(max_length=12))
    tester = models.BooleanField(
        default=False, help_text="Turns of this key are tests: answered in pilot, counted nowhere."
    )
    actor = models.CharField(max_length=160)
    callback_secret = models.CharField(max_length=64)
    at = models.DateTimeField(default=timezone.now, db_default=Now())
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_by = models.CharField(max_length=160, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                name="console_apikey_channel_needs_agent",
                condition=models.Q(channel=None) | models.Q(agent__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.prefix

    @staticmethod
    def digest(secret: str) -> str:
        """Keys carry 190 random bits, so a plain hash cannot be guessed backwards and costs the gateway nothing."""
        return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()

    @classmethod
    def issue(
        cls,
        *,
        name: str,
        actor: str,
        scopes: list[str],
        agent: Agent | None = None,
        channel: Channel | None = None,
        tester: bool = False,
        lifetime: timedelta | None = None,
        secret: str = "",
    ) -> tuple[ApiKey, str]:
        """The new key and its secret, which is shown once and never stored."""
        secret = secret or f"ph_{secrets.token_urlsafe(24)}"
        key = cls.objects.create(
            prefix=secret[:11],
            sha256=cls.digest(secret),
            name=name,
            actor=actor,
            agent=agent,
            channel=channel,
            scopes=scopes,
            tester=tester,
            callback_secret=secrets.token_hex(32),
            expires_at=timezone.now() + lifetime if lifetime else None,
        )
        return key, secret

    def usable(self) -> bool:
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > timezone.now())


class AuditEntry(models.Model):
    """Append-only and hash-chained; written by the database when an append-only row appears, or by `console.audit`."""

    at = models.DateTimeField(db_default=Now())
    actor = models.CharField(max_length=160)
    action = models.CharField(max_length=60)
    agent = models.CharField(max_length=50, blank=True)
    object = models.CharField(max_length=200, blank=True)
    detail = models.JSONField(default=dict)
    previous = models.CharField(max_length=64)
    sha256 = models.CharField(max_length=64)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["action", "-id"], name="console_audit_by_action"),
            models.Index(fields=["actor", "-id"], name="console_audit_by_actor"),
            models.Index(fields=["agent", "-id"], name="console_audit_by_agent"),
        ]

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.object}"


class IdempotencyRecord(models.Model):
    """The answer to a POST that carried an `Idempotency-Key`, kept for a day."""

    key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, related_name="+")
    token = models.CharField(max_length=200)
    request_sha256 = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(null=True)
    body = models.JSONField(null=True)
    location = models.CharField(max_length=300, blank=True)
    at = models.DateTimeField(default=timezone.now, db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key", "token"], name="console_idempotency_once_per_key")]

    def __str__(self) -> str:
        return self.token
