"""Review desks of one's own: looking, claiming, deciding, and being told when somebody was faster."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from agents.models import Channel
from console.models import AuditEntry
from escalations import queue
from escalations.models import Decision, Escalation
from tests.console.api.conftest import Api, Issue, code, escalate


@pytest.fixture
def waiting(web: Channel) -> Escalation:
    return escalate(web)


@pytest.fixture
def desk(issue: Issue, web: Channel) -> Any:
    return issue("review", channel=web)


def claimed(desk: Api, escalation: Escalation) -> dict[str, int]:
    claim = desk.post(f"escalations/{escalation.pk}/claim").json()
    return {"token": claim["token"], "revision": claim["revision"]}


def test_a_desk_claims_and_decides_under_its_own_name(desk: Any, waiting: Escalation) -> None:
    path = f"escalations/{waiting.pk}"
    claim = desk.post(f"{path}/claim")
    assert claim.status_code == 200
    assert claim.json()["escalation"]["state"] == "claimed"
    assert code(desk.post(f"{path}/claim")) == (409, "taken")  # a key has nothing but its token
    said = {"kind": "edited", "text": "On Tuesday.", "token": claim.json()["token"], "revision": 1}
    decided = desk.post(f"{path}/decide", said)
    assert decided.status_code == 201
    shown = decided.json()
    assert (shown["kind"], shown["text"], shown["actor"]) == ("edited", "On Tuesday.", f"key:{desk.key.prefix}")
    assert Decision.objects.get().user is None
    assert desk.get(path).json()["decision"] == shown


def test_deciding_twice_answers_with_what_is_recorded(desk: Api, waiting: Escalation) -> None:
    said = {"kind": "approved", **claimed(desk, waiting)}
    path = f"escalations/{waiting.pk}"
    first = desk.post(f"{path}/decide", said).json()
    for again in (f"{path}/decide", f"{path}/claim"):
        response = desk.post(again, said | {"kind": "rejected", "reason_code": "fact"})
        assert code(response) == (409, "already_decided")
        assert response.json()["error"]["details"]["decision"] == first
    assert Decision.objects.count() == 1


def test_what_a_person_holds_is_theirs(desk: Api, waiting: Escalation) -> None:
    anna = User.objects.create_user("anna")
    claim = queue.claim(waiting.pk, anna)
    response = desk.post(f"escalations/{waiting.pk}/claim")
    assert code(response) == (409, "taken")
    assert response.json()["error"]["details"] == {"holder": "anna"}
    said = {"kind": "approved", "token": claim.token, "revision": 1}
    assert code(desk.post(f"escalations/{waiting.pk}/decide", said)) == (409, "taken")
    assert not Decision.objects.exists()


def test_what_is_not_claimed_is_not_decided(desk: Api, waiting: Escalation) -> None:
    said = {"kind": "approved", "token": 1, "revision": 1}
    assert code(desk.post(f"escalations/{waiting.pk}/decide", said)) == (409, "taken")


def test_a_claim_is_void_when_the_customer_wrote_again(desk: Api, waiting: Escalation) -> None:
    said = {"kind": "approved", **claimed(desk, waiting)}
    queue.supersede(waiting.case_id, "Never mind, it is the other order.")
    assert code(desk.post(f"escalations/{waiting.pk}/decide", said)) == (409, "superseded")


def test_a_claim_is_kept_and_let_go_with_its_token(desk: Api, waiting: Escalation) -> None:
    path, token = f"escalations/{waiting.pk}", claimed(desk, waiting)["token"]
    assert desk.post(f"{path}/heartbeat", {"token": token}).json()["token"] == token
    assert code(desk.post(f"{path}/heartbeat", {"token": token + 1})) == (409, "taken")
    assert code(desk.post(f"{path}/let-go", {"token": token + 1})) == (409, "taken")
    assert desk.post(f"{path}/let-go", {"token": token}).json()["state"] == "waiting"


@pytest.mark.parametrize(
    "said",
    [
        {"kind": "expired_no_response"},
        {"kind": "edited", "text": ""},
        {"kind": "edited", "text": "It arrives on Monday."},
        {"kind": "rejected"},
        {"kind": "rejected", "reason_code": "mood"},
        {"kind": "answered", "text": " "},
        {"kind": "approved", "token": "x"},
        {"kind": "approved", "token": 2**63},
    ],
)
def test_half_a_decision_is_none(desk: Api, waiting: Escalation, said: dict[str, Any]) -> None:
    said = {**claimed(desk, waiting), **said}
    assert code(desk.post(f"escalations/{waiting.pk}/decide", said)) == (400, "invalid")
    assert not Decision.objects.exists()


def test_drafts_are_for_those_who_review(issue: Issue, desk: Api, web: Channel, waiting: Escalation) -> None:
    assert desk.get(f"escalations/{waiting.pk}").json()["draft"] == "It arrives on Monday."
    reader = issue("read", channel=web)
    for path in (f"escalations/{waiting.pk}", "escalations"):
        assert "Monday" not in reader.get(path).content.decode()


def test_a_blind_draft_shows_after_the_decision_only(desk: Api, web: Channel) -> None:
    blind = escalate(web, blind=True)
    path = f"escalations/{blind.pk}"
    claim = desk.post(f"{path}/claim")
    for response in (desk.get(path), desk.get("escalations"), claim):
        assert "Monday" not in response.content.decode()
    said = {"kind": "answered", "text": "Tomorrow.", "token": claim.json()["token"], "revision": 1}
    assert desk.post(f"{path}/decide", said).status_code == 201
    assert desk.get(path).json()["draft"] == "It arrives on Monday."
    assert not Decision.objects.get().seen_draft


def test_escalations_are_listed_by_state_kind_and_queue(desk: Api, web: Channel, waiting: Escalation) -> None:
    other = escalate(web, "2", kind="case", draft="", queue="vip")
    claimed(desk, other)
    assert [row["id"] for row in desk.walk("escalations", state="waiting")] == [str(waiting.pk)]
    assert [row["id"] for row in desk.walk("escalations", kind="case")] == [str(other.pk)]
    assert [row["id"] for row in desk.walk("escalations", queue="vip")] == [str(other.pk)]
    assert code(desk.get("escalations", state="open")) == (400, "invalid")


def test_a_decision_is_in_the_trail_under_the_key(desk: Any, waiting: Escalation) -> None:
    from tests.console.test_audit import committed

    desk.post(f"escalations/{waiting.pk}/decide", {"kind": "approved", **claimed(desk, waiting)})
    committed()
    assert AuditEntry.objects.get(action="decision.approved").actor == f"key:{desk.key.prefix}"
