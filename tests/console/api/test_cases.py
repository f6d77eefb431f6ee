"""Cases by id and by the caller's reference; who answers; what people decided elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from agents.models import Case, Channel
from console.models import AuditEntry
from escalations import queue
from escalations.models import Decision
from tests.console.api.conftest import Api, Issue, code, escalate, make_turn


def test_a_case_is_found_by_id_and_by_reference(api: Api, web: Channel) -> None:
    turn = make_turn(web, "order/47 11", "answered", reply="Monday.", cost_nano=2_000_000)
    make_turn(web, "order/47 11", cost_nano=500_000)
    by_ref = api.get("cases/order%2F47%2011").json()
    assert by_ref == api.get(f"cases/{turn.case_id}").json()
    assert (by_ref["ref"], by_ref["cost_usd"], by_ref["owner"]) == ("order/47 11", "0.002500000", "agent")
    assert [row["outcome"] for row in by_ref["turns"]] == ["answered", "pending"]
    assert code(api.get("cases/unknown")) == (404, "not_found")


def test_a_reference_of_two_channels_asks_which(api: Api, issue: Issue, web: Channel, email: Channel) -> None:
    make_turn(web), make_turn(email)
    assert code(api.get("cases/4711")) == (400, "invalid")
    assert api.get("cases/4711", channel="acme/email").json()["channel"] == "acme/email"
    assert issue("read", channel=web).get("cases/4711").json()["channel"] == "acme/web"
    assert code(api.get("cases/4711", channel="acme/fax")) == (404, "not_found")


def test_cases_are_listed_latest_first(api: Api, web: Channel) -> None:
    for ref in ("a", "b"):
        make_turn(web, ref)
    Case.objects.filter(ref="a").update(owner="human", customer="c-1")
    assert [row["ref"] for row in api.walk("cases", limit=1)] == ["b", "a"]
    assert [row["ref"] for row in api.walk("cases", owner="human")] == ["a"]
    assert [row["ref"] for row in api.walk("cases", customer="c-1")] == ["a"]
    assert [row["ref"] for row in api.walk("cases", ref="b")] == ["b"]


def test_a_person_takes_a_case_over_and_hands_it_back(api: Any, web: Channel) -> None:
    make_turn(web)
    taken = api.post("cases/4711/take-over").json()
    assert (taken["owner"], taken["owner_epoch"]) == ("human", 1)
    assert api.post("cases/4711/take-over").json()["owner_epoch"] == 1
    back = api.post("cases/4711/hand-back").json()
    assert (back["owner"], back["owner_epoch"]) == ("agent", 2)
    actions = AuditEntry.objects.filter(actor=f"key:{api.key.prefix}").order_by("id").values_list("action", flat=True)
    assert list(actions) == ["case.taken_over", "case.taken_over", "case.handed_back"]


def shadowed(web: Channel, **fields: Any) -> Any:
    return make_turn(
        web, outcome="withheld", escalation=escalate(web, blind=True, **fields), draft="It arrives on Monday."
    )


def test_what_a_person_answered_elsewhere_is_recorded_blind(api: Any, web: Channel) -> None:
    turn = shadowed(web)
    response = api.post("cases/4711/human-decisions", {"text": "It is lost.", "actor": "olga@desk"})
    assert response.status_code == 201
    decision = Decision.objects.get()
    assert (decision.kind, decision.text, decision.escalation) == ("answered", "It is lost.", turn.escalation)
    assert (decision.actor, decision.user) == (f"key:{api.key.prefix}", None)
    assert decision.note == "Decided elsewhere by olga@desk"
    assert not decision.seen_draft
    assert "Monday" not in response.content.decode()


def test_who_did_not_answer_rejected(api: Api, web: Channel) -> None:
    turn = shadowed(web)
    said = {"turn": str(turn.pk), "kind": "rejected", "actor": "olga"}
    assert api.post("cases/4711/human-decisions", said).json()["reason_code"] == "other"


def test_a_second_report_is_told_the_first(api: Api, web: Channel) -> None:
    shadowed(web)
    first = api.post("cases/4711/human-decisions", {"text": "Lost.", "actor": "olga"}).json()
    response = api.post("cases/4711/human-decisions", {"text": "Found.", "actor": "olga"})
    assert code(response) == (409, "already_decided")
    assert response.json()["error"]["details"]["decision"] == first


def test_what_a_person_has_open_here_is_left_to_them(api: Api, web: Channel) -> None:
    turn = shadowed(web)
    queue.claim(turn.escalation.pk, User.objects.create_user("anna"))
    assert code(api.post("cases/4711/human-decisions", {"text": "Lost.", "actor": "olga"})) == (409, "taken")


def test_a_report_that_is_refused_leaves_no_claim(api: Api, web: Channel) -> None:
    turn = shadowed(web)
    assert code(api.post("cases/4711/human-decisions", {"text": "", "actor": "olga"})) == (400, "invalid")
    turn.escalation.refresh_from_db()
    assert turn.escalation.state == "waiting"


@pytest.mark.parametrize("outcome", ["answered", "pending"])
def test_where_nobody_was_asked_there_is_nothing_to_report(api: Api, web: Channel, outcome: str) -> None:
    turn = make_turn(web, outcome=outcome)
    said = {"text": "Lost.", "actor": "olga"}
    assert code(api.post("cases/4711/human-decisions", said)) == (404, "not_found")
    assert code(api.post("cases/4711/human-decisions", said | {"turn": str(turn.pk)})) == (409, "conflict")
