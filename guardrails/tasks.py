"""Celery's entrances: one verb called, safe to run twice."""

from __future__ import annotations

from celery import shared_task

from guardrails.coverage import kept
from guardrails.lexicon import languages


@shared_task
def check_coverage() -> int:
    """Check every language, one after the other, and keep what comes out; how many."""
    return sum(1 for _ in kept.check(languages()))
