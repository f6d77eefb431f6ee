"""What the words of a stretch add to its weight, whatever concept they stand for, or none.

Concepts hold in every language and know only words that somebody thought of. Of words, what was learned holds in
their language, and they tell what a message is about. A word weighs as it stands and, where it is long, by how it
begins, whatever ending it has. Its weight lies at its checksum in a table, so no word is kept, and two that share a
place share its weight.
"""

import re
from collections.abc import Iterator
from math import sqrt
from typing import Final
from zlib import crc32

PLACES: Final = 1 << 18
UNIT: Final = 1 / 8  # of weight, that the table counts in
_STEM: Final = 5  # letters that a longer word begins with
UNSPACED = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]")


def spelt(text: str) -> Iterator[str]:
    """The words of a folded text and how the long ones begin (`^order`); where nobody writes their edges, its groups
    of two and three letters."""
    if not UNSPACED.search(text):
        for word in text.split():
            yield word
            if len(word) > _STEM:
                yield f"^{word[:_STEM]}"
        return
    for word in text.split():
        if len(word) > 1 and UNSPACED.search(word):
            yield from (word[at : at + 2] for at in range(len(word) - 1))
            yield from (word[at : at + 3] for at in range(len(word) - 2))
        else:
            yield word


def place(word: str) -> int:
    """Where the word's weight lies."""
    return crc32(word.encode()) % PLACES


class Wording:
    """The weights of words, so many `UNIT`s each, one signed byte for each place."""

    def __init__(self, table: bytes) -> None:
        self._table = memoryview(table).cast("b")

    def of(self, text: str) -> float:
        """What the words of a folded text add: their sum, over the root of the number of all."""
        table = self._table
        units = [table[place(word)] for word in spelt(text)]
        return UNIT * sum(units) / sqrt(len(units)) if units else 0.0

    def shares(self, text: str) -> list[tuple[str, float]]:
        """What each word adds to that."""
        words = list(spelt(text))
        added: dict[str, float] = {}
        for word in words:
            if units := self._table[place(word)]:
                added[word] = added.get(word, 0.0) + UNIT * units / sqrt(len(words))
        return list(added.items())
