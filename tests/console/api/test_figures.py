"""Budgets with live balances, usage, calls, findings and the trail."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agents.connections import redis_sync
from agents.models import Channel
from budgets.models import Budget
from budgets.periods import window
from console import audit
from guardrails.models import FalsePositive, Finding
from guardrails.screen import Seen
from tests.console.api.conftest import Api, Issue, away, code
from tests.console.api.test_pages import make_call

NOW = timezone.now()


def test_budgets_show_what_is_spent_and_held_now(api: Api) -> None:
    Budget.objects.open(
        actor="user:ada",
        owner_kind="agent",
        owner="acme",
        period="day",
        limit_nano=5_000_000_000,
        timezone="Europe/Warsaw",
    )
    today = window("day", "Europe/Warsaw", timezone.now())
    redis_sync().hset(f"ph:b:agent:acme:{today.key}", mapping={"spent": 1_250_000_000, "held": 100})
    (budget,) = api.walk("budgets")
    assert (budget["limit_usd"], budget["spent_usd"], budget["held_usd"]) == (
        "5.000000000",
        "1.250000000",
        "0.000000100",
    )
    assert budget["resets_at"] == f"{today.ends:%Y-%m-%dT%H:%M:%SZ}"


def test_budgets_without_redis_are_a_degraded_service(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    from console.api.resources import figures

    Budget.objects.open(actor="user:ada", owner_kind="agent", owner="acme", period="day", limit_nano=1)
    monkeypatch.setattr(figures, "redis_sync", away)
    assert code(api.get("budgets")) == (503, "service_degraded")


def test_usage_is_grouped_and_never_counts_the_unknown_as_free(api: Api) -> None:
    make_call(model="big", cost_nano=3_000, input_tokens=10, output_tokens=5, key_prefix="ph_a")
    make_call(model="big", cost_nano=2_000, input_tokens=20, key_prefix="ph_b")
    make_call(model="odd", price="unknown", cost_nano=None, key_prefix="ph_a")
    make_call(at=NOW - timedelta(days=40), model="old")
    answer = api.get("usage", group_by="model").json()
    assert [(row["group"], row["calls"], row["cost_usd"], row["unpriced"]) for row in answer["results"]] == [
        ("big", 2, "0.000005000", 0),
        ("odd", 1, "0.000000000", 1),
    ]
    assert answer["results"][0]["input_tokens"] == 30
    keys = api.get("usage", group_by="key").json()["results"]
    assert {row["group"]: row["calls"] for row in keys} == {"ph_a": 2, "ph_b": 1}
    days = api.get("usage").json()["results"]
    assert [row["group"] for row in days] == [f"{NOW:%Y-%m-%d}"]


@pytest.mark.parametrize(
    "query",
    [
        {"group_by": "customer"},
        {"group_by": "pg_sleep(1)"},
        {"since": "yesterday"},
        {"since": "2020-01-01T00:00:00Z"},
        {"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
    ],
)
def test_usage_of_a_strange_span_or_group_is_refused(api: Api, query: dict[str, str]) -> None:
    assert code(api.get("usage", **query)) == (400, "invalid")


def test_calls_are_filtered_and_their_cost_is_a_string(api: Api) -> None:
    make_call(model="a", cost_nano=1_000_000_001)
    make_call(model="b", price="unknown", cost_nano=None, at=NOW - timedelta(days=1))
    assert [row["cost_usd"] for row in api.walk("calls", model="a")] == ["1.000000001"]
    assert [row["cost_usd"] for row in api.walk("calls", model="b")] == [None]
    since = (NOW - timedelta(hours=1)).isoformat()
    assert [row["model"] for row in api.walk("calls", since=since)] == ["a"]
    assert [row["model"] for row in api.walk("calls", until=since)] == ["b"]
    assert code(api.get("calls", since="x")) == (400, "invalid")
    assert code(api.get("calls", turn="x")) == (400, "invalid")


def test_findings_are_filtered(api: Api) -> None:
    for action in ("block", "redact"):
        seen: Any = Seen("r", "injection", action, "high", "en", "raw", 0, 1, "x")
        Finding.objects.record(
            [seen], agent="acme", scope="acme/web", stage="inbound", policy_hash="", actor="agent:acme"
        )
    assert [row["action"] for row in api.walk("findings", action="block")] == ["block"]
    assert [row["action"] for row in api.walk("findings", scope="acme/web", limit=1)] == ["redact", "block"]
    assert code(api.get("findings", action="kill")) == (400, "invalid")


def make_finding(agent: str = "acme", action: Any = "block", would: Any = "block") -> Finding:
    seen = Seen("r", "injection", action, "high", "en", "raw", 0, 1, "x", would)
    (found,) = Finding.objects.record(
        [seen], agent=agent, scope=f"{agent}/web", stage="inbound", policy_hash="", actor=f"agent:{agent}"
    )
    return found


def test_findings_say_what_a_rule_would_do_and_are_found_by_it(api: Api) -> None:
    make_finding()
    logged = make_finding(action="allow")
    assert [(row["id"], row["would"]) for row in api.walk("findings", action="allow", would="block")] == [
        (logged.pk, "block")
    ]
    assert api.walk("findings", rule="another") == []


def test_a_finding_is_called_harmless_once(api: Api) -> None:
    finding = make_finding()
    assert api.walk("findings")[0]["harmless"] is None
    first = api.post(f"findings/{finding.pk}/harmless", {"note": "A quotation."}).json()["harmless"]
    again = api.post(f"findings/{finding.pk}/harmless", {"note": "Something else."}).json()["harmless"]
    assert first == again == api.walk("findings")[0]["harmless"]
    assert first["note"] == "A quotation."
    assert first["actor"].startswith("key:")
    assert FalsePositive.objects.count() == 1


def test_a_finding_of_another_agent_cannot_be_called_harmless(issue: Issue, web: Channel) -> None:
    finding = make_finding("other")
    assert code(issue(agent=web.agent).post(f"findings/{finding.pk}/harmless")) == (404, "not_found")
    assert FalsePositive.objects.count() == 0


def test_the_trail_is_filtered_and_carries_its_hashes(api: Api) -> None:
    first = audit.record("user:ada", "person.signed_in", object="ada")
    audit.record("user:ben", "person.signed_in", object="ben")
    (entry,) = api.walk("audit", actor="user:ada", action="person.signed_in")
    assert (entry["sha256"], entry["previous"]) == (first.sha256, first.previous)
    assert [row["actor"] for row in api.walk("audit", object="ben")] == ["user:ben"]
