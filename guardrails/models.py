"""Findings: what the guardrails saw, append-only."""

from collections.abc import Iterable
from hashlib import blake2b
from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models.functions import Cast, Coalesce, Now

from guardrails.screen import EXCERPT, Seen


def excerpt_hash(excerpt: str) -> str:
    """A keyed hash: equal excerpts are found again, without anybody being able to guess one."""
    key = blake2b(settings.SECRET_KEY.encode(), digest_size=32).digest()
    return blake2b(excerpt.encode("utf-8", "replace"), key=key, digest_size=16).hexdigest()


class FindingQuerySet(models.QuerySet["Finding"]):
    def record(
        self,
        seen: Iterable[Seen],
        *,
        agent: str,
        scope: str,
        stage: str,
        policy_hash: str,
        actor: str,
        case_id: UUID | None = None,
        turn_id: UUID | None = None,
        call_id: UUID | None = None,
        latency_us: int = 0,
    ) -> list["Finding"]:
        """Write down what one screening saw; one row for each finding."""
        return self.bulk_create(
            self.model(
                actor=actor,
                agent=agent,
                scope=scope,
                case_id=case_id,
                turn_id=turn_id,
                call_id=call_id,
                stage=stage,
                policy_hash=policy_hash,
                rule=one.rule,
                family=one.family,
                action=one.action,
                severity=one.severity,
                language=one.language,
                view=one.view,
                excerpt=one.excerpt,
                excerpt_hash=excerpt_hash(one.excerpt),
                latency_us=latency_us,
                would=one.would,
            )
            for one in seen
        )

    def acted(self) -> "FindingQuerySet":
        """Findings that stopped or changed something."""
        return self.exclude(action=Finding.Action.ALLOW)

    def would_have_acted(self) -> "FindingQuerySet":
        """Findings of rules that only log, or whose words are allowed, and that would have acted."""
        return self.filter(action=Finding.Action.ALLOW).exclude(would=Finding.Action.ALLOW)

    def with_message(self) -> "FindingQuerySet":
        """Each with `message`: what is the same for findings in one message."""
        ids = (Cast(name, models.TextField()) for name in ("turn_id", "call_id", "pk"))
        return self.annotate(message=Coalesce(*ids))


class Finding(models.Model):
    class Stage(models.TextChoices):
        INBOUND = "inbound"
        OUTBOUND = "outbound"
        PASSAGE = "passage"
        TOOL = "tool"

    class Action(models.TextChoices):
        ALLOW = "allow"
        REDACT = "redact"
        ESCALATE = "escalate"
        BLOCK = "block"

    class Severity(models.TextChoices):
        INFO = "info"
        LOW = "low"
        MEDIUM = "medium"
        HIGH = "high"
        CRITICAL = "critical"

    at = models.DateTimeField(db_default=Now())
    actor = models.TextField()
    agent = models.TextField()
    scope = models.TextField()
    case_id = models.UUIDField(null=True)
    turn_id = models.UUIDField(null=True)
    call_id = models.UUIDField(null=True)
    stage = models.TextField(choices=Stage.choices)
    policy_hash = models.TextField()
    rule = models.TextField()
    family = models.TextField()
    action = models.TextField(choices=Action.choices)
    severity = models.TextField(choices=Severity.choices)
    language = models.TextField()
    view = models.TextField()
    excerpt = models.CharField(max_length=EXCERPT)
    excerpt_hash = models.TextField()
    latency_us = models.PositiveIntegerField(default=0)
    would = models.TextField(
        choices=Action.choices,
        default="allow",
        db_default="allow",
        help_text="What the rule does where it is enforced.",
    )

    objects = FindingQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["agent", "-at"], name="guardrails_finding_agent"),
            models.Index(fields=["scope", "family", "-at"], name="guardrails_finding_scope"),
            models.Index(
                fields=["scope", "-at"],
                name="guardrails_finding_logged",
                condition=models.Q(action="allow") & ~models.Q(would="allow"),
            ),
            models.Index(fields=["turn_id"], name="guardrails_finding_turn", condition=models.Q(turn_id__isnull=False)),
            models.Index(fields=["call_id"], name="guardrails_finding_call", condition=models.Q(call_id__isnull=False)),
            models.Index(fields=["case_id"], name="guardrails_finding_case", condition=models.Q(case_id__isnull=False)),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(action__in=["allow", "redact", "escalate", "block"]),
                name="guardrails_finding_action_known",
            ),
            models.CheckConstraint(
                condition=models.Q(stage__in=["inbound", "outbound", "passage", "tool"]),
                name="guardrails_finding_stage_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.rule} {self.action} {self.scope}"


class FalsePositiveQuerySet(models.QuerySet["FalsePositive"]):
    def call(self, finding: Finding, *, actor: str, note: str = "") -> tuple["FalsePositive", bool]:
        """The word that stands for the finding, and whether it is this one: the first to say so is kept."""
        return self.get_or_create(finding=finding, defaults={"actor": actor, "note": note})


class FalsePositive(models.Model):
    """A person says that a finding was harmless: a candidate for the pack's harmless sentences. Append-only."""

    at = models.DateTimeField(db_default=Now())
    finding = models.OneToOneField(Finding, on_delete=models.PROTECT, related_name="false_positive")
    actor = models.TextField()
    note = models.CharField(max_length=300, blank=True)

    objects = FalsePositiveQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.finding} by {self.actor}"


class CoverageResultQuerySet(models.QuerySet["CoverageResult"]):
    def keep(self, rows: Iterable["CoverageResult"]) -> None:
        """Write the rows down, each in the place of an older one of its language and family."""
        columns = ["digest", "at", "probes", "negatives", "disguises", "gaps"]
        self.bulk_create(rows, update_conflicts=True, unique_fields=["language", "family"], update_fields=columns)


class CoverageResult(models.Model):
    """What the coverage check last said of one family in one language; an empty family is the language as a whole.

    `digest` is of the rules and words that were checked; `disguises`: how many probes were caught in each.
    """

    digest = models.CharField(max_length=64)
    at = models.DateTimeField()
    language = models.CharField(max_length=8)
    family = models.CharField(max_length=60, blank=True)
    probes = models.PositiveSmallIntegerField(default=0)
    negatives = models.PositiveSmallIntegerField(default=0)
    disguises = models.JSONField(default=dict)
    gaps = models.JSONField(default=list)

    objects = CoverageResultQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["language", "family"], name="guardrails_coverageresult_one_for_each"),
        ]

    def __str__(self) -> str:
        return f"{self.language} {self.family}"

    @property
    def covered(self) -> bool:
        return not self.gaps
