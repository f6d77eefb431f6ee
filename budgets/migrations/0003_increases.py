"""Time-boxed increases of a budget; who granted and who ended one is never changed or deleted."""

import django.db.models.deletion
import django.db.models.functions.datetime
import django.utils.timezone
from django.db import migrations, models

TABLE = "budgets_budgetincrease"
PROTECT = f"""
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION budgets_append_only();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON {TABLE} FOR EACH STATEMENT EXECUTE FUNCTION budgets_append_only();
"""
UNPROTECT = f"DROP TRIGGER append_only ON {TABLE}; DROP TRIGGER append_only_truncate ON {TABLE};"


class Migration(migrations.Migration):
    dependencies = [("budgets", "0002_append_only")]

    operations = [
        migrations.AddField(
            model_name="budget",
            name="operations_may_raise",
            field=models.BooleanField(
                default=False, help_text="Operations may grant a time-boxed increase, too, not administrators alone."
            ),
        ),
        migrations.AddField(
            model_name="budget",
            name="raised_nano",
            field=models.BigIntegerField(default=0, help_text="The increase of `increases` that is in force."),
        ),
        migrations.AddField(
            model_name="budget", name="raised_until", field=models.DateTimeField(blank=True, null=True)
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("raised_nano", 0), ("raised_until", None)),
                    models.Q(("raised_nano__gt", 0), ("raised_until__isnull", False)),
                    _connector="OR",
                ),
                name="budgets_budget_raise_has_end",
            ),
        ),
        migrations.CreateModel(
            name="BudgetIncrease",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("nano", models.BigIntegerField()),
                ("until", models.DateTimeField()),
                ("actor", models.CharField(max_length=160)),
                ("reason", models.TextField(blank=True)),
                (
                    "at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now
                    ),
                ),
                (
                    "budget",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="increases", to="budgets.budget"
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("actor", ""), _negated=True), name="budgets_budgetincrease_actor_named"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("nano", 0), models.Q(("reason", ""), _negated=True), _connector="OR"),
                        name="budgets_budgetincrease_has_reason",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("nano__gte", 0), ("nano__lte", 9000000000000000)),
                        name="budgets_budgetincrease_sane",
                    ),
                ],
            },
        ),
        migrations.RunSQL(PROTECT, UNPROTECT),
    ]
