"""The partitions of what grows with the calls: made ahead and on demand, dropped when they are too old.

A partition is made for days from the oldest that is kept to a few days ahead. A row of any other time, be it from a
machine whose clock is wrong or from years ago, goes into the table's default partition, `<table>_odd`: no date can stop
the drain. When the day of such a row comes, its partition takes it over.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.utils import timezone

AHEAD = timedelta(days=2)
LOCK_MS = 2_000  # who waits for a lock on a table lets nobody past: better to try again later
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose partitions are days, or months, of the column `by`; `setting` names how many days it is kept."""

    name: str
    setting: str = ""
    by: str = "at"
    monthly: bool = False

    @property
    def keep(self) -> timedelta:
        return timedelta(days=getattr(settings, self.setting) if self.setting else 0)

    def starts(self, day: date) -> date:
        return day.replace(day=1) if self.monthly else day

    def ends(self, start: date) -> date:
        return (start + timedelta(days=31)).replace(day=1) if self.monthly else start + timedelta(days=1)

    def partition(self, start: date) -> str:
        return f"{self.name}_p{start:%Y%m%d}"

    def start_of(self, partition: str) -> date | None:
        """The first day of a partition, by its name; None for the one of odd dates."""
        found = re.fullmatch(rf"{self.name}_p(\d{{8}})", partition)
        return datetime.strptime(found[1], "%Y%m%d").replace(tzinfo=UTC).date() if found else None


CALLS = Table("agents_call", "KEEP_CALLS_DAYS")
MINUTES = Table("agents_callminute", "KEEP_MINUTES_DAYS")
HOURS = Table("agents_callhour", "KEEP_HOURS_DAYS", monthly=True)
TABLES = (CALLS, MINUTES, HOURS)

_known: set[str] = set()  # partitions that this process has seen


def day_of(at: str) -> date | None:
    """The day in UTC of a time as entries carry it; None where it is no time."""
    try:
        moment = datetime.fromisoformat(at)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).date()
    except (ValueError, OverflowError):
        return None


def make(days: Iterable[date], tables: Iterable[Table] = TABLES, now: datetime | None = None) -> int:
    """See to it that these days have partitions, where they are not too old and not too far ahead; how many are new."""
    today = (now or timezone.now()).astimezone(UTC).date()
    wanted = sorted(set(days))
    missing = [
        (table, start)
        for table in tables
        for start in sorted({table.starts(day) for day in wanted if today - table.keep <= day <= today + AHEAD})
        if table.partition(start) not in _known
    ]
    made = 0
    for table, start in missing:
        try:
            made += _make(table, start)
        except OperationalError as error:  # rows can go into the default partition meanwhile
            log.warning("%s has to wait: %s", table.partition(start), error)
    return made


def make_ahead(now: datetime | None = None) -> int:
    """Partitions for today and the days to come."""
    today = (now or timezone.now()).astimezone(UTC).date()
    return make([today + timedelta(days=n) for n in range(AHEAD.days + 1)], now=now)


@transaction.atomic
def _make(table: Table, start: date) -> bool:
    name, odd, end = table.partition(start), f"{table.name}_odd", table.ends(start)
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = {LOCK_MS}")
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('agents.partitions'))")
        cursor.execute("SELECT to_regclass(%s)", [name])
        if new := cursor.fetchone()[0] is None:
            # Made apart and then attached: the table itself can be read and written all the while.
            cursor.execute(f"CREATE TABLE {name} (LIKE {table.name} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
            cursor.execute(f"LOCK TABLE {odd} IN ACCESS EXCLUSIVE MODE")
            cursor.execute(
                f"WITH moved AS (DELETE FROM {odd} WHERE {table.by} >= %s AND {table.by} < %s RETURNING *) "
                f"INSERT INTO {name} SELECT * FROM moved",
                [_midnight(start), _midnight(end)],
            )
            cursor.execute(
                f"ALTER TABLE {table.name} ATTACH PARTITION {name} FOR VALUES FROM (%s) TO (%s)",
                [_midnight(start), _midnight(end)],
            )
    transaction.on_commit(lambda: _known.add(name))
    return new


def drop_old(now: datetime | None = None) -> list[str]:
    """Drop the partitions that are wholly too old; their names. Of odd dates, those in the past are deleted."""
    today = (now or timezone.now()).astimezone(UTC).date()
    dropped = []
    for table in TABLES:
        oldest = today - table.keep
        for name in _partitions(table):
            start = table.start_of(name)
            if start and table.ends(start) <= oldest and _drop(name):
                dropped.append(name)
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {table.name}_odd WHERE {table.by} < %s", [_midnight(oldest)])
    return dropped


def _partitions(table: Table) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass ORDER BY 1", [table.name]
        )
        return [name for (name,) in cursor.fetchall()]


def _drop(name: str) -> bool:
    _known.discard(name)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = {LOCK_MS}")
            cursor.execute(f"DROP TABLE IF EXISTS {name}")
    except OperationalError as error:
        log.warning("%s is dropped later: %s", name, error)
        return False
    return True


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
