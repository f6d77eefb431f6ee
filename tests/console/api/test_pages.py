"""Lists: every row once, in order, bounded, in few queries."""

from __future__ import annotations

import base64
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agents import releases
from agents.models import Call, Channel
from budgets.models import Budget
from console import audit
from escalations import queue
from guardrails.models import Finding
from guardrails.screen import Seen
from tests.console.api.conftest import Api, code, escalate, make_turn, publish, scope_of

NOW = timezone.now()


def make_call(at: Any = NOW, **fields: Any) -> Call:
    given = {"call_id": uuid.uuid4(), "at": at, "model": "m", "status": "ok", "price": "exact", "cost_nano": 5}
    return Call.objects.create(**{**given, **fields})


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 200])
def test_rows_of_the_same_moment_come_each_once(api: Api, limit: int) -> None:
    calls = [make_call(NOW - timedelta(seconds=number // 3)) for number in range(7)]
    shown = [row["call_id"] for row in api.walk("calls", limit=limit)]
    assert shown == [str(call.call_id) for call in sorted(calls, key=lambda call: (call.at, call.pk), reverse=True)]


def test_rows_that_arrive_meanwhile_disturb_no_page(api: Api) -> None:
    for number in range(4):
        make_call(NOW - timedelta(seconds=number), model=f"old-{number}")
    first = api.get("calls", limit=2).json()
    make_call(NOW + timedelta(seconds=5), model="new")
    second = api._client.get(first["next"], headers=api._headers).json()
    assert [row["model"] for row in second["results"]] == ["old-2", "old-3"]
    assert second["next"] is None


def test_escalations_come_most_urgent_first(api: Api, web: Channel) -> None:
    for priority in (3, 1, 3, 2, 1):
        escalate(web, f"p{priority}", priority=priority)
    assert [row["priority"] for row in api.walk("escalations", limit=2)] == [1, 1, 2, 3, 3]


@pytest.mark.parametrize("limit", ["0", "-1", "201", "many", "1.5"])
def test_a_page_has_one_to_two_hundred_rows(api: Api, limit: str) -> None:
    assert code(api.get("calls", limit=limit)) == (400, "invalid")


def cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "text", ["x", "[]", "[1]", '["now", 1]', '["2026-01-01T00:00:00Z", "one"]', "{}", "[null, null]", "1", "[1, 2, 3]"]
)
def test_a_cursor_of_another_list_is_refused(api: Api, text: str) -> None:
    make_call()
    assert code(api.get("calls", cursor=cursor(text))) == (400, "invalid_cursor")
    assert code(api.get("calls", cursor="§§")) == (400, "invalid_cursor")


LISTS = {
    "turns": 2,
    "cases": 2,
    "escalations": 3,
    "calls": 2,
    "findings": 2,
    "audit": 2,
    "versions": 2,
    "releases": 2,
    "agents": 4,
    "budgets": 2,
    "scopes": 3,
}


@pytest.mark.parametrize(("path", "most"), LISTS.items())
def test_lists_take_few_queries_however_long(
    api: Api, web: Channel, path: str, most: int, django_assert_max_num_queries: Any
) -> None:
    for number in range(8):
        make_turn(web, f"c{number}", "answered", release=publish(web.agent, f"Prompt {number}"))
        escalation = escalate(web, f"c{number}")
        if number % 2:
            claim = queue.claim(escalation.pk, None)
            queue.decide(escalation.pk, actor="key:x", token=claim.token, revision=1, kind="approved")
        make_call()
        audit.record("user:ada", "x")
        seen = Seen("r", "injection", "block", "high", "en", "raw", 0, 1, "x")
        Finding.objects.record([seen], agent="acme", scope="acme/web", stage="inbound", policy_hash="", actor="key:x")
        Budget.objects.open(actor="user:ada", owner_kind="agent", owner=f"a{number}", period="day", limit_nano=1)
    api.get("key")
    with django_assert_max_num_queries(most):
        assert api.get(path).json()["results"]


def test_deployments_of_a_scope_take_few_queries(api: Api, web: Channel, django_assert_max_num_queries: Any) -> None:
    for number in range(6):
        releases.deploy(scope_of(web), publish(web.agent, f"Prompt {number}"), actor="user:ada")
    path = f"scopes/{scope_of(web).pk}/deployments"
    api.get("key")
    with django_assert_max_num_queries(3):
        rows = api.get(path).json()["results"]
    assert [row["release"] for row in rows] == [f"acme@r{number}" for number in range(6, 0, -1)]
