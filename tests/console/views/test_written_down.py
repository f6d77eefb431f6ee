"""What people do in the settings and at the door stands in the audit trail, without anybody's password."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from agents.models import Agent, Scope
from console.models import AuditEntry, Membership
from tests.console.views.test_settings import CHANNEL

Person = Callable[..., Client]
pytestmark = pytest.mark.django_db
WORDS = "correct horse battery"


def trail(prefix: str = "") -> list[tuple[str, str, str, str]]:
    rows = AuditEntry.objects.filter(action__startswith=prefix).order_by("id")
    return [(row.actor, row.action, row.agent, row.object) for row in rows]


def test_signing_in_and_out(client: Client) -> None:
    User.objects.create_user("anna", password=WORDS)
    client.post(reverse("sign-in"), {"username": "anna", "password": WORDS})
    client.post(reverse("sign-out"))
    assert trail() == [
        ("user:anna", "person.signed_in", "", "anna"),
        ("user:anna", "person.signed_out", "", "anna"),
    ]
    assert AuditEntry.objects.earliest("id").detail == {"from": "127.0.0.1"}


def test_who_was_not_let_in(client: Client) -> None:
    User.objects.create_user("anna", password=WORDS)
    client.post(reverse("sign-in"), {"username": "anna", "password": "wrong horse"})
    client.post(reverse("sign-in"), {"username": WORDS, "password": "x\x00"})
    assert trail() == [("system:sign-in", "person.refused", "", "anna"), ("system:sign-in", "person.refused", "", "")]
    assert "horse" not in str(list(AuditEntry.objects.values()))


def test_roles_given_changed_and_withdrawn(person: Person, agent: Agent) -> None:
    client = person("superuser", "ada")
    for role, password in (("viewer", WORDS), ("operations", "")):
        client.post(
            reverse("settings-people"), {"username": "ben", "password": password, "role": role, "agent": agent.pk}
        )
    client.post(reverse("settings-withdraw", args=[Membership.objects.get().pk]))
    client.post(reverse("settings-withdraw", args=[999_999]))
    assert trail("role") == [
        ("user:ada", "role.given", "acme", "ben"),
        ("user:ada", "role.given", "acme", "ben"),
        ("user:ada", "role.withdrawn", "acme", "ben"),
    ]
    first, second, last = (row.detail for row in AuditEntry.objects.filter(action__startswith="role").order_by("id"))
    assert first == {"before": None, "role": "viewer", "new": True, "password_set": True}
    assert second == {"before": "viewer", "role": "operations", "new": False, "password_set": False}
    assert last == {"role": "operations"}
    assert WORDS not in str(list(AuditEntry.objects.values()))


def test_a_role_for_all_agents_belongs_to_none(person: Person) -> None:
    person("superuser", "ada").post(
        reverse("settings-people"), {"username": "ben", "password": WORDS, "role": "viewer", "agent": ""}
    )
    assert trail("role") == [("user:ada", "role.given", "", "ben")]


def test_the_kill_switch_is_written_once_for_each_turn_of_it(person: Person, agent: Agent) -> None:
    client = person("administrator", "ada")
    for paused in ("yes", "yes", "no"):
        client.post(reverse("pause", args=["acme"]), {"paused": paused})
    assert trail("agent") == [
        ("user:ada", "agent.paused", "acme", "acme"),
        ("user:ada", "agent.resumed", "acme", "acme"),
    ]


def test_agents_and_channels_say_from_what_to_what(person: Person, agent: Agent) -> None:
    client = person("administrator", "ada")
    channel = agent.channels.get()
    client.post(reverse("settings-agent", args=["acme"]), {"name": "Acme Shop", "languages": "en, pl"})
    client.post(
        reverse("settings-channel", args=["acme", channel.pk]),
        {**CHANNEL, "kind": "chat", "name": channel.name, "sla_review_s": 60},
    )
    client.post(reverse("settings-new-scope", args=["acme"]), {"channel": channel.pk, "topic": "billing"})
    assert trail() == [
        ("user:ada", "agent.changed", "acme", "acme"),
        ("user:ada", "channel.changed", "acme", "acme/web"),
        ("user:ada", "scope.created", "acme", "acme/web/billing"),
    ]
    of_agent, of_channel, _ = AuditEntry.objects.order_by("id")
    assert of_agent.detail == {"before": {"name": "Acme"}, "after": {"name": "Acme Shop"}}
    assert of_channel.detail["before"]["sla_review_s"] == 900
    assert of_channel.detail["after"]["sla_review_s"] == 60
    assert "kind" not in of_channel.detail["after"]


def test_what_is_made_is_written_and_what_is_refused_is_not(person: Person, agent: Agent) -> None:
    client = person("superuser", "ada")
    client.post(reverse("settings-new-agent"), {"slug": "shop", "name": "Shop", "languages": "en"})
    client.post(reverse("settings-new-agent"), {"slug": "shop", "name": "Shop", "languages": "en"})
    client.post(reverse("settings-new-channel", args=["acme"]), CHANNEL)
    client.post(reverse("settings-new-channel", args=["acme"]), CHANNEL)
    assert trail() == [
        ("user:ada", "agent.created", "shop", "shop"),
        ("user:ada", "channel.created", "acme", "acme/mail"),
    ]


def test_saving_without_a_change_writes_nothing(person: Person, agent: Agent) -> None:
    client: Any = person("administrator")
    client.post(reverse("settings-agent", args=["acme"]), {"name": agent.name, "languages": "en, pl"})
    assert trail() == []
    assert Scope.objects.count() == 1
