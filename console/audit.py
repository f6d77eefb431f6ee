"""The audit trail: events that leave no append-only row of their own are recorded here, and the chain is proved.

Rows of the append-only tables (versions, releases, deployments, stage changes, decisions, findings that did something,
budget changes and increases, invoices, keys, alerts) are written to the trail by the database itself; see migrations
0002 to 0005.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import connection

from agents.models import PrivateValue
from console.models import AuditEntry

GENESIS = "0" * 64
# Tables whose every row has an entry, and which rows those are.
WATCHED = {
    "agents_version": "true",
    "agents_release": "true",
    "agents_deployment": "true",
    "agents_stagechange": "true",
    "escalations_decision": "true",
    "escalations_undo": "true",
    "guardrails_finding": "action <> 'allow' OR rule = 'judge-failed'",
    "guardrails_falsepositive": "true",
    "budgets_budgetchange": "true",
    "budgets_budgetincrease": "true",
    "budgets_invoice": "true",
    "console_alertchange": "true",
}


def actor_of(user: AbstractBaseUser) -> str:
    """How a person is written down."""
    return f"user:{user.get_username()}"


def record(
    actor: str,
    action: str,
    *,
    agent: str = "",
    object: str = "",  # noqa: A002
    detail: Mapping[str, Any] | None = None,
) -> AuditEntry:
    """Write an event down, in the transaction of the event. Record last: other entries wait until it commits.

    `action` is a noun and a verb ("person.signed_in"), `object` names what it was done to.
    """
    entry = AuditEntry.objects.create(
        actor=actor[:160], action=action[:60], agent=agent[:50], object=object[:200], detail=dict(detail or {})
    )
    entry.refresh_from_db()
    return entry


def revealed(actor: str, value: PrivateValue) -> AuditEntry:
    """Somebody looked behind a token; what they saw is not written down."""
    detail = {"kind": value.kind, "case": str(value.case_id)}
    return record(actor, "private.revealed", agent=value.case.channel.agent.slug, object=value.token, detail=detail)


@dataclass(frozen=True, slots=True)
class Broken:
    """An entry that is not what it was, or a place where one is missing."""

    entry: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Proof:
    """How many entries were read, the hash of the last one, and the first thing that is wrong."""

    entries: int
    head: str
    broken: Broken | None = None


def verify(anchor: str = "") -> Proof:
    """Read the whole trail and compute every hash anew.

    `anchor` is the head of an earlier proof, kept elsewhere: it must still be in the chain, which shows that the chain
    was not rewritten as a whole. Every watched row must have its entry, which shows that the end was not cut off.
    """
    previous, count, anchored = GENESIS, 0, not anchor
    for pk, at, *names, detail, kept_previous, kept in _entries():
        if kept_previous != previous:
            return Proof(
                count, previous, Broken(pk, "does not follow the one before it: an entry is missing or was changed.")
            )
        if digest(previous, at, names, detail) != kept:
            return Proof(count, previous, Broken(pk, "was changed: its content does not have its hash."))
        previous, count = kept, count + 1
        anchored = anchored or kept == anchor
    if not anchored:
        return Proof(count, previous, Broken(0, "The chain does not contain the hash given: it was rewritten."))
    missing = next(_missing(), None)
    return Proof(count, previous, Broken(0, missing) if missing else None)


def digest(previous: str, at: datetime, names: Sequence[str], detail: str) -> str:
    """As `console_audit_hash` in the database. `names`: actor, action, agent, object; `detail` in PostgreSQL's JSON."""
    texts = (json.dumps(name, ensure_ascii=False) for name in names)
    stamp = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return hashlib.sha256("\n".join((previous, stamp, *texts, detail)).encode()).hexdigest()


def _entries() -> Iterator[tuple[Any, ...]]:
    """(id, at, actor, action, agent, object, detail, previous, sha256) of every entry, oldest first."""
    after, size = 0, 5_000
    while True:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT id, at, actor, action, agent, object, detail::text, previous, sha256 "
                "FROM console_auditentry WHERE id > %s ORDER BY id LIMIT %s",
                [after, size],
            )
            rows = cursor.fetchall()
        yield from rows
        if len(rows) < size:
            return
        after = rows[-1][0]


def _missing() -> Iterator[str]:
    """A sentence for each table with a row that has no entry."""
    for table, only in WATCHED.items():
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT min(t.id) FROM {table} t WHERE ({only}) AND NOT EXISTS (SELECT 1 FROM console_auditentry e "
                "WHERE e.detail ->> 'table' = %s AND e.detail ->> 'row' = t.id::text)",
                [table],
            )
            row = cursor.fetchone()[0]
        if row is not None:
            yield f"Row {row} of {table} has no entry."
