"""The tables: indexes that carry a hundred thousand rows, and migrations that go back."""

from __future__ import annotations

import re
import uuid

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import QuerySet
from django.utils import timezone

from escalations.models import Escalation
from tests.escalations.conftest import Put, Settle

MANY = 20_000


@pytest.fixture
def many(db: None) -> None:
    """Mostly decided, a few hundred open, over four scopes."""
    now = timezone.now()
    Escalation.objects.bulk_create(
        (
            Escalation(
                kind="case", agent="acme", scope=f"acme/web/{n % 4}", case_id=uuid.uuid4(), edge="no_answer",
                reason="r", priority=n % 4 + 1, state="decided" if n % 100 else "waiting",
                decided_at=now if n % 100 else None,
            )
            for n in range(MANY)
        ),
        batch_size=5_000,
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE escalations_escalation")


def indexes_of(rows: QuerySet[Escalation]) -> set[str]:
    plan = rows.explain()
    assert "Seq Scan" not in plan, plan
    return set(re.findall(r"(?:using|on) (escalations_\w+|\w+_pkey)", plan)) - {"escalations_escalation"}


def test_the_queue_is_read_from_an_index_of_what_is_open(many: None) -> None:
    everywhere, now = Escalation.objects.all(), timezone.now()
    theirs = everywhere.for_scopes(["acme/web/1", "acme/web/2"])
    for rows in (
        theirs.claimable(now).best_first()[:1],
        everywhere.claimable(now).best_first()[:100],
        everywhere.overdue(now)[:500],
    ):
        assert indexes_of(rows) <= {"escalations_queue", "escalations_of_scope"}


def test_a_case_and_what_is_done_today_are_read_from_their_indexes(many: None) -> None:
    assert indexes_of(Escalation.objects.open().of_case(uuid.uuid4())) == {"escalations_of_case"}
    assert indexes_of(Escalation.objects.decided_since(timezone.now())[:100]) == {"escalations_decided"}


def test_lists_ask_a_bounded_number_of_questions(
    put: Put, settle: Settle, anna: User, django_assert_num_queries: object
) -> None:
    begun = timezone.now()
    for _ in range(5):
        settle(put(), "approved")
    with django_assert_num_queries(1):  # type: ignore[operator]
        assert len(Escalation.objects.decided_by(anna, begun)[:100]) == 5


@pytest.mark.django_db(transaction=True)
def test_the_migrations_go_back_and_forth() -> None:
    try:
        call_command("migrate", "escalations", "0001_initial", verbosity=0)
    finally:
        call_command("migrate", verbosity=0)
    assert ("escalations", "0003_claimed_at") in MigrationRecorder(connection).applied_migrations()
