from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from agents.models import Agent, Turn
from escalations import queue
from escalations.models import Decision, Escalation

Person = Callable[..., Client]
Escalate = Callable[..., Escalation]
pytestmark = pytest.mark.django_db
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>'


def claim(client: Client, row: Escalation) -> dict[str, str]:
    client.post(reverse("claim", args=[row.pk]))
    row.refresh_from_db()
    return {"token": str(row.token), "revision": str(row.revision)}


def test_the_queue_lists_what_waits_most_urgent_first(person: Person, escalate: Escalate) -> None:
    escalate(customer_line="later", priority=3)
    escalate(customer_line="first", priority=1)
    page = person().get(reverse("review")).content.decode()
    assert page.index("first") < page.index("later")
    assert "2 cases wait for a person" in page


def test_the_queue_is_empty_for_those_who_may_not_decide(person: Person, escalate: Escalate) -> None:
    escalate(customer_line="secret words")
    assert "secret words" not in person("viewer").get(reverse("review")).content.decode()


def test_start_claims_the_best_and_opens_it(person: Person, escalate: Escalate) -> None:
    escalate(priority=3)
    best = escalate(priority=1)
    response = person().post(reverse("start"))
    assert response["location"] == reverse("escalation", args=[best.pk])
    best.refresh_from_db()
    assert best.state == "claimed"


def test_start_says_so_when_nothing_waits(person: Person) -> None:
    assert "Nothing waits" in person().post(reverse("start"), follow=True).content.decode()


def test_news_is_a_bar_and_moves_no_row(person: Person, escalate: Escalate) -> None:
    client, since = person(), (timezone.now() - timedelta(seconds=5)).isoformat()
    address = reverse("review-news")
    assert "new</strong>" not in client.get(address, {"since": since}, headers={"hx-request": "true"}).content.decode()
    escalate(priority=1)
    bar = client.get(address, {"since": since}, headers={"hx-request": "true"}).content.decode()
    assert "1 new" in bar
    assert "1 urgent" in bar
    assert "<table" not in bar


def test_a_draft_is_approved_and_can_be_undone(
    person: Person, escalate: Escalate, settings: pytest.FixtureRequest
) -> None:
    settings.DECISION_HOLD_SECONDS = 30.0  # type: ignore[attr-defined]
    client, row = person(), escalate()
    page = client.post(
        reverse("decide", args=[row.pk]), {**claim(client, row), "kind": "approved", "text": row.draft}, follow=True
    )
    assert "Approved" in page.content.decode()
    assert "Undo" in page.content.decode()
    decision = Decision.objects.get()
    assert (decision.kind, decision.text, decision.actor) == ("approved", row.draft, "user:operations")
    page = client.post(reverse("undo", args=[row.pk, decision.pk]), follow=True)
    assert "Nothing was sent" in page.content.decode()
    row.refresh_from_db()
    assert row.state == "claimed"


def test_undo_after_the_hold_tells_that_it_is_too_late(person: Person, escalate: Escalate) -> None:
    client, row = person(), escalate()
    client.post(reverse("decide", args=[row.pk]), {**claim(client, row), "kind": "approved"})
    response = client.post(reverse("undo", args=[row.pk, Decision.objects.get().pk]))
    assert response.status_code == 409
    assert "too late" in response.content.decode()


def test_a_changed_draft_is_not_sent_as_approved(person: Person, escalate: Escalate) -> None:
    client, row = person(), escalate()
    response = client.post(
        reverse("decide", args=[row.pk]), {**claim(client, row), "kind": "approved", "text": "Something else"}
    )
    assert response.status_code == 422
    assert "Something else" in response.content.decode()
    assert not Decision.objects.exists()


def test_rejecting_asks_for_a_reason_and_keeps_what_was_written(person: Person, escalate: Escalate) -> None:
    client, row = person(), escalate()
    response = client.post(
        reverse("decide", args=[row.pk]), {**claim(client, row), "kind": "rejected", "text": "Sorry, no."}
    )
    assert response.status_code == 422
    assert "asks for a reason" in response.content.decode()
    assert "Sorry, no." in response.content.decode()


def test_deciding_twice_shows_the_decision_that_stands(person: Person, escalate: Escalate) -> None:
    client, row = person(), escalate()
    fields = claim(client, row)
    client.post(reverse("decide", args=[row.pk]), {**fields, "kind": "edited", "text": "On Tuesday."})
    response = client.post(reverse("decide", args=[row.pk]), {**fields, "kind": "edited", "text": "On Friday."})
    page = response.content.decode()
    assert response.status_code == 409
    assert "Somebody was faster" in page
    assert "Tuesday" in page
    assert "On Friday." in page
    assert Decision.objects.get().text == "On Tuesday."


def test_the_loser_of_a_claim_is_told_who_has_it(person: Person, escalate: Escalate) -> None:
    row = escalate()
    first, second = person(name="ada"), person(name="bob")
    claim(first, row)
    response = second.post(reverse("claim", args=[row.pk]))
    assert response.status_code == 409
    assert "ada" in response.content.decode()


def test_a_lost_claim_keeps_the_text(person: Person, escalate: Escalate) -> None:
    row = escalate()
    slow, fast = person(name="slow"), person(name="fast")
    fields = claim(slow, row)
    Escalation.objects.update(lease_until=timezone.now() - timedelta(minutes=1))
    claim(fast, row)
    response = slow.post(reverse("decide", args=[row.pk]), {**fields, "kind": "answered", "text": "My long answer"})
    assert response.status_code == 409
    assert "My long answer" in response.content.decode()
    assert not Decision.objects.exists()


def test_heartbeat_extends_and_says_when_the_claim_is_lost(person: Person, escalate: Escalate) -> None:
    client, row = person(), escalate()
    token = claim(client, row)["token"]
    address = reverse("heartbeat", args=[row.pk])
    assert "Yours" in client.post(address, {"token": token}, headers={"hx-request": "true"}).content.decode()
    Escalation.objects.update(lease_until=timezone.now() - timedelta(minutes=1))
    lost = client.post(address, {"token": token}, headers={"hx-request": "true"}).content.decode()
    assert "Claim lost" in lost
    assert "hx-post" not in lost


def test_in_shadow_the_draft_is_hidden_until_decided(person: Person, escalate: Escalate) -> None:
    client, row = person(), escalate(blind=True, draft="The secret draft", reason="The agent was unsure")
    for page in (client.get(reverse("escalation", args=[row.pk])), client.get(reverse("review"))):
        assert "The secret draft" not in page.content.decode()
        assert "The agent was unsure" not in page.content.decode()
    page = client.post(
        reverse("decide", args=[row.pk]),
        {**claim(client, row), "kind": "answered", "text": "My own answer"},
        follow=True,
    )
    assert "The secret draft" in page.content.decode()
    assert "My own answer" in page.content.decode()


def test_what_was_edited_is_marked_word_by_word(person: Person, escalate: Escalate) -> None:
    client, row = person(), escalate(draft="It arrives on Monday morning.")
    page = client.post(
        reverse("decide", args=[row.pk]),
        {**claim(client, row), "kind": "edited", "text": "It arrives on Tuesday morning."},
        follow=True,
    )
    assert "<del>Monday</del><ins>Tuesday</ins>" in page.content.decode()


def test_the_turn_of_a_blind_case_hides_its_draft_too(person: Person, escalate: Escalate) -> None:
    row = escalate(blind=True)
    Turn.objects.update(
        draft="The secret draft",
        outcome="withheld",
        finished_at=timezone.now(),
        escalation=row,
        reason="no_answer",
        trace=[{"step": "judged", "ms": 1, "result": "0.31", "detail": {"reasons": ["secret reason"]}}],
    )
    client = person()
    for name, pk in (("turn", row.turn_id), ("case", row.case_id)):
        page = client.get(reverse(name, args=[pk])).content.decode()
        assert "The secret draft" not in page
        assert "secret reason" not in page
        assert "No answer" not in page


def test_an_action_is_approved_with_its_arguments(person: Person, escalate: Escalate) -> None:
    action = {"name": "refund", "arguments": {"order": "A-1", "amount": 5}}
    client, row = person(), escalate(kind="action", draft="", action=action)
    page = client.post(
        reverse("decide", args=[row.pk]), {**claim(client, row), "kind": "approved", "arguments": "{}"}, follow=True
    )
    assert Decision.objects.get().arguments == {"order": "A-1", "amount": 5}
    assert "A-1" in page.content.decode()


def test_arguments_that_are_not_json_are_refused_in_words(person: Person, escalate: Escalate) -> None:
    action = {"name": "refund", "arguments": {"order": "A-1"}}
    client, row = person(), escalate(kind="action", draft="", action=action)
    response = client.post(
        reverse("decide", args=[row.pk]), {**claim(client, row), "kind": "edited", "arguments": "{nope"}
    )
    assert response.status_code == 422
    assert "not JSON" in response.content.decode()


def test_a_viewer_reads_but_does_not_decide(person: Person, escalate: Escalate) -> None:
    client, row = person("viewer"), escalate()
    assert "Deciding needs the role Operations" in client.get(reverse("escalation", args=[row.pk])).content.decode()
    for name in ("claim", "decide", "heartbeat", "let-go"):
        assert client.post(reverse(name, args=[row.pk])).status_code == 403


def test_another_agents_case_does_not_exist(person: Person, escalate: Escalate, other_agent: Agent) -> None:
    row = escalate(agent="other", scope="other/web")
    client = person()
    assert client.get(reverse("escalation", args=[row.pk])).status_code == 404
    assert client.post(reverse("decide", args=[row.pk])).status_code == 404


def test_customers_words_are_text_everywhere(person: Person, escalate: Escalate) -> None:
    row = escalate(
        customer_line=HOSTILE,
        draft=HOSTILE,
        evidence={"history": [{"who": "customer", "text": HOSTILE}], "citations": []},
    )
    client = person()
    claim(client, row)
    for address in (
        reverse("review") + "?tab=mine",
        reverse("escalation", args=[row.pk]),
        reverse("case", args=[row.case_id]),
        reverse("turn", args=[row.turn_id]),
        reverse("cases"),
    ):
        page = client.get(address).content.decode()
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "&lt;script&gt;" in page


def test_garbage_in_the_form_is_an_answer_not_a_crash(person: Person, escalate: Escalate) -> None:
    client, row = person(), escalate()
    claim(client, row)
    for fields in ({}, {"kind": "approved", "token": "x", "revision": "9" * 40}, {"kind": "\x00", "text": "a\x00b"}):
        assert client.post(reverse("decide", args=[row.pk]), fields).status_code in (409, 422)


def test_the_queue_costs_few_queries_however_long_it_is(
    person: Person, escalate: Escalate, django_assert_max_num_queries: Callable[..., object]
) -> None:
    for _ in range(15):
        escalate()
    client = person()
    with django_assert_max_num_queries(12):  # type: ignore[attr-defined]
        client.get(reverse("review"))
    row = Escalation.objects.first()
    assert row
    queue.claim(row.pk, User.objects.get(username="operations"))
    with django_assert_max_num_queries(12):  # type: ignore[attr-defined]
        client.get(reverse("escalation", args=[row.pk]))
