"""Celery's entrance to the queue's clock."""

from __future__ import annotations

from celery import shared_task

from escalations import queue


@shared_task
def expire_due() -> int:
    """End or raise what nobody decided by its deadline. Running it twice changes nothing more."""
    return queue.expire_due()
