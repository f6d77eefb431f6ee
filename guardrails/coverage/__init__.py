"""The coverage matrix: for every attack family and every language with a pack, is there proof that it is caught?

A pure function of the packs. An empty cell fails the build; the console and releases read the same cells.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from guardrails.concepts import Pack
from guardrails.found import Found
from guardrails.languages import detect
from guardrails.lexicon import Lexicon, lexicon_of
from guardrails.marks import marks
from guardrails.normalise import plain
from guardrails.rules import Rule, concept_rules, matches
from guardrails.screen import DEFAULT_POLICY, compile_policy, inbound, passage

# The families whose rules are made of words; the others recognise forms that no language changes.
STAGES: Final[Mapping[str, str]] = {
    "instruction_override": "inbound",
    "persona_jailbreak": "inbound",
    "refusal_suppression": "inbound",
    "prompt_extraction": "inbound",
    "privilege_claim": "inbound",
    "data_extraction": "inbound",
    "encoding_smuggling": "inbound",
    "payload_splitting": "inbound",
    "language_evasion": "inbound",
    "exfiltration_channel": "inbound",
    "tool_hijack": "passage",
}
PROBES_LEAST = 10
NEGATIVES_LEAST = 10


@dataclass(frozen=True, slots=True)
class Cell:
    """One family in one language; `gaps` are plain sentences, none when it is covered."""

    family: str
    language: str
    probes: int
    gaps: tuple[str, ...]

    @property
    def covered(self) -> bool:
        return not self.gaps


@dataclass(frozen=True, slots=True)
class Column:
    """One language: its cells, and what the language as a whole lacks."""

    language: str
    name: str
    cells: tuple[Cell, ...]
    gaps: tuple[str, ...]

    @property
    def covered(self) -> bool:
        return not self.gaps and all(cell.covered for cell in self.cells)


def matrix(packs: Mapping[str, Pack]) -> tuple[Column, ...]:
    return tuple(column(pack) for pack in packs.values())


def column(pack: Pack) -> Column:
    alone = lexicon_of([pack])
    cells = tuple(_cell(family, stage, pack, alone) for family, stage in STAGES.items())
    return Column(pack.code, pack.name, cells, tuple(_gaps_of_language(pack)))


def cell(pack: Pack, family: str) -> Cell:
    return _cell(family, STAGES[family], pack, lexicon_of([pack]))


def concepts_of(family: str) -> frozenset[str]:
    """The concepts that the family's rules cannot do without, marks left out."""
    terms = [term for rule in _rules(family) for term in rule.terms]
    return frozenset(concept for term in terms for concept in term if not concept.startswith("#"))


def _rules(family: str) -> tuple[Rule, ...]:
    return tuple(rule for rule in concept_rules() if rule.family == family and not rule.grey)


def caught(text: str, family: str, stage: str, lexicon: Lexicon) -> bool:
    """Whether the words of this lexicon alone make one of the family's rules act."""
    view = plain(text)
    words = Found(lexicon.scan(view.text), marks(text), text)
    return any(rule.family == family and not rule.grey for rule, _ in matches(words, stage))


def _cell(family: str, stage: str, pack: Pack, alone: Lexicon) -> Cell:
    probes = pack.probes.get(family, ())
    gaps = [f"no words for {concept}" for concept in sorted(concepts_of(family)) if not pack.words.get(concept)]
    if len(probes) < PROBES_LEAST:
        gaps.append(f"{len(probes)} of {PROBES_LEAST} probes")
    gaps += [f"missed: {probe}" for probe in probes if not caught(probe, family, stage, alone)]
    negatives = pack.hard_negatives.get(family, ())
    if len(negatives) < NEGATIVES_LEAST:
        gaps.append(f"{len(negatives)} of {NEGATIVES_LEAST} hard negatives")
    gaps += _blocked_though_harmless(negatives, stage)
    return Cell(family, pack.code, len(probes), tuple(gaps))


def _blocked_though_harmless(texts: tuple[str, ...], stage: str) -> Iterator[str]:
    policy = compile_policy(DEFAULT_POLICY)
    for text in texts:
        screening = inbound(text, policy) if stage == "inbound" else passage(text, policy)
        if screening.action != "allow":
            yield f"harmless, yet {screening.action} by {screening.findings[0].rule}: {text}"


def _gaps_of_language(pack: Pack) -> Iterator[str]:
    if not pack.refusal.strip():
        yield "no refusal text"
    if not pack.common:
        yield "no common words"
    for text in (pack.refusal, *(text for texts in pack.hard_negatives.values() for text in texts)):
        if not detect(text).covered:
            yield f"taken for another language: {text}"
