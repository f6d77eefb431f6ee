"""What the address of the costs page asks for: a period, what to group by, and filters; and the lines of the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.http import Http404, QueryDict
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from console.views.paging import chosen, text

PERIODS = {"today": _("Today"), "7": _("7 days"), "30": _("30 days"), "month": _("This month")}
GROUPS = {
    "agent": _("Agent"),
    "channel": _("Channel"),
    "scope": _("Scope"),
    "topic": _("Topic"),
    "model": _("Model"),
    "tier": _("Tier"),
    "release": _("Release"),
    "key": _("API key"),
}
# What one wants to see next of a group that one has opened.
WITHIN = {
    "agent": "channel",
    "channel": "scope",
    "scope": "model",
    "topic": "scope",
    "model": "scope",
    "tier": "model",
    "release": "model",
    "key": "model",
}
UNSAID = "-"  # an address cannot tell an empty value from none


@dataclass(frozen=True, slots=True)
class Asked:
    """A period in whole UTC days until now, the dimension of the lines, and the values that others must have."""

    period: str
    since: datetime
    until: datetime
    by: str
    filters: Mapping[str, str]

    @property
    def hourly(self) -> bool:
        return self.period == "today"

    @property
    def values(self) -> dict[str, str]:
        """The filters as the groups are really called."""
        return {name: "" if value == UNSAID else value for name, value in self.filters.items()}

    def address(self, **changes: str) -> str:
        """The query of the same page with some of it changed; an empty value leaves a filter out."""
        fields = {"period": self.period, "by": self.by, **self.filters, **changes}
        return "?" + urlencode({name: value for name, value in fields.items() if value})

    def opened(self, value: str) -> str:
        """The query of this group's page: filtered by it, grouped by what comes next."""
        by = next((name for name in (WITHIN[self.by], *GROUPS) if name not in {*self.filters, self.by}), self.by)
        return self.address(by=by, **{self.by: value or UNSAID})


def asked(fields: QueryDict, agents: Iterable[str], now: datetime | None = None) -> Asked:
    """:raises Http404: a filter names an agent that the person may not see, or what belongs to one."""
    now = now or timezone.now()
    period = chosen(fields, "period", PERIODS) or "7"
    filters = {name: value for name in GROUPS if (value := text(fields, name))}
    visible = set(agents)
    for name in ("agent", "channel", "scope", "release"):
        value = filters.get(name, UNSAID)
        if value != UNSAID and value.partition("@")[0].partition("/")[0] not in visible:
            raise Http404
    by = chosen(fields, "by", GROUPS) or ("agent" if len(visible) > 1 else "model")
    return Asked(period, _since(period, now), now, by, filters)


def _since(period: str, now: datetime) -> datetime:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "month":
        return midnight.replace(day=1)
    return midnight - timedelta(days=0 if period == "today" else int(period) - 1)


@dataclass(slots=True)
class Line:
    """One group's figures in the period. None is not known, never 0: no call has a price, no turn can be told apart."""

    group: str = ""
    cost_nano: int = 0
    calls: int = 0
    unpriced: int = 0
    estimated: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    saved_nano: int | None = None
    p95_ms: float | None = None
    turn_nano: int = 0
    turns: int | None = None
    cases: int | None = None
    share: float | None = None
    opens: str = field(default="", compare=False)

    @property
    def priced(self) -> int:
        return self.calls - self.unpriced

    @property
    def spent(self) -> int | None:
        """The cost where any call has one."""
        return self.cost_nano if self.priced or not self.calls else None

    @property
    def per_call(self) -> float | None:
        return self.cost_nano / self.priced if self.priced else None

    @property
    def per_turn(self) -> float | None:
        return self.turn_nano / self.turns if self.turns else None

    @property
    def per_case(self) -> float | None:
        return self.turn_nano / self.cases if self.cases else None


SUMMED = ("cost_nano", "calls", "unpriced", "estimated", "input_tokens", "cached_tokens", "output_tokens", "turn_nano")


def together(lines: Sequence[Line]) -> Line:
    """The whole of some lines, but for turns and cases, which are counted otherwise."""
    saved = [line.saved_nano for line in lines if line.saved_nano is not None]
    sums = {name: sum(getattr(line, name) for line in lines) for name in SUMMED}
    return Line(**sums, saved_nano=sum(saved) if saved else None)


COLUMNS: tuple[tuple[str, Any], ...] = (
    ("cost_usd", lambda line: usd(line.spent)),
    ("share", lambda line: "" if line.share is None else f"{line.share:.6f}"),
    ("calls", lambda line: line.calls),
    ("input_tokens", lambda line: line.input_tokens),
    ("cached_tokens", lambda line: line.cached_tokens),
    ("output_tokens", lambda line: line.output_tokens),
    ("cost_per_call_usd", lambda line: usd(line.per_call)),
    ("turns", lambda line: "" if line.turns is None else line.turns),
    ("cost_per_turn_usd", lambda line: usd(line.per_turn)),
    ("handled_cases", lambda line: "" if line.cases is None else line.cases),
    ("cost_per_handled_case_usd", lambda line: usd(line.per_case)),
    ("p95_ms", lambda line: "" if line.p95_ms is None else f"{line.p95_ms:.1f}"),
    ("saved_usd", lambda line: usd(line.saved_nano)),
    ("unpriced_calls", lambda line: line.unpriced),
    ("estimated_calls", lambda line: line.estimated),
)


def usd(nano: float | None) -> str:
    """Dollars with all nine digits; empty for what is not known."""
    return "" if nano is None else f"{round(nano) / 1_000_000_000:.9f}"


def cell(value: object) -> str:
    """A CSV cell that no spreadsheet takes for a formula."""
    words = str(value)
    return f"'{words}" if words.startswith(("=", "+", "-", "@", "\t", "\r")) else words
