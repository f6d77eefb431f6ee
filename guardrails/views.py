"""Views of a text with one disguise each taken off: what it says where it is not written plainly.

Every message passes here, so each disguise first asks for a sign of itself that is quickly found to be missing.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from html import unescape
from itertools import islice
from urllib.parse import unquote_to_bytes

from guardrails.normalise import ROT13, Locate, View, fold, tracer, view

DEPTH, DECODED_LIMIT, CANDIDATES = 2, 8_192, 32


def disguised(text: str) -> Iterator[View]:
    """What it says in lookalikes, in signs for letters, in letters apart, in characters that nobody sees, in code."""
    yield from confusables(text)
    yield from leet(text)
    yield from spaced(text)
    yield from hidden(text)
    yield from decoded(text)


def _fixed(span: tuple[int, int]) -> Locate:
    return lambda _start, _end: span


# --- disguises that keep the length -----------------------------------------------------------------------------
def _lookalikes(letters: str, latin: str) -> tuple[dict[int, int], dict[int, str]]:
    """To Latin and back; where two look like one Latin letter, the first is meant."""
    there = str.maketrans(letters, latin)
    back = {ord(b): a for a, b in reversed(list(zip(letters, latin, strict=True)))}
    return there, back


_CYRILLIC_TO_LATIN, _TO_CYRILLIC = _lookalikes(
    "аеорсхуікмнтвјѕԁԛԝһӏьгпиАЕОРСХУІКМНТВЈЅԌЬ", "aeopcxyikmhtbjsdqwhlbrnuAEOPCXYIKMHTBJSGb"
)
_GREEK_TO_LATIN, _TO_GREEK = _lookalikes("αενορικτυχβηωγσμΑΕΟΡΙΚΤΥΧΒΗΜΝΖ", "aevopiktuxbnwyouAEOPIKTYXBHMNZ")
_TO_LATIN = {**_CYRILLIC_TO_LATIN, **_GREEK_TO_LATIN}
_NO_TWINS = dict.fromkeys(map(ord, "аеорсхуіАЕОРСХКМНТВІaeopcxyiAEOPCXKMHTBIοινΟΑΕΙΚΜΝΤΡΧΥΒΗ"), " ")
_GREEK, _CYRILLIC = re.compile("[\u0370-\u03ff]"), re.compile("[\u0400-\u052f]")
_NOT_LATIN = re.compile("[\u0370-\u052f\u1f00-\u1fff]")
_LATIN = re.compile("[a-zA-Z\u00c0-\u024f\u1e00-\u1eff]")
_WORD = re.compile("[a-zA-Z\u00c0-\u024f\u1e00-\u1eff\u0300-\u052f]+")
Table = Mapping[int, int | str]
_SCRIPTS: tuple[tuple[re.Pattern[str], Table], ...] = (
    (_LATIN, _TO_LATIN),
    (_CYRILLIC, _TO_CYRILLIC),
    (_GREEK, _TO_GREEK),
)


def confusables(text: str) -> Iterator[View]:
    """Words that mix scripts, written in that of the text, or in the other; then all that lookalikes can write."""
    if text.isascii() or not _NOT_LATIN.search(text):
        return
    if sum(bool(script.search(text)) for script, _ in _SCRIPTS) < 2:
        return
    # Letters that no other script has tell the script of the text; addresses are Latin everywhere.
    letters = " ".join(word for word in text.split() if "@" not in word and "://" not in word).translate(_NO_TWINS)
    own = [len(script.findall(letters)) for script, _ in _SCRIPTS]
    common = [pair for _, pair in sorted(zip(own, _SCRIPTS, strict=True), key=lambda pair: -pair[0])]

    foreign = [script for script, _ in common[1:]]
    odd = {word for word in _WORD.findall(text) if any(script.search(word) for script in foreign)}

    def written(word: str, scripts: Iterable[tuple[re.Pattern[str], Table]]) -> str:
        for script, table in scripts:
            one = word.translate(table)
            if not any(other.search(one) for other, _ in common if other is not script):
                return one
        return word

    mixed = {word for word in odd if sum(bool(script.search(word)) for script, _ in common) > 1}
    readings = [
        {word: written(word, common) for word in mixed},
        {word: written(word, reversed(common)) for word in mixed},
        {word: written(word, common) for word in odd},
    ]
    seen = [text]
    for reading in readings:
        changes = {word: other for word, other in reading.items() if word != other}
        if changes and (source := _WORD.sub(lambda found, c=changes: c.get(found[0], found[0]), text)) not in seen:  # type: ignore[misc]
            seen.append(source)
            yield view("confusables", source)


_LEET_LATIN = str.maketrans("0134578@$|€!", "oieastbasiei")
_LEET_CYRILLIC = str.maketrans("0346@$!1|", "озчбасііі")
_LEET_GREEK = str.maketrans("0134@!|", "οιεααιι")
_LEET_OTHER = str.maketrans("1!", "ll")  # a reading that Latin letters have as well
# A digit or sign between letters, before a letter and a `!`, before Cyrillic; or at three edges of words. It comes
# first in the patterns, looking back, because a search for one of a few characters is quick.
_LEETED = re.compile(
    r"[0134@$][^\W\d_]!|[0346][\u0400-\u04ff]{2}|[013456@$|€78!](?<=[^\W\d_].)[013456@$|€78!]?[^\W\d_]"
)
_LEETED_EDGE = re.compile(r"[0134@$|!](?<!\S.)[^\W\d_]{2}|[0134@$](?<=[^\W\d_]{2}.)[0134@$]?(?!\w)")
_LEET_SIGN = re.compile(r"[013456@$|€78!]")
_EDGES_LEAST = 3
_TOKEN = re.compile(r"\S+")
_CLOSING = "!.,;:?)]\"'»”"


def leet(text: str) -> Iterator[View]:
    """Digits and signs inside words as the letters they look like, in the readings that they have."""
    if not _LEET_SIGN.search(text):
        return
    if not _LEETED.search(text) and len(_LEETED_EDGE.findall(text)) < _EDGES_LEAST:
        return
    table = _leet_table(text)
    yield view("leet", _TOKEN.sub(lambda token: _spelt(token[0], table, _CLOSING), text))
    if "!" in text:
        yield view("leet", _TOKEN.sub(lambda token: _spelt(token[0], table), text))
    readings = " ".join(reading for word in text.split() for reading in _readings(word.rstrip(_CLOSING), table))
    yield View("leet", fold(readings), _fixed((0, len(text))), source=readings)


def _readings(word: str, table: Mapping[int, int]) -> Iterator[str]:
    """A word with digits as it stands (`base64`), and in every other reading."""
    yield word
    if _LEET_SIGN.search(word):
        spelt = _spelt(word, table)
        if spelt != word:
            yield spelt
        if "1" in word:
            yield _spelt(word.translate(_LEET_OTHER), table)


def _leet_table(text: str) -> Mapping[int, int]:
    if _CYRILLIC.search(text):
        return _LEET_CYRILLIC
    return _LEET_GREEK if _GREEK.search(text) else _LEET_LATIN


def _spelt(word: str, table: Mapping[int, int], closing: str = "") -> str:
    if "@" in word and "." in word:  # an address stays one
        return "@".join(_spelt(part, table, closing) for part in word.split("@"))
    core = word.rstrip(closing) if closing else word
    return core.translate(_LEET_LATIN if _LATIN.search(word) else table) + word[len(core) :]


# --- disguises that change it -----------------------------------------------------------------------------------
_LETTERS_APART = re.compile(r"(?<!\S)\S(?:[^\S\n]{1,4}\S(?!\S)){5,400}")
_WIDE_GAP = re.compile(r"\s{2,}")
_SIGNS = re.compile(r"[.\-_*|/·,~+]")
_APART = r"(?<![^\s.\-_*|/·,~+])[^\s.\-_*|/·,~+](?:[.\-_*|/·,~+][^\s.\-_*|/·,~+]){%s,400}(?![^\s.\-_*|/·,~+])"
_SIGNS_APART, _A_FEW_APART = re.compile(_APART % 3), re.compile(_APART % 1)
_PERHAPS_APART = re.compile(r"[.\-_*|/·,~+](?<=[^\s.\-_*|/·,~+].)[^\s.\-_*|/·,~+](?![^\s.\-_*|/·,~+])")
_PERHAPS_ALONE = re.compile(r"(?<!\S)\S[^\S\n]{1,4}\S[^\S\n]{1,4}\S(?!\S)")
_ALONE_LEAST, _CLOSED_LEAST, _FEW_LEAST = 3, 12, 3


def spaced(text: str) -> Iterator[View]:
    """Letters apart (`i g n o r e   a l l`, `i.g.n.o.r.e a.l.l`) closed up to words; runs without gaps in one."""
    if not _PERHAPS_APART.search(text) and not (
        list(map(len, text.split())).count(1) >= _ALONE_LEAST and _PERHAPS_ALONE.search(text)
    ):
        return
    runs = [*_LETTERS_APART.finditer(text), *_SIGNS_APART.finditer(text)][:CANDIDATES]
    if not runs and len(runs := list(islice(_A_FEW_APART.finditer(text), CANDIDATES))) < _FEW_LEAST:
        return
    around = _fixed((min(run.start() for run in runs), max(run.end() for run in runs)))
    source = _A_FEW_APART.sub(lambda run: _SIGNS.sub("", run[0]), _LETTERS_APART.sub(_closed, text))
    yield View("spaced", fold(source), around, source=source)
    for run in runs:
        letters = fold(_SIGNS.sub("", run[0])).replace(" ", "")
        if len(letters) >= _CLOSED_LEAST:
            yield View("spaced", letters, _fixed(run.span()), loose=True)


def _closed(run: re.Match[str]) -> str:
    return " ".join("".join(word.split()) for word in _WIDE_GAP.split(run[0]))


def turned(text: str) -> View:
    size, source = len(text), text[::-1]
    folded = fold(source)
    trace = tracer(source, folded)

    def locate(start: int, end: int) -> tuple[int, int]:
        first, last = trace(start, end)
        return size - last, size - first

    return View("reversed", folded, locate, source=source)


def turned_words(text: str) -> View:
    """Every word read backwards, where it stands."""
    source = _TOKEN.sub(lambda word: word[0][::-1], text)
    return view("reversed", source)


def rot13(text: str) -> View:
    source = text.translate(ROT13)
    return view("rot13", source)


_FLAG = re.compile("\U0001f3f4[\U000e0061-\U000e007a]{2,6}\U000e007f")
_TAGS = re.compile("[\U000e0020-\U000e007e]{3,}")
_UNSEEN = re.compile("[\ufe00-\ufe0f\U000e0020-\U000e01ef]")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{4,}")


def hidden(text: str) -> Iterator[View]:
    """Text written in characters that nobody sees: the tag block, and bytes in variation selectors."""
    if text.isascii() or not _UNSEEN.search(text):
        return
    bare = _FLAG.sub(lambda flag: " " * len(flag[0]), text)
    for run, span in _runs(_TAGS, bare):
        letters = "".join(chr(ord(character) - 0xE0000) if character != " " else " " for character in run)
        yield View("tags", fold(letters), _fixed(span), source=letters)
    for run, span in _runs(_SELECTORS, bare):
        octets = bytes(map(_of_selector, run))
        letters = octets.decode("utf-8", "replace")
        yield View("selectors", fold(letters), _fixed(span), source=letters)


def _of_selector(character: str) -> int:
    code = ord(character)
    return code if code == ord(" ") else code - (0xFE00 if code < 0xFE10 else 0xE0100 - 16) & 0xFF


def _runs(pattern: re.Pattern[str], text: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Each of the first runs, then all that follow as one."""
    runs = list(pattern.finditer(text))
    for run in runs[:CANDIDATES]:
        yield run[0][:DECODED_LIMIT], run.span()
    if rest := runs[CANDIDATES:]:
        yield " ".join(run[0] for run in rest)[:DECODED_LIMIT], (rest[0].start(), rest[-1].end())


_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{16,}+={0,2}")
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


def _has_long_word(text: str) -> bool:
    return max(map(len, text.split()), default=0) >= _CODE_LEAST


def _has(sign: str) -> Callable[[str], bool]:
    return lambda text: sign in text


_CODE_LEAST = 16
_PERHAPS_HEX = re.compile(r"[0-9][0-9a-fA-F]?[ :,]?(?:0x|\\x)?[0-9a-fA-F]{2}")
# What a text must have for the pattern to be worth a search.
_CODES: tuple[tuple[str, Callable[[str], object], re.Pattern[str], Callable[[str], str]], ...] = (
    ("base64", _has_long_word, _BASE64, _from_base64),
    ("hex", _PERHAPS_HEX.search, _HEX, _from_hex),
    ("percent", _has("%"), _PERCENT, _from_percent),
    ("escapes", _has("\\"), _ESCAPES, _from_escapes),
    ("entities", _has("&#"), _ENTITIES, _from_entities),
)
_NOT_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")


def decoded(text: str) -> Iterator[View]:
    """What encoded runs of at least 16 characters say, where it is text; runs inside runs to a depth of two.

    Each of the first is a view, and all that follow are one.
    """
    views = _decoded(text)
    yield from islice(views, CANDIDATES)
    if rest := list(views):
        spans = [view.locate(0, 0) for view in rest]
        around = min(start for start, _ in spans), max(end for _, end in spans)
        source = "\n".join(view.source for view in rest)
        yield View(rest[0].name, " ".join(view.text.strip() for view in rest).join("  "), _fixed(around), source=source)


def _decoded(text: str, depth: int = 1) -> Iterator[View]:
    for name, perhaps, pattern, decode in _CODES:
        if not perhaps(text):
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
                for inner in _decoded(letters, depth + 1):
                    yield View(f"{name}+{inner.name}", inner.text, span, source=inner.source)
