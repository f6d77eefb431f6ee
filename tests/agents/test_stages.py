"""The way up: a gate holds without evidence, passes and fails on bounds, and only a named person opens it."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from agents import stages
from agents.models import Scope, StageChange, Turn
from agents.stages import NotYet, lower_bound, upper_bound, wilson
from escalations import queue
from escalations.models import Decision
from guardrails.models import Finding
from tests import world
from tests.redis import empty_redis

MONTH = timedelta(days=30)


@pytest.fixture(autouse=True)
def clean_redis() -> None:
    empty_redis()


@pytest.fixture
def at(db: None) -> Any:
    """A scope that has been at this stage for a month."""

    def at(stage: str) -> Scope:
        agent = world.make_agent(f"a{uuid.uuid4().hex[:8]}")
        scope = world.make_scope(agent, stage=stage)
        Scope.objects.filter(pk=scope.pk).update(created_at=timezone.now() - MONTH)
        scope.refresh_from_db()
        return scope

    return at


@pytest.fixture
def reviewer(db: None) -> User:
    return User.objects.create(username="bea")


def turn(scope: Scope, outcome: str = "answered", ago: timedelta = timedelta(days=1), **fields: Any) -> Turn:
    case, _ = scope.channel.cases.get_or_create(ref=uuid.uuid4().hex)
    return Turn.objects.create(
        case=case,
        scope=scope,
        number=1,
        message="Where is my parcel?",
        outcome=outcome,
        created_at=timezone.now() - ago,
        finished_at=timezone.now(),
        **fields,
    )


def decided(
    scope: Scope, user: User, kind: str = "answered", text: str = "On Monday.", *, code: str = "", **fields: Any
) -> Decision:
    """What a person said of one turn; `fields` are the turn's."""
    stage = scope.stage
    escalation = queue.add(
        kind="draft",
        agent=scope.agent.slug,
        scope=scope.name,
        channel=str(scope.channel),
        case_id=uuid.uuid4(),
        ref="4711",
        edge=stage,
        reason="A person decides.",
        customer_line="Where is my parcel?",
        draft=fields.get("draft", ""),
        blind=stage == "shadow",
    )
    outcome = "withheld" if stage == "shadow" else "escalated"
    turn(scope, outcome, escalation=escalation, **fields)
    claim = queue.claim(escalation.pk, user)
    return queue.decide(
        escalation.pk, kind=kind, token=claim.token, revision=claim.revision, user=user, text=text, reason_code=code
    )


def verdicts(scope: Scope) -> dict[str, str]:
    return {criterion.name: criterion.verdict for criterion in stages.gate(scope).criteria}


# --- without evidence ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["pilot", "shadow", "narrow"])
def test_without_evidence_every_criterion_holds_and_says_what_is_missing(at: Any, stage: str) -> None:
    scope = at(stage)
    gate = stages.gate(scope)
    assert gate.verdict == "HOLD"
    assert {criterion.verdict for criterion in gate.criteria} == {"HOLD"}
    assert all(criterion.missing for criterion in gate.criteria)
    with pytest.raises(NotYet, match="HOLD"):
        stages.promote(scope, actor="user:ada", reason="I feel lucky.")
    assert not scope.stage_changes.exists()


def test_the_last_stage_has_no_gate_and_no_way_up(at: Any) -> None:
    scope = at("expanded")
    assert (stages.gate(scope).criteria, stages.gate(scope).verdict) == ([], "HOLD")
    with pytest.raises(NotYet, match="last stage"):
        stages.promote(scope, actor="user:ada", reason="Higher!")


# --- pilot -----------------------------------------------------------------------------------------------------------


def test_pilot_passes_on_fifty_reviews_without_a_critical_error(at: Any, reviewer: User) -> None:
    scope = at("pilot")
    for _ in range(49):
        decided(scope, reviewer)
    assert verdicts(scope) == {"reviewed": "HOLD", "no_critical_error": "PASS"}
    decided(scope, reviewer, code="tone", kind="edited", draft="Monday!", text="On Monday.")
    assert stages.gate(scope).verdict == "PASS"
    for machine in ("system:watch", "key:ph_abc", "rule:ready@1", "agent:acme", ""):
        with pytest.raises(NotYet, match="named person"):
            stages.promote(scope, actor=machine, reason="The figures say so.")
    change = stages.promote(scope, actor="user:ada", reason="Fifty good ones.")
    scope.refresh_from_db()
    assert (scope.stage, change.from_stage, change.to_stage, change.actor) == ("shadow", "pilot", "shadow", "user:ada")
    assert change.evidence["verdict"] == "PASS"
    assert len(change.evidence["criteria"]) == 2


def test_one_critical_error_fails_the_pilot(at: Any, reviewer: User) -> None:
    scope = at("pilot")
    for _ in range(50):
        decided(scope, reviewer)
    decided(scope, reviewer, kind="rejected", code="fact", draft="Never.")
    assert stages.gate(scope).verdict == "FAIL"
    with pytest.raises(NotYet, match="FAIL"):
        stages.promote(scope, actor="user:ada", reason="One is none.")


def test_what_was_undone_or_lies_before_the_stage_is_no_evidence(at: Any, reviewer: User, settings: Any) -> None:
    settings.DECISION_HOLD_SECONDS = 60.0
    scope = at("pilot")
    queue.undo(decided(scope, reviewer).pk, reviewer)
    decided(scope, reviewer)
    StageChange.objects.create(scope=scope, from_stage="shadow", to_stage="pilot", actor="system:watch")
    decided(scope, reviewer)
    assert "1 of 50" in stages.gate(scope).criteria[0].evidence


# --- shadow ----------------------------------------------------------------------------------------------------------


def shadowed(scope: Scope, user: User, n: int, ago: timedelta = timedelta(days=1), **fields: Any) -> None:
    given = {"reason": "shadow", "draft": "It arrives on Monday.", "text": "It arrives on Monday.", **fields}
    for _ in range(n):
        decided(scope, user, ago=ago, **given)


def test_shadow_passes_when_agent_and_people_decide_alike_for_two_weeks(at: Any, reviewer: User) -> None:
    scope = at("shadow")
    shadowed(scope, reviewer, 1, ago=timedelta(days=15))
    shadowed(scope, reviewer, 150)
    assert verdicts(scope)["blind_turns"] == "HOLD"
    shadowed(scope, reviewer, 49)
    assert set(verdicts(scope).values()) == {"PASS"}
    Finding.objects.create(
        actor="agent:x", agent=scope.agent.slug, scope=scope.name, stage="outbound", policy_hash="", rule="canary",
        family="canary", action="block", severity="critical", language="en", view="plain",
    )  # fmt: skip
    assert stages.gate(scope).verdict == "FAIL"


def test_shadow_fails_when_the_agent_would_have_answered_what_nobody_should(at: Any, reviewer: User) -> None:
    scope = at("shadow")
    shadowed(scope, reviewer, 40)
    shadowed(scope, reviewer, 15, kind="rejected", text="", code="policy")
    assert verdicts(scope)["missed_escalations"] == "FAIL"


# --- narrow ----------------------------------------------------------------------------------------------------------


def test_narrow_counts_customers_cases_and_not_testers(at: Any) -> None:
    scope = at("narrow")
    turn(scope, ago=timedelta(days=9))
    for _ in range(10):
        turn(scope, tester=True)
    cases, days, rate = stages.gate(scope).criteria
    assert (cases.evidence, cases.verdict, cases.missing) == ("1 of 300", "HOLD", "299 more cases")
    assert (days.verdict, rate.verdict) == ("HOLD", "HOLD")


# --- down, and races -------------------------------------------------------------------------------------------------


def test_a_machine_may_take_a_scope_down_by_as_many_stages_as_it_likes(at: Any) -> None:
    scope = at("expanded")
    assert stages.demote(scope, actor="system:watch", reason="Too many errors.").to_stage == "narrow"
    assert stages.demote(scope, actor="rule:burn@2", reason="Worse.", to="pilot").to_stage == "pilot"
    for wrong in ("pilot", "shadow", "nowhere", ""):
        with pytest.raises(NotYet):
            stages.demote(scope, actor="system:watch", reason="Lower!", to=wrong)


@pytest.mark.parametrize(
    ("old", "new"), [("pilot", "shadow"), ("shadow", "narrow"), ("narrow", "expanded"), ("pilot", "expanded")]
)
def test_the_database_itself_lets_no_machine_go_up(at: Any, old: str, new: str) -> None:
    scope = at(old)
    with pytest.raises(IntegrityError), transaction.atomic():
        StageChange.objects.create(scope=scope, from_stage=old, to_stage=new, actor="system:watch")


def test_who_looked_before_somebody_else_moved_it_is_told(at: Any) -> None:
    scope = at("narrow")
    stale = Scope.objects.get(pk=scope.pk)
    stages.demote(scope, actor="user:ada", reason="Careful.")
    with pytest.raises(NotYet, match="Somebody else"):
        stages.demote(stale, actor="user:bea", reason="Careful, too.")
    assert scope.stage_changes.count() == 1


# --- bounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hits", "n", "verdict"),
    [
        (0, 0, "HOLD"),
        (9, 9, "HOLD"),
        (34, 34, "HOLD"),
        (35, 35, "PASS"),
        (200, 200, "PASS"),
        (181, 200, "HOLD"),
        (150, 200, "FAIL"),
    ],
)
def test_a_lower_bound_passes_on_its_interval_not_on_its_share(hits: int, n: int, verdict: str) -> None:
    assert lower_bound("x", "X", hits, n, 0.90).verdict == verdict


@pytest.mark.parametrize(
    ("hits", "n", "verdict"), [(0, 0, "HOLD"), (0, 100, "HOLD"), (0, 200, "PASS"), (3, 200, "HOLD"), (12, 200, "FAIL")]
)
def test_an_upper_bound_passes_on_its_interval_not_on_its_share(hits: int, n: int, verdict: str) -> None:
    assert upper_bound("x", "X", hits, n, 0.02).verdict == verdict


def test_the_interval_is_wilsons() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


@given(st.integers(0, 2_000), st.integers(0, 2_000), st.floats(0.01, 0.99))
def test_a_bound_never_passes_or_fails_against_its_own_share(hits: int, misses: int, bound: float) -> None:
    n = hits + misses
    low, high = wilson(hits, n)
    assert 0 <= low <= high <= 1
    above, below = lower_bound("x", "X", hits, n, bound), upper_bound("x", "X", hits, n, bound)
    share = hits / n if n else None
    if share is None:
        assert (above.verdict, below.verdict) == ("HOLD", "HOLD")
        return
    assert above.verdict != "PASS" or share >= bound
    assert above.verdict != "FAIL" or share < bound
    assert below.verdict != "PASS" or share <= bound
    assert below.verdict != "FAIL" or share > bound
    assert bool(above.missing) == (above.verdict == "HOLD")
