"""Questions and answers of model calls, for as many days as their channel keeps them; without that, not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, time, timedelta

from agents import partitions
from agents.entries import attempt_of, moment
from agents.models import CallBody, Channel

LONGEST = 200_000  # characters of each


def kept(entries: Iterable[Mapping[str, str]]) -> dict[str, int]:
    """Of the channels of entries that bring a body: for how many days they keep it. Makes the partitions for them."""
    bringing = [entry for entry in entries if entry.get("request") or entry.get("response")]
    if not bringing:
        return {}
    rows = Channel.objects.filter(keep_bodies_days__gt=0).values_list("agent__slug", "slug", "keep_bodies_days")
    found = {f"{agent}/{slug}": days for agent, slug, days in rows}
    days = {at.date() for entry in bringing if (at := _drop_at(entry, found))}
    partitions.make(days, tables=[partitions.BODIES])
    return found


def write(entries: Iterable[Mapping[str, str]], kept: Mapping[str, int]) -> None:
    """One row for each attempt that brings a body and whose channel keeps it."""
    rows = {}
    for entry in entries:
        at, drop_at = moment(entry.get("at", "")), _drop_at(entry, kept)
        if at and drop_at and (entry.get("request") or entry.get("response")):
            call_id, attempt = attempt_of(entry)
            rows[call_id, attempt] = CallBody(
                call_id=call_id,
                attempt=attempt,
                at=at,
                drop_at=drop_at,
                request=_text(entry, "request"),
                response=_text(entry, "response"),
            )
    CallBody.objects.bulk_create(rows.values())


def _drop_at(entry: Mapping[str, str], kept: Mapping[str, int]) -> datetime | None:
    """Midnight before the day at whose end the body is dropped, so that it is kept for whole days; None: not kept."""
    at, days = moment(entry.get("at", "")), kept.get(entry.get("channel", ""), 0)
    return datetime.combine(at.date() + timedelta(days=days), time(), UTC) if at and days else None


def _text(entry: Mapping[str, str], name: str) -> str:
    return entry.get(name, "").replace("\x00", "")[:LONGEST]
