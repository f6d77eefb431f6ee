"""Providers' invoices as they were imported; never changed or deleted."""

import django.db.models.deletion
import django.db.models.functions.datetime
import django.utils.timezone
from django.db import migrations, models

TABLES = ("budgets_invoice", "budgets_invoiceline")


def protect(table: str) -> str:
    return f"""
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION budgets_append_only();
    CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION budgets_append_only();
    """


def unprotect(table: str) -> str:
    return f"DROP TRIGGER append_only ON {table}; DROP TRIGGER append_only_truncate ON {table};"


class Migration(migrations.Migration):
    dependencies = [("budgets", "0003_increases")]

    operations = [
        migrations.CreateModel(
            name="Invoice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("sha256", models.CharField(max_length=64)),
                ("name", models.CharField(help_text="The file's name.", max_length=200)),
                ("actor", models.CharField(max_length=160)),
                ("starts", models.DateField()),
                ("ends", models.DateField(help_text="The last day, included.")),
                ("nano", models.BigIntegerField()),
                (
                    "at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "constraints": [
                    models.UniqueConstraint(fields=("sha256", "starts", "ends"), name="budgets_invoice_once"),
                    models.CheckConstraint(
                        condition=models.Q(("actor", ""), _negated=True), name="budgets_invoice_actor_named"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("ends__gte", models.F("starts"))), name="budgets_invoice_ends_after_start"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="InvoiceLine",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("model", models.CharField(max_length=120)),
                ("nano", models.BigIntegerField()),
                ("starts", models.DateField()),
                ("ends", models.DateField()),
                (
                    "invoice",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="lines", to="budgets.invoice"
                    ),
                ),
            ],
            options={"ordering": ["id"]},
        ),
        migrations.RunSQL("".join(map(protect, TABLES)), "".join(map(unprotect, TABLES))),
    ]
