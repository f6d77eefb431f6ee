"""Invariant 4: who did what, written by the database itself, chained by hashes, never changed or deleted.

Whatever inserts an entry, `console_audit_chain` numbers it without gaps, takes the time and the hash, one transaction
at a time.
Rows of the append-only tables leave their entries when their transaction commits, so the lock is held no longer than that.
`manage.py audit_verify` computes the same hashes in Python.
"""

from django.db import migrations

CHAIN = """
CREATE FUNCTION console_audit_hash(
    previous text, at timestamptz, actor text, action text, agent text, object text, detail jsonb
) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT encode(sha256(convert_to(concat_ws(E'\\n',
        previous, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        to_json(actor)::text, to_json(action)::text, to_json(agent)::text, to_json(object)::text, detail::text
    ), 'UTF8')), 'hex')
$$;

CREATE FUNCTION console_audit_chain() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    last console_auditentry;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('console_auditentry', 0));
    SELECT * INTO last FROM console_auditentry e ORDER BY e.id DESC LIMIT 1;
    NEW.id := coalesce(last.id, 0) + 1;
    NEW.at := clock_timestamp();
    NEW.previous := coalesce(last.sha256, repeat('0', 64));
    NEW.sha256 := console_audit_hash(NEW.previous, NEW.at, NEW.actor, NEW.action, NEW.agent, NEW.object, NEW.detail);
    RETURN NEW;
END $$;

CREATE TRIGGER console_audit_chain BEFORE INSERT ON console_auditentry
    FOR EACH ROW EXECUTE FUNCTION console_audit_chain();

CREATE FUNCTION console_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' AND current_setting('pilothouse.allow_truncate', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON console_auditentry
    FOR EACH ROW EXECUTE FUNCTION console_append_only();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON console_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION console_append_only();

CREATE FUNCTION console_audit_write(actor text, action text, agent text, object text, source regclass, row_id bigint, detail jsonb)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO console_auditentry (actor, action, agent, object, detail, previous, sha256) VALUES (
        left(actor, 160), left(action, 60), left(agent, 50), left(object, 200),
        jsonb_build_object('table', source::text, 'row', row_id) || jsonb_strip_nulls(detail), '', '')
$$;

CREATE FUNCTION console_audit_sha(content text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN content <> '' THEN encode(sha256(convert_to(content, 'UTF8')), 'hex') END
$$;
"""

UNCHAIN = """
DROP TRIGGER console_audit_chain ON console_auditentry;
DROP TRIGGER append_only ON console_auditentry;
DROP TRIGGER append_only_truncate ON console_auditentry;
DROP FUNCTION console_audit_sha(text);
DROP FUNCTION console_audit_write(text, text, text, text, regclass, bigint, jsonb);
DROP FUNCTION console_append_only();
DROP FUNCTION console_audit_chain();
DROP FUNCTION console_audit_hash(text, timestamptz, text, text, text, text, jsonb);
"""

# What customers and people wrote stays where it is; the trail holds its hash.
SOURCES = {
    "agents_version": """
        SELECT a.slug INTO slug FROM agents_agent a WHERE a.id = NEW.agent_id;
        PERFORM console_audit_write(NEW.author, 'version.created', slug, slug || ' ' || NEW.kind || ' v' || NEW.number,
            TG_RELID, NEW.id, jsonb_build_object('kind', NEW.kind, 'number', NEW.number, 'sha256', NEW.sha256, 'note', NEW.note));
    """,
    "agents_release": """
        SELECT a.slug INTO slug FROM agents_agent a WHERE a.id = NEW.agent_id;
        PERFORM console_audit_write(NEW.author, 'release.published', slug, slug || '@r' || NEW.number, TG_RELID, NEW.id,
            jsonb_build_object('number', NEW.number, 'sha256', NEW.sha256, 'note', NEW.note, 'prompt', NEW.prompt_id,
                'knowledge', NEW.knowledge_id, 'models', NEW.models_id, 'guardrails', NEW.guardrails_id, 'edges', NEW.edges_id));
    """,
    "agents_deployment": """
        SELECT s.agent, s.name INTO slug, scope FROM console_audit_scope(NEW.scope_id) s;
        PERFORM console_audit_write(NEW.actor, 'deployment.' || NEW.kind, slug, scope, TG_RELID, NEW.id,
            jsonb_build_object('release', (SELECT slug || '@r' || r.number FROM agents_release r WHERE r.id = NEW.release_id),
                'percent', NEW.percent, 'reason', NEW.reason));
    """,
    "agents_stagechange": """
        SELECT s.agent, s.name INTO slug, scope FROM console_audit_scope(NEW.scope_id) s;
        PERFORM console_audit_write(NEW.actor, 'stage.changed', slug, scope, TG_RELID, NEW.id,
            jsonb_build_object('from', NEW.from_stage, 'to', NEW.to_stage, 'reason', NEW.reason,
                'verdict', NEW.evidence ->> 'verdict', 'evidence_sha256', console_audit_sha(NEW.evidence::text)));
    """,
    "escalations_decision": """
        SELECT e.agent, e.scope INTO slug, scope FROM escalations_escalation e WHERE e.id = NEW.escalation_id;
        PERFORM console_audit_write(NEW.actor, 'decision.' || NEW.kind, slug, NEW.escalation_id::text, TG_RELID, NEW.id,
            jsonb_build_object('scope', scope, 'revision', NEW.revision, 'reason_code', NEW.reason_code,
                'seen_draft', NEW.seen_draft, 'text_sha256', console_audit_sha(NEW.text),
                'note_sha256', console_audit_sha(NEW.note), 'action_hash', nullif(NEW.action_hash, '')));
    """,
    "escalations_undo": """
        SELECT e.agent, e.id::text INTO slug, scope FROM escalations_decision d
            JOIN escalations_escalation e ON e.id = d.escalation_id WHERE d.id = NEW.decision_id;
        PERFORM console_audit_write(NEW.actor, 'decision.undone', slug, scope, TG_RELID, NEW.id,
            jsonb_build_object('decision', NEW.decision_id));
    """,
    "guardrails_finding": """
        PERFORM console_audit_write(NEW.actor, 'finding.' || NEW.action, NEW.agent, NEW.rule, TG_RELID, NEW.id,
            jsonb_build_object('scope', NEW.scope, 'stage', NEW.stage, 'family', NEW.family, 'severity', NEW.severity,
                'turn', NEW.turn_id, 'call', NEW.call_id, 'excerpt_hash', NEW.excerpt_hash));
    """,
    "budgets_budgetchange": """
        SELECT CASE WHEN b.owner_kind IN ('agent', 'channel') THEN split_part(b.owner, '/', 1) ELSE '' END,
            concat_ws(' ', b.owner_kind, nullif(b.owner, ''), b.period) INTO slug, scope FROM budgets_budget b WHERE b.id = NEW.budget_id;
        PERFORM console_audit_write(NEW.actor, CASE WHEN NEW.before = '{}'::jsonb THEN 'budget.opened' ELSE 'budget.changed' END,
            slug, scope, TG_RELID, NEW.id, jsonb_build_object('before', NEW.before, 'after', NEW.after, 'reason', NEW.reason));
    """,
    "console_apikey": """
        SELECT a.slug INTO slug FROM agents_agent a WHERE a.id = NEW.agent_id;
        IF TG_OP = 'UPDATE' THEN
            PERFORM console_audit_write(NEW.revoked_by, 'key.revoked', coalesce(slug, ''), NEW.prefix, TG_RELID, NEW.id,
                jsonb_build_object('name', NEW.name));
            RETURN NULL;
        END IF;
        PERFORM console_audit_write(NEW.actor, 'key.issued', coalesce(slug, ''), NEW.prefix, TG_RELID, NEW.id,
            jsonb_build_object('name', NEW.name, 'scopes', NEW.scopes, 'tester', NEW.tester, 'expires_at', NEW.expires_at,
                'channel', (SELECT c.slug FROM agents_channel c WHERE c.id = NEW.channel_id)));
    """,
}
ONLY = {"guardrails_finding": "WHEN (NEW.action IN ('redact', 'block', 'escalate'))"}

SCOPE = """
CREATE FUNCTION console_audit_scope(scope_id bigint, OUT agent text, OUT name text) LANGUAGE sql STABLE AS $$
    SELECT a.slug, concat_ws('/', a.slug, c.slug, nullif(s.topic, '')) FROM agents_scope s
        JOIN agents_channel c ON c.id = s.channel_id JOIN agents_agent a ON a.id = c.agent_id WHERE s.id = scope_id
$$;
"""

REVOKED = """
CREATE CONSTRAINT TRIGGER console_audit_revoked AFTER UPDATE ON console_apikey DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL) EXECUTE FUNCTION console_audit_console_apikey();
"""


def watch(table: str, says: str) -> str:
    return f"""
    CREATE FUNCTION console_audit_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        slug text;
        scope text;
    BEGIN
        {says}
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER console_audit AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW {ONLY.get(table, "")} EXECUTE FUNCTION console_audit_{table}();
    """


def unwatch(table: str) -> str:
    return f"DROP TRIGGER console_audit ON {table}; DROP FUNCTION console_audit_{table}();"


class Migration(migrations.Migration):
    dependencies = [
        ("console", "0001_initial"),
        ("agents", "0002_append_only"),
        ("budgets", "0002_append_only"),
        ("escalations", "0002_append_only"),
        ("guardrails", "0002_append_only"),
    ]

    operations = [
        migrations.RunSQL(CHAIN, UNCHAIN),
        migrations.RunSQL(SCOPE, "DROP FUNCTION console_audit_scope(bigint);"),
        migrations.RunSQL("".join(watch(*source) for source in SOURCES.items()), "".join(map(unwatch, SOURCES))),
        migrations.RunSQL(REVOKED, "DROP TRIGGER console_audit_revoked ON console_apikey;"),
    ]
