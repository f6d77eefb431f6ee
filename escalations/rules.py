"""Edge rules as data: the facts they may ask about, and a policy compiled from its JSON. Pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any, Final, Literal

Action = Literal["answer", "clarify", "escalate", "refuse"]
CAUTION: Final = {"clarify": 1, "refuse": 2, "escalate": 3}
MODES: Final = ("on", "log_only", "off")
ON_TIMEOUT: Final = ("keep_waiting", "holding_message", "safe_refusal")
FALLBACK: Final = "nothing_matches"
# Legal or safety → asked for a person → guardrail → budget or loop → irreversible action → integration → identity or
# privacy → out of scope → knowledge → ambiguity → confidence → SLA → sampling. Other names rank with confidence.
ORDER: Final = (
    "legal", "asked_for_person", "paused", "pilot", "guardrail_in", "uncovered_language", "guardrail_out",
    "budget_spent", "budget_low", "loop", "irreversible_action", "integration", "identity", "out_of_scope", "no_answer",
    "ambiguous", "returned_twice", "anger", "repeated_contact", "low_confidence", "sla", "sample",
)  # fmt: skip
PLACEHOLDERS: Final = frozenset({"confidence", "language", "families", "contacts", "integration"})
NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,59}")
MOST_RULES = 200
LONGEST_DEADLINE_S = 30 * 86_400


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


SCREENINGS = frozenset({"allow", "redact", "block", "escalate"})
CHOICES: Final[Mapping[str, frozenset[str]]] = {
    "stage": frozenset({"pilot", "shadow", "narrow", "expanded"}),
    "screening_in": SCREENINGS,
    "screening_out": SCREENINGS,
    "budget_state": frozenset({"ok", "low", "spent"}),
    "integration": frozenset({"ok", "down", "timeout"}),
    "risk": frozenset({"information", "account", "money", "irreversible"}),
}
WORDS: Final = frozenset({"language"})
SETS: Final = frozenset({"findings_families_in", "findings_families_out", "choices"})
NUMBERS: Final = frozenset(
    {
        "support",
        "top_score",
        "margin",
        "confidence",
        "clarified_count",
        "returned_count",
        "contact_count",
        "sla_fraction",
    }
)
FLAGS: Final = frozenset(
    {
        "tester", "paused", "covered", "asked_for_person", "legal", "anger", "identity_missing", "out_of_scope",
        "answerable", "ambiguous", "loop", "sampled",
    }
)  # fmt: skip
COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
    "in": lambda seen, wanted: seen in wanted,
    "has": operator.contains,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One named situation. `when`: {fact: {comparison: value}}, all of which must hold."""

    edge: str
    when: Mapping[str, Mapping[str, Any]]
    action: Action
    mode: str = "on"
    queue: str = "default"
    skill: str = ""
    priority: int = 3
    message: Mapping[str, str] | None = None
    deadline_s: int | None = None
    on_timeout: str = "keep_waiting"
    says: str = ""

    def fires(self, facts: Facts) -> bool:
        """All conditions hold. What is not known counts towards asking a person, and towards nothing else."""
        in_doubt = self.action == "escalate"
        for fact, tests in self.when.items():
            seen = getattr(facts, fact)
            if not (
                in_doubt if seen is None else all(COMPARISONS[name](seen, wanted) for name, wanted in tests.items())
            ):
                return False
        return not (self.offers_choices and not facts.choices)

    @property
    def offers_choices(self) -> bool:
        return any("{choices}" in text for text in (self.message or {}).values())


@dataclass(frozen=True, slots=True)
class EdgePolicy:
    """A compiled policy: rules in the order in which they decide. Below the confidence `floor` nothing is answered."""

    version: int
    rules: tuple[Rule, ...]
    fallback: Rule
    floor: float
    most_clarifying: int


def compile_policy(content: Mapping[str, Any]) -> EdgePolicy:
    """Rules from their JSON, in deciding order; among rules of one rank the more cautious first.

    :raises PolicyError: what is wrong, in plain words.
    """
    entries = content.get("rules") if isinstance(content, Mapping) else None
    if not isinstance(entries, list) or len(entries) > MOST_RULES:
        raise PolicyError(f"rules is a list of at most {MOST_RULES}.")
    thresholds = _thresholds(content.get("thresholds", {}))
    rules = [_rule(entry, thresholds) for entry in entries]
    fallbacks = [rule for rule in rules if rule.edge == FALLBACK]
    if len(fallbacks) > 1 or any(rule.action != "escalate" or rule.mode != "on" or rule.when for rule in fallbacks):
        raise PolicyError(f"{FALLBACK} is one rule without conditions, and it escalates.")
    ordered = sorted(
        (rule for rule in rules if rule.edge != FALLBACK), key=lambda rule: (_rank(rule.edge), -CAUTION[rule.action])
    )
    return EdgePolicy(
        version=_whole("version", content.get("version", 0), 0, 2**31),
        rules=tuple(ordered),
        fallback=fallbacks[0] if fallbacks else DEFAULT_FALLBACK,
        floor=thresholds.get("confidence", _floor_of(ordered)),
        most_clarifying=_whole("most_clarifying", content.get("most_clarifying", 1), 0, 3),
    )


def _floor_of(rules: list[Rule]) -> float:
    """What a policy without a threshold asks of confidence in its rules; one that asks nothing never answers."""
    bounds = [
        rule.when["confidence"].get("lt") for rule in rules if rule.mode == "on" and set(rule.when) == {"confidence"}
    ]
    return max((float(bound) for bound in bounds if bound is not None), default=float("inf"))


def _thresholds(given: Any) -> Mapping[str, float]:
    if not isinstance(given, Mapping) or not all(_is_number(value) for value in given.values()):
        raise PolicyError("thresholds gives names to numbers.")
    if not 0 <= given.get("confidence", 0) <= 1:
        raise PolicyError("the threshold confidence is a number from 0 to 1.")
    return dict(given)


def _rule(entry: Any, thresholds: Mapping[str, float]) -> Rule:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("edge"), str) or not NAME.fullmatch(entry["edge"]):
        raise PolicyError("every rule names its edge: small letters, digits and underscores.")
    edge, when, action = entry["edge"], entry.get("when", {}), entry.get("action", "escalate")
    if action not in tuple(CAUTION):
        raise PolicyError(f"{edge}: a rule clarifies, escalates or refuses; an answer is what remains without one.")
    if not isinstance(when, Mapping):
        raise PolicyError(f"{edge}: when is a table of facts.")
    rule = Rule(
        edge=edge,
        when={fact: _tests(edge, fact, wanted, thresholds) for fact, wanted in when.items()},
        action=action,
        mode=_one_of(edge, "mode", entry.get("mode", "on"), MODES),
        queue=_text(edge, "queue", entry.get("queue", "default"), 50),
        skill=_text(edge, "skill", entry.get("skill", ""), 50),
        priority=_whole(f"{edge}: priority", entry.get("priority", 3), 1, 4),
        message=_message(edge, entry.get("message", {})),
        deadline_s=None
        if entry.get("deadline_s") is None
        else _whole(f"{edge}: deadline_s", entry["deadline_s"], 1, LONGEST_DEADLINE_S),
        on_timeout=_one_of(edge, "on_timeout", entry.get("on_timeout", "keep_waiting"), ON_TIMEOUT),
        says=_sentence(edge, entry.get("says", f"The rule {edge} fired.")),
    )
    if not rule.when and edge != FALLBACK:
        raise PolicyError(f"{edge}: a rule without conditions would always decide.")
    if rule.action != "escalate" and edge != "guardrail_in" and not (rule.message or {}).get("en"):
        raise PolicyError(f"{edge}: {rule.action} needs a message to the customer, in English at least.")
    return rule


def _tests(edge: str, fact: str, wanted: Any, thresholds: Mapping[str, float]) -> Mapping[str, Any]:
    tests = wanted if isinstance(wanted, Mapping) else {"eq": wanted}
    if not tests:
        raise PolicyError(f"{edge}: {fact} is compared with nothing.")
    return {name: _wanted(edge, fact, name, value, thresholds) for name, value in tests.items()}


def _wanted(edge: str, fact: str, name: str, value: Any, thresholds: Mapping[str, float]) -> Any:
    """The value, when this fact can be compared with it in this way; the name of a threshold becomes its number."""
    if fact in NUMBERS:
        value = thresholds.get(value, value) if isinstance(value, str) else value
        fits = name in ("eq", "ne", "lt", "lte", "gt", "gte") and _is_number(value)
    elif fact in FLAGS:
        fits = name in ("eq", "ne") and isinstance(value, bool)
    elif fact in SETS:
        fits = name == "has" and isinstance(value, str)
    elif fact in CHOICES or fact in WORDS:
        values = value if name == "in" and isinstance(value, list) else [value]
        known = all(isinstance(one, str) and (fact in WORDS or one in CHOICES[fact]) for one in values)
        fits = name in ("eq", "ne", "in") and known and isinstance(value, list) == (name == "in")
    else:
        raise PolicyError(f"{edge}: there is no fact {fact}.")
    if not fits:
        raise PolicyError(f"{edge}: {fact} cannot be compared like this: {name} {value}.")
    return value


def _message(edge: str, given: Any) -> Mapping[str, str]:
    if not isinstance(given, Mapping) or not all(
        isinstance(text, str) and len(text) <= 2_000 for text in given.values()
    ):
        raise PolicyError(f"{edge}: message is a table of languages and texts.")
    return dict(given)


def _sentence(edge: str, given: Any) -> str:
    """A sentence with nothing but known placeholders in it, so that explaining a verdict cannot fail."""
    text = _text(edge, "says", given, 500)
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise PolicyError(f"{edge}: says has a brace too many or too few.") from error
    if any(
        name is not None and (name not in PLACEHOLDERS or spec or conversion) for _, name, spec, conversion in parts
    ):
        raise PolicyError(f"{edge}: says may hold {', '.join(sorted(PLACEHOLDERS))} in braces.")
    return text


def _text(edge: str, field: str, given: Any, longest: int) -> str:
    if not isinstance(given, str) or len(given) > longest or "\x00" in given:
        raise PolicyError(f"{edge}: {field} is a text of at most {longest} characters.")
    return given


def _one_of(edge: str, field: str, given: Any, known: tuple[str, ...]) -> str:
    if given not in known:
        raise PolicyError(f"{edge}: {field} is one of {', '.join(known)}.")
    return str(given)


def _whole(what: str, given: Any, lowest: int, highest: int) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or not lowest <= given <= highest:
        raise PolicyError(f"{what} is a whole number from {lowest} to {highest}.")
    return given


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12


def _rank(edge: str) -> int:
    return ORDER.index(edge) if edge in ORDER else ORDER.index("low_confidence")


DEFAULT_FALLBACK: Final = Rule(
    edge=FALLBACK,
    when={},
    action="escalate",
    says="No rule covers this situation, so a person decides.",
    message={
        "en": "I am passing your question to a colleague, who will answer you here.",
        "pl": "Przekazuję pytanie koleżance lub koledze z zespołu. Odpowiedź pojawi się tutaj.",
        "de": "Ich gebe Ihre Frage an eine Kollegin oder einen Kollegen weiter. Die Antwort kommt hier.",
    },
)
