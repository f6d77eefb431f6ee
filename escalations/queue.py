"""The review queue: add, claim, decide, undo. Every change of state is one conditional UPDATE, so that races have one winner."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import jsonschema
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from escalations.models import Decision, Delivery, Escalation, Undo

__all__ = [
    "AlreadyDecided", "Claim", "Decision", "Escalation", "Invalid", "Refused", "Taken", "add", "claim", "decide", "expire_due",
    "heartbeat", "release", "start", "supersede", "undo", "withdraw",
]  # fmt: skip

LEASE = timedelta(minutes=5)
MAX_RETURNS = 2
REASON_CODES = {"1": "fact", "2": "policy", "3": "tone", "4": "incomplete", "5": "privacy", "6": "action", "7": "other"}
MACHINE_KINDS = frozenset({"expired_no_response", "withdrawn"})


class Taken(Exception):
    """Somebody else holds the claim, or the claim was lost; nothing was changed."""

    def __init__(self, message: str, holder: str = "") -> None:
        super().__init__(message)
        self.holder = holder


class AlreadyDecided(Exception):
    """There is a decision; it stands, and it is here."""

    def __init__(self, decision: Decision | None) -> None:
        super().__init__("This was decided already.")
        self.decision = decision


class Refused(Exception):
    """This person may not decide this, or not in this way."""


class Invalid(Exception):
    """The decision lacks something; the message says what."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A lease on an escalation. Decide with its token and revision before it ends; a heartbeat extends it."""

    escalation: Escalation
    token: int
    revision: int
    lease_until: datetime


def add(**fields: Any) -> Escalation:
    """Put something before people. An action gets the hash of its arguments, to which an approval will be bound."""
    action = fields.get("action")
    if action is not None:
        _check_arguments(action.get("schema"), action.get("arguments"))
        fields["action"] = {**action, "hash": arguments_hash(action.get("arguments"))}
    return Escalation.objects.create(**fields)


def arguments_hash(arguments: Any) -> str:
    canonical = json.dumps(arguments, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def start(user: User, scopes: Iterable[str]) -> Claim | None:
    """Claim the best case there is in these scopes; None when nothing waits. Two people never get the same."""
    with transaction.atomic():
        mine = Escalation.objects.claimed_by(user).for_scopes(scopes).best_first().first()
        if mine is not None:
            return claim(mine.pk, user)
        best = (
            Escalation.objects.claimable()
            .for_scopes(scopes)
            .best_first()
            .select_for_update(skip_locked=True)
            .first()
        )
        return claim(best.pk, user) if best else None


def claim(pk: uuid.UUID, user: User | None) -> Claim:
    """A lease with a fencing token. One's own claim is renewed with its token; an API key (no user) claims by the token alone.

    :raises Taken: somebody else holds it. :raises AlreadyDecided: it is over.
    """
    now = timezone.now()
    until = now + LEASE
    renewed = user is not None and Escalation.objects.claimed_by(user, now).filter(pk=pk).update(lease_until=until)
    if not renewed:
        taken = (
            Escalation.objects.claimable(now)
            .filter(pk=pk)
            .update(state=Escalation.State.CLAIMED, claimed_by=user, lease_until=until, token=F("token") + 1)
        )
        if not taken:
            raise _why_not(pk)
    escalation = Escalation.objects.select_related("claimed_by").get(pk=pk)
    return Claim(escalation, escalation.token, escalation.revision, until)


def heartbeat(pk: uuid.UUID, user: User, token: int) -> datetime:
    """Extend the lease. :raises Taken: it was lost. :raises AlreadyDecided."""
    until = timezone.now() + LEASE
    if not _held(pk, user, token).update(lease_until=until):
        raise _why_not(pk)
    return until


def release(pk: uuid.UUID, user: User, token: int) -> None:
    """Put it back unread. :raises Taken: the claim was not one's own any more."""
    if not _held(pk, user, token).update(state=Escalation.State.WAITING, claimed_by=None, lease_until=None):
        raise _why_not(pk)


def decide(
    pk: uuid.UUID,
    *,
    kind: str,
    token: int,
    revision: int,
    user: User | None = None,
    actor: str = "",
    text: str = "",
    arguments: Any = None,
    reason_code: str = "",
    note: str = "",
) -> Decision:
    """The one terminal decision on this revision; it leaves through the outbox after the time to undo.

    :raises AlreadyDecided: with the decision that stands. :raises Taken: the claim or the revision is not the caller's any more.
    :raises Invalid: something is missing. :raises Refused: returned too often, or not by this person.
    """
    escalation = Escalation.objects.get(pk=pk)
    if escalation.state == Escalation.State.DECIDED:
        raise AlreadyDecided(escalation.standing())
    text = text.strip()
    arguments, action_hash = _checked(escalation, kind, text, arguments, reason_code)
    if kind == Decision.Kind.APPROVED and escalation.kind == Escalation.Kind.DRAFT:
        text = escalation.draft
    now = timezone.now()
    with transaction.atomic():
        won = Escalation.objects.filter(
            pk=pk, state=Escalation.State.CLAIMED, token=token, revision=revision, claimed_by=user
        ).update(state=Escalation.State.DECIDED, decided_at=now, lease_until=None)
        if not won:
            raise _why_not(pk)
        return _record(
            escalation,
            kind=kind,
            revision=revision,
            actor=f"user:{user.get_username()}" if user else actor,
            user=user,
            text=text,
            arguments=arguments,
            action_hash=action_hash,
            reason_code=reason_code,
            note=note,
            seen_draft=not escalation.blind,
            seconds=_seconds(escalation, now),
            at=now,
        )


@transaction.atomic
def undo(decision_id: int, *, actor: str, user: User | None = None) -> Escalation:
    """Take a decision back while it is still held; the escalation waits again, under a new revision.

    :raises Refused: it has left, or it is somebody else's decision.
    """
    decision = Decision.objects.select_related("escalation").get(pk=decision_id)
    if decision.actor != actor:
        raise Refused("Only who decided takes a decision back.")
    held = Delivery.objects.filter(decision=decision, state=Delivery.State.HELD, due_at__gt=timezone.now())
    if not held.update(state=Delivery.State.CANCELLED):
        raise Refused("It is too late: the decision has left.")
    Undo.objects.create(decision=decision, actor=actor)
    Escalation.objects.filter(pk=decision.escalation_id, state=Escalation.State.DECIDED).update(
        state=Escalation.State.CLAIMED if user else Escalation.State.WAITING,
        claimed_by=user,
        lease_until=timezone.now() + LEASE if user else None,
        decided_at=None,
        revision=F("revision") + 1,
        token=F("token") + 1,
    )
    return Escalation.objects.get(pk=decision.escalation_id)


def withdraw(case_id: uuid.UUID, *, actor: str, note: str = "") -> int:
    """Nobody waits for an answer any more: everything open of the case ends as withdrawn."""
    return sum(
        _end(escalation, kind="withdrawn", actor=actor, note=note) for escalation in Escalation.objects.open().filter(case_id=case_id)
    )


def supersede(case_id: uuid.UUID, message: str) -> int:
    """The customer wrote again: what a person has on screen is out of date, and an approval of it is void."""
    superseded = 0
    for escalation in Escalation.objects.open().filter(case_id=case_id).exclude(kind=Escalation.Kind.ACTION)[:20]:
        history = [*escalation.evidence.get("history_after", []), {"who": "customer", "text": message[:4_000]}]
        superseded += (
            Escalation.objects.open()
            .filter(pk=escalation.pk, revision=escalation.revision)
            .update(revision=F("revision") + 1, evidence={**escalation.evidence, "history_after": history[-20:]})
        )
    return superseded


def expire_due(now: datetime | None = None) -> int:
    """Past their deadline: those whose rule says so end as `expired_no_response`; the others only rise to the top."""
    now = now or timezone.now()
    overdue = Escalation.objects.overdue(now)
    overdue.filter(on_timeout=Escalation.OnTimeout.KEEP_WAITING, priority__gt=1).update(priority=1)
    ended = overdue.exclude(on_timeout=Escalation.OnTimeout.KEEP_WAITING).order_by("deadline")[:500]
    return sum(_end(escalation, kind="expired_no_response", actor=f"rule:{escalation.edge}") for escalation in ended)


def _end(escalation: Escalation, *, kind: str, actor: str, note: str = "") -> bool:
    """A machine's end, by the same UPDATE as a person's, so that one of them wins."""
    now = timezone.now()
    with transaction.atomic():
        won = (
            Escalation.objects.open()
            .filter(pk=escalation.pk, revision=escalation.revision)
            .update(state=Escalation.State.DECIDED, decided_at=now, lease_until=None)
        )
        if not won:
            return False
        text = escalation.evidence.get("timeout_message", "") if kind == "expired_no_response" else ""
        _record(escalation, kind=kind, revision=escalation.revision, actor=actor, text=text, note=note, at=now)
        return True


def _record(escalation: Escalation, **fields: Any) -> Decision:
    decision = Decision.objects.create(escalation=escalation, **fields)
    wait = 0.0 if fields["kind"] in MACHINE_KINDS else settings.DECISION_HOLD_SECONDS
    Delivery.objects.create(decision=decision, due_at=decision.at + timedelta(seconds=wait))
    return decision


def _held(pk: uuid.UUID, user: User, token: int) -> Any:
    return Escalation.objects.claimed_by(user).filter(pk=pk, token=token)


def _why_not(pk: uuid.UUID) -> Exception:
    escalation = Escalation.objects.select_related("claimed_by").get(pk=pk)
    if escalation.state == Escalation.State.DECIDED:
        return AlreadyDecided(escalation.standing())
    holder = escalation.claimed_by.get_username() if escalation.claimed_by else ""
    if escalation.state == Escalation.State.CLAIMED and holder:
        return Taken(f"{holder} has it, or had it when your claim ended or the customer wrote again.", holder)
    return Taken("Your claim ended, or the customer wrote again. Claim it once more.")


def _seconds(escalation: Escalation, now: datetime) -> float:
    """How long the person had it on screen: from the claim to now."""
    claimed_at = escalation.lease_until - LEASE if escalation.lease_until else now
    return max(0.0, (now - claimed_at).total_seconds())


def _checked(escalation: Escalation, kind: str, text: str, arguments: Any, reason_code: str) -> tuple[Any, str]:
    """The arguments that the decision covers and their hash. :raises Invalid, Refused."""
    kinds, is_action = Decision.Kind, escalation.kind == Escalation.Kind.ACTION
    if kind not in kinds.values or kind in MACHINE_KINDS:
        raise Invalid(f"There is no decision {kind}.")
    if reason_code and reason_code not in REASON_CODES.values():
        raise Invalid(f"There is no reason {reason_code}: use one of {', '.join(REASON_CODES.values())}.")
    if kind == kinds.APPROVED and not is_action and (not escalation.draft or escalation.blind):
        raise Invalid("There is no draft to approve: write the answer yourself.")
    if kind == kinds.EDITED and not is_action and (not text or text == escalation.draft.strip()):
        raise Invalid("An edited answer differs from the draft; to send it as it is, approve it.")
    if kind in (kinds.ANSWERED, kinds.RETURNED) and not text:
        raise Invalid("Write the answer." if kind == kinds.ANSWERED else "Say what the agent should do differently.")
    if kind == kinds.REJECTED and not reason_code:
        raise Invalid("Rejecting asks for a reason.")
    if kind == kinds.RETURNED and escalation.evidence.get("returned", 0) >= MAX_RETURNS:
        raise Refused("It went back to the agent twice already: a person answers now.")
    if not is_action:
        return None, ""
    action: Mapping[str, Any] = escalation.action or {}
    if kind == kinds.EDITED:
        _check_arguments(action.get("schema"), arguments)
        return arguments, arguments_hash(arguments)
    return action.get("arguments"), str(action.get("hash", ""))


def _check_arguments(schema: Any, arguments: Any) -> None:
    if not isinstance(arguments, Mapping):
        raise Invalid("The arguments of an action are a JSON object.")
    if not schema:
        return
    try:
        jsonschema.validate(arguments, schema)
    except jsonschema.ValidationError as error:
        raise Invalid(f"The arguments do not fit the action's schema: {error.message}") from error
    except jsonschema.SchemaError as error:
        raise Invalid(f"The action's schema is not a JSON Schema: {error.message}") from error
