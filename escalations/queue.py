"""The review queue: add, claim, decide, undo. A change of state is one conditional UPDATE, so races have one winner."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from escalations.actions import Invalid, arguments_hash, check_arguments
from escalations.default_edges import ON_TIMEOUT
from escalations.models import Decision, Delivery, Escalation, EscalationQuerySet, Undo
from escalations.signals import signals

__all__ = [
    "AlreadyDecided", "Claim", "Decision", "Escalation", "Invalid", "Refused", "Superseded", "Taken", "add", "claim",
    "decide", "expire_due", "heartbeat", "release", "snooze", "start", "supersede", "undo", "withdraw", "withdraw_one",
]  # fmt: skip

LEASE = timedelta(minutes=5)
LONGEST_SNOOZE = timedelta(days=7)
MAX_RETURNS = 2
MOST_CHARS = 20_000
MOST_AT_ONCE = 500
REASON_CODES = {"1": "fact", "2": "policy", "3": "tone", "4": "incomplete", "5": "privacy", "6": "action", "7": "other"}
MACHINE_KINDS = frozenset({Decision.Kind.EXPIRED_NO_RESPONSE, Decision.Kind.WITHDRAWN})


class Taken(Exception):
    """Somebody else holds the claim, or the claim was lost; nothing was changed."""

    def __init__(self, message: str, holder: str = "") -> None:
        super().__init__(message)
        self.holder = holder


class Superseded(Taken):
    """The claim is good, but the customer wrote again since the caller looked."""


class AlreadyDecided(Exception):
    """There is a decision; it stands, and it is here."""

    def __init__(self, decision: Decision | None) -> None:
        super().__init__("This was decided already.")
        self.decision = decision


class Refused(Exception):
    """This person may not decide this, or not in this way."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A lease on an escalation. Decide with its token and revision before it ends; a heartbeat extends it."""

    escalation: Escalation
    token: int
    revision: int
    lease_until: datetime


def add(**fields: Any) -> Escalation:
    """Put something before people. An action gets the hash of its arguments, to which an approval will be bound.

    :raises Invalid: the action's arguments do not fit its schema.
    """
    action = fields.get("action")
    if action is not None:
        check_arguments(action.get("schema"), action.get("arguments"))
        fields["action"] = {**action, "hash": arguments_hash(action["arguments"])}
    fields.setdefault("returned", Decision.objects.returns_of(fields["case_id"]).count())
    return Escalation.objects.create(**fields)


def start(user: User, scopes: Iterable[str]) -> Claim | None:
    """One's own open claim, else the best case there is in these scopes, claimed; None when nothing waits.

    Two people never get the same.
    """
    visible = Escalation.objects.for_scopes(scopes).best_first()
    with transaction.atomic():
        best = visible.claimed_by(user).select_for_update(skip_locked=True).first()
        best = best or visible.claimable().select_for_update(skip_locked=True).first()
        return claim(best.pk, user) if best else None


def claim(pk: uuid.UUID, user: User | None) -> Claim:
    """A lease with a fencing token. One's own claim is renewed under its token; an API key (no user) has only that.

    :raises Taken: somebody else holds it. :raises AlreadyDecided: it is over.
    """
    now = timezone.now()
    until = now + LEASE
    renewed = user is not None and Escalation.objects.claimed_by(user, now).filter(pk=pk).update(lease_until=until)
    if not renewed:
        taken = Escalation.objects.claimable(now).filter(pk=pk)
        if not taken.update(
            state=Escalation.State.CLAIMED, claimed_by=user, claimed_at=now, lease_until=until, token=F("token") + 1
        ):
            raise _why_not(pk, user)
    escalation = Escalation.objects.select_related("claimed_by").get(pk=pk)
    return Claim(escalation, escalation.token, escalation.revision, until)


def heartbeat(pk: uuid.UUID, user: User | None, token: int) -> datetime:
    """Extend the lease. :raises Taken: it was lost. :raises AlreadyDecided."""
    until = timezone.now() + LEASE
    if not _held(pk, user, token).update(lease_until=until):
        raise _why_not(pk, user)
    return until


def release(pk: uuid.UUID, user: User | None, token: int) -> None:
    """Put it back unread. :raises Taken: the claim was not one's own any more."""
    if not _held(pk, user, token).update(
        state=Escalation.State.WAITING, claimed_by=None, claimed_at=None, lease_until=None
    ):
        raise _why_not(pk, user)


def snooze(pk: uuid.UUID, user: User | None, token: int, until: datetime) -> None:
    """Put it away for a while, at most a week; its deadline runs on.

    :raises Invalid: not a time ahead of us. :raises Taken: the claim was not one's own any more.
    """
    if not timedelta() < until - timezone.now() <= LONGEST_SNOOZE:
        raise Invalid("Snooze until a time within the next seven days.")
    if not _held(pk, user, token).update(
        state=Escalation.State.SNOOZED, claimed_by=None, claimed_at=None, lease_until=until
    ):
        raise _why_not(pk, user)


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

    A claim whose lease has run out still decides as long as nobody else took it: the token tells.

    :raises AlreadyDecided: with the decision that stands. :raises Taken: the claim is not the caller's any more.
    :raises Superseded: the customer wrote again. :raises Invalid: something is missing.
    :raises Refused: returned too often, or nobody's name is under it.
    """
    escalation = Escalation.objects.get(pk=pk)
    if escalation.state == Escalation.State.DECIDED:
        raise AlreadyDecided(escalation.standing())
    actor = _actor(user, actor)
    text, note = _clean(text), _clean(note)
    text, arguments, action_hash = _covered(escalation, kind, text, arguments, reason_code)
    now = timezone.now()
    claimed = Escalation.objects.filter(
        pk=pk, state=Escalation.State.CLAIMED, token=token, revision=revision, claimed_by=user
    )
    with transaction.atomic():
        if escalation.revision != revision or not _close(claimed, now):
            raise _why_not(pk, user, token)
        return _record(
            escalation,
            kind=kind,
            revision=revision,
            actor=actor,
            user=user,
            text=text,
            arguments=arguments,
            action_hash=action_hash,
            reason_code=reason_code,
            note=note,
            seen_draft=_draft_was_seen(escalation),
            seconds=(now - (escalation.claimed_at or now)).total_seconds(),
            at=now,
        )


@transaction.atomic
def undo(decision_id: int, user: User | None = None, *, actor: str = "") -> Escalation:
    """Take one's decision back while it is still held; the escalation waits again, under a new revision.

    :raises Refused: it has left, or it is somebody else's decision.
    """
    actor = _actor(user, actor)
    decision = Decision.objects.get(pk=decision_id)
    if decision.actor != actor:
        raise Refused("Only who decided takes a decision back.")
    now = timezone.now()
    held = Delivery.objects.filter(decision=decision, state=Delivery.State.HELD, due_at__gt=now)
    if not held.update(state=Delivery.State.CANCELLED):
        raise Refused("It is too late: the decision has left.")
    Undo.objects.create(decision=decision, actor=actor)
    reopened = Escalation.objects.filter(pk=decision.escalation_id, revision=decision.revision)
    reopened.update(
        state=Escalation.State.CLAIMED if user else Escalation.State.WAITING,
        claimed_by=user,
        claimed_at=now if user else None,
        lease_until=now + LEASE if user else None,
        decided_at=None,
        revision=F("revision") + 1,
        token=F("token") + 1,
    )
    return Escalation.objects.get(pk=decision.escalation_id)


def withdraw(case_id: uuid.UUID, *, actor: str, note: str = "") -> int:
    """Nobody waits for an answer any more: everything open of the case ends as withdrawn. How many ended."""
    waiting = Escalation.objects.open().of_case(case_id)
    return sum(
        _end(waiting.filter(pk=pk), kind=Decision.Kind.WITHDRAWN, actor=actor, note=_clean(note))
        for pk in list(waiting.values_list("pk", flat=True)[:MOST_AT_ONCE])
    )


def withdraw_one(pk: uuid.UUID, *, actor: str, note: str) -> bool:
    """End this one as withdrawn; False when it is over already."""
    return _end(Escalation.objects.open().filter(pk=pk), kind=Decision.Kind.WITHDRAWN, actor=actor, note=_clean(note))


def supersede(case_id: uuid.UUID, message: str) -> int:
    """The customer wrote again: what a person has on screen is out of date, and an approval of it is void.

    A mere "thanks" is shown too, but voids nothing. How many became out of date.
    """
    step = 0 if signals(message).thanks_only else 1
    superseded = 0
    for escalation in Escalation.objects.open().of_case(case_id).exclude(kind=Escalation.Kind.ACTION)[:20]:
        after = [*escalation.evidence.get("history_after", []), {"who": "customer", "text": message[:4_000]}]
        superseded += (
            Escalation.objects.open()
            .filter(pk=escalation.pk, revision=escalation.revision)
            .update(revision=F("revision") + step, evidence={**escalation.evidence, "history_after": after[-20:]})
        )
    return superseded * step


def expire_due(now: datetime | None = None) -> int:
    """Past their deadline: those whose rule says so end as `expired_no_response`; the others only rise to the top."""
    overdue = Escalation.objects.overdue(now or timezone.now())
    overdue.filter(on_timeout=Escalation.OnTimeout.KEEP_WAITING, priority__gt=1).update(priority=1)
    ending = overdue.exclude(on_timeout=Escalation.OnTimeout.KEEP_WAITING)
    return sum(
        _end(ending.filter(pk=pk), kind=Decision.Kind.EXPIRED_NO_RESPONSE)
        for pk in list(ending.order_by("deadline").values_list("pk", flat=True)[:MOST_AT_ONCE])
    )


@transaction.atomic
def _end(rows: EscalationQuerySet, *, kind: str, actor: str = "", note: str = "") -> bool:
    """A machine's end, by the same UPDATE as a person's, so that one of them wins. False when it was not this one."""
    escalation = rows.select_for_update().first()
    now = timezone.now()
    if escalation is None or not _close(rows.filter(revision=escalation.revision), now):
        return False
    expired = kind == Decision.Kind.EXPIRED_NO_RESPONSE
    _record(
        escalation,
        kind=kind,
        revision=escalation.revision,
        actor=_rule(escalation) if expired else actor,
        text=_timeout_line(escalation) if expired else "",
        note=note,
        seen_draft=False,
        at=now,
    )
    return True


def _close(rows: EscalationQuerySet, now: datetime) -> bool:
    """THE conditional UPDATE by which everything ends."""
    return bool(rows.update(state=Escalation.State.DECIDED, decided_at=now, lease_until=None))


def _record(escalation: Escalation, **fields: Any) -> Decision:
    decision = Decision.objects.create(escalation=escalation, **fields)
    wait = 0.0 if fields["kind"] in MACHINE_KINDS else settings.DECISION_HOLD_SECONDS
    Delivery.objects.create(decision=decision, due_at=decision.at + timedelta(seconds=wait))
    return decision


def _held(pk: uuid.UUID, user: User | None, token: int) -> EscalationQuerySet:
    return Escalation.objects.claimed_by(user).filter(pk=pk, token=token)


def _why_not(pk: uuid.UUID, user: User | None, token: int | None = None) -> Exception:
    """Why the conditional UPDATE matched nothing, as the loser is told."""
    escalation = Escalation.objects.select_related("claimed_by").get(pk=pk)
    if escalation.state == Escalation.State.DECIDED:
        return AlreadyDecided(escalation.standing())
    held = escalation.state == Escalation.State.CLAIMED
    if held and escalation.claimed_by == user and escalation.token == token:
        return Superseded("The customer wrote again. Read it, then decide.")
    if held and escalation.claimed_by and escalation.claimed_by != user:
        holder = escalation.claimed_by.get_username()
        return Taken(f"{holder} has it.", holder)
    return Taken("Your claim has ended, or you had none. Claim it, then decide.")


def _actor(user: User | None, actor: str) -> str:
    """Never blended: a person decides under their own name, a machine under a name that is no person's."""
    if user is None and (not actor or actor.startswith("user:")):
        raise Refused("A decision needs a name under it.")
    return f"user:{user.get_username()}" if user else actor


def _rule(escalation: Escalation) -> str:
    """The rule that brought it here, as the actor of a decision: "rule:low_confidence@7"."""
    return f"rule:{str(escalation.evidence.get('rule') or escalation.edge).removeprefix('edge:')}"[:160]


def _timeout_line(escalation: Escalation) -> str:
    """What the customer reads when nobody answered in time. Nothing in shadow, where people answer elsewhere."""
    if escalation.blind or escalation.kind == Escalation.Kind.ACTION:
        return ""
    lines = ON_TIMEOUT.get(escalation.on_timeout, {})
    return str(escalation.evidence.get("timeout_message") or lines.get(escalation.language) or lines.get("en", ""))


def _draft_was_seen(escalation: Escalation) -> bool:
    """A blind draft is shown once there is a decision; undoing that one does not make it unseen."""
    return bool(escalation.draft) and (not escalation.blind or escalation.decisions.exists())


def _clean(text: str) -> str:
    if len(text) > MOST_CHARS:
        raise Invalid(f"At most {MOST_CHARS:,} characters.")
    return text.replace("\r\n", "\n").replace("\x00", "").strip()


def _covered(escalation: Escalation, kind: str, text: str, arguments: Any, reason_code: str) -> tuple[str, Any, str]:
    """Text, arguments and their hash as the decision covers them. :raises Invalid, Refused."""
    kinds = Decision.Kind
    if kind not in kinds.values or kind in MACHINE_KINDS:
        raise Invalid(f"There is no decision {kind}.")
    if reason_code and reason_code not in REASON_CODES.values():
        raise Invalid(f"There is no reason {reason_code}: use one of {', '.join(REASON_CODES.values())}.")
    if kind == kinds.REJECTED and not reason_code:
        raise Invalid("Rejecting asks for a reason.")
    if kind in (kinds.ANSWERED, kinds.RETURNED) and not text:
        raise Invalid("Write the answer." if kind == kinds.ANSWERED else "Say what the agent should do differently.")
    if kind == kinds.RETURNED and escalation.returned >= MAX_RETURNS:
        raise Refused("It went back to the agent twice already: a person answers now.")
    if escalation.kind == Escalation.Kind.ACTION:
        return text, *_covered_arguments(escalation.action or {}, kind, arguments)
    return _covered_text(escalation, kind, text), None, ""


def _covered_text(escalation: Escalation, kind: str, text: str) -> str:
    if kind not in (Decision.Kind.APPROVED, Decision.Kind.EDITED):
        return text
    if not escalation.draft or escalation.blind:
        raise Invalid("There is no draft to approve or edit: write the answer yourself.")
    if kind == Decision.Kind.APPROVED:
        return escalation.draft
    if not text or text == _clean(escalation.draft):
        raise Invalid("An edited answer differs from the draft; to send it as it is, approve it.")
    return text


def _covered_arguments(action: Mapping[str, Any], kind: str, arguments: Any) -> tuple[Any, str]:
    """Approved: the arguments as proposed, under the hash they were shown with. Edited: others that fit the schema."""
    proposed, proposed_hash = action.get("arguments"), str(action.get("hash", ""))
    if kind == Decision.Kind.APPROVED and arguments_hash(proposed) != proposed_hash:
        raise Refused("The arguments are not those that were proposed.")
    if kind == Decision.Kind.APPROVED:
        return proposed, proposed_hash
    if kind != Decision.Kind.EDITED:
        return None, ""
    check_arguments(action.get("schema"), arguments)
    if arguments_hash(arguments) == proposed_hash:
        raise Invalid("Edited arguments differ from the proposed ones; to run it as it is, approve it.")
    return arguments, arguments_hash(arguments)
