"""Partitions of the call log and of its sums: made ahead of time, dropped as a whole when they are old.

A row whose date has no partition (a clock that is wrong by days) lies in the table's `_odd` one and holds up nobody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.conf import settings
from django.db import Error, connection, transaction

AHEAD_DAYS = 3


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    unit: str  # day or month
    clock: str  # the column that rows are divided by
    setting: str  # which setting says for how many days rows are kept

    @property
    def kept_days(self) -> int:
        return int(getattr(settings, self.setting))


TABLES = (
    Table("agents_call", "day", "at", "CALLS_KEPT_DAYS"),
    Table("agents_callminute", "day", "start", "MINUTES_KEPT_DAYS"),
    Table("agents_callhour", "month", "start", "HOURS_KEPT_DAYS"),
)


def make_ahead(today: date | None = None) -> None:
    """Partitions for yesterday to some days from now; one that cannot be made (odd rows of its day) waits."""
    first = (today or datetime.now(UTC).date()) - timedelta(days=1)
    for table in TABLES:
        for offset in range(AHEAD_DAYS + 2):
            try:
                with transaction.atomic(), connection.cursor() as cursor:
                    day = first + timedelta(days=offset)
                    cursor.execute("SELECT agents_partition(%s, %s, %s)", [table.name, day, table.unit])
            except Error as error:
                if "would be violated" not in str(error) and "already exists" not in str(error):
                    raise


def drop_old(today: date | None = None) -> list[str]:
    """Drop the partitions in which every row is older than its table keeps; their names."""
    now = today or datetime.now(UTC).date()
    dropped = []
    for table in TABLES:
        oldest = now - timedelta(days=table.kept_days)
        for name, ends in _partitions(table):
            if ends <= oldest:
                with connection.cursor() as cursor:
                    cursor.execute(f'DROP TABLE "{name}"')
                dropped.append(name)
        with connection.cursor() as cursor:
            cursor.execute(f'DELETE FROM "{table.name}_odd" WHERE "{table.clock}" < %s', [oldest])
    return dropped


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
    return [
        (name, _after(datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).date(), table.unit)) for name, day in dated
    ]


def _after(first: date, unit: str) -> date:
    return first + timedelta(days=1) if unit == "day" else (first + timedelta(days=32)).replace(day=1)
