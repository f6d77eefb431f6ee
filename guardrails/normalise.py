"""Folding: one text as the words of the packs are written, and the way back to where they stand in it.

Folding is done character by character (no composition), so words of the packs and words of a message fold alike
whatever their normal form, and a place in a view can be traced back to the text by bisection.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

# Longer texts are cut to a head and a tail; `screen` never calls such a text clean.
LIMIT, HEAD = 100_000, 75_000
REMEMBERED = 1 << 17

_STRIPPED_MARKS = (
    (0x0300, 0x036F),  # Latin, Greek, Cyrillic
    (0x0483, 0x0489),
    (0x0591, 0x05C7),  # Hebrew
    (0x0610, 0x061A),  # Arabic
    (0x064B, 0x065F),
    (0x0670, 0x0670),
    (0x06D6, 0x06ED),
    (0x093C, 0x093C),  # the dot that writers of Hindi, Bengali, and Punjabi leave out
    (0x09BC, 0x09BC),
    (0x0A3C, 0x0A3C),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),
    (0xFE20, 0xFE2F),
)
_INVISIBLE = frozenset({0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180F, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10)})
_INVISIBLE_RANGES = ((0xE0000, 0xE01EF), (0x180B, 0x180E))
_SMALL_CAPITALS = dict(zip("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ", "abcdefghijklmnoprstuvwyz", strict=True))
_FRAMED = {chr(first + at): chr(97 + at) for first in (0x1F150, 0x1F170) for at in range(26)}
_LETTERS = str.maketrans(
    {
        "ł": "l",
        "ø": "o",
        "đ": "d",
        "ħ": "h",
        "ð": "d",
        "þ": "th",
        "æ": "ae",
        "œ": "oe",
        "ı": "i",
        "ŋ": "n",
        "ґ": "г",
        # One letter, typed on the keyboards of Arabic, Persian and Urdu.
        "ى": "ي",
        "ی": "ي",
        "ې": "ي",
        "ک": "ك",
        "ہ": "ه",
        "ھ": "ه",
        "ة": "ه",
        "ۃ": "ه",
        "ٱ": "ا",
        "ۓ": "ے",
        "ँ": "ं",  # Hindi writes either
        **_SMALL_CAPITALS,
        **_FRAMED,
    }
)


def _inside(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= code <= last for first, last in ranges)


def _fold_character(code: int) -> str:
    category = unicodedata.category(chr(code))
    if code in _INVISIBLE or category == "Cf" or _inside(code, _INVISIBLE_RANGES):
        return ""
    if category == "Cs":
        return " "
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", chr(code)).casefold())
    folded = []
    for character in decomposed.translate(_LETTERS):
        kind = unicodedata.category(character)[0]
        if kind == "M" and _inside(ord(character), _STRIPPED_MARKS):
            continue
        folded.append(character if kind in "LMN" else " ")
    return "".join(folded)


def forget(characters: dict[int, Any]) -> None:
    """Start over when more characters are remembered than one text can have: Unicode has ten times as many."""
    if len(characters) >= REMEMBERED:
        characters.clear()


class _Folding(dict[int, str]):
    def __missing__(self, code: int) -> str:
        forget(self)
        folded = self[code] = _fold_character(code)
        return folded


_FOLDING = _Folding()


def fold(text: str) -> str:
    """Lower case, no diacritics, no invisible characters, everything that is not a letter or number one space,
    one space at either end (so that a word's edge is a character the automaton can match)."""
    return " " + " ".join(text.translate(_FOLDING).split()) + " "


class _Visible(dict[int, str]):
    def __missing__(self, code: int) -> str:
        forget(self)
        shown = self[code] = "" if _FOLDING[code] == "" and unicodedata.category(chr(code)) != "Mn" else chr(code)
        return shown


_VISIBLE = _Visible()


def visible(text: str) -> str:
    """The text without its invisible characters."""
    return text.translate(_VISIBLE)


def fold_lengths(text: str, places: Iterable[int]) -> dict[int, int]:
    """How far the folded view reaches once `text` is folded up to each place: behind its last letter, 0 before the
    first. In one pass."""
    lengths: dict[int, int] = {}
    at, length, gap = 0, 0, True
    for place in sorted(places):
        folded = text[at:place].translate(_FOLDING)
        if words := folded.split():
            length += sum(map(len, words)) + len(words) - 1 + (gap or folded[0] == " ")
        if folded:
            gap = folded[-1] == " "
        lengths[place], at = length, place
    return lengths


ROT13 = str.maketrans(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "NOPQRSTUVWXYZABCDEFGHIJKLMnopqrstuvwxyzabcdefghijklm"
)


def printable(text: str) -> str:
    """The text without what a UTF-8 column cannot store: lone surrogates, NUL, invisible characters."""
    return "".join(character if character.isprintable() else " " for character in text)


Locate = Callable[[int, int], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class View:
    """`locate` gives the original text's span for one of the folded `text`; a `loose` view has no word edges."""

    name: str
    text: str
    locate: Locate
    loose: bool = False
    source: str = ""


class _Letters(dict[int, int]):
    def __missing__(self, code: int) -> int:
        forget(self)
        letters = self[code] = len(_FOLDING[code].replace(" ", ""))
        return letters


_LETTERS_OF = _Letters()


def tracer(source: str, folded: str) -> Locate:
    """By the letters before a place: folding may change their number, spaces and signs, but not their order."""
    letters: list[int] = []  # of the folded text, up to and with each character of the source

    def locate(start: int, end: int) -> tuple[int, int]:
        if not letters:
            letters.extend(accumulate(map(_LETTERS_OF.__getitem__, map(ord, source))))
        before = start - folded.count(" ", 0, start)
        until = before + end - start - folded.count(" ", start, end)
        first = min(bisect_left(letters, before + 1), len(source))
        return first, max(first, min(bisect_left(letters, until) + 1, len(source)))

    return locate


def view(name: str, source: str) -> View:
    folded = fold(source)
    return View(name, folded, tracer(source, folded), source=source)


def plain(text: str) -> View:
    return view("plain", text)


_SURROGATES = re.compile("[\ud800-\udfff]")


def bounded(text: str) -> str:
    """The text, or of a longer one its head and tail; lone surrogates, which no encoder takes, replaced one by one."""
    body = text if len(text) <= LIMIT else text[:HEAD] + text[HEAD - LIMIT :]
    return body if body.isascii() else _SURROGATES.sub("\ufffd", body)
