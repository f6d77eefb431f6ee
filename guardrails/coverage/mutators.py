"""Disguises that probes must survive: each takes an attack and gives the same attack, written so as to slip through."""

import base64
import unicodedata
from collections.abc import Callable, Mapping
from typing import Final

_HOMOGLYPHS = str.maketrans("aeopcx", "аеорсх")
_LEET = str.maketrans("aeio", "43!0".replace("!", "1"))


def upper(text: str) -> str:
    return text.upper()


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def without_marks(text: str) -> str:
    bare = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    return bare.replace("ł", "l").replace("Ł", "L")


def zero_width(text: str) -> str:
    return "\u200b".join(text)


def full_width(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def homoglyphs(text: str) -> str:
    """Every other word's lookalikes from another script."""
    return " ".join(word.translate(_HOMOGLYPHS) if at % 2 == 0 else word for at, word in enumerate(text.split(" ")))


def leet(text: str) -> str:
    return text.translate(_LEET)


def spaced(text: str) -> str:
    return " ".join(text)


def backwards(text: str) -> str:
    return text[::-1]


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def tagged(text: str) -> str:
    return "Hello!" + "".join(chr(0xE0000 + ord(c)) for c in without_marks(text) if c.isascii())


def buried(text: str, harmless: str = "") -> str:
    around = (harmless * (2_000 // max(len(harmless), 1)))[:2_000]
    return f"{around[:1000]}\n{text}\n{around[1000:]}"


MUTATORS: Final[Mapping[str, Callable[[str], str]]] = {
    "upper": upper,
    "decomposed": decomposed,
    "zero-width": zero_width,
    "full-width": full_width,
    "base64": encoded,
    "tags": tagged,
}
# Disguises of the letters that rules see through for most words, not for all.
PARTIAL: Final[Mapping[str, Callable[[str], str]]] = {
    "without-marks": without_marks,
    "homoglyphs": homoglyphs,
    "leet": leet,
    "spaced": spaced,
    "backwards": backwards,
}
