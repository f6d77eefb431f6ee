"""What every page's shell shows: the menu, what waits for a person, and how the person likes it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from console import access
from escalations.models import Escalation

SCRIPTS = ("focus.js", "time.js", "keys.js", "preferences.js", "palette.js")
# (URL name, icon, label, shown only under "More" on a small screen)
NAV = (
    (
        ("overview", "overview", _("Overview"), False),
        ("review", "review", _("Review"), False),
        ("cases", "cases", _("Conversations"), False),
        ("calls", "calls", _("Calls"), True),
        ("releases", "releases", _("Releases"), False),
        ("stages", "stages", _("Stages"), True),
        ("knowledge", "knowledge", _("Knowledge"), True),
        ("guardrails", "guardrails", _("Guardrails"), True),
        ("costs", "costs", _("Costs"), True),
        ("alerts", "alert", _("Alerts"), True),
    ),
    (
        ("playground", "playground", _("Playground"), True),
        ("audit", "audit", _("Audit"), True),
        ("settings", "settings", _("Settings"), True),
    ),
)
# Screens that have no entry of their own, and whose they are.
UNDER = {
    "escalation": "review",
    "call": "calls",
    "case": "cases",
    "turn": "cases",
    "release": "releases",
    "deploy": "releases",
    "rollback": "releases",
    "arrival": "releases",
    "scope-stage": "stages",
    "document": "knowledge",
    "alert": "alerts",
    "acknowledge": "alerts",
    "explain": "playground",
    "raise": "costs",
    "invoices": "costs",
    "invoice": "costs",
}
THEMES = (("", _("As the system")), ("light", _("Light")), ("dark", _("Dark")))
PREFERENCES = {"theme": ("light", "dark"), "rail": ("icons", "wide"), "keys": ("off",)}


def shell(request: HttpRequest) -> dict[str, Any]:
    chosen = {name: request.COOKIES.get(name, "") for name in PREFERENCES}
    chosen = {name: value if value in PREFERENCES[name] else "" for name, value in chosen.items()}
    base: dict[str, Any] = {**chosen, "scripts": SCRIPTS, "themes": THEMES, "nav": (), "waiting": 0, "firing": 0}
    user = getattr(request, "user", None)
    if user is not None and user.is_authenticated and not getattr(request, "htmx", None):
        base |= {"nav": _nav(request), "waiting": waiting(user), "firing": firing(user)}
    return {"shell": base}


def waiting(user: access.Person) -> int:
    """How many escalations that the person may see wait for somebody."""
    return Escalation.objects.claimable().filter(agent__in=access.agents_visible(user).values("slug")).count()


def firing(user: access.Person) -> int:
    """How many alerts that the person may see fire and wait for somebody to look after them."""
    return access.alerts_visible(user).firing().count()


def _nav(request: HttpRequest) -> list[list[dict[str, Any]]]:
    match = request.resolver_match
    here = match.url_name or "" if match else ""
    here = UNDER.get(here, here.partition("-")[0])
    return [
        [
            {"name": name, "icon": icon, "label": label, "later": later, "url": reverse(name), "current": name == here}
            for name, icon, label, later in group
        ]
        for group in NAV
    ]
