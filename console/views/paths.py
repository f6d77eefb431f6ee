"""A turn's trace told in plain words: each step with its time, its result and its evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _

from agents.models import Turn
from console.templatetags.pilothouse import dollars, edge


@dataclass(frozen=True, slots=True)
class Step:
    """`x` and `width`: where its time lies in the whole turn, in percent."""

    name: str
    icon: str
    tone: str
    result: str
    ms: float
    x: float
    width: float
    evidence: list[str] = field(default_factory=list)
    passages: list[dict[str, Any]] = field(default_factory=list)


Told = tuple[str, str, str, str, list[str]]
SCREENED = {"allow": "good", "redact": "attention", "escalate": "people", "block": "bad"}
SEEN = {"allow": "Nothing found", "redact": "Redacted", "escalate": "To a person", "block": "Blocked"}
DECIDED = {"answer": "good", "clarify": "accent", "escalate": "people", "refuse": "bad"}
VERDICT = {
    "answer": "The agent answers",
    "clarify": "The agent asks back",
    "escalate": "A person decides",
    "refuse": "Refused",
}


def steps(turn: Turn) -> list[Step]:
    total = sum(float(row.get("ms") or 0) for row in turn.trace) or 1.0
    told, passed = [], 0.0
    for row in turn.trace:
        took = float(row.get("ms") or 0)
        detail = row.get("detail") or {}
        name, icon, tone, result, evidence = TELL.get(row["step"], _plain)(row, detail)
        told.append(
            Step(
                name,
                icon,
                tone,
                result,
                took,
                round(100 * passed / total, 2),
                round(max(100 * took / total, 0.4), 2),
                evidence,
                detail.get("sources") or [],
            )
        )
        passed += took
    return told


def _screened(row: dict[str, Any], detail: dict[str, Any]) -> Told:
    result = row.get("result", "")
    evidence = [_("Language: %(code)s") % {"code": detail["language"]}] if detail.get("language") else []
    if detail.get("findings"):
        evidence.append(_("%(n)s findings") % {"n": detail["findings"]})
    return _("Question screened"), "guardrails", SCREENED.get(result, "neutral"), _(SEEN.get(result, result)), evidence


def _retrieved(row: dict[str, Any], detail: dict[str, Any]) -> Told:
    found = detail.get("sources") or []
    return _("Knowledge searched"), "knowledge", "good" if found else "attention", row.get("result", ""), []


def _routed(row: dict[str, Any], detail: dict[str, Any]) -> Told:
    rule = detail.get("rule") or _("default")
    return (
        _("Model chosen"),
        "calls",
        "neutral",
        row.get("result", ""),
        [_("Tier %(tier)s by rule %(rule)s") % {"tier": detail.get("tier", "–"), "rule": rule}],
    )


def _held(row: dict[str, Any], detail: dict[str, Any]) -> Told:
    if "nano" not in detail:
        return _("Money held"), "coin", "bad", row.get("result", ""), [_("No budget has room: no model was asked.")]
    pressure = _("Fullest budget after this: %(share).1f %%") % {"share": 100 * float(detail.get("pressure") or 0)}
    return _("Money held"), "coin", "neutral", dollars(int(detail["nano"])), [pressure]


def _called(row: dict[str, Any], detail: dict[str, Any]) -> Told:
    good = row.get("result") == "ok"
    evidence = [str(detail.get("model", ""))]
    if "tokens" in detail:
        evidence.append(
            _("%(read)s tokens read, %(written)s written")
            % {"read": detail.get("input_tokens", 0), "written": detail["tokens"]}
        )
    if detail.get("error"):
        evidence.append(str(detail["error"]))
    return (
        _("Model called"),
        "model",
        "good" if good else "bad",
        _("Answered") if good else row.get("result", ""),
        evidence,
    )


def _screened_answer(row: dict[str, Any], detail: dict[str, Any]) -> Told:
    result = row.get("result", "")
    evidence = [_("%(n)s findings") % {"n": detail["findings"]}] if detail.get("findings") else []
    return _("Answer screened"), "guardrails", SCREENED.get(result, "neutral"), _(SEEN.get(result, result)), evidence


def _judged(row: dict[str, Any], detail: dict[str, Any]) -> Told:
    value = float(row.get("result") or 0)
    tone = "good" if value >= 0.75 else "attention" if value >= 0.5 else "bad"
    return _("Confidence judged"), "gauge", tone, row.get("result", ""), list(detail.get("reasons") or [])


def _decided(row: dict[str, Any], detail: dict[str, Any]) -> Told:
    result = row.get("result", "")
    evidence = [
        _("Rule %(rule)s in stage %(stage)s") % {"rule": detail.get("rule", "–"), "stage": detail.get("stage", "–")}
    ]
    if fired := detail.get("fired"):
        evidence.append(_("Fired: %(rules)s") % {"rules": ", ".join(edge(rule) for rule in fired)})
    return _("Decided"), "rule", DECIDED.get(result, "neutral"), _(VERDICT.get(result, result)), evidence


def _settled(_row: dict[str, Any], detail: dict[str, Any]) -> Told:
    return _("Money settled"), "costs", "neutral", dollars(int(detail.get("cost_nano") or 0)), []


def _plain(row: dict[str, Any], _detail: dict[str, Any]) -> Told:
    return edge(row["step"]), "more", "neutral", str(row.get("result", "")), []


TELL: dict[str, Callable[[dict[str, Any], dict[str, Any]], Told]] = {
    "screened": _screened,
    "retrieved": _retrieved,
    "routed": _routed,
    "held": _held,
    "called": _called,
    "screened_answer": _screened_answer,
    "judged": _judged,
    "decided": _decided,
    "settled": _settled,
}
