"""Versions, releases and their way onto scopes: publish, deploy, roll back, and the proof that everybody follows."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from django.db import IntegrityError, connection, transaction
from django.db.models import Max

from agents import snapshot
from agents.connections import redis_sync
from agents.models import Agent, Deployment, Release, Scope, Version
from agents.models.release import content_hash
from agents.parts import validate
from guardrails.screen import compile_policy


class Invalid(Exception):
    """The content or the combination is not acceptable; the message says why in plain words."""


class Conflict(Exception):
    """The scope is not in a state where this can be done, e.g. it already serves that release."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process and the configuration epoch that it serves."""

    name: str
    epoch: int
    seconds_ago: float


@dataclass(frozen=True, slots=True)
class Acknowledgements:
    """Who has followed a change: `done` when every living process serves `epoch` or a later one."""

    epoch: int
    processes: list[Process]

    @property
    def arrived(self) -> int:
        return sum(process.epoch >= self.epoch for process in self.processes)

    @property
    def done(self) -> bool:
        return bool(self.processes) and self.arrived == len(self.processes)


def add_version(agent: Agent, kind: str, content: Any, *, author: str, note: str = "") -> Version:
    """A new numbered version; content that is already there returns the version that has it.

    :raises Invalid: when the content does not compile.
    """
    try:
        validate(kind, content)
    except (ValueError, TypeError, KeyError) as error:
        raise Invalid(f"{Version.Kind(kind).label}: {error}") from error
    sha256 = content_hash(content)
    with transaction.atomic():
        _serialise(f"version:{agent.pk}:{kind}")
        if existing := agent.versions.filter(kind=kind, sha256=sha256).first():
            return existing
        number = (agent.versions.filter(kind=kind).aggregate(last=Max("number"))["last"] or 0) + 1
        return Version.objects.create(
            agent=agent, kind=kind, number=number, content=content, sha256=sha256, author=author, note=note
        )


def publish(agent: Agent, parts: Mapping[str, Version], *, author: str, note: str = "") -> Release:
    """A new immutable release naming one version of each of the five parts. Nothing is live by this.

    :raises Invalid: when a part is missing, of another kind or of another agent.
    """
    for part in Release.PARTS:
        version = parts.get(part)
        if version is None:
            raise Invalid(f"A release names a version of each part; {part} is missing.")
        if version.kind != part or version.agent_id != agent.pk:
            raise Invalid(f"{version} is not a {part} version of {agent.slug}.")
    judge = parts["guardrails"].content.get("judge") or {}
    if judge.get("model") and judge["model"] not in parts["models"].content.get("models", {}):
        raise Invalid(
            f"The judge of the guardrails is the model {judge['model']}, which the model config does not name."
        )
    manifest = {part: parts[part].sha256 for part in Release.PARTS}
    with transaction.atomic():
        _serialise(f"release:{agent.pk}")
        number = (agent.releases.aggregate(last=Max("number"))["last"] or 0) + 1
        return Release.objects.create(
            agent=agent,
            number=number,
            sha256=content_hash({"agent": agent.slug, **manifest}),
            canary=secrets.token_hex(16),
            author=author,
            note=note,
            **{part: parts[part] for part in Release.PARTS},
        )


def deploy(scope: Scope, release: Release, *, actor: str, percent: int = 100, reason: str = "") -> Deployment:
    """Make the release live on the scope for `percent` of its cases; every process follows within a second.

    A release whose guardrails do not cover a language of the agent goes live only with a reason: it stands beside the
    actor's name in the deployment and in the audit trail.

    :raises Conflict: foreign release, or the scope already serves exactly this.
    :raises Invalid: a percentage outside 1–100, a canary with nothing beneath it, or languages left open for no reason.
    """
    if not 1 <= percent <= 100:
        raise Invalid("Percent is a whole number from 1 to 100.")
    if release.agent_id != scope.channel.agent_id:
        raise Conflict(f"{release} belongs to another agent than {scope}.")
    if (open_languages := uncovered(scope, release)) and not reason.strip():
        raise Invalid(
            f"The guardrails of {release} do not cover {', '.join(open_languages)}, which {scope.channel.agent.slug} "
            "speaks: such messages go to people. Give a reason to deploy it all the same."
        )
    with transaction.atomic():
        _serialise(f"deploy:{scope.pk}")
        live = scope.live()
        if live and live.release_id == release.pk and live.percent == percent:
            raise Conflict(f"{scope} already serves {release}.")
        if percent < 100 and scope.stable() is None:
            raise Invalid(f"{scope} has no release yet: the first one serves everybody.")
        return _record(scope, release, _kind(live, release, percent), percent, actor, reason)


def uncovered(scope: Scope, release: Release) -> list[str]:
    """The languages of the scope's agent that the release's guardrails do not cover."""
    policy = compile_policy(release.guardrails.content, snapshot.place_of(scope.name))
    return policy.misses(scope.channel.agent.languages)


def roll_back(
    scope: Scope, *, actor: str, to: Release | None = None, reason: str = "", automatic: bool = False
) -> Deployment:
    """Go back to `to`, or to the release that served before the present one.

    :raises Conflict: there is nothing to go back to, or the scope is already there.
    """
    with transaction.atomic():
        _serialise(f"deploy:{scope.pk}")
        live = scope.live()
        target = to or rollback_target(scope)
        if live is None or target is None:
            raise Conflict(f"{scope} has no earlier release to go back to.")
        if target.agent_id != scope.channel.agent_id:
            raise Conflict(f"{target} belongs to another agent than {scope}.")
        if live.release_id == target.pk and live.percent == 100:
            raise Conflict(f"{scope} is already on {target}.")
        if to and not scope.deployments.filter(release=to).exists():
            raise Conflict(f"{to} was never live on {scope}: deploy it instead.")
        kind = Deployment.Kind.AUTOMATIC_ROLLBACK if automatic else Deployment.Kind.ROLLBACK
        return _record(scope, target, kind, 100, actor, reason)


def rollback_target(scope: Scope) -> Release | None:
    """Where one click goes back to: under a canary the stable release, else the last other release that served
    everybody.

    After a rollback the target is the one before, so that a second click goes further back instead of to and fro.
    """
    return target_among(list(scope.deployments.select_related("release__agent").order_by("-id")[:200]))


def target_among(rows: list[Deployment]) -> Release | None:
    """The rollback target of a scope whose deployments are at hand, newest first."""
    if not rows:
        return None
    if rows[0].percent < 100:
        return next((row.release for row in rows if row.percent == 100), None)
    standing: list[Deployment] = []
    for row in reversed([row for row in rows if row.percent == 100]):
        earlier = next((i for i, other in enumerate(standing) if other.release_id == row.release_id), None)
        if earlier is not None and row.kind in (Deployment.Kind.ROLLBACK, Deployment.Kind.AUTOMATIC_ROLLBACK):
            standing = standing[: earlier + 1]
        elif not standing or standing[-1].release_id != row.release_id:
            standing.append(row)
    return standing[-2].release if len(standing) > 1 else None


def acknowledgements(epoch: int) -> Acknowledgements:
    """Every process alive now and the epoch that it serves."""
    now = time.time()
    processes = []
    known = cast("dict[bytes, bytes]", redis_sync().hgetall(snapshot.ACKS))
    for name, value in known.items():
        served, _, seen = value.decode().partition(":")
        if now - float(seen) < snapshot.ALIVE_S:
            processes.append(Process(name.decode(), int(served), now - float(seen)))
    return Acknowledgements(epoch, sorted(processes, key=lambda process: process.name))


def diff(old: Release, new: Release) -> dict[str, tuple[Version, Version]]:
    """The parts that differ, each as (old version, new version)."""
    return {
        part: (getattr(old, part), getattr(new, part))
        for part in Release.PARTS
        if getattr(old, f"{part}_id") != getattr(new, f"{part}_id")
    }


def _kind(live: Deployment | None, release: Release, percent: int) -> str:
    if percent < 100:
        return Deployment.Kind.CANARY
    if live and live.percent < 100 and live.release_id == release.pk:
        return Deployment.Kind.PROMOTE
    return Deployment.Kind.DEPLOY


def _record(scope: Scope, release: Release, kind: str, percent: int, actor: str, reason: str) -> Deployment:
    try:
        row = Deployment.objects.create(
            scope=scope, release=release, kind=kind, percent=percent, actor=actor, reason=reason
        )
    except IntegrityError as error:
        raise Conflict("Only a named person moves a scope forward.") from error
    transaction.on_commit(snapshot.bump)
    return row


def _serialise(name: str) -> None:
    """One at a time for this name, until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])
