"""Make `guardrails/weights.json` anew, from the development data, the packs' own sentences, and `bench/sentences`.

`python -m bench.weigh`, in an environment that has scikit-learn, too; a minute. Needed after packs or concepts
change much.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy.sparse import csr_matrix  # neither is among our requirements
from sklearn.linear_model import LogisticRegression

from bench.guardrails_rows import LEARNED, PACKS, Row, development, of_packs, own_sentences
from guardrails import languages, normalise
from guardrails.concepts import packs
from guardrails.lexicon import bit, bits_of, lexicon
from guardrails.marks import PUNCTUATION, marks
from guardrails.rules import Found, concept_rules
from guardrails.weighing import WEIGHTS, stretches

HARDER: Final = 4  # what a look-alike counts for, beside an ordinary message
OURS: Final = 10  # what one counts for that a pack is proved by
ROUNDS: Final = 3  # each time, an attack's heaviest stretch is taken for the attack
STRENGTH: Final = 0.25  # of what speaks for a weight, against its being 0
COPIES: Final = 3  # of each example, that lack some concepts
_ALSO_BROUGHT: Final = frozenset(f"own-{name}" for name in LEARNED)  # whose harmless messages are documents, too
FORGOTTEN: Final = 0.3  # of the concepts of a copy


@dataclass(frozen=True, slots=True)
class Example:
    """One text: the masks of its stretches."""

    attack: bool
    counts: int
    masks: tuple[int, ...]


def example(row: Row) -> Example:
    body = normalise.bounded(row.text)
    view, words = normalise.plain(body), lexicon()
    found = Found(words.scan(view.text), marks(body), body)
    code = languages.detect(body).code
    masks = {mask for _, mask in stretches(found.concepts_of(words.with_english(code)), len(view.text))}
    counts = (OURS if row.set == PACKS else HARDER) if row.hard else 1
    return Example(row.label == "attack", counts, tuple(sorted(masks)))


def as_unseen(one: Example, chance: random.Random) -> Iterator[Example]:
    """The example, then copies that lack some concepts: packs know these texts' words, and of others' only a part."""
    yield one
    for _ in range(COPIES):
        yield replace(one, masks=tuple(sorted({_partly(concepts, chance) for concepts in one.masks})))


def _partly(concepts: int, chance: random.Random) -> int:
    return sum(one for one in bits_of(concepts) if chance.random() >= FORGOTTEN)


class Features:
    """Columns for each concept and each pair of them."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.bits = [bit(name) for name in names]

    def matrix(self, masks: Iterable[int]) -> Any:
        columns: list[int] = []
        ends = [0]
        for mask in masks:
            own = [at for at, one in enumerate(self.bits) if mask & one]
            columns += own
            columns += [len(self.names) * (1 + one) + other for one, other in combinations(own, 2)]
            ends.append(len(columns))
        size = len(self.names) * (1 + len(self.names))
        return csr_matrix((np.ones(len(columns), np.float32), columns, ends), shape=(len(ends) - 1, size))

    def told(self, model: Any) -> dict[str, Any]:
        """What `guardrails.weighing` reads."""
        weights = {int(at): round(float(model.coef_[0][at]), 3) for at in np.flatnonzero(model.coef_[0])}
        count = len(self.names)
        pairs = {
            f"{self.names[at // count - 1]} {self.names[at % count]}": weight
            for at, weight in weights.items() if at >= count
        }  # fmt: skip
        alone = {self.names[at]: weight for at, weight in weights.items() if at < count}
        return {"bias": round(float(model.intercept_[0]), 3), "concepts": alone, "pairs": pairs}


def fitted(examples: Sequence[Example], features: Features) -> Any:
    attacks = [one.masks for one in examples if one.attack and one.masks]
    harmless: Counter[int] = Counter()
    for one in examples:
        if not one.attack:
            harmless.update(dict.fromkeys(one.masks, one.counts))
    taken = [max(masks, key=int.bit_count) for masks in attacks]
    for _ in range(ROUNDS):
        wanted = np.r_[np.ones(len(taken)), np.zeros(len(harmless))]
        counts = np.r_[np.ones(len(taken)), np.array(list(harmless.values()), float)]
        model = LogisticRegression(C=STRENGTH, max_iter=300, solver="liblinear", penalty="l1", random_state=0)
        model.fit(features.matrix([*taken, *harmless]), wanted, sample_weight=counts)
        taken = [masks[int(np.argmax(model.decision_function(features.matrix(masks))))] for masks in attacks]
    return model


def learned(rows: Iterable[Row], features: Features) -> dict[str, Any]:
    chance = random.Random(1)  # noqa: S311  the same every time
    seen = (example(row) for row in rows if row.label != "mixed")
    return features.told(fitted([copy for one in seen for copy in as_unseen(one, chance)], features))


def main() -> None:
    rows = [row for row in (*development(), *of_packs(), *own_sentences(*LEARNED)) if row.stage != "outbound"]
    brought = [row for row in rows if row.stage != "inbound" or (row.label == "benign" and row.set in _ALSO_BROUGHT)]
    rules = (rule.concepts for rule in concept_rules())
    features = Features(sorted(PUNCTUATION.union(*rules, *(pack.words for pack in packs().values()))))
    told = {"inbound": learned(rows, features), "passage": learned(brought, features)}
    Path(WEIGHTS).write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
    for stage, of in (("inbound", rows), ("passage", brought)):
        concepts, pairs = (len(told[stage][name]) for name in ("concepts", "pairs"))
        sys.stdout.write(f"{stage}: {len(of):,} texts; {concepts} concepts and {pairs} pairs have a weight.\n")


if __name__ == "__main__":
    main()
