"""Turns as a worker runs them: the task's function, on real Postgres and Redis, with a real provider."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_django import DjangoDbBlocker

from agents import calls, cases, snapshot, tasks
from agents.models import Agent, Call, Scope, Turn
from agents.providers import http
from budgets import ledger
from tests import world
from tests.committed import committed
from tests.upstream import Upstream


@pytest.fixture(scope="module")
def db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """In place of the usual one: what is written stays written, until the module is over."""
    with committed(django_db_blocker):
        yield
        tasks.loop.run(http.close())


@pytest.fixture(scope="module")
def agent(db: None) -> Agent:
    return world.make_agent(languages=("en", "pl", "de"))


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred turns on one loop are not a Redis that is away."""
    monkeypatch.setattr(ledger, "RESERVE_WITHIN_S", 30.0)


@pytest.fixture
def upstream(provider: Upstream) -> Upstream:
    provider.forget()
    world.close_circuits()
    return provider


class Desk:
    """A channel of its own for one test, and turns on it."""

    def __init__(self, agent: Agent, upstream: Upstream) -> None:
        self.agent = agent
        self.upstream = upstream

    def open(self, stage: str = "narrow", *, local: bool = True, **parts: Any) -> Scope:
        """A scope of this stage; its models are the built-in one, or those of the provider."""
        models = parts.pop("models", world.LOCAL if local else world.served_by(self.upstream.url))
        release = world.publish(self.agent, models=models, **parts)
        scope = world.make_scope(self.agent, f"c{uuid.uuid4().hex[:8]}", stage, release)
        snapshot.forget()
        return scope

    def ask(self, scope: Scope, message: str = world.QUESTION, ref: str = "", **fields: Any) -> Turn:
        """A pending turn that no worker knows of yet."""
        ref = ref or uuid.uuid4().hex
        return cases.open_turn(
            scope.channel, ref=ref, message=message, topic=scope.topic, **{"enqueue": False, **fields}
        )

    def run(self, turn: Turn) -> Turn:
        """The turn after a worker had it."""
        tasks.run_turn(str(turn.pk))
        return Turn.objects.select_related("case", "escalation", "release__agent", "scope").get(pk=turn.pk)

    def say(self, scope: Scope, message: str = world.QUESTION, ref: str = "", **fields: Any) -> Turn:
        """Asked and run."""
        return self.run(self.ask(scope, message, ref, **fields))

    def calls(self, **wanted: Any) -> list[Call]:
        """The call log, as the drain writes it."""
        calls.drain(lambda: calls.lag() == 0, "tests")
        return list(Call.objects.filter(**wanted).order_by("at", "attempt"))


@pytest.fixture
def desk(agent: Agent, upstream: Upstream) -> Desk:
    return Desk(agent, upstream)
