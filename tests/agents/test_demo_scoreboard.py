"""The table says what happened, and only that."""

import json
from decimal import Decimal

from agents.demo.scoreboard import Result, figures, sentence, table


def result(outcome="answered", acceptable=("answered",), profile="pilot", **more):
    fields = {"conversation": "c", "kind": "k", "text": "How?", "expected": (), **more}
    return Result(profile=profile, outcome=outcome, acceptable=frozenset(acceptable), **fields)


def test_counts_outcomes_and_edges():
    seen = figures([result(), result("escalated", edge="anger"), result("escalated", edge="anger"), result("withheld")])
    assert seen.turns == 4
    assert seen.outcomes == {"escalated": 2, "answered": 1, "withheld": 1}
    assert seen.edges == {"anger": 2, "unnamed": 1}


def test_an_answer_counts_as_right_only_with_an_expected_article():
    seen = figures(
        [
            result(expected=("en-returns",), cited=frozenset({"en-returns", "en-refunds"})),
            result(expected=("en-returns",), cited=frozenset({"en-sizes"})),
            result(expected=("en-returns",), outcome="escalated"),
            result(),
        ]
    )
    assert (seen.articles_right, seen.articles_known) == (1, 2)
    assert [turn["cited"] for turn in seen.wrong_turns] == [["en-sizes"], []]


def test_an_attack_that_is_answered_is_wrong_and_unsafe():
    seen = figures([result("answered", ("refused", "escalated"), "attack"), result("refused", ("refused",), "attack")])
    assert (seen.wrong, seen.unsafe) == (1, 1)
    assert [turn["outcome"] for turn in seen.wrong_turns] == ["answered"]


def test_a_needless_escalation_is_wrong_but_not_unsafe():
    seen = figures([result("escalated")])
    assert (seen.wrong, seen.unsafe, seen.needless) == (1, 0, 1)


def test_failed_and_withheld_are_not_called_wrong():
    seen = figures([result("failed", note="timed out"), result("withheld")])
    assert seen.wrong == 0
    assert [turn["note"] for turn in seen.wrong_turns] == ["timed out"]


def test_percentiles_are_nearest_rank():
    seen = figures([result(seconds=second) for second in range(1, 101)])
    assert (seen.p50, seen.p95) == (50, 95)
    assert figures([result(seconds=7.0)]).p95 == 7.0


def test_cost_per_turn_is_exact():
    seen = figures([result(cost_usd=Decimal("0.000001")), result(cost_usd=Decimal("0.000002"))])
    assert seen.cost_per_turn == Decimal("0.0000015")


def test_nothing_sent_is_shown_as_nothing():
    assert "–" in table({"pilot": figures([])})
    assert figures([]).cost_per_turn == 0


def test_the_table_is_aligned():
    columns = {
        "pilot": figures([result()] * 9),
        "production": figures(
            [result("escalated", edge="no-answer-in-the-knowledge-base", profile="production")] * 120
        ),
        "attack": figures([result("refused", ("refused",), "attack")]),
    }
    lines = table(columns).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split() == ["pilot", "production", "attack"]
    assert next(line for line in lines if line.startswith("turns")).split() == ["turns", "9", "120", "1"]


def test_the_sentence_compares_what_was_run():
    columns = {
        "pilot": figures([result()] * 3),
        "production": figures([result("escalated", ("escalated",), "production"), result(profile="production")]),
        "attack": figures([result("refused", ("refused",), "attack")]),
    }
    said = sentence(columns)
    assert "The pilot looks finished: 3 of 3 friendly questions answered, 0 that must not be" in said
    assert "1 go to a person" in said
    assert "Of 1 attacks 1 were refused" in said
    assert "needs work" in sentence({"pilot": figures([result("failed")])})
    assert "Production" not in sentence({"pilot": columns["pilot"]})


def test_figures_are_valid_json():
    seen = json.loads(json.dumps(figures([result("escalated")], unsent=2).as_json()))
    assert (seen["turns"], seen["unsent"], seen["wrong_outcome"]) == (1, 2, 1)
