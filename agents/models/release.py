"""What answers: immutable versions of the five parts, releases that name one of each, and the deployments of
releases.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django.db import models as db
from django.db.models.functions import Now
from django.utils import timezone

from agents.models.agent import Agent, Scope


def content_hash(content: Any) -> str:
    """SHA-256 of the canonical JSON: the same content has the same hash, whoever wrote it."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


class Version(db.Model):
    """One numbered, immutable version of a prompt, knowledge base, model config, guardrail policy or edge policy."""

    class Kind(db.TextChoices):
        PROMPT = "prompt", "Prompt"
        KNOWLEDGE = "knowledge", "Knowledge base"
        MODELS = "models", "Model config"
        GUARDRAILS = "guardrails", "Guardrail policy"
        EDGES = "edges", "Edge policy"

    agent = db.ForeignKey(Agent, on_delete=db.PROTECT, related_name="versions")
    kind = db.CharField(max_length=10, choices=Kind.choices)
    number = db.PositiveIntegerField()
    content = db.JSONField()
    sha256 = db.CharField(max_length=64)
    author = db.CharField(max_length=160)
    note = db.TextField(blank=True)
    created_at = db.DateTimeField(default=timezone.now, db_default=Now())

    class Meta:
        ordering = ["-id"]
        constraints = [
            db.UniqueConstraint(fields=["agent", "kind", "number"], name="agents_version_number_once"),
            db.UniqueConstraint(fields=["agent", "kind", "sha256"], name="agents_version_content_once"),
            db.CheckConstraint(
                name="agents_version_kind_known",
                condition=db.Q(kind__in=["prompt", "knowledge", "models", "guardrails", "edges"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} v{self.number}"


class Release(db.Model):
    """An immutable manifest that names one version of each of the five; a trigger checks the kinds and the agent."""

    agent = db.ForeignKey(Agent, on_delete=db.PROTECT, related_name="releases")
    number = db.PositiveIntegerField()
    prompt = db.ForeignKey(Version, on_delete=db.PROTECT, related_name="+")
    knowledge = db.ForeignKey(Version, on_delete=db.PROTECT, related_name="+")
    models = db.ForeignKey(Version, on_delete=db.PROTECT, related_name="+")
    guardrails = db.ForeignKey(Version, on_delete=db.PROTECT, related_name="+")
    edges = db.ForeignKey(Version, on_delete=db.PROTECT, related_name="+")
    sha256 = db.CharField(max_length=64)
    canary = db.CharField(
        max_length=32, help_text="128 random bits hidden in the prompt: seen in an answer, the prompt leaks."
    )
    author = db.CharField(max_length=160)
    note = db.TextField(blank=True)
    created_at = db.DateTimeField(default=timezone.now, db_default=Now())

    PARTS = ("prompt", "knowledge", "models", "guardrails", "edges")

    class Meta:
        ordering = ["-id"]
        constraints = [db.UniqueConstraint(fields=["agent", "number"], name="agents_release_number_once")]

    def __str__(self) -> str:
        return f"{self.agent.slug}@r{self.number}"

    @property
    def short(self) -> str:
        return f"r{self.number}"

    def parts(self) -> dict[str, Version]:
        return {part: getattr(self, part) for part in self.PARTS}


class Deployment(db.Model):
    """Append-only: this release on this scope from this moment, by whom, why. The newest row of a scope is live."""

    class Kind(db.TextChoices):
        DEPLOY = "deploy", "Deployed"
        CANARY = "canary", "Canary"
        PROMOTE = "promote", "Promoted"
        ROLLBACK = "rollback", "Rolled back"
        AUTOMATIC_ROLLBACK = "automatic_rollback", "Rolled back automatically"

    scope = db.ForeignKey(Scope, on_delete=db.PROTECT, related_name="deployments")
    release = db.ForeignKey(Release, on_delete=db.PROTECT, related_name="deployments")
    percent = db.PositiveSmallIntegerField(default=100)
    kind = db.CharField(max_length=20, choices=Kind.choices, default=Kind.DEPLOY)
    actor = db.CharField(max_length=160)
    reason = db.TextField(blank=True)
    at = db.DateTimeField(default=timezone.now, db_default=Now())

    class Meta:
        ordering = ["-id"]
        indexes = [db.Index(fields=["scope", "-id"], name="agents_deployment_of_scope")]
        constraints = [
            db.CheckConstraint(name="agents_deployment_percent", condition=db.Q(percent__gte=1, percent__lte=100)),
            # Invariant 8: a machine goes back by itself; only a person goes forward.
            db.CheckConstraint(
                name="agents_deployment_only_a_person_promotes",
                condition=db.Q(kind="automatic_rollback")
                | db.Q(actor__startswith="user:")
                | db.Q(actor__startswith="key:"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.release} on {self.scope} ({self.percent} %)"
