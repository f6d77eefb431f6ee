"""Five seconds to know whether to worry: a sentence, the things that need somebody, a row for each scope."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_POST
from redis import RedisError

from agents import metrics, parts, snapshot
from agents.connections import redis_sync
from agents.models import Agent, Deployment, Release, Scope
from budgets import ledger
from budgets.models import Budget
from console import access, audit
from console.htmx import page
from console.models import Alert
from console.monitoring.rules import RULES
from console.views.paging import text
from escalations.models import Escalation

NEARLY_SPENT = 0.8
MOST_ALERTS = 5
CHANNELS_DAY = ("channel", "day")


@dataclass(frozen=True, slots=True)
class Need:
    """A thing that needs somebody: how bad, what, and where to do something about it."""

    tone: str
    icon: str
    sentence: str
    url: str


@dataclass(frozen=True, slots=True)
class Money:
    """A budget with what it has spent and held; `known` is False while Redis is away."""

    budget: Budget
    spent: int
    held: int
    resets_at: Any
    known: bool = True
    overshoot: int = 0  # what calls cost above what was held for them: 0 where the budget is strict

    @property
    def limit(self) -> int:
        """With the increase that is in force."""
        return self.budget.limit_now()

    @property
    def raised(self) -> int:
        return self.budget.raised()

    @property
    def share(self) -> float:
        return (self.spent + self.held) / self.limit if self.limit else 1.0

    @property
    def left(self) -> int:
        return max(0, self.limit - self.spent - self.held)


def balances(budgets: Iterable[Budget]) -> dict[int, Money]:
    """What each budget's present window has spent and held, by the budget's id."""
    rows = list(budgets)
    limits = {row.pk: row.limit() for row in rows}
    try:
        found = ledger.balances(redis_sync(), limits.values())
    except (RedisError, ledger.Unavailable):
        return {row.pk: Money(row, 0, 0, None, known=False) for row in rows}
    both = {row.pk: (row, found[limits[row.pk]]) for row in rows}
    return {
        pk: Money(row, one.spent_nano, one.held_nano, one.resets_at, overshoot=one.overshoot_nano)
        for pk, (row, one) in both.items()
    }


@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    user = access.person(request)
    scopes = list(access.scopes_visible(user))
    agents = {scope.channel.agent_id: scope.channel.agent for scope in scopes}
    live, stable = _newest(scopes), _newest(scopes, percent=100)
    waiting = _waiting(user)
    money = balances(access.budgets_visible(user))
    figures = metrics.overview(scopes)
    days = {
        one.budget.owner: one for one in money.values() if (one.budget.owner_kind, one.budget.period) == CHANNELS_DAY
    }
    rows = [
        {
            "scope": scope,
            "live": live.get(scope.pk),
            "stable": stable.get(scope.pk),
            "today": figures[scope.pk],
            "waiting": waiting.get(scope.name, 0),
            "money": days.get(str(scope.channel)),
        }
        for scope in scopes
    ]
    groups = [_group(user, agent, rows) for agent in agents.values()]
    firing = list(access.alerts_visible(user).firing().order_by("severity", "-id")[: MOST_ALERTS + 1])
    told = {(alert.rule, alert.scope) for alert in firing}
    unsaid = {pk: one for pk, one in money.items() if (f"spend_{one.budget.period}", one.budget.owner) not in told}
    needs = [
        *_firing(firing),
        *_left_alone([*live.values(), *stable.values()]),
        *_needs(agents.values(), scopes, waiting, unsaid, live),
    ]
    totals = {
        "turns": sum(one.turns for one in figures.values()),
        "cost": sum(one.cost_nano for one in figures.values()),
    }
    context = {"groups": groups, "needs": needs, "scopes": len(scopes), "now": timezone.now(), "totals": totals}
    return page(request, "overview.html", context, part="state")


def _group(user: access.Person, agent: Agent, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "agent": agent,
        "may_pause": access.may(user, "operations", agent),
        "may_resume": access.may(user, "administrator", agent),
        "rows": [row for row in rows if row["scope"].channel.agent_id == agent.pk],
    }


def _newest(scopes: list[Scope], **only: int) -> dict[int, Deployment]:
    rows = Deployment.objects.filter(scope__in=scopes, **only).select_related("release__agent")
    return {row.scope_id: row for row in rows.order_by("scope_id", "-id").distinct("scope_id")}


def _waiting(user: access.Person) -> dict[str, int]:
    rows = Escalation.objects.claimable().filter(agent__in=access.agents_visible(user).values("slug"))
    return dict(rows.order_by().values_list("scope").annotate(n=Count("id")))


def _firing(found: list[Alert]) -> list[Need]:
    """A line for each of the first few alerts, and one for the rest of them."""
    lines = []
    for alert in found[:MOST_ALERTS]:
        title = RULES[alert.rule].title if alert.rule in RULES else alert.rule
        where = alert.scope or _("the installation")
        sentence = f"{title}, {where}: {alert.sentence}"
        if alert.rollback:
            sentence += " " + _("Rolled back to %(release)s.") % {"release": alert.rollback.release}
        elif alert.deployment and alert.changed_at:
            sentence += " " + _("%(release)s went live shortly before.") % {"release": alert.deployment.release}
        lines.append(Need("bad", "alert", sentence, reverse("alert", args=[alert.pk])))
    if len(found) > MOST_ALERTS:
        lines.append(Need("bad", "alert", _("More alerts are firing"), reverse("alerts")))
    return lines


def _left_alone(served: list[Deployment]) -> list[Need]:
    """Providers of what is live here whose circuit is open: their models are not asked for the moment."""
    try:
        found = ledger.open_circuits(redis_sync())
    except RedisError:
        return []
    ids = {row.release_id for row in served} if found else set()
    contents = Release.objects.filter(pk__in=ids).values_list("models__content", flat=True).distinct()
    used = {model.circuit for content in contents for model in parts.routes(content).models.values()}
    says = _("%(model)s keeps failing and is left alone for %(seconds)d s: fallbacks or people answer")
    return [
        Need("bad", "alert", says % {"model": name, "seconds": seconds}, reverse("calls") + "?status=error")
        for name, seconds in found.items()
        if name in used
    ]


def _needs(
    agents: Iterable[Agent],
    scopes: list[Scope],
    waiting: dict[str, int],
    money: dict[int, Money],
    live: dict[int, Deployment],
) -> list[Need]:
    needs = []
    if total := sum(waiting.values()):
        sentence = ngettext("%(n)d case waits for a person", "%(n)d cases wait for a person", total) % {"n": total}
        needs.append(Need("people", "person", sentence, reverse("review")))
    for agent in agents:
        if agent.paused_at:
            sentence = _("%(agent)s is paused: everything goes to people") % {"agent": agent.name}
            needs.append(Need("attention", "pause", sentence, reverse("overview") + f"#agent-{agent.slug}"))
    for row in money.values():
        if row.known and row.share >= NEARLY_SPENT:
            says = _("%(budget)s: spent") if row.share >= 1 else _("%(budget)s: %(share)d %% used")
            named = says % {"budget": _("Budget of %(owner)s") % {"owner": row.budget}, "share": int(row.share * 100)}
            needs.append(Need("bad" if row.share >= 1 else "attention", "costs", named, reverse("costs")))
    empty = [scope for scope in scopes if scope.pk not in live]
    if empty:
        names = ", ".join(scope.name for scope in empty[:3])
        needs.append(
            Need("attention", "releases", _("Nothing is live on %(names)s") % {"names": names}, reverse("releases"))
        )
    if any(not row.known for row in money.values()):
        needs.insert(
            0,
            Need(
                "bad",
                "alert",
                _("Redis does not answer: no money can be held, so no model is called"),
                reverse("costs"),
            ),
        )
    return needs


@require_POST
def pause(request: HttpRequest, slug: str) -> HttpResponse:
    """The kill switch: a paused agent answers nobody; everything goes to people."""
    user = access.person(request)
    agent = access.require_agent(user, slug, "operations")
    paused = text(request.POST, "paused") == "yes"
    if not paused and not access.may(user, "administrator", agent):
        raise PermissionDenied(_("Letting an agent speak again needs an administrator."))
    set_paused(agent, paused=paused, actor=access.actor(request))
    says = _("%(agent)s is paused: everything goes to people.") if paused else _("%(agent)s answers again.")
    messages.success(request, says % {"agent": agent.name})
    return redirect("overview")


@transaction.atomic
def set_paused(agent: Agent, *, paused: bool, actor: str) -> None:
    changed = Agent.objects.filter(pk=agent.pk, paused_at__isnull=paused).update(
        paused_at=timezone.now() if paused else None, paused_by=actor if paused else ""
    )
    transaction.on_commit(partial(snapshot.bump))
    if changed:
        audit.record(actor, "agent.paused" if paused else "agent.resumed", agent=agent.slug, object=agent.slug)
