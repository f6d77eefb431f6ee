"""Celery's entrances: JSON ids in, one verb called, safe to run twice."""

from __future__ import annotations

import asyncio
import logging
import uuid
from datetime import timedelta
from typing import Any

from celery import shared_task
from celery.signals import worker_ready, worker_shutting_down
from django.utils import timezone

from agents import cases, dryruns, partitions, private, snapshot, turns
from agents.connections import redis_sync
from agents.loop import loop
from agents.models import Turn
from budgets.ledger import Unavailable
from escalations import outbox

log = logging.getLogger(__name__)
UNQUEUED_S = 30
RESCUES = 500


@worker_ready.connect
def follow_configuration(**_: Any) -> None:
    asyncio.run_coroutine_threadsafe(snapshot.keep("worker"), loop.start())


@worker_shutting_down.connect
def say_goodbye(**_: Any) -> None:
    asyncio.run_coroutine_threadsafe(snapshot.leave(), loop.start())


@shared_task(bind=True, max_retries=20)
def run_turn(self: Any, turn_id: str) -> None:
    """Run a pending turn; a second delivery of the same id finds nothing to do."""
    try:
        loop.run(turns.run(uuid.UUID(turn_id)))
    except Unavailable as error:
        raise self.retry(exc=error, countdown=2) from error


@shared_task
def rescue_turns() -> int:
    """Queue again what a dead worker left behind, and what never reached the queue."""
    now = timezone.now()
    lost = Turn.objects.pending().filter(run_until__lt=now)
    unqueued = Turn.objects.pending().filter(run_until=None, created_at__lt=now - timedelta(seconds=UNQUEUED_S))
    rescued = 0
    for pk in [*lost.values_list("pk", flat=True)[:RESCUES], *unqueued.values_list("pk", flat=True)[:RESCUES]]:
        if redis_sync().set(f"ph:rescue:{pk}", "1", nx=True, ex=UNQUEUED_S):
            run_turn.delay(str(pk))
            rescued += 1
    return rescued


@shared_task
def deliver_decisions() -> int:
    """Carry decisions whose time to undo has passed to the turns that wait for them."""
    placed = 0
    for delivery in outbox.due(timezone.now(), limit=100):
        if outbox.mark_sent(delivery):  # from here on it cannot be undone
            cases.deliver(delivery.decision)
            outbox.mark_placed(delivery)
            placed += 1
    return placed


@shared_task
def dry_run(pk: int) -> None:
    """Go on with a dry run; one that is over, or that another worker is ahead with, is left alone."""
    dryruns.proceed(pk)


@shared_task
def forget_sealed() -> int:
    """Of turns that are over: the words that callers had a day to fetch."""
    return private.forget(timezone.now())


@shared_task
def drop_old_calls() -> list[str]:
    """Retention: whole partitions go, nothing is deleted row by row."""
    partitions.make_ahead()
    return partitions.drop_old()
