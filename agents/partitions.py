"""Partitions of the call log and of its sums: made ahead of time and on demand, dropped as a whole when they are old.

A row of a day that is too old to be kept, or too far ahead (a clock that is wrong by days), lies in the table's `_odd`
partition and holds up nobody. When such a day does come, its own partition takes over what lies there of it.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.conf import settings
from django.db import OperationalError, connection, transaction

from agents.models.agent import MOST_BODY_DAYS

AHEAD_DAYS = 3
LOCK_MS = 2_000  # who waits for a whole table lets nobody past: better to try again later
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    unit: str  # day or month
    clock: str  # the column that rows are divided by
    setting: str = ""  # which setting says for how many days rows are kept; none: until that day
    ahead_days: int = AHEAD_DAYS  # how far ahead a partition is made

    @property
    def kept_days(self) -> int:
        return int(getattr(settings, self.setting)) if self.setting else 0

    def partition(self, day: date) -> str:
        return f"{self.name}_{day if self.unit == 'day' else day.replace(day=1):%Y%m%d}"


LOG = (
    Table("agents_call", "day", "at", "CALLS_KEPT_DAYS"),
    Table("agents_callminute", "day", "start", "MINUTES_KEPT_DAYS"),
    Table("agents_callhour", "month", "start", "HOURS_KEPT_DAYS"),
)
AGAIN_S = 60
BODIES = Table("agents_callbody", "day", "drop_at", ahead_days=MOST_BODY_DAYS + 1)
_seen: set[str] = set()  # partitions that are there, as far as this process knows
_later: dict[str, float] = {}  # those that could not be made: not to be tried again before then


def make(days: Iterable[date], today: date | None = None, tables: Iterable[Table] = LOG) -> int:
    """See to it that these days have partitions, but for those that no table keeps; how many are new."""
    now, wanted = today or datetime.now(UTC).date(), sorted(set(days))
    return sum(
        _make(table, day)
        for table in tables
        for day in wanted
        if -table.kept_days <= (day - now).days <= table.ahead_days
    )


def make_ahead(today: date | None = None) -> int:
    """Partitions for yesterday to some days from now; how many are new."""
    now = today or datetime.now(UTC).date()
    return make((now + timedelta(days=offset) for offset in range(-1, AHEAD_DAYS + 1)), now)


def _make(table: Table, day: date) -> bool:
    """False: it was there, or has to wait, and its rows lie in the odd partition until the next try."""
    name = table.partition(day)
    if name in _seen or time.monotonic() < _later.get(name, 0.0):
        return False
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [str(LOCK_MS)])
            cursor.execute("SELECT agents_partition(%s, %s, %s)", [table.name, day, table.unit])
            new = bool(cursor.fetchone()[0])
            cursor.execute("SELECT set_config('lock_timeout', '0', true)")
    except OperationalError as error:
        log.warning("%s has to wait: %s", name, error)
        _later[name] = time.monotonic() + AGAIN_S
        return False
    transaction.on_commit(lambda: _seen.add(name))
    return new


def drop_old(today: date | None = None) -> list[str]:
    """Drop the partitions in which every row is older than its table keeps; their names."""
    now = today or datetime.now(UTC).date()
    dropped = []
    for table in (*LOG, BODIES):
        oldest = now - timedelta(days=table.kept_days)
        dropped += [name for name, ends in _partitions(table) if ends <= oldest and _drop(name)]
        with connection.cursor() as cursor:  # few: only what came too late for a partition
            cursor.execute(
                f'DELETE FROM "{table.name}_odd" WHERE "{table.clock}" < %s',
                [datetime(oldest.year, oldest.month, oldest.day, tzinfo=UTC)],
            )
    return dropped


def _drop(name: str) -> bool:
    """False: somebody reads it for longer than the others can be made to wait."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [str(LOCK_MS)])
            cursor.execute(f'DROP TABLE IF EXISTS "{name}"')
            cursor.execute("SELECT set_config('lock_timeout', '0', true)")
    except OperationalError as error:
        log.warning("%s is dropped later: %s", name, error)
        return False
    _seen.discard(name)
    return True


def _partitions(table: Table) -> list[tuple[str, date]]:
    """Each dated partition and the day after its last."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid "
            "WHERE inhparent = %s::regclass ORDER BY child.relname",
            [table.name],
        )
        names = [row[0] for row in cursor.fetchall()]
    dated = [(name, match[1]) for name in names if (match := re.search(r"_(\d{8})$", name))]
    return [(name, _after(date.fromisoformat(day), table.unit)) for name, day in dated]


def _after(first: date, unit: str) -> date:
    return first + timedelta(days=1) if unit == "day" else (first + timedelta(days=32)).replace(day=1)
