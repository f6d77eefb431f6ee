"""The trail writes itself, cannot be changed, and proves it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents import releases
from agents.models import Agent, Channel, Deployment, Release, Scope, StageChange
from budgets.models import Budget
from console import audit
from console.models import ApiKey, AuditEntry
from escalations import edges, queue
from guardrails import screen
from guardrails.models import Finding
from guardrails.screen import Seen

pytestmark = pytest.mark.django_db
ACTOR = "user:ada"


@pytest.fixture
def scope() -> Scope:
    agent = Agent.objects.create(slug="acme", name="Acme", languages=["en"])
    channel = Channel.objects.create(agent=agent, slug="web", name="Web")
    return Scope.objects.create(channel=channel, topic="billing", stage="narrow")


@pytest.fixture
def publish(scope: Scope) -> Callable[[str], Release]:
    def publish(prompt: str) -> Release:
        contents: dict[str, Any] = {
            "prompt": {"text": prompt},
            "knowledge": {"documents": []},
            "models": {"models": {"local/extractive": {}}, "tiers": {"small": ["local/extractive"]}},
            "guardrails": screen.DEFAULT_POLICY,
            "edges": edges.DEFAULT_POLICY,
        }
        parts = {
            kind: releases.add_version(scope.agent, kind, content, author=ACTOR) for kind, content in contents.items()
        }
        return releases.publish(scope.agent, parts, author=ACTOR, note=prompt)

    return publish


def committed() -> None:
    """Let the deferred triggers run, as a commit would."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")


def trail() -> list[tuple[str, str, str]]:
    committed()
    return [(entry.actor, entry.action, entry.object) for entry in AuditEntry.objects.order_by("id")]


def tamper(sql: str, *values: Any) -> None:
    """What somebody with the owner's rights on the database could do."""
    committed()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE console_auditentry DISABLE TRIGGER append_only")
        cursor.execute(sql, values)
        cursor.execute("ALTER TABLE console_auditentry ENABLE TRIGGER append_only")


def test_publishing_and_deploying_leave_entries_of_their_own(scope: Scope, publish: Callable[[str], Release]) -> None:
    first, second = publish("One"), publish("Two")
    releases.deploy(scope, first, actor=ACTOR, reason="Begin")
    releases.deploy(scope, second, actor="key:ph_abc", percent=10)
    releases.roll_back(scope, actor=ACTOR)
    assert trail() == [
        *[(ACTOR, "version.created", f"acme {kind} v1") for kind in Release.PARTS],
        (ACTOR, "release.published", "acme@r1"),
        (ACTOR, "version.created", "acme prompt v2"),
        (ACTOR, "release.published", "acme@r2"),
        (ACTOR, "deployment.deploy", "acme/web/billing"),
        ("key:ph_abc", "deployment.canary", "acme/web/billing"),
        (ACTOR, "deployment.rollback", "acme/web/billing"),
    ]
    entry = AuditEntry.objects.filter(action="deployment.canary").get()
    assert entry.agent == "acme"
    row = Deployment.objects.get(percent=10).pk
    assert entry.detail == {"table": "agents_deployment", "row": row, "release": "acme@r2", "percent": 10, "reason": ""}


def test_a_release_keeps_its_canary_word_out_of_the_trail(publish: Callable[[str], Release]) -> None:
    release = publish("One")
    committed()
    assert not any(release.canary in str(entry.detail) for entry in AuditEntry.objects.all())


def test_a_decision_and_its_undo_are_written_without_the_words(scope: Scope, settings: Any) -> None:
    settings.DECISION_HOLD_SECONDS = 60
    anna = User.objects.create_user("anna")
    escalation = queue.add(
        kind="draft",
        agent="acme",
        scope=scope.name,
        case_id="0" * 32,
        edge="low_confidence",
        reason="Unsure",
        draft="Hello",
    )
    claim = queue.claim(escalation.pk, anna)
    decision = queue.decide(
        escalation.pk, user=anna, token=claim.token, revision=1, kind="edited", text="Hello, Mrs Kowalska", note="Tone"
    )
    queue.undo(decision.pk, anna)
    assert trail() == [
        ("user:anna", "decision.edited", str(escalation.pk)),
        ("user:anna", "decision.undone", str(escalation.pk)),
    ]
    detail = AuditEntry.objects.earliest("id").detail
    assert "Kowalska" not in str(detail)
    assert detail["text_sha256"] == hashlib.sha256(b"Hello, Mrs Kowalska").hexdigest()


@pytest.mark.parametrize(("action", "written"), [("allow", 0), ("redact", 1), ("block", 1), ("escalate", 1)])
def test_findings_that_did_something_are_written(action: Any, written: int) -> None:
    seen = Seen("prompt_extraction", "injection", action, "high", "en", "raw", 0, 5, "hello")
    Finding.objects.record([seen], agent="acme", scope="acme/web", stage="inbound", policy_hash="x", actor="agent:acme")
    assert len(trail()) == written


def test_budget_changes_say_from_what_to_what() -> None:
    budget = Budget.objects.open(actor=ACTOR, owner_kind="channel", owner="acme/web", period="day", limit_nano=5)
    budget.change(actor="user:ben", limit_nano=7, reason="Peak")
    assert trail() == [
        (ACTOR, "budget.opened", "channel acme/web day"),
        ("user:ben", "budget.changed", "channel acme/web day"),
    ]
    entry = AuditEntry.objects.latest("id")
    assert (entry.agent, entry.detail["before"], entry.detail["after"]) == (
        "acme",
        {"limit_nano": 5},
        {"limit_nano": 7},
    )


def test_keys_are_written_when_issued_and_revoked_but_never_their_secret(scope: Scope) -> None:
    key, secret = ApiKey.issue(name="Shop", actor=ACTOR, scopes=["turns"], agent=scope.agent, channel=scope.channel)
    key.last_used_at = timezone.now()
    key.save()
    ApiKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now(), revoked_by="user:ben")
    assert trail() == [(ACTOR, "key.issued", key.prefix), ("user:ben", "key.revoked", key.prefix)]
    assert not any(secret in str(entry.detail) or key.sha256 in str(entry.detail) for entry in AuditEntry.objects.all())


def test_stage_changes_are_written(scope: Scope) -> None:
    StageChange.objects.create(
        scope=scope, from_stage="narrow", to_stage="shadow", actor="system:watch", reason="Incidents"
    )
    assert trail() == [("system:watch", "stage.changed", "acme/web/billing")]


def test_what_is_rolled_back_leaves_no_entry() -> None:
    def sign_in() -> None:
        audit.record(ACTOR, "person.signed_in")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        transaction.atomic(sign_in)()
    assert trail() == []


def test_events_of_the_console_are_recorded_in_the_same_chain() -> None:
    first = audit.record(ACTOR, "person.signed_in")
    second = audit.record(ACTOR, "calls.exported", agent="acme", object="calls", detail={"rows": 3})
    assert first.previous == audit.GENESIS
    assert second.previous == first.sha256
    assert audit.verify() == audit.Proof(2, second.sha256)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE console_auditentry SET actor = 'user:eve'",
        "DELETE FROM console_auditentry",
        "TRUNCATE console_auditentry",
    ],
)
def test_entries_are_never_changed_or_deleted(statement: str) -> None:
    audit.record(ACTOR, "person.signed_in")
    with connection.cursor() as cursor, transaction.atomic():
        cursor.execute("SET LOCAL pilothouse.allow_truncate = 'off'")
        with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
            cursor.execute(statement)
    assert AuditEntry.objects.get().actor == ACTOR


def test_nobody_can_insert_an_entry_with_a_place_time_or_hash_of_their_own() -> None:
    audit.record(ACTOR, "person.signed_in")
    AuditEntry.objects.create(id=1_000_000, actor="user:eve", action="x", previous="f" * 64, sha256="e" * 64)
    assert AuditEntry.objects.latest("id").pk < 1_000_000
    assert audit.verify().broken is None


def test_many_entries_of_one_statement_are_chained() -> None:
    AuditEntry.objects.bulk_create([AuditEntry(actor=ACTOR, action=f"n{number}") for number in range(50)])
    assert audit.verify() == audit.Proof(50, AuditEntry.objects.latest("id").sha256)


awkward = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    awkward,
    awkward,
    st.dictionaries(awkward, st.one_of(awkward, st.floats(allow_nan=False, allow_infinity=False), st.none())),
)
def test_python_computes_the_hash_that_the_database_wrote(actor: str, name: str, detail: dict[str, Any]) -> None:
    audit.record(actor, "x", object=name, detail=detail)
    assert audit.verify().broken is None


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("UPDATE console_auditentry SET actor = 'user:eve' WHERE action = 'n2'", "was changed"),
        ("UPDATE console_auditentry SET detail = '{\"rows\": 4}' WHERE action = 'n2'", "was changed"),
        ("UPDATE console_auditentry SET at = at - interval '1 day' WHERE action = 'n2'", "was changed"),
        ("DELETE FROM console_auditentry WHERE action = 'n2'", "does not follow"),
    ],
)
def test_verifying_names_the_first_broken_entry_and_fails(sql: str, says: str) -> None:
    entries = [audit.record(ACTOR, f"n{number}") for number in range(4)]
    tamper(sql)
    broken = entries[3] if sql.startswith("DELETE") else entries[2]
    with pytest.raises(CommandError, match=f"after 2 good entries. Entry {broken.pk} .*{says}"):
        call_command("audit_verify")


def test_cutting_the_end_off_is_found_by_the_rows_that_lost_their_entries(scope: Scope) -> None:
    Budget.objects.open(actor=ACTOR, owner_kind="agent", owner="acme", period="day", limit_nano=5)
    tamper("DELETE FROM console_auditentry")
    with pytest.raises(CommandError, match="of budgets_budgetchange has no entry"):
        call_command("audit_verify")


def test_a_chain_that_was_rewritten_as_a_whole_lacks_the_anchor() -> None:
    audit.record(ACTOR, "n1")
    out = StringIO()
    call_command("audit_verify", stdout=out)
    anchor = out.getvalue().split()[-1]
    audit.record(ACTOR, "n2")
    call_command("audit_verify", anchor=anchor, stdout=StringIO())
    tamper("DELETE FROM console_auditentry")
    audit.record("user:eve", "n1")
    call_command("audit_verify", stdout=StringIO())
    with pytest.raises(CommandError, match="rewritten"):
        call_command("audit_verify", anchor=anchor)


def test_an_unbroken_trail_is_said_with_its_length() -> None:
    audit.record(ACTOR, "n1")
    out = StringIO()
    call_command("audit_verify", stdout=out)
    assert out.getvalue().startswith("1 entries, unbroken. Head ")


@pytest.mark.django_db(transaction=True)
def test_transactions_side_by_side_make_one_chain() -> None:
    def work(number: int) -> None:
        try:
            for turn in range(5):
                with transaction.atomic():
                    Budget.objects.open(
                        actor=ACTOR, owner_kind="agent", owner=f"a{number}-{turn}", period="day", limit_nano=1
                    )
                audit.record(f"user:u{number}", "person.signed_in")
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    proof = audit.verify()
    assert (proof.entries, proof.broken) == (80, None)
