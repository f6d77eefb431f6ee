"""The costs page: what it adds up, what it compares, where it leads, and what it hands over as a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from agents import calls
from agents.connections import redis_sync
from agents.models import Scope
from budgets import ledger
from budgets.models import Budget, Invoice
from tests import world

Person = Callable[..., Client]
pytestmark = pytest.mark.django_db
DOLLAR = 10**9
NOW = datetime.now(UTC)


call = partial(
    world.entry, at=NOW, release="acme@r1", tier="small", input_tokens=1_000, output_tokens=200, latency_ms=250,
    cost_nano=DOLLAR, charged_nano=DOLLAR, largest_nano=5 * DOLLAR,
)  # fmt: skip


@pytest.fixture
def spent(scope: Scope) -> None:
    calls.write([
        call(), call(model="big", tier="large", cost_nano=4 * DOLLAR, largest_nano=4 * DOLLAR),
        call(scope="acme/web/billing", at=(NOW - timedelta(days=3)).isoformat(), cost_nano=2 * DOLLAR),
        call(price="unknown", cost_nano="", largest_nano="", model="odd"),
        call(model="=cmd|' /C calc'!A0", cost_nano=1),
        call(agent="other", channel="other/web", scope="other/web", release="other@r1", cost_nano=90 * DOLLAR),
    ])  # fmt: skip


def html(client: Client, **query: str) -> str:
    answer = client.get(reverse("costs"), query)
    assert answer.status_code == 200
    return answer.content.decode()


def table(client: Client, **query: str) -> dict[str, dict[str, str]]:
    answer = client.get(reverse("costs"), {**query, "format": "csv"})
    assert answer["content-type"].startswith("text/csv")
    rows = csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode()))  # type: ignore[attr-defined]
    return {next(iter(row.values())): row for row in rows}


def test_adds_up_by_whatever_is_asked_for(person: Person, spent: None, scope: Scope) -> None:
    client = person("viewer")
    by_model = table(client, period="7", by="model")
    assert by_model["total"]["cost_usd"] == "7.000000001"
    assert by_model["small"]["calls"] == "2"
    assert (by_model["odd"]["cost_usd"], by_model["odd"]["unpriced_calls"]) == ("", "1")
    for by in ("agent", "channel", "scope", "topic", "tier", "release", "key"):
        assert table(client, period="7", by=by)["total"]["cost_usd"] == "7.000000001"
    assert set(table(client, period="7", by="topic")) == {"", "billing", "total"}
    assert table(client, period="today", by="model")["total"]["cost_usd"] == "5.000000001"


def test_says_what_the_router_saved(person: Person, spent: None) -> None:
    shown = html(person("administrator"), period="7", by="model", agent="acme")
    assert "the router saved <strong>$12.00</strong>" in shown


def test_opens_a_group_and_filters_by_it(person: Person, spent: None) -> None:
    client = person("administrator")
    assert table(client, period="7", by="model", scope="acme/web/billing")["total"]["cost_usd"] == "2.000000000"
    assert table(client, period="7", by="model", topic="-", agent="acme")["total"]["cost_usd"] == "5.000000001"
    assert table(client, period="7", by="scope", model="big")["total"]["cost_usd"] == "4.000000000"


def test_anothers_agent_is_neither_in_the_sums_nor_a_filter(person: Person, spent: None, scope: Scope) -> None:
    world.make_agent("other")
    client = person("viewer")
    assert "$90" not in html(client, period="7", by="agent")
    for name, value in (("agent", "other"), ("channel", "other/web"), ("scope", "other/web"), ("release", "other@r1")):
        assert client.get(reverse("costs"), {name: value}).status_code == 404


def test_a_cell_that_a_spreadsheet_would_run_is_made_harmless(person: Person, spent: None) -> None:
    assert "'=cmd|' /C calc'!A0" in table(person("administrator"), period="7", by="model")


def test_says_so_when_there_is_nothing(person: Person, scope: Scope) -> None:
    shown = html(person("administrator"), period="today")
    assert "No calls in this time." in shown
    assert "all priced" in shown


def test_a_budget_says_when_it_will_be_spent_at_this_pace(person: Person, spent: None) -> None:
    Budget.objects.open(actor="user:ada", owner_kind="agent", owner="acme", period="day", limit_nano=10_000 * DOLLAR)
    Budget.objects.open(actor="user:ada", owner_kind="organisation", owner="", period="month", limit_nano=DOLLAR)
    shown = html(person("administrator"))
    assert "How full are the budgets?" in shown
    assert "at the pace of the last" in shown


def test_an_invoice_is_compared_model_by_model(person: Person, spent: None) -> None:
    day = f"{NOW:%Y-%m-%d}"
    content = f"model,amount,day\nsmall,1.00,{day}\nbig,4.50,{day}\nghost,3,{day}\n"
    client = person("superuser")
    answer = client.post(reverse("invoices"), {"text": content})
    kept = Invoice.objects.first()
    assert kept is not None, answer.content.decode()
    shown = client.get(reverse("invoice", args=[kept.pk])).content.decode()
    assert "big" in shown
    assert "ghost" in shown
    assert "+12.5" in shown


def test_invoices_are_for_administrators(person: Person, scope: Scope) -> None:
    for role in ("viewer", "operations"):
        assert person(role).get(reverse("invoices")).status_code == 403


def test_a_budget_that_is_set_at_noon_knows_what_the_morning_cost(
    person: Person, spent: None, django_capture_on_commit_callbacks: Any
) -> None:
    fields = {"owner_kind": "agent", "owner": "acme", "period": "day", "timezone": "UTC", "limit": "100"}
    with django_capture_on_commit_callbacks(execute=True):
        made = person("superuser").post(
            reverse("settings-new-budget"), {**fields, "mode": "strict", "active": "on", "reason": ""}
        )
    assert made.status_code == 302
    budget = Budget.objects.get()
    found = ledger.balances(redis_sync(), [budget.limit()])[budget.limit()]
    assert found.spent_nano == 4 * DOLLAR, "what was charged, also for the call without a price"
