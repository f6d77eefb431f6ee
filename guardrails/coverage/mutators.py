"""Disguises that probes must survive: each takes an attack and gives the same attack, written so as to slip through."""

import base64
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Final

_TO_CYRILLIC = str.maketrans("aeopcxyAEOPCXTKMHB", "аеорсхуАЕОРСХТКМНВ")
_TO_LATIN = str.maketrans("аеорсхуіАЕОРСХТКМНВІοινΟΑΕΚΜΝΤΡΧΥΒΗΙ", "aeopcxyiAEOPCXTKMHBIoivOAEKMNTPXYBHI")
_DIGIT_AS_LETTER = re.compile(r"(?<!\S)\d[^\W\d_]{2}|[^\W\d_]\d[^\W\d_]")
_DIGIT = re.compile(r"\d")
_LEET = {
    "LATIN": str.maketrans("aeioAEIO", "43!043!0"),
    "CYRILLIC": str.maketrans("озчбОЗЧБ", "03460346"),
    "GREEK": str.maketrans("οιεαΟΙΕΑ", "01340134"),
}


def upper(text: str) -> str:
    return text.upper()


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def without_marks(text: str) -> str:
    """Without the marks that people leave out: those of Latin, Greek, Cyrillic, Arabic, and Hebrew letters."""
    bare, base = [], ""
    for letter in unicodedata.normalize("NFD", text):
        if not unicodedata.combining(letter):
            base = unicodedata.name(letter, "?").split()[0]
        elif base in ("LATIN", "GREEK", "CYRILLIC", "ARABIC", "HEBREW"):
            continue
        bare.append(letter)
    return unicodedata.normalize("NFC", "".join(bare)).replace("ł", "l").replace("Ł", "L")


def zero_width(text: str) -> str:
    return "\u200b".join(text)


def full_width(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def homoglyphs(text: str) -> str:
    """Every other word's lookalikes from another script."""
    table = _TO_CYRILLIC if _script(text) == "LATIN" else _TO_LATIN
    words = enumerate(text.split(" "))
    return " ".join(word.translate(table) if at % 2 == 0 and not _is_address(word) else word for at, word in words)


def leet(text: str) -> str:
    """Digits for letters, but where a text has them already, as Arabic in Latin letters does."""
    if _DIGIT_AS_LETTER.search(text):
        return text
    table = _LEET.get(_script(text), {})
    return " ".join(
        word if _is_address(word) or _DIGIT.search(word) else word.translate(table) for word in text.split()
    )


def _is_address(word: str) -> bool:
    """An address, written differently, is another one."""
    return "://" in word or "@" in word


def _script(text: str) -> str:
    """The script of most letters."""
    names = [unicodedata.name(letter, "?").split()[0] for letter in text if letter.isalpha()]
    return max(set(names), key=names.count, default="?")


def spaced(text: str) -> str:
    return " ".join(text)


def dotted(text: str) -> str:
    return " ".join(word if _is_address(word) else ".".join(word) for word in text.split())


def backwards(text: str) -> str:
    return text[::-1]


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def tagged(text: str) -> str:
    """In the tag block where Latin letters say it, else in variation selectors, a byte each."""
    if _script(text) == "LATIN":
        return "Hello!" + "".join(chr(0xE0000 + ord(c)) for c in without_marks(text) if c.isascii())
    return "Hello!" + "".join(chr(0xFE00 + b if b < 16 else 0xE0100 + b - 16) for b in text.encode())


def buried(text: str, harmless: str = "") -> str:
    around = (harmless * (2_000 // max(len(harmless), 1)))[:2_000]
    return f"{around[:1000]}\n{text}\n{around[1000:]}"


MUTATORS: Final[Mapping[str, Callable[[str], str]]] = {
    "upper": upper,
    "decomposed": decomposed,
    "without-marks": without_marks,
    "zero-width": zero_width,
    "full-width": full_width,
    "homoglyphs": homoglyphs,
    "leet": leet,
    "spaced": spaced,
    "dotted": dotted,
    "base64": encoded,
    "backwards": backwards,
    "tags": tagged,
}
