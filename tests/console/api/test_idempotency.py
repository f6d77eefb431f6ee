"""The same request, however often it arrives, does its work once and gets one answer."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from agents.models import Case, Channel, Deployment, Release, Turn
from console.api import idempotency
from console.models import IdempotencyRecord
from escalations.models import Decision, Escalation
from tests.console.api.conftest import REFUND, Api, Issue, code, escalate, publish, scope_of

BODY = {"agent": "acme", "channel": "web", "case": "4711", "message": "Hello"}


def test_the_same_request_gets_the_same_answer(api: Api, live: Release) -> None:
    first = api.post("turns", BODY, idempotency_key="a")
    second = api.post("turns", dict(reversed(BODY.items())), idempotency_key="a")
    assert (first.status_code, first.json()) == (second.status_code, second.json())
    assert first.headers["Location"] == second.headers["Location"]
    assert second.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert Turn.objects.count() == 1


@pytest.mark.parametrize("other", [{"message": "Hello!"}, {"case": "4712"}, {"metadata": {"a": 1}}])
def test_another_body_under_the_same_key_is_a_conflict(api: Api, live: Release, other: dict[str, Any]) -> None:
    api.post("turns", BODY, idempotency_key="a")
    assert code(api.post("turns", BODY | other, idempotency_key="a")) == (409, "idempotency_conflict")
    assert Turn.objects.count() == 1


def test_another_address_under_the_same_key_is_a_conflict(api: Api, live: Release, web: Channel) -> None:
    api.post("turns", BODY, idempotency_key="a")
    assert code(api.post("approvals", BODY, idempotency_key="a")) == (409, "idempotency_conflict")


def test_keys_of_two_callers_do_not_meet(issue: Issue, live: Release) -> None:
    issue("turns").post("turns", BODY, idempotency_key="a")
    assert issue("turns").post("turns", BODY, idempotency_key="a").json()["number"] == 2


def test_without_the_header_each_request_counts(api: Api, live: Release) -> None:
    api.post("turns", BODY)
    assert api.post("turns", BODY).json()["number"] == 2
    assert not IdempotencyRecord.objects.exists()


def test_an_error_is_not_kept(api: Api, web: Channel) -> None:
    assert code(api.post("turns", BODY, idempotency_key="a")) == (409, "no_release")
    assert not IdempotencyRecord.objects.exists()
    from agents import releases

    releases.deploy(scope_of(web), publish(web.agent), actor="user:ada")
    assert api.post("turns", BODY, idempotency_key="a").status_code == 202


def test_a_key_that_is_too_long_is_refused(api: Api, live: Release) -> None:
    assert code(api.post("turns", BODY, idempotency_key="x" * 201)) == (400, "invalid")


def test_one_that_is_at_work_asks_to_come_back(api: Any, live: Release) -> None:
    api.post("turns", BODY, idempotency_key="a")
    IdempotencyRecord.objects.update(status=None)
    response = api.post("turns", BODY, idempotency_key="a")
    assert code(response) == (409, "idempotency_in_flight")
    assert response.headers["Retry-After"] == "1"
    other = api.post("turns", BODY | {"message": "Other"}, idempotency_key="a")
    assert code(other) == (409, "idempotency_conflict")


def test_what_a_dead_process_began_may_be_tried_again(api: Api, live: Release) -> None:
    api.post("turns", BODY, idempotency_key="a")
    IdempotencyRecord.objects.update(status=None, at=timezone.now() - timedelta(minutes=2))
    assert api.post("turns", BODY, idempotency_key="a").status_code == 202


def test_work_and_answer_are_kept_together_or_not_at_all(api: Api, live: Release, monkeypatch: Any) -> None:
    def dies(*_: Any) -> None:
        raise RuntimeError("the machine is gone")

    monkeypatch.setattr(idempotency, "_keep", dies)
    assert code(api.post("turns", BODY, idempotency_key="a")) == (500, "internal_error")
    assert not Turn.objects.exists()
    assert not Case.objects.exists()


def test_after_a_day_a_key_is_free_again(api: Api, live: Release) -> None:
    api.post("turns", BODY, idempotency_key="a")
    IdempotencyRecord.objects.update(at=timezone.now() - timedelta(days=1, minutes=1))
    assert api.post("turns", BODY, idempotency_key="a").json()["number"] == 2


def test_old_records_are_swept_by_new_ones(api: Api, live: Release) -> None:
    for number in range(3):
        api.post("turns", BODY, idempotency_key=f"old-{number}")
    IdempotencyRecord.objects.update(at=timezone.now() - timedelta(days=2))
    api.post("turns", BODY, idempotency_key="new")
    assert [record.token for record in IdempotencyRecord.objects.all()] == ["new"]


def test_every_post_that_creates_can_be_repeated(api: Any, live: Release, web: Channel) -> None:
    """Deploying, publishing, approvals, claims and decisions: the second answer is the first."""
    publish(web.agent, "Second")
    escalation = escalate(web)
    scope = scope_of(web).pk
    requests: list[tuple[str, Any]] = [
        ("versions", {"agent": "acme", "kind": "prompt", "content": {"text": "Third"}}),
        ("releases", {"agent": "acme", "parts": {"prompt": 3}}),
        (f"scopes/{scope}/deploy", {"release": "r3"}),
        (f"scopes/{scope}/rollback", {"reason": "Worse"}),
        ("approvals", {"agent": "acme", "channel": "web", "case": "1", "action": REFUND}),
        ("cases/4711/take-over", {}),
        (f"escalations/{escalation.pk}/claim", {}),
        (f"escalations/{escalation.pk}/decide", {"kind": "approved", "token": 1, "revision": 1}),
    ]
    for path, body in requests:
        first, second = (api.post(path, body, idempotency_key=path) for _ in range(2))
        assert first.status_code in (200, 201), (path, first.content)
        assert (first.status_code, first.json()) == (second.status_code, second.json()), path
        assert second.headers["Idempotency-Replayed"] == "true"
    assert Deployment.objects.count() == 3
    assert Escalation.objects.count() == 2
    assert Decision.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_one_does_the_work(live: Release, api: Any) -> None:
    secret = api._headers["authorization"].removeprefix("Bearer ")
    answers: list[Any] = []
    gate = threading.Barrier(12)

    def ask() -> None:
        gate.wait()
        answers.append(Api(secret).post("turns", BODY, idempotency_key="a"))
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    turn = Turn.objects.get()
    good = [answer for answer in answers if answer.status_code == 202]
    assert {answer.json()["id"] for answer in good} == {str(turn.pk)}
    assert {code(answer) for answer in answers if answer not in good} <= {(409, "idempotency_in_flight")}
    assert IdempotencyRecord.objects.get().status == 202


@pytest.mark.django_db(transaction=True)
def test_of_many_different_ones_at_once_all_but_one_are_conflicts(live: Release, api: Any) -> None:
    secret = api._headers["authorization"].removeprefix("Bearer ")
    answers: list[Any] = []

    def ask(number: int) -> None:
        answers.append(Api(secret).post("turns", BODY | {"message": f"Hello {number}"}, idempotency_key="a"))
        connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 7
    assert Turn.objects.count() == 1
