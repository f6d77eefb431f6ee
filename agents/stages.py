"""The way from pilot to production: each stage's exit criteria, judged on evidence, and the moves between stages."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from math import ceil, sqrt
from typing import Any, Literal

from django.db import transaction
from django.db.models import Max, Min, Q
from django.utils import timezone

from agents import snapshot
from agents.knowledge.text import content_lemmas
from agents.models import Scope, StageChange, Turn
from escalations.models import Decision
from guardrails.models import Finding

Verdict = Literal["PASS", "FAIL", "HOLD"]
ORDER = ("pilot", "shadow", "narrow", "expanded")
CRITICAL = frozenset({"fact", "policy", "action", "privacy"})
Z = 1.96
SAME_WORDS = 0.5
LOOK_BACK_DAYS = 60
DECIDED_ELSEWHERE = "Decided elsewhere by "


@dataclass(frozen=True, slots=True)
class Criterion:
    """One exit criterion with the evidence so far; `missing` says in plain words what HOLD or FAIL waits for."""

    name: str
    sentence: str
    evidence: str
    threshold: str
    verdict: Verdict
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Gate:
    """Every criterion of a stage; it passes when all do, and fails when one does."""

    stage: str
    next_stage: str
    criteria: list[Criterion]

    @property
    def verdict(self) -> Verdict:
        verdicts = {criterion.verdict for criterion in self.criteria}
        return "FAIL" if "FAIL" in verdicts else "HOLD" if "HOLD" in verdicts or not verdicts else "PASS"

    def as_evidence(self) -> dict[str, Any]:
        return {"verdict": self.verdict, "criteria": [asdict(criterion) for criterion in self.criteria]}


class NotYet(Exception):
    """The gate does not pass, or there is no stage to go to."""

    def __init__(self, message: str, gate: Gate | None = None) -> None:
        super().__init__(message)
        self.gate = gate


def gate(scope: Scope, now: datetime | None = None) -> Gate:
    """The exit criteria of the scope's stage on the evidence since it entered it."""
    now = now or timezone.now()
    position = ORDER.index(scope.stage)
    following = ORDER[position + 1] if position + 1 < len(ORDER) else ""
    since = max(entered(scope), now - timedelta(days=LOOK_BACK_DAYS))
    judges = {"pilot": _pilot, "shadow": _shadow, "narrow": _narrow}
    criteria = judges[scope.stage](scope, since, now) if scope.stage in judges else []
    return Gate(scope.stage, following, criteria)


def entered(scope: Scope) -> datetime:
    """When the scope came to its present stage."""
    last = scope.stage_changes.aggregate(at=Max("at"))["at"]
    return last or scope.created_at


def promote(scope: Scope, *, actor: str, reason: str) -> StageChange:
    """One stage up, signed by a person, when every criterion passes. :raises NotYet: otherwise."""
    now_gate = gate(scope)
    if not now_gate.next_stage:
        raise NotYet(f"{scope} is at the last stage.")
    if not actor.startswith("user:"):
        raise NotYet("Only a named person promotes.", now_gate)
    if now_gate.verdict != "PASS":
        raise NotYet(f"The gate of {scope.stage} says {now_gate.verdict}.", now_gate)
    return _move(scope, now_gate.next_stage, actor, reason, now_gate.as_evidence())


def demote(scope: Scope, *, actor: str, reason: str, to: str = "") -> StageChange:
    """Down to `to`, or by one stage; nothing has to pass for that. :raises NotYet: it is at the first stage."""
    position = ORDER.index(scope.stage)
    target = to or (ORDER[position - 1] if position else "")
    if target not in ORDER[:position]:
        raise NotYet(f"{scope} cannot go down from {scope.stage} to {target or 'anything'}.")
    return _move(scope, target, actor, reason, {})


@transaction.atomic
def _move(scope: Scope, to: str, actor: str, reason: str, evidence: dict[str, Any]) -> StageChange:
    moved = Scope.objects.filter(pk=scope.pk, stage=scope.stage).update(stage=to)
    if not moved:
        raise NotYet(f"Somebody else has just moved {scope}.")
    change = StageChange.objects.create(
        scope=scope, from_stage=scope.stage, to_stage=to, actor=actor, reason=reason, evidence=evidence
    )
    scope.stage = to
    transaction.on_commit(snapshot.bump)
    return change


# --- criteria ------------------------------------------------------------------------------------------------------


def _pilot(scope: Scope, since: datetime, _now: datetime) -> list[Criterion]:
    reviewed = _decisions(scope, since)
    critical = [decision for decision in reviewed if decision.reason_code in CRITICAL]
    return [
        _at_least("reviewed", "50 answers reviewed by a person", len(reviewed), 50, "reviewed answers"),
        Criterion(
            "no_critical_error",
            "No critical error among them",
            f"{len(critical)} critical",
            "0",
            "FAIL" if critical else "PASS" if reviewed else "HOLD",
            "" if reviewed else "nothing is reviewed yet",
        ),
    ]


def _shadow(scope: Scope, since: datetime, now: datetime) -> list[Criterion]:
    turns = [turn for turn in _blind_turns(scope, since) if turn.escalation_id]
    blind = (decision for decision in _decisions(scope, since) if not decision.seen_draft)
    decided = {decision.escalation_id: decision for decision in blind}
    pairs = [(turn, decided[turn.escalation_id]) for turn in turns if turn.escalation_id in decided]
    matches = sum(_same_decision(turn, decision) for turn, decision in pairs)
    missed = sum(_missed_escalation(turn, decision) for turn, decision in pairs)
    days = (now - min((turn.created_at for turn, _ in pairs), default=now)).days
    incidents = Finding.objects.filter(
        scope=scope.name, at__gte=since, stage="outbound", action__in=["block", "escalate"]
    ).count()
    return [
        _at_least("blind_turns", "200 turns that a person decided blind", len(pairs), 200, "blind decisions"),
        _at_least("days", "Over at least 14 days", days, 14, "days"),
        lower_bound("decision_match", "The agent decides as people do", matches, len(pairs), 0.90),
        upper_bound("missed_escalations", "Missed escalations at most 2 %", missed, len(pairs), 0.02),
        Criterion(
            "no_guardrail_incident",
            "No answer held back by a guardrail",
            f"{incidents} incidents",
            "0",
            "FAIL" if incidents else "PASS" if pairs else "HOLD",
            "" if pairs else "no turns yet",
        ),
    ]


def _narrow(scope: Scope, since: datetime, _now: datetime) -> list[Criterion]:
    turns = Turn.objects.real().filter(scope=scope, created_at__gte=since).exclude(outcome=Turn.Outcome.PENDING)
    span = turns.aggregate(first=Min("created_at"), last=Max("created_at"))
    cases = turns.values("case_id").distinct().count()
    total = turns.count()
    escalated = turns.filter(outcome=Turn.Outcome.ESCALATED).count()
    days = (span["last"] - span["first"]).days if span["first"] else 0
    return [
        _at_least("cases", "300 cases", cases, 300, "cases"),
        _at_least("days", "Over at least 7 days", days, 7, "days"),
        upper_bound("escalation_rate", "At most 40 % go to a person", escalated, total, 0.40),
    ]


def _decisions(scope: Scope, since: datetime) -> list[Decision]:
    """The standing decisions of people on this scope, here or reported from where they work, newest last."""
    people = Q(actor__startswith="user:") | Q(actor__startswith="key:", note__startswith=DECIDED_ELSEWHERE)
    return list(
        Decision.objects.filter(people, escalation__scope=scope.name, at__gte=since, undo=None)
        .select_related("escalation")
        .order_by("at")[:5_000]
    )


def _blind_turns(scope: Scope, since: datetime) -> list[Turn]:
    return list(
        Turn.objects.real()
        .filter(scope=scope, outcome=Turn.Outcome.WITHHELD, created_at__gte=since)
        .order_by("-created_at")[:5_000]
    )


def _agent_would_answer(turn: Turn) -> bool:
    return turn.reason == "shadow" and bool(turn.draft)


def _same_decision(turn: Turn, decision: Decision) -> bool:
    """Both answer and say the same in substance, or both do not answer."""
    kinds = Decision.Kind
    answered = decision.kind in (kinds.APPROVED, kinds.EDITED, kinds.ANSWERED)
    if not _agent_would_answer(turn):
        return not answered
    if decision.kind == kinds.APPROVED:
        return True
    return answered and _alike(turn.draft, decision.text, turn.language or "en")


def _missed_escalation(turn: Turn, decision: Decision) -> bool:
    """The agent would have answered what a person found that nobody should, or found wrong."""
    return _agent_would_answer(turn) and (decision.kind == Decision.Kind.REJECTED or decision.reason_code in CRITICAL)


def _alike(draft: str, text: str, language: str) -> bool:
    one, other = set(content_lemmas(draft, language)), set(content_lemmas(text, language))
    return bool(one and other) and len(one & other) / min(len(one), len(other)) >= SAME_WORDS


# --- bounds --------------------------------------------------------------------------------------------------------


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson interval of a share; (0, 1) without evidence."""
    if not n:
        return 0.0, 1.0
    p, zz = hits / n, Z * Z
    centre, spread = p + zz / (2 * n), Z * sqrt(p * (1 - p) / n + zz / (4 * n * n))
    return max(0.0, (centre - spread) / (1 + zz / n)), min(1.0, (centre + spread) / (1 + zz / n))


def lower_bound(name: str, sentence: str, hits: int, n: int, need: float) -> Criterion:
    """PASS when the interval lies above `need`, FAIL when it lies below, else HOLD with about how many more it
    takes.
    """
    low, high = wilson(hits, n)
    verdict: Verdict = "PASS" if low >= need else "FAIL" if high < need else "HOLD"
    evidence = f"{hits} of {n} agree, lower bound {low:.1%}" if n else "no evidence yet"
    return Criterion(
        name,
        sentence,
        evidence,
        f"lower bound ≥ {need:.0%}",
        verdict,
        _more(hits, n, need, above=True) if verdict == "HOLD" else "",
    )


def upper_bound(name: str, sentence: str, hits: int, n: int, allowed: float) -> Criterion:
    """PASS when the interval lies below `allowed`, FAIL when it lies above, else HOLD."""
    low, high = wilson(hits, n)
    verdict: Verdict = "PASS" if high <= allowed else "FAIL" if low > allowed else "HOLD"
    evidence = f"{hits} of {n}, upper bound {high:.1%}" if n else "no evidence yet"
    return Criterion(
        name,
        sentence,
        evidence,
        f"upper bound ≤ {allowed:.0%}",
        verdict,
        _more(hits, n, allowed, above=False) if verdict == "HOLD" else "",
    )


def _more(hits: int, n: int, bound: float, *, above: bool) -> str:
    """How many more cases at the present rate would settle it."""
    share = hits / n if n else (1.0 if above else 0.0)
    size = max(n, 10)
    while size < 100_000:
        low, high = wilson(round(share * size), size)
        if (low >= bound) if above else (high <= bound):
            return f"about {size - n} more cases"
        size = ceil(size * 1.03)
    return "not at the present rate"


def _at_least(name: str, sentence: str, seen: int, need: int, what: str) -> Criterion:
    verdict: Verdict = "PASS" if seen >= need else "HOLD"
    missing = "" if seen >= need else f"{need - seen} more {what}"
    return Criterion(name, sentence, f"{seen} of {need}", f"≥ {need}", verdict, missing)
