"""Edge rules: the named situations a pilot never shows, each with what to do. Pure: facts and a policy in, a verdict out.

Every rule that fires is told; the first in ORDER decides, and among rules of the same rank the more cautious action. When
no rule fires and the facts are those of a good answer, it goes out; when anything is missing, a person is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from escalations.default_edges import DEFAULT_POLICY
from escalations.signals import Signals, signals

__all__ = ["DEFAULT_POLICY", "EdgePolicy", "Facts", "PolicyError", "Signals", "Verdict", "compile_policy", "explain", "judge", "signals"]

Action = Literal["answer", "clarify", "escalate", "refuse"]
CAUTION = {"answer": 0, "clarify": 1, "refuse": 2, "escalate": 3}
MODES = ("on", "log_only", "off")
# Legal or safety → asked for a person → guardrail → budget or loop → irreversible action → integration → identity or privacy →
# out of scope → knowledge → ambiguity → confidence → SLA → sampling.
ORDER = (
    "paused", "pilot", "legal", "asked_for_person", "guardrail_in", "uncovered_language", "guardrail_out", "budget_spent", "loop",
    "irreversible_action", "integration", "identity", "out_of_scope", "ambiguous", "no_answer", "returned_twice", "anger",
    "repeated_contact", "low_confidence", "sla", "sample",
)  # fmt: skip
OPERATORS = {
    "eq": lambda seen, wanted: seen == wanted,
    "ne": lambda seen, wanted: seen != wanted,
    "lt": lambda seen, wanted: seen < wanted,
    "lte": lambda seen, wanted: seen <= wanted,
    "gt": lambda seen, wanted: seen > wanted,
    "gte": lambda seen, wanted: seen >= wanted,
    "in": lambda seen, wanted: seen in wanted,
    "has": lambda seen, wanted: wanted in seen,
}


class PolicyError(ValueError):
    """A policy that cannot be used; the message is a plain sentence."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a turn when the rules judge it. None: not known, which no rule takes for harmless."""

    stage: str = "pilot"
    tester: bool = False
    paused: bool = False
    language: str = "?"
    covered: bool = False
    screening_in: str = "allow"
    screening_out: str = "allow"
    findings_families_in: frozenset[str] = frozenset()
    findings_families_out: frozenset[str] = frozenset()
    asked_for_person: bool = False
    legal: bool = False
    anger: bool = False
    identity_missing: bool = False
    out_of_scope: bool = False
    answerable: bool | None = None
    support: float | None = None
    top_score: float | None = None
    margin: float | None = None
    confidence: float | None = None
    ambiguous: bool = False
    choices: tuple[str, ...] = ()
    clarified_count: int = 0
    returned_count: int = 0
    contact_count: int = 1
    budget_state: str = "ok"
    integration: str = "ok"
    loop: bool = False
    sla_fraction: float = 0.0
    sampled: bool = False
    risk: str = "information"


FACTS = frozenset(field.name for field in fields(Facts))


@dataclass(frozen=True, slots=True)
class Rule:
    edge: str
    when: Mapping[str, Mapping[str, Any]]
    action: Action
    mode: str
    queue: str
    skill: str
    priority: int
    message: Mapping[str, str]
    deadline_s: int | None
    on_timeout: str
    says: str

    def fires(self, facts: Facts) -> bool:
        """All conditions hold; a fact that is not known makes its condition hold, so that doubt is never silent."""
        return all(_holds(getattr(facts, fact), conditions) for fact, conditions in self.when.items())


@dataclass(frozen=True, slots=True)
class EdgePolicy:
    """A compiled policy: rules in the order in which they decide."""

    version: int
    rules: tuple[Rule, ...]
    fallback: Rule


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, and which rule said so ("edge:low_confidence@7"). `fired`: every rule that fired, log-only ones marked."""

    action: Action
    edge: str
    rule: str
    priority: int
    queue: str
    skill: str
    message: Mapping[str, str]
    deadline_s: int | None
    on_timeout: str
    fired: tuple[str, ...]
    says: str


def compile_policy(content: Mapping[str, Any]) -> EdgePolicy:
    """Rules from their JSON, in deciding order. :raises PolicyError: with what is wrong, in plain words."""
    if not isinstance(content, Mapping) or not isinstance(content.get("rules"), list):
        raise PolicyError("rules is a list.")
    rules = [_rule(entry) for entry in content["rules"]]
    edges = [rule.edge for rule in rules]
    if twice := {edge for edge in edges if edges.count(edge) > 1 and edge not in ("guardrail_in", "ambiguous")}:
        raise PolicyError(f"the edge {min(twice)} has two rules.")
    fallback = next((rule for rule in rules if rule.edge == "nothing_matches"), _rule(FALLBACK))
    if fallback.action != "escalate":
        raise PolicyError("nothing_matches always escalates.")
    ordered = sorted((rule for rule in rules if rule.edge != "nothing_matches"), key=lambda rule: (_rank(rule.edge), -CAUTION[rule.action]))
    return EdgePolicy(int(content.get("version", 0)), tuple(ordered), fallback)


def judge(policy: EdgePolicy, facts: Facts) -> Verdict:
    """The verdict of the first rule that fires; without one, an answer only where everything that it needs is known and good."""
    fired = [rule for rule in policy.rules if rule.mode != "off" and rule.fires(facts)]
    names = tuple(f"{rule.edge} (log only)" if rule.mode == "log_only" else rule.edge for rule in fired)
    deciding = next((rule for rule in fired if rule.mode == "on"), None)
    if deciding is None:
        deciding = ANSWER if _sound(facts) else policy.fallback
    return Verdict(
        action=deciding.action,
        edge=deciding.edge,
        rule=f"edge:{deciding.edge}@{policy.version}",
        priority=1 if facts.anger and deciding.priority > 1 else deciding.priority,
        queue=deciding.queue,
        skill=deciding.skill,
        message=deciding.message,
        deadline_s=deciding.deadline_s,
        on_timeout=deciding.on_timeout,
        fired=names,
        says=deciding.says,
    )


def explain(verdict: Verdict, facts: Facts) -> str:
    """Why a person is asked, in one plain sentence with the figures that decided."""
    figures = {
        "confidence": "unknown" if facts.confidence is None else f"{facts.confidence:.0%}",
        "language": facts.language,
        "families": ", ".join(sorted(facts.findings_families_in | facts.findings_families_out)).replace("_", " ") or "none",
        "contacts": facts.contact_count,
        "integration": facts.integration,
    }
    return verdict.says.format(**figures)


def _sound(facts: Facts) -> bool:
    """What an answer without any rule against it must have: fail closed on everything else."""
    return (
        facts.answerable is True
        and facts.confidence is not None
        and facts.covered
        and facts.screening_in in ("allow", "redact")
        and facts.screening_out in ("allow", "redact")
        and facts.budget_state != "spent"
        and facts.integration == "ok"
        and not facts.paused
        and (facts.stage in ("shadow", "narrow", "expanded") or facts.tester)
    )


def _rank(edge: str) -> int:
    return ORDER.index(edge) if edge in ORDER else ORDER.index("low_confidence")


def _holds(seen: Any, conditions: Mapping[str, Any]) -> bool:
    return seen is None or all(OPERATORS[op](seen, wanted) for op, wanted in conditions.items())


def _rule(entry: Any) -> Rule:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("edge"), str):
        raise PolicyError("every rule names its edge.")
    edge = entry["edge"]
    when = {fact: _conditions(edge, fact, wanted) for fact, wanted in entry.get("when", {}).items()}
    rule = Rule(
        edge=edge,
        when=when,
        action=entry.get("action", "escalate"),
        mode=entry.get("mode", "on"),
        queue=str(entry.get("queue", "default")),
        skill=str(entry.get("skill", "")),
        priority=int(entry.get("priority", 3)),
        message=dict(entry.get("message", {})),
        deadline_s=entry.get("deadline_s"),
        on_timeout=entry.get("on_timeout", "keep_waiting"),
        says=str(entry.get("says", f"The rule {edge} fired.")),
    )
    if rule.action not in CAUTION:
        raise PolicyError(f"{edge}: there is no action {rule.action}.")
    if rule.mode not in MODES:
        raise PolicyError(f"{edge}: mode is on, log_only or off.")
    if not 1 <= rule.priority <= 4:
        raise PolicyError(f"{edge}: priority is a number from 1 to 4.")
    if rule.on_timeout not in ("keep_waiting", "holding_message", "safe_refusal"):
        raise PolicyError(f"{edge}: there is no on_timeout {rule.on_timeout}.")
    if rule.action in ("clarify", "refuse") and edge != "guardrail_in" and not rule.message.get("en"):
        raise PolicyError(f"{edge}: {rule.action} needs a message to the customer, in English at least.")
    return rule


def _conditions(edge: str, fact: str, wanted: Any) -> Mapping[str, Any]:
    if fact not in FACTS:
        raise PolicyError(f"{edge}: there is no fact {fact}.")
    conditions = wanted if isinstance(wanted, Mapping) else {"eq": wanted}
    if unknown := [op for op in conditions if op not in OPERATORS]:
        raise PolicyError(f"{edge}: there is no comparison {unknown[0]}.")
    return conditions


FALLBACK: Mapping[str, Any] = {
    "edge": "nothing_matches",
    "action": "escalate",
    "says": "No rule covers this situation, so a person decides.",
    "message": {
        "en": "I am passing your question to a colleague, who will answer you here.",
        "pl": "Przekazuję pytanie koleżance lub koledze z zespołu. Odpowiedź pojawi się tutaj.",
        "de": "Ich gebe Ihre Frage an eine Kollegin oder einen Kollegen weiter. Die Antwort kommt hier.",
    },
}
ANSWER = Rule("answer", {}, "answer", "on", "", "", 4, {}, None, "keep_waiting", "")
