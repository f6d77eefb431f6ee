"""The durable call log: one row for each attempt at a model, copied from the stream by the drain; and its sums.

The tables are made by hand in migration 0004: the log in daily partitions, its sums by minute and by hour, which
triggers keep exact in the transaction that writes the rows.
"""

from django.db import models
from pgvector.django import VectorField


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
    charged_nano = models.BigIntegerField(default=0, help_text="What the budgets were charged, also without a price.")
    largest_nano = models.BigIntegerField(null=True, blank=True, help_text="The same on the largest tier's model.")
    rule = models.CharField(max_length=80, blank=True, help_text="What chose the tier.")
    price_version = models.CharField(max_length=40, blank=True)
    error_class = models.CharField(max_length=20, blank=True)

    class Meta:
        ordering = ["-at", "-id"]
        constraints = [
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
            models.Index(fields=["-at", "-id"], name="agents_call_recent"),
            models.Index(fields=["scope", "-at"], name="agents_call_of_scope"),
            models.Index(fields=["turn_id"], name="agents_call_of_turn"),
            models.Index(fields=["key_prefix", "-at"], name="agents_call_of_key"),
            models.Index(fields=["-cost_nano"], name="agents_call_dear"),
            # A list of what went wrong does not walk past what did not.
            models.Index(
                fields=["-at", "-id"],
                name="agents_call_remarkable",
                condition=~models.Q(status="ok") | ~models.Q(guardrail="passed") | ~models.Q(price="exact"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.call_id}/{self.attempt}"


class Sums(models.Model):
    """What the calls of one minute or hour (UTC) add up to. `largest_nano` is what those that cost `compared_nano`
    would have cost on the largest tier; `latencies` is a histogram of `agents.usage.BUCKETS`.
    """

    start = models.DateTimeField()
    agent = models.CharField(max_length=50)
    channel = models.CharField(max_length=110)
    scope = models.CharField(max_length=170)
    release = models.CharField(max_length=70)
    provider = models.CharField(max_length=50)
    model = models.CharField(max_length=120)
    tier = models.CharField(max_length=20)
    purpose = models.CharField(max_length=10)
    key_prefix = models.CharField(max_length=20)
    status = models.CharField(max_length=12)
    calls = models.BigIntegerField()
    unpriced = models.BigIntegerField()
    estimated = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cost_nano = models.BigIntegerField()
    charged_nano = models.BigIntegerField()
    compared_nano = models.BigIntegerField()
    largest_nano = models.BigIntegerField()
    latency_ms = models.FloatField()
    latencies = VectorField(dimensions=142)

    class Meta:
        abstract = True
        managed = False

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M} {self.scope} {self.model}: {self.calls}"


class CallMinute(Sums):
    class Meta(Sums.Meta):
        db_table = "agents_callminute"


class CallHour(Sums):
    class Meta(Sums.Meta):
        db_table = "agents_callhour"


class CallBody(models.Model):
    """What an attempt was asked and answered, where its channel keeps that; gone on the day of `drop_at`."""

    call_id = models.UUIDField()
    attempt = models.PositiveSmallIntegerField()
    at = models.DateTimeField()
    drop_at = models.DateTimeField()
    request = models.TextField(blank=True)
    response = models.TextField(blank=True)

    def __str__(self) -> str:
        return f"{self.call_id}/{self.attempt}"
