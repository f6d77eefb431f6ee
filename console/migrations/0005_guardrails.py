"""False positives stand in the audit trail, and so do judges that gave no verdict, whatever was done then."""

from django.db import migrations

WATCH = """
CREATE FUNCTION console_audit_guardrails_falsepositive() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    found guardrails_finding;
BEGIN
    SELECT * INTO found FROM guardrails_finding f WHERE f.id = NEW.finding_id;
    PERFORM console_audit_write(NEW.actor, 'finding.called_harmless', found.agent, found.rule, TG_RELID, NEW.id,
        jsonb_build_object('finding', NEW.finding_id, 'scope', found.scope, 'note', nullif(NEW.note, '')));
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER console_audit AFTER INSERT ON guardrails_falsepositive DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION console_audit_guardrails_falsepositive();
CREATE CONSTRAINT TRIGGER console_audit_judge AFTER INSERT ON guardrails_finding DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.action = 'allow' AND NEW.rule = 'judge-failed')
    EXECUTE FUNCTION console_audit_guardrails_finding();
"""
UNWATCH = """
DROP TRIGGER console_audit_judge ON guardrails_finding;
DROP TRIGGER console_audit ON guardrails_falsepositive;
DROP FUNCTION console_audit_guardrails_falsepositive();
"""


class Migration(migrations.Migration):
    dependencies = [("console", "0004_money"), ("guardrails", "0003_false_positives")]

    operations = [migrations.RunSQL(WATCH, UNWATCH)]
