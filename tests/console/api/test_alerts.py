"""Alerts through the REST door: looked at, filtered, acknowledged once."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from agents.models import Channel, Deployment, Release
from console.models import Alert, AlertChange
from tests.console.api.conftest import Api, Issue, code, publish, scope_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def alert(web: Channel, live: Release) -> Alert:
    scope = scope_of(web)
    alert = Alert.objects.create(
        rule="error_rate", scope=scope.name, agent="acme", channel="acme/web", severity="critical", state="firing",
        sentence="9 of 10 calls failed.", figures={"hits": 9}, seen_at=timezone.now(), fired_at=timezone.now(),
        deployment=scope.live(),
    )  # fmt: skip
    AlertChange.objects.create(alert=alert, from_state="pending", to_state="firing", actor="rule:error_rate")
    return alert


def test_it_names_the_release_that_changed(api: Api, alert: Alert) -> None:
    (shown,) = api.walk("alerts")
    assert (shown["rule"], shown["state"], shown["severity"]) == ("error_rate", "firing", "critical")
    assert (shown["release"], shown["rolled_back_to"]) == ("acme@r1", None)
    assert shown["release_changed_at"] is not None
    whole = api.get(f"alerts/{alert.pk}").json()
    assert {name: whole[name] for name in shown} == shown
    assert [(row["to_state"], row["actor"]) for row in whole["changes"]] == [("firing", "rule:error_rate")]


def test_a_rollback_by_the_rule_is_told(api: Api, web: Channel, alert: Alert) -> None:
    row = Deployment.objects.create(
        scope=scope_of(web), release=publish(web.agent, "Old"), kind="automatic_rollback", actor="rule:error_rate"
    )
    Alert.objects.filter(pk=alert.pk).update(rollback=row)
    assert api.get(f"alerts/{alert.pk}").json()["rolled_back_to"] == "acme@r2"


def test_it_is_acknowledged_once_in_the_name_of_the_key(api: Any, alert: Alert) -> None:
    answer = api.post(f"alerts/{alert.pk}/acknowledge", {"note": "On it"})
    assert answer.status_code == 200
    assert (answer.json()["state"], answer.json()["acknowledged_by"]) == ("acknowledged", f"key:{api.key.prefix}")
    assert answer.json()["changes"][0]["note"] == "On it"
    assert code(api.post(f"alerts/{alert.pk}/acknowledge")) == (409, "conflict")
    assert AlertChange.objects.count() == 2


def test_a_repeated_request_gets_the_same_answer(api: Api, alert: Alert) -> None:
    first, again = (api.post(f"alerts/{alert.pk}/acknowledge", {}, idempotency_key="a") for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()


def test_only_what_fires_is_acknowledged(api: Api, alert: Alert) -> None:
    Alert.objects.update(state="resolved", resolved_at=timezone.now())
    assert code(api.post(f"alerts/{alert.pk}/acknowledge")) == (409, "conflict")


def test_lists_are_filtered_paged_and_cheap(api: Api, alert: Alert, django_assert_max_num_queries: Any) -> None:
    for number in range(5):
        Alert.objects.create(rule="latency", scope=f"acme/{number}", sentence="x", seen_at=timezone.now())
    assert len(api.walk("alerts", limit=2)) == 6
    assert [row["rule"] for row in api.walk("alerts", state="firing")] == ["error_rate"]
    assert len(api.walk("alerts", rule="latency")) == 5
    assert [row["scope"] for row in api.walk("alerts", scope="acme/3")] == ["acme/3"]
    assert code(api.get("alerts", state="odd")) == (400, "invalid")
    with django_assert_max_num_queries(3):
        api.get("alerts")


def test_a_key_without_the_scope_does_not_acknowledge(issue: Issue, alert: Alert) -> None:
    assert code(issue("read").post(f"alerts/{alert.pk}/acknowledge")) == (403, "forbidden")
    assert Alert.objects.get().state == "firing"
