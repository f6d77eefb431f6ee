"""Edge rules: the named situations a pilot never shows, each with what to do. Pure: facts in, a verdict out.

Every rule that fires is told; the first in `rules.ORDER` decides, and among rules of one rank the more cautious. When
no rule fires and the facts are those of a good answer, it goes out; when anything is missing, a person is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from escalations.default_edges import DEFAULT_POLICY
from escalations.rules import Action, EdgePolicy, Facts, PolicyError, Rule, compile_policy
from escalations.signals import Signals, signals

__all__ = [
    "DEFAULT_POLICY", "EdgePolicy", "Facts", "PolicyError", "Signals", "Verdict", "compile_policy", "explain", "judge",
    "signals",
]  # fmt: skip

# What an answer without any rule against it must have. Anything else, and anything unknown, goes to a person.
SOUND: Final[Mapping[str, tuple[Any, ...]]] = {
    "answerable": (True,),
    "covered": (True,),
    "screening_in": ("allow", "redact"),
    "screening_out": ("allow", "redact"),
    "integration": ("ok",),
    "budget_state": ("ok", "low"),
    "risk": ("information", "account"),
    "legal": (False,),
    "asked_for_person": (False,),
    "identity_missing": (False,),
    "out_of_scope": (False,),
    "ambiguous": (False,),
    "loop": (False,),
    "paused": (False,),
}
ANSWER: Final = Rule(edge="answer", when={}, action="answer", queue="", priority=4)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, and which rule said so ("edge:low_confidence@7"). `fired`: all that did, log-only ones marked."""

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


def judge(policy: EdgePolicy, facts: Facts) -> Verdict:
    """The verdict of the first rule that fires; without one, an answer only where all it needs is known and good."""
    fired = [rule for rule in policy.rules if rule.mode != "off" and _applies(rule, policy, facts)]
    deciding = next((rule for rule in fired if rule.mode == "on"), None)
    if deciding is None:
        deciding = ANSWER if is_sound(policy, facts) else policy.fallback
    return Verdict(
        action=deciding.action,
        edge=deciding.edge,
        rule=f"edge:{deciding.edge}@{policy.version}",
        priority=1 if facts.anger else deciding.priority,
        queue=deciding.queue,
        skill=deciding.skill,
        message=deciding.message or {},
        deadline_s=deciding.deadline_s,
        on_timeout=deciding.on_timeout,
        fired=tuple(f"{rule.edge} (log only)" if rule.mode == "log_only" else rule.edge for rule in fired),
        says=deciding.says,
    )


def is_sound(policy: EdgePolicy, facts: Facts) -> bool:
    """Whether an answer may go out that no rule objects to."""
    return (
        all(getattr(facts, fact) in good for fact, good in SOUND.items())
        and (facts.stage in ("shadow", "narrow", "expanded") or facts.tester)
        and facts.confidence is not None
        and facts.confidence >= policy.floor
    )


def explain(verdict: Verdict, facts: Facts) -> str:
    """Why a person is asked, in one plain sentence with the figures that decided."""
    figures = {
        "confidence": "unknown" if facts.confidence is None else f"{facts.confidence:.0%}",
        "language": facts.language,
        "families": ", ".join(sorted(facts.findings_families_in | facts.findings_families_out)).replace("_", " ")
        or "none",
        "contacts": facts.contact_count,
        "integration": facts.integration,
    }
    return verdict.says.format(**figures)


def _applies(rule: Rule, policy: EdgePolicy, facts: Facts) -> bool:
    """The rule fires, and does not ask the customer once more than the policy allows."""
    return rule.fires(facts) and (rule.action != "clarify" or facts.clarified_count < policy.most_clarifying)
