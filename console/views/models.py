"""The models that are live, their providers' keys, whether they answer; and what would happen to a message."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from agents import credentials, explain, snapshot
from agents.asks import Caller, Plain, Stale
from agents.connections import redis_sync
from agents.drift import Drift, drift
from agents.loop import loop
from agents.models import Credential, Release
from agents.parts import Model
from agents.routing import UnknownModel
from agents.snapshot import ScopeState
from budgets import ledger
from budgets.ledger import Unavailable
from console import access, audit
from console.htmx import page
from console.views.paging import number, text
from console.views.settings import TABS, changed

MOST_MESSAGE = 20_000


@dataclass(frozen=True, slots=True)
class Row:
    """A model of a release that is live on `scope` (and perhaps on others)."""

    scope: ScopeState
    model: Model
    left_alone_s: float | None


def _states(user: access.Person, role: str) -> dict[int, ScopeState]:
    """The scopes with a live release for which the person has the role, as the hot path sees them."""
    allowed = {scope.pk for scope in access.scopes_visible(user) if access.may(user, role, scope.channel.agent_id)}
    scopes = snapshot.load(snapshot.epoch()).scopes.values()
    return {state.id: state for state in scopes if state.id in allowed and state.stable}


@never_cache
@require_GET
def models(request: HttpRequest) -> HttpResponse:
    user = access.person(request)
    if not access.agents_administered(user).exists() and not access.may(user, "administrator"):
        raise PermissionDenied(_("Models are for administrators."))
    rows = _rows(user)
    context = {
        "tabs": TABS,
        "tab": "settings-models",
        "rows": rows,
        "drift": _drift(rows),
        "credentials": list(Credential.objects.all()[:200]),
        "may_store": access.may(user, "administrator"),
    }
    return page(request, "settings-models.html", context)


def _rows(user: access.Person) -> list[Row]:
    circuits = ledger.open_circuits(redis_sync())
    found: dict[tuple[str, str], Row] = {}
    for state in _states(user, "administrator").values():
        assert state.stable is not None
        for model in state.stable.routes.models.values():
            found.setdefault((state.stable.name, model.name), Row(state, model, circuits.get(model.circuit)))
    return list(found.values())[:200]


def _drift(rows: list[Row]) -> list[Drift]:
    """The prices set by hand that are not those of the public list."""
    live = {row.scope.stable.id for row in rows if row.scope.stable}
    releases = Release.objects.select_related("agent", "models").filter(pk__in=live)
    return drift((str(release), release.models.content) for release in releases)[:50]


@require_POST
def test(request: HttpRequest) -> HttpResponse:
    """One small call through the router, on the scope's budget; what came of it."""
    user = access.person(request)
    state = _states(user, "administrator").get(number(request.POST, "scope"))
    if state is None or state.stable is None:
        raise Http404
    try:
        tried = loop.run(explain.try_model(_caller(state), text(request.POST, "model")))
    except UnknownModel as error:
        raise Http404 from error
    except Stale:
        tried = explain.Tried(
            text(request.POST, "model"), 0, "", 0, _("The configuration changed just now: try again.")
        )
    return page(request, "settings-models.html", {"tried": tried, "tabs": TABS, "tab": "settings-models"}, part="tried")


@require_POST
def store(request: HttpRequest) -> HttpResponse:
    """A provider's key, sealed. It is never shown again."""
    access.require_administrator(access.person(request))
    name, secret = text(request.POST, "name", 50), text(request.POST, "secret", 4_000)
    try:
        with transaction.atomic():
            credentials.store(name, secret, actor=access.actor(request))
            audit.record(access.actor(request), "credential.stored", object=name, detail={})
            changed()
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        messages.success(request, _("Stored. A model uses it as stored:%(name)s.") % {"name": name})
    return redirect("settings-models")


@require_POST
def forget(request: HttpRequest, name: str) -> HttpResponse:
    access.require_administrator(access.person(request))
    with transaction.atomic():
        if not Credential.objects.filter(name=name).delete()[0]:
            raise Http404
        audit.record(access.actor(request), "credential.forgotten", object=name, detail={})
        changed()
    messages.success(request, _("Forgotten. Calls with it are refused by the provider from now on."))
    return redirect("settings-models")


@require_GET
def explained(request: HttpRequest) -> HttpResponse:
    """What would happen to this message, and why. Nothing is sent."""
    states = _states(access.person(request), "operations")
    asked = {name: text(request.GET, name, MOST_MESSAGE) for name in ("scope", "model", "message", "case")}
    state = states.get(number(request.GET, "scope")) or next(iter(states.values()), None)
    found, problem = None, ""
    if state and asked["message"]:
        body = {"messages": [{"role": "user", "content": asked["message"]}]}
        caller = _caller(state, asked["case"])
        try:
            found = loop.run(explain.explain(Plain(caller, body, asked["model"] or "auto")))
        except UnknownModel:
            problem = _("The live release has no such model.")
        except Unavailable:
            problem = _("Redis does not answer: no model would be called.")
    shown = {
        "states": states.values(),
        "state": state,
        "asked": asked,
        "found": found,
        "problem": problem,
    }
    return page(request, "explain.html", shown, part="found")


def _caller(state: ScopeState, case_ref: str = "") -> Caller:
    live = state.live_for(case_ref) or state.stable
    assert live is not None
    return Caller(scope=state, live=live, epoch=snapshot.epoch(), case_ref=case_ref)
