"""The screen of who is on call: what fires, what changed, who looks after it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from agents import releases
from agents.connections import redis_sync
from agents.models import Deployment, Release, Scope
from budgets.models import Budget
from budgets.periods import window
from console.models import Alert, AlertChange, AlertNotice

Person = Callable[..., Client]
pytestmark = pytest.mark.django_db


def make_alert(scope: Scope | None = None, state: str = "firing", **fields: Any) -> Alert:
    now = timezone.now()
    where = {"scope": scope.name, "agent": scope.agent.slug, "channel": str(scope.channel)} if scope else {}
    times = {"fired_at": now, **({"resolved_at": now} if state == "resolved" else {})}
    if state == "acknowledged":
        times |= {"acknowledged_at": now, "acknowledged_by": "user:ben"}
    given = {"rule": "error_rate", "severity": "critical", "sentence": "9 of 10 calls failed."}
    alert = Alert.objects.create(**{**given, "state": state, "seen_at": now, **times, **where, **fields})
    AlertChange.objects.create(alert=alert, to_state=state, actor="rule:error_rate", note="9 of 10 calls failed.")
    return alert


def html(client: Client, name: str, *arguments: Any) -> str:
    return client.get(reverse(name, args=arguments)).content.decode()


def test_what_fires_comes_first_and_what_never_fired_is_no_history(person: Person, scope: Scope) -> None:
    make_alert(scope, "resolved", sentence="It was slow.", rule="latency")
    make_alert(scope, "resolved", sentence="A passing cloud.", rule="latency", fired_at=None)
    make_alert(scope)
    page = html(person(), "alerts")
    assert "1 alert is firing" in page
    assert page.index("9 of 10 calls failed.") < page.index("It was slow.")
    assert "A passing cloud." not in page


def test_without_alerts_it_says_what_is_watched(person: Person, scope: Scope) -> None:
    page = html(person(), "alerts")
    assert "Nothing is firing" in page
    assert "No alert has fired yet" in page


def test_history_is_paged(person: Person, scope: Scope) -> None:
    for number in range(60):
        make_alert(scope, "resolved", sentence=f"Number {number}.")
    page = html(person(), "alerts")
    assert page.count('class="whole"') == 50
    assert "before=" in page


def test_it_names_the_release_that_changed_and_the_way_back(
    person: Person, scope: Scope, live: Release, publish: Callable[[str], Release]
) -> None:
    second = publish("Second")
    releases.deploy(scope, second, actor="user:ada", reason="Faster")
    alert = make_alert(scope, deployment=scope.live())
    page = html(person("administrator"), "alert", alert.pk)
    assert "r2 went live shortly before." in page
    assert reverse("rollback", args=[scope.pk]) in page
    assert "Roll back to r1" in page
    assert reverse("release", args=["acme", 2]) in page
    assert reverse("rollback", args=[scope.pk]) not in html(person("operations"), "alert", alert.pk)


def test_a_rollback_by_the_rule_is_said(
    person: Person, scope: Scope, live: Release, publish: Callable[[str], Release]
) -> None:
    releases.deploy(scope, publish("Second"), actor="user:ada")
    bad = scope.live()
    back = releases.roll_back(scope, actor="rule:error_rate", reason="20 of 20 failed.", automatic=True)
    alert = make_alert(scope, deployment=bad, rollback=back)
    client = person()
    assert "The rule took r2 back: r1 serves again." in html(client, "alert", alert.pk)
    assert "Rolled back to acme@r1." in html(client, "overview")


def test_an_old_deployment_is_not_blamed(person: Person, scope: Scope, live: Release) -> None:
    row = Deployment(scope=scope, release=live, actor="user:ada", at=timezone.now() - timedelta(days=2))
    row.save()
    alert = make_alert(scope, deployment=row)
    assert "went live shortly before" not in html(person(), "alert", alert.pk)


def test_operations_acknowledge_it_without_a_script_and_once(person: Person, scope: Scope) -> None:
    alert, client = make_alert(scope), person("operations", "ben")
    address = reverse("acknowledge", args=[alert.pk])
    assert address in html(client, "alerts")
    assert client.post(address, {"note": "On it"}).status_code == 302
    alert.refresh_from_db()
    assert (alert.state, alert.acknowledged_by) == ("acknowledged", "user:ben")
    change = alert.changes.get(to_state="acknowledged")
    assert (change.actor, change.note) == ("user:ben", "On it")
    again = client.post(address)
    assert again.status_code == 409
    assert "ben has acknowledged it already." in again.content.decode()
    assert address not in html(client, "alerts")


def test_a_viewer_sees_it_and_changes_nothing(person: Person, scope: Scope) -> None:
    alert, client = make_alert(scope), person("viewer")
    address = reverse("acknowledge", args=[alert.pk])
    assert address not in html(client, "alerts") + html(client, "alert", alert.pk)
    assert client.post(address).status_code == 403


def test_who_may_not_see_the_agent_finds_nothing(person: Person, scope: Scope, other_agent: Any) -> None:
    theirs = make_alert(Scope.objects.with_names().get(channel__agent=other_agent), sentence="Somebody else's.")
    client = person("administrator")
    assert client.get(reverse("alert", args=[theirs.pk])).status_code == 404
    assert client.post(reverse("acknowledge", args=[theirs.pk])).status_code == 404
    for name in ("alerts", "overview"):
        assert "Somebody else" not in html(client, name)
    assert Alert.objects.get().state == "firing"


def test_alerts_of_the_installation_are_for_who_sees_all_agents(person: Person, scope: Scope) -> None:
    alert = make_alert(rule="processes", sentence="No worker process runs.")
    assert person("administrator").get(reverse("alert", args=[alert.pk])).status_code == 404
    client = person("superuser")
    assert "the installation" in html(client, "alerts")
    assert client.post(reverse("acknowledge", args=[alert.pk])).status_code == 302


def test_the_menu_counts_and_the_overview_says_what_fires(person: Person, scope: Scope) -> None:
    alert, client = make_alert(scope), person()
    page = html(client, "overview")
    assert '<span class="count" data-tone="bad" title="firing">1</span>' in page
    assert "Error rate, acme/web: 9 of 10 calls failed." in page
    assert reverse("alert", args=[alert.pk]) in page
    Alert.objects.update(state="acknowledged", acknowledged_at=timezone.now(), acknowledged_by="user:ben")
    page = html(client, "overview")
    assert 'title="firing"' not in page
    assert "9 of 10 calls failed." not in page


def test_what_could_not_be_told_is_seen(person: Person, scope: Scope) -> None:
    alert = make_alert(scope)
    AlertNotice.objects.create(
        change=alert.changes.get(), payload={}, tries=3, due_at=timezone.now(), error="The callback answered 500."
    )
    page = html(person(), "alert", alert.pk)
    assert "Tries again" in page
    assert "The callback answered 500." in page
    AlertNotice.objects.update(due_at=None)
    assert "Given up" in html(person("viewer"), "alert", alert.pk)


def test_a_budget_that_fires_is_said_once(person: Person, scope: Scope) -> None:
    Budget.objects.open(actor="user:ada", owner_kind="channel", owner="acme/web", period="day", limit_nano=100)
    today = window("day", "UTC", timezone.now())
    redis_sync().hset(f"ph:b:channel:acme/web:{today.key}", mapping={"spent": 90})
    client = person()
    assert "Budget of acme/web" in html(client, "overview")
    alert = make_alert(scope, rule="spend_day", sentence="90 % of the limit is used.", severity="high")
    page = html(client, "overview")
    assert "Daily budget, acme/web: 90 % of the limit is used." in page
    assert "Budget of acme/web" not in page
    assert reverse("scope-stage", args=[scope.pk]) not in html(client, "alert", alert.pk)


def test_the_worst_comes_first(person: Person, scope: Scope) -> None:
    make_alert(scope)
    make_alert(scope, rule="latency", severity="high", sentence="It is slow.")
    client = person()
    for name in ("alerts", "overview"):
        page = html(client, name)
        assert page.index("9 of 10 calls failed.") < page.index("It is slow.")
