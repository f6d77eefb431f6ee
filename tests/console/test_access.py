"""Who sees what, and who may do what: people by role, keys by what they are bound to."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.http import Http404

from agents.models import Agent, Channel
from console import access
from console.models import ApiKey, Membership
from tests.console.api.conftest import escalate, make_channel, make_turn, publish, scope_of

pytestmark = pytest.mark.django_db
NOBODY, VIEWER, OPERATIONS, ADMINISTRATOR = "", "viewer", "operations", "administrator"


@pytest.fixture
def web() -> Channel:
    return make_channel(Agent.objects.create(slug="acme", name="Acme", languages=["en"]), "web")


@pytest.fixture
def foreign() -> Channel:
    return make_channel(Agent.objects.create(slug="other", name="Other", languages=["en"]), "web")


Person = Callable[..., User]


@pytest.fixture
def person(web: Channel) -> Person:
    def person(role: str, agent: Agent | None = None, *, everywhere: bool = False) -> User:
        user = User.objects.create_user(f"{role or 'nobody'}-{User.objects.count()}")
        if role:
            Membership.objects.create(user=user, role=role, agent=None if everywhere else agent or web.agent)
        return user

    return person


def things(channel: Channel) -> dict[str, Callable[..., Any]]:
    """A way to each kind of thing of the channel, given a person and a role."""
    turn, escalation, release = make_turn(channel), escalate(channel), publish(channel.agent)
    slug = channel.agent.slug
    return {
        "agent": lambda user, role: access.require_agent(user, slug, role),
        "channel": lambda user, role: access.require_channel(user, channel.pk, role),
        "scope": lambda user, role: access.require_scope(user, scope_of(channel).pk, role),
        "case": lambda user, role: access.require_case(user, turn.case_id, role),
        "turn": lambda user, role: access.require_turn(user, turn.pk, role),
        "release": lambda user, role: access.require_release(user, slug, release.number, role),
        "escalation": lambda user, role: access.require_escalation(user, escalation.pk, role),
    }


@pytest.mark.parametrize("held", [VIEWER, OPERATIONS, ADMINISTRATOR])
@pytest.mark.parametrize("everywhere", [False, True])
def test_a_role_opens_what_it_is_for_and_what_is_below(
    web: Channel, person: Person, held: str, everywhere: bool
) -> None:
    user = person(held, everywhere=everywhere)
    for require in things(web).values():
        for wanted in access.ROLES:
            if access.rank(wanted) <= access.rank(held):
                assert require(user, wanted) is not None
            else:
                with pytest.raises(PermissionDenied):
                    require(user, wanted)


@pytest.mark.parametrize("wanted", access.ROLES)
def test_what_one_has_no_role_for_is_not_there(web: Channel, foreign: Channel, person: Person, wanted: str) -> None:
    ways = things(web)
    for user in (person(NOBODY), person(ADMINISTRATOR, foreign.agent), AnonymousUser()):
        for require in ways.values():
            with pytest.raises(Http404):
                require(user, wanted)


def test_superusers_administer_everything(web: Channel, foreign: Channel) -> None:
    root = User.objects.create_superuser("root")
    for channel in (web, foreign):
        for require in things(channel).values():
            assert require(root, ADMINISTRATOR) is not None
    access.require_administrator(root)


def test_the_higher_of_two_roles_counts(web: Channel, foreign: Channel, person: Person) -> None:
    user = person(OPERATIONS, everywhere=True)
    Membership.objects.create(user=user, agent=web.agent, role=VIEWER)
    assert access.role_of(user, web.agent) == access.role_of(user, foreign.agent) == OPERATIONS


def test_a_role_for_one_agent_administers_nothing_else(web: Channel, person: Person) -> None:
    with pytest.raises(PermissionDenied):
        access.require_administrator(person(ADMINISTRATOR))
    access.require_administrator(person(ADMINISTRATOR, everywhere=True))


def test_deciding_asks_for_operations_unless_said_otherwise(web: Channel, person: Person) -> None:
    escalation = escalate(web)
    with pytest.raises(PermissionDenied):
        access.require_escalation(person(VIEWER), escalation.pk)
    assert access.require_escalation(person(OPERATIONS), escalation.pk) == escalation


def test_lists_hold_what_one_sees(web: Channel, foreign: Channel, person: Person) -> None:
    for channel in (web, foreign):
        make_turn(channel), escalate(channel)
    viewer, everywhere, nobody = person(VIEWER), person(VIEWER, everywhere=True), person(NOBODY)
    lists: list[Callable[[Any], Any]] = [
        access.agents_visible,
        access.channels_visible,
        access.scopes_visible,
        access.cases_visible,
        access.escalations_visible,
    ]
    for visible in lists:
        assert [visible(user).count() for user in (viewer, everywhere, nobody, AnonymousUser())] == [1, 2, 0, 0]
    assert access.agent_slugs(viewer) == ["acme"]
    assert access.reviewable(viewer) == []
    assert access.reviewable(person(OPERATIONS)) == ["acme/web"]


def test_scopes_come_with_their_names(web: Channel, person: Person, django_assert_num_queries: Any) -> None:
    make_channel(web.agent, "email")
    user = person(VIEWER)
    with django_assert_num_queries(2):
        assert sorted(scope.name for scope in access.scopes_visible(user)) == ["acme/email", "acme/web"]


def test_roles_are_asked_for_once(web: Channel, person: Person, django_assert_num_queries: Any) -> None:
    user = person(VIEWER)
    with django_assert_num_queries(1):
        for _ in range(5):
            access.may(user, VIEWER, web.agent)


@pytest.mark.parametrize("agent", [None, "acme"])
def test_one_role_for_each_agent_is_all_one_has(web: Channel, person: Person, agent: str | None) -> None:
    owner = web.agent if agent else None
    user = person(VIEWER, owner, everywhere=not agent)
    with pytest.raises(IntegrityError), transaction.atomic():
        Membership.objects.create(user=user, agent=owner, role=ADMINISTRATOR)


def test_what_does_not_exist_is_not_there_even_for_superusers() -> None:
    root = User.objects.create_superuser("root")
    for require in (access.require_case, access.require_turn, access.require_escalation):
        with pytest.raises(Http404):
            require(root, uuid.uuid4())


# --- keys ----------------------------------------------------------------------------------------------------------


def make_key(agent: Agent | None = None, channel: Channel | None = None) -> ApiKey:
    return ApiKey.issue(name="Test", actor="user:ada", scopes=["turns"], agent=agent, channel=channel)[0]


def test_a_key_of_a_channel_belongs_to_its_agent(web: Channel) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        make_key(channel=web)


@pytest.mark.parametrize(
    ("agent", "channel"), [("", ""), ("acme", ""), ("", "web"), ("acme", "web"), ("acme", "acme/web"), ("", "acme/web")]
)
def test_a_key_of_a_channel_finds_it_by_any_of_its_names(
    web: Channel, foreign: Channel, agent: str, channel: str
) -> None:
    assert access.require_key_channel(make_key(web.agent, web), agent, channel) == web


@pytest.mark.parametrize(("agent", "channel"), [("other", ""), ("", "other/web"), ("acme", "other/web"), ("", "fax")])
def test_a_key_finds_no_foreign_channel(web: Channel, foreign: Channel, agent: str, channel: str) -> None:
    for key in (make_key(web.agent), make_key(web.agent, web)):
        with pytest.raises(Http404):
            access.require_key_channel(key, agent, channel)


def test_names_that_fit_two_channels_are_unclear(web: Channel, foreign: Channel) -> None:
    for agent, channel in (("", ""), ("", "web")):
        with pytest.raises(access.Unclear):
            access.require_key_channel(make_key(), agent, channel)


def test_a_key_shows_its_secret_once_and_keeps_its_hash(web: Channel) -> None:
    key, secret = ApiKey.issue(name="Shop", actor="user:ada", scopes=["turns"])
    assert secret.startswith("ph_")
    assert len(secret) > 30
    key.refresh_from_db()
    assert secret not in {str(getattr(key, field.name)) for field in key._meta.fields}
    assert ApiKey.digest(secret) == key.sha256
    assert str(key) == secret[: len(key.prefix)]
