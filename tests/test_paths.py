"""Whole stories over HTTP: what a caller sends, what people and workers do with it, and what the caller gets."""

from __future__ import annotations

import hashlib
import hmac
import http.server
import json
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from agents import snapshot, stages, tasks
from agents.models import Agent, Scope, Turn
from agents.providers import http as provider_http
from console import audit, deliveries
from console.models import ApiKey
from escalations.models import Escalation
from tests import world
from tests.committed import committed
from tests.console.api.conftest import REFUND, Api

HARD = "What is the weather on Mars like?"


@pytest.fixture(scope="module")
def db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """In place of the usual one: what is written stays written, until the module is over."""
    with committed(django_db_blocker):
        yield
        tasks.loop.run(provider_http.close())


class Caller(Api):
    """An application with a key of its own, on a channel of its own."""

    def __init__(self, agent: Agent, stage: str = "narrow") -> None:
        self.release = world.publish(agent)
        self.scope = world.make_scope(agent, f"c{uuid.uuid4().hex[:8]}", stage, self.release)
        self.key, secret = ApiKey.issue(
            name="Shop", actor="user:ada", scopes=list(ApiKey.SCOPES), agent=agent, channel=self.scope.channel
        )
        super().__init__(secret)
        snapshot.forget()

    def ask(self, message: str = world.QUESTION, case: str = "4711", *, once: str = "", **more: Any) -> Any:
        """POST a turn; `once` is its idempotency key."""
        headers = {"idempotency_key": once} if once else {}
        return self.post("turns", {"case": case, "message": message, **more}, **headers)

    def told(self, turn: str, **query: Any) -> dict[str, Any]:
        shown = self.get(f"turns/{turn}", **query)
        assert shown.status_code == 200, shown.content
        return dict(shown.json())

    def work(self, turn: str) -> dict[str, Any]:
        """A worker takes the turn."""
        tasks.run_turn(turn)
        return self.told(turn)

    def decide(self, escalation: str, kind: str, **said: Any) -> Any:
        """A desk claims and decides; the beat carries the decision to where it belongs."""
        claim = self.post(f"escalations/{escalation}/claim").json()
        fence = {"token": claim["token"], "revision": claim["revision"]}
        response = self.post(f"escalations/{escalation}/decide", {"kind": kind, **fence, **said})
        tasks.deliver_decisions()
        return response


@pytest.fixture(scope="module")
def agent(db: None) -> Agent:
    return world.make_agent()


@pytest.fixture
def caller(agent: Agent) -> Caller:
    return Caller(agent)


class Ear(http.server.BaseHTTPRequestHandler):
    """Hears callbacks; answers with the next of `answers`, else 204."""

    heard: ClassVar[list[tuple[dict[str, str], bytes]]] = []
    answers: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.heard.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.answers.pop(0) if self.answers else 204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name of the base class
        pass


@pytest.fixture
def ear() -> Iterator[str]:
    """The address of one who wants to be called back."""
    Ear.heard.clear()
    Ear.answers.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ear)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/told?by=pilothouse"
    server.shutdown()
    server.server_close()
    thread.join()


# --- a turn and a person ---------------------------------------------------------------------------------------------


def test_a_question_is_answered_while_the_caller_waits(caller: Caller) -> None:
    turn = caller.ask().json()["id"]

    def work() -> None:
        time.sleep(0.2)
        tasks.run_turn(turn)
        connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    shown = caller.told(turn, wait=20)
    worker.join()
    assert shown["outcome"] == "answered"
    assert "30 days" in shown["reply"]
    assert shown["citations"][0]["title"] == "Returning goods"
    assert shown["release"] == str(caller.release)
    assert shown["trace"][0]["step"] == "screened"


def test_a_hard_question_goes_to_a_person_whose_words_the_caller_gets(caller: Caller) -> None:
    turn = caller.ask(HARD).json()["id"]
    shown = caller.work(turn)
    assert shown["outcome"] == "escalated"
    holding = shown["reply"]
    assert holding

    [waiting] = caller.get("escalations").json()["results"]
    assert (waiting["id"], waiting["state"]) == (str(Turn.objects.get(pk=turn).escalation_id), "waiting")
    assert waiting["id"] in json.dumps(shown["escalation"])
    response = caller.decide(waiting["id"], "answered", text="Dry and cold, and we sell coats.")
    assert response.status_code == 201
    after = caller.told(turn)
    assert (after["outcome"], after["reply"]) == ("escalated", "Dry and cold, and we sell coats.")
    assert Turn.objects.get(pk=turn).reply_by == f"key:{caller.key.prefix}"

    again = caller.post(f"escalations/{waiting['id']}/claim")
    assert again.status_code == 409
    assert again.json()["error"]["details"]["decision"]["text"] == "Dry and cold, and we sell coats."
    assert caller.told(turn)["reply"] == "Dry and cold, and we sell coats."
    assert caller.get("escalations", state="waiting").json()["results"] == []


def test_who_is_told_to_wait_for_a_person_is_not_told_before_the_decision_can_no_longer_be_undone(
    caller: Caller, settings: Any
) -> None:
    settings.DECISION_HOLD_SECONDS = 60.0
    turn = caller.ask(HARD).json()["id"]
    caller.work(turn)
    [waiting] = caller.get("escalations").json()["results"]
    caller.decide(waiting["id"], "answered", text="Dry and cold.")
    assert caller.told(turn)["reply"] != "Dry and cold."


def test_a_person_takes_a_case_over_and_hands_it_back(caller: Caller) -> None:
    caller.work(caller.ask().json()["id"])
    assert caller.post("cases/4711/take-over").status_code == 200
    shown = caller.work(caller.ask("And in December?").json()["id"])
    assert (shown["outcome"], shown["reason"], shown["reply"]) == ("escalated", "owned_by_human", "")
    assert caller.post("cases/4711/hand-back").status_code == 200
    assert caller.work(caller.ask().json()["id"])["outcome"] == "answered"


# --- being told ------------------------------------------------------------------------------------------------------


def test_a_callback_is_signed_and_tells_of_the_outcome_and_of_the_decision(caller: Caller, ear: str) -> None:
    turn = caller.ask(HARD, callback_url=ear).json()["id"]
    caller.work(turn)
    assert deliveries.call_back(turn) is True
    assert deliveries.call_back(turn) is False, "told once"
    [waiting] = caller.get("escalations").json()["results"]
    caller.decide(waiting["id"], "answered", text="Dry and cold.")
    assert deliveries.call_back(turn) is True

    events = []
    for headers, body in Ear.heard:
        fields = dict(part.split("=", 1) for part in headers["x-pilothouse-signature"].split(","))
        signed = fields["t"].encode() + b"." + body
        expected = hmac.new(caller.key.callback_secret.encode(), signed, hashlib.sha256).hexdigest()
        assert hmac.compare_digest(fields["v1"], expected)
        assert abs(int(fields["t"]) - time.time()) < 60
        events.append(json.loads(body))
    assert [event["event"] for event in events] == ["turn.finished", "turn.decided"]
    assert events[0]["turn"]["outcome"] == "escalated"
    assert events[1]["turn"]["reply"] == "Dry and cold."
    assert events[1]["turn"]["id"] == turn


def test_a_callback_that_is_not_answered_is_tried_again_later(caller: Caller, ear: str) -> None:
    Ear.answers.extend([500, 302])
    turn = caller.ask(callback_url=ear).json()["id"]
    caller.work(turn)
    for _ in range(2):
        assert deliveries.call_back(turn) is False
        row = Turn.objects.get(pk=turn)
        assert row.callback_due is not None
        assert row.callback_due > timezone.now()
        assert row.callback_error
        assert deliveries.call_back(turn) is False, "not before its time"
        Turn.objects.filter(pk=turn).update(callback_due=timezone.now() - timedelta(seconds=1))
    assert deliveries.call_back(turn) is True
    assert len(Ear.heard) == 3
    assert Turn.objects.get(pk=turn).callback_due is None


# --- the same request twice ------------------------------------------------------------------------------------------


def test_the_same_request_twice_is_one_turn_and_one_answer(caller: Caller) -> None:
    once = uuid.uuid4().hex
    first = caller.ask(once=once)
    second = caller.ask(once=once)
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json() == first.json()
    assert second.headers["Location"] == first.headers["Location"]
    turn = first.json()["id"]
    assert caller.work(turn)["outcome"] == "answered"
    assert caller.ask(once=once).json()["id"] == turn
    assert Turn.objects.filter(scope=caller.scope).count() == 1
    other = caller.ask("Something else entirely?", once=once)
    assert other.status_code in (409, 422)
    assert Turn.objects.filter(scope=caller.scope).count() == 1


def test_ten_at_once_with_the_same_key_are_one_turn(caller: Caller) -> None:
    once = uuid.uuid4().hex
    answers: list[Any] = []

    def work() -> None:
        answers.append(caller.ask(once=once))
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1
    assert Turn.objects.filter(scope=caller.scope).count() == 1


# --- an action -------------------------------------------------------------------------------------------------------


def test_an_action_is_done_with_the_arguments_that_were_approved(caller: Caller) -> None:
    proposed = caller.post("approvals", {"case": "4711", "action": REFUND, "risk": "money"}).json()
    assert proposed["state"] == "waiting"
    wrong = caller.decide(proposed["id"], "edited", arguments={"order": "A-1", "amount": 4_000})
    assert wrong.status_code == 400
    claim = Escalation.objects.get(pk=proposed["id"])
    fence = {"token": claim.token, "revision": claim.revision}
    said = {"kind": "edited", "arguments": {"order": "A-1", "amount": 20}, **fence}
    assert caller.post(f"escalations/{proposed['id']}/decide", said).status_code == 201
    tasks.deliver_decisions()
    shown = caller.get(f"approvals/{proposed['id']}", wait=1).json()
    assert shown["decision"]["kind"] == "edited"
    assert shown["decision"]["arguments"] == {"order": "A-1", "amount": 20}


# --- releases and stages ---------------------------------------------------------------------------------------------


def test_a_bad_release_is_taken_back_and_the_next_turn_is_answered_by_the_good_one(
    caller: Caller, agent: Agent
) -> None:
    bad = world.publish(agent, prompt=f"Careless {uuid.uuid4().hex}", documents=[world.INVOICES])
    at = f"scopes/{caller.scope.pk}"
    deployed = caller.post(f"{at}/deploy", {"release": str(bad), "percent": 100})
    assert deployed.status_code == 201, deployed.content
    assert caller.work(caller.ask(case="1").json()["id"])["outcome"] == "escalated"
    taken_back = caller.post(f"{at}/rollback", {"reason": "It does not know returns any more."})
    assert taken_back.status_code == 201, taken_back.content
    shown = caller.work(caller.ask(case="2").json()["id"])
    assert (shown["outcome"], shown["release"]) == ("answered", str(caller.release))
    kinds = [row["kind"] for row in caller.get(f"{at}/deployments").json()["results"]]
    assert kinds == ["rollback", "deploy", "deploy"]
    assert audit.verify().broken is None


def test_in_shadow_people_answer_and_the_comparison_counts(agent: Agent) -> None:
    caller = Caller(agent, "shadow")
    turn = caller.ask(case="77").json()["id"]
    shown = caller.work(turn)
    assert (shown["outcome"], shown["reply"]) == ("withheld", "")
    draft = Turn.objects.get(pk=turn).draft
    assert draft
    assert draft not in json.dumps(shown), "nothing of the agent's leaves in shadow, by this door either"
    told = caller.post("cases/77/human-decisions", {"text": "Within 30 days of delivery.", "actor": "olga@desk"})
    assert told.status_code == 201
    evidence = {c.name: c.evidence for c in stages.gate(Scope.objects.get(pk=caller.scope.pk)).criteria}
    assert evidence["blind_turns"] == "1 of 200"
    assert evidence["decision_match"].startswith("1 of 1")


def test_in_pilot_a_customers_question_goes_to_a_person(agent: Agent) -> None:
    caller = Caller(agent, "pilot")
    shown = caller.work(caller.ask().json()["id"])
    assert (shown["outcome"], shown["reason"], shown["cost_usd"]) == ("escalated", "pilot", "0.000000000")
