"""The words of every pack in one automaton, which finds all of them in one pass over a text.

Packs are compiled as Python compiles modules: into `packs/__pycache__`, under the hash of all that goes in. Where that
folder cannot be written, each process compiles for itself, ten seconds long.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import os
import sys
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from daachorse import CharwiseDoubleArrayAhoCorasick

from guardrails import concepts, normalise
from guardrails.concepts import PACKS, Language, Pack, pack_files, patterns_of
from guardrails.normalise import ROT13, fold

REVERSED, ROTATED = "@reversed", "@rot13"
ANY_LANGUAGE = -1  # as a mask: what belongs to no language goes with all of them
# Beside the languages: an English word that a pack has because people there use it. Such words alone are English, so
# that an English sentence is not judged by the words of a pack that knows nothing of English exceptions.
LOAN = 1 << 62
_LOAN_LEAST = 3
_LOOSE_LEAST, _LOOSE_MOST = 3, 6  # letters of a pattern without edges
_MARKER_LEAST = 7  # of word edges and letters; a longer word is known by its beginning
_MARKER_LEAST_SHORT = 4  # of scripts that write no vowels, or syllables
_MARKER_LEAST_BARE = 2
_MARKER_MOST = 9
_CLOSE = 80  # letters between two markers of a text written backwards, at most
_FREQUENT, _FREQUENT_LEAST = 150, 3
_NOTHING = "\0"  # what no folded text has: an automaton must have a pattern
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


Meaning = tuple[tuple[str, int], ...]  # (concept, languages), …


class Table(NamedTuple):
    """An automaton as it is stored, the number of each pattern's meaning (two bytes), and the meanings."""

    machine: bytes
    numbers: bytes
    meanings: tuple[Meaning, ...]


class Scan:
    """The words found in one view. `present` is the mask of their concepts; places are worked out when asked for.

    `english` is the bit of English among the languages of hits.
    """

    __slots__ = ("_automaton", "_letters", "_raw", "english", "present")

    def __init__(self, raw: list[tuple[int, int, int]], automaton: _Automaton, letters: int) -> None:
        self._raw, self._automaton, self._letters, self.english = raw, automaton, letters, automaton.english
        numbers, masks = automaton.numbers, automaton.masks
        present = 0
        for number in {numbers[index] for _, _, index in raw}:
            present |= masks[number]
        self.present = present

    def clustered(self, concept: str) -> bool:
        """Whether two of the concept's words stand close together, or one makes up a good part of a short text."""
        wanted = bit(concept)
        if not self.present & wanted:
            return False
        numbers, masks = self._automaton.numbers, self._automaton.masks
        starts = sorted({start for start, _, index in self._raw if masks[numbers[index]] & wanted})
        return self._letters <= _CLOSE or any(later - start <= _CLOSE for start, later in pairwise(starts))

    def hits(self) -> list[Hit]:
        numbers, meanings = self._automaton.numbers, self._automaton.meanings
        return [
            Hit(start, end, concept, languages)
            for start, end, index in self._raw
            for concept, languages in meanings[numbers[index]]
        ]

    def concepts_of(self, spoken: int) -> Iterator[tuple[int, int, int]]:
        """Where each word of those languages starts and ends, and the mask of its concepts in them."""
        numbers, within = self._automaton.numbers, self._automaton.within(spoken)
        for start, end, index in self._raw:
            if concepts := within[numbers[index]]:
                yield start, end, concepts


class _Within(dict[int, int]):
    """By the number of a meaning, the mask of its concepts in some languages."""

    def __init__(self, meanings: tuple[Meaning, ...], spoken: int) -> None:
        super().__init__()
        self._meanings, self._spoken = meanings, spoken

    def __missing__(self, number: int) -> int:
        names = [name for name, languages in self._meanings[number] if languages & self._spoken]
        concepts = self[number] = mask(name for name in names if name not in (REVERSED, ROTATED))
        return concepts


class _Automaton:
    def __init__(self, table: Table, english: int) -> None:
        self.english = english
        self.meanings = table.meanings
        self.masks = [mask(concept for concept, _ in meaning) for meaning in table.meanings]
        self.numbers = array("H", table.numbers)
        self._machine = CharwiseDoubleArrayAhoCorasick.deserialize(table.machine)
        self._within: dict[int, _Within] = {}

    def within(self, spoken: int) -> _Within:
        if (kept := self._within.get(spoken)) is None:
            kept = self._within[spoken] = _Within(self.meanings, spoken)
        return kept

    def scan(self, text: str) -> Scan:
        return Scan(self._machine.find_overlapping(text), self, len(text))


@dataclass(frozen=True, slots=True)
class Compiled:
    """Tables of patterns: with word edges, and without (for text whose words were closed up)."""

    codes: tuple[str, ...]
    strict: Table
    loose: Table


class Lexicon:
    """Every word of some packs."""

    def __init__(self, compiled: Compiled) -> None:
        self.codes = compiled.codes
        self._bits = {code: 1 << at for at, code in enumerate(self.codes)}
        self._strict = _Automaton(compiled.strict, self.bit_of("en"))
        self._loose = _Automaton(compiled.loose, self.bit_of("en"))

    def bit_of(self, code: str) -> int:
        """The language's bit in the masks of hits; none for a language without a pack."""
        return self._bits.get(code, 0)

    def with_english(self, code: str) -> int:
        """The bits of the language and of English, which people mix into every language."""
        return self.bit_of(code) | self.bit_of("en")

    def scan(self, text: str, *, loose: bool = False) -> Scan:
        return (self._loose if loose else self._strict).scan(text)


def lexicon_of(packs: Iterable[Pack]) -> Lexicon:
    return Lexicon(compile_packs(packs))


# --- compiling -----------------------------------------------------------------------------------------------------


def compile_packs(packs: Iterable[Pack]) -> Compiled:
    strict: dict[str, dict[str, int]] = {}
    loose: dict[str, dict[str, int]] = {}
    codes = []
    for at, pack in enumerate(packs):
        codes.append(pack.code)
        for concept, stems in pack.words.items():
            patterns = _needed({pattern for stem in stems for pattern in patterns_of(pack, stem)})
            for pattern in patterns:
                _add(strict, pattern, concept, 1 << at | (LOAN if _is_english(pattern) else 0))
                for marker, disguised in _markers(pattern, pack):
                    _add(strict, disguised, marker, 1 << at)
            bodies = {pattern.replace(" ", "")[:_LOOSE_MOST] for pattern in patterns}
            for body in _needed({body for body in bodies if len(body) >= _LOOSE_LEAST or not pack.spaces}):
                _add(loose, body, concept, 1 << at)
    return Compiled(tuple(codes), _table(strict), _table(loose))


@cache
def _is_english(pattern: str) -> bool:
    from simplemma import is_known  # noqa: PLC0415  2 MB that only compiling needs

    return pattern.isascii() and all(len(w) >= _LOAN_LEAST and is_known(w, lang="en") for w in pattern.split())


def _add(table: dict[str, dict[str, int]], pattern: str, concept: str, language: int) -> None:
    meaning = table.setdefault(pattern, {})
    meaning[concept] = meaning.get(concept, 0) | language


def _needed(patterns: set[str]) -> list[str]:
    """Without those that begin as another one does, or a word of which does: where they are, it is, too."""
    return sorted(
        pattern
        for pattern in patterns
        if not any(
            pattern[start:end] in patterns
            for start in (at for at, letter in enumerate(pattern) if at == 0 or letter == " ")
            for end in range(start + 1, len(pattern) + (start > 0))
        )
    )


def _markers(pattern: str, pack: Pack) -> Iterable[tuple[str, str]]:
    """What tells that a text may be written backwards, or letter for letter in ROT13."""
    whole = unicodedata.normalize("NFC", pattern)
    if not pack.spaces or len(whole) < len(pattern):  # letters made of several fold in their own order
        if len(whole) >= _MARKER_LEAST_BARE:
            yield REVERSED, _edged(whole[:_MARKER_MOST][::-1])
        return
    words = [f" {word}" if f" {word}" in pattern else word for word in pattern.split()]
    longest = max(words, key=len)[:_MARKER_LEAST]
    if len(longest) == _MARKER_LEAST:
        yield REVERSED, longest[::-1]
        if pack.code == "en" and longest.startswith(" "):
            yield ROTATED, " " + fold(longest.translate(ROT13)).strip()
    elif len(pattern) > (_MARKER_LEAST if longest.isascii() else _MARKER_LEAST_SHORT):
        yield REVERSED, pattern[:_MARKER_MOST][::-1]


def _edged(text: str) -> str:
    """Folded, with the edges that it has."""
    return (" " if text[0] == " " else "") + fold(text).strip() + (" " if text[-1] == " " else "")


def _table(found: Mapping[str, Mapping[str, int]]) -> Table:
    order: dict[Meaning, int] = {}
    numbers = array("H")
    patterns = sorted(found)
    for pattern in patterns:
        numbers.append(order.setdefault(tuple(sorted(found[pattern].items())), len(order)))
    machine = CharwiseDoubleArrayAhoCorasick(patterns or [_NOTHING])
    return Table(machine.serialize(), numbers.tobytes(), tuple(order))


# --- the compiled file ---------------------------------------------------------------------------------------------


@cache
def digest() -> str:
    """The hash of every pack, and of the code that compiles them."""
    sources = [*pack_files(), Path(__file__), *(Path(str(module.__file__)) for module in (concepts, normalise))]
    whole = hashlib.sha256(f"{sys.implementation.cache_tag} {unicodedata.unidata_version}".encode())
    for path in sources:
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def _compile_all() -> dict[str, Any]:
    packs = concepts.packs()
    compiled = compile_packs(packs.values())
    heads = [(p.code, p.name, p.scripts, p.refusal, p.common, p.common | _frequent(p)) for p in packs.values()]
    tables = {"strict": tuple(compiled.strict), "loose": tuple(compiled.loose)}
    return {"codes": compiled.codes, **tables, "languages": heads}


def _frequent(pack: Pack) -> frozenset[str]:
    """The words that come again and again in the pack's own sentences."""
    sentences = chain.from_iterable((*pack.probes.values(), *pack.hard_negatives.values()))
    words = Counter(chain.from_iterable(set(fold(sentence).split()) for sentence in sentences))
    return frozenset(word for word, times in words.most_common(_FREQUENT) if times >= _FREQUENT_LEAST)


def _parts(*names: str) -> list[Any]:
    """Parts of the compiled packs, from the file where there is one."""
    folder = PACKS / "__pycache__" / digest()[:32]
    try:
        return [marshal.loads((folder / name).read_bytes()) for name in names]  # noqa: S302  as trusted as a .pyc
    except (OSError, ValueError, EOFError, TypeError):
        made = _compile_all()
        _write(folder, made)
        return [made[name] for name in names]


def _write(folder: Path, made: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in made.items():
            draft = folder / f"{name}.{os.getpid()}"
            draft.write_bytes(marshal.dumps(part))
            draft.replace(folder / name)


@cache
def languages() -> Mapping[str, Language]:
    """The languages that packs cover, by code."""
    (heads,) = _parts("languages")
    return {head[0]: Language(*head) for head in heads}


@cache
def lexicon() -> Lexicon:
    codes, strict, loose = _parts("codes", "strict", "loose")
    return Lexicon(Compiled(codes, Table(*strict), Table(*loose)))
