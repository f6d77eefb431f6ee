"""What a customer signals besides the question: wants a person, threatens with lawyers, is angry. Words are data.

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
KINDS = ("person", "legal", "anger", "thanks", "polite")
WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")
LONGEST = 20_000
FLAT = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ß": "ss", "ı": "i"})
UMLAUTS = regex.compile("(?<=[aou])e")


@dataclass(frozen=True, slots=True)
class Signals:
    asked_for_person: bool = False
    legal: bool = False
    anger: bool = False
    thanks_only: bool = False


def signals(text: str, language: str = "") -> Signals:  # noqa: ARG001  callers say it; no language is left out all the same
    """The signals in a customer's message of up to 20,000 characters. `legal`: also harm, authorities, the press."""
    text = text[:LONGEST]
    flat, patterns = _flat(text), _patterns()
    return Signals(
        asked_for_person=bool(patterns["person"].search(flat)),
        legal=bool(patterns["legal"].search(flat)),
        anger=bool(patterns["anger"].search(flat)) or _shouts(text),
        thanks_only="?" not in text and bool(patterns["thanks"].fullmatch(flat)),
    )


def _shouts(text: str) -> bool:
    """Several words in capitals, or a row of exclamation marks."""
    words = [word for word in text.split() if len(word) > 2 and word.isalpha()]
    capitals = sum(word.isupper() for word in words)
    return (len(words) >= 5 and capitals / len(words) > 0.7) or "!!!" in text


@lru_cache(maxsize=1)
def _patterns() -> dict[str, re2._Regexp]:
    """One pattern a kind over all languages; `*` at the end of a word stands for any ending."""
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for path in sorted(PHRASES.glob("*.yaml")):
        for kind, phrases in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            found[kind] += [_pattern(phrase) for phrase in phrases]
    either = {kind: "|".join(phrases) for kind, phrases in found.items()}
    polite = f"(?: (?:{either['polite']}))*"
    compiled = {kind: re2.compile(f" (?:{either[kind]}) ") for kind in ("person", "legal", "anger")}
    return compiled | {"thanks": re2.compile(f"(?:{polite} (?:{either['thanks']}))+{polite} ")}


def _pattern(phrase: str) -> str:
    words = phrase.split()
    return " ".join(re2.escape(_flat(word).strip()) + ("[^ ]*" if word.endswith("*") else "") for word in words)


def _flat(text: str) -> str:
    """Lower-case words without diacritics between single spaces: "ADWOKÁTEM!" as " adwokatem "."""
    plain = unicodedata.normalize("NFKD", text.lower().translate(FLAT))
    words = WORD.findall("".join(ch for ch in plain if not unicodedata.combining(ch)))
    return UMLAUTS.sub("", f" {' '.join(words)} ")
