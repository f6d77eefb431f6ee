"""How sure an answer is: features that every turn logs, and the rules that weigh them until labels teach better
ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import regex

from agents.knowledge.search import Hit
from agents.knowledge.text import content_lemmas
from agents.providers.base import Completion

CITATION = regex.compile(r"\[(\d{1,2})\]")
SUPPORTED = 0.6  # the share of an answer's words that its source carries when it says the same in its own way
NUMBER = regex.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True, slots=True)
class Features:
    """Each 0 to 1 but `answer_chars`. `support`: share of the answer's words that its cited sources carry."""

    top_score: float
    margin: float
    support: float
    citations: float
    numbers_grounded: float
    answer_chars: int
    unsupported: bool

    def as_dict(self) -> dict[str, float | int | bool]:
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


def features(completion: Completion, sources: Sequence[Hit], language: str) -> Features:
    """What the answer and its sources show of themselves."""
    cited = [sources[int(n) - 1] for n in CITATION.findall(completion.text) if 0 < int(n) <= len(sources)]
    plain = CITATION.sub("", completion.text)
    top = sources[0].score if sources else 0.0
    other = next((hit.score for hit in sources if hit.document_sha != sources[0].document_sha), 0.0) if sources else 0.0
    return Features(
        top_score=top,
        margin=max(0.0, top - other),
        support=_support(plain, cited or list(sources[:1]), language),
        citations=1.0 if cited else 0.0,
        numbers_grounded=_numbers_grounded(plain, sources),
        answer_chars=len(plain),
        unsupported=completion.unsupported or not sources,
    )


def confidence(seen: Features) -> float:
    """0 to 1 by fixed weights: what the question finds in the sources counts most, ungrounded numbers cost most.

    A good source vouches only for what it says: an answer in other words than its source's is worth as little as one
    without a source.
    """
    if seen.unsupported:
        return 0.05
    base = 0.60 * min(1.0, seen.top_score / 0.8) + 0.25 * seen.support + 0.15 * seen.citations
    grounded = seen.numbers_grounded * min(1.0, seen.support / SUPPORTED)
    return round(max(0.0, min(1.0, base * grounded)), 4)


def reasons(seen: Features) -> list[str]:
    """The three plain sentences that explain the figure best to a reviewer."""
    said = [
        (seen.unsupported, "No source supports an answer."),
        (seen.numbers_grounded < 1, "A number in the draft stands in no source."),
        (not seen.citations, "The draft cites no source."),
        (seen.top_score < 0.45, "The best source covers only part of the question."),
        (seen.margin < 0.05, "Two sources fit about equally well."),
        (seen.support < 0.7, "Part of the draft is not in the cited source."),
        (seen.top_score >= 0.6, "The best source covers most of the question."),
        (seen.support >= 0.9, "The draft says what its source says."),
    ]
    return [sentence for holds, sentence in said if holds][:3]


def _support(text: str, cited: Sequence[Hit], language: str) -> float:
    words = set(content_lemmas(text, language))
    if not words or not cited:
        return 0.0
    present = {word for hit in cited for word in content_lemmas(f"{hit.title} {hit.heading} {hit.text}", language)}
    return len(words & present) / len(words)


def _numbers_grounded(text: str, sources: Sequence[Hit]) -> float:
    """1.0 when every number of the answer stands in a source, else the share that does."""
    numbers = set(NUMBER.findall(text))
    if not numbers:
        return 1.0
    present = {number for hit in sources for number in NUMBER.findall(f"{hit.title} {hit.text}")}
    return len(numbers & present) / len(numbers)
