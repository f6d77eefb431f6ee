"""What stands around the screens: signing in and out, preferences, the palette's list of places."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import views as auth
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from agents.models import Release
from console import access, audit, tries
from console.context import NAV, PREFERENCES
from console.views.paging import text

YEAR = 365 * 24 * 3600
MOST_PLACES = 200


class SignIn(auth.LoginView):
    """Who comes in, and who tried to, is written down; a name that nobody has is not, for it may be a password."""

    template_name = "sign-in.html"
    redirect_authenticated_user = True

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if wait := tries.wait(self._keys()):
            minutes = -(-wait // 60)
            response = self.render_to_response(self.get_context_data(minutes=minutes), status=429)
            response["Retry-After"] = str(wait)
            return response
        return super().post(request, *args, **kwargs)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        with transaction.atomic():
            response = super().form_valid(form)
            tries.forget(self._keys())
            self._record(audit.actor_of(form.get_user()), "person.signed_in", form.get_user().get_username())
        return response

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        tries.count(self._keys())
        name = text(form.data, "username", 150)
        known = User.objects.filter(username=name).exists()
        self._record("system:sign-in", "person.refused", name if known else "")
        return super().form_invalid(form)

    def _keys(self) -> dict[str, int]:
        """What tries are counted by, and how many of each are allowed: a name from an address, and the address."""
        address, name = self.request.META.get("REMOTE_ADDR", ""), text(self.request.POST, "username", 150).lower()
        return {f"{address} {name}": 10, address: 50}

    def _record(self, actor: str, action: str, who: str) -> None:
        audit.record(actor, action, object=who, detail={"from": self.request.META.get("REMOTE_ADDR", "")})


class SignOut(auth.LogoutView):
    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.user.is_authenticated:
            audit.record(access.actor(request), "person.signed_out", object=request.user.get_username())
        return super().post(request, *args, **kwargs)


sign_in = SignIn.as_view()
sign_out = SignOut.as_view()


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
