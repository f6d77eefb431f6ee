"""More money for a while: granted with a reason, ended early with a click; both stand in the audit trail."""

from __future__ import annotations

from functools import partial

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from agents import snapshot
from budgets.models import Budget
from console import access
from console.htmx import page
from console.templatetags.pilothouse import dollars
from console.views.forms import NANO, IncreaseForm
from console.views.paging import text


@require_http_methods(["GET", "POST"])
def grant(request: HttpRequest, pk: int) -> HttpResponse:
    """The form alone, or the increase itself; a budget's row on the costs page posts here, too."""
    budget = access.require_budget_to_raise(access.person(request), pk)
    form = IncreaseForm(request.POST or None, budget=budget)
    if request.method == "POST" and form.is_valid() and _granted(form, access.actor(request)):
        more = dollars(budget.raised())
        messages.success(request, _("%(more)s more, in force within a second.") % {"more": more})
        return redirect("costs")
    context = {"form": form, "budget": budget}
    return page(request, "increase.html", context, status=422 if form.errors else 200)


def _granted(form: IncreaseForm, actor: str) -> bool:
    now, nano = timezone.now(), int(form.cleaned_data["amount"] * NANO)
    try:
        with transaction.atomic():
            form.budget.increase(nano, form.moment(now), actor=actor, reason=form.cleaned_data["reason"], now=now)
            transaction.on_commit(partial(snapshot.bump))
    except ValidationError as error:
        form.add_error(None, error)
        return False
    return True


@require_POST
def end(request: HttpRequest, pk: int) -> HttpResponse:
    budget = access.require_budget_to_raise(access.person(request), pk)
    with transaction.atomic():
        ended = budget.end_increase(actor=access.actor(request), reason=text(request.POST, "reason", 500))
        transaction.on_commit(partial(snapshot.bump))
    says = _("The increase is over: %(limit)s is the limit again.") if ended else _("The increase was over already.")
    messages.success(request, says % {"limit": dollars(Budget.objects.get(pk=pk).limit_nano)})
    return redirect("costs")
