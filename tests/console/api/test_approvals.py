"""An agent asks before it acts, and acts on nothing but what was approved."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from agents.models import Channel
from console.api import waiting
from escalations import outbox, queue
from escalations.models import Delivery, Escalation
from tests.console.api.conftest import REFUND, Api, code


def asks(**changes: Any) -> dict[str, Any]:
    return {"agent": "acme", "channel": "web", "case": "4711", "action": REFUND, "risk": "money", **changes}


def decide(pk: str, kind: str, **said: Any) -> None:
    anna = User.objects.get_or_create(username="anna")[0]
    claim = queue.claim(pk, anna)  # type: ignore[arg-type]
    queue.decide(pk, user=anna, token=claim.token, revision=claim.revision, kind=kind, **said)  # type: ignore[arg-type]


def leave() -> None:
    for delivery in outbox.due():
        outbox.mark_sent(delivery)


def test_an_approval_waits_under_an_address_of_its_own(api: Any, web: Channel) -> None:
    deadline = timezone.now() + timedelta(hours=1)
    response = api.post("approvals", asks(deadline=deadline.isoformat(), on_timeout="safe_refusal"))
    assert response.status_code == 201
    shown = response.json()
    assert response.headers["Location"] == f"/api/v1/approvals/{shown['id']}"
    assert (shown["state"], shown["decision"], shown["case"]) == ("waiting", None, "4711")
    escalation = Escalation.objects.get()
    assert (escalation.kind, escalation.on_timeout, escalation.deadline) == ("action", "safe_refusal", deadline)
    assert escalation.evidence == {"proposed_by": f"key:{api.key.prefix}", "stage": "narrow"}
    assert api.get(f"approvals/{shown['id']}").json() == shown


@pytest.mark.parametrize("stage", ["pilot", "shadow"])
def test_before_narrow_production_an_action_is_written_down_and_never_approved(
    api: Api, web: Channel, stage: str
) -> None:
    web.scopes.update(stage=stage)
    pk = api.post("approvals", asks()).json()["id"]
    leave()
    shown = api.get(f"approvals/{pk}").json()
    assert (shown["state"], shown["decision"]["actor"]) == ("withdrawn", f"system:{stage}")
    with pytest.raises(queue.AlreadyDecided):
        decide(pk, "approved")


def test_a_decision_that_can_still_be_undone_is_not_told(api: Api, web: Channel, settings: Any) -> None:
    settings.DECISION_HOLD_SECONDS = 60
    pk = api.post("approvals", asks()).json()["id"]
    decide(pk, "approved")
    assert api.get(f"approvals/{pk}").json()["state"] == "waiting"
    Delivery.objects.update(due_at=timezone.now())
    assert api.get(f"approvals/{pk}").json()["state"] == "waiting"
    leave()
    assert api.get(f"approvals/{pk}").json()["state"] == "approved"


def test_the_decision_carries_the_arguments_it_is_bound_to(api: Api, web: Channel) -> None:
    pk = api.post("approvals", asks()).json()["id"]
    decide(pk, "edited", arguments={"order": "A-1", "amount": 20})
    leave()
    shown = api.get(f"approvals/{pk}").json()
    assert (shown["state"], shown["decision"]["arguments"]) == ("edited", {"order": "A-1", "amount": 20})
    assert shown["decision"]["action_hash"] != shown["action"]["hash"]


def test_fetching_it_acknowledges_the_decision(api: Api, web: Channel) -> None:
    pk = api.post("approvals", asks()).json()["id"]
    decide(pk, "rejected", reason_code="policy")
    leave()
    assert api.get(f"approvals/{pk}").json()["state"] == "rejected"
    assert Delivery.objects.get().state == Delivery.State.ACKNOWLEDGED


def test_silence_is_told_as_expired(api: Api, web: Channel) -> None:
    deadline = timezone.now() + timedelta(hours=1)
    pk = api.post("approvals", asks(deadline=deadline.isoformat(), on_timeout="safe_refusal")).json()["id"]
    queue.expire_due(deadline + timedelta(seconds=1))
    leave()
    shown = api.get(f"approvals/{pk}").json()
    assert shown["state"] == "expired"
    assert not shown["decision"]["actor"].startswith("user:")


def test_waiting_ends_with_the_decision_or_with_the_time(
    api: Api, web: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    pk = api.post("approvals", asks()).json()["id"]
    assert api.get(f"approvals/{pk}", wait=1).json()["state"] == "waiting"
    decide(pk, "approved")
    monkeypatch.setattr(waiting, "_hear", lambda *_: leave())
    assert api.get(f"approvals/{pk}", wait=30).json()["state"] == "approved"


@pytest.mark.parametrize(
    "changes",
    [
        {"action": {"name": "refund", "arguments": {"order": "A-1"}, "schema": REFUND["schema"]}},
        {"action": {"name": "refund", "arguments": [1]}},
        {"action": {"arguments": {}}},
        {"action": {"name": "refund", "arguments": {}, "schema": {"type": "nothing"}}},
        {"action": {"name": "refund", "arguments": {}, "schema": {"$ref": "http://169.254.169.254/"}}},
        {"deadline": "2020-01-01T00:00:00Z"},
        {"deadline": "2999-01-01T00:00:00Z"},
        {"on_timeout": "approve"},
        {"case": ""},
    ],
)
def test_what_cannot_be_decided_is_not_put_before_people(api: Api, web: Channel, changes: dict[str, Any]) -> None:
    assert code(api.post("approvals", asks(**changes))) == (400, "invalid")
    assert not Escalation.objects.exists()


def test_a_draft_is_no_approval(api: Api, web: Channel) -> None:
    from tests.console.api.conftest import escalate

    assert code(api.get(f"approvals/{escalate(web).pk}")) == (404, "not_found")
