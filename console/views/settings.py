"""Agents and channels, keys, people, budgets."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from agents import recount, snapshot
from agents.models import Agent, Channel, Scope
from budgets.models import RATES, Budget, BudgetChange
from console import access, audit
from console.htmx import page
from console.models import ApiKey, Membership
from console.views import forms
from console.views.overview import balances

TABS = (
    ("settings", gettext_lazy("Agents")),
    ("settings-keys", gettext_lazy("API keys")),
    ("settings-people", gettext_lazy("People")),
    ("settings-budgets", gettext_lazy("Budgets")),
    ("settings-models", gettext_lazy("Models")),
)
both = require_http_methods(["GET", "POST"])


def changed() -> None:
    """Every process follows within a second."""
    transaction.on_commit(partial(snapshot.bump))


# --- agents, channels, scopes ------------------------------------------------------------------------------------


@require_GET
def agents(request: HttpRequest) -> HttpResponse:
    user = access.person(request)
    rows = access.agents_visible(user).prefetch_related("channels__scopes")
    mine = set(access.agents_administered(user).values_list("pk", flat=True))
    may_create = access.may(user, "administrator")
    return page(
        request,
        "settings.html",
        {"tabs": TABS, "tab": "settings", "agents": rows, "mine": mine, "may_create": may_create},
    )


@both
def agent(request: HttpRequest, slug: str = "") -> HttpResponse:
    """A new agent, or the name and languages of one."""
    user = access.person(request)
    row = access.require_agent(user, slug, "administrator") if slug else None
    if row is None:
        access.require_administrator(user)
    form = forms.AgentForm(request.POST or None, instance=row)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            saved = form.save()
            changed()
            _write_down(request, form, saved.slug, str(saved))
        messages.success(request, _("%(agent)s is saved.") % {"agent": saved.name})
        return redirect("settings")
    return _form(request, form, _("New agent") if row is None else row.name, "settings")


@both
def channel(request: HttpRequest, slug: str, pk: int | None = None) -> HttpResponse:
    """A channel of the agent; a new one begins with one scope in pilot."""
    user = access.person(request)
    owner = access.require_agent(user, slug, "administrator")
    row = access.require_channel(user, pk, "administrator") if pk else Channel(agent=owner)
    if row.agent_id != owner.pk:
        raise Http404
    form = forms.ChannelForm(request.POST or None, instance=row)
    if request.method == "POST" and form.is_valid():
        try:
            with transaction.atomic():
                saved = form.save()
                Scope.objects.get_or_create(channel=saved, topic="")
                changed()
                _write_down(request, form, owner.slug, str(saved))
        except IntegrityError:
            form.add_error("slug", _("This agent has a channel of that name."))
        else:
            messages.success(request, _("%(channel)s is saved.") % {"channel": saved})
            return redirect("settings")
    return _form(
        request,
        form,
        _("Channel %(channel)s") % {"channel": row} if pk else _("New channel of %(agent)s") % {"agent": owner},
        "settings",
    )


@both
def scope(request: HttpRequest, slug: str) -> HttpResponse:
    """A topic of a channel as a scope of its own: with a stage, a release and gates."""
    owner = access.require_agent(access.person(request), slug, "administrator")
    form = forms.ScopeForm(request.POST or None)
    form.fields["channel"].queryset = owner.channels.all()  # type: ignore[attr-defined]
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            saved, created = Scope.objects.get_or_create(
                channel=form.cleaned_data["channel"], topic=form.cleaned_data["topic"]
            )
            changed()
            if created:
                audit.record(access.actor(request), "scope.created", agent=owner.slug, object=saved.name)
        if created:
            messages.success(request, _("%(scope)s begins in pilot.") % {"scope": saved})
            return redirect("settings")
        form.add_error("topic", _("There is a scope for this topic."))
    return _form(request, form, _("New scope of %(agent)s") % {"agent": owner}, "settings")


def _write_down(request: HttpRequest, form: forms.AgentForm | forms.ChannelForm, slug: str, name: str) -> None:
    """What the form changed, from what to what; nothing where it changed nothing."""
    after = {field: form.cleaned_data[field] for field in form.changed_data}
    kind = type(form.instance).__name__.lower()
    if form.was_new:
        audit.record(access.actor(request), f"{kind}.created", agent=slug, object=name, detail={"after": after})
    elif after:
        before = {field: form.initial.get(field) for field in after}
        detail = {"before": before, "after": after}
        audit.record(access.actor(request), f"{kind}.changed", agent=slug, object=name, detail=detail)


# --- keys ----------------------------------------------------------------------------------------------------------


def keys_visible(user: access.Person) -> QuerySet[ApiKey]:
    mine = access.agents_administered(user)
    reach = Q(agent__in=mine) | Q(agent=None) if access.may(user, "administrator") else Q(agent__in=mine)
    return ApiKey.objects.select_related("agent", "channel__agent").filter(reach)


@never_cache
@both
def keys(request: HttpRequest) -> HttpResponse:
    """The list, and a new key, whose secret this answer alone shows."""
    user = access.person(request)
    mine = access.agents_administered(user)
    if not mine.exists() and not access.may(user, "administrator"):
        raise PermissionDenied(_("Keys are for administrators."))
    everywhere = access.may(user, "administrator")
    form = forms.KeyForm(
        request.POST or None,
        agents=mine,
        channels=Channel.objects.select_related("agent").filter(agent__in=mine),
        bound=not everywhere,
    )
    secret = ""
    if request.method == "POST" and form.is_valid():
        secret = _issue(form.cleaned_data, access.actor(request))
        form = forms.KeyForm(
            agents=mine, channels=Channel.objects.select_related("agent").filter(agent__in=mine), bound=not everywhere
        )
    context = {
        "tabs": TABS,
        "tab": "settings-keys",
        "keys": list(keys_visible(user)[:200]),
        "form": form,
        "secret": secret,
        "scope_names": forms.SCOPES,
        "now": timezone.now(),
    }
    return page(request, "settings-keys.html", context, status=422 if form.errors else 200)


def _issue(fields: dict[str, Any], actor: str) -> str:
    days = fields["lifetime"]
    with transaction.atomic():
        _key, secret = ApiKey.issue(
            name=fields["name"],
            actor=actor,
            scopes=fields["scopes"],
            agent=fields["agent"],
            channel=fields["channel"],
            tester=fields["tester"],
            lifetime=timedelta(days=int(days)) if days else None,
        )
        changed()
    return secret


@require_POST
def revoke(request: HttpRequest, pk: int) -> HttpResponse:
    row = keys_visible(access.person(request)).filter(pk=pk).first()
    if row is None:
        raise Http404
    with transaction.atomic():
        ApiKey.objects.filter(pk=row.pk, revoked_at=None).update(
            revoked_at=timezone.now(), revoked_by=access.actor(request)
        )
        changed()
    messages.success(request, _("%(key)s opens nothing any more.") % {"key": row.prefix})
    return redirect("settings-keys")


# --- people --------------------------------------------------------------------------------------------------------


@both
def people(request: HttpRequest) -> HttpResponse:
    """Who may what. A person has one role for each agent, or one for all."""
    access.require_administrator(access.person(request))
    form = forms.PersonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        _give(form.cleaned_data, access.actor(request))
        messages.success(request, _("%(person)s has the role.") % {"person": form.cleaned_data["username"]})
        return redirect("settings-people")
    rows = Membership.objects.select_related("user", "agent").order_by("user__username", "agent__slug")
    context = {
        "tabs": TABS,
        "tab": "settings-people",
        "memberships": rows,
        "superusers": User.objects.filter(is_superuser=True),
        "form": form,
    }
    return page(request, "settings-people.html", context, status=422 if form.errors else 200)


@transaction.atomic
def _give(fields: dict[str, Any], actor: str) -> None:
    user, created = User.objects.get_or_create(username=fields["username"])
    if fields["password"]:
        user.set_password(fields["password"])
        user.save(update_fields=["password"])
    held = Membership.objects.filter(user=user, agent=fields["agent"]).first()
    before = held.role if held else None
    Membership.objects.update_or_create(user=user, agent=fields["agent"], defaults={"role": fields["role"]})
    detail = {"before": before, "role": fields["role"], "new": created, "password_set": bool(fields["password"])}
    audit.record(actor, "role.given", agent=_slug(fields["agent"]), object=user.get_username(), detail=detail)


def _slug(agent: Agent | None) -> str:
    return agent.slug if agent else ""


@require_POST
def withdraw(request: HttpRequest, pk: int) -> HttpResponse:
    access.require_administrator(access.person(request))
    with transaction.atomic():
        row = Membership.objects.select_related("user", "agent").select_for_update(of=("self",)).filter(pk=pk).first()
        if row:
            row.delete()
            who, detail = row.user.get_username(), {"role": row.role}
            audit.record(access.actor(request), "role.withdrawn", agent=_slug(row.agent), object=who, detail=detail)
    messages.success(request, _("The role is withdrawn."))
    return redirect("settings-people")


# --- budgets -------------------------------------------------------------------------------------------------------


def budgets_administered(user: access.Person) -> list[Budget]:
    every = list(Budget.objects.all())
    if access.may(user, "administrator"):
        return every
    slugs = set(access.agents_administered(user).values_list("slug", flat=True))
    return [row for row in every if row.owner_kind in ("agent", "channel") and row.owner.partition("/")[0] in slugs]


@require_GET
def budgets(request: HttpRequest) -> HttpResponse:
    user = access.person(request)
    rows = budgets_administered(user)
    recent = BudgetChange.objects.select_related("budget").filter(budget__in=rows)[:20]
    context = {
        "tabs": TABS,
        "tab": "settings-budgets",
        "money": list(balances(rows).values()),
        "changes": recent,
        "may_create": access.may(user, "administrator"),
    }
    return page(request, "settings-budgets.html", context)


@both
def budget(request: HttpRequest, pk: int | None = None) -> HttpResponse:
    user = access.person(request)
    if pk is None:
        access.require_administrator(user)
    row = next((one for one in budgets_administered(user) if one.pk == pk), None) if pk else None
    if pk and row is None:
        raise Http404
    form = forms.BudgetForm(request.POST or None, instance=row)
    if request.method == "POST" and form.is_valid():
        _set(form, access.actor(request))
        messages.success(request, _("The budget is in force within a second."))
        return redirect("settings-budgets")
    return _form(request, form, str(row) if row else _("New budget"), "settings-budgets")


@transaction.atomic
def _set(form: forms.BudgetForm, actor: str) -> None:
    names = ("limit_nano", "mode", "active", "operations_may_raise", *RATES)
    wanted = {name: form.cleaned_data[name] for name in names}
    reason = form.cleaned_data["reason"]
    if form.instance.pk:
        Budget.objects.get(pk=form.instance.pk).change(actor=actor, reason=reason, **wanted)
    else:
        made = form.save()
        BudgetChange.objects.create(budget=made, actor=actor, reason=reason, before={}, after=wanted)
    changed()
    transaction.on_commit(partial(recount.recount, anew=True))  # what its window has spent already counts, too


def _form(request: HttpRequest, form: Any, title: str, tab: str) -> HttpResponse:
    status = 422 if form.errors else 200
    return page(request, "settings-form.html", {"form": form, "title": title, "tabs": TABS, "tab": tab}, status=status)
