"""From figures to alerts: opened once, fired after two looks, closed after two clean ones."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from agents import releases
from agents.connections import redis_sync
from agents.models import Agent, Deployment, Scope
from agents.snapshot import ACKS
from budgets.models import Budget
from budgets.periods import window
from console import tasks
from console.celery import app
from console.models import Alert, AlertChange, AlertRule, ApiKey, AuditEntry
from console.monitoring import alerts, rules, watch
from console.monitoring.alerts import Judgement, Place
from console.monitoring.rules import RULES, Sample
from escalations import queue
from tests.console.api.conftest import escalate
from tests.console.monitoring.conftest import HELD_BACK, Clock, call, deploy, states, turn

pytestmark = pytest.mark.django_db
HOUR, LONG_AGO = timedelta(hours=1), timedelta(days=3)
BAD = Judgement(
    RULES["error_rate"], Place("acme/web", "acme", "acme/web"), rules.error_rate(RULES["error_rate"], Sample(20, 20))
)
FINE = Judgement(RULES["error_rate"], BAD.place, rules.error_rate(RULES["error_rate"], Sample(20, 0)))
UNKNOWN = Judgement(RULES["error_rate"], BAD.place, rules.error_rate(RULES["error_rate"], Sample(0, 0)))


def alive(*kinds: str) -> None:
    for kind in kinds:
        redis_sync().hset(ACKS, f"{kind}-vm-1", f"1:{time.time()}")


# --- states --------------------------------------------------------------------------------------------------------


def test_pending_for_one_evaluation_then_firing_then_resolved_after_two_clean_ones(scope: Scope, clock: Clock) -> None:
    release = deploy(scope, "One", LONG_AGO)
    call(scope, release, 20, ok=False)
    clock.look()
    assert states("error_rate") == ["pending"]
    clock.look(3)
    assert states("error_rate") == ["pending", "firing"]
    call(scope, release, 5_000)
    clock.look()
    assert states("error_rate") == ["pending", "firing"]
    clock.look()
    assert states("error_rate") == ["pending", "firing", "resolved"]
    alert = Alert.objects.get(rule="error_rate")
    assert alert.fired_at is not None
    assert (alert.resolved_by, alert.scope, alert.agent) == ("rule:error_rate", "acme/web", "acme")


def test_one_bad_look_between_clean_ones_keeps_it_open(scope: Scope) -> None:
    now = timezone.now()
    for number, judgement in enumerate([BAD, BAD, FINE, BAD, FINE, BAD]):
        alerts.advance(judgement, now + number * timedelta(seconds=30))
    assert Alert.objects.get().state == "firing"


def test_missing_evidence_neither_opens_nor_fires_nor_closes(scope: Scope) -> None:
    now, step = timezone.now(), timedelta(seconds=30)
    assert alerts.advance(UNKNOWN, now) is None
    assert not Alert.objects.exists()
    alerts.advance(BAD, now)
    for number in range(1, 4):
        alerts.advance(UNKNOWN, now + number * step)
    assert Alert.objects.get().state == "pending"
    alerts.advance(BAD, now + 4 * step)
    for number in range(5, 9):
        alerts.advance(UNKNOWN, now + number * step)
    assert Alert.objects.get().state == "firing"


def test_two_evaluations_at_once_count_as_one(scope: Scope) -> None:
    now = timezone.now()
    for _ in range(3):
        alerts.advance(BAD, now)
    assert Alert.objects.get().state == "pending"


def test_what_was_pending_and_went_away_is_no_history(scope: Scope) -> None:
    now = timezone.now()
    for number, judgement in enumerate([BAD, FINE, FINE]):
        alerts.advance(judgement, now + number * timedelta(seconds=30))
    assert Alert.objects.get().state == "resolved"
    assert not Alert.objects.past().exists()


def test_a_second_one_opens_when_the_first_is_over(scope: Scope) -> None:
    now = timezone.now()
    for number, judgement in enumerate([BAD, BAD, FINE, FINE, BAD]):
        alerts.advance(judgement, now + number * timedelta(seconds=30))
    assert [row.state for row in Alert.objects.order_by("id")] == ["resolved", "pending"]


def test_acknowledged_stays_quiet_until_it_is_over(scope: Scope) -> None:
    now, step = timezone.now(), timedelta(seconds=30)
    alerts.advance(BAD, now)
    alert = Alert.objects.get()
    with pytest.raises(alerts.Conflict, match="pending"):
        alerts.acknowledge(alert, actor="user:ada")
    alerts.advance(BAD, now + step)
    alerts.acknowledge(alert, actor="user:ada", note="On it")
    with pytest.raises(alerts.Conflict, match="ada has acknowledged"):
        alerts.acknowledge(alert, actor="user:ben")
    alerts.advance(BAD, now + 2 * step)
    assert (alert.state, alert.acknowledged_by) == ("acknowledged", "user:ada")
    for number in (3, 4):
        alerts.advance(FINE, now + number * step)
    assert states("error_rate") == ["pending", "firing", "acknowledged", "resolved"]


def test_a_rising_level_tells_again_and_a_falling_one_does_not() -> None:
    now, step = timezone.now(), timedelta(seconds=30)
    for number, spent in enumerate([72, 72, 90, 75, 88, 100]):
        verdict = rules.spend(RULES["spend_day"], spent, 0, 100)
        alerts.advance(Judgement(RULES["spend_day"], Place("acme", "acme"), verdict), now + number * step)
        if number == 1:
            alerts.acknowledge(Alert.objects.get(), actor="user:ada")
    assert states("spend_day") == ["pending", "firing", "acknowledged", "firing", "firing"]
    alert = Alert.objects.get()
    assert (alert.level, alert.severity, alert.acknowledged_by) == (100, "critical", "")


# --- the database's own word ---------------------------------------------------------------------------------------


def test_there_is_one_open_alert_for_a_rule_and_a_place() -> None:
    fields: dict[str, Any] = {"rule": "error_rate", "scope": "acme/web", "sentence": "x", "seen_at": timezone.now()}
    Alert.objects.create(**fields)
    with pytest.raises(IntegrityError, match="console_alert_one_open"), transaction.atomic():
        Alert.objects.create(**fields)
    Alert.objects.create(**fields, state="resolved", resolved_at=timezone.now())


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "resolved"},
        {"state": "firing"},
        {"state": "gone"},
        {"state": "acknowledged", "fired_at": timezone.now()},
        {"severity": "meh"},
    ],
)
def test_states_and_times_agree(fields: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Alert.objects.create(rule="latency", sentence="x", seen_at=timezone.now(), **fields)


@pytest.mark.parametrize(
    "statement",
    ["UPDATE console_alertchange SET actor = 'user:eve'", "DELETE FROM console_alertchange"],
)
def test_what_became_of_an_alert_is_never_changed(scope: Scope, statement: str) -> None:
    alerts.advance(BAD)
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert AlertChange.objects.get().actor == "rule:error_rate"


def test_every_change_stands_in_the_audit_trail(scope: Scope) -> None:
    now = timezone.now()
    for number in (0, 1):
        alerts.advance(BAD, now + number * timedelta(seconds=30))
    alerts.acknowledge(Alert.objects.get(), actor="user:ada", note="On it")
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
    rows = AuditEntry.objects.order_by("id")
    assert [(row.actor, row.action, row.agent, row.object) for row in rows] == [
        ("rule:error_rate", "alert.pending", "acme", "error_rate acme/web"),
        ("rule:error_rate", "alert.firing", "acme", "error_rate acme/web"),
        ("user:ada", "alert.acknowledged", "acme", "error_rate acme/web"),
    ]


@pytest.mark.django_db(transaction=True)
def test_many_workers_at_once_open_and_fire_one_alert() -> None:
    now = timezone.now()

    def together(moment: Any) -> list[Any]:
        start, found = threading.Barrier(6), []

        def work() -> None:
            try:
                start.wait()
                found.append(alerts.advance(BAD, moment))
            finally:
                connection.close()

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 6
        return [change for change in found if change]

    assert [change.to_state for change in together(now)] == ["pending"]
    assert [change.to_state for change in together(now + timedelta(seconds=30))] == ["firing"]
    assert Alert.objects.count() == 1
    assert AlertChange.objects.count() == 2


# --- where the figures come from -----------------------------------------------------------------------------------


def test_a_call_that_another_model_answered_did_not_fail(scope: Scope, clock: Clock) -> None:
    release = deploy(scope, "One", LONG_AGO)
    call(scope, release, 20)
    for row in list(scope_calls(scope)):
        row.pk, row.attempt, row.status = None, 2, "error"
        row.save()
    clock.look(2)
    assert not Alert.objects.filter(rule="error_rate").exists()


def scope_calls(scope: Scope) -> Any:
    from agents.models import Call

    return Call.objects.filter(scope=scope.name)


def test_answers_held_back_and_hostile_messages_count(scope: Scope, clock: Clock) -> None:
    release = deploy(scope, "One", LONG_AGO)
    turn(scope, release, 10)
    turn(scope, release, 10, "refused", findings=[{**HELD_BACK, "stage": "inbound", "action": "block"}])
    clock.look(2)
    alert = Alert.objects.get(rule="guardrail_blocks")
    assert (alert.state, alert.figures["hits"], alert.figures["n"]) == ("firing", 10, 20)


def test_testers_turns_are_no_evidence(scope: Scope, clock: Clock) -> None:
    release = deploy(scope, "One", LONG_AGO)
    turn(scope, release, 40, "failed", tester=True)
    clock.look(2)
    assert not Alert.objects.filter(scope="acme/web").exists()


@pytest.mark.parametrize(("stage", "paused", "fires"), [("narrow", False, 1), ("pilot", False, 0), ("narrow", True, 0)])
def test_escalations_count_where_the_agent_is_meant_to_answer(
    scope: Scope, clock: Clock, stage: str, paused: bool, fires: int
) -> None:
    Scope.objects.filter(pk=scope.pk).update(stage=stage)
    Agent.objects.update(paused_at=timezone.now() if paused else None)
    release = deploy(scope, "One", LONG_AGO)
    turn(scope, release, 40, "escalated", ago=timedelta(minutes=40), escalation=escalate(scope.channel))
    clock.look(2)
    assert Alert.objects.filter(rule="escalation_rate", state="firing").count() == fires


def test_slow_turns(scope: Scope, clock: Clock) -> None:
    release = deploy(scope, "One", LONG_AGO)
    turn(scope, release, 30, took=timedelta(seconds=45))
    clock.look(2)
    alert = Alert.objects.get(rule="latency")
    assert alert.sentence == "95 % of 30 turns end within 45.0 s; the limit is 30 s (last 15 minutes)."


def test_escalations_past_their_deadline_that_nobody_holds(scope: Scope, clock: Clock, django_user_model: Any) -> None:
    late = escalate(scope.channel, deadline=timezone.now() - timedelta(minutes=10))
    escalate(scope.channel, deadline=timezone.now() + HOUR)
    clock.look(2)
    alert = Alert.objects.get(rule="queue_age")
    assert (alert.state, alert.figures["overdue"]) == ("firing", 1)
    queue.claim(late.pk, django_user_model.objects.create_user("anna"))
    clock.look(2)
    alert.refresh_from_db()
    assert alert.state == "resolved"


@pytest.mark.parametrize(
    ("kind", "owner", "place"),
    [
        ("organisation", "", ("", "", "")),
        ("agent", "acme", ("acme", "acme", "")),
        ("channel", "acme/web", ("acme/web", "acme", "acme/web")),
    ],
)
def test_budgets_by_their_owner(clock: Clock, kind: str, owner: str, place: tuple[str, ...]) -> None:
    Budget.objects.open(actor="user:ada", owner_kind=kind, owner=owner, period="day", limit_nano=100)
    today = window("day", "UTC", timezone.now())
    redis_sync().hset(f"ph:b:{kind}:{owner}:{today.key}", mapping={"spent": 90, "held": 6})
    clock.look(2)
    alert = Alert.objects.get(rule="spend_day")
    assert (alert.scope, alert.agent, alert.channel) == place
    assert (alert.state, alert.level) == ("firing", 95)


def test_the_budget_of_a_key_belongs_to_the_agent_of_the_key(scope: Scope, clock: Clock) -> None:
    key, _ = ApiKey.issue(name="x", actor="user:ada", scopes=["turns"], agent=scope.agent, channel=scope.channel)
    Budget.objects.open(actor="user:ada", owner_kind="key", owner=key.prefix, period="month", limit_nano=100)
    month = window("month", "UTC", timezone.now())
    redis_sync().hset(f"ph:b:key:{key.prefix}:{month.key}", mapping={"spent": 100})
    clock.look()
    alert = Alert.objects.get(rule="spend_month")
    assert (alert.scope, alert.agent, alert.channel) == (f"key {key.prefix}", "acme", "acme/web")


def test_a_budget_that_is_switched_off_closes_its_alert(clock: Clock) -> None:
    budget = Budget.objects.open(actor="user:ada", owner_kind="agent", owner="acme", period="day", limit_nano=100)
    redis_sync().hset(f"ph:b:agent:acme:{window('day', 'UTC', timezone.now()).key}", mapping={"spent": 100})
    clock.look(2)
    budget.change(actor="user:ada", active=False)
    clock.look()
    assert states("spend_day") == ["pending", "firing", "resolved"]


def test_processes_and_the_call_log(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    alive("worker")
    monkeypatch.setitem(RULES, "drain_lag", rules.with_threshold(RULES["drain_lag"], 0))
    redis_sync().xadd("ph:calls", {"call_id": "x"})
    clock.look(2)
    assert {row.rule: row.sentence for row in Alert.objects.all()} == {
        "processes": "No drain process runs.",
        "drain_lag": "1 calls wait to be written down; the limit is 0.",
    }
    alive("worker", "drain")
    redis_sync().delete("ph:calls")
    clock.look(2)
    assert not Alert.objects.open().exists()


def test_without_redis_nothing_about_it_is_claimed(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    from console.monitoring import evidence

    Budget.objects.open(actor="user:ada", owner_kind="agent", owner="acme", period="day", limit_nano=100)
    clock.look(2)
    assert Alert.objects.get().rule == "processes"
    for name, nothing in (("lag", None), ("processes", None)):
        monkeypatch.setattr(evidence, name, lambda nothing=nothing: nothing)
    monkeypatch.setattr(evidence, "balances", lambda _: {})
    clock.look(4)
    assert states("processes") == ["pending", "firing"]


def test_a_scope_has_limits_of_its_own(scope: Scope, clock: Clock) -> None:
    release = deploy(scope, "One", LONG_AGO)
    call(scope, release, 12, ok=False)
    call(scope, release, 28)
    AlertRule.objects.create(rule="error_rate", scope="acme/web", threshold=0.5)
    clock.look(2)
    assert not Alert.objects.filter(rule="error_rate").exists()
    AlertRule.objects.all().delete()
    clock.look(2)
    assert Alert.objects.get(rule="error_rate").state == "firing"
    AlertRule.objects.create(rule="error_rate", active=False)
    clock.look()
    assert Alert.objects.get(rule="error_rate").state == "resolved"


def test_the_figures_of_all_scopes_take_a_fixed_number_of_queries(
    scope: Scope, django_assert_max_num_queries: Any
) -> None:
    for number in range(8):
        Scope.objects.create(channel=scope.channel, topic=f"t{number}", stage="narrow")
    alive("worker", "drain")
    with django_assert_max_num_queries(10):
        watch.judgements(timezone.now())


# --- the way back --------------------------------------------------------------------------------------------------


@pytest.fixture
def went_bad(scope: Scope) -> tuple[Any, Any]:
    """A good release for days, and a bad one since ten minutes."""
    good = deploy(scope, "Good", LONG_AGO)
    call(scope, good, 200, ago=timedelta(minutes=40))
    bad = deploy(scope, "Bad", timedelta(minutes=10))
    call(scope, bad, 20, ok=False)
    return good, bad


def test_a_release_that_made_it_worse_is_taken_back_once(scope: Scope, went_bad: tuple[Any, Any], clock: Clock) -> None:
    good, bad = went_bad
    clock.look()
    assert scope.live().release == bad
    clock.look()
    row = scope.live()
    assert (row.release, row.kind, row.percent, row.actor) == (good, "automatic_rollback", 100, "rule:error_rate")
    alert = Alert.objects.get(rule="error_rate")
    assert alert.rollback == row
    assert alert.changed_at is not None
    assert f"Rolled back from {bad} to {good}." in alert.changes.get(to_state="firing").note
    call(scope, good, 40, ok=False)
    clock.look(6)
    assert scope.deployments.count() == 3


def test_after_the_rollback_it_closes_on_what_serves_now(scope: Scope, went_bad: tuple[Any, Any], clock: Clock) -> None:
    good, _bad = went_bad
    clock.look(2)
    call(scope, good, 30)
    clock.look(2)
    assert states("error_rate") == ["pending", "firing", "resolved"]


def test_when_a_person_deploys_it_again_the_rule_may_take_it_back_again(
    scope: Scope, went_bad: tuple[Any, Any], clock: Clock
) -> None:
    good, bad = went_bad
    clock.look(2)
    call(scope, good, 30)
    clock.look(2)
    Deployment.objects.create(scope=scope, release=bad, actor="user:ada")
    call(scope, bad, 20, ok=False, ago=timedelta(seconds=-1))
    clock.look(2)
    assert [row.kind for row in scope.deployments.order_by("id")] == [
        "deploy", "deploy", "automatic_rollback", "deploy", "automatic_rollback",
    ]  # fmt: skip


def test_a_canary_is_judged_by_itself_and_taken_back(scope: Scope, clock: Clock) -> None:
    good = deploy(scope, "Good", LONG_AGO)
    call(scope, good, 2_000)
    canary = deploy(scope, "Canary", timedelta(minutes=5), percent=5, kind="canary")
    call(scope, canary, 10, ok=False)
    clock.look(2)
    assert (scope.live().release, scope.live().kind) == (good, "automatic_rollback")
    assert Alert.objects.get(rule="error_rate").sentence.startswith(f"On the canary {canary}: 10 of 10 calls failed")


def test_answers_that_the_new_release_has_held_back_take_it_back(scope: Scope, clock: Clock) -> None:
    good = deploy(scope, "Good", LONG_AGO)
    turn(scope, good, 40, ago=timedelta(minutes=30))
    bad = deploy(scope, "Bad", timedelta(minutes=10))
    turn(scope, bad, 20, "refused", findings=[{**HELD_BACK, "stage": "outbound", "action": "block"}])
    clock.look(2)
    assert scope.live().release == good


def test_hostile_customers_cannot_force_a_release_back(scope: Scope, clock: Clock) -> None:
    good = deploy(scope, "Good", LONG_AGO)
    turn(scope, good, 40, ago=timedelta(minutes=30))
    new = deploy(scope, "New", timedelta(minutes=10))
    turn(scope, new, 40, "refused", findings=[{**HELD_BACK, "stage": "inbound", "action": "block"}])
    clock.look(3)
    assert Alert.objects.get(rule="guardrail_blocks").state == "firing"
    assert scope.live().release == new


@pytest.mark.parametrize(
    ("before", "ago", "says"),
    [
        ((0, 0), timedelta(minutes=10), "too little is known"),
        ((0, 40), timedelta(minutes=10), "no better under"),
        ((200, 0), timedelta(hours=2), ""),
    ],
)
def test_without_proof_nothing_is_taken_back(
    scope: Scope, clock: Clock, before: tuple[int, int], ago: timedelta, says: str
) -> None:
    good = deploy(scope, "Good", LONG_AGO)
    call(scope, good, before[0], ago=ago + timedelta(minutes=30))
    call(scope, good, before[1], ok=False, ago=ago + timedelta(minutes=30))
    bad = deploy(scope, "Bad", ago)
    call(scope, bad, 20, ok=False)
    clock.look(2)
    alert = Alert.objects.get(rule="error_rate")
    assert scope.live().release == bad
    assert alert.rollback is None
    assert says in alert.changes.get(to_state="firing").note
    assert "Rolled back" not in alert.changes.get(to_state="firing").note


def test_the_first_release_has_nothing_before_it(scope: Scope, clock: Clock) -> None:
    only = deploy(scope, "Only", timedelta(minutes=10))
    call(scope, only, 20, ok=False)
    clock.look(2)
    assert "no earlier release" in Alert.objects.get(rule="error_rate").changes.get(to_state="firing").note


@pytest.mark.usefixtures("went_bad")
def test_what_a_person_deployed_in_the_same_moment_stays(
    scope: Scope, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    roll_back = releases.roll_back

    def slowly(*args: Any, **kwargs: Any) -> Deployment:
        deploy(scope, "Fix")  # on this test's one connection it is undone with the rollback
        return roll_back(*args, **kwargs)

    monkeypatch.setattr(releases, "roll_back", slowly)
    clock.look(2)
    alert = Alert.objects.get(rule="error_rate")
    assert (alert.state, alert.rollback) == ("firing", None)
    assert "somebody deployed in the same moment" in alert.changes.get(to_state="firing").note
    assert not scope.deployments.filter(kind="automatic_rollback").exists()


def test_the_task_is_known_to_the_workers(scope: Scope) -> None:
    app.loader.import_default_modules()
    assert {"console.tasks.watch_scopes", "console.tasks.send_notice"} <= set(app.tasks)
    assert app.conf.beat_schedule["watch-scopes"]["task"] in app.tasks
    assert tasks.watch_scopes() == 1  # no process runs here
