"""For tests whose work is done in other threads or processes: those see only what is committed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management import call_command
from pytest_django import DjangoDbBlocker

from agents import snapshot
from tests.redis import empty_redis


@contextmanager
def committed(blocker: DjangoDbBlocker) -> Iterator[None]:
    """What is written inside stays written until the end, which leaves Postgres and Redis empty.

    A module's conftest puts it in place of pytest-django's `db`, at module scope: emptying once a test is dear.
    """
    with blocker.unblock():
        empty_redis()
        snapshot.forget()
        yield
        call_command("flush", verbosity=0, interactive=False, reset_sequences=False)  # caches know rows by their ids
        empty_redis()
        snapshot.forget()
