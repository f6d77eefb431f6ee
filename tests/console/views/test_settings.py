from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from agents import snapshot
from agents.models import Agent, Channel, Scope
from budgets.models import Budget
from console.models import ApiKey, Membership

Person = Callable[..., Client]
pytestmark = pytest.mark.django_db
CHANNEL = {
    "slug": "mail",
    "name": "E-mail",
    "kind": "email",
    "timezone": "Europe/Warsaw",
    "sla_first_response_s": 60,
    "sla_next_response_s": 60,
    "sla_review_s": 60,
    "sla_resolution_s": 60,
    "hours": "mon 09:00-12:00 13:00-17:00\nsat 10:00-14:00",
}


def test_an_agent_and_a_channel_are_made_in_two_forms(
    person: Person, django_capture_on_commit_callbacks: Callable[..., object]
) -> None:
    client, before = person("superuser"), snapshot.epoch()
    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[attr-defined]
        client.post(reverse("settings-new-agent"), {"slug": "shop", "name": "Shop", "languages": "en, PL"})
        client.post(reverse("settings-new-channel", args=["shop"]), CHANNEL)
    assert Agent.objects.get(slug="shop").languages == ["en", "pl"]
    channel = Channel.objects.get(slug="mail")
    assert channel.business_hours == {"mon": [["09:00", "12:00"], ["13:00", "17:00"]], "sat": [["10:00", "14:00"]]}
    assert [scope.stage for scope in channel.scopes.all()] == ["pilot"]
    assert snapshot.epoch() == before + 2


@pytest.mark.parametrize(
    "change",
    [{"hours": "monday all day"}, {"hours": "mon 17:00-09:00"}, {"timezone": "Mars/Base"}, {"slug": "Not a slug"}],
)
def test_a_channel_that_makes_no_sense_is_not_saved_and_says_why(
    change: dict[str, str], person: Person, agent: Agent
) -> None:
    response = person("administrator").post(reverse("settings-new-channel", args=["acme"]), {**CHANNEL, **change})
    assert response.status_code == 422
    assert "errorlist" in response.content.decode()
    assert not Channel.objects.filter(slug="mail").exists()


def test_the_same_channel_or_topic_twice_is_told(person: Person, agent: Agent) -> None:
    client = person("administrator")
    for _ in range(2):
        response = client.post(reverse("settings-new-channel", args=["acme"]), CHANNEL)
    assert response.status_code == 422
    assert "of that name" in response.content.decode()
    topic = {"channel": Channel.objects.get(slug="mail").pk, "topic": "billing"}
    for _ in range(2):
        response = client.post(reverse("settings-new-scope", args=["acme"]), topic)
    assert response.status_code == 422
    assert Scope.objects.filter(topic="billing").count() == 1


def test_a_key_is_shown_once_and_revoked(person: Person, agent: Agent) -> None:
    client = person("administrator")
    page = client.post(reverse("settings-keys"), {"name": "Shop", "agent": agent.pk, "scopes": ["turns"]})
    key = ApiKey.objects.get()
    secret = page.context["secret"]
    assert ApiKey.digest(secret) == key.sha256
    assert secret in page.content.decode()
    assert "no-store" in page["cache-control"]
    assert secret not in client.get(reverse("settings-keys")).content.decode()
    client.post(reverse("settings-revoke", args=[key.pk]))
    key.refresh_from_db()
    assert not key.usable()
    assert key.revoked_by == "user:administrator"


def test_an_agents_administrator_makes_no_key_for_everything_or_for_others(
    person: Person, agent: Agent, other_agent: Agent
) -> None:
    client = person("administrator")
    for reach in ({}, {"agent": other_agent.pk}):
        assert client.post(reverse("settings-keys"), {"name": "x", "scopes": ["turns"], **reach}).status_code == 422
    foreign, _secret = ApiKey.issue(name="theirs", actor="user:x", scopes=["read"], agent=other_agent)
    assert client.post(reverse("settings-revoke", args=[foreign.pk])).status_code == 404
    assert not ApiKey.objects.filter(agent=None).exists()


def test_people_get_and_lose_roles(person: Person, agent: Agent) -> None:
    client = person("superuser")
    client.post(
        reverse("settings-people"),
        {"username": "zoe", "password": "a long password", "role": "operations", "agent": agent.pk},
    )
    membership = Membership.objects.get(user__username="zoe")
    assert membership.role == "operations"
    assert membership.user.check_password("a long password")
    assert client.post(reverse("settings-people"), {"username": "new", "role": "viewer"}).status_code == 422
    assert (
        client.post(reverse("settings-people"), {"username": "new", "password": "short", "role": "viewer"}).status_code
        == 422
    )
    client.post(reverse("settings-withdraw", args=[membership.pk]))
    assert not Membership.objects.filter(user__username="zoe").exists()


def test_nobody_takes_a_superusers_password(person: Person) -> None:
    client = person("superuser")
    Membership.objects.create(user=User.objects.create_user("boss"), agent=None, role="administrator")
    boss = Client()
    boss.force_login(User.objects.get(username="boss"))
    assert (
        boss.post(
            reverse("settings-people"), {"username": "superuser", "password": "a long password", "role": "viewer"}
        ).status_code
        == 422
    )
    assert client.get(reverse("settings-people")).status_code == 200


def test_a_budget_changes_with_its_reason_written_down(person: Person, agent: Agent) -> None:
    budget = Budget.objects.create(owner_kind="agent", owner="acme", period="day", limit_nano=10**9)
    client = person("administrator")
    client.post(
        reverse("settings-budget", args=[budget.pk]),
        {"limit": "12.5", "mode": "strict", "active": "on", "reason": "Christmas"},
    )
    budget.refresh_from_db()
    change = budget.changes.get()
    assert budget.limit_nano == 12_500_000_000
    assert (change.actor, change.reason, change.before["limit_nano"]) == ("user:administrator", "Christmas", 10**9)
    assert "Christmas" in client.get(reverse("settings-budgets")).content.decode()
    for limit in ("-1", "x", "99999999999"):
        assert (
            client.post(reverse("settings-budget", args=[budget.pk]), {"limit": limit, "mode": "strict"}).status_code
            == 422
        )


def test_a_new_budget_is_the_installations_to_set(person: Person) -> None:
    fields = {
        "owner_kind": "organisation",
        "owner": "",
        "period": "month",
        "timezone": "UTC",
        "limit": "100",
        "mode": "strict",
        "active": "on",
    }
    assert person("administrator").post(reverse("settings-new-budget"), fields).status_code == 403
    client = person("superuser")
    client.post(reverse("settings-new-budget"), fields)
    assert Budget.objects.get().limit_nano == 100 * 10**9
    assert client.post(reverse("settings-new-budget"), fields).status_code == 422


def test_others_budgets_do_not_exist(person: Person) -> None:
    budget = Budget.objects.create(owner_kind="agent", owner="other", period="day", limit_nano=1)
    assert person("administrator").get(reverse("settings-budget", args=[budget.pk])).status_code == 404
