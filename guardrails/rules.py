"""Rules over concepts: what `rules.yaml` says, and whether hits satisfy it."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from guardrails.concepts import Hit

Action = Literal["allow", "redact", "escalate", "block"]
Severity = Literal["info", "low", "medium", "high", "critical"]
Stage = Literal["inbound", "outbound", "passage", "tool"]
ACTIONS: tuple[Action, ...] = ("allow", "redact", "escalate", "block")  # the worse, the later
_TRIED = 4  # candidates for each term, so that no text can make a rule search for long
RULES = Path(__file__).with_name("rules.yaml")


@dataclass(frozen=True, slots=True)
class Rule:
    id: str
    version: int
    family: str
    severity: Severity
    stages: Mapping[str, Action]
    terms: tuple[frozenset[str], ...] = ()
    unless: frozenset[str] = frozenset()
    window: int = 0

    def match(self, found: Mapping[str, Sequence[Hit]]) -> tuple[int, int] | None:
        """The span, in the view, of the first place where every term is near the anchor."""
        for anchor in _hits(found, self.terms[0]):
            if places := self._place([anchor], found):
                start, end = min(hit.start for hit in places), max(hit.end for hit in places)
                if not self._excepted(found, start, end, places):
                    return start, end
        return None

    def _place(self, places: list[Hit], found: Mapping[str, Sequence[Hit]]) -> list[Hit] | None:
        """The places with one more for each term that is left, none on top of another; nearest first."""
        if len(places) == len(self.terms):
            return places
        anchor, window = places[0], self.window
        near = [
            hit
            for hit in _hits(found, self.terms[len(places)])
            if hit.start - window < anchor.end
            and anchor.start < hit.end + window
            and not any(hit.start < other.end - 1 and other.start < hit.end - 1 for other in places)
        ]
        for hit in sorted(near, key=lambda hit: abs(hit.start - anchor.start))[:_TRIED]:
            if whole := self._place([*places, hit], found):
                return whole
        return None

    def _excepted(self, found: Mapping[str, Sequence[Hit]], start: int, end: int, places: Sequence[Hit]) -> bool:
        if not self.unless:
            return False
        spoken = frozenset().union(*(hit.languages for hit in places))
        return any(
            hit.start < end - 1 and start < hit.end - 1 and hit.languages & spoken for hit in _hits(found, self.unless)
        )


def _hits(found: Mapping[str, Sequence[Hit]], term: frozenset[str]) -> Iterable[Hit]:
    for concept in term:
        yield from found.get(concept, ())


def _rule(entry: Mapping[str, Any]) -> Rule:
    return Rule(
        id=entry["id"],
        version=entry["version"],
        family=entry["family"],
        severity=entry["severity"],
        stages=dict(entry["stages"]),
        terms=tuple(frozenset(term.split("|")) for term in entry["all"]),
        unless=frozenset(entry.get("unless", ())),
        window=entry["window"],
    )


@cache
def concept_rules() -> tuple[Rule, ...]:
    return tuple(_rule(entry) for entry in yaml.safe_load(RULES.read_bytes()))


def _detector(id: str, family: str, severity: Severity, **stages: Action) -> Rule:  # noqa: A002
    return Rule(id, 1, family, severity, stages)


# What detectors and the language gate report; the names of their kinds are the rules' names.
DETECTOR_RULES: tuple[Rule, ...] = (
    _detector("hidden-characters", "encoding_smuggling", "high", inbound="block", passage="block"),
    _detector("encoded-attack", "encoding_smuggling", "high", inbound="block", passage="block"),
    _detector("oversize", "oversize", "medium", inbound="escalate", passage="block", outbound="escalate"),
    _detector("uncovered-language", "uncovered_language", "medium", inbound="escalate", passage="escalate"),
    _detector("secret", "secrets_in", "high", inbound="redact", passage="redact"),
    _detector("card", "personal_data_in", "high", inbound="redact", passage="redact"),
    _detector("iban", "personal_data_in", "high", inbound="redact", passage="redact"),
    _detector("national-number", "personal_data_in", "medium", inbound="allow", passage="allow"),
    _detector("email", "personal_data_in", "info", inbound="allow", passage="allow"),
    _detector("phone", "personal_data_in", "info", inbound="allow", passage="allow"),
    _detector("secret-out", "secrets_out", "critical", outbound="redact"),
    _detector("card-out", "personal_data_out", "high", outbound="redact"),
    _detector("iban-out", "personal_data_out", "high", outbound="redact"),
    _detector("national-number-out", "personal_data_out", "high", outbound="redact"),
    _detector("email-out", "personal_data_out", "medium", outbound="redact"),
    _detector("phone-out", "personal_data_out", "medium", outbound="redact"),
    _detector("canary", "canary", "critical", outbound="block"),
    _detector("prompt-leak", "prompt_leak", "critical", outbound="block"),
    _detector("unsafe-link", "unsafe_link", "high", outbound="redact"),
)


@cache
def rules() -> Mapping[str, Rule]:
    return {rule.id: rule for rule in (*concept_rules(), *DETECTOR_RULES)}


@cache
def families() -> frozenset[str]:
    return frozenset(rule.family for rule in rules().values())


@cache
def rules_for(stage: str) -> tuple[Rule, ...]:
    return tuple(rule for rule in concept_rules() if stage in rule.stages)


def matches(hits: Iterable[Hit], marks: Iterable[Hit], stage: str) -> Iterator[tuple[Rule, tuple[int, int]]]:
    """The stage's rules that these hits satisfy, each with its first place in the view."""
    found: dict[str, list[Hit]] = {}
    for hit in (*hits, *marks):
        found.setdefault(hit.concept, []).append(hit)
    for rule in rules_for(stage):
        if all(not term.isdisjoint(found) for term in rule.terms) and (place := rule.match(found)):
            yield rule, place


@cache
def digest() -> str:
    return hashlib.sha256(RULES.read_bytes() + repr(DETECTOR_RULES).encode()).hexdigest()
