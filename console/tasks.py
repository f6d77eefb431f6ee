"""What the console does by itself."""

from __future__ import annotations

from celery import shared_task

from console.monitoring import notices, watch


@shared_task
def watch_scopes() -> int:
    """Evaluate every alert rule, and have told who is to be told."""
    changed = watch.watch()
    for pk in notices.due():
        send_notice.delay(pk)
    return changed


@shared_task
def send_notice(pk: int) -> bool:
    return notices.send(pk)
