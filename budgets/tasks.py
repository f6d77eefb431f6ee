"""Celery's entrance: what dead processes left held."""

from celery import shared_task
from django.conf import settings
from redis import Redis

from budgets import ledger


@shared_task
def expire_holds() -> int:
    """Charge the holds whose process died; running it twice charges once."""
    with Redis.from_url(settings.REDIS_URL, socket_timeout=5) as redis:
        return ledger.expire(redis)
