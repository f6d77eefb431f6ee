"""The call log in daily partitions, with sums by minute and hour that the database itself keeps exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.db import migrations, models
from pgvector.django import VectorField

FOLDER = Path(__file__).parent
FORWARD = (FOLDER / "0004_call_log.sql").read_text(encoding="utf-8")
BACKWARD = (FOLDER / "0004_call_log_back.sql").read_text(encoding="utf-8")
CHARGED = models.BigIntegerField(default=0, help_text="What the budgets were charged, also without a price.")
LARGEST = models.BigIntegerField(blank=True, null=True, help_text="The same on the largest tier's model.")
RULE = models.CharField(blank=True, max_length=80, help_text="What chose the tier.")
REMARKABLE = ~models.Q(status="ok") | ~models.Q(guardrail="passed") | ~models.Q(price="exact")
SUMS = [
    "calls", "unpriced", "estimated", "input_tokens", "cached_tokens", "output_tokens", "cost_nano", "charged_nano",
    "compared_nano", "largest_nano",
]  # fmt: skip


def rollup(name: str) -> migrations.CreateModel:
    names: list[tuple[str, int]] = [
        ("agent", 50), ("channel", 110), ("scope", 170), ("release", 70), ("provider", 50), ("model", 120),
        ("tier", 20), ("purpose", 10), ("key_prefix", 20), ("status", 12),
    ]  # fmt: skip
    fields: list[tuple[str, Any]] = [("id", models.BigAutoField(primary_key=True)), ("start", models.DateTimeField())]
    fields += [(field, models.CharField(max_length=length)) for field, length in names]
    fields += [(field, models.BigIntegerField()) for field in SUMS]
    fields += [("latency_ms", models.FloatField()), ("latencies", VectorField(dimensions=142))]
    return migrations.CreateModel(
        name=name, fields=fields, options={"managed": False, "db_table": f"agents_{name.lower()}"}
    )


class Migration(migrations.Migration):
    dependencies = [("agents", "0003_callbacks")]

    operations = [
        migrations.RunSQL(
            FORWARD,
            BACKWARD,
            state_operations=[
                migrations.RemoveConstraint("call", "agents_call_once_per_attempt"),
                migrations.AddConstraint(
                    "call",
                    models.UniqueConstraint(fields=["call_id", "attempt", "at"], name="agents_call_once_per_attempt"),
                ),
                migrations.AddField("call", "charged_nano", CHARGED),
                migrations.AddField("call", "largest_nano", LARGEST),
                migrations.AddField("call", "rule", RULE),
                migrations.AddField("call", "price_version", models.CharField(blank=True, max_length=40)),
                migrations.AddField("call", "error_class", models.CharField(blank=True, max_length=20)),
                migrations.AddIndex("call", models.Index(fields=["key_prefix", "-at"], name="agents_call_of_key")),
                migrations.AddIndex("call", models.Index(fields=["-cost_nano"], name="agents_call_dear")),
                migrations.AddIndex(
                    "call",
                    models.Index(fields=["-at", "-id"], name="agents_call_remarkable", condition=REMARKABLE),
                ),
                rollup("CallMinute"),
                rollup("CallHour"),
            ],
        ),
    ]
