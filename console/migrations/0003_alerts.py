"""Alerts; what becomes of them is never changed or deleted, and stands in the audit trail."""

import django.db.models.deletion
import django.db.models.functions.datetime
import django.utils.timezone
from django.db import migrations, models

PROTECT = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON console_alertchange
    FOR EACH ROW EXECUTE FUNCTION console_append_only();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON console_alertchange
    FOR EACH STATEMENT EXECUTE FUNCTION console_append_only();
"""

UNPROTECT = """
DROP TRIGGER append_only ON console_alertchange;
DROP TRIGGER append_only_truncate ON console_alertchange;
"""

WATCH = """
CREATE FUNCTION console_audit_console_alertchange() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    alert console_alert;
BEGIN
    SELECT * INTO alert FROM console_alert a WHERE a.id = NEW.alert_id;
    PERFORM console_audit_write(NEW.actor, 'alert.' || NEW.to_state, alert.agent,
        concat_ws(' ', alert.rule, nullif(alert.scope, '')), TG_RELID, NEW.id,
        jsonb_build_object('alert', alert.id, 'rule', alert.rule, 'from', nullif(NEW.from_state, ''), 'note', nullif(NEW.note, '')));
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER console_audit AFTER INSERT ON console_alertchange DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION console_audit_console_alertchange();
"""

UNWATCH = "DROP TRIGGER console_audit ON console_alertchange; DROP FUNCTION console_audit_console_alertchange();"


class Migration(migrations.Migration):
    dependencies = [
        ("agents", "0003_callbacks"),
        ("console", "0002_audit_trail"),
    ]

    operations = [
        migrations.CreateModel(
            name="Alert",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("rule", models.CharField(max_length=40)),
                ("scope", models.CharField(blank=True, max_length=170)),
                ("agent", models.CharField(blank=True, max_length=50)),
                ("channel", models.CharField(blank=True, max_length=110)),
                ("severity", models.CharField(default="high", max_length=8)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("firing", "Firing"),
                            ("acknowledged", "Acknowledged"),
                            ("resolved", "Resolved"),
                        ],
                        default="pending",
                        max_length=12,
                    ),
                ),
                ("level", models.PositiveSmallIntegerField(default=0)),
                ("sentence", models.TextField()),
                ("figures", models.JSONField(default=dict)),
                ("clean_looks", models.PositiveSmallIntegerField(default=0, help_text="Clean evaluations in a row.")),
                ("seen_at", models.DateTimeField(help_text="The evaluation that looked at it last.")),
                (
                    "opened_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now
                    ),
                ),
                ("fired_at", models.DateTimeField(blank=True, null=True)),
                ("acknowledged_at", models.DateTimeField(blank=True, null=True)),
                ("acknowledged_by", models.CharField(blank=True, max_length=160)),
                ("resolved_at", models.DateTimeField(blank=True, null=True)),
                ("resolved_by", models.CharField(blank=True, max_length=160)),
                (
                    "deployment",
                    models.ForeignKey(
                        blank=True,
                        help_text="Live when it opened.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="agents.deployment",
                    ),
                ),
                (
                    "rollback",
                    models.OneToOneField(
                        blank=True,
                        help_text="Made by the rule.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="agents.deployment",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="AlertChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("from_state", models.CharField(blank=True, max_length=12)),
                ("to_state", models.CharField(max_length=12)),
                ("actor", models.CharField(max_length=160)),
                ("note", models.TextField(blank=True)),
                (
                    "at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now
                    ),
                ),
                (
                    "alert",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="changes", to="console.alert"
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="AlertNotice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("payload", models.JSONField()),
                ("due_at", models.DateTimeField(blank=True, null=True)),
                ("tries", models.PositiveSmallIntegerField(default=0)),
                ("error", models.CharField(blank=True, max_length=300)),
                ("sent_at", models.DateTimeField(blank=True, null=True)),
                (
                    "change",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT, related_name="notice", to="console.alertchange"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="AlertRule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("rule", models.CharField(max_length=40)),
                ("scope", models.CharField(blank=True, max_length=170)),
                ("threshold", models.FloatField(blank=True, null=True)),
                ("active", models.BooleanField(default=True)),
            ],
            options={
                "ordering": ["rule", "scope"],
                "constraints": [
                    models.UniqueConstraint(fields=("rule", "scope"), name="console_alertrule_once_per_scope"),
                    models.CheckConstraint(
                        condition=models.Q(("threshold", None), ("threshold__gte", 0), _connector="OR"),
                        name="console_alertrule_threshold_sane",
                    ),
                ],
            },
        ),
        migrations.AddIndex(
            model_name="alert",
            index=models.Index(fields=["agent", "-id"], name="console_alert_of_agent"),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state", "resolved"), _negated=True),
                fields=("rule", "scope"),
                name="console_alert_one_open",
            ),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ("pending", "firing", "acknowledged", "resolved"))),
                name="console_alert_state_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.CheckConstraint(
                condition=models.Q(("severity__in", ("critical", "high", "medium"))),
                name="console_alert_severity_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("resolved_at__isnull", False), ("state", "resolved")),
                    models.Q(models.Q(("state", "resolved"), _negated=True), ("resolved_at", None)),
                    _connector="OR",
                ),
                name="console_alert_resolved_has_time",
            ),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("fired_at", None), ("state", "pending")),
                    ("state", "resolved"),
                    models.Q(("fired_at__isnull", False), ("state__in", ["firing", "acknowledged"])),
                    _connector="OR",
                ),
                name="console_alert_fired_has_time",
            ),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("state", "acknowledged"), _negated=True),
                    models.Q(("acknowledged_at__isnull", False), models.Q(("acknowledged_by", ""), _negated=True)),
                    _connector="OR",
                ),
                name="console_alert_acknowledged_by_somebody",
            ),
        ),
        migrations.AddConstraint(
            model_name="alertchange",
            constraint=models.CheckConstraint(
                condition=models.Q(("to_state__in", ("pending", "firing", "acknowledged", "resolved"))),
                name="console_alertchange_state_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="alertchange",
            constraint=models.CheckConstraint(
                condition=models.Q(("actor", ""), _negated=True), name="console_alertchange_actor_named"
            ),
        ),
        migrations.AddIndex(
            model_name="alertnotice",
            index=models.Index(
                condition=models.Q(("due_at__isnull", False)), fields=["due_at"], name="console_alertnotice_due"
            ),
        ),
        migrations.AddConstraint(
            model_name="alertnotice",
            constraint=models.CheckConstraint(
                condition=models.Q(("sent_at", None), ("due_at", None), _connector="OR"),
                name="console_alertnotice_sent_is_done",
            ),
        ),
        migrations.RunSQL(PROTECT, UNPROTECT),
        migrations.RunSQL(WATCH, UNWATCH),
    ]
