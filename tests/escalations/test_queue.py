"""The review queue: who gets what, and that it cannot be taken from them."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from escalations import queue
from escalations.models import Escalation
from tests.escalations.conftest import REFUND, Put, Settle

pytestmark = pytest.mark.django_db
SCOPES = ["acme/web"]


def lapse(escalation: Escalation) -> None:
    """The lease has run out."""
    Escalation.objects.filter(pk=escalation.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


def test_starts_with_the_most_urgent_then_the_nearest_deadline_then_the_oldest(put: Put, anna: User) -> None:
    now = timezone.now()
    oldest = put(created_at=now - timedelta(hours=9))
    older = put(created_at=now - timedelta(hours=8))
    later = put(deadline=now + timedelta(hours=2))
    sooner = put(deadline=now + timedelta(hours=1))
    urgent = put(priority=1)
    taken = []
    for _ in range(5):
        claim = queue.start(anna, SCOPES)
        assert claim is not None
        taken.append(claim.escalation.pk)
        queue.decide(
            claim.escalation.pk,
            kind="rejected",
            reason_code="fact",
            user=anna,
            token=claim.token,
            revision=claim.revision,
        )
    assert taken == [urgent.pk, sooner.pk, later.pk, oldest.pk, older.pk]


def test_starting_gives_back_what_one_has_already(put: Put, anna: User) -> None:
    mine = put(priority=4)
    queue.claim(mine.pk, anna)
    put(priority=1)
    claim = queue.start(anna, (name for name in SCOPES))
    assert claim is not None
    assert claim.escalation == mine


def test_starts_nothing_when_nothing_waits_in_ones_scopes(put: Put, anna: User) -> None:
    put(scope="other/mail")
    assert queue.start(anna, SCOPES) is None
    assert queue.start(anna, []) is None


def test_a_claim_is_one_persons(put: Put, anna: User, ben: User) -> None:
    row = put()
    queue.claim(row.pk, anna)
    with pytest.raises(queue.Taken, match="anna has it") as told:
        queue.claim(row.pk, ben)
    assert told.value.holder == "anna"


def test_claiming_again_renews_the_lease_under_the_same_token(put: Put, anna: User) -> None:
    row = put()
    first, second = queue.claim(row.pk, anna), queue.claim(row.pk, anna)
    assert first.token == second.token
    assert second.lease_until > first.lease_until


def test_a_lapsed_claim_goes_to_the_next_who_asks_and_the_token_grows(put: Put, anna: User, ben: User) -> None:
    row = put()
    first = queue.claim(row.pk, anna)
    lapse(row)
    second = queue.claim(row.pk, ben)
    assert second.token > first.token
    with pytest.raises(queue.Taken, match="ben has it"):
        queue.heartbeat(row.pk, anna, first.token)
    with pytest.raises(queue.Taken, match="ben has it"):
        queue.decide(row.pk, kind="approved", user=anna, token=first.token, revision=1)


def test_a_lapsed_claim_still_decides_while_nobody_else_took_it(put: Put, anna: User) -> None:
    row = put()
    claim = queue.claim(row.pk, anna)
    lapse(row)
    assert queue.decide(row.pk, kind="approved", user=anna, token=claim.token, revision=1).text == "It leaves today."


def test_a_heartbeat_extends_the_lease(put: Put, anna: User) -> None:
    row = put()
    claim = queue.claim(row.pk, anna)
    assert queue.heartbeat(row.pk, anna, claim.token) > claim.lease_until


def test_a_released_claim_waits_again(put: Put, anna: User, ben: User) -> None:
    row = put()
    claim = queue.claim(row.pk, anna)
    queue.release(row.pk, anna, claim.token)
    assert queue.claim(row.pk, ben).token > claim.token


def test_nobody_releases_what_is_somebody_elses(put: Put, anna: User, ben: User) -> None:
    row = put()
    claim = queue.claim(row.pk, anna)
    with pytest.raises(queue.Taken):
        queue.release(row.pk, ben, claim.token)


def test_a_snoozed_one_comes_back_when_its_time_has_come(put: Put, anna: User) -> None:
    row = put()
    claim = queue.claim(row.pk, anna)
    queue.snooze(row.pk, anna, claim.token, timezone.now() + timedelta(hours=1))
    assert queue.start(anna, SCOPES) is None
    lapse(row)
    assert queue.start(anna, SCOPES) is not None


@pytest.mark.parametrize("hours", [-1, 24 * 8])
def test_snoozing_has_bounds(put: Put, anna: User, hours: int) -> None:
    row = put()
    claim = queue.claim(row.pk, anna)
    with pytest.raises(queue.Invalid):
        queue.snooze(row.pk, anna, claim.token, timezone.now() + timedelta(hours=hours))


def test_claiming_what_is_decided_gets_the_decision(put: Put, ben: User, settle: Settle) -> None:
    row = put()
    decision = settle(row, "approved")
    with pytest.raises(queue.AlreadyDecided) as told:
        queue.claim(row.pk, ben)
    assert told.value.decision == decision


def test_an_api_caller_claims_without_a_user_and_decides_with_the_token(put: Put) -> None:
    row = put()
    claim = queue.claim(row.pk, None)
    with pytest.raises(queue.Taken):
        queue.claim(row.pk, None)
    until = queue.heartbeat(row.pk, None, claim.token)
    assert until >= claim.lease_until
    decision = queue.decide(row.pk, kind="approved", actor="key:ph_1", token=claim.token, revision=1)
    assert (decision.actor, decision.user) == ("key:ph_1", None)


def test_lists_in_the_domains_words(put: Put, anna: User, ben: User, settle: Settle) -> None:
    now = timezone.now()
    waiting, late, claimed, decided = put(), put(deadline=now - timedelta(minutes=1)), put(), put()
    put(scope="other/mail")
    queue.claim(claimed.pk, ben)
    settle(decided, "approved")
    rows = Escalation.objects.for_scopes(SCOPES)
    assert set(rows.claimable()) == {waiting, late}
    assert set(rows.open()) == {waiting, late, claimed}
    assert set(rows.overdue(now)) == {late}
    assert set(rows.claimed_by(ben)) == {claimed}
    assert set(rows.decided_since(now)) == {decided}
    assert set(rows.decided_by(anna, now)) == {decided}
    assert not rows.decided_by(ben, now)


def test_an_action_gets_the_hash_of_its_arguments(put: Put) -> None:
    row = put(action={"name": "refund", "arguments": {"order": "A-1", "amount": 40.0}})
    assert row.action_hash == queue.arguments_hash({"amount": 40, "order": "A-1"})


def test_an_action_that_does_not_fit_its_schema_is_not_put_before_people(put: Put) -> None:
    with pytest.raises(queue.Invalid, match="do not fit"):
        put(action={**REFUND, "arguments": {"order": "A-1"}})
    assert not Escalation.objects.exists()


def test_parallel_actions_are_rows_of_their_own(put: Put) -> None:
    case = uuid.uuid4()
    assert put(action=REFUND, case_id=case).pk != put(action=REFUND, case_id=case).pk


def test_withdrawing_ends_everything_open_of_the_case_once(put: Put, anna: User, settle: Settle) -> None:
    case = uuid.uuid4()
    waiting, claimed, decided = put(case_id=case), put(case_id=case), put(case_id=case)
    queue.claim(claimed.pk, anna)
    settle(decided, "approved")
    elsewhere = put()
    assert queue.withdraw(case, actor="agent:acme", note="the customer left") == 2
    assert queue.withdraw(case, actor="agent:acme") == 0
    for row in (waiting, claimed):
        row.refresh_from_db()
        standing = row.standing()
        assert standing is not None
        assert (standing.kind, standing.actor, standing.note) == ("withdrawn", "agent:acme", "the customer left")
    elsewhere.refresh_from_db()
    assert elsewhere.state == "waiting"


def test_a_new_message_voids_what_is_on_screen(put: Put, anna: User) -> None:
    row = put()
    claim = queue.claim(row.pk, anna)
    assert queue.supersede(row.case_id, "And one more thing: it is urgent.") == 1
    with pytest.raises(queue.Superseded, match="wrote again"):
        queue.decide(row.pk, kind="approved", user=anna, token=claim.token, revision=claim.revision)
    again = queue.claim(row.pk, anna)
    assert again.escalation.evidence["history_after"] == [
        {"who": "customer", "text": "And one more thing: it is urgent."}
    ]
    assert queue.decide(row.pk, kind="approved", user=anna, token=again.token, revision=again.revision).revision == 2


def test_a_mere_thanks_is_shown_and_voids_nothing(put: Put, anna: User) -> None:
    row = put()
    claim = queue.claim(row.pk, anna)
    assert queue.supersede(row.case_id, "ok, thanks!") == 0
    decision = queue.decide(row.pk, kind="approved", user=anna, token=claim.token, revision=claim.revision)
    assert decision.escalation.evidence["history_after"][0]["text"] == "ok, thanks!"


def test_a_new_message_does_not_touch_a_proposed_action(refund: Escalation) -> None:
    assert queue.supersede(refund.case_id, "Hello?") == 0


@pytest.mark.parametrize(
    ("on_timeout", "line"), [("holding_message", "colleague has your message"), ("safe_refusal", "could not settle")]
)
def test_silence_ends_as_expired_and_is_the_rules_not_a_persons(
    put: Put, anna: User, on_timeout: str, line: str
) -> None:
    row = put(deadline=timezone.now() - timedelta(seconds=1), on_timeout=on_timeout)
    queue.claim(row.pk, anna)
    assert queue.expire_due() == 1
    assert queue.expire_due() == 0
    row.refresh_from_db()
    decision = row.standing()
    assert decision is not None
    assert (decision.kind, decision.actor, decision.user) == ("expired_no_response", "rule:low_confidence@7", None)
    assert line in decision.text


def test_the_line_at_the_deadline_is_in_the_customers_language(put: Put) -> None:
    row = put(deadline=timezone.now() - timedelta(seconds=1), on_timeout="safe_refusal", language="pl")
    queue.expire_due()
    assert row.decisions.get().text.startswith("Przykro nam")


def test_in_shadow_silence_says_nothing_to_the_customer(put: Put) -> None:
    row = put(deadline=timezone.now() - timedelta(seconds=1), on_timeout="holding_message", blind=True)
    queue.expire_due()
    assert row.decisions.get().text == ""


def test_what_keeps_waiting_rises_to_the_top_and_is_never_decided(put: Put) -> None:
    row = put(deadline=timezone.now() - timedelta(seconds=1), on_timeout="keep_waiting", priority=4)
    assert queue.expire_due() == 0
    row.refresh_from_db()
    assert (row.state, row.priority) == ("waiting", 1)


def test_what_is_not_yet_due_is_left_alone(put: Put) -> None:
    row = put(deadline=timezone.now() + timedelta(minutes=1), on_timeout="safe_refusal")
    assert queue.expire_due() == 0
    assert queue.expire_due(timezone.now() + timedelta(minutes=2)) == 1
    assert row.decisions.count() == 1
