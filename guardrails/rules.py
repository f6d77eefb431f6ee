"""Rules over concepts: what `rules.yaml` says, and whether hits satisfy it."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import yaml

from guardrails.compiling import LOAN
from guardrails.found import Found
from guardrails.lexicon import ANY_LANGUAGE, Hit, mask
from guardrails.weighing import FILES

Action = Literal["allow", "redact", "escalate", "block"]
Severity = Literal["info", "low", "medium", "high", "critical"]
Stage = Literal["inbound", "outbound", "passage", "tool"]
ACTIONS: tuple[Action, ...] = ("allow", "redact", "escalate", "block")  # the worse, the later
_TRIED = 4  # candidates for each term, so that no text can make a rule search for long
_LEAST_EFFORT, _EFFORT = 20_000, 2  # for every text, and for each character of a long one
_CHEAP = 8  # as many hits are found, or a place is judged, in the time in which one is put in order
_IN_DOCUMENTS = 0.7
_BEFORE = 45  # characters in which a sentence says who it speaks of
_STRONG = 6  # letters and edges of a word that is hardly another language's by chance
RULES = Path(__file__).with_name("rules.yaml")


@dataclass(frozen=True, slots=True)
class Rule:
    """`terms`: concepts that must all be there, the first within `window` characters of each other one.

    `grey`: alone it says too little; a policy with a judge asks it.
    """

    id: str
    version: int
    family: str
    severity: Severity
    stages: Mapping[str, Action]
    terms: tuple[frozenset[str], ...] = ()
    unless: frozenset[str] = frozenset()
    unless_before: frozenset[str] = frozenset()
    unless_told: frozenset[str] = frozenset()
    window: int = 0
    around: int = 0
    backs: str = ""
    grey: bool = False
    masks: tuple[int, ...] = ()

    @property
    def concepts(self) -> frozenset[str]:
        """Every one that it asks for or makes an exception of."""
        return frozenset().union(*self.terms, self.unless, self.unless_before, self.unless_told)

    def action(self, stage: Stage | str) -> Action:
        """The default on a stage: what holds for documents holds for what tools say, where nothing else is said."""
        return self.stages.get(stage) or (self.stages.get("passage", "allow") if stage == "tool" else "allow")

    def reach(self, stage: str) -> int:
        """How far apart the words may be: less in documents, which are long, but for what is only said in them."""
        return (
            round(self.window * _IN_DOCUMENTS) if stage == "passage" and self.family != "tool_hijack" else self.window
        )

    def match(self, found: Found, window: int, effort: "Effort") -> tuple[int, int] | None:
        """The span, in the view, of the first place where every term is near the anchor, all in one language or two."""
        for anchor in found.of(self.terms[0])[0]:
            near = self._near(anchor, window, found, effort)
            if all(near) and not (self.unless_told and found.tells(self.unless_told, anchor)):
                search = _Search(near, [_TRIED ** len(self.terms)])
                if place := self._place([anchor], anchor.languages, found, search, effort):
                    return place
            if effort.left <= 0:
                break
        return None

    def _near(self, anchor: Hit, window: int, found: Found, effort: "Effort") -> list[list[Hit]]:
        """What is near the anchor for each other term, as far as there is something."""
        effort.left -= 1
        near = []
        for term in self.terms[1:]:
            near.append(found.near(term, anchor.start - window, anchor.end + window))
            effort.left -= len(near[-1]) // _CHEAP
            if not near[-1]:
                break
        return near

    def _place(
        self, places: list[Hit], shared: int, found: Found, search: "_Search", effort: "Effort"
    ) -> tuple[int, int] | None:
        """The span once there is a place for each term that is left, none on top of another; nearest first."""
        if len(places) == len(self.terms):
            effort.left -= _CHEAP
            return self._whole(places, shared, found)
        ordered = search.ordered(places, shared, effort)
        effort.left -= len(ordered) // _CHEAP
        free = (hit for hit in ordered if _goes_with(hit, places, shared, found.english))
        for hit in islice(free, _TRIED):
            if search.left[0] <= 0 or effort.left <= 0:
                break
            search.left[0] -= 1
            effort.left -= 2
            if whole := self._place([*places, hit], shared & hit.languages, found, search, effort):
                return whole
        return None

    def _whole(self, places: Sequence[Hit], shared: int, found: Found) -> tuple[int, int] | None:
        start, end = min(hit.start for hit in places), max(hit.end for hit in places)
        spoken_here = found.is_spoken(shared, start, end) if shared else _with_english(places, found.english)
        if not spoken_here:
            return None
        spoken = 0
        for hit in places:
            spoken |= hit.languages
        if self._excepted(found, start, end, shared, spoken) or self._refuted(found, start, end):
            return None
        return start, end

    def _refuted(self, found: Found, start: int, end: int) -> bool:
        """Whether words say that what it combined is no attack. A form (a fake delimiter) needs no words."""
        if self.grey or all(concept.startswith("#") for term in self.terms for concept in term):
            return False
        return found.refutes(start, end)

    def _excepted(self, found: Found, start: int, end: int, shared: int, spoken: int) -> bool:
        """Whether an exception is among the words: one of their language, or a strong one of a language of theirs."""
        near = [*found.near(self.unless, start - self.around, end + self.around)] if self.unless else []
        near = [hit for hit in near if _overlap(hit, start - self.around, end + self.around)]
        if self.unless_before:
            before = found.near(self.unless_before, start - _BEFORE, end)
            near += [hit for hit in before if _overlap(hit, start, end) or found.leads_to(hit, start)]
        return any(hit.languages & (spoken if hit.end - hit.start >= _STRONG else shared) for hit in near)


@dataclass(slots=True)
class Effort:
    """How much may still be looked at in one screening, in words found and put in order; the rest was not screened."""

    left: int

    @classmethod
    def on(cls, text: str) -> "Effort":
        return cls(max(_LEAST_EFFORT, _EFFORT * len(text)))


@dataclass(slots=True)
class _Search:
    """What is near one anchor for each other term, and how many places may still be tried."""

    near: list[list[Hit]]
    left: list[int]
    orders: dict[tuple[int, int], list[Hit]] = field(default_factory=dict)

    def ordered(self, places: Sequence[Hit], shared: int, effort: Effort) -> list[Hit]:
        """The next term's hits, the nearest first, but before all others those in a language that the places share."""
        spoken, at = shared & ~LOAN, places[0].start
        if (kept := self.orders.get((len(places), spoken))) is None:
            near = self.near[len(places) - 1]
            effort.left -= len(near)
            kept = sorted(near, key=lambda hit: (not hit.languages & spoken, abs(hit.start - at)))
            self.orders[len(places), spoken] = kept
        return kept


def _overlap(hit: Hit, start: int, end: int) -> bool:
    """Whether they share a letter; sharing a word's edge is being neighbours."""
    return hit.start < end - 1 and start < hit.end - 1


def _goes_with(hit: Hit, places: Sequence[Hit], shared: int, english: int) -> bool:
    """Whether the word is none of those, and of a language of all of them, or one that may be mixed with theirs."""
    if any(_overlap(hit, other.start, other.end) for other in places):
        return False
    return bool(hit.languages & shared) or bool(_beside_english((*places, hit), english))


def _with_english(places: Sequence[Hit], english: int) -> bool:
    """Whether English, which people mix into every language, and one other have the words, none of them by chance."""
    other = _beside_english(places, english)
    return bool(other) and not other & LOAN and len(places) > 1


def _beside_english(places: Iterable[Hit], english: int) -> int:
    """The languages that have all words that English has not; none where one is so short that it may be by chance."""
    rest = ANY_LANGUAGE
    for hit in places:
        if hit.end - hit.start < _STRONG:
            return 0
        if not hit.languages & english:
            rest &= hit.languages
    return rest


def _rule(entry: Mapping[str, Any]) -> Rule:
    terms = tuple(frozenset(term.split("|")) for term in entry["all"])
    return Rule(
        id=entry["id"],
        version=entry["version"],
        family=entry["family"],
        severity=entry["severity"],
        stages=dict(entry["stages"]),
        terms=terms,
        masks=tuple(mask(term) for term in terms),
        unless=frozenset(entry.get("unless", ())),
        unless_before=frozenset(entry.get("unless_before", ())),
        unless_told=frozenset(entry.get("unless_told", ())),
        window=entry["window"],
        around=entry.get("around", 0),
        backs=entry.get("backs", ""),
        grey=entry.get("grey", False),
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
    _detector("out-of-scope", "out_of_scope", "medium", outbound="escalate"),
    _detector("ungrounded", "ungrounded", "medium", outbound="escalate"),
    _detector("words-together", "instruction_override", "medium", inbound="block", passage="block"),
    Rule("words-together-grey", 1, "instruction_override", "low", {"inbound": "allow", "passage": "allow"}, grey=True),
    _detector("judged-attack", "judged", "high", inbound="block", passage="block"),
    _detector("judge-failed", "judge_failed", "medium", inbound="escalate", passage="escalate"),
)


@cache
def rules() -> Mapping[str, Rule]:
    return {rule.id: rule for rule in (*concept_rules(), *DETECTOR_RULES)}


@cache
def families() -> frozenset[str]:
    return frozenset(rule.family for rule in rules().values())


@cache
def rules_for(stage: str, *, grey: bool = True) -> tuple[Rule, ...]:
    """The stage's rules, those of the grey zone with them or not."""
    stages = {"passage", "tool"} if stage == "tool" else {stage}
    return tuple(rule for rule in concept_rules() if not stages.isdisjoint(rule.stages) and (grey or not rule.grey))


def matches(
    found: Found, stage: str, *, grey: bool = True, effort: Effort | None = None
) -> Iterator[tuple[Rule, tuple[int, int]]]:
    """The stage's rules that these hits satisfy, each with its first place in the view; none once effort is spent."""
    present = found.present
    effort = effort or Effort.on("")
    for rule in rules_for(stage, grey=grey):
        for term in rule.masks:
            if not present & term:
                break
        else:
            if effort.left > 0 and (place := rule.match(found, rule.reach(stage), effort)):
                yield rule, place


@cache
def digest() -> str:
    content = hashlib.sha256(repr(DETECTOR_RULES).encode())
    for path in (RULES, *FILES):
        content.update(path.read_bytes())
    return content.hexdigest()
