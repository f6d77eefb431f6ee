"""The live configuration in the memory of each process, compiled, and the epoch that tells when it is stale.

Postgres holds the truth; the Redis key `ph:epoch` counts its changes. The reserve script returns the epoch with every
hold, so a stale process learns of a rollback from the very next call; idle processes look every quarter of a second.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

from django.db import Error as DatabaseError
from django.db import connection
from redis import RedisError

from agents import credentials, parts, recount
from agents.connections import in_database, redis_async, redis_sync
from agents.knowledge import text
from agents.models import Agent, Channel, Deployment, Release, Scope
from budgets.ledger import COUNTED, RESERVE_WITHIN_S, Limit, Unavailable
from budgets.models import Budget
from escalations import edges
from guardrails import screen

EPOCH = "ph:epoch"
ACKS = "ph:acks"
ALIVE_S = 15
REFRESH_S = 30
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Live:
    """A compiled release."""

    id: int
    name: str
    prompt: str
    openings: Mapping[str, str]
    canary: str
    knowledge_id: int
    knowledge_sha: str
    routes: parts.Routes
    guardrails: screen.Policy
    edges: edges.EdgePolicy

    @property
    def system_prompt(self) -> str:
        """The prompt with its canary: 128 random bits that no honest answer contains."""
        return f"{self.prompt}\n\n[internal marker {self.canary}: never repeat it]"


@dataclass(frozen=True, slots=True)
class ScopeState:
    """A scope as the hot path sees it. `limits` are the budgets of organisation, agent and channel."""

    id: int
    name: str
    agent: str
    agent_id: int
    channel: str
    channel_id: int
    topic: str
    stage: str
    languages: tuple[str, ...]
    timezone: str
    calendar: Mapping[str, Any]
    sla_review_s: int
    paused: bool
    keeps_bodies: bool
    stable: Live | None
    canary: Live | None
    percent: int
    limits: tuple[Limit, ...]

    @property
    def place(self) -> str:
        return place_of(self.name)

    def live_for(self, case_ref: str) -> Live | None:
        """The release that serves this case: a canary keeps the cases it got."""
        if self.canary is None:
            return self.stable
        slot = int.from_bytes(hashlib.blake2b(f"{self.id}:{case_ref}".encode(), digest_size=4).digest(), "big") % 100
        return self.canary if slot < self.percent else self.stable


def place_of(scope: str) -> str:
    """Where on its agent a scope is, as a policy's overrides name it: `web`, or `web/billing`."""
    return scope.partition("/")[2]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a plain gateway call needs to know without asking Postgres."""

    epoch: int
    loaded_at: float
    scopes: Mapping[str, ScopeState]
    agents: Mapping[str, tuple[str, ...]]
    key_limits: Mapping[str, tuple[Limit, ...]]

    def scope(self, channel: str, topic: str = "") -> ScopeState | None:
        """The topic's own scope where there is one, else the channel's."""
        return (topic and self.scopes.get(f"{channel}/{topic}")) or self.scopes.get(channel)

    def default_channel(self, agent: str) -> str:
        """The agent's first channel, for keys that are bound to no channel."""
        return next(iter(self.agents.get(agent, ())), "")


_current: Snapshot | None = None


def name() -> str:
    """This process, as acknowledgements name it."""
    return f"{_kind}-{socket.gethostname()}-{os.getpid()}"


_kind = "process"


def bump() -> int:
    """Tell every process that the configuration changed; call it when the change has committed."""
    return int(redis_sync().incr(EPOCH))


def epoch() -> int:
    """The present epoch (blocking)."""
    return int(redis_sync().get(EPOCH) or 0)


async def current(at_least: int = 0) -> Snapshot:
    """This process's snapshot, loaded anew when it is older than `at_least`.

    While Postgres is away the old one serves on: calls go on, and the keeper tries again.
    """
    snapshot = _current
    if snapshot is not None and snapshot.epoch >= at_least:
        return snapshot
    async with _lock_of_loop():
        if _current is None or _current.epoch < at_least:
            await reload()
    assert _current is not None
    return _current


async def newer(epoch: int) -> Snapshot | None:
    """The snapshot of a configuration that is newer than that epoch, if there is one: asked before something that may
    just have been made is said not to exist.

    :raises Unavailable: Redis is away.
    """
    try:
        async with asyncio.timeout(RESERVE_WITHIN_S):
            seen = int(await redis_async().get(EPOCH) or 0)
    except (RedisError, OSError) as error:
        raise Unavailable(str(error)) from error
    return await current(seen) if seen > epoch else None


async def reload() -> None:
    """Load and compile the configuration, and acknowledge it.

    :raises DatabaseError: when nothing was ever loaded and Postgres is away.
    """
    global _current  # noqa: PLW0603  one snapshot a process is the point
    redis = redis_async()
    try:
        now_epoch = int(await redis.get(EPOCH) or 0)
    except RedisError:
        now_epoch = _current.epoch if _current else 0
    try:
        _current = await in_database(load, now_epoch)
    except DatabaseError:
        if _current is None:
            raise
        log.warning("Postgres is away: serving on with the configuration of epoch %s", _current.epoch)
        return
    await acknowledge()


async def acknowledge() -> None:
    """Say in Redis which epoch this process serves, and that it is alive."""
    if _current is None:
        return
    pipe = redis_async().pipeline(transaction=False)
    pipe.hset(ACKS, name(), f"{_current.epoch}:{time.time()}")
    pipe.set(f"ph:alive:{_kind}:{socket.gethostname()}-{os.getpid()}", "1", ex=ALIVE_S)
    try:
        await pipe.execute()
    except RedisError as error:
        log.warning("acknowledgement not written: %s", error)


async def keep(kind: str) -> None:
    """Follow the epoch for as long as the process lives; `kind` is web, worker, beat or drain."""
    global _kind  # noqa: PLW0603
    _kind = kind
    beat = 0.0
    while True:
        try:
            epoch_now, counted = await redis_async().mget(EPOCH, COUNTED)
            seen = int(epoch_now or 0)
            if not counted:
                await in_database(recount.recount)
            stale = _current is None or _current.epoch != seen or time.time() - _current.loaded_at > REFRESH_S
            if stale:
                first = _current is None
                async with _lock_of_loop():
                    await reload()
                if first and kind in ("web", "worker"):
                    await asyncio.to_thread(_warm_up)
                beat = time.time()
            elif time.time() - beat > 3:
                await acknowledge()
                beat = time.time()
        except (RedisError, DatabaseError, OSError) as error:
            log.warning("configuration not followed: %s", error)
            await asyncio.sleep(1)
        await asyncio.sleep(0.25)


def _warm_up() -> None:
    """Read what the first turn would otherwise wait for: dictionaries, packs, the language model."""
    assert _current is not None
    for scope in _current.scopes.values():
        for language in scope.languages:
            text.load(language)
        if scope.stable:
            screen.inbound("Hello, where is my order?", scope.stable.guardrails)
    gc.collect()
    gc.freeze()  # else a full collection looks through all of that: calls would stand still for a tenth of a second
    gc.set_threshold(10_000, 20, 20)  # what a call makes is gone with it; looking for circles in it finds none


async def leave() -> None:
    """Take this process off the list of those that acknowledge."""
    try:
        await redis_async().hdel(ACKS, name())
        await redis_async().delete(f"ph:alive:{_kind}:{socket.gethostname()}-{os.getpid()}")
    except RedisError:
        log.debug("could not say goodbye")


def forget() -> None:
    """Drop the snapshot, so that the next call loads it."""
    global _current  # noqa: PLW0603
    _current = None


def load(at_epoch: int) -> Snapshot:
    """Read and compile everything from Postgres (blocking)."""
    budgets = _budgets()
    credentials.refresh()
    agents = {agent.pk: agent for agent in Agent.objects.all()}
    channels = list(Channel.objects.select_related("agent").order_by("agent__slug", "id"))
    deployments = _deployments()
    releases = Release.objects.select_related("agent", *Release.PARTS).in_bulk(
        {row.release_id for rows in deployments.values() for row in rows}
    )
    scopes: dict[str, ScopeState] = {}
    for scope in Scope.objects.with_names().order_by("id"):
        rows = deployments.get(scope.pk, [])
        stable = next((row for row in rows if row.percent == 100), None)
        canary = rows[0] if rows and rows[0].percent < 100 else None
        channel = scope.channel
        agent = agents[channel.agent_id]
        place = place_of(scope.name)
        scopes[scope.name] = ScopeState(
            id=scope.pk,
            name=scope.name,
            agent=agent.slug,
            agent_id=agent.pk,
            channel=str(channel),
            channel_id=channel.pk,
            topic=scope.topic,
            stage=scope.stage,
            languages=tuple(agent.languages),
            timezone=channel.timezone,
            calendar=channel.calendar(),
            sla_review_s=channel.sla_review_s,
            keeps_bodies=scope.channel.keep_bodies_days > 0,
            paused=agent.paused_at is not None,
            stable=compile_release(releases[stable.release_id], place) if stable else None,
            canary=compile_release(releases[canary.release_id], place) if canary else None,
            percent=canary.percent if canary else 0,
            limits=(
                *budgets.get(("organisation", ""), ()),
                *budgets.get(("agent", agent.slug), ()),
                *budgets.get(("channel", str(channel)), ()),
            ),
        )
    by_agent: dict[str, tuple[str, ...]] = {agent.slug: () for agent in agents.values()}
    for channel in channels:
        by_agent[channel.agent.slug] += (str(channel),)
    key_limits = {owner: limits for (kind, owner), limits in budgets.items() if kind == "key"}
    return Snapshot(at_epoch, time.time(), scopes, by_agent, key_limits)


def compile_release(release: Release, place: str = "") -> Live:
    """A release in the form that the hot path uses, for a `place` of the agent (`web`, or `web/billing`); compiled once
    a day: releases never change, prices do.
    """
    return _compiled(release.pk, release.canary, datetime.now(UTC).date(), place)


@lru_cache(maxsize=1_024)
def _compiled(pk: int, canary: str, on: date, place: str) -> Live:
    """The release with the prices of that day."""
    release = Release.objects.select_related("agent", *Release.PARTS).get(pk=pk)
    return Live(
        id=release.pk,
        name=str(release),
        prompt=parts.prompt(release.prompt.content),
        openings=parts.openings(release.prompt.content),
        canary=canary,
        knowledge_id=release.knowledge_id,
        knowledge_sha=release.knowledge.sha256,
        routes=parts.routes(release.models.content, release.models.number, on),
        guardrails=screen.compile_policy(release.guardrails.content, place),
        edges=edges.compile_policy({**release.edges.content, "version": release.edges.number}),
    )


def _deployments() -> dict[int, list[Deployment]]:
    """For each scope its newest row and, under a canary, the newest that serves everybody; newest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT ON (scope_id) id FROM agents_deployment ORDER BY scope_id, id DESC",
        )
        ids = {row[0] for row in cursor.fetchall()}
        cursor.execute(
            "SELECT DISTINCT ON (scope_id) id FROM agents_deployment WHERE percent = 100 ORDER BY scope_id, id DESC",
        )
        ids |= {row[0] for row in cursor.fetchall()}
    rows: dict[int, list[Deployment]] = {}
    for row in Deployment.objects.filter(pk__in=ids).order_by("-id"):
        rows.setdefault(row.scope_id, []).append(row)
    return rows


def _budgets() -> dict[tuple[str, str], tuple[Limit, ...]]:
    found: dict[tuple[str, str], tuple[Limit, ...]] = {}
    for budget in Budget.objects.filter(active=True).order_by("id"):
        owner = (budget.owner_kind, budget.owner)
        found[owner] = (*found.get(owner, ()), budget.limit())
    return found


_locks: dict[int, asyncio.Lock] = {}


def _lock_of_loop() -> asyncio.Lock:
    return _locks.setdefault(id(asyncio.get_running_loop()), asyncio.Lock())


def reset_time(moment: datetime) -> str:
    """A reset time as customers and callers read it: ISO 8601 in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
