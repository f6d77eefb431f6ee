"""An agent with two scopes, another agent, and people in each role."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from agents import releases
from agents.models import Agent, Channel, Release, Scope, Turn
from agents.models.release import Version
from console.models import Membership
from escalations import edges, queue
from escalations.models import Escalation
from guardrails import screen
from tests.redis import empty_redis

MODELS = {"models": {"local/extractive": {}}, "tiers": {"small": ["local/extractive"]}, "default_tier": "small"}


@pytest.fixture(autouse=True)
def clean_redis(db: None) -> None:
    empty_redis()


def make_agent(slug: str) -> Agent:
    agent = Agent.objects.create(slug=slug, name=slug.title(), languages=["en", "pl"])
    channel = Channel.objects.create(agent=agent, slug="web", name="Web chat")
    Scope.objects.create(channel=channel, stage="narrow")
    return agent


@pytest.fixture
def agent() -> Agent:
    return make_agent("acme")


@pytest.fixture
def other_agent() -> Agent:
    return make_agent("other")


@pytest.fixture
def scope(agent: Agent) -> Scope:
    return Scope.objects.with_names().get(channel__agent=agent, topic="")


@pytest.fixture
def publish(agent: Agent) -> Callable[[str], Release]:
    """A new release that differs from the others in its prompt."""

    def made(text: str) -> Release:
        contents: dict[str, Any] = {
            "prompt": {"text": text},
            "knowledge": {"documents": []},
            "models": MODELS,
            "guardrails": {**screen.DEFAULT_POLICY, "languages": ["en", "pl"]},
            "edges": edges.DEFAULT_POLICY,
        }
        parts: dict[str, Version] = {
            kind: releases.add_version(agent, kind, content, author="user:ada") for kind, content in contents.items()
        }
        return releases.publish(agent, parts, author="user:ada", note=text)

    return made


@pytest.fixture
def live(scope: Scope, publish: Callable[[str], Release]) -> Release:
    release = publish("First prompt")
    releases.deploy(scope, release, actor="user:ada")
    return release


@pytest.fixture
def person(agent: Agent) -> Callable[..., Client]:
    """A signed-in client of somebody with that role for the agent; no role at all for an empty one."""

    def signed_in(role: str = "operations", name: str = "") -> Client:
        user = User.objects.create_user(name or role or "nobody")
        if role == "superuser":
            User.objects.filter(pk=user.pk).update(is_superuser=True)
        elif role:
            Membership.objects.create(user=user, agent=agent, role=role)
        client = Client()
        client.force_login(User.objects.get(pk=user.pk))
        return client

    return signed_in


@pytest.fixture
def make_turn(scope: Scope) -> Callable[..., Turn]:
    def made(message: str = "Where is my parcel?", **fields: Any) -> Turn:
        case, _ = scope.channel.cases.get_or_create(ref=fields.pop("ref", "case-1"))
        number = case.turns.count() + 1
        return Turn.objects.create(case=case, scope=scope, number=number, message=message, **fields)

    return made


@pytest.fixture
def escalate(scope: Scope, make_turn: Callable[..., Turn]) -> Callable[..., Escalation]:
    """Something that waits for a person: a draft by default."""

    def made(**fields: Any) -> Escalation:
        turn = make_turn(fields.get("customer_line", "Where is my parcel?"))
        given = {
            "kind": "draft",
            "agent": "acme",
            "scope": scope.name,
            "channel": str(scope.channel),
            "case_id": turn.case_id,
            "turn_id": turn.pk,
            "ref": turn.case.ref,
            "edge": "low_confidence",
            "reason": "The draft is not sure enough.",
            "customer_line": turn.message,
            "draft": "It arrives on Monday.",
            "evidence": {
                "confidence": 0.5,
                "citations": [{"n": 1, "title": "Delivery", "text": "Monday", "score": 0.5}],
            },
        }
        return queue.add(**{**given, **fields})

    return made
