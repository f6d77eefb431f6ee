"""A scope with traffic: releases that answer, and releases that do not."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agents.models import Agent, Call, Channel, Deployment, Release, Scope, Turn
from console.models import Alert
from console.monitoring.watch import watch
from tests.console.api.conftest import make_channel, publish, scope_of
from tests.redis import empty_redis

HELD_BACK = {"rule": "canary", "family": "leak", "severity": "high", "start": 0, "end": 1, "excerpt": "x"}


@pytest.fixture(autouse=True)
def clean_redis() -> None:
    empty_redis()


@pytest.fixture
def channel(db: None) -> Channel:
    return make_channel(Agent.objects.create(slug="acme", name="Acme", languages=["en"]), "web")


@pytest.fixture
def scope(channel: Channel) -> Scope:
    return scope_of(channel)


def deploy(scope: Scope, prompt: str, ago: timedelta = timedelta(), **fields: Any) -> Release:
    """A new release, live on the scope since so long."""
    release = publish(scope.agent, prompt)
    row = Deployment(scope=scope, release=release, actor="user:ada", at=timezone.now() - ago, **fields)
    row.save()
    return release


def call(scope: Scope, release: Release, n: int, ok: bool = True, ago: timedelta = timedelta(minutes=1)) -> None:
    """So many calls of managed turns under that release, answered or not."""
    at = timezone.now() - ago
    Call.objects.bulk_create(
        Call(
            call_id=uuid.uuid4(), at=at, purpose="turn", agent=scope.agent.slug, channel=str(scope.channel),
            scope=scope.name, release=str(release), model="m", status="ok" if ok else "error", price="exact",
            cost_nano=1,
        )
        for _ in range(n)
    )  # fmt: skip


def turn(
    scope: Scope, release: Release, n: int, outcome: str = "answered", ago: timedelta = timedelta(minutes=1), **of: Any
) -> None:
    """So many turns under that release; `took` is how long each lasted."""
    at, took = timezone.now() - ago, of.pop("took", timedelta(seconds=1))
    case, _ = scope.channel.cases.get_or_create(ref="4711")
    first = case.turns.count() + 1
    Turn.objects.bulk_create(
        Turn(
            case=case, scope=scope, number=first + i, message="?", outcome=outcome, release=release, created_at=at,
            finished_at=at + took, **of,
        )
        for i in range(n)
    )  # fmt: skip


class Clock:
    """Evaluates again and again, half a minute apart."""

    def __init__(self) -> None:
        self.now = timezone.now()

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            watch(self.now)
            self.now += timedelta(seconds=30)


@pytest.fixture
def clock(scope: Scope) -> Clock:
    return Clock()


def states(rule: str) -> list[str]:
    """What became of the alerts of that rule, oldest first."""
    rows = Alert.objects.filter(rule=rule).order_by("id")
    return [change.to_state for row in rows for change in row.changes.order_by("id")]
