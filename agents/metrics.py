"""Figures for the console: what happened today on each scope, and where the money went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection
from django.db.models import Count, ExpressionWrapper, F, FloatField, Q, Sum
from django.db.models.aggregates import Aggregate
from django.db.models.functions import Extract
from django.utils import timezone

from agents.models import Scope, Turn

OUTCOMES = ("answered", "clarified", "escalated", "refused", "withheld", "failed")


class Percentile(Aggregate):
    """PostgreSQL's `percentile_cont(share) WITHIN GROUP (ORDER BY expression)`."""

    function = "percentile_cont"
    output_field = FloatField()
    template = "%(function)s(%(share)s) WITHIN GROUP (ORDER BY %(expressions)s)"

    def __init__(self, expression: object, share: float, **extra: Any) -> None:
        super().__init__(expression, share=share, **extra)


@dataclass(frozen=True, slots=True)
class Figures:
    """One scope's day so far, testers left out. Milliseconds are those from question to outcome; None without turns."""

    answered: int = 0
    clarified: int = 0
    escalated: int = 0
    refused: int = 0
    withheld: int = 0
    failed: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    cost_nano: int = 0

    @property
    def turns(self) -> int:
        return self.answered + self.clarified + self.escalated + self.refused + self.withheld + self.failed

    @property
    def escalation_rate(self) -> float | None:
        return self.escalated / self.turns if self.turns else None


def day_start(zone: str, now: datetime | None = None) -> datetime:
    """Midnight of the present day in that time zone."""
    local = (now or timezone.now()).astimezone(ZoneInfo(zone))
    return local.replace(hour=0, minute=0, second=0, microsecond=0)


def overview(scopes: Sequence[Scope], now: datetime | None = None) -> dict[int, Figures]:
    """Each scope's figures since midnight of its channel, in one query."""
    if not scopes:
        return {}
    today = Q()
    for zone in {scope.channel.timezone for scope in scopes}:
        ids = [scope.pk for scope in scopes if scope.channel.timezone == zone]
        today |= Q(scope_id__in=ids, created_at__gte=day_start(zone, now))
    took = ExpressionWrapper(Extract(F("finished_at") - F("created_at"), "epoch") * 1000.0, output_field=FloatField())
    rows: Iterable[Mapping[str, Any]] = (
        Turn.objects.real()
        .filter(today, finished_at__isnull=False)
        .values("scope_id")
        .annotate(
            p50_ms=Percentile(took, 0.5),
            p95_ms=Percentile(took, 0.95),
            cost=Sum("cost_nano"),
            **{name: Count("id", filter=Q(outcome=name)) for name in OUTCOMES},
        )
        .order_by()
    )
    found = {
        row["scope_id"]: Figures(
            **{name: row[name] for name in OUTCOMES},
            p50_ms=row["p50_ms"],
            p95_ms=row["p95_ms"],
            cost_nano=row["cost"] or 0,
        )
        for row in rows
    }
    return {scope.pk: found.get(scope.pk, Figures()) for scope in scopes}


@dataclass(frozen=True, slots=True)
class Handled:
    """Turns that have ended, and the cases among them that were answered or decided; testers left out."""

    turns: int
    cases: int


# What turns can be grouped and filtered by; calls know more (the model), which a turn may have several of.
OF_TURNS = {
    "agent": "a.slug",
    "channel": "a.slug || '/' || c.slug",
    "scope": "concat_ws('/', a.slug, c.slug, nullif(s.topic, ''))",
    "topic": "s.topic",
    "release": "coalesce(a.slug || '@r' || r.number, '')",
    "key": "t.key_prefix",
}


def handled(
    agents: Iterable[str], since: datetime, until: datetime, by: str = "", only: Mapping[str, str] | None = None
) -> dict[str, Handled]:
    """By group, or the whole under ""; `by` and the names in `only` are of `OF_TURNS`."""
    only = only or {}
    where = "".join(f" AND {OF_TURNS[name]} = %s" for name in only)
    group = OF_TURNS[by] if by else "''"
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT name, sum(turns), count(*) FILTER (WHERE handled) FROM (
                SELECT {group} AS name, count(*) AS turns, bool_or(t.outcome = 'answered' OR t.reply_by <> ''
                    OR t.escalation_id IN (SELECT e.id FROM escalations_escalation e WHERE e.state = 'decided')
                ) AS handled
                FROM agents_turn t
                JOIN agents_scope s ON s.id = t.scope_id
                JOIN agents_channel c ON c.id = s.channel_id
                JOIN agents_agent a ON a.id = c.agent_id
                LEFT JOIN agents_release r ON r.id = t.release_id
                WHERE NOT t.tester AND t.outcome <> 'pending' AND t.created_at >= %s AND t.created_at < %s
                    AND a.slug = ANY(%s){where}
                GROUP BY {group}, t.case_id
            ) AS cases GROUP BY name
            """,
            [since, until, list(agents), *only.values()],
        )
        return {name: Handled(int(turns), cases) for name, turns, cases in cursor.fetchall()}
