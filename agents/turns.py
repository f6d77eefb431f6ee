"""A turn from its claim to its end: exactly one worker runs it at a time, exactly one outcome is written."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, transaction
from django.db.models import F, Q
from django.utils import timezone

from agents import pipeline, private, snapshot
from agents.asks import Ask, Caller, Outcome, without_model
from agents.connections import in_database, redis_async
from agents.models import Case, Turn
from budgets.ledger import Unavailable
from escalations import clocks
from escalations import queue as review
from guardrails.models import Finding

LEASE_S = 20
HEARTBEAT_S = 6
MAX_RUNS = 3
HISTORY = 12
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A turn that this worker may run, until its lease ends; `run` fences off a worker that lost it.

    `message` and `history` are whole, for the path; `told` is the history as it is stored.
    """

    turn: Turn
    run: int
    owner_epoch: int
    message: str
    history: tuple[tuple[str, str], ...]
    told: tuple[tuple[str, str], ...]
    clarified: int
    returned: int
    recent_contacts: int


async def run(turn_id: uuid.UUID) -> bool:
    """Run the turn unless another worker does or did. True when this call wrote the outcome.

    :raises Unavailable: Redis is away; the turn stays pending and is taken up again.
    """
    claimed = await in_database(claim, turn_id)
    if claimed is None:
        return False
    heart = asyncio.create_task(_heartbeat(claimed))
    try:
        outcome = await _outcome(claimed)
    except Unavailable:
        await in_database(let_go, claimed)
        raise
    finally:
        heart.cancel()
    if not await in_database(finish, claimed, outcome):
        return False
    await redis_async().publish(f"ph:turn:{turn_id}", outcome.outcome)
    return True


async def _outcome(claimed: Claimed) -> Outcome:
    turn = claimed.turn
    now = await snapshot.current()
    scope = now.scopes.get(turn.scope.name)
    if scope is None:
        now = await snapshot.current(now.epoch + 1)
        scope = now.scopes[turn.scope.name]
    live = (
        snapshot.compile_release(turn.wanted_release, scope.place)
        if turn.wanted_release
        else scope.live_for(turn.case.ref)
    )
    if live is None:
        return without_model("no_release", "No release is live here yet.", turn.language)
    if turn.case.owner == Case.Owner.HUMAN:
        return without_model("owned_by_human", "A person handles this case; the customer wrote again.", turn.language)
    if claimed.run > MAX_RUNS:
        return without_model("failed_repeatedly", f"The turn broke off {MAX_RUNS} times.", turn.language)
    caller = Caller(
        scope=scope,
        live=live,
        epoch=now.epoch,
        purpose="shadow" if scope.stage == "shadow" else "turn",
        case_ref=turn.case.ref,
        turn_id=str(turn.pk),
        key_prefix=turn.key_prefix,
        key_limits=now.key_limits.get(turn.key_prefix, ()),
    )
    return await pipeline.answer(
        Ask(
            caller=caller,
            message=claimed.message,
            history=claimed.history,
            language=turn.language or turn.case.language,
            topic=turn.scope.topic,
            turn_number=turn.number,
            clarified=claimed.clarified,
            returned=claimed.returned,
            recent_contacts=claimed.recent_contacts,
            tester=turn.tester,
            instruction=turn.instruction,
        )
    )


async def _heartbeat(claimed: Claimed) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_S)
        try:
            await in_database(extend, claimed)
        except DatabaseError as error:  # the lease outlasts a short outage
            log.warning("turn %s: its lease could not be extended: %s", claimed.turn.pk, type(error).__name__)


def claim(turn_id: uuid.UUID) -> Claimed | None:
    """Take the lease of a pending turn that nobody runs; None when there is nothing to take."""
    now = timezone.now()
    taken = (
        Turn.objects.pending()
        .filter(Q(run_until=None) | Q(run_until__lt=now), pk=turn_id)
        .update(run_until=now + timedelta(seconds=LEASE_S), runs=F("runs") + 1)
    )
    if not taken:
        return None
    turn = Turn.objects.select_related("case", "scope__channel__agent", "wanted_release__agent").get(pk=turn_id)
    earlier = list(turn.case.turns.filter(number__lt=turn.number).order_by("-number")[:HISTORY])
    told = tuple(line for row in reversed(earlier) for line in lines_of(row)) or _brought_along(turn.case)
    message = turn.message
    whole = tuple(line for row in reversed(earlier) for line in lines_of(private.restored(row)))
    kept = private.words(turn)
    turn.instruction = private.opened(turn.instruction, turn.case_id)
    return Claimed(
        turn=turn,
        run=turn.runs,
        owner_epoch=turn.case.owner_epoch,
        message=kept.get("message") or private.opened(message, turn.case_id),
        history=whole or _lines(kept.get("history", ())) or told,
        told=told,
        clarified=sum(row.outcome == Turn.Outcome.CLARIFIED for row in earlier),
        returned=turn.returned,
        recent_contacts=_recent_contacts(turn.case),
    )


def lines_of(turn: Turn) -> list[tuple[str, str]]:
    """A finished turn as the conversation has it: who said what, as far as the customer knows."""
    lines = [("customer", turn.message)]
    if turn.reply:
        lines.append(("person" if turn.reply_by.startswith("user:") else "agent", turn.reply))
    return lines


def _brought_along(case: Case) -> tuple[tuple[str, str], ...]:
    """What a gateway caller sent as the conversation before the case's first turn."""
    return _lines(case.metadata.get("history", ()))


def _lines(history: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    return tuple((str(line["who"]), str(line["text"])) for line in history)


def extend(claimed: Claimed) -> None:
    until = timezone.now() + timedelta(seconds=LEASE_S)
    Turn.objects.pending().filter(pk=claimed.turn.pk, runs=claimed.run).update(run_until=until)


def let_go(claimed: Claimed) -> None:
    """Give the turn back unfinished; it does not count as one of its runs."""
    Turn.objects.pending().filter(pk=claimed.turn.pk, runs=claimed.run).update(run_until=None, runs=F("runs") - 1)


@transaction.atomic
def finish(claimed: Claimed, outcome: Outcome) -> bool:
    """Write the outcome, its findings and its escalation; False when another worker was first.

    A person who took the case over meanwhile keeps it: what the agent made of the turn is then theirs to use
    (invariant 6).
    """
    turn = Turn.objects.select_for_update().get(pk=claimed.turn.pk)
    if turn.outcome != Turn.Outcome.PENDING or turn.runs != claimed.run:
        return False
    case = Case.objects.select_for_update().get(pk=turn.case_id)
    if case.owner_epoch != claimed.owner_epoch:
        outcome = outcome.for_the_person_in_charge()
    outcome = _hide(turn, claimed, outcome)
    if outcome.escalate:
        turn.escalation = escalate(claimed.turn, outcome, claimed.told)
    turn.outcome = outcome.outcome
    turn.reply, turn.reply_by, turn.draft = outcome.reply, outcome.reply_by, outcome.draft
    turn.reason, turn.language = outcome.reason[:60], outcome.language
    turn.confidence, turn.features = outcome.confidence, dict(outcome.features)
    turn.citations, turn.trace = list(outcome.citations), list(outcome.trace)
    turn.findings = [_finding(stage, seen) for stage, rows, _ in outcome.findings for seen in rows]
    turn.release_id, turn.cost_nano = outcome.release_id, outcome.cost_nano
    turn.finished_at = turn.run_until = timezone.now()
    turn.tell_caller()
    turn.save()
    if outcome.language and not case.language:
        Case.objects.filter(pk=case.pk, language="").update(language=outcome.language)
    for stage, rows, us in outcome.findings:
        Finding.objects.record(
            rows,
            agent=claimed.turn.scope.channel.agent.slug,
            scope=claimed.turn.scope.name,
            stage=stage,
            policy_hash=outcome.policy_hash,
            case_id=turn.case_id,
            turn_id=turn.pk,
            latency_us=us,
            actor=f"agent:{claimed.turn.scope.channel.agent.slug}",
        )
    return True


def _hide(turn: Turn, claimed: Claimed, outcome: Outcome) -> Outcome:
    """The outcome as it may be stored; the words that callers get are sealed on the turn."""
    hider = private.Hider(outcome.private, turn.case_id)
    if not hider:
        turn.sealed = private.seal(message=claimed.message) if turn.sealed else ""
        return outcome
    for text in (*(text for _, text in claimed.history), claimed.message):
        hider.hide(text)  # what the customer said is known in the answer, too
    turn.message = claimed.turn.message = hider.hide(claimed.message)
    hidden = replace(
        outcome,
        reply=hider.hide(outcome.reply),
        draft=hider.hide(outcome.draft),
        trace=hider.within(outcome.trace),
        findings=[(stage, hider.findings(rows), us) for stage, rows, us in outcome.findings],
    )
    hider.keep()
    turn.sealed = private.seal(message=claimed.message, draft=outcome.draft, reply=outcome.reply)
    return hidden


def escalate(turn: Turn, outcome: Outcome, history: tuple[tuple[str, str], ...]) -> review.Escalation:
    """Put the turn before a person, with everything that they need to decide."""
    asked = outcome.escalate or {}
    channel = turn.scope.channel
    deadline = clocks.due(timezone.now(), asked.get("deadline_s") or channel.sla_review_s, channel.calendar())
    return review.add(
        kind=asked["kind"],
        agent=channel.agent.slug,
        scope=turn.scope.name,
        channel=str(channel),
        case_id=turn.case_id,
        turn_id=turn.pk,
        ref=turn.case.ref,
        edge=asked["edge"],
        reason=asked["reason"],
        priority=asked["priority"],
        queue=asked["queue"],
        skill=asked["skill"],
        blind=asked["blind"],
        language=outcome.language,
        customer_line=turn.message,
        draft=outcome.draft,
        deadline=deadline,
        on_timeout=asked["on_timeout"],
        evidence=evidence(turn, outcome, history),
    )


def evidence(turn: Turn, outcome: Outcome, history: tuple[tuple[str, str], ...]) -> Mapping[str, Any]:
    asked = outcome.escalate or {}
    return {
        "history": [{"who": who, "text": text} for who, text in history],
        "citations": list(outcome.citations),
        "findings": [_finding(stage, seen) for stage, rows, _ in outcome.findings for seen in rows],
        "confidence": outcome.confidence,
        "features": dict(outcome.features),
        "reasons": list(outcome.reasons),
        "rules_fired": asked.get("rules_fired", []),
        "rule": outcome.rule,
        "release": outcome.release,
        "cost_nano": outcome.cost_nano,
        "stage": turn.scope.stage,
    }


def _finding(stage: str, seen: Any) -> dict[str, Any]:
    return {
        "stage": stage,
        "rule": seen.rule,
        "family": seen.family,
        "action": seen.action,
        "severity": seen.severity,
        "start": seen.start,
        "end": seen.end,
        "excerpt": seen.excerpt,
    }


def _recent_contacts(case: Case) -> int:
    """Cases of the same customer in the last seven days, this one included."""
    if not case.customer:
        return 1
    since = timezone.now() - timedelta(days=7)
    return max(1, Case.objects.filter(channel=case.channel, customer=case.customer, opened_at__gte=since)[:20].count())
