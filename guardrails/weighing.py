"""What the concepts of a stretch weigh together, where they are none of the rules' combinations.

The weights (`weights.json`, made by `bench/weigh.py`) are of concepts and of pairs of them, never of words, so what was
learned from one language holds in all. Messages have theirs, and so has what documents and tools bring, in which nobody
should ask an assistant for anything. A sum of 0 is as likely an attack as not, among the texts it was made from.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path
from typing import NamedTuple

from guardrails.lexicon import bit, bits_of, mask, names

WEIGHTS = Path(__file__).with_name("weights.json")
STEP = 100  # letters
STRETCH = 2 * STEP
SURE, DOUBTFUL = 1.0, 0.0
LEAST = 2  # concepts of its language: fewer hardly ever weigh enough, and most messages have no more
Words = tuple[int, int, int]  # start, end, mask of concepts


class Weighed(NamedTuple):
    """The sum of a stretch's weights, where it is in its view, and the mask of its concepts."""

    weight: float
    start: int
    end: int
    concepts: int


class Weights:
    """What each concept weighs, and each pair beside that, by their mask, and what any stretch does."""

    def __init__(self, bias: float, concepts: Mapping[str, float], pairs: Mapping[str, float]) -> None:
        self._bias = bias
        self._of = {bit(concept): weight for concept, weight in concepts.items()}
        self._of.update({mask(pair.split(" ")): weight for pair, weight in pairs.items()})

    def of(self, concepts: int) -> float:
        """The sum for a mask of concepts."""
        total, weights = self._bias, self._of
        ones = bits_of(concepts)
        for one in ones:
            total += weights.get(one, 0.0)
        for one, other in combinations(ones, 2):
            total += weights.get(one | other, 0.0)
        return total

    def shares(self, concepts: int) -> list[tuple[tuple[str, ...], float]]:
        """What each concept and each pair adds to the weight of a mask, the largest shares first."""
        found = [(names(one), weight) for one, weight in self._of.items() if weight and one & concepts == one]
        return [(tuple(sorted(of)), weight) for of, weight in sorted(found, key=lambda share: -abs(share[1]))]

    def heaviest(self, words: Iterable[Words], length: int) -> Weighed:
        """The heaviest stretch of a view of that many letters; stretches with the same concepts are weighed once."""
        places = {concepts: at for at, concepts in stretches(words, length)}
        weight, at, concepts = max((self.of(concepts), at, concepts) for concepts, at in places.items())
        return Weighed(weight, at, min(at + STRETCH, length), concepts)


@cache
def weights(stage: str) -> Weights:
    """Those of a stage: what a tool says is weighed as a document is."""
    content = json.loads(WEIGHTS.read_text())["inbound" if stage == "inbound" else "passage"]
    return Weights(content["bias"], content["concepts"], content["pairs"])


def stretches(words: Iterable[Words], length: int) -> Iterator[tuple[int, int]]:
    """Where each stretch begins, and the mask of its concepts; each is two steps long, the last one reaches the end."""
    steps = [0] * max(2, -(-length // STEP))
    last = len(steps) - 1
    for start, end, concepts in words:
        for step in range(start // STEP, min(last, (end - 1) // STEP) + 1):
            steps[step] |= concepts
    return ((at * STEP, one | other) for at, (one, other) in enumerate(pairwise(steps)))
