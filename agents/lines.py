"""What an attempt says of itself in the call stream; `entries` is how the other end reads it."""

from __future__ import annotations

from datetime import datetime

import orjson

from agents.asks import Caller
from guardrails.screen import Screening

GUARDRAIL = {"allow": "passed", "redact": "redacted", "block": "blocked", "escalate": "escalated"}


def entry_of(caller: Caller, call_id: str, attempt: int, at: datetime) -> dict[str, str]:
    return {**caller.names(), "call_id": call_id, "attempt": str(attempt), "at": at.isoformat()}


def worst(screenings: list[tuple[str, Screening]]) -> str:
    order = ("allow", "redact", "escalate", "block")
    actions = [seen.action for _, seen in screenings] or ["allow"]
    return GUARDRAIL[max(actions, key=order.index)]


def findings_json(screenings: list[tuple[str, Screening]]) -> str:
    """Findings of a plain call travel with its log entry; the drain writes both down."""
    rows = [
        {
            "stage": stage,
            "us": screening.us,
            "rule": seen.rule,
            "family": seen.family,
            "action": seen.action,
            "severity": seen.severity,
            "language": seen.language,
            "view": seen.view,
            "start": seen.start,
            "end": seen.end,
            "excerpt": seen.excerpt,
            "would": seen.would,
        }
        for stage, screening in screenings
        for seen in screening.findings
    ]
    return orjson.dumps(rows).decode() if rows else ""
