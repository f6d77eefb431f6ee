"""Words for retrieval: tokens, lemmas in any of the knowledge base's languages, and hashed character n-grams."""

from __future__ import annotations

import unicodedata
import zlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import regex
import simplemma
from simplemma.strategies.dictionaries.dictionary_factory import SUPPORTED_LANGUAGES

from agents.models.knowledge import DIMENSIONS

WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")
LEMMATISED = frozenset(SUPPORTED_LANGUAGES)
# Words that carry no topic, for the languages in which most of our questions come; elsewhere idf does the work.
STOPWORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "been",
        "but",
        "by",
        "can",
        "could",
        "did",
        "do",
        "does",
        "for",
        "from",
        "had",
        "has",
        "have",
        "he",
        "her",
        "his",
        "how",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "me",
        "my",
        "no",
        "not",
        "of",
        "on",
        "or",
        "our",
        "she",
        "should",
        "so",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "to",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "will",
        "with",
        "would",
        "you",
        "your",
        "am",
        "just",
        "please",
        "hi",
        "hello",
        "thanks",
        "thank",
        "get",
        "want",
        "need",
        "any",
        "some",
        "about",
        "out",
        "up",
        "also",
        "i",
        "w",
        "z",
        "na",
        "do",
        "nie",
        "to",
        "się",
        "jest",
        "że",
        "a",
        "o",
        "co",
        "jak",
        "za",
        "po",
        "od",
        "dla",
        "ale",
        "czy",
        "mi",
        "mnie",
        "ja",
        "ty",
        "on",
        "ona",
        "my",
        "wy",
        "oni",
        "mój",
        "moja",
        "moje",
        "mam",
        "mieć",
        "być",
        "są",
        "był",
        "była",
        "było",
        "będzie",
        "już",
        "tylko",
        "też",
        "lub",
        "albo",
        "gdy",
        "jeśli",
        "kiedy",
        "gdzie",
        "który",
        "która",
        "które",
        "ten",
        "ta",
        "te",
        "tego",
        "tej",
        "tym",
        "proszę",
        "dzień",
        "dobry",
        "cześć",
        "dziękuję",
        "chcieć",
        "móc",
        "u",
        "przez",
        "przy",
        "pod",
        "nad",
        "bez",
        "ze",
        "we",
        "der",
        "die",
        "das",
        "ein",
        "eine",
        "einer",
        "eines",
        "einem",
        "einen",
        "und",
        "oder",
        "aber",
        "ist",
        "sind",
        "war",
        "waren",
        "bin",
        "bist",
        "sein",
        "haben",
        "habe",
        "hat",
        "hatte",
        "ich",
        "du",
        "er",
        "sie",
        "es",
        "wir",
        "ihr",
        "mich",
        "mir",
        "dich",
        "dir",
        "mein",
        "meine",
        "dein",
        "unser",
        "zu",
        "zum",
        "zur",
        "in",
        "im",
        "an",
        "am",
        "auf",
        "aus",
        "bei",
        "mit",
        "nach",
        "von",
        "vom",
        "vor",
        "für",
        "über",
        "unter",
        "durch",
        "gegen",
        "ohne",
        "um",
        "wie",
        "was",
        "wer",
        "wo",
        "wann",
        "warum",
        "welche",
        "welcher",
        "welches",
        "nicht",
        "kein",
        "keine",
        "auch",
        "noch",
        "nur",
        "schon",
        "wenn",
        "dass",
        "ob",
        "so",
        "bitte",
        "hallo",
        "danke",
        "können",
        "kann",
        "möchten",
        "möchte",
        "wollen",
        "will",
        "werden",
        "wird",
    ]
)


def tokens(text: str) -> list[str]:
    """Lower-case words of any script, marks kept with their letters."""
    return WORD.findall(unicodedata.normalize("NFKC", text).lower())


@lru_cache(maxsize=100_000)
def lemma(token: str, language: str) -> str:
    """The dictionary form, without diacritics, so that "zwrocic" finds "zwrócić"; the token itself where no
    dictionary helps.
    """
    if language in LEMMATISED:
        token = simplemma.lemmatize(token, lang=language).lower()
    return fold(token)


@lru_cache(maxsize=100_000)
def fold(token: str) -> str:
    """The token without diacritics (ł, ø, ß included)."""
    bare = "".join(ch for ch in unicodedata.normalize("NFD", token) if not unicodedata.combining(ch))
    return bare.replace("ł", "l").replace("ø", "o").replace("ß", "ss").replace("đ", "d")


def content_lemmas(text: str, language: str) -> list[str]:
    """The lemmas that carry meaning, in order, with repeats."""
    return [
        lemma(token, language)
        for token in tokens(text)
        if token not in STOPWORDS and (len(token) > 1 or token.isdigit())
    ]


def ngram_vector(text: str) -> npt.NDArray[np.float32]:
    """A unit vector of hashed character 3- and 4-grams, `DIMENSIONS` long: close for words with typing errors."""
    vector = np.zeros(DIMENSIONS, dtype=np.float32)
    for token in tokens(text):
        if token in STOPWORDS:
            continue
        padded = f" {fold(token)} "
        for size in (3, 4):
            for start in range(len(padded) - size + 1):
                hashed = zlib.crc32(padded[start : start + size].encode())
                vector[hashed % DIMENSIONS] += 1.0 if hashed & 0x8000_0000 else -1.0
    norm = float(np.linalg.norm(vector))
    return vector / norm if norm else vector
