"""One click and a reason raise a limit for a while; who may, what is shown, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from agents import snapshot
from agents.models import Scope
from budgets.models import Budget, BudgetIncrease
from console.models import AuditEntry
from tests.console.test_audit import committed

Person = Callable[..., Client]
DOLLAR = 10**9
GRANT = {"amount": "1.5", "until": "4", "reason": "Sale"}
pytestmark = pytest.mark.django_db


def make(**fields: Any) -> Budget:
    given = {"owner_kind": "channel", "owner": "acme/web", "period": "day", "limit_nano": 5 * DOLLAR}
    return Budget.objects.open(actor="user:ada", **{**given, **fields})


@pytest.fixture
def budget(scope: Scope) -> Budget:
    return make()


def grant(client: Client, budget: Budget, **fields: str) -> Any:
    return client.post(reverse("raise", args=[budget.pk]), {**GRANT, **fields})


def html(client: Client) -> str:
    return client.get(reverse("costs")).content.decode()


def test_an_administrator_grants_it_and_everybody_sees_it(
    person: Person, budget: Budget, django_capture_on_commit_callbacks: Any
) -> None:
    client = person("administrator", "ada")
    before = snapshot.epoch()
    with django_capture_on_commit_callbacks(execute=True):
        assert grant(client, budget).status_code == 302
    assert snapshot.epoch() == before + 1
    row = BudgetIncrease.objects.get()
    assert (row.nano, row.actor, row.reason) == (1_500_000_000, "user:ada", "Sale")
    assert timedelta(hours=3.9) < row.until - timezone.now() <= timedelta(hours=4)
    assert "$6.50" in html(client)
    assert "+$1.50 until" in html(person("viewer"))
    limit = snapshot.load(0).scopes["acme/web"].limits[0]
    assert limit.at(row.until.timestamp() - 1) == 6_500_000_000
    assert limit.at(row.until.timestamp()) == 5_000_000_000


def test_it_stands_in_the_audit_trail_and_so_does_its_end(person: Person, budget: Budget) -> None:
    client = person("administrator", "ada")
    grant(client, budget)
    assert client.post(reverse("end-raise", args=[budget.pk])).status_code == 302
    committed()
    entries = list(AuditEntry.objects.filter(action__startswith="budget.raise").order_by("id"))
    assert [(one.action, one.actor, one.agent, one.object) for one in entries] == [
        ("budget.raised", "user:ada", "acme", "channel acme/web day"),
        ("budget.raise_ended", "user:ada", "acme", "channel acme/web day"),
    ]
    assert entries[0].detail["reason"] == "Sale"
    assert Budget.objects.get().limit_now() == 5 * DOLLAR


def test_the_window_is_an_end_too(person: Person, budget: Budget) -> None:
    grant(person("administrator"), budget, until="window")
    ends = BudgetIncrease.objects.get().until
    assert (ends.hour, ends.minute) == (0, 0)
    assert ends > timezone.now()


@pytest.mark.parametrize(
    "fields",
    [
        *({"amount": amount} for amount in ("5.01", "0", "-1", "x", "1e30", "")),
        *({"until": until} for until in ("9000", "")),
        {"reason": " "},
    ],
)
def test_what_is_out_of_bounds_is_said_and_kept(person: Person, budget: Budget, fields: dict[str, str]) -> None:
    answer = grant(person("administrator"), budget, **fields)
    assert answer.status_code == 422
    assert "Not granted" in answer.content.decode()
    assert not BudgetIncrease.objects.exists()


def test_the_second_of_two_clicks_is_told(person: Person, budget: Budget) -> None:
    client = person("administrator")
    grant(client, budget)
    answer = grant(client, budget)
    assert answer.status_code == 422
    assert "in force already" in answer.content.decode()
    assert BudgetIncrease.objects.count() == 1


def test_ending_twice_ends_once(person: Person, budget: Budget) -> None:
    client = person("administrator")
    grant(client, budget)
    for _ in range(2):
        assert client.post(reverse("end-raise", args=[budget.pk])).status_code == 302
    assert BudgetIncrease.objects.count() == 2


def test_operations_may_where_the_budget_says_so(person: Person, budget: Budget) -> None:
    client = person("operations")
    assert grant(client, budget).status_code == 403
    assert reverse("raise", args=[budget.pk]) not in html(client)
    budget.change(actor="user:ada", operations_may_raise=True)
    assert reverse("raise", args=[budget.pk]) in html(client)
    assert grant(client, budget).status_code == 302
    assert person("viewer").post(reverse("end-raise", args=[budget.pk])).status_code == 403
    assert client.post(reverse("end-raise", args=[budget.pk])).status_code == 302


def test_budgets_of_others_and_of_the_house_do_not_exist(person: Person, other_agent: Any, scope: Scope) -> None:
    client = person("administrator")
    for budget in (make(owner="other/web"), make(owner_kind="organisation", owner=""), make(active=False)):
        assert grant(client, budget).status_code == 404
        assert client.post(reverse("end-raise", args=[budget.pk])).status_code == 404
    assert not BudgetIncrease.objects.exists()


def test_the_organisations_needs_an_administrator_of_all(person: Person, scope: Scope) -> None:
    budget = make(owner_kind="organisation", owner="", operations_may_raise=True)
    assert grant(person("superuser"), budget).status_code == 302


def test_looking_changes_nothing(person: Person, budget: Budget) -> None:
    client = person("administrator")
    page = client.get(reverse("raise", args=[budget.pk]))
    assert page.status_code == 200
    assert 'value="1.25"' in page.content.decode()
    assert client.get(reverse("end-raise", args=[budget.pk])).status_code == 405
    assert not BudgetIncrease.objects.exists()
