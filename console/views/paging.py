"""Lists by keyset: a page begins after the last row of the one before, however many rows there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from django.db.models import Model, Q, QuerySet

Row = TypeVar("Row", bound=Model)
SIZE = 50


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Rows, the cursor of the next page (empty at the end), and whether this is the first."""

    rows: list[Row]
    older: str
    first: bool

    def __bool__(self) -> bool:
        return bool(self.rows)


def newest(rows: QuerySet[Row], before: str, *, by: str = "", size: int = SIZE) -> Page[Row]:
    """Newest first: by primary key, or by the time `by` and then the key. A cursor that makes no sense begins anew."""
    ordered = rows.order_by(f"-{by}", "-pk") if by else rows.order_by("-pk")
    after = _after(rows, before, by) if before else None
    found = list((ordered.filter(after) if after is not None else ordered)[: size + 1])
    older = _cursor(found[size - 1], by) if len(found) > size else ""
    return Page(found[:size], older, after is None)


def _cursor(row: Model, by: str) -> str:
    return f"{getattr(row, by).isoformat()}~{row.pk}" if by else str(row.pk)


def _after(rows: QuerySet[Row], before: str, by: str) -> Q | None:
    at, _, pk = before.rpartition("~")
    try:
        key = rows.model._meta.pk.to_python(pk)  # noqa: SLF001
        if not by:
            return Q(pk__lt=key)
        moment = datetime.fromisoformat(at)
    except Exception:  # noqa: BLE001  whatever a hand-written address holds
        return None
    return Q(**{f"{by}__lt": moment}) | Q(**{by: moment, "pk__lt": key})


def text(fields: Mapping[str, Any], name: str, longest: int = 200) -> str:
    """A field as text without NUL, which PostgreSQL refuses."""
    return str(fields.get(name, "")).replace("\x00", "").strip()[:longest]


def number(fields: Mapping[str, Any], name: str) -> int:
    """A field as a whole number that a database key can be; 0 for what is none."""
    value = text(fields, name, 18)
    return int(value) if value.isdecimal() else 0


def chosen(fields: Mapping[str, Any], name: str, allowed: Any) -> str:
    value = text(fields, name)
    return value if value in allowed else ""
