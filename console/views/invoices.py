"""Providers' invoices beside our own figures: imported by an administrator, compared by model."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db.models import Sum
from django.db.models.functions import TruncDate
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_http_methods

from agents.models import CallHour
from budgets import invoices
from budgets.models import Invoice
from console import access
from console.htmx import page
from console.views.forms import InvoiceForm
from console.views.paging import newest, text

MOST_UNNAMED = 20


@require_http_methods(["GET", "POST"])
def index(request: HttpRequest) -> HttpResponse:
    """What was imported, and the form for the next one."""
    access.require_administrator(access.person(request))
    form = InvoiceForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        fields = form.cleaned_data
        try:
            kept = invoices.keep(fields["lines"], fields["content"], name=fields["name"], actor=access.actor(request))
        except invoices.Unreadable as error:
            form.add_error(None, str(error))
        else:
            return redirect("invoice", pk=kept.pk)
    rows = newest(Invoice.objects.all(), text(request.GET, "before"))
    context = {"form": form, "invoices": rows}
    return page(request, "invoices.html", context, part="list", status=422 if form.errors else 200)


@require_GET
def invoice(request: HttpRequest, pk: int) -> HttpResponse:
    """Each invoiced model beside what the call log says of the same days."""
    access.require_administrator(access.person(request))
    row = Invoice.objects.filter(pk=pk).first()
    if row is None:
        raise Http404
    found, unnamed = invoices.compare(row.lines.all(), _ours(row.starts, row.ends))
    ours = sum(one.ours_nano or 0 for one in found)
    context: dict[str, Any] = {
        "invoice": row,
        "differences": found,
        "whole": invoices.Difference("", row.nano, ours or None, sum(one.unpriced for one in found)),
        "flagged": sum(one.flagged for one in found),
        "unnamed": sorted(unnamed.items(), key=lambda item: -item[1])[:MOST_UNNAMED],
        "flagged_above": invoices.FLAGGED,
    }
    return page(request, "invoice.html", context)


def _ours(starts: date, ends: date) -> dict[tuple[str, date], tuple[int, int]]:
    """Cost and unpriced calls by model and day (UTC)."""
    since = datetime(starts.year, starts.month, starts.day, tzinfo=UTC)
    until = datetime(ends.year, ends.month, ends.day, tzinfo=UTC) + timedelta(days=1)
    rows = (
        CallHour.objects.filter(start__gte=since, start__lt=until)
        .order_by()
        .annotate(day=TruncDate("start", tzinfo=UTC))
    )
    sums = rows.values_list("model", "day").annotate(nano=Sum("cost_nano"), without=Sum("unpriced"))
    return {(model, day): (nano, without) for model, day, nano, without in sums}
