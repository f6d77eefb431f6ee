"""A key reaches all agents, one agent, or one channel. What it does not reach is not there."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from agents import releases
from agents.models import Call, Channel
from budgets.models import Budget
from console import audit
from console.models import Alert
from guardrails.models import Finding
from guardrails.screen import Seen
from tests.console.api.conftest import REFUND, Issue, code, escalate, make_turn, publish, scope_of

Rows = dict[str, dict[str, Any]]


@pytest.fixture
def filled(web: Channel, email: Channel, foreign: Channel) -> dict[Channel, dict[str, Any]]:
    """One of each thing on each of the three channels."""
    made = {}
    published = {channel.agent_id: publish(channel.agent) for channel in (web, foreign)}
    for channel in (web, email, foreign):
        scope, agent = scope_of(channel), channel.agent.slug
        releases.deploy(scope, published[channel.agent_id], actor="user:ada")
        draft = escalate(channel, f"ref-{channel}")
        turn = make_turn(channel, f"ref-{channel}", "escalated", escalation=draft)
        Call.objects.create(
            call_id=uuid.uuid4(), at=timezone.now(), model="m", status="ok", price="exact", cost_nano=5,
            agent=agent, channel=str(channel), scope=scope.name,
        )  # fmt: skip
        seen = Seen("r", "injection", "block", "high", "en", "raw", 0, 1, "x")
        Finding.objects.record([seen], agent=agent, scope=scope.name, stage="inbound", policy_hash="", actor="agent:x")
        budget = Budget.objects.open(
            actor="user:ada", owner_kind="channel", owner=str(channel), period="day", limit_nano=10
        )
        alert = Alert.objects.create(
            rule="error_rate", scope=scope.name, agent=agent, channel=str(channel), sentence="Many calls failed.",
            seen_at=timezone.now(), fired_at=timezone.now(), state="firing",
        )  # fmt: skip
        made[channel] = {
            "alert": alert,
            "scope": scope,
            "turn": turn,
            "draft": draft,
            "action": escalate(channel, f"ref-{channel}", action=REFUND),
            "budget": budget,
            "release": published[channel.agent_id],
        }
    Budget.objects.open(actor="user:ada", owner_kind="organisation", owner="", period="day", limit_nano=10)
    Budget.objects.open(actor="user:ada", owner_kind="agent", owner="acme", period="day", limit_nano=10)
    Alert.objects.create(rule="processes", sentence="No worker runs.", seen_at=timezone.now())
    for agent in ("acme", "other", ""):
        audit.record("user:ada", "x", agent=agent)
    return made


Where = Callable[[dict[str, Any]], str]
LISTS: list[tuple[str, str, set[str], set[str], set[str]]] = [
    # path, the field that tells rows apart, for a key of the channel, of its agent, of all
    ("turns", "scope", {"acme/web"}, {"acme/web", "acme/email"}, {"acme/web", "acme/email", "other/web"}),
    ("cases", "channel", {"acme/web"}, {"acme/web", "acme/email"}, {"acme/web", "acme/email", "other/web"}),
    ("escalations", "scope", {"acme/web"}, {"acme/web", "acme/email"}, {"acme/web", "acme/email", "other/web"}),
    ("calls", "scope", {"acme/web"}, {"acme/web", "acme/email"}, {"acme/web", "acme/email", "other/web"}),
    ("findings", "scope", {"acme/web"}, {"acme/web", "acme/email"}, {"acme/web", "acme/email", "other/web"}),
    ("alerts", "scope", {"acme/web"}, {"acme/web", "acme/email"}, {"acme/web", "acme/email", "other/web", ""}),
    ("scopes", "name", {"acme/web"}, {"acme/web", "acme/email"}, {"acme/web", "acme/email", "other/web"}),
    ("releases", "agent", {"acme"}, {"acme"}, {"acme", "other"}),
    ("versions", "agent", {"acme"}, {"acme"}, {"acme", "other"}),
    ("agents", "slug", {"acme"}, {"acme"}, {"acme", "other"}),
    (
        "budgets",
        "owner",
        {"acme/web"},
        {"acme/web", "acme/email", "acme"},
        {"acme/web", "acme/email", "acme", "other/web", ""},
    ),
]


@pytest.mark.parametrize("listed", LISTS, ids=lambda listed: listed[0])
def test_lists_hold_what_the_key_reaches(issue: Issue, web: Channel, filled: Any, listed: Any) -> None:
    path, field, *reached = listed
    for api, expected in zip((issue(channel=web), issue(agent=web.agent), issue()), reached, strict=True):
        assert {row[field] for row in api.walk(path, limit=2)} == expected


def test_agents_show_only_the_channels_that_the_key_reaches(issue: Issue, web: Channel, filled: Any) -> None:
    (agent,) = issue(channel=web).walk("agents")
    assert [channel["name"] for channel in agent["channels"]] == ["acme/web"]
    (agent,) = issue(agent=web.agent).walk("agents")
    assert [channel["name"] for channel in agent["channels"]] == ["acme/email", "acme/web"]


def test_usage_adds_up_what_the_key_reaches(issue: Issue, web: Channel, filled: Any) -> None:
    for api, calls in ((issue(channel=web), 1), (issue(agent=web.agent), 2), (issue(), 3)):
        (row,) = api.get("usage", group_by="model").json()["results"]
        assert (row["calls"], row["cost_usd"]) == (calls, f"0.{5 * calls:09d}")


def test_the_trail_is_for_keys_of_whole_agents(issue: Issue, web: Channel, filled: Any) -> None:
    assert code(issue(channel=web).get("audit")) == (403, "forbidden")
    assert {row["agent"] for row in issue(agent=web.agent).walk("audit", action="x")} == {"acme"}
    assert {row["agent"] for row in issue().walk("audit", action="x")} == {"acme", "other", ""}


ONES: list[tuple[str, Where, Any]] = [
    ("get", lambda of: f"turns/{of['turn'].pk}", None),
    ("get", lambda of: f"cases/{of['turn'].case.ref}", None),
    ("get", lambda of: f"cases/{of['turn'].case_id}", None),
    ("post", lambda of: f"cases/{of['turn'].case_id}/take-over", {}),
    ("post", lambda of: f"cases/{of['turn'].case_id}/hand-back", {}),
    ("post", lambda of: f"cases/{of['turn'].case_id}/human-decisions", {"text": "Yes", "actor": "eve"}),
    ("get", lambda of: f"escalations/{of['draft'].pk}", None),
    ("post", lambda of: f"escalations/{of['draft'].pk}/claim", {}),
    ("post", lambda of: f"escalations/{of['draft'].pk}/heartbeat", {"token": 1}),
    ("post", lambda of: f"escalations/{of['draft'].pk}/let-go", {"token": 1}),
    ("post", lambda of: f"escalations/{of['draft'].pk}/decide", {"kind": "approved", "token": 1, "revision": 1}),
    ("get", lambda of: f"approvals/{of['action'].pk}", None),
    ("get", lambda of: f"scopes/{of['scope'].pk}", None),
    ("get", lambda of: f"scopes/{of['scope'].pk}/deployments", None),
    ("post", lambda of: f"scopes/{of['scope'].pk}/deploy", {"release": "r1", "percent": 50}),
    ("post", lambda of: f"scopes/{of['scope'].pk}/rollback", {}),
    ("get", lambda of: f"alerts/{of['alert'].pk}", None),
    ("post", lambda of: f"alerts/{of['alert'].pk}/acknowledge", {}),
    ("get", lambda of: f"versions/{of['release'].prompt_id}", None),
    ("get", lambda of: f"releases/{of['release']}", None),
    ("get", lambda of: f"releases/{of['release'].pk}", None),
]


@pytest.mark.parametrize("asked", ONES)
def test_what_belongs_to_another_agent_is_not_there(
    issue: Issue, web: Channel, foreign: Channel, filled: Any, asked: tuple[str, Where, Any]
) -> None:
    method, path, body = asked
    theirs, before = path(filled[foreign]), snapshot(filled[foreign])
    for api in (issue(channel=web), issue(agent=web.agent)):
        assert code(api.send(method, theirs, json.dumps(body) if body is not None else "")) == (404, "not_found")
    assert snapshot(filled[foreign]) == before


@pytest.mark.parametrize("asked", ONES[:-3])
def test_what_belongs_to_another_channel_is_not_there_for_a_key_of_one(
    issue: Issue, web: Channel, email: Channel, filled: Any, asked: tuple[str, Where, Any]
) -> None:
    method, path, body = asked
    theirs = path(filled[email])
    raw = json.dumps(body) if body is not None else ""
    assert code(issue(channel=web).send(method, theirs, raw)) == (404, "not_found")
    assert issue(agent=web.agent).send(method, theirs, raw).status_code != 404


def snapshot(of: dict[str, Any]) -> list[Any]:
    """What a request on somebody else's things could have changed."""
    for name in ("draft", "action", "alert"):
        of[name].refresh_from_db()
    of["turn"].case.refresh_from_db()
    return [
        of["alert"].state,
        of["draft"].state,
        of["draft"].token,
        of["turn"].case.owner,
        of["scope"].deployments.count(),
    ]


@pytest.mark.parametrize("path", ["versions", "releases"])
def test_a_key_of_one_channel_changes_nothing_of_the_whole_agent(
    issue: Issue, web: Channel, live: Any, path: str
) -> None:
    bodies: dict[str, Any] = {"versions": {"kind": "prompt", "content": {"text": "x"}}, "releases": {"parts": {}}}
    assert code(issue(channel=web).post(path, bodies[path])) == (403, "forbidden")


def test_a_foreign_release_is_not_deployed(api: Any, web: Channel, foreign: Channel, filled: Any) -> None:
    theirs = filled[foreign]["release"]
    assert code(api.post(f"scopes/{filled[web]['scope'].pk}/deploy", {"release": str(theirs)})) == (404, "not_found")
