"""Cases and their turns as the doors use them: open a turn, propose an action, take a case over, hand it back,
deliver a decision.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Max
from django.utils import timezone

from agents import private
from agents.connections import redis_sync
from agents.models import Case, Channel, Release, Scope, Turn
from escalations import queue as review
from escalations.models import Decision, Escalation

MAX_REF = 200


class Invalid(Exception):
    """The request cannot be taken as it is; the message says why in plain words."""


class NoRelease(Exception):
    """Nothing is live on the scope, so there is nobody to answer."""


def scope_of(channel: Channel, topic: str) -> Scope:
    """The topic's own scope where there is one, else the channel's. :raises NoRelease: the channel has none."""
    scopes = {
        scope.topic: scope for scope in channel.scopes.filter(topic__in=["", topic]).select_related("channel__agent")
    }
    scope = scopes.get(topic) or scopes.get("")
    if scope is None:
        raise NoRelease(f"{channel} has no scope yet.")
    return scope


def open_turn(
    channel: Channel,
    *,
    ref: str,
    message: str,
    topic: str = "",
    language: str = "",
    customer: str = "",
    metadata: Mapping[str, Any] | None = None,
    tester: bool = False,
    key_prefix: str = "",
    callback_url: str = "",
    wanted_release: Release | None = None,
    enqueue: bool = True,
) -> Turn:
    """A pending turn on the case `ref`, which is opened when it is new; Celery runs it once this has committed.

    A draft of the same case that still waits for a decision is superseded: the person sees what the customer added.

    :raises Invalid: an empty or overlong message or ref. :raises NoRelease: nothing is live there.
    """
    message = message.replace("\x00", "").strip()
    if not message:
        raise Invalid("message is empty.")
    if len(message) > settings.MAX_MESSAGE_CHARS:
        raise Invalid(f"message is longer than {settings.MAX_MESSAGE_CHARS:,} characters.")
    if not 1 <= len(ref) <= MAX_REF:
        raise Invalid(f"case is a reference of 1 to {MAX_REF} characters.")
    scope = scope_of(channel, topic)
    if wanted_release is None and not scope.deployments.exists():
        raise NoRelease(f"{scope} has no live release.")
    hides, new = private.of(scope, wanted_release), uuid.uuid4()
    opening = private.Hider(hides, new)
    with transaction.atomic():
        case, is_new = Case.objects.get_or_create(
            channel=channel,
            ref=ref,
            defaults={
                "id": new,
                "customer": customer,
                "language": language,
                "metadata": opening.within(dict(metadata or {})),
            },
        )
        hider = opening if is_new else private.Hider(hides, case.pk)
        stored, sealed = hider.hide(message), ""
        if hider:
            hider.keep()
            sealed = private.seal(message=message, history=(metadata or {}).get("history", []) if is_new else [])
        case = Case.objects.select_for_update().get(pk=case.pk)
        number = (case.turns.aggregate(last=Max("number"))["last"] or 0) + 1
        turn = Turn.objects.create(
            case=case,
            scope=scope,
            number=number,
            message=stored,
            sealed=sealed,
            language=language,
            tester=tester,
            key_prefix=key_prefix,
            callback_url=callback_url,
            wanted_release=wanted_release,
        )
        Case.objects.filter(pk=case.pk).update(last_turn_at=turn.created_at, closed_at=None)
        if number > 1:
            review.supersede(case.pk, stored)
        if enqueue:
            transaction.on_commit(partial(_enqueue, turn.pk))
    return turn


def _enqueue(turn_id: uuid.UUID) -> None:
    from agents.tasks import run_turn  # noqa: PLC0415  tasks import this module

    run_turn.delay(str(turn_id))


def propose_action(
    channel: Channel,
    *,
    ref: str,
    action: Mapping[str, Any],
    risk: str,
    deadline: datetime | None,
    on_timeout: str,
    actor: str,
    reason: str = "",
) -> Escalation:
    """An action of an agent that waits for a person: `action` = {name, arguments, schema?}."""
    if not 1 <= len(ref) <= MAX_REF:
        raise Invalid(f"case is a reference of 1 to {MAX_REF} characters.")
    scope = scope_of(channel, "")
    case, _ = Case.objects.get_or_create(channel=channel, ref=ref)
    proposed = review.add(
        kind="action",
        agent=channel.agent.slug,
        scope=scope.name,
        channel=str(channel),
        case_id=case.pk,
        ref=ref,
        edge="irreversible_action",
        reason=reason or f"The agent asks to do: {action.get('name', '')}",
        priority=2,
        queue="approvals",
        risk=risk,
        action=dict(action),
        deadline=deadline,
        on_timeout=on_timeout,
        evidence={"proposed_by": actor, "stage": scope.stage},
    )
    if scope.stage in (Scope.Stage.PILOT, Scope.Stage.SHADOW):  # invariant 7: an intent is written down, nothing acts
        review.withdraw_one(
            proposed.pk, actor=f"system:{scope.stage}", note="Recorded as an intent; nothing acts here."
        )
        proposed.refresh_from_db()
    return proposed


def take_over(case: Case) -> Case:
    """A person answers from now on: whatever the agent is still working on will not reach the customer."""
    return _change_owner(case, Case.Owner.HUMAN)


def hand_back(case: Case) -> Case:
    """The agent answers the next turn again."""
    return _change_owner(case, Case.Owner.AGENT)


def _change_owner(case: Case, owner: str) -> Case:
    Case.objects.filter(pk=case.pk).exclude(owner=owner).update(owner=owner, owner_epoch=F("owner_epoch") + 1)
    case.refresh_from_db()
    return case


def agent_may_speak(case: Case, epoch: int) -> bool:
    """Whether a message that an agent started at this owner epoch may still go out."""
    return Case.objects.filter(pk=case.pk, owner=Case.Owner.AGENT, owner_epoch=epoch).exists()


@transaction.atomic
def deliver(decision: Decision) -> Turn | None:
    """Carry a person's decision into the turn that waited for it; running it again changes nothing."""
    turn = Turn.objects.select_for_update().filter(escalation_id=decision.escalation_id).first()
    if turn is None:
        transaction.on_commit(partial(redis_sync().publish, f"ph:escalation:{decision.escalation_id}", "decided"))
        return None
    if decision.kind == Decision.Kind.RETURNED:
        return _again(turn, decision)
    text = _words(turn, decision)
    if text:
        _reply(turn, text, decision.actor)
    turn.tell_caller()
    turn.save(update_fields=["reply", "reply_by", "sealed", "callback_due", "callback_tries", "callback_error"])
    transaction.on_commit(partial(redis_sync().publish, f"ph:turn:{turn.pk}", "decided"))
    return turn


def _reply(turn: Turn, text: str, actor: str) -> None:
    """A person's words, stored as the policy says. An approved draft goes out whole, and so do opened tokens."""
    kept = private.words(turn)
    whole = kept.get("draft") if text == turn.draft else None
    whole = whole or private.opened(text, turn.case_id)
    hider = private.Hider(private.of(turn.scope), turn.case_id)
    turn.reply, turn.reply_by = hider.hide(whole), actor
    hider.keep()
    if kept or turn.reply != whole:
        turn.sealed = private.seal(**{"message": "", **kept, "reply": whole})


def _words(turn: Turn, decision: Decision) -> str:
    """What the decision says to the customer; empty when it says nothing."""
    kinds = Decision.Kind
    if decision.kind == kinds.APPROVED:
        return decision.text or turn.draft
    return (
        decision.text
        if decision.kind in (kinds.EDITED, kinds.ANSWERED, kinds.REJECTED, kinds.EXPIRED_NO_RESPONSE)
        else ""
    )


def _again(turn: Turn, decision: Decision) -> Turn:
    """Handed back with an instruction: the agent runs the same turn once more."""
    if turn.outcome in (Turn.Outcome.ESCALATED, Turn.Outcome.WITHHELD):
        turn.outcome, turn.finished_at, turn.run_until = Turn.Outcome.PENDING, None, None
        turn.escalation, turn.instruction, turn.runs = None, decision.text, 0
        turn.returned += 1
        turn.save()
        transaction.on_commit(partial(_enqueue, turn.pk))
    return turn


def close(case: Case) -> None:
    Case.objects.filter(pk=case.pk, closed_at=None).update(closed_at=timezone.now())
