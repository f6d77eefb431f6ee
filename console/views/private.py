"""What stands behind a token: shown to who does operations for the agent, and written down."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from agents import private
from agents.models import PrivateValue
from console import access, audit
from console.htmx import page


@never_cache
@require_POST
def reveal(request: HttpRequest, token: str) -> HttpResponse:
    try:
        found, value = private.reveal(token, access.cases_to_reveal(access.person(request)))
    except PrivateValue.DoesNotExist:
        raise Http404 from None
    except private.Unopened:
        says = _("It cannot be opened: the secret key of this installation was changed.")
        return page(request, "private.html", {"problem": says}, part="value")
    audit.revealed(access.actor(request), found)
    return page(request, "private.html", {"found": found, "value": value}, part="value")
