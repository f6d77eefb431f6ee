"""A guardrail policy tried on past messages: chosen, watched while it runs, read when it is done."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as __
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from agents import dryruns
from agents.models import Agent, DryRun, DryRunChange, Scope
from agents.models.dryrun import MOST_DAYS
from console import access, audit
from console.htmx import page
from console.views.guardrails import TABS
from console.views.paging import newest, text
from console.views.publish import PrettyJson
from escalations.models import Escalation
from guardrails import screen

MOST_RULES = 20


class DryRunForm(forms.Form):
    scope = forms.ModelChoiceField(
        Scope.objects.none(), label=__("Scope"), required=False, empty_label=__("All scopes of the agent")
    )
    days = forms.IntegerField(
        label=__("Days"),
        min_value=1,
        max_value=MOST_DAYS,
        initial=7,
        help_text=__("The newest messages first, at most 50,000."),
    )
    guardrails = PrettyJson(
        label=__("Guardrails"), help_text=__("Begins as what is live. Nothing goes live, and no model is asked.")
    )

    def __init__(self, *args: Any, agent: Agent, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        scopes = Scope.objects.with_names().filter(channel__agent=agent)
        self.fields["scope"].queryset = scopes  # type: ignore[attr-defined]


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    user = access.person(request)
    rows = newest(access.dry_runs_visible(user).defer("content", "live"), text(request.GET, "before"))
    for row in rows.rows:
        row.told = dryruns.told(row)  # type: ignore[attr-defined]
    context = {"runs": rows, "may_start": access.agents_administered(user).exists(), "tabs": TABS, "tab": "dry-runs"}
    return page(request, "dry-runs.html", context, part="list")


@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """The form with the live policy; a POST without days brings a policy that is being written elsewhere."""
    user = access.person(request)
    fields = request.POST if request.method == "POST" else request.GET
    agents = list(access.agents_administered(user))
    slug = text(fields, "agent") or (agents[0].slug if agents else "")
    agent = access.require_agent(user, slug, "administrator")
    starting = request.method == "POST" and "days" in request.POST
    initial = {"guardrails": request.POST.get("guardrails") or _live_policy(agent)}
    form = DryRunForm(request.POST if starting else None, agent=agent, initial=initial)
    if starting and form.is_valid() and (run := _started(form, agent, access.actor(request))):
        return redirect("dry-run", run.pk)
    context = {"form": form, "agent": agent, "agents": agents}
    return page(request, "dry-run-new.html", context, status=422 if form.errors else 200)


def _live_policy(agent: Agent) -> Any:
    """What the agent's newest deployment has, else its newest release, else where everybody begins."""
    live = agent.releases.filter(deployments__isnull=False).order_by("-deployments__pk")
    for found in (live, agent.releases.order_by("-number")):
        if release := found.select_related("guardrails").first():
            return release.guardrails.content
    return screen.DEFAULT_POLICY


def _started(form: DryRunForm, agent: Agent, actor: str) -> DryRun | None:
    said = form.cleaned_data
    try:
        with transaction.atomic():
            run = dryruns.start(agent, said["guardrails"], days=said["days"], actor=actor, scope=said["scope"])
            detail = {"days": run.days, "scope": run.scope.name if run.scope else "", "messages": run.total}
            audit.record(actor, "dry_run.started", agent=agent.slug, object=str(run.pk), detail=detail)
    except dryruns.Invalid as error:
        form.add_error("guardrails", str(error))
        return None
    return run


@require_GET
def dry_run(request: HttpRequest, pk: int) -> HttpResponse:
    """Progress while it runs, which HTMX polls; then the result."""
    user = access.person(request)
    run = access.require_dry_run(user, pk)
    changes = run.changes.select_related("turn__case", "turn__scope__channel__agent", "turn__escalation")
    listed = newest(changes, text(request.GET, "before"), by="at")
    context = {
        "run": run,
        "told": dryruns.told(run),
        "transitions": [(*map(_mark, name.split(">")), n) for name, n in _most(run.counts.get("transitions", {}))],
        "rules": _by_rule(run),
        "changes": listed,
        "shown": [(change, _mark(change.before), _mark(change.after), _hidden(change)) for change in listed.rows],
        "most": dryruns.MOST_CHANGES,
        "policy": json.dumps(run.content, indent=2, ensure_ascii=False),
        "may_change": access.may(user, "administrator", run.agent_id),
    }
    return page(request, "dry-run.html", context, part="run")


def _mark(decision: str) -> str:
    """Of a decision about a whole message: "seen only" is said of single findings."""
    return "through" if decision == "allow" else decision


def _hidden(change: DryRunChange) -> bool:
    """While a person still has to decide blind, nobody reads the draft here either."""
    waiting = change.turn.escalation
    blind = waiting is not None and waiting.blind and waiting.state != Escalation.State.DECIDED
    return change.stage == "outbound" and blind


def _most(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _by_rule(run: DryRun) -> list[tuple[str, int, int]]:
    """(rule, messages on which it decides now, messages on which it no longer does), the most first."""
    more, fewer = run.counts.get("more", {}), run.counts.get("fewer", {})
    rows = [(rule, more.get(rule, 0), fewer.get(rule, 0)) for rule in {*more, *fewer}]
    return sorted(rows, key=lambda row: (-row[1] - row[2], row[0]))[:MOST_RULES]


@require_POST
def cancel(request: HttpRequest, pk: int) -> HttpResponse:
    run = access.require_dry_run(access.person(request), pk, "administrator")
    with transaction.atomic():
        if stopped := dryruns.cancel(run):
            audit.record(access.actor(request), "dry_run.cancelled", agent=run.agent.slug, object=str(run.pk))
    messages.success(request, _("Stopped. What it has found so far is kept.") if stopped else _("It was over already."))
    return redirect("dry-run", pk)
