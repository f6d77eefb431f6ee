"""What a customer signals besides the question: wants a person, threatens with lawyers, is angry. Words are data, one file a language.

Every message is read with every language's words: people mix languages, and a guess at the language is only a guess.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import re2
import regex
import yaml

PHRASES = Path(__file__).parent / "phrases"
KINDS = ("person", "legal", "anger", "thanks")
WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")
LONGEST = 4_000
SHORT_THANKS = 40


@dataclass(frozen=True, slots=True)
class Signals:
    asked_for_person: bool = False
    legal: bool = False
    anger: bool = False
    thanks_only: bool = False


def signals(text: str, language: str = "") -> Signals:
    """The signals in a customer's message; the first 4,000 characters count."""
    flat = _flat(text[:LONGEST])
    patterns = _patterns()
    return Signals(
        asked_for_person=bool(patterns["person"].search(flat)),
        legal=bool(patterns["legal"].search(flat)),
        anger=bool(patterns["anger"].search(flat)) or _shouts(text[:LONGEST]),
        thanks_only=len(flat) <= SHORT_THANKS and bool(patterns["thanks"].search(flat)) and "?" not in text,
    )


def _shouts(text: str) -> bool:
    """Several words in capitals, or a row of exclamation marks."""
    words = [word for word in text.split() if len(word) > 2 and word.isalpha()]
    capitals = sum(word.isupper() for word in words)
    return (len(words) >= 4 and capitals / len(words) > 0.7) or "!!!" in text


@lru_cache(maxsize=1)
def _patterns() -> dict[str, re2._Regexp]:
    """One pattern a kind over all languages; `*` at the end of a phrase stands for any ending."""
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for path in sorted(PHRASES.glob("*.yaml")):
        for kind, phrases in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            found[kind] += [_pattern(phrase) for phrase in phrases]
    return {kind: re2.compile("|".join(phrases)) for kind, phrases in found.items()}


def _pattern(phrase: str) -> str:
    return " " + " ".join(re2.escape(word.rstrip("*")) + ("[^ ]*" if word.endswith("*") else "") for word in phrase_words(phrase)) + " "


def phrase_words(phrase: str) -> list[str]:
    """The words of a phrase, flattened; a star at a word's end stays."""
    return [_flat(word).strip() + ("*" if word.endswith("*") else "") for word in phrase.split()]


def _flat(text: str) -> str:
    """Lower-case words without diacritics between single spaces, so that "ADWOKÁTEM!" reads " adwokatem "."""
    plain = unicodedata.normalize("NFKD", text.lower().replace("ł", "l").replace("ß", "ss"))
    words = WORD.findall("".join(ch for ch in plain if not unicodedata.combining(ch)))
    return f" {' '.join(words)} "
