"""A customer's message through the door, and what the caller may see of it."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from agents import tasks
from agents.connections import redis_sync
from agents.models import Channel, Release, Turn
from console.api import waiting
from escalations import queue
from escalations.models import Delivery
from tests.console.api.conftest import Api, Issue, away, code, escalate, make_turn


def said(**changes: Any) -> dict[str, Any]:
    return {"agent": "acme", "channel": "web", "case": "4711", "message": "Where is my parcel?", **changes}


def test_a_message_becomes_a_pending_turn_with_an_address(api: Any, live: Release) -> None:
    response = api.post("turns", said(customer="c-1", metadata={"plan": "gold"}, language="en"))
    turn = Turn.objects.select_related("case").get()
    assert response.status_code == 202
    assert response.headers["Location"] == f"/api/v1/turns/{turn.pk}"
    shown = response.json()
    assert shown["id"] == str(turn.pk)
    assert (shown["case"], shown["outcome"], shown["reply"], shown["cost_usd"]) == (
        "4711",
        "pending",
        "",
        "0.000000000",
    )
    assert (turn.key_prefix, turn.tester, turn.case.customer) == (api.key.prefix, False, "c-1")
    assert turn.case.metadata == {"plan": "gold"}
    assert api.get(f"turns/{turn.pk}").json() == shown


@pytest.mark.parametrize("named", [{"agent": "", "channel": ""}, {"channel": "acme/web", "agent": ""}])
def test_what_the_key_is_bound_to_need_not_be_named(issue: Issue, live: Release, web: Channel, named: Any) -> None:
    assert issue("turns", channel=web).post("turns", said(**named)).status_code == 202


def test_turns_of_a_testers_key_are_tests(issue: Issue, live: Release, web: Channel) -> None:
    issue("turns", channel=web, tester=True).post("turns", said())
    assert Turn.objects.get().tester


def test_the_second_message_of_a_case_is_its_second_turn(api: Api, live: Release) -> None:
    api.post("turns", said())
    assert api.post("turns", said(message="Hello?")).json()["number"] == 2


def test_an_outcome_that_does_not_come_in_time_is_202(api: Api, live: Release) -> None:
    response = api.post("turns", said(), prefer="wait=1")
    assert response.status_code == 202
    assert response.headers["Preference-Applied"] == "wait=1"


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=20", 20),
        ("respond-async, wait=5", 5),
        ("wait=300", 30),
        ("wait=x", 0),
        ("wait=-1", 0),
        ("", 0),
        ('wait="7"', 7),
    ],
)
def test_the_preference_is_read_as_the_rfc_writes_it(rf: Any, prefer: str, seconds: int) -> None:
    from rest_framework.request import Request

    assert waiting.wanted(Request(rf.get("/", headers={"prefer": prefer}))) == seconds
    assert waiting.wanted(Request(rf.get("/?wait=12"))) == 12
    assert waiting.wanted(Request(rf.get("/?wait=1e9"))) == 0


def finish(pk: Any, after: float = 0.3, *, aloud: bool = True) -> threading.Thread:
    """A worker that answers the turn, and tells Redis or does not."""

    def work() -> None:
        time.sleep(after)
        Turn.objects.filter(pk=pk).update(outcome="answered", reply="Monday.", finished_at=timezone.now())
        if aloud:
            redis_sync().publish(f"ph:turn:{pk}", "answered")
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.django_db(transaction=True)
def test_who_waits_is_woken_by_the_outcome(api: Api, web: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LOOK_S", 20.0)
    turn = make_turn(web)
    worker = finish(turn.pk)
    began = time.monotonic()
    shown = api.get(f"turns/{turn.pk}", wait=20).json()
    worker.join()
    assert (shown["outcome"], shown["reply"]) == ("answered", "Monday.")
    assert time.monotonic() - began < 10


@pytest.mark.django_db(transaction=True)
def test_a_word_that_got_lost_is_made_up_for_by_looking(
    api: Api, web: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LOOK_S", 0.2)
    turn = make_turn(web)
    worker = finish(turn.pk, aloud=False)
    assert api.get(f"turns/{turn.pk}", wait=20).json()["outcome"] == "answered"
    worker.join()


@pytest.mark.django_db(transaction=True)
def test_without_redis_it_looks_itself(web: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LOOK_S", 0.2)
    monkeypatch.setattr(waiting, "redis_sync", away)
    turn = make_turn(web)
    worker = finish(turn.pk)
    assert waiting.wait("x", lambda: Turn.objects.get(pk=turn.pk).outcome == "answered", 20)
    worker.join()


@pytest.mark.django_db(transaction=True)
def test_who_waits_keeps_no_database_connection_and_asks_seldom(web: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    turn, asked, seen = make_turn(web), [], []
    monkeypatch.setattr(waiting, "_hear", lambda _, seconds: (seen.append(connection.connection), time.sleep(seconds)))

    def done() -> bool:
        asked.append(Turn.objects.filter(pk=turn.pk, outcome="answered").exists())
        return asked[-1]

    assert not waiting.wait("x", done, 0.5)
    assert seen == [None]
    assert len(asked) == 2


def test_a_crowd_is_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_places", threading.BoundedSemaphore(1))
    waiting._places.acquire()
    began = time.monotonic()
    assert not waiting.wait("x", lambda: False, 30)
    assert time.monotonic() - began < 5


SOURCE = {"n": 1, "title": "Delivery", "text": "It arrives on Monday."}
MADE = {
    "draft": "It arrives on Monday.",
    "confidence": 0.7,
    "citations": [SOURCE],
    "findings": [
        {"stage": "inbound", "rule": "anger", "excerpt": "Where"},
        {"stage": "outbound", "rule": "promise", "excerpt": "on Monday"},
    ],
    "trace": [{"step": "retrieved", "ms": 1.0, "result": "1 passages", "detail": {"sources": [SOURCE], "top": 0.5}}],
}


def test_an_answer_comes_with_its_citations_and_trace(api: Api, web: Channel) -> None:
    turn = make_turn(web, outcome="answered", reply="It arrives on Monday.", cost_nano=107_500, **MADE)
    shown = api.get(f"turns/{turn.pk}").json()
    assert shown["citations"] == [SOURCE]
    assert shown["trace"] == MADE["trace"]
    assert len(shown["findings"]) == 2
    assert shown["cost_usd"] == "0.000107500"
    assert "draft" not in shown


@pytest.mark.parametrize("outcome", ["withheld", "escalated", "failed"])
def test_a_draft_never_shows_to_who_gave_the_message(issue: Issue, web: Channel, outcome: str) -> None:
    made = MADE | {"escalation": escalate(web)}
    turn = make_turn(web, outcome=outcome, **made)
    for path in (f"turns/{turn.pk}", "turns", "cases/4711", f"turns/{turn.pk}?wait=1"):
        response = issue("turns", channel=web).get(path)
        assert response.status_code == 200
        assert "Monday" not in response.content.decode(), path
        assert "promise" not in response.content.decode(), path


def test_in_shadow_not_even_the_confidence_shows(api: Api, web: Channel) -> None:
    turn = make_turn(web, outcome="withheld", **MADE)
    shown = api.get(f"turns/{turn.pk}").json()
    assert (shown["confidence"], shown["trace"], shown["citations"]) == (None, [], [])


def test_the_words_of_the_person_who_decided_do_show(api: Api, web: Channel) -> None:
    turn = make_turn(web, outcome="withheld", reply="It is lost, sorry.", reply_by="user:olga", **MADE)
    assert api.get(f"turns/{turn.pk}").json()["reply"] == "It is lost, sorry."


def test_turns_are_listed_by_case_and_outcome(api: Api, web: Channel) -> None:
    make_turn(web, "a", "answered")
    make_turn(web, "a")
    make_turn(web, "b", "failed")
    assert [row["case"] for row in api.walk("turns")] == ["b", "a", "a"]
    assert [row["outcome"] for row in api.walk("turns", case="a")] == ["pending", "answered"]
    assert [row["case"] for row in api.walk("turns", outcome="failed")] == ["b"]
    assert code(api.get("turns", outcome="good")) == (400, "invalid")


def test_fetching_a_persons_answer_acknowledges_the_decision(issue: Issue, web: Channel) -> None:
    anna = User.objects.create_user("anna")
    turn = make_turn(web, outcome="escalated", escalation=escalate(web))
    assert turn.escalation_id
    claim = queue.claim(turn.escalation_id, anna)
    queue.decide(
        turn.escalation_id, user=anna, token=claim.token, revision=claim.revision, kind="answered", text="On Monday."
    )
    api = issue("turns", channel=web)
    assert api.get(f"turns/{turn.pk}").json()["reply"] == ""
    Delivery.objects.update(due_at=timezone.now())
    tasks.deliver_decisions()
    assert Delivery.objects.get().state == "sent"
    assert api.get(f"turns/{turn.pk}").json()["reply"] == "On Monday."
    assert Delivery.objects.get().state == "acknowledged"
