"""Increases of budgets and imported invoices stand in the audit trail."""

from django.db import migrations

WATCH = """
CREATE FUNCTION console_audit_budgets_budgetincrease() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    budget budgets_budget;
BEGIN
    SELECT * INTO budget FROM budgets_budget b WHERE b.id = NEW.budget_id;
    PERFORM console_audit_write(NEW.actor, CASE WHEN NEW.nano > 0 THEN 'budget.raised' ELSE 'budget.raise_ended' END,
        CASE WHEN budget.owner_kind IN ('agent', 'channel') THEN split_part(budget.owner, '/', 1) ELSE '' END,
        concat_ws(' ', budget.owner_kind, nullif(budget.owner, ''), budget.period), TG_RELID, NEW.id,
        jsonb_build_object('nano', nullif(NEW.nano, 0), 'until', NEW.until, 'reason', nullif(NEW.reason, '')));
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER console_audit AFTER INSERT ON budgets_budgetincrease DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION console_audit_budgets_budgetincrease();

CREATE FUNCTION console_audit_budgets_invoice() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM console_audit_write(NEW.actor, 'invoice.imported', '', NEW.name, TG_RELID, NEW.id,
        jsonb_build_object('sha256', NEW.sha256, 'starts', NEW.starts, 'ends', NEW.ends, 'nano', NEW.nano));
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER console_audit AFTER INSERT ON budgets_invoice DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION console_audit_budgets_invoice();
"""

UNWATCH = """
DROP TRIGGER console_audit ON budgets_budgetincrease;
DROP FUNCTION console_audit_budgets_budgetincrease();
DROP TRIGGER console_audit ON budgets_invoice;
DROP FUNCTION console_audit_budgets_invoice();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("console", "0003_alerts"),
        ("budgets", "0004_invoices"),
    ]

    operations = [migrations.RunSQL(WATCH, UNWATCH)]
