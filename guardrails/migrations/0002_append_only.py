from django.db import migrations

FORWARDS = """
CREATE FUNCTION guardrails_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' AND current_setting('pilothouse.allow_truncate', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER guardrails_finding_append_only BEFORE UPDATE OR DELETE ON guardrails_finding
    FOR EACH ROW EXECUTE FUNCTION guardrails_append_only();
CREATE TRIGGER guardrails_finding_append_only_truncate BEFORE TRUNCATE ON guardrails_finding
    FOR EACH STATEMENT EXECUTE FUNCTION guardrails_append_only();
"""
BACKWARDS = """
DROP TRIGGER guardrails_finding_append_only_truncate ON guardrails_finding;
DROP TRIGGER guardrails_finding_append_only ON guardrails_finding;
DROP FUNCTION guardrails_append_only();
"""


class Migration(migrations.Migration):
    dependencies = [("guardrails", "0001_initial")]
    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
