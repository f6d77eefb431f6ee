"""Invariant 4 in the database: versions, releases, deployments and stage changes are never changed or deleted."""

from django.db import migrations

TABLES = ("agents_version", "agents_release", "agents_deployment", "agents_stagechange")

FUNCTIONS = """
CREATE FUNCTION agents_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' AND current_setting('pilothouse.allow_truncate', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$;

CREATE FUNCTION agents_release_names_its_own() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF 5 <> (
        SELECT count(*) FROM agents_version v WHERE v.agent_id = NEW.agent_id AND (v.id, v.kind) IN (
            (NEW.prompt_id, 'prompt'), (NEW.knowledge_id, 'knowledge'), (NEW.models_id, 'models'),
            (NEW.guardrails_id, 'guardrails'), (NEW.edges_id, 'edges'))
    ) THEN
        RAISE EXCEPTION 'a release names one version of each kind, all of its own agent' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER agents_release_names_its_own BEFORE INSERT ON agents_release
    FOR EACH ROW EXECUTE FUNCTION agents_release_names_its_own();

CREATE FUNCTION agents_deployment_of_its_agent() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM agents_scope s JOIN agents_channel c ON c.id = s.channel_id JOIN agents_release r ON r.agent_id = c.agent_id
        WHERE s.id = NEW.scope_id AND r.id = NEW.release_id
    ) THEN
        RAISE EXCEPTION 'a release is deployed on scopes of its own agent' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER agents_deployment_of_its_agent BEFORE INSERT ON agents_deployment
    FOR EACH ROW EXECUTE FUNCTION agents_deployment_of_its_agent();
"""

REVERSE = """
DROP TRIGGER agents_release_names_its_own ON agents_release;
DROP TRIGGER agents_deployment_of_its_agent ON agents_deployment;
DROP FUNCTION agents_release_names_its_own();
DROP FUNCTION agents_deployment_of_its_agent();
"""


def protect(table: str) -> str:
    return f"""
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION agents_append_only();
    CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION agents_append_only();
    """


def unprotect(table: str) -> str:
    return f"DROP TRIGGER append_only ON {table}; DROP TRIGGER append_only_truncate ON {table};"


class Migration(migrations.Migration):
    dependencies = [("agents", "0001_initial")]

    operations = [
        migrations.RunSQL(FUNCTIONS, f"{REVERSE} DROP FUNCTION agents_append_only();"),
        migrations.RunSQL("".join(map(protect, TABLES)), "".join(map(unprotect, TABLES))),
    ]
