"""What the concepts of a stretch weigh together, where they are none of the rules' combinations.

The weights (`weights.json`, made by `bench/weigh.py`) are of concepts and of pairs of them, never of words, so what was
learned from one language holds in all. A sum of 0 is as likely an attack as not, among the texts it was made from.
"""

import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from guardrails.lexicon import Hit, Lexicon, bit

WEIGHTS = Path(__file__).with_name("weights.json")
STRETCH, STEP = 200, 100  # letters
SURE, DOUBTFUL = 1.0, 0.0
LEAST = 4  # concepts: fewer hardly ever weigh enough, and most messages have no more


class Weighed(NamedTuple):
    """A stretch of a view, and the sum of its weights."""

    weight: float
    start: int
    end: int


class _Weight(NamedTuple):
    """A concept's own, and what it weighs beside others, by their bits."""

    alone: float
    beside: tuple[tuple[int, float], ...]


@cache
def _weights() -> tuple[float, dict[int, _Weight]]:
    """The bias, and each concept's by its bit."""
    content = json.loads(WEIGHTS.read_text())
    alone: dict[str, float] = content["concepts"]
    beside: dict[str, list[tuple[int, float]]] = {}
    for pair, weight in content["pairs"].items():
        one, other = pair.split(" ")
        beside.setdefault(one, []).append((bit(other), weight))
    names = alone.keys() | beside.keys()
    return content["bias"], {bit(name): _Weight(alone.get(name, 0.0), tuple(beside.get(name, ()))) for name in names}


def weight_of(concepts: int) -> float:
    """The sum for a mask of concepts."""
    total, weights = _weights()
    left = concepts
    while left:
        one = left & -left
        left ^= one
        if weight := weights.get(one):
            total += weight.alone
            for other, more in weight.beside:
                if concepts & other:
                    total += more
    return total


def heaviest(hits: Iterable[Hit], lexicon: Lexicon, language: str, length: int) -> Weighed:
    """The heaviest stretch of a view of that many letters, by the words of the language, English ones and marks."""
    return max(
        Weighed(weight_of(concepts), at, min(at + STRETCH, length))
        for at, concepts in stretches(hits, lexicon, language, length)
    )


def stretches(hits: Iterable[Hit], lexicon: Lexicon, language: str, length: int) -> Iterator[tuple[int, int]]:
    """Where each stretch begins, and the mask of its concepts; the last one reaches the end."""
    spoken = lexicon.bit_of("en") | lexicon.bit_of(language)
    last = max(0, -(-(length - STRETCH) // STEP))
    masks = [0] * (last + 1)
    for hit in hits:
        if hit.languages & spoken and not hit.concept.startswith("@"):
            concept = bit(hit.concept)
            for at in range(max(0, (hit.start - STRETCH) // STEP + 1), min(last, (hit.end - 1) // STEP) + 1):
                masks[at] |= concept
    return ((at * STEP, mask) for at, mask in enumerate(masks))
