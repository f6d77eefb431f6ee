"""One evaluation of every rule everywhere, and the one thing that a rule may do by itself: take a release back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from django.db import DatabaseError, transaction
from django.utils import timezone

from agents import releases
from agents.models import Deployment, Scope
from budgets.models import Budget
from console.health import NEEDED
from console.models import ApiKey
from console.monitoring import alerts, evidence, rules
from console.monitoring.alerts import Judgement, Place
from console.monitoring.models import RECENT, Alert, AlertRule
from console.monitoring.rules import RULES, Rule, Sample, Verdict

FORWARD = (Deployment.Kind.DEPLOY, Deployment.Kind.CANARY, Deployment.Kind.PROMOTE)
STEPPED = ("narrow", "expanded")
Judge = Callable[[Rule, Sample], Verdict]
# What each critical rule holds against a release itself.
BLAMES: dict[str, Judge] = {"error_rate": rules.error_rate, "guardrail_blocks": rules.answers_held_back}
log = logging.getLogger(__name__)


class Moved(Exception):
    """Somebody deployed in the moment in which the rule wanted to roll back."""


def watch(now: datetime | None = None) -> int:
    """Evaluate everything and move the alerts; how many changed. What fails at one place does not stop the others."""
    now, changed, watched = now or timezone.now(), 0, set()
    for judgement in judgements(now):
        watched.add(judgement.key)
        try:
            changed += alerts.advance(judgement, now) is not None
        except DatabaseError:
            log.exception("the alert of %s could not be moved", " on ".join(judgement.key))
    return changed + alerts.close_others(watched, now)


def judgements(now: datetime) -> list[Judgement]:
    """Every rule that is switched on, at every place where it looks."""
    own = {(row.rule, row.scope): row for row in AlertRule.objects.all()}
    found = [*_of_scopes(own, now), *_of_budgets(own), *_of_installation(own)]
    return [judgement for judgement in found if rule_at(own, *judgement.key) is not None]


def rule_at(own: Mapping[tuple[str, str], AlertRule], name: str, scope: str) -> Rule | None:
    """The rule with the limit that applies there: the scope's own, else everybody's, else the rule's. None: off."""
    row = own.get((name, scope)) or own.get((name, ""))
    if row is None:
        return RULES[name]
    return rules.with_threshold(RULES[name], row.threshold) if row.active else None


# --- scopes --------------------------------------------------------------------------------------------------------


def _of_scopes(own: Mapping[tuple[str, str], AlertRule], now: datetime) -> Iterator[Judgement]:
    scopes = list(Scope.objects.with_names())
    seen, live, stable = evidence.of_scopes(scopes, now), evidence.live(scopes), evidence.stable(scopes)
    for scope in scopes:
        place = Place(scope.name, scope.agent.slug, str(scope.channel))
        newest = live.get(scope.pk)
        serving = [str(newest.release)] if newest else []
        whole = seen[scope.name].of([*serving, stable.get(scope.pk, "")])
        canary = seen[scope.name].by_release.get(serving[0]) if newest and newest.percent < 100 else None
        at = partial(_at, own, scope.name)
        for name, judge in (("error_rate", rules.error_rate), ("guardrail_blocks", rules.guardrail_blocks)):
            rule = at(name)
            verdict = _worse_of(rule, judge, whole, canary, serving)
            on_fire = partial(take_back, rule, scope, newest, now) if newest else None
            yield Judgement(rule, place, verdict, newest, on_fire)
        yield Judgement(at("escalation_rate"), place, _escalations(at("escalation_rate"), scope, whole), newest)
        figures = seen[scope.name]
        yield Judgement(at("latency"), place, rules.latency(at("latency"), figures.p95_ms, figures.ended), newest)
        # No release is to blame for reviews that nobody takes up.
        yield Judgement(at("queue_age"), place, rules.queue_age(at("queue_age"), figures.overdue, figures.oldest_s))


def _at(own: Mapping[tuple[str, str], AlertRule], scope: str, name: str) -> Rule:
    return rule_at(own, name, scope) or RULES[name]


def _worse_of(rule: Rule, judge: Judge, whole: Sample, canary: Sample | None, serving: Sequence[str]) -> Verdict:
    """A canary is judged by itself, too: a tenth of the traffic hides in the whole."""
    verdict = judge(rule, whole)
    if canary is None or verdict.state == "bad":
        return verdict
    alone = judge(rule, canary)
    if alone.state != "bad":
        return verdict
    return Verdict("bad", f"On the canary {serving[0]}: {alone.sentence}", alone.figures, alone.level, alone.severity)


def _escalations(rule: Rule, scope: Scope, whole: Sample) -> Verdict:
    """Only where the agent is meant to answer, and may."""
    if scope.agent.paused_at or scope.stage not in STEPPED:
        return Verdict("missing", "People answer everything here.")
    return rules.escalation_rate(rule, whole)


# --- budgets and the installation ----------------------------------------------------------------------------------


def _of_budgets(own: Mapping[tuple[str, str], AlertRule]) -> Iterator[Judgement]:
    budgets = list(Budget.objects.active())
    found = evidence.balances(budgets)
    prefixes = [budget.owner for budget in budgets if budget.owner_kind == Budget.OwnerKind.KEY]
    keys = {key.prefix: key for key in ApiKey.objects.select_related("agent", "channel").filter(prefix__in=prefixes)}
    for budget in budgets:
        place = _place_of(budget, keys)
        rule = _at(own, place.scope, f"spend_{budget.period}")
        balance = found.get(budget.pk)
        spent, held = (balance.spent_nano, balance.held_nano) if balance else (None, 0)
        yield Judgement(rule, place, rules.spend(rule, spent, held, budget.limit_now()))


def _place_of(budget: Budget, keys: Mapping[str, ApiKey]) -> Place:
    agent, _, channel = budget.owner.partition("/")
    match budget.owner_kind:
        case Budget.OwnerKind.AGENT:
            return Place(budget.owner, agent)
        case Budget.OwnerKind.CHANNEL:
            return Place(budget.owner, agent, budget.owner if channel else "")
        case Budget.OwnerKind.KEY:
            key = keys.get(budget.owner)
            slug = key.agent.slug if key and key.agent else ""
            return Place(f"key {budget.owner}", slug, f"{slug}/{key.channel.slug}" if key and key.channel else "")
    return Place()


def _of_installation(own: Mapping[tuple[str, str], AlertRule]) -> Iterator[Judgement]:
    lag, running = _at(own, "", "drain_lag"), _at(own, "", "processes")
    yield Judgement(lag, Place(), rules.drain_lag(lag, evidence.lag()))
    yield Judgement(running, Place(), rules.processes(running, evidence.processes(), NEEDED))


# --- the way back --------------------------------------------------------------------------------------------------


def take_back(rule: Rule, scope: Scope, live: Deployment, now: datetime, alert: Alert) -> str:
    """Roll back what was deployed shortly before, if it is to blame and what it replaced was fine; say what was done.

    It goes back once: what a rule rolled back to is no step forward, so no rule takes it back again, and only a person
    deploys anew.
    """
    if now - live.at > RECENT or live.kind not in FORWARD:
        return ""
    target = releases.rollback_target(scope)
    if target is None:
        return "Nothing was rolled back: there is no earlier release."
    judge = BLAMES[rule.name]
    blamed = judge(rule, evidence.under(scope, live.release, max(live.at, now - rule.window)))
    if blamed.state != "bad":
        return f"Nothing was rolled back: {live.release} alone is not to blame."
    earlier = replace(rule, window=evidence.BEFORE)
    before = judge(earlier, evidence.under(scope, target, live.at - evidence.BEFORE))
    if before.state == "missing":
        return f"Nothing was rolled back: too little is known of {target}."
    if before.state == "bad":
        return f"Nothing was rolled back: it was no better under {target}."
    try:
        with transaction.atomic():
            reason = f"{blamed.sentence} Under {target}: {before.sentence}"
            alert.rollback = releases.roll_back(scope, actor=rule.actor, to=target, reason=reason, automatic=True)
            _still_live(scope, live, alert.rollback)
    except (releases.Conflict, Moved) as error:
        alert.rollback = None
        return f"Nothing was rolled back: {error}"
    return f"Rolled back from {live.release} to {target}."


def _still_live(scope: Scope, live: Deployment, rolled: Deployment) -> None:
    """The rollback holds the scope's lock, so what lies under it now is what it replaced. :raises Moved: it is not."""
    replaced = scope.deployments.filter(pk__lt=rolled.pk).order_by("-id").first()
    if replaced is None or replaced.pk != live.pk:
        raise Moved("somebody deployed in the same moment.")
