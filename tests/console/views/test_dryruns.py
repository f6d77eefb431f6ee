"""A policy is tried before it is published: started by administrators, read by everybody who sees the agent."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from agents import dryruns, tasks
from agents.models import Agent, DryRun, DryRunChange, Release, Scope, Turn
from console.models import AuditEntry
from escalations.models import Escalation
from guardrails import screen

Person = Callable[..., Client]
pytestmark = pytest.mark.django_db
NEW = "/guardrails/dry-runs/new"
STRICT = {**screen.DEFAULT_POLICY, "custom": [{"id": "parcels", "pattern": "parcel", "action": "block"}]}


def given(**fields: Any) -> dict[str, Any]:
    return {"agent": "acme", "scope": "", "days": "7", "guardrails": json.dumps(STRICT), **fields}


@pytest.fixture
def run(agent: Agent, live: Release, make_turn: Callable[..., Turn]) -> DryRun:
    """A run that waits, over one message that it would block."""
    make_turn("Where is my <b>parcel</b>?", outcome="answered", finished_at=timezone.now())
    return dryruns.start(agent, STRICT, days=7, actor="user:ada")


def address(run: DryRun, name: str = "dry-run") -> str:
    return reverse(name, args=[run.pk])


def test_begins_with_the_live_policy(person: Person, live: Release) -> None:
    page = person("administrator").get(NEW).content.decode()
    assert "&quot;uncovered&quot;: &quot;escalate&quot;" in page
    assert "&quot;pl&quot;" in page


def test_the_publish_form_brings_the_policy_that_is_being_written(person: Person, live: Release) -> None:
    client = person("administrator")
    assert f'formaction="{NEW}"' in client.get(reverse("publish", args=["acme"])).content.decode()
    written = client.post(NEW, {"agent": "acme", "prompt": "x", "guardrails": '{"custom": []'})
    assert written.status_code == 200
    assert "{&quot;custom&quot;: []" in written.content.decode()
    assert not DryRun.objects.exists()


def test_starts_one_and_writes_that_down(
    person: Person, live: Release, scope: Scope, django_capture_on_commit_callbacks: Any, monkeypatch: Any
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(tasks.dry_run, "delay", sent.append)
    with django_capture_on_commit_callbacks(execute=True):
        response = person("administrator").post(NEW, given(scope=str(scope.pk)))
    run = DryRun.objects.get()
    assert response["location"] == address(run)
    assert (run.scope, run.days, run.actor, run.content) == (scope, 7, "user:administrator", STRICT)
    assert sent == [run.pk]
    entry = AuditEntry.objects.get(action="dry_run.started")
    assert (entry.actor, entry.agent, entry.object) == ("user:administrator", "acme", str(run.pk))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"guardrails": '{"actions": {"magic": "block"}}'}, "magic"),
        ({"guardrails": "{"}, "Enter a valid JSON"),
        ({"days": "31"}, "less than or equal to 30"),
        ({"scope": "999999"}, "Select a valid choice"),
    ],
)
def test_a_mistake_is_shown_beside_what_was_written(
    person: Person, live: Release, fields: dict[str, str], says: str
) -> None:
    response = person("administrator").post(NEW, given(**fields))
    assert response.status_code == 422
    assert says in response.content.decode()
    assert not DryRun.objects.exists()


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("operations", 403), ("", 404)])
def test_only_administrators_start_and_cancel(person: Person, run: DryRun, role: str, status: int) -> None:
    client = person(role)
    assert client.post(NEW, given()).status_code == status
    assert client.post(address(run, "cancel-dry-run")).status_code == status
    assert DryRun.objects.get().state == "waiting"


def test_a_scope_of_another_agent_cannot_be_chosen(person: Person, live: Release, other_agent: Agent) -> None:
    theirs = Scope.objects.get(channel__agent=other_agent)
    assert person("superuser").post(NEW, given(scope=str(theirs.pk))).status_code == 422


def test_shows_how_far_it_is_until_it_is_over(person: Person, run: DryRun) -> None:
    client = person("viewer")
    page = client.get(address(run)).content.decode()
    assert "0 of 1 messages" in page
    assert 'hx-trigger="every 1s"' in page
    tasks.dry_run(run.pk)
    part = client.get(address(run), headers={"hx-request": "true"}).content.decode()
    assert "<html" not in part
    assert "every 1s" not in part


def test_says_what_it_would_have_done_and_to_which_messages(person: Person, run: DryRun) -> None:
    tasks.dry_run(run.pk)
    page = person("viewer").get(address(run)).content.decode()
    assert "It would stop 1 more message and let 0 through." in " ".join(page.split())
    assert "Parcels" in page
    assert "my &lt;b&gt;parcel&lt;/b&gt;" in page
    assert reverse("turn", args=[Turn.objects.get().pk]) in page


def test_is_cancelled_once(person: Person, run: DryRun) -> None:
    client = person("administrator")
    for _ in range(2):
        assert client.post(address(run, "cancel-dry-run")).status_code == 302
    assert DryRun.objects.get().state == "cancelled"
    assert AuditEntry.objects.filter(action="dry_run.cancelled").count() == 1


def test_a_draft_that_is_decided_blind_is_read_by_nobody_here(
    person: Person, run: DryRun, escalate: Callable[..., Escalation]
) -> None:
    escalation = escalate(blind=True)
    turn = Turn.objects.get(pk=escalation.turn_id)
    Turn.objects.filter(pk=turn.pk).update(escalation=escalation)
    DryRunChange.objects.create(
        run=run, turn=turn, at=turn.created_at, stage="outbound", before="allow", after="block", excerpt="Dear Anna"
    )
    DryRun.objects.filter(pk=run.pk).update(counts={"transitions": {"allow>block": 1}})
    page = person("operations").get(address(run)).content.decode()
    assert "Hidden until the blind decision" in page
    assert "Dear Anna" not in page


def test_many_runs_and_changes_cost_no_more_queries(
    person: Person, run: DryRun, agent: Agent, make_turn: Callable[..., Turn]
) -> None:
    tasks.dry_run(run.pk)
    for _ in range(60):
        turn = make_turn("parcel", outcome="answered", finished_at=timezone.now())
        DryRunChange.objects.create(
            run=run, turn=turn, at=turn.created_at, stage="inbound", before="allow", after="block"
        )
        DryRun.objects.create(
            agent=agent, content={}, days=1, actor="user:ada", state="done", finished_at=timezone.now()
        )
    client = person("viewer")
    for path, most in ((reverse("dry-runs"), 8), (address(run), 9)):
        client.get(path)
        with CaptureQueriesContext(connection) as queries:
            page = client.get(path).content.decode()
        assert len(queries) <= most, [query["sql"][:120] for query in queries]
        assert "Older" in page
