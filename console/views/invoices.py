"""Providers' invoices beside our own figures: imported by an administrator, compared by model."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_http_methods

from agents import usage
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
    found, unnamed = invoices.compare(row.lines.all(), usage.by_model_and_day(row.starts, row.ends))
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
