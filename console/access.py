"""The only ways to an object for a person: what one may not see does not exist (404), what one may not do is a 403."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TypeAlias, TypeVar

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest

from agents.models import Agent, Case, Channel, Release, Scope, Turn
from console.models import Membership
from escalations.models import Escalation

Person: TypeAlias = User | AbstractBaseUser | AnonymousUser
Row = TypeVar("Row", bound=Model)
ROLES = ("viewer", "operations", "administrator")


def person(request: HttpRequest) -> User:
    """The signed-in person. Views are reached through `login_required`, so there is one."""
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user


def actor(request: HttpRequest) -> str:
    """How the person is written down: `user:<username>`."""
    return f"user:{person(request).get_username()}"


def roles(user: Person) -> dict[int | None, str]:
    """The person's role by agent id; None stands for all agents. One query a request, kept on the user."""
    kept: dict[int | None, str] | None = getattr(user, "_pilothouse_roles", None)
    if kept is None:
        if getattr(user, "is_superuser", False):
            kept = {None: Membership.Role.ADMINISTRATOR}
        else:
            kept = dict(Membership.objects.filter(user_id=user.pk).values_list("agent_id", "role")) if user.pk else {}
        user._pilothouse_roles = kept  # type: ignore[union-attr]  # noqa: SLF001
    return kept


def rank(role: str) -> int:
    return ROLES.index(role) if role in ROLES else -1


def role_of(user: Person, agent: Agent | int | None) -> str:
    """The higher of the role for this agent and the role for all; empty when there is none."""
    held = roles(user)
    key = agent.pk if isinstance(agent, Agent) else agent
    return max(held.get(key, ""), held.get(None, ""), key=rank)


def may(user: Person, role: str, agent: Agent | int | None = None) -> bool:
    return rank(role_of(user, agent)) >= rank(role)


def agents_visible(user: Person) -> QuerySet[Agent]:
    held = roles(user)
    return Agent.objects.all() if None in held else Agent.objects.filter(pk__in=[key for key in held if key])


def channels_visible(user: Person) -> QuerySet[Channel]:
    return Channel.objects.select_related("agent").filter(agent__in=agents_visible(user))


def scopes_visible(user: Person) -> QuerySet[Scope]:
    return Scope.objects.with_names().filter(channel__agent__in=agents_visible(user))


def cases_visible(user: Person) -> QuerySet[Case]:
    return Case.objects.select_related("channel__agent").filter(channel__agent__in=agents_visible(user))


def agent_slugs(user: Person) -> list[str]:
    return list(agents_visible(user).values_list("slug", flat=True))


def escalations_visible(user: Person) -> QuerySet[Escalation]:
    return Escalation.objects.select_related("claimed_by").filter(agent__in=agents_visible(user).values("slug"))


def reviewable(user: Person) -> list[str]:
    """The names of the scopes whose escalations the person may decide."""
    return [scope.name for scope in scopes_visible(user) if may(user, "operations", scope.channel.agent_id)]


def require_agent(user: Person, slug: str, role: str = "viewer") -> Agent:
    return _allowed(user, _one(agents_visible(user), slug=slug), lambda agent: agent.pk, role)


def require_channel(user: Person, pk: int, role: str = "viewer") -> Channel:
    return _allowed(user, _one(channels_visible(user), pk=pk), lambda channel: channel.agent_id, role)


def require_scope(user: Person, pk: int, role: str = "viewer") -> Scope:
    return _allowed(user, _one(scopes_visible(user), pk=pk), lambda scope: scope.channel.agent_id, role)


def require_case(user: Person, pk: uuid.UUID, role: str = "viewer") -> Case:
    return _allowed(user, _one(cases_visible(user), pk=pk), lambda case: case.channel.agent_id, role)


def require_turn(user: Person, pk: uuid.UUID, role: str = "viewer") -> Turn:
    turns = Turn.objects.select_related("case__channel__agent", "scope__channel__agent", "release__agent", "escalation")
    return _allowed(
        user,
        _one(turns.filter(scope__channel__agent__in=agents_visible(user)), pk=pk),
        lambda turn: turn.scope.channel.agent_id,
        role,
    )


def require_release(user: Person, slug: str, number: int, role: str = "viewer") -> Release:
    releases = Release.objects.select_related("agent", *Release.PARTS).filter(agent__in=agents_visible(user))
    return _allowed(user, _one(releases, agent__slug=slug, number=number), lambda release: release.agent_id, role)


def require_escalation(user: Person, pk: uuid.UUID, role: str = "operations") -> Escalation:
    escalation = _one(escalations_visible(user), pk=pk)
    agent = _one(agents_visible(user), slug=escalation.agent)
    return _allowed(user, escalation, lambda _: agent.pk, role)


def require_administrator(user: Person) -> None:
    """An administrator of all agents: for what belongs to the installation."""
    if not may(user, "administrator"):
        raise PermissionDenied("This needs an administrator of all agents.")


def _one(rows: QuerySet[Row], **lookup: object) -> Row:
    row = rows.filter(**lookup).first()
    if row is None:
        raise Http404
    return row


def _allowed(user: Person, row: Row, agent_of: Callable[[Row], int], role: str) -> Row:
    if not may(user, role, agent_of(row)):
        raise PermissionDenied(f"This needs the role {role}.")
    return row
