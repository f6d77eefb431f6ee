import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

APPEND_ONLY = """
CREATE TRIGGER guardrails_falsepositive_append_only BEFORE UPDATE OR DELETE ON guardrails_falsepositive
    FOR EACH ROW EXECUTE FUNCTION guardrails_append_only();
CREATE TRIGGER guardrails_falsepositive_append_only_truncate BEFORE TRUNCATE ON guardrails_falsepositive
    FOR EACH STATEMENT EXECUTE FUNCTION guardrails_append_only();
"""
NOT_APPEND_ONLY = """
DROP TRIGGER guardrails_falsepositive_append_only_truncate ON guardrails_falsepositive;
DROP TRIGGER guardrails_falsepositive_append_only ON guardrails_falsepositive;
"""


class Migration(migrations.Migration):
    dependencies = [("guardrails", "0002_append_only")]

    operations = [
        migrations.AddField(
            model_name="finding",
            name="would",
            field=models.TextField(
                choices=[("allow", "Allow"), ("redact", "Redact"), ("escalate", "Escalate"), ("block", "Block")],
                db_default="allow",
                default="allow",
                help_text="What the rule does where it is enforced.",
            ),
        ),
        migrations.AddIndex(
            model_name="finding",
            index=models.Index(
                condition=models.Q(("action", "allow"), models.Q(("would", "allow"), _negated=True)),
                fields=["scope", "-at"],
                name="guardrails_finding_logged",
            ),
        ),
        migrations.CreateModel(
            name="FalsePositive",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("actor", models.TextField()),
                ("note", models.CharField(blank=True, max_length=300)),
                (
                    "finding",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="false_positive",
                        to="guardrails.finding",
                    ),
                ),
            ],
            options={"ordering": ["-id"]},
        ),
        migrations.RunSQL(APPEND_ONLY, NOT_APPEND_ONLY),
    ]
