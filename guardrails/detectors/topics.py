"""Whether an answer is about what it may be about: like examples of allowed topics, without forbidden phrases."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from guardrails.detectors import Span
from guardrails.normalise import View, fold, plain

_SIZES = (3, 4, 5)
_LEAST_LETTERS = 40  # a shorter answer ("Yes, of course.") belongs to no topic
Vector = dict[str, float]


def _vector(text: str) -> Vector:
    """Weights of the text's character n-grams, of length one."""
    folded = fold(text)
    grams = Counter(folded[at : at + size] for size in _SIZES for at in range(len(folded) - size + 1))
    weights = {gram: 1 + math.log(count) for gram, count in grams.items()}
    length = math.sqrt(sum(weight * weight for weight in weights.values())) or 1.0
    return {gram: weight / length for gram, weight in weights.items()}


@dataclass(frozen=True, slots=True)
class Topics:
    """`least`: how much (a cosine) an answer must have in common with the nearest example of what is allowed."""

    allowed: tuple[Vector, ...]
    forbidden: tuple[tuple[str, str], ...]  # (topic, folded phrase)
    least: float

    @classmethod
    def of(cls, allowed: Mapping[str, Sequence[str]], forbidden: Mapping[str, Sequence[str]], least: float) -> Topics:
        examples = tuple(_vector(text) for texts in allowed.values() for text in texts)
        phrases = tuple((topic, fold(text)) for topic, texts in forbidden.items() for text in texts)
        return cls(examples, phrases, least)

    def outside(self, text: str) -> Iterator[Span]:
        """Where the answer leaves the scope: at a forbidden phrase, or as a whole."""
        view = plain(text)
        yield from self._forbidden(view)
        if self.allowed and sum(map(str.isalpha, text)) >= _LEAST_LETTERS and self.nearness(text) < self.least:
            yield Span("out-of-scope", 0, len(text), "")

    def nearness(self, text: str) -> float:
        """The cosine with the nearest example."""
        vector = _vector(text)
        return max(
            (sum(weight * example.get(gram, 0.0) for gram, weight in vector.items()) for example in self.allowed),
            default=0.0,
        )

    def _forbidden(self, view: View) -> Iterator[Span]:
        for _, phrase in self.forbidden:
            if (at := view.text.find(phrase)) >= 0:
                yield Span("out-of-scope", *view.locate(at, at + len(phrase)), "")
