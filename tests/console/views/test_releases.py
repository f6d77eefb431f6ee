from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from agents import releases, stages
from agents.models import Deployment, Release, Scope

Person = Callable[..., Client]
Publish = Callable[[str], Release]
pytestmark = pytest.mark.django_db


@pytest.fixture
def second(live: Release, scope: Scope, publish: Publish) -> Release:
    release = publish("Second prompt <b>")
    releases.deploy(scope, release, actor="user:ada")
    return release


def test_the_list_names_what_a_rollback_goes_back_to(person: Person, second: Release) -> None:
    assert "Roll back to r1" in person("administrator").get(reverse("releases")).content.decode()
    assert "Roll back to" not in person("operations").get(reverse("releases")).content.decode()


def test_rolling_back_shows_the_diff_first_and_then_the_arrival(person: Person, second: Release, scope: Scope) -> None:
    client = person("administrator")
    page = client.get(reverse("rollback", args=[scope.pk])).content.decode()
    assert "First prompt" in page
    assert "Second prompt &lt;b&gt;" in page
    assert Deployment.objects.count() == 2
    response = client.post(reverse("rollback", args=[scope.pk]), {"to": "1", "reason": "Wrong prices"})
    row = Deployment.objects.first()
    assert row
    assert (row.kind, row.release.number, row.actor, row.reason) == (
        "rollback",
        1,
        "user:administrator",
        "Wrong prices",
    )
    assert response["location"].startswith(reverse("arrival", args=[scope.pk]) + "?epoch=")
    assert "processes serve it" in client.get(response["location"]).content.decode()


def test_rolling_back_twice_says_that_it_is_there_already(person: Person, second: Release, scope: Scope) -> None:
    client = person("administrator")
    client.post(reverse("rollback", args=[scope.pk]), {"to": "1"})
    response = client.post(reverse("rollback", args=[scope.pk]), {"to": "1"})
    assert response.status_code == 409
    assert "already on" in response.content.decode()
    assert Deployment.objects.count() == 3


def test_with_one_release_there_is_nothing_to_go_back_to(person: Person, live: Release, scope: Scope) -> None:
    assert "nothing to go back to" in person("administrator").get(reverse("rollback", args=[scope.pk])).content.decode()


def test_a_release_is_deployed_as_a_canary_after_its_diff_was_seen(
    person: Person, live: Release, scope: Scope, publish: Publish
) -> None:
    publish("Second prompt")
    client = person("administrator")
    chosen = client.get(reverse("deploy-choice"), {"scope": scope.pk, "release": 2, "percent": 10})
    assert "Second prompt" in client.get(chosen["location"]).content.decode()
    client.post(reverse("deploy", args=[scope.pk]), {"release": 2, "percent": 10, "reason": "Careful"})
    row = Deployment.objects.first()
    assert row
    assert (row.kind, row.percent, row.actor) == ("canary", 10, "user:administrator")
    assert "r2 10 %" in client.get(reverse("releases")).content.decode()
    assert client.post(reverse("deploy", args=[scope.pk]), {"release": 2, "percent": 10}).status_code == 409
    assert client.post(reverse("deploy", args=[scope.pk]), {"release": 2, "percent": 0}).status_code == 409
    assert client.post(reverse("deploy", args=[scope.pk]), {"release": "x"}).status_code == 404


@pytest.mark.parametrize("role", ["viewer", "operations"])
def test_moving_releases_and_stages_needs_an_administrator(
    role: str, person: Person, second: Release, scope: Scope
) -> None:
    client = person(role)
    for name in ("rollback", "deploy", "move"):
        assert client.post(reverse(name, args=[scope.pk]), {"release": 1, "to": "1"}).status_code == 403
    assert client.get(reverse("release", args=["acme", 2])).status_code == 200
    assert Deployment.objects.count() == 2


def test_a_gate_that_does_not_pass_keeps_the_stage(person: Person, scope: Scope) -> None:
    response = person("administrator").post(reverse("move", args=[scope.pk]), {"move": "promote", "reason": "Please"})
    assert response.status_code == 409
    assert "Nothing was changed" in response.content.decode()
    scope.refresh_from_db()
    assert scope.stage == "narrow"


def test_going_down_is_always_possible_and_signed(person: Person, scope: Scope) -> None:
    client = person("administrator")
    client.post(reverse("move", args=[scope.pk]), {"move": "demote", "to": "shadow", "reason": "Wrong answers"})
    scope.refresh_from_db()
    assert scope.stage == "shadow"
    assert stages.gate(scope).next_stage == "narrow"
    page = client.get(reverse("scope-stage", args=[scope.pk])).content.decode()
    assert "Wrong answers" in page
    assert "decided blind" in page
