"""Budgets as people set them, and the rows that say who did."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import DatabaseError, IntegrityError, connection, transaction

from budgets.ledger import Limit
from budgets.models import MAX_NANO, Budget, BudgetChange

pytestmark = pytest.mark.django_db


def fields(**other: Any) -> dict[str, Any]:
    return {"owner_kind": "channel", "owner": "acme/web", "period": "day", "limit_nano": 5 * 10**9, **other}


@pytest.fixture
def budget() -> Budget:
    return Budget.objects.open(actor="user:ada", reason="A first limit.", **fields(timezone="Europe/Warsaw"))


def test_opening_a_budget_says_who_set_it(budget: Budget) -> None:
    row = budget.changes.get()
    assert (row.actor, row.reason, row.before) == ("user:ada", "A first limit.", {})
    assert row.after["limit_nano"] == 5 * 10**9
    assert row.after["owner"] == "acme/web"


def test_the_ledger_gets_what_it_checks(budget: Budget) -> None:
    assert budget.limit() == Limit("channel:acme/web", "day", "Europe/Warsaw", 5 * 10**9, budget.pk)
    whole = Budget(owner_kind="organisation", period="month", limit_nano=1)
    assert whole.limit().key == "organisation:"


def test_changing_a_limit_writes_before_and_after(budget: Budget) -> None:
    row = budget.change(actor="user:bo", reason="Campaign.", limit_nano=7 * 10**9, mode="strict")
    assert row is not None
    assert (row.before, row.after) == ({"limit_nano": 5 * 10**9}, {"limit_nano": 7 * 10**9})
    assert (row.actor, row.reason) == ("user:bo", "Campaign.")
    assert budget.limit_nano == Budget.objects.get().limit_nano == 7 * 10**9


def test_changing_nothing_writes_nothing(budget: Budget) -> None:
    assert budget.change(actor="user:bo", limit_nano=5 * 10**9) is None
    assert budget.changes.count() == 1


def test_a_stale_copy_does_not_write_a_false_before(budget: Budget) -> None:
    stale = Budget.objects.get()
    budget.change(actor="user:ada", limit_nano=1)
    row = stale.change(actor="user:bo", limit_nano=2)
    assert row is not None
    assert row.before == {"limit_nano": 1}


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit_nano": -1},
        {"limit_nano": MAX_NANO + 1},
        {"limit_nano": "much"},
        {"timezone": "Mars/Olympus"},
        {"timezone": "../etc/passwd"},
        {"mode": "generous"},
        {"owner": "other"},
        {"period": "month"},
    ],
)
def test_a_change_that_breaks_a_rule_leaves_everything_as_it_was(budget: Budget, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        budget.change(actor="user:bo", **wrong)
    assert budget.limit() == Budget.objects.get().limit()
    assert budget.changes.count() == 1


def test_a_limit_of_nothing_is_a_limit() -> None:
    assert Budget.objects.open(actor="user:ada", **fields(limit_nano=0)).limit().limit_nano == 0


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"limit_nano": -1}, "limit_sane"),
        ({"limit_nano": MAX_NANO + 1}, "limit_sane"),
        ({"period": "week"}, "period_known"),
        ({"owner_kind": "planet"}, "owner_known"),
        ({"mode": "lavish"}, "mode_known"),
        ({"owner": ""}, "organisation_has_no_owner"),
        ({"owner_kind": "organisation"}, "organisation_has_no_owner"),
    ],
)
def test_the_database_refuses_what_no_row_may_say(wrong: dict[str, Any], name: str) -> None:
    with pytest.raises(IntegrityError, match=f"budgets_budget_{name}"), transaction.atomic():
        Budget.objects.create(**fields(**wrong))


def test_an_owner_has_one_budget_for_a_period(budget: Budget) -> None:
    with pytest.raises(ValidationError, match="already"):
        Budget.objects.open(actor="user:bo", **fields())
    with pytest.raises(IntegrityError, match="once_per_period"), transaction.atomic():
        Budget.objects.create(**fields())
    Budget.objects.open(actor="user:bo", **fields(period="month"))


def test_a_change_names_its_actor(budget: Budget) -> None:
    with pytest.raises(IntegrityError, match="actor_named"), transaction.atomic():
        budget.change(actor="", limit_nano=1)
    assert Budget.objects.get().limit_nano == 5 * 10**9


def test_budgets_are_found_by_their_owners(budget: Budget) -> None:
    own = Budget.objects.open(actor="user:ada", **fields(owner_kind="key", owner="ph_1", active=False))
    Budget.objects.open(actor="user:ada", **fields(owner="acme/mail"))
    wanted = Budget.objects.of(("channel", "acme/web"), ("key", "ph_1"))
    assert set(wanted) == {budget, own}
    assert set(wanted.active()) == {budget}
    assert not Budget.objects.of()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE budgets_budgetchange SET actor = 'user:eve'",
        "DELETE FROM budgets_budgetchange",
        "SET CONSTRAINTS ALL IMMEDIATE; SET LOCAL pilothouse.allow_truncate = 'off'; TRUNCATE budgets_budgetchange",
    ],
)
def test_changes_are_never_changed(budget: Budget, statement: str) -> None:
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert BudgetChange.objects.get().actor == "user:ada"


def test_a_budget_that_was_changed_cannot_be_deleted(budget: Budget) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        budget.delete()
