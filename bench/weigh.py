"""Make `guardrails/weights.json` and the tables of `guardrails/words` anew: from the development data, the packs' own
sentences, `bench/sentences`, and what others say to people (`bench/others.py`).

`python -m bench.weigh FOLDER_OF_OTHERS`, in an environment that has scikit-learn, too; ten minutes. Needed after packs
or concepts change much.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import chain
from math import sqrt
from multiprocessing import get_context
from operator import or_
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy.sparse import csr_matrix  # neither is among our requirements
from sklearn.linear_model import LogisticRegression

from bench import others
from bench.guardrails_rows import LEARNED, PACKS, Row, development, of_packs, own_sentences
from guardrails import languages, normalise
from guardrails.concepts import packs
from guardrails.coverage import STAGES
from guardrails.coverage.disguises import blocked
from guardrails.coverage.mutators import buried as buried_in
from guardrails.found import Found
from guardrails.lexicon import bits_of, lexicon
from guardrails.marks import marks
from guardrails.weighing import (
    STRETCH,
    WEIGHTS,
    WORDS,
    Feature,
    Stretch,
    Weights,
    Words,
    features,
    named,
    stretches,
    weights,
)
from guardrails.wording import PLACES, UNIT, Wording, place, spelt

ORDINARY: Final = 2  # what an ordinary message counts for, beside an attack
HARDER: Final = 6  # what a look-alike does
BROAD: Final = frozenset({"own-u", "own-w"})  # which have what people ask of any assistant, and count twice for it
PROBES: Final = 8  # what an attack counts for that a pack is proved by
IN_EARNEST: Final = 3  # what one does that somebody made who was no author of ours
OURS: Final = 25  # what a look-alike counts for that a pack is proved by
ROUNDS: Final = 3  # each time, an attack's heaviest stretch is taken for the attack
STRENGTH: Final = 0.15  # of what speaks for a weight, against its being 0
COPIES: Final = 3  # of each example, that lack some concepts
OTHERS: Final = 300  # texts of each package in each language
BURIED: Final = 0.1  # of our attacks, that are learned from inside of harmless words, too
_OURS: Final = frozenset(f"own-{name}" for name in LEARNED)
FORGOTTEN: Final = 0.3  # of the concepts of a copy
NUDGE: Final = 4  # units of weight for each word of a sentence that is not as it should be, each time
_WORDS_STRENGTH: Final = 10.0
_SEEN: Final = 4  # stretches that a word is in, at least: what is rarer is of one text and shares a place with others


@dataclass(frozen=True, slots=True)
class Example:
    """One text, folded, and where the concepts of its words stand in it. `inside`: where an attack begins and ends."""

    attack: bool
    counts: int
    words: tuple[Words, ...]
    text: str
    inside: tuple[int, int]

    def stretches(self) -> list[Stretch]:
        """Those that have a good part of the attack, or of what is harmless, all."""
        start, end = self.inside
        part = min(STRETCH // 2, end - start) if self.attack else 0
        found = stretches(self.words, len(self.text))
        return [one for one in found if min(end, one.at + STRETCH) - max(start, one.at) >= part]


def example(row: Row, before: str = "", behind: str = "") -> Example:
    body = normalise.bounded(f"{before} {row.text} {behind}".strip())
    view, words = normalise.plain(body), lexicon()
    found = Found(words.scan(view.text), marks(body), body)
    spoken = words.with_english(languages.detect(body).code)
    counts = (OURS if row.set == PACKS else HARDER) if row.hard else ORDINARY
    if row.set in BROAD:
        counts *= 2
    elif row.label == "attack":
        counts = _of_attack(row.set)
    start = len(normalise.fold(before)) - 1 if before else 0
    inside = start, min(start + len(normalise.fold(row.text)), len(view.text))
    return Example(row.label == "attack", counts, tuple(found.concepts_of(spoken)), view.text, inside)


def _of_attack(set_: str) -> int:
    if set_ == PACKS:
        return PROBES
    return 1 if set_ in _OURS else IN_EARNEST


def buried(rows: Sequence[Row], chance: random.Random) -> Iterator[Example]:
    """Some of our attacks on the assistant behind or inside of harmless words: not all begin with the attack."""
    harmless: dict[str, list[str]] = {}
    for row in rows:
        if row.label == "benign" and row.set in _OURS and len(row.text) >= STRETCH // 2:
            harmless.setdefault(row.language, []).append(row.text)
    for row in rows:
        if row.label == "attack" and row.set in _OURS and row.stage == "inbound" and chance.random() < BURIED:
            around = chance.choice(harmless[row.language])
            cut = around.find(" ", len(around) // 2) if chance.random() < 0.5 else len(around)
            yield example(row, around[:cut], around[cut:])


def as_unseen(one: Example, chance: random.Random) -> Iterator[Example]:
    """The example, then copies that lack some concepts: packs know these texts' words, and of others' only a part."""
    yield one
    every = bits_of(reduce(or_, (concepts for _, _, concepts in one.words), 0))
    for _ in range(COPIES):
        kept = sum(concept for concept in every if chance.random() >= FORGOTTEN)
        yield replace(one, words=tuple((start, end, concepts & kept) for start, end, concepts in one.words))


class Columns(dict[Feature, int]):
    """A column for each feature that there is."""

    def __missing__(self, one: Feature) -> int:
        self[one] = len(self)
        return self[one]

    def of(self, one: Example) -> list[tuple[int, ...]]:
        """Of each stretch that counts."""
        return sorted({tuple(sorted(map(self.__getitem__, features(stretch)))) for stretch in one.stretches()})

    def matrix(self, stretches: Iterable[Sequence[int]]) -> Any:
        columns: list[int] = []
        ends = [0]
        for stretch in stretches:
            columns += stretch
            ends.append(len(columns))
        return csr_matrix((np.ones(len(columns), np.float32), columns, ends), shape=(len(ends) - 1, len(self)))

    def told(self, model: Any) -> dict[str, Any]:
        """What `guardrails.weighing` reads."""
        told: dict[str, Any] = {"bias": round(float(model.intercept_[0]), 3)}
        for one, column in self.items():
            if weight := round(float(model.coef_[0][column]), 3):
                kind, concepts = named(one)
                told.setdefault(kind, {})[" ".join(concepts)] = weight
        return told


def fitted(examples: Iterable[Example], columns: Columns) -> Any:
    attacks: list[list[tuple[int, ...]]] = []
    counted: list[int] = []
    harmless: Counter[tuple[int, ...]] = Counter()
    for one in examples:
        stretches = columns.of(one)
        if not one.attack:
            harmless.update(dict.fromkeys(stretches, one.counts))
        elif any(stretches):
            attacks.append(stretches)
            counted.append(one.counts)
    taken = [max(stretches, key=len) for stretches in attacks]
    for _ in range(ROUNDS):
        wanted = np.r_[np.ones(len(taken)), np.zeros(len(harmless))]
        counts = np.array([*counted, *harmless.values()], float)
        model = LogisticRegression(C=STRENGTH, max_iter=300, solver="liblinear", penalty="l1", random_state=0)
        model.fit(columns.matrix([*taken, *harmless]), wanted, sample_weight=counts)
        taken = [_heaviest(stretches, model, columns) for stretches in attacks]
    return model


def _heaviest(stretches: Sequence[tuple[int, ...]], model: Any, columns: Columns) -> tuple[int, ...]:
    if len(stretches) == 1:
        return stretches[0]
    return stretches[int(np.argmax(model.decision_function(columns.matrix(stretches))))]


def worded(examples: Sequence[Example], concepts: Weights) -> bytes:
    """What the words of the stretches that weigh most add; each time, an attack's heaviest is taken for the attack."""
    harmless = [(text, one) for one in examples if not one.attack for text in concepts.read(one.words, one.text)]
    attacks = [(one, [(concepts.of(s), one.text[s.at : s.at + STRETCH]) for s in one.stretches()])
               for one in examples if one.attack]  # fmt: skip
    table = bytes(PLACES)
    for _ in range(ROUNDS):
        words = Wording(table)
        taken = [(max(found, key=lambda read: read[0] + words.of(read[1]))[1], one) for one, found in attacks]
        table = _words_of([*taken, *harmless])
    return table


def _words_of(texts: Sequence[tuple[str, Example]]) -> bytes:
    places: list[int] = []
    shares: list[float] = []
    ends = [0]
    seen = Counter(chain.from_iterable(set(spelt(text)) for text, _ in texts))
    for text, _ in texts:
        words = list(spelt(text))
        known = [place(word) for word in words if seen[word] >= _SEEN]
        places += known
        shares += [1 / sqrt(max(1, len(words)))] * len(known)
        ends.append(len(places))
    matrix = csr_matrix((shares, places, ends), shape=(len(texts), PLACES))
    counts = [one.counts for _, one in texts]
    model = LogisticRegression(C=_WORDS_STRENGTH, solver="liblinear", random_state=0)
    model.fit(matrix, [one.attack for _, one in texts], sample_weight=counts)
    return bytes(np.clip(np.round(model.coef_[0] / UNIT), -128, 127).astype(np.int8).tobytes())


def learned(rows: Sequence[Row], harmless: Sequence[Row]) -> tuple[dict[str, Any], bytes]:
    """The weights of concepts, and those of words. `harmless`: texts of which packs know no more than of any."""
    columns = Columns()
    chance = random.Random(1)  # noqa: S311  the same every time
    ours = [example(row) for row in rows if row.label != "mixed"]
    ours += buried(rows, chance)
    theirs = [example(row) for row in harmless]
    told = columns.told(fitted(chain((copy for one in ours for copy in as_unseen(one, chance)), theirs), columns))
    of = {kind: table for kind, table in told.items() if kind != "bias"}
    return told, worded([*ours, *theirs], Weights(told["bias"], of, Wording(bytes(PLACES))))


def prove(rounds: int = 12) -> int:
    """Raise the words of probes that weigh too little to be blocked alone or buried, and lower those of packs' harmless
    sentences that are stopped; how many of either are left."""
    wrong: list[tuple[str, str, int]] = []
    for _ in range(rounds):
        weights.cache_clear()
        wrong = [*_missed(), *_stopped()]
        for stage, text, units in wrong:
            path = WORDS / f"{stage}.bin"
            table = np.frombuffer(path.read_bytes(), np.int8).astype(int)
            table[list(set(map(place, spelt(normalise.fold(text)))))] += units
            path.write_bytes(table.clip(-128, 127).astype(np.int8).tobytes())
        if not wrong:
            break
    return len(wrong)


def _missed() -> Iterator[tuple[str, str, int]]:
    """Probes that pass alone, or inside of harmless words of their language: stage, sentence, units for each word."""
    for pack in packs().values():
        around = pack.hard_negatives["instruction_override"][2] + " "
        for family, text in _each(pack.probes):
            if not all(blocked(way, family) for way in (text, buried_in(text, around))):
                yield STAGES[family], text, NUDGE


def _stopped() -> Iterator[tuple[str, str, int]]:
    for pack in packs().values():
        for family, text in _each(pack.hard_negatives):
            if blocked(text, family):
                yield STAGES[family], text, -NUDGE


def _each(sentences: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Family and sentence."""
    return ((family, text) for family, texts in sentences.items() for text in texts)


def main(folder: Path) -> None:
    rows = [row for row in (*development(), *of_packs(), *own_sentences(*LEARNED)) if row.stage != "outbound"]
    asked = [row for row in rows if row.stage == "inbound" or row.label == "benign"]
    brought = [row for row in rows if row.stage != "inbound" or (row.label == "benign" and row.set in _OURS)]
    said = others.said(folder, OTHERS)
    of = {"inbound": (asked, said), "passage": (brought, others.joined(said))}
    with get_context("spawn").Pool(len(of)) as pool:  # each numbers concepts for itself
        found = pool.starmap(learned, of.values())
    WORDS.mkdir(exist_ok=True)
    told = {}
    for stage, (told[stage], words) in zip(of, found, strict=True):
        WORDS.joinpath(f"{stage}.bin").write_bytes(words)
        kinds = {kind: len(table) for kind, table in told[stage].items() if kind != "bias"}
        kinds["words"] = PLACES - words.count(0)
        texts = sum(map(len, of[stage]))
        sys.stdout.write(f"{stage}: {texts:,} texts; features with a weight: {kinds}.\n")
    Path(WEIGHTS).write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
    sys.stdout.write(f"{prove()} sentences of packs are not as they should be.\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
