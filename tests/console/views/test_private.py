"""A token is a button for who does operations for the agent; who looked is written down, what they saw is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from agents import private
from agents.models import Agent, Turn
from console.models import ApiKey, AuditEntry, Membership
from guardrails.policy import Private

Person = Callable[..., Client]
pytestmark = pytest.mark.django_db
EMAIL = "anna.kowalska@example.com"
POLICY = Private(frozenset({"email"}), reversible=True)


@pytest.fixture
def turn(make_turn: Callable[..., Turn]) -> Turn:
    turn = make_turn("x")
    turn.message = private.hide(f"I am {EMAIL}. <b>Help</b>", POLICY, turn.case_id)
    turn.save()
    return turn


def token_of(turn: Turn) -> str:
    return private.TOKEN.findall(turn.message)[0][1]


def address(turn: Turn) -> str:
    return reverse("reveal", args=[token_of(turn)])


@pytest.mark.parametrize("name", ["case", "turn"])
def test_a_token_is_a_button_for_operations_and_a_word_for_viewers(person: Person, turn: Turn, name: str) -> None:
    path = reverse(name, args=[turn.case_id if name == "case" else turn.pk])
    page = person("operations").get(path).content.decode()
    assert f'formaction="{address(turn)}"' in page
    assert "&lt;b&gt;Help" in page
    shown = person("viewer").get(path).content.decode()
    assert address(turn) not in shown
    assert '<span class="token">E-mail</span>' in shown


@pytest.mark.parametrize("role", ["operations", "administrator", "superuser"])
def test_shows_the_value_and_writes_down_who_looked(person: Person, turn: Turn, role: str) -> None:
    response = person(role).post(address(turn))
    assert EMAIL in response.content.decode()
    assert "no-store" in response["Cache-Control"]
    entry = AuditEntry.objects.get(action="private.revealed")
    assert (entry.actor, entry.agent, entry.object) == (f"user:{role}", "acme", token_of(turn))
    assert EMAIL not in json.dumps(entry.detail)


def test_a_fragment_is_the_value_alone(person: Person, turn: Turn) -> None:
    part = person("operations").post(address(turn), headers={"hx-request": "true"}).content.decode()
    assert EMAIL in part
    assert "<html" not in part


@pytest.mark.parametrize("role", ["viewer", ""])
def test_there_is_nothing_for_who_may_not_look(person: Person, turn: Turn, role: str) -> None:
    assert person(role).post(address(turn)).status_code == 404
    assert not AuditEntry.objects.filter(action="private.revealed").exists()


def test_an_operator_of_another_agent_does_not_find_it(
    client: Client, turn: Turn, other_agent: Agent, django_user_model: Any
) -> None:
    user = django_user_model.objects.create_user("otto")
    Membership.objects.create(user=user, agent=other_agent, role="administrator")
    client.force_login(user)
    assert client.post(address(turn)).status_code == 404


def test_is_never_shown_by_looking(person: Person, turn: Turn) -> None:
    assert person("operations").get(address(turn)).status_code == 405


def test_with_another_secret_key_it_says_so(person: Person, turn: Turn, settings: Any) -> None:
    client = person("operations")
    path = address(turn)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another", [settings.SECRET_KEY]
    response = client.post(path)
    assert response.status_code == 200
    assert "cannot be opened" in response.content.decode()
    assert not AuditEntry.objects.filter(action="private.revealed").exists()


def key(agent: Agent | None, *scopes: str) -> dict[str, str]:
    _, secret = ApiKey.issue(name="Test", actor="user:ada", scopes=list(scopes), agent=agent, channel=None)
    return {"authorization": f"Bearer {secret}"}


def test_a_key_that_reviews_gets_the_value(client: Client, turn: Turn, agent: Agent, other_agent: Agent) -> None:
    path = f"/api/v1/private/{token_of(turn)}/reveal"
    response = client.post(path, headers=key(agent, "review"))
    assert response.json() == {"token": token_of(turn), "kind": "email", "value": EMAIL}
    assert AuditEntry.objects.get(action="private.revealed").actor.startswith("key:")
    assert client.post(path, headers=key(other_agent, "review")).status_code == 404
    assert client.post(path, headers=key(agent, "read", "turns")).status_code == 403


def test_a_key_gets_words_whole_where_it_brings_them_and_hidden_where_it_reads(
    client: Client, turn: Turn, agent: Agent
) -> None:
    Turn.objects.filter(pk=turn.pk).update(sealed=private.seal(message=f"I am {EMAIL}.", reply=f"Hello {EMAIL}."))
    path = f"/api/v1/turns/{turn.pk}"
    brought = client.get(path, headers=key(agent, "turns")).json()
    assert (brought["message"], brought["reply"]) == (f"I am {EMAIL}.", f"Hello {EMAIL}.")
    assert EMAIL not in client.get(path, headers=key(agent, "read")).content.decode()
    assert EMAIL not in client.get("/api/v1/turns", headers=key(agent, "turns", "read")).content.decode()
