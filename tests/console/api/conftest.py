"""Two agents, one of them with two channels, and keys that reach all of it or a part."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from agents import releases
from agents.models import Agent, Channel, Release, Scope, Turn
from console.models import ApiKey
from escalations import edges, queue
from escalations.models import Escalation
from guardrails import screen
from tests.redis import empty_redis

MODELS = {"models": {"local/extractive": {}}, "tiers": {"small": ["local/extractive"]}, "default_tier": "small"}
REFUND = {
    "name": "refund",
    "arguments": {"order": "A-1", "amount": 40},
    "schema": {"type": "object", "properties": {"amount": {"maximum": 100}}, "required": ["order", "amount"]},
}


class Api:
    """A client with a key; answers carry `.json()`."""

    def __init__(self, secret: str = "") -> None:
        self._client = Client(raise_request_exception=False)
        self._headers = {"authorization": f"Bearer {secret}"} if secret else {}

    def get(self, path: str, **query: Any) -> Any:
        return self._client.get(f"/api/v1/{path}", query, headers=self._headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        raw = body if isinstance(body, bytes) else json.dumps({} if body is None else body)
        return self.send("post", path, raw, **headers)

    def send(
        self, method: str, path: str, raw: bytes | str, content_type: str = "application/json", **headers: str
    ) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        verb = getattr(self._client, method)
        return verb(f"/api/v1/{path}", raw, content_type=content_type, headers={**self._headers, **named})

    def walk(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """All rows of a list, page by page."""
        page = self.get(path, **query).json()
        rows = list(page["results"])
        while page["next"]:
            page = self._client.get(page["next"], headers=self._headers).json()
            rows += page["results"]
        return rows


Issue = Callable[..., Api]


def away() -> Redis:
    """A Redis that is not there, and says so at once."""
    return Redis(unix_socket_path="/nowhere", retry=Retry(NoBackoff(), 0))


def code(response: Any) -> tuple[int, str]:
    """Status and code of an error, which has the one shape."""
    error = response.json()["error"]
    assert set(response.json()) == {"error"}
    assert set(error) == {"code", "message", "details"}
    assert error["message"]
    assert "Traceback" not in response.content.decode()
    return response.status_code, error["code"]


@pytest.fixture(autouse=True)
def clean_redis() -> None:
    empty_redis()


def make_channel(agent: Agent, slug: str) -> Channel:
    channel = Channel.objects.create(agent=agent, slug=slug, name=slug.title())
    Scope.objects.create(channel=channel, stage="narrow")
    return channel


@pytest.fixture
def agent(db: None) -> Agent:
    return Agent.objects.create(slug="acme", name="Acme", languages=["en"])


@pytest.fixture
def web(agent: Agent) -> Channel:
    return make_channel(agent, "web")


@pytest.fixture
def email(agent: Agent) -> Channel:
    return make_channel(agent, "email")


@pytest.fixture
def foreign(db: None) -> Channel:
    """The channel of somebody else's agent."""
    return make_channel(Agent.objects.create(slug="other", name="Other", languages=["en"]), "web")


def scope_of(channel: Channel) -> Scope:
    return Scope.objects.with_names().get(channel=channel, topic="")


def publish(agent: Agent, prompt: str = "Be kind.") -> Release:
    contents: dict[str, Any] = {
        "prompt": {"text": prompt},
        "knowledge": {"documents": []},
        "models": MODELS,
        "guardrails": screen.DEFAULT_POLICY,
        "edges": edges.DEFAULT_POLICY,
    }
    parts = {kind: releases.add_version(agent, kind, content, author="user:ada") for kind, content in contents.items()}
    return releases.publish(agent, parts, author="user:ada", note=prompt)


@pytest.fixture
def live(web: Channel) -> Release:
    release = publish(web.agent)
    releases.deploy(scope_of(web), release, actor="user:ada")
    return release


@pytest.fixture
def issue(db: None) -> Issue:
    """A client with a new key: `issue("turns", agent=…)`; all scopes when none is named."""

    def issue(*scopes: str, channel: Channel | None = None, agent: Agent | None = None, **fields: Any) -> Api:
        owner = agent or (channel.agent if channel else None)
        granted = list(scopes or ApiKey.SCOPES)
        key, secret = ApiKey.issue(name="Test", actor="user:ada", scopes=granted, agent=owner, channel=channel)
        ApiKey.objects.filter(pk=key.pk).update(**fields)
        api = Api(secret)
        api.key = ApiKey.objects.get(pk=key.pk)  # type: ignore[attr-defined]
        return api

    return issue


@pytest.fixture
def api(issue: Issue) -> Api:
    """May do everything everywhere."""
    return issue()


def make_turn(channel: Channel, ref: str = "4711", outcome: str = "pending", **fields: Any) -> Turn:
    case, _ = channel.cases.get_or_create(ref=ref)
    done = {} if outcome == "pending" else {"finished_at": timezone.now()}
    return Turn.objects.create(
        case=case,
        scope=scope_of(channel),
        number=case.turns.count() + 1,
        message=fields.pop("message", "Where is my parcel?"),
        outcome=outcome,
        **done,
        **fields,
    )


def escalate(channel: Channel, ref: str = "4711", **fields: Any) -> Escalation:
    """A draft that waits for a person, or what `fields` make of it."""
    case, _ = channel.cases.get_or_create(ref=ref)
    given = {
        "kind": "action" if fields.get("action") else "draft",
        "agent": channel.agent.slug,
        "scope": scope_of(channel).name,
        "channel": str(channel),
        "case_id": case.pk,
        "ref": ref,
        "edge": "low_confidence",
        "reason": "The draft is not sure enough.",
        "customer_line": "Where is my parcel?",
        "draft": "It arrives on Monday.",
        "evidence": {"confidence": 0.5, "citations": [{"text": "It arrives on Monday."}], "history": []},
    }
    return queue.add(**{**given, **fields})
