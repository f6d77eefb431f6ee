"""Figures made ready for drawing: the data of Plotly charts, and timelines as plain SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from agents.models import Deployment

DOLLAR = 1_000_000_000
MOST_TRACES = 5
WINDOWS = (timedelta(hours=1), timedelta(hours=6), timedelta(days=1), timedelta(days=3), timedelta(days=14))


def spend_chart(spends: Mapping[tuple[str, datetime], int], times: Sequence[datetime], rest: str) -> dict[str, Any]:
    """Stacked bars of dollars: a trace for each of the dearest groups, which keep their colours, and one for the rest.

    `spends`: nano-dollars by group and the beginning of a day or hour; `times`: every one of them in the period.
    """
    totals: dict[str, int] = {}
    for (group, _time), nano in spends.items():
        totals[group] = totals.get(group, 0) + nano
    dearest = sorted((group for group, nano in totals.items() if nano), key=lambda group: -totals[group])
    shown, others = dearest[:MOST_TRACES], dearest[MOST_TRACES:]
    series = [(group, [spends.get((group, time), 0) for time in times]) for group in shown]
    if others:
        series.append((rest, [sum(spends.get((group, time), 0) for group in others) for time in times]))
    hourly = len(times) > 1 and times[1] - times[0] < timedelta(days=1)
    return {
        "kind": "bars",
        "x": [time.strftime("%Y-%m-%dT%H:%M" if hourly else "%Y-%m-%d") for time in times],
        "series": [{"name": name, "y": [nano / DOLLAR for nano in nanos]} for name, nanos in series],
        "prefix": "$",
        "ticks": "%H:%M" if hourly else "%d %b",
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
