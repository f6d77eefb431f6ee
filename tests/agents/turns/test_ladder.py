"""The degradation ladder: a budget that runs low buys cheaper models, then a person's look, then an honest refusal."""

from __future__ import annotations

from agents import snapshot
from agents.models import Scope
from budgets.models import Budget
from tests import world
from tests.agents.turns.conftest import Desk
from tests.upstream import Says

TIERS = {"large": ["big"], "small": ["small"]}


def budgeted(desk: Desk, limit_nano: int, **config: object) -> Scope:
    models = world.served_by(desk.upstream.url, tiers=TIERS, default_tier="large", **config)
    scope = desk.open(models=models)
    Budget.objects.create(owner_kind="channel", owner=str(scope.channel), period="day", limit_nano=limit_nano)
    snapshot.forget()
    desk.upstream.always("big", Says(world.GOOD, usage=(300, 50, 0)))
    desk.upstream.always("small", Says(world.GOOD, usage=(300, 50, 0)))
    return scope


def held(desk: Desk) -> int:
    """What a call of the large model holds."""
    scope = budgeted(desk, 10**12)
    turn = desk.say(scope)
    desk.upstream.asked.clear()
    return next(int(step["detail"]["nano"]) for step in turn.trace if step["step"] == "held")


def test_a_full_purse_buys_the_large_model(desk: Desk) -> None:
    most = held(desk)
    turn = desk.say(budgeted(desk, most * 2))
    assert (turn.outcome, desk.upstream.models()) == ("answered", ["big"])


def test_from_85_percent_on_the_small_model_serves_and_the_trace_says_why(desk: Desk) -> None:
    most = held(desk)
    turn = desk.say(budgeted(desk, int(most / 0.9)))
    assert (turn.outcome, desk.upstream.models()) == ("answered", ["small"])
    degraded, kept = (step for step in turn.trace if step["step"] == "held")
    assert (degraded["result"], degraded["detail"]["tier"]) == ("degraded", "small")
    assert kept["detail"]["pressure"] < 0.85
    assert turn.cost_nano == 400_000


def test_the_share_is_the_configurations_to_set(desk: Desk) -> None:
    most = held(desk)
    desk.say(budgeted(desk, most * 2, degrade_at=0.3))
    assert desk.upstream.models() == ["small"]


def test_at_95_percent_a_person_looks_before_the_answer_goes_out(desk: Desk) -> None:
    most = held(desk)
    turn = desk.say(budgeted(desk, int(most / 10 / 0.97)))
    assert (turn.outcome, turn.reason) == ("escalated", "budget_low")
    assert turn.draft == world.GOOD
    assert desk.upstream.models() == ["small"]


def test_at_100_percent_it_refuses_and_says_when_it_is_back(desk: Desk) -> None:
    turn = desk.say(budgeted(desk, 1_000))
    assert (turn.outcome, turn.reason) == ("refused", "budget_spent")
    assert "is back at" in turn.reply
    assert desk.upstream.asked == []
