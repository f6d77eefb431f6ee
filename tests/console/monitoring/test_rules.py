"""Each rule's verdict: bad, fine, or not enough to say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.monitoring import rules
from console.monitoring.rules import LEVELS, RULES, Sample

ERRORS, BLOCKS, ESCALATIONS = (RULES[name] for name in ("error_rate", "guardrail_blocks", "escalation_rate"))


@pytest.mark.parametrize(
    ("failed", "calls", "state"),
    [
        (0, 0, "missing"),
        (7, 7, "missing"),
        (8, 8, "bad"),
        (0, 8, "ok"),
        (1, 10, "missing"),
        (2, 20, "missing"),
        (5, 20, "bad"),
        (1, 20, "ok"),
        (50, 1_000, "ok"),
        (100, 1_000, "bad"),
    ],
)
def test_calls_that_fail(failed: int, calls: int, state: str) -> None:
    verdict = rules.error_rate(ERRORS, Sample(calls=calls, failed=failed))
    assert verdict.state == state
    assert verdict.figures["n"] == calls
    assert verdict.severity == "critical" or state != "bad"


def test_a_sentence_tells_what_how_much_and_how_much_is_too_much() -> None:
    verdict = rules.error_rate(ERRORS, Sample(calls=40, failed=12))
    assert verdict.sentence == "12 of 40 calls failed in 15 minutes (30 %); the limit is 5 %."


def test_messages_held_back() -> None:
    sample = Sample(messages=40, held_back=20, held_back_out=1)
    assert rules.guardrail_blocks(BLOCKS, sample).state == "bad"
    assert rules.answers_held_back(BLOCKS, sample).state == "ok"
    assert rules.guardrail_blocks(BLOCKS, Sample(messages=40, held_back=3)).state == "ok"
    assert rules.guardrail_blocks(BLOCKS, Sample(messages=5, held_back=5)).state == "missing"


def test_turns_that_go_to_people() -> None:
    assert rules.escalation_rate(ESCALATIONS, Sample(turns=40, escalated=38)).state == "bad"
    assert rules.escalation_rate(ESCALATIONS, Sample(turns=40, escalated=20)).state == "ok"
    assert rules.escalation_rate(ESCALATIONS, Sample(turns=19, escalated=19)).state == "missing"


@pytest.mark.parametrize(
    ("p95", "turns", "state"),
    [(None, 0, "missing"), (90_000.0, 19, "missing"), (90_000.0, 20, "bad"), (30_000.0, 20, "ok"), (4.0, 500, "ok")],
)
def test_slow_answers(p95: float | None, turns: int, state: str) -> None:
    assert rules.latency(RULES["latency"], p95, turns).state == state


def test_what_is_overdue_in_the_queue() -> None:
    rule = RULES["queue_age"]
    assert rules.queue_age(rule, 0, 0).state == "ok"
    verdict = rules.queue_age(rule, 3, 600)
    assert (verdict.state, verdict.sentence) == (
        "bad",
        "3 escalations wait past the deadline, the oldest for 10 min.",
    )
    assert rules.queue_age(rules.with_threshold(rule, 900), 3, 600).state == "ok"


@pytest.mark.parametrize(
    ("spent", "held", "level", "severity"),
    [
        (69, 0, 0, "high"),
        (60, 10, 70, "medium"),
        (84, 0, 70, "medium"),
        (85, 0, 85, "high"),
        (95, 0, 95, "high"),
        (100, 0, 100, "critical"),
        (0, 130, 100, "critical"),
    ],
)
def test_a_budget_on_its_way_down(spent: int, held: int, level: int, severity: str) -> None:
    verdict = rules.spend(RULES["spend_day"], spent, held, 100)
    assert (verdict.state, verdict.level, verdict.severity) == ("bad" if level else "ok", level, severity)


def test_a_budget_nobody_can_read_or_of_nothing() -> None:
    assert rules.spend(RULES["spend_day"], None, 0, 100).state == "missing"
    assert rules.spend(RULES["spend_day"], 0, 0, 0).state == "ok"


def test_calls_that_wait_to_be_written_down() -> None:
    rule = RULES["drain_lag"]
    assert [rules.drain_lag(rule, lag).state for lag in (None, 0, 10_000, 10_001)] == ["missing", "ok", "ok", "bad"]


def test_processes_that_do_not_run() -> None:
    rule, needed = RULES["processes"], ("worker", "drain")
    assert rules.processes(rule, None, needed).state == "missing"
    assert rules.processes(rule, {"worker": 2, "drain": 1, "web": 3}, needed).state == "ok"
    assert rules.processes(rule, {"web": 1}, needed).sentence == "No worker and no drain process runs."


def test_a_limit_of_ones_own() -> None:
    loose = rules.with_threshold(ERRORS, 0.5)
    assert rules.error_rate(loose, Sample(calls=40, failed=12)).state == "ok"
    assert rules.with_threshold(ERRORS, None) is ERRORS


@given(n=st.integers(0, 5_000), share=st.floats(0, 1))
def test_more_failures_never_make_it_better(n: int, share: float) -> None:
    hits = round(n * share)
    order = {"ok": 0, "missing": 1, "bad": 2}
    now = rules.error_rate(ERRORS, Sample(calls=n, failed=hits)).state
    worse = rules.error_rate(ERRORS, Sample(calls=n, failed=min(n, hits + 1))).state
    assert order[worse] >= order[now]


@given(spent=st.integers(0, 200), more=st.integers(0, 50))
def test_spending_more_never_lowers_the_step(spent: int, more: int) -> None:
    rule = RULES["spend_day"]
    levels = [rules.spend(rule, amount, 0, 100).level for amount in (spent, spent + more)]
    assert levels == sorted(levels)
    assert set(levels) <= {0, *LEVELS}


def test_samples_add_up() -> None:
    assert Sample(1, 2, 3, 4, 5, 6, 7) + Sample(1, 1, 1, 1, 1, 1, 1) == Sample(2, 3, 4, 5, 6, 7, 8)
