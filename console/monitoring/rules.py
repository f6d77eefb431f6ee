"""What is worth waking somebody for. Pure: figures in, a verdict with a sentence out.

A verdict is `bad`, `ok` or `missing`. Missing evidence never opens an alert and never closes one. A share counts as bad
only when its whole 95 % interval lies above the limit, so that three bad calls of ten at night wake nobody by chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal

from agents.stages import wilson

State = Literal["ok", "bad", "missing"]
LEVELS = (70, 85, 95, 100)


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that is watched. `threshold` is a share, milliseconds, seconds or a count, as `unit` says.

    A critical rule may take a release back by itself.
    """

    name: str
    title: str
    says: str
    threshold: float
    unit: Literal["share", "ms", "s", "count"]
    minimum: int = 1
    window: timedelta = timedelta(minutes=15)
    critical: bool = False
    of_scopes: bool = True

    @property
    def actor(self) -> str:
        return f"rule:{self.name}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`level` tells apart how bad it is where a rule has steps; a rising level tells people again."""

    state: State
    sentence: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    level: int = 0
    severity: Literal["critical", "high", "medium"] = "high"


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("error_rate", "Error rate", "Calls that no model answered", 0.05, "share", 8, critical=True),
        Rule("guardrail_blocks", "Guardrail blocks", "Messages and answers held back", 0.10, "share", 8, critical=True),
        Rule(
            "escalation_rate", "Escalation rate", "Turns that went to a person", 0.60, "share", 20, timedelta(hours=1)
        ),
        Rule("latency", "Slow answers", "95 % of turns end within this time", 30_000, "ms", 20),
        Rule("queue_age", "Overdue in the queue", "Past its deadline and in nobody's hands for so long", 0, "s"),
        Rule("spend_day", "Daily budget", "Spent and held of the day's limit", 0.70, "share", of_scopes=False),
        Rule("spend_month", "Monthly budget", "Spent and held of the month's limit", 0.70, "share", of_scopes=False),
        Rule("drain_lag", "Call log behind", "Calls that wait to be written down", 10_000, "count", of_scopes=False),
        Rule("processes", "Processes missing", "Kinds of process that do not run", 0, "count", of_scopes=False),
    )
}


@dataclass(frozen=True, slots=True)
class Sample:
    """What happened in a rule's window. `held_back_out` are the agent's own answers among those held back."""

    calls: int = 0
    failed: int = 0
    messages: int = 0
    held_back: int = 0
    held_back_out: int = 0
    turns: int = 0
    escalated: int = 0

    def __add__(self, other: Sample) -> Sample:
        return Sample(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


def error_rate(rule: Rule, sample: Sample) -> Verdict:
    return _share(rule, sample.failed, sample.calls, "calls failed", "critical")


def guardrail_blocks(rule: Rule, sample: Sample) -> Verdict:
    return _share(rule, sample.held_back, sample.messages, "messages were held back by a guardrail", "critical")


def answers_held_back(rule: Rule, sample: Sample) -> Verdict:
    """Of the agent's own answers alone: what hostile customers write is no fault of a release."""
    return _share(rule, sample.held_back_out, sample.messages, "answers were held back by a guardrail", "critical")


def escalation_rate(rule: Rule, sample: Sample) -> Verdict:
    return _share(rule, sample.escalated, sample.turns, "turns went to a person", "high")


def latency(rule: Rule, p95_ms: float | None, turns: int) -> Verdict:
    figures = {"p95_ms": p95_ms, "n": turns, "limit_ms": rule.threshold}
    if p95_ms is None or turns < rule.minimum:
        return Verdict("missing", f"{turns} turns in {_span(rule.window)}: too few to judge.", figures)
    sentence = (
        f"95 % of {turns} turns end within {p95_ms / 1000:.1f} s; the limit is {rule.threshold / 1000:g} s "
        f"(last {_span(rule.window)})."
    )
    return Verdict("bad" if p95_ms > rule.threshold else "ok", sentence, figures)


def queue_age(rule: Rule, overdue: int, oldest_s: float) -> Verdict:
    """Of escalations that nobody holds. An empty queue is evidence, too."""
    figures = {"overdue": overdue, "oldest_s": round(oldest_s), "limit_s": rule.threshold}
    if not overdue or oldest_s <= rule.threshold:
        return Verdict("ok", "Nothing waits past its deadline.", figures)
    things = "1 escalation waits" if overdue == 1 else f"{overdue} escalations wait"
    return Verdict("bad", f"{things} past the deadline, the oldest for {_ago(oldest_s)}.", figures)


def spend(rule: Rule, spent_nano: int | None, held_nano: int, limit_nano: int) -> Verdict:
    """Against the steps of the degradation ladder; `spent_nano` is None while the ledger is away."""
    if spent_nano is None:
        return Verdict("missing", "What is spent is not known: Redis does not answer.")
    figures = {"spent_nano": spent_nano, "held_nano": held_nano, "limit_nano": limit_nano}
    if not limit_nano:
        return Verdict("ok", "The limit is 0: nothing may be spent.", figures)
    share = (spent_nano + held_nano) / limit_nano
    level = max((step for step in LEVELS if share >= step / 100), default=0)
    if not level or share < rule.threshold:
        return Verdict("ok", f"{_percent(round(share, 3))} of the limit is used.", figures)
    means = {
        70: "it holds, but look at the rest of the window",
        85: "the small models answer now",
        95: "answers go to review now",
        100: "calls are refused now",
    }
    severity: Literal["critical", "high", "medium"] = "critical" if level == 100 else "high" if level > 70 else "medium"
    return Verdict(
        "bad", f"{_percent(round(share, 3))} of the limit is used: {means[level]}.", figures, level, severity
    )


def drain_lag(rule: Rule, lag: int | None) -> Verdict:
    if lag is None:
        return Verdict("missing", "The call stream cannot be read: Redis does not answer.")
    figures = {"lag": lag, "limit": rule.threshold}
    sentence = f"{lag:,} calls wait to be written down; the limit is {rule.threshold:,.0f}."
    return Verdict("bad" if lag > rule.threshold else "ok", sentence, figures)


def processes(_rule: Rule, alive: Mapping[str, int] | None, needed: Sequence[str]) -> Verdict:
    if alive is None:
        return Verdict("missing", "Who is alive is not known: Redis does not answer.")
    figures = {kind: alive.get(kind, 0) for kind in needed}
    missing = [kind for kind in needed if not alive.get(kind)]
    if not missing:
        return Verdict("ok", "Every kind of process runs.", figures)
    return Verdict("bad", f"No {' and no '.join(missing)} process runs.", figures, severity="critical")


def with_threshold(rule: Rule, threshold: float | None) -> Rule:
    return rule if threshold is None else replace(rule, threshold=threshold)


def _share(rule: Rule, hits: int, n: int, what: str, severity: Literal["critical", "high"]) -> Verdict:
    low, _high = wilson(hits, n)
    figures = {"hits": hits, "n": n, "share": round(hits / n, 4) if n else None, "at_least": round(low, 4)}
    figures["limit"] = rule.threshold
    if n < rule.minimum:
        return Verdict("missing", f"{n} in {_span(rule.window)}: too few to judge.", figures)
    share, limit = _percent(round(hits / n, 3)), _percent(rule.threshold)
    sentence = f"{hits} of {n} {what} in {_span(rule.window)} ({share}); the limit is {limit}."
    if hits / n <= rule.threshold:
        return Verdict("ok", sentence, figures)
    return Verdict("bad" if low > rule.threshold else "missing", sentence, figures, severity=severity)


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _span(window: timedelta) -> str:
    minutes = round(window.total_seconds() / 60)
    return f"{minutes} minutes" if minutes < 60 else "an hour" if minutes == 60 else f"{minutes / 60:g} hours"


def _ago(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"
