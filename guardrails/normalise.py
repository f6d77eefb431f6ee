"""Views of one text: the folded text, and what it says once disguises are taken off.

Folding is done character by character (no composition), so words of the packs and words of a message fold alike
whatever their normal form, and a place in a view can be traced back to the text by bisection.
"""

import base64
import binascii
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from urllib.parse import unquote_to_bytes

# Longer texts are cut to a head and a tail; `screen` never calls such a text clean.
LIMIT, HEAD = 100_000, 75_000
DEPTH, DECODED_LIMIT, CANDIDATES = 2, 8_192, 32

_STRIPPED_MARKS = (
    (0x0300, 0x036F),  # Latin, Greek, Cyrillic
    (0x0483, 0x0489),
    (0x0591, 0x05C7),  # Hebrew
    (0x0610, 0x061A),  # Arabic
    (0x064B, 0x065F),
    (0x0670, 0x0670),
    (0x06D6, 0x06ED),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),
    (0xFE20, 0xFE2F),
)
_INVISIBLE = frozenset({0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180F, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10)})
_INVISIBLE_RANGES = ((0xE0000, 0xE01EF), (0x180B, 0x180E))
_LETTERS = str.maketrans(
    {"ł": "l", "ø": "o", "đ": "d", "ħ": "h", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ŋ": "n"}
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


class _Folding(dict[int, str]):
    def __missing__(self, code: int) -> str:
        folded = self[code] = _fold_character(code)
        return folded


_FOLDING = _Folding()


def fold(text: str) -> str:
    """Lower case, no diacritics, no invisible characters, everything that is not a letter or number one space,
    one space at either end (so that a word's edge is a character the automaton can match)."""
    return " " + " ".join(text.translate(_FOLDING).split()) + " "


class _Visible(dict[int, str]):
    def __missing__(self, code: int) -> str:
        shown = self[code] = "" if _FOLDING[code] == "" and unicodedata.category(chr(code)) != "Mn" else chr(code)
        return shown


_VISIBLE = _Visible()


def visible(text: str) -> str:
    """The text without its invisible characters."""
    return text.translate(_VISIBLE)


def fold_length(text: str) -> int:
    """How far the folded view reaches once `text` is folded: the place behind its last letter, 0 before the first."""
    folded = " ".join(text.translate(_FOLDING).split())
    return len(folded) + 1 if folded else 0


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


def _reaches(source: str) -> list[int]:
    """How far the folded view reaches after each character of the source."""
    reach, gap, reaches = 0, True, []
    for character in source:
        for letter in _FOLDING[ord(character)]:
            if letter == " ":
                gap = True
            else:
                reach += 2 if gap else 1
                gap = False
        reaches.append(reach)
    return reaches


def _tracer(source: str, folded: str) -> Locate:
    reaches: list[int] = []

    def locate(start: int, end: int) -> tuple[int, int]:
        if not reaches:
            reaches.extend(_reaches(source))
        letters = folded[start:end]
        start += len(letters) - len(letters.lstrip())
        end -= len(letters) - len(letters.rstrip())
        first = min(bisect_left(reaches, start + 1), len(source))
        return first, max(first, min(bisect_left(reaches, end) + 1, len(source)))

    return locate


def _view(name: str, source: str) -> View:
    folded = fold(source)
    return View(name, folded, _tracer(source, folded), source=source)


def _fixed(span: tuple[int, int]) -> Locate:
    return lambda _start, _end: span


def plain(text: str) -> View:
    return _view("plain", text)


# --- disguises that keep the length -----------------------------------------------------------------------------
_LOOKALIKES = dict(
    zip(
        "авекмнорстухіјѕԁԛԝһӏьгпиαβεηικνορτυχγωσμ",
        "abekmhopctyxijsdqwhlbrnuabenikvoptuxywou",
        strict=True,
    )
)
_TO_LATIN = str.maketrans({**_LOOKALIKES, **{a.upper(): b.upper() for a, b in _LOOKALIKES.items()}})
_TO_CYRILLIC = str.maketrans({b: a for a, b in reversed(_LOOKALIKES.items()) if "а" <= a <= "ї"})
_MIXED = re.compile(r"[a-zA-Z][\u0370-\u052f]|[\u0370-\u052f][a-zA-Z]")
_GREEK_CYRILLIC = re.compile("[\u0370-\u052f]")
_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile(r"[a-zA-Z]")
_LEET = str.maketrans("013457@$!|€", "oieastasiie")
_LEETED = re.compile(r"[0134578@$!|€](?<=[^\W\d_].)[0134578@$!|€]{0,2}[^\W\d_]")


def _one_script(word: re.Match[str]) -> str:
    token = word[0]
    if not _MIXED.search(token):
        return token
    latin = len(_LATIN.findall(token))
    return token.translate(_TO_LATIN if latin * 2 >= len(token) else _TO_CYRILLIC)


def confusables(text: str) -> View | None:
    """Words that mix scripts, written in one."""
    if text.isascii() or not _GREEK_CYRILLIC.search(text) or not _MIXED.search(text):
        return None
    source = _WORD.sub(_one_script, text)
    return _view("confusables", source)


def leet(text: str) -> View | None:
    if not _LEETED.search(text):
        return None
    source = re.sub(r"\S+", lambda word: word[0].translate(_LEET), text)
    return _view("leet", source)


# --- disguises that change it -----------------------------------------------------------------------------------
_SPACED = re.compile(r"(?<= )(?:\S ){6,400}")


def spaced(view: View) -> Iterator[View]:
    """Runs of single letters, closed up."""
    for run in list(_SPACED.finditer(view.text))[:CANDIDATES]:
        span = view.locate(run.start() - 1, run.end())
        yield View("spaced", run[0].replace(" ", ""), _fixed(span), loose=True)


def turned(text: str) -> View:
    size, source = len(text), text[::-1]
    folded = fold(source)
    trace = _tracer(source, folded)

    def locate(start: int, end: int) -> tuple[int, int]:
        first, last = trace(start, end)
        return size - last, size - first

    return View("reversed", folded, locate, source=source)


_ROT13 = str.maketrans(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "NOPQRSTUVWXYZABCDEFGHIJKLMnopqrstuvwxyzabcdefghijklm"
)


def rot13(text: str) -> View:
    source = text.translate(_ROT13)
    return _view("rot13", source)


_FLAG = re.compile("\U0001f3f4[\U000e0061-\U000e007a]{2,6}\U000e007f")
_TAGS = re.compile("[\U000e0020-\U000e007e]{3,}")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{4,}")


def hidden(text: str) -> Iterator[View]:
    """Text written in characters that nobody sees: the tag block, and bytes in variation selectors."""
    if text.isascii():
        return
    bare = _FLAG.sub(lambda flag: " " * len(flag[0]), text)
    for run in _TAGS.finditer(bare):
        letters = "".join(chr(ord(character) - 0xE0000) for character in run[0][:DECODED_LIMIT])
        yield View("tags", fold(letters), _fixed(run.span()), source=letters)
    for run in _SELECTORS.finditer(bare):
        octets = bytes(ord(c) - (0xFE00 if ord(c) < 0xFE10 else 0xE0100 - 16) & 0xFF for c in run[0][:DECODED_LIMIT])
        letters = octets.decode("utf-8", "replace")
        yield View("selectors", fold(letters), _fixed(run.span()), source=letters)


_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_HEX = re.compile(r"(?<![0-9A-Za-z])(?:(?:0x|\\x)?[0-9a-fA-F]{2}[ :,]?){8,}")
_PERCENT = re.compile(r"\S+")
_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}){4,}")
_ENTITIES = re.compile(r"(?:&#(?:x[0-9a-fA-F]{1,6}|\d{1,7});){4,}")


def _from_base64(run: str) -> str:
    body = run.rstrip("=").replace("-", "+").replace("_", "/")[:DECODED_LIMIT]
    body = body[: len(body) - 1] if len(body) % 4 == 1 else body
    return base64.b64decode(body + "=" * (-len(body) % 4)).decode("utf-8")


def _from_hex(run: str) -> str:
    return bytes.fromhex(re.sub(r"0x|\\x|[ :,]", "", run[: DECODED_LIMIT * 2])).decode("utf-8")


def _from_percent(run: str) -> str:
    if run.count("%") < 4:
        return ""
    return unquote_to_bytes(run[: DECODED_LIMIT * 3].replace("+", " ")).decode("utf-8")


def _from_escapes(run: str) -> str:
    return re.sub(r"\\[ux]([0-9a-fA-F]{2,4})", lambda found: chr(int(found[1], 16)), run[: DECODED_LIMIT * 6])


def _from_entities(run: str) -> str:
    return unescape(run[: DECODED_LIMIT * 8])


_CODES: tuple[tuple[str, str, re.Pattern[str], Callable[[str], str]], ...] = (
    ("base64", "", _BASE64, _from_base64),
    ("hex", "", _HEX, _from_hex),
    ("percent", "%", _PERCENT, _from_percent),
    ("escapes", "\\", _ESCAPES, _from_escapes),
    ("entities", "&#", _ENTITIES, _from_entities),
)
_NOT_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")


def decoded(text: str, depth: int = 1) -> Iterator[View]:
    """What encoded runs of at least 16 characters say, where it is text; runs inside runs to a depth of two."""
    for name, needs, pattern, decode in _CODES:
        if needs not in text:
            continue
        for count, run in enumerate(pattern.finditer(text)):
            if count == CANDIDATES:
                break
            try:
                letters = decode(run[0])
            except (ValueError, binascii.Error):
                continue
            if len(letters) < 6 or letters == run[0] or _NOT_TEXT.search(letters):
                continue
            span = _fixed(run.span())
            yield View(name, fold(letters), span, source=letters)
            if depth < DEPTH:
                for inner in decoded(letters, depth + 1):
                    yield View(f"{name}+{inner.name}", inner.text, span, source=inner.source)


_SURROGATES = re.compile("[\ud800-\udfff]")


def bounded(text: str) -> str:
    """The text, or of a longer one its head and tail; lone surrogates, which no encoder takes, replaced one by one."""
    body = text if len(text) <= LIMIT else text[:HEAD] + text[HEAD - LIMIT :]
    return body if body.isascii() else _SURROGATES.sub("\ufffd", body)
