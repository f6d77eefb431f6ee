"""Real threads on real connections: whatever happens at once, one wins, and the others are told."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone

from escalations import outbox, queue
from escalations.models import Decision, Delivery, Escalation, Undo
from tests.escalations.conftest import Put, Settle

pytestmark = pytest.mark.django_db(transaction=True)
ROUNDS = 6
PATIENCE_S = 30


def at_once(acts: Sequence[Callable[[], Any]]) -> list[Any]:
    """All of them at the same moment, each on a connection of its own: what each returned or raised."""
    barrier, results = threading.Barrier(len(acts)), [None] * len(acts)

    def run(place: int, act: Callable[[], Any]) -> None:
        try:
            connection.ensure_connection()
            barrier.wait(PATIENCE_S)
            results[place] = act()
        except Exception as error:  # noqa: BLE001  the test looks at it
            results[place] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    return results


def kinds(results: Sequence[Any]) -> Counter[str]:
    return Counter(type(result).__name__ for result in results)


@pytest.fixture
def people(db: None) -> list[User]:
    return [User.objects.create_user(f"person{n}") for n in range(8)]


def test_eight_who_claim_the_same_get_it_once(put: Put, people: list[User]) -> None:
    for _ in range(ROUNDS):
        row = put()
        results = at_once([partial(queue.claim, row.pk, user) for user in people])
        assert kinds(results) == {"Claim": 1, "Taken": 7}
        [winner] = [result for result in results if isinstance(result, queue.Claim)]
        assert winner.token == 1
        holder = winner.escalation.claimed_by
        assert {result.holder for result in results if isinstance(result, queue.Taken)} == {holder and holder.username}


def test_eight_who_start_get_eight_different_ones(put: Put, people: list[User]) -> None:
    rows = {put(priority=n % 4 + 1).pk for n in range(8)}
    results = at_once([partial(queue.start, user, ["acme/web"]) for user in people])
    assert {result.escalation.pk for result in results} == rows


def test_eight_who_start_on_three_leave_five_with_nothing(put: Put, people: list[User]) -> None:
    for _ in range(3):
        put()
    results = at_once([partial(queue.start, user, ["acme/web"]) for user in people])
    assert kinds(results) == {"Claim": 3, "NoneType": 5}
    assert len({result.escalation.pk for result in results if result}) == 3


def test_one_person_in_two_windows_starts_the_same_or_another_but_never_fails(put: Put, anna: User) -> None:
    for _ in range(4):
        put()
    results = at_once([lambda: queue.start(anna, ["acme/web"])] * 4)
    assert kinds(results) <= Counter({"Claim": 4, "NoneType": 4})
    assert any(results)


def test_of_eight_decisions_under_one_claim_one_stands_and_seven_are_told_it(put: Put, anna: User) -> None:
    for _ in range(ROUNDS):
        row = put()
        claim = queue.claim(row.pk, anna)

        def decide(place: int, row: Escalation = row, claim: queue.Claim = claim) -> Decision:
            return queue.decide(
                row.pk, kind="answered", text=f"answer {place}", user=anna, token=claim.token, revision=claim.revision
            )

        results = at_once([partial(decide, place) for place in range(8)])
        assert kinds(results) == {"Decision": 1, "AlreadyDecided": 7}
        [standing] = [result for result in results if isinstance(result, Decision)]
        assert {result.decision for result in results if isinstance(result, queue.AlreadyDecided)} == {standing}
        assert (
            Decision.objects.filter(escalation=row).count()
            == Delivery.objects.filter(decision__escalation=row).count()
            == 1
        )


def test_a_person_and_the_deadline_never_both_decide(put: Put, anna: User) -> None:
    winners: Counter[str] = Counter()
    for _ in range(3 * ROUNDS):
        row = put(deadline=timezone.now() - timedelta(seconds=1), on_timeout="safe_refusal")
        claim = queue.claim(row.pk, anna)
        results = at_once(
            [
                lambda: queue.decide(row.pk, kind="approved", user=anna, token=claim.token, revision=1),  # noqa: B023
                queue.expire_due,
                queue.expire_due,
            ]
        )
        decision = Decision.objects.get(escalation=row)
        winners[decision.kind] += 1
        if decision.kind == "approved":
            assert results == [decision, 0, 0]
        else:
            assert isinstance(results[0], queue.AlreadyDecided)
            assert (results[0].decision, sum(results[1:])) == (decision, 1)
            assert (decision.user, decision.actor) == (None, "rule:low_confidence@7")


def test_a_person_and_a_withdrawal_never_both_decide(put: Put, anna: User) -> None:
    for _ in range(ROUNDS):
        row = put()
        claim = queue.claim(row.pk, anna)
        decided, withdrawn = at_once(
            [
                lambda: queue.decide(row.pk, kind="approved", user=anna, token=claim.token, revision=1),  # noqa: B023
                lambda: queue.withdraw(row.case_id, actor="agent:acme"),  # noqa: B023
            ]
        )
        decision = Decision.objects.get(escalation=row)
        assert (decision.kind, withdrawn) in {("approved", 0), ("withdrawn", 1)}
        assert isinstance(decided, Decision) == (decision.kind == "approved")


def test_a_decision_and_a_new_message_an_approval_never_covers_what_was_not_read(put: Put, anna: User) -> None:
    for _ in range(ROUNDS):
        row = put()
        claim = queue.claim(row.pk, anna)
        decided, superseded = at_once(
            [
                lambda: queue.decide(row.pk, kind="approved", user=anna, token=claim.token, revision=1),  # noqa: B023
                lambda: queue.supersede(row.case_id, "Wait, do not send it!"),  # noqa: B023
            ]
        )
        assert isinstance(decided, Decision if superseded == 0 else queue.Superseded)
        row.refresh_from_db()
        assert row.revision == 1 + superseded


def test_a_withdrawal_and_a_new_message_end_in_a_withdrawal(put: Put) -> None:
    for _ in range(ROUNDS):
        row = put()
        withdrawn, _ = at_once(
            [
                lambda: queue.withdraw(row.case_id, actor="agent:acme"),  # noqa: B023
                lambda: queue.supersede(row.case_id, "Never mind, keep it."),  # noqa: B023
            ]
        )
        row.refresh_from_db()
        assert (withdrawn, row.state) == (1, "decided")
        standing = row.standing()
        assert standing is not None
        assert standing.kind == "withdrawn"


def test_an_undo_and_a_sender_never_both_win(put: Put, settle: Settle, anna: User, settings: Any) -> None:
    settings.DECISION_HOLD_SECONDS = 60.0
    for _ in range(ROUNDS):
        decision = settle(put(), "approved")
        delivery = decision.delivery
        undone, sent = at_once([lambda: queue.undo(decision.pk, anna), lambda: outbox.mark_sent(delivery)])  # noqa: B023
        delivery.refresh_from_db()
        assert (delivery.state, sent) in {("cancelled", False), ("sent", True)}
        assert isinstance(undone, queue.Refused) == sent
        assert Undo.objects.filter(decision=decision).exists() == (not sent)


def test_four_undos_of_one_decision_reopen_it_once(put: Put, settle: Settle, anna: User, settings: Any) -> None:
    settings.DECISION_HOLD_SECONDS = 60.0
    row = put()
    decision = settle(row, "approved")
    results = at_once([lambda: queue.undo(decision.pk, anna)] * 4)
    assert kinds(results) == {"Escalation": 1, "Refused": 3}
    row.refresh_from_db()
    assert (row.state, row.revision) == ("claimed", 2)


def test_of_four_senders_one_sends(put: Put, settle: Settle) -> None:
    delivery = settle(put(), "approved").delivery
    assert sorted(at_once([lambda: outbox.mark_sent(delivery)] * 4)) == [False, False, False, True]


def test_a_process_that_dies_while_deciding_leaves_the_claim_and_nothing_else(put: Put, anna: User) -> None:
    row = put()
    claim = queue.claim(row.pk, anna)

    def die() -> None:
        with transaction.atomic():
            queue.decide(row.pk, kind="approved", user=anna, token=claim.token, revision=1)
            connection.connection.close()  # the server rolls back, as it does when a process is killed

    at_once([die])
    assert not Decision.objects.exists()
    assert queue.decide(row.pk, kind="approved", user=anna, token=claim.token, revision=1).kind == "approved"


def test_a_lapsed_holder_and_the_next_never_both_decide(put: Put, anna: User, ben: User) -> None:
    for _ in range(ROUNDS):
        row = put()
        old = queue.claim(row.pk, anna)
        Escalation.objects.filter(pk=row.pk).update(lease_until=timezone.now() - timedelta(seconds=1))

        def take_and_decide(pk: uuid.UUID = row.pk) -> Decision:
            mine = queue.claim(pk, ben)
            return queue.decide(pk, kind="answered", text="ben", user=ben, token=mine.token, revision=mine.revision)

        results = at_once(
            [
                lambda: queue.decide(row.pk, kind="answered", text="anna", user=anna, token=old.token, revision=1),  # noqa: B023
                take_and_decide,
            ]
        )
        assert kinds(results)["Decision"] == 1
        assert Decision.objects.filter(escalation=row).count() == 1
