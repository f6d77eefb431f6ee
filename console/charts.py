"""Figures made ready for drawing: the data of Plotly charts, and timelines as plain SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from agents.metrics import Spend
from agents.models import Deployment

DOLLAR = 1_000_000_000
WINDOWS = (timedelta(hours=1), timedelta(hours=6), timedelta(days=1), timedelta(days=3), timedelta(days=14))


def spend_chart(spends: Sequence[Spend], days: Sequence[date]) -> dict[str, Any]:
    """Stacked bars: one trace a model, one bar a day, in dollars; dearest model first, so that it keeps its colour."""
    cost: dict[str, dict[date, int]] = {}
    for spend in spends:
        cost.setdefault(spend.model, {})[spend.day] = spend.cost_nano
    models = sorted(cost, key=lambda model: -sum(cost[model].values()))
    return {
        "kind": "bars",
        "x": [day.isoformat() for day in days],
        "series": [{"name": model, "y": [cost[model].get(day, 0) / DOLLAR for day in days]} for model in models],
        "prefix": "$",
    }


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a timeline in percent of its width, and the deployment that began it."""

    x: float
    width: float
    deployment: Deployment
    current: bool

    @property
    def wide(self) -> bool:
        return self.width > 5

    @property
    def label_x(self) -> float:
        return self.x + 0.6


def window(oldest: datetime | None, now: datetime) -> timedelta:
    """The shortest stretch that shows everything, two weeks at most: a young installation is not a thin line."""
    age = now - oldest if oldest else WINDOWS[-1]
    return next((stretch for stretch in WINDOWS if age <= stretch), WINDOWS[-1])


def timeline(rows: Sequence[Deployment], since: datetime, now: datetime) -> list[Segment]:
    """What was live when; `rows` newest first. What began before `since` begins at the left edge."""
    span = (now - since) / timedelta(seconds=1)
    segments: list[Segment] = []
    ends = now
    for row in rows:
        begins = max(row.at, since)
        if begins < ends:
            x = 100 * (begins - since).total_seconds() / span
            width = 100 * (ends - begins).total_seconds() / span
            segments.append(Segment(round(min(x, 99.5), 2), round(max(width, 0.5), 2), row, row is rows[0]))
        ends = min(ends, row.at)
        if row.at <= since:
            break
    return segments[::-1]
