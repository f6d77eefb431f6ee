"""What the concepts and words of a stretch weigh together, where they are none of the rules' combinations.

The weights of concepts (`weights.json`, made by `bench/weigh.py`) are of each, of pairs of them, of concepts that a
message begins with, of one concept right behind another, and of not being the beginning: what was learned from one
language holds in all. The weights of words (`wording.py`) are added where concepts alone do not weigh far too little.
Messages have theirs, and so has what documents and tools bring, in which nobody should ask an assistant for anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from heapq import nlargest
from itertools import combinations, product
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from guardrails.lexicon import bit, bits_of, mask, names
from guardrails.wording import Wording

WEIGHTS = Path(__file__).with_name("weights.json")
WORDS = Path(__file__).with_name("words")  # a table for each stage
FILES = (WEIGHTS, WORDS / "inbound.bin", WORDS / "passage.bin")
STEP = 100  # letters
STRETCH = 2 * STEP
SURE, DOUBTFUL = 3.2, 0.5  # weights that stop a text, and that a judge is asked from
# What a rule combined acts where it or its sentence weighs so much, or its sentence and all about it so much; else it
# is refuted.
SURE_ALONE, SURE_SENTENCE, SURE_ABOUT = 5.0, 1.5, 0.0
_HOPELESS = -5.0  # what concepts weigh that no words make up for
_MOST_READ = 4  # stretches of one view
LEAST = 3  # concepts of its language: fewer hardly ever weigh enough, and most messages have no more
_FIRST, _EARLY = 2, 25  # letters before what a message begins with, and before what comes early in it
_BEHIND = 15  # letters between a word and one right behind it
_MOST_IN_ROWS, _MOST_NEAR = 1_000, 12  # words, so that no text can keep this busy
Words = tuple[int, int, int]  # start, end, mask of concepts
# A concept's bit, two in one mask, ("first" or "early", a bit), (a bit, that of the concept right behind), LATER.
Feature = int | tuple[str | int, int]
LATER: Feature = "later", 0  # a stretch that is not the text's first


class Stretch(NamedTuple):
    """Where it begins; the masks of its concepts, of those that the text begins with, and of those early in the text;
    of words right behind each other, the masks of both."""

    at: int
    concepts: int
    first: int = 0
    early: int = 0
    rows: frozenset[tuple[int, int]] = frozenset()


class Weighed(NamedTuple):
    """What a stretch's concepts and words weigh, where it is in its view, and what is in it."""

    weight: float
    start: int
    end: int
    stretch: Stretch


class Weights:
    """What each feature of a stretch adds, what any stretch weighs, and what words add."""

    def __init__(self, bias: float, of: Mapping[str, Mapping[str, float]], wording: Wording) -> None:
        """`of`: by kind of feature and the names of its concepts."""
        self._bias, self.wording = bias, wording
        self._of = {feature(kind, name): weight for kind, table in of.items() for name, weight in table.items()}

    def of(self, stretch: Stretch) -> float:
        """What its concepts weigh."""
        weights = self._of
        return self._bias + sum(weights.get(one, 0.0) for one in features(stretch))

    def shares(self, stretch: Stretch) -> list[tuple[str, tuple[str, ...], float]]:
        """What each feature adds, its kind and the names of its concepts."""
        return [(*named(one), self._of[one]) for one in features(stretch) if self._of.get(one)]

    def heaviest(self, words: Iterable[Words], text: str) -> Weighed:
        """The heaviest stretch of a view."""
        found = self._concepts(words, text)
        likely = self._likely(found)
        read = [(concepts + self.wording.of(text[s.at : s.at + STRETCH]), s) for concepts, s in likely] or found
        weight, stretch = max(read, key=itemgetter(0))
        return Weighed(weight, stretch.at, min(stretch.at + STRETCH, len(text)), stretch)

    def read(self, words: Iterable[Words], text: str) -> list[str]:
        """The stretches of a view whose words are read, at least one."""
        found = self._concepts(words, text)
        return [text[s.at : s.at + STRETCH] for _, s in self._likely(found) or [max(found, key=itemgetter(0))]]

    def _concepts(self, words: Iterable[Words], text: str) -> list[tuple[float, Stretch]]:
        """What the concepts of each stretch weigh."""
        known: dict[tuple[object, ...], float] = {}
        found: list[tuple[float, Stretch]] = []
        for stretch in stretches(words, len(text)):
            if (concepts := known.get((stretch.at > 0, *stretch[1:]))) is None:
                concepts = known[stretch.at > 0, *stretch[1:]] = self.of(stretch)
            found.append((concepts, stretch))
        return found

    @staticmethod
    def _likely(found: list[tuple[float, Stretch]]) -> list[tuple[float, Stretch]]:
        return nlargest(_MOST_READ, [one for one in found if one[0] >= _HOPELESS], key=itemgetter(0))

    def with_words(self, wording: Wording) -> Weights:
        other = Weights(self._bias, {}, wording)
        other._of = self._of
        return other

    def of_place(self, words: Iterable[Words], text: str) -> float:
        """What a short text weighs, whatever else it stands in."""
        return max(map(self.of, stretches(words, len(text)))) + self.wording.of(text)


@cache
def weights(stage: str) -> Weights:
    """Those of a stage: what a tool says is weighed as a document is."""
    of = "inbound" if stage == "inbound" else "passage"
    content = json.loads(WEIGHTS.read_text())[of]
    wording = Wording(WORDS.joinpath(f"{of}.bin").read_bytes())
    return Weights(content.pop("bias"), content, wording)


def features(stretch: Stretch) -> Iterator[Feature]:
    """All that may weigh in a stretch, each once."""
    if stretch.at:
        yield LATER
    ones = bits_of(stretch.concepts)
    yield from ones
    for one, other in combinations(ones, 2):
        yield one | other
    for one in bits_of(stretch.first):
        yield "first", one
    for one in bits_of(stretch.early):
        yield "early", one
    yield from {pair for before, behind in stretch.rows for pair in product(bits_of(before), bits_of(behind))}


def feature(kind: str, name: str) -> Feature:
    """What `named` tells of."""
    concepts = name.split()
    match kind:
        case "concepts" | "pairs":
            return mask(concepts)
        case "behind":
            return bit(concepts[0]), bit(concepts[1])
    return kind, mask(concepts)


def named(one: Feature) -> tuple[str, tuple[str, ...]]:
    """The kind of a feature and the names of its concepts: `concepts`, `pairs`, `first`, `early`, `behind`, `later`."""
    match one:
        case int():
            concepts = tuple(sorted(names(one)))
            return "concepts" if len(concepts) == 1 else "pairs", concepts
        case str() as kind, concept:
            return kind, tuple(names(concept))
        case before, behind:
            return "behind", (*names(int(before)), *names(behind))


def stretches(words: Iterable[Words], length: int) -> Iterator[Stretch]:
    """Each two steps of a view, the last of which reach its end."""
    placed: dict[tuple[int, int], int] = {}
    for start, end, concepts in words:
        placed[start, end] = placed.get((start, end), 0) | concepts
    steps = [0] * max(2, -(-length // STEP))
    rows: list[frozenset[tuple[int, int]]] = [frozenset()] * len(steps)
    last = len(steps) - 1
    for (start, end), concepts in placed.items():
        for step in range(start // STEP, min(last, (end - 1) // STEP) + 1):
            steps[step] |= concepts
    for step, pairs in _rows(sorted(placed.items())[:_MOST_IN_ROWS]).items():
        rows[min(step, last)] |= pairs
    first, early = _opening(placed)
    yield Stretch(0, steps[0] | steps[1], first, early, rows[0] | rows[1])
    for at in range(1, last):
        yield Stretch(at * STEP, steps[at] | steps[at + 1], rows=rows[at] | rows[at + 1])


def _opening(placed: Mapping[tuple[int, int], int]) -> tuple[int, int]:
    """The masks of what the text begins with, and of what comes early."""
    first = early = 0
    for (start, _), concepts in placed.items():
        if start <= _FIRST:
            first |= concepts
        elif start <= _EARLY:
            early |= concepts
    return first, early


def _rows(words: list[tuple[tuple[int, int], int]]) -> dict[int, set[tuple[int, int]]]:
    """By the step that the first of two words begins in, the masks of words right behind each other."""
    found: dict[int, set[tuple[int, int]]] = {}
    for at, ((start, end), concepts) in enumerate(words):
        for (other, _), behind in words[at + 1 : at + 1 + _MOST_NEAR]:
            if other > end + _BEHIND:
                break
            if other >= end - 1:
                found.setdefault(start // STEP, set()).add((concepts, behind))
    return found
