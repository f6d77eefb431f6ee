"""Every screen: opens for those who may, asks others to sign in, costs few queries."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from agents import releases
from agents.connections import redis_sync
from agents.models import Agent, Call, Case, Release, Scope, Turn
from budgets.models import Budget
from guardrails.models import Finding

Person = Callable[..., Client]
pytestmark = pytest.mark.django_db
SCREENS = [
    "overview",
    "review",
    "cases",
    "calls",
    "releases",
    "stages",
    "knowledge",
    "guardrails",
    "guardrails-coverage",
    "guardrails-test",
    "guardrails-harmless",
    "guardrails-log-only",
    "costs",
    "audit",
    "playground",
    "settings",
]
FULL = ["settings-keys", "settings-people", "settings-budgets", "settings-new-agent", "settings-new-budget"]


@pytest.fixture
def full(agent: Agent, scope: Scope, live: Release, make_turn: Callable[..., Turn]) -> Turn:
    """One of everything."""
    now = timezone.now()
    turn = make_turn(
        outcome="answered",
        finished_at=now,
        reply="On Monday.",
        reply_by="agent:acme",
        release=live,
        confidence=0.9,
        cost_nano=1_200_000,
        trace=[
            {"step": "screened", "ms": 0.2, "result": "allow", "detail": {"language": "en"}},
            {
                "step": "retrieved",
                "ms": 2,
                "result": "1 passages",
                "detail": {"sources": [{"n": 1, "title": "T", "text": "t", "score": 1}]},
            },
            {"step": "held", "ms": 1, "result": "Exhausted", "detail": {}},
            {"step": "called", "ms": 3, "result": "ok", "detail": {"model": "m", "tokens": 3}},
            {"step": "judged", "ms": 1, "result": "0.90", "detail": {"reasons": ["Good."]}},
            {
                "step": "decided",
                "ms": 1,
                "result": "answer",
                "detail": {"rule": "edge:answer@1", "fired": ["low_confidence"]},
            },
            {"step": "settled", "ms": 1, "result": "1 calls", "detail": {"cost_nano": 5}},
            {"step": "of_the_future", "ms": 1, "result": "x", "detail": {}},
        ],
    )
    for price, cost in (("exact", 1_200_000), ("unknown", None)):
        Call.objects.create(
            call_id=turn.pk,
            attempt=1 if cost else 2,
            at=now,
            agent="acme",
            scope="acme/web",
            turn_id=turn.pk,
            model="local/extractive",
            status="ok",
            price=price,
            cost_nano=cost,
        )
    Finding.objects.create(
        at=now,
        actor="agent:acme",
        agent="acme",
        scope="acme/web",
        turn_id=turn.pk,
        stage="inbound",
        policy_hash="h",
        rule="r",
        family="prompt_extraction",
        action="block",
        severity="high",
        language="en",
        view="plain",
        excerpt="<b>show me</b>",
        excerpt_hash="h",
    )
    Budget.objects.create(owner_kind="channel", owner="acme/web", period="day", limit_nano=10**9)
    return turn


@pytest.mark.parametrize("name", SCREENS)
@pytest.mark.parametrize("role", ["viewer", "operations", "administrator", "superuser", ""])
def test_opens_for_every_role_even_with_nothing_to_show(name: str, role: str, person: Person) -> None:
    assert person(role).get(reverse(name)).status_code == 200


@pytest.mark.parametrize("name", SCREENS)
def test_opens_with_one_of_everything_in_few_queries(
    name: str, person: Person, full: Turn, django_assert_max_num_queries: Callable[..., object]
) -> None:
    client = person("administrator")
    with django_assert_max_num_queries(14):  # type: ignore[attr-defined]
        assert client.get(reverse(name)).status_code == 200


@pytest.mark.parametrize("name", [*SCREENS, *FULL])
def test_asks_for_signing_in(name: str) -> None:
    response = Client().get(reverse(name))
    assert response.status_code == 302
    assert response["location"].startswith(reverse("sign-in"))


def test_a_fragment_sends_the_whole_page_to_signing_in() -> None:
    response = Client().get(
        reverse("cases"), headers={"hx-request": "true", "hx-current-url": "http://testserver/cases"}
    )
    assert response["hx-redirect"] == reverse("sign-in") + "?next=/cases"


@pytest.mark.parametrize("name", FULL)
def test_what_belongs_to_the_installation_needs_its_administrator(name: str, person: Person) -> None:
    assert person("superuser").get(reverse(name)).status_code == 200
    expected = 200 if name == "settings-budgets" else 403
    assert person("operations").get(reverse(name)).status_code == expected


@pytest.mark.parametrize(
    ("name", "marker"),
    [
        ("cases", "case-list"),
        ("calls", "call-list"),
        ("guardrails", "finding-list"),
        ("releases", "release-list"),
        ("audit", "entries"),
    ],
)
def test_lists_answer_htmx_with_the_list_alone(name: str, marker: str, person: Person, full: Turn) -> None:
    client = person("superuser")
    page = client.get(reverse(name)).content.decode()
    part = client.get(reverse(name), headers={"hx-request": "true"}).content.decode()
    assert "<html" in page
    assert marker in page
    assert "<html" not in part
    assert marker in part


def test_the_policy_allows_no_inline_code_or_style(person: Person, full: Turn) -> None:
    client = person("superuser")
    for name in [*SCREENS, *FULL]:
        response = client.get(reverse(name))
        assert "unsafe" not in response["content-security-policy"]
        page = response.content.decode()
        assert " style=" not in page
        assert "<style" not in page
        assert " onclick=" not in page
        assert page.count("<script") == page.count("<script src=") + page.count(
            '<script id="spend-data" type="application/json"'
        )


def test_an_unpriced_call_says_so_and_is_never_nothing(person: Person, full: Turn) -> None:
    client = person("viewer")
    assert "unpriced" in client.get(reverse("calls")).content.decode()
    assert "1 without a price" in client.get(reverse("costs")).content.decode()


def test_the_turn_tells_its_path(person: Person, full: Turn) -> None:
    page = person("viewer").get(reverse("turn", args=[full.pk])).content.decode()
    for words in (
        "Question screened",
        "Knowledge searched",
        "No budget has room",
        "Model called",
        "Confidence judged",
        "Raw JSON",
    ):
        assert words in page
    assert "&lt;b&gt;show me" in page


def test_a_turn_that_is_being_answered_is_polled_until_it_is_not(
    person: Person, make_turn: Callable[..., Turn]
) -> None:
    client, turn = person("viewer"), make_turn()
    address = reverse("turn", args=[turn.pk])
    assert "hx-trigger" in client.get(address, headers={"hx-request": "true"}).content.decode()
    Turn.objects.update(outcome="failed", finished_at=timezone.now())
    assert "hx-trigger" not in client.get(address, headers={"hx-request": "true"}).content.decode()


def test_others_objects_do_not_exist(person: Person, other_agent: Agent) -> None:
    scope = Scope.objects.get(channel__agent=other_agent)
    case = Case.objects.create(channel=scope.channel, ref="x")
    turn = Turn.objects.create(case=case, scope=scope, number=1, message="Not yours")
    client = person("administrator")
    for name, args in (
        ("case", [case.pk]),
        ("turn", [turn.pk]),
        ("scope-stage", [scope.pk]),
        ("rollback", [scope.pk]),
        ("deploy", [scope.pk]),
        ("arrival", [scope.pk]),
        ("release", ["other", 1]),
        ("settings-agent", ["other"]),
        ("settings-new-channel", ["other"]),
    ):
        assert client.get(reverse(name, args=args)).status_code == 404, name
    assert client.post(reverse("pause", args=["other"]), {"paused": "yes"}).status_code == 404
    assert client.post(reverse("case-owner", args=[case.pk]), {"owner": "human"}).status_code == 404
    for name in SCREENS:
        assert "Not yours" not in client.get(reverse(name)).content.decode()


def test_search_finds_words_and_survives_odd_ones(person: Person, make_turn: Callable[..., Turn]) -> None:
    make_turn("Where is my blue sofa?", ref="sofa-1")
    make_turn("Something else", ref="other-1")
    client = person("viewer")
    found = client.get(reverse("cases"), {"q": "blue SOFA"}).content.decode()
    assert "sofa-1" in found
    assert "other-1" not in found
    for odd in ("%", "\x00", "'; drop table", "x" * 5_000):
        assert client.get(reverse("cases"), {"q": odd, "before": odd, "scope": odd}).status_code == 200


def test_pages_follow_one_another_without_gaps(person: Person, make_turn: Callable[..., Turn]) -> None:
    for number in range(60):
        turn = make_turn(ref=f"case-{number:02}")
        Case.objects.filter(pk=turn.case_id).update(last_turn_at=timezone.now())
    client, seen, address = person("viewer"), [], reverse("cases")
    for _ in range(3):
        response = client.get(address)
        rows = response.context["cases"]
        seen += [row.ref for row in rows.rows]
        if not rows.older:
            break
        address = reverse("cases") + "?before=" + rows.older.replace("+", "%2B")
    assert seen == [f"case-{number:02}" for number in range(59, -1, -1)]


def test_signing_in_and_out() -> None:
    User.objects.create_user("ada", password="a long password")
    client = Client()
    page = client.post(reverse("sign-in"), {"username": "ada", "password": "wrong"}).content.decode()
    assert "do not belong together" in page
    assert client.post(reverse("sign-in"), {"username": "ada", "password": "a long password"})["location"] == reverse(
        "overview"
    )
    assert client.post(reverse("sign-out"))["location"] == reverse("sign-in")


def test_preferences_are_remembered_without_a_script(person: Person) -> None:
    client = person("viewer")
    client.post(reverse("preferences"), {"theme": "dark"})
    assert 'data-theme="dark"' in client.get(reverse("overview")).content.decode()
    client.post(reverse("preferences"), {"theme": '"><script>'})
    assert "data-theme" not in client.get(reverse("overview")).content.decode()


def test_preferences_lead_back_to_this_site_only(person: Person) -> None:
    response = person("viewer").post(
        reverse("preferences"), {"theme": "dark"}, headers={"referer": "https://elsewhere.example/"}
    )
    assert response["location"] == reverse("overview")


def test_taking_a_case_over_raises_its_owner_epoch(person: Person, make_turn: Callable[..., Turn]) -> None:
    turn = make_turn()
    person("operations").post(reverse("case-owner", args=[turn.case_id]), {"owner": "human"})
    case = Case.objects.get()
    assert (case.owner, case.owner_epoch) == ("human", 1)
    assert person("viewer").post(reverse("case-owner", args=[turn.case_id]), {"owner": "agent"}).status_code == 403


def test_operations_pause_and_only_administrators_resume(person: Person, agent: Agent) -> None:
    operations, administrator = person("operations"), person("administrator")
    operations.post(reverse("pause", args=["acme"]), {"paused": "yes"})
    agent.refresh_from_db()
    assert agent.paused_at
    assert agent.paused_by == "user:operations"
    assert "Acme is paused" in operations.get(reverse("overview")).content.decode()
    assert operations.post(reverse("pause", args=["acme"]), {"paused": "no"}).status_code == 403
    administrator.post(reverse("pause", args=["acme"]), {"paused": "no"})
    agent.refresh_from_db()
    assert agent.paused_at is None


def test_the_playground_sends_a_testers_turn_and_keeps_what_fails(
    person: Person, live: Release, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.cases._enqueue", lambda _: None)
    client = person("operations")
    response = client.post(
        reverse("playground-say"), {"scope": scope.pk, "message": "Hello <i>"}, headers={"hx-request": "true"}
    )
    part = response.content.decode()
    turn = Turn.objects.get()
    assert turn.tester
    assert turn.case.customer == "user:operations"
    assert "Hello &lt;i&gt;" in part
    assert "Working" in part
    assert "every 500ms" in part
    assert str(turn.case_id) in response["hx-push-url"]
    assert client.post(reverse("playground-say"), {"scope": scope.pk, "message": " "}).status_code == 422
    assert person("viewer").post(reverse("playground-say"), {"scope": scope.pk, "message": "Hi"}).status_code == 403
    assert person("operations", "other").get(reverse("playground"), {"case": turn.case_id}).status_code == 404


def test_the_overview_names_the_provider_that_is_left_alone_to_those_whom_it_concerns(
    person: Person, agent: Agent, scope: Scope, live: Release
) -> None:
    model = {"base_url": "https://models.example/v1", "price": {"input": "1", "output": "2"}}
    content = {"models": {"small": model}, "tiers": {"small": ["small"]}}
    version = releases.add_version(agent, "models", content, author="user:ada")
    release = releases.publish(agent, {**live.parts(), "models": version}, author="user:ada")
    releases.deploy(scope, release, actor="user:ada")
    for name in ("small at models.example", "other at elsewhere.example"):
        redis_sync().hset(f"ph:circuit:{name}", "until", str(time.time() + 25))
        redis_sync().sadd("ph:circuits", name)
    text = person("viewer").get(reverse("overview")).content.decode()
    assert "small at models.example keeps failing and is left alone for 2" in text
    assert "elsewhere.example" not in text
