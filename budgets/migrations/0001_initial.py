import django.db.models.deletion
import django.db.models.functions.datetime
import django.utils.timezone
from django.db import migrations, models

import budgets.models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Budget",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "owner_kind",
                    models.CharField(
                        choices=[
                            ("organisation", "Organisation"),
                            ("agent", "Agent"),
                            ("channel", "Channel"),
                            ("key", "API key"),
                        ],
                        max_length=12,
                    ),
                ),
                (
                    "owner",
                    models.CharField(
                        blank=True,
                        help_text="Agent slug, agent/channel or key prefix; empty for the organisation.",
                        max_length=170,
                    ),
                ),
                ("period", models.CharField(choices=[("day", "Day"), ("month", "Month")], max_length=5)),
                ("limit_nano", models.BigIntegerField()),
                ("timezone", models.CharField(default="UTC", max_length=60, validators=[budgets.models.known_zone])),
                (
                    "mode",
                    models.CharField(
                        choices=[("strict", "Strict"), ("balanced", "Balanced")], default="strict", max_length=8
                    ),
                ),
                ("active", models.BooleanField(default=True)),
            ],
            options={
                "ordering": ["owner_kind", "owner", "period"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("owner_kind", "owner", "period"),
                        name="budgets_budget_once_per_period",
                        violation_error_message="There is a budget of this owner for this period already: change that one.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("limit_nano__gte", 0), ("limit_nano__lte", 9000000000000000)),
                        name="budgets_budget_limit_sane",
                        violation_error_message="A limit is between 0 and 9 million dollars.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("owner_kind__in", ["organisation", "agent", "channel", "key"])),
                        name="budgets_budget_owner_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("period__in", ["day", "month"])), name="budgets_budget_period_known"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("mode__in", ["strict", "balanced"])), name="budgets_budget_mode_known"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("owner", ""), ("owner_kind", "organisation")),
                            models.Q(
                                models.Q(("owner_kind", "organisation"), _negated=True),
                                models.Q(("owner", ""), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="budgets_budget_organisation_has_no_owner",
                        violation_error_message="Every budget names its owner, but the organisation's, which has none.",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="BudgetChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("actor", models.CharField(max_length=160)),
                ("reason", models.TextField(blank=True)),
                ("before", models.JSONField(default=dict)),
                ("after", models.JSONField(default=dict)),
                (
                    "at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now
                    ),
                ),
                (
                    "budget",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="changes", to="budgets.budget"
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("actor", ""), _negated=True), name="budgets_budgetchange_actor_named"
                    )
                ],
            },
        ),
    ]
