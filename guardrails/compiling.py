"""Packs compiled into tables that are read, not built: as Python compiles modules, into `packs/__pycache__`, under the
hash of all that goes in. Where that folder cannot be written, each process compiles for itself, ten seconds long.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import os
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import normalize, unidata_version

from daachorse import CharwiseDoubleArrayAhoCorasick

from guardrails import concepts, normalise
from guardrails.concepts import PACKS, Pack, pack_files, patterns_of
from guardrails.normalise import ROT13, fold

BACKWARDS, ROTATED = "@backwards", "@rot13"  # concepts of words that tell that a text is written so
# Beside the languages: an English word that a pack has because people there use it. Such words alone are English, so
# that an English sentence is not judged by the words of a pack that knows nothing of English exceptions.
LOAN = 1 << 62
# Where the letters begin that stand for words, behind the surrogates, and those that stand for a phrase's open end.
LETTERS, OPEN = 0xE000, 0x28000
PAIRS, _MIXED = 1 << 20, 40_503
_LOAN_LEAST = 3
_LOOSE_LEAST, _LOOSE_MOST = 3, 6  # letters of a pattern without edges
_TURNED_LEAST_BARE, _TURNED_MOST, _TURNED_LEAST = 2, 9, 3
_FREQUENT, _FREQUENT_LEAST = 150, 3
_GROUPS = 1_200
_NOTHING = "\0"  # what no folded text has: an automaton must have a pattern

Meaning = tuple[tuple[str, int], ...]  # (concept, languages), …
_Patterns = dict[str, dict[str, int]]


class Table(NamedTuple):
    """Two automata as they are stored. `words` finds what is spelt; `phrases` what words say one after another, each
    word a letter, and so the beginning of a last word that is open. For each pattern the number of its meaning in two
    bytes; for those of `words`, also the letter that it is in phrases, in four; 0 where it has none. `before`: for
    each letter of an open word, in a byte, the most words that stand before it in a phrase. `pairs`: a bit for each
    word and open word right behind it that a phrase may have (see `pair`)."""

    words: bytes
    numbers: bytes
    letters: bytes
    before: bytes
    pairs: bytes
    phrases: bytes
    phrase_numbers: bytes
    meanings: tuple[Meaning, ...]


@dataclass(frozen=True, slots=True)
class Compiled:
    """Tables of patterns: with word edges, and without (for text whose words were closed up)."""

    codes: tuple[str, ...]
    strict: Table
    loose: Table


def compile_packs(packs: Collection[Pack]) -> Compiled:
    strict: _Patterns = {}
    loose: _Patterns = {}
    codes = []
    for at, pack in enumerate(packs):
        codes.append(pack.code)
        for concept, stems in pack.words.items():
            patterns = _needed({pattern for stem in stems for pattern in patterns_of(pack, stem)})
            for pattern in patterns:
                _add(strict, pattern, concept, 1 << at | (LOAN if _is_english(pattern) else 0))
                if not pack.spaces and len(pattern) >= _TURNED_LEAST_BARE and not pattern.isascii():
                    _add(strict, pattern[:_TURNED_MOST][::-1], BACKWARDS, 0)
            bodies = {pattern.replace(" ", "")[:_LOOSE_MOST] for pattern in patterns}
            for body in _needed({body for body in bodies if len(body) >= _LOOSE_LEAST or not pack.spaces}):
                _add(loose, body, concept, 1 << at)
    for sign, words in _signs(packs).items():
        for word in words:
            _add(strict, f" {word} ", sign, 0)
    return Compiled(tuple(codes), _table(strict), _table(loose))


@cache
def _is_english(pattern: str) -> bool:
    from simplemma import is_known  # noqa: PLC0415  2 MB that only compiling needs

    return pattern.isascii() and all(len(w) >= _LOAN_LEAST and is_known(w, lang="en") for w in pattern.split())


def _add(table: _Patterns, pattern: str, concept: str, language: int) -> None:
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


def _signs(packs: Collection[Pack]) -> Mapping[str, set[str]]:
    """The packs' own words as they are written backwards, or in ROT13, less what any of them writes otherwise."""
    written = set(chain.from_iterable(map(_words_of, packs)))

    def only_turned(packs: Iterable[Pack], turn: Callable[[str], str]) -> set[str]:
        words = chain.from_iterable(_words_of(pack, turn) for pack in packs)
        return {word for word in words if len(word) >= _TURNED_LEAST} - written

    return {
        BACKWARDS: only_turned((pack for pack in packs if pack.spaces), lambda text: normalize("NFC", text)[::-1]),
        ROTATED: only_turned((pack for pack in packs if pack.code == "en"), lambda text: text.translate(ROT13)),
    }


def _table(found: Mapping[str, Mapping[str, int]]) -> Table:
    """Phrases apart from the rest: spelt out, they would be most of it.

    :raises OverflowError: there are more words in phrases than letters for them.
    """
    meanings: dict[Meaning, int] = {}
    one: dict[tuple[str, int], tuple[str, int]] = {}  # of each that are alike, so that they are read as one
    spoken_by: dict[int, int] = {}  # likewise

    def number(pattern: str) -> int:
        if pattern not in found:
            return 0
        pieces = ((concept, spoken_by.setdefault(of, of)) for concept, of in sorted(found[pattern].items()))
        meaning = tuple(one.setdefault(part, part) for part in pieces)
        return meanings.setdefault(meaning, len(meanings) + 1)

    phrases = sorted(pattern for pattern in found if _is_phrase(pattern))
    spoken = sorted(set(chain.from_iterable(map(_words, phrases))))
    letters = {word: LETTERS + at for at, word in enumerate(word for word in spoken if word.endswith(" "))}
    if len(letters) > OPEN - LETTERS:
        raise OverflowError("Phrases have more words than there are letters for.")
    letters |= {word: OPEN + at for at, word in enumerate(word for word in spoken if not word.endswith(" "))}
    words = sorted({*found, *letters}.difference(phrases))
    spelt = ["".join(chr(letters[word]) for word in _words(phrase)) for phrase in phrases]
    return Table(
        _machine(words),
        array("H", map(number, words)).tobytes(),
        array("I", (letters.get(word, 0) for word in words)).tobytes(),
        _before(phrases),
        _pairs(phrases, letters),
        _machine(spelt),
        array("H", map(number, phrases)).tobytes(),
        ((), *meanings),
    )


def _before(phrases: Iterable[str]) -> bytes:
    """For each open word, in order, the most words before it."""
    most: dict[str, int] = {}
    for *before, word in map(_words, phrases):
        if not word.endswith(" "):
            most[word] = max(most.get(word, 0), len(before))
    return bytes(most[word] for word in sorted(most))


def _pairs(phrases: Iterable[str], letters: Mapping[str, int]) -> bytes:
    bits = bytearray(PAIRS >> 3)
    for *_, before, word in map(_words, phrases):
        if not word.endswith(" "):
            at = pair(letters[before], letters[word])
            bits[at >> 3] |= 1 << (at & 7)
    return bytes(bits)


def pair(before: int, word: int) -> int:
    """Which bit tells of these two letters, and perhaps of others."""
    return (before * _MIXED + word) % PAIRS


def _is_phrase(pattern: str) -> bool:
    return pattern.startswith(" ") and " " in pattern.strip()


def _words(phrase: str) -> list[str]:
    """Each word with its edges: the last one may be open."""
    words = [f" {word} " for word in phrase.split()]
    return words if phrase.endswith(" ") else [*words[:-1], words[-1][:-1]]


def _machine(patterns: list[str]) -> bytes:
    return CharwiseDoubleArrayAhoCorasick(patterns or [_NOTHING]).serialize()


# --- the compiled file ---------------------------------------------------------------------------------------------


@cache
def digest() -> str:
    """The hash of every pack, and of the code that compiles them."""
    sources = [*pack_files(), Path(__file__), *(Path(str(module.__file__)) for module in (concepts, normalise))]
    whole = hashlib.sha256(f"{sys.implementation.cache_tag} {unidata_version}".encode())
    for path in sources:
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def parts(*names: str) -> list[Any]:
    """Parts of the compiled packs, from their files if they are there: codes, strict, loose, languages, spelling."""
    folder = PACKS / "__pycache__" / digest()[:32]
    try:
        return [marshal.loads((folder / name).read_bytes()) for name in names]  # noqa: S302  as trusted as a .pyc
    except (OSError, ValueError, EOFError, TypeError):
        made = _compile_all()
        _write(folder, made)
        return [made[name] for name in names]


def _spelling(packs: Iterable[Pack]) -> dict[str, int]:
    """By group of three letters and edges, a bit for each language whose sentences it is usual in."""
    usual: dict[str, int] = {}
    for at, pack in enumerate(packs):
        groups = Counter(chain.from_iterable(map(threes, _sentences(pack))))
        for group, times in groups.most_common(_GROUPS):
            if times > 1:
                usual[group] = usual.get(group, 0) | 1 << at
    return usual


def threes(text: str) -> list[str]:
    """Its groups of three letters and edges, folded."""
    folded = fold(text)
    return [folded[at : at + 3] for at in range(len(folded) - 2)]


def _sentences(pack: Pack) -> Iterable[str]:
    return chain.from_iterable((*pack.probes.values(), *pack.hard_negatives.values()))


def _words_of(pack: Pack, turn: Callable[[str], str] = str) -> Counter[str]:
    """In how many of the pack's own sentences, turned so, each word stands."""
    return Counter(chain.from_iterable(set(fold(turn(sentence)).split()) for sentence in _sentences(pack)))


def _compile_all() -> dict[str, Any]:
    packs = concepts.packs()
    compiled = compile_packs(packs.values())
    heads = [(p.code, p.name, p.scripts, p.refusal, p.common, p.common | _frequent(p)) for p in packs.values()]
    tables = {"strict": tuple(compiled.strict), "loose": tuple(compiled.loose)}
    return {"codes": compiled.codes, **tables, "languages": heads, "spelling": _spelling(packs.values())}


def _frequent(pack: Pack) -> frozenset[str]:
    """The words that come again and again in the pack's own sentences."""
    return frozenset(word for word, times in _words_of(pack).most_common(_FREQUENT) if times >= _FREQUENT_LEAST)


def _write(folder: Path, made: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in made.items():
            draft = folder / f"{name}.{os.getpid()}"
            draft.write_bytes(marshal.dumps(part))
            draft.replace(folder / name)
