"""Entries of the call stream: strings as Redis has them, and the rows that the drain makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.db import models

from agents.models import Call
from budgets.stream import unpack

# One drain writes at a time: they would wait for each other's sums anyway. Who holds this sees between two batches.
LOCK = "SELECT pg_advisory_xact_lock(hashtext('agents.calls'))"
COLUMNS = [
    *("call_id", "attempt", "at", "purpose", "agent", "channel", "scope", "release", "case_ref", "turn_id"),
    *("key_prefix", "provider", "model", "tier", "stream", "status", "error", "guardrail", "input_tokens"),
    *("cached_tokens", "output_tokens", "latency_ms", "ttft_ms", "cost_nano", "price"),
    *("charged_nano", "largest_nano", "rule", "price_version", "error_class"),
]
LENGTHS = {
    field.name: field.max_length
    for field in Call._meta.get_fields()  # noqa: SLF001  Django's documented way to a model's fields
    if isinstance(field, models.CharField) and field.max_length
}
INTEGERS = {"attempt": 1, "input_tokens": 0, "cached_tokens": 0, "output_tokens": 0, "charged_nano": 0}


def decoded(entry_id: bytes, fields: Mapping[bytes, bytes]) -> dict[str, str]:
    """An entry that does not say when it was is of the moment of its id: the same one whenever it is read again."""
    entry = unpack(fields)
    if not entry.get("at"):
        entry["at"] = datetime.fromtimestamp(int(entry_id.split(b"-")[0]) / 1000, UTC).isoformat()
    return entry


def moment(at: str) -> datetime | None:
    """An entry's time, in UTC; None where it is no time."""
    try:
        found = datetime.fromisoformat(at)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def attempt_of(entry: Mapping[str, str]) -> tuple[str, int]:
    """What an entry is of: call id and attempt."""
    return entry["call_id"], int(entry.get("attempt") or 1)


def row(entry: Mapping[str, str]) -> tuple[Any, ...]:
    """An entry's strings as the column types have them; what is missing gets the column's neutral value."""
    given = {**entry, "charged_nano": entry.get("charged_nano") or entry.get("cost_nano") or "0"}
    return tuple(_value(name, given.get(name, "")) for name in COLUMNS)


def _value(name: str, text: str) -> Any:
    if name == "at":
        return text or datetime.now(UTC).isoformat()
    if name in INTEGERS:
        return int(text or INTEGERS[name])
    if name in LENGTHS:
        return (text or _DEFAULTS.get(name, "")).replace("\x00", "")[: LENGTHS[name]]
    if name == "stream":
        return bool(text)
    if name == "latency_ms":
        return float(text or 0)
    if name in ("cost_nano", "largest_nano"):
        return int(text) if text else None
    return text or None


_DEFAULTS = {"guardrail": "passed", "status": "ok", "purpose": "gateway", "price": "unknown"}
