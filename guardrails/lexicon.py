"""The words of every pack, found all of them in one pass over a text."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, cached_property
from itertools import pairwise
from typing import NamedTuple

from daachorse import CharwiseDoubleArrayAhoCorasick

from guardrails.compiling import BACKWARDS, LOAN, OPEN, ROTATED, Meaning, Table, compile_packs, pair, parts
from guardrails.concepts import Language, Pack

EVERY_CONCEPT = -1  # as a mask
ANY_LANGUAGE = -1  # as a mask: what belongs to no language goes with all of them
_CLOSE = 80  # letters between two words that tell that a text is turned, at most
_BETWEEN = ord(" ")  # the letter that no word is
_bits: dict[str, int] = {}


def bit(concept: str) -> int:
    """The concept as one bit, so that a set of concepts is a number (in this process only)."""
    return _bits.setdefault(concept, 1 << len(_bits))


def mask(concepts: Iterable[str]) -> int:
    total = 0
    for concept in concepts:
        total |= bit(concept)
    return total


def bits_of(concepts: int) -> list[int]:
    """Each bit of a mask, the lowest first."""
    found = []
    while concepts:
        found.append(one := concepts & -concepts)
        concepts ^= one
    return found


def names(concepts: int) -> list[str]:
    """The concepts of a mask."""
    return [name for name, one in _bits.items() if concepts & one]


class Hit(NamedTuple):
    """A concept's word at a place in a view, edges included. `languages`: a bit for each language that has it."""

    start: int
    end: int
    concept: str
    languages: int


class Scan:
    """The words found in one view. `present` is the mask of their concepts; places are worked out when asked for.

    `english` is the bit of English among the languages of hits.
    """

    __slots__ = ("_automaton", "_found", "_letters", "_numbers", "_sorted", "english", "present")

    def __init__(self, found: list[tuple[int, int, int]], automaton: _Automaton, letters: int) -> None:
        """`found`: start, end and the number of what each word means."""
        self._found, self._automaton, self._letters, self.english = found, automaton, letters, automaton.english
        self._numbers = {number for _, _, number in found}
        self._sorted: dict[int, list[tuple[int, int]]] = {}
        self.present = 0
        for number in self._numbers:
            self.present |= automaton.masks[number]

    def __len__(self) -> int:
        return len(self._found)

    def turned(self, sign: str) -> bool:
        """Whether two words of the sign stand close together, or one makes up a good part of a short text."""
        wanted = bit(sign)
        if not self.present & wanted:
            return False
        masks = self._automaton.masks
        starts = sorted({start for start, _, number in self._found if masks[number] & wanted})
        return self._letters <= _CLOSE or any(later - start <= _CLOSE for start, later in pairwise(starts))

    def hits(self, of: int = EVERY_CONCEPT) -> list[Hit]:
        """The words of a mask of concepts, in the order of their places."""
        places, masks, meanings = self._places(), self._automaton.masks, self._automaton.meanings
        return sorted(
            [
                Hit(start, end, concept, languages)
                for number in self._numbers
                if masks[number] & of
                for concept, languages in meanings[number]
                if _bits[concept] & of
                for start, end in places[number]
            ]
        )

    def natives(self, least: int) -> list[tuple[int, int]]:
        """Where words of at least so many letters and edges start, and the languages of those that are not loans."""
        places, meanings = self._places(), self._automaton.meanings
        found = []
        for number in self._numbers:
            spoken = 0
            for _, languages in meanings[number]:
                spoken |= 0 if languages & LOAN else languages
            if spoken:
                found += [(start, spoken) for start, end in places[number] if end - start >= least]
        return sorted(found)

    def present_in(self, spoken: int) -> int:
        """The mask of the concepts that there are words of those languages for."""
        within, present = self._automaton.within(spoken), 0
        for number in self._numbers:
            present |= within[number]
        return present

    def concepts_of(self, spoken: int) -> Iterator[tuple[int, int, int]]:
        """Where each word of those languages starts and ends, and the mask of its concepts in them."""
        within = self._automaton.within(spoken)
        for start, end, number in self._found:
            if concepts := within[number]:
                yield start, end, concepts

    def _places(self) -> dict[int, list[tuple[int, int]]]:
        """Where each meaning stands: of thousands of words, rules ask for few."""
        if not self._sorted:
            for start, end, number in self._found:
                self._sorted.setdefault(number, []).append((start, end))
        return self._sorted


class _Within(dict[int, int]):
    """By the number of a meaning, the mask of its concepts in some languages."""

    def __init__(self, meanings: tuple[Meaning, ...], spoken: int) -> None:
        super().__init__()
        self._meanings, self._spoken = meanings, spoken

    def __missing__(self, number: int) -> int:
        names = [name for name, languages in self._meanings[number] if languages & self._spoken]
        concepts = self[number] = mask(name for name in names if name not in (BACKWARDS, ROTATED))
        return concepts


class _Automaton:
    def __init__(self, table: Table, english: int) -> None:
        self.english = english
        self.meanings = table.meanings
        same: dict[int, int] = {}  # few are different, and big numbers
        masks = (mask(concept for concept, _ in meaning) for meaning in table.meanings)
        self.masks = [same.setdefault(one, one) for one in masks]
        self._words, self._phrases = map(CharwiseDoubleArrayAhoCorasick.deserialize, (table.words, table.phrases))
        self._numbers, self._letters = array("H", table.numbers), array("I", table.letters)
        self._before, self._pairs = table.before, table.pairs
        self._phrase_numbers = array("H", table.phrase_numbers)
        self._within: dict[int, _Within] = {}

    def within(self, spoken: int) -> _Within:
        if (kept := self._within.get(spoken)) is None:
            kept = self._within[spoken] = _Within(self.meanings, spoken)
        return kept

    def scan(self, text: str) -> Scan:
        raw = self._words.find_overlapping(text)
        numbers = self._numbers
        found = [(start, end, number) for start, end, index in raw if (number := numbers[index])]
        found += self._in_a_row(raw)
        return Scan(found, self, len(text))

    def _in_a_row(self, raw: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        """The phrases that words make, one after another with one edge between them."""
        letters, pairs, last = self._letters, self._pairs, 0
        spelt: list[int] = []
        places: list[tuple[int, int]] = []
        openings: list[tuple[int, int, tuple[int, int]]] = []
        for start, end, index in raw:
            if letter := letters[index]:
                if letter >= OPEN:
                    if start == last and spelt and pairs[(at := pair(spelt[-1], letter)) >> 3] >> (at & 7) & 1:
                        openings.append((len(spelt), letter, (start, end)))
                    continue
                if start != last:
                    spelt.append(_BETWEEN)
                    places.append((start, start))
                spelt.append(letter)
                places.append((start, end))
                last = end - 1
        whole = len(spelt)
        if not whole:
            return []
        for at, letter, place in openings:  # once more the words before it, and it
            first = max(0, at - self._before[letter - OPEN])
            spelt += (*spelt[first:at], letter, _BETWEEN)
            places += (*places[first:at], place, place)
        numbers = self._phrase_numbers
        return [
            (places[first][0], places[behind - 1][1], numbers[index])
            for first, behind, index in self._phrases.find_overlapping("".join(map(chr, spelt)))
            if behind <= whole or spelt[behind - 1] >= OPEN
        ]


class Lexicon:
    """Every word of some packs."""

    def __init__(self, codes: tuple[str, ...], table: Callable[[str], Table]) -> None:
        """`table`: gives the tables `strict` and `loose`, the second when it is first asked for, which few texts do."""
        self.codes = codes
        self._bits = {code: 1 << at for at, code in enumerate(codes)}
        self._table = table
        self._strict = _Automaton(table("strict"), self.bit_of("en"))

    @cached_property
    def _loose(self) -> _Automaton:
        return _Automaton(self._table("loose"), self.bit_of("en"))

    def bit_of(self, code: str) -> int:
        """The language's bit in the masks of hits; none for a language without a pack."""
        return self._bits.get(code, 0)

    def with_english(self, code: str) -> int:
        """The bits of the language and of English, which people mix into every language."""
        return self.bit_of(code) | self.bit_of("en")

    def scan(self, text: str, *, loose: bool = False) -> Scan:
        return (self._loose if loose else self._strict).scan(text)


def lexicon_of(packs: Iterable[Pack]) -> Lexicon:
    compiled = compile_packs(tuple(packs))
    return Lexicon(compiled.codes, {"strict": compiled.strict, "loose": compiled.loose}.__getitem__)


@cache
def languages() -> Mapping[str, Language]:
    """The languages that packs cover, by code."""
    (heads,) = parts("languages")
    return {head[0]: Language(*head) for head in heads}


@cache
def lexicon() -> Lexicon:
    (codes,) = parts("codes")
    return Lexicon(codes, lambda name: Table(*parts(name)[0]))
