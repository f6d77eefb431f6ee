"""What stands around the screens: signing in and out, preferences, the palette's list of places."""

from __future__ import annotations

from django.contrib.auth import views as auth
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from agents.models import Release
from console import access
from console.context import NAV, PREFERENCES
from console.views.paging import text

YEAR = 365 * 24 * 3600
MOST_PLACES = 200

sign_in = auth.LoginView.as_view(template_name="sign-in.html", redirect_authenticated_user=True)
sign_out = auth.LogoutView.as_view()


@require_POST
def preferences(request: HttpRequest) -> HttpResponse:
    """Theme, menu width, keys: a cookie each, so that no script is needed to remember them."""
    back = request.headers.get("referer", "")
    safe = url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()}, require_https=request.is_secure())
    response = redirect(back if safe else "overview")
    for name, allowed in PREFERENCES.items():
        if name in request.POST:
            value = text(request.POST, name)
            response.set_cookie(name, value if value in allowed else "", max_age=YEAR, samesite="Lax")
    return response


def palette(request: HttpRequest) -> JsonResponse:
    user = access.person(request)
    places = [
        {"label": str(label), "kind": "", "url": reverse(name), "icon": icon}
        for group in NAV
        for name, icon, label, _ in group
    ]
    places += [
        {"label": scope.name, "kind": "stage", "url": reverse("scope-stage", args=[scope.pk]), "icon": "stages"}
        for scope in access.scopes_visible(user)[:MOST_PLACES]
    ]
    releases = Release.objects.select_related("agent").filter(agent__in=access.agents_visible(user))[:MOST_PLACES]
    places += [
        {
            "label": str(release),
            "kind": "release",
            "url": reverse("release", args=[release.agent.slug, release.number]),
            "icon": "releases",
        }
        for release in releases
    ]
    return JsonResponse({"places": places})
