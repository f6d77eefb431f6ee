"""The console: the only app that speaks HTTP."""

from console.celery import app as celery_app

__all__ = ["celery_app"]
