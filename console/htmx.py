"""One view, one query: a whole page for a visit, the part that changes for HTMX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec
from urllib.parse import urlsplit

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render, resolve_url
from django_htmx.http import HttpResponseClientRedirect

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]


def wants_part(request: HttpRequest) -> bool:
    htmx = getattr(request, "htmx", None)
    return htmx is not None and bool(htmx) and not htmx.boosted and not htmx.history_restore_request


def page(
    request: HttpRequest,
    template: str,
    context: Mapping[str, Any] | None = None,
    *,
    part: str = "",
    status: int | None = None,
) -> HttpResponse:
    """The screen, or its inline partial `part` when HTMX asks."""
    name = f"{template}#{part}" if part and wants_part(request) else template
    return render(request, name, dict(context or {}), status=status)


def signed_in(view: View[P]) -> View[P]:
    """Sign in first. A fragment is never answered with the sign-in page: the whole page goes there."""

    @wraps(view)
    def wrapped(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if request.user.is_authenticated:
            return view(request, *args, **kwargs)
        if wants_part(request):
            here = urlsplit(request.headers.get("hx-current-url", "")).path or "/"
            return HttpResponseClientRedirect(f"{resolve_url('sign-in')}?next={here}")
        return redirect_to_login(request.get_full_path())

    return wrapped
