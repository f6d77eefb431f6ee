"""Personal data is not in what is stored, and everybody who needs the words has them whole all the same."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from agents import cases, private, tasks
from agents.models import CallBody, Case, Channel, PrivateValue, Scope, Turn
from escalations import queue
from escalations.models import Escalation
from guardrails import screen
from tests import world
from tests.agents.turns.conftest import Desk
from tests.upstream import Fails, Says

PHONE = "+48 600 123 456"
KINDS = ["email", "phone", "card", "iban", "national-number", "secret"]
ASKS = "How long can I return an item after delivery? {email}, tel. {phone}"


def asks(email: str, phone: str = PHONE) -> str:
    return ASKS.format(email=email, phone=phone)


def policy(*, reversible: bool = False, kinds: list[str] = KINDS) -> dict[str, Any]:
    return {**screen.DEFAULT_POLICY, "private": {"kinds": kinds, "reversible": reversible}}


def hiding(desk: Desk, stage: str = "narrow", *, reversible: bool = False) -> Scope:
    scope = desk.open(stage, local=False, guardrails=policy(reversible=reversible))
    Channel.objects.filter(pk=scope.channel_id).update(keep_bodies_days=7)
    return scope


def tables_with(value: str) -> list[str]:
    """The tables of the whole database that have the value in any column of any row."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        names = [row[0] for row in cursor.fetchall()]
        found = []
        for name in names:
            cursor.execute(f'SELECT count(*) FROM "{name}" AS one WHERE one::text LIKE %s', [f"%{value}%"])
            if cursor.fetchone()[0]:
                found.append(name)
    return found


def said_to_model(desk: Desk) -> str:
    return str(desk.upstream.asked[-1].body)


@pytest.mark.parametrize("reversible", [False, True])
def test_no_row_and_no_line_has_it_but_model_and_customer_do(
    desk: Desk, reversible: bool, caplog: pytest.LogCaptureFixture
) -> None:
    scope, email = hiding(desk, reversible=reversible), ("ann@example.com", "anna@example.com")[reversible]
    phone = ("+48 601 222 333", "+48 601 222 334")[reversible]
    reply = f"You can return every item within 30 days of delivery, {email}. [1]"
    desk.upstream.always("small", Says(reply))
    with caplog.at_level(logging.DEBUG):
        waiting = desk.ask(scope, asks(email, phone), metadata={"note": f"was {email}", "n": 1})
        assert tables_with(email) == []
        turn = desk.run(waiting)
        assert (turn.outcome, turn.reason) == ("answered", "answer")
        [call] = desk.calls(turn_id=turn.pk)
    assert call.status == "ok"
    body = CallBody.objects.get(call_id=call.call_id)
    assert "[email" in json.loads(body.request)["messages"][-1]["content"]
    assert "[email" in json.loads(body.response)["choices"][0]["message"]["content"]
    assert email in said_to_model(desk)
    for value in (email, phone):
        assert tables_with(value) == []
        assert value not in caplog.text
    assert ("[email]" in turn.message) == (not reversible)
    assert "[" in turn.case.metadata["note"]
    assert email not in turn.reply
    whole = private.restored(turn)
    assert (whole.message, whole.reply) == (asks(email, phone), reply)


def test_the_same_value_is_the_same_token_in_a_case_and_another_elsewhere(desk: Desk) -> None:
    scope = hiding(desk, reversible=True)
    desk.upstream.always("small", Says(world.GOOD))
    for ref in ("one", "one", "other"):
        desk.say(scope, asks("ben@example.com"), ref)
    tokens = [
        [token for kind, token in private.TOKEN.findall(turn.message) if kind == "email"]
        for turn in Turn.objects.filter(scope=scope).order_by("created_at")
    ]
    assert tokens[0] == tokens[1]
    assert tokens[0] != tokens[2]
    assert PrivateValue.objects.filter(case__channel=scope.channel, kind="email").count() == 2


@pytest.mark.parametrize("reversible", [False, True])
def test_the_model_has_the_conversation_whole(desk: Desk, reversible: bool) -> None:
    scope = hiding(desk, reversible=reversible)
    desk.upstream.always("small", Says(world.GOOD))
    desk.say(scope, asks("cleo@example.com"), "talk")
    desk.say(scope, "And how long can I return shoes after delivery?", "talk")
    assert "cleo@example.com" in said_to_model(desk)
    assert tables_with("cleo@example.com") == []


def test_what_a_gateway_caller_brings_along_is_hidden_and_used(desk: Desk) -> None:
    scope = hiding(desk)
    desk.upstream.always("small", Says(world.GOOD))
    before = [{"who": "customer", "text": "I am dora@example.com."}]
    desk.say(scope, metadata={"history": before})
    assert "dora@example.com" in said_to_model(desk)
    assert tables_with("dora@example.com") == []


@pytest.mark.parametrize("reversible", [False, True])
def test_an_approved_draft_goes_out_whole(desk: Desk, reversible: bool) -> None:
    scope, email = hiding(desk, reversible=reversible), ("emi@example.com", "emil@example.com")[reversible]
    desk.upstream.always("small", Says(f"{world.GOOD} We write to {email}."))
    turn = desk.say(scope, f"This is outrageous, I am furious! {asks(email)}")
    assert turn.escalation is not None
    assert turn.escalation.draft == turn.draft
    assert tables_with(email) == []
    decided(turn.escalation, "approved", turn.draft)
    after = Turn.objects.get(pk=turn.pk)
    assert tables_with(email) == []
    assert private.restored(after).reply == f"{world.GOOD} We write to {email}."


def decided(escalation: Escalation, kind: str, text: str = "") -> None:
    user, _ = User.objects.get_or_create(username="bea")
    claim = queue.claim(escalation.pk, user)
    decision = queue.decide(escalation.pk, kind=kind, token=claim.token, revision=claim.revision, user=user, text=text)
    cases.deliver(decision)


def test_tokens_that_a_person_leaves_in_an_answer_are_opened_for_the_customer(desk: Desk) -> None:
    scope = hiding(desk, reversible=True)
    turn = desk.say(scope, "I want to talk to a person. I am fred@example.com.")
    assert turn.escalation is not None
    [(_, token)] = private.TOKEN.findall(turn.escalation.customer_line)
    decided(turn.escalation, "answered", f"We will write to [email:{token}].")
    after = Turn.objects.get(pk=turn.pk)
    assert after.reply == f"We will write to [email:{token}]."
    assert private.restored(after).reply == "We will write to fred@example.com."


def test_a_turn_that_is_handed_back_is_run_with_the_words_as_they_were(desk: Desk) -> None:
    scope = hiding(desk)
    desk.upstream.always("small", Says(world.GOOD))
    turn = desk.say(scope, f"This is outrageous, I am furious! {asks('gus@example.com')}")
    assert turn.escalation is not None
    decided(turn.escalation, "returned", "Be kind.")
    before = len(desk.upstream.asked)
    desk.run(turn)
    assert len(desk.upstream.asked) > before
    assert "gus@example.com" in said_to_model(desk)
    assert tables_with("gus@example.com") == []


def test_what_the_customer_adds_while_a_person_looks_is_hidden(desk: Desk) -> None:
    scope = hiding(desk)
    turn = desk.say(scope, "I want to talk to a person.", "adds")
    desk.ask(scope, "My address is hana@example.com.", "adds")
    assert turn.escalation is not None
    [line] = Escalation.objects.get(pk=turn.escalation.pk).evidence["history_after"]
    assert line["text"] == "My address is [email]."
    assert tables_with("hana@example.com") == []


def test_what_a_provider_repeats_in_its_error_is_hidden(desk: Desk) -> None:
    scope = hiding(desk)
    desk.upstream.always("small", Fails(400, "Not for ines@example.com"))
    desk.upstream.always("big", Fails(400, "Not for ines@example.com"))
    turn = desk.say(scope, asks("ines@example.com"))
    desk.calls(turn_id=turn.pk)
    assert tables_with("ines@example.com") == []


def test_a_rollback_between_question_and_answer_opens_nothing(desk: Desk) -> None:
    scope = hiding(desk)
    desk.upstream.always("small", Says(world.GOOD))
    waiting = desk.ask(scope, asks("jan@example.com"))
    world.releases.deploy(scope, world.publish(desk.agent, models=world.served_by(desk.upstream.url)), actor="user:ada")
    turn = desk.run(waiting)
    assert "[email]" in turn.message
    assert private.restored(turn).message == asks("jan@example.com")


def test_with_another_secret_key_tokens_stay_and_nothing_breaks(desk: Desk, settings: Any) -> None:
    scope = hiding(desk, reversible=True)
    desk.upstream.always("small", Says(world.GOOD))
    turn = desk.say(scope, asks("kim@example.com"), "rekeyed")
    settings.SECRET_KEY = "another"
    [(_, token), _] = private.TOKEN.findall(turn.message)
    with pytest.raises(private.Unopened, match="cannot be opened"):
        private.reveal(token, Case.objects.all())
    stored = turn.message
    assert private.restored(turn).message == stored
    assert desk.say(scope, world.QUESTION, "rekeyed").outcome == "answered"


def test_what_is_sealed_is_dropped_a_day_after_the_end_and_not_while_a_person_is_asked(desk: Desk) -> None:
    scope = hiding(desk)
    desk.upstream.always("small", Says(world.GOOD))
    done = desk.say(scope, asks("lea@example.com"))
    asked = desk.say(scope, "I want to talk to a person. I am lea@example.com.")
    tasks.forget_sealed()
    assert Turn.objects.get(pk=done.pk).sealed
    Turn.objects.filter(pk__in=[done.pk, asked.pk]).update(finished_at=timezone.now() - timedelta(days=2))
    tasks.forget_sealed()
    tasks.forget_sealed()
    assert not Turn.objects.get(pk=done.pk).sealed
    assert Turn.objects.get(pk=asked.pk).sealed
    assert private.restored(Turn.objects.get(pk=done.pk)).message == done.message


def test_a_policy_that_names_nothing_changes_nothing(desk: Desk) -> None:
    scope = desk.open(local=False)
    desk.upstream.always("small", Says(world.GOOD))
    turn = desk.say(scope, asks("mia@example.com"))
    assert turn.message == asks("mia@example.com")
    assert turn.sealed == ""
    assert "agents_turn" in tables_with("mia@example.com")


def test_only_the_kinds_that_are_named_are_hidden(desk: Desk) -> None:
    scope = desk.open(local=False, guardrails=policy(kinds=["phone"]))
    desk.upstream.always("small", Says(world.GOOD))
    turn = desk.say(scope, asks("nora@example.com"))
    assert "nora@example.com" in turn.message
    assert "[phone]" in turn.message
