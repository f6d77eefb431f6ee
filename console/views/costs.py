"""Today against the limits, where the money goes and where it leads, and what has no price."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Q
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from agents import metrics, usage
from agents.models import Call
from budgets import forecast
from budgets.forecast import Forecast
from console import access, charts
from console.htmx import page
from console.views import pace, spending
from console.views.forms import IncreaseForm
from console.views.overview import balances
from console.views.paging import chosen
from console.views.spending import COLUMNS, GROUPS, PERIODS, UNSAID, Asked, Line, cell

P95 = 0.95


@require_GET
def costs(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """The page, or with `format=csv` its lines as a file: the same figures."""
    user = access.person(request)
    agents = dict(access.agents_visible(user).values_list("slug", "pk"))
    slugs = list(agents)
    asked = spending.asked(request.GET, slugs)
    where = Q(agent__in=slugs) & usage.only(asked.values)
    lines, total = _lines(asked, where, slugs)
    if chosen(request.GET, "format", ("csv",)):
        return _csv(asked, lines, total)
    visible = access.budgets_visible(user)
    raisable = [budget.pk for budget in visible if access.may_raise(user, budget, agents)]
    recent = {
        period: usage.charged_by_owner(asked.until - back, asked.until) for period, back in pace.LOOKS_BACK.items()
    }
    money = pace.paced(balances(visible).values(), recent, raisable, asked.until)
    times, spends = _over_time(asked, where)
    context: dict[str, Any] = {
        "asked": asked,
        "periods": [(value, label, asked.address(period=value)) for value, label in PERIODS.items()],
        "groups": [(value, label, asked.address(by=value)) for value, label in GROUPS.items()],
        "group": GROUPS[asked.by],
        "filters": [(GROUPS[name], value, asked.address(**{name: ""})) for name, value in asked.filters.items()],
        "lines": lines,
        "total": total,
        "csv": asked.address(format="csv"),
        "money": money,
        "known": all(row.money.known for row in money),
        "raise_until": IncreaseForm.UNTIL,
        "chart": charts.spend_chart(spends, times, _("others")),
        "month": _month(Q(agent__in=slugs), asked.until),
        "dear": list(Call.objects.filter(where, at__gte=asked.since, cost_nano__gt=0).order_by("-cost_nano")[:10]),
        "may_import": access.may(user, "administrator"),
    }
    return page(request, "costs.html", context)


def _lines(asked: Asked, where: Q, slugs: list[str]) -> tuple[list[Line], Line]:
    """One line a group, the dearest first, and the whole."""
    rows = usage.by(asked.by, where, asked.since, asked.until, slow=P95)
    handled = _handled(asked, slugs)
    whole = sum(row.cost_nano for row in rows)
    lines = [_line(row, handled, whole, asked) for row in rows]
    total = spending.together(lines)
    if handled is not None:
        total.turns, total.cases = sum(h.turns for h in handled.values()), sum(h.cases for h in handled.values())
    return lines, total


def _line(row: usage.Row, handled: Any, whole: int, asked: Asked) -> Line:
    group = str(row.group)
    ended = handled.get(group) if handled is not None else None
    return Line(
        group=group,
        cost_nano=row.cost_nano,
        calls=row.calls,
        unpriced=row.unpriced,
        estimated=row.estimated,
        input_tokens=row.input_tokens,
        cached_tokens=row.cached_tokens,
        output_tokens=row.output_tokens,
        saved_nano=row.saved_nano if row.largest_nano or row.compared_nano else None,
        p95_ms=row.slow_ms,
        turn_nano=row.cost_nano,
        turns=ended.turns if ended else None,
        cases=ended.cases if ended else None,
        share=row.cost_nano / whole if whole else None,
        opens=asked.opened(group),
    )


def _handled(asked: Asked, slugs: list[str]) -> dict[str, metrics.Handled] | None:
    """Turns and handled cases by group; None where turns cannot be told apart so (a turn may have several models)."""
    if not {asked.by, *asked.filters} <= set(metrics.OF_TURNS):
        return None
    return metrics.handled(slugs, asked.since, asked.until, asked.by, asked.values)


def _over_time(asked: Asked, where: Q) -> tuple[list[datetime], dict[tuple[str, datetime], int]]:
    step, width = ("hour", timedelta(hours=1)) if asked.hourly else ("day", timedelta(days=1))
    spends = {
        (group or UNSAID, at if isinstance(at, datetime) else datetime(at.year, at.month, at.day, tzinfo=UTC)): nano
        for at, group, nano in usage.over_time(asked.by, where, asked.since, asked.until, step, UTC)
    }
    count = int((asked.until - asked.since) / width) + 1
    return [asked.since + n * width for n in range(count)], spends


def _month(where: Q, now: datetime) -> Forecast:
    since = (now - timedelta(days=forecast.LEARNT_DAYS)).replace(hour=0, minute=0, second=0, microsecond=0)
    daily = {row.group: row.cost_nano for row in usage.by("day", where, since, now, UTC)}
    return forecast.month(daily, now)


def _csv(asked: Asked, lines: list[Line], total: Line) -> StreamingHttpResponse:
    class Echo:
        def write(self, value: str) -> str:
            return value

    def rows() -> Iterator[str]:
        writer = csv.writer(Echo())
        yield writer.writerow([asked.by, *(name for name, _read in COLUMNS)])
        for line in [*lines, total]:
            group = "total" if line is total else line.group
            yield writer.writerow([cell(group), *(read(line) for _name, read in COLUMNS)])

    response = StreamingHttpResponse(rows(), content_type="text/csv; charset=utf-8")
    name = f"costs-{asked.by}-{asked.since:%Y%m%d}-{asked.until:%Y%m%d}.csv"
    response["content-disposition"] = f'attachment; filename="{name}"'
    return response
