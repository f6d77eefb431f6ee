"""The durable call log: a row for each attempt at a model, copied from the stream by the drain, and sums over them.

Every table here is partitioned by time (`agents.partitions`), so that what is too old is dropped, not deleted. A key of
such a table has to hold the time; `Call.id` alone is unique all the same, as one sequence gives it.
"""

from __future__ import annotations

from django.db import models
from pgvector.django import VectorField

LATENCIES = 142  # buckets of a latency histogram, see agents.usage


class Call(models.Model):
    """One attempt at one model. Names, not foreign keys: the log outlives what it tells of and is written by COPY."""

    call_id = models.UUIDField()
    attempt = models.PositiveSmallIntegerField(default=1)
    at = models.DateTimeField()
    purpose = models.CharField(max_length=10, default="gateway", help_text="turn, gateway, judge or shadow")
    agent = models.CharField(max_length=50, blank=True)
    channel = models.CharField(max_length=110, blank=True)
    scope = models.CharField(max_length=170, blank=True)
    release = models.CharField(max_length=70, blank=True)
    case_ref = models.CharField(max_length=200, blank=True)
    turn_id = models.UUIDField(null=True, blank=True)
    key_prefix = models.CharField(max_length=20, blank=True)
    provider = models.CharField(max_length=50, blank=True)
    model = models.CharField(max_length=120)
    tier = models.CharField(max_length=20, blank=True)
    stream = models.BooleanField(default=False)
    status = models.CharField(max_length=12, help_text="ok, error, timeout, cancelled, blocked or expired")
    error = models.CharField(max_length=300, blank=True)
    guardrail = models.CharField(max_length=10, default="passed", help_text="passed, redacted, blocked or escalated")
    input_tokens = models.IntegerField(default=0)
    cached_tokens = models.IntegerField(default=0)
    output_tokens = models.IntegerField(default=0)
    latency_ms = models.FloatField(default=0)
    ttft_ms = models.FloatField(null=True, blank=True)
    cost_nano = models.BigIntegerField(null=True, blank=True, help_text="Null: the price is unknown, never 0.")
    price = models.CharField(max_length=10, help_text="exact, estimated or unknown")
    price_version = models.CharField(max_length=40, blank=True)
    charged_nano = models.BigIntegerField(default=0, help_text="What the budgets were charged, known price or not.")
    largest_nano = models.BigIntegerField(
        null=True, blank=True, help_text="What the dearest model of the configuration would have cost."
    )
    rule = models.CharField(max_length=80, blank=True, help_text="The routing rule that chose the model.")
    error_class = models.CharField(max_length=20, blank=True)

    class Meta:
        ordering = ["-at", "-id"]
        constraints = [
            # `at` is that of the hold, so an estimate by expiry and the real figure after it have the same one.
            models.UniqueConstraint(fields=["call_id", "attempt", "at"], name="agents_call_once_per_attempt"),
            models.CheckConstraint(
                name="agents_call_price_known", condition=models.Q(price__in=["exact", "estimated", "unknown"])
            ),
            # Invariant 3: what has no price says so.
            models.CheckConstraint(
                name="agents_call_unknown_is_not_zero",
                condition=models.Q(price="unknown", cost_nano=None)
                | (~models.Q(price="unknown") & models.Q(cost_nano__isnull=False)),
            ),
        ]
        indexes = [
            models.Index(fields=["scope", "-at"], name="agents_call_of_scope"),
            models.Index(fields=["turn_id"], name="agents_call_of_turn"),
        ]

    def __str__(self) -> str:
        return f"{self.call_id}/{self.attempt}"


class Sums(models.Model):
    """Calls of one stretch of time that begins at `at` (UTC) and have all these names in common."""

    pk = models.CompositePrimaryKey(
        *("at", "agent", "channel", "scope", "release", "provider", "model", "tier", "purpose", "key_prefix", "status")
    )
    at = models.DateTimeField()
    agent = models.CharField(max_length=50, blank=True)
    channel = models.CharField(max_length=110, blank=True)
    scope = models.CharField(max_length=170, blank=True)
    release = models.CharField(max_length=70, blank=True)
    provider = models.CharField(max_length=50, blank=True)
    model = models.CharField(max_length=120)
    tier = models.CharField(max_length=20, blank=True)
    purpose = models.CharField(max_length=10)
    key_prefix = models.CharField(max_length=20, blank=True)
    status = models.CharField(max_length=12)

    calls = models.BigIntegerField()
    unpriced = models.BigIntegerField()
    estimated = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cost_nano = models.BigIntegerField(help_text="Of the calls that have a price.")
    charged_nano = models.BigIntegerField()
    largest_nano = models.BigIntegerField(help_text="Of the calls that know what the dearest model would have cost.")
    largest_cost_nano = models.BigIntegerField(help_text="What those same calls cost: the difference was saved.")
    priced_largest = models.BigIntegerField(help_text="How many they are.")
    latency_ms = models.FloatField(help_text="Sum over the attempts that took any time.")
    latencies = VectorField(dimensions=LATENCIES, help_text="Those attempts by bucket of latency.")

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.calls} calls of {self.model} on {self.scope} from {self.at}"


class CallMinute(Sums):
    """Sums of a minute."""


class CallHour(Sums):
    """The same sums of an hour: months of minutes are too many rows for a page."""
