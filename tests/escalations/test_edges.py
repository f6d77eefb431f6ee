"""Edge rules: what decides, in which order, and that doubt never becomes an answer."""

from __future__ import annotations

import itertools
import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from escalations import edges, rules
from escalations.edges import DEFAULT_POLICY, Facts, PolicyError, compile_policy, explain, judge

POLICY = compile_policy({**DEFAULT_POLICY, "version": 7})
GOOD = Facts(
    stage="expanded",
    covered=True,
    language="en",
    answerable=True,
    support=0.9,
    top_score=0.8,
    margin=0.3,
    confidence=0.9,
    findings_families_in=frozenset(),
)
HARD = [
    ({"legal": True}, "legal", "escalate"),
    ({"asked_for_person": True}, "asked_for_person", "escalate"),
    ({"paused": True}, "paused", "escalate"),
    ({"stage": "pilot"}, "pilot", "escalate"),
    ({"screening_in": "escalate"}, "guardrail_in", "escalate"),
    ({"screening_in": "block"}, "guardrail_in", "refuse"),
    ({"covered": False}, "uncovered_language", "escalate"),
    ({"screening_out": "block"}, "guardrail_out", "escalate"),
    ({"screening_out": "escalate"}, "guardrail_out", "escalate"),
    ({"budget_state": "spent"}, "budget_spent", "refuse"),
    ({"loop": True}, "loop", "escalate"),
    ({"risk": "money"}, "irreversible_action", "escalate"),
    ({"risk": "irreversible"}, "irreversible_action", "escalate"),
    ({"integration": "down"}, "integration", "escalate"),
    ({"integration": "timeout"}, "integration", "escalate"),
    ({"identity_missing": True}, "identity", "escalate"),
    ({"out_of_scope": True}, "out_of_scope", "escalate"),
    ({"answerable": False}, "no_answer", "escalate"),
    ({"answerable": None}, "no_answer", "escalate"),
    ({"ambiguous": True, "choices": ("A", "B")}, "ambiguous", "clarify"),
    ({"ambiguous": True, "choices": ("A", "B"), "clarified_count": 1}, "ambiguous", "escalate"),
    ({"returned_count": 3}, "returned_twice", "escalate"),
    ({"anger": True}, "anger", "escalate"),
    ({"contact_count": 3}, "repeated_contact", "escalate"),
    ({"confidence": 0.54}, "low_confidence", "escalate"),
    ({"confidence": None}, "low_confidence", "escalate"),
]


def facts(**changes: Any) -> Facts:
    return replace(GOOD, **changes)


def policy(*entries: dict[str, Any], **content: Any) -> edges.EdgePolicy:
    return compile_policy({"thresholds": {"confidence": 0.5}, **content, "rules": list(entries)})


def test_a_good_answer_goes_out() -> None:
    verdict = judge(POLICY, GOOD)
    assert (verdict.action, verdict.edge, verdict.fired) == ("answer", "answer", ())


@pytest.mark.parametrize(("changes", "edge", "action"), HARD)
def test_each_edge_has_its_rule(changes: dict[str, Any], edge: str, action: str) -> None:
    verdict = judge(POLICY, facts(**changes))
    assert (verdict.edge, verdict.action) == (edge, action)
    assert verdict.rule == f"edge:{edge}@7"


@pytest.mark.parametrize(("changes", "edge", "action"), HARD)
def test_each_rule_has_its_line_for_the_customer(changes: dict[str, Any], edge: str, action: str) -> None:
    verdict = judge(POLICY, facts(**changes))
    if (edge, action) != ("guardrail_in", "refuse"):  # whose words are the guardrail policy's
        assert all(verdict.message[language] for language in ("en", "pl", "de"))


IN_ORDER = {edge: changes for changes, edge, _ in HARD if edge not in ("pilot", "ambiguous")}


@pytest.mark.parametrize(("earlier", "later"), itertools.combinations(IN_ORDER, 2))
def test_the_first_in_order_decides_and_all_are_told(earlier: str, later: str) -> None:
    verdict = judge(POLICY, facts(**IN_ORDER[later], **IN_ORDER[earlier]))
    assert verdict.edge == earlier
    assert {earlier, later} <= set(verdict.fired)


def test_a_legal_threat_comes_before_everything() -> None:
    verdict = judge(POLICY, facts(legal=True, paused=True, asked_for_person=True, budget_state="spent", anger=True))
    assert (verdict.edge, verdict.queue, verdict.priority) == ("legal", "urgent", 1)


def test_anger_raises_the_priority_of_whatever_decides() -> None:
    assert judge(POLICY, facts(answerable=False)).priority == 3
    assert judge(POLICY, facts(answerable=False, anger=True)).priority == 1


def test_a_tester_is_answered_in_the_pilot() -> None:
    assert judge(POLICY, facts(stage="pilot", tester=True)).action == "answer"


def test_ambiguity_without_choices_to_offer_goes_to_a_person() -> None:
    assert judge(POLICY, facts(ambiguous=True)).action == "escalate"


def test_an_ambiguous_question_without_an_answer_is_clarified_first() -> None:
    assert (
        judge(POLICY, facts(ambiguous=True, choices=("A", "B"), answerable=False, confidence=None)).action == "clarify"
    )


def test_no_policy_asks_the_customer_for_ever() -> None:
    endless = policy(
        {"edge": "ambiguous", "when": {"ambiguous": True}, "action": "clarify", "message": {"en": "Which one?"}}
    )
    assert judge(endless, facts(ambiguous=True)).action == "clarify"
    assert judge(endless, facts(ambiguous=True, clarified_count=1)).action == "escalate"


def test_the_more_cautious_of_equals_decides() -> None:
    refuse = {"edge": "custom_one", "when": {"margin": {"lt": 0.9}}, "action": "refuse", "message": {"en": "No."}}
    escalate = {"edge": "custom_two", "when": {"margin": {"lt": 0.9}}}
    for entries in ((refuse, escalate), (escalate, refuse)):
        verdict = judge(policy(*entries), GOOD)
        assert (verdict.action, set(verdict.fired)) == ("escalate", {"custom_one", "custom_two"})


def test_a_log_only_rule_is_told_and_does_not_decide() -> None:
    verdict = judge(policy({"edge": "custom", "when": {"margin": {"lt": 0.9}}, "mode": "log_only"}), GOOD)
    assert (verdict.action, verdict.fired) == ("answer", ("custom (log only)",))


def test_a_rule_that_is_off_is_not_told() -> None:
    verdict = judge(policy({"edge": "custom", "when": {"margin": {"lt": 0.9}}, "mode": "off"}), GOOD)
    assert (verdict.action, verdict.fired) == ("answer", ())


def test_random_samples_are_logged_and_still_answered() -> None:
    verdict = judge(POLICY, facts(sampled=True))
    assert (verdict.action, verdict.fired) == ("answer", ("sample (log only)",))


@pytest.mark.parametrize(
    ("changes", "_edge", "_action"),
    [row for row in HARD if row[1] not in ("returned_twice", "anger", "repeated_contact")],
)
def test_without_any_rule_what_is_not_sound_goes_to_a_person(changes: dict[str, Any], _edge: str, _action: str) -> None:
    verdict = judge(compile_policy({"rules": [], "thresholds": {"confidence": 0.55}}), facts(**changes))
    assert (verdict.action, verdict.edge) == ("escalate", "nothing_matches")


def test_a_policy_that_asks_nothing_of_confidence_never_answers() -> None:
    assert judge(compile_policy({"rules": []}), facts(confidence=1.0)).edge == "nothing_matches"


def test_the_bound_of_the_confidence_rule_is_the_floor_when_no_threshold_is_named() -> None:
    bounded = compile_policy({"rules": [{"edge": "low_confidence", "when": {"confidence": {"lt": 0.4}}}]})
    assert [judge(bounded, facts(confidence=value)).action for value in (0.39, 0.4)] == ["escalate", "answer"]


def test_what_is_not_known_never_refuses() -> None:
    strict = policy({"edge": "thin", "when": {"support": {"lt": 0.2}}, "action": "refuse", "message": {"en": "No."}})
    assert judge(strict, facts(support=None)).action == "answer"
    assert judge(strict, facts(support=None, answerable=None)).action == "escalate"


def test_the_default_queue_can_have_its_own_line() -> None:
    own = policy({"edge": "nothing_matches", "queue": "owner", "message": {"en": "Wait."}})
    verdict = judge(own, facts(answerable=None))
    assert (verdict.queue, verdict.message) == ("owner", {"en": "Wait."})


def test_explains_with_figures() -> None:
    low = facts(confidence=0.41)
    assert explain(judge(POLICY, low), low) == "The agent is only 41% sure of this draft."
    blocked = facts(screening_in="block", findings_families_in=frozenset({"prompt_injection"}))
    assert explain(judge(POLICY, blocked), blocked) == "The message was blocked by a guardrail: prompt injection."


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("legal", "names its edge"),
        ({"edge": "Legal threat"}, "names its edge"),
        ({"edge": "x" * 61}, "names its edge"),
        ({"edge": "x", "when": []}, "table of facts"),
        ({"edge": "x", "when": {}}, "would always decide"),
        ({"edge": "x", "when": {"weather": "bad"}}, "no fact weather"),
        ({"edge": "x", "when": {"legal": "yes"}}, "cannot be compared"),
        ({"edge": "x", "when": {"legal": {"gt": True}}}, "cannot be compared"),
        ({"edge": "x", "when": {"confidence": {"lt": "high"}}}, "cannot be compared"),
        ({"edge": "x", "when": {"confidence": {"like": 1}}}, "cannot be compared"),
        ({"edge": "x", "when": {"confidence": {}}}, "compared with nothing"),
        ({"edge": "x", "when": {"screening_in": "blocked"}}, "cannot be compared"),
        ({"edge": "x", "when": {"screening_in": {"in": "block"}}}, "cannot be compared"),
        ({"edge": "x", "when": {"choices": {"has": 1}}}, "cannot be compared"),
        ({"edge": "x", "when": {"legal": True}, "action": "answer"}, "none|without one"),
        ({"edge": "x", "when": {"legal": True}, "action": ["refuse"]}, "without one"),
        ({"edge": "x", "when": {"legal": True}, "action": "refuse"}, "needs a message"),
        ({"edge": "x", "when": {"legal": True}, "action": "clarify", "message": {"pl": "?"}}, "English at least"),
        ({"edge": "x", "when": {"legal": True}, "message": "hello"}, "table of languages"),
        ({"edge": "x", "when": {"legal": True}, "mode": "dry"}, "mode is one of"),
        ({"edge": "x", "when": {"legal": True}, "priority": "high"}, "from 1 to 4"),
        ({"edge": "x", "when": {"legal": True}, "priority": 0}, "from 1 to 4"),
        ({"edge": "x", "when": {"legal": True}, "deadline_s": 0.5}, "deadline_s"),
        ({"edge": "x", "when": {"legal": True}, "queue": "q" * 51}, "queue is a text"),
        ({"edge": "x", "when": {"legal": True}, "on_timeout": "approve"}, "on_timeout is one of"),
        ({"edge": "x", "when": {"legal": True}, "says": "{customer}"}, "says may hold"),
        ({"edge": "x", "when": {"legal": True}, "says": "{confidence.__class__}"}, "says may hold"),
        ({"edge": "x", "when": {"legal": True}, "says": "{confidence:>999999999}"}, "says may hold"),
        ({"edge": "x", "when": {"legal": True}, "says": "{"}, "brace"),
        ({"edge": "nothing_matches", "action": "refuse", "message": {"en": "No."}}, "it escalates"),
        ({"edge": "nothing_matches", "mode": "off"}, "it escalates"),
    ],
)
def test_says_what_is_wrong_with_a_rule(entry: Any, sentence: str) -> None:
    with pytest.raises(PolicyError, match=sentence):
        policy(entry)


@pytest.mark.parametrize(
    "content",
    [None, [], {}, {"rules": {}}, {"rules": [], "thresholds": {"confidence": 2}}, {"rules": [], "version": "1"}],
)
def test_says_what_is_wrong_with_a_policy(content: Any) -> None:
    with pytest.raises(PolicyError):
        compile_policy(content)


def test_the_default_policy_survives_json() -> None:
    assert compile_policy(json.loads(json.dumps(DEFAULT_POLICY))) == compile_policy(DEFAULT_POLICY)


def test_every_fact_has_one_kind_of_comparison() -> None:
    kinds = [set(rules.CHOICES), set(rules.WORDS), set(rules.SETS), set(rules.NUMBERS), set(rules.FLAGS)]
    assert sorted(name for kind in kinds for name in kind) == sorted(field.name for field in fields(Facts))


def test_every_default_rule_has_a_place_in_the_order() -> None:
    assert {rule.edge for rule in POLICY.rules} <= set(rules.ORDER)


maybe = st.none() | st.floats(0, 1) | st.just(float("nan"))
any_facts = st.builds(
    Facts,
    stage=st.sampled_from(["pilot", "shadow", "narrow", "expanded", "unheard-of"]),
    covered=st.booleans(),
    screening_in=st.sampled_from(["allow", "redact", "block", "escalate", "?"]),
    screening_out=st.sampled_from(["allow", "redact", "block", "escalate", "?"]),
    tester=st.booleans(),
    paused=st.booleans(),
    asked_for_person=st.booleans(),
    legal=st.booleans(),
    anger=st.booleans(),
    identity_missing=st.booleans(),
    out_of_scope=st.booleans(),
    answerable=st.none() | st.booleans(),
    support=maybe,
    top_score=maybe,
    margin=maybe,
    confidence=maybe,
    ambiguous=st.booleans(),
    choices=st.sampled_from([(), ("A", "B")]),
    clarified_count=st.integers(0, 3),
    returned_count=st.integers(0, 4),
    contact_count=st.integers(1, 5),
    budget_state=st.sampled_from(["ok", "low", "spent", "?"]),
    integration=st.sampled_from(["ok", "down", "timeout", "?"]),
    loop=st.booleans(),
    risk=st.sampled_from(["information", "account", "money", "irreversible", "?"]),
    sampled=st.booleans(),
)


def harmless(seen: Facts) -> bool:
    """Written once more, and differently: what an answer must have."""
    return (
        seen.covered
        and seen.screening_in in {"allow", "redact"}
        and seen.screening_out in {"allow", "redact"}
        and not (seen.legal or seen.asked_for_person or seen.paused or seen.identity_missing or seen.out_of_scope)
        and not (seen.ambiguous or seen.loop)
        and seen.answerable is True
        and seen.confidence is not None
        and seen.confidence >= 0.55
        and seen.integration == "ok"
        and seen.budget_state in {"ok", "low"}
        and seen.risk in {"information", "account"}
        and (seen.tester or seen.stage in {"shadow", "narrow", "expanded"})
    )


@settings(max_examples=500, deadline=None)
@given(any_facts)
def test_answers_only_when_everything_is_known_and_good(seen: Facts) -> None:
    if judge(POLICY, seen).action == "answer":
        assert harmless(seen)


@settings(max_examples=500, deadline=None)
@given(any_facts)
def test_a_rule_that_fires_is_never_answered_over(seen: Facts) -> None:
    verdict = judge(POLICY, seen)
    deciding = [name for name in verdict.fired if not name.endswith("(log only)")]
    assert (verdict.action == "answer") <= (not deciding)
    if deciding:
        assert verdict.edge == deciding[0]
        assert [rules.ORDER.index(name) for name in deciding] == sorted(rules.ORDER.index(name) for name in deciding)


some_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats()
    | st.sampled_from(["block", "confidence", "refuse", "{", "x", "\x00"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["eq", "lt", "in", "has", "en"]), inner, max_size=3)
    ),
    max_leaves=6,
)
some_rules = st.fixed_dictionaries(
    {"edge": st.sampled_from(["legal", "custom", "nothing_matches", "ambiguous"]) | some_json},
    optional={
        "when": st.dictionaries(st.sampled_from([field.name for field in fields(Facts)]), some_json, max_size=2)
        | some_json,
        "action": st.sampled_from(["clarify", "refuse", "escalate", "answer"]) | some_json,
        "message": st.just({"en": "{choices}"}) | some_json,
        **dict.fromkeys(("mode", "queue", "skill", "priority", "deadline_s", "on_timeout", "says"), some_json),
    },
)
some_policies = st.fixed_dictionaries(
    {"rules": st.lists(some_rules, max_size=3) | some_json}, optional={"thresholds": some_json}
)


@settings(max_examples=400, deadline=None)
@given(some_policies, any_facts)
def test_a_policy_is_refused_with_a_sentence_or_judges_without_error(content: dict[str, Any], seen: Facts) -> None:
    try:
        compiled = compile_policy(content)
    except PolicyError:
        return
    verdict = judge(compiled, seen)
    assert explain(verdict, seen) is not None
    if verdict.action == "answer":
        assert seen.covered
        assert not seen.legal
        assert seen.integration == "ok"
