from django.db import migrations, models


class Migration(migrations.Migration):
    """When a claim began, so that the time a decision took does not start anew with every heartbeat."""

    dependencies = [("escalations", "0002_append_only")]

    operations = [
        migrations.AddField("escalation", "claimed_at", models.DateTimeField(blank=True, null=True)),
        migrations.AlterField(
            "escalation",
            "lease_until",
            models.DateTimeField(blank=True, help_text="While claimed or snoozed: until when.", null=True),
        ),
    ]
