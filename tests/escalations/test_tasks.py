"""Celery's entrance."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from escalations import tasks
from tests.escalations.conftest import Put


def test_run_twice_it_leaves_the_same_state(put: Put) -> None:
    row = put(deadline=timezone.now() - timedelta(seconds=1), on_timeout="safe_refusal")
    assert [tasks.expire_due(), tasks.expire_due()] == [1, 0]
    assert row.decisions.count() == 1
