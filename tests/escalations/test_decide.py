"""Deciding: what each decision needs, what it covers, and how it is taken back."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, InternalError, connection, transaction
from django.utils import timezone

from escalations import queue
from escalations.models import Decision, Delivery, Escalation, Undo
from tests.escalations.conftest import REFUND, Put, Settle

pytestmark = pytest.mark.django_db


@pytest.fixture
def held(settings: Any) -> None:
    """Decisions wait ten seconds, as in production."""
    settings.DECISION_HOLD_SECONDS = 10.0


def test_approving_sends_the_draft(put: Put, settle: Settle, anna: User) -> None:
    decision = settle(put(), "approved", text="something else")
    assert (decision.text, decision.actor, decision.user, decision.seen_draft) == (
        "It leaves today.",
        "user:anna",
        anna,
        True,
    )


def test_a_case_with_a_draft_can_be_approved_too(put: Put, settle: Settle) -> None:
    assert settle(put(kind="case"), "approved").text == "It leaves today."


def test_editing_sends_the_persons_text(put: Put, settle: Settle) -> None:
    assert settle(put(), "edited", text=" It leaves\r\ntomorrow.\x00 ").text == "It leaves\ntomorrow."


def test_rejecting_keeps_its_reason(put: Put, settle: Settle) -> None:
    decision = settle(put(), "rejected", reason_code="policy", note="We do not promise dates.")
    assert (decision.text, decision.reason_code, decision.note) == ("", "policy", "We do not promise dates.")


def test_answering_needs_no_draft(put: Put, settle: Settle) -> None:
    decision = settle(put(draft=""), "answered", text="Tomorrow.")
    assert (decision.text, decision.seen_draft) == ("Tomorrow.", False)


@pytest.mark.parametrize(
    ("fields", "kind", "words", "sentence"),
    [
        ({"draft": ""}, "approved", {}, "no draft to approve"),
        ({"blind": True}, "approved", {}, "no draft to approve"),
        ({"blind": True}, "edited", {"text": "x"}, "no draft to approve or edit"),
        ({}, "edited", {}, "differs from the draft"),
        ({}, "edited", {"text": " It leaves today. "}, "differs from the draft"),
        ({}, "rejected", {}, "asks for a reason"),
        ({}, "rejected", {"reason_code": "mood"}, "no reason mood"),
        ({}, "answered", {"text": "  "}, "Write the answer"),
        ({}, "returned", {}, "Say what the agent should do"),
        ({}, "answered", {"text": "x" * 20_001}, "At most 20,000"),
        ({}, "expired_no_response", {}, "no decision expired_no_response"),
        ({}, "withdrawn", {}, "no decision withdrawn"),
        ({}, "liked", {}, "no decision liked"),
        ({"action": REFUND}, "edited", {}, "JSON object"),
        ({"action": REFUND}, "edited", {"arguments": {"order": "A-1", "amount": 400}}, "do not fit"),
        ({"action": REFUND}, "edited", {"arguments": {"amount": 40.0, "order": "A-1"}}, "differ from the proposed"),
    ],
)
def test_says_what_a_decision_lacks_and_changes_nothing(
    put: Put, settle: Settle, fields: dict[str, Any], kind: str, words: dict[str, Any], sentence: str
) -> None:
    row = put(**fields)
    with pytest.raises(queue.Invalid, match=sentence):
        settle(row, kind, **words)
    row.refresh_from_db()
    assert row.state == "claimed"
    assert not Decision.objects.exists()


def test_a_person_decides_only_what_they_claimed(put: Put, anna: User, ben: User) -> None:
    row = put()
    with pytest.raises(queue.Taken, match="had none"):
        queue.decide(row.pk, kind="approved", user=anna, token=0, revision=1)
    claim = queue.claim(row.pk, anna)
    with pytest.raises(queue.Taken, match="anna has it"):
        queue.decide(row.pk, kind="approved", user=ben, token=claim.token, revision=1)
    with pytest.raises(queue.Taken):
        queue.decide(row.pk, kind="approved", actor="key:ph_1", token=claim.token, revision=1)


@pytest.mark.parametrize("actor", ["", "user:anna"])
def test_a_decision_without_a_person_needs_a_name_that_is_no_persons(put: Put, actor: str) -> None:
    row = put()
    claim = queue.claim(row.pk, None)
    with pytest.raises(queue.Refused, match="name"):
        queue.decide(row.pk, kind="approved", actor=actor, token=claim.token, revision=1)


def test_the_second_decision_is_told_the_first(put: Put, settle: Settle, anna: User) -> None:
    row = put()
    first = settle(row, "approved")
    with pytest.raises(queue.AlreadyDecided) as told:
        queue.decide(row.pk, kind="rejected", reason_code="fact", user=anna, token=1, revision=1)
    assert told.value.decision == first
    assert Decision.objects.count() == 1


def test_an_approved_action_is_bound_to_the_hash_of_its_arguments(refund: Escalation, settle: Settle) -> None:
    decision = settle(refund, "approved")
    assert decision.arguments == {"order": "A-1", "amount": 40}
    assert decision.action_hash == refund.action_hash == queue.arguments_hash({"amount": 40, "order": "A-1"})


def test_arguments_that_changed_behind_the_approval_are_refused(refund: Escalation, settle: Settle) -> None:
    changed = {**(refund.action or {}), "arguments": {"order": "A-1", "amount": 90}}
    Escalation.objects.filter(pk=refund.pk).update(action=changed)
    with pytest.raises(queue.Refused, match="not those"):
        settle(refund, "approved")


def test_edited_arguments_get_a_hash_of_their_own(refund: Escalation, settle: Settle) -> None:
    decision = settle(refund, "edited", arguments={"order": "A-1", "amount": 20})
    assert decision.arguments == {"order": "A-1", "amount": 20}
    assert decision.action_hash == queue.arguments_hash({"order": "A-1", "amount": 20}) != refund.action_hash


def test_a_rejected_action_carries_no_arguments(refund: Escalation, settle: Settle) -> None:
    decision = settle(refund, "rejected", reason_code="action")
    assert (decision.arguments, decision.action_hash) == (None, "")


def test_goes_back_to_the_agent_twice_and_no_more(put: Put, settle: Settle) -> None:
    case = uuid.uuid4()
    for _ in range(2):
        settle(put(case_id=case), "returned", text="Name the price.")
    third = put(case_id=case)
    assert third.returned == 2
    with pytest.raises(queue.Refused, match="a person answers now"):
        settle(third, "returned", text="Again.")
    assert put().returned == 0


def test_what_was_decided_blind_is_recorded_as_unseen(put: Put, settle: Settle) -> None:
    assert settle(put(blind=True), "answered", text="Tomorrow.").seen_draft is False


def test_a_blind_draft_counts_as_seen_after_an_undo(put: Put, settle: Settle, anna: User, held: None) -> None:
    row = put(blind=True)
    first = settle(row, "answered", text="Tomorrow.")
    queue.undo(first.pk, anna)
    assert settle(row, "answered", text="Today.").seen_draft is True


def test_the_time_it_took_counts_from_the_claim_whatever_the_heartbeats(put: Put, anna: User) -> None:
    row = put()
    claim = queue.claim(row.pk, anna)
    Escalation.objects.filter(pk=row.pk).update(claimed_at=timezone.now() - timedelta(seconds=90))
    queue.heartbeat(row.pk, anna, claim.token)
    decision = queue.decide(row.pk, kind="approved", user=anna, token=claim.token, revision=1)
    assert decision.seconds == pytest.approx(90, abs=5)


def test_decision_and_outbox_row_are_one_transaction(put: Put, settle: Settle, monkeypatch: pytest.MonkeyPatch) -> None:
    row = put()

    def broken(**fields: Any) -> None:
        raise OSError

    monkeypatch.setattr(Delivery.objects, "create", broken)
    with pytest.raises(OSError):
        settle(row, "approved")
    row.refresh_from_db()
    assert row.state == "claimed"
    assert not Decision.objects.exists()


def test_a_decision_waits_in_the_outbox(put: Put, settle: Settle, held: None) -> None:
    decision = settle(put(), "approved")
    assert decision.delivery.state == "held"
    assert decision.delivery.due_at == decision.at + timedelta(seconds=10)


def test_undoing_cancels_the_delivery_and_reopens_under_a_new_revision(
    put: Put, settle: Settle, anna: User, held: None
) -> None:
    row = put()
    decision = settle(row, "approved")
    reopened = queue.undo(decision.pk, anna)
    decision.delivery.refresh_from_db()
    assert decision.delivery.state == "cancelled"
    assert (decision.undo.actor, reopened.state, reopened.revision, reopened.claimed_by) == (
        "user:anna",
        "claimed",
        2,
        anna,
    )
    assert reopened.standing() is None
    assert settle(row, "rejected", reason_code="fact").revision == 2
    assert Decision.objects.filter(escalation=row).count() == 2


def test_undoing_twice_is_refused(put: Put, settle: Settle, anna: User, held: None) -> None:
    decision = settle(put(), "approved")
    queue.undo(decision.pk, anna)
    with pytest.raises(queue.Refused, match="too late"):
        queue.undo(decision.pk, anna)
    assert Undo.objects.count() == 1


def test_nobody_undoes_what_has_left(put: Put, settle: Settle, anna: User) -> None:
    row = put()
    decision = settle(row, "approved")
    with pytest.raises(queue.Refused, match="too late"):
        queue.undo(decision.pk, anna)
    assert row.standing() is None  # the row at hand is old
    row.refresh_from_db()
    assert row.standing() == decision


def test_nobody_undoes_somebody_elses_decision(put: Put, settle: Settle, ben: User, held: None) -> None:
    decision = settle(put(), "approved")
    with pytest.raises(queue.Refused, match="Only who decided"):
        queue.undo(decision.pk, ben)


def test_an_undone_return_does_not_count(put: Put, settle: Settle, anna: User, held: None) -> None:
    row = put()
    decision = settle(row, "returned", text="Name the price.")
    queue.undo(decision.pk, anna)
    assert put(case_id=row.case_id).returned == 0


@pytest.mark.parametrize("table", ["escalations_decision", "escalations_undo"])
def test_the_database_keeps_decisions_as_they_are(put: Put, settle: Settle, anna: User, held: None, table: str) -> None:
    queue.undo(settle(put(), "approved").pk, anna)
    for statement in (f"UPDATE {table} SET actor = 'x'", f"DELETE FROM {table}"):
        with (
            pytest.raises((IntegrityError, InternalError), match="append-only"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)


def test_the_database_takes_no_silence_as_a_persons_decision(put: Put, anna: User) -> None:
    row = put()
    for blended in ({"user": anna, "actor": "rule:x"}, {"actor": "user:anna"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Decision.objects.create(escalation=row, revision=1, kind="expired_no_response", **blended)


def test_the_database_takes_one_decision_a_revision(put: Put, settle: Settle) -> None:
    row = put()
    settle(row, "approved")
    with pytest.raises(IntegrityError), transaction.atomic():
        Decision.objects.create(escalation=row, revision=1, kind="rejected", actor="key:x")
