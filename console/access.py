"""The only ways to an object, for people and for API keys.

What one may not see does not exist (404), what one may not do is a 403. A person sees the agents that they have a role
for; a key sees all agents, one agent, or one channel of an agent.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeVar

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.db.models import Model, Q, QuerySet
from django.http import Http404, HttpRequest

from agents.models import Agent, Call, Case, Channel, DryRun, Release, Scope, Turn, Version
from budgets.models import Budget
from console.models import Alert, ApiKey, AuditEntry, Membership
from console.monitoring.models import AlertQuerySet
from escalations.models import Escalation
from guardrails.models import Finding

Person: TypeAlias = User | AbstractBaseUser | AnonymousUser
Row = TypeVar("Row", bound=Model)
ROLES = ("viewer", "operations", "administrator")


class Unclear(Exception):
    """What a request names fits more than one thing; the message says what to add."""


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


def alerts_visible(user: Person) -> AlertQuerySet:
    """The alerts of visible agents; those of the installation for who sees all agents."""
    rows = Alert.objects.with_releases()
    return rows if None in roles(user) else rows.filter(agent__in=agents_visible(user).values("slug"))


def findings_visible(user: Person) -> QuerySet[Finding]:
    """What was seen, each with the word of who called it harmless."""
    return Finding.objects.select_related("false_positive").filter(agent__in=agents_visible(user).values("slug"))


def agents_administered(user: Person) -> QuerySet[Agent]:
    if may(user, "administrator"):
        return Agent.objects.all()
    held = roles(user).items()
    return Agent.objects.filter(pk__in=[agent for agent, role in held if agent and role == "administrator"])


def agents_operated(user: Person) -> list[str]:
    """The slugs of the agents for which the person has at least the role operations."""
    held = roles(user).items()
    if may(user, "operations"):
        return agent_slugs(user)
    mine = [agent for agent, role in held if agent and rank(role) >= rank("operations")]
    return list(Agent.objects.filter(pk__in=mine).values_list("slug", flat=True))


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


def cases_to_reveal(user: Person) -> QuerySet[Case]:
    """The cases whose hidden values the person may see: those of agents that they do operations for, at least."""
    if may(user, "operations"):
        return Case.objects.all()
    held = [agent for agent, role in roles(user).items() if agent and rank(role) >= rank("operations")]
    return Case.objects.filter(channel__agent__in=held)


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


def dry_runs_visible(user: Person) -> QuerySet[DryRun]:
    return DryRun.objects.select_related("agent", "scope__channel__agent").filter(agent__in=agents_visible(user))


def require_dry_run(user: Person, pk: int, role: str = "viewer") -> DryRun:
    return _allowed(user, _one(dry_runs_visible(user), pk=pk), lambda run: run.agent_id, role)


def require_escalation(user: Person, pk: uuid.UUID, role: str = "operations") -> Escalation:
    escalation = _one(escalations_visible(user), pk=pk)
    agent = _one(agents_visible(user), slug=escalation.agent)
    return _allowed(user, escalation, lambda _: agent.pk, role)


def require_finding(user: Person, pk: int, role: str = "operations") -> Finding:
    finding = _one(findings_visible(user), pk=pk)
    agent = _one(agents_visible(user), slug=finding.agent)
    return _allowed(user, finding, lambda _: agent.pk, role)


def require_alert(user: Person, pk: int, role: str = "viewer") -> Alert:
    """An alert of the installation belongs to no agent: what it needs is the role for all of them."""
    alert = _one(alerts_visible(user), pk=pk)
    agent = Agent.objects.filter(slug=alert.agent).first() if alert.agent else None
    if not may(user, role, agent):
        raise PermissionDenied(f"This needs the role {role}.")
    return alert


def budgets_visible(user: Person) -> list[Budget]:
    """The budgets in force of visible agents and their channels; to those who see all agents, every one in force."""
    every = list(Budget.objects.active())
    if None in roles(user):
        return every
    slugs = set(agent_slugs(user))
    return [row for row in every if row.owner_kind in ("agent", "channel") and row.owner.partition("/")[0] in slugs]


def may_raise(user: Person, budget: Budget, agents: Mapping[str, int]) -> bool:
    """Whether the person may grant or end an increase; `agents` has the ids of visible agents by slug."""
    agent = agents.get(budget.owner.partition("/")[0]) if budget.owner_kind in ("agent", "channel") else None
    return may(user, "operations" if budget.operations_may_raise else "administrator", agent)


def require_budget_to_raise(user: Person, pk: int) -> Budget:
    """A visible budget whose limit the person may raise for a while."""
    budget = next((row for row in budgets_visible(user) if row.pk == pk), None)
    if budget is None:
        raise Http404
    if not may_raise(user, budget, dict(agents_visible(user).values_list("slug", "pk"))):
        raise PermissionDenied("Raising this limit needs an administrator.")
    return budget


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


# --- API keys ------------------------------------------------------------------------------------------------------


def key_agents(key: ApiKey) -> QuerySet[Agent]:
    return Agent.objects.filter(pk=key.agent_id) if key.agent_id else Agent.objects.all()


def key_channels(key: ApiKey) -> QuerySet[Channel]:
    found = Channel.objects.select_related("agent").filter(_reach(key, "agent_id", "pk"))
    return found.order_by("agent__slug", "slug")


def key_scopes(key: ApiKey) -> QuerySet[Scope]:
    return Scope.objects.with_names().filter(_reach(key, "channel__agent_id", "channel_id"))


def key_cases(key: ApiKey) -> QuerySet[Case]:
    return Case.objects.select_related("channel__agent").filter(_reach(key, "channel__agent_id", "channel_id"))


def key_turns(key: ApiKey) -> QuerySet[Turn]:
    turns = Turn.objects.select_related("case", "scope__channel__agent", "release__agent", "escalation")
    return turns.filter(_reach(key, "scope__channel__agent_id", "scope__channel_id"))


def key_versions(key: ApiKey) -> QuerySet[Version]:
    return Version.objects.select_related("agent").filter(agent__in=key_agents(key))


def key_releases(key: ApiKey) -> QuerySet[Release]:
    return Release.objects.select_related("agent", *Release.PARTS).filter(agent__in=key_agents(key))


def key_escalations(key: ApiKey) -> QuerySet[Escalation]:
    return Escalation.objects.select_related("claimed_by").filter(_named(key))


def key_calls(key: ApiKey) -> QuerySet[Call]:
    return Call.objects.filter(_of_scopes(key) if key.channel_id else _named(key))


def key_sums(key: ApiKey) -> Q:
    """Of the sums of calls, those that the key reaches."""
    return _named(key)


def key_findings(key: ApiKey) -> QuerySet[Finding]:
    rows = Finding.objects.select_related("false_positive")
    return rows.filter(_of_scopes(key) if key.channel_id else _named(key))


def key_alerts(key: ApiKey) -> QuerySet[Alert]:
    return Alert.objects.with_releases().filter(_named(key))


def key_budgets(key: ApiKey) -> QuerySet[Budget]:
    """The budgets of what the key reaches; the organisation's only for a key that is bound to nothing."""
    if key.agent is None:
        return Budget.objects.all()
    channels = [str(channel) for channel in key_channels(key)]
    own = Q(owner_kind="channel", owner__in=channels) | Q(owner_kind="key", owner=key.prefix)
    return Budget.objects.filter(own if key.channel_id else own | Q(owner_kind="agent", owner=key.agent.slug))


def key_audit(key: ApiKey) -> QuerySet[AuditEntry]:
    """The entries of the key's agent. A channel has no trail of its own.

    :raises PermissionDenied: the key is bound to a channel.
    """
    require_whole_agent(key)
    return AuditEntry.objects.filter(agent=key.agent.slug) if key.agent else AuditEntry.objects.all()


def require_whole_agent(key: ApiKey) -> None:
    """A key of one channel does not change, or look into, what belongs to the whole agent."""
    if key.channel_id:
        raise PermissionDenied("This key is bound to a channel.")


def require_key_channel(key: ApiKey, agent: str, channel: str) -> Channel:
    """The channel that a request names, as "web" or "acme/web"; what is left out is what the key is bound to.

    :raises Http404: it does not exist, or the key does not reach it. :raises Unclear: the names leave more than one.
    """
    within, _, last = channel.rpartition("/")
    wanted = {name: value for name, value in (("agent__slug", agent or within), ("slug", last)) if value}
    found = list(key_channels(key).filter(**wanted)[:2])
    if not found or (within and within != found[0].agent.slug):
        raise Http404("There is no such channel, or this key does not reach it.")
    if len(found) > 1:
        raise Unclear("This key reaches more than one channel: name agent and channel.")
    return found[0]


def _reach(key: ApiKey, agent: str, channel: str) -> Q:
    """The rows of the key's channel or agent, by the names of these two columns."""
    if key.channel_id:
        return Q(**{channel: key.channel_id})
    return Q(**{agent: key.agent_id}) if key.agent_id else Q()


def _named(key: ApiKey) -> Q:
    """The same for rows that carry names: `agent` and `channel` as "acme/web"."""
    if key.channel is not None:
        return Q(channel=str(key.channel))
    return Q(agent=key.agent.slug) if key.agent else Q()


def _of_scopes(key: ApiKey) -> Q:
    """The same by the names of the channel's scopes, which long tables are indexed by."""
    return Q(scope__in=[scope.name for scope in key_scopes(key)])
